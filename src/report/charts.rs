//! What the charts of a report are drawn from, as programs read it.

use crate::compare::timeline;
use crate::window::HOUR;
use serde::Serialize;

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
