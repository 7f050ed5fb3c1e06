//! A node: the number of cells and the sums of their hashes.

use super::cell::{KeyHash, ValueHash};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::AddAssign;
use xxhash_rust::xxh3::xxh3_128;

/// Sums over a set of cells, each lane mod 2^64. Addition is associative and commutative, so that
/// threads and partitions merge by adding.
///
/// Equal keys and different values mean that values or types changed and nothing is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Number of cells.
    pub cells: u64,
    /// Sum of the hashes of (series, field, time).
    #[serde(with = "lanes")]
    pub keys: [u64; 2],
    /// Sum of the hashes of (series, field, time, type, value).
    #[serde(with = "lanes")]
    pub values: [u64; 2],
}

impl Node {
    /// Adds one cell.
    pub fn add(&mut self, key: KeyHash, value: ValueHash) {
        *self += Self { cells: 1, keys: key.0, values: value.0 };
    }

    /// Adds the place of a cell whose value is not known: the sum of values is then of no use.
    pub fn add_key(&mut self, key: KeyHash) {
        *self += Self { cells: 1, keys: key.0, values: [0; 2] };
    }

    /// True where both are sums over the same cells, whatever their values.
    #[must_use]
    pub fn same_keys(&self, other: Self) -> bool {
        (self.cells, self.keys) == (other.cells, other.keys)
    }

    /// The sums of what this node holds and `part` does not, where it holds all of that.
    #[must_use]
    pub fn less(self, part: Self) -> Self {
        let lanes = |one: [u64; 2], two: [u64; 2]| {
            [one[0].wrapping_sub(two[0]), one[1].wrapping_sub(two[1])]
        };
        Self {
            cells: self.cells.wrapping_sub(part.cells),
            keys: lanes(self.keys, part.keys),
            values: lanes(self.values, part.values),
        }
    }
}

impl AddAssign for Node {
    fn add_assign(&mut self, other: Self) {
        self.cells = self.cells.wrapping_add(other.cells);
        for lane in 0..2 {
            self.keys[lane] = self.keys[lane].wrapping_add(other.keys[lane]);
            self.values[lane] = self.values[lane].wrapping_add(other.values[lane]);
        }
    }
}

impl fmt::Display for Node {
    /// One 128-bit figure that stands for the node, to be compared by eye.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut input = [0; 40];
        let parts = [self.cells, self.keys[0], self.keys[1], self.values[0], self.values[1]];
        for (slot, part) in input.chunks_exact_mut(8).zip(parts) {
            slot.copy_from_slice(&part.to_le_bytes());
        }
        write!(f, "{:032x}", xxh3_128(&input))
    }
}

/// Two 64-bit lanes as 16 hexadecimal digits each: many JSON tools round large numbers.
mod lanes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        lanes: &[u64; 2],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        lanes.map(|lane| format!("{lane:016x}")).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u64; 2], D::Error> {
        let [one, two] = <[String; 2]>::deserialize(deserializer)?;
        let lane = |text: &str| {
            if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(D::Error::custom("a digest lane is no 16 hexadecimal digits"));
            }
            u64::from_str_radix(text, 16).map_err(D::Error::custom)
        };
        Ok([lane(&one)?, lane(&two)?])
    }
}
