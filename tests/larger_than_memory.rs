//! Line protocol that does not fit in memory: what is spilled to disk is the same as what is not,
//! to the byte, wherever its duplicates stand; and the place is named where it cannot be used.
//!
//! `--memory 16`, the least there is, leaves 8 MiB for rows: inputs of some 20 MB are spilled several
//! times over. What a real 2 GB takes is measured by `benches/memory/run`.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd};
use std::fmt::Write;
use std::path::{Path, PathBuf};

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

const SECOND: u64 = 1_000_000_000;
const WEEK: u64 = 604_800 * SECOND;
const START: u64 = 1_600_000_000 * SECOND;

/// Rows of a few measurements in no order, over `weeks`, of which one in ten is written once more
/// long after, with another value or another field.
fn shuffled(seed: u64, rows: usize, weeks: u64) -> String {
    let mut numbers = Numbers(seed);
    let mut text = String::new();
    let mut later: Vec<String> = Vec::new();
    for at in 0..rows {
        let (host, kind) = (numbers.below(300), numbers.below(4));
        let time = START + numbers.below(weeks * 604_800) * SECOND;
        let key = format!("m{kind},host=h\\ {host},odd=\\=x");
        let value = numbers.below(1_000_000);
        writeln!(text, "{key} a={value}.25,b={value}i,c=\"text\n{host}\" {time}").unwrap();
        if at % 10 == 0 {
            let again = numbers.below(100);
            later.push(format!("{key} a={again},d={} {time}\n", again.is_multiple_of(2)));
        }
    }
    text.extend(later);
    text
}

fn written(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("in.lp");
    std::fs::write(&path, text).unwrap();
    path
}

fn gapless<'a>(arguments: impl IntoIterator<Item = &'a str>, memory: &str) -> Gapless {
    Gapless::new(arguments).args(["--quiet", "--memory", memory])
}

fn report(arguments: [&str; 3], memory: &str) -> serde_json::Value {
    let ran = gapless(arguments, memory).args(["--json"]).run().expect_status(0);
    serde_json::from_str(&ran.out()).unwrap()
}

#[test]
fn what_is_spilled_is_handed_on_as_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), &shuffled(7, 150_000, 5));
    let file = file.to_str().unwrap();
    let spilled = gapless(["cat", file], "16").run().expect_status(0);
    let held = gapless(["cat", file], "1024").run().expect_status(0);
    assert!(held.stdout.len() > 10 << 20, "{}", held.stdout.len());
    assert!(spilled.stdout == held.stdout, "cat gives other bytes where rows are spilled");

    let one = report(["copy", file, dir.path().join("a").to_str().unwrap()], "16");
    let two = report(["copy", file, dir.path().join("b").to_str().unwrap()], "1024");
    assert!(one["lines"]["spilled_bytes"].as_u64().unwrap() > 1 << 20, "{}", one["lines"]);
    assert_eq!(two["lines"]["spilled_bytes"], 0);
    assert_eq!(one["lines"]["superseded"], two["lines"]["superseded"]);
    assert!(one["lines"]["superseded"].as_u64().unwrap() >= 15_000, "{}", one["lines"]);
    assert_eq!(one["source_digest"], two["source_digest"]);
    assert_eq!(one["verdict"], "identical");
    assert_eq!(one["counts"], two["counts"]);
}

#[test]
fn a_window_of_what_is_spilled_goes_into_a_server() {
    let server = Influxd::start();
    server.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), &shuffled(11, 120_000, 3));
    let file = file.to_str().unwrap();
    // From the middle of one week to the middle of the next, to the second.
    let (start, end) = (START + WEEK / 2 + SECOND, START + WEEK + WEEK / 3);
    let window = ["--start", &start.to_string(), "--end", &end.to_string()];
    let copy = ["copy", file, &server.location("d")];
    let one = gapless(copy, "16").args(window).run().expect_status(0).expect_out("IDENTICAL");
    one.expect_out("superseded");
    gapless(["verify", file, &server.location("d")], "1024").args(window).run().expect_status(0);
    gapless(["verify", file, &server.location("d")], "16").args(window).run().expect_status(0);
}

#[test]
fn a_hundred_thousand_series_are_compared_where_few_fit() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for at in 0..100_000 {
        writeln!(text, "m,id={at:x},region=eu v={at}i {}", START + at % 7).unwrap();
    }
    let file = written(dir.path(), &text);
    let (file, archive) = (file.to_str().unwrap(), dir.path().join("a"));
    let archive = archive.to_str().unwrap();
    gapless(["copy", file, archive], "16").run().expect_status(0).expect_out("IDENTICAL");

    // One value changed, one row missing, one row more: each is named, and nothing else.
    let changed = text.replacen("m,id=10,region=eu v=16i", "m,id=10,region=eu v=17i", 1).replacen(
        "m,id=fff,",
        "m,id=other,",
        1,
    );
    let other = dir.path().join("other.lp");
    std::fs::write(&other, changed).unwrap();
    let ran = gapless(["verify", other.to_str().unwrap(), archive], "16").run().expect_status(1);
    ran.expect_out("missing_in_destination 1   extra_in_destination 1   value_changed 1")
        .expect_out("m,id=10,region=eu")
        .expect_out("source 17i, destination 16i")
        .expect_out("m,id=fff,region=eu")
        .expect_out("m,id=other,region=eu")
        .expect_out("matched 99,998");
}

#[test]
fn a_line_of_megabytes_and_thousands_of_fields_fit() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for at in 0..12_u64 {
        let long = "x\n\\\"y".repeat(200_000);
        writeln!(text, "long s=\"{long}{at}\",i={at}i {}", START + at % 5).unwrap();
    }
    for at in 0..20_000_u64 {
        writeln!(text, "wide f{}={at} {}", at % 4_000, START + at / 4_000).unwrap();
    }
    let file = written(dir.path(), &text);
    let file = file.to_str().unwrap();
    let spilled = gapless(["cat", file], "32").run().expect_status(0);
    let held = gapless(["cat", file], "1024").run().expect_status(0);
    assert!(spilled.stdout == held.stdout, "cat gives other bytes where rows are spilled");
    let archive = dir.path().join("a");
    let copy = ["copy", file, archive.to_str().unwrap()];
    gapless(copy, "32").run().expect_status(0).expect_out("IDENTICAL");
}

#[test]
fn a_place_that_cannot_be_used_is_named_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), &shuffled(13, 120_000, 1));
    let (file, archive) = (file.to_str().unwrap(), dir.path().join("a"));
    let missing = dir.path().join("not there");
    let copy = ["copy", file, archive.to_str().unwrap(), "--spill", missing.to_str().unwrap()];
    let ran = gapless(copy, "16").run().expect_status(4);
    ran.expect_err("not there").expect_err("nothing was sent").expect_err("--spill DIR");
    assert!(!archive.exists());
}

#[test]
fn nothing_is_left_where_rows_were_spilled() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("spill");
    std::fs::create_dir(&place).unwrap();
    let file = written(dir.path(), &shuffled(17, 120_000, 1));
    let spill = ["--spill", place.to_str().unwrap()];
    let copy = ["copy", file.to_str().unwrap(), "null:"];
    let mut running = gapless(copy, "16").args(spill).spawn();
    std::thread::sleep(std::time::Duration::from_millis(300));
    running.is_running();
    running.kill9();
    gapless(copy, "16").args(spill).run().expect_status(0);
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}
