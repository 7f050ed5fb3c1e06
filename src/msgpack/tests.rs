//! Behaviours of `msgpack`.

use super::*;
use proptest::prelude::*;

const EVERY_TYPE: &[u8] = include_bytes!("../../testdata/msgpack/every-type-chunked.msgpack");
const FRAGMENTS: &[u8] = include_bytes!("../../testdata/msgpack/series-in-fragments.msgpack");
const FIELD_KEYS: &[u8] = include_bytes!("../../testdata/msgpack/field-keys.msgpack");
const TIME_AS_EXT: &[u8] = include_bytes!("../../testdata/msgpack/time-as-ext.msgpack");
const ERROR: &[u8] = include_bytes!("../../testdata/msgpack/error.msgpack");
const EMPTY: &[u8] = include_bytes!("../../testdata/msgpack/empty.msgpack");

/// Yields one byte at a time, so that every value crosses a refill.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

/// Rows as text: measurement, non-empty tags, the cells that are there.
fn dump(reader: impl Read) -> Result<Vec<String>> {
    let mut replies = Replies::new(reader);
    let mut out = Vec::new();
    while let Some(event) = replies.next_event()? {
        if event == Event::Series {
            continue;
        }
        let fragment = replies.fragment();
        let mut line = String::from_utf8_lossy(&fragment.name).into_owned();
        let mut tags = fragment.tags.clone();
        tags.sort();
        for (key, value) in tags.iter().filter(|(_, value)| !value.is_empty()) {
            line += &format!(",{}={}", key.escape_ascii(), value.escape_ascii());
        }
        for (at, column) in fragment.columns.iter().enumerate() {
            let column = column.escape_ascii();
            match replies.row().cell(at) {
                Cell::Nil => {}
                Cell::String(bytes) => line += &format!(" {column}={}", bytes.escape_ascii()),
                cell => line += &format!(" {column}={cell:?}"),
            }
        }
        out.push(line);
    }
    Ok(out)
}

#[test]
fn every_type_of_a_real_reply_is_exact() {
    let rows = dump(EVERY_TYPE).unwrap();
    let find = |start: &str| rows.iter().find(|row| row.starts_with(start)).unwrap().as_str();
    assert_eq!(
        find("x,host=a time=Small(1)"),
        "x,host=a time=Small(1) b=Boolean(true) big=Integer(9007199254740993) f=Float(-0.0) \
         g=Float(5e-324) host=fieldhost max=Integer(9223372036854775807) \
         min=Integer(-9223372036854775808) s= v=Small(1)"
    );
    assert_eq!(find("x,host=a time=Small(2)"), r#"x,host=a time=Small(2) s=a\nb\"c\\d\xff\xfe"#);
    assert!(find("x,f=d, q=z=, y").ends_with("v=Small(1)"));
    assert!(find(r"x,k\xff=v\xfe").ends_with("v=Small(1)"));
    assert_eq!(dump(Trickle(EVERY_TYPE)).unwrap(), rows);
}

#[test]
fn a_series_may_come_in_fragments() {
    let expected = [
        "fr,a=x time=Small(1) v=Small(1)",
        "fr,a=x time=Small(2) v=Integer(300)",
        "fr,a=x time=Small(3) v=Integer(-5)",
        "fr,a=y time=Small(4) v=Integer(70000)",
    ];
    assert_eq!(dump(FRAGMENTS).unwrap(), expected);
}

#[test]
fn times_without_epoch_are_extensions() {
    let rows = dump(TIME_AS_EXT).unwrap();
    assert!(rows[0].starts_with("x time=Time(1) "), "{rows:?}");
}

#[test]
fn metadata_replies_have_the_same_shape() {
    let rows = dump(FIELD_KEYS).unwrap();
    assert!(rows.contains(&r"x fieldKey=\xff\xfe fieldType=float".to_owned()), "{rows:?}");
    assert_eq!(dump(EMPTY).unwrap(), Vec::<String>::new());
}

#[test]
fn the_servers_error_is_an_error() {
    let error = dump(ERROR).unwrap_err();
    assert!(matches!(error, Problem::Server(words) if words == "database not found: nope"));
}

#[test]
fn a_reply_that_ends_anywhere_else_is_cut_short() {
    for whole in [EVERY_TYPE, FRAGMENTS, FIELD_KEYS, TIME_AS_EXT, EMPTY] {
        for length in 0..whole.len() {
            let cut = dump(&whole[..length]);
            assert!(matches!(cut, Err(Problem::CutShort { .. })), "{length}: {cut:?}");
        }
    }
}

#[test]
fn a_series_that_stays_partial_is_cut_short() {
    let whole = b"\x81\xa7results\x91\x81\xa6series\x91\x81\xa7partial\xc2";
    assert!(dump(&whole[..]).unwrap().is_empty());
    let limited = b"\x81\xa7results\x91\x81\xa6series\x91\x81\xa7partial\xc3";
    assert!(matches!(dump(&limited[..]), Err(Problem::CutShort { .. })));
}

#[test]
fn a_reply_ends_once() {
    let mut replies = Replies::new(&EMPTY[..EMPTY.len() - 1]);
    assert!(replies.next_event().is_err());
    assert!(matches!(replies.next_event(), Ok(None)));
}

#[test]
fn counts_allocate_nothing() {
    let head = b"\x81\xa7results\x91\x81\xa6series\x91\x82\xa7columns\xdd\xff\xff\xff\xff";
    assert!(matches!(dump(&head[..]), Err(Problem::CutShort { .. })));
    let long = b"\x81\xa7results\x91\x81\xa6series\x91\x81\xa4name\xdb\xff\xff\xff\xff";
    assert!(matches!(dump(&long[..]), Err(Problem::Malformed { .. })));
    let deep = [&b"\x81\xa1x"[..], &[0x91; 100_000]].concat();
    assert!(matches!(dump(&deep[..]), Err(Problem::Malformed { .. })));
}

#[test]
fn rows_must_fit_their_columns() {
    let row = b"\x81\xa7results\x91\x81\xa6series\x91\x82\xa7columns\x91\xa1a\xa6values\x91\x92";
    assert!(matches!(dump(&row[..]), Err(Problem::Malformed { .. })));
    let early = b"\x81\xa7results\x91\x81\xa6series\x91\x81\xa6values\x91\x91\x01";
    assert!(matches!(dump(&early[..]), Err(Problem::Malformed { .. })));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        drop(dump(&bytes[..]));
    }

    #[test]
    fn damaged_replies_never_panic(at in 0..EVERY_TYPE.len(), byte: u8) {
        let mut bytes = EVERY_TYPE.to_vec();
        bytes[at] = byte;
        drop(dump(&bytes[..]));
    }
}
