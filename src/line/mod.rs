//! Line protocol, exactly as an InfluxDB 1.x server reads it.
//!
//! What a server would do with a line is the law here, odd corners included: a line is a
//! [`decode::Row`] if and only if a server would store it, and then with the key, fields and time
//! that it would store. A reader that is stricter or kinder would prove the wrong thing.
//!
//! ```text
//! bytes ─ split ─> items ─ key, fields, number ─> point ─ decode ─> Row, Comment or Bad
//! bytes ─ guess, form ─> Row: the ordinary line, in one walk
//! Row ─ places ─> row log, by the numbers that both know a key and its fields by
//! Block ─ encode ─> lines, each checked to be read back as what was written
//! ```
//!
//! The semantics follow `models/points.go` and `pkg/escape` of InfluxDB 1.x. Two of them explain
//! much of the code: in keys a byte is escaped if the *single* byte before it is a backslash, and
//! fields are read twice by two scanners that do not always agree.

mod decimal;
pub mod decode;
pub mod encode;
mod escape;
mod fields;
mod form;
mod guess;
pub mod key;
mod names;
mod number;
pub mod places;
mod point;
mod split;

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::str::FromStr;

/// Most bytes of a raw series key, `#!~#` and a raw field key together.
pub const KEY_BYTES_MAX: usize = 65_535;

/// Length of the separator between series key and field key in a server's files.
const SEPARATOR_BYTES: usize = 4;

/// Unit of the timestamps in a line file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The default of every server and of `influx_inspect export`.
    #[default]
    Nanoseconds,
    /// Thousands of nanoseconds.
    Microseconds,
    /// Millions of nanoseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

impl Precision {
    /// Nanoseconds in one unit.
    #[must_use]
    pub fn multiplier(self) -> i64 {
        match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Minutes => 60_000_000_000,
            Self::Hours => 3_600_000_000_000,
        }
    }
}

/// True where a text and the line feed behind it are one item of a text, whatever follows: no quote
/// or backslash in it takes in the next line.
#[must_use]
pub fn ends_with_its_line(text: &[u8]) -> bool {
    let line = [text, b"\n#"].concat();
    split::Splitter::default().end(&line, false) == Some(text.len())
}

impl FromStr for Precision {
    type Err = Error;

    /// Reads the names that servers of any version use.
    ///
    /// # Errors
    /// A usage error for any other name: a server would silently take it for nanoseconds.
    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "n" | "ns" => Self::Nanoseconds,
            "u" | "us" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => {
                return Err(Error::usage(format!("unknown precision {name:?}"))
                    .with_next("use n, u, ms, s, m or h"));
            }
        })
    }
}

/// Why a line is no point, and where that was noticed.
#[derive(Debug)]
struct Fault {
    /// Offset of the byte, counted from where the caller's text begins.
    at: usize,
    /// The server's own words where it has them.
    reason: Cow<'static, str>,
}

impl Fault {
    fn new(at: usize, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { at, reason: reason.into() }
    }

    fn key_too_long(at: usize, bytes: usize) -> Self {
        let reason = format!("max key length exceeded: {bytes} > {KEY_BYTES_MAX}");
        Self::new(at, reason)
    }
}
