//! Two sides, opened and divided into units, to be compared: what `verify` and `gaps` have in common.

use super::job::{Job, floor, grid};
use crate::cli::TwoSides;
use crate::compare::{self, Unit};
use crate::error::{Error, Result};
use crate::http::Role;
use crate::location::Location;
use crate::pipeline::{Progress, Stage};
use crate::plan::Held;
use crate::progress::Meter;
use crate::reject::Rejects;
use crate::side::{self, SourceSide};
use crate::units::{self, Pair, Slice};
use crate::verify::{self, Live};
use crate::window::{Window, format_time, parse_time};
use std::time::Duration;

/// Nanoseconds by which the clocks of a server and of the machine that made a backup may differ.
const CLOCKS_APART: i64 = 600_000_000_000;

/// Both sides of a comparison.
pub(super) struct Comparison {
    pub(super) job: Job,
    /// Retention policies whose settings differ between the sides, one a line.
    pub(super) settings_differ: Vec<String>,
    pub(super) units: Vec<Unit>,
    destination: SourceSide,
    target: Location,
    held: Vec<Held>,
    pairs: Vec<Pair>,
    pauses: Vec<Duration>,
}

impl Comparison {
    /// Opens both sides; what differs is read again after the pauses, where a side takes writes.
    pub(super) fn open(
        command: &str,
        sides: &TwoSides,
        pauses: Vec<Duration>,
        progress: &Meter,
    ) -> Result<Self> {
        let (source, target) = sides.locations()?;
        progress.begin(command, &[("source", &source), ("destination", &target)]);
        side::expect_input(&[&source, &target], progress);
        let rejects = Rejects::new(sides.common.reject.clone());
        let mut job = Job::open(&sides.common, &source, rejects, None, progress)?;
        job.admit_insecure_destination(sides, progress);
        let destination = job.open_destination(sides, &target, progress)?;
        job.stop_at_horizon_of(Role::Destination, destination.clock);
        let reader = &*destination.source;
        job.by_whole_hours(Some(reader))?;
        let held = reader.namespaces()?;
        let mut pairs = job.pairs(&target)?;
        units::resolve(&mut pairs, &held)?;
        if job.compares_every_namespace(reader) {
            units::add_unpaired(&mut pairs, &held, job.window);
        }
        let settings_differ = side::settings_that_differ(&pairs, &held);
        side::refuse_same_place(&source, &target, &pairs)?;
        let mut comparison = Self {
            job,
            settings_differ,
            units: Vec::new(),
            destination,
            target,
            held,
            pairs,
            pauses,
        };
        comparison.divide(progress)?;
        Ok(comparison)
    }

    fn divide(&mut self, progress: &Meter) -> Result<()> {
        let mut pairs = std::mem::take(&mut self.pairs);
        let clocks = self.clocks();
        let kept_from = |pair: &Pair| kept_from(&self.held, pair, clocks, Duration::ZERO);
        let reader = &*self.destination.source;
        self.job.leave_out_expired(&mut pairs, kept_from, Some(reader), progress)?;
        self.pairs = self.job.cover(pairs, reader);
        self.units =
            self.job.units(&self.pairs, Some(reader), |pair| Ok(grid(&self.held, pair)))?;
        if let (Some(ours), Some(theirs)) = self.job.cells(&self.pairs, Some(reader)) {
            progress.expect(Stage::Verify, ours + theirs);
        }
        progress.stage("compare");
        Ok(())
    }

    /// Leaves all slices but one out.
    pub(super) fn cut(&mut self, slice: Slice) {
        self.units = slice.cut(std::mem::take(&mut self.units));
        self.job.not_covered.push(format!("the other slices: this was {slice} (--slice)"));
    }

    /// Leaves out the units of which no file of the source was written to since a time; `backup` stands for
    /// when the destination was begun, where it is one.
    pub(super) fn leave_out_untouched(&mut self, since: &str) -> Result<()> {
        let time = match since {
            "backup" => self.begun()?,
            given => parse_time(given)?,
        };
        let mut old = Vec::new();
        for pair in self.pairs.iter().filter(|pair| !pair.source_lacks) {
            let namespace = &pair.source.namespace;
            let before = time.saturating_sub(CLOCKS_APART);
            let Some(windows) = self.job.side.source.untouched(namespace, before)? else {
                return Err(Error::usage(
                    "--touched-since looks at the times of files: it is for a data directory as the \
                     source",
                )
                .with_next("leave --touched-since out: everything is read then"));
            };
            old.extend(windows.into_iter().map(|window| (namespace.clone(), window)));
        }
        let all = self.units.len();
        self.units.retain(|unit| {
            let within = |window: &Window| window.intersect(unit.window) == Some(unit.window);
            !old.iter().any(|(namespace, window)| *namespace == unit.source && within(window))
        });
        self.job.not_covered.push(format!(
            "{} of {all} shard groups: their files were last written to before {}, and are not read again \
             (--touched-since)",
            all - self.units.len(),
            format_time(time)
        ));
        Ok(())
    }

    fn begun(&self) -> Result<i64> {
        let wanted = &self.job.settings.namespace;
        let made = self.destination.source.made(wanted, self.job.window);
        let made = made.ok_or_else(|| {
            Error::usage("the destination is no backup that says when it was begun")
                .with_next("--touched-since TIME: when the backup was begun")
        })?;
        if !made.exact {
            let at = format_time(made.time);
            let what = format!("the backup does not say when it was begun: at {at} at the latest");
            return Err(Error::usage(what)
                .with_next("--touched-since TIME: when the backup was begun, or earlier"));
        }
        Ok(made.time)
    }

    fn clocks(&self) -> (Option<i64>, Option<i64>) {
        (self.job.side.clock, self.destination.clock)
    }

    /// Compares every unit, and notes what was not read.
    pub(super) fn run(
        &mut self,
        options: &compare::Options,
        progress: &Meter,
    ) -> Result<verify::Outcome> {
        let (clocks, reader) = (self.clocks(), &*self.destination.source);
        let floor = |unit: &Unit| {
            let pair = self.pairs.iter().find(|pair| pair.destination == unit.destination)?;
            kept_from(&self.held, pair, clocks, progress.elapsed())
        };
        let places_max = verify::PLACES_MAX;
        let live = Live { pauses: &self.pauses, floor: &floor, places_max };
        let takes_writes = clocks.0.or(clocks.1).is_some();
        let live = (takes_writes && !self.pauses.is_empty()).then_some(live);
        let (source, jobs) = (&*self.job.side.source, self.job.settings.jobs);
        let outcome = verify::run(source, reader, &self.units, jobs, options, live, progress)?;
        self.job.unread = reader.unread();
        self.job.note_doubts(reader);
        Ok(outcome)
    }

    /// True where a copy could put the destination right.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.target, Location::Influx(_)) && self.job.side.source.digest_file().is_none()
    }
}

/// The time before which retention policies of either side may have dropped what it had, as clocks say
/// a while after they were read.
pub(super) fn kept_from(
    held: &[Held],
    pair: &Pair,
    (ours, theirs): (Option<i64>, Option<i64>),
    later: Duration,
) -> Option<i64> {
    let later = i64::try_from(later.as_nanos()).unwrap_or(i64::MAX);
    let at = |clock: Option<i64>| clock.map(|clock| clock.saturating_add(later));
    let there = floor(units::settings_of(held, &pair.destination), at(theirs));
    there.max(floor(pair.source.settings.as_ref(), at(ours)))
}
