//! Files for what does not fit in memory: where they are, and how much room there is.
//!
//! A spilled file has no name in its directory from the moment it is made, so that nothing is left
//! behind however the command ends, and nobody else can open it. It is written once, then read at
//! any offset by several threads. Its content is checked when it is read.

pub mod merge;
pub mod rows;

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::mapped::Bytes;
use std::env;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The directory for files that may be larger than memory, where `/tmp` often is memory.
const LARGE: &str = "/var/tmp";
/// What the operator can do about a spilled file that cannot be written or read.
const ELSEWHERE: &str = "nothing was sent: free some space, or name another place with --spill DIR";

/// A directory in which files are spilled.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
}

impl Place {
    /// A place in `directory`, or where the system wants large temporary files: `$TMPDIR`, else
    /// `/var/tmp`, else the system's own choice.
    #[must_use]
    pub fn new(directory: Option<PathBuf>) -> Self {
        let named = || env::var_os("TMPDIR").filter(|value| !value.is_empty()).map(PathBuf::from);
        let large = || Some(PathBuf::from(LARGE)).filter(|path| path.is_dir());
        let directory = directory.or_else(named).or_else(large).unwrap_or_else(env::temp_dir);
        Self { directory }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a file.
    ///
    /// # Errors
    /// Where the directory cannot be written to.
    pub fn file(&self) -> Result<SpillFile> {
        let file = files::create_unnamed(&self.directory)
            .map_err(|error| self.failed("make a file in", error))?;
        Ok(SpillFile { file, place: self.clone(), length: 0 })
    }

    /// Bytes that can be written here, where the system tells.
    fn free(&self) -> Option<u64> {
        #[cfg(unix)]
        {
            let room = rustix::fs::statvfs(&self.directory).ok()?;
            room.f_bavail.checked_mul(room.f_frsize)
        }
        #[cfg(not(unix))]
        None
    }

    /// Makes sure that `bytes` more can be written, as far as can be told beforehand.
    ///
    /// # Errors
    /// Where there is less room.
    pub fn expect_room(&self, bytes: u64) -> Result<()> {
        match self.free() {
            Some(free) if free < bytes => Err(Error::from(ErrorKind::Limit {
                what: format!(
                    "the data that do not fit in memory need about {} MiB more in {}, which",
                    mebibytes(bytes),
                    self.directory.display()
                ),
                max: format!("its {} MiB of free space", mebibytes(free)),
            })
            .with_next(ELSEWHERE)),
            _ => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, error: io::Error) -> Error {
        Error::io(&self.directory, action, error).with_next(ELSEWHERE)
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// A file that ends with the command.
#[derive(Debug)]
pub struct SpillFile {
    file: File,
    place: Place,
    length: u64,
}

impl SpillFile {
    /// Bytes written.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What was written, as if it were in memory.
    ///
    /// # Errors
    /// Where it cannot be mapped.
    pub fn into_bytes(self) -> Result<Bytes> {
        Bytes::map(&self.place.directory, &self.file)
    }

    /// Writes behind what is there; returns the offset of the first byte.
    ///
    /// # Errors
    /// Where it cannot be written in full.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let offset = self.length;
        write_all_at(&self.file, bytes, offset)
            .map_err(|error| self.place.failed("spill to", error))?;
        self.length += bytes.len() as u64;
        Ok(offset)
    }

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// Where there are not as many bytes, or they cannot be read.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        read_exact_at(&self.file, into, offset)
            .map_err(|error| self.place.failed("read what was spilled to", error))
    }

    /// The error of bytes that are not what was written.
    #[must_use]
    pub fn damaged(&self, offset: u64) -> Error {
        let path = self.place.directory.join("(a spilled file)");
        let reason = "what was spilled is not what was written: the disk or its driver is at fault";
        Error::from(ErrorKind::Damaged { path, offset, reason: reason.into() })
            .with_next("name another place with --spill DIR")
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, offset)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    // Two threads that seek in one file would disturb each other.
    let _one_at_a_time = SEEK.lock();
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(into)
}

#[cfg(not(unix))]
fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let _one_at_a_time = SEEK.lock();
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(not(unix))]
static SEEK: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spilled_file_has_no_name_and_holds_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = Place::new(Some(dir.path().into())).file().unwrap();
        assert_eq!((file.append(b"abc").unwrap(), file.append(b"de").unwrap()), (0, 3));
        let mut bytes = [0; 3];
        file.read(2, &mut bytes).unwrap();
        assert_eq!(&bytes, b"cde");
        assert!(file.read(3, &mut bytes).is_err(), "beyond the end");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_is_none_or_is_full_is_named() {
        let missing = Place::new(Some("/nowhere/at/all".into()));
        let error = missing.file().unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
        assert!(error.next_step().unwrap().contains("--spill"), "{error:?}");
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(Some(dir.path().into()));
        place.expect_room(0).unwrap();
        if cfg!(unix) {
            let error = place.expect_room(u64::MAX).unwrap_err().to_string();
            assert!(error.contains("free space"), "{error}");
        }
    }
}
