//! What it costs to tell cells apart: of two servers that differ in a few cells, no more is read again
//! than one leaf for each difference, on both sides.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd};
use serde_json::Value;
use std::fmt::Write;

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const SECOND: i64 = 1_000_000_000;
const HOSTS: i64 = 20;
/// Rows of a host, ten seconds apart: ten hours.
const ROWS: i64 = 3_600;
/// Cells of a host in an hour.
const LEAF: u64 = 360 * 3;

/// A row is another where `edited` says so by its host and number, or is left out where that says `None`.
fn rows(edited: impl Fn(i64, i64) -> Option<i64>) -> String {
    let mut lines = String::new();
    for (host, row) in (0..HOSTS).flat_map(|host| (0..ROWS).map(move |row| (host, row))) {
        let time = START + row * 10 * SECOND;
        if let Some(more) = edited(host, row) {
            writeln!(lines, "cpu,host=h{host} a={row}i,b={}i,c={host}.5 {time}", row + more)
                .unwrap();
        }
    }
    lines
}

#[test]
fn ten_differences_cost_no_more_than_ten_leaves_on_each_side() {
    // Some in neighbouring hours, some of one hour, none in the leaf of another.
    let edits = |host: i64, row: i64| match (host, row) {
        (0 | 1, 10) | (2, 400) | (3, 800) | (4, 3_599) | (7, 1_900) | (7, 2_300) => Some(1),
        (5, 1_000) => None,
        _ => Some(0),
    };
    let ours = rows(|host, row| match (host, row) {
        (6, 0) => None,
        _ => Some(0),
    });
    let (one, two) = (Influxd::start(), Influxd::start());
    for (server, lines) in [(&one, ours), (&two, rows(edits))] {
        server.create_database("db");
        server.write("db", lines);
        server.flush();
    }
    let sides = [
        [one.location("db"), two.location("db")],
        [&one, &two].map(|server| server.data_dir().to_str().unwrap().to_owned()),
    ];
    for [source, destination] in sides {
        let ran = Gapless::new(["verify", &source, &destination, "--json", "--quiet"])
            .args(["--recheck", "none"])
            .run()
            .expect_status(1);
        let report: Value = serde_json::from_str(&ran.out()).unwrap();
        let counts = &report["counts"];
        assert_eq!(counts["value_changed"], 7, "{counts:#}");
        assert_eq!(counts["missing_in_destination"], 3, "{counts:#}");
        assert_eq!(counts["extra_in_destination"], 3, "{counts:#}");
        let read = &report["read_again"];
        assert_eq!(read["places"], 9, "{source}: one for each row that differs");
        let cells = read["cells"].as_u64().unwrap();
        assert!(cells > 0 && cells <= 9 * 2 * LEAF, "{source}: {read}");
    }
}
