//! The digest file: what a source held, as digests, to be compared when the source is gone.
//!
//! ```text
//! head       magic "\0gapless digest\n", u32 format version, u8 canon version, three zero bytes
//! frames     kind u32, stored bytes u32, plain bytes u32, checksum u64, then one zstd frame
//!   leaves       64 bytes each: series u128, cells u64, two key lanes u64, two value lanes u64,
//!                minute i32 since 1970, name u32 (from the highest bit: queries hide the series;
//!                files may cut a name elsewhere; two bits level: 0 hour, 1 day, 2 minute; 28 bits
//!                number, 2^28 - 1: not known)
//!   dictionary   entries sorted by (series, key), each once: series u128, length u32, raw key
//!   names        measurements, unescaped, in the order of their numbers: length u32, name
//!   contents     JSON: everything else ([`Contents`]), and where the frames are
//! foot       offset of the contents u64, BLAKE3 of every byte before it (32 bytes)
//! ```
//!
//! All integers little-endian. A frame's checksum is XXH3-64 of its kind, its two lengths and its
//! stored bytes. A *unit* is a namespace and a window that was read as one; its leaves stand in
//! neighbouring frames, sorted by (series, minute, longest first), none of them a part of another.
//! Units of a namespace do not overlap, and no two hold cells of the same hour; a leaf of a day has all
//! of that day in its unit. So places can be compared whichever way the other side is divided.
//!
//! In version 1 all leaves are of an hour, with its number since 1970 in the place of the minute, and the
//! number of the name has 30 bits. It is read as it is, and written no more.
//!
//! Owns the format, its reading and writing. A file is written beside its place and gets its name when
//! it is durable; it is never changed. Reading goes once through all of it: every frame and the whole
//! must match their checksums before anything is used. Memory is bounded on any input: frames hold at
//! most 2 MiB (the contents 64 MiB), and are refused before room is made for them.

mod frame;
mod names;
mod read;
mod write;

pub use self::names::Dictionary;
pub use self::read::{DigestFile, EachLeaf, is_digest_file};
pub use self::write::Writer;

use crate::archive::{Settings, Span};
use crate::digest::node::Node;
use crate::error::{Error, ErrorKind};
use crate::plan::{FilterEntry, Held, Namespace};
use crate::window::{HOUR, Window};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The first bytes of every digest file.
pub const MAGIC: &[u8; 16] = b"\0gapless digest\n";
/// The version of the format that is written.
pub const VERSION: u32 = 2;
/// The first version; all from there on are read.
const VERSION_FIRST: u32 = 1;

/// Number of a measurement whose name is not kept.
const NAME_UNKNOWN: u32 = (1 << LEVEL_AT) - 1;
/// The same in version 1.
const NAME_UNKNOWN_FIRST: u32 = CUT - 1;
/// The lowest of the two bits of the level.
const LEVEL_AT: u32 = 28;
/// Set in the number where queries hide the series.
const HIDDEN: u32 = 1 << 31;
/// Beside a leaf's name: files may cut a name of the series or its fields elsewhere.
const CUT: u32 = 1 << 30;
/// Bytes of a stored leaf.
const LEAF_BYTES: usize = 64;

/// What a digest file says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// What it was made of; several where files were merged.
    pub origins: Vec<Origin>,
    /// Windows in which every namespace of the source was digested: one that is not listed held
    /// nothing. None where only named ones were.
    pub every_namespace: Vec<Span>,
    /// The series that were digested.
    pub filter: FilterEntry,
    /// Series were seen by the raw keys under which they are stored.
    pub raw_keys: bool,
    /// Series and field were told apart by the first `#!~#`, as in a server's files.
    pub cuts_keys: bool,
    /// What lies outside of what was digested, one remark a line.
    pub not_covered: Vec<String>,
    /// What was there and could not be digested, one remark a line: the digest is incomplete.
    pub not_read: Vec<String>,
    /// Entries of the dictionary.
    pub series: u64,
    /// The namespaces, sorted by name.
    pub namespaces: Vec<NamespaceEntry>,
    /// Where the dictionary and the names are; whoever writes the file fills it in.
    pub frames: Frames,
}

/// Where frames are that belong to no unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frames {
    dictionary: Vec<DictionaryFrame>,
    /// Offsets of the frames of measurements' names.
    names: Vec<u64>,
}

/// What a digest was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The source, without secrets.
    pub source: String,
    /// When the reading began, nanoseconds since 1970 by the clock of the machine that read.
    pub made: i64,
    /// Version of gapless.
    pub gapless: String,
}

/// One namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceEntry {
    /// Database name; empty where the source had none.
    pub database: String,
    /// Retention policy name; empty where the source had none.
    pub retention_policy: String,
    /// Settings of the retention policy; `None` where the source did not know them.
    pub settings: Option<Settings>,
    /// The windows in which everything was digested, in order, not touching each other.
    pub coverage: Vec<Span>,
    /// The units that hold something, in order of time.
    pub units: Vec<UnitEntry>,
}

impl NamespaceEntry {
    /// An entry without units.
    #[must_use]
    pub fn new(held: &Held, coverage: Window) -> Self {
        Self {
            database: held.namespace.database.clone(),
            retention_policy: held.namespace.retention_policy.clone(),
            settings: held.settings.clone().map(Settings::from),
            coverage: vec![coverage.into()],
            units: Vec::new(),
        }
    }

    /// Its names.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        let (database, retention_policy) = (self.database.clone(), self.retention_policy.clone());
        Namespace { database, retention_policy }
    }

    /// Its names and settings.
    #[must_use]
    pub fn held(&self) -> Held {
        let settings = self.settings.clone().map(Into::into);
        Held { namespace: self.namespace(), settings }
    }
}

/// One unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitEntry {
    /// First nanosecond inside.
    pub start: i64,
    /// First nanosecond after.
    pub end: i64,
    /// Sum of the leaves.
    pub digest: Node,
    /// Number of leaves.
    pub leaves: u64,
    /// How many of them are of a day.
    #[serde(default)]
    pub days: u64,
    /// Offset of the first frame.
    offset: u64,
    /// Number of frames.
    frames: u64,
}

impl UnitEntry {
    /// The window that was read.
    #[must_use]
    pub fn window(&self) -> Window {
        Window { start: self.start, end: self.end }
    }
}

/// A frame of the dictionary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DictionaryFrame {
    /// Hash of the first series, 32 hexadecimal digits.
    first: String,
    offset: u64,
}

/// The hours that a window meets, as one window: no other may hold cells of them.
#[must_use]
pub fn whole_hours(window: Window) -> Window {
    let start = window.start.div_euclid(HOUR).saturating_mul(HOUR);
    // The last nanosecond inside decides.
    let end = (window.end.saturating_sub(1)).div_euclid(HOUR).saturating_add(1);
    Window { start, end: end.saturating_mul(HOUR) }
}

fn damaged(path: &Path, offset: u64, reason: impl Into<String>) -> Error {
    let (path, reason) = (path.to_owned(), reason.into());
    Error::from(ErrorKind::Damaged { path, offset, reason })
        .with_next("take another copy of the digest file, or make it anew from its source")
}

#[cfg(test)]
mod tests;
