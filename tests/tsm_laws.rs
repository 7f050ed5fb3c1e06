//! What is encoded is decoded again, in every encoding, and a second decoder agrees.

#![allow(clippy::unwrap_used, reason = "test code")]

mod tsm_tools;

use gapless::tsm::index::Tsm;
use gapless::tsm::{Points, Span, block};
use gapless::value::{FieldType, Value};
use gapless::window::Window;
use proptest::collection::vec;
use proptest::prelude::*;
use tsm_tools::encode::{self, Encoding};
use tsm_tools::naive::{self, Naive};

/// Numbers of every size, and those at which something changes.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -3_i64..3,
        -2000_i64..2000,
        (0_u32..63).prop_flat_map(|bits| -(1_i64 << bits)..=1 << bits),
        Just(i64::MIN),
        Just(i64::MAX),
    ]
}

/// Sequences: any numbers, steps of a few sizes (all one, regular, scaled), or runs of one step.
fn sequence() -> impl Strategy<Value = Vec<i64>> {
    let walk = |first: i64, steps: Vec<i64>, unit: i64| {
        let mut all = vec![first];
        for step in steps {
            all.push(all[all.len() - 1].wrapping_add(step.wrapping_mul(unit)));
        }
        all
    };
    let units = prop_oneof![Just(1), Just(1000), Just(1_000_000_000), Just(i64::MAX)];
    prop_oneof![
        vec(number(), 1..50),
        (number(), vec(0_i64..3, 0..500), units.clone()).prop_map(move |(a, b, c)| walk(a, b, c)),
        (number(), vec(Just(1_i64), 0..700), units.clone())
            .prop_map(move |(a, b, c)| walk(a, b, c)),
        (number(), vec(number(), 0..40), units).prop_map(move |(a, b, c)| walk(a, b, c)),
        (number(), number(), 1_usize..300).prop_map(move |(a, b, n)| walk(a, vec![b; n - 1], 1)),
    ]
}

fn float() -> impl Strategy<Value = u64> {
    let special = [0.0, -0.0, 1.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::INFINITY, f64::NAN];
    prop_oneof![
        any::<u64>(),
        any::<f64>().prop_map(f64::to_bits),
        (-50_i16..50).prop_map(|n| (f64::from(n) / 4.0).to_bits()),
        proptest::sample::select(special.map(f64::to_bits).to_vec()),
    ]
    .prop_filter("the end of a stream is no value", |bits| *bits != 0x7ff8_0000_0000_0001)
}

fn decode(stored: &[u8], field_type: FieldType) -> Points {
    let mut points = Points::default();
    points.reset(field_type);
    block::decode(stored, 0, &mut points).unwrap();
    points
}

/// Decodes by both decoders, and compares with the points that were encoded.
fn check(stored: &[u8], times: &[i64], values: &[Value<'_>]) {
    let field_type = values[0].field_type();
    let points = decode(stored, field_type);
    assert_eq!(points.times, times);
    assert!(points.iter().map(|(_, value)| value).eq(values.iter().copied()), "{values:?}");
    let (naive_type, naive) = naive::block(&stored[4..]).expect("the second decoder reads it");
    assert_eq!(naive_type, field_type);
    assert!(naive.into_iter().eq(points.iter().map(|(time, value)| (time, plain(value)))));
}

fn plain(value: Value<'_>) -> Naive {
    match value {
        Value::String(bytes) => Naive::Bytes(bytes.to_vec()),
        value => Naive::Bits(value.bits().unwrap_or_default()),
    }
}

/// As many times, one nanosecond apart.
fn times_for(count: usize) -> (Vec<i64>, Vec<u8>) {
    let times: Vec<i64> = (0..i64::try_from(count).unwrap()).collect();
    let encoded = encode::times(&times, Encoding::Run).unwrap();
    (times, encoded)
}

proptest! {
    #[test]
    fn times_come_back_from_every_encoding(times in sequence()) {
        let values: Vec<_> = times.iter().map(|time| Value::Boolean(time % 3 == 0)).collect();
        let mut fitting = 0;
        for encoding in [Encoding::Raw, Encoding::Packed, Encoding::Run] {
            let Some(encoded) = encode::times(&times, encoding) else { continue };
            fitting += 1;
            let stored = encode::block_of(FieldType::Boolean, &encoded, &encode::values(&values));
            check(&stored, &times, &values);
        }
        prop_assert!(fitting > 0);
    }

    #[test]
    fn integers_come_back_from_every_encoding(numbers in sequence()) {
        let (times, encoded) = times_for(numbers.len());
        let bits: Vec<u64> = numbers.iter().map(|number| number.cast_unsigned()).collect();
        for encoding in [Encoding::Raw, Encoding::Packed, Encoding::Run] {
            let Some(values) = encode::integers(&bits, encoding) else { continue };
            let signed: Vec<_> = numbers.iter().map(|number| Value::Integer(*number)).collect();
            check(&encode::block_of(FieldType::Integer, &encoded, &values), &times, &signed);
            let unsigned: Vec<_> = bits.iter().map(|number| Value::Unsigned(*number)).collect();
            check(&encode::block_of(FieldType::Unsigned, &encoded, &values), &times, &unsigned);
        }
    }

    #[test]
    fn floats_come_back_bit_for_bit(bits in vec(float(), 1..200), runs in 1_usize..4) {
        let bits: Vec<u64> = bits.iter().flat_map(|bits| vec![*bits; runs]).collect();
        let (times, encoded) = times_for(bits.len());
        let values: Vec<_> = bits.iter().map(|bits| Value::Float(f64::from_bits(*bits))).collect();
        check(&encode::block_of(FieldType::Float, &encoded, &encode::floats(&bits)), &times, &values);
    }

    #[test]
    fn booleans_and_strings_come_back(strings in vec(vec(any::<u8>(), 0..200), 1..80)) {
        let (times, encoded) = times_for(strings.len());
        let booleans: Vec<_> = strings.iter().map(|one| Value::Boolean(one.len() % 2 == 1)).collect();
        let stored = encode::block_of(FieldType::Boolean, &encoded, &encode::values(&booleans));
        check(&stored, &times, &booleans);
        let values: Vec<_> = strings.iter().map(|one| Value::String(one)).collect();
        let stored = encode::block_of(FieldType::String, &encoded, &encode::values(&values));
        check(&stored, &times, &values);
    }

    #[test]
    fn a_damaged_block_is_refused(
        numbers in vec(number(), 1..30), at in any::<prop::sample::Index>(), flip in 1_u8..=255,
    ) {
        let points: Vec<_> = (0..).zip(numbers.iter().map(|one| Value::Integer(*one))).collect();
        let mut stored = encode::block(&points);
        let at = at.index(stored.len());
        stored[at] ^= flip;
        let mut points = Points::default();
        points.reset(FieldType::Integer);
        prop_assert!(block::decode(&stored, 0, &mut points).is_err());
        prop_assert!(points.is_empty());
    }

    #[test]
    fn keys_are_found_as_by_passing_over_all(
        names in proptest::collection::btree_set(vec(97_u8..101, 0..6), 1..400),
        wanted in vec(vec(97_u8..101, 0..6), 1..20),
    ) {
        let points = || vec![vec![(1, Value::Integer(1))], vec![(5, Value::Integer(2)), (9, Value::Integer(3))]];
        let keys: Vec<_> = names.iter().map(|name| (&name[..], points())).collect();
        let file = encode::file(&keys);
        let tsm = Tsm::open(&file).unwrap();
        prop_assert_eq!(tsm.key_count(), names.len() as u64);
        prop_assert_eq!((tsm.span(), tsm.unnamed_bytes()), (Span { min: 1, max: 9 }, 0));
        let all: Vec<_> = tsm.keys().map(|key| key.unwrap().key.to_vec()).collect();
        prop_assert!(all.iter().eq(&names));
        for wanted in wanted.iter().chain(names.first()).chain(names.last()) {
            let from: Vec<_> = tsm.keys_from(wanted).unwrap().map(|key| key.unwrap().key.to_vec()).collect();
            prop_assert!(from.iter().eq(names.range(wanted.clone()..)));
            let found = tsm.find(wanted).unwrap();
            prop_assert_eq!(found.is_some(), names.contains(wanted));
            let Some(key) = found else { continue };
            let in_window = |start, end| key.meeting(Window { start, end }).count();
            prop_assert_eq!(
                [in_window(0, 1), in_window(1, 2), in_window(1, 6), in_window(9, 10), in_window(2, 5)],
                [0, 1, 2, 1, 0]
            );
            let mut points = Points::default();
            points.reset(key.field_type);
            key.entries().for_each(|entry| tsm.append(entry, &mut points).unwrap());
            prop_assert_eq!(points.times, vec![1, 5, 9]);
        }
    }
}
