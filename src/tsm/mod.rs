//! InfluxDB 1.x's own files, decoded: TSM files with their tombstones, and the write-ahead log.
//!
//! ```text
//! X.tsm        header, blocks of one field of one series each, index of the blocks   [`index`]
//!              a block: checksum, type, timestamps, values                           [`block`]
//! X.tombstone  what was deleted from X.tsm                                           [`tombstone`]
//! _N.wal       what was written or deleted and is in no TSM file yet                 [`wal`]
//! ```
//!
//! What a log comes to can be written as a TSM file ([`write`](mod@write)).
//!
//! Everything here is a pure function of bytes that the caller read or mapped: no file is opened.
//! Which of several stored values counts is not decided here either: within one shard the values of
//! the TSM file with the greatest name win, each file without what its own tombstones hide; values
//! of the write-ahead log win over those, later ones over earlier ones, and a deletion in the log
//! takes away only what the log has before it.
//!
//! Integers are big-endian, times are nanoseconds, and arithmetic on both wraps. The checksum of
//! each block is verified, every length is compared with what is left, and no count that was read
//! makes an allocation: damage is a [`Damage`] with its offset in the file, to which the caller adds
//! the path.
//!
//! The formats are those of `tsdb/engine/tsm1` in InfluxDB 1.8 (`reader.go`, `writer.go`,
//! `encoding.go`, `tombstone.go`, `wal.go`); they did not change between 1.6 and 1.12.

pub mod block;
mod floats;
pub mod index;
pub(crate) mod input;
mod integers;
mod points;
mod simple8b;
mod snappy;
mod strings;
mod times;
pub mod tombstone;
pub mod wal;
pub mod write;

pub(crate) use floats::END as FLOAT_END;
pub use points::{Points, Strings, Values};

use crate::error::Damage;
use crate::window::Window;
use memchr::memmem;

/// What stands between series key and field key.
const SEPARATOR: &[u8] = b"#!~#";

/// Cuts the key of a TSM file or log into the raw series key and the field key, which is unescaped.
/// `None` where it is no such key.
///
/// The first separator counts, as it does for the server. Nothing escapes it: a tag that holds it is
/// cut there, by the server as well.
#[must_use]
pub fn split_key(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memmem::find(key, SEPARATOR)?;
    Some((&key[..at], &key[at + SEPARATOR.len()..]))
}

/// A span of time, both ends inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First nanosecond.
    pub min: i64,
    /// Last nanosecond.
    pub max: i64,
}

impl Span {
    /// All times there are.
    pub const ALL: Self = Self { min: i64::MIN, max: i64::MAX };

    /// True where `time` is inside.
    #[must_use]
    pub fn contains(self, time: i64) -> bool {
        self.min <= time && time <= self.max
    }

    /// True where all of another is inside.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        self.min <= other.min && other.max <= self.max
    }

    /// True where part of the window is inside.
    #[must_use]
    pub fn meets(self, window: Window) -> bool {
        self.min < window.end && window.start <= self.max && self.min <= self.max
    }
}

#[cfg(test)]
mod tests;
