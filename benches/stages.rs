//! Rates of the stages that every cell passes: decode, sort, digest, encode. One core, in memory.
//!
//! `cargo bench --bench stages` prints bytes of line protocol a second for wide rows of four types.

#![allow(clippy::unwrap_used, reason = "a bench may fail")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gapless::block::Block;
use gapless::block::log::RowLog;
use gapless::digest::set::{Builder, DigestSet};
use gapless::line::decode::{Decoder, Item, Options};
use gapless::line::encode::Encoder;
use gapless::line::key;
use gapless::spill::Place;
use gapless::window::Window;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

/// 200 hosts, ten fields, in order of time.
fn lines() -> Vec<u8> {
    let mut text = String::new();
    for step in 0_u32..100 {
        for host in 0..200 {
            write!(text, "cpu,host=web{host:03},region=eu-west-1,rack=r{} ", host % 16).unwrap();
            for field in 0..7 {
                let value = f64::from((step * 37 + host * 11 + field * 5) % 10_000) / 100.0;
                write!(text, "usage_{field}={value},").unwrap();
            }
            let time = 1_700_000_000_000_000_000_u64 + u64::from(step) * 10_000_000_000;
            writeln!(text, "count={step}i,up=t,note=\"step {step}\" {time}").unwrap();
        }
    }
    text.into_bytes()
}

fn decode(lines: &[u8]) -> RowLog {
    let mut log = RowLog::default();
    let mut decoder = Decoder::new(Options::default());
    decoder.feed(lines);
    decoder.finish();
    while let Ok(Some(item)) = decoder.next_item() {
        let Item::Row(row) = item else { continue };
        let series = log
            .find_series(row.key)
            .unwrap_or_else(|| log.add_series(Arc::new(key::parse(row.key))));
        log.begin_row(series, row.time);
        for (field, value) in row.fields() {
            log.push(field, value);
        }
    }
    log
}

fn digest(blocks: &[Block]) -> DigestSet {
    let mut set = Builder::new(usize::MAX, Place::new(None));
    for block in blocks {
        set.add_block(block, |_| true).unwrap();
    }
    set.finish().unwrap()
}

fn encode(blocks: &[Block], out: &mut Vec<u8>) {
    out.clear();
    for block in blocks {
        let mut encoder = Encoder::new(block);
        for (series, rows) in block.runs() {
            for row in rows {
                encoder.row(series, row, None, out).expect("plain rows can be written");
            }
        }
    }
}

fn stages(criterion: &mut Criterion) {
    let lines = lines();
    let table = decode(&lines).resolve();
    let blocks: Vec<Block> = table.blocks(Window::ALL).collect();
    let mut group = criterion.benchmark_group("stages");
    group.throughput(Throughput::Bytes(lines.len() as u64));
    group.bench_function("decode", |bench| bench.iter(|| decode(black_box(&lines))));
    group.bench_function("sort and resolve", |bench| {
        bench.iter_batched(|| decode(&lines), RowLog::resolve, BatchSize::LargeInput);
    });
    group.bench_function("to blocks", |bench| bench.iter(|| table.blocks(Window::ALL).count()));
    group.bench_function("digest", |bench| bench.iter(|| digest(black_box(&blocks))));
    let mut out = Vec::new();
    group.bench_function("encode", |bench| bench.iter(|| encode(black_box(&blocks), &mut out)));
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
