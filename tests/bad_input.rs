//! Whatever is wrong is said, nothing is lost without a word, and no bytes bring the command down.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

fn gapless(dir: &Path, arguments: &[&str]) -> Gapless {
    Gapless::new(arguments).dir(dir).arg("--quiet")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    member.write_all(bytes).unwrap();
    member.finish().unwrap()
}

fn lines(count: u64) -> Vec<u8> {
    (0..count).map(|at| format!("m,h=a v={at} {at}\n")).collect::<String>().into_bytes()
}

#[test]
fn a_file_that_is_cut_short_or_damaged_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    server.create_database("db");
    let whole = lines(50_000);
    let gzip = gzip(&whole);
    let zstd = zstd::encode_all(&whole[..], 3).unwrap();
    let mut flipped = gzip.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let cases: [(&str, &[u8]); 3] = [
        ("cut.gz", &gzip[..gzip.len() - 5]),
        ("cut.zst", &zstd[..zstd.len() / 2]),
        ("flipped.gz", &flipped),
    ];
    for (name, bytes) in cases {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        let ran = gapless(dir.path(), &["copy", name, &server.location("db")]).run();
        ran.expect_status(4).expect_err(&format!("error: {name}, byte "));
        let ran = gapless(dir.path(), &["cat", name]).run().expect_status(4);
        assert!(ran.stdout.is_empty(), "{}", ran.describe());
    }
    assert_eq!(server.count("db", ""), 0);
}

#[test]
fn what_cannot_be_read_or_is_nothing_known_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let error = |arguments: &[&str]| gapless(dir.path(), arguments).run().expect_status(4);
    error(&["cat", "absent.lp"]).expect_err("absent.lp").expect_err("No such file");
    error(&["cat", "empty"]).expect_err("empty: the directory is nothing known");
    error(&["copy", "absent.lp", "null:"]).expect_err("absent.lp");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.lp"), "m v=1 1\n").unwrap();
    let usage = |arguments: &[&str]| gapless(dir.path(), arguments).run().expect_status(2);
    usage(&["copy", "a.lp", "null:", "--start", "2020-01-02", "--end", "2020-01-01"])
        .expect_err("the window is empty");
    usage(&["copy", "a.lp", "./a.lp"]).expect_err("source and destination are the same");
    let server = "influxdb://127.0.0.1:1/db";
    usage(&["verify", server, server]).expect_err("source and destination are the same");
    usage(&["copy", "a.lp", "http://127.0.0.1:8086/db"])
        .expect_err("write influxdb://127.0.0.1:8086/db");
    usage(&["copy", "a.lp", "influxdb://u:canary@127.0.0.1:1/db"]).expect_nowhere("canary");
    usage(&["copy", "a.lp", "-"]).expect_err("gapless cat");
    usage(&["cat", "a.lp", "--precision", "days"]).expect_err("no precision");
    usage(&["cat", "a.lp", "--start", "yesterday"]).expect_err("is no time");
    usage(&["cat", "a.lp", "--tag", "host"]).expect_err("is no tag");
    usage(&["cat"]);
}

#[test]
fn servers_that_are_not_there_or_say_no_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.lp"), "m v=1 1\n").unwrap();
    let copy = |location: &str| gapless(dir.path(), &["copy", "a.lp", location]);

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = copy(&format!("influxdb://{free}/db")).run().expect_status(4);
    refused.expect_err(&free.to_string()).expect_err("next:");

    let server = Influxd::start();
    server.create_database("db");
    let unknown = copy(&server.location("nodb")).run().expect_status(4);
    unknown.expect_err("database \"nodb\" not found").expect_err("--create");
    let unknown = copy(&server.location("db/norp")).run().expect_status(4);
    unknown.expect_err("retention policy \"norp\" of database \"db\" not found");
    let unknown = gapless(dir.path(), &["cat", &server.location("nodb")]).run().expect_status(4);
    unknown.expect_err("nodb");
    copy(&server.location("")).run().expect_status(2).expect_err("names no database");

    let closed = Influxd::builder().auth("admin", "canary-right").start();
    closed.create_database("db");
    let wrong = copy(&closed.location("db")).env("GAPLESS_DESTINATION_PASSWORD", "canary-wrong");
    let wrong = wrong.run().expect_status(4).expect_err("GAPLESS_DESTINATION_PASSWORD");
    wrong.expect_nowhere("canary");
    let right = copy(&closed.location("db")).env("GAPLESS_DESTINATION_PASSWORD", "canary-right");
    right.run().expect_status(0).expect_nowhere("canary");
    let file = dir.path().join("password");
    std::fs::write(&file, "canary-right\n").unwrap();
    let by_file = copy(&closed.location("db")).arg("--destination-password-file").arg(&file);
    by_file.run().expect_status(0).expect_nowhere("canary");
}

#[test]
fn certificates_are_verified() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.lp"), "m v=1 1\n").unwrap();
    let server = Influxd::builder().https().start();
    server.create_database("db");
    let copy = || gapless(dir.path(), &["copy", "a.lp", &server.location("db")]);
    copy().run().expect_status(4).expect_err("--ca");
    copy().arg("--ca").arg(server.ca()).run().expect_status(0).expect_out("IDENTICAL");
}

#[test]
fn a_window_with_nothing_in_it_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.lp"), "m v=1 1\n").unwrap();
    std::fs::write(dir.path().join("none.lp"), "").unwrap();
    let server = Influxd::start();
    server.create_database("db");
    for arguments in [
        &["copy", "a.lp", &server.location("db"), "--start", "2020-01-01"][..],
        &["verify", "a.lp", &server.location("db"), "--start", "2020-01-01"],
        &["copy", "none.lp", &server.location("db")],
        &["verify", "none.lp", &server.location("db")],
    ] {
        let ran = gapless(dir.path(), arguments).run().expect_status(3);
        ran.expect_out("INCOMPLETE").expect_out("nothing was compared");
    }
}

#[test]
fn bad_lines_are_kept_with_their_reasons_and_the_good_ones_move() {
    let dir = tempfile::tempdir().unwrap();
    let input =
        b"m v=1 1\nm v= 2\nm v=3 3\nno timestamp=1\nm,time=x v=1 5\nm v=\"a\nb\" 6\nm v=1 7\r\n\
        m w=1i,time=3 8";
    std::fs::write(dir.path().join("a.lp"), input).unwrap();
    let server = Influxd::start();
    server.create_database("db");
    // `m v` is float and string in one shard group: that is said before anything is sent.
    let ran = gapless(dir.path(), &["copy", "a.lp", &server.location("db")]).run();
    ran.expect_status(4).expect_err("1 string cells, where the first cell is float");
    assert_eq!(server.count("db", ""), 0);

    let input = String::from_utf8_lossy(input).replace("v=\"a\nb\"", "s=\"a\nb\"");
    let ran = gapless(dir.path(), &["copy", "-", &server.location("db")]).stdin(input).run();
    let ran = ran.expect_status(3).expect_out("INCOMPLETE").expect_out("5 rows were rejected");
    let ran = ran.expect_err("line 2, column 4: rejected: missing field value").expect_err("CR LF");
    assert_eq!(server.count("db", ""), 4, "{}", ran.describe());
    // The first run rejected the same lines into a file of its own.
    let rejects = std::fs::read_to_string(dir.path().join("gapless-rejected.lp.2")).unwrap();
    assert!(rejects.contains("# -, line 2, column 4: missing field value\nm v= 2\n"), "{rejects}");
    assert!(rejects.contains("\nno timestamp=1\n"), "{rejects}");
    assert!(rejects.contains("\nm,time=x v=1 5\n"), "{rejects}");
}

#[test]
fn rows_that_a_server_refuses_are_set_aside_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::builder().config("data", "max-values-per-tag = 50").start();
    server.create_database("db");
    let lines = |count: u64| (0..count).map(|at| format!("m,h=h{at} v={at} {at}\n"));
    // The limit counts what was there before the request.
    server.write("db", lines(50).collect::<String>());
    let input: String = lines(60).collect();
    let ran = gapless(dir.path(), &["copy", "-", &server.location("db")]).stdin(input).run();
    let ran = ran.expect_status(3).expect_out("INCOMPLETE").expect_out("10 rows were rejected");
    ran.expect_out("matched 50").expect_out("max-values-per-tag limit exceeded");
    assert_eq!(server.count("db", ""), 50);
    let rejects = std::fs::read_to_string(dir.path().join("gapless-rejected.lp")).unwrap();
    assert_eq!(rejects.lines().filter(|line| line.starts_with("m,h=")).count(), 10);
}

/// A small linear congruential generator: the same bytes in every run.
fn noise(seed: u64, length: usize, alphabet: &[u8]) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    (0..length)
        .map(|_| {
            if alphabet.is_empty() {
                next().to_le_bytes()[0]
            } else {
                alphabet[next() % alphabet.len()]
            }
        })
        .collect()
}

/// Runs with at most 1 GiB of address space.
fn bounded(dir: &Path, input: Vec<u8>) -> Ran {
    let command =
        format!("ulimit -v 1048576; exec {} cat - --quiet", env!("CARGO_BIN_EXE_gapless"));
    Gapless::program("sh", ["-c", &command]).dir(dir).stdin(input).run()
}

#[test]
fn no_bytes_on_standard_input_bring_it_down() {
    let alphabets: [&[u8]; 3] =
        [b"", b"m v=1,i\"\\ #\n\r\t e.-+tfTF0", b"\x1f\x8b\x08\x00\x28\xb5\x2f\xfd m=1\n"];
    for seed in 0..30 {
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let mut input = noise(seed, 200_000, alphabets[usize::try_from(seed % 3).unwrap()]);
        match seed % 5 {
            3 => drop(input.splice(..0, [0x1f, 0x8b, 8, 0])),
            4 => drop(input.splice(..0, [0x28, 0xb5, 0x2f, 0xfd])),
            _ => {}
        }
        let ran = bounded(dir.path(), input);
        assert!(matches!(ran.status, Some(0 | 3 | 4)), "seed {seed}: {}", ran.describe());
        assert!(!ran.err().contains("panicked"), "seed {seed}: {}", ran.describe());
    }
}

#[test]
fn an_endless_line_meets_a_limit_and_a_bomb_is_spilled() {
    let dir = tempfile::tempdir().unwrap();
    let mut endless = b"m v=\"".to_vec();
    endless.resize(120 << 20, b'x');
    bounded(dir.path(), endless).expect_status(4).expect_err("quote that is never closed");

    // Rows of a hundred megabytes in a few hundred kilobytes of gzip: more than memory may hold.
    let block = lines(100_000);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for round in 0..60 {
        let block = String::from_utf8_lossy(&block).replace("h=a", &format!("h={round}"));
        bomb.write_all(block.as_bytes()).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let ran = bounded(dir.path(), bomb).expect_status(0);
    assert_eq!(ran.stdout.iter().filter(|byte| **byte == b'\n').count(), 60 * 100_000);
}

#[test]
fn what_the_destinations_retention_would_drop_is_counted_and_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    server.query("CREATE DATABASE db WITH DURATION 2h SHARD DURATION 1h NAME short");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_nanos()).unwrap();
    let minute = 60_000_000_000;
    // A point a minute over ten hours: the last two are kept.
    let input: String =
        (0..600).map(|at| format!("m v={at},w={at}i {}\n", now - at * minute)).collect();
    let copy = |more: &[&str]| {
        let copy = gapless(dir.path(), &["copy", "-", &server.location("db")]).args(more);
        copy.stdin(input.clone()).run()
    };
    let ran = copy(&[]).expect_status(0).expect_out("IDENTICAL").expect_out("requests ");
    let ran = ran
        .expect_out("cells older than")
        .expect_out("the retention policy of db.short drops them");
    let kept = server.count("db", "");
    assert!((2 * 117..=2 * 120).contains(&kept), "{kept}: {}", ran.describe());

    // Asked for by name, they make the run incomplete.
    let start = (now - 5 * 60 * minute).to_string();
    copy(&["--start", &start]).expect_status(3).expect_out("INCOMPLETE");
}
