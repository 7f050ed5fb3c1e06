//! The main job on the shipped real data: file to server, to archive, and from one to the other,
//! proven each time, and nothing sent twice.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Cells of `testdata/nab.lp.zst`: 365,558 lines of one cell, 49 of them superseded.
const CELLS: u64 = 365_509;

fn nab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/nab.lp.zst")
}

fn nab_lines() -> Vec<u8> {
    let mut lines = Vec::new();
    zstd::Decoder::new(File::open(nab()).unwrap()).unwrap().read_to_end(&mut lines).unwrap();
    lines
}

fn gapless(arguments: &[&str]) -> Gapless {
    Gapless::new(arguments).arg("--quiet")
}

fn expect_identical(ran: Ran) -> Ran {
    ran.expect_status(0).expect_out("IDENTICAL").expect_out("100 % of 365,509 cells")
}

#[test]
fn real_data_goes_into_a_server_and_is_proven_to_be_there() {
    let server = Influxd::start();
    server.create_database("nab");
    let file = nab();
    let (file, location) = (file.to_str().unwrap(), server.location("nab"));

    let first = expect_identical(gapless(&["copy", file, &location]).run());
    first
        .expect_out("superseded 49")
        .expect_out("sent 365,509 cells")
        .expect_out("already there 0");
    assert_eq!(server.count("nab", ""), CELLS);

    let second = expect_identical(gapless(&["copy", file, &location]).run());
    second.expect_out("sent 0 cells").expect_out("already there 365,509");
    expect_identical(gapless(&["verify", file, &location]).run());
}

#[test]
fn gzip_and_standard_input_give_the_same() {
    let server = Influxd::start();
    let lines = nab_lines();
    let dir = tempfile::tempdir().unwrap();
    // Two members, as `cat a.gz b.gz` makes them; the name says nothing about the content.
    let path = dir.path().join("nab.txt");
    let mut file = File::create(&path).unwrap();
    let half =
        lines.len() / 2 + lines[lines.len() / 2..].iter().position(|&b| b == b'\n').unwrap() + 1;
    for part in [&lines[..half], &lines[half..]] {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        member.write_all(part).unwrap();
        file.write_all(&member.finish().unwrap()).unwrap();
    }
    drop(file);

    server.create_database("gzip");
    let gzip = gapless(&["copy", path.to_str().unwrap(), &server.location("gzip"), "--gzip"]).run();
    expect_identical(gzip);
    let stdin = gapless(&["copy", "-", &server.location("stdin"), "--create"]).stdin(lines).run();
    expect_identical(stdin);
    assert_eq!((server.count("gzip", ""), server.count("stdin", "")), (CELLS, CELLS));
    expect_identical(
        gapless(&["verify", &server.location("gzip"), &server.location("stdin")]).run(),
    );
}

#[test]
fn an_archive_carries_the_data_to_a_server() {
    let server = Influxd::start();
    server.create_database("nab");
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("nab.archive");
    let (file, archive) = (nab(), archive.to_str().unwrap());
    let file = file.to_str().unwrap();

    expect_identical(gapless(&["copy", file, archive]).run()).expect_out("superseded 49");
    assert!(!Path::new(&format!("{archive}.partial")).exists());
    let again = gapless(&["copy", file, archive]).run();
    expect_identical(again);
    expect_identical(gapless(&["copy", archive, &server.location("nab")]).run());
    assert_eq!(server.count("nab", ""), CELLS);
    expect_identical(gapless(&["verify", archive, &server.location("nab")]).run());
    expect_identical(gapless(&["verify", file, archive]).run());

    let back = dir.path().join("back.archive");
    expect_identical(gapless(&["copy", &server.location("nab"), back.to_str().unwrap()]).run());
}

#[test]
fn only_the_window_is_moved_and_judged() {
    let server = Influxd::start();
    server.create_database("nab");
    let file = nab();
    let file = file.to_str().unwrap();
    let window = ["--start", "2014-04-01", "--end", "2014-04-08T00:00:00Z"];

    let moved = gapless(&["copy", file, &server.location("nab")]).args(window).run();
    let moved = moved.expect_status(0).expect_out("IDENTICAL");
    let inside = server.count("nab", "");
    assert!(inside > 1_000 && inside < CELLS, "{inside}\n{}", moved.describe());
    gapless(&["verify", file, &server.location("nab")]).args(window).run().expect_status(0);
    gapless(&["verify", file, &server.location("nab")]).run().expect_status(1);
}

#[test]
fn null_counts_and_proves_nothing() {
    let file = nab();
    let ran = gapless(&["copy", file.to_str().unwrap(), "null:"]).run().expect_status(0);
    ran.expect_out("COUNTED").expect_out("365,509").expect_out("nothing was stored or compared");
}

#[test]
fn the_report_is_the_same_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a");
    let report = dir.path().join("report.json");
    let file = nab();
    let ran = gapless(&["copy", file.to_str().unwrap(), archive.to_str().unwrap(), "--json"])
        .args(["--report", report.to_str().unwrap()])
        .run()
        .expect_status(0);
    let json: serde_json::Value = serde_json::from_str(&ran.out()).unwrap();
    assert_eq!(json["verdict"], "identical");
    assert_eq!(json["counts"]["matched"], CELLS);
    assert_eq!(json["lines"]["superseded"], 49);
    assert_eq!(json["source_digest"], json["destination_digest"]);
    assert_eq!(std::fs::read_to_string(report).unwrap(), ran.out());
}

#[test]
fn an_archive_of_some_series_says_nothing_of_others() {
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", "cpu v=1 1000\nmem v=1 1000\nmem v=2 2000\n");
    let dir = tempfile::tempdir().unwrap();
    let (archive, location) = (dir.path().join("a"), server.location("db"));
    let archive = archive.to_str().unwrap();
    let run = |arguments: &[&str]| gapless(arguments).run();
    run(&["copy", &location, archive, "--measurement", "cpu"]).expect_status(0);
    run(&["verify", archive, &location])
        .expect_status(0)
        .expect_out("series other than those of --measurement cpu");
    run(&["verify", &location, archive]).expect_status(0);
    run(&["verify", archive, &location, "--measurement", "mem"]).expect_status(2).expect_err("cpu");

    let digest = dir.path().join("cpu.digest");
    let digest = digest.to_str().unwrap();
    run(&["digest", archive, "-o", digest]).expect_status(0);
    run(&["verify", digest, &location]).expect_status(0);
    let all = dir.path().join("all.digest");
    let all = all.to_str().unwrap();
    run(&["digest", &location, "-o", all]).expect_status(0);
    run(&["verify", all, archive]).expect_status(2).expect_err("--measurement cpu");
    // A copy of it says so in turn, and the whole is not what it holds.
    let other = dir.path().join("b");
    let other = other.to_str().unwrap();
    run(&["copy", archive, other]).expect_status(0);
    run(&["verify", other, &location]).expect_status(0);
    assert_ne!(run(&["copy", &location, archive]).status, Some(0));
}
