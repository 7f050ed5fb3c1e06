//! Blocks made of a table's rows.
//!
//! A block is planned first, which gives its rows and columns, and then filled column by column.
//! Invariant: a cell is copied once, from the log into its block.

use super::table::Table;
use super::{Block, Column, Limits};
use crate::window::Window;
use std::ops::Range;
use std::sync::Arc;

/// Rows that are copied together: their cells stay in the nearest cache while each column is
/// filled.
const TOGETHER: usize = 128;

/// Iterator over the blocks of a [`Table`].
#[derive(Debug)]
pub struct Blocks<'a> {
    table: &'a Table,
    window: Window,
    limits: Limits,
    /// Series to go on with.
    series: usize,
    /// Row to go on with; smaller than the series' first row where it is new.
    row: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(table: &'a Table, window: Window, limits: Limits) -> Self {
        Self { table, window, limits, series: 0, row: 0 }
    }
}

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let mut plan = Plan::new(self.table, self.limits);
        while self.series < self.table.series.len() {
            let rows = self.table.rows_of(self.series, self.window);
            let from = self.row.max(rows.start);
            self.row = plan.take(self.series, from..rows.end);
            if self.row < rows.end {
                break;
            }
            self.series += 1;
        }
        (plan.rows > 0).then(|| plan.fill())
    }
}

/// A block before it is filled: which rows and columns it has.
struct Plan<'a> {
    table: &'a Table,
    limits: Limits,
    /// Series and its rows in the table.
    runs: Vec<(usize, Range<usize>)>,
    rows: usize,
    /// Numbers of the columns' fields.
    columns: Vec<u32>,
    /// Column of each field of the table + 1, 0 where the block has none.
    column_of: Vec<usize>,
    /// The last shape that was given columns.
    shape: u32,
    /// The last shape has strings.
    has_strings: bool,
    /// Bytes of strings and series.
    bytes: usize,
}

impl<'a> Plan<'a> {
    fn new(table: &'a Table, limits: Limits) -> Self {
        Self {
            table,
            limits,
            runs: Vec::new(),
            rows: 0,
            columns: Vec::new(),
            column_of: vec![0; table.fields.len()],
            shape: super::shape::NONE,
            has_strings: false,
            bytes: 0,
        }
    }

    /// Takes rows of one series until the block is full; returns the first that is not taken.
    fn take(&mut self, series: usize, rows: Range<usize>) -> usize {
        let first = rows.start;
        let mut end = first;
        while end < rows.end && self.room() > 0 {
            let writes = self.table.writes(end);
            if writes.len() == 1
                && self.table.shape(writes.start) == self.shape
                && !self.has_strings
            {
                let alike = self.table.alike(end..rows.end.min(end + self.room()));
                self.rows += alike;
                end += alike;
                continue;
            }
            for write in writes {
                self.add(write);
            }
            self.rows += 1;
            end += 1;
        }
        if end > first {
            self.bytes += self.table.series[series].memory();
            self.runs.push((series, first..end));
        }
        end
    }

    /// How many more rows the block may take that give it neither columns nor strings; one at least
    /// where it has none.
    fn room(&self) -> usize {
        // A column takes eight bytes a row, present or not, and so does the time.
        let row = (self.columns.len() + 1) * 8;
        let full = match self.limits.bytes_max.checked_sub(self.bytes) {
            Some(rest) => (rest / row).saturating_add(1),
            None => 0,
        };
        full.min(self.limits.rows_max).max(1).saturating_sub(self.rows)
    }

    /// Gives the cells of one write their columns and counts its strings.
    fn add(&mut self, write: usize) {
        let table = self.table;
        let shape = table.shape(write);
        if shape != self.shape {
            self.shape = shape;
            self.has_strings = table.shapes.has_strings(shape);
            self.add_columns(table.shapes.fields(shape));
        }
        if self.has_strings {
            for (&field, cell) in table.fields_of(write).iter().zip(table.first_cell(write)..) {
                if table.fields[field as usize].is_string() && table.is_live(cell) {
                    self.bytes += table.cells.string(table.cells.bits[cell]).len();
                }
            }
        }
    }

    fn add_columns(&mut self, fields: &[u32]) {
        for &field in fields {
            let column = &mut self.column_of[field as usize];
            if *column == 0 {
                self.columns.push(field);
                *column = self.columns.len();
            }
        }
    }

    fn fill(self) -> Block {
        let table = self.table;
        let column = |&field: &u32| {
            let field = &table.fields[field as usize];
            Column::new(Arc::clone(&field.name), field.field_type, self.rows)
        };
        let mut block = Block {
            series: Vec::with_capacity(self.runs.len()),
            starts: Vec::with_capacity(self.runs.len() + 1),
            times: Vec::with_capacity(self.rows),
            columns: self.columns.iter().map(column).collect(),
        };
        for (series, rows) in &self.runs {
            block.series.push(Arc::clone(&table.series[*series]));
            block.starts.push(block.times.len());
            block.times.extend_from_slice(&table.times[rows.clone()]);
        }
        block.starts.push(self.rows);
        let mut at = 0;
        // Runs that follow one another in the table are one stretch of rows.
        for stretch in self.runs.chunk_by(|one, two| one.1.end == two.1.start) {
            let rows = stretch[0].1.start..stretch[stretch.len() - 1].1.end;
            self.fill_rows(&mut block.columns, at, rows.clone());
            at += rows.len();
        }
        for column in &mut block.columns {
            column.fill(self.rows);
        }
        block.sort_columns();
        block
    }

    /// Fills the block's rows from `at` on.
    fn fill_rows(&self, columns: &mut [Column], mut at: usize, mut rows: Range<usize>) {
        let table = self.table;
        let mut firsts = [0; TOGETHER];
        while !rows.is_empty() {
            let writes = table.writes(rows.start);
            let alike = table.alike(rows.start..rows.end.min(rows.start + TOGETHER));
            for (number, write) in writes.enumerate() {
                let firsts = &mut firsts[..alike];
                table.first_cells(rows.start, number, firsts);
                for (place, field) in table.fields_of(write).iter().enumerate() {
                    // What replaced it in one row did in all, which have the same writes.
                    if table.is_live(table.first_cell(write) + place) {
                        let column = &mut columns[self.column_of[*field as usize] - 1];
                        column.set_all(at, firsts, place, &table.cells);
                    }
                }
            }
            at += alike;
            rows.start += alike;
        }
    }
}
