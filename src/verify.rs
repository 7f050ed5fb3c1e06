//! `verify`: compares two sides unit by unit and changes neither.

use crate::compare::timeline::Timeline;
use crate::compare::{
    self, CellFinding, Counts, Digest, Findings, Options, PlaceFinding, Sides, Unit,
};
use crate::digest::node::Node;
use crate::error::Result;
use crate::pipeline::{self, Progress, Stage};
use crate::source::Source;
use std::sync::{Arc, Mutex, PoisonError};

/// What a comparison of all units found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Counts over all units.
    pub counts: Counts,
    /// Places that differ, in order of series and time, up to the limit.
    pub places: Vec<PlaceFinding>,
    /// Cells that differ, in order of series and time, up to the limit.
    pub cells: Vec<CellFinding>,
    /// Cells of both sides by time.
    pub timeline: Timeline,
    /// Sum of what the source holds.
    pub source: Node,
    /// Sum of what the destination holds.
    pub destination: Node,
    /// Units compared.
    pub units: u64,
}

impl Outcome {
    /// Adds the findings of one unit; detail beyond the limit is dropped, counts are not.
    pub fn add(&mut self, findings: Findings, findings_max: usize) {
        self.counts += findings.counts;
        self.source += findings.source;
        self.destination += findings.destination;
        self.units += 1;
        self.timeline += &findings.timeline;
        self.places.extend(findings.places);
        self.cells.extend(findings.cells);
        // Sorted before it is cut, so that what is kept does not depend on which unit came first.
        if self.places.len().max(self.cells.len()) > 2 * findings_max {
            sort(&mut self.places, &mut self.cells, findings_max);
        }
    }
}

/// Sorts detail by series and time, and cuts it to a limit.
pub fn sort(places: &mut Vec<PlaceFinding>, cells: &mut Vec<CellFinding>, findings_max: usize) {
    places.sort_by(|a, b| a.order().cmp(&b.order()));
    cells.sort_by(|a, b| {
        let order = |cell: &CellFinding| (cell.time, Arc::clone(&cell.field));
        (&a.namespace, a.series.key(), order(a)).cmp(&(&b.namespace, b.series.key(), order(b)))
    });
    places.truncate(findings_max);
    cells.truncate(findings_max);
}

/// Compares every unit, `jobs` at a time.
///
/// # Errors
/// Where a side cannot be read: nothing is then known about it.
pub fn run(
    source: &dyn Source,
    destination: &dyn Source,
    units: &[Unit],
    jobs: usize,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let outcome = Mutex::new(Outcome::default());
    progress.units(units.len());
    pipeline::for_each(jobs, units, |unit| {
        progress.done(Stage::Verify, 0, 0);
        let counted = |cells| {
            progress.done(Stage::Verify, cells, 0);
            Ok(())
        };
        let ours = match unit.source_lacks {
            true => Digest::default(),
            false => compare::digest(source, &unit.source, unit.window, options, &counted)?,
        };
        let theirs =
            compare::digest(destination, &unit.destination, unit.window, options, &counted)?;
        let sides = Sides { source, ours: &ours, destination, theirs: &theirs };
        let findings = compare::compare(sides, unit, options, |_, _| Ok(()))?;
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.add(findings, options.findings_max);
        progress.unit_done();
        Ok(())
    })?;
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    sort(&mut outcome.places, &mut outcome.cells, options.findings_max);
    Ok(outcome)
}
