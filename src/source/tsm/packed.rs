//! A shard out of a tar: of a backup, or as the snapshot port hands it over.
//!
//! The index of a TSM file stands at its end: each file is taken whole before anything is read of it,
//! into memory as far as that is allowed, else into a file without a name.

use super::shard::{Shard, StoredFile};
use crate::error::{Error, ErrorKind, Result};
use crate::mapped::Bytes;
use crate::spill;
use crate::tarball::{self, Problem};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes that are copied to a spilled file at a time.
const CHUNK: usize = 1 << 20;

/// Where the files of a tar go.
#[derive(Clone, Debug)]
pub struct Room {
    /// Bytes of memory for the files of one shard.
    pub memory: usize,
    /// The place of what does not fit.
    pub spill: spill::Place,
}

/// A shard and the length of its tar.
#[derive(Debug)]
pub struct Unpacked {
    /// The shard.
    pub shard: Shard,
    /// Bytes of the tar.
    pub bytes: u64,
}

/// Why a shard could not be unpacked.
#[derive(Debug)]
pub enum Failure {
    /// The tar is not whole: asked for again, it may be.
    Tar(Problem),
    /// It cannot be held or understood.
    Other(Error),
}

/// Takes the TSM files and tombstones out of a tar. `from` names it in messages.
///
/// # Errors
/// Where it is not whole, cannot be held, or a file in it is damaged.
pub fn unpack(input: impl Read, from: &Path, room: &Room) -> Result<Unpacked, Failure> {
    let mut files: BTreeMap<String, (Option<Bytes>, Option<Bytes>)> = BTreeMap::new();
    let (mut left, mut failed) = (room.memory, None);
    let read = tarball::read(input, |name, size, body| {
        let Some((stem, tombstone)) = part_of(name) else { return Ok(()) };
        match take(body, size, &mut left, &room.spill) {
            Ok(bytes) => {
                let file = files.entry(stem.to_owned()).or_default();
                *(if tombstone { &mut file.1 } else { &mut file.0 }) = Some(bytes);
                Ok(())
            }
            Err(Failure::Tar(problem)) => Err(problem),
            Err(Failure::Other(error)) => {
                failed = Some(error);
                Err(Problem::Read(io::Error::other("it cannot be held")))
            }
        }
    });
    let bytes = match (read, failed) {
        (_, Some(error)) => return Err(Failure::Other(error)),
        (Err(problem), None) => return Err(Failure::Tar(problem)),
        (Ok(bytes), None) => bytes,
    };
    let mut shard = Shard::default();
    // By name: the order in which they win.
    for (stem, (tsm, tombstone)) in files {
        let path = |extension: &str| PathBuf::from(format!("{}:{stem}{extension}", from.display()));
        let Some(tsm) = tsm else { continue };
        let tombstone = tombstone.map(|bytes| (path(".tombstone"), bytes));
        let file = StoredFile::open(path(".tsm"), tsm, tombstone, None).map_err(Failure::Other)?;
        shard.files.push(file);
    }
    Ok(Unpacked { shard, bytes })
}

/// The name of a TSM file without its extension, and whether this is its tombstone. Other files, an
/// index for one, say nothing that the TSM files do not.
fn part_of(name: &str) -> Option<(&str, bool)> {
    let file = name.rsplit('/').next()?;
    match file.strip_suffix(".tsm") {
        Some(stem) => Some((stem, false)),
        None => file.strip_suffix(".tombstone").map(|stem| (stem, true)),
    }
}

fn take(
    body: &mut dyn Read,
    size: u64,
    left: &mut usize,
    place: &spill::Place,
) -> Result<Bytes, Failure> {
    let tar = |error| Failure::Tar(Problem::Read(error));
    if let Ok(size) = usize::try_from(size)
        && size <= *left
    {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(tar)?;
        *left -= bytes.len();
        return Ok(Bytes::Memory(bytes));
    }
    place.expect_room(size).map_err(Failure::Other)?;
    let mut file = place.file().map_err(Failure::Other)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = body.read(&mut chunk).map_err(tar)?;
        if length == 0 {
            return file.into_bytes().map_err(Failure::Other);
        }
        file.append(&chunk[..length]).map_err(Failure::Other)?;
    }
}

/// The error of a tar on disk that is not whole.
pub(super) fn not_whole(path: &Path, problem: &Problem) -> Error {
    let (offset, reason) = match problem {
        Problem::Cut(offset, what) => (*offset, format!("the tar is cut short: {what}")),
        Problem::Damaged(offset, what) => (*offset, format!("the tar is damaged: {what}")),
        Problem::Read(error) => (0, error.to_string()),
    };
    ErrorKind::Damaged { path: path.to_owned(), offset, reason }.into()
}
