//! Rows of one measurement in storage order.
//!
//! Decoders append rows as they come ([`RowLog`]); [`RowLog::resolve`] sorts them by (series,
//! time) and lets the later write of a cell win ([`Table`]). Cells stand one behind another, not by
//! column, so that a measurement of thousands of fields whose lines hold one field each needs no
//! more memory than its cells.
//!
//! What comes next is guessed from what came last: the series that followed this one, the fields
//! that the series' last row had. A guess is compared byte by byte and costs no hash.

pub use super::blocks::Blocks;
pub use super::table::Table;

use super::index::Index;
use super::number;
use super::shape::{NONE, Shapes};
use crate::series::Series;
use crate::value::{FieldType, Value};
use std::ops::Range;
use std::sync::Arc;

/// Bytes in front of a string in [`Cells::strings`]: its length.
const STRING_HEAD: usize = size_of::<u64>();

/// One (field key, type) of a measurement.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: Arc<[u8]>,
    pub(super) field_type: FieldType,
}

impl Field {
    #[inline]
    fn is(&self, name: &[u8], field_type: FieldType) -> bool {
        self.field_type == field_type && is_same(&self.name, name)
    }

    pub(super) fn is_string(&self) -> bool {
        self.field_type == FieldType::String
    }
}

/// Equality of field keys, most of which are a few bytes longer than a word: two words that
/// overlap tell them apart without a loop or a call.
#[inline]
fn is_same(one: &[u8], two: &[u8]) -> bool {
    const WORD: usize = size_of::<u64>();
    if one.len() != two.len() {
        return false;
    }
    if one.len() <= 2 * WORD
        && let (Some(first), Some(last)) = (one.first_chunk::<WORD>(), one.last_chunk::<WORD>())
        && let (Some(head), Some(tail)) = (two.first_chunk::<WORD>(), two.last_chunk::<WORD>())
    {
        return first == head && last == tail;
    }
    one == two
}

/// Values of cells, addressed by cell number. Of what type a cell is, its row's shape knows.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// The value's 64 bits; for a string, where it begins in `strings`.
    pub(super) bits: Vec<u64>,
    /// Strings, each behind its length.
    strings: Vec<u8>,
}

impl Cells {
    fn push(&mut self, value: Value<'_>) {
        let bits = match value {
            Value::Float(float) => float.to_bits(),
            Value::Integer(integer) => integer.cast_unsigned(),
            Value::Unsigned(unsigned) => unsigned,
            Value::Boolean(boolean) => u64::from(boolean),
            Value::String(bytes) => self.add_string(bytes),
        };
        self.bits.push(bits);
    }

    /// Keeps a string; returns where.
    fn add_string(&mut self, bytes: &[u8]) -> u64 {
        let at = self.strings.len() as u64;
        self.strings.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.strings.extend_from_slice(bytes);
        at
    }

    /// Appends a value by its bits, or the piece of a text that they stand for.
    #[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
    fn push_bits(&mut self, bits: u64, text: Option<&[u8]>) {
        let bits = match text {
            Some(text) => {
                let start = (bits >> 32) as usize;
                self.add_string(&text[start..start + (bits as u32) as usize])
            }
            None => bits,
        };
        self.bits.push(bits);
    }

    /// The string whose cell has these bits.
    #[expect(clippy::cast_possible_truncation, reason = "lengths and offsets came from usize")]
    pub(super) fn string(&self, bits: u64) -> &[u8] {
        let (head, rest) = self.strings[bits as usize..].split_at(STRING_HEAD);
        let length = head.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        &rest[..length as usize]
    }
}

/// What a series did last.
#[derive(Clone, Copy, Debug)]
struct History {
    /// The series of the row behind it.
    successor: u32,
    /// Shape of its last row.
    shape: u32,
}

/// The newest row: how far it has the fields that were expected.
#[derive(Debug)]
struct Newest {
    series: u32,
    /// The shape that is expected.
    shape: u32,
    /// The fields of the expected shape that are still expected, by place in [`Shapes`].
    rest: Range<usize>,
    /// The row is unlike the expected shape, and its fields are in `fields`.
    unlike: bool,
    fields: Vec<u32>,
}

impl Newest {
    /// Notes the fields so far by themselves.
    fn diverge(&mut self, shapes: &Shapes) {
        let places = shapes.places(self.shape);
        self.unlike = true;
        self.fields.clear();
        self.fields.extend_from_slice(shapes.at(places.start..self.rest.start));
    }
}

impl Default for Newest {
    fn default() -> Self {
        Self { series: NONE, shape: NONE, rest: 0..0, unlike: false, fields: Vec::new() }
    }
}

/// Rows of one measurement in the order in which they were stored.
#[derive(Debug, Default)]
pub struct RowLog {
    series: Vec<Arc<Series>>,
    by_key: Index,
    /// By series.
    history: Vec<History>,
    fields: Vec<Field>,
    by_field: Index,
    shapes: Shapes,
    rows: Vec<Row>,
    cells: Cells,
    newest: Newest,
    memory_of_names: usize,
}

/// One row: its cells stand behind those of the row before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Nanoseconds.
    pub(super) time: i64,
    pub(super) series: u32,
    /// The newest row may have none until it is complete.
    pub(super) shape: u32,
}

/// What a log holds, for the table that is made of it.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) series: Vec<Arc<Series>>,
    pub(super) fields: Vec<Field>,
    pub(super) shapes: Shapes,
    pub(super) rows: Vec<Row>,
    pub(super) cells: Cells,
}

impl RowLog {
    /// Number of a series that was seen before, by its raw key.
    #[must_use]
    pub fn find_series(&self, key: &[u8]) -> Option<u32> {
        let has_key = |number: u32| self.series[number as usize].key() == key;
        let newest = self.newest.series;
        if let Some(history) = self.history.get(newest as usize) {
            if has_key(history.successor) {
                return Some(history.successor);
            }
            if has_key(newest) {
                return Some(newest);
            }
        }
        self.by_key.find(self.by_key.hash(key), has_key)
    }

    /// Number of a series, which is new if its raw key is.
    pub fn add_series(&mut self, series: Arc<Series>) -> u32 {
        if let Some(number) = self.find_series(series.key()) {
            return number;
        }
        let number = number(self.series.len());
        self.memory_of_names += memory_of(&series);
        self.by_key.insert(self.by_key.hash(series.key()), number);
        self.series.push(series);
        // Most likely it has the fields of the row before.
        self.history.push(History { successor: number, shape: self.newest.shape });
        number
    }

    /// Begins a row of a series that [`RowLog::find_series`] or [`RowLog::add_series`] numbered.
    pub fn begin_row(&mut self, series: u32, time: i64) {
        self.end_row();
        if let Some(before) = self.history.get_mut(self.newest.series as usize) {
            before.successor = series;
        }
        self.rows.push(Row { time, series, shape: NONE });
        let newest = &mut self.newest;
        newest.series = series;
        newest.shape = self.history[series as usize].shape;
        newest.rest = self.shapes.places(newest.shape);
        newest.unlike = false;
    }

    /// Gives the newest row its shape.
    #[inline]
    fn end_row(&mut self) {
        if self.is_incomplete() {
            self.complete();
        }
    }

    #[inline]
    fn is_incomplete(&self) -> bool {
        self.rows.last().is_some_and(|row| row.shape == NONE)
    }

    fn complete(&mut self) {
        let newest = &mut self.newest;
        let Some(row) = self.rows.last_mut() else { return };
        if !newest.unlike && !newest.rest.is_empty() {
            newest.diverge(&self.shapes);
        }
        if newest.unlike || newest.shape == NONE {
            let fields = if newest.unlike { &newest.fields[..] } else { &[] };
            let is_string = |field: u32| self.fields[field as usize].is_string();
            newest.shape = self.shapes.number(fields, is_string);
            self.history[newest.series as usize].shape = newest.shape;
        }
        row.shape = newest.shape;
    }

    /// Number of the shape of rows with these fields, for [`RowLog::push_row`].
    pub fn shape_of<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], FieldType)>) -> u32 {
        let numbers: Vec<u32> =
            fields.map(|(name, field_type)| self.field_number(name, field_type)).collect();
        let fields = &self.fields;
        self.shapes.number(&numbers, |field| fields[field as usize].is_string())
    }

    /// Appends a whole row of a series and shape that this log numbered, and returns how many bytes
    /// it takes. `cells` has the value of each field as [`crate::value::Value::bits`] has it; of a
    /// string, where it begins in `text` (the high half) and how long it is.
    ///
    /// # Panics
    /// Where the shape has another number of fields than there are cells, or a string is not in
    /// `text`.
    pub fn push_row(
        &mut self,
        series: u32,
        time: i64,
        shape: u32,
        cells: &[u64],
        text: &[u8],
    ) -> usize {
        let mut added = 0;
        if self.is_incomplete() {
            let before = self.shapes.memory();
            self.complete();
            added += self.shapes.memory() - before;
        }
        let fields = self.shapes.fields(shape);
        assert_eq!(fields.len(), cells.len(), "a row of another shape");
        self.rows.push(Row { time, series, shape });
        self.newest.series = series;
        self.newest.shape = shape;
        let before = self.cells.strings.len();
        if self.shapes.has_strings(shape) {
            for (field, bits) in fields.iter().zip(cells) {
                let is_string = self.fields[*field as usize].is_string();
                self.cells.push_bits(*bits, is_string.then_some(text));
            }
        } else {
            self.cells.bits.extend_from_slice(cells);
        }
        added + ROW_BYTES + 8 * cells.len() + self.cells.strings.len() - before
    }

    /// Appends a cell to the row that was begun last. A field that the row holds already is
    /// written again: the later value wins.
    #[inline]
    pub fn push(&mut self, field: &[u8], value: Value<'_>) {
        let field_type = value.field_type();
        let newest = &mut self.newest;
        match self.shapes.at(newest.rest.clone()).first() {
            Some(&number)
                if !newest.unlike && self.fields[number as usize].is(field, field_type) =>
            {
                newest.rest.start += 1;
            }
            _ => self.push_unexpected(field, field_type),
        }
        self.cells.push(value);
    }

    /// Notes a field of a row that is not as expected.
    #[cold]
    fn push_unexpected(&mut self, name: &[u8], field_type: FieldType) {
        let newest = &mut self.newest;
        if !newest.unlike {
            newest.diverge(&self.shapes);
        }
        // Behind fields that are missing or new, the row may go on as expected.
        let rest = self.shapes.at(newest.rest.clone());
        let mut next = rest.iter().take(SKIPPED_MAX).map(|&number| &self.fields[number as usize]);
        if let Some(skipped) = next.position(|field| field.is(name, field_type)) {
            newest.fields.push(rest[skipped]);
            newest.rest.start += skipped + 1;
            return;
        }
        let number = self.field_number(name, field_type);
        self.newest.fields.push(number);
    }

    fn field_number(&mut self, name: &[u8], field_type: FieldType) -> u32 {
        let hash = self.by_field.hash(&(name, field_type));
        let is = |number: u32| self.fields[number as usize].is(name, field_type);
        if let Some(number) = self.by_field.find(hash, is) {
            return number;
        }
        let number = number(self.fields.len());
        self.memory_of_names += size_of::<Field>() + allocated(2 * size_of::<usize>() + name.len());
        self.fields.push(Field { name: name.into(), field_type });
        self.by_field.insert(hash, number);
        number
    }

    /// Each (field key, type) that was seen, in the order in which it came first.
    pub fn fields(&self) -> impl Iterator<Item = (&Arc<[u8]>, FieldType)> {
        self.fields.iter().map(|field| (&field.name, field.field_type))
    }

    /// Number of rows appended.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Bytes in use, here or in the table. While it works, [`RowLog::resolve`] takes at most 16 more
    /// a row and 48 a series.
    #[must_use]
    pub fn memory(&self) -> usize {
        // What was reserved beyond is not touched, and takes no memory yet.
        self.rows.len() * ROW_BYTES
            + self.cells.bits.len() * 8
            + self.cells.strings.len()
            + self.shapes.memory()
            + self.by_key.memory()
            + self.by_field.memory()
            + self.memory_of_names
    }

    /// Sorts the rows by (series key, time) and lets the later write of each cell win.
    #[must_use]
    pub fn resolve(mut self) -> Table {
        self.end_row();
        drop((self.by_key, self.by_field, self.history));
        Table::new(Parts {
            series: self.series,
            fields: self.fields,
            shapes: self.shapes,
            rows: self.rows,
            cells: self.cells,
        })
    }
}

/// Bytes of a row besides its cells: 16 in the log, and up to 24 in the table that is made of it.
const ROW_BYTES: usize = 24;

/// How many expected fields may be missing before one that is looked for among the expected.
const SKIPPED_MAX: usize = 8;

/// Bytes that a series takes: itself, its parts, and what the log keeps by series.
fn memory_of(series: &Series) -> usize {
    let tags: usize = series
        .tags()
        .iter()
        .map(|(key, value)| 4 * size_of::<usize>() + allocated(key.len()) + allocated(value.len()))
        .sum();
    size_of::<Arc<Series>>()
        + size_of::<History>()
        + allocated(2 * size_of::<usize>() + size_of::<Series>())
        + allocated(series.key().len())
        + allocated(series.measurement().len())
        + 2 * size_of::<usize>()
        + tags
}

/// Bytes that an allocator takes for `bytes`, as the usual ones do: a head, and a multiple of 16.
fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

#[cfg(test)]
mod tests;
