//! Runs `repair`: compares, decides, shows the plan or carries it out, and compares again.

mod base;

use super::comparison::kept_from;
use super::job::{Job, access, grid};
use super::{BATCH_BYTES, BATCH_ROWS, IN_FLIGHT_SHARE, REJECT_FILE, ended, header, saved};
use crate::archive::Header;
use crate::cli::RepairArgs;
use crate::compare::{Options, Unit};
use crate::compress::Input;
use crate::conflicts;
use crate::copy::{self, Sent};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::http::Role;
use crate::line::Precision;
use crate::location::Location;
use crate::pipeline::Progress;
use crate::plan::{Filter, Namespace, Scope};
use crate::progress::Meter;
use crate::reject::Rejects;
use crate::repair::delete::{self, Places, Target};
use crate::repair::lines::{self, Lines, Undo};
use crate::repair::vouch::Vouch;
use crate::repair::{self, Action, Choices, Difference};
use crate::report::repair::{DELETES_SHOWN, Repair, of_repair};
use crate::report::{self, Printed, Report};
use crate::series::Printable;
use crate::side::{self, DestinationSide, Missing, SourceSide, Writing};
use crate::sink::influx;
use crate::source::line_file::{self, LineFile};
use crate::source::{Source, for_each_block};
use crate::stop::Stop;
use crate::units::{self, Pair};
use crate::verify::{self, Live, Outcome};
use crate::window::Window;
use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

/// Bytes of memory for each cell that differs, about.
const CELL_SHARE: usize = 256;
/// One of so many parts of the memory is for cells that differ.
const CELLS_SHARE: usize = 4;
/// Cells that differ, and are decided about, at most.
const CELLS_MAX: usize = 200_000;
/// How often newer values are sent after older ones that arrived behind them.
const FOLLOWED_MAX: u32 = 20;
/// Places and cells that the report lists.
const LISTED_MAX: usize = 10_000;

/// Runs `repair`.
///
/// # Errors
/// Where it could not be carried out.
pub fn repair(arguments: &RepairArgs, stop: &Stop, progress: &Meter) -> Result<Printed> {
    let (source, target) = arguments.sides.locations()?;
    if !matches!(target, Location::Influx(_)) {
        return Err(Error::usage(format!("{target} is no server: only a server can be repaired")));
    }
    progress.begin("repair", &[("source", &source), ("destination", &target)]);
    saved::refuse(&source)?;
    repaired(arguments, (&source, &target), stop, progress).map_err(|error| ended(error, stop))
}

fn repaired(
    arguments: &RepairArgs,
    (source, target): (&Location, &Location),
    stop: &Stop,
    progress: &Meter,
) -> Result<Printed> {
    let sides = &arguments.sides;
    let pauses = arguments.pauses()?;
    arguments.check_undo()?;
    side::expect_input(&[source], progress);
    let file = || sides.common.reject.clone().unwrap_or_else(|| REJECT_FILE.into());
    let rejects = Rejects::new(arguments.apply.then(file));
    let mut job = Job::open(&sides.common, source, rejects, None, progress)?;
    job.admit_insecure_destination(sides, progress);
    let there = job.open_destination(sides, target, progress)?;
    demand_window(arguments, &job)?;
    for (role, clock) in [(Role::Source, job.side.clock), (Role::Destination, there.clock)] {
        clock.into_iter().for_each(|clock| job.cut_at_horizon_of(role, clock));
    }
    let held = there.source.namespaces()?;
    let mut pairs = job.pairs(target)?;
    units::resolve(&mut pairs, &held)?;
    let destination = open(arguments, (source, target), job.window, &pairs, progress)?;
    if job.compares_every_namespace(&*there.source) {
        units::add_unpaired(&mut pairs, &held, job.window);
    }
    let settings_differ = side::settings_that_differ(&pairs, &held);
    side::refuse_same_place(source, target, &pairs)?;
    let clocks = (job.side.clock, there.clock);
    let kept_from = |pair: &Pair, later: Duration| kept_from(&held, pair, clocks, later);
    job.leave_out_expired(&mut pairs, |pair| kept_from(pair, Duration::ZERO), None, progress)?;
    let units = job.units(&pairs, Some(&*there.source), |pair| Ok(grid(&held, pair)))?;
    let floor = |unit: &Unit| {
        let pair = pairs.iter().find(|pair| pair.destination == unit.destination)?;
        kept_from(pair, progress.elapsed())
    };
    let (pairs_compared, vouch) = (pairs.len(), vouch(source, &job));
    let work = Work {
        arguments,
        job: &job,
        there: &there,
        units: &units,
        pairs_compared,
        vouch,
        stop,
        progress,
    };
    let places_max = verify::PLACES_MAX;
    let compare = || work.compare(Live { pauses: &pauses, floor: &floor, places_max });
    progress.stage("compare");
    let mut first = compare()?;
    let mut differences = work.differences(&mut first)?;
    let targets = work.decide(&mut differences, &destination)?;
    let group = |unit: &Unit| {
        let pair = pairs.iter().find(|pair| pair.destination == unit.destination);
        pair.map_or(unit.window, |pair| grid(&held, pair).cell(unit.window.start))
    };
    work.refuse_types(&mut differences, &group)?;
    let bytes = bytes_of(&differences)?;
    let mut made = Repair::of(&differences, bytes, targets.len(), first.counts);
    let (mut outcome, mut sent) = (first, None);
    if arguments.apply {
        made.applied = true;
        sent = Some(work.apply(&mut differences, &targets, &destination, &mut made)?);
        progress.stage("verify");
        outcome = compare()?;
    }
    let pace = destination.pace();
    job.unread = there.source.unread();
    job.note_doubts(&*there.source);
    outcome.places.truncate(LISTED_MAX);
    outcome.cells.truncate(LISTED_MAX);
    let context = job.context(sides, progress)?;
    let command = context.command.clone();
    let report = of_repair(report::of_verify(context, outcome, false), made, sent, &command);
    Report { settings_differ, pace, ..report }.printed()
}

/// What the source's silence about a point is worth.
fn vouch(source: &Location, job: &Job) -> Vouch {
    let made = job.side.source.made(&job.settings.namespace, job.settings.window);
    Vouch {
        rejected: job.side.lines.as_ref().map_or(0, |lines| lines.rejected),
        end: made.map(|made| match made.exact {
            true => made.time.saturating_sub(job.settings.lag),
            // It may be older than any time that it shows.
            false => i64::MIN,
        }),
        is_stored: !matches!(source, Location::Influx(_)),
    }
}

/// A source that is no server does not say of which times it holds everything: whoever deletes has to.
fn demand_window(arguments: &RepairArgs, job: &Job) -> Result<()> {
    let is_named = job.settings.start_given && job.settings.end_given;
    if !arguments.delete_extra || job.side.clock.is_some() || is_named {
        return Ok(());
    }
    let reason = format!(
        "--delete-extra needs --start and --end: {} does not say of which times it holds everything",
        job.side.source.name()
    );
    Err(Error::usage(reason).with_next("name the times that it covers"))
}

/// Bytes of line protocol that are sent, or would be.
fn bytes_of(differences: &[Difference]) -> Result<u64> {
    let mut bytes = 0;
    for action in [Action::Send, Action::Overwrite] {
        let lines = lines::to_send(differences, |_, one| one.action == action)?;
        bytes += lines.values().map(Vec::len).sum::<usize>();
    }
    Ok(bytes as u64)
}

/// Opens the destination for writing; without `--apply` nothing is written to it.
fn open(
    arguments: &RepairArgs,
    (source, target): (&Location, &Location),
    window: Window,
    pairs: &[Pair],
    progress: &Meter,
) -> Result<DestinationSide> {
    let header: Header = header(source, window, &Filter::default(), pairs);
    let writing = Writing {
        missing: Missing::Refuse,
        dry_run: !arguments.apply,
        influx: influx::Options::default(),
        header,
        recorded: None,
    };
    let access = access(&arguments.sides, Role::Destination)?;
    side::open_destination(target, access, writing, pairs, progress)
}

/// A repair under way.
struct Work<'a> {
    arguments: &'a RepairArgs,
    job: &'a Job,
    there: &'a SourceSide,
    units: &'a [Unit],
    /// Pairs of namespaces.
    pairs_compared: usize,
    vouch: Vouch,
    stop: &'a Stop,
    progress: &'a Meter,
}

impl Work<'_> {
    fn cells_max(&self) -> usize {
        (self.job.settings.memory / CELLS_SHARE / CELL_SHARE).min(CELLS_MAX)
    }

    fn compare(&self, live: Live<'_>) -> Result<Outcome> {
        let (source, destination) = (&*self.job.side.source, &*self.there.source);
        let jobs = self.job.settings.jobs;
        let options = Options {
            findings_max: self.cells_max(),
            drill_missing: true,
            drill_extra: true,
            ..self.job.compare_options(&self.arguments.sides, jobs)
        };
        let live = Some(live).filter(|live| !live.pauses.is_empty());
        verify::run(source, destination, self.units, jobs, &options, live, self.progress)
    }

    fn differences(&self, found: &mut Outcome) -> Result<Vec<Difference>> {
        let cells = found.cells.clone();
        let differences = repair::differences(cells, &found.places, self.units);
        if (differences.len() as u64) < found.counts.different() {
            let what = "the number of cells that differ".into();
            let limit =
                ErrorKind::Limit { what, max: format!("{} (by --memory)", self.cells_max()) };
            return Err(Error::from(limit).with_next(
                "send what is missing with gapless copy first, or repair a shorter window (--start, --end)",
            ));
        }
        Ok(differences)
    }

    /// Decides about every cell; gives the points that can be deleted.
    fn decide(
        &self,
        differences: &mut [Difference],
        destination: &DestinationSide,
    ) -> Result<Vec<Target>> {
        let arguments = self.arguments;
        if let Some(base) = &arguments.base {
            self.note_base(base, differences)?;
        }
        let choices = Choices {
            overwrite: arguments.overwrite,
            base: arguments.base.is_some(),
            send_deleted: arguments.send_deleted,
            send_shifted: arguments.send_shifted,
            delete_extra: arguments.delete_extra,
            undo: arguments.undo_file.is_some(),
        };
        repair::decide(differences, choices);
        match self.places(destination) {
            Some(places) => delete::check(places, differences),
            None => Ok(Vec::new()),
        }
    }

    /// Leaves what the destination would refuse for its type.
    fn refuse_types(
        &self,
        differences: &mut [Difference],
        group: &dyn Fn(&Unit) -> Window,
    ) -> Result<()> {
        for (namespace, text) in lines::to_send(differences, |_, one| one.action == Action::Send)? {
            let units = self.units_of(&namespace);
            let source = self.as_source(namespace, text)?;
            let units = cut(&units, &source)?;
            let (reader, filter) = (&*self.there.source, Filter::default());
            let found = conflicts::find(&source, reader, &units, &filter, group)?;
            repair::refuse_types(differences, &found);
        }
        Ok(())
    }

    fn places<'s>(&'s self, destination: &'s DestinationSide) -> Option<Places<'s>> {
        let (client, reader) = (destination.client()?, destination.reader()?);
        let source = &*self.job.side.source;
        Some(Places { client, destination: reader, source, vouch: self.vouch })
    }

    /// Carries a plan out; where that ends early, says how far it went.
    fn apply(
        &self,
        differences: &mut [Difference],
        targets: &[Target],
        destination: &DestinationSide,
        made: &mut Repair,
    ) -> Result<Sent> {
        self.list_deletions(targets, made)?;
        let undo = self.undo(differences, made)?;
        let (mut sent, mut deletion) = (Sent::default(), delete::Ran::default());
        let places = self.places(destination).filter(|_| !targets.is_empty());
        let done =
            self.send_all(differences, undo.as_ref(), destination, &mut sent).and_then(|()| {
                match places {
                    Some(places) => {
                        self.delete(places, differences, undo.as_ref(), &mut deletion, made)
                    }
                    None => bytes_of(differences).map(|bytes| made.now(differences, bytes, 0)),
                }
            });
        made.vanished = std::mem::take(&mut deletion.vanished);
        match done {
            Ok(()) => Ok(sent),
            Err(error) => Err(self.ended_early(error, made, sent, &deletion, targets.len())),
        }
    }

    /// Takes the undo file's name and says it before anything is done.
    fn undo(&self, differences: &[Difference], made: &mut Repair) -> Result<Option<Undo>> {
        let Some(path) = &self.arguments.undo_file else { return Ok(None) };
        if !differences.iter().any(|one| one.action.acts()) {
            return Ok(None);
        }
        let undo = Undo::create(path, &self.arguments.sides.destination)?;
        self.progress.warn(&format!("what was there before is kept in {}", undo.path().display()));
        made.undo_file = Some(undo.path().display().to_string());
        Ok(Some(undo))
    }

    /// Sends what is missing, then what has another value, piece by piece: only what is still as it was
    /// compared.
    fn send_all(
        &self,
        differences: &mut [Difference],
        undo: Option<&Undo>,
        destination: &DestinationSide,
        sent: &mut Sent,
    ) -> Result<()> {
        self.progress.stage("send");
        let mut written = BTreeSet::new();
        for action in [Action::Send, Action::Overwrite] {
            for piece in repair::pieces(differences, action) {
                self.stop.check()?;
                let reader = destination.reader().unwrap_or(&*self.there.source);
                let source = &*self.job.side.source;
                let due = repair::look_again(differences, &piece, source, reader)?;
                written.extend(due.iter().copied());
                if let Some(undo) = undo {
                    undo.write(differences, |number, _| written.contains(&number))?;
                }
                let overwrite = action == Action::Overwrite;
                let lines = lines::to_send(differences, |number, _| due.contains(&number))?;
                self.send(lines, overwrite, destination, sent)?;
                self.follow(differences, due, destination, sent)?;
            }
        }
        Ok(())
    }

    /// Sends a client's newer values after older ones that arrived just behind them.
    fn follow(
        &self,
        differences: &mut [Difference],
        mut written: BTreeSet<usize>,
        destination: &DestinationSide,
        sent: &mut Sent,
    ) -> Result<()> {
        // What takes no writes holds nothing newer.
        if self.job.side.clock.is_none() {
            return Ok(());
        }
        let reader = destination.reader().unwrap_or(&*self.there.source);
        for _ in 0..FOLLOWED_MAX {
            let source = &*self.job.side.source;
            written = repair::overtaken(differences, &written, source, reader)?;
            if written.is_empty() {
                return Ok(());
            }
            let lines = lines::to_send(differences, |number, _| written.contains(&number))?;
            self.send(lines, true, destination, sent)?;
        }
        Ok(())
    }

    /// Deletes what may still be deleted.
    fn delete(
        &self,
        places: Places<'_>,
        differences: &mut [Difference],
        undo: Option<&Undo>,
        deletion: &mut delete::Ran,
        made: &mut Repair,
    ) -> Result<()> {
        self.progress.stage("delete");
        // What was sent took its time: looked at once more.
        let targets = delete::check(places, differences)?;
        let list = made.delete_list.as_deref();
        let mut note = |now: &[Difference]| {
            if let Some(undo) = undo {
                undo.write(now, |_, one| one.action.acts())?;
            }
            let due = targets.iter().filter(|target| target.is_due(now));
            list.map_or(Ok(()), |list| write_list(Path::new(list), due))
        };
        note(differences)?;
        *deletion = delete::run(places, differences, &targets, self.stop, &mut note)?;
        made.now(differences, bytes_of(differences)?, deletion.points);
        match deletion.failed.take().or_else(|| deletion.unchecked.take()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// An error in the middle, with all that is known of what was done until then.
    fn ended_early(
        &self,
        error: Error,
        made: &Repair,
        sent: Sent,
        deletion: &delete::Ran,
        wanted: usize,
    ) -> Error {
        for point in &made.vanished {
            let point = Printable(point.as_bytes());
            self.progress.warn(&format!("vanished, and was not to be deleted: {point}"));
        }
        if let Some(error) = &deletion.unchecked {
            self.progress.warn(&format!("nobody could look for points that vanished: {error}"));
        }
        let mut text = format!(
            "at least {} cells were sent, {} of {wanted} points deleted, and {} others vanished",
            sent.cells,
            deletion.points,
            made.vanished.len()
        );
        if let Some(undo) = &made.undo_file {
            text += &format!("; what was there before is in {undo}");
        }
        let error = ended(error, self.stop);
        let advice = error
            .next_step()
            .map_or_else(|| "run it again: it compares anew".to_owned(), ToOwned::to_owned);
        error.with_next(format!("{text}; {advice}"))
    }

    /// Says what will be deleted before it is: in a file, or on standard error.
    fn list_deletions(&self, targets: &[Target], made: &mut Repair) -> Result<()> {
        if let Some(path) = &self.arguments.delete_list {
            let path = lines::reserve(path)?;
            write_list(&path, targets.iter())?;
            made.delete_list = Some(path.display().to_string());
            return Ok(());
        }
        if targets.len() > DELETES_SHOWN {
            let reason =
                format!("{} points would be deleted: too many to list here", targets.len());
            return Err(Error::usage(reason).with_next(
                "name a file for the list with --delete-list FILE; nothing was sent or deleted",
            ));
        }
        targets.iter().for_each(|target| self.progress.warn(&format!("deletes {}", line(target))));
        Ok(())
    }

    /// Sends lines as a copy does, and reads them back.
    fn send(
        &self,
        lines: Lines,
        overwrite: bool,
        destination: &DestinationSide,
        sent: &mut Sent,
    ) -> Result<()> {
        for (namespace, text) in lines {
            let units = self.units_of(&namespace);
            let source = self.as_source(namespace, text)?;
            let Some(writable) = destination.destination() else { continue };
            let settings = &self.job.settings;
            let options = copy::Options {
                compare: self.job.compare_options(&self.arguments.sides, copy::UNITS_OPEN),
                jobs: settings.jobs,
                batch_rows: BATCH_ROWS,
                batch_bytes: BATCH_BYTES,
                in_flight_bytes: settings.memory / IN_FLIGHT_SHARE,
                rate: None,
                cells: None,
                overwrite,
                dry_run: false,
                live: false,
                retry_suspects: false,
                server: true,
            };
            let surroundings = copy::Surroundings {
                rejects: &self.job.rejects,
                progress: self.progress,
                stop: self.stop,
                journal: None,
                listing: None,
            };
            let units = cut(&units, &source)?;
            *sent += copy::run(&source, writable, &units, &options, surroundings)?.sent;
        }
        Ok(())
    }

    /// The units of a namespace of the destination, as a source that has its names sees them.
    fn units_of(&self, namespace: &Namespace) -> Vec<Unit> {
        let own = self.units.iter().filter(|unit| unit.destination == *namespace);
        let source = |unit: &Unit| Unit { source: namespace.clone(), ..unit.clone() };
        own.map(source).collect()
    }

    fn as_source(&self, namespace: Namespace, text: Vec<u8>) -> Result<LineFile> {
        let settings = &self.job.settings;
        let options = line_file::Options {
            precision: Precision::Nanoseconds,
            default_time: None,
            window: Window::ALL,
            namespace,
            memory_max: settings.memory / 2,
            spill: settings.spill.clone(),
        };
        let input = Input::from_reader("(what is sent)".into(), Box::new(Cursor::new(text)));
        let warn = |text: &str| self.progress.warn(text);
        LineFile::read("what is sent", input, &options, &self.job.rejects, &warn)
    }
}

/// A point that is deleted, for people.
fn line(target: &Target) -> String {
    format!("{}: {}", target.namespace, Printable(target.statement.as_bytes()))
}

fn write_list<'t>(path: &Path, targets: impl Iterator<Item = &'t Target>) -> Result<()> {
    let text: String = targets.map(|target| line(target) + "\n").collect();
    files::replace(path, text.as_bytes()).map_err(|error| {
        Error::io(path, "write", error).with_next(
            "no further point was deleted: make room or name another file, and run it again",
        )
    })
}

/// The units in which a source holds something, each cut to that.
fn cut(units: &[Unit], source: &dyn Source) -> Result<Vec<Unit>> {
    let mut kept = Vec::new();
    for unit in units {
        let scope = Scope::new(&unit.source, unit.window, &Filter::default());
        let partitions = source.plan(&scope)?;
        let (mut start, mut end) = (i64::MAX, i64::MIN);
        for_each_block(source, &partitions, |block| {
            for &time in block.times() {
                (start, end) = (start.min(time), end.max(time.saturating_add(1)));
            }
            Ok(())
        })?;
        if start < end {
            kept.push(Unit { window: Window { start, end }, ..unit.clone() });
        }
    }
    Ok(kept)
}
