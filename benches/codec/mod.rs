//! The ways through the codec that benches measure, on lines of the reference data set.

use crate::devops;
use clap::Parser;
use gapless::block::Block;
use gapless::block::log::RowLog;
use gapless::line::decode::{Decoder, Item, Options};
use gapless::line::encode::Encoder;
use gapless::line::places::Places;
use gapless::window::Window;

/// Bytes that are fed to the decoder at once, as a reader of a file does.
const CHUNK: usize = 256 << 10;

/// One log a measurement, by its raw name.
pub(crate) type Logs = Vec<(Vec<u8>, RowLog)>;

/// The options of the generator, as its own command reads them.
#[derive(Debug, clap::Parser)]
struct Generated {
    #[command(flatten)]
    options: devops::Options,
}

/// `steps` times of the reference data set: 200 hosts and four measurements, in order of time.
pub(crate) fn lines(steps: u32) -> Vec<u8> {
    let steps = steps.to_string();
    let words = ["generate", "--preset", "reference", "--steps", &steps];
    let mut lines = Vec::new();
    let options = Generated::parse_from(words).options;
    devops::Generator::new(&options).unwrap().write(&mut lines).unwrap();
    lines
}

/// Decodes lines into one log a measurement, as a reader of a line file does.
pub(crate) fn decode(lines: &[u8]) -> Logs {
    let mut logs = Logs::new();
    let mut places = Places::default();
    let mut decoder = Decoder::new(Options::default());
    for chunk in lines.chunks(CHUNK) {
        decoder.feed(chunk);
        while let Some(item) = decoder.next_item().unwrap() {
            let Item::Row(row) = item else { panic!("{item:?}") };
            let at = places.log_of(&row).unwrap_or_else(|| {
                let end = row.key.iter().position(|&byte| byte == b',').unwrap();
                let name = &row.key[..end];
                logs.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                    logs.push((name.to_vec(), RowLog::default()));
                    logs.len() - 1
                })
            });
            places.append(&row, at, &mut logs[at].1);
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
