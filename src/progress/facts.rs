//! What is known of a run so far: counters that workers add to and the display reads.
//!
//! Owns the counters. Refuses to format or to print anything. Invariant: no number is ever lowered,
//! so that two readings one after the other never go backwards.

use crate::pipeline::Stage;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters of a run. Every one stands alone: no reader draws conclusions from two of them being
/// in step.
#[derive(Debug, Default)]
pub(super) struct Facts {
    stages: [Counters; Stage::ALL.len()],
    units: AtomicU64,
    units_done: AtomicU64,
    retried: AtomicU64,
    rejected: AtomicU64,
}

#[derive(Debug, Default)]
struct Counters {
    begun: AtomicBool,
    cells: AtomicU64,
    bytes: AtomicU64,
    cells_total: Total,
    bytes_total: Total,
}

/// A total and one: zero says that it is not known yet.
#[derive(Debug, Default)]
struct Total(AtomicU64);

impl Total {
    fn raise(&self, total: u64) {
        self.0.fetch_max(total.saturating_add(1), Ordering::Relaxed);
    }

    /// The total, never less than what is done of it already.
    fn get(&self, done: u64) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed).checked_sub(1)?.max(done))
    }
}

/// One reading of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) stages: [Amounts; Stage::ALL.len()],
    /// Units in all; 0 while unknown.
    pub(super) units: u64,
    pub(super) units_done: u64,
    pub(super) retried: u64,
    pub(super) rejected: u64,
}

/// One reading of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) begun: bool,
    pub(super) cells: u64,
    pub(super) bytes: u64,
    pub(super) cells_total: Option<u64>,
    pub(super) bytes_total: Option<u64>,
}

impl Facts {
    pub(super) fn done(&self, stage: Stage, cells: u64, bytes: u64) {
        let counters = self.begin(stage);
        counters.cells.fetch_add(cells, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn expect(&self, stage: Stage, cells: u64) {
        self.begin(stage).cells_total.raise(cells);
    }

    pub(super) fn expect_bytes(&self, stage: Stage, bytes: u64) {
        self.begin(stage).bytes_total.raise(bytes);
    }

    pub(super) fn units(&self, total: u64) {
        self.units.fetch_max(total, Ordering::Relaxed);
    }

    pub(super) fn unit_done(&self) {
        self.units_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self, times: u64) {
        self.retried.fetch_add(times, Ordering::Relaxed);
    }

    pub(super) fn rejected(&self, rows: u64) {
        self.rejected.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Reading {
        let units_done = self.units_done.load(Ordering::Relaxed);
        let units = self.units.load(Ordering::Relaxed);
        Reading {
            stages: self.stages.each_ref().map(Counters::read),
            units: if units > 0 { units.max(units_done) } else { 0 },
            units_done,
            retried: self.retried.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    fn begin(&self, stage: Stage) -> &Counters {
        let counters = &self.stages[stage as usize];
        // Written once: a line that all workers share stays readable to all of them.
        if !counters.begun.load(Ordering::Relaxed) {
            counters.begun.store(true, Ordering::Relaxed);
        }
        counters
    }
}

impl Counters {
    fn read(&self) -> Amounts {
        let (cells, bytes) =
            (self.cells.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        Amounts {
            begun: self.begun.load(Ordering::Relaxed),
            cells,
            bytes,
            cells_total: self.cells_total.get(cells),
            bytes_total: self.bytes_total.get(bytes),
        }
    }
}

impl Amounts {
    /// What is done and what there is in all: in cells where they are counted, else in bytes.
    pub(super) fn share(&self) -> Option<(u64, u64)> {
        match (self.cells_total, self.bytes_total) {
            (Some(total), _) => Some((self.cells, total)),
            (None, Some(total)) => Some((self.bytes, total)),
            (None, None) => None,
        }
    }

    /// True where everything that there is is done.
    pub(super) fn is_complete(&self) -> bool {
        self.share().is_some_and(|(done, total)| done >= total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_unknown_until_it_is_told_and_is_never_lowered() {
        let facts = Facts::default();
        facts.done(Stage::Send, 5, 0);
        let total = |facts: &Facts| facts.read().stages[Stage::Send as usize].cells_total;
        assert_eq!(total(&facts), None);
        facts.expect(Stage::Send, 40);
        facts.expect(Stage::Send, 30);
        assert_eq!(total(&facts), Some(40));
        facts.done(Stage::Send, 45, 0);
        assert_eq!(total(&facts), Some(50), "what is sent again lies beyond the count");
    }

    #[test]
    fn nothing_expected_is_known_and_not_unknown() {
        let facts = Facts::default();
        facts.expect(Stage::Send, 0);
        assert_eq!(facts.read().stages[Stage::Send as usize].share(), Some((0, 0)));
    }

    #[test]
    fn totals_at_the_end_of_the_range_do_not_overflow() {
        let facts = Facts::default();
        facts.expect(Stage::Read, u64::MAX);
        assert!(facts.read().stages[Stage::Read as usize].cells_total > Some(u64::MAX - 2));
    }
}
