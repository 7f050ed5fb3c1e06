//! `verify`: compares two sides unit by unit and changes neither.

use crate::compare::{self, CellFinding, Counts, Findings, Options, PlaceFinding, Unit};
use crate::digest::node::Node;
use crate::error::Result;
use crate::pipeline::{self, Progress};
use crate::source::Source;
use std::sync::{Mutex, PoisonError};

/// What a comparison of all units found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Counts over all units.
    pub counts: Counts,
    /// Places that differ, in order of series and time, up to the limit.
    pub places: Vec<PlaceFinding>,
    /// Cells that differ, in order of series and time, up to the limit.
    pub cells: Vec<CellFinding>,
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
        self.places.extend(findings.places);
        self.places.truncate(findings_max);
        self.cells.extend(findings.cells);
        self.cells.truncate(findings_max);
    }

    /// Sorts the detail, so that reports do not depend on which unit was done first.
    pub fn sort(&mut self) {
        self.places.sort_by(|a, b| (a.series.key(), a.window).cmp(&(b.series.key(), b.window)));
        self.cells.sort_by(|a, b| {
            (a.series.key(), a.time, &a.field).cmp(&(b.series.key(), b.time, &b.field))
        });
    }
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
        let ours = compare::digest(source, &unit.source, unit.window, options)?;
        progress.read(ours.set.total().cells);
        let theirs = compare::digest(destination, &unit.destination, unit.window, options)?;
        progress.read(theirs.set.total().cells);
        let findings = compare::compare((source, &ours), (destination, &theirs), unit, options)?;
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.add(findings, options.findings_max);
        progress.unit_done();
        Ok(())
    })?;
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.sort();
    Ok(outcome)
}
