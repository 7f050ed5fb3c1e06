//! Where batches go: the seam between encoded rows and the place that stores them.

pub mod archive;
pub mod influx;
pub mod null;
pub mod refusal;
mod restarts;

use crate::digest::node::Node;
use crate::error::Result;
use crate::plan::Namespace;
use crate::types::TypeTable;
use crate::window::Window;

/// One write request: whole rows of line protocol, nanosecond timestamps, each line ended by LF.
#[derive(Debug)]
pub struct Batch {
    /// The namespace, as the destination names it.
    pub namespace: Namespace,
    /// The unit that all rows belong to; inside one shard group of the destination.
    pub window: Window,
    /// The lines.
    pub body: Vec<u8>,
    /// Number of rows. A row is not always one line: strings may hold line feeds.
    pub rows: u64,
    /// Number of cells.
    pub cells: u64,
}

/// A row that the destination refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The row's line, without the final LF.
    pub line: Vec<u8>,
    /// The destination's own words.
    pub reason: String,
}

/// What became of a batch: every row is acknowledged, refused or suspect.
#[derive(Debug, Default)]
pub struct Ack {
    /// Rows that were refused, each alone.
    pub refused: Vec<Refusal>,
    /// Lines of the rows during which the destination died: they are stored or not, and one of them
    /// may be what killed it.
    pub suspects: Vec<u8>,
    /// Requests that were needed.
    pub requests: u64,
    /// Requests that were repeated after a passing failure.
    pub retries: u64,
}

/// How far a place has come since this process knows it: what it acknowledged in an earlier epoch may
/// be gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Grows with each sign of a restart.
    pub number: u64,
    /// By what this run of the place is known in other processes, where it is.
    pub name: Option<String>,
}

/// A place that stores batches. Shared by worker threads.
pub trait Sink: Send + Sync {
    /// Stores a batch and waits for the answer. Writing the same batch again does no harm, so that
    /// a write whose answer is lost is repeated: a place that would keep both has to look which of
    /// the rows it has, here, before it repeats one.
    ///
    /// # Errors
    /// Where the batch could not be stored and no row of it is to blame.
    fn write(&self, batch: Batch) -> Result<Ack>;

    /// Stores rows that are [`Ack::suspects`], in pieces, while nothing else is written. What the
    /// place dies of again is refused.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn write_suspects(&self, batch: Batch) -> Result<Ack> {
        self.write(batch)
    }

    /// Most threads that may write to one unit at once.
    fn writers_max(&self) -> usize {
        usize::MAX
    }

    /// Bytes that a batch should not exceed, by what the place took lately.
    fn batch_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Called after the last batch of a unit, by the thread that wrote it, before it is read back.
    ///
    /// # Errors
    /// Where what was written could not be made readable.
    fn close_unit(&self, namespace: &Namespace, window: Window) -> Result<()>;

    /// Called before more is written to a unit that was closed. True where the place can only store
    /// a unit whole: what it held of it is gone, and everything is to be written again.
    ///
    /// # Errors
    /// Where the unit cannot be opened again.
    fn reopen_unit(&self, _namespace: &Namespace, _window: Window) -> Result<bool> {
        Ok(false)
    }

    /// Called when a unit that was written has been read back: what it then held.
    ///
    /// # Errors
    /// Where that cannot be recorded.
    fn record_unit(
        &self,
        _namespace: &Namespace,
        _window: Window,
        _digest: Node,
        _types: &TypeTable,
    ) -> Result<()> {
        Ok(())
    }

    /// True where it may take a while until what was acknowledged, or written by others, is seen.
    fn lags(&self) -> bool {
        false
    }

    /// The epoch that it is in. A place that keeps what it acknowledged has only one.
    fn epoch(&self) -> Epoch {
        Epoch::default()
    }

    /// What another process needs to go on with a unit that is recorded, if it needs anything.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn stored_unit(
        &self,
        _namespace: &Namespace,
        _window: Window,
    ) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }

    /// Takes a unit over that another process stored, by what [`Sink::stored_unit`] told. False where
    /// it is not there any more.
    ///
    /// # Errors
    /// Where that cannot be found out, or `stored` is not understood.
    fn restore_unit(
        &self,
        _namespace: &Namespace,
        _window: Window,
        _stored: &serde_json::Value,
    ) -> Result<bool> {
        Ok(true)
    }
}
