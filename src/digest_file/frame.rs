//! Frames: compressed pieces of a digest file, each with its lengths and its checksum.

use super::damaged;
use crate::error::{Error, ErrorKind, Result};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3Default;

/// Bytes before a frame's stored bytes.
pub(super) const HEADER: usize = 20;
/// Plain bytes at which a frame is closed: it holds one entry more at most.
pub(super) const FULL: usize = 1 << 20;
/// Most plain bytes of a frame.
const PLAIN_MAX: usize = 2 << 20;
/// Most plain bytes of the contents.
const CONTENTS_MAX: usize = 64 << 20;
/// Sums are random and compress at no level; names compress at any.
const LEVEL: i32 = 3;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaves,
    Dictionary,
    Names,
    Contents,
}

impl Kind {
    fn code(self) -> u32 {
        match self {
            Self::Leaves => 1,
            Self::Dictionary => 2,
            Self::Names => 3,
            Self::Contents => 4,
        }
    }

    fn of(code: u32) -> Option<Self> {
        [Self::Leaves, Self::Dictionary, Self::Names, Self::Contents]
            .into_iter()
            .find(|kind| kind.code() == code)
    }

    fn plain_max(self) -> usize {
        if self == Self::Contents { CONTENTS_MAX } else { PLAIN_MAX }
    }
}

/// What stands before a frame's stored bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) stored: usize,
    plain: usize,
    checksum: u64,
}

impl Header {
    /// Reads it, and refuses lengths that no writer makes.
    pub(super) fn parse(path: &Path, offset: u64, bytes: &[u8; HEADER]) -> Result<Self> {
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|step| bytes[at + step]));
        let kind = Kind::of(word(0))
            .ok_or_else(|| damaged(path, offset, "no frame of a digest file begins here"))?;
        let length = |at| usize::try_from(word(at)).unwrap_or(usize::MAX);
        let (stored, plain) = (length(4), length(8));
        if plain > kind.plain_max() || stored > zstd::zstd_safe::compress_bound(kind.plain_max()) {
            return Err(damaged(path, offset, "a frame is longer than any that is written"));
        }
        let checksum = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|step| bytes[12 + step]));
        Ok(Self { kind, stored, plain, checksum })
    }

    /// Compares what was stored with its checksum.
    pub(super) fn check(&self, path: &Path, offset: u64, stored: &[u8]) -> Result<()> {
        if checksum(self.kind, self.plain, stored) == self.checksum {
            return Ok(());
        }
        Err(damaged(path, offset, "a frame does not match its checksum: it was damaged"))
    }

    /// The plain bytes of what was stored, which was checked.
    pub(super) fn plain(&self, path: &Path, offset: u64, stored: &[u8]) -> Result<Vec<u8>> {
        let unreadable = || damaged(path, offset, "a frame cannot be decompressed");
        let plain = zstd::bulk::decompress(stored, self.plain).map_err(|_cause| unreadable())?;
        if plain.len() == self.plain { Ok(plain) } else { Err(unreadable()) }
    }
}

fn checksum(kind: Kind, plain: usize, stored: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&kind.code().to_le_bytes());
    for length in [stored.len(), plain] {
        hasher.update(&(length as u64).to_le_bytes());
    }
    hasher.update(stored);
    hasher.digest()
}

/// A frame of these bytes.
pub(super) fn seal(kind: Kind, plain: &[u8]) -> Result<Vec<u8>> {
    if plain.len() > kind.plain_max() {
        let what = "what a digest file says of its units".into();
        let max = format!("{CONTENTS_MAX} bytes: digest fewer databases, or a shorter window");
        return Err(ErrorKind::Limit { what, max }.into());
    }
    let failed = |error| ErrorKind::Data(format!("a digest cannot be compressed: {error}"));
    let stored = zstd::bulk::compress(plain, LEVEL).map_err(failed)?;
    let mut frame = Vec::with_capacity(HEADER + stored.len());
    frame.extend_from_slice(&kind.code().to_le_bytes());
    for length in [stored.len(), plain.len()] {
        let length = u32::try_from(length)
            .map_err(|_long| Error::from(ErrorKind::Data("a frame is too long".into())))?;
        frame.extend_from_slice(&length.to_le_bytes());
    }
    frame.extend_from_slice(&checksum(kind, plain.len(), &stored).to_le_bytes());
    frame.extend_from_slice(&stored);
    Ok(frame)
}
