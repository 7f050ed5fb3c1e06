//! Rates of the stages that every cell passes: decode, sort, digest, encode. One core, in memory.
//!
//! `cargo bench --bench stages` prints bytes of line protocol a second for rows as a monitoring
//! agent writes them: 200 hosts, four measurements of about six fields, most of them floats.

#![allow(clippy::unwrap_used, reason = "a bench may fail")]

mod codec;
mod devops;

use codec::{Logs, blocks, decode, encode};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gapless::block::Block;
use gapless::block::log::Table;
use gapless::digest::set::{Builder, DigestSet};
use gapless::spill::Place;
use gapless::window::Window;
use std::hint::black_box;

/// Steps of ten seconds; some 33 MB.
const STEPS: u32 = 200;

fn digest(blocks: &[Block]) -> DigestSet {
    let mut set = Builder::new(usize::MAX, Place::new(None));
    for block in blocks {
        set.add_block(block, |_| true).unwrap();
    }
    set.finish().unwrap()
}

fn resolve(logs: Logs) -> Vec<Table> {
    logs.into_iter().map(|(_, log)| log.resolve()).collect()
}

fn to_blocks(tables: &[Table]) -> usize {
    tables.iter().map(|table| table.blocks(Window::ALL).count()).sum()
}

fn stages(criterion: &mut Criterion) {
    let lines = codec::lines(STEPS);
    let tables = resolve(decode(&lines));
    let ready = blocks(&lines);
    let mut group = criterion.benchmark_group("stages");
    group.sample_size(10).throughput(Throughput::Bytes(lines.len() as u64));
    group.bench_function("decode", |bench| bench.iter(|| decode(black_box(&lines))));
    group.bench_function("sort and resolve", |bench| {
        bench.iter_batched(|| decode(&lines), resolve, BatchSize::PerIteration);
    });
    group.bench_function("to blocks", |bench| bench.iter(|| to_blocks(black_box(&tables))));
    group.bench_function("digest", |bench| bench.iter(|| digest(black_box(&ready))));
    let mut out = Vec::new();
    group.bench_function("encode", |bench| bench.iter(|| encode(black_box(&ready), &mut out)));
    group.finish();
}

fn decode_to_blocks(criterion: &mut Criterion) {
    let in_time_order = codec::lines(STEPS);
    let mut in_series_order = Vec::new();
    encode(&blocks(&in_time_order), &mut in_series_order);
    let mut group = criterion.benchmark_group("decode to blocks");
    group.sample_size(10);
    for (name, lines) in [("time order", in_time_order), ("series order", in_series_order)] {
        group.throughput(Throughput::Bytes(lines.len() as u64));
        group.bench_function(name, |bench| bench.iter(|| blocks(black_box(&lines))));
    }
    group.finish();
}

criterion_group!(benches, stages, decode_to_blocks);
criterion_main!(benches);
