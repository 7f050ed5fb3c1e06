//! The one shape of data in memory: rows of one measurement, by column.
//!
//! ```text
//! series   cpu,host=a          cpu,host=b
//! starts   0          2        2        3
//! times    10   20             10
//! usage    1.5  2.5            -          float,  present 110
//! note     -    "up"           "down"     string, present 011
//! ```
//!
//! A block is sorted by (series, time), holds a (series, time) once, and is as large as
//! [`Limits`] let it be. It is made by [`log::RowLog`], where last-write-wins is resolved, or by
//! [`build::Builder`] from rows that come in that order already.

mod arrange;
mod blocks;
pub mod build;
pub mod bulk;
pub(crate) mod index;
pub mod log;
mod runs;
mod shape;
pub mod stored;
mod table;

use crate::series::Series;
use crate::value::{FieldType, Value};
use log::Cells;
use std::ops::Range;
use std::sync::Arc;

/// Most rows in an ordinary block.
pub const ROWS_MAX: usize = 65_536;
/// Bytes of columns and series at which an ordinary block is closed.
pub const BYTES_MAX: usize = 2 << 20;

/// How large blocks become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most rows in one block.
    pub rows_max: usize,
    /// Bytes of columns and of the block's series at which a block is closed; one row alone may
    /// be larger.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows_max: ROWS_MAX, bytes_max: BYTES_MAX }
    }
}

/// Rows of one measurement, sorted by (series, time), each (series, time) once.
#[derive(Debug, Default)]
pub struct Block {
    series: Vec<Arc<Series>>,
    /// Row at which each series begins, and the number of rows at the end.
    starts: Vec<usize>,
    times: Vec<i64>,
    columns: Vec<Column>,
}

impl Block {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// Number of cells: values that are present.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.columns.iter().map(Column::cells).sum()
    }

    /// Time of each row, nanoseconds.
    #[must_use]
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// The series, in order.
    #[must_use]
    pub fn series(&self) -> &[Arc<Series>] {
        &self.series
    }

    /// Row at which each series begins, and the number of rows at the end.
    #[must_use]
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The columns. Two may share a name if their types differ.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Each series with its rows, in order.
    pub fn runs(&self) -> impl Iterator<Item = (&Arc<Series>, Range<usize>)> {
        self.series
            .iter()
            .zip(self.starts.windows(2))
            .map(|(series, pair)| (series, pair[0]..pair[1]))
    }

    /// Puts the values of the columns of one field that have another type than `keep` into a column
    /// of that type, as far as `cast` makes them fit, in the rows that `wanted` admits by their
    /// time. What does not fit is gone, and so is what stands beside a value of the type that is
    /// kept.
    pub fn retype(
        &mut self,
        field: &[u8],
        keep: FieldType,
        wanted: impl Fn(i64) -> bool,
        cast: impl for<'v> Fn(Value<'v>, &'v mut Vec<u8>) -> Option<Value<'v>>,
    ) {
        let loses = |column: &Column| *column.field == *field && column.field_type() != keep;
        if !self.columns.iter().any(loses) {
            return;
        }
        let (mut same, rest): (Vec<Column>, Vec<Column>) =
            std::mem::take(&mut self.columns).into_iter().partition(|one| *one.field == *field);
        self.columns = rest;
        let kept = same.iter().position(|one| one.field_type() == keep).map(|at| same.remove(at));
        let mut united = Column::new(Arc::clone(&same[0].field), keep, 0);
        let mut text = Vec::new();
        for (row, time) in self.times.iter().enumerate() {
            let value = kept.as_ref().and_then(|kept| kept.get(row));
            if let Some(value) = value {
                united.set(row, value);
                continue;
            }
            for other in same.iter().filter(|_| wanted(*time)) {
                if let Some(value) = other.get(row).and_then(|value| cast(value, &mut text)) {
                    united.set(row, value);
                    break;
                }
            }
        }
        united.fill(self.rows());
        // Rows that are not wanted keep what they have.
        for column in same {
            let mut rest = Column::new(Arc::clone(&column.field), column.field_type(), 0);
            for row in (0..self.rows()).filter(|row| !wanted(self.times[*row])) {
                column.get(row).into_iter().for_each(|value| rest.set(row, value));
            }
            rest.fill(self.rows());
            self.columns.push(rest);
        }
        self.columns.push(united);
        self.columns.retain(|column| column.present.count() > 0);
        self.sort_columns();
    }

    /// Rows are written in the order of columns, which must not depend on how blocks were made.
    fn sort_columns(&mut self) {
        let order = |column: &Column| (Arc::clone(&column.field), column.field_type());
        self.columns.sort_by_cached_key(order);
    }
}

/// One field of a block.
#[derive(Debug)]
pub struct Column {
    /// Field key, unescaped.
    pub field: Arc<[u8]>,
    present: Bits,
    values: Values,
}

impl Column {
    /// An empty column with room for `rows` rows.
    fn new(field: Arc<[u8]>, field_type: FieldType, rows: usize) -> Self {
        let present = Bits(vec![0; rows.div_ceil(64)]);
        Self { field, present, values: Values::new(field_type, rows) }
    }

    /// Type of every value in the column.
    #[must_use]
    pub fn field_type(&self) -> FieldType {
        match self.values {
            Values::Float(_) => FieldType::Float,
            Values::Integer(_) => FieldType::Integer,
            Values::Unsigned(_) => FieldType::Unsigned,
            Values::Boolean(_) => FieldType::Boolean,
            Values::String { .. } => FieldType::String,
        }
    }

    /// Number of values that are present.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.present.count()
    }

    /// True where the row has a value.
    #[inline]
    pub(crate) fn is_present(&self, row: usize) -> bool {
        self.present.get(row)
    }

    /// True where every one of the rows has a value.
    pub(crate) fn is_full(&self, rows: Range<usize>) -> bool {
        self.present.all(rows)
    }

    /// The values of all rows; what stands in a row that has none means nothing.
    #[inline]
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// The value in one row, if it is present.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<Value<'_>> {
        if !self.present.get(row) {
            return None;
        }
        Some(match &self.values {
            Values::Float(values) => Value::Float(values[row]),
            Values::Integer(values) => Value::Integer(values[row]),
            Values::Unsigned(values) => Value::Unsigned(values[row]),
            Values::Boolean(values) => Value::Boolean(values[row]),
            Values::String { ends, bytes } => Value::String(string(ends, bytes, row)),
        })
    }

    /// Sets the values of the rows from `at` on, behind all that are set: of each, `firsts` has the
    /// number of its first cell, behind which the value stands at `place`.
    fn set_all(&mut self, at: usize, firsts: &[usize], place: usize, cells: &Cells) {
        self.present.set_all(at..at + firsts.len());
        let bits = firsts.iter().map(|first| cells.bits[first + place]);
        match &mut self.values {
            Values::Float(values) => append(values, at, bits.map(f64::from_bits)),
            Values::Integer(values) => append(values, at, bits.map(u64::cast_signed)),
            Values::Unsigned(values) => append(values, at, bits),
            Values::Boolean(values) => append(values, at, bits.map(|bits| bits != 0)),
            Values::String { ends, bytes } => {
                ends.resize(at, bytes.len());
                for bits in bits {
                    bytes.extend_from_slice(cells.string(bits));
                    ends.push(bytes.len());
                }
            }
        }
    }

    /// True where a series of the block that is wanted has a value in the column.
    pub fn is_set(&self, block: &Block, wanted: impl Fn(&Series) -> bool) -> bool {
        let mut rows = block.runs().filter(|(series, _)| wanted(series)).flat_map(|(_, rows)| rows);
        rows.any(|row| self.present.get(row))
    }

    /// Sets the value of `row`; the rows before it that have none become absent.
    fn set(&mut self, row: usize, value: Value<'_>) {
        match (&mut self.values, value) {
            (Values::Float(values), Value::Float(value)) => put(values, row, value),
            (Values::Integer(values), Value::Integer(value)) => put(values, row, value),
            (Values::Unsigned(values), Value::Unsigned(value)) => put(values, row, value),
            (Values::Boolean(values), Value::Boolean(value)) => put(values, row, value),
            (Values::String { ends, bytes }, Value::String(value)) => {
                ends.resize(row, bytes.len());
                bytes.extend_from_slice(value);
                ends.push(bytes.len());
            }
            (_, value) => unreachable!("a {} in a column of another type", value.field_type()),
        }
        self.present.set(row);
    }

    /// Forgets all values and keeps their memory.
    fn clear(&mut self) {
        self.present.0.clear();
        match &mut self.values {
            Values::Float(values) => values.clear(),
            Values::Integer(values) => values.clear(),
            Values::Unsigned(values) => values.clear(),
            Values::Boolean(values) => values.clear(),
            Values::String { ends, bytes } => {
                ends.clear();
                bytes.clear();
            }
        }
    }

    /// Gives the column `rows` rows, the new ones absent.
    fn fill(&mut self, rows: usize) {
        match &mut self.values {
            Values::Float(values) => values.resize(rows, 0.0),
            Values::Integer(values) => values.resize(rows, 0),
            Values::Unsigned(values) => values.resize(rows, 0),
            Values::Boolean(values) => values.resize(rows, false),
            Values::String { ends, bytes } => ends.resize(rows, bytes.len()),
        }
    }
}

/// Puts values from `at` on, behind defaults where the rows before have none.
fn append<T: Copy + Default>(values: &mut Vec<T>, at: usize, more: impl Iterator<Item = T>) {
    values.resize(at, T::default());
    values.extend(more);
}

/// Puts a value at `row`, behind defaults where the rows before it have none.
fn put<T: Copy + Default>(values: &mut Vec<T>, row: usize, value: T) {
    if values.len() != row {
        values.resize(row, T::default());
    }
    values.push(value);
}

/// The string of one row, from [`Values::String`].
pub(crate) fn string<'a>(ends: &[usize], bytes: &'a [u8], row: usize) -> &'a [u8] {
    let start = if row == 0 { 0 } else { ends[row - 1] };
    &bytes[start..ends[row]]
}

/// Values of one column, by row.
#[derive(Debug)]
pub(crate) enum Values {
    Float(Vec<f64>),
    Integer(Vec<i64>),
    Unsigned(Vec<u64>),
    Boolean(Vec<bool>),
    /// End of each row's bytes in `bytes`; an absent row is empty.
    String {
        ends: Vec<usize>,
        bytes: Vec<u8>,
    },
}

impl Values {
    /// No values, with room for `rows`.
    fn new(field_type: FieldType, rows: usize) -> Self {
        match field_type {
            FieldType::Float => Self::Float(Vec::with_capacity(rows)),
            FieldType::Integer => Self::Integer(Vec::with_capacity(rows)),
            FieldType::Unsigned => Self::Unsigned(Vec::with_capacity(rows)),
            FieldType::Boolean => Self::Boolean(Vec::with_capacity(rows)),
            FieldType::String => Self::String { ends: Vec::with_capacity(rows), bytes: Vec::new() },
        }
    }
}

/// A growing set of row numbers.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    #[inline]
    fn get(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, at: usize) {
        if self.0.len() <= at / 64 {
            self.0.resize(at / 64 + 1, 0);
        }
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// Makes room for so many bits.
    fn reach(&mut self, end: usize) {
        if self.0.len() < end.div_ceil(64) {
            self.0.resize(end.div_ceil(64), 0);
        }
    }

    /// Sets what lies within the words that there are.
    fn set_all(&mut self, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let count = (64 - at % 64).min(range.end - at);
            self.0[at / 64] |= u64::MAX >> (64 - count) << (at % 64);
            at += count;
        }
    }

    /// True where all of a range are set.
    fn all(&self, range: Range<usize>) -> bool {
        let mut at = range.start;
        while at < range.end {
            let count = (64 - at % 64).min(range.end - at);
            let wanted = u64::MAX >> (64 - count) << (at % 64);
            if self.0.get(at / 64).is_none_or(|word| word & wanted != wanted) {
                return false;
            }
            at += count;
        }
        true
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// A count as u32. Callers keep logs within the memory budget, far below 2^32 rows.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a log within the memory budget has fewer than 2^32 rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::log::RowLog;
    use crate::window::Window;

    /// A block of two series with a field of two types.
    fn block() -> Block {
        let mut log = RowLog::default();
        for key in [&b"m,a=1"[..], b"m,a=2"] {
            let series = Series::new(key.into(), b"m"[..].into(), Vec::new(), true);
            let series = log.add_series(Arc::new(series));
            for time in 0..10 {
                log.begin_row(series, time);
                log.push(b"s", Value::String(b"x"));
                if time % 2 == 0 {
                    log.push(b"f", Value::Integer(time));
                }
                if time > 7 {
                    log.push(b"f", Value::Float(0.5));
                }
            }
        }
        log.resolve().blocks(Window::ALL).next().unwrap()
    }

    fn cells(block: &Block) -> Vec<(String, i64, String, String)> {
        let mut cells = Vec::new();
        for (series, rows) in block.runs() {
            for row in rows {
                for column in block.columns() {
                    let Some(value) = column.get(row) else { continue };
                    let field = String::from_utf8_lossy(&column.field).into_owned();
                    cells.push((
                        series.to_string(),
                        block.times()[row],
                        field,
                        format!("{value:?}"),
                    ));
                }
            }
        }
        cells
    }

    #[test]
    fn a_window_cuts_rows_and_columns_and_nothing_else() {
        let all = cells(&block());
        for (start, end) in [(0, 10), (3, 9), (9, 10), (-5, 1), (10, 20), (4, 4)] {
            let window = Window { start, end };
            let inside = all.iter().filter(|cell| window.contains(cell.1)).cloned();
            let cut = block().within(window);
            let expected: Vec<_> = inside.collect();
            assert_eq!(cut.as_ref().map(cells).unwrap_or_default(), expected, "{window:?}");
            let columns = cut.iter().flat_map(|block| block.columns());
            assert!(columns.into_iter().all(|column| column.cells() > 0));
        }
    }

    #[test]
    fn a_field_gets_one_type_where_that_is_wanted_and_keeps_both_elsewhere() {
        let mut cast = block();
        cast.retype(
            b"f",
            FieldType::Float,
            |time| time < 9,
            |value, _| match value {
                Value::Integer(4) | Value::String(_) => None,
                Value::Integer(whole) => {
                    Some(Value::Float(f64::from(u8::try_from(whole).unwrap())))
                }
                other => Some(other),
            },
        );
        let found: Vec<_> = cells(&cast)
            .into_iter()
            .filter(|cell| cell.0 == "m,a=2" && cell.2 == "f")
            .map(|cell| (cell.1, cell.3))
            .collect();
        // At 4 it does not fit; at 8 there is a value of the type that is kept.
        let floats = [(0, "0.0"), (2, "2.0"), (6, "6.0"), (8, "0.5"), (9, "0.5")];
        assert_eq!(found, floats.map(|(time, value)| (time, format!("Float({value})"))));
        assert_eq!(cells(&cast).iter().filter(|cell| cell.2 == "s").count(), 20);

        let mut outside = block();
        outside.retype(b"f", FieldType::Float, |_| false, |_, _| None);
        assert_eq!(cells(&outside), cells(&block()));
    }
}
