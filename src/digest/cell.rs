//! The hash of one cell: a persisted format, fixed by [`CANON_VERSION`] and known-answer tests.
//!
//! ```text
//! S   = XXH3-128(version, identity)                identity: measurement and sorted tags,
//! P   = XXH3-128(version, identity, field)         unescaped, each part behind its length
//! Pt  = XXH3-128(P, type)
//! k   = XXH3-128(P, time)                          24 bytes
//! v   = XXH3-128(Pt, time, bits)                   32 bytes, scalars
//! v   = XXH3-128(Pt, time, length, bytes)          strings
//! ```
//!
//! All integers little-endian; `version` one byte; lengths of names u32, of strings u64; `type` one
//! byte. XXH3 leaks additive structure into sums, so each 64-bit lane of k and v is put through a
//! bijective finaliser before it is added anywhere.

use super::fixed::Prefix;
use crate::series::{Series, write_part};
use crate::value::{FieldType, Value};
use xxhash_rust::xxh3::xxh3_128;

/// Version of the canonical form and of the hash. Digests of different versions are never compared.
pub const CANON_VERSION: u8 = 1;

/// Hash of a series' identity: by it sets of digests are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesHash(pub u128);

/// Hash of (series, field, time): names a cell whatever its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u64; 2]);

/// Hash of (series, field, time, type, value).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueHash(pub [u64; 2]);

/// The part of the cell hash that is the same for every cell of one series.
#[derive(Debug)]
pub struct SeriesHasher {
    /// `version, identity`, to which fields are appended.
    prefix: Vec<u8>,
    identity: usize,
    series: SeriesHash,
}

impl SeriesHasher {
    /// Starts the hashes of one series.
    #[must_use]
    pub fn new(series: &Series) -> Self {
        let mut prefix = vec![CANON_VERSION];
        series.write_identity(&mut prefix);
        let identity = prefix.len();
        let series = SeriesHash(xxh3_128(&prefix));
        Self { prefix, identity, series }
    }

    /// The hash of the series itself.
    #[must_use]
    pub fn series(&self) -> SeriesHash {
        self.series
    }

    /// The hashes of one field of the series.
    #[must_use]
    pub fn field(&mut self, field: &[u8], field_type: FieldType) -> FieldHasher {
        self.prefix.truncate(self.identity);
        write_part(&mut self.prefix, field);
        let path = xxh3_128(&self.prefix).to_le_bytes();
        let mut with_type = [0; 17];
        with_type[..16].copy_from_slice(&path);
        with_type[16] = type_code(field_type);
        FieldHasher::new(path, xxh3_128(&with_type).to_le_bytes())
    }
}

/// The part of the cell hash that is the same for every cell of one series, field and type.
#[derive(Clone, Copy, Debug)]
pub struct FieldHasher {
    key: Prefix,
    scalar: Prefix,
    typed: [u8; 16],
}

impl FieldHasher {
    fn new(path: [u8; 16], typed: [u8; 16]) -> Self {
        Self { key: Prefix::new(path, 24), scalar: Prefix::new(typed, 32), typed }
    }

    /// Hash of the cell's place.
    #[must_use]
    #[inline]
    pub fn key(&self, time: i64) -> KeyHash {
        KeyHash(self.key.with_word(time.cast_unsigned()).map(mix))
    }

    /// Hash of the cell with its value. The value must have the type the hasher was made for.
    #[must_use]
    pub fn value(&self, time: i64, value: Value<'_>) -> ValueHash {
        match value {
            Value::String(bytes) => self.string(time, bytes, &mut Vec::new()),
            scalar => self.scalar(time, scalar.bits().unwrap_or_default()),
        }
    }

    /// Hash of a cell with the bits of its value.
    #[inline]
    pub(super) fn scalar(&self, time: i64, bits: u64) -> ValueHash {
        ValueHash(self.scalar.with_words(time.cast_unsigned(), bits).map(mix))
    }

    /// Hash of a cell with its string, put together in `room`.
    pub(super) fn string(&self, time: i64, value: &[u8], room: &mut Vec<u8>) -> ValueHash {
        room.clear();
        room.extend_from_slice(&self.typed);
        room.extend_from_slice(&time.to_le_bytes());
        room.extend_from_slice(&(value.len() as u64).to_le_bytes());
        room.extend_from_slice(value);
        ValueHash(finalise(xxh3_128(room)))
    }
}

/// Codes of the types in the persisted format; never to be renumbered.
fn type_code(field_type: FieldType) -> u8 {
    match field_type {
        FieldType::Float => 1,
        FieldType::Integer => 2,
        FieldType::Unsigned => 3,
        FieldType::Boolean => 4,
        FieldType::String => 5,
    }
}

/// Both lanes, low lane first, each through the finaliser.
fn finalise(hash: u128) -> [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    let lanes = [hash as u64, (hash >> 64) as u64];
    lanes.map(mix)
}

/// A bijection of 64 bits: shifts and odd multipliers of `SplitMix64` (Stafford's variant 13).
fn mix(mut lane: u64) -> u64 {
    lane = (lane ^ (lane >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    lane = (lane ^ (lane >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    lane ^ (lane >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(key: &str, measurement: &str, tags: &[(&str, &str)]) -> Series {
        let tags = tags.iter().map(|(k, v)| (k.as_bytes().into(), v.as_bytes().into())).collect();
        Series::new(key.as_bytes().into(), measurement.as_bytes().into(), tags, true)
    }

    /// The format is persisted in archives and digest files: these values may never change under
    /// the same version. They were computed from the description above with the reference
    /// implementation of XXH3 in Python (see `testdata/digest/known_answers.py`).
    #[test]
    fn known_answers() {
        let cpu = series("cpu,host=a", "cpu", &[("host", "a"), ("dc", "eu")]);
        let mut hasher = SeriesHasher::new(&cpu);
        assert_eq!(hasher.series().0, KNOWN.0);
        for (field, time, value, key_hash, value_hash) in KNOWN.1 {
            let field = hasher.field(field.as_bytes(), value.field_type());
            assert_eq!(field.key(*time).0, *key_hash, "{value:?}");
            assert_eq!(field.value(*time, *value).0, *value_hash, "{value:?}");
        }
    }

    type Known = (&'static str, i64, Value<'static>, [u64; 2], [u64; 2]);
    const KNOWN: (u128, &[Known]) = include!("../../testdata/digest/known_answers.rs.in");

    /// In sums, additive structure matters. Cells 1 ns apart have neighbour differences of which,
    /// in 2^21 random ones, about 512 pairs agree in 32 bits; of XXH3 alone, with this prefix,
    /// nearly three times as many do.
    #[test]
    fn the_finaliser_removes_additive_structure() {
        let typed = xxh3_128(&111_u64.to_le_bytes()).to_le_bytes();
        let hasher = FieldHasher::new([0; 16], typed);
        let raw = |time: i64| {
            let mut input = [0; 32];
            input[..16].copy_from_slice(&typed);
            input[16..24].copy_from_slice(&time.to_le_bytes());
            #[expect(clippy::cast_possible_truncation, reason = "the low lane")]
            let low = xxh3_128(&input) as u64;
            low
        };
        let flawed = equal_differences(raw);
        assert!(flawed > 1_000, "{flawed}: the test no longer sees the flaw it guards against");
        let finalised = equal_differences(|time| hasher.value(time, Value::Integer(0)).0[0]);
        assert!((400..640).contains(&finalised), "{finalised}");
    }

    /// Pairs of equal high words among the differences of neighbours, over 2^21 cells.
    fn equal_differences(lane: impl Fn(i64) -> u64) -> usize {
        const START: i64 = 1_700_000_000_000_000_000;
        let mut words: Vec<u64> = (0..1 << 21)
            .map(|step| lane(START + step + 1).wrapping_sub(lane(START + step)) >> 32)
            .collect();
        words.sort_unstable();
        words.chunk_by(|a, b| a == b).map(|same| same.len() * (same.len() - 1) / 2).sum()
    }
}
