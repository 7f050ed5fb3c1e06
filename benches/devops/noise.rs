//! Numbers without state: hashes, smooth curves and permutations, all functions of their arguments.
//!
//! Invariant: nothing here remembers anything, so that any row can be made at any time, in any
//! order, in constant memory.

#![allow(clippy::cast_possible_truncation, reason = "hashes are cut to the bits that are needed")]

/// Steps between two knots of a curve.
const KNOT: u64 = 16;

/// A bijective mixer of 64 bits (the finaliser of splitmix64).
pub(super) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One hash of several numbers, their order included.
pub(super) fn hash<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, |state, part| mix(state ^ part))
}

/// A hash as a number of `[0, 1)`.
pub(super) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// A curve that wanders through `[0, 1)`, with a little noise at each step.
pub(super) fn curve(stream: u64, step: u64) -> f64 {
    let knot = step / KNOT;
    let (from, to) = (unit(hash([stream, knot])), unit(hash([stream, knot + 1])));
    let along = (step % KNOT) as f64 / KNOT as f64;
    let noise = unit(hash([stream, 1 << 63 | step]));
    (from + (to - from) * along) * 0.98 + noise * 0.02
}

/// A permutation of `0..len` in constant memory: a Feistel network over the next power of four,
/// walked until it lands inside.
#[derive(Clone, Debug)]
pub(super) struct Permutation {
    len: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    /// Chooses one by its seed.
    pub(super) fn new(len: u64, seed: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self { len, half_bits: bits.div_ceil(2).max(1), seed }
    }

    /// Where `index`, which is less than the length, goes.
    pub(super) fn at(&self, index: u64) -> u64 {
        let mut at = index;
        loop {
            at = self.once(at);
            if at < self.len {
                return at;
            }
        }
    }

    fn once(&self, index: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (index >> self.half_bits, index & mask);
        for round in 0..4 {
            (left, right) = (right, left ^ (hash([self.seed, round, right]) & mask));
        }
        left << self.half_bits | right
    }
}
