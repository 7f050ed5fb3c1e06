//! A log that goes to disk again and again comes to the same as one that is held, and as a map of cells.

use super::*;
use crate::plan::{Namespace, Partition};
use crate::source::Reader as _;
use crate::source::tsm::reader::ShardReader;
use crate::source::tsm::shard::Shard;
use crate::window::Window;
use std::collections::BTreeMap;
use std::sync::Arc;

type Cells = BTreeMap<(Vec<u8>, i64), String>;

/// A generator of numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn entry(kind: u8, content: &[u8]) -> Vec<u8> {
    let block = snap::raw::Encoder::new().compress_vec(content).unwrap();
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], &block].concat()
}

fn written(key: &[u8], points: &[(i64, Value<'_>)]) -> Vec<u8> {
    let code = match points[0].1 {
        Value::Float(_) => 1,
        Value::Integer(_) => 2,
        Value::Boolean(_) => 3,
        Value::String(_) => 4,
        Value::Unsigned(_) => 5,
    };
    let mut out = vec![code];
    out.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
    out.extend_from_slice(key);
    out.extend(u32::try_from(points.len()).unwrap().to_be_bytes());
    for (time, value) in points {
        out.extend(time.to_be_bytes());
        match value {
            Value::Boolean(value) => out.push(u8::from(*value)),
            Value::String(text) => {
                out.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                out.extend_from_slice(text);
            }
            other => out.extend(other.bits().unwrap().to_be_bytes()),
        }
    }
    out
}

fn deleted(span: Span, keys: &[Vec<u8>]) -> Vec<u8> {
    let mut out = [span.min.to_be_bytes(), span.max.to_be_bytes()].concat();
    for key in keys {
        out.extend(u32::try_from(key.len()).unwrap().to_be_bytes());
        out.extend_from_slice(key);
    }
    entry(3, &out)
}

fn value(kind: u64, number: u64, text: &[u8]) -> Value<'_> {
    match kind {
        0 => Value::Float(number as f64 / 4.0),
        1 => Value::Integer(number.cast_signed()),
        2 => Value::Unsigned(number),
        3 => Value::Boolean(number.is_multiple_of(2)),
        _ => Value::String(text),
    }
}

/// Writes and deletions of some keys, whose types change now and then, and what they come to.
fn segment(seed: u64, entries: u64) -> (Vec<u8>, Cells) {
    let mut numbers = Numbers(seed);
    let (mut segment, mut cells) = (Vec::new(), Cells::new());
    let text = vec![b'x'; 3_000];
    for at in 0..entries {
        let mut key = || format!("m,h=h{}#!~#f{}", numbers.below(7), numbers.below(3)).into_bytes();
        if at % 9 == 8 {
            let keys = [key(), key()];
            let min = numbers.below(4_000).cast_signed();
            let length = numbers.below(900).cast_signed();
            // One in ten takes away nothing.
            let span = Span { min, max: min + length - 90 };
            segment.extend(deleted(span, &keys));
            cells.retain(|(key, time), _| !keys.contains(key) || !span.contains(*time));
            continue;
        }
        let key = key();
        let kind = if numbers.below(5) == 0 { numbers.below(5) } else { 0 };
        let points: Vec<(i64, Value<'_>)> = (0..=numbers.below(60))
            .map(|_| {
                let (time, number) = (numbers.below(4_000).cast_signed(), numbers.below(1_000));
                (time, value(kind, number, &text[..usize::try_from(number * 3).unwrap()]))
            })
            .collect();
        for (time, value) in &points {
            cells.insert((key.clone(), *time), format!("{value:?}"));
        }
        segment.extend(entry(1, &written(&key, &points)));
    }
    (segment, cells)
}

fn followed(segment: &[u8], memory_max: usize) -> (usize, Cells) {
    let mut replay = Replay::new(memory_max, Place::new(None));
    let (end, skipped) = replay.follow(segment, false).unwrap();
    assert_eq!((end, skipped), (End::Whole, Skipped::default()));
    assert!(replay.log.memory() + replay.deleted.memory() <= memory_max);
    let (files, log) = replay.finish().unwrap();
    let runs = files.len();
    let shard = Arc::new(Shard { files, log });
    let names = Namespace { database: "d".into(), retention_policy: "r".into() };
    let partition = Partition::new(&names, Window::ALL, None);
    let mut reader = ShardReader::new(vec![shard], &partition, Arc::default());
    let mut cells = Cells::new();
    while let Some(block) = reader.next_block().unwrap() {
        for (series, rows) in block.runs() {
            for row in rows {
                for column in block.columns() {
                    let Some(value) = column.get(row) else { continue };
                    let key = [series.key(), b"#!~#", &column.field].concat();
                    let before = cells.insert((key, block.times()[row]), format!("{value:?}"));
                    assert!(before.is_none());
                }
            }
        }
    }
    (runs, cells)
}

#[test]
fn what_goes_to_disk_comes_to_the_same_as_what_is_held() {
    for seed in 1..6 {
        let (segment, expected) = segment(seed, 400);
        let (none, held) = followed(&segment, 32 << 20);
        assert_eq!(none, 0);
        assert!(held == expected, "seed {seed}: {} cells of {}", held.len(), expected.len());
        for memory in [40 << 10, 200 << 10] {
            let (runs, spilled) = followed(&segment, memory);
            assert!(runs > 3, "{runs}");
            assert!(spilled == expected, "seed {seed}: {} of {}", spilled.len(), expected.len());
        }
    }
}

#[test]
fn an_entry_that_is_larger_than_the_memory_goes_to_disk_in_parts() {
    let points: Vec<(i64, Value<'_>)> = (0..50_000).map(|at| (at, Value::Integer(at))).collect();
    let segment = entry(1, &written(b"m#!~#f", &points));
    let (runs, cells) = followed(&segment, 64 << 10);
    assert!(runs > 5, "{runs}");
    assert_eq!(cells.len(), 50_000);
}

#[test]
fn a_float_that_no_file_can_hold_is_damage_however_much_memory_there_is() {
    let nan = f64::from_bits(FLOAT_END);
    let segment = entry(1, &written(b"m#!~#f", &[(1, Value::Float(nan))]));
    let mut replay = Replay::new(1 << 20, Place::new(None));
    let Err(Failure::Damage(damage)) = replay.follow(&segment, false) else { panic!("taken") };
    assert_eq!((damage.offset, &*damage.reason), (0, NO_VALUE));
    let (_, skipped) = replay.follow(&segment, true).unwrap();
    assert_eq!(skipped, Skipped { places: 1, bytes: segment.len() as u64 });
}
