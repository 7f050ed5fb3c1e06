//! Shards that the meta store names and of which nothing is there.

use crate::meta::ShardGroup;
use crate::plan::Namespace;
use crate::window::Window;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Numbers of shards that are named in one remark.
const NAMED: usize = 8;

/// Shards of which nothing was found, by what that means. Shared by worker threads.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    lost: BTreeMap<(Namespace, u64), Window>,
    idle: BTreeMap<Namespace, BTreeSet<u64>>,
}

impl Absent {
    /// Notes a shard: lost, or of a group that may never have been written to.
    pub(super) fn note(&self, namespace: &Namespace, shard: u64, window: Window, lost: bool) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lost {
            found.lost.insert((namespace.clone(), shard), window);
        } else {
            found.idle.entry(namespace.clone()).or_default().insert(shard);
        }
    }

    /// The shards that are lost, or may be, one remark each.
    pub(super) fn lost(&self) -> Vec<String> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let remark = |((namespace, shard), window): (&(Namespace, u64), &Window)| {
            format!(
                "shard {shard} of {namespace} ({window}): the meta store names it, and nothing is here: \
                 its files are lost, or were never copied"
            )
        };
        found.lost.iter().map(remark).collect()
    }

    /// The shards that most likely never had files, one remark for a retention policy.
    pub(super) fn idle(&self) -> Vec<String> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let remark = |(namespace, shards): (&Namespace, &BTreeSet<u64>)| {
            let named: Vec<String> = shards.iter().take(NAMED).map(u64::to_string).collect();
            let more = if shards.len() > NAMED { " …" } else { "" };
            format!(
                "{} shards of {namespace} ({}{more}): the meta store names them, and nothing is here, as \
                 of groups that a server made ahead and nobody wrote to",
                shards.len(),
                named.join(", ")
            )
        };
        found.idle.iter().map(remark).collect()
    }
}

/// True where a write made a group, and with it the directory of its shard: a server that makes groups
/// ahead makes the one that follows another, which then has the lesser number.
pub(super) fn made_by_write(group: &ShardGroup, groups: &[ShardGroup]) -> bool {
    let before = |one: &ShardGroup| one.end == group.start && one.id < group.id;
    !groups.iter().any(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_group_that_follows_an_older_one_may_never_have_been_written_to() {
        let group = |id, start, end| ShardGroup {
            id,
            start,
            end,
            deleted_at: None,
            truncated_at: None,
            shards: Vec::new(),
        };
        let groups = [group(1, 10, 20), group(2, 20, 30), group(3, 0, 10), group(4, 90, 99)];
        let made: Vec<bool> = groups.iter().map(|one| made_by_write(one, &groups)).collect();
        assert_eq!(made, [true, false, true, true]);
    }
}
