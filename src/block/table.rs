//! The rows of a log in order, and last-write-wins.
//!
//! This is the one place where last-write-wins is decided. Cells stay where the log has them: a
//! table is an order of the log's rows, and a mark on every cell that a later write replaced.
//!
//! Two values of different types for one cell are *not* resolved here: a server would refuse the
//! second, so both are kept, in two columns of one name, and judged where types are judged.

use super::blocks::Blocks;
use super::log::{Cells, Field, Parts, Rows};
use super::{Bits, Limits, number};
use crate::series::Series;
use crate::window::Window;
use std::ops::Range;
use std::sync::Arc;

/// Rows of one measurement, sorted by (series key, time), each cell once.
#[derive(Debug, Default)]
pub struct Table {
    pub(super) series: Vec<Arc<Series>>,
    /// Row at which each series begins, and the number of rows at the end.
    pub(super) starts: Vec<usize>,
    pub(super) fields: Vec<Field>,
    pub(super) times: Vec<i64>,
    /// The log's rows, sorted by (series key, time), the later write last.
    order: Vec<u32>,
    /// Place in `order` of each row's first write, and the number of writes at the end; empty
    /// where every row was written once.
    firsts: Vec<u32>,
    pub(super) rows: Rows,
    pub(super) cells: Cells,
    /// Cells that a later write replaced, by number.
    dead: Bits,
    superseded: u64,
}

impl Table {
    pub(super) fn new(mut parts: Parts) -> Self {
        let sorted = by_key(&parts.series);
        let (order, ends) = group_by_series(&sorted, &parts.rows.series);
        parts.rows.series = Vec::new();
        let time = std::mem::take(&mut parts.rows.time);
        let mut table = Self {
            fields: parts.fields,
            times: Vec::with_capacity(order.len()),
            order,
            rows: parts.rows,
            cells: parts.cells,
            ..Self::default()
        };
        let mut start = 0;
        for (&series, &end) in sorted.iter().zip(&ends) {
            let end = end as usize;
            if start < end {
                table.series.push(Arc::clone(&parts.series[series as usize]));
                table.starts.push(table.times.len());
                table.add_series(start..end, &time);
            }
            start = end;
        }
        table.starts.push(table.times.len());
        if !table.firsts.is_empty() {
            table.firsts.push(number(table.order.len()));
        }
        table.resolve();
        table
    }

    /// Adds the rows of one series, which stand at `places` of the order as they were written.
    fn add_series(&mut self, places: Range<usize>, time: &[i64]) {
        let time_of = |row: u32| time[row as usize];
        let writes = &mut self.order[places.clone()];
        if !writes.is_sorted_by_key(|&row| time_of(row)) {
            // The row's number keeps the order of writing among equals.
            writes.sort_unstable_by_key(|&row| (time_of(row), row));
        }
        let first_row = self.times.len();
        for place in places {
            let time = time_of(self.order[place]);
            if self.times.len() > first_row && self.times.last() == Some(&time) {
                if self.firsts.is_empty() {
                    self.firsts.extend(0..number(self.times.len()));
                }
            } else {
                if !self.firsts.is_empty() {
                    self.firsts.push(number(place));
                }
                self.times.push(time);
            }
        }
    }

    /// Marks every cell that a later write of its row replaced.
    fn resolve(&mut self) {
        if self.firsts.is_empty() && !self.rows.shapes.any_repeats() {
            return;
        }
        let mut dead = Bits::default();
        let mut latest = vec![0_usize; self.fields.len()];
        for row in (0..self.times.len()).filter(|&row| self.only_write(row).is_none()) {
            for &write in self.writes(row) {
                let (fields, cells) = self.rows.cells_of(write);
                for (&field, cell) in fields.iter().zip(cells) {
                    // Numbers are kept plus one: zero is a field that was not written yet.
                    let before = std::mem::replace(&mut latest[field as usize], cell + 1);
                    if before > 0 {
                        dead.set(before - 1);
                    }
                }
            }
            for &write in self.writes(row) {
                for &field in self.rows.cells_of(write).0 {
                    latest[field as usize] = 0;
                }
            }
        }
        self.superseded = dead.count();
        self.dead = dead;
    }

    /// The log's rows that make one row, the later write last.
    pub(super) fn writes(&self, row: usize) -> &[u32] {
        if self.firsts.is_empty() {
            return &self.order[row..=row];
        }
        &self.order[self.firsts[row] as usize..self.firsts[row + 1] as usize]
    }

    /// The log's row that makes one row, if there is only one and each of its fields is written
    /// once: then all its cells are live.
    pub(super) fn only_write(&self, row: usize) -> Option<u32> {
        match self.writes(row) {
            &[write] if !self.rows.shapes.repeats(self.rows.shape[write as usize]) => Some(write),
            _ => None,
        }
    }

    /// True for a cell that no later write replaced.
    pub(super) fn is_live(&self, cell: usize) -> bool {
        !self.dead.get(cell)
    }

    /// Cells that a later write replaced.
    #[must_use]
    pub fn superseded(&self) -> u64 {
        self.superseded
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.cells.bits.len() as u64 - self.superseded
    }

    /// The series, sorted by raw key.
    #[must_use]
    pub fn series(&self) -> &[Arc<Series>] {
        &self.series
    }

    /// Time of each row, in the order of the rows.
    #[must_use]
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// The rows inside a window, as ordinary blocks, in order.
    #[must_use]
    pub fn blocks(&self, window: Window) -> Blocks<'_> {
        self.blocks_within(window, Limits::default())
    }

    /// The rows inside a window, as blocks within these limits, in order.
    #[must_use]
    pub fn blocks_within(&self, window: Window, limits: Limits) -> Blocks<'_> {
        Blocks::new(self, window, limits)
    }

    /// Rows of one series inside a window.
    pub(super) fn rows_of(&self, series: usize, window: Window) -> Range<usize> {
        let all = self.starts[series]..self.starts[series + 1];
        let times = &self.times[all.clone()];
        let start = all.start + times.partition_point(|&time| time < window.start);
        let end = all.start + times.partition_point(|&time| time < window.end);
        start..end.max(start)
    }
}

/// The numbers of the series, sorted by raw key.
fn by_key(series: &[Arc<Series>]) -> Vec<u32> {
    let key = |at: u32| series[at as usize].key();
    if series.is_sorted_by_key(|series| series.key()) {
        return (0..number(series.len())).collect();
    }
    let common = series.iter().skip(1).fold(series[0].key(), |common, series| {
        let equal = common.iter().zip(series.key()).take_while(|(one, two)| one == two).count();
        &common[..equal]
    });
    // The eight bytes behind what all keys share decide most comparisons without a look at a key.
    let mut sorted: Vec<(u64, u32)> = (0..number(series.len()))
        .map(|at| {
            let mut head = [0; 8];
            for (to, from) in head.iter_mut().zip(&key(at)[common.len()..]) {
                *to = *from;
            }
            (u64::from_be_bytes(head), at)
        })
        .collect();
    sorted.sort_unstable_by(|one, two| one.0.cmp(&two.0).then_with(|| key(one.1).cmp(key(two.1))));
    sorted.into_iter().map(|(_, at)| at).collect()
}

/// The rows by series, as `sorted` has these, else in order of writing; and where each series ends.
fn group_by_series(sorted: &[u32], series_of_row: &[u32]) -> (Vec<u32>, Vec<u32>) {
    // By series: first the number of rows, then the place of the next one.
    let mut next = vec![0_u32; sorted.len()];
    for &series in series_of_row {
        next[series as usize] += 1;
    }
    let mut start = 0;
    for &series in sorted {
        let rows = std::mem::replace(&mut next[series as usize], start);
        start += rows;
    }
    let mut order = vec![0; series_of_row.len()];
    for (row, &series) in series_of_row.iter().enumerate() {
        let place = &mut next[series as usize];
        order[*place as usize] = number(row);
        *place += 1;
    }
    let ends = sorted.iter().map(|&series| next[series as usize]).collect();
    (order, ends)
}
