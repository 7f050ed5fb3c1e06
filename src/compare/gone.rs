//! What a digest file holds more than the side that can be read: cells that are gone since it was made.
//!
//! Only the sum of their hashes is known. A cell has few times at which it may have stood: those of the
//! rows around it, those of other series, and those that a regular series leaves out. If one cell, or
//! one row of the fields that other rows have, has the sum at such a time, then that is what is gone:
//! the sum of keys is as good as the keys. Its value is lost, and with it the proof that all other
//! values are the same.

use crate::block::Block;
use crate::digest::cell::{FieldHasher, SeriesHasher};
use crate::digest::grid::{Bucket, Level};
use crate::digest::node::Node;
use crate::series::Series;
use crate::value::FieldType;
use crate::window::Window;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Times of one place, or of all other series in an hour, that are kept and tried.
const TIMES_MAX: usize = 4_096;
/// Sets of fields of one place that are kept and tried.
const SHAPES_MAX: usize = 16;

/// A place of which something is gone.
#[derive(Debug)]
pub(super) struct Gone {
    /// The sums of what is gone.
    lacks: Node,
    /// What was held when it was digested, and what was met since.
    held: Node,
    met: Node,
    series: Option<Arc<Series>>,
    times: BTreeSet<i64>,
    /// The fields of rows, each set once.
    shapes: BTreeSet<Vec<Arc<[u8]>>>,
}

/// Cells that are gone: one, or a row.
pub(super) struct Named {
    pub(super) series: Arc<Series>,
    pub(super) time: i64,
    pub(super) fields: Vec<Arc<[u8]>>,
}

/// The times of all series, by hour.
#[derive(Debug, Default)]
pub(super) struct Times(BTreeMap<Bucket, BTreeSet<i64>>);

impl Times {
    pub(super) fn add(&mut self, time: i64) {
        let times = self.0.entry(Bucket::holding(Level::Hour, time)).or_default();
        if times.len() < TIMES_MAX {
            times.insert(time);
        }
    }

    /// Those in a bucket, of each hour as many as are kept.
    fn of(&self, bucket: Bucket) -> impl Iterator<Item = i64> + '_ {
        let hours = self.0.range(bucket.within(Level::Hour)..);
        let window = bucket.window();
        let near = hours.take_while(move |(hour, _)| hour.window().start < window.end);
        near.flat_map(move |(_, times)| times.range(window.start..window.end)).copied()
    }
}

impl Gone {
    pub(super) fn new(lacks: Node, held: Node) -> Self {
        let (times, shapes) = (BTreeSet::new(), BTreeSet::new());
        Self { lacks, held, met: Node::default(), series: None, times, shapes }
    }

    /// A row of the place as it is now, with its sum.
    pub(super) fn row(&mut self, block: &Block, series: &Arc<Series>, row: usize, sum: Node) {
        self.met += sum;
        self.series.get_or_insert_with(|| Arc::clone(series));
        if self.times.len() < TIMES_MAX {
            self.times.insert(block.times()[row]);
        }
        if self.shapes.len() < SHAPES_MAX {
            let present = block.columns().iter().filter(|column| column.get(row).is_some());
            self.shapes.insert(present.map(|column| Arc::clone(&column.field)).collect());
        }
    }

    /// True where the place is what it was when it was digested.
    pub(super) fn is_still(&self) -> bool {
        self.met == self.held
    }

    /// What is gone, where the sums prove it.
    pub(super) fn find(&self, bucket: Bucket, others: &Times) -> Option<Named> {
        let series = self.series.as_ref()?;
        let mut hasher = SeriesHasher::new(series);
        // The type is no part of a cell's place.
        let mut fields = |shape: Vec<Arc<[u8]>>| -> Vec<(FieldHasher, Arc<[u8]>)> {
            let each = shape.into_iter();
            each.map(|field| (hasher.field(&field, FieldType::Float), field)).collect()
        };
        let shapes: Vec<_> = self.shapes().into_iter().map(&mut fields).collect();
        let known = others.of(bucket).chain(self.times.iter().copied());
        let times: BTreeSet<i64> = known.chain(self.regular(bucket)).collect();
        for time in times {
            for shape in &shapes {
                let mut sum = Node::default();
                let keys = shape.iter().map(|(hasher, _)| hasher.key(time));
                keys.for_each(|key| sum.add_key(key));
                if sum.same_keys(self.lacks) {
                    let fields = shape.iter().map(|(_, field)| Arc::clone(field));
                    return Some(Named {
                        series: Arc::clone(series),
                        time,
                        fields: fields.collect(),
                    });
                }
            }
        }
        None
    }

    /// Sets of as many fields as are gone.
    fn shapes(&self) -> BTreeSet<Vec<Arc<[u8]>>> {
        let count = usize::try_from(self.lacks.cells).unwrap_or(usize::MAX);
        let mut shapes: BTreeSet<_> =
            self.shapes.iter().filter(|shape| shape.len() == count).cloned().collect();
        if count == 1 {
            shapes.extend(self.shapes.iter().flatten().map(|field| vec![Arc::clone(field)]));
        }
        shapes
    }

    /// The times of a series whose rows are as far from each other as the two that are nearest.
    fn regular(&self, bucket: Bucket) -> impl Iterator<Item = i64> + use<> {
        let gaps = self.times.iter().zip(self.times.iter().skip(1)).map(|(one, two)| two - one);
        let known = self.times.first().copied().zip(gaps.min());
        let Window { start, end } = bucket.window();
        let step = known.filter(|(_, step)| bucket.level().length() / step < TIMES_MAX as i64);
        step.into_iter().flat_map(move |(first, step)| {
            let begin = start.saturating_add((first - start).rem_euclid(step));
            std::iter::successors(Some(begin), move |time| time.checked_add(step))
                .take_while(move |time| *time < end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::log::RowLog;
    use crate::digest::set::sum;
    use crate::line::key;
    use crate::value::Value;

    type Row = (i64, &'static [&'static str]);

    fn block(rows: &[Row]) -> Block {
        let mut log = RowLog::default();
        let series = log.add_series(Arc::new(key::parse(b"m,h=a")));
        for (time, fields) in rows {
            log.begin_row(series, *time);
            fields.iter().for_each(|field| log.push(field.as_bytes(), Value::Integer(1)));
        }
        log.resolve().blocks(Window::ALL).next().unwrap()
    }

    /// What is found gone of `before`, where `after` is left and other series have rows at `others`.
    fn found(before: &[Row], after: &[Row], others: &[i64]) -> Option<(i64, usize)> {
        let (before, after) = (block(before), block(after));
        let held = sum(&after, |_| true);
        let mut gone = Gone::new(sum(&before, |_| true).less(held), held);
        for (series, rows) in after.runs() {
            rows.for_each(|row| gone.row(&after, series, row, Node::default()));
        }
        let mut times = Times::default();
        others.iter().for_each(|time| times.add(*time));
        gone.find(Bucket::holding(Level::Hour, 0), &times)
            .map(|named| (named.time, named.fields.len()))
    }

    #[test]
    fn a_row_or_cell_that_is_gone_is_found_where_it_may_have_stood() {
        const AB: &[&str] = &["a", "b"];
        const A: &[&str] = &["a"];
        let second = 1_000_000_000;
        let rows = [(0, AB), (second, AB), (2 * second, AB), (4 * second, AB), (6 * second + 1, A)];
        let without = |at: usize| {
            let mut rest = rows.to_vec();
            rest.remove(at);
            rest
        };
        assert_eq!(found(&rows, &without(1), &[]), None, "the rest is two seconds apart");
        assert_eq!(found(&rows, &without(1), &[second]), Some((second, 2)), "others have the time");
        assert_eq!(found(&rows, &without(3), &[]), Some((4 * second, 2)), "the step leaves it out");
        assert_eq!(found(&rows, &without(4), &[]), None);
        let mut cell = rows;
        cell[2].1 = A;
        assert_eq!(
            found(&rows, &cell, &[]),
            Some((2 * second, 1)),
            "a field of a row that is there"
        );
    }
}
