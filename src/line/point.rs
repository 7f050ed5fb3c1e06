//! One line as a point: key, fields and time, and everything a server refuses about it.
//!
//! Faults are found in the server's order, so that its reasons are ours: what its parser says
//! comes first, then what it notices when it stores the point.

use super::fields::{Fields, NOT_UTF8};
use super::guess::Guess;
use super::key::Scan;
use super::{Fault, Precision, number};
use crate::series::Printable;
use crate::window::{TIME_MAX, TIME_MIN};

/// A line that was read, reused from line to line.
#[derive(Debug, Default)]
pub(super) struct Point {
    pub(super) key: Scan,
    pub(super) fields: Fields,
    /// Nanoseconds.
    pub(super) time: i64,
    /// What a server does to the line without saying so.
    pub(super) warning: Option<&'static str>,
}

/// How timestamps are read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// Unit of the timestamps.
    pub(super) precision: Precision,
    /// Time of lines without one, nanoseconds.
    pub(super) default_time: Option<i64>,
}

impl Point {
    /// Reads a line that begins with its measurement and holds no final line feed.
    pub(super) fn read(&mut self, text: &[u8], clock: Clock) -> Result<(), Fault> {
        let key_end = self.key.read(text)?;
        let fields_start = key_end + blank(&text[key_end..]);
        let fields_end = self.fields.read(text, fields_start, self.key.key().len())?;
        self.warning = self.fields.warning;
        if self.key.has_odd_measurement() {
            self.warning = Some(NOT_UTF8);
        }
        self.read_time(text, fields_end, clock)?;
        self.check_storable(text)
    }

    /// Lets `guess` learn from a line that was just read.
    pub(super) fn teach(&self, text: &[u8], guess: &mut Guess) {
        if self.warning.is_some() || self.fields.dropped_time {
            return;
        }
        if let Some(names) = self.fields.names(text) {
            guess.learn(self.key.raw(), self.key.key(), &names);
        }
    }

    fn read_time(&mut self, text: &[u8], at: usize, clock: Clock) -> Result<(), Fault> {
        let start = at + blank(&text[at..]);
        let end = timestamp_end(text, start)?;
        if start == end {
            if start < text.len() {
                self.warning = Some("bytes behind a line feed, which the server ignores");
            }
            self.time = clock.default_time.ok_or_else(|| no_timestamp(start))?;
            return Ok(());
        }
        let time = number::integer(&text[start..end]).map_err(|words| Fault::new(start, words))?;
        self.time = time
            .checked_mul(clock.precision.multiplier())
            .filter(|time| (TIME_MIN..=TIME_MAX).contains(time))
            .ok_or_else(|| outside_range(start))?;
        match text[end..].iter().position(|&byte| byte != b' ') {
            Some(junk) => Err(Fault::new(end + junk, "point is invalid")),
            None => Ok(()),
        }
    }

    /// What a server notices when it stores a point that its parser let pass.
    fn check_storable(&mut self, text: &[u8]) -> Result<(), Fault> {
        if self.key.has_time_tag() {
            let reason = format!(
                "invalid tag key: input tag \"time\" on measurement \"{}\" is invalid",
                Printable(&self.key.measurement())
            );
            return Err(Fault::new(0, reason));
        }
        if !self.fields.any() {
            let reason = format!(
                "invalid field name: input field \"time\" on measurement \"{}\" is invalid",
                Printable(&self.key.measurement())
            );
            return Err(Fault::new(0, reason));
        }
        if self.fields.conflict(text) {
            return Err(Fault::new(0, "field type conflict"));
        }
        if is_unlucky(self.key.tags()) {
            self.warning = Some(UNLUCKY);
        }
        match self.fields.late.take() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}

const UNLUCKY: &str = "a number of tags (100, 200, 400 and so on) at which servers before 1.8.6 \
                       fail with status 500 and store nothing";

/// True for the numbers of tags that fill a server's list of them, which begins with 100 places
/// and is doubled: it then looks one place past the end.
fn is_unlucky(tags: usize) -> bool {
    tags.is_multiple_of(100) && (tags / 100).is_power_of_two()
}

/// Number of bytes at the beginning of `text` that the server takes for white space.
pub(super) fn blank(text: &[u8]) -> usize {
    text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | 0)).unwrap_or(text.len())
}

fn timestamp_end(text: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'0'..=b'9' => {}
            b'-' if at == start => {}
            b' ' | b'\n' => break,
            _ => return Err(Fault::new(at, "bad timestamp")),
        }
        at += 1;
    }
    Ok(at)
}

fn no_timestamp(at: usize) -> Fault {
    let reason = "no timestamp: a server would take its own clock, and each attempt would make \
                  another point; --default-time gives such lines one";
    Fault::new(at, reason)
}

fn outside_range(at: usize) -> Fault {
    Fault::new(at, format!("time outside range {TIME_MIN} - {TIME_MAX}"))
}
