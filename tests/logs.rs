//! The log: one line for each change of state, as text or JSON, without what could be secret.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd};
use serde_json::Value;
use std::path::Path;

const ROWS: &str = "m,h=a v=1 1600000000000000000\nm,h=b v=2 1600000001000000000\n";

fn gapless(dir: &Path, arguments: &[&str]) -> Gapless {
    Gapless::new(arguments).args(["--quiet"]).dir(dir).stdin(ROWS)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn events(path: &Path) -> Vec<Value> {
    text(path).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn each_change_of_state_is_a_line_and_a_second_run_adds_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let states = ["state=\"open\"", "state=\"copy\"", "state=\"done\"", "exit_status=0"];
    for runs in 1..=2 {
        gapless(dir.path(), &["copy", "-", "null:", "--log", "log"]).run().expect_status(0);
        let text = text(&log);
        let found: Vec<&str> = text
            .lines()
            .filter_map(|line| states.into_iter().find(|one| line.contains(one)))
            .collect();
        assert_eq!(found, states.repeat(runs), "{text}");
        assert!(text.lines().all(|line| line.contains("Z  INFO ")), "{text}");
        assert!(text.contains("command=\"copy\" source=\"-\" destination=\"null:\""), "{text}");
    }
}

#[test]
fn json_lines_are_objects_and_requests_are_among_them_when_asked() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    let run = |level: &str, log: &str| {
        let location = influxd.location("d");
        let more = ["--log", log, "--log-format", "json", "--log-level", level];
        gapless(dir.path(), &["copy", "-", &location]).args(more).run().expect_status(0);
        events(&dir.path().join(log))
    };
    let all = run("debug", "d.json");
    assert!(all.iter().all(|event| event["timestamp"].is_string() && event["level"].is_string()));
    assert!(all.iter().any(|event| event["state"] == "copy" && event["level"] == "INFO"));
    let write = all.iter().find(|event| event["path"] == "/write").expect("a write");
    assert_eq!((&write["method"], &write["status"]), (&"POST".into(), &204.into()), "{write}");
    assert!(write["sent"].as_u64() > Some(20) && write["seconds"].is_number(), "{write}");
    assert!(all.iter().any(|event| event["path"] == "/query" && event["status"] == 200));
    let whole = text(&dir.path().join("d.json"));
    for parameter in ["db=", "SELECT", "m,h=a", "uthorization"] {
        assert!(!whole.contains(parameter), "{parameter}: {whole}");
    }
    assert!(run("info", "i.json").iter().all(|event| event["path"].is_null()));
    assert_eq!(run("error", "e.json"), [Value::Null; 0]);
}

#[test]
fn a_failure_is_logged_with_its_next_step_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let missing = ["copy", "no\nsuch", "null:"];
    gapless(dir.path(), &missing).args(["--log", "log"]).run().expect_status(4);
    let text = text(&dir.path().join("log"));
    let is_whole = |line: &str| line.contains("ERROR error=\"no\\nsuch: open failed");
    assert_eq!(text.lines().filter(|line| is_whole(line)).count(), 1, "{text}");
    assert!(text.lines().last().unwrap().contains("exit_status=4"), "{text}");
    let ran = gapless(dir.path(), &missing).args(["--log", "-", "--log-format", "json"]).run();
    let err = ran.expect_status(4).err();
    assert!(err.lines().any(|line| line.contains("\"level\":\"ERROR\"")), "{err}");
}

#[test]
fn without_a_log_nothing_is_logged_and_its_options_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ran = gapless(dir.path(), &["copy", "-", "null:"]).run().expect_status(0);
    assert_eq!(ran.err(), "");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    gapless(dir.path(), &["copy", "-", "null:", "--log-level", "debug"]).run().expect_status(2);
}

#[cfg(unix)]
#[test]
fn a_log_is_its_owners_alone_and_never_written_through_a_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let log = |name: &str| gapless(dir.path(), &["copy", "-", "null:", "--log", name]).run();
    log("log").expect_status(0);
    let mode = dir.path().join("log").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(dir.path().join("victim"), "mine").unwrap();
    symlink("victim", dir.path().join("link")).unwrap();
    log("link").expect_status(4).expect_err("link: open the log failed").expect_err("--log FILE");
    assert_eq!(text(&dir.path().join("victim")), "mine");
}
