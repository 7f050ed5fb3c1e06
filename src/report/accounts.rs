//! What became of every cell, so that it can be added up, and what was left where.

use super::{cells, names};
use crate::compare::Counts;
use crate::copy::Sent;
use crate::plan::Namespace;
use crate::reject;
use crate::series::Printable;
use crate::source::line_file;
use crate::window::format_time;
use serde::Serialize;

/// What became of every cell of a copy.
///
/// `decoded` = `superseded` + `resolved`, and `resolved` = `already_there` + `expired` + `refused` +
/// `conflicts` + `sent` + `unaccounted`. What is unaccounted for is 0, unless a side changed or
/// cannot be read in full (`unstable`, `unprovable`), or cells came back twice from a live source.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Accounts {
    /// Cells in the rows that were taken from lines; absent for other sources, and where only some
    /// series are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoded: Option<u64>,
    /// Cells that a later line replaced.
    pub superseded: u64,
    /// Cells of the source in the window, each once.
    pub resolved: u64,
    /// Cells that the destination held before, with the same value.
    pub already_there: u64,
    /// Cells that the destination's retention policies would drop.
    pub expired: u64,
    /// Cells that were refused, cannot be sent, or have a type that the destination cannot hold.
    pub refused: u64,
    /// Cells that the destination holds with another value or type, and that were left.
    pub conflicts: u64,
    /// Cells that were stored: acknowledged, or found there although no answer came.
    pub sent: u64,
    /// Cells among those sent that are not there.
    pub lost: u64,
    /// What is left of the resolved cells.
    pub unaccounted: i64,
}

impl Accounts {
    /// Adds up a copy. `set_aside` are the cells that were set aside for their type before anything
    /// was compared, which are among those rejected.
    pub(super) fn of(
        lines: Option<&line_file::Stats>,
        filtered: bool,
        expired: u64,
        set_aside: u64,
        (counts, sent): (Counts, Sent),
    ) -> Self {
        let resolved = counts.source + expired + set_aside;
        let conflicts = counts.changed();
        let named = sent.already_there + expired + sent.rejected + conflicts + sent.cells;
        Self {
            decoded: lines.filter(|_| !filtered).map(|lines| lines.cells),
            superseded: lines.map_or(0, |lines| lines.superseded),
            resolved,
            already_there: sent.already_there,
            expired,
            refused: sent.rejected,
            conflicts,
            sent: sent.cells,
            lost: sent.lost,
            unaccounted: i64::try_from(i128::from(resolved) - i128::from(named))
                .unwrap_or(i64::MAX),
        }
    }
}

/// A series with rejected rows, and one reason for which they were.
#[derive(Debug, Serialize)]
pub struct RejectedSeries {
    /// Database, as the source names it.
    pub database: String,
    /// Retention policy, as the source names it.
    pub retention_policy: String,
    /// Raw series key, printable.
    pub series: String,
    /// The reason.
    pub reason: String,
    /// Rows.
    pub rows: u64,
    /// Time of the earliest, nanoseconds.
    pub start: i64,
    /// First nanosecond after the latest.
    pub end: i64,
}

impl RejectedSeries {
    pub(super) fn of((series, extent): (&reject::Series, &reject::Extent)) -> Self {
        let reject::Series { namespace, key, reason } = series;
        Self {
            database: namespace.database.clone(),
            retention_policy: namespace.retention_policy.clone(),
            series: Printable(key).to_string(),
            reason: reason.clone(),
            rows: extent.rows,
            start: extent.first,
            end: extent.last.saturating_add(1),
        }
    }
}

/// Cells that were not moved because the destination would drop them at once.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Expired {
    /// Cells of the source below the floor.
    pub cells: u64,
    /// The latest floor of any retention policy, nanoseconds.
    pub floor: Option<i64>,
    /// The retention policies that would drop some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<ExpiredPolicy>,
    /// True where the operator named the start of the window.
    #[serde(skip)]
    pub asked_for: bool,
}

/// A retention policy that keeps less than the source holds.
#[derive(Clone, Debug, Serialize)]
pub struct ExpiredPolicy {
    /// Database, as the destination names it.
    pub database: String,
    /// The retention policy, as the destination names it.
    pub retention_policy: String,
    /// The time before which it drops what it is sent, nanoseconds.
    pub floor: i64,
    /// Cells of the source before that.
    pub cells: u64,
}

impl Expired {
    /// Notes what a retention policy would drop; returns what there is to say about it.
    pub(crate) fn add(&mut self, namespace: &Namespace, floor: i64, count: u64) -> Option<String> {
        self.cells += count;
        self.floor = self.floor.max(Some(floor));
        if count == 0 {
            return None;
        }
        let Namespace { database, retention_policy } = namespace.clone();
        let policy = ExpiredPolicy { database, retention_policy, floor, cells: count };
        let remark = policy.remark();
        self.policies.push(policy);
        Some(remark)
    }

    /// What there is to say, one remark a retention policy.
    pub(super) fn remarks(&self) -> impl Iterator<Item = String> + '_ {
        self.policies.iter().map(ExpiredPolicy::remark)
    }
}

impl ExpiredPolicy {
    fn remark(&self) -> String {
        format!(
            "{} older than {}: the retention policy of {} drops them",
            cells(self.cells),
            format_time(self.floor),
            names(&self.database, &self.retention_policy)
        )
    }
}
