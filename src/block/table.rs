//! The rows of a log in order, and last-write-wins.
//!
//! This is the one place where last-write-wins is decided. Cells stay where the log has them: a
//! table is an order of the log's rows, and a mark on every cell that a later write replaced.
//!
//! Two values of different types for one cell are *not* resolved here: a server would refuse the
//! second, so both are kept, in two columns of one name, and judged where types are judged.

use super::blocks::Blocks;
use super::log::{Cells, Field, Parts, Row};
use super::runs::sort;
use super::shape::Shapes;
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
    pub(super) shapes: Shapes,
    /// Time of each row.
    pub(super) times: Vec<i64>,
    /// The log's rows, sorted by (series key, time), the later write last.
    writes: Writes,
    /// Number of each row's first write, and the number of writes at the end; empty where every
    /// row was written once.
    firsts: Vec<u32>,
    pub(super) cells: Cells,
    /// Cells that a later write replaced, by number.
    dead: Bits,
    superseded: u64,
}

/// The log's rows in another order than the log's.
#[derive(Debug, Default)]
struct Writes {
    /// Number of each one's first cell.
    cell: Vec<usize>,
    shape: Vec<u32>,
}

impl Table {
    pub(super) fn new(parts: Parts) -> Self {
        let sorted = by_key(&parts.series);
        let (times, writes, ends) = group_by_series(&sorted, &parts.rows, &parts.shapes);
        drop(parts.rows);
        let mut table = Self {
            fields: parts.fields,
            shapes: parts.shapes,
            times,
            writes,
            cells: parts.cells,
            ..Self::default()
        };
        let mut start = 0;
        // Rows stand at the places of writes as long as none was written twice.
        let mut rows = 0;
        for (&series, &end) in sorted.iter().zip(&ends) {
            let end = end as usize;
            if start < end {
                table.series.push(Arc::clone(&parts.series[series as usize]));
                table.starts.push(rows);
                rows = table.add_series(start..end, rows);
            }
            start = end;
        }
        table.starts.push(rows);
        if !table.firsts.is_empty() {
            table.firsts.push(number(table.times.len()));
        }
        table.times.truncate(rows);
        table.resolve();
        table
    }

    /// Sorts the writes of one series, which stand at `places` as they were written, and makes rows
    /// of them, which begin at `row`; returns where they end.
    fn add_series(&mut self, places: Range<usize>, mut row: usize) -> usize {
        let times = &mut self.times[places.clone()];
        if !times.is_sorted() {
            let Writes { cell, shape } = &mut self.writes;
            sort(times, &mut cell[places.clone()], &mut shape[places.clone()]);
        }
        if self.firsts.is_empty() {
            if times.windows(2).all(|pair| pair[0] < pair[1]) {
                return places.end;
            }
            self.firsts.extend(0..number(places.start));
        }
        let first_row = row;
        for place in places {
            let time = self.times[place];
            if row == first_row || self.times[row - 1] != time {
                self.firsts.push(number(place));
                self.times[row] = time;
                row += 1;
            }
        }
        row
    }

    /// Marks every cell that a later write of its row replaced.
    fn resolve(&mut self) {
        if self.firsts.is_empty() && !self.shapes.any_repeats() {
            return;
        }
        let mut dead = Bits::default();
        let mut latest = vec![0_usize; self.fields.len()];
        for row in (0..self.times.len()).filter(|&row| self.only_write(row).is_none()) {
            for write in self.writes(row) {
                for (&field, cell) in self.fields_of(write).iter().zip(self.first_cell(write)..) {
                    // Numbers are kept plus one: zero is a field that was not written yet.
                    let before = std::mem::replace(&mut latest[field as usize], cell + 1);
                    if before > 0 {
                        dead.set(before - 1);
                    }
                }
            }
            for write in self.writes(row) {
                for &field in self.fields_of(write) {
                    latest[field as usize] = 0;
                }
            }
        }
        self.superseded = dead.count();
        self.dead = dead;
    }

    /// The writes that make one row, the later last.
    #[inline]
    pub(super) fn writes(&self, row: usize) -> Range<usize> {
        if self.firsts.is_empty() {
            return row..row + 1;
        }
        self.firsts[row] as usize..self.firsts[row + 1] as usize
    }

    /// The shape of a write.
    #[inline]
    pub(super) fn shape(&self, write: usize) -> u32 {
        self.writes.shape[write]
    }

    /// Number of a write's first cell.
    #[inline]
    pub(super) fn first_cell(&self, write: usize) -> usize {
        self.writes.cell[write]
    }

    /// The fields of a write.
    pub(super) fn fields_of(&self, write: usize) -> &[u32] {
        self.shapes.fields(self.shape(write))
    }

    /// How many of some rows have as many writes as the first of them, of the same shapes.
    pub(super) fn alike(&self, rows: Range<usize>) -> usize {
        let shapes = &self.writes.shape;
        if self.firsts.is_empty() {
            let first = shapes[rows.start];
            return shapes[rows].iter().take_while(|shape| **shape == first).count();
        }
        let first = &shapes[self.writes(rows.start)];
        rows.take_while(|row| shapes[self.writes(*row)] == *first).count()
    }

    /// Number of the first cell that one write of each row has, for as many rows from `row` on as
    /// there is place for.
    pub(super) fn first_cells(&self, row: usize, write: usize, firsts: &mut [usize]) {
        if self.firsts.is_empty() {
            firsts.copy_from_slice(&self.writes.cell[row..row + firsts.len()]);
            return;
        }
        let rows = &self.firsts[row..row + firsts.len()];
        for (first, row) in firsts.iter_mut().zip(rows) {
            *first = self.writes.cell[*row as usize + write];
        }
    }

    /// The only write of a row, if each of its fields is written once: then all its cells are live.
    fn only_write(&self, row: usize) -> Option<usize> {
        let writes = self.writes(row);
        (writes.len() == 1 && !self.shapes.repeats(self.shape(writes.start)))
            .then_some(writes.start)
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

/// The rows by series, as `sorted` has these, else in order of writing: their times, what they
/// are, and where each series ends.
fn group_by_series(sorted: &[u32], rows: &[Row], shapes: &Shapes) -> (Vec<i64>, Writes, Vec<u32>) {
    // By series: first the number of rows, then the place of the next one.
    let mut next = vec![0_u32; sorted.len()];
    for row in rows {
        next[row.series as usize] += 1;
    }
    let mut start = 0;
    for &series in sorted {
        let rows = std::mem::replace(&mut next[series as usize], start);
        start += rows;
    }
    let mut times = vec![0; rows.len()];
    let mut writes = Writes { cell: vec![0; rows.len()], shape: vec![0; rows.len()] };
    let mut cell = 0;
    for row in rows {
        let place = &mut next[row.series as usize];
        times[*place as usize] = row.time;
        writes.cell[*place as usize] = cell;
        writes.shape[*place as usize] = row.shape;
        *place += 1;
        cell += shapes.places(row.shape).len();
    }
    let ends = sorted.iter().map(|&series| next[series as usize]).collect();
    (times, writes, ends)
}
