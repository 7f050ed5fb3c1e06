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
            Value::String(bytes) => {
                let at = self.strings.len() as u64;
                self.strings.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                self.strings.extend_from_slice(bytes);
                at
            }
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
    rows: Rows,
    cells: Cells,
    newest: Newest,
    memory_of_names: usize,
}

/// The rows by number: what a block is made of once the order is known.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) shapes: Shapes,
    /// Shape of each row; the newest row has none until it is complete.
    pub(super) shape: Vec<u32>,
    /// Number of each row's first cell.
    pub(super) cells: Vec<usize>,
    pub(super) series: Vec<u32>,
    pub(super) time: Vec<i64>,
}

impl Rows {
    /// The fields of a row, and the numbers of its cells.
    pub(super) fn cells_of(&self, row: u32) -> (&[u32], Range<usize>) {
        let fields = self.shapes.fields(self.shape[row as usize]);
        let first = self.cells[row as usize];
        (fields, first..first + fields.len())
    }
}

/// What a log holds, for the table that is made of it.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) series: Vec<Arc<Series>>,
    pub(super) fields: Vec<Field>,
    pub(super) rows: Rows,
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
        self.rows.series.push(series);
        self.rows.time.push(time);
        self.rows.cells.push(self.cells.bits.len());
        let newest = &mut self.newest;
        newest.series = series;
        newest.shape = self.history[series as usize].shape;
        newest.rest = self.rows.shapes.places(newest.shape);
        newest.unlike = false;
    }

    /// Gives the newest row its shape.
    fn end_row(&mut self) {
        let (rows, newest) = (&mut self.rows, &mut self.newest);
        if rows.shape.len() == rows.time.len() {
            return;
        }
        if !newest.unlike && !newest.rest.is_empty() {
            newest.diverge(&rows.shapes);
        }
        if newest.unlike || newest.shape == NONE {
            newest.shape = rows.shapes.number(if newest.unlike { &newest.fields } else { &[] });
            self.history[newest.series as usize].shape = newest.shape;
        }
        rows.shape.push(newest.shape);
    }

    /// Appends a cell to the row that was begun last. A field that the row holds already is
    /// written again: the later value wins.
    #[inline]
    pub fn push(&mut self, field: &[u8], value: Value<'_>) {
        let field_type = value.field_type();
        let newest = &mut self.newest;
        match self.rows.shapes.at(newest.rest.clone()).first() {
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
            newest.diverge(&self.rows.shapes);
        }
        // Behind fields that are missing or new, the row may go on as expected.
        let rest = self.rows.shapes.at(newest.rest.clone());
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
        self.rows.time.len()
    }

    /// Bytes in use. [`RowLog::resolve`] takes at most 16 more a row and 48 a series.
    #[must_use]
    pub fn memory(&self) -> usize {
        // What was reserved beyond is not touched, and takes no memory yet.
        self.rows.time.len() * ROW_BYTES
            + self.cells.bits.len() * 8
            + self.cells.strings.len()
            + self.rows.shapes.memory()
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
            rows: self.rows,
            cells: self.cells,
        })
    }
}

/// Bytes of a row besides its cells: shape, first cell, series, time.
const ROW_BYTES: usize = 4 + 8 + 4 + 8;

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
mod tests {
    use super::*;
    use crate::block::{Block, Limits, ROWS_MAX};
    use crate::window::Window;

    fn series(key: &str) -> Arc<Series> {
        Arc::new(Series::new(key.as_bytes().into(), b"m"[..].into(), Vec::new(), true))
    }

    type Cell<'a> = (&'a str, Value<'a>);

    fn log(rows: &[(&str, i64, &[Cell<'_>])]) -> RowLog {
        let mut log = RowLog::default();
        for (key, time, cells) in rows {
            let series = log.add_series(series(key));
            log.begin_row(series, *time);
            for (field, value) in *cells {
                log.push(field.as_bytes(), *value);
            }
        }
        log
    }

    fn dump(table: &Table, window: Window) -> Vec<String> {
        let mut out = Vec::new();
        for block in table.blocks(window) {
            for (series, rows) in block.runs() {
                for row in rows {
                    for column in block.columns() {
                        if let Some(value) = column.get(row) {
                            let field = String::from_utf8_lossy(&column.field);
                            out.push(format!("{series} {} {field} {value:?}", block.times()[row]));
                        }
                    }
                }
            }
        }
        out
    }

    #[test]
    fn the_later_write_of_a_cell_wins_and_fields_unite() {
        let table = log(&[
            ("m,h=b", 2, &[("v", Value::Integer(1))]),
            ("m,h=a", 9, &[("v", Value::Integer(2))]),
            ("m,h=b", 2, &[("w", Value::String(b"x"))]),
            ("m,h=b", 1, &[("v", Value::Integer(3))]),
            ("m,h=b", 2, &[("v", Value::Integer(4)), ("v", Value::Integer(5))]),
        ])
        .resolve();
        assert_eq!(table.superseded(), 2);
        assert_eq!(table.cells(), 4);
        assert_eq!(
            dump(&table, Window::ALL),
            [
                "m,h=a 9 v Integer(2)",
                "m,h=b 1 v Integer(3)",
                "m,h=b 2 v Integer(5)",
                "m,h=b 2 w String([120])"
            ]
        );
        assert_eq!(dump(&table, Window { start: 2, end: 9 }).len(), 2);
        assert!(dump(&table, Window { start: 3, end: 9 }).is_empty());
    }

    #[test]
    fn values_of_two_types_are_both_kept() {
        let table =
            log(&[("m", 1, &[("v", Value::Integer(1))]), ("m", 1, &[("v", Value::Float(1.0))])])
                .resolve();
        assert_eq!(table.superseded(), 0);
        assert_eq!(table.cells(), 2);
    }

    #[test]
    fn blocks_stay_within_their_limits_and_lose_no_row() {
        let mut log = RowLog::default();
        let number = log.add_series(series("m"));
        let text = vec![b'x'; 1 << 20];
        for time in 0..200_000 {
            log.begin_row(number, time);
            log.push(b"v", Value::Integer(time));
            if time % 10_000 == 0 {
                log.push(b"text", Value::String(&text));
            }
        }
        let table = log.resolve();
        let blocks: Vec<Block> = table.blocks(Window::ALL).collect();
        assert!(blocks.iter().all(|block| block.rows() <= ROWS_MAX));
        let times: Vec<i64> = blocks.iter().flat_map(|block| block.times().to_vec()).collect();
        assert_eq!(times, (0..200_000).collect::<Vec<_>>());
        assert_eq!(blocks.iter().map(Block::cells).sum::<u64>(), table.cells());
    }

    #[test]
    fn the_series_of_a_block_count_towards_its_bytes() {
        let mut log = RowLog::default();
        for host in 0..5_000 {
            let number = log.add_series(series(&format!("m,h={host:04}")));
            log.begin_row(number, 1);
            log.push(b"v", Value::Integer(host));
        }
        let table = log.resolve();
        for bytes_max in [0, 10_000, 100_000, usize::MAX] {
            let limits = Limits { rows_max: 4_000, bytes_max };
            let blocks: Vec<Block> = table.blocks_within(Window::ALL, limits).collect();
            assert_eq!(blocks.iter().map(Block::rows).sum::<usize>(), 5_000);
            for block in &blocks {
                let series: Vec<_> = block.runs().map(|(series, _)| series.memory()).collect();
                let last = series.last().unwrap();
                assert!(series.iter().sum::<usize>() - last <= bytes_max);
                assert!(block.rows() <= 4_000 && (bytes_max > 0 || block.rows() == 1));
            }
        }
    }

    #[test]
    fn thousands_of_sparse_fields_take_memory_by_cell() {
        let mut log = RowLog::default();
        for row in 0..20_000_i64 {
            let number = log.add_series(series(&format!("m,h={}", row % 7)));
            log.begin_row(number, row);
            log.push(format!("f{}", row % 4_000).as_bytes(), Value::Integer(row));
        }
        assert!(log.memory() < 4 << 20, "{}", log.memory());
        let table = log.resolve();
        let cells: u64 = table.blocks(Window::ALL).map(|block| block.cells()).sum();
        assert_eq!(cells, 20_000);
    }
}
