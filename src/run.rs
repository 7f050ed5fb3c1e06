//! Runs a command: opens both sides, divides the work, hands it to the operation, makes the report.

use crate::archive::Header;
use crate::cat;
use crate::cli::{CatArgs, Common, CopyArgs, Settings, TwoSides, VerifyArgs};
use crate::compare::{self, Unit};
use crate::copy;
use crate::error::{Error, Result};
use crate::http::{Role, Secret};
use crate::location::Location;
use crate::pipeline::Progress;
use crate::plan::{Grid, Held, SHARD_DURATION};
use crate::progress::Lines;
use crate::reject::{Rejects, Summary};
use crate::report::{self, Context, Expired, Report};
use crate::side::{self, Access, DestinationSide, SourceSide, Writing};
use crate::sink::influx;
use crate::source::{Source, line_file};
use crate::units::{self, Pair, Target};
use crate::verify;
use crate::window::{Window, format_time};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Findings that are kept with their values.
const FINDINGS_MAX: usize = 10_000;
/// Most rows of one write request: what a 1.x server takes best.
const BATCH_ROWS: u64 = 20_000;
/// Bytes at which a write request is closed; a server refuses 25 MB.
const BATCH_BYTES: usize = 4 << 20;
/// A password file longer than this is not one.
const PASSWORD_MAX: u64 = 4_096;

/// Runs `copy`.
///
/// # Errors
/// Where it could not be carried out.
pub fn copy(arguments: &CopyArgs, progress: &Lines) -> Result<Report> {
    let consistency = arguments.consistency()?;
    let (source, target) = arguments.sides.locations()?;
    let job = Job::open(&arguments.sides.common, &source, progress)?;
    let mut pairs = job.pairs(&target)?;
    let writing = Writing {
        create: arguments.create,
        influx: influx::Options { consistency, gzip: arguments.gzip },
        header: header(&source, job.window, &pairs),
    };
    let access = access(&arguments.sides, Role::Destination)?;
    let destination = side::open_destination(&target, access, writing, &pairs)?;
    let expired = job.leave_out_expired(&mut pairs, &destination)?;
    let units =
        job.units(&pairs, destination.reader(), |pair| destination.grid(&pair.destination))?;
    progress.stage(&format!("stage=copy units={}", units.len()));
    let options = copy::Options {
        compare: job.compare_options(),
        jobs: job.settings.jobs,
        batch_rows: BATCH_ROWS,
        batch_bytes: BATCH_BYTES,
        overwrite: arguments.overwrite,
        live: job.side.clock.is_some(),
        server: destination.is_server(),
    };
    let source = &*job.side.source;
    let Some(writable) = destination.destination() else {
        return compared_archive(&job, &destination, &units, &arguments.sides, progress);
    };
    let outcome = copy::run(source, writable, &units, &options, &job.rejects, progress)?;
    let stored = writable.reader.is_some();
    if outcome.sent.lost == 0
        && let DestinationSide::NewArchive { sink, .. } = &destination
    {
        sink.complete()?;
    }
    let context = Context { expired, ..job.context(&arguments.sides, progress)? };
    Ok(report::of_copy(context, outcome, stored))
}

/// What a new archive says about itself.
fn header(source: &Location, window: Window, pairs: &[Pair]) -> Header {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let held = |pair: &Pair| Held {
        namespace: pair.destination.clone(),
        settings: pair.source.settings.clone(),
    };
    Header {
        window,
        source: source.to_string(),
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
    progress: &Lines,
) -> Result<Report> {
    let Some(reader) = destination.reader() else {
        return Err(Error::usage("the destination can be neither written nor read"));
    };
    let options = job.compare_options();
    let outcome =
        verify::run(&*job.side.source, reader, units, job.settings.jobs, &options, progress)?;
    if outcome.counts.different() > 0 {
        return Err(Error::location(
            &sides.destination,
            format!("the archive exists and differs in {} cells", outcome.counts.different()),
        )
        .with_next(format!(
            "an archive is never changed: copy to another directory, or see the differences with \
             gapless verify {} {}",
            sides.source, sides.destination
        )));
    }
    Ok(report::of_verify(job.context(sides, progress)?, outcome))
}

/// Runs `verify`.
///
/// # Errors
/// Where it could not be carried out.
pub fn verify(arguments: &VerifyArgs, progress: &Lines) -> Result<Report> {
    let sides = &arguments.sides;
    let (source, target) = sides.locations()?;
    let job = Job::open(&sides.common, &source, progress)?;
    let destination =
        job.open_side(&target, access(sides, Role::Destination)?, Role::Destination, progress)?;
    let reader = &*destination.source;
    let pairs = job.pairs_with(&target, reader)?;
    let held = reader.namespaces()?;
    let units = job.units(&pairs, Some(reader), |pair| {
        let same = held.iter().find(|held| held.namespace == pair.destination);
        let settings =
            same.and_then(|held| held.settings.as_ref()).or(pair.source.settings.as_ref());
        Ok(Grid { duration: settings.map_or(SHARD_DURATION, |settings| settings.shard_duration) })
    })?;
    progress.stage(&format!("stage=compare units={}", units.len()));
    let options = job.compare_options();
    let outcome =
        verify::run(&*job.side.source, reader, &units, job.settings.jobs, &options, progress)?;
    Ok(report::of_verify(job.context(sides, progress)?, outcome))
}

/// Runs `cat`; returns what was rejected.
///
/// # Errors
/// Where it could not be carried out.
pub fn cat(arguments: &CatArgs, progress: &Lines, out: &mut dyn Write) -> Result<Summary> {
    let source = Location::parse(&arguments.source)?;
    let job = Job::open(&arguments.common, &source, progress)?;
    let held = job.held()?;
    let namespaces: Vec<_> = held.into_iter().map(|held| held.namespace).collect();
    let filter = &job.settings.filter;
    let outcome = cat::run(&*job.side.source, &namespaces, job.window, filter, &job.rejects, out)?;
    progress.stage(&format!("stage=done rows={} cells={}", outcome.rows, outcome.cells));
    job.rejects.finish()
}

/// A command's source, opened, and what it was asked to do.
struct Job {
    settings: Settings,
    side: SourceSide,
    rejects: Rejects,
    /// What was asked for, cut to what a live source can be judged by.
    window: Window,
    not_covered: Vec<String>,
}

impl Job {
    fn open(common: &Common, source: &Location, progress: &Lines) -> Result<Self> {
        let settings = common.settings()?;
        let rejects = Rejects::new(common.reject.clone());
        progress.stage(&format!("stage=open source={source}"));
        let access = Access {
            password: password(Role::Source, common.source_password_file.as_deref())?,
            ca: common.ca.clone(),
        };
        let side = open_side(source, access, Role::Source, &settings, &rejects, progress)?;
        let mut job =
            Self { window: settings.window, settings, side, rejects, not_covered: Vec::new() };
        job.stop_at_horizon()?;
        Ok(job)
    }

    /// Opens the other side of a `verify`.
    fn open_side(
        &self,
        location: &Location,
        access: Access,
        role: Role,
        progress: &Lines,
    ) -> Result<SourceSide> {
        open_side(location, access, role, &self.settings, &self.rejects, progress)
    }

    /// The newest points of a live source may still be on their way: they are left out.
    fn stop_at_horizon(&mut self) -> Result<()> {
        let Some(clock) = self.side.clock.filter(|_| !self.settings.end_given) else {
            return Ok(());
        };
        let horizon = clock.saturating_sub(self.settings.lag);
        self.window = Window::new(self.window.start, horizon.min(self.window.end))?;
        self.not_covered.push(format!(
            "what is newer than {}, the source's clock less {} s (--lag, --end)",
            format_time(horizon),
            self.settings.lag / 1_000_000_000
        ));
        Ok(())
    }

    /// The namespaces of the source that were asked for.
    fn held(&self) -> Result<Vec<Held>> {
        let wanted = &self.settings.namespace;
        let mut held = self.side.source.namespaces()?;
        if self.side.lines.is_none() {
            held.retain(|held| {
                let named = |wanted: &str, name: &str| wanted.is_empty() || wanted == name;
                named(&wanted.database, &held.namespace.database)
                    && named(&wanted.retention_policy, &held.namespace.retention_policy)
            });
        }
        Ok(held)
    }

    fn pairs(&self, destination: &Location) -> Result<Vec<Pair>> {
        let target = match destination {
            Location::Influx(influx) => Target {
                database: influx.database.clone(),
                retention_policy: influx.retention_policy.clone(),
            },
            _ => Target::default(),
        };
        units::pairs(self.held()?, &target, self.window)
    }

    /// Pairs for two sides that both exist: a single namespace on either side needs no name.
    fn pairs_with(&self, location: &Location, reader: &dyn Source) -> Result<Vec<Pair>> {
        let mut pairs = self.pairs(location)?;
        if let ([pair], [only]) = (&mut pairs[..], &reader.namespaces()?[..]) {
            let unnamed = |name: &str| name.is_empty();
            let (ours, theirs) = (&pair.source.namespace, &only.namespace);
            if unnamed(&ours.database) || unnamed(&theirs.database) {
                pair.destination = theirs.clone();
            }
        }
        Ok(pairs)
    }

    fn units(
        &self,
        pairs: &[Pair],
        reader: Option<&dyn Source>,
        grid: impl Fn(&Pair) -> Result<Grid>,
    ) -> Result<Vec<Unit>> {
        let source = &*self.side.source;
        let mut units = Vec::new();
        for pair in pairs {
            let grid = grid(pair)?;
            let filter = &self.settings.filter;
            units.extend(units::units(pair, source, reader, grid, filter)?);
        }
        Ok(units)
    }

    /// Cuts what the destination's retention policies would drop off the windows, and counts it.
    fn leave_out_expired(
        &self,
        pairs: &mut [Pair],
        destination: &DestinationSide,
    ) -> Result<Expired> {
        let mut expired = Expired { asked_for: self.settings.start_given, ..Expired::default() };
        for pair in pairs {
            let Some(floor) = destination.floor(&pair.destination)? else { continue };
            let below = Window { start: Window::ALL.start, end: floor };
            let Some(below) = below.intersect(pair.window) else { continue };
            let (source, namespace) = (&*self.side.source, &pair.source.namespace);
            expired.cells += compare::count(source, namespace, below, &self.settings.filter)?;
            expired.floor = expired.floor.max(Some(floor));
            pair.window.start = floor;
        }
        Ok(expired)
    }

    fn compare_options(&self) -> compare::Options {
        compare::Options {
            filter: self.settings.filter.clone(),
            memory_max: self.settings.memory / 4,
            findings_max: FINDINGS_MAX,
            drill_missing: false,
        }
    }

    fn context(&self, sides: &TwoSides, progress: &Lines) -> Result<Context> {
        Ok(Context {
            source: sides.source.clone(),
            destination: sides.destination.clone(),
            window: self.window,
            not_covered: self.not_covered.clone(),
            lines: self.side.lines.clone(),
            rejects: self.rejects.finish()?,
            elapsed: progress.elapsed(),
            expired: Expired::default(),
        })
    }
}

fn open_side(
    location: &Location,
    access: Access,
    role: Role,
    settings: &Settings,
    rejects: &Rejects,
    progress: &Lines,
) -> Result<SourceSide> {
    let options = line_file::Options {
        precision: settings.precision,
        default_time: settings.default_time,
        window: settings.window,
        namespace: settings.namespace.clone(),
        memory_max: settings.memory / 2,
    };
    side::open_source(location, access, role, &options, rejects, &|text| progress.warn(text))
}

fn access(sides: &TwoSides, role: Role) -> Result<Access> {
    let file = sides.destination_password_file.as_deref();
    Ok(Access { password: password(role, file)?, ca: sides.common.ca.clone() })
}

/// A password from its file, else from the environment.
fn password(role: Role, file: Option<&Path>) -> Result<Option<Secret>> {
    let Some(file) = file else {
        return Ok(std::env::var(role.password_variable()).ok().map(Secret::new));
    };
    let unreadable = |error| Error::io(file, "read", error);
    let length = file.metadata().map_err(unreadable)?.len();
    if length > PASSWORD_MAX {
        return Err(Error::location(file.display(), "is too long for a password file"));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
}
