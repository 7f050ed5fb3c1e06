//! The gap between a backup and the start of dual write is found, by window and by writer, and filled.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, run::Ran};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// When each host was switched to both servers, in minutes; the last one never was.
const SWITCHED: [i64; 4] = [70, 80, 100, 1_000];

/// Two servers: the second was restored from a backup of the first hour, and dual writers followed.
fn migrated() -> (Influxd, Influxd) {
    let (old, new) = (Influxd::start(), Influxd::start());
    let (mut all, mut kept) = (String::new(), String::new());
    for minute in 0..180 {
        for (host, switched) in SWITCHED.iter().enumerate() {
            let time = START + minute * MINUTE;
            let line = format!("cpu,host=h{host} load={minute}.5,n={host}i {time}\n");
            all.push_str(&line);
            if minute < 60 || minute >= *switched {
                kept.push_str(&line);
            }
        }
    }
    for (server, lines) in [(&old, &all), (&new, &kept)] {
        server.create_database("db");
        server.write("db", lines);
    }
    (old, new)
}

fn gaps(old: &str, new: &str, options: &[&str]) -> Ran {
    let ran = Gapless::new(["gaps", old, new, "--json", "--quiet", "--recheck=10ms"]);
    ran.args(options).run()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out()).unwrap_or_else(|_| panic!("{}", ran.describe()))
}

fn minute(time: &Value) -> i64 {
    (time.as_i64().unwrap() - START) / MINUTE
}

#[test]
fn the_gap_is_found_by_window_and_writer_and_filled() {
    let (old, new) = migrated();
    // A late point, days before the window; and one that was lost after its writer was switched.
    old.write("db", format!("cpu,host=h0 load=7,n=0i {}\n", START - 5 * DAY));
    let lost = START + 150 * MINUTE + 30 * SECOND;
    old.write("db", format!("cpu,host=h1 load=7,n=1i {lost}\n"));
    let (from, to) = (old.location("db"), new.location("db"));
    let ran = gaps(&from, &to, &[]).expect_status(1);
    let report = json(&ran);
    assert_eq!(report["verdict"], "gaps");
    let windows: Vec<(i64, i64)> = report["windows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|window| (minute(&window["start"]), minute(&window["end"])))
        .collect();
    assert_eq!(windows, [(-5 * 24 * 60, -5 * 24 * 60 + 1), (60, 180)], "{report:#}");
    let switched = &report["switched"];
    assert_eq!(switched["not_switched"], serde_json::json!(["h3"]));
    assert_eq!(switched["writers"], 3);
    let times = ["earliest", "median", "latest"].map(|name| minute(&switched[name]));
    assert_eq!(times, [70, 80, 100]);
    let h1 =
        report["writers"].as_array().unwrap().iter().find(|one| one["writer"] == "h1").unwrap();
    assert_eq!(h1["lost_later"], 2, "two fields of one point");
    assert_eq!(minute(&h1["switched"]), 80);

    let next = report["next"].as_str().unwrap();
    assert!(next.starts_with("gapless gaps --copy "), "{next}");
    let text =
        Gapless::new(["gaps", &from, &to, "--quiet", "--recheck=none"]).run().expect_status(1);
    text.expect_out("GAPS")
        .expect_out("not yet switched (1): h3")
        .expect_out("next: gapless gaps --copy");
    let filled = json(&gaps(&from, &to, &["--copy"]).expect_status(0));
    assert_eq!(filled["copy"]["verdict"], "identical", "{filled:#}");
    let missing = filled["gaps"]["counts"]["missing_in_destination"].as_u64().unwrap();
    assert_eq!(filled["copy"]["sent"]["cells"].as_u64().unwrap(), missing);
    let again = json(&gaps(&from, &to, &["--copy"]).expect_status(0));
    assert_eq!(again["verdict"], "no_gaps");
    assert_eq!(again["windows"], serde_json::json!([]));
}

#[test]
fn what_changed_since_a_backup_is_found_from_its_digest_whatever_its_time() {
    let (old, _) = migrated();
    let dir = tempfile::tempdir().unwrap();
    let digest = dir.path().join("backup.digest");
    let digest = digest.to_str().unwrap();
    let from = old.location("db");
    Gapless::new(["digest", &from, "-o", digest, "--quiet"]).run().expect_status(0);
    json(&gaps(&from, digest, &[]).expect_status(0));
    // New, late, written again, deleted.
    old.write("db", format!("cpu,host=h0 load=7 {}\n", START + 170 * MINUTE + SECOND));
    old.write("db", format!("cpu,host=h0 load=7 {}\n", START - 30 * DAY));
    old.write("db", format!("cpu,host=h0 load=7 {}\n", START + 5 * MINUTE));
    let delete = format!("DELETE FROM cpu WHERE host = 'h2' AND time = {}", START + 70 * MINUTE);
    old.influx_cli(["-database", "db", "-execute", &delete]);
    let report = json(&gaps(&from, digest, &[]).expect_status(1));
    let hours: Vec<i64> = report["windows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|window| minute(&window["start"]).div_euclid(60))
        .collect();
    for hour in [-30 * 24, 0, 1, 2] {
        let holds = |window: &Value| {
            let (start, end) = (minute(&window["start"]), minute(&window["end"]));
            start < 60 * hour + 60 && end > 60 * hour
        };
        let found = report["windows"].as_array().unwrap().iter().any(holds);
        let extra = hour == 1 && report["counts"]["extra_in_destination"] == 2;
        assert!(found || extra, "hour {hour} of {hours:?}: {report:#}");
    }
}

#[test]
fn points_that_each_server_gave_its_own_time_are_said_and_never_doubled() {
    let (old, new) = (Influxd::start(), Influxd::start());
    for (server, shift) in [(&old, 0), (&new, 3_700_000)] {
        server.create_database("db");
        let line =
            |n: i64| format!("m,host=a v={n},w={n}i {}\n", START + n * MINUTE + shift * (n + 1));
        server.write("db", (0..100).map(line).collect::<String>());
    }
    old.write("db", format!("m,host=b v=1 {START}\n"));
    let (from, to) = (old.location("db"), new.location("db"));
    let report = json(&gaps(&from, &to, &[]).expect_status(1));
    assert_eq!(report["shifted"], 200);
    let refused = gaps(&from, &to, &["--copy"]).expect_status(3);
    assert!(json(&refused)["reasons"][0].as_str().unwrap().contains("nothing was copied"));
    assert_eq!(new.count("db", ""), 200);
    let only = json(&gaps(&from, &to, &["--copy", "--tag", "host=b"]).expect_status(0));
    assert_eq!(only["copy"]["sent"]["cells"], 1);
    let doubled = gaps(&from, &to, &["--copy", "--send-shifted"]).expect_status(0);
    assert_eq!(json(&doubled)["copy"]["verdict"], "complete");
}

/// Makes all files below a directory an hour older.
fn age(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path());
        } else {
            let file = std::fs::File::options().append(true).open(entry.path()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
        }
    }
}

#[test]
fn only_shards_that_were_touched_since_a_backup_are_read_again() {
    const WEEK: i64 = 7 * DAY;
    let (server, dir) = (Influxd::start(), tempfile::tempdir().unwrap());
    server.create_database("db");
    let line = |week: i64, second: i64, value: i64| {
        format!("cpu,host=h{week} v={value}i {}\n", START + week * WEEK + second * SECOND)
    };
    for week in 0..4 {
        server.write("db", (0..100).map(|second| line(week, second, 1)).collect::<String>());
    }
    server.flush();
    let backup = dir.path().join("backup");
    server.backup(&["-portable", "-database", "db"], &backup).expect_status(0);
    for part in ["data", "wal"] {
        age(&server.data_dir().join(part));
    }
    // A late point, one written again, and one deleted.
    server.write("db", line(1, 200, 1));
    server.write("db", line(1, 7, 2));
    let delete = format!("DELETE FROM cpu WHERE time = {}", START + 3 * WEEK);
    server.influx_cli(["-database", "db", "-execute", &delete]);
    let (from, to) = (server.data_dir().to_str().unwrap(), backup.to_str().unwrap());
    let whole = json(&gaps(from, to, &["--db", "db"]).expect_status(1));
    let touched = ["--db", "db", "--touched-since", "backup"];
    let report = json(&gaps(from, to, &touched).expect_status(1));
    assert_eq!(report["windows"], whole["windows"], "{report:#}");
    for class in ["missing_in_destination", "value_changed", "extra_in_destination"] {
        assert_eq!(report["counts"][class], 1, "{class}: {report:#}");
    }
    // Of four groups the first and the third were not read.
    assert_eq!(whole["counts"]["source"], 400, "one came, one is gone");
    assert_eq!(report["counts"]["source"], 200);
    let said = report["not_covered"].to_string();
    assert!(
        said.contains("2 of 4 shard groups: their files were last written to before"),
        "{said}"
    );
    let later = ["--db", "db", "--touched-since", "2099-01-01"];
    let none = json(&gaps(from, to, &later).expect_status(3));
    assert_eq!(none["verdict"], "incomplete");
    gaps(&server.location("db"), to, &touched[2..]).expect_status(2).expect_err("data directory");
}

#[test]
fn a_window_alone_is_partial_coverage() {
    let (old, new) = migrated();
    let (from, to) = (old.location("db"), new.location("db"));
    let start = (START + 130 * MINUTE).to_string();
    let end = (START + 140 * MINUTE).to_string();
    let window = ["--start", &start, "--end", &end];
    let found = gaps(&from, &to, &window).expect_status(1);
    found.expect_out("partial coverage: only the given window");
    let filled = json(&gaps(&from, &to, &[&window[..], &["--copy"]].concat()).expect_status(3));
    assert_eq!(filled["copy"]["verdict"], "identical");
    let report = json(&gaps(&from, &to, &window).expect_status(3));
    assert_eq!(report["verdict"], "incomplete");
    assert_eq!(report["windows"], serde_json::json!([]));
}

#[test]
fn wrong_arguments_are_refused_and_nothing_compared_is_no_proof() {
    let server = Influxd::start();
    server.create_database("db");
    let (location, dir) = (server.location("db"), tempfile::tempdir().unwrap());
    let archive = dir.path().join("a.archive");
    for bucket in ["7s", "2h", "0s", "soon"] {
        gaps(&location, archive.to_str().unwrap(), &["--bucket", bucket]).expect_status(2);
    }
    let file = dir.path().join("empty.lp");
    std::fs::write(&file, "").unwrap();
    let report = json(&gaps(file.to_str().unwrap(), &location, &[]).expect_status(3));
    assert_eq!(report["verdict"], "incomplete");
}
