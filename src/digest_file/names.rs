//! The dictionary in the making: every series once, sorted, in bounded memory.
//!
//! A series is met in many blocks and units. As many as memory allows are known by a hash of their
//! key and not taken again; all others go, sorted, to disk. Runs of one level are merged into one of
//! the next when there are enough, so that what is met again and again is on disk a few times only.

use crate::block::Block;
use crate::digest::cell::{SeriesHash, SeriesHasher};
use crate::error::Result;
use crate::series::Series;
use crate::spill::{Place, SpillFile};
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

/// Runs of one level.
const FAN_IN: usize = 16;
/// Bytes of a run that are read and checked together, and one entry more.
const CHUNK: usize = 64 << 10;
/// Bytes of an entry before its key.
const ENTRY: usize = 20;
/// Bytes of memory for each key that is known: an entry of a table that is never full.
const SEEN_BYTES: usize = 20;
/// What an entry takes besides its key.
const INDEX_BYTES: usize = size_of::<(SeriesHash, usize, usize)>();

/// Takes the entries in order.
pub(super) type Each<'a> = &'a mut dyn FnMut(SeriesHash, &[u8]) -> Result<()>;

/// Series and their raw keys.
#[derive(Debug)]
pub struct Dictionary {
    place: Place,
    /// Hashes of raw keys that were taken.
    seen: HashSet<u64, foldhash::fast::RandomState>,
    seen_max: usize,
    /// Hash, and the key's place among `keys`.
    entries: Vec<(SeriesHash, usize, usize)>,
    keys: Vec<u8>,
    memory_max: usize,
    levels: Vec<Vec<Run>>,
}

impl Dictionary {
    /// An empty one that takes at most `memory` bytes, and goes to `place` with the rest.
    #[must_use]
    pub fn new(memory: usize, place: Place) -> Self {
        Self {
            place,
            seen: HashSet::default(),
            seen_max: memory / 2 / SEEN_BYTES,
            entries: Vec::new(),
            keys: Vec::new(),
            // Vectors grow by doubling, and the old one is there until the new one is filled.
            memory_max: memory / 6,
            levels: Vec::new(),
        }
    }

    /// Takes the series of a block that are wanted.
    ///
    /// # Errors
    /// Where what does not fit in memory cannot be written.
    pub fn add_block(&mut self, block: &Block, wanted: impl Fn(&Series) -> bool) -> Result<()> {
        for (series, _) in block.runs().filter(|(series, _)| wanted(series)) {
            if self.is_new(series.key()) {
                self.push(SeriesHasher::new(series).series(), series.key())?;
            }
        }
        Ok(())
    }

    /// Takes an entry of another dictionary.
    ///
    /// # Errors
    /// As [`Self::add_block`].
    pub fn add(&mut self, series: SeriesHash, key: &[u8]) -> Result<()> {
        if self.is_new(key) { self.push(series, key) } else { Ok(()) }
    }

    /// False where the key is known; it may be known and not be remembered.
    fn is_new(&mut self, key: &[u8]) -> bool {
        let hash = xxh3_64(key);
        if self.seen.len() < self.seen_max {
            return self.seen.insert(hash);
        }
        !self.seen.contains(&hash)
    }

    fn push(&mut self, series: SeriesHash, key: &[u8]) -> Result<()> {
        if self.keys.len() + self.entries.len() * INDEX_BYTES > self.memory_max {
            self.spill()?;
        }
        self.entries.push((series, self.keys.len(), key.len()));
        self.keys.extend_from_slice(key);
        Ok(())
    }

    /// Sorts what is in memory.
    fn sort(&mut self) {
        let keys = &self.keys;
        let entry = |&(series, start, length): &(SeriesHash, usize, usize)| {
            (series, &keys[start..start + length])
        };
        self.entries.sort_unstable_by(|one, two| entry(one).cmp(&entry(two)));
        self.entries.dedup_by(|one, two| entry(one) == entry(two));
    }

    fn spill(&mut self) -> Result<()> {
        self.sort();
        let mut run = RunWriter::new(&self.place)?;
        for (series, start, length) in self.entries.drain(..) {
            run.push(series, &self.keys[start..start + length])?;
        }
        self.keys.clear();
        let run = run.finish()?;
        self.add_run(0, run)
    }

    fn add_run(&mut self, level: usize, run: Run) -> Result<()> {
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
        if self.levels[level].len() < FAN_IN {
            return Ok(());
        }
        let runs = std::mem::take(&mut self.levels[level]);
        let mut merged = RunWriter::new(&self.place)?;
        merge(&runs, &mut |series, key| merged.push(series, key))?;
        self.add_run(level + 1, merged.finish()?)
    }

    /// Hands every entry on, sorted by series and key, each once.
    ///
    /// # Errors
    /// Where what is on disk cannot be read, or `each` fails.
    pub(super) fn finish(mut self, each: Each<'_>) -> Result<()> {
        self.seen = HashSet::default();
        if self.levels.is_empty() {
            self.sort();
            let entries = self.entries.iter();
            return entries
                .map(|&(series, start, length)| (series, start..start + length))
                .try_for_each(|(series, key)| each(series, &self.keys[key]));
        }
        self.spill()?;
        (self.entries, self.keys) = (Vec::new(), Vec::new());
        let runs: Vec<Run> = self.levels.drain(..).flatten().collect();
        merge(&runs, each)
    }
}

/// Hands the entries of all runs on, in order, each once.
fn merge(runs: &[Run], each: Each<'_>) -> Result<()> {
    let mut heap = BinaryHeap::new();
    for run in runs {
        heap.extend(Cursor::open(run)?.map(Reverse));
    }
    let mut last: Option<(SeriesHash, Vec<u8>)> = None;
    while let Some(mut first) = heap.peek_mut() {
        let cursor = &mut first.0;
        let (series, key) = cursor.entry();
        let known = last.as_ref().is_some_and(|(one, other)| *one == series && other == key);
        if !known {
            each(series, key)?;
            let (one, other) = last.get_or_insert_with(|| (series, Vec::new()));
            *one = series;
            other.clear();
            other.extend_from_slice(key);
        }
        if !cursor.advance()? {
            PeekMut::pop(first);
        }
    }
    Ok(())
}

/// Sorted entries on disk.
#[derive(Debug)]
struct Run {
    file: SpillFile,
    /// Offset, length and checksum of each chunk.
    chunks: Vec<(u64, usize, u64)>,
}

struct RunWriter {
    run: Run,
    chunk: Vec<u8>,
}

impl RunWriter {
    fn new(place: &Place) -> Result<Self> {
        let run = Run { file: place.file()?, chunks: Vec::new() };
        Ok(Self { run, chunk: Vec::with_capacity(CHUNK) })
    }

    fn push(&mut self, series: SeriesHash, key: &[u8]) -> Result<()> {
        self.chunk.extend_from_slice(&series.0.to_le_bytes());
        // Keys are limited to 65,535 bytes by the servers' own format.
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        self.chunk.extend_from_slice(&length.to_le_bytes());
        self.chunk.extend_from_slice(key);
        if self.chunk.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if !self.chunk.is_empty() {
            let offset = self.run.file.append(&self.chunk)?;
            self.run.chunks.push((offset, self.chunk.len(), xxh3_64(&self.chunk)));
            self.chunk.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Run> {
        self.flush()?;
        Ok(self.run)
    }
}

/// A place in a run.
struct Cursor<'a> {
    run: &'a Run,
    next_chunk: usize,
    chunk: Vec<u8>,
    /// Where the entry begins, and its key ends.
    entry: (usize, usize),
}

impl<'a> Cursor<'a> {
    fn open(run: &'a Run) -> Result<Option<Self>> {
        let mut cursor = Self { run, next_chunk: 0, chunk: Vec::new(), entry: (0, 0) };
        Ok(cursor.advance()?.then_some(cursor))
    }

    /// Goes on to the next entry; false at the end.
    fn advance(&mut self) -> Result<bool> {
        let mut start = self.entry.1;
        if start == self.chunk.len() {
            let Some((offset, length, checksum)) = self.run.chunks.get(self.next_chunk) else {
                return Ok(false);
            };
            self.chunk.resize(*length, 0);
            self.run.file.read(*offset, &mut self.chunk)?;
            if xxh3_64(&self.chunk) != *checksum {
                return Err(self.run.file.damaged(*offset));
            }
            self.next_chunk += 1;
            start = 0;
        }
        let (_, length) = head(&self.chunk[start..]).unwrap_or_default();
        let end = start.saturating_add(ENTRY).saturating_add(length);
        if end > self.chunk.len() {
            return Err(self.run.file.damaged(0));
        }
        self.entry = (start, end);
        Ok(true)
    }

    fn entry(&self) -> (SeriesHash, &[u8]) {
        let (start, end) = self.entry;
        let (series, _) = head(&self.chunk[start..]).unwrap_or_default();
        (SeriesHash(series), &self.chunk[start + ENTRY..end])
    }
}

/// Hash and length at the start of an entry.
pub(super) fn head(bytes: &[u8]) -> Option<(u128, usize)> {
    let (series, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*rest.first_chunk()?);
    Some((u128::from_le_bytes(*series), usize::try_from(length).ok()?))
}

impl Ord for Cursor<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.entry().cmp(&other.entry())
    }
}

impl PartialOrd for Cursor<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cursor<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(memory: usize, count: u32, times: u32) -> Vec<(u128, Vec<u8>)> {
        let mut dictionary = Dictionary::new(memory, Place::new(Some(std::env::temp_dir())));
        for _ in 0..times {
            for number in 0..count {
                let key = format!("m,host={number}");
                let hash = SeriesHash(u128::from(xxh3_64(key.as_bytes())));
                dictionary.add(hash, key.as_bytes()).unwrap();
            }
        }
        let mut found = Vec::new();
        let mut each = |series: SeriesHash, key: &[u8]| {
            found.push((series.0, key.to_vec()));
            Ok(())
        };
        dictionary.finish(&mut each).unwrap();
        found
    }

    #[test]
    fn every_series_is_there_once_and_in_order_whatever_the_memory() {
        let known = entries(usize::MAX, 5_000, 1);
        assert_eq!(known.len(), 5_000);
        assert!(known.is_sorted());
        for memory in [0, 6_000, 60_000, 1 << 20] {
            assert_eq!(entries(memory, 5_000, 3), known, "{memory}");
        }
    }
}
