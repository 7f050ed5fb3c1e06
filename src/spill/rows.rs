//! A run: blocks in a spilled file, sorted by namespace, bucket of time, measurement, series, time.
//!
//! ```text
//! file     chunk*                             each one zstd frame of about 128 KiB of entries
//! entry    length u32, namespace u32, bucket i64, first time i64, last time i64,
//!          length of the measurement's raw name u32, name, block
//! ```
//!
//! What is kept in memory is the first entry's place and the checksum of each chunk.

use super::{Place, SpillFile};
use crate::block::Block;
use crate::block::Limits;
use crate::block::stored::{self, Damaged};
use crate::error::{Error, Result};
use crate::series::Series;
use crate::window::Window;
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of entries that make a chunk; the last entry may reach beyond.
const CHUNK_BYTES: usize = 128 << 10;
/// What costs little time: the data are written once and read a few times.
const LEVEL: i32 = 1;
/// Limits of the blocks in a run: a merge holds one of each run.
pub const BLOCK: Limits = Limits { rows_max: 8_192, bytes_max: 128 << 10 };
/// Bytes of an entry besides the name and the block.
const HEAD: usize = 36;

/// Where a block belongs, and by what entries are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Number of the namespace.
    pub namespace: u32,
    /// Bucket of time: any number that grows with it.
    pub bucket: i64,
    /// Raw name of the measurement.
    pub measurement: Box<[u8]>,
}

/// A run being written.
#[derive(Debug)]
pub struct RunWriter {
    file: SpillFile,
    chunk: Vec<u8>,
    first: Option<Group>,
    index: Vec<Chunk>,
    largest: usize,
    cells: BTreeMap<u32, u64>,
}

/// What is known of a chunk in memory.
#[derive(Debug)]
pub(super) struct Chunk {
    first: Group,
    offset: u64,
    stored: usize,
    plain: usize,
    checksum: u64,
}

impl RunWriter {
    /// Begins a run.
    ///
    /// # Errors
    /// Where its file cannot be made.
    pub fn new(place: &Place) -> Result<Self> {
        let (file, index) = (place.file()?, Vec::new());
        let (chunk, cells) = (Vec::new(), BTreeMap::new());
        Ok(Self { file, chunk, first: None, index, largest: 0, cells })
    }

    /// Appends a block, which must not belong before the one appended last.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn push(&mut self, group: &Group, block: &Block) -> Result<()> {
        let Some(first_time) = block.times().iter().min() else { return Ok(()) };
        let last_time = block.times().iter().max().unwrap_or(first_time);
        let start = self.chunk.len();
        self.first.get_or_insert_with(|| group.clone());
        let chunk = &mut self.chunk;
        chunk.extend_from_slice(&[0; 4]);
        chunk.extend_from_slice(&group.namespace.to_le_bytes());
        for word in [group.bucket, *first_time, *last_time] {
            chunk.extend_from_slice(&word.to_le_bytes());
        }
        chunk.extend_from_slice(&length_bytes(group.measurement.len()));
        chunk.extend_from_slice(&group.measurement);
        stored::encode(block, chunk);
        let length = chunk.len() - start;
        chunk[start..start + 4].copy_from_slice(&length_bytes(length));
        self.largest = self.largest.max(length);
        *self.cells.entry(group.namespace).or_default() += block.cells();
        if chunk.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        let bytes = zstd::bulk::compress(&self.chunk, LEVEL)
            .map_err(|error| Error::io("spilled data", "compress", error))?;
        let chunk = Chunk {
            first,
            offset: self.file.append(&bytes)?,
            stored: bytes.len(),
            plain: self.chunk.len(),
            checksum: xxh3_64(&bytes),
        };
        self.index.push(chunk);
        self.chunk.clear();
        // One long entry must not keep its memory for the rest of the run.
        self.chunk.shrink_to(2 * CHUNK_BYTES);
        Ok(())
    }

    /// Ends the run.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn finish(mut self) -> Result<Run> {
        self.flush()?;
        let Self { file, index, largest, cells, .. } = self;
        Ok(Run { file, index, largest, cells })
    }
}

fn length_bytes(length: usize) -> [u8; 4] {
    // Far above every limit of an entry; a wrong length would be noticed as damage.
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// A run that can be read. Shared by threads.
#[derive(Debug)]
pub struct Run {
    file: SpillFile,
    pub(super) index: Vec<Chunk>,
    largest: usize,
    cells: BTreeMap<u32, u64>,
}

impl Run {
    /// Number of cells of a namespace.
    #[must_use]
    pub fn cells(&self, namespace: u32) -> u64 {
        self.cells.get(&namespace).copied().unwrap_or_default()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.file.length()
    }

    /// Bytes that reading it in order takes in memory, about: a chunk, and an entry decoded.
    #[must_use]
    pub fn memory(&self) -> usize {
        2 * (CHUNK_BYTES + 2 * self.largest)
    }

    /// The entries in order, beginning with the first one that does not belong before `from`.
    #[must_use]
    pub fn entries(&self, from: &Group) -> Entries<'_> {
        // A group may go on from the chunk before.
        let chunk = self.index.partition_point(|chunk| chunk.first < *from).saturating_sub(1);
        Entries { run: self, chunk, from: from.clone(), plain: Vec::new(), at: 0 }
    }
}

/// Goes through the entries of a run.
#[derive(Debug)]
pub struct Entries<'a> {
    run: &'a Run,
    /// Chunk to be read next.
    chunk: usize,
    from: Group,
    plain: Vec<u8>,
    at: usize,
}

/// One entry.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Where it belongs.
    pub group: Group,
    /// From its first time to its last.
    pub times: Window,
    block: &'a [u8],
    run: &'a Run,
}

impl Entry<'_> {
    /// Decodes the block. `series` makes a series of its raw key.
    ///
    /// # Errors
    /// Where the stored bytes are damaged.
    pub fn block(&self, series: impl FnMut(&[u8]) -> Arc<Series>) -> Result<Block> {
        stored::decode(self.block, series).map_err(|_damaged| self.run.file.damaged(0))
    }
}

impl Entries<'_> {
    /// The next entry, or nothing at the end.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>> {
        loop {
            if self.at == self.plain.len() && !self.read_chunk()? {
                return Ok(None);
            }
            let start = self.at;
            let (group, times, length, head) =
                head(&self.plain[start..]).map_err(|_damaged| self.run.file.damaged(0))?;
            self.at = start + length;
            if group >= self.from {
                let block = &self.plain[start + head..start + length];
                return Ok(Some(Entry { group, times, block, run: self.run }));
            }
        }
    }

    fn read_chunk(&mut self) -> Result<bool> {
        let Some(chunk) = self.run.index.get(self.chunk) else { return Ok(false) };
        self.chunk += 1;
        let mut stored = vec![0; chunk.stored];
        self.run.file.read(chunk.offset, &mut stored)?;
        if xxh3_64(&stored) != chunk.checksum {
            return Err(self.run.file.damaged(chunk.offset));
        }
        self.plain = zstd::bulk::decompress(&stored, chunk.plain)
            .map_err(|_error| self.run.file.damaged(chunk.offset))?;
        self.at = 0;
        Ok(true)
    }
}

/// Reads what stands before a block: the entry's group, times, length, and where the block begins.
fn head(entry: &[u8]) -> Result<(Group, Window, usize, usize), Damaged> {
    fn word<const N: usize>(entry: &[u8], at: usize) -> Result<[u8; N], Damaged> {
        entry.get(at..at + N).and_then(|word| word.try_into().ok()).ok_or(Damaged)
    }
    let length = |at| word(entry, at).map(|word| u32::from_le_bytes(word) as usize);
    let time = |at| word(entry, at).map(i64::from_le_bytes);
    let (all, name) = (length(0)?, length(32)?);
    let measurement = entry.get(HEAD..HEAD + name).ok_or(Damaged)?.into();
    let group =
        Group { namespace: u32::from_le_bytes(word(entry, 4)?), bucket: time(8)?, measurement };
    if all > entry.len() || HEAD + name > all {
        return Err(Damaged);
    }
    Ok((group, Window { start: time(16)?, end: time(24)?.saturating_add(1) }, all, HEAD + name))
}
