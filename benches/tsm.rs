//! Rates of reading TSM files, checksums and all: one core, in memory.
//!
//! `cargo bench --bench tsm` prints cells a second, by type and encoding. Each file has 100 keys of
//! ten blocks of 1,000 points, ten seconds apart unless it says otherwise.

#![allow(clippy::unwrap_used, reason = "a bench may fail")]

#[path = "../tests/tsm_tools/mod.rs"]
mod tsm_tools;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gapless::tsm::Points;
use gapless::tsm::index::Tsm;
use gapless::value::Value;
use std::hint::black_box;
use tsm_tools::encode;

const KEYS: u32 = 100;
const BLOCKS: u32 = 10;
const POINTS: u32 = 1000;

/// The same numbers at each run.
struct Noise(u64);

impl Noise {
    /// A number below `end`.
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::try_from(((self.0 >> 32) * u64::from(end)) >> 32).unwrap()
    }
}

type Point = fn(u32, &mut Noise) -> Value<'static>;

/// A file of points whose values `value` makes, each up to `jitter` ns behind its time.
fn file(value: Point, jitter: u32) -> Vec<u8> {
    let mut noise = Noise(7);
    let names: Vec<String> = (0..KEYS).map(|key| format!("cpu,host=h{key:04}#!~#usage")).collect();
    let mut point = |at: u32| {
        let late = i64::from(if jitter == 0 { 0 } else { noise.below(jitter) });
        let time = 1_700_000_000_000_000_000 + i64::from(at) * 10_000_000_000 + late;
        (time, value(at, &mut noise))
    };
    let mut block = |at: u32| (at * POINTS..(at + 1) * POINTS).map(&mut point).collect();
    let keys = names.iter().map(|name| (name.as_bytes(), (0..BLOCKS).map(&mut block).collect()));
    encode::file(&keys.collect::<Vec<_>>())
}

/// Reads everything there is, as a reader of one shard does.
fn read(bytes: &[u8], points: &mut Points) -> u64 {
    let tsm = Tsm::open(bytes).unwrap();
    let mut cells = 0;
    for key in tsm.keys() {
        let key = key.unwrap();
        points.reset(key.field_type);
        for entry in key.entries() {
            tsm.append(entry, points).unwrap();
        }
        cells += points.len() as u64;
    }
    cells
}

fn tsm(criterion: &mut Criterion) {
    let kinds: [(&str, Point, u32); 9] = [
        ("float, two decimals", |_, noise| Value::Float(f64::from(noise.below(10_000)) / 100.0), 0),
        ("float, all digits", |_, noise| Value::Float(1.0 / f64::from(noise.below(99) + 1)), 0),
        ("float, halves that rest", |at, _| Value::Float(f64::from(at / 3 % 200) / 2.0), 0),
        ("float, constant", |_, _| Value::Float(1.5), 0),
        ("integer, counter", |at, _| Value::Integer(i64::from(at) * 3), 0),
        ("integer, packed", |_, noise| Value::Integer(i64::from(noise.below(1000))), 0),
        ("integer, times in ns", |_, noise| Value::Integer(i64::from(noise.below(9))), 1_000_000),
        ("boolean", |at, _| Value::Boolean(at % 7 < 3), 0),
        ("string", |at, _| Value::String(if at % 9 < 4 { b"running" } else { b"stopped" }), 0),
    ];
    let mut group = criterion.benchmark_group("tsm");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(KEYS * BLOCKS * POINTS)));
    let mut points = Points::default();
    for (name, value, jitter) in kinds {
        let bytes = file(value, jitter);
        group.bench_function(name, |bench| bench.iter(|| read(black_box(&bytes), &mut points)));
    }
    group.finish();
}

criterion_group!(benches, tsm);
criterion_main!(benches);
