//! The decoder against what servers are known to do, and against a second, simple decoder.

mod line_tools;

use gapless::line::Precision;
use gapless::line::decode::Options;
use line_tools::corpus::{self, Expected};
use line_tools::hostile::{self, Random, mutate};
use line_tools::naive;
use line_tools::outcome::{Outcome, decode};

/// Stands for the server's clock.
const NOW: i64 = 1_700_000_000_123_456_789;

fn options() -> Options {
    Options { default_time: Some(NOW), ..Options::default() }
}

#[test]
fn every_tricky_line_is_read_as_a_server_reads_it() {
    let cases = corpus::cases();
    assert!(cases.len() > 100);
    for case in cases {
        let shown = String::from_utf8_lossy(&case.text).into_owned();
        let outcomes = decode(&case.text, &[], options());
        assert_eq!(outcomes.len(), case.items.len(), "{shown:?}: {outcomes:?}");
        for (outcome, expected) in outcomes.iter().zip(&case.items) {
            check(outcome, expected, &shown);
        }
    }
}

fn check(outcome: &Outcome, expected: &Expected, shown: &str) {
    match (outcome, expected) {
        (Outcome::Comment(_), Expected::Comment) => {}
        (Outcome::Bad { reason, .. }, Expected::Bad(words)) => {
            assert_eq!(reason, words, "{shown:?}");
        }
        (Outcome::Row(point), Expected::Row { key, fields, time, warning, dropped_time_field }) => {
            assert_eq!(&point.key, key, "{shown:?}");
            assert_eq!(&point.fields, fields, "{shown:?}");
            assert_eq!(point.time, time.unwrap_or(NOW), "{shown:?}");
            assert_eq!(point.warning, *warning, "{shown:?}");
            assert_eq!(point.dropped_time_field, *dropped_time_field, "{shown:?}");
        }
        _ => panic!("{shown:?} is {outcome:?}"),
    }
}

#[test]
fn lines_without_a_time_are_bad_unless_one_is_given() {
    let outcomes = decode(b"m v=1\nm v=1 5\n", &[], Options::default());
    let [Outcome::Bad { reason, .. }, Outcome::Row(point)] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert!(reason.contains("another point") && reason.contains("--default-time"), "{reason}");
    assert_eq!(point.time, 5);
}

#[test]
fn timestamps_are_read_in_their_precision() {
    for (name, time) in [
        ("n", 7),
        ("ns", 7),
        ("u", 7_000),
        ("us", 7_000),
        ("ms", 7_000_000),
        ("s", 7_000_000_000),
        ("m", 420_000_000_000),
        ("h", 25_200_000_000_000),
    ] {
        let precision: Precision = name.parse().unwrap();
        let options = Options { precision, ..Options::default() };
        let outcomes = decode(b"m v=1 7", &[], options);
        let [Outcome::Row(point)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(point.time, time, "{name}");
        if time > 7 {
            let outcomes = decode(b"m v=1 9223372036854775806", &[], options);
            let [Outcome::Bad { reason, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
            assert!(reason.starts_with("time outside range"), "{name}: {reason}");
        }
    }
    assert!("seconds".parse::<Precision>().is_err());
    assert!("".parse::<Precision>().is_err());
}

#[test]
fn keys_and_fields_together_are_limited_as_on_a_server() {
    let line = |bytes: usize| {
        let name = "k".repeat(bytes - "m,t=x".len() - "#!~#".len());
        decode(format!("m,t=x v=1,{name}=2 1").as_bytes(), &[], options())
    };
    let [Outcome::Row(_)] = &line(65_535)[..] else { panic!() };
    let [Outcome::Bad { reason, .. }] = &line(65_536)[..] else { panic!() };
    assert_eq!(reason, "max key length exceeded: 65536 > 65535");
    let key = format!("{} v=1 1", "k".repeat(65_536));
    let outcomes = decode(key.as_bytes(), &[], options());
    let [Outcome::Bad { reason, .. }] = &outcomes[..] else { panic!() };
    assert_eq!(reason, "max key length exceeded: 65536 > 65535");
}

#[test]
fn numbers_of_tags_that_older_servers_cannot_count_are_read_with_a_warning() {
    for (count, warned) in
        [(99, false), (100, true), (101, false), (200, true), (300, false), (800, true)]
    {
        let tags: String = (0..count).map(|at| format!(",t{at:03}=x")).collect();
        let outcomes = decode(format!("m{tags} v=1 1").as_bytes(), &[], options());
        let [Outcome::Row(point)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(point.warning, warned, "{count}");
    }
}

#[test]
fn line_numbers_count_the_line_feeds_inside_strings() {
    let text = b"m v=\"a\nb\" 1\n\n# c=\"\nd\"\nm v=2 2\nbad\n";
    let outcomes = decode(text, &[], options());
    let lines: Vec<u64> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Row(point) => Some(point.line),
            Outcome::Bad { line, .. } => Some(*line),
            _ => None,
        })
        .collect();
    assert_eq!(lines, [1, 6, 7]);
}

#[test]
fn a_line_over_the_limit_ends_the_reading_and_a_line_at_the_limit_does_not() {
    let options = Options { line_bytes_max: 9, ..Options::default() };
    let cuts: Vec<usize> = (0..64).collect();
    for cuts in [&[][..], &cuts] {
        let outcomes = decode(b"m v=123 1\nm v=\"x\nm v=1 1\n", cuts, options);
        assert!(matches!(outcomes[..], [Outcome::Row(_), Outcome::TooLong { line: 2 }]));
        let outcomes = decode(b"m v=123 1", cuts, options);
        assert!(matches!(outcomes[..], [Outcome::Row(_)]));
        let outcomes = decode(b"m v=123 12\n", cuts, options);
        assert!(matches!(outcomes[..], [Outcome::TooLong { line: 1 }]));
        let outcomes = decode(b"#23456789\\\n1\n", cuts, options);
        assert!(matches!(outcomes[..], [Outcome::TooLong { line: 1 }]), "{outcomes:?}");
    }
}

#[test]
fn a_long_string_is_read_in_linear_time() {
    let text = format!("m v=\"{}\" 1\n", "\\\"x\n".repeat(4 << 20));
    let cuts: Vec<usize> = (0..text.len()).step_by(4096).collect();
    let started = std::time::Instant::now();
    let outcomes = decode(text.as_bytes(), &cuts, options());
    assert!(matches!(outcomes[..], [Outcome::Row(_)]));
    // Scanning from the start at each of 4,096 chunks would be 32 GB.
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn a_simple_decoder_gives_the_same_items_for_hostile_lines() {
    let seeds = hostile::seeds();
    for seed in 0..60_000 {
        let mut random = Random::new(seed);
        let mut text = mutate(&seeds, &mut random);
        while random.below(3) == 0 {
            text.push(b'\n');
            text.extend(mutate(&seeds, &mut random));
        }
        let mut cuts: Vec<usize> =
            (0..random.below(5)).map(|_| random.below(text.len() + 1)).collect();
        cuts.sort_unstable();
        let found = decode(&text, &cuts, options());
        let simple = naive::decode(&text, 1, Some(NOW));
        assert_eq!(found, simple, "seed {seed}: {:?}", String::from_utf8_lossy(&text));
    }
}
