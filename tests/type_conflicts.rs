//! Fields that change their type: between shard groups they move exactly; what one group of the
//! destination cannot hold is named before anything is sent, and then dealt with as chosen.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use std::fmt::Write;
use std::path::Path;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// A Monday, at which shard groups of a week begin.
const MONDAY: i64 = 1_594_598_400 * SECOND;

fn gapless<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Gapless {
    Gapless::new(arguments).arg("--quiet")
}

/// Rows of the field `v` of `m`, ten for each host, from `start` on.
fn rows(start: i64, value: impl Fn(i64) -> String) -> String {
    let mut text = String::new();
    for at in 0..10 {
        for host in ["a", "b"] {
            writeln!(text, "m,host={host} v={},other=1.5 {}", value(at), start + at * SECOND)
                .unwrap();
        }
    }
    text
}

fn written(dir: &Path, text: &str) -> String {
    let path = dir.join("in.lp");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn copy(dir: &Path, file: &str, to: &str, options: &[&str]) -> Ran {
    gapless(["copy", file, to]).args(options).dir(dir).run()
}

#[test]
fn a_type_for_each_shard_group_moves_exactly() {
    let server = Influxd::start();
    server.create_database("d");
    server.create_database("e");
    let dir = tempfile::tempdir().unwrap();
    let text = rows(MONDAY, |at| format!("{at}i"))
        + &rows(MONDAY + 7 * DAY, |at| format!("{at}.5"))
        + &rows(MONDAY + 14 * DAY, |at| format!("\"text {at}\""))
        + &rows(MONDAY + 21 * DAY, |at| (at % 2 == 0).to_string());
    let file = written(dir.path(), &text);
    copy(dir.path(), &file, &server.location("d"), &[]).expect_status(0).expect_out("IDENTICAL");
    let there = gapless(["copy", &server.location("d"), &server.location("e")]).run();
    there.expect_status(0).expect_out("IDENTICAL").expect_out("sent 160 cells");
    gapless(["verify", &file, &server.location("e")]).run().expect_status(0);
}

#[test]
fn a_conflict_inside_one_group_is_named_before_anything_is_sent() {
    let server = Influxd::start();
    server.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    // Without the conflict the first week would have been sent before the second is looked at.
    let text = rows(MONDAY, |at| format!("{at}i"))
        + &rows(MONDAY + 8 * DAY, |at| format!("{at}i"))
        + &rows(MONDAY + 10 * DAY, |at| format!("\"{at}\""));
    let file = written(dir.path(), &text);
    let ran = copy(dir.path(), &file, &server.location("d"), &[]).expect_status(4);
    ran.expect_err("field v of measurement m in d")
        .expect_err("20 string cells, where the first cell is integer")
        .expect_err("2020-07-20T00:00:00Z to 2020-07-27T00:00:00Z")
        .expect_err("nothing was sent")
        .expect_err("--on-type-conflict");
    assert_eq!(server.count("d", ""), 0);
}

#[test]
fn rejected_cells_are_set_aside_and_the_rest_is_sent() {
    let server = Influxd::start();
    server.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    let text = rows(MONDAY + DAY, |at| format!("\"{at}\"")) + &rows(MONDAY, |at| format!("{at}i"));
    let file = written(dir.path(), &text);
    let options = ["--on-type-conflict", "reject", "--reject", "aside.lp"];
    let ran = copy(dir.path(), &file, &server.location("d"), &options).expect_status(3);
    // The earliest cell decides, wherever it stands in the file.
    ran.expect_out("INCOMPLETE")
        .expect_out("20 cells of 1 fields had a type that the destination cannot hold")
        .expect_out("types: v of m in d.autogen")
        .expect_out("integer kept, 20 string not")
        .expect_out("sent 60 cells")
        .expect_out("rejected 20");
    assert_eq!(server.count("d", ""), 60);
    let aside = std::fs::read_to_string(dir.path().join("aside.lp")).unwrap();
    assert_eq!(
        aside.matches("field type conflict: field v of measurement m").count(),
        1,
        "{aside}"
    );
    assert_eq!(aside.lines().filter(|line| line.starts_with("m,host=")).count(), 20, "{aside}");
    // What was set aside is line protocol: it goes where its type fits.
    server.create_database("e");
    let aside = dir.path().join("aside.lp");
    let again = copy(dir.path(), aside.to_str().unwrap(), &server.location("e"), &[]);
    again.expect_status(0).expect_out("sent 20 cells");
}

#[test]
fn what_can_be_cast_exactly_is_cast_and_the_verdict_says_so() {
    let server = Influxd::start();
    server.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    server.post_write("d", "", rows(MONDAY, |at| format!("{at}.5")), "ns");
    let file = written(dir.path(), &rows(MONDAY + DAY, |at| format!("{at}i")));
    let cast = ["--on-type-conflict", "cast"];
    let ran = copy(dir.path(), &file, &server.location("d"), &cast).expect_status(0);
    ran.expect_out("CAST   ").expect_out("20 cast, 0 rejected").expect_out("sent 40 cells");
    let sum = server.query("SELECT sum(v) FROM d..m WHERE time >= '2020-07-14T00:00:00Z'");
    assert!(format!("{sum:?}").contains("90"), "{sum:?}");
    // Again: all is there, and the verdict still names the cast.
    let ran = copy(dir.path(), &file, &server.location("d"), &cast).expect_status(0);
    ran.expect_out("CAST   ").expect_out("sent 0 cells");
}

#[test]
fn what_cannot_be_cast_exactly_is_rejected() {
    let server = Influxd::start();
    server.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    server.post_write("d", "", "m,host=a v=1i 1594598400000000000\n", "ns");
    let text = "m,host=a v=2.0 1594598401000000000\nm,host=a v=2.5 1594598402000000000\n\
                m,host=a v=\"3\" 1594598403000000000\n";
    let file = written(dir.path(), text);
    let options = ["--on-type-conflict", "cast"];
    let ran = copy(dir.path(), &file, &server.location("d"), &options).expect_status(3);
    ran.expect_out("INCOMPLETE").expect_out("1 cast, 2 rejected").expect_out("rejected 2");
    assert_eq!(server.count("d", ""), 2);
}

#[test]
fn the_destination_is_asked_for_its_whole_shard_group_and_not_for_the_window() {
    let server = Influxd::start();
    server.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    server.post_write("d", "", rows(MONDAY + 5 * DAY, |at| format!("{at}.5")), "ns");
    let file = written(dir.path(), &rows(MONDAY, |at| format!("{at}i")));
    let window = ["--start", "2020-07-13", "--end", "2020-07-14"];
    let ran = copy(dir.path(), &file, &server.location("d"), &window).expect_status(4);
    ran.expect_err("20 integer cells, where the destination holds float");
    assert_eq!(server.count("d", ""), 40, "nothing was sent");
}

#[test]
fn two_groups_of_a_source_that_become_one_are_found() {
    let source = Influxd::start();
    source.query("CREATE DATABASE d WITH SHARD DURATION 1d NAME rp");
    source.post_write("d", "rp", rows(MONDAY, |at| format!("{at}i")), "ns");
    source.post_write("d", "rp", rows(MONDAY + DAY, |at| format!("{at}.5")), "ns");
    let destination = Influxd::start();
    destination.query("CREATE DATABASE d WITH SHARD DURATION 7d NAME rp");
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (source.location("d"), destination.location("d"));
    let ran = copy(dir.path(), &from, &to, &[]).expect_status(4);
    ran.expect_err("20 float cells, where the first cell is integer");
    let ran = copy(dir.path(), &from, &to, &["--on-type-conflict", "reject"]).expect_status(3);
    ran.expect_out("20 rejected").expect_out("sent 60 cells");
    // Into shard groups as they are at the source, both types go.
    let same = Influxd::start();
    let created = copy(dir.path(), &from, &same.location("d"), &["--create"]);
    created.expect_status(0).expect_out("IDENTICAL").expect_out("sent 80 cells");
}

#[test]
fn groups_that_are_there_count_and_not_what_the_policy_says_now() {
    let server = Influxd::start();
    let dir = tempfile::tempdir().unwrap();
    // A group of a week stays one, although groups are made for days from now on.
    server.query("CREATE DATABASE shorter WITH SHARD DURATION 7d NAME rp");
    server.post_write("shorter", "rp", rows(MONDAY, |at| format!("{at}.5")), "ns");
    server.query("ALTER RETENTION POLICY rp ON shorter SHARD DURATION 1d");
    let text = rows(MONDAY + 2 * DAY, |at| format!("{at}i"))
        + &rows(MONDAY + 30 * DAY, |at| format!("{at}i"));
    let file = written(dir.path(), &text);
    let location = server.location("shorter/rp");
    let ran = copy(dir.path(), &file, &location, &[]).expect_status(4);
    ran.expect_err("20 integer cells, where the destination holds float");
    assert_eq!(server.count("shorter", ""), 40, "nothing was sent");
    let ran = copy(dir.path(), &file, &location, &["--on-type-conflict", "cast"]);
    ran.expect_status(0).expect_out("20 cast, 0 rejected").expect_out("sent 80 cells");

    // Groups of days stay apart, although a group would be made for a week from now on.
    server.query("CREATE DATABASE longer WITH SHARD DURATION 1d NAME rp");
    let text = rows(MONDAY, |at| format!("{at}.5"))
        + &rows(MONDAY + DAY, |at| format!("\"{at}\""))
        + &rows(MONDAY + 2 * DAY, |at| format!("{at}i"));
    server.post_write("longer", "rp", text.replace("host=", "there="), "ns");
    server.query("ALTER RETENTION POLICY rp ON longer SHARD DURATION 7d");
    let file = written(dir.path(), &text);
    let ran = copy(dir.path(), &file, &server.location("longer/rp"), &[]).expect_status(0);
    ran.expect_out("COMPLETE").expect_out("sent 120 cells").expect_out("rejected 0");
}
