//! Fields whose type the destination cannot hold everywhere, in a report.

use super::cells;
use super::text::figure;
use crate::conflicts::{Conflict, SetAside};
use crate::series::Printable;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A field that has another type, or more than one, in one shard group of the destination.
#[derive(Debug, Serialize)]
pub struct TypeConflict {
    /// Measurement, printable.
    pub measurement: String,
    /// Field key, printable.
    pub field: String,
    /// The namespace, as the destination names it.
    pub namespace: String,
    /// First nanosecond of the shard group.
    pub start: i64,
    /// First nanosecond after it.
    pub end: i64,
    /// The type that stays.
    pub kept: &'static str,
    /// Cells of the source by the types that lose.
    pub losing: BTreeMap<&'static str, u64>,
}

impl TypeConflict {
    pub(super) fn of(conflict: &Conflict) -> Self {
        Self {
            measurement: Printable(&conflict.measurement).to_string(),
            field: Printable(&conflict.field).to_string(),
            namespace: conflict.destination.to_string(),
            start: conflict.group.start,
            end: conflict.group.end,
            kept: conflict.keep.name(),
            losing: conflict.losing.iter().map(|(one, cells)| (one.name(), *cells)).collect(),
        }
    }
}

/// Type conflicts, and what became of their cells.
#[derive(Debug, Default)]
pub struct TypesDealtWith {
    /// The conflicts.
    pub conflicts: Vec<Conflict>,
    /// What became of their cells.
    pub counts: SetAside,
    /// They stop a copy: nothing is sent.
    pub fails: bool,
}

impl TypesDealtWith {
    pub(super) fn remark(&self) -> Option<String> {
        let SetAside { cast, rejected } = self.counts;
        let fields: BTreeSet<(&[u8], &[u8])> =
            self.conflicts.iter().map(|one| (&*one.measurement, &*one.field)).collect();
        (!self.conflicts.is_empty()).then(|| {
            format!(
                "{} of {} fields had a type that the destination cannot hold: {} cast, {} rejected",
                cells(cast + rejected),
                fields.len(),
                figure(cast),
                figure(rejected)
            )
        })
    }
}
