//! Where blocks come from: the seam between what is read and what is done with it.
//!
//! A source plans partitions for a scope and opens a reader for each. Every side of a command is a
//! source: a destination is read back through the same code that reads any source.

pub mod archive;
pub mod digest_file;
pub mod influx_http;
pub mod line_file;
pub mod tsm;
pub mod typed;

use crate::block::{Block, Column};
use crate::digest_file::DigestFile;
use crate::error::{ErrorKind, Result};
use crate::plan::{FilterEntry, Held, Namespace, Partition, Scope};
use crate::series::Series;
use crate::types::FieldTypes;
use crate::value::FieldType;
use crate::window::Window;

/// When something was put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// False where it may have been earlier.
    pub exact: bool,
}

impl Made {
    /// It was begun at this time.
    #[must_use]
    pub fn begun(time: i64) -> Self {
        Self { time, exact: true }
    }
}

/// A place from which blocks are read. Shared by worker threads.
pub trait Source: Send + Sync {
    /// What it is, for people, without secrets.
    fn name(&self) -> String;

    /// The namespaces it holds, sorted by name.
    ///
    /// # Errors
    /// Where the place cannot be read or asked.
    fn namespaces(&self) -> Result<Vec<Held>>;

    /// Partitions that together hold every cell of the scope, each cell in exactly one, in time
    /// order, none reaching outside the scope's window. Partitions that hold nothing are allowed,
    /// data outside all of them are not. Series that the scope's filter does not admit may be
    /// read nevertheless: the caller leaves them out.
    ///
    /// # Errors
    /// Where the place cannot be read or asked, or the namespace does not exist.
    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>>;

    /// Opens a partition that [`Source::plan`] named, or one cut from it by a narrower window or a
    /// measurement.
    ///
    /// # Errors
    /// Where the place cannot be read or asked.
    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>>;

    /// Number of cells of a namespace in a window, where the place knows it without reading its
    /// rows. More are counted where the window cuts what is counted together.
    fn cells(&self, _namespace: &Namespace, _window: Window) -> Option<u64> {
        None
    }

    /// The types of the fields of a scope, where the place knows them without reading its rows:
    /// at least those that occur in the scope, each once, sorted. `None` where only reading tells.
    ///
    /// # Errors
    /// Where the place cannot be read or asked, or the namespace does not exist.
    fn field_types(&self, _scope: &Scope) -> Result<Option<FieldTypes>> {
        Ok(None)
    }

    /// The shard groups that a namespace has, in order; `None` where the place has none, or does not
    /// say.
    ///
    /// # Errors
    /// Where the place cannot be asked.
    fn groups(&self, _namespace: &Namespace) -> Result<Option<Vec<Window>>> {
        Ok(None)
    }

    /// The types with which one field of one measurement really occurs in a scope, whose filter
    /// names the measurement.
    ///
    /// # Errors
    /// Where the place cannot be read or asked, or the namespace does not exist.
    fn types_of(&self, scope: &Scope, measurement: &[u8], field: &[u8]) -> Result<Vec<FieldType>> {
        let mut types = Vec::new();
        for_each_block(self, &self.plan(scope)?, |block| {
            let wanted = |series: &Series| series.measurement() == measurement;
            let columns = block.columns().iter().filter(|column| *column.field == *field);
            types.extend(
                columns.filter(|column| column.is_set(block, wanted)).map(Column::field_type),
            );
            Ok(())
        })?;
        types.sort_unstable();
        types.dedup();
        Ok(types)
    }

    /// The times that it can speak of: an archive of one window says nothing of the rest.
    fn coverage(&self) -> Window {
        Window::ALL
    }

    /// The series that it was made of, where it holds some of them only: it says nothing of others.
    fn made_of(&self) -> Option<FilterEntry> {
        None
    }

    /// When the oldest part of what it holds of a namespace in a window was put together: what was written
    /// later is not in it, or not all of it. Empty names stand for all.
    fn made(&self, _wanted: &Namespace, _window: Window) -> Option<Made> {
        None
    }

    /// The stretches of time of a namespace whose files were last written to before a time, nanoseconds
    /// since 1970; `None` where the place has no times of its files.
    ///
    /// # Errors
    /// Where the place cannot be read, or the namespace does not exist.
    fn untouched(&self, _namespace: &Namespace, _since: i64) -> Result<Option<Vec<Window>>> {
        Ok(None)
    }

    /// The digests that it holds in place of rows. A place that holds some opens no partition: those
    /// that it plans are the units that were digested.
    fn digest_file(&self) -> Option<&DigestFile> {
        None
    }

    /// What is there and was not read, one remark a line: what is read is then incomplete.
    fn unread(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is read, and may be meant otherwise, one remark a line.
    fn doubts(&self) -> Vec<String> {
        Vec::new()
    }

    /// True where series and field are told apart by the first `#!~#` of the key of both, which may be
    /// a part of a tag ([`crate::series::holds_separator`]).
    fn cuts_keys(&self) -> bool {
        false
    }

    /// True where series are seen by the raw keys under which they are stored, false where only
    /// what queries show is seen ([`crate::series::Series::shown_by_queries`]).
    fn sees_raw_keys(&self) -> bool;
}

/// Blocks of one partition, last-write-wins resolved, each cell once, one measurement a block.
pub trait Reader {
    /// The next block, or `None` at the end. After an error nothing more is to be read.
    ///
    /// # Errors
    /// Where bytes cannot be read or understood: what was read so far is then incomplete.
    fn next_block(&mut self) -> Result<Option<Block>>;

    /// Takes back a block that is no longer needed: its memory may serve the next.
    fn recycle(&mut self, _block: Block) {}
}

/// The partitions of a scope; none where the namespace does not exist: what two sides are compared
/// for is then a difference, and no error.
///
/// # Errors
/// Where the place cannot be read or asked.
pub fn plan_or_nothing(side: &dyn Source, scope: &Scope) -> Result<Vec<Partition>> {
    match side.plan(scope) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound { .. }) => Ok(Vec::new()),
        outcome => outcome,
    }
}

/// Hands every block of the partitions to `each`, one partition after the other.
///
/// # Errors
/// Where the side cannot be read, or `each` fails.
pub fn for_each_block(
    side: &(impl Source + ?Sized),
    partitions: &[Partition],
    mut each: impl FnMut(&Block) -> Result<()>,
) -> Result<()> {
    for partition in partitions {
        let mut reader = side.open(partition)?;
        while let Some(block) = reader.next_block()? {
            each(&block)?;
            reader.recycle(block);
        }
    }
    Ok(())
}
