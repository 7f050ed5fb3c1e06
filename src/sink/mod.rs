//! Where batches go: the seam between encoded rows and the place that stores them.

pub mod influx;
pub mod refusal;

use crate::error::Result;
use crate::plan::Namespace;
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

/// What became of a batch: every row is acknowledged or refused.
#[derive(Debug, Default)]
pub struct Ack {
    /// Rows that were refused, each alone.
    pub refused: Vec<Refusal>,
    /// Requests that were needed.
    pub requests: u64,
    /// Requests that were repeated after a passing failure.
    pub retries: u64,
}

/// A place that stores batches. Shared by worker threads.
pub trait Sink: Send + Sync {
    /// Stores a batch and waits for the answer. Writing the same batch again does no harm.
    ///
    /// # Errors
    /// Where the batch could not be stored and no row of it is to blame.
    fn write(&self, batch: Batch) -> Result<Ack>;

    /// Called after the last batch of a unit, by the thread that wrote it, before it is read back.
    ///
    /// # Errors
    /// Where what was written could not be made readable.
    fn close_unit(&self, namespace: &Namespace, window: Window) -> Result<()>;
}
