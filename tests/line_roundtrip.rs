//! What is encoded is decoded as what it was, bit for bit; what cannot be, is not encoded.

#![allow(clippy::unwrap_used, reason = "test code")]

mod line_tools;

use gapless::block::Block;
use gapless::block::log::RowLog;
use gapless::line::decode::Options;
use gapless::line::{encode, key};
use gapless::series::Tag;
use gapless::value::{FieldType, Value};
use gapless::window::{TIME_MAX, TIME_MIN, Window};
use line_tools::outcome::{Bytes, Outcome, Stored, decode};
use proptest::prelude::*;
use std::sync::Arc;

/// Bytes of a name: mostly those that mean something in a line.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => proptest::sample::select(&b"ab01zu"[..]),
        3 => proptest::sample::select(&b",= \\\"#\n\r\t\0"[..]),
        1 => any::<u8>(),
    ];
    // Without a backslash at the end, a control byte or nothing at all, there is always a way.
    let tame = "[ab01zu,= \"\\\\]{0,6}[ab,= \"]".prop_map(String::into_bytes);
    prop_oneof![
        24 => tame,
        5 => proptest::collection::vec(byte, 0..8),
        1 => Just(b"time".to_vec()),
    ]
}

fn stored() -> impl Strategy<Value = Stored> {
    prop_oneof![
        16 => any::<u64>().prop_map(Stored::Float),
        8 => any::<i64>().prop_map(Stored::Integer),
        4 => any::<bool>().prop_map(Stored::Boolean),
        12 => name().prop_map(Stored::String),
        1 => any::<u64>().prop_map(Stored::Unsigned),
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![20 => any::<i64>(), 1 => Just(TIME_MIN), 1 => Just(TIME_MAX), 2 => Just(TIME_MIN - 1)]
}

type Field = (Vec<u8>, Stored);

/// A raw key as it might stand in a damaged file, or one that was made properly.
fn raw_key() -> impl Strategy<Value = Vec<u8>> {
    let tags = proptest::collection::vec((name(), name()), 0..4);
    let made = (name(), tags).prop_map(|(measurement, tags)| {
        let tag = |(key, value): (Vec<u8>, Vec<u8>)| -> Tag { (key.into(), value.into()) };
        key::build(&measurement, tags.into_iter().map(tag).collect()).key().to_vec()
    });
    prop_oneof![3 => made, 1 => proptest::collection::vec(name(), 0..4).prop_map(|parts| parts.concat())]
}

/// What a reason must rest on, for the reasons that stand for a fact about the row.
fn is_justified(reason: &str, key: &[u8], fields: &[Field], time: i64) -> bool {
    let any = |holds: &dyn Fn(&Field) -> bool| fields.iter().any(holds);
    let odd = |byte: &u8| *byte <= b' ' || b",=\"\\#".contains(byte) || *byte == 0x7f;
    match reason {
        "a field has an empty key" => any(&|field| field.0.is_empty()),
        "it has no fields" => fields.is_empty(),
        _ if reason.starts_with("a field is called time") => any(&|field| field.0 == b"time"),
        _ if reason.starts_with("time outside range") => !(TIME_MIN..=TIME_MAX).contains(&time),
        _ if reason.contains("is an unsupported value") => any(
            &|field| matches!(field.1, Stored::Float(bits) if !f64::from_bits(bits).is_finite()),
        ),
        _ if reason.contains("is an unsigned integer") => {
            any(&|field| matches!(field.1, Stored::Unsigned(_)))
        }
        _ if reason.starts_with("field type conflict") => fields.iter().any(|one| {
            any(&|two| {
                one.0 == two.0 && std::mem::discriminant(&one.1) != std::mem::discriminant(&two.1)
            })
        }),
        _ if reason.starts_with("it does not re-parse") => {
            key.is_empty() || key.iter().any(odd) || any(&|field| field.0.iter().any(odd))
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rows_come_back_bit_for_bit(
        key in raw_key(),
        fields in proptest::collection::vec((name(), stored()), 0..4),
        time in time(),
    ) {
        let mut out = b"before v=1 1\n".to_vec();
        let before = out.clone();
        let parts: Vec<_> =
            fields.iter().map(|(name, stored)| (name.as_slice(), stored.value())).collect();
        if let Err(refused) = encode::row(&mut out, &key, &parts, time) {
            prop_assert!(is_justified(&refused.reason, &key, &fields, time), "{refused}");
            prop_assert_eq!(out, before);
            return Ok(());
        }
        out.extend_from_slice(b"after v=1 1\n");
        let outcomes = decode(&out, &[], Options::default());
        let [_, Outcome::Row(point), _] = &outcomes[..] else {
            return Err(TestCaseError::fail(format!("{outcomes:?}")));
        };
        let fields: Vec<_> =
            fields.into_iter().map(|(name, stored)| (Bytes(name), stored)).collect();
        prop_assert_eq!(&point.key.0, &key);
        prop_assert_eq!(&point.fields, &fields);
        prop_assert_eq!(point.time, time);
        prop_assert!(!point.dropped_time_field);
    }

    #[test]
    fn every_finite_float_comes_back(bits in any::<u64>()) {
        let float = f64::from_bits(bits);
        let mut out = Vec::new();
        let written = encode::row(&mut out, b"m", &[(b"v", Value::Float(float))], 1);
        prop_assert_eq!(written.is_ok(), float.is_finite());
        if written.is_ok() {
            let outcomes = decode(&out, &[], Options::default());
            let [Outcome::Row(point)] = &outcomes[..] else {
                return Err(TestCaseError::fail(format!("{outcomes:?}")));
            };
            prop_assert_eq!(&point.fields[0].1, &Stored::Float(bits));
        }
    }

    #[test]
    fn an_identity_with_a_key_comes_back_from_it(
        measurement in name(),
        tags in proptest::collection::btree_map(name(), name(), 0..4),
    ) {
        let tags: Vec<Tag> =
            tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let built = key::build(&measurement, tags);
        let parsed = key::parse(built.key());
        // What ends in a backslash, or is empty, has no key that says so.
        let whole = |part: &[u8]| !part.is_empty() && !part.ends_with(b"\\");
        let mut parts = built.tags().iter().flat_map(|(key, value)| [key, value]);
        // A measurement is read with two more escapes than it is written with.
        let literal = |pair: &[u8]| pair == b"\\=" || pair == b"\\\"";
        if whole(&measurement) && parts.all(|part| whole(part))
            && !measurement.windows(2).any(literal)
        {
            prop_assert_eq!(parsed.measurement(), &measurement[..]);
            prop_assert_eq!(parsed.tags(), built.tags());
            prop_assert_eq!(parsed.key(), built.key());
            let holds = |text: &[u8], part: &[u8]| memchr::memmem::find(text, part).is_some();
            let hidden = holds(built.key(), b"#!~#")
                || holds(&measurement, b"\\,")
                || holds(&measurement, b"\\ ");
            prop_assert_eq!(parsed.shown_by_queries(), !hidden);
        }
    }

    #[test]
    fn any_bytes_are_a_key(bytes in proptest::collection::vec(any::<u8>(), 0..40), name in name()) {
        for key in [bytes, name] {
            let series = key::parse(&key);
            prop_assert_eq!(series.key(), &key[..]);
        }
    }
}

#[test]
fn floats_at_the_edges_come_back() {
    let mut floats =
        vec![0.0, -0.0, f64::MIN, f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.1, 1e15, 1e16];
    floats.extend((-324..=308).map(|exponent| format!("1e{exponent}").parse::<f64>().unwrap()));
    floats.extend((0..64).map(|bit| f64::from_bits(1 << bit)));
    for float in floats {
        for bits in [float.to_bits(), (-float).to_bits()] {
            let float = f64::from_bits(bits);
            let mut out = Vec::new();
            encode::row(&mut out, b"m", &[(b"v", Value::Float(float))], 1).unwrap();
            let outcomes = decode(&out, &[], Options::default());
            let [Outcome::Row(point)] = &outcomes[..] else { panic!("{outcomes:?}") };
            assert_eq!(point.fields[0].1, Stored::Float(bits));
        }
    }
}

#[test]
fn the_identity_of_a_raw_key_is_what_queries_show() {
    for (raw, measurement, tags, canonical) in [
        ("m", "m", &[][..], true),
        ("m,a=1,b=2", "m", &[("a", "1"), ("b", "2")], true),
        (r"m\,x\ y,t\=u=v\,w\ x\=y", "m,x y", &[("t=u", "v,w x=y")], true),
        (r"m\=x", "m=x", &[], false),
        (r#"m\"x"#, "m\"x", &[], false),
        (r"m,a=\\ ", "m", &[("a", "\\ ")], true),
        (r"m,a\b=c\d", "m", &[("a\\b", "c\\d")], true),
        ("m,a==b", "m", &[("a", "=b")], false),
        ("m,b!=2,b\\ c=1", "m", &[("b c", "1"), ("b!", "2")], true),
    ] {
        let series = key::parse(raw.as_bytes());
        assert_eq!(series.measurement(), measurement.as_bytes(), "{raw}");
        let expected: Vec<Tag> = tags
            .iter()
            .map(|(key, value)| (key.as_bytes().into(), value.as_bytes().into()))
            .collect();
        assert_eq!(series.tags(), expected, "{raw}");
        assert_eq!(series.shown_by_queries(), canonical, "{raw}");
    }
    assert_eq!(key::build(b"m", vec![(b"a"[..].into(), b""[..].into())]).key(), b"m");
}

#[test]
fn what_a_server_would_misread_is_not_written() {
    let one = [(&b"v"[..], Value::Float(1.0))];
    for key in [
        &b""[..],
        b"#m",
        b" m",
        b"\tm",
        b"\0m",
        b",a=b",
        b"m,b=1,a=2",
        b"m,a=1,a=2",
        b"m,time=x",
        b"m,a=",
        b"m,a",
        b"m,",
        b"m ",
        b"m\\",
        b"m,a=b\\",
        b"m,a=b=c",
        b"m\nx",
        b"m,a=x\ny",
        b"m v=1",
    ] {
        let mut out = b"x".to_vec();
        let refused = encode::row(&mut out, key, &one, 1).unwrap_err();
        assert!(refused.reason.starts_with("it does not re-parse to itself"), "{refused}");
        assert_eq!(out, b"x");
    }
    for name in [&b"v\\"[..], b"v\n"] {
        let mut out = Vec::new();
        assert!(
            encode::row(&mut out, b"m", &[(name, Value::String(b"="))], 1).is_err(),
            "{name:?}"
        );
        assert!(out.is_empty());
    }
}

#[test]
fn keys_that_are_too_long_are_not_written() {
    let name = |bytes: usize| vec![b'f'; bytes - "m#!~#".len()];
    let write =
        |name: &[u8]| encode::row(&mut Vec::new(), b"m", &[(name, Value::Boolean(true))], 1);
    write(&name(65_535)).unwrap();
    let refused = write(&name(65_536)).unwrap_err();
    assert_eq!(refused.to_string(), "max key length exceeded: 65536 > 65535");
}

/// A block of two series, made as sources make them.
fn block() -> Block {
    let mut log = RowLog::default();
    for (key, time, fields) in [
        ("m,a=1", 10, &[("f", Value::Float(0.1)), ("i", Value::Integer(-3))][..]),
        ("m,a=1", 20, &[("s", Value::String(b"a\"\\\n")), ("v w", Value::Boolean(true))]),
        ("m,a=1", 30, &[("i", Value::Float(1.0)), ("i", Value::Integer(1))]),
        (r"m,a=2\ ", -5, &[("f", Value::Float(f64::NAN)), ("i", Value::Integer(4))]),
    ] {
        let series = log.add_series(Arc::new(key::parse(key.as_bytes())));
        log.begin_row(series, time);
        for &(name, value) in fields {
            log.push(name.as_bytes(), value);
        }
    }
    let block = log.resolve().blocks(Window::ALL).next().unwrap();
    assert_eq!(block.rows(), 4);
    block
}

#[test]
fn rows_of_a_block_are_written_whole() {
    let block = block();
    let mut encoder = encode::Encoder::new(&block);
    let mut out = Vec::new();
    let mut results = Vec::new();
    for (series, rows) in block.runs() {
        for row in rows {
            results.push(encoder.row(series, row, None, &mut out));
        }
    }
    let expected = "m,a=1 f=0.1,i=-3i 10\nm,a=1 s=\"a\\\"\\\\\n\",v\\ w=true 20\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!((&results[0], &results[1]), (&Ok(2), &Ok(2)));
    let reason = |at: usize| results[at].clone().unwrap_err().reason;
    assert!(reason(2).starts_with("field type conflict: field i has a"), "{}", reason(2));
    assert_eq!(reason(3), "NaN is an unsupported value for field f");
}

/// Rows of one block, alike enough that most are written the short way.
fn rows_of_a_block() -> impl Strategy<Value = Vec<(Vec<u8>, i64, Vec<Field>)>> {
    let plain_key = prop_oneof![
        Just(b"m,a=1".to_vec()),
        Just(b"m,a=2".to_vec()),
        Just(b"m,b=2,a=1".to_vec()),
        Just(b"m,time=1".to_vec()),
        raw_key(),
    ];
    let plain_name = prop_oneof![
        8 => "[a-c]{1,2}|a_name_of_just_thirty_bytes__3|a_name_of_one_more_byte_______1|longer_than_what_is_copied_in_one_piece"
            .prop_map(String::into_bytes),
        1 => name(),
    ];
    // Mostly one type by name, or every row would be in conflict.
    let kind = prop_oneof![6 => 0..4_u8, 1 => Just(4)];
    let names = proptest::collection::btree_map(plain_name, kind, 1..6);
    let keys = proptest::collection::vec(plain_key, 1..4);
    (keys, names).prop_flat_map(|(keys, names)| {
        let names: Vec<_> = names.into_iter().collect();
        let field = (proptest::sample::select(names), any::<u64>(), name());
        let field = field.prop_map(|((name, kind), bits, text)| {
            let stored = match kind {
                0 => Stored::Float(bits),
                1 => Stored::Integer(bits.cast_signed()),
                2 => Stored::Boolean(bits % 2 == 0),
                3 => Stored::String(text),
                _ => Stored::Unsigned(bits),
            };
            (name, stored)
        });
        let fields = proptest::collection::vec(field, 1..6);
        let fields = prop_oneof![
            20 => fields,
            1 => proptest::collection::vec((name(), stored()), 1..3),
        ];
        let time = prop_oneof![8 => 0..30_i64, 1 => time()];
        proptest::collection::vec((proptest::sample::select(keys), time, fields), 1..30)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rows_of_a_block_are_written_as_each_would_be_alone(
        rows in rows_of_a_block(),
        wanted in proptest::option::of(proptest::collection::vec(any::<bool>(), 64)),
    ) {
        let mut log = RowLog::default();
        for (key, time, fields) in &rows {
            let series = log.add_series(Arc::new(key::parse(key)));
            log.begin_row(series, *time);
            for (name, stored) in fields {
                log.push(name, stored.value());
            }
        }
        // Times that no line may have are among the rows.
        let window = Window { start: i64::MIN, end: i64::MAX };
        for block in log.resolve().blocks(window) {
            check_rows(&block, wanted.as_deref())?;
        }
    }
}

/// Checks each row against the same row written by itself, which nothing was proved of before.
fn check_rows(block: &Block, wanted: Option<&[bool]>) -> Result<(), TestCaseError> {
    let mut encoder = encode::Encoder::new(block);
    let wanted = wanted.map(|wanted| &wanted[..block.columns().len()]);
    let rows: Vec<_> =
        block.runs().flat_map(|(series, rows)| rows.map(move |row| (series, row))).collect();
    // Backwards too: which row is the first of its series should not matter.
    for &(series, row) in rows.iter().chain(rows.iter().rev()) {
        let fields: Vec<_> = block
            .columns()
            .iter()
            .enumerate()
            .filter(|(at, _)| wanted.is_none_or(|wanted| wanted[*at]))
            .filter_map(|(_, column)| Some((&*column.field, column.get(row)?)))
            .collect();
        let mut alone = b"before".to_vec();
        let expected = match &fields[..] {
            [] => Ok(0),
            _ => encode::row(&mut alone, series.key(), &fields, block.times()[row])
                .map(|()| fields.len() as u64),
        };
        let mut out = b"before".to_vec();
        let written = encoder.row(series, row, wanted, &mut out);
        prop_assert_eq!(written, expected);
        prop_assert_eq!(out, alone);
    }
    Ok(())
}

#[test]
fn only_the_wanted_cells_of_a_row_are_written() {
    let block = block();
    let mut encoder = encode::Encoder::new(&block);
    let mut write = |row: usize, name: &str, field_type: FieldType| {
        let wanted: Vec<bool> = block
            .columns()
            .iter()
            .map(|column| *column.field == *name.as_bytes() && column.field_type() == field_type)
            .collect();
        let (series, _) = block.runs().find(|(_, rows)| rows.contains(&row)).unwrap();
        let mut out = Vec::new();
        let written = encoder.row(series, row, Some(&wanted), &mut out).unwrap();
        (written, String::from_utf8(out).unwrap())
    };
    assert_eq!(write(0, "i", FieldType::Integer), (1, "m,a=1 i=-3i 10\n".into()));
    assert_eq!(write(0, "s", FieldType::String), (0, String::new()));
    assert_eq!(write(2, "i", FieldType::Float), (1, "m,a=1 i=1.0 30\n".into()));
    assert_eq!(write(2, "i", FieldType::Integer), (1, "m,a=1 i=1i 30\n".into()));
    assert_eq!(write(3, "i", FieldType::Integer), (1, "m,a=2\\  i=4i -5\n".into()));
}
