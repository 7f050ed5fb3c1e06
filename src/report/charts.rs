//! What the charts of a report are drawn from, as programs read it.

use super::{Place, place};
use crate::compare::timeline;
use crate::verify::Outcome;
use crate::window::{HOUR, Window};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Cells of both sides by time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timeline {
    /// Seconds of each bucket.
    pub bucket_seconds: i64,
    /// The buckets that hold anything, in order of time.
    pub buckets: Vec<Bucket>,
}

/// Cells of both sides in one stretch of time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bucket {
    /// First nanosecond.
    pub start: i64,
    /// Cells of the source.
    pub source: u64,
    /// Cells of the destination.
    pub destination: u64,
}

/// Where the sides agree, of the series that differ elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// By the names of a place: database, retention policy, series. `None` where there is too much.
    runs: Option<HashMap<(String, String, String), Vec<Window>>>,
}

impl Agreement {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let mut runs = HashMap::new();
        for finding in &outcome.places {
            let named = place(finding);
            let namespace = Arc::new(finding.namespace.clone());
            let Some(found) = outcome.same.of(&namespace, finding.hash) else {
                return Self { runs: None };
            };
            let key = (named.database, named.retention_policy, named.series);
            runs.entry(key).or_insert_with(|| found.to_vec());
        }
        Self { runs: Some(runs) }
    }

    /// True where it is known of each series that differs.
    pub(super) fn is_known(&self) -> bool {
        self.runs.is_some()
    }

    /// Where the sides agree of a place's series; nothing where that is not known.
    pub(super) fn with(&self, place: &Place) -> &[Window] {
        let key = (place.database.clone(), place.retention_policy.clone(), place.series.clone());
        self.runs.as_ref().and_then(|runs| runs.get(&key)).map_or(&[], |runs| runs)
    }
}

impl Timeline {
    pub(super) fn of(timeline: &timeline::Timeline) -> Self {
        let bucket = |(hour, cells): (i64, timeline::Cells)| Bucket {
            start: hour.saturating_mul(HOUR),
            source: cells.source,
            destination: cells.destination,
        };
        Self {
            bucket_seconds: timeline.hours() * 3_600,
            buckets: timeline.buckets().map(bucket).collect(),
        }
    }
}
