//! Lines that are like the lines before them, and almost like them, are read as by a decoder that
//! remembers nothing.

#![allow(clippy::unwrap_used, reason = "test code")]

mod line_tools;

use gapless::line::Precision;
use gapless::line::decode::Options;
use line_tools::naive;
use line_tools::outcome::{Outcome, Point, decode};
use proptest::prelude::*;
use proptest::sample::select;

/// Stands for the server's clock.
const NOW: i64 = 1_700_000_000_123_456_789;

/// Keys that are alike at their beginnings, and some that may not be taken as they stand.
const KEYS: [&[u8]; 18] = [
    b"m",
    b"mm",
    b"m,a=1",
    b"m,a=1",
    b"m,a=10",
    b"m,a=1,b=2",
    b"m,b=2,a=1",
    b"m,a=1,b=2,c=a\"b",
    b"cpu,host=web01,region=eu",
    b"cpu,host=web02,region=eu",
    b"cpu,region=eu,host=web02",
    b"cpu\\,x,host=web02",
    b"cpu,host=web\\ 02",
    b"cpu,time=1",
    b"cpu,a=1,a=2",
    b"\xff,a=1",
    b"m,a=\xff",
    b"#m",
];

/// Field keys of which some begin as others do, around the lengths that are compared at once.
const NAMES: [&[u8]; 17] = [
    b"f",
    b"fo",
    b"foo",
    b"fifteen_bytes__",
    b"fifteen_bytes__6",
    b"fifteen_bytes__67",
    b"fifteen_bytes__68",
    b"a_name_that_is_a_good_deal_longer_than_the_others",
    b"a_name_that_is_a_good_deal_longer_than_the_other",
    b"time",
    b"times",
    b"\xc3\xa9",
    b"\xff",
    b"a\\ b",
    b"a\\=b",
    b"a\"b",
    b"",
];

const ODD_VALUES: [&[u8]; 24] = [
    b"t",
    b"T",
    b"true",
    b"True",
    b"TRUE",
    b"tRUE",
    b"f",
    b"F",
    b"false",
    b"False",
    b"FALSE",
    b"falsey",
    b"\"\"",
    b"\"a b,c=d\"",
    b"\"a\nb\"",
    b"\"a\\\"b\"",
    b"\"a\\\\\"",
    b"\"a",
    b"\"a\"b",
    b"nan",
    b"Inf",
    b"",
    b"-",
    b"1u",
];

/// A number of any length, mostly one that a server takes.
fn number() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "-?[0-9]{1,20}",
        6 => r"-?[0-9]{0,9}\.[0-9]{0,21}",
        4 => "-?[0-9]{1,20}i",
        1 => r"-?[0-9]{1,3}(\.[0-9]{1,18})?[eE][+-]?[0-9]{1,3}",
        1 => r"-?0{0,30}[0-9]{1,25}(\.[0-9]{0,30})?i?",
        1 => r"[-+]?[0-9.eEi+-]{0,12}",
    ]
    .prop_map(String::into_bytes)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => number(), 2 => select(&ODD_VALUES[..]).prop_map(<[u8]>::to_vec)]
}

fn time() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => "-?[0-9]{1,19}",
        2 => "17[0-9]{17}",
        1 => select(vec!["", "-", "1x", "1 ", "1\r", "01", "92233720368547758", "9223372036854775806",
            "9223372036854775807", "9223372036854775808", "-9223372036854775806",
            "-9223372036854775808", "18446744073709551617"]).prop_map(str::to_owned),
    ]
    .prop_map(String::into_bytes)
}

/// Which names a line has, as places in a short list.
fn places() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        6 => Just(vec![0, 1, 2, 3]),
        2 => proptest::sample::subsequence(vec![0, 1, 2, 3, 4], 1..=5),
        1 => proptest::collection::vec(0..5_usize, 1..6),
    ]
}

fn line(keys: Vec<&'static [u8]>, names: Vec<&'static [u8]>) -> impl Strategy<Value = Vec<u8>> {
    let odd =
        |byte: &'static [u8], odd: &'static [u8]| prop_oneof![40 => Just(byte), 1 => Just(odd)];
    let values = proptest::collection::vec(value(), 6);
    let marks = (
        odd(b" ", b"  "),
        odd(b",", b" ,"),
        odd(b"=", b"=="),
        odd(b" ", b"\t"),
        odd(b"\n", b"\r\n"),
    );
    (select(keys), places(), values, time(), marks).prop_map(
        move |(key, places, values, time, marks)| {
            let (blank, comma, equals, before_time, end) = marks;
            let mut line = [key, blank].concat();
            for (at, (place, value)) in places.into_iter().zip(values).enumerate() {
                let comma = if at == 0 { b"" } else { comma };
                line.extend([comma, names[place % names.len()], equals, &value].concat());
            }
            line.extend([before_time, &time, end].concat());
            line
        },
    )
}

/// Lines of few keys and names, so that most repeat what was there before.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let few_keys = proptest::collection::vec(select(&KEYS[..]), 1..5);
    let few_names = prop_oneof![
        3 => Just(vec![NAMES[0], NAMES[1], NAMES[2], NAMES[4], NAMES[5]]),
        2 => proptest::sample::subsequence(NAMES.to_vec(), 5).prop_shuffle(),
    ];
    (few_keys, few_names)
        .prop_flat_map(|(keys, names)| proptest::collection::vec(line(keys, names), 1..24))
        .prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn lines_like_those_before_are_read_as_if_they_were_the_first(
        text in text(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
        precision in select(vec![Precision::Nanoseconds, Precision::Seconds]),
    ) {
        let options = Options { default_time: Some(NOW), precision, ..Options::default() };
        let simple = naive::decode(&text, precision.multiplier(), Some(NOW));
        let shown = || String::from_utf8_lossy(&text).into_owned();
        let whole = decode(&text, &[], options);
        prop_assert_eq!(&whole, &simple, "{:?}", shown());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(decode(&text, &cuts, options), simple, "{:?} cut at {:?}", shown(), cuts);
    }
}

/// Decodes a text of one line an item, a few lines at a time: the simple decoder counts lines from
/// the start for each.
fn decode_simply(text: &str) -> Vec<Outcome> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut outcomes = Vec::new();
    for part in lines.chunks(64) {
        let before = outcomes.len() as u64;
        outcomes.extend(naive::decode(part.concat().as_bytes(), 1, None).into_iter().map(
            |outcome| match outcome {
                Outcome::Row(point) => Outcome::Row(Point { line: before + point.line, ..point }),
                other => panic!("{other:?}"),
            },
        ));
    }
    outcomes
}

#[test]
fn more_keys_and_names_than_are_remembered_are_read_all_the_same() {
    let mut text = String::new();
    // Series that come often enough to be worth remembering, one after another.
    for line in 0..120_000 {
        text += &format!("often,host=h{} v={line}.5,w={line}i {line}\n", line / 3);
    }
    // Series that come once, until it is given up to remember them, and then begun again.
    for line in 0..170_000 {
        text += &format!("once,h={line} v={line} 1\n");
    }
    // More fields than are remembered, in lines that have few of them, in changing order.
    for line in 0..40_000 {
        text += &format!("wide f{line}=1,g{}=2,h{}=t {line}\n", line % 7, line % 5);
    }
    assert!(decode(text.as_bytes(), &[], Options::default()) == decode_simply(&text));
}
