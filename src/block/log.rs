//! Rows of one measurement in storage order, and last-write-wins.
//!
//! Decoders append rows as they come ([`RowLog`]); [`RowLog::resolve`] sorts them by (series,
//! time) and lets the later write of a cell win ([`Table`]); [`Table::blocks`] hands them on.
//! This is the one place where last-write-wins is decided. Cells stand one behind another, not by
//! column, so that a measurement of thousands of fields whose lines hold one field each needs no
//! more memory than its cells.
//!
//! Two values of different types for one cell are *not* resolved here: a server would refuse the
//! second, so both are kept, in two columns of one name, and judged where types are judged.

use super::{Block, Column, Limits};
use crate::series::Series;
use crate::value::{FieldType, Value};
use crate::window::Window;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

/// Bytes in front of a string in [`Cells::strings`]: its length.
const STRING_HEAD: usize = size_of::<u64>();

/// One (field key, type) of a measurement.
#[derive(Clone, Debug)]
struct Field {
    name: Arc<[u8]>,
    field_type: FieldType,
}

/// Values of cells, addressed by cell number.
#[derive(Debug, Default)]
struct Cells {
    /// Index into the fields, of each cell.
    field: Vec<u32>,
    /// The value's 64 bits; for a string, where it begins in `strings`.
    bits: Vec<u64>,
    /// Strings, each behind its length.
    strings: Vec<u8>,
}

impl Cells {
    fn push(&mut self, field: u32, value: Value<'_>) {
        self.field.push(field);
        match value {
            Value::String(bytes) => {
                self.bits.push(self.strings.len() as u64);
                self.strings.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                self.strings.extend_from_slice(bytes);
            }
            scalar => self.bits.push(scalar.bits().unwrap_or_default()),
        }
    }

    fn value(&self, cell: usize, field_type: FieldType) -> Value<'_> {
        let bits = self.bits[cell];
        match field_type {
            FieldType::Float => Value::Float(f64::from_bits(bits)),
            FieldType::Integer => Value::Integer(bits.cast_signed()),
            FieldType::Unsigned => Value::Unsigned(bits),
            FieldType::Boolean => Value::Boolean(bits != 0),
            FieldType::String => Value::String(self.string(bits)),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "lengths and offsets came from usize")]
    fn string(&self, offset: u64) -> &[u8] {
        let start = offset as usize + STRING_HEAD;
        let mut head = [0; STRING_HEAD];
        head.copy_from_slice(&self.strings[start - STRING_HEAD..start]);
        &self.strings[start..start + u64::from_le_bytes(head) as usize]
    }

    fn memory(&self) -> usize {
        // What was reserved beyond is not touched, and takes no memory yet.
        self.field.len() * 4 + self.bits.len() * 8 + self.strings.len()
    }
}

/// Rows of one measurement in the order in which they were stored.
#[derive(Debug, Default)]
pub struct RowLog {
    series: Vec<Arc<Series>>,
    by_key: HashMap<ByKey, u32, foldhash::fast::RandomState>,
    fields: Vec<Field>,
    by_field: HashMap<(Arc<[u8]>, FieldType), u32, foldhash::fast::RandomState>,
    rows: Vec<Row>,
    cells: Cells,
    /// Fields of the newest row so far, by position: the next row usually has the same.
    newest: Vec<u32>,
    /// Fields of the row before it.
    predicted: Vec<u32>,
    memory_of_names: usize,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    series: u32,
    time: i64,
    /// Number of the first cell; the next row's is the end.
    cells: usize,
}

impl RowLog {
    /// Number of a series that was seen before, by its raw key.
    #[must_use]
    pub fn find_series(&self, key: &[u8]) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Number of a series, which is new if its raw key is.
    pub fn add_series(&mut self, series: Arc<Series>) -> u32 {
        if let Some(number) = self.find_series(series.key()) {
            return number;
        }
        let number = number(self.series.len());
        self.memory_of_names += series.memory() + 48;
        self.by_key.insert(ByKey(Arc::clone(&series)), number);
        self.series.push(series);
        number
    }

    /// Begins a row of a series that [`RowLog::find_series`] or [`RowLog::add_series`] numbered.
    pub fn begin_row(&mut self, series: u32, time: i64) {
        self.rows.push(Row { series, time, cells: self.cells.field.len() });
        std::mem::swap(&mut self.newest, &mut self.predicted);
        self.newest.clear();
    }

    /// Appends a cell to the row that was begun last. A field that the row holds already is
    /// written again: the later value wins.
    pub fn push(&mut self, field: &[u8], value: Value<'_>) {
        let field_type = value.field_type();
        let predicted = self.predicted.get(self.newest.len()).copied().filter(|&predicted| {
            let known = &self.fields[predicted as usize];
            known.field_type == field_type && *known.name == *field
        });
        let number = predicted.unwrap_or_else(|| self.field_number(field, field_type));
        self.newest.push(number);
        self.cells.push(number, value);
    }

    fn field_number(&mut self, name: &[u8], field_type: FieldType) -> u32 {
        let key = (Arc::from(name), field_type);
        if let Some(&number) = self.by_field.get(&key) {
            return number;
        }
        let number = number(self.fields.len());
        self.memory_of_names += name.len() + 96;
        self.fields.push(Field { name: Arc::clone(&key.0), field_type });
        self.by_field.insert(key, number);
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

    /// Bytes in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.rows.len() * size_of::<Row>() + self.cells.memory() + self.memory_of_names
    }

    /// Sorts the rows by (series key, time) and lets the later write of each cell win.
    #[must_use]
    pub fn resolve(self) -> Table {
        let rank = ranks(&self.series);
        let mut order: Vec<u32> = (0..number(self.rows.len())).collect();
        // The row number as last resort keeps the storage order among equals.
        order.sort_unstable_by_key(|&at| {
            let row = &self.rows[at as usize];
            (rank[row.series as usize], row.time, at)
        });
        let mut table = Table { fields: self.fields.clone(), ..Table::default() };
        let mut latest = Latest::new(self.fields.len());
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let row = self.rows[first as usize];
            let same = rest.iter().take_while(|&&at| {
                let other = self.rows[at as usize];
                other.series == row.series && other.time == row.time
            });
            let (group, after) = rest.split_at(same.count());
            rest = after;
            table.begin_row(&self.series[row.series as usize], row.time);
            for &at in group {
                for cell in self.cells_of(at as usize) {
                    table.superseded += u64::from(latest.set(self.cells.field[cell], cell));
                }
            }
            for (field, cell) in latest.drain() {
                let field_type = self.fields[field as usize].field_type;
                table.cells.push(field, self.cells.value(cell, field_type));
            }
        }
        table.finish();
        table
    }

    fn cells_of(&self, row: usize) -> Range<usize> {
        let end = self.rows.get(row + 1).map_or(self.cells.field.len(), |next| next.cells);
        self.rows[row].cells..end
    }
}

/// Place of each series in the order of raw keys.
fn ranks(series: &[Arc<Series>]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..number(series.len())).collect();
    order.sort_unstable_by_key(|&at| series[at as usize].key());
    let mut rank = vec![0; series.len()];
    for (place, &at) in order.iter().enumerate() {
        rank[at as usize] = number(place);
    }
    rank
}

/// The latest cell of each field, while the writes of one (series, time) are gone through.
struct Latest {
    /// Cell number + 1 by field, 0 where there is none.
    cell: Vec<usize>,
    fields: Vec<u32>,
}

impl Latest {
    fn new(fields: usize) -> Self {
        Self { cell: vec![0; fields], fields: Vec::new() }
    }

    /// True where an earlier write was superseded.
    fn set(&mut self, field: u32, cell: usize) -> bool {
        let slot = &mut self.cell[field as usize];
        let superseded = *slot != 0;
        if !superseded {
            self.fields.push(field);
        }
        *slot = cell + 1;
        superseded
    }

    fn drain(&mut self) -> impl Iterator<Item = (u32, usize)> {
        let cells = &mut self.cell;
        self.fields.drain(..).map(|field| (field, std::mem::take(&mut cells[field as usize]) - 1))
    }
}

/// Rows of one measurement, sorted by (series key, time), each cell once.
#[derive(Debug, Default)]
pub struct Table {
    series: Vec<Arc<Series>>,
    /// Row at which each series begins, and the number of rows at the end.
    starts: Vec<usize>,
    fields: Vec<Field>,
    times: Vec<i64>,
    /// Number of the first cell of each row, and the number of cells at the end.
    row_cells: Vec<usize>,
    cells: Cells,
    superseded: u64,
}

impl Table {
    fn begin_row(&mut self, series: &Arc<Series>, time: i64) {
        if self.series.last().is_none_or(|last| !Arc::ptr_eq(last, series)) {
            self.series.push(Arc::clone(series));
            self.starts.push(self.times.len());
        }
        self.times.push(time);
        self.row_cells.push(self.cells.field.len());
    }

    fn finish(&mut self) {
        self.starts.push(self.times.len());
        self.row_cells.push(self.cells.field.len());
    }

    /// Cells that a later write replaced.
    #[must_use]
    pub fn superseded(&self) -> u64 {
        self.superseded
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.cells.field.len() as u64
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
        Blocks { table: self, window, limits, series: 0, row: 0 }
    }

    /// Rows of one series inside a window.
    fn rows_of(&self, series: usize, window: Window) -> Range<usize> {
        let all = self.starts[series]..self.starts[series + 1];
        let times = &self.times[all.clone()];
        let start = all.start + times.partition_point(|&time| time < window.start);
        let end = all.start + times.partition_point(|&time| time < window.end);
        start..end.max(start)
    }
}

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

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let mut builder = Builder::new(self.table, self.limits);
        while self.series < self.table.series.len() {
            let rows = self.table.rows_of(self.series, self.window);
            let from = self.row.max(rows.start);
            let taken = builder.take(self.series, from..rows.end);
            self.row = from + taken;
            if self.row < rows.end {
                break;
            }
            self.series += 1;
        }
        builder.finish()
    }
}

/// One block being filled from a table.
struct Builder<'a> {
    table: &'a Table,
    limits: Limits,
    block: Block,
    /// Column of each field of the table + 1, 0 where the block has none.
    column: Vec<usize>,
    /// Bytes of strings and series.
    bytes: usize,
}

impl<'a> Builder<'a> {
    fn new(table: &'a Table, limits: Limits) -> Self {
        let column = vec![0; table.fields.len()];
        Self { table, limits, block: Block::default(), column, bytes: 0 }
    }

    /// Copies rows of one series until the block is full; returns how many.
    fn take(&mut self, series: usize, rows: Range<usize>) -> usize {
        let first = self.block.rows();
        for row in rows.clone() {
            // A column takes eight bytes a row, present or not.
            let dense = (self.block.columns.len() + 1) * self.block.rows() * 8;
            let full = self.block.rows() >= self.limits.rows_max
                || dense + self.bytes > self.limits.bytes_max;
            if full && self.block.rows() > 0 {
                break;
            }
            self.copy_row(row);
        }
        let taken = self.block.rows() - first;
        if taken > 0 {
            self.bytes += self.table.series[series].memory();
            self.block.series.push(Arc::clone(&self.table.series[series]));
            self.block.starts.push(first);
        }
        taken
    }

    fn copy_row(&mut self, row: usize) {
        let at = self.block.rows();
        self.block.times.push(self.table.times[row]);
        for cell in self.table.row_cells[row]..self.table.row_cells[row + 1] {
            let number = self.table.cells.field[cell] as usize;
            let field = &self.table.fields[number];
            let value = self.table.cells.value(cell, field.field_type);
            if self.column[number] == 0 {
                self.block.columns.push(Column::new(Arc::clone(&field.name), field.field_type));
                self.column[number] = self.block.columns.len();
            }
            if let Value::String(bytes) = value {
                self.bytes += bytes.len();
            }
            self.block.columns[self.column[number] - 1].set(at, value);
        }
    }

    fn finish(mut self) -> Option<Block> {
        let rows = self.block.rows();
        self.block.starts.push(rows);
        self.block.sort_columns();
        for column in &mut self.block.columns {
            column.fill(rows);
        }
        (rows > 0).then_some(self.block)
    }
}

/// A series in the map of a log, found by its raw key.
#[derive(Debug)]
struct ByKey(Arc<Series>);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

/// A count as u32. Callers keep logs within the memory budget, far below 2^32 rows.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a log within the memory budget has fewer than 2^32 rows")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(blocks.iter().all(|block| block.rows() <= crate::block::ROWS_MAX));
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
