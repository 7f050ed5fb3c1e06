//! XXH3-128 of the two lengths that nearly all cells have, 24 and 32 bytes, whose first 16 bytes are
//! the same for every cell of a field.
//!
//! The library's function serves every length, and takes three to four times as long. These give the
//! same values, as a test shows: the branch of the algorithm for 17 to 128 bytes with the default
//! secret and no seed, with what depends on the first 16 bytes alone computed once
//! (`XXH3_len_17to128_128b` in the reference implementation, xxHash 0.8).

/// The first 32 bytes of the default secret, as little-endian words.
const SECRET: [u64; 4] =
    [0xbe4b_a423_396c_feb8, 0x1cad_21f7_2c81_017c, 0xdb97_9083_e96d_d4de, 0x1f67_b3b7_a4a4_4072];
const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;

/// What the first 16 bytes of inputs of one length contribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    /// The high word of the 16 bytes.
    high: u64,
    /// Of the low lane before the rest is mixed in.
    low_lane: u64,
    /// Of the high lane, mixed in last.
    high_lane: u64,
    /// Of the length, added at the end.
    length: u64,
}

impl Prefix {
    /// For inputs of `length` bytes, 17 to 32, that begin with the 16 bytes of a hash.
    pub(super) fn new(bytes: [u8; 16], length: u64) -> Self {
        let whole = u128::from_le_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
        let (low, high) = (whole as u64, (whole >> 64) as u64);
        Self {
            high,
            low_lane: length
                .wrapping_mul(PRIME_1)
                .wrapping_add(fold(low ^ SECRET[0], high ^ SECRET[1])),
            high_lane: low.wrapping_add(high),
            length: length.wrapping_mul(PRIME_2),
        }
    }

    /// Hash of the 16 bytes and one word, low lane first. The prefix must be one of 24 bytes.
    #[inline]
    pub(super) fn with_word(&self, word: u64) -> [u64; 2] {
        self.finish(self.high, word)
    }

    /// Hash of the 16 bytes and two words, low lane first. The prefix must be one of 32 bytes.
    #[inline]
    pub(super) fn with_words(&self, one: u64, two: u64) -> [u64; 2] {
        self.finish(one, two)
    }

    /// The last 16 bytes of the input overlap the first where it is shorter than 32.
    #[inline]
    fn finish(&self, one: u64, two: u64) -> [u64; 2] {
        let low = self.low_lane ^ one.wrapping_add(two);
        let high = fold(one ^ SECRET[2], two ^ SECRET[3]) ^ self.high_lane;
        let mixed = low
            .wrapping_mul(PRIME_1)
            .wrapping_add(high.wrapping_mul(PRIME_4))
            .wrapping_add(self.length);
        [avalanche(low.wrapping_add(high)), avalanche(mixed).wrapping_neg()]
    }
}

/// Both halves of the product, one over the other.
#[inline]
fn fold(one: u64, two: u64) -> u64 {
    let product = u128::from(one) * u128::from(two);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

#[inline]
fn avalanche(mut word: u64) -> u64 {
    word ^= word >> 37;
    word = word.wrapping_mul(0x1656_6791_9e37_79f9);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_128;

    fn library(parts: &[&[u8]]) -> [u64; 2] {
        let hash = xxh3_128(&parts.concat());
        #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
        let lanes = [hash as u64, (hash >> 64) as u64];
        lanes
    }

    proptest! {
        #[test]
        fn the_values_are_those_of_the_library(bytes: [u8; 16], one: u64, two: u64) {
            let (first, second) = (one.to_le_bytes(), two.to_le_bytes());
            let short = Prefix::new(bytes, 24).with_word(one);
            prop_assert_eq!(short, library(&[&bytes, &first]));
            let long = Prefix::new(bytes, 32).with_words(one, two);
            prop_assert_eq!(long, library(&[&bytes, &first, &second]));
        }
    }
}
