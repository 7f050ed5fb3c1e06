//! What is stored of one shard: TSM files with what was deleted from them, and what the
//! write-ahead log adds.
//!
//! Which value of a cell counts is the order of [`Shard::files`], ascending: the later file wins, and
//! the log wins over all of them (`crate::tsm`).

use super::log::Log;
use super::remarks::Remarks;
use super::spilled::Later;
use crate::error::{Damage, Error, Result};
use crate::mapped::Bytes;
use crate::tsm::index::{Entry, Tsm};
use crate::tsm::tombstone::Tombstones;
use crate::tsm::{Points, Span};
use std::path::PathBuf;
use std::sync::Arc;

/// What is wrong with a key that no server writes.
pub(super) const NO_FIELD: &str = "a key names no field: it has no `#!~#`";

/// A TSM file without what was deleted from it.
#[derive(Debug)]
pub struct StoredFile {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// Its content.
    pub tsm: Tsm<Bytes>,
    /// What was deleted from it.
    pub tombstones: Tombstones,
    /// What a log deleted from it, where it is a part of the log that went to disk.
    pub(super) deleted: Option<Later>,
    /// Blocks that are damaged are passed over and named here; without it they are an error.
    pub(super) salvage: Option<Arc<Remarks>>,
}

/// The files of a shard.
#[derive(Debug, Default)]
pub struct Shard {
    /// The TSM files, the one that wins last; behind them those of a log that does not fit in memory.
    pub files: Vec<StoredFile>,
    /// What is in no TSM file yet.
    pub log: Log,
}

impl StoredFile {
    /// Opens a TSM file with the tombstones that stand beside it.
    ///
    /// # Errors
    /// Where either is damaged.
    pub(super) fn open(
        path: PathBuf,
        bytes: Bytes,
        tombstones: Option<(PathBuf, Bytes)>,
        salvage: Option<Arc<Remarks>>,
    ) -> Result<Self> {
        let tsm = Tsm::open(bytes).map_err(|damage| damage.in_file(&path))?;
        if let Some(offset) = tsm.fieldless() {
            return Err(Damage::new(offset, NO_FIELD).in_file(&path));
        }
        let tombstones = match tombstones {
            Some((path, bytes)) => {
                Tombstones::collect(bytes.as_ref()).map_err(|damage| damage.in_file(path))?
            }
            None => Tombstones::default(),
        };
        Ok(Self { path, tsm, tombstones, deleted: None, salvage })
    }

    /// Opens what a TSM file and its tombstones hold, both in memory. With `salvage`, damaged blocks are
    /// passed over.
    ///
    /// # Errors
    /// Where either is damaged.
    pub fn of_bytes(
        path: PathBuf,
        tsm: Vec<u8>,
        tombstones: Option<Vec<u8>>,
        salvage: bool,
    ) -> Result<Self> {
        let beside =
            tombstones.map(|bytes| (path.with_extension("tombstone"), Bytes::Memory(bytes)));
        Self::open(path, Bytes::Memory(tsm), beside, salvage.then(Arc::default))
    }

    /// The name of the file, by which it wins over others or not.
    #[must_use]
    pub fn name(&self) -> &str {
        let path = self.path.to_str().unwrap_or_default();
        path.rsplit(['/', ':']).next().unwrap_or_default()
    }

    /// What was deleted of a key; spans may overlap.
    ///
    /// # Errors
    /// Where what went to disk of a log cannot be read.
    pub(super) fn hidden(&self, key: &[u8]) -> Result<Vec<Span>> {
        let mut hidden: Vec<Span> = self.tombstones.of(key).collect();
        if let Some(later) = &self.deleted {
            later.of(key, &mut hidden).map_err(|damage| self.damaged(damage))?;
        }
        Ok(hidden)
    }

    /// Appends the points of a block of a key, or passes over it where that is wanted.
    pub(super) fn append(&self, key: &[u8], entry: Entry, points: &mut Points) -> Result<()> {
        match (self.tsm.append(entry, points), &self.salvage) {
            (Ok(()), _) => Ok(()),
            (Err(damage), Some(remarks)) => {
                let text = format!("{}: a block is left out", self.damaged(damage));
                remarks.leave_out_block(text, key, entry);
                Ok(())
            }
            (Err(damage), None) => Err(advised(self.damaged(damage))),
        }
    }

    /// The error of a block or key that is damaged.
    #[must_use]
    pub fn damaged(&self, damage: Damage) -> Error {
        damage.in_file(&self.path)
    }
}

/// Damage with what can be done about it.
pub(super) fn advised(error: Error) -> Error {
    error.with_next("--salvage reads all that can be proven, and counts what is left out")
}
