//! Whole columns put into a block at once, for places that store by column.

use super::build::Builder;
use super::{Column, Values};
use crate::value::{FieldType, Value};
use std::ops::Range;
use std::sync::Arc;

/// Values of one type, one behind the other.
#[derive(Clone, Copy, Debug)]
pub enum Slice<'a> {
    /// 64-bit IEEE 754.
    Float(&'a [f64]),
    /// Signed 64-bit.
    Integer(&'a [i64]),
    /// Unsigned 64-bit.
    Unsigned(&'a [u64]),
    /// True or false.
    Boolean(&'a [bool]),
    /// Bytes: the end of each string in the bytes of all.
    String(&'a [usize], &'a [u8]),
}

impl Slice<'_> {
    /// Type of every value.
    #[must_use]
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::Boolean(_) => FieldType::Boolean,
            Self::String(..) => FieldType::String,
        }
    }

    fn get(&self, at: usize) -> Value<'_> {
        match self {
            Self::Float(values) => Value::Float(values[at]),
            Self::Integer(values) => Value::Integer(values[at]),
            Self::Unsigned(values) => Value::Unsigned(values[at]),
            Self::Boolean(values) => Value::Boolean(values[at]),
            Self::String(ends, bytes) => {
                let start = if at == 0 { 0 } else { ends[at - 1] };
                Value::String(&bytes[start..ends[at]])
            }
        }
    }
}

impl Builder {
    /// Begins rows of the series at hand, each later than the one before. Gives their numbers.
    pub fn begin_rows(&mut self, times: &[i64]) -> Range<usize> {
        let first = self.block.times.len();
        self.block.times.extend_from_slice(times);
        first..self.block.times.len()
    }

    /// Gives every one of the rows at hand a value of a field: the values of `range`.
    pub fn fill(
        &mut self,
        rows: Range<usize>,
        field: &Arc<[u8]>,
        values: Slice<'_>,
        range: Range<usize>,
    ) {
        let column = self.column(field, values.field_type());
        if let Slice::String(ends, _) = values {
            let start = if range.start == 0 { 0 } else { ends[range.start - 1] };
            self.bytes += ends[range.end - 1] - start;
        }
        self.block.columns[column].append(rows, values, range);
    }

    /// Gives the rows of some times a value of a field: the values from `first` on. Times are sorted, and
    /// each is that of one of `rows`.
    pub fn scatter(
        &mut self,
        rows: Range<usize>,
        field: &Arc<[u8]>,
        times: &[i64],
        values: Slice<'_>,
        first: usize,
    ) {
        let column = self.column(field, values.field_type());
        let mut row = rows.start;
        for (at, time) in times.iter().enumerate() {
            while self.block.times[row] < *time {
                row += 1;
            }
            let value = values.get(first + at);
            if let Value::String(bytes) = value {
                self.bytes += bytes.len();
            }
            self.block.columns[column].set(row, value);
        }
    }
}

impl Column {
    /// Sets the rows, which are behind those that have a value, to the values of a range.
    fn append(&mut self, rows: Range<usize>, values: Slice<'_>, range: Range<usize>) {
        self.present.reach(rows.end);
        self.present.set_all(rows.clone());
        match (&mut self.values, values) {
            (Values::Float(into), Slice::Float(from)) => extend(into, rows.start, &from[range]),
            (Values::Integer(into), Slice::Integer(from)) => extend(into, rows.start, &from[range]),
            (Values::Unsigned(into), Slice::Unsigned(from)) => {
                extend(into, rows.start, &from[range])
            }
            (Values::Boolean(into), Slice::Boolean(from)) => extend(into, rows.start, &from[range]),
            (Values::String { ends, bytes }, Slice::String(from_ends, from)) => {
                ends.resize(rows.start, bytes.len());
                let start = if range.start == 0 { 0 } else { from_ends[range.start - 1] };
                let shift = bytes.len();
                bytes.extend_from_slice(&from[start..from_ends[range.end - 1]]);
                ends.extend(from_ends[range].iter().map(|end| end - start + shift));
            }
            _ => unreachable!("a column takes values of its own type"),
        }
    }
}

/// Appends behind `start` values; rows before it that have none get any.
fn extend<T: Copy + Default>(into: &mut Vec<T>, start: usize, from: &[T]) {
    into.resize(start, T::default());
    into.extend_from_slice(from);
}
