//! A shard out of a tar: of a backup, or as the snapshot port hands it over.
//!
//! The index of a TSM file stands at its end: each file is taken whole before anything is read of it,
//! into memory as far as that is allowed, else into a file without a name.

use super::remarks::Remarks;
use super::shard::{Shard, StoredFile, advised};
use crate::error::{Error, ErrorKind, Result};
use crate::mapped::Bytes;
use crate::spill;
use crate::tarball::{self, Failure, Problem};
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
    let mut files = Files::new(room);
    let bytes = files.add(input, from, salvage)?;
    let shard = files.shard(salvage).map_err(Failure::Other)?;
    Ok(Unpacked { shard, bytes })
}

/// A file of a tar, with what names it in messages.
type Raw = Option<(PathBuf, Bytes)>;

/// The files of a shard, out of one tar or of several that follow each other, by their stems: a
/// tombstone may stand in another tar than its TSM file.
#[derive(Debug)]
pub(super) struct Files<'a> {
    room: &'a Room,
    /// Bytes of memory that are left.
    left: usize,
    files: BTreeMap<String, (Raw, Raw)>,
}

impl<'a> Files<'a> {
    /// None yet.
    pub(super) fn new(room: &'a Room) -> Self {
        Self { room, left: room.memory, files: BTreeMap::new() }
    }

    /// Takes the files out of a tar, in place of those of the same names that were there. Gives its
    /// length; `None` where it is not whole and that is passed over.
    pub(super) fn add(
        &mut self,
        input: impl Read,
        from: &Path,
        salvage: Option<&Salvage>,
    ) -> Result<Option<u64>, Failure> {
        let torn = salvage.filter(|salvage| salvage.torn);
        // A file that is not whole, or whose tombstone is not, by its stem.
        let (mut cut, mut failed) = (None, None);
        let read = tarball::read(input, |name, size, body| {
            let Some((stem, tombstone)) = part_of(name) else { return Ok(()) };
            match take(body, size, &mut self.left, &self.room.spill) {
                Ok(bytes) if torn.is_some() && bytes.as_ref().len() as u64 != size => {
                    cut = Some(stem.to_owned());
                    Ok(())
                }
                Ok(bytes) => {
                    let file = self.files.entry(stem.to_owned()).or_default();
                    let part = if tombstone { &mut file.1 } else { &mut file.0 };
                    *part = Some((named(from, stem, tombstone), bytes));
                    Ok(())
                }
                Err(Failure::Tar(problem)) => {
                    cut = Some(stem.to_owned());
                    Err(problem)
                }
                Err(Failure::Other(error)) => {
                    failed = Some(error);
                    Err(Problem::Read(0, io::Error::other("it cannot be held")))
                }
            }
        });
        match (read, failed, torn) {
            (_, Some(error), _) => Err(Failure::Other(error)),
            (Ok(bytes), None, _) => Ok(Some(bytes)),
            (Err(problem), None, None) => Err(Failure::Tar(problem)),
            (Err(problem), None, Some(salvage)) => {
                self.pass_over(from, &problem, cut, salvage);
                Ok(None)
            }
        }
    }

    /// Leaves out what a tar that is not whole has a part of.
    fn pass_over(
        &mut self,
        from: &Path,
        problem: &Problem,
        cut: Option<String>,
        salvage: &Salvage,
    ) {
        if let Some(stem) = &cut {
            // Without what was deleted from it, a file would show it again.
            self.files.remove(stem);
        }
        let stem = cut.map_or_else(String::new, |stem| format!("{stem} and "));
        let error = not_whole(from, problem);
        salvage.remarks.leave_out_file(format!("{error}: {stem}all that stood behind is left out"));
    }

    /// Opens them.
    pub(super) fn shard(self, salvage: Option<&Salvage>) -> Result<Shard> {
        let mut shard = Shard::default();
        // By name: the order in which they win.
        for (tsm, tombstone) in self.files.into_values() {
            let remarks = salvage.map(|salvage| Arc::clone(&salvage.remarks));
            match (opened(tsm, tombstone, remarks), salvage) {
                (Ok(file), _) => shard.files.extend(file),
                (Err(error), Some(salvage)) => {
                    salvage.remarks.leave_out_file(format!("{error}: the file is left out"));
                }
                (Err(error), None) => return Err(advised(error)),
            }
        }
        Ok(shard)
    }
}

fn opened(tsm: Raw, tombstone: Raw, remarks: Option<Arc<Remarks>>) -> Result<Option<StoredFile>> {
    match (tsm, tombstone) {
        (Some((path, bytes)), tombstone) => {
            StoredFile::open(path, bytes, tombstone, remarks).map(Some)
        }
        (None, Some((path, _))) => {
            let reason = "what was deleted is here without the TSM file that it was deleted from: a \
                          part of the backup is lost";
            Err(ErrorKind::Damaged { path, offset: 0, reason: reason.into() }.into())
        }
        (None, None) => Ok(None),
    }
}

/// What names a file of a tar.
fn named(from: &Path, stem: &str, tombstone: bool) -> PathBuf {
    let extension = if tombstone { "tombstone" } else { "tsm" };
    PathBuf::from(format!("{}:{stem}.{extension}", from.display()))
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
    let tar = |error| Failure::Tar(Problem::Read(0, error));
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
    let (offset, what) = match problem {
        Problem::Cut(offset, what) => (*offset, format!("the tar is cut short: {what}")),
        Problem::Damaged(offset, what) => (*offset, format!("the tar is damaged: {what}")),
        Problem::Read(offset, error) => (*offset, error.to_string()),
    };
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let reason = if packed { format!("{what} (counted in the tar, decompressed)") } else { what };
    ErrorKind::Damaged { path: path.to_owned(), offset, reason }.into()
}
