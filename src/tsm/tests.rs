//! Bytes that real servers wrote, and bytes that none would.

use super::index::Tsm;
use super::tombstone::Tombstones;
use super::wal::{Item, Segment};
use super::*;
use crate::value::{FieldType, Value};

/// 1,700,000,000 s.
const T: i64 = 1_700_000_000_000_000_000;

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// A file of one key and block, both times before 1970.
fn negative() -> Vec<u8> {
    hex("16d116d1016026ae17000b20fffffffffffffffb0202103ff0000000000000c25fffc5f7ff00000000000020\
         00086e656723217e2366000001fffffffffffffffbfffffffffffffffd000000000000000500000027000000\
         000000002c")
}

fn decoded(block: &[u8], field_type: FieldType) -> Result<Points, Damage> {
    let mut points = Points::default();
    points.reset(field_type);
    block::decode(block, 5, &mut points)?;
    Ok(points)
}

/// The content behind its checksum.
fn block(content: &str) -> Vec<u8> {
    let content = hex(content);
    [&crc32fast::hash(&content).to_be_bytes(), &content[..]].concat()
}

#[track_caller]
fn refused(content: &str, field_type: FieldType, reason: &str) {
    let damage = decoded(&block(content), field_type).unwrap_err();
    assert!(damage.reason.contains(reason), "{damage}");
}

#[test]
fn a_key_is_cut_at_the_first_separator() {
    assert_eq!(split_key(b"m,a=b#!~#v"), Some((&b"m,a=b"[..], &b"v"[..])));
    assert_eq!(split_key(b"m#!~#a#!~#b"), Some((&b"m"[..], &b"a#!~#b"[..])));
    assert_eq!(split_key(b"m#!~#"), Some((&b"m"[..], &b""[..])));
    assert_eq!(split_key(b"m#!~v"), None);
}

#[test]
fn a_span_has_both_its_ends() {
    let span = Span { min: 5, max: 7 };
    assert!(span.contains(5) && span.contains(7) && !span.contains(4) && !span.contains(8));
    assert!(span.meets(Window { start: 7, end: 8 }) && span.meets(Window { start: 0, end: 6 }));
    assert!(!span.meets(Window { start: 8, end: 9 }) && !span.meets(Window { start: 0, end: 5 }));
}

#[test]
fn entries_that_name_one_block_twice_are_refused() {
    let file = negative();
    let footer = file.len() - 8;
    let start = usize::try_from(u64::from_be_bytes(file[footer..].try_into().unwrap())).unwrap();
    let (head, entry) = file[start..footer].split_at(footer - start - 28);
    let (head, count) = head.split_at(head.len() - 2);
    assert_eq!(count, [0, 1]);
    let twice = [&file[..start], head, &[0, 2], entry, entry, &file[footer..]].concat();
    let damage = Tsm::open(&twice).unwrap_err();
    assert!(damage.reason.contains("the same block"), "{damage}");
}

#[test]
fn a_whole_file_is_read() {
    let file = negative();
    let tsm = Tsm::open(&file).unwrap();
    assert_eq!((tsm.key_count(), tsm.block_count(), tsm.unnamed_bytes()), (1, 1, 0));
    assert_eq!(tsm.span(), Span { min: -5, max: -3 });
    let key = tsm.find(b"neg#!~#f").unwrap().unwrap();
    assert_eq!(key.field_type, FieldType::Float);
    let mut points = Points::default();
    for entry in key.meeting(Window::ALL) {
        tsm.append(entry, &mut points).unwrap();
    }
    let all: Vec<_> = points.iter().collect();
    assert_eq!(all, [(-5, Value::Float(1.0)), (-3, Value::Float(2.0))]);
    assert_eq!(key.meeting(Window { start: -2, end: 9 }).count(), 0);
    assert!(tsm.find(b"neg#!~#e").unwrap().is_none() && tsm.find(b"neg").unwrap().is_none());
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let file = negative();
    for cut in 0..file.len() {
        assert!(Tsm::open(&file[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn a_file_that_is_damaged_anywhere_is_refused_or_has_another_key() {
    let file = negative();
    for at in 0..file.len() {
        for flip in [1, 0x10, 0xff] {
            let mut file = file.clone();
            file[at] ^= flip;
            let Ok(tsm) = Tsm::open(&file) else { continue };
            let key = tsm.keys().next().unwrap().unwrap();
            let mut points = Points::default();
            points.reset(key.field_type);
            let read = key.entries().try_for_each(|entry| tsm.append(entry, &mut points));
            // Nothing protects the bytes of a key and the bounds of its times.
            assert!(read.is_err() || key.key != b"neg#!~#f" || tsm.span() != key_span(), "{at}");
        }
    }
}

fn key_span() -> Span {
    Span { min: -5, max: -3 }
}

#[test]
fn integers_from_one_edge_to_the_other_are_raw() {
    let stored =
        hex("0d08747c010b2017979cfe362a0000010300ffffffffffffffff0000000000000001fffffffffffffffd");
    let points = decoded(&stored, FieldType::Integer).unwrap();
    let all: Vec<_> = points.iter().collect();
    let expected = [(T, i64::MIN), (T + 1, i64::MAX), (T + 2, 0)];
    assert_eq!(all, expected.map(|(time, value)| (time, Value::Integer(value))));
}

#[test]
fn a_run_of_integers_counts_its_repeats() {
    let stored = hex("30bf0bcf010c2917979de7bd9f6e0001e807200000000000000fb206e707");
    let points = decoded(&stored, FieldType::Integer).unwrap();
    let second = 1_000_000_000;
    let expected = (0..1000).map(|n| (T + (1003 + n) * second, Value::Integer(2009 + 3 * n)));
    assert!(points.iter().eq(expected));
}

#[test]
fn a_lone_float_is_packed() {
    let stored = hex("14b4419400091c17979cfe362a0000103ff0000000000000c3fc0080000000000010");
    let points = decoded(&stored, FieldType::Float).unwrap();
    assert_eq!(points.iter().collect::<Vec<_>>(), [(T, Value::Float(1.0))]);
    let unsigned = decoded(&stored, FieldType::Unsigned).unwrap_err();
    assert_eq!(unsigned.offset, 9);
    assert!(unsigned.reason.contains("type float where unsigned"), "{unsigned}");
}

#[test]
fn a_checksum_that_does_not_match_is_damage() {
    let mut stored = hex("14b4419400091c17979cfe362a0000103ff0000000000000c3fc0080000000000010");
    let last = stored.len() - 1;
    stored[last] ^= 1;
    let damage = decoded(&stored, FieldType::Float).unwrap_err();
    assert!(damage.offset == 5 && damage.reason.contains("checksum"), "{damage}");
}

#[test]
fn blocks_that_no_server_writes_are_refused_under_a_right_checksum() {
    let (float, integer) = (FieldType::Float, FieldType::Integer);
    refused("05 01".replace(' ', "").as_str(), float, "unknown type 5");
    refused("00", float, "length of the timestamps is cut short");
    refused("0009", float, "the timestamps is cut short");
    refused("0000", float, "the timestamps' encoding is cut short");
    refused("000110", float, "first timestamp is cut short");
    refused("00011d", float, "units of 10^13");
    refused("000130", float, "unknown encoding 3 of timestamps");
    refused("000100", float, "without a point");
    refused("00020001", float, "whole words");
    // Runs of 0, of 2^63, and with something behind.
    refused("000b2000000000000000000100", float, "without a point");
    refused(
        "0014200000000000000000 01ffffffffffffffffff01".replace(' ', "").as_str(),
        float,
        "limit",
    );
    refused("000c200000000000000000010200", float, "bytes behind a run of timestamps");
    // One time, and no, two, or a run of three integers.
    let one = "01091c0000000000000001";
    refused(one, integer, "the integers' encoding is cut short");
    refused(&format!("{one}30"), integer, "unknown encoding 3 of integers");
    refused(&format!("{one}00"), integer, "1 times holds 0 values");
    refused(&format!("{one}10{:016x}{:016x}", 2, u64::MAX), integer, "1 times holds 2 values");
    refused(&format!("{one}20{:016x}0202", 2), integer, "1 times holds 3 values");
    // Floats: no end, an end too early, a window that was never set, one wider than a value.
    let one = "00091c0000000000000001";
    refused(&format!("{one}10{:016x}00", 1), float, "do not end");
    refused(&format!("{one}10{:016x}", 1), float, "too short");
    refused(&format!("{one}107ff8000000000001"), float, "1 times holds 0 values");
    refused(&format!("{one}10{:016x}80", 1), float, "never set");
    refused(&format!("{one}10{:016x}fffc", 1), float, "never set");
    refused(&format!("{one}103ff0000000000000c3fc008000000000001000"), float, "too long");
    // Booleans and strings.
    let one = "02091c0000000000000001";
    refused(&format!("{one}100280"), FieldType::Boolean, "1 times holds 2 values");
    refused(&format!("{one}1001"), FieldType::Boolean, "booleans is cut short");
    refused(&format!("{one}10018000"), FieldType::Boolean, "behind the booleans");
    refused(&format!("{one}200180"), FieldType::Boolean, "unknown encoding 2 of booleans");
    let one = "03091c0000000000000001";
    refused(&format!("{one}10ffffffff0f"), FieldType::String, "cannot hold");
    refused(&format!("{one}100204036100"), FieldType::String, "damaged");
    refused(&format!("{one}1002040561"), FieldType::String, "a string is cut short");
    refused(&format!("{one}1002040000"), FieldType::String, "holds more values");
    refused(&format!("{one}1000"), FieldType::String, "1 times holds 0 values");
}

#[test]
fn a_block_that_is_refused_leaves_what_was_there() {
    let mut points =
        decoded(&block("03091c000000000000000110040c03616263"), FieldType::String).unwrap();
    assert_eq!(points.iter().collect::<Vec<_>>(), [(1, Value::String(b"abc"))]);
    let bad = block("03091c00000000000000011006140461626361");
    assert!(block::decode(&bad, 0, &mut points).is_err());
    assert_eq!(points.iter().collect::<Vec<_>>(), [(1, Value::String(b"abc"))]);
    let Values::String(strings) = &points.values else { panic!() };
    assert_eq!(strings.bytes, b"abc");
}

#[test]
fn times_outside_of_their_entry_are_damage() {
    let mut file = negative();
    let at = file.len() - 8 - 28 + 7;
    assert_eq!(file[at], 0xfb);
    file[at] = 0xfc;
    let tsm = Tsm::open(&file).unwrap();
    let entry = tsm.keys().next().unwrap().unwrap().entries().next().unwrap();
    let damage = tsm.append(entry, &mut Points::default()).unwrap_err();
    assert!(damage.reason.contains("outside of those that the index gives"), "{damage}");
}

#[test]
fn tombstones_of_every_version_are_read() {
    let key = &b"irr,h=b#!~#f"[..];
    let span = Span { min: T, max: T + 3000 };
    let v4 =
        hex("000015041f8b08000000000000ff626060e0c92c2ad2c9b04d5256ac534e139f3ee79f9916030384e6de\
                  01080000fffffc34976620000000");
    let all = Tombstones::collect(&v4).unwrap();
    assert_eq!((all.len(), all.of(key).collect::<Vec<_>>()), (1, vec![span]));
    assert_eq!(all.of(b"irr,h=b#!~#e").count() + all.of(b"irr").count(), 0);

    let twice = [&v4[..], &v4[4..]].concat();
    assert_eq!(Tombstones::collect(&twice).unwrap().of(key).count(), 2);
    let v3 = [&[0, 0, 0x15, 3], &v4[4..]].concat();
    assert_eq!(Tombstones::collect(&v3).unwrap().of(key).collect::<Vec<_>>(), [span]);

    let record = |key: &[u8], span: Span| {
        let length = u32::try_from(key.len()).unwrap().to_be_bytes();
        [&length, key, &span.min.to_be_bytes(), &span.max.to_be_bytes()].concat()
    };
    let second = Span { min: -9, max: 4 };
    let records = [record(key, span), record(b"a", span), record(key, second)].concat();
    let v2 = [&[0, 0, 0x15, 2], &records[..]].concat();
    let all = Tombstones::collect(&v2).unwrap();
    assert_eq!(all.of(key).collect::<Vec<_>>(), [second, span]);
    assert_eq!(all.of(b"a").collect::<Vec<_>>(), [span]);
    for cut in 5..v2.len() {
        let whole = [4, 4 + 32, 4 + 32 + 21].contains(&cut);
        assert_eq!(Tombstones::collect(&v2[..cut]).is_ok(), whole, "{cut}");
    }

    let many = Tombstones::collect(&b"a\n".repeat(2_200_000)).unwrap_err();
    assert!(many.reason.contains("more than 64 MiB"), "{many}");
    assert!(Tombstones::collect(b"").unwrap().is_empty());
    let v1 = Tombstones::collect(b"a#!~#v\nb#!~#v\n").unwrap();
    assert_eq!(v1.len(), 2);
    assert_eq!(v1.of(b"b#!~#v").collect::<Vec<_>>(), [Span::ALL]);
    assert!(Tombstones::collect(&[0, 0, 0x15, 4]).unwrap().is_empty());
}

#[test]
fn damaged_tombstones_are_never_fewer_tombstones() {
    let v4 =
        hex("000015041f8b08000000000000ff626060e0c92c2ad2c9b04d5256ac534e139f3ee79f9916030384e6de\
                  01080000fffffc34976620000000");
    for cut in 5..v4.len() {
        let damage = Tombstones::collect(&v4[..cut]).unwrap_err();
        assert!(damage.offset <= cut as u64, "{damage}");
    }
    let records = |bytes: &[u8]| {
        let mut all = Vec::new();
        tombstone::read(bytes, |key, span| all.push((key.to_vec(), span))).map(|()| all)
    };
    let whole = records(&v4).unwrap();
    for flip in [1, 0x10, 0x80] {
        for at in 4..v4.len() {
            let mut bytes = v4.clone();
            bytes[at] ^= flip;
            // Bits that mean nothing stand between the compressed blocks.
            assert!(
                records(&bytes).is_ok_and(|all| all == whole) || records(&bytes).is_err(),
                "{at}"
            );
        }
    }
    let unknown = Tombstones::collect(&[0, 0, 0x15, 5, 0]).unwrap_err();
    assert!(unknown.reason.contains("version 5"), "{unknown}");
    let behind = [&v4[..], b"garbage"].concat();
    assert!(Tombstones::collect(&behind).is_err());
}

fn entry(kind: u8, content: &[u8]) -> Vec<u8> {
    let block = snap::raw::Encoder::new().compress_vec(content).unwrap();
    [&[kind], &u32::try_from(block.len()).unwrap().to_be_bytes()[..], &block].concat()
}

/// What the items of a segment are, as text.
fn items(bytes: &[u8]) -> (Vec<String>, Option<Damage>) {
    let mut segment = Segment::new(bytes);
    let mut found = Vec::new();
    loop {
        match segment.next_item() {
            Ok(Some(item)) => found.push(match item {
                Item::Write(writes) => {
                    let keys = writes.map(|written| {
                        let points: Vec<_> = written.points().collect();
                        assert_eq!(points.len(), written.count as usize);
                        format!("{} {points:?}", String::from_utf8_lossy(written.key))
                    });
                    keys.collect::<Vec<_>>().join("; ")
                }
                Item::Delete(deletes) => {
                    let keys: Vec<_> = deletes.keys().map(String::from_utf8_lossy).collect();
                    format!("delete {keys:?} {:?}", deletes.span == Span::ALL)
                }
                other => format!("{other:?}"),
            }),
            Ok(None) => return (found, None),
            Err(damage) => return (found, Some(damage)),
        }
    }
}

const WRITE: &str = "010000001f1d700200066d23217e23760000000100000000000000010000000000000001";
const WRITTEN: &str = "m#!~#v [(1, Integer(1))]";

#[test]
fn entries_of_a_log_are_read_in_order() {
    let old = entry(2, b"a#!~#v\nb#!~#v");
    let mut range = [5_i64.to_be_bytes(), 9_i64.to_be_bytes()].concat();
    range.extend(b"\0\0\0\x01a\0\0\0\x02bc");
    let log = [hex(WRITE), old, entry(3, &range)].concat();
    let (found, damage) = items(&log);
    assert_eq!(damage, None);
    assert_eq!(
        found,
        [WRITTEN, "delete [\"a#!~#v\", \"b#!~#v\"] true", "delete [\"a\", \"bc\"] false"]
    );
    assert_eq!(items(b""), (vec![], None));
}

#[test]
fn values_of_every_type_are_read_from_a_log() {
    let mut content = Vec::new();
    for (code, value) in [
        (1_u8, &(-0.0_f64).to_bits().to_be_bytes()[..]),
        (2, &i64::MIN.to_be_bytes()),
        (3, &[1]),
        (4, b"\0\0\0\x02\xff\n"),
        (4, b"\0\0\0\0"),
        (5, &u64::MAX.to_be_bytes()),
    ] {
        content.extend([code, 0, 1, b'k', 0, 0, 0, 1]);
        content.extend([i64::MIN.to_be_bytes().as_slice(), value].concat());
    }
    let (found, damage) = items(&entry(1, &content));
    assert_eq!(damage, None);
    let value = |value: &str| format!("k [({}, {value})]", i64::MIN);
    let expected = [
        "Float(-0.0)",
        "Integer(-9223372036854775808)",
        "Boolean(true)",
        "String([255, 10])",
        "String([])",
        "Unsigned(18446744073709551615)",
    ];
    assert_eq!(found, [expected.map(value).join("; ")]);
}

#[test]
fn a_log_that_ends_within_an_entry_says_so() {
    let log = [hex(WRITE), hex(WRITE)].concat();
    for cut in 37..72 {
        let (found, damage) = items(&log[..cut]);
        assert_eq!(damage, None, "{cut}");
        let length = cut - 36;
        assert_eq!(found, [WRITTEN, &format!("Incomplete {{ offset: 36, length: {length} }}")]);
    }
}

#[test]
fn a_length_that_swallows_later_entries_is_damage() {
    let mut log = [hex(WRITE), hex(WRITE), hex(WRITE)].concat();
    log[36 + 3] = 1;
    let (found, damage) = items(&log);
    assert_eq!(found, [WRITTEN]);
    let damage = damage.unwrap();
    assert!(damage.offset == 36 && damage.reason.contains("do not begin one"), "{damage}");
}

#[test]
fn zeros_in_a_log_are_named_and_passed_over() {
    let log = [hex(WRITE), vec![0; 100], hex(WRITE), vec![0; 3]].concat();
    let zeros = |offset, length| format!("Zeros {{ offset: {offset}, length: {length} }}");
    let expected = [WRITTEN, &zeros(36, 100), WRITTEN, &zeros(172, 3)];
    assert_eq!(items(&log), (expected.map(str::to_owned).to_vec(), None));
}

#[test]
fn damage_in_a_log_has_its_offset_and_what_follows_can_be_found() {
    for at in [0, 5, 6, 7, 9] {
        let mut log = [hex(WRITE), hex(WRITE), hex(WRITE)].concat();
        log[36 + at] ^= 0x40;
        let mut segment = Segment::new(&log);
        assert!(matches!(segment.next_item(), Ok(Some(Item::Write(_)))));
        let damage = segment.next_item().unwrap_err();
        assert_eq!(damage.offset, 36, "{at}: {damage}");
        assert!(matches!(segment.next_item(), Ok(None)));
        let mut segment = Segment::new(&log);
        while segment.next_item().is_ok() {}
        assert_eq!(segment.resync(), Some(72), "{at}");
        assert!(matches!(segment.next_item(), Ok(Some(Item::Write(_)))));
        assert!(matches!(segment.next_item(), Ok(None)));
    }
    let mut broken = Segment::new(b"\x07nothing to be found");
    assert!(broken.next_item().is_err());
    assert_eq!(broken.resync(), None);
}

#[test]
fn entries_that_no_server_writes_are_damage() {
    for (kind, content, reason) in [
        (1, &b"\x06\0\x01k\0\0\0\x01"[..], "unknown type 6 of values"),
        (1, b"\x01\0\x09k", "a key is cut short"),
        (1, b"\x01\0\x01k\0\0\0\0", "a key without values"),
        (1, b"\x01\0\x01k\xff\xff\xff\xff", "values is cut short"),
        (1, b"\x04\0\x01k\0\0\0\x0100000000\xff\xff\xff\xff", "a string is cut short"),
        (1, b"\x03\0\x01k\0\0\0\x0100000000\x02", "2 is no boolean"),
        (3, b"\x01", "first time is cut short"),
        (3, b"0000000011111111\0\0\0\x05a", "a deleted key is cut short"),
    ] {
        let (found, damage) = items(&entry(kind, content));
        let damage = damage.unwrap();
        assert!(found.is_empty() && damage.reason.contains(reason), "{damage}");
    }
    let damage = items(&[1, 0, 0, 0, 0]).1.unwrap();
    assert!(damage.reason.contains("damaged"), "{damage}");
}

#[test]
fn what_only_looks_like_entries_is_not_looked_into_without_end() {
    // Each head says that all behind it is its content.
    let frames = |count: usize| {
        let entry = hex("010000001f1d700200066d23217e23760000000100000000000000010000000000000001");
        let end = count * 5 + entry.len();
        let head = |at: usize| {
            [&[1], &u32::try_from(end - at * 5 - 5).unwrap().to_be_bytes()[..]].concat()
        };
        [(0..count).flat_map(head).collect(), entry].concat()
    };
    for (count, found) in [(100, Some(500)), (5_000, None)] {
        let bytes = frames(count);
        let mut segment = Segment::new(&bytes);
        assert!(segment.next_item().is_err());
        assert_eq!(segment.resync(), found);
    }
}
