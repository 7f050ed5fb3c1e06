//! Disks that fill up or fail: exit status 4, a message that names the file, and what is left can
//! be gone on with as the message says. A write that does less than asked is no failure.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::disk_fault::{Answer, DiskFault};
use common::{Gapless, Ran};
use std::path::Path;

/// More operations than any run here has.
const OPERATIONS_MAX: u32 = 200;

/// An output of the command, and how its disk may fail.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Part of the path of its files; `DIR` stands for the directory of the run.
    path: &'static str,
    kinds: &'static [(&'static str, Answer)],
    /// Exit status without a fault.
    status: i32,
    /// What the message names.
    names: &'static str,
    /// The next operation that fails after the n-th, where not every one is tried.
    next: fn(u32) -> u32,
    input: fn() -> String,
    /// Looks at what is left, and goes on as the message says.
    check: fn(&Path, &Ran, &Self),
}

const WRITTEN: &[(&str, Answer)] = &[
    ("open", Answer::NoSpace),
    ("write", Answer::NoSpace),
    ("write", Answer::Broken),
    ("write", Answer::Half),
    ("fsync", Answer::Broken),
];

const REPLACED: &[(&str, Answer)] = &[
    ("open", Answer::NoSpace),
    ("write", Answer::NoSpace),
    ("write", Answer::Broken),
    ("write", Answer::Half),
    ("fsync", Answer::Broken),
    ("rename", Answer::Broken),
];

fn each(at: u32) -> u32 {
    at + 1
}

fn rows() -> String {
    (0..2)
        .map(|day| {
            format!("m,h=a v={day} {}\n", 1_600_000_000_000_000_000_u64 + day * 86_400_000_000_000)
        })
        .collect()
}

/// The input is standard input, or the file of the arguments that is named so.
fn run(dir: &Path, case: &Case) -> Gapless {
    if case.arguments.contains(&"in.lp") {
        std::fs::write(dir.join("in.lp"), (case.input)()).unwrap();
    }
    Gapless::new(case.arguments.iter().copied()).arg("--quiet").dir(dir).stdin((case.input)())
}

/// Has every operation fail in turn, and checks every failure; then every one from there on.
fn assert_survives(case: &Case) {
    for (kind, answer) in case.kinds {
        for stays in [false, true] {
            let mut at = 1;
            while one_fault(case, kind, *answer, stays, at) {
                at = (case.next)(at);
                assert!(at < OPERATIONS_MAX, "{}: {kind} never ends", case.name);
            }
            assert!(at > 1, "{}: no {kind} was met at all", case.name);
        }
    }
}

/// False where the run had no such operation any more.
fn one_fault(case: &Case, kind: &'static str, answer: Answer, stays: bool, at: u32) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = case.path.replace("DIR", dir.path().to_str().unwrap());
    let fault = DiskFault { kind, path, answer, stays };
    let strike = fault.at(at);
    let ran = strike.arm(run(dir.path(), case)).run();
    let words = format!("{}: {kind} {at} {answer:?} (stays: {stays})", case.name);
    assert!(!ran.err().contains("internal error"), "{words}\n{}", ran.describe());
    if !strike.struck() || answer == Answer::Half {
        assert_eq!(ran.status, Some(case.status), "{words}\n{}", ran.describe());
        return strike.struck();
    }
    assert_eq!(ran.status, Some(4), "{words}\n{}", ran.describe());
    assert!(ran.err().contains(case.names), "{words}\n{}", ran.describe());
    let cause = if answer == Answer::NoSpace { "No space left" } else { "Input/output error" };
    assert!(ran.err().contains(cause), "{words}\n{}", ran.describe());
    (case.check)(dir.path(), &ran, case);
    true
}

#[test]
fn an_archive_on_a_disk_that_fails_is_never_half_of_one() {
    assert_survives(&Case {
        name: "archive",
        arguments: &["copy", "-", "out"],
        path: "DIR",
        kinds: &[
            ("mkdir", Answer::NoSpace),
            ("open", Answer::NoSpace),
            ("write", Answer::NoSpace),
            ("write", Answer::Broken),
            ("write", Answer::Half),
            ("read", Answer::Broken),
            ("read", Answer::Half),
            ("fsync", Answer::Broken),
            ("rename", Answer::Broken),
        ],
        status: 0,
        names: "out",
        next: each,
        input: rows,
        check: |dir, ran, case| {
            let partial = dir.join("out.partial");
            assert!(!(partial.exists() && dir.join("out").exists()), "{}", ran.describe());
            if partial.exists() {
                let words = "out.partial is left unfinished: remove it";
                assert!(ran.err().contains(words), "{}", ran.describe());
                std::fs::remove_dir_all(partial).unwrap();
            }
            // What has the archive's name is whole.
            run(dir, case).run().expect_status(0).expect_out("IDENTICAL");
        },
    });
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_copy_which_can_be_run_again() {
    assert_survives(&Case {
        name: "journal",
        arguments: &["copy", "in.lp", "out", "--journal", "journal"],
        path: "DIR/journal",
        kinds: &[
            ("mkdir", Answer::NoSpace),
            ("open", Answer::NoSpace),
            ("write", Answer::NoSpace),
            ("write", Answer::Broken),
            ("write", Answer::Half),
            ("fsync", Answer::Broken),
        ],
        status: 0,
        names: "journal",
        next: each,
        input: rows,
        check: |dir, _, case| {
            let again = run(dir, case).run().expect_status(0);
            assert!(again.out().contains("IDENTICAL"), "{}", again.describe());
            let compared = Gapless::new(["verify", "in.lp", "out", "--quiet"]).dir(dir).run();
            compared.expect_status(0).expect_out("IDENTICAL");
        },
    });
}

fn rows_with_a_bad_one() -> String {
    rows() + "this is no row\n"
}

#[test]
fn a_reject_file_that_cannot_be_written_stops_the_command() {
    assert_survives(&Case {
        name: "reject file",
        arguments: &["copy", "-", "null:", "--reject", "rejected.lp"],
        path: "DIR",
        kinds: WRITTEN,
        status: 3,
        names: "rejected.lp",
        next: each,
        input: rows_with_a_bad_one,
        check: |dir, _, case| {
            run(dir, case).run().expect_status(3).expect_out("rejected.lp");
        },
    });
}

#[test]
fn a_report_is_whole_or_not_there() {
    assert_survives(&Case {
        name: "report",
        arguments: &["copy", "-", "null:", "--report", "report.json"],
        path: "DIR",
        kinds: REPLACED,
        status: 0,
        names: "report.json",
        next: each,
        input: rows,
        check: |dir, ran, case| {
            assert!(ran.out().contains("COUNTED"), "the verdict is there: {}", ran.describe());
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                assert_eq!(path.file_name().unwrap(), "report.json", "nothing is left behind");
                let text = std::fs::read_to_string(path).unwrap();
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
            run(dir, case).run().expect_status(0);
            assert!(dir.join("report.json").exists());
        },
    });
}

#[test]
fn a_digest_file_is_whole_or_not_there() {
    assert_survives(&Case {
        name: "digest file",
        arguments: &["digest", "-", "-o", "out"],
        path: "DIR",
        kinds: REPLACED,
        status: 0,
        names: "out",
        next: each,
        input: rows,
        check: |dir, ran, case| {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                assert_eq!(path.file_name().unwrap(), "out", "{}", ran.describe());
                Gapless::new(["inspect", "out", "--quiet"]).dir(dir).run().expect_status(0);
                std::fs::remove_file(path).unwrap();
            }
            run(dir, case).run().expect_status(0).expect_out("saved in out");
        },
    });
}

/// More than the memory that is given.
fn many_rows() -> String {
    let row = |at: u64| {
        format!("m,h={} a={at}i,b={at}.5 {}\n", at % 50, 1_600_000_000_000 + at % 9_000 * 7_919)
    };
    (0..200_000).map(row).collect()
}

#[test]
fn a_place_for_spilled_data_that_fails_is_named() {
    assert_survives(&Case {
        name: "spilled data",
        arguments: &["digest", "-", "--memory", "16", "--spill", "."],
        path: "DIR",
        kinds: &[
            ("open", Answer::NoSpace),
            ("write", Answer::NoSpace),
            ("write", Answer::Half),
            ("read", Answer::Broken),
            ("read", Answer::Half),
        ],
        status: 0,
        names: "--spill DIR",
        next: |at| at * 5,
        input: many_rows,
        check: |dir, ran, _| {
            assert!(ran.err().contains("spill"), "{}", ran.describe());
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "nothing is left behind");
        },
    });
}

#[test]
fn a_log_that_cannot_be_written_is_said_once_and_stops_nothing() {
    for stays in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("{}/log", dir.path().display());
        let fault = DiskFault { kind: "write", path, answer: Answer::NoSpace, stays };
        let strike = fault.at(2);
        let run =
            Gapless::new(["copy", "-", "null:", "--log", "log"]).dir(dir.path()).stdin(rows());
        let ran = strike.arm(run).run().expect_status(0);
        assert!(strike.struck());
        let said = ran.err().matches("log: the log ends here").count();
        assert_eq!(said, 1, "{}", ran.describe());
        assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap().lines().count(), 1);
    }
}

#[test]
fn a_standard_output_that_is_full_is_no_success() {
    let gapless = env!("CARGO_BIN_EXE_gapless");
    for arguments in ["cat -", "inspect -", "digest - --json", "copy - null:"] {
        let script = format!("exec {gapless} {arguments} --quiet >/dev/full");
        let ran = Gapless::program("sh", ["-c", &script]).stdin(rows()).run().expect_status(4);
        ran.expect_err("standard output: write failed: No space left on device");
    }
}
