//! Blocks made of the rows of another: some of them, or all with the series in another order.

use super::{Bits, Block, Column, Values, string};
use crate::series::Series;
use crate::window::Window;
use std::ops::Range;
use std::sync::Arc;

/// A series of a block, and which of its rows.
type Run<'a> = (&'a Arc<Series>, Range<usize>);

impl Block {
    /// The rows inside a window; nothing where there are none. Columns without a value there are
    /// left out.
    #[must_use]
    pub fn within(self, window: Window) -> Option<Self> {
        if self.times.iter().all(|time| window.contains(*time)) {
            return (self.rows() > 0).then_some(self);
        }
        let mut kept = Vec::new();
        for (series, rows) in self.runs() {
            let times = &self.times[rows.clone()];
            let start = rows.start + times.partition_point(|time| *time < window.start);
            let end = rows.start + times.partition_point(|time| *time < window.end);
            if start < end {
                kept.push((series, start..end));
            }
        }
        (!kept.is_empty()).then(|| self.arranged(&kept))
    }

    /// These rows in this order, which has to be that of the raw keys. Columns without a value in
    /// them are left out.
    pub(super) fn arranged(&self, runs: &[Run<'_>]) -> Self {
        let mut out = Self::default();
        for (series, rows) in runs {
            out.series.push(Arc::clone(series));
            out.starts.push(out.times.len());
            out.times.extend_from_slice(&self.times[rows.clone()]);
        }
        out.starts.push(out.times.len());
        let dense = |column: &Column| column.present.count() == self.rows() as u64;
        let column = |column: &Column| column.arranged(runs, dense(column));
        out.columns = self.columns.iter().map(column).collect();
        out.columns.retain(|column| column.present.count() > 0);
        out
    }
}

impl Column {
    /// These rows in this order; `dense` says that none lacks a value.
    fn arranged(&self, runs: &[Run<'_>], dense: bool) -> Self {
        let ranges = runs.iter().map(|(_, rows)| rows.clone());
        let count = rows_of(ranges.clone());
        let mut present = Bits(vec![0; count.div_ceil(64)]);
        if dense {
            present.set_all(0..count);
        } else {
            let rows = ranges.clone().flatten().enumerate();
            rows.filter(|(_, from)| self.present.get(*from)).for_each(|(to, _)| present.set(to));
        }
        Self { field: Arc::clone(&self.field), present, values: self.values.arranged(ranges) }
    }
}

impl Values {
    /// The values of the ranges, one behind the other.
    fn arranged(&self, ranges: impl Iterator<Item = Range<usize>> + Clone) -> Self {
        fn each<T: Copy>(
            values: &[T],
            ranges: impl Iterator<Item = Range<usize>> + Clone,
        ) -> Vec<T> {
            let mut out = Vec::with_capacity(rows_of(ranges.clone()));
            ranges.for_each(|rows| out.extend_from_slice(&values[rows]));
            out
        }
        match self {
            Self::Float(values) => Self::Float(each(values, ranges)),
            Self::Integer(values) => Self::Integer(each(values, ranges)),
            Self::Unsigned(values) => Self::Unsigned(each(values, ranges)),
            Self::Boolean(values) => Self::Boolean(each(values, ranges)),
            Self::String { ends, bytes } => {
                let (mut new_ends, mut new_bytes) = (Vec::new(), Vec::new());
                for row in ranges.flatten() {
                    new_bytes.extend_from_slice(string(ends, bytes, row));
                    new_ends.push(new_bytes.len());
                }
                Self::String { ends: new_ends, bytes: new_bytes }
            }
        }
    }
}

fn rows_of(ranges: impl Iterator<Item = Range<usize>>) -> usize {
    ranges.map(|rows| rows.len()).sum()
}
