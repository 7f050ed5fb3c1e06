//! By what a source file is known again: size, time of change, and checksum of its content, which is
//! taken while it is read.

use crate::archive::MANIFEST;
use crate::error::{Error, Result};
use crate::journal::Identity;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

/// The checksum of a file that is being read.
#[derive(Debug)]
pub(super) struct Fingerprint {
    path: PathBuf,
    modified: i64,
    hasher: Arc<Mutex<blake3::Hasher>>,
}

impl Fingerprint {
    /// Begins with a file that is open.
    pub(super) fn of(path: &Path, file: &File) -> Result<Self> {
        let metadata = file.metadata().map_err(|error| Error::io(path, "look at", error))?;
        let modified = modified(&metadata);
        Ok(Self { path: path.to_owned(), modified, hasher: Arc::default() })
    }

    /// What was read.
    pub(super) fn finish(self) -> Identity {
        let hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        Identity {
            path: absolute(&self.path),
            size: hasher.count(),
            modified: self.modified,
            blake3: hasher.finalize().to_hex().to_string(),
        }
    }
}

/// The same bytes, summed up where there is a fingerprint to be taken.
pub(super) fn hashed<'a>(
    inner: impl Read + Send + 'a,
    fingerprint: Option<&Fingerprint>,
) -> Box<dyn Read + Send + 'a> {
    match fingerprint {
        Some(fingerprint) => Box::new(Hashed { inner, hasher: Arc::clone(&fingerprint.hasher) }),
        None => Box::new(inner),
    }
}

struct Hashed<R> {
    inner: R,
    hasher: Arc<Mutex<blake3::Hasher>>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).update(&into[..length]);
        Ok(length)
    }
}

/// The identity of an archive: that of its manifest, which holds the checksums of the rest.
pub(super) fn of_archive(directory: &Path) -> Result<Identity> {
    let path = directory.join(MANIFEST);
    let mut file = File::open(&path).map_err(|error| Error::io(&path, "open", error))?;
    let fingerprint = Fingerprint::of(&path, &file)?;
    let mut reader = hashed(&mut file, Some(&fingerprint));
    io::copy(&mut reader, &mut io::sink()).map_err(|error| Error::io(&path, "read", error))?;
    drop(reader);
    Ok(fingerprint.finish())
}

/// True where a path looks as it did when it was read, by size and time of change.
#[must_use]
pub fn is_unchanged(path: &Path, before: &Identity) -> bool {
    let path = if path.is_dir() { path.join(MANIFEST) } else { path.to_owned() };
    fs::metadata(&path).is_ok_and(|now| {
        absolute(&path) == before.path
            && now.len() == before.size
            && modified(&now) == before.modified
    })
}

fn modified(metadata: &Metadata) -> i64 {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    modified.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or_default()
}

fn absolute(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_gone| path.to_owned()).display().to_string()
}
