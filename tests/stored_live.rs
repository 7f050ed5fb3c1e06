//! A data directory that a server is using, and one whose log a restart reads in another order.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The files of a kind below a directory.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // A server takes files and directories away meanwhile.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_str().unwrap().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Points go from the log into files all the time, and files are replaced by others: every point that was
/// acknowledged is found, or it is said that the files moved.
#[test]
fn a_data_directory_under_compaction_shows_every_point_that_was_acknowledged() {
    let tries = std::env::var("GAPLESS_TEST_SNAPSHOTS").map_or(25, |text| text.parse().unwrap());
    let server = Influxd::builder()
        .config("data", "cache-snapshot-memory-size = 20000")
        .config("data", "cache-snapshot-write-cold-duration = \"1s\"")
        .config("data", "compact-full-write-cold-duration = \"1s\"")
        .start();
    server.create_database("db");
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut shown = 0;
    let started = Instant::now();
    // Names of all TSM files that there ever were: GENERATION-LEVEL.tsm.
    let names = Mutex::new(std::collections::BTreeSet::new());
    let compactions = || {
        let names = names.lock().unwrap();
        names.iter().filter(|name: &&String| !name.ends_with("-000000001.tsm")).count()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0_u64;
            while !done.load(Ordering::SeqCst) {
                let lines: String =
                    (at..at + 200).map(|at| format!("m,h=h{} v={at}i {at}\n", at % 7)).collect();
                server.write("db", lines);
                at += 200;
                acknowledged.store(at, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let here = files(&server.data_dir().join("data/db"), ".tsm");
                let here =
                    here.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
                names.lock().unwrap().extend(here);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // Until files were replaced several times.
        let mut tried = 0;
        while tried < tries || (compactions() < 3 && started.elapsed() < Duration::from_secs(60)) {
            tried += 1;
            let before = acknowledged.load(Ordering::SeqCst);
            let ran = Gapless::new(["digest", server.data_dir().to_str().unwrap(), "--db", "db"])
                .args(["--json", "--quiet", "--end", "2030-01-01"])
                .run();
            let report: serde_json::Value = serde_json::from_str(&ran.out()).unwrap_or_default();
            let found = report["digest"]["cells"].as_u64().unwrap_or_default();
            let moving = ran.status == Some(3) && ran.err().contains("files changed each time");
            let enough = found >= before && (ran.status == Some(0) || before == 0);
            shown += u64::from(enough);
            if !enough && !moving {
                done.store(true, Ordering::SeqCst);
            }
            assert!(enough || moving, "{found} of {before} acknowledged\n{}", ran.describe());
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(shown > tries / 2, "{shown} of {tries}");
    assert!(compactions() >= 3, "{:?}", names.lock().unwrap());
    let data = server.data_dir().to_str().unwrap();
    Gapless::new(["verify", data, &server.location("db"), "--db", "db", "--quiet"])
        .args(["--end", "2030-01-01"])
        .run()
        .expect_status(0)
        .expect_out("IDENTICAL");
}

/// A server sorts the files of its log as text when it starts. What was written last is read here, and
/// that the server may say otherwise.
#[test]
fn a_log_that_a_restart_reads_in_another_order_is_read_in_that_of_writing_and_doubted() {
    let mut server = Influxd::start();
    server.create_database("db");
    server.write("db", "m v=1i 1\n");
    server.write("db", "m v=2i 1\n");
    server.kill9();
    let segments = files(&server.data_dir().join("wal/db"), ".wal");
    let [segment] = &segments[..] else { panic!("{segments:?}") };
    let bytes = fs::read(segment).unwrap();
    let first = 5 + u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
    fs::write(segment.with_file_name("_99999.wal"), &bytes[..first]).unwrap();
    fs::write(segment.with_file_name("_100000.wal"), &bytes[first..]).unwrap();
    fs::remove_file(segment).unwrap();
    let data = server.data_dir().to_str().unwrap().to_owned();
    let cat = Gapless::new(["cat", &data, "--db", "db", "--end", "2030-01-01"]).run();
    assert!(cat.out().ends_with("m v=2i 1\n"), "{}", cat.describe());
    let digest = Gapless::new(["digest", &data, "--db", "db", "--end", "2030-01-01"]).run();
    digest.expect_out("in the order of its files' names");
    server.restart();
    let reply = server.query("SELECT v FROM db..m");
    assert_eq!(reply["results"][0]["series"][0]["values"][0][1], 1, "{reply}");
}
