//! One shard of a backup: fetched until its tar is whole, compressed, and named when it is on disk.

use super::Surroundings;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::pipeline::Stage;
use crate::snapshot::{Port, ShardName};
use crate::tarball::{self, Failure, Problem};
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// A shard that is to be fetched.
pub(super) struct Fetch<'a> {
    pub(super) port: &'a Port,
    pub(super) shard: ShardName<'a>,
    /// Where it is to be.
    pub(super) path: &'a Path,
    pub(super) surroundings: Surroundings<'a>,
}

/// A shard that is there.
pub(super) struct Got {
    /// Bytes of its tar.
    pub(super) bytes: u64,
    /// An earlier run had fetched it.
    pub(super) before: bool,
    /// It holds deletes that are not compacted.
    pub(super) tombstones: bool,
}

/// What a tar holds.
struct Held {
    bytes: u64,
    tombstones: bool,
}

impl Held {
    fn got(self, before: bool) -> Got {
        Got { bytes: self.bytes, before, tombstones: self.tombstones }
    }

    /// Reads a tar to its end.
    fn of(tar: impl Read) -> Result<Self, Problem> {
        let mut tombstones = false;
        let bytes = tarball::read(tar, |name, _, _| {
            tombstones |= name.ends_with(".tombstone");
            Ok(())
        })?;
        Ok(Self { bytes, tombstones })
    }
}

impl Fetch<'_> {
    /// Has the shard be there; `None` where the server has it no more.
    pub(super) fn run(&self) -> Result<Option<Got>> {
        if self.path.exists() {
            match whole(self.path)? {
                Ok(held) => return Ok(Some(held.got(true))),
                Err(problem) => self
                    .surroundings
                    .progress
                    .warn(&format!("{}: {problem}: it is fetched again", self.path.display())),
            }
        }
        let advice = "nothing is stored of it, and the same command goes on with what is left";
        let stored = self.port.whole_shard(self.shard, advice, |reply| {
            self.store(reply).inspect_err(|failure| {
                if matches!(failure, Failure::Tar(_)) {
                    self.surroundings.progress.retried(1);
                }
            })
        })?;
        Ok(stored.map(|held| held.got(false)))
    }

    /// Stores a tar under its name.
    fn store(&self, reply: impl Read) -> Result<Held, Failure> {
        let failed = |error| Failure::Other(Error::io(self.path, "write", error));
        let (beside, file) = files::create_beside(self.path).map_err(failed)?;
        let stored = self.pack(reply, file).and_then(|(held, file)| {
            files::put_in_place(&file, &beside, self.path).map_err(failed)?;
            Ok(held)
        });
        if stored.is_err() {
            // The first error is the one that tells; what remains is named `.NAME.N.partial`.
            let _remains = fs::remove_file(&beside);
        }
        stored
    }

    fn pack(&self, reply: impl Read, file: File) -> Result<(Held, File), Failure> {
        let name = self.path.file_stem().map(|name| name.as_encoded_bytes().to_vec());
        // What is in a TSM file is compressed already: more effort makes hardly less of it.
        let packed = GzBuilder::new()
            .filename(name.unwrap_or_default())
            .write(BufWriter::new(file), Compression::fast());
        let mut tee = Tee { reply, packed, surroundings: self.surroundings, failed: None };
        let read = Held::of(&mut tee);
        let Tee { packed, failed, .. } = tee;
        let held = match (read, failed) {
            (_, Some(Stopped::Asked)) => return Err(Failure::Other(ErrorKind::Interrupted.into())),
            (_, Some(Stopped::Full(error))) => {
                return Err(Failure::Other(Error::io(self.path, "write", error)));
            }
            (read, None) => read.map_err(Failure::Tar)?,
        };
        let file = packed.finish().and_then(|buffer| Ok(buffer.into_inner()?));
        let file = file.map_err(|error| Failure::Other(Error::io(self.path, "write", error)))?;
        Ok((held, file))
    }
}

/// The tar in a file of an earlier run, or why it is none.
fn whole(path: &Path) -> Result<Result<Held, Problem>> {
    let file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
    let tar = MultiGzDecoder::new(BufReader::new(file));
    match Held::of(tar) {
        Err(Problem::Read(_, error)) => Err(Error::io(path, "read", error)),
        read => Ok(read),
    }
}

/// Why storing ended before the tar did.
enum Stopped {
    Asked,
    Full(io::Error),
}

/// Stores what is read.
struct Tee<'a, R> {
    reply: R,
    packed: GzEncoder<BufWriter<File>>,
    surroundings: Surroundings<'a>,
    failed: Option<Stopped>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.surroundings.stop.is_requested() {
            self.failed = Some(Stopped::Asked);
            return Err(io::Error::other("an end was asked for"));
        }
        let length = self.reply.read(buffer)?;
        if let Err(error) = self.packed.write_all(&buffer[..length]) {
            self.failed = Some(Stopped::Full(error));
            return Err(io::Error::other("it cannot be stored"));
        }
        self.surroundings.progress.done(Stage::Read, 0, length as u64);
        Ok(length)
    }
}
