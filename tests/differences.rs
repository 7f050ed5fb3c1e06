//! Planted differences are found, named exactly, and put right where that is safe.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd};
use std::fmt::Write;
use std::path::PathBuf;
use tempfile::TempDir;

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;

/// Three hosts, a point a minute for a day: four fields of four types.
fn day(dir: &TempDir) -> PathBuf {
    let mut lines = String::new();
    for minute in 0..24 * 60 {
        for host in ["a", "b", "c"] {
            let time = START + minute * MINUTE;
            writeln!(
                lines,
                "cpu,host={host} usage={}.5,count={minute}i,up={},note=\"n {minute}\" {time}",
                minute % 100,
                minute % 2 == 0
            )
            .unwrap();
        }
    }
    let path = dir.path().join("day.lp");
    std::fs::write(&path, lines).unwrap();
    path
}

fn influx(server: &Influxd, statement: &str) {
    server.influx_cli(["-database", "db", "-precision", "ns", "-execute", statement]);
}

#[test]
fn each_planted_difference_is_named_by_series_and_hour_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = day(&dir);
    let file = file.to_str().unwrap();
    let server = Influxd::start();
    server.create_database("db");
    let location = server.location("db");
    Gapless::new(["copy", file, &location, "--quiet"]).run().expect_status(0);

    // A changed value at 03:10, a dropped point (four cells) at 05:20, an extra point at 07:30:30.
    let changed = START + 3 * HOUR + 10 * MINUTE;
    influx(&server, &format!("INSERT cpu,host=a usage=99.25 {changed}"));
    let dropped = START + 5 * HOUR + 20 * MINUTE;
    influx(&server, &format!("DELETE FROM cpu WHERE host = 'b' AND time = {dropped}"));
    let extra = START + 7 * HOUR + 30 * MINUTE + MINUTE / 2;
    influx(&server, &format!("INSERT cpu,host=c usage=1.5 {extra}"));

    let verify = Gapless::new(["verify", file, &location, "--json", "--quiet"]).run();
    let verify = verify.expect_status(1);
    let report: serde_json::Value = serde_json::from_str(&verify.out()).unwrap();
    assert_eq!(report["verdict"], "different");
    let places: Vec<(String, i64)> = report["places"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| (place["series"].as_str().unwrap().into(), place["start"].as_i64().unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            ("cpu,host=a".to_owned(), START + 3 * HOUR),
            ("cpu,host=b".to_owned(), START + 5 * HOUR),
            ("cpu,host=c".to_owned(), START + 7 * HOUR),
        ]
    );
    let counts = &report["counts"];
    assert_eq!(counts["value_changed"], 1);
    assert_eq!(counts["missing_in_destination"], 4);
    assert_eq!(counts["extra_in_destination"], 1);
    assert_eq!(counts["matched"], 3 * 24 * 60 * 4 - 5);
    let cells = report["cells"].as_array().unwrap();
    let change = cells.iter().find(|cell| cell["class"] == "value_changed").unwrap();
    assert_eq!((&change["source"], &change["destination"]), (&"90.5".into(), &"99.25".into()));
    assert_eq!((change["time"].as_i64(), &change["field"]), (Some(changed), &"usage".into()));

    // The text names them too.
    let text = Gapless::new(["verify", file, &location, "--quiet"]).run().expect_status(1);
    let text = text.expect_out("DIFFERENT").expect_out("cpu,host=a   2020-07-19T03:00:00Z to");
    text.expect_out("value_changed: source 90.5, destination 99.25")
        .expect_out("next: gapless copy");

    // Copy sends the dropped point, lists the conflict and leaves it, counts the extra one.
    let copy = Gapless::new(["copy", file, &location, "--quiet"]).run().expect_status(1);
    let copy = copy.expect_out("CONFLICTS").expect_out("sent 4 cells in 1 rows");
    copy.expect_out("extra_in_destination 1").expect_out("value_changed 1");
    let after = Gapless::new(["verify", file, &location, "--json", "--quiet"]).run();
    let after: serde_json::Value = serde_json::from_str(&after.expect_status(1).out()).unwrap();
    assert_eq!(after["counts"]["missing_in_destination"], 0);
    assert_eq!(after["counts"]["value_changed"], 1);

    // Forced, the conflict is settled; what is extra does no harm to a copy.
    let forced = Gapless::new(["copy", "--overwrite", file, &location, "--quiet"]).run();
    forced.expect_status(0).expect_out("COMPLETE").expect_out("extra_in_destination 1");
}

#[test]
fn a_series_and_a_field_that_are_wholly_absent_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = day(&dir);
    let file = file.to_str().unwrap();
    let server = Influxd::start();
    server.create_database("db");
    let lines = std::fs::read_to_string(file).unwrap();
    let without_b: Vec<&str> = lines.lines().filter(|line| !line.contains("host=b")).collect();
    let half = without_b.join("\n").replace(",up=true", "");
    server.write("db", half);

    let location = server.location("db");
    let verify = Gapless::new(["verify", file, &location, "--json", "--quiet"]).run();
    let report: serde_json::Value = serde_json::from_str(&verify.expect_status(1).out()).unwrap();
    // All of b, and `up` of the others in every second minute.
    assert_eq!(report["counts"]["missing_in_destination"], 24 * 60 * 4 + 2 * 12 * 60);
    assert_eq!(report["counts"]["extra_in_destination"], 0);
    let copy = Gapless::new(["copy", file, &location, "--quiet"]).run();
    copy.expect_status(0).expect_out("IDENTICAL");
}

#[test]
fn verify_changes_neither_side() {
    let dir = tempfile::tempdir().unwrap();
    let file = day(&dir);
    let server = Influxd::start();
    server.create_database("db");
    Gapless::new(["verify", file.to_str().unwrap(), &server.location("db"), "--quiet"])
        .run()
        .expect_status(1);
    assert_eq!(server.count("db", ""), 0);
}
