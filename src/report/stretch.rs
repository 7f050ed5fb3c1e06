//! Places that follow each other, as one: a series and the hours in a row in which its sides differ.

use super::{Place, names};
use crate::compare::Counts;
use crate::window::format_time;

/// Hours in a row of one series in which the sides differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch<'a> {
    /// The first place.
    pub(super) first: &'a Place,
    /// First nanosecond after the last place.
    pub(super) end: i64,
    /// Cells by class.
    pub(super) counts: Counts,
}

impl Stretch<'_> {
    /// The namespace and series, for people.
    pub(super) fn name(&self) -> String {
        self.first.name()
    }

    /// The time, for people.
    pub(super) fn window(&self) -> String {
        format!("{} to {}", format_time(self.first.start), format_time(self.end))
    }

    /// True where a cell of this series and time is inside.
    pub(super) fn holds(&self, cell: &super::Cell) -> bool {
        let place = self.first;
        cell.series == place.series
            && cell.database == place.database
            && cell.retention_policy == place.retention_policy
            && (place.start..self.end).contains(&cell.time)
    }
}

/// The stretches of places that are in order of series and time; those with most differences first.
pub(super) fn worst_first(places: &[Place]) -> Vec<Stretch<'_>> {
    let mut stretches: Vec<Stretch<'_>> = Vec::new();
    for place in places {
        match stretches.last_mut() {
            Some(last)
                if last.end == place.start
                    && same_series(last.first, place)
                    && last.first.proven == place.proven =>
            {
                last.end = place.end;
                last.counts += place.counts;
            }
            _ => stretches.push(Stretch { first: place, end: place.end, counts: place.counts }),
        }
    }
    stretches.sort_by_key(|stretch| std::cmp::Reverse(weight(stretch.counts)));
    stretches
}

/// Cells of which something is to be said.
pub(super) fn weight(counts: Counts) -> u64 {
    counts.different() + counts.unresolved + counts.unstable
}

pub(super) fn same_series(one: &Place, other: &Place) -> bool {
    one.series == other.series
        && one.database == other.database
        && one.retention_policy == other.retention_policy
}

impl Place {
    /// The namespace and series, for people.
    #[must_use]
    pub fn name(&self) -> String {
        if self.database.is_empty() && self.retention_policy.is_empty() {
            return self.series.clone();
        }
        format!("{} {}", names(&self.database, &self.retention_policy), self.series)
    }
}
