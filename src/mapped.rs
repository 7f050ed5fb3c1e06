//! Bytes of a file that are used as if they were in memory: read, or mapped.

use crate::error::{Error, Result};
use std::fs::File;
use std::path::Path;

/// Bytes that do not change.
#[derive(Debug)]
pub enum Bytes {
    /// In memory.
    Memory(Vec<u8>),
    /// Pages of a file, which the system reads when they are used and may drop again.
    Mapped(memmap2::Mmap),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

impl Bytes {
    /// Maps a file that nobody writes to any more: a server's TSM files are written once, and taken away
    /// as a whole; what is mapped stays until it is let go.
    ///
    /// # Errors
    /// Where it cannot be mapped.
    pub fn map(path: &Path, file: &File) -> Result<Self> {
        let length = file.metadata().map_err(|error| Error::io(path, "look at", error))?.len();
        if length == 0 {
            return Ok(Self::Memory(Vec::new()));
        }
        #[expect(unsafe_code, reason = "mapping is unsafe where somebody may cut the file")]
        // SAFETY: the files mapped here are those that their writers never change: TSM files, which are
        // renamed into place when they are complete, and unnamed files of this process. Somebody who
        // cuts one short meanwhile ends this process with SIGBUS; nothing wrong is read.
        let map = unsafe { memmap2::Mmap::map(file) };
        map.map(Self::Mapped).map_err(|error| Error::io(path, "map", error))
    }
}
