//! How far a source is believed that it lacks a point. What could not be read, was not backed up, or was
//! written after the source was made, is not there either, and must not be deleted for that.

use crate::error::Result;
use crate::plan::{Filter, Namespace, Scope};
use crate::source::Source;
use crate::window::{Window, format_time};
use std::collections::BTreeSet;

/// What a source's silence is worth.
#[derive(Clone, Copy, Debug)]
pub struct Vouch {
    /// Lines of it that were rejected.
    pub rejected: u64,
    /// It says nothing of this time and later ones, nanoseconds; of none where it does not know its own.
    pub end: Option<i64>,
    /// It is a server's files or a copy of them, of which some may be elsewhere.
    pub is_stored: bool,
}

impl Vouch {
    /// Why nothing may be deleted for what the source lacks. Asked after it was read: what cannot be
    /// read is known then.
    pub(super) fn doubt(&self, source: &dyn Source) -> Option<String> {
        if self.rejected > 0 {
            let lines = self.rejected;
            return Some(format!("the source may hold it: {lines} lines of it were rejected"));
        }
        let unread = source.unread().into_iter().next()?;
        Some(format!("the source may hold it: it was not read in full ({unread})"))
    }

    /// The same for one time.
    pub(super) fn doubt_at(&self, time: i64, empty: &[Window]) -> Option<String> {
        if let Some(end) = self.end.filter(|&end| time >= end) {
            if end == i64::MIN {
                return Some("the source does not say when it was begun".into());
            }
            let end = format_time(end);
            return Some(format!("the source says nothing of {end} and later (--lag)"));
        }
        let group = empty.iter().find(|group| group.contains(time))?;
        Some(format!(
            "the source had a shard group {group} and holds nothing of it: it may have been left out"
        ))
    }

    /// Shard groups at some times that a stored source names and holds nothing of.
    pub(super) fn empty_groups(
        &self,
        source: &dyn Source,
        namespace: &Namespace,
        times: &BTreeSet<i64>,
    ) -> Result<Vec<Window>> {
        let mut empty = Vec::new();
        if !self.is_stored {
            return Ok(empty);
        }
        for group in source.groups(namespace)?.unwrap_or_default() {
            let is_asked_for = times.range(group.start..group.end).next().is_some();
            if is_asked_for && !holds_anything(source, namespace, group)? {
                empty.push(group);
            }
        }
        Ok(empty)
    }
}

fn holds_anything(source: &dyn Source, namespace: &Namespace, window: Window) -> Result<bool> {
    for partition in source.plan(&Scope::new(namespace, window, &Filter::default()))? {
        if source.open(&partition)?.next_block()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
