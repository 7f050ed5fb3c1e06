//! What a place holds and was not read: damage that was passed over, files that were set aside.

use crate::tsm::index::Entry;
use crate::window::format_time;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Remarks that are kept; more are counted.
const KEPT_MAX: usize = 1_000;

/// Remarks, each once. Shared by worker threads.
#[derive(Debug, Default)]
pub(super) struct Remarks(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    texts: BTreeSet<String>,
    /// Hashes of all remarks: what is read twice is left out once.
    seen: HashSet<u64>,
    hasher: RandomState,
    more: u64,
    sums: Sums,
    /// Hashes of the keys of which blocks were left out.
    keys: HashSet<u64>,
}

/// What was left out, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    files: u64,
    blocks: u64,
    keys: u64,
    /// Bytes of blocks, and of places of the log.
    bytes: u64,
    /// First and last time of the blocks, as their index says.
    times: Option<(i64, i64)>,
}

impl Remarks {
    /// Adds a remark.
    pub(super) fn add(&self, text: String) {
        self.count(text, |_| {});
    }

    /// Adds that a file, or an end of a tar, is left out.
    pub(super) fn leave_out_file(&self, text: String) {
        self.count(text, |kept| kept.sums.files += 1);
    }

    /// Adds that bytes of a log are left out.
    pub(super) fn leave_out_bytes(&self, text: String, bytes: u64) {
        self.count(text, |kept| kept.sums.bytes += bytes);
    }

    /// Adds that a block of a key is left out.
    pub(super) fn leave_out_block(&self, text: String, key: &[u8], block: Entry) {
        self.count(text, |kept| {
            kept.keys.insert(kept.hasher.hash_one(key));
            let sums = &mut kept.sums;
            sums.blocks += 1;
            sums.bytes += u64::from(block.size);
            sums.keys = kept.keys.len() as u64;
            let (first, last) = sums.times.unwrap_or((i64::MAX, i64::MIN));
            sums.times = Some((first.min(block.span.min), last.max(block.span.max)));
        });
    }

    fn count(&self, text: String, count: impl FnOnce(&mut Kept)) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = kept.hasher.hash_one(&text);
        if !kept.seen.insert(hash) {
            return;
        }
        count(&mut kept);
        if kept.texts.len() < KEPT_MAX {
            kept.texts.insert(text);
        } else {
            kept.more += 1;
        }
    }

    /// All of them, and what was left out in all.
    pub(super) fn texts(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let more = (kept.more > 0).then(|| format!("and {} places more", kept.more));
        let sums = (kept.sums != Sums::default()).then(|| kept.sums.to_string());
        kept.texts.iter().cloned().chain(more).chain(sums).collect()
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, blocks, keys, bytes, times } = self;
        write!(
            f,
            "left out in all: {files} files or ends of tars, {blocks} blocks of {keys} keys; {bytes} \
             bytes of blocks and log"
        )?;
        times.map_or(Ok(()), |(first, last)| {
            write!(f, "; times of the blocks {} to {}", format_time(first), format_time(last))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tsm::Span;

    #[test]
    fn what_is_left_out_is_summed_once_however_often_it_is_read() {
        let remarks = Remarks::default();
        remarks.add("said".into());
        assert_eq!(remarks.texts(), ["said"]);
        let block = |min| Entry { span: Span { min, max: min + 9 }, offset: 5, size: 30 };
        for _ in 0..2 {
            remarks.leave_out_block("one".into(), b"m#!~#v", block(0));
            remarks.leave_out_block("two".into(), b"m#!~#v", block(1_000_000_000));
            remarks.leave_out_block("three".into(), b"m#!~#w", block(-1_000_000_000));
            remarks.leave_out_file("file".into());
            remarks.leave_out_bytes("log".into(), 7);
        }
        let sums = remarks.texts().pop().unwrap();
        assert_eq!(
            sums,
            "left out in all: 1 files or ends of tars, 3 blocks of 2 keys; 97 bytes of blocks and \
             log; times of the blocks 1969-12-31T23:59:59Z to 1970-01-01T00:00:01.000000009Z"
        );
        (0..KEPT_MAX).for_each(|at| remarks.leave_out_file(format!("file {at}")));
        let texts = remarks.texts();
        assert!(texts[KEPT_MAX].contains("places more"), "{:?}", texts[KEPT_MAX]);
        assert!(texts[KEPT_MAX + 1].contains("1001 files"), "{}", texts[KEPT_MAX + 1]);
    }
}
