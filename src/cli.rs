//! The command line: what can be typed, and what it means.

mod backup;
mod gaps;
mod repair;
mod runbook;
mod schema;

pub use self::backup::BackupArgs;
pub use self::gaps::GapsArgs;
pub use self::repair::RepairArgs;
pub use self::runbook::{Accept, RunbookArgs};
pub use self::schema::SchemaArgs;

use crate::conflicts::Policy;
use crate::error::{Error, Result};
use crate::line::Precision;
use crate::location::Location;
use crate::logs::{self, Format, Level};
use crate::plan::{Filter, Namespace};
use crate::progress::Style;
use crate::rate::Rate;
use crate::report::Form;
use crate::sink::influx::Consistency;
use crate::source::tsm::directory::Parts;
use crate::spill::Place;
use crate::units::Slice;
use crate::window::{Window, parse_time};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Moves time-windowed data between line-protocol databases and proves that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "gapless", version, arg_required_else_help = true, after_help = EXIT_STATUS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Locations:
  FILE, -                                     line protocol or an influx_inspect export: plain, gzip
                                              or zstd; - is standard input
  DIR                                         a gapless archive, an InfluxDB 1.x data directory, or
                                              a portable or older backup of one; parts elsewhere:
                                              --meta-dir DIR --wal-dir DIR
  FILE                                        a digest file (gapless digest SOURCE -o FILE): for
                                              verify on either side, inspect and digest
  influxdb://[USER@]HOST[:PORT][/DB[/RP]]     InfluxDB 1.x over HTTP (influxdbs:// over HTTPS);
                                              HOST[:PORT],HOST[:PORT] are nodes of one cluster
  influxdb-snapshot://HOST[:8088][/DB[/RP]]   its snapshot port (read only, no encryption)
  null:                                       a destination that only counts
Passwords come from GAPLESS_SOURCE_PASSWORD and GAPLESS_DESTINATION_PASSWORD, or from files.

Exit status:
  0  identical, complete, or cast as asked; a dry run that nothing speaks against
  1  differences or gaps found (verify, gaps) or left (repair, schema), conflicts left (copy); a
     plan with something to do
  2  wrong arguments
  3  incomplete: something was rejected or cannot be proven, or nothing was compared or read back
  4  failed
130  interrupted: the same command goes on where it was";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send what the destination lacks in the window, and prove it
    Copy(CopyArgs),
    /// Compare two sides cell by cell and change neither
    Verify(VerifyArgs),
    /// Find the windows in which the destination lacks what the source holds, and fill them
    Gaps(GapsArgs),
    /// Compare two sides and say what would make a server like the source; do it with --apply
    Repair(RepairArgs),
    /// Say what of databases, retention policies, users, grants, continuous queries and subscriptions a
    /// server lacks that the source has; make it with --apply
    Schema(SchemaArgs),
    /// Take a portable backup of a server by its snapshot port, digest it, and go on where it was
    /// interrupted; influxd restore -portable takes it, and so does gapless copy
    Backup(BackupArgs),
    /// Say where a migration stands: each step, what both servers show of it, the commands of what is left, and
    /// whether the old server may be stopped
    Runbook(RunbookArgs),
    /// Write canonical line protocol to standard output
    Cat(CatArgs),
    /// Show what a source holds: databases, measurements, series, cells, times, types
    Inspect(ReadArgs),
    /// Print the digest of each measurement of a source, of each database, and of the whole; save the
    /// digests in a file, which stands for either side of a later verify
    Digest(DigestArgs),
}

/// Arguments that every command has.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// First time in the window: RFC 3339, a date, or nanoseconds since 1970
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start: Option<String>,
    /// First time after the window
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub end: Option<String>,
    /// The source's database; for line protocol without names, the name it gets
    #[arg(long, value_name = "NAME")]
    pub db: Option<String>,
    /// The source's retention policy; for line protocol without names, the name it gets
    #[arg(long, value_name = "NAME")]
    pub rp: Option<String>,
    /// Take only this measurement (repeatable)
    #[arg(long, value_name = "NAME")]
    pub measurement: Vec<String>,
    /// Take only series with this tag (repeatable, all must match)
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Vec<String>,
    /// Leave out this measurement (repeatable)
    #[arg(long, value_name = "NAME")]
    pub exclude: Vec<String>,
    /// Unit of the timestamps in line protocol: ns, us, ms, s, m or h
    #[arg(long, value_name = "UNIT", default_value = "ns")]
    pub precision: String,
    /// Time for lines that have none; without it they are rejected
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub default_time: Option<String>,
    /// Leave out this much of the newest time of a live source, unless --end is given (seconds)
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub lag: u32,
    /// Work done at once; servers that ask for less are sent less
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// Memory for data (MiB)
    #[arg(long, value_name = "MIB", default_value_t = 192, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub memory: u32,
    /// Pass over what is damaged in a server's own files, and count it (exit status 3)
    #[arg(long)]
    pub salvage: bool,
    /// The source is a data directory whose meta.db is in this directory; the source then is the one
    /// that holds DATABASE/POLICY/SHARD, or that above it
    #[arg(long, value_name = "DIR")]
    pub meta_dir: Option<PathBuf>,
    /// The source is a data directory whose write-ahead log is in this directory
    #[arg(long, value_name = "DIR")]
    pub wal_dir: Option<PathBuf>,
    /// Directory for data that do not fit in memory [default: $TMPDIR, else /var/tmp]
    #[arg(long, value_name = "DIR")]
    pub spill: Option<PathBuf>,
    /// Trust the certificates in this PEM file, besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Take any certificate of the source: whoever is between can read and change everything
    #[arg(long)]
    pub insecure_source: bool,
    /// Read the source's password from this file
    #[arg(long, value_name = "FILE")]
    pub source_password_file: Option<PathBuf>,
    /// Where rejected rows go, with their reasons [default for copy: gapless-rejected.lp]
    #[arg(long, value_name = "FILE")]
    pub reject: Option<PathBuf>,
    /// What is told meanwhile.
    #[command(flatten)]
    pub told: Told,
}

/// What is told besides the result, and where.
#[derive(Clone, Debug, Args)]
pub struct Told {
    /// Add a line for each event to this file; - is standard error
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How much is logged
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t, requires = "log")]
    pub log_level: Level,
    /// How events are logged
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, requires = "log")]
    pub log_format: Format,
    /// How progress is shown on standard error
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Style::Auto)]
    pub progress: Style,
    /// Print nothing but warnings and errors on standard error
    #[arg(long)]
    pub quiet: bool,
}

impl Told {
    /// Where the log goes.
    #[must_use]
    pub fn logs(&self) -> logs::Options {
        logs::Options { file: self.log.clone(), level: self.log_level, format: self.log_format }
    }
}

/// Arguments of commands that have two sides.
#[derive(Clone, Debug, Args)]
pub struct TwoSides {
    /// Where the data come from
    pub source: String,
    /// Where the data go, or what is compared
    pub destination: String,
    /// Arguments that every command has.
    #[command(flatten)]
    pub common: Common,
    /// Take any certificate of the destination: whoever is between can read and change everything
    #[arg(long)]
    pub insecure_destination: bool,
    /// Read the destination's password from this file
    #[arg(long, value_name = "FILE")]
    pub destination_password_file: Option<PathBuf>,
    /// Write the report to this file, as a page for people or as JSON by its name (repeatable)
    #[arg(long, value_name = "FILE.html|FILE.json")]
    pub report: Vec<PathBuf>,
    /// Keep the series, hours and values of so many differences; all are counted
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub max_differences: u32,
    /// Write the report as JSON to standard output
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Both sides.
    #[command(flatten)]
    pub sides: TwoSides,
    /// Create the database and retention policy at the destination where they are missing
    #[arg(long)]
    pub create: bool,
    /// Send cells that the destination holds with another value, too
    #[arg(long)]
    pub overwrite: bool,
    /// What to do with cells whose type the destination cannot hold: fail, reject or cast
    #[arg(long, value_name = "POLICY", default_value = "fail")]
    pub on_type_conflict: String,
    /// Say what would be sent, and write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Record what is proven in this directory, and go on where it says
    /// [default: a directory in $XDG_STATE_HOME/gapless, removed when the copy ends]
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// Send everything without looking at the destination, and prove nothing (exit status 3)
    #[arg(long, conflicts_with_all = ["dry_run", "overwrite"])]
    pub no_read_back: bool,
    /// Try rows during which the destination died again, last, alone and in pieces; without it they
    /// are rejected. It may die of them again, so that something has to start it again
    #[arg(long)]
    pub retry_suspects: bool,
    /// Read the destination back through its snapshot port, in place of queries
    #[arg(long, value_name = "snapshot=HOST:PORT", conflicts_with = "no_read_back")]
    pub read_back: Option<String>,
    /// Write consistency of a cluster: any, one, quorum or all
    #[arg(long, value_name = "LEVEL")]
    pub consistency: Option<String>,
    /// Compress write requests with gzip
    #[arg(long)]
    pub gzip: bool,
    /// Send at most so many cells or bytes of line protocol a second: 200kcells/s, 20MB/s
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,
    /// List in this file, which must not exist, the cells that the copy creates at a server: those of which it
    /// held no value. They stand in comments; until the copy ends the file is called FILE.partial. What the
    /// destination holds with another value is left and not listed (to overwrite it and keep what was there,
    /// use gapless repair --apply --overwrite --undo-file FILE)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "overwrite", "no_read_back"])]
    pub undo_file: Option<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Both sides.
    #[command(flatten)]
    pub sides: TwoSides,
    /// Pauses.
    #[command(flatten)]
    pub recheck: Recheck,
    /// Compare only a part of the UTC days: 1/7 to 7/7, one after the other, compare every day once
    #[arg(long, value_name = "n/t")]
    pub slice: Option<Slice>,
}

/// When differences of sides that take writes are read again.
#[derive(Clone, Debug, Args)]
pub struct Recheck {
    /// Read what differs again after these pauses, where a side takes writes: what agrees by then was
    /// on its way, what stays is a difference; none: judge what is read first
    #[arg(long, value_name = "PAUSES", default_value = "5s,15s,45s,135s,405s")]
    recheck: String,
}

/// Longest pause, and most of them, before differences are read again.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3_600);
const PAUSES_MAX: usize = 100;

impl Recheck {
    /// The pauses before differences are read again.
    ///
    /// # Errors
    /// A usage error for what is no list of durations.
    pub fn pauses(&self) -> Result<Vec<Duration>> {
        if self.recheck == "none" {
            return Ok(Vec::new());
        }
        let pause = |text: &str| {
            let pause: jiff::SignedDuration = text.trim().parse().ok()?;
            Duration::try_from(pause).ok().filter(|pause| *pause <= PAUSE_MAX)
        };
        let pauses: Option<Vec<Duration>> = self.recheck.split(',').map(pause).collect();
        pauses.filter(|pauses| pauses.len() <= PAUSES_MAX).ok_or_else(|| {
            Error::usage(format!(
                "{:?} are no pauses: write --recheck 5s,15s,1m30s, or none",
                self.recheck
            ))
        })
    }
}

/// Arguments of `cat`.
#[derive(Debug, Args)]
pub struct CatArgs {
    /// Where the data come from
    pub source: String,
    /// Arguments that every command has.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of commands that read a source and print what they found.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Where the data come from
    pub source: String,
    /// Arguments that every command has.
    #[command(flatten)]
    pub common: Common,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `digest`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct DigestArgs {
    /// What to do with digest files.
    #[command(subcommand)]
    pub files: Option<DigestFiles>,
    /// Where the data come from, or a digest file; a file that is called merge is written ./merge
    #[arg(required = true)]
    pub source: Option<String>,
    /// Arguments that every command has.
    #[command(flatten)]
    pub common: Common,
    /// Save the digests of each series and time in this file, which must not exist
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print a JSON line for each series and stretch of time of a digest file
    #[arg(long, conflicts_with_all = ["json", "output"])]
    pub jsonl: bool,
}

/// What is done with digest files.
#[derive(Debug, Subcommand)]
pub enum DigestFiles {
    /// Merge digest files that have no database and time in common into one
    Merge(MergeArgs),
}

/// Arguments of `digest merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The digest files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The file that holds what they hold, which must not exist
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Memory for data (MiB)
    #[arg(long, value_name = "MIB", default_value_t = 192, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub memory: u32,
    /// Directory for data that do not fit in memory [default: $TMPDIR, else /var/tmp]
    #[arg(long, value_name = "DIR")]
    pub spill: Option<PathBuf>,
    /// How progress is shown on standard error
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Style::Auto)]
    pub progress: Style,
    /// Print nothing but warnings and errors on standard error
    #[arg(long)]
    pub quiet: bool,
}

/// What the common arguments mean.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The window; open where no bound was given.
    pub window: Window,
    /// True where `--start` was given.
    pub start_given: bool,
    /// True where `--end` was given.
    pub end_given: bool,
    /// Database and RP of the source; empty where not given.
    pub namespace: Namespace,
    /// Series that are wanted.
    pub filter: Filter,
    /// Unit of the timestamps in line protocol.
    pub precision: Precision,
    /// Time of lines without one.
    pub default_time: Option<i64>,
    /// Nanoseconds of the newest time that are left out of a live source.
    pub lag: i64,
    /// Work done at once.
    pub jobs: usize,
    /// Bytes for data.
    pub memory: usize,
    /// Where data go that do not fit in memory.
    pub spill: Place,
    /// Damage in a server's own files is passed over and counted.
    pub salvage: bool,
    /// Parts of the source's data directory that stand elsewhere.
    pub parts: Parts,
}

impl Common {
    /// Reads the location of the source.
    ///
    /// # Errors
    /// A usage error for what is no location, or does not go with the other arguments.
    pub fn source(&self, text: &str) -> Result<Location> {
        let location = Location::parse(text)?;
        refuse_idle(&location, "--insecure-source", self.insecure_source)?;
        Ok(location)
    }

    /// Reads and checks the arguments.
    ///
    /// # Errors
    /// A usage error for what cannot be read or contradicts itself.
    pub fn settings(&self) -> Result<Settings> {
        let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose();
        let (start, end) = (time(&self.start)?, time(&self.end)?);
        let window =
            Window::new(start.unwrap_or(Window::ALL.start), end.unwrap_or(Window::ALL.end))?;
        Ok(Settings {
            window,
            start_given: start.is_some(),
            end_given: end.is_some(),
            namespace: Namespace {
                database: self.db.clone().unwrap_or_default(),
                retention_policy: self.rp.clone().unwrap_or_default(),
            },
            filter: Filter {
                measurements: self.measurement.clone(),
                excluded: self.exclude.clone(),
                tags: self.tag.iter().map(|tag| parse_tag(tag)).collect::<Result<_>>()?,
            },
            precision: self.precision.parse().map_err(|_ignored| {
                Error::usage(format!(
                    "{:?} is no precision: write ns, us, ms, s, m or h",
                    self.precision
                ))
            })?,
            default_time: time(&self.default_time)?,
            lag: i64::from(self.lag) * 1_000_000_000,
            jobs: usize::from(self.jobs),
            memory: bytes(self.memory),
            spill: Place::new(self.spill.clone()),
            salvage: self.salvage,
            parts: Parts { meta: self.meta_dir.clone(), wal: self.wal_dir.clone() },
        })
    }
}

/// Bytes of so many MiB.
#[must_use]
pub fn bytes(mebibytes: u32) -> usize {
    usize::try_from(u64::from(mebibytes) << 20).unwrap_or(usize::MAX)
}

/// Refuses two locations that are one place.
fn refuse_same(source: &Location, destination: &Location) -> Result<()> {
    if source.same_place(destination) {
        return Err(Error::usage(format!("source and destination are the same: {source}")));
    }
    Ok(())
}

/// Refuses names of reports that tell no form.
fn refuse_unknown_forms(reports: &[PathBuf]) -> Result<()> {
    if let Some(report) = reports.iter().find(|report| Form::of(report).is_none()) {
        return Err(Error::usage(format!(
            "--report {}: the name tells the form; let it end in .html or .json",
            report.display()
        )));
    }
    Ok(())
}

/// Refuses an option about certificates where there are none: something else was meant.
fn refuse_idle(location: &Location, option: &str, given: bool) -> Result<()> {
    if given && !location.is_tls() {
        let reason = format!("{option} is for influxdbs://, and {location} is reached without TLS");
        return Err(Error::usage(reason));
    }
    Ok(())
}

fn parse_tag(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.into(), value.into()))
        }
        _ => Err(Error::usage(format!("{text:?} is no tag: write --tag key=value"))),
    }
}

impl TwoSides {
    /// Reads both locations; they must not be the same.
    ///
    /// # Errors
    /// A usage error.
    pub fn locations(&self) -> Result<(Location, Location)> {
        let source = self.common.source(&self.source)?;
        let destination = Location::parse(&self.destination)?;
        refuse_idle(&destination, "--insecure-destination", self.insecure_destination)?;
        refuse_same(&source, &destination)?;
        if source == Location::Null {
            return Err(Error::usage("null: is no source: it only counts what it is given"));
        }
        if destination == Location::Stdin {
            return Err(Error::usage(
                "- is no destination: use gapless cat to write to standard output",
            ));
        }
        refuse_unknown_forms(&self.report)?;
        Ok((source, destination))
    }
}

impl CopyArgs {
    /// What is done about type conflicts.
    ///
    /// # Errors
    /// A usage error for an unknown policy.
    pub fn policy(&self) -> Result<Policy> {
        self.on_type_conflict.parse()
    }

    /// How much is sent a second, if that is limited.
    ///
    /// # Errors
    /// A usage error for what is no rate.
    pub fn rate(&self) -> Result<Option<Rate>> {
        self.rate.as_deref().map(str::parse).transpose()
    }

    /// The snapshot port through which the destination is read back, if one is named.
    ///
    /// # Errors
    /// A usage error for anything else.
    pub fn read_back(&self) -> Result<Option<Location>> {
        let Some(text) = &self.read_back else { return Ok(None) };
        let Some(place) = text.strip_prefix("snapshot=").filter(|place| !place.contains('/'))
        else {
            return Err(Error::usage(format!("--read-back {text} is not understood"))
                .with_next("write --read-back snapshot=HOST:8088"));
        };
        Location::parse(&format!("influxdb-snapshot://{place}")).map(Some)
    }

    /// The write consistency, if one is asked for.
    ///
    /// # Errors
    /// A usage error for an unknown level.
    pub fn consistency(&self) -> Result<Option<Consistency>> {
        self.consistency.as_deref().map(str::parse).transpose()
    }
}
