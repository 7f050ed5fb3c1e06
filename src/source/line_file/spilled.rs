//! The rows of a line file that do not fit in memory: runs on disk, merged into one.

use super::tables::{BUCKET, Tables, by_bucket, join, meeting};
use crate::block::Block;
use crate::error::Result;
use crate::line::key;
use crate::plan::{Namespace, Partition};
use crate::source::Reader;
use crate::spill::Place;
use crate::spill::merge::merge;
use crate::spill::rows::{BLOCK, Entries, Group, Run, RunWriter};
use crate::window::Window;
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

/// What a merge takes on disk for each byte of the runs: a copy, since a run ends with the merge.
const COPIES: u64 = 2;

/// Rows on their way to disk.
#[derive(Debug)]
pub(super) struct Spiller {
    place: Place,
    runs: Vec<Run>,
    namespaces: BTreeMap<Namespace, Spelled>,
}

/// What is known of a namespace.
#[derive(Debug, Default)]
struct Spelled {
    number: u32,
    /// The days on which it holds rows, neighbours joined.
    days: Vec<Window>,
}

impl Spiller {
    pub(super) fn new(place: Place) -> Self {
        Self { place, runs: Vec::new(), namespaces: BTreeMap::new() }
    }

    pub(super) fn is_used(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Bytes on disk.
    pub(super) fn length(&self) -> u64 {
        self.runs.iter().map(Run::length).sum()
    }

    /// Writes a run.
    pub(super) fn spill(&mut self, tables: &BTreeMap<Namespace, Tables>) -> Result<()> {
        let mut numbered = Vec::new();
        for (namespace, tables) in tables {
            let next = u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX);
            let known = self
                .namespaces
                .entry(namespace.clone())
                .or_insert_with(|| Spelled { number: next, days: Vec::new() });
            let days = mem::take(&mut known.days);
            known.days = join(days.into_iter().chain(tables.days.iter().copied()));
            numbered.push((known.number, tables));
        }
        numbered.sort_unstable_by_key(|(number, _)| *number);
        let mut writer = RunWriter::new(&self.place)?;
        for (namespace, tables) in numbered {
            tables.for_each_block(BLOCK, |bucket, raw, block| {
                writer.push(&Group { namespace, bucket, measurement: raw.into() }, block)
            })?;
        }
        self.runs.push(writer.finish()?);
        Ok(())
    }

    /// Makes sure that the rest of an input has room, of which `done` of `total` bytes were read.
    pub(super) fn expect_room(&self, done: u64, total: u64) -> Result<()> {
        let written = u128::from(self.length());
        let all = written * u128::from(total.max(done)) / u128::from(done.max(1));
        let needed = all * u128::from(COPIES) - written;
        self.place.expect_room(u64::try_from(needed).unwrap_or(u64::MAX))
    }

    /// Merges the runs in `memory` bytes; returns the number of cells that later rows replaced.
    pub(super) fn finish(self, memory: usize) -> Result<(Spilled, u64)> {
        let (run, superseded) = merge(&self.place, self.runs, memory, &key::parse)?;
        Ok((Spilled { run, namespaces: self.namespaces }, superseded))
    }
}

/// Rows on disk, sorted, each cell once.
#[derive(Debug)]
pub(super) struct Spilled {
    run: Run,
    namespaces: BTreeMap<Namespace, Spelled>,
}

impl Spilled {
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.keys()
    }

    /// Bytes on disk.
    pub(super) fn length(&self) -> u64 {
        self.run.length()
    }

    pub(super) fn cells(&self, namespace: &Namespace) -> Option<u64> {
        self.namespaces.get(namespace).map(|known| self.run.cells(known.number))
    }

    /// The windows in which a namespace may hold rows, each inside one bucket; `None` where there
    /// is no such namespace.
    pub(super) fn windows(&self, namespace: &Namespace, window: Window) -> Option<Vec<Window>> {
        let known = self.namespaces.get(namespace)?;
        Some(by_bucket(meeting(&known.days, window)))
    }

    /// Reads a partition, which lies in one bucket or in several.
    pub(super) fn reader(&self, partition: &Partition) -> Option<SpilledReader<'_>> {
        let namespace = self.namespaces.get(&partition.namespace)?.number;
        let window = partition.window;
        let bucket = BUCKET.cell(window.start).start;
        let from = Group { namespace, bucket, measurement: Box::default() };
        let measurement = partition.measurement.clone();
        Some(SpilledReader { entries: self.run.entries(&from), namespace, window, measurement })
    }
}

/// The blocks of one partition.
pub(super) struct SpilledReader<'a> {
    entries: Entries<'a>,
    namespace: u32,
    window: Window,
    /// The only measurement wanted, unescaped.
    measurement: Option<Vec<u8>>,
}

impl Reader for SpilledReader<'_> {
    fn next_block(&mut self) -> Result<Option<Block>> {
        while let Some(entry) = self.entries.next_entry()? {
            let group = &entry.group;
            if group.namespace != self.namespace || group.bucket >= self.window.end {
                return Ok(None);
            }
            let other = |wanted: &Vec<u8>| key::parse(&group.measurement).measurement() != *wanted;
            if entry.times.intersect(self.window).is_none()
                || self.measurement.as_ref().is_some_and(other)
            {
                continue;
            }
            let block = entry.block(|key| Arc::new(key::parse(key)))?;
            if let Some(block) = block.within(self.window) {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }
}
