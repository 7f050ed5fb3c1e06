//! The content of a block, under a right checksum, is read as by a second, simple decoder, or
//! refused by both; and what was there before stays.

#![no_main]

use gapless::tsm::{Points, block};
use gapless::value::Value;
use gapless_fuzz::tsm::encode::checked;
use gapless_fuzz::tsm::naive::{self, Naive};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let Some(field_type) = content.first().and_then(|code| block::field_type(*code)) else {
        return;
    };
    let stored = checked(content);
    let mut points = Points::default();
    points.reset(field_type);
    let read = block::decode(&stored, 0, &mut points);
    let expected = naive::block(content);
    assert_eq!(read.is_ok(), expected.is_some(), "{read:?}");
    let Some((_, expected)) = expected else {
        assert!(points.is_empty());
        return;
    };
    block::decode(&stored, 0, &mut points).expect("a block that was read once");
    assert_eq!(points.len(), expected.len() * 2);
    let twice = expected.iter().chain(&expected);
    for ((time, value), (expected_time, expected)) in points.iter().zip(twice) {
        assert_eq!(time, *expected_time);
        match (value, expected) {
            (Value::String(bytes), Naive::Bytes(expected)) => assert_eq!(bytes, &expected[..]),
            (value, Naive::Bits(expected)) => assert_eq!(value.bits(), Some(*expected)),
            other => panic!("{other:?}"),
        }
    }
});
