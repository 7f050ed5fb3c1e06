//! Numbers of things that are kept elsewhere, found by the hash of the things.
//!
//! Holds eight bytes a number and never the things: the caller compares, and is asked only where
//! 32 bits of the hash agree. Growing needs no look at the things.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Spreads 32 bits over 64, of which the table uses both ends (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash, seeded by the index that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(u32);

impl Hash {
    fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(SPREAD)
    }
}

/// Numbers by hash.
#[derive(Debug, Default)]
pub(crate) struct Index {
    numbers: HashTable<(Hash, u32)>,
    seed: RandomState,
}

impl Index {
    /// The hash of what numbers are entered under.
    pub(crate) fn hash(&self, key: &(impl std::hash::Hash + ?Sized)) -> Hash {
        Hash((self.seed.hash_one(key) >> 32) as u32)
    }

    /// The number with this hash of which `is_same` says that it is the one.
    pub(crate) fn find(&self, hash: Hash, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        self.numbers
            .find(hash.spread(), |&(other, number)| other == hash && is_same(number))
            .map(|&(_, number)| number)
    }

    /// Enters a number that [`Index::find`] did not find.
    pub(crate) fn insert(&mut self, hash: Hash, number: u32) {
        self.numbers.insert_unique(hash.spread(), (hash, number), |entry| entry.0.spread());
    }

    /// Forgets all numbers and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.numbers.clear();
    }

    /// Bytes in use.
    pub(crate) fn memory(&self) -> usize {
        self.numbers.allocation_size()
    }
}
