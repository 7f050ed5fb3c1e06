//! The rows of a line file in memory: tables by measurement.

use crate::block::log::{Blocks, RowLog, Table};
use crate::block::{Block, Limits};
use crate::error::Result;
use crate::plan::{Filter, Grid, Partition};
use crate::source::Reader;
use crate::window::{DAY, Window};
use std::iter;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Buckets of time in which rows are handed on: of one day, which archives are divided by, and by
/// which the shard groups of nearly all retention policies can be divided.
pub(super) const BUCKET: Grid = Grid { duration: DAY };

/// The measurements of one namespace, sorted by raw name.
#[derive(Debug, Default)]
pub(super) struct Tables {
    list: Vec<Measured>,
    /// The days on which any of them holds rows, neighbours joined.
    pub(super) days: Vec<Window>,
}

/// One measurement, by one spelling of its raw name.
#[derive(Debug)]
struct Measured {
    raw: Box<[u8]>,
    name: Box<[u8]>,
    table: Table,
    /// The days on which it holds rows, neighbours joined.
    days: Vec<Window>,
}

/// A measurement on its way into [`Tables`].
#[derive(Debug)]
pub(super) struct Sorted {
    /// Nothing where there are no rows.
    rows: Option<Measured>,
    superseded: u64,
}

impl Sorted {
    fn new(raw: Vec<u8>, log: RowLog) -> Self {
        let table = log.resolve();
        let superseded = table.superseded();
        let name = table.series().first().map(|first| first.measurement().into());
        let rows = name.map(|name| {
            let days = days(table.times());
            Measured { raw: raw.into(), name, table, days }
        });
        Self { rows, superseded }
    }
}

/// Sorts the rows of measurements, by so many threads; they come in the order that they had.
pub(super) fn sort_all(logs: Vec<(Vec<u8>, RowLog)>, threads: usize) -> Vec<Sorted> {
    if threads == 1 || logs.len() < 2 {
        return logs.into_iter().map(|(raw, log)| Sorted::new(raw, log)).collect();
    }
    let mut jobs: Vec<_> = logs.into_iter().enumerate().collect();
    // The largest first, so that none is alone at the end; they are taken from the end.
    jobs.sort_by_key(|(_, (_, log))| log.rows());
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        let jobs = iter::from_fn(next);
        jobs.map(|(at, (raw, log))| (at, Sorted::new(raw, log))).collect::<Vec<_>>()
    };
    let mut sorted: Vec<(usize, Sorted)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut sorted = work();
        for other in others {
            sorted.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        sorted
    });
    sorted.sort_unstable_by_key(|(at, _)| *at);
    sorted.into_iter().map(|(_, sorted)| sorted).collect()
}

impl Tables {
    /// Adds the rows of a measurement; returns how many cells later rows replaced.
    pub(super) fn add(&mut self, sorted: Sorted) -> u64 {
        self.list.extend(sorted.rows);
        sorted.superseded
    }

    /// Sorts the measurements, once all are there.
    pub(super) fn finish(&mut self) {
        // As on disk, so that what does not fit in memory is handed on in the same order.
        self.list.sort_by(|one, two| one.raw.cmp(&two.raw));
        self.days = join(self.list.iter().flat_map(|measured| &measured.days).copied());
    }

    pub(super) fn cells(&self) -> u64 {
        self.list.iter().map(|measured| measured.table.cells()).sum()
    }

    /// The windows of a scope in which rows may stand, each inside one bucket.
    pub(super) fn windows(&self, window: Window, filter: &Filter) -> Vec<Window> {
        if filter.measurements.is_empty() && filter.excluded.is_empty() {
            return by_bucket(meeting(&self.days, window));
        }
        let admitted = |measured: &&Measured| filter.admits_measurement(&measured.name);
        let tables = self.list.iter().filter(admitted);
        by_bucket(join(tables.flat_map(|measured| meeting(&measured.days, window))).into_iter())
    }

    pub(super) fn reader(&self, partition: &Partition) -> TableReader<'_> {
        let (wanted, window) = (partition.measurement.clone(), partition.window);
        let tables = self
            .list
            .iter()
            .filter(move |measured| wanted.as_ref().is_none_or(|name| **name == *measured.name))
            .filter(move |measured| meeting(&measured.days, window).next().is_some())
            .map(move |measured| measured.table.blocks(window));
        TableReader { tables: Box::new(tables), blocks: None }
    }

    /// Hands on every row in blocks of the given limits, by bucket and raw name.
    pub(super) fn for_each_block(
        &self,
        limits: Limits,
        mut each: impl FnMut(i64, &[u8], &Block) -> Result<()>,
    ) -> Result<()> {
        let mut groups: Vec<(i64, &[u8], &Table)> = Vec::new();
        for measured in &self.list {
            let windows = by_bucket(measured.days.iter().copied());
            let mut buckets: Vec<i64> =
                windows.iter().map(|window| BUCKET.cell(window.start).start).collect();
            buckets.dedup();
            groups.extend(buckets.iter().map(|bucket| (*bucket, &*measured.raw, &measured.table)));
        }
        groups.sort_unstable_by_key(|(bucket, raw, _)| (*bucket, *raw));
        for (bucket, raw, table) in groups {
            for block in table.blocks_within(BUCKET.cell(bucket), limits) {
                each(bucket, raw, &block)?;
            }
        }
        Ok(())
    }
}

/// The days on which rows stand, neighbours joined.
fn days(times: &[i64]) -> Vec<Window> {
    let mut days: Vec<Window> = Vec::new();
    for &time in times {
        if days.last().is_none_or(|newest| !newest.contains(time)) {
            days.push(BUCKET.cell(time));
        }
    }
    join(days.into_iter())
}

/// What of some days, sorted and apart from each other, lies in a window.
pub(super) fn meeting(days: &[Window], window: Window) -> impl Iterator<Item = Window> + '_ {
    let first = days.partition_point(|day| day.end <= window.start);
    days[first..].iter().map_while(move |day| day.intersect(window))
}

/// Sorts windows and joins those that touch.
pub(super) fn join(windows: impl Iterator<Item = Window>) -> Vec<Window> {
    let mut windows: Vec<Window> = windows.collect();
    windows.sort_unstable();
    windows.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    windows.shrink_to_fit();
    windows
}

/// Cuts windows at the bounds of buckets.
pub(super) fn by_bucket(windows: impl Iterator<Item = Window>) -> Vec<Window> {
    let mut cut = Vec::new();
    for window in windows {
        let mut rest = Some(window);
        while let Some(window) = rest {
            let bucket = BUCKET.cell(window.start);
            cut.extend(window.intersect(bucket));
            rest = window.intersect(Window { start: bucket.end, end: Window::ALL.end });
        }
    }
    cut
}

/// The blocks of one table after the other.
pub(super) struct TableReader<'a> {
    tables: Box<dyn Iterator<Item = Blocks<'a>> + 'a>,
    blocks: Option<Blocks<'a>>,
}

impl Reader for TableReader<'_> {
    fn next_block(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(block) = self.blocks.as_mut().and_then(Iterator::next) {
                return Ok(Some(block));
            }
            self.blocks = self.tables.next();
            if self.blocks.is_none() {
                return Ok(None);
            }
        }
    }
}
