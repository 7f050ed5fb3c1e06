//! Runs a command: opens both sides, divides the work, hands it to the operation, makes the report.

mod backup;
mod comparison;
mod digest;
mod gaps;
mod job;
mod repair;
mod resume;
mod runbook;
mod saved;
mod schema;

pub use self::backup::backup;
pub use self::digest::{digest, export, merge};
pub use self::gaps::gaps;
pub use self::repair::repair;
pub use self::runbook::runbook;
pub use self::schema::schema;

use self::comparison::Comparison;
use self::job::{Job, access, floor, grid, shard_group};
use self::resume::Recording;
use crate::archive::Header;
use crate::cat;
use crate::cli::{CatArgs, Common, CopyArgs, ReadArgs, TwoSides, VerifyArgs};
use crate::compare::Unit;
use crate::conflicts::{self, Policy};
use crate::copy;
use crate::error::{Error, ErrorKind, Result};
use crate::http::Role;
use crate::inspect;
use crate::location::Location;
use crate::pipeline::{Progress, Stage};
use crate::plan::{Filter, FilterEntry, Grid, Held};
use crate::progress::Meter;
use crate::reject::{Rejects, Summary};
use crate::report::inspect::of_inspect;
use crate::report::{self, Printed, Report, Stored, TypesDealtWith};
use crate::side::{self, DestinationSide, Missing, Writing};
use crate::sink::influx;
use crate::source::typed::Typed;
use crate::stop::Stop;
use crate::undo::UndoList;
use crate::units::{self, Pair};
use crate::verify;
use crate::window::{DAY, Window};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a copy puts rejected rows unless told otherwise. Commands that only read write nothing
/// they were not asked for.
const REJECT_FILE: &str = "gapless-rejected.lp";
/// Most rows of one write request: what a 1.x server takes best.
const BATCH_ROWS: u64 = 20_000;
/// Bytes at which a write request is closed; a server refuses 25 MB.
const BATCH_BYTES: usize = 4 << 20;

/// Bytes of memory for each series that is told apart.
const SERIES_SHARE: usize = 64;
/// Most measurements and fields of one namespace that are listed.
const NAMES_MAX: usize = 100_000;
/// One of so many parts of the memory is for batches that are under way.
const IN_FLIGHT_SHARE: usize = 8;

/// Runs `copy`.
///
/// # Errors
/// Where it could not be carried out.
pub fn copy(arguments: &CopyArgs, stop: &Stop, progress: &Meter) -> Result<Printed> {
    let (source, target) = arguments.sides.locations()?;
    progress.begin("copy", &[("source", &source), ("destination", &target)]);
    saved::refuse(&source)?;
    saved::refuse(&target)?;
    let recording = resume::open(arguments, &source, &target, progress)?;
    if let Some(proof) = recording.as_ref().and_then(|recording| recording.proof(&source)) {
        return Ok(proof);
    }
    let listing = listing(arguments, &target, recording.as_ref())?;
    let records = (recording.as_ref(), listing.as_ref());
    let copied = copy_recorded(arguments, (&source, &target), records, stop, progress);
    let (mut report, before, units) = match copied {
        Ok(copied) => copied,
        Err(error) => return Err(broken_off(ended(error, stop), recording, listing.as_ref())),
    };
    if let Some(listing) = listing {
        listing.finish()?;
        report.undo_file = arguments.undo_file.as_ref().map(|file| file.display().to_string());
    }
    match &recording {
        Some(recording) => recording.finish(report, before, units),
        None => report.printed(),
    }
}

/// Opens the list of what is created, where one is wanted.
fn listing(
    arguments: &CopyArgs,
    target: &Location,
    recording: Option<&Recording>,
) -> Result<Option<UndoList>> {
    let Some(path) = &arguments.undo_file else { return Ok(None) };
    if !matches!(target, Location::Influx(_)) {
        let reason =
            format!("--undo-file is for servers: {target} holds nothing but what is copied");
        return Err(Error::usage(reason));
    }
    let resumed = recording.is_some_and(|recording| !recording.is_fresh());
    UndoList::open(path, &arguments.sides.destination, resumed).map(Some)
}

/// Says how a copy goes on, and where it is listed what it created until now.
fn broken_off(error: Error, recording: Option<Recording>, listing: Option<&UndoList>) -> Error {
    let listing = listing.filter(|listing| listing.lists());
    let error = match recording {
        Some(recording) => recording.interrupted(error, listing.is_some()),
        None => error,
    };
    let Some(listing) = listing else { return error };
    let listed = format!("what was created until now is in {}", listing.partial().display());
    let next = error.next_step().map_or(listed.clone(), |next| format!("{next}; {listed}"));
    error.with_next(next)
}

/// What stopped waiting for a server because an end was asked for is no failure of the server.
fn ended(error: Error, stop: &Stop) -> Error {
    match error.kind() {
        ErrorKind::Connection { .. } | ErrorKind::Refused { .. } | ErrorKind::Reply { .. }
            if stop.is_requested() =>
        {
            ErrorKind::Interrupted.into()
        }
        _ => error,
    }
}

/// The report, the number of partitions that earlier runs proved, and the number of all.
fn copy_recorded(
    arguments: &CopyArgs,
    (source, target): (&Location, &Location),
    (recording, listing): (Option<&Recording>, Option<&UndoList>),
    stop: &Stop,
    progress: &Meter,
) -> Result<(Report, u64, u64)> {
    let sides = &arguments.sides;
    let (consistency, policy) = (arguments.consistency()?, arguments.policy()?);
    let read_back = arguments.read_back()?;
    let rate = arguments.rate()?;
    if let Some(recording) = recording {
        recording.announce(progress);
    }
    side::expect_input(&[source], progress);
    // A dry run writes nothing.
    let file = || sides.common.reject.clone().unwrap_or_else(|| REJECT_FILE.into());
    let rejects = Rejects::new((!arguments.dry_run).then(file));
    let journal = recording.map(Recording::journal);
    let mut job = Job::open(&sides.common, source, rejects, journal, progress)?;
    job.admit_insecure_destination(sides, progress);
    if let Some(recording) = recording {
        recording.look_at_source(job.side.identity.as_ref(), progress)?;
    }
    if let Some(journal) = journal {
        journal.begin(job.window, job.side.identity.clone())?;
    }
    let recorded = recording.map(Recording::recorded);
    let mut pairs = job.pairs(target)?;
    let header = header(source, job.window, &job.settings.filter, &pairs);
    let open = |missing, dry_run| {
        let recorded = recorded.clone();
        let influx = influx::Options { consistency, gzip: arguments.gzip };
        let writing = Writing { missing, dry_run, influx, header: header.clone(), recorded };
        let access = access(sides, Role::Destination)?;
        side::open_destination(target, access, writing, &pairs, progress)
    };
    let missing = match (arguments.create, arguments.dry_run) {
        (false, _) => Missing::Refuse,
        (true, true) => Missing::Say,
        (true, false) => {
            if policy == Policy::Fail && matches!(target, Location::Influx(_)) {
                job.refuse_conflicts_of_new(&open(Missing::Say, true)?, &pairs)?;
            }
            Missing::Create
        }
    };
    let destination = open(missing, arguments.dry_run)?;
    let held = destination.held()?;
    units::resolve(&mut pairs, &held)?;
    let settings_differ = side::settings_that_differ(&pairs, &held);
    side::refuse_same_place(source, target, &pairs)?;
    let kept_from =
        |pair: &Pair| floor(units::settings_of(&held, &pair.destination), destination.clock());
    job.leave_out_expired(&mut pairs, kept_from, None, progress)?;
    let units = job.units(&pairs, destination.reader(), |pair| {
        Ok(if destination.is_server() { grid(&held, pair) } else { Grid { duration: DAY } })
    })?;
    let Some(mut writable) = destination.destination() else {
        let report = compared_archive(&job, &destination, &units, sides, progress)?;
        return Ok((Report { settings_differ, ..report }, 0, units.len() as u64));
    };
    let mut typed = TypesDealtWith::default();
    let group = |unit: &Unit| shard_group(&held, &pairs, unit);
    if destination.is_server()
        && let Some(reader) = destination.reader()
    {
        progress.stage("plan");
        typed = job.deal_with_types(reader, &units, policy, group, arguments.dry_run)?;
    }
    let read_back = read_back.filter(|_| destination.is_server() && !arguments.dry_run);
    let read_back =
        read_back.map(|place| job.open_read_back(&place, sides, progress)).transpose()?;
    if let Some(side) = &read_back {
        writable.reader = Some(&*side.source);
    }
    if arguments.no_read_back {
        writable.reader = None;
    }
    progress.stage("copy");
    let (cells, _) = job.cells(&pairs, None);
    if let Some(cells) = cells {
        progress.expect(Stage::Read, cells);
    }
    let options = copy::Options {
        compare: job.compare_options(sides, copy::UNITS_OPEN),
        jobs: job.settings.jobs,
        batch_rows: BATCH_ROWS,
        batch_bytes: BATCH_BYTES,
        in_flight_bytes: job.settings.memory / IN_FLIGHT_SHARE,
        rate,
        cells,
        overwrite: arguments.overwrite,
        dry_run: arguments.dry_run,
        live: job.side.clock.is_some(),
        retry_suspects: arguments.retry_suspects,
        server: destination.is_server(),
    };
    let source = Typed::new(&*job.side.source, conflicts::rules(&typed.conflicts, policy));
    let surroundings =
        copy::Surroundings { rejects: &job.rejects, progress, stop, journal, listing };
    let mut outcome = copy::run(&source, writable, &units, &options, surroundings)
        .and_then(|outcome| finish(&destination, outcome))
        .map_err(|error| match recording {
            Some(_) => error,
            None => left_behind(&destination, error),
        })?;
    if job.side.clock.is_some() && !typed.conflicts.is_empty() {
        let late = job.late_conflicts(destination.reader(), &units, &typed.conflicts, group)?;
        outcome.verified.counts.unstable += late;
    }
    let stored = match (&destination, arguments.no_read_back) {
        _ if arguments.dry_run => Stored::Planned,
        (DestinationSide::Null(_), _) => Stored::Nowhere,
        (_, true) => Stored::Unseen,
        (_, false) => Stored::ReadBack,
    };
    let before = outcome.before;
    let report = report::of_copy(job.context(sides, progress)?, outcome, typed, stored);
    let (created, pace) = (destination.created().to_vec(), destination.pace());
    let report = Report { created, settings_differ, pace, ..report };
    Ok((report, before, units.len() as u64))
}

/// Gives a new archive its name, if it holds what it should.
fn finish(destination: &DestinationSide, outcome: copy::Outcome) -> Result<copy::Outcome> {
    if let DestinationSide::NewArchive { sink, .. } = destination {
        if outcome.verified.counts.source == 0 {
            sink.abandon()?;
        } else if outcome.sent.lost == 0 {
            sink.complete()?;
        }
    }
    Ok(outcome)
}

/// What is left behind by a copy that failed on its way and is not recorded.
fn left_behind(destination: &DestinationSide, error: Error) -> Error {
    let left = match destination {
        DestinationSide::NewArchive { sink, .. } if !sink.partial().exists() => {
            "the archive has its name, but a power cut may take it back: run the same command again, \
             which compares it"
                .into()
        }
        DestinationSide::NewArchive { sink, .. } => format!(
            "{} is left unfinished: remove it, then run the same command again",
            sink.partial().display()
        ),
        _ => "what was stored until then stays: run the same command again, and only the rest is \
              sent"
            .into(),
    };
    let next = error.next_step().map_or(left.clone(), |next| format!("{next}; {left}"));
    error.with_next(next)
}

/// What a new archive says about itself.
fn header(source: &Location, window: Window, filter: &Filter, pairs: &[Pair]) -> Header {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let held = |pair: &Pair| Held {
        namespace: pair.destination.clone(),
        settings: pair.source.settings.clone(),
    };
    Header {
        window,
        source: source.to_string(),
        filter: FilterEntry::from(filter),
        created: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        namespaces: pairs.iter().map(held).collect(),
    }
}

/// An archive is immutable: copying to one that exists compares it.
fn compared_archive(
    job: &Job,
    destination: &DestinationSide,
    units: &[Unit],
    sides: &TwoSides,
    progress: &Meter,
) -> Result<Report> {
    let Some(reader) = destination.reader() else {
        return Err(Error::usage("the destination can be neither written nor read"));
    };
    let jobs = job.settings.jobs;
    let options = job.compare_options(sides, jobs);
    let outcome = verify::run(&*job.side.source, reader, units, jobs, &options, None, progress)?;
    if outcome.counts.different() > 0 {
        return Err(Error::location(
            &sides.destination,
            format!("the archive exists and differs in {} cells", outcome.counts.different()),
        )
        .with_next(
            "an archive is never changed: copy to another directory, or see the differences with \
             gapless verify",
        ));
    }
    Ok(report::of_verify(job.context(sides, progress)?, outcome, false))
}

/// Runs `verify`.
///
/// # Errors
/// Where it could not be carried out.
pub fn verify(arguments: &VerifyArgs, progress: &Meter) -> Result<Printed> {
    let sides = &arguments.sides;
    let pauses = arguments.recheck.pauses()?;
    let mut both = Comparison::open("verify", sides, pauses, progress)?;
    arguments.slice.into_iter().for_each(|slice| both.cut(slice));
    let options = both.job.compare_options(sides, both.job.settings.jobs);
    let outcome = both.run(&options, progress)?;
    let context = both.job.context(sides, progress)?;
    let report = report::of_verify(context, outcome, both.is_writable());
    Report { settings_differ: both.settings_differ, ..report }.printed()
}

/// What a command found, for standard output.
#[derive(Debug)]
pub struct Listing {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: String,
    /// Something was rejected, or nothing was found.
    pub incomplete: bool,
}

/// Runs `inspect`.
///
/// # Errors
/// Where it could not be carried out.
pub fn inspect(arguments: &ReadArgs, progress: &Meter) -> Result<Listing> {
    let place = (&arguments.common, &*arguments.source);
    let (mut job, source) = open_to_read("inspect", place, progress)?;
    if job.side.source.digest_file().is_some() {
        return digest::inspect(job);
    }
    let options = inspect::Options {
        window: job.window,
        filter: job.settings.filter.clone(),
        series_max: job.settings.memory / SERIES_SHARE,
        names_max: NAMES_MAX,
    };
    let facts = inspect::run(&*job.side.source, &job.held()?, &options, progress)?;
    let rejected = job.rejects.finish()?.rows;
    let unread = job.note_unread();
    let report = of_inspect(source.to_string(), job.window, job.not_covered, rejected, &facts);
    let incomplete = rejected > 0 || unread || report.is_empty();
    Ok(Listing { text: report.to_string(), json: report.json()?, incomplete })
}

/// Opens the source of a command that only reads it.
fn open_to_read(
    command: &str,
    (common, source): (&Common, &str),
    progress: &Meter,
) -> Result<(Job, Location)> {
    let source = common.source(source)?;
    progress.begin(command, &[("source", &source)]);
    side::expect_input(&[&source], progress);
    let rejects = Rejects::new(common.reject.clone());
    let job = Job::open(common, &source, rejects, None, progress)?;
    progress.stage("read");
    Ok((job, source))
}

/// What `cat` did.
#[derive(Debug)]
pub struct Catted {
    /// What was rejected.
    pub rejects: Summary,
    /// Rows written.
    pub rows: u64,
    /// Something is there and was not read.
    pub unread: bool,
    /// What was left out, one remark a line.
    pub not_covered: Vec<String>,
}

/// Runs `cat`.
///
/// # Errors
/// Where it could not be carried out.
pub fn cat(arguments: &CatArgs, progress: &Meter, out: &mut dyn Write) -> Result<Catted> {
    let source = arguments.common.source(&arguments.source)?;
    progress.begin("cat", &[("source", &source)]);
    saved::refuse(&source)?;
    side::expect_input(&[&source], progress);
    let rejects = Rejects::new(arguments.common.reject.clone());
    let mut job = Job::open(&arguments.common, &source, rejects, None, progress)?;
    let held = job.held()?;
    let filter = &job.settings.filter;
    let source = &*job.side.source;
    progress.stage("write");
    let outcome = cat::run(source, &held, job.window, filter, &job.rejects, progress, out)?;
    let rejects = job.rejects.finish()?;
    let unread = job.note_unread();
    Ok(Catted { rejects, rows: outcome.rows, unread, not_covered: job.not_covered })
}
