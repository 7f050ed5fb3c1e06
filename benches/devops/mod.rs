//! Rows as a monitoring agent writes them, and the ways through the codec that benches measure.

use gapless::block::Block;
use gapless::block::log::RowLog;
use gapless::line::decode::{Decoder, Item, Options};
use gapless::line::encode::Encoder;
use gapless::line::key;
use gapless::window::Window;
use std::fmt::Write;
use std::sync::Arc;

const HOSTS: u32 = 200;

/// Bytes that are fed to the decoder at once, as a reader of a file does.
const CHUNK: usize = 256 << 10;

/// One log a measurement, by its raw name.
pub(crate) type Logs = Vec<(Vec<u8>, RowLog)>;

/// Numbers that wander as measured values do (xorshift64*).
struct Walk(u64);

impl Walk {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from(high).unwrap() % end
    }

    /// A value between 0 and 100, of all the digits that a computed float has.
    fn share(&mut self) -> f64 {
        100.0 * f64::from(self.below(u32::MAX)) / f64::from(u32::MAX)
    }
}

/// `steps` times of 200 hosts and four measurements, in order of time.
pub(crate) fn lines(steps: u32) -> Vec<u8> {
    let mut walk = Walk(42);
    let mut text = String::new();
    let mut counters = vec![0_u64; HOSTS as usize];
    for step in 0..steps {
        let time = 1_700_000_000_000_000_000_u64 + u64::from(step) * 10_000_000_000;
        for (host, counter) in (0..HOSTS).zip(&mut counters) {
            *counter += u64::from(walk.below(100_000));
            host_lines(&mut text, &mut walk, host, *counter, time);
        }
    }
    text.into_bytes()
}

fn host_lines(text: &mut String, walk: &mut Walk, host: u32, counter: u64, time: u64) {
    let tags = format!(
        "host=host_{host},region=eu-central-1,datacenter=eu-central-1{},rack={},os=Ubuntu22.04",
        ["a", "b", "c"][host as usize % 3],
        host % 40
    );
    write!(text, "cpu,{tags} ").unwrap();
    for name in ["user", "system", "idle", "nice", "iowait", "steal"] {
        write!(text, "usage_{name}={},", walk.share()).unwrap();
    }
    text.pop();
    writeln!(text, " {time}").unwrap();
    write!(text, "mem,{tags} ").unwrap();
    for name in ["total", "available", "used", "free", "cached", "buffered"] {
        write!(text, "{name}={},", f64::from(walk.below(1_000_000_000)) * 16.0).unwrap();
    }
    writeln!(text, "used_percent={:.2} {time}", walk.share()).unwrap();
    write!(text, "diskio,{tags} ").unwrap();
    for (at, name) in ["reads", "writes", "read_bytes", "write_bytes"].iter().enumerate() {
        write!(text, "{name}={}i,", counter * (1 + at as u64 * 511)).unwrap();
    }
    writeln!(text, "read_time={:.3},write_time={:.3} {time}", walk.share(), walk.share()).unwrap();
    let states = ["running", "draining since the last deployment", "idle"];
    let state = states[walk.below(3) as usize];
    let up = walk.below(50) > 0;
    writeln!(
        text,
        "service,{tags} up={up},state=\"{state}\",requests={counter}i,latency_p50={},latency_p99={} {time}",
        walk.share() / 10.0,
        walk.share()
    )
    .unwrap();
}

/// Decodes lines into one log a measurement, as a reader of a line file does.
pub(crate) fn decode(lines: &[u8]) -> Logs {
    let mut logs = Logs::new();
    let mut newest = 0;
    let mut decoder = Decoder::new(Options::default());
    for chunk in lines.chunks(CHUNK) {
        decoder.feed(chunk);
        while let Some(item) = decoder.next_item().unwrap() {
            let Item::Row(row) = item else { panic!("{item:?}") };
            let end = row.key.iter().position(|&byte| byte == b',').unwrap();
            let name = &row.key[..end];
            if logs.get(newest).is_none_or(|(known, _)| known != name) {
                newest = logs.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                    logs.push((name.to_vec(), RowLog::default()));
                    logs.len() - 1
                });
            }
            let log = &mut logs[newest].1;
            let series = log
                .find_series(row.key)
                .unwrap_or_else(|| log.add_series(Arc::new(key::parse(row.key))));
            log.begin_row(series, row.time);
            for (field, value) in row.fields() {
                log.push(field, value);
            }
        }
    }
    logs
}

/// Lines to blocks: decoded, ordered, last-write-wins resolved, copied into columns.
pub(crate) fn blocks(lines: &[u8]) -> Vec<Block> {
    let tables = decode(lines).into_iter().map(|(_, log)| log.resolve());
    tables.flat_map(|table| table.blocks(Window::ALL).collect::<Vec<_>>()).collect()
}

/// Encodes all rows of all blocks into `out`.
pub(crate) fn encode(blocks: &[Block], out: &mut Vec<u8>) {
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
