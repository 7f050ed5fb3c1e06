//! What a place holds and was not read: damage that was passed over, files that were set aside.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Remarks that are kept; more are counted.
const KEPT_MAX: usize = 1_000;

/// Remarks, each once. Shared by worker threads.
#[derive(Debug, Default)]
pub(super) struct Remarks(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    texts: BTreeSet<String>,
    more: u64,
}

impl Remarks {
    /// Adds a remark.
    pub(super) fn add(&self, text: String) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.texts.len() < KEPT_MAX || kept.texts.contains(&text) {
            kept.texts.insert(text);
        } else {
            kept.more += 1;
        }
    }

    /// All of them.
    pub(super) fn texts(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let more = (kept.more > 0).then(|| format!("and {} places more", kept.more));
        kept.texts.iter().cloned().chain(more).collect()
    }
}
