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
//! A block is sorted by (series, time), holds a (series, time) once, and has at most
//! [`ROWS_MAX`] rows. It is made by [`log::RowLog`], where last-write-wins is resolved, or by
//! [`build::Builder`] from rows that come in that order already.

pub mod build;
pub mod log;

use crate::series::Series;
use crate::value::{FieldType, Value};
use std::ops::Range;
use std::sync::Arc;

/// Most rows in one block.
pub const ROWS_MAX: usize = 65_536;
/// Bytes of columns at which a block is closed.
pub const BYTES_MAX: usize = 8 << 20;

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
        self.columns.iter().map(|column| column.present.count()).sum()
    }

    /// Time of each row, nanoseconds.
    #[must_use]
    pub fn times(&self) -> &[i64] {
        &self.times
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
    fn new(field: Arc<[u8]>, field_type: FieldType) -> Self {
        Self { field, present: Bits::default(), values: Values::new(field_type) }
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
            Values::String { ends, bytes } => {
                let start = if row == 0 { 0 } else { ends[row - 1] };
                Value::String(&bytes[start..ends[row]])
            }
        })
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

/// Puts a value at `row`, behind defaults where the rows before it have none.
fn put<T: Copy + Default>(values: &mut Vec<T>, row: usize, value: T) {
    if values.len() != row {
        values.resize(row, T::default());
    }
    values.push(value);
}

#[derive(Debug)]
enum Values {
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
    fn new(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Float => Self::Float(Vec::new()),
            FieldType::Integer => Self::Integer(Vec::new()),
            FieldType::Unsigned => Self::Unsigned(Vec::new()),
            FieldType::Boolean => Self::Boolean(Vec::new()),
            FieldType::String => Self::String { ends: Vec::new(), bytes: Vec::new() },
        }
    }
}

/// A growing set of row numbers.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn get(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, at: usize) {
        if self.0.len() <= at / 64 {
            self.0.resize(at / 64 + 1, 0);
        }
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}
