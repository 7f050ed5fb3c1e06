//! Simple8b: several small numbers in each word of 64 bits.
//!
//! ```text
//! selector   0   1  2  3  4  5  6  7  8  9 10 11 12 13 14 15     the top four bits
//! numbers  240 120 60 30 20 15 12 10  8  7  6  5  4  3  2  1
//! bits       0   0  1  2  3  4  5  6  7  8 10 12 15 20 30 60     of each, the lowest first
//! ```
//!
//! Selectors 0 and 1 stand for as many *ones*, and the rest of their word means nothing. A word is
//! always full, so that the number of values is known from the selectors.

/// Numbers in a word, by selector.
const COUNTS: [usize; 16] = [240, 120, 60, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1];

/// Number of values in the words; what is left behind the last whole word is not looked at.
pub(super) fn count(words: &[u8]) -> usize {
    words.as_chunks::<8>().0.iter().map(|word| COUNTS[usize::from(word[0] >> 4)]).sum()
}

/// Fills `out`, which has to be as long as [`count`] says, with what `next` makes of each number.
pub(super) fn unpack<T>(words: &[u8], mut out: &mut [T], mut next: impl FnMut(u64) -> T) {
    for word in words.as_chunks::<8>().0 {
        let word = u64::from_be_bytes(*word);
        let next = &mut next;
        out = match word >> 60 {
            0 => ones::<240, T>(out, next),
            1 => ones::<120, T>(out, next),
            2 => numbers::<60, 1, T>(word, out, next),
            3 => numbers::<30, 2, T>(word, out, next),
            4 => numbers::<20, 3, T>(word, out, next),
            5 => numbers::<15, 4, T>(word, out, next),
            6 => numbers::<12, 5, T>(word, out, next),
            7 => numbers::<10, 6, T>(word, out, next),
            8 => numbers::<8, 7, T>(word, out, next),
            9 => numbers::<7, 8, T>(word, out, next),
            10 => numbers::<6, 10, T>(word, out, next),
            11 => numbers::<5, 12, T>(word, out, next),
            12 => numbers::<4, 15, T>(word, out, next),
            13 => numbers::<3, 20, T>(word, out, next),
            14 => numbers::<2, 30, T>(word, out, next),
            _ => numbers::<1, 60, T>(word, out, next),
        };
    }
}

#[inline(always)]
fn numbers<'a, const N: usize, const BITS: u32, T>(
    mut word: u64,
    out: &'a mut [T],
    next: &mut impl FnMut(u64) -> T,
) -> &'a mut [T] {
    let Some((slots, rest)) = out.split_first_chunk_mut::<N>() else { return &mut [] };
    for slot in slots {
        *slot = next(word & ((1 << BITS) - 1));
        word >>= BITS;
    }
    rest
}

fn ones<'a, const N: usize, T>(out: &'a mut [T], next: &mut impl FnMut(u64) -> T) -> &'a mut [T] {
    let Some((slots, rest)) = out.split_first_chunk_mut::<N>() else { return &mut [] };
    slots.fill_with(|| next(1));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(words: &[u64]) -> Vec<u64> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let mut out = vec![0; count(&bytes)];
        unpack(&bytes, &mut out, |number| number);
        out
    }

    #[test]
    fn the_low_bits_come_first() {
        assert_eq!(all(&[14 << 60 | 7 << 30 | 5, 15 << 60 | 9]), [5, 7, 9]);
        assert_eq!(all(&[13 << 60 | 3 << 40 | 2 << 20 | 1]), [1, 2, 3]);
        assert_eq!(all(&[u64::MAX]), [(1 << 60) - 1]);
    }

    #[test]
    fn selectors_without_bits_are_runs_of_ones() {
        assert_eq!(all(&[0]), [1; 240]);
        assert_eq!(all(&[1 << 60 | 12345]), [1; 120]);
    }

    #[test]
    fn every_selector_fills_its_word() {
        for selector in 2..16_usize {
            let numbers = all(&[((selector as u64) << 60) | ((1 << 60) - 1)]);
            let bits = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 60][selector - 2];
            assert_eq!(numbers, vec![(1_u64 << bits) - 1; COUNTS[selector]], "{selector}");
        }
    }
}
