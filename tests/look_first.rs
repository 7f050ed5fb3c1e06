//! What an operator looks at before anything is moved: `inspect`, `digest` and a dry run.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd};
use std::path::{Path, PathBuf};

fn nab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/nab.lp.zst")
}

fn gapless<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Gapless {
    Gapless::new(arguments).arg("--quiet")
}

fn json<'a>(arguments: impl IntoIterator<Item = &'a str>) -> serde_json::Value {
    let ran = gapless(arguments).arg("--json").run().expect_status(0);
    serde_json::from_str(&ran.out()).unwrap()
}

const ROWS: &str = "cpu,host=a use=1.5,n=1i 1600000000000000000\n\
                    cpu,host=b use=2.5 1600000001000000000\n\
                    mem,host=a free=7i,state=\"ok\",up=t 1600000002000000000\n";

#[test]
fn every_kind_of_source_is_inspected_and_digested_alike() {
    let server = Influxd::start();
    server.create_database("nab");
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a");
    let (file, archive) = (nab(), archive.to_str().unwrap());
    let (file, location) = (file.to_str().unwrap(), server.location("nab"));
    gapless(["copy", file, archive]).run().expect_status(0);
    gapless(["copy", archive, &location]).run().expect_status(0);

    let counts = |source: &str| {
        let found = json(["inspect", source]);
        let namespace = &found["namespaces"][0];
        let measurements: Vec<String> =
            namespace["measurements"].as_array().unwrap().iter().map(ToString::to_string).collect();
        assert!(!measurements.is_empty());
        ["series", "rows", "cells", "first", "last"]
            .map(|name| namespace[name].to_string())
            .join(" ")
            + &measurements.concat()
    };
    let held = counts(file);
    assert!(held.contains("365509"), "{held}");
    assert_eq!(counts(archive), held);
    assert_eq!(counts(&location), held);

    let digests = |source: &str| {
        let found = json(["digest", source]);
        (found["digest"].to_string(), found["namespaces"][0]["measurements"].to_string())
    };
    let known = digests(file);
    // The figure that a copy of this file prints, too.
    assert!(known.0.contains("dcdc7722923192a9441956c9c1357bc7"), "{known:?}");
    assert_eq!(digests(archive), known);
    assert_eq!(digests(&location), known);
    let small = json(["digest", file, "--memory", "16"]);
    assert_eq!(small["digest"].to_string(), known.0);
}

#[test]
fn the_table_names_what_there_is() {
    let ran = gapless(["inspect", "-"]).stdin(ROWS).run().expect_status(0);
    ran.expect_out("cpu")
        .expect_out("n integer, use float")
        .expect_out("free integer, state string, up boolean")
        .expect_out("2020-09-13T12:26:40Z")
        .expect_out("2020-09-13T12:26:42Z");
    let ran = gapless(["digest", "-"]).stdin(ROWS).run().expect_status(0);
    ran.expect_out("3 cells   (unnamed) cpu").expect_out("6 cells   -");
}

#[test]
fn nothing_and_rejected_rows_are_no_success() {
    for command in ["inspect", "digest"] {
        gapless([command, "-"]).stdin("").run().expect_status(3);
        let ran = gapless([command, "-"]).stdin(format!("{ROWS}this is no row\n")).run();
        ran.expect_status(3).expect_out("rejected 1");
    }
}

#[test]
fn a_dry_run_says_what_a_copy_does_and_writes_nothing() {
    let server = Influxd::start();
    server.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    let file = nab();
    let (file, location) = (file.to_str().unwrap(), server.location("d"));
    let dry = gapless(["copy", "-n", file, &location]).dir(dir.path()).run().expect_status(0);
    let dry = dry
        .expect_out("PLAN   ")
        .expect_out("would send 365,509 cells in 365,509 rows")
        .expect_out("will be refused 0")
        .expect_out("forecast about 0:0")
        .expect_out(&format!("next: gapless copy {file} {location}"));
    assert_eq!(server.count("d", ""), 0);
    let planned = dry.out();
    let requests = planned.split(" requests").next().unwrap().rsplit(' ').next().unwrap();
    let sent = gapless(["copy", file, &location]).dir(dir.path()).run().expect_status(0);
    sent.expect_out(&format!("requests {requests}"));
    let again = gapless(["copy", file, &location, "--dry-run"]).dir(dir.path()).run();
    again.expect_status(0).expect_out("would send 0 cells").expect_out("already there 365,509");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file is left behind");
}

#[test]
fn a_dry_run_names_what_would_be_made_and_what_would_be_refused() {
    let server = Influxd::start();
    let dir = tempfile::tempdir().unwrap();
    let run = |more: &[&str], rows: &str| {
        let location = server.location("new");
        let copy = ["copy", "-", &location, "-n"];
        gapless(copy).args(more).dir(dir.path()).stdin(rows).run()
    };
    run(&[], ROWS).expect_status(4).expect_err("--create").expect_err("CREATE DATABASE \"new\"");
    run(&["--create"], ROWS)
        .expect_status(0)
        .expect_out("would create: CREATE DATABASE \"new\"")
        .expect_out("would send 6 cells in 3 rows");
    // The type of the first cell stays; a copy would stop, and the dry run goes on to count.
    let conflict = format!("{ROWS}cpu,host=c use=\"high\" 1600000003000000000\nno row\n");
    run(&["--create"], &conflict)
        .expect_status(3)
        .expect_out("a copy would stop before it sends anything: see --on-type-conflict")
        .expect_out("float kept, 1 string not")
        .expect_out("will be refused 1")
        .expect_out("would send 6 cells");
    assert!(!format!("{:?}", server.query("SHOW DATABASES")).contains("new"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no reject file is made");
}

#[test]
fn a_dry_run_into_a_new_archive_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a");
    let copy = ["copy", "-n", "-", archive.to_str().unwrap()];
    let ran = gapless(copy).stdin(ROWS).dir(dir.path()).run().expect_status(0);
    ran.expect_out("would send 6 cells in 3 rows");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_not_read_back_is_called_sent_and_no_success() {
    let server = Influxd::start();
    server.create_database("d");
    let location = server.location("d");
    let ran = gapless(["copy", "-", &location, "--no-read-back"]).stdin(ROWS).run();
    ran.expect_status(3).expect_out("SENT   ").expect_out("nothing was read back");
    assert_eq!(server.count("d", ""), 6);
}
