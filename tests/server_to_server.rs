//! From one real server to another: all databases and retention policies or those named, filters,
//! a source user who may only read, and types that change; each proven by reading both sides.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use std::collections::BTreeSet;

const DAY: i64 = 86_400_000_000_000;

fn gapless(command: &str, source: &str, destination: &str) -> Gapless {
    Gapless::new([command, source, destination, "--quiet", "--end", "2200-01-01"])
}

fn rejects(dir: &tempfile::TempDir) -> String {
    dir.path().join("rejected.lp").to_str().unwrap().to_owned()
}

/// What both commands say of two sides that are the same.
fn expect_identical(ran: Ran) -> Ran {
    ran.expect_status(0).expect_out("IDENTICAL")
}

/// The lines that the destination holds, by `gapless cat`.
fn lines(location: &str) -> BTreeSet<String> {
    let ran = Gapless::new(["cat", location, "--quiet"]).run().expect_status(0);
    ran.out().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn databases(influxd: &Influxd) -> BTreeSet<String> {
    let reply = influxd.query("SHOW DATABASES");
    let rows = reply["results"][0]["series"][0]["values"].as_array();
    rows.into_iter().flatten().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

/// Two databases, three retention policies, names that have to be quoted, and `_internal`.
fn source_of_many() -> Influxd {
    let source = Influxd::start();
    for name in ["one", "b c", "_internal"] {
        source.create_database(name);
    }
    source.query(
        "CREATE RETENTION POLICY \"w h:1\" ON one DURATION INF REPLICATION 1 SHARD DURATION 2h",
    );
    source.write("one", "cpu,host=a v=1i 1\ncpu,host=b v=2i 1\nmem,host=a f=2.5 5");
    let (status, reply) = source.post_write("one", "w h:1", "cpu,host=a v=\"other\" 1", "ns");
    assert_eq!(status, 204, "{reply}");
    source.write("b c", "cpu,host=a v=t 1\ndisk,host=a,path=/ free=7i 9");
    source.write("_internal", "httpd v=1 1");
    source
}

#[test]
fn every_database_and_policy_is_copied_under_its_own_name_and_internal_is_not() {
    let (source, destination) = (source_of_many(), Influxd::start());
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (source.location(""), destination.location(""));
    let refused = gapless("copy", &from, &to).args(["--reject", &rejects(&dir)]).run();
    refused.expect_status(4).expect_err("--create");
    assert!(databases(&destination).is_empty(), "nothing is made unless it is asked for");

    let copied = gapless("copy", &from, &to).args(["--create", "--reject", &rejects(&dir)]).run();
    expect_identical(copied).expect_out("sent 6 cells");
    expect_identical(gapless("verify", &from, &to).run());
    assert_eq!(databases(&destination), BTreeSet::from(["b c".to_owned(), "one".to_owned()]));
    let policies = destination.query("SHOW RETENTION POLICIES ON one");
    let made = common::influxd::rows(&policies);
    let made = made.iter().find(|row| row[0] == "w h:1").expect("the policy");
    assert_eq!((&made[1], &made[2]), (&"0s".into(), &"2h0m0s".into()), "with its settings");
    assert_eq!(lines(&destination.location("one/w%20h:1")).len(), 1);
}

#[test]
fn what_is_named_is_copied_to_the_name_that_the_destination_gives() {
    let (source, destination) = (source_of_many(), Influxd::start());
    destination.create_database("other");
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let ran = gapless("copy", &source.location(from), &destination.location(to));
        ran.args(["--create", "--reject", &rejects(&dir)]).run()
    };
    expect_identical(copy("one/w%20h:1", "other/autogen")).expect_out("sent 1 cells");
    assert_eq!(lines(&destination.location("other")), lines(&source.location("one/w%20h:1")));
    expect_identical(copy("_internal", "kept")).expect_out("sent 1 cells");
    expect_identical(copy("b%20c", "third")).expect_out("sent 2 cells");
    assert_eq!(lines(&destination.location("third")), lines(&source.location("b%20c")));
    expect_identical(
        gapless("verify", &source.location("b%20c"), &destination.location("third")).run(),
    );

    // Two that would become one are refused before anything is made or sent.
    copy("", "fifth").expect_status(2).expect_err("would both become");
    copy("one", "fifth/autogen").expect_status(2).expect_err("would both become");
    assert!(!databases(&destination).contains("fifth"));
}

#[test]
fn filters_by_measurement_tag_and_exclusion_hold_on_both_sides() {
    let (source, destination) = (Influxd::start(), Influxd::start());
    let dir = tempfile::tempdir().unwrap();
    for server in [&source, &destination] {
        server.create_database("d");
    }
    let rows = [
        "cpu,dc=x,host=a v=1.0 1",
        "cpu,dc=x,host=b v=2.0 1",
        "cpu,dc=x,host=it's v=3.0 1",
        "cpu,dc=x v=4.0 1",
        "mem,dc=x,host=a v=5.0 1",
        "mem,dc=y,host=a v=6.0 1",
        "disk,dc=x,host=a v=7.0 1",
    ];
    source.write("d", rows.join("\n"));
    // What the filter leaves out at the destination is no difference.
    destination.write("d", "cpu,host=z v=0 1\ndisk,host=a,dc=x v=0 1");
    let (from, to) = (source.location("d"), destination.location("d"));
    for (filter, expected) in [
        (vec!["--measurement", "mem", "--tag", "dc=y"], vec![5]),
        (vec!["--tag", "host=it's"], vec![2]),
        (vec!["--tag", "host=a", "--tag", "dc=x", "--exclude", "disk"], vec![0, 4]),
    ] {
        let copied = gapless("copy", &from, &to).args(&filter).args(["--reject", &rejects(&dir)]);
        expect_identical(copied.run()).expect_out(&format!("sent {} cells", expected.len()));
        expect_identical(gapless("verify", &from, &to).args(&filter).run());
        let held = lines(&to);
        assert!(expected.iter().all(|&at| held.contains(rows[at])), "{filter:?}: {held:?}");
    }
    assert_eq!(lines(&to).len(), 2 + 4);
    gapless("verify", &from, &to).run().expect_status(1);
}

#[test]
fn a_source_user_who_may_only_read_moves_every_type_of_a_field_exactly() {
    let source = Influxd::builder().auth("admin", "secret one").start();
    let destination = Influxd::start();
    destination.create_database("d");
    for database in ["d", "hidden"] {
        source.create_database(database);
    }
    source.query("ALTER RETENTION POLICY autogen ON d SHARD DURATION 1d");
    source.query("CREATE USER ro WITH PASSWORD 'reader''s'".replace("''", "\\'").as_str());
    source.query("GRANT READ ON d TO ro");
    let mut rows = Vec::new();
    for (day, values) in [
        (4, ["9007199254740993i", "-9223372036854775808i", "0i"]),
        (5, ["-0.0", "9007199254740992.0", "5e-324"]),
        (6, ["\"\"", "\"9007199254740993\"", "\"a b\""]),
        (7, ["t", "f", "t"]),
    ] {
        for (at, value) in (0..).zip(values) {
            rows.push(format!("m,h={at} v={value} {}", day * DAY + at * (DAY - 1) / 2));
        }
    }
    source.write("d", rows.join("\n"));
    // From now on the grid of the settings is another one than that of the groups.
    source.query("ALTER RETENTION POLICY autogen ON d SHARD DURATION 7d");
    let late = [format!("m,h=0 v=1.0 {}", 15 * DAY), format!("m,h=0 v=1i {}", 25 * DAY)];
    source.write("d", late.join("\n"));
    // The destination makes a group for each of these days.
    destination.query("ALTER RETENTION POLICY autogen ON d SHARD DURATION 1d");

    let dir = tempfile::tempdir().unwrap();
    let from = format!("influxdb://ro@127.0.0.1:{}", source.port());
    let to = destination.location("d");
    let as_reader = |command: &str| {
        let ran = gapless(command, &format!("{from}/d"), &to);
        ran.env("GAPLESS_SOURCE_PASSWORD", "reader's")
    };
    let copied = as_reader("copy").args(["--reject", &rejects(&dir)]).run();
    expect_identical(copied).expect_out("sent 14 cells").expect_nowhere("reader's");
    expect_identical(as_reader("verify").run());
    let written = |row: &String| row.replace("v=t ", "v=true ").replace("v=f ", "v=false ");
    let expected: BTreeSet<String> = rows.iter().chain(&late).map(written).collect();
    assert_eq!(lines(&to), expected);
    // A reader sees, and moves, only what it may read; a database that it may not is refused.
    let hidden = gapless("copy", &format!("{from}/hidden"), &to);
    hidden.env("GAPLESS_SOURCE_PASSWORD", "reader's").run().expect_status(4);
    let all = gapless("verify", &from, &destination.location(""));
    expect_identical(all.env("GAPLESS_SOURCE_PASSWORD", "reader's").run());
}
