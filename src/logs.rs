//! The log: what happens, one event a line, as text or JSON, to a file or standard error.
//!
//! Owns where events go. They are stated with `tracing` where they happen: each change of state
//! with its reason, warnings, errors and the end at `info` and above; what is counted and each
//! exchange with a server at `debug`. Without `--log` nothing listens, and an event costs one look
//! at a number.
//!
//! Invariants: an event holds no password, no header, and neither parameter nor body of a request;
//! what comes from outside (names, a server's words) is a quoted value and never the line itself.
//! Events of other crates are left out, which promise none of this. A log that cannot be written is
//! said once and stops no data.

use crate::error::{Error, Result};
use crate::files;
use crate::progress;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Why a command failed
    Error,
    /// Warnings, too
    Warn,
    /// Each change of state and the end, too
    #[default]
    Info,
    /// Counts and each exchange with a server, too
    Debug,
    /// Everything
    Trace,
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Where events go, and which.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A file that is added to, or `-` for standard error; nothing is logged without one.
    pub file: Option<PathBuf>,
    /// How much.
    pub level: Level,
    /// How they are written.
    pub format: Format,
}

/// Sends events of this process where the options say, from now on. Once a process.
///
/// # Errors
/// Where the file cannot be opened, or events go somewhere already.
pub fn start(options: &Options) -> Result<()> {
    let Some(path) = &options.file else { return Ok(()) };
    let output = Mutex::new(Output::open(path)?);
    let filter = Targets::new().with_target("gapless", LevelFilter::from(options.level));
    let layer = fmt::layer().with_ansi(false).with_target(false).with_writer(output);
    let events = tracing_subscriber::registry().with(filter);
    let set = match options.format {
        Format::Text => tracing::subscriber::set_global_default(events.with(layer)),
        Format::Json => tracing::subscriber::set_global_default(
            events.with(layer.json().flatten_event(true).with_current_span(false)),
        ),
    };
    set.map_err(|error| Error::usage(format!("--log: {error}")))
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Where lines go. Each comes in one piece.
enum Output {
    Stderr,
    File(PathBuf, File),
    /// It could not be written; nothing is tried any more.
    Broken,
}

impl Output {
    fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stderr);
        }
        let file = files::open_to_append(path).map_err(|error| {
            Error::io(path, "open the log", error)
                .with_next("name a new or a regular file with --log FILE, or --log -")
        })?;
        Ok(Self::File(path.to_owned(), file))
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = match self {
            Self::Stderr => io::stderr().lock().write_all(line),
            Self::File(_, file) => file.write_all(line),
            Self::Broken => Ok(()),
        };
        if let Err(error) = written
            && let Self::File(path, _) = std::mem::replace(self, Self::Broken)
        {
            let path = path.display();
            progress::print(&format!("warning: {path}: the log ends here: write failed: {error}"));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
