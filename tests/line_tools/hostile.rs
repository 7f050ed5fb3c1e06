//! Lines that are almost right, made from known ones by a seeded generator.

use super::corpus::{self, Case, Expected};

/// Bytes that mean something somewhere in a line, those that matter most more often.
const ALPHABET: &[u8] = b"m v=1,i\"\\ #\n\r\t e.-+tfTF0\\\"=, \\\"=,\0a9uN\xff";

/// A small generator of numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    /// A generator that always gives the same numbers for one seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(high).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        ALPHABET[self.below(ALPHABET.len())]
    }
}

/// The lines of the corpus, those that are accepted several times: most changes spoil a line.
pub fn seeds() -> Vec<Vec<u8>> {
    let weight = |case: &Case| {
        let accepted = case.items.iter().all(|item| matches!(item, Expected::Row { .. }));
        if accepted { 5 } else { 1 }
    };
    let cases = corpus::cases();
    cases.iter().flat_map(|case| std::iter::repeat_n(case.text.clone(), weight(case))).collect()
}

/// One line made from `seeds`: some bytes inserted, replaced, removed or copied.
pub fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut text = seeds[random.below(seeds.len())].clone();
    if random.below(4) == 0 {
        let other = &seeds[random.below(seeds.len())];
        let (one, two) = (random.below(text.len() + 1), random.below(other.len() + 1));
        text.truncate(one);
        text.extend_from_slice(&other[two..]);
    }
    for _ in 0..=random.below(3) {
        let at = random.below(text.len() + 1);
        match random.below(5) {
            0 | 1 => text.insert(at, random.byte()),
            2 if at < text.len() => text[at] = random.byte(),
            3 if at < text.len() => {
                text.remove(at);
            }
            _ => {
                let end = at + random.below(6).min(text.len() - at);
                let copy = text[at..end].to_vec();
                let to = random.below(text.len() + 1);
                text.splice(to..to, copy);
            }
        }
    }
    text
}
