//! A block filled column by column from rows that come series by series, each series in order of
//! time, as the replies of queries do.
//!
//! Nothing is resolved here: a (series, time) that comes twice is the caller's to refuse. Series
//! that come in another order than that of their raw keys are put into it when the block is
//! finished.

use super::{BYTES_MAX, Block, Column, ROWS_MAX};
use crate::series::Series;
use crate::value::{FieldType, Value};
use std::sync::Arc;

/// A block in the making.
#[derive(Debug, Default)]
pub struct Builder {
    pub(super) block: Block,
    /// Bytes of strings.
    pub(super) bytes: usize,
    /// Columns of an earlier block, without values: their memory serves the next.
    spare: Vec<Column>,
}

impl Builder {
    /// Number of rows so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.block.rows()
    }

    /// True where no further row should be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        // A column takes eight bytes a row, present or not.
        let dense = self.block.columns.len() * self.block.rows() * 8;
        self.block.rows() >= ROWS_MAX || dense + self.bytes > BYTES_MAX
    }

    /// Begins the rows of a series. It needs at least one row before the next begins.
    pub fn begin_series(&mut self, series: Arc<Series>) {
        self.block.series.push(series);
        self.block.starts.push(self.block.rows());
    }

    /// Begins a row of the series at hand, later than the rows it has.
    pub fn begin_row(&mut self, time: i64) {
        self.block.times.push(time);
    }

    /// Number of the column of a field and type, which is new if it is.
    pub fn column(&mut self, field: &Arc<[u8]>, field_type: FieldType) -> usize {
        let columns = &mut self.block.columns;
        let known =
            columns.iter().position(|one| one.field_type() == field_type && one.field == *field);
        known.unwrap_or_else(|| {
            let spare = self.spare.iter().rposition(|spare| spare.field_type() == field_type);
            let column = match spare.map(|at| self.spare.swap_remove(at)) {
                Some(spare) => Column { field: Arc::clone(field), ..spare },
                None => Column::new(Arc::clone(field), field_type, 0),
            };
            columns.push(column);
            columns.len() - 1
        })
    }

    /// Takes back a block that is no longer needed, for its memory.
    pub fn recycle(&mut self, block: Block) {
        let Block { mut series, mut starts, mut times, columns } = block;
        if self.block.rows() == 0 && self.block.columns.is_empty() {
            series.clear();
            starts.clear();
            times.clear();
            self.block = Block { series, starts, times, columns: Vec::new() };
        }
        self.spare = columns;
        self.spare.iter_mut().for_each(Column::clear);
    }

    /// Puts a value into a column of the row at hand, one value a row. A column that gets none is
    /// no part of the block.
    ///
    /// # Panics
    /// Where the column is of another type.
    pub fn push(&mut self, column: usize, value: Value<'_>) {
        if let Value::String(bytes) = value {
            self.bytes += bytes.len();
        }
        let row = self.block.times.len() - 1;
        self.block.columns[column].set(row, value);
    }

    /// The block, if it has a row; the builder is empty again.
    pub fn finish(&mut self) -> Option<Block> {
        let mut block = std::mem::take(&mut self.block);
        self.bytes = 0;
        let rows = block.rows();
        block.starts.push(rows);
        block.columns.retain(|column| column.present.count() > 0);
        for column in &mut block.columns {
            column.fill(rows);
        }
        if !block.series.is_sorted_by_key(|series| series.key()) {
            let mut runs: Vec<_> = block.runs().collect();
            runs.sort_by_key(|(series, _)| series.key());
            block = block.arranged(&runs);
        }
        block.sort_columns();
        (rows > 0).then_some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(key: &str) -> Arc<Series> {
        Arc::new(Series::new(key.as_bytes().into(), b"m"[..].into(), Vec::new(), true))
    }

    #[test]
    fn series_are_put_in_the_order_of_their_keys_with_their_values() {
        let mut builder = Builder::default();
        let fields: [Arc<[u8]>; 3] = [b"i", b"s", b"b"].map(|name| Arc::from(&name[..]));
        for (key, times) in [("m,h=10", 0..3_i64), ("m,h=1", 5..7), ("m,h=2", 9..10)] {
            builder.begin_series(series(key));
            for time in times {
                builder.begin_row(time);
                let integers = builder.column(&fields[0], FieldType::Integer);
                builder.push(integers, Value::Integer(time * 10));
                if time % 2 == 1 {
                    let strings = builder.column(&fields[1], FieldType::String);
                    builder.push(strings, Value::String(time.to_string().as_bytes()));
                    let floats = builder.column(&fields[0], FieldType::Float);
                    assert_ne!(integers, floats, "a field may have columns of two types");
                }
            }
        }
        let block = builder.finish().expect("rows");
        let runs: Vec<String> =
            block.runs().map(|(series, rows)| format!("{series} {rows:?}")).collect();
        assert_eq!(runs, ["m,h=1 0..2", "m,h=10 2..5", "m,h=2 5..6"]);
        assert_eq!(block.times(), [5, 6, 0, 1, 2, 9]);
        assert_eq!(block.columns().len(), 2, "a column without values is none");
        for (row, &time) in block.times().iter().enumerate() {
            let text = time.to_string();
            let string = (time % 2 == 1).then_some(Value::String(text.as_bytes()));
            assert_eq!(block.columns()[0].get(row), Some(Value::Integer(time * 10)));
            assert_eq!(block.columns()[1].get(row), string);
        }
        assert!(builder.finish().is_none(), "it is empty again");
    }
}
