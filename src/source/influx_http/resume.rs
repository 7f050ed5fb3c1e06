//! What of a query was handed out already, so that it can be asked again after a break without
//! handing a row out twice or leaving one out.
//!
//! Rows come series by series, each series in order of time. So what was handed out is known by the
//! time up to which it was, by series; a further reply, of the same window or of a part of it, is
//! passed over so far. That the rows passed over are the ones that were handed out is verified at
//! the end, by the sums of the hashes of their cells, which know no order. The hashes live in one
//! process and guard against change, not against somebody who plans it.

use crate::series::Series;
use crate::value::{FieldType, Value};
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Most series of which it is kept that they were handed out: 32 MiB. A reader that has handed out
/// more cannot begin again.
const SERIES_MAX: usize = 1 << 20;

/// Odd constants without structure: the fraction of the square roots of 2, 3 and 5.
const SEEDS: [u64; 3] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];

/// An identity of a series in this process.
type SeriesId = u128;

/// A sum over cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    cells: u64,
    hashes: u64,
}

impl Sum {
    pub(super) fn add(&mut self, other: Self) {
        self.cells += other.cells;
        self.hashes = self.hashes.wrapping_add(other.hashes);
    }

    /// Adds one cell of a row.
    pub(super) fn add_cell(&mut self, row: u64, field: u64, value: Value<'_>) {
        let field_type = value.field_type();
        let bits = match value {
            Value::String(bytes) => xxh3_64(bytes),
            scalar => scalar.bits().unwrap_or_default(),
        };
        let place = row ^ field ^ seed_of(field_type);
        self.cells += 1;
        self.hashes = self.hashes.wrapping_add(fold(place, bits ^ SEEDS[1]));
    }
}

/// Both halves of a product, which depend on every bit of both factors.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    #[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

fn seed_of(field_type: FieldType) -> u64 {
    let code = match field_type {
        FieldType::Float => 1,
        FieldType::Integer => 2,
        FieldType::Unsigned => 3,
        FieldType::Boolean => 4,
        FieldType::String => 5,
    };
    SEEDS[0].wrapping_mul(code)
}

/// Hash of a field's name, for [`Sum::add_cell`].
pub(super) fn field_hash(name: &[u8]) -> u64 {
    xxh3_64(name)
}

/// What was handed out of a window: by series, the latest time of it; the last of all times where
/// the series is complete.
#[derive(Clone, Debug, Default)]
pub(super) struct Handed {
    until: HashMap<SeriesId, i64, foldhash::fast::RandomState>,
}

/// One reply while it is read.
#[derive(Debug, Default)]
pub(super) struct Pass {
    before: Arc<Handed>,
    /// The series at hand, and until when it was handed out before.
    series: SeriesId,
    until: Option<i64>,
    /// It has a row that was not handed out before since blocks were last flushed.
    noted: bool,
    /// Cells passed over, because they were handed out before.
    skipped: Sum,
    /// Cells in no block yet.
    pending: Sum,
    /// Cells in blocks.
    handed: Sum,
    pending_series: Vec<SeriesId>,
    handed_series: Vec<SeriesId>,
    /// The series that the last block ended in, and the time.
    last: Option<(SeriesId, i64)>,
}

impl Pass {
    /// A reply of which some was handed out before.
    pub(super) fn new(before: Arc<Handed>) -> Self {
        Self { before, ..Self::default() }
    }

    /// Goes on with another series.
    pub(super) fn begin(&mut self, series: &Series) {
        self.series = xxh3_128(series.key());
        self.until = self.before.until.get(&self.series).copied();
        self.noted = false;
    }

    /// True where the row at this time of the series at hand was handed out before.
    pub(super) fn covers(&self, time: i64) -> bool {
        self.until.is_some_and(|until| time <= until)
    }

    /// Hash of a row of the series at hand, for [`Sum::add_cell`].
    pub(super) fn row_hash(&self, time: i64) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "half of the hash does")]
        let series = self.series as u64;
        fold(series ^ SEEDS[2], time.cast_unsigned() ^ SEEDS[0])
    }

    /// Counts a row that was handed out before.
    pub(super) fn skip(&mut self, cells: Sum) {
        self.skipped.add(cells);
    }

    /// Counts a row that goes into the block at hand.
    pub(super) fn take(&mut self, cells: Sum) {
        self.pending.add(cells);
        if !self.noted {
            self.noted = true;
            self.pending_series.push(self.series);
        }
    }

    /// The block at hand goes out; it ends at `time` of the series at hand.
    pub(super) fn flush(&mut self, time: Option<i64>) {
        self.handed.add(std::mem::take(&mut self.pending));
        // Beyond the limit they are only counted: the reader cannot begin again.
        if self.handed_series.len() <= SERIES_MAX {
            self.handed_series.append(&mut self.pending_series);
        }
        self.pending_series.clear();
        self.last = time.filter(|_| self.noted).map(|time| (self.series, time));
        self.noted = false;
    }

    /// Cells passed over.
    pub(super) fn skipped(&self) -> Sum {
        self.skipped
    }

    /// True where this reply brought a block.
    pub(super) fn has_handed_out(&self) -> bool {
        self.handed.cells > 0
    }

    /// Ends the reply before its end: what was handed out until now, and the cells of it that are
    /// to be passed over in addition. `None` where there are too many series to keep.
    pub(super) fn broken(self) -> Option<(Arc<Handed>, Sum)> {
        if !self.has_handed_out() {
            return Some((self.before, Sum::default()));
        }
        let mut before = self.before;
        if before.until.len() + self.handed_series.len() > SERIES_MAX {
            return None;
        }
        let handed = Arc::make_mut(&mut before);
        for series in self.handed_series {
            handed.until.insert(series, i64::MAX);
        }
        if let Some((series, time)) = self.last {
            handed.until.insert(series, time);
        }
        Some((before, self.handed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(key: &str) -> Series {
        Series::new(key.as_bytes().into(), b"m"[..].into(), Vec::new(), true)
    }

    /// Takes rows of one field; returns those that were not handed out before.
    fn read(pass: &mut Pass, rows: &[(&str, i64, i64)]) -> Vec<(String, i64)> {
        let mut new = Vec::new();
        let mut at = "";
        for &(key, time, value) in rows {
            if at != key {
                at = key;
                pass.begin(&series(key));
            }
            let mut sum = Sum::default();
            sum.add_cell(pass.row_hash(time), field_hash(b"v"), Value::Integer(value));
            if pass.covers(time) {
                pass.skip(sum);
            } else {
                pass.take(sum);
                new.push((key.to_owned(), time));
            }
        }
        new
    }

    const ROWS: [(&str, i64, i64); 6] =
        [("a", 1, 1), ("a", 5, 2), ("b", 1, 3), ("b", 5, 4), ("b", 6, 5), ("c", 5, 6)];

    #[test]
    fn a_broken_reply_goes_on_where_it_was_whole_or_in_parts() {
        for handed in 0..ROWS.len() {
            let mut pass = Pass::new(Arc::default());
            read(&mut pass, &ROWS[..handed]);
            pass.flush(ROWS[..handed].last().map(|row| row.1));
            // Rows that were read and are in no block are read again.
            read(&mut pass, &ROWS[handed..]);
            let (before, owed) = pass.broken().expect("few series");
            for bound in [0, 5, 7] {
                let (mut rest, mut skipped) = (Vec::new(), Sum::default());
                for early in [true, false] {
                    let part: Vec<_> =
                        ROWS.into_iter().filter(|row| (row.1 < bound) == early).collect();
                    let mut pass = Pass::new(Arc::clone(&before));
                    rest.extend(read(&mut pass, &part));
                    skipped.add(pass.skipped());
                }
                rest.sort();
                let expected: Vec<_> =
                    ROWS[handed..].iter().map(|row| (row.0.to_owned(), row.1)).collect();
                assert_eq!(rest, expected, "{handed} rows handed out, cut at {bound}");
                assert_eq!(skipped, owed);
            }
        }
    }

    #[test]
    fn a_row_that_changed_since_it_was_handed_out_is_noticed() {
        let mut pass = Pass::new(Arc::default());
        read(&mut pass, &ROWS[..4]);
        pass.flush(Some(5));
        let (before, owed) = pass.broken().expect("few series");
        for changed in [
            vec![("a", 1, 1), ("a", 5, 2), ("b", 1, 3), ("b", 5, 40)],
            vec![("a", 1, 1), ("a", 5, 2), ("b", 1, 3)],
            vec![("a", 1, 2), ("a", 5, 1), ("b", 1, 3), ("b", 5, 4)],
            vec![("a", 1, 1), ("a", 4, 2), ("b", 1, 3), ("b", 5, 4)],
        ] {
            let mut pass = Pass::new(Arc::clone(&before));
            assert!(read(&mut pass, &changed).is_empty());
            assert_ne!(pass.skipped(), owed, "{changed:?}");
        }
    }

    #[test]
    fn more_series_than_are_kept_cannot_be_resumed() {
        let mut pass = Pass::new(Arc::default());
        for at in 0..SERIES_MAX + 2 {
            pass.series = at as u128;
            pass.noted = false;
            pass.take(Sum { cells: 1, hashes: 1 });
            if at % 1000 == 0 {
                pass.flush(Some(0));
            }
        }
        pass.flush(Some(0));
        assert!(pass.broken().is_none());
    }
}
