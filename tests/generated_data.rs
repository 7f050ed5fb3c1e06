//! The generator of the benches: what it promises about the data that everything is measured on.
//!
//! What it writes is judged by the crate's own decoder and digests; nothing here is timed.

#[path = "../benches/devops/mod.rs"]
mod devops;

use clap::Parser;
use devops::{Generator, Options, Summary};
use gapless::block::log::RowLog;
use gapless::digest::node::Node;
use gapless::digest::set::Builder;
use gapless::line::decode::{self, Decoder, Item};
use gapless::line::key;
use gapless::window::Window;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

#[test]
fn the_same_options_give_the_same_bytes_and_another_seed_others() {
    let (one, _) = generate("--hosts 3 --steps 20 --hostile-tags 0.5 --hostile-strings 0.5");
    let (same, _) = generate("--hosts 3 --steps 20 --hostile-tags 0.5 --hostile-strings 0.5");
    assert_eq!(one, same);
    let (other, _) = generate("--hosts 3 --steps 20 --seed 2");
    assert_ne!(one, other);
}

#[test]
fn every_line_is_a_row_that_a_server_stores_and_the_summary_counts_them() {
    for options in [
        "--hosts 40 --steps 30 --hostile-tags 1 --hostile-strings 1",
        "--hosts 40 --steps 30 --hostile-tags 1 --hostile-strings 1 --single-fields",
        "--shape series --hosts 100 --steps 5",
        "--shape wide --hosts 3 --steps 2 --fields 500 --row-fields 40 --hostile-tags 1",
        "--shape long --hosts 2 --steps 2 --line-bytes 100K",
    ] {
        let (text, summary) = generate(options);
        let read = Read::of(&text);
        assert_eq!((read.rows, read.cells), (summary.rows, summary.cells), "{options}");
        assert_eq!(text.len() as u64, summary.bytes, "{options}");
        assert_eq!(read.superseded, 0, "{options}: only duplicates overwrite others");
    }
}

#[test]
fn order_and_form_change_no_cell() {
    let data = "--hosts 7 --steps 33 --hostile-tags 0.5 --hostile-strings 0.5";
    let expected = Read::of(&generate(data).0);
    for form in ["--order series", "--order shuffled", "--single-fields --order series"] {
        let read = Read::of(&generate(&format!("{data} {form}")).0);
        assert_eq!(read.digest, expected.digest, "{form}");
        assert_eq!(read.cells, expected.cells, "{form}");
    }
}

#[test]
fn a_shuffled_file_is_in_no_order() {
    let (text, _) = generate("--shape series --hosts 10 --steps 100 --order shuffled");
    let times = Read::of(&text).times;
    let falls = times.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!((400..600).contains(&falls), "{falls} of {} times fall", times.len());
}

#[test]
fn duplicates_come_far_behind_what_they_overwrite_with_other_values() {
    let data = "--hosts 5 --steps 200 --order shuffled --hostile-strings 0.3";
    let (text, summary) = generate(&format!("{data} --duplicates 0.1 --distance 40K"));
    assert!((400..600).contains(&summary.duplicates), "{summary:?}");
    let (plain, _) = generate(data);
    let expected = Read::of(&plain);
    let read = Read::of(&text);
    assert_eq!(read.rows, expected.rows + summary.duplicates);
    assert_eq!(read.cells - read.superseded, expected.cells);
    assert_ne!(read.digest, expected.digest);
    assert_eq!(read.superseded, read.overwritten, "every field of a duplicate has another value");
    // The last of them have less text behind them than the distance.
    let near = read.distances.iter().filter(|distance| **distance < 40_000).count();
    assert_eq!(read.distances.len() as u64, summary.duplicates);
    assert_eq!(read.distances.iter().min().copied(), summary.nearest);
    assert!(near < read.distances.len() / 4, "{near} of {} are near", read.distances.len());

    let bounded = format!("{data} --duplicates 0.1 --distance 40K --bytes 150K");
    let (text, summary) = generate(&bounded);
    assert!(summary.duplicates > 0 && summary.nearest >= Some(40_000), "{summary:?}");
    assert_eq!(Read::of(&text).distances.iter().min().copied(), summary.nearest);
}

#[test]
fn it_stops_behind_the_line_that_reaches_the_bytes() {
    for order in ["time", "series", "shuffled"] {
        let (text, summary) = generate(&format!("--bytes 1M --order {order}"));
        let last = text[..text.len() - 1].iter().rposition(|&byte| byte == b'\n').expect("lines");
        assert!(text.len() >= 1_000_000 && last + 1 < 1_000_000, "{order}: {summary:?}");
    }
}

#[test]
fn the_reference_has_as_many_rows_and_cells_as_the_data_set_it_stands_for() {
    // A tenth of its steps: nothing in it depends on how many there are.
    let (_, tenth) = generate("--preset reference --steps 171");
    assert_eq!(tenth.rows, 136_800);
    assert!(tenth.cells.abs_diff(842_400) < 2_000, "{tenth:?}");
    assert!(tenth.bytes.abs_diff(29_080_000) < 290_000, "{tenth:?}");
}

#[test]
fn options_out_of_range_are_refused() {
    for options in [
        "--duplicates 1.5",
        "--hostile-tags -0.1",
        "--measurements 0",
        "--measurements 6",
        "--shape wide --fields 10 --row-fields 11",
        "--interval 1 --jitter 1000000000",
        "--hosts 4611686018427387904 --steps 10",
    ] {
        let parsed = parse(options);
        assert!(Generator::new(&parsed).is_err(), "{options}");
    }
    assert!(devops::parse_bytes("2X").is_err() && devops::parse_bytes("").is_err());
    assert_eq!(devops::parse_bytes("3K"), Ok(3_000));
}

fn parse(options: &str) -> Options {
    let words = options.replace(" -0.1", "=-0.1");
    Cli::parse_from(std::iter::once("generate").chain(words.split(' '))).options
}

fn generate(options: &str) -> (Vec<u8>, Summary) {
    let mut text = Vec::new();
    let generator = Generator::new(&parse(options)).expect("options in range");
    let summary = generator.write(&mut text).expect("a vector takes all");
    (text, summary)
}

/// What the decoder makes of a text.
struct Read {
    rows: u64,
    cells: u64,
    superseded: u64,
    /// Cells that replace one of another value.
    overwritten: u64,
    digest: Node,
    times: Vec<i64>,
    /// Bytes between the beginnings of a row and the row that overwrites it.
    distances: Vec<u64>,
}

impl Read {
    #[track_caller]
    fn of(text: &[u8]) -> Self {
        let mut decoder = Decoder::new(decode::Options::default());
        decoder.feed(text);
        decoder.finish();
        let mut logs: BTreeMap<Vec<u8>, RowLog> = BTreeMap::new();
        let mut seen: HashMap<(Vec<u8>, i64), (u64, Vec<String>)> = HashMap::new();
        let (mut rows, mut cells, mut overwritten, mut at) = (0, 0, 0, 0);
        let (mut times, mut distances) = (Vec::new(), Vec::new());
        while let Some(item) = decoder.next_item().expect("short lines") {
            let Item::Row(row) = item else { panic!("no row: {item:?}") };
            assert!(row.warning.is_none() && !row.dropped_time_field, "{row:?}");
            let series = key::parse(row.key);
            let log = logs.entry(series.measurement().to_vec()).or_default();
            let number = log
                .find_series(row.key)
                .unwrap_or_else(|| log.add_series(Arc::new(key::parse(row.key))));
            log.begin_row(number, row.time);
            for (field, value) in row.fields() {
                log.push(field, value);
                cells += 1;
            }
            let fields: Vec<String> = row.fields().map(|field| format!("{field:?}")).collect();
            let (first, former) =
                seen.entry((row.key.to_vec(), row.time)).or_insert_with(|| (at, Vec::new()));
            if !former.is_empty() && former.len() == fields.len() {
                distances.push(at - *first);
                let pairs = former.iter().zip(&fields);
                overwritten += pairs.filter(|(former, field)| former != field).count() as u64;
            }
            *former = fields;
            times.push(row.time);
            rows += 1;
            at += row.text.len() as u64 + 1;
        }
        let mut set = Builder::new(usize::MAX, gapless::spill::Place::new(None));
        let mut superseded = 0;
        for log in logs.into_values() {
            let table = log.resolve();
            superseded += table.superseded();
            for block in table.blocks(Window::ALL) {
                set.add_block(&block, |_| true).expect("a place for digests");
            }
        }
        let digest = set.finish().expect("a place for digests").total();
        Self { rows, cells, superseded, overwritten, digest, times, distances }
    }
}
