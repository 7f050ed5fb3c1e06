//! How many cells both sides hold, by stretches of time: what a chart of the window is drawn from.
//!
//! Bounded: there are at most [`BUCKETS_MAX`] stretches that hold anything. Where there would be more,
//! all become twice as long, from an hour on. How long they are, and what they hold, depends only on
//! what was added and not on the order.

use crate::digest::grid::{Bucket, Level};
use crate::digest::join::BothSides;
use crate::window::{HOUR, Window};
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Stretches that hold anything.
pub const BUCKETS_MAX: usize = 4_096;

/// Cells of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    /// Cells of the source.
    pub source: u64,
    /// Cells of the destination.
    pub destination: u64,
}

impl AddAssign for Cells {
    fn add_assign(&mut self, other: Self) {
        self.source += other.source;
        self.destination += other.destination;
    }
}

/// Cells of both sides by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// A stretch is this power of two of hours long.
    power: u32,
    /// What the stretches hold, by their number since 1970.
    buckets: BTreeMap<i64, Cells>,
}

impl Timeline {
    /// Adds what both sides hold in one place of a unit. When in a day its cells stand is not known: they
    /// are spread over its hours.
    pub fn add(&mut self, place: &BothSides, unit: Window) {
        let source = place.source_node().cells;
        let destination = place.destination_node().cells;
        let bucket = place.place.1;
        if bucket.level() != Level::Day {
            let hour = bucket.within(Level::Hour).window().start.div_euclid(HOUR);
            return self.add_hour(hour, Cells { source, destination });
        }
        let (first, end) = hours_of(bucket, unit);
        let hours = end.abs_diff(first).max(1);
        for (number, hour) in (0..).zip(first..end.max(first + 1)) {
            let part = |cells: u64| cells / hours + u64::from(number < cells % hours);
            let cells = Cells { source: part(source), destination: part(destination) };
            if cells != Cells::default() {
                self.add_hour(hour, cells);
            }
        }
    }

    /// Adds cells of one hour, by its number since 1970.
    pub fn add_hour(&mut self, hour: i64, cells: Cells) {
        *self.buckets.entry(hour >> self.power).or_default() += cells;
        while self.buckets.len() > BUCKETS_MAX {
            self.widen();
        }
    }

    /// Hours of each stretch.
    #[must_use]
    pub fn hours(&self) -> i64 {
        1 << self.power
    }

    /// The stretches that hold anything, by their first hour since 1970, in order.
    pub fn buckets(&self) -> impl Iterator<Item = (i64, Cells)> + '_ {
        self.buckets.iter().map(|(number, cells)| (number << self.power, *cells))
    }

    /// Makes all stretches twice as long.
    fn widen(&mut self) {
        self.power += 1;
        for (number, cells) in std::mem::take(&mut self.buckets) {
            *self.buckets.entry(number >> 1).or_default() += cells;
        }
    }
}

impl AddAssign<&Self> for Timeline {
    fn add_assign(&mut self, other: &Self) {
        while self.power < other.power {
            self.widen();
        }
        for (hour, cells) in other.buckets() {
            self.add_hour(hour, cells);
        }
    }
}

/// The hours of a bucket that lie in a unit, from the first to that after the last.
fn hours_of(bucket: Bucket, unit: Window) -> (i64, i64) {
    let window = bucket.window();
    let Window { start, end } = window.intersect(unit).unwrap_or(window);
    (start.div_euclid(HOUR), end.saturating_sub(1).div_euclid(HOUR) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(hours: impl Iterator<Item = i64>) -> Timeline {
        let mut timeline = Timeline::default();
        hours.for_each(|hour| timeline.add_hour(hour, Cells { source: 2, destination: 1 }));
        timeline
    }

    #[test]
    fn it_is_bounded_and_loses_no_cell() {
        let ends = [i64::from(i32::MIN), -2_562_048, 2_562_047, i64::from(i32::MAX)];
        let timeline = timeline((-50_000..50_000).chain(ends));
        assert!(timeline.buckets.len() <= BUCKETS_MAX, "{}", timeline.buckets.len());
        assert_eq!(timeline.hours(), 32);
        assert_eq!(timeline.buckets().map(|(_, cells)| cells.source).sum::<u64>(), 200_008);
        assert!(timeline.buckets().all(|(hour, _)| hour % 32 == 0));
    }

    #[test]
    fn order_and_grouping_do_not_matter() {
        let one = timeline(0..9_000);
        let two = timeline((0..9_000).rev());
        assert_eq!(one, two);
        let mut merged = timeline(4_000..9_000);
        merged += &timeline(0..4_000);
        assert_eq!(merged, one);
        let mut merged = timeline(0..10);
        merged += &timeline(10..9_000);
        assert_eq!(merged, one);
    }
}
