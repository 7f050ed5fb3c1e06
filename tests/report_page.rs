//! The report as files: bounded whatever is found, and whole or not there.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::Gapless;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

const HOUR: i64 = 3_600_000_000_000;

/// An archive and a file that differ in the value of every cell: series with long names, an hour each.
fn pair(dir: &Path, series: usize, hours: i64) {
    for (name, value) in [("a.lp", 1), ("b.lp", 2)] {
        let mut lines = String::new();
        for number in 0..series {
            let long = "<&\"".repeat(100);
            for hour in 0..hours {
                writeln!(lines, "m,k={long}{number} v={value} {}", hour * HOUR).unwrap();
            }
        }
        std::fs::write(dir.join(name), lines).unwrap();
    }
    Gapless::new(["copy", "b.lp", "b.arc", "--quiet"]).dir(dir).run().expect_status(0);
}

#[test]
fn many_differences_are_all_counted_and_few_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path(), 2_000, 20);
    let verify = |more: &[&str]| {
        let reports = ["--quiet", "--report", "r.html", "--report", "r.json"];
        let arguments = ["verify", "a.lp", "b.arc"];
        Gapless::new(arguments).args(reports).args(more).dir(dir.path()).run().expect_status(1);
        let json = std::fs::read(dir.path().join("r.json")).unwrap();
        let page = std::fs::read_to_string(dir.path().join("r.html")).unwrap();
        (serde_json::from_slice::<serde_json::Value>(&json).unwrap(), page)
    };
    let kept = |report: &serde_json::Value, list| report[list].as_array().unwrap().len();
    for (more, max) in
        [(&[][..], 10_000), (&["--max-differences", "7"], 7), (&["--max-differences=0"], 0)]
    {
        let (report, page) = verify(more);
        assert_eq!(report["counts"]["value_changed"], 40_000, "{more:?}");
        assert_eq!((kept(&report, "places"), kept(&report, "cells")), (max, max));
        let timeline = report["timeline"]["buckets"].as_array().unwrap();
        assert_eq!((timeline.len(), &timeline[0]["source"]), (20, &2_000.into()));
        assert!(!report["throughput"].as_array().unwrap().is_empty());
        assert!(page.len() < 2_000_000, "{}", page.len());
        assert!(page.contains("of the 40,000 cells that differ"), "{more:?}");
    }
}

#[test]
fn a_killed_verify_leaves_a_whole_report_or_none() {
    let dir = tempfile::tempdir().unwrap();
    pair(dir.path(), 200, 20);
    let arguments =
        ["verify", "a.lp", "b.arc", "--quiet", "--report", "r.html", "--report", "r.json"];
    let whole = Gapless::new(arguments).dir(dir.path()).run().expect_status(1).elapsed;
    let steps = 12;
    for step in 0..steps {
        for name in ["r.html", "r.json"] {
            let _absent = std::fs::remove_file(dir.path().join(name));
        }
        let running = Gapless::new(arguments).dir(dir.path()).spawn();
        std::thread::sleep(whole * step / (steps - 1) + Duration::from_millis(1));
        running.kill9();
        if let Ok(page) = std::fs::read_to_string(dir.path().join("r.html")) {
            assert!(page.ends_with("</html>\n"), "step {step}");
        }
        if let Ok(json) = std::fs::read(dir.path().join("r.json")) {
            serde_json::from_slice::<serde_json::Value>(&json).unwrap();
        }
    }
}

#[test]
fn a_report_with_another_ending_is_refused_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Gapless::new(["verify", "a.lp", "b.arc", "--report", "r.pdf"]).dir(dir.path()).run();
    ran.expect_status(2).expect_err("end in .html or .json");
}
