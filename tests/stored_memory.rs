//! A server's own files that do not fit in memory: what each of several shards may take is bounded, and
//! what does not fit is read all the same.
//!
//! The bound is that of the documentation: `--memory` and 64 MiB. What counts is memory that is no file's
//! (`RssAnon`): pages of files are the system's to take back.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

const START: u64 = 1_600_000_000;
const WEEK: u64 = 604_800;
/// The least that `--memory` takes.
const MEMORY: &str = "16";
const BOUND_KIB: u64 = (16 + 64) << 10;

/// Runs to the end; gives also the most memory of its own that was seen, KiB.
fn peak(gapless: Gapless) -> (Ran, u64) {
    let mut running = gapless.spawn();
    let status = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    while running.is_running() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
        let kib = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        peak = std::cmp::max(peak, kib);
        std::thread::sleep(Duration::from_millis(5));
    }
    (running.wait(), peak)
}

/// A server that leaves all that is written in its log.
fn with_log() -> Influxd {
    let server = Influxd::builder()
        .config("data", "cache-snapshot-memory-size = \"1g\"")
        .config("data", "cache-max-memory-size = \"2g\"")
        .config("data", "cache-snapshot-write-cold-duration = \"24h\"")
        .start();
    server.create_database("d");
    server
}

fn delete(server: &Influxd, statement: &str) {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("db=d&q={}", statement.replace('=', "%3D").replace('\'', "%27"));
    assert_eq!(server.request("POST", "/query", &form, body.as_bytes()).status, 200);
}

/// Bytes of all files below a directory whose names end so.
fn bytes_of(directory: &Path, end: &str) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: std::path::PathBuf| match path.is_dir() {
        true => bytes_of(&path, end),
        false if path.to_str().unwrap().ends_with(end) => path.metadata().unwrap().len(),
        false => 0,
    };
    entries.map(of).sum()
}

#[test]
fn the_logs_of_several_shards_at_once_take_no_more_memory_than_they_may() {
    let server = with_log();
    let mut noise = 1_u64;
    let mut next = || {
        noise =
            noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise >> 20
    };
    for round in 0..10 {
        for week in 0..6 {
            let mut lines = String::new();
            for _ in 0..7_000 {
                let (host, time) = (next() % 500, START + week * WEEK + next() % 200_000);
                let (one, two, text) = (next(), next(), next());
                writeln!(
                    lines,
                    "m,h=h{host} a={one}.25,b={two}i,c=\"text {text:x} {one:x}\" {time}000000000"
                )
                .unwrap();
            }
            server.write("d", lines);
        }
        // Of what was written before, and not of what comes.
        let host = round * 37;
        delete(&server, &format!("DELETE FROM m WHERE h = 'h{host}'"));
    }
    let log = bytes_of(server.data_dir(), ".wal");
    assert!(log > 20 << 20, "{log}");
    assert_eq!(bytes_of(server.data_dir(), ".tsm"), 0);

    let (data, http) = (server.data_dir().to_str().unwrap(), server.location("d"));
    let options = ["--memory", MEMORY, "--jobs", "4", "--quiet", "--end", "2030-01-01"];
    let (ran, most) = peak(Gapless::new(["verify", data, &http, "--db", "d"]).args(options));
    ran.expect_status(0).expect_out("IDENTICAL");
    assert!(most <= BOUND_KIB, "verify: {most} KiB");
    let (ran, most) = peak(Gapless::new(["digest", data, "--db", "d"]).args(options));
    ran.expect_status(0);
    assert!(most <= BOUND_KIB, "digest: {most} KiB");
}

#[test]
fn long_strings_in_the_files_and_the_logs_of_several_shards_fit() {
    let server = with_log();
    let mut noise = 1_u64;
    let mut text = || -> String {
        let mut next = || {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            noise
        };
        (0..625).map(|_| format!("{:016x}", next())).collect()
    };
    let mut write = |measurement: &str, week: u64| {
        let mut lines = String::new();
        for at in 0..1_000 {
            let time = START + week * WEEK + at;
            writeln!(lines, "{measurement} i={at}i,s=\"{}\" {time}000000000", text()).unwrap();
        }
        server.write("d", lines);
    };
    (0..4).for_each(|week| write("m", week));
    server.flush();
    assert!(bytes_of(server.data_dir(), ".tsm") > 16 << 20);
    (0..4).for_each(|week| write("n", week));
    assert!(bytes_of(server.data_dir(), ".wal") > 16 << 20);

    let data = server.data_dir().to_str().unwrap();
    let options = ["--memory", MEMORY, "--quiet", "--end", "2030-01-01", "--jobs"];
    for jobs in ["1", "4"] {
        let digest = Gapless::new(["digest", data, "--db", "d"]).args(options).arg(jobs);
        let (ran, most) = peak(digest);
        ran.expect_status(0).expect_out("16,000 cells");
        assert!(most <= BOUND_KIB, "{jobs} jobs: {most} KiB");
    }
    let verify = ["verify", data, &server.location("d"), "--db", "d"];
    Gapless::new(verify).args(options).arg("1").run().expect_status(0).expect_out("IDENTICAL");
}
