//! A command's source, opened, and what it was asked to do with it: the scope that can be judged,
//! the pairs of namespaces, the units.

use crate::cli::{Common, Settings, TwoSides};
use crate::compare::{self, Unit};
use crate::conflicts::{self, Conflict, Policy};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Role, Secret};
use crate::journal::Journal;
use crate::location::{InfluxLocation, Location};
use crate::pipeline::Progress;
use crate::plan::{Grid, Held, RpSettings, SHARD_DURATION};
use crate::progress::Meter;
use crate::reject::Rejects;
use crate::report::{Context, Expired, TypesDealtWith};
use crate::side::{self, Access, DestinationSide, SourceSide};
use crate::source::tsm::directory::Parts;
use crate::source::{Made, Source, line_file};
use crate::units::{self, Pair, Target};
use crate::window::{Window, format_time};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// One of so many parts of the memory is for digests; half of it is for a line file's rows.
const DIGEST_SHARE: usize = 4;
/// A password file longer than this is not one.
const PASSWORD_MAX: u64 = 4_096;
/// Nanoseconds by which a retention floor is raised: it moves while data are on their way.
const FLOOR_MARGIN: i64 = 60_000_000_000;

/// A command's source and scope.
pub(super) struct Job {
    pub(super) settings: Settings,
    pub(super) side: SourceSide,
    pub(super) rejects: Rejects,
    /// What was asked for, cut to what the source can be judged by; empty where nothing is left.
    pub(super) window: Window,
    /// What lies outside of it, for people.
    pub(super) not_covered: Vec<String>,
    pub(super) expired: Expired,
    /// What the other side holds and was not read.
    pub(super) unread: Vec<String>,
    /// Sides whose certificates are not verified.
    insecure: Vec<Role>,
    /// A digest file stands for a side: nothing may cut an hour.
    pub(super) whole_hours: bool,
}

impl Job {
    pub(super) fn open(
        common: &Common,
        source: &Location,
        rejects: Rejects,
        journal: Option<&Journal>,
        progress: &Meter,
    ) -> Result<Self> {
        let settings = common.settings()?;
        progress.stage("open");
        if common.insecure_source {
            warn_insecure(Role::Source, progress);
        }
        let access = source_access(common)?;
        let side = open_side(
            source,
            access,
            Role::Source,
            &settings,
            journal.is_some(),
            &rejects,
            progress,
        )?;
        let expired = Expired { asked_for: settings.start_given, ..Expired::default() };
        let window = settings.window;
        let (not_covered, insecure) = (Vec::new(), Vec::new());
        let unread = Vec::new();
        let mut job = Self {
            window,
            settings,
            side,
            rejects,
            not_covered,
            expired,
            insecure,
            unread,
            whole_hours: false,
        };
        if common.insecure_source {
            job.note_insecure(Role::Source);
        }
        job.stop_at_horizon(journal);
        if let Location::Influx(InfluxLocation { user: Some(user), database: None, .. }) = source {
            let what =
                format!("databases that {user:?} may not read: the server does not show them");
            job.not_covered.push(what);
        }
        job.note_made();
        let coverage = job.side.source.coverage();
        job.narrow(coverage, &outside(Role::Source, &*job.side.source));
        job.adopt_source()?;
        Ok(job)
    }

    /// Notes when a backup was begun, the oldest of those that are read.
    fn note_made(&mut self) {
        let made = self.side.source.made(&self.settings.namespace, self.settings.window);
        let Some(Made { time, exact }) = made else { return };
        let when = format_time(time);
        self.not_covered.push(if exact {
            format!("what was written after {when}: the backup was begun then")
        } else {
            format!(
                "what was written after the backup was begun: at {when} at the latest, by the oldest of \
                 its files; before that where they were copied"
            )
        });
    }

    /// The sides are compared, and who answers for them is not known.
    fn note_insecure(&mut self, role: Role) {
        let what = format!("whether the {role} is the one named: its certificate was not verified");
        self.not_covered.push(format!("{what} (--insecure-{role})"));
        self.insecure.push(role);
    }

    /// Says before it is spoken to, and in the report, that the destination is not verified.
    pub(super) fn admit_insecure_destination(&mut self, sides: &TwoSides, progress: &Meter) {
        if sides.insecure_destination {
            warn_insecure(Role::Destination, progress);
            self.note_insecure(Role::Destination);
        }
    }

    /// Opens the other side of a `verify`.
    pub(super) fn open_destination(
        &mut self,
        sides: &TwoSides,
        location: &Location,
        progress: &Meter,
    ) -> Result<SourceSide> {
        let (role, settings) = (Role::Destination, &self.settings);
        let access = access(sides, role)?;
        let side = open_side(location, access, role, settings, false, &self.rejects, progress)?;
        self.narrow(side.source.coverage(), &outside(role, &*side.source));
        self.adopt(&*side.source, role)?;
        Ok(side)
    }

    /// Opens another way to read the destination.
    pub(super) fn open_read_back(
        &self,
        location: &Location,
        sides: &TwoSides,
        progress: &Meter,
    ) -> Result<SourceSide> {
        let (role, settings) = (Role::Destination, &self.settings);
        open_side(location, access(sides, role)?, role, settings, false, &self.rejects, progress)
    }

    /// Opens an older state of both sides, with the source's password and certificates.
    pub(super) fn open_base(
        &self,
        common: &Common,
        location: &Location,
        rejects: &Rejects,
        progress: &Meter,
    ) -> Result<SourceSide> {
        let access = source_access(common)?;
        let mut settings = self.settings.clone();
        settings.parts = Parts::default();
        open_side(location, access, Role::Source, &settings, false, rejects, progress)
    }

    /// The newest points of a live source may still be on their way: they are left out.
    fn stop_at_horizon(&mut self, journal: Option<&Journal>) {
        let Some(clock) = self.side.clock.filter(|_| !self.settings.end_given) else { return };
        if let Some((window, begun)) = journal.and_then(Journal::begun) {
            self.window.end = self.window.end.min(window.end);
            self.not_covered.push(format!(
                "what is newer than {}: the copy was begun {}",
                format_time(window.end),
                format_time(begun)
            ));
            return;
        }
        self.stop_at_horizon_of(Role::Source, Some(clock));
    }

    /// Leaves out what is newer than the horizon of a side that takes writes: the earlier of two counts.
    pub(super) fn stop_at_horizon_of(&mut self, role: Role, clock: Option<i64>) {
        let Some(clock) = clock.filter(|_| !self.settings.end_given) else { return };
        self.cut_at_horizon_of(role, clock);
    }

    /// The same whatever end was asked for: where what differs is changed, and not only said.
    pub(super) fn cut_at_horizon_of(&mut self, role: Role, clock: i64) {
        let horizon = clock.saturating_sub(self.settings.lag);
        if horizon >= self.window.end {
            return;
        }
        self.window.end = horizon.max(self.window.start);
        let options = if self.settings.end_given { "--lag" } else { "--lag, --end" };
        self.not_covered.push(format!(
            "what is newer than {}, the {role}'s clock less {} s ({options})",
            format_time(horizon),
            self.settings.lag / 1_000_000_000
        ));
    }

    /// Notes what the source holds and was not read. True where there is something.
    pub(super) fn note_unread(&mut self) -> bool {
        let unread = self.side.source.unread();
        self.not_covered.extend(unread.iter().map(|remark| format!("not read: {remark}")));
        self.not_covered.extend(self.side.source.doubts());
        !unread.is_empty()
    }

    /// Notes what the other side holds and may be meant otherwise.
    pub(super) fn note_doubts(&mut self, reader: &dyn Source) {
        self.not_covered.extend(reader.doubts());
    }

    pub(super) fn narrow(&mut self, coverage: Window, why: &str) {
        let empty = Window { start: self.window.start, end: self.window.start };
        let both = self.window.intersect(coverage).unwrap_or(empty);
        if both != self.window {
            self.not_covered.push(format!("{why} ({coverage})"));
            self.window = both;
        }
    }

    /// The namespaces of the source that were asked for.
    pub(super) fn held(&self) -> Result<Vec<Held>> {
        let wanted = &self.settings.namespace;
        let all = self.side.source.namespaces()?;
        let named = |wanted: &str, name: &str| wanted.is_empty() || wanted == name;
        let held: Vec<Held> = all
            .iter()
            .filter(|held| {
                // Lines that name no namespace were given the wanted one when they were read.
                self.side.lines.is_some()
                    || (named(&wanted.database, &held.namespace.database)
                        && named(&wanted.retention_policy, &held.namespace.retention_policy))
            })
            .cloned()
            .collect();
        if held.is_empty() && !all.is_empty() {
            let names: Vec<String> =
                all.iter().take(20).map(|held| held.namespace.to_string()).collect();
            let place = format!("in {}", self.side.source.name());
            let error = Error::from(ErrorKind::NotFound { what: wanted.to_string(), place });
            return Err(error.with_next(format!("it holds {}", names.join(", "))));
        }
        Ok(held)
    }

    /// What is copied or compared with what, by name.
    pub(super) fn pairs(&self, destination: &Location) -> Result<Vec<Pair>> {
        let target = match destination {
            Location::Influx(influx) | Location::Snapshot(influx) => Target {
                database: influx.database.clone(),
                retention_policy: influx.retention_policy.clone(),
            },
            _ => Target::default(),
        };
        units::pairs(self.held()?, &target, self.window)
    }

    /// Cuts what retention policies drop off the windows, and counts it. `floors` gives the time
    /// before which either side may have dropped what it had.
    pub(super) fn leave_out_expired(
        &mut self,
        pairs: &mut [Pair],
        floor: impl Fn(&Pair) -> Option<i64>,
        destination: Option<&dyn Source>,
        progress: &Meter,
    ) -> Result<()> {
        for pair in pairs.iter_mut().filter(|pair| !pair.source_lacks) {
            let Some(floor) = floor(pair).map(|floor| self.floor(floor, destination)) else {
                continue;
            };
            let below = Window { start: Window::ALL.start, end: floor };
            let Some(below) = below.intersect(pair.window) else { continue };
            let (source, namespace) = (&*self.side.source, &pair.source.namespace);
            let cells = compare::count(source, namespace, below, &self.settings.filter)?;
            if let Some(remark) = self.expired.add(&pair.destination, floor, cells) {
                progress.warn(&remark);
            }
            pair.window.start = floor.min(pair.window.end);
        }
        Ok(())
    }

    /// Cells of the pairs on both sides, as far as they are known without reading.
    pub(super) fn cells(
        &self,
        pairs: &[Pair],
        destination: Option<&dyn Source>,
    ) -> (Option<u64>, Option<u64>) {
        if !self.settings.filter.is_empty() {
            return (None, None);
        }
        let ours = pairs
            .iter()
            .filter(|pair| !pair.source_lacks)
            .map(|pair| self.side.source.cells(&pair.source.namespace, pair.window));
        let theirs = destination.and_then(|side| {
            pairs.iter().map(|pair| side.cells(&pair.destination, pair.window)).sum()
        });
        (ours.sum(), theirs)
    }

    pub(super) fn units(
        &self,
        pairs: &[Pair],
        reader: Option<&dyn Source>,
        grid: impl Fn(&Pair) -> Result<Grid>,
    ) -> Result<Vec<Unit>> {
        let source = &*self.side.source;
        let mut units = Vec::new();
        for pair in pairs.iter().filter(|pair| !pair.window.is_empty()) {
            let filter = &self.settings.filter;
            units.extend(units::units(pair, source, reader, grid(pair)?, filter)?);
        }
        Ok(units)
    }

    fn conflicts(
        &self,
        destination: &dyn Source,
        units: &[Unit],
        group: impl Fn(&Unit) -> Window,
    ) -> Result<Vec<Conflict>> {
        let (source, filter) = (&*self.side.source, &self.settings.filter);
        conflicts::find(source, destination, units, filter, group)
    }

    /// Finds the fields that the destination cannot hold as they are, and does what was chosen.
    pub(super) fn deal_with_types(
        &self,
        destination: &dyn Source,
        units: &[Unit],
        policy: Policy,
        group: impl Fn(&Unit) -> Window,
        dry_run: bool,
    ) -> Result<TypesDealtWith> {
        let (source, filter) = (&*self.side.source, &self.settings.filter);
        let conflicts = self.conflicts(destination, units, group)?;
        let fails = policy == Policy::Fail && !conflicts.is_empty();
        if fails && !dry_run {
            return Err(conflicts::refused(&conflicts));
        }
        let counts = conflicts::set_aside(source, &conflicts, policy, filter, &self.rejects)?;
        Ok(TypesDealtWith { conflicts, counts, fails })
    }

    /// Cells of types that lose which came to a live source after they were dealt with: they are
    /// left out of every later reading, and are in no other count.
    pub(super) fn late_conflicts(
        &self,
        destination: Option<&dyn Source>,
        units: &[Unit],
        known: &[Conflict],
        group: impl Fn(&Unit) -> Window,
    ) -> Result<u64> {
        let Some(destination) = destination else { return Ok(0) };
        let now = self.conflicts(destination, units, group)?;
        let cells = |conflicts: &[Conflict]| conflicts.iter().map(Conflict::cells).sum::<u64>();
        Ok(cells(&now).abs_diff(cells(known)))
    }

    /// Refuses what would be in conflict in databases that would be created: before they are.
    pub(super) fn refuse_conflicts_of_new(
        &self,
        destination: &DestinationSide,
        pairs: &[Pair],
    ) -> Result<()> {
        let Some(reader) = destination.reader().filter(|_| !destination.created().is_empty())
        else {
            return Ok(());
        };
        let held = destination.held()?;
        let mut pairs = pairs.to_vec();
        units::resolve(&mut pairs, &held)?;
        let units = self.units(&pairs, Some(reader), |pair| Ok(grid(&held, pair)))?;
        let group = |unit: &Unit| shard_group(&held, &pairs, unit);
        let conflicts = self.conflicts(reader, &units, group)?;
        if conflicts.is_empty() { Ok(()) } else { Err(conflicts::refused(&conflicts)) }
    }

    /// Limits of a comparison of which `parallel` units are under way at once.
    pub(super) fn compare_options(&self, sides: &TwoSides, parallel: usize) -> compare::Options {
        // Both sides of each unit.
        let memory = self.settings.memory / DIGEST_SHARE / (2 * parallel.max(1));
        let (filter, spill) = (self.settings.filter.clone(), self.settings.spill.clone());
        compare::Options::new(filter, memory, spill, sides.max_differences as usize)
    }

    pub(super) fn context(&self, sides: &TwoSides, progress: &Meter) -> Result<Context> {
        let mut not_covered = self.not_covered.clone();
        for doubt in self.side.source.doubts() {
            if !not_covered.contains(&doubt) {
                not_covered.push(doubt);
            }
        }
        Ok(Context {
            source: sides.source.clone(),
            destination: sides.destination.clone(),
            command: std::env::args_os().skip(1).map(lossy).collect(),
            window: self.window,
            not_covered,
            filtered: !self.settings.filter.is_empty(),
            lines: self.side.lines.clone(),
            rejects: self.rejects.finish()?,
            elapsed: progress.elapsed(),
            expired: self.expired.clone(),
            insecure: self.insecure.iter().map(ToString::to_string).collect(),
            unread: self.side.source.unread().into_iter().chain(self.unread.clone()).collect(),
            throughput: progress.history(),
        })
    }
}

/// What a side that has a window of its own cannot speak of.
fn outside(role: Role, side: &dyn Source) -> String {
    let what = if side.digest_file().is_some() { "digest" } else { "archive" };
    format!("what lies outside the {role} {what}'s own window")
}

pub(super) fn lossy(argument: OsString) -> String {
    argument.to_string_lossy().into_owned()
}

/// The time before which a retention policy drops what it is sent.
pub(super) fn floor(settings: Option<&RpSettings>, clock: Option<i64>) -> Option<i64> {
    let duration = settings?.duration.filter(|duration| *duration > 0)?;
    Some(clock?.saturating_sub(duration).saturating_add(FLOOR_MARGIN))
}

/// The shard groups of a pair, as the destination has them, else the source.
pub(super) fn grid(held: &[Held], pair: &Pair) -> Grid {
    let settings = units::settings_of(held, &pair.destination).or(pair.source.settings.as_ref());
    settings.map_or(Grid { duration: SHARD_DURATION }, RpSettings::grid)
}

/// The shard group of the destination in which a unit lies.
pub(super) fn shard_group(held: &[Held], pairs: &[Pair], unit: &Unit) -> Window {
    let pair = pairs
        .iter()
        .find(|pair| pair.source.namespace == unit.source && pair.destination == unit.destination);
    pair.map_or(unit.window, |pair| grid(held, pair).cell(unit.window.start))
}

fn open_side(
    location: &Location,
    access: Access,
    role: Role,
    settings: &Settings,
    identify: bool,
    rejects: &Rejects,
    progress: &Meter,
) -> Result<SourceSide> {
    let lines = line_file::Options {
        precision: settings.precision,
        default_time: settings.default_time,
        window: settings.window,
        namespace: settings.namespace.clone(),
        memory_max: settings.memory / 2,
        spill: settings.spill.clone(),
    };
    let parts = match role {
        Role::Source => settings.parts.clone(),
        Role::Destination => Parts::default(),
    };
    let reading =
        side::Reading { lines, identify, salvage: settings.salvage, jobs: settings.jobs, parts };
    side::open_source(location, access, role, &reading, rejects, progress)
}

pub(super) fn warn_insecure(role: Role, progress: &Meter) {
    progress.warn(&format!(
        "INSECURE: the certificate of the {role} is not verified (--insecure-{role}): whoever is \
         between here and there can take the password, and read and change the data"
    ));
}

pub(super) fn access(sides: &TwoSides, role: Role) -> Result<Access> {
    let file = sides.destination_password_file.as_deref();
    Ok(Access {
        password: password(role, file)?,
        ca: sides.common.ca.clone(),
        insecure: sides.insecure_destination,
        jobs: usize::from(sides.common.jobs),
    })
}

/// How the source is spoken to.
pub(super) fn source_access(common: &Common) -> Result<Access> {
    Ok(Access {
        password: password(Role::Source, common.source_password_file.as_deref())?,
        ca: common.ca.clone(),
        insecure: common.insecure_source,
        jobs: usize::from(common.jobs),
    })
}

/// A password from its file, else from the environment.
pub(super) fn password(role: Role, file: Option<&Path>) -> Result<Option<Secret>> {
    let Some(file) = file else {
        return Ok(std::env::var(role.password_variable()).ok().map(Secret::new));
    };
    let unreadable = |error| Error::io(file, "read", error);
    let mut text = String::new();
    // A pipe of a password manager has no length before it is read.
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(PASSWORD_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > PASSWORD_MAX {
        return Err(Error::location(file.display(), "is too long for a password file"));
    }
    Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
}
