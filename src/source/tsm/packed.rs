//! A shard out of a tar: of a backup, or as the snapshot port hands it over.
//!
//! The index of a TSM file stands at its end: each file is taken whole before anything is read of it,
//! into memory as far as that is allowed, else into a file without a name.

use super::remarks::Remarks;
use super::shard::{Shard, StoredFile, advised};
use crate::error::{Error, ErrorKind, Result};
use crate::mapped::Bytes;
use crate::spill;
use crate::tarball::{self, Problem};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Bytes of the tar; `None` where it is not whole.
    pub bytes: Option<u64>,
}

/// What is done about damage, in place of an error.
#[derive(Clone, Debug, Default)]
pub(super) struct Salvage {
    /// Where that is said which is left out.
    pub(super) remarks: Arc<Remarks>,
    /// A tar that is not whole gives the files that are; else it is an error.
    pub(super) torn: bool,
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
    salvage(input, from, room, None)
}

/// As [`unpack`]; damage is passed over and named where that is wanted.
pub(super) fn salvage(
    input: impl Read,
    from: &Path,
    room: &Room,
    salvage: Option<&Salvage>,
) -> Result<Unpacked, Failure> {
    let remark = |text: String| salvage.map(|salvage| salvage.remarks.add(text)).is_some();
    let torn = salvage.filter(|salvage| salvage.torn);
    // A file that is not whole, or whose tombstone is not, by its stem.
    let mut cut = None;
    let mut files: BTreeMap<String, (Option<Bytes>, Option<Bytes>)> = BTreeMap::new();
    let (mut left, mut failed) = (room.memory, None);
    let read = tarball::read(input, |name, size, body| {
        let Some((stem, tombstone)) = part_of(name) else { return Ok(()) };
        match take(body, size, &mut left, &room.spill) {
            Ok(bytes) if torn.is_some() && bytes.as_ref().len() as u64 != size => {
                cut = Some(stem.to_owned());
                Ok(())
            }
            Ok(bytes) => {
                let file = files.entry(stem.to_owned()).or_default();
                *(if tombstone { &mut file.1 } else { &mut file.0 }) = Some(bytes);
                Ok(())
            }
            Err(Failure::Tar(problem)) => {
                cut = Some(stem.to_owned());
                Err(problem)
            }
            Err(Failure::Other(error)) => {
                failed = Some(error);
                Err(Problem::Read(io::Error::other("it cannot be held")))
            }
        }
    });
    let bytes = match (read, failed) {
        (_, Some(error)) => return Err(Failure::Other(error)),
        (Err(problem), None) if torn.is_some() => {
            if let Some(stem) = &cut {
                // Without what was deleted from it, a file would show it again.
                files.remove(stem);
            }
            let stem = cut.map_or_else(String::new, |stem| format!("{stem} and "));
            let error = not_whole(from, &problem);
            remark(format!("{error}: {stem}all that stood behind is left out"));
            None
        }
        (Err(problem), None) => return Err(Failure::Tar(problem)),
        (Ok(bytes), None) => Some(bytes),
    };
    let mut shard = Shard::default();
    // By name: the order in which they win.
    for (stem, (tsm, tombstone)) in files {
        let path = |extension: &str| PathBuf::from(format!("{}:{stem}{extension}", from.display()));
        let Some(tsm) = tsm else { continue };
        let tombstone = tombstone.map(|bytes| (path(".tombstone"), bytes));
        let remarks = salvage.map(|salvage| Arc::clone(&salvage.remarks));
        match StoredFile::open(path(".tsm"), tsm, tombstone, remarks) {
            Ok(file) => shard.files.push(file),
            Err(error) if remark(format!("{error}: the file is left out")) => {}
            Err(error) => return Err(Failure::Other(advised(error))),
        }
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
