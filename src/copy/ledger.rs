//! What is known of every unit of a copy so far: a unit that is done again takes the place of what
//! was known of it before.

use super::{Outcome, Sent};
use crate::compare::same::Same;
use crate::compare::timeline::Timeline;
use crate::compare::{CellFinding, Counts, Findings, PlaceFinding, Unit};
use crate::digest::node::Node;
use crate::verify;

/// What is known of one unit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Proven {
    pub(super) counts: Counts,
    pub(super) source: Node,
    pub(super) destination: Node,
    pub(super) sent: Sent,
    /// The destination's epoch before it was read.
    pub(super) epoch: u64,
    /// An earlier run proved it.
    pub(super) before: bool,
}

/// The units of a copy, by their number.
#[derive(Debug)]
pub(super) struct Ledger {
    units: Vec<Option<Proven>>,
    /// Cells of both sides by time, of the units that this run compared.
    timelines: Vec<Timeline>,
    places: Vec<PlaceFinding>,
    cells: Vec<CellFinding>,
    same: Same,
    findings_max: usize,
}

impl Ledger {
    pub(super) fn new(units: usize, findings_max: usize) -> Self {
        let (places, cells) = (Vec::new(), Vec::new());
        let timelines = vec![Timeline::default(); units];
        let same = Same::default();
        Self { units: vec![None; units], timelines, places, cells, same, findings_max }
    }

    /// Enters what was found of a unit. What was sent for it before was sent nevertheless.
    pub(super) fn enter(&mut self, at: usize, unit: &Unit, mut proven: Proven, found: Findings) {
        if let Some(before) = self.units[at] {
            proven.sent.add_earlier(before.sent);
        }
        self.units[at] = Some(proven);
        self.timelines[at] = found.timeline;
        let other = |namespace: &_| *namespace != unit.source;
        self.places.retain(|one| other(&one.namespace) || !meets(one, unit));
        self.cells.retain(|one| other(&one.namespace) || !unit.window.contains(one.time));
        self.same.forget(&unit.source, unit.window);
        self.same.add(found.same);
        self.places.extend(found.places);
        self.cells.extend(found.cells);
        // Sorted before it is cut, so that what is kept does not depend on which unit came first.
        if self.places.len().max(self.cells.len()) > 2 * self.findings_max {
            verify::sort(&mut self.places, &mut self.cells, self.findings_max);
        }
    }

    /// What is known of a unit.
    pub(super) fn get(&self, at: usize) -> Option<Proven> {
        self.units[at]
    }

    /// A unit that is proven was looked at again, and nothing had changed.
    pub(super) fn seen_again(&mut self, at: usize, epoch: u64) {
        if let Some(proven) = &mut self.units[at] {
            proven.epoch = epoch;
        }
    }

    /// Numbers of the units that were read before the destination's epoch became `epoch`.
    pub(super) fn older_than(&self, epoch: u64) -> Vec<usize> {
        let older = |at: &usize| self.units[*at].is_some_and(|proven| proven.epoch != epoch);
        (0..self.units.len()).filter(older).collect()
    }

    /// All of it together.
    pub(super) fn into_outcome(mut self) -> Outcome {
        verify::sort(&mut self.places, &mut self.cells, self.findings_max);
        let mut outcome = Outcome::default();
        outcome.verified.places = self.places;
        outcome.verified.cells = self.cells;
        outcome.verified.same = self.same;
        for timeline in &self.timelines {
            outcome.verified.timeline += timeline;
        }
        for proven in self.units.into_iter().flatten() {
            outcome.verified.counts += proven.counts;
            outcome.verified.source += proven.source;
            outcome.verified.destination += proven.destination;
            outcome.verified.units += 1;
            outcome.sent += proven.sent;
            outcome.before += u64::from(proven.before);
        }
        outcome
    }
}

fn meets(place: &PlaceFinding, unit: &Unit) -> bool {
    place.window.intersect(unit.window).is_some()
}
