//! Blocks made of a table's rows.
//!
//! A block is planned first, which gives its rows and columns, and then filled column by column.
//! Invariant: a cell is copied once, from the log into its block.

use super::table::Table;
use super::{Block, Column, Limits};
use crate::value::FieldType;
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
        for row in rows {
            // A column takes eight bytes a row, present or not, and so does the time.
            let dense = (self.columns.len() + 1) * self.rows * 8;
            let full =
                self.rows >= self.limits.rows_max || dense + self.bytes > self.limits.bytes_max;
            if full && self.rows > 0 {
                break;
            }
            for &write in self.table.writes(row) {
                self.add(write);
            }
            self.rows += 1;
            end = row + 1;
        }
        if end > first {
            self.bytes += self.table.series[series].memory();
            self.runs.push((series, first..end));
        }
        end
    }

    /// Gives the cells of one write their columns and counts its strings.
    fn add(&mut self, write: u32) {
        let rows = &self.table.rows;
        let shape = rows.shape[write as usize];
        if shape != self.shape {
            self.shape = shape;
            self.add_columns(rows.shapes.fields(shape));
        }
        if self.has_strings {
            let (fields, cells) = rows.cells_of(write);
            for (&field, cell) in fields.iter().zip(cells) {
                if self.is_string(field) && self.table.is_live(cell) {
                    self.bytes += self.table.cells.string(self.table.cells.bits[cell]).len();
                }
            }
        }
    }

    fn add_columns(&mut self, fields: &[u32]) {
        self.has_strings = false;
        for &field in fields {
            self.has_strings |= self.is_string(field);
            let column = &mut self.column_of[field as usize];
            if *column == 0 {
                self.columns.push(field);
                *column = self.columns.len();
            }
        }
    }

    fn is_string(&self, field: u32) -> bool {
        self.table.fields[field as usize].field_type == FieldType::String
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
        let mut firsts = [0; TOGETHER];
        while !rows.is_empty() {
            let Some(first) = self.table.only_write(rows.start) else {
                self.fill_row(columns, at, rows.start);
                at += 1;
                rows.start += 1;
                continue;
            };
            let shape = self.table.rows.shape[first as usize];
            let alike = self.alike(rows.clone(), shape, &mut firsts);
            for (place, field) in self.table.rows.shapes.fields(shape).iter().enumerate() {
                let column = &mut columns[self.column_of[*field as usize] - 1];
                column.set_all(at, &firsts[..alike], place, &self.table.cells);
            }
            at += alike;
            rows.start += alike;
        }
    }

    /// Notes the first cells of rows of one write of this shape, up to one that is not such a row;
    /// returns how many.
    fn alike(&self, rows: Range<usize>, shape: u32, firsts: &mut [usize; TOGETHER]) -> usize {
        let log = &self.table.rows;
        let mut count = 0;
        for (first, row) in firsts.iter_mut().zip(rows) {
            match self.table.writes(row) {
                &[write] if log.shape[write as usize] == shape => {
                    *first = log.cells[write as usize];
                }
                _ => break,
            }
            count += 1;
        }
        count
    }

    /// Fills one row from all its writes.
    fn fill_row(&self, columns: &mut [Column], at: usize, row: usize) {
        for &write in self.table.writes(row) {
            let (fields, cells) = self.table.rows.cells_of(write);
            for (&field, cell) in fields.iter().zip(cells) {
                if self.table.is_live(cell) {
                    let column = &mut columns[self.column_of[field as usize] - 1];
                    column.set_all(at, &[cell], 0, &self.table.cells);
                }
            }
        }
    }
}
