//! How a copy goes on that was interrupted: what it says, what it keeps, and what it refuses.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::run::{Running, signal};
use common::{Gapless, Influxd, Ran};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DAYS: i64 = 60;
const DAY: i64 = 86_400_000_000_000;
const START: i64 = 1_600_041_600_000_000_000;
const ROWS_A_DAY: i64 = 300;

struct Place {
    dir: TempDir,
    server: Influxd,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..DAYS * ROWS_A_DAY)
            .map(|at| format!("m,host=h{} v={at}i {}\n", at % 5, START + at * (DAY / ROWS_A_DAY)))
            .collect();
        fs::write(dir.path().join("in.lp"), lines).unwrap();
        let server = Influxd::start();
        server.query("CREATE DATABASE x WITH DURATION INF SHARD DURATION 1d");
        Self { dir, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn copy(&self) -> Gapless {
        let file = self.path("in.lp");
        Gapless::new(["copy", file.to_str().unwrap(), &self.server.location("x")])
            .env("XDG_STATE_HOME", self.path("state"))
    }

    fn with_journal(&self) -> Gapless {
        self.copy().args(["--journal", self.path("journal").to_str().unwrap()])
    }

    /// The only journal in the default place, if there is one.
    fn default_journal(&self) -> Option<PathBuf> {
        let mut journals = fs::read_dir(self.path("state").join("gapless")).ok()?;
        let journal = journals.next()?.unwrap().path();
        assert!(journals.next().is_none());
        Some(journal)
    }
}

fn records(journal: &Path) -> usize {
    let text = fs::read(journal.join("journal")).unwrap_or_default();
    String::from_utf8_lossy(&text).matches("\"record\":\"unit\"").count()
}

/// Waits until a copy has recorded so many partitions.
fn wait_for(records_wanted: usize, journal: impl Fn() -> Option<PathBuf>, running: &mut Running) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while journal().map_or(0, |journal| records(&journal)) < records_wanted {
        assert!(running.is_running() && Instant::now() < deadline, "it was to be interrupted");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn expect_identical(ran: Ran) -> Ran {
    ran.expect_status(0).expect_out("IDENTICAL").expect_out("100 % of 18,000 cells")
}

#[test]
fn an_interrupted_copy_names_the_command_that_goes_on_and_leaves_nothing_when_it_ends() {
    let place = Place::new();
    let mut running = place.copy().spawn();
    wait_for(5, || place.default_journal(), &mut running);
    running.interrupt();
    let ran = running.wait().expect_status(130).expect_err("interrupted");
    let journal = place.default_journal().unwrap();
    let proven = records(&journal);
    let next = ran.last_line();
    let command = next.trim().strip_prefix("next: gapless ").unwrap_or_else(|| panic!("{next}"));
    assert!(command.contains(journal.to_str().unwrap()), "{command}");

    // The command as it was printed, elsewhere.
    let words: Vec<&str> = command.split(' ').collect();
    let ran = Gapless::new(words).dir("/").run();
    expect_identical(ran).expect_out(&format!("{proven} of 60 partitions were proven by earlier"));

    // The place was named by that command, so that the journal stays as a proof.
    fs::remove_dir_all(&journal).unwrap();
    expect_identical(place.copy().run());
    assert_eq!(place.default_journal(), None, "nothing is left where nobody asked for it");
}

#[test]
fn sigterm_is_the_same_and_a_second_signal_stops_at_once_and_loses_nothing() {
    let place = Place::new();
    let mut running = place.with_journal().spawn();
    wait_for(5, || Some(place.path("journal")), &mut running);
    signal("TERM", running.id());
    running.wait().expect_status(130).expect_err("interrupted");

    // A server that does not answer keeps what is in flight from ending.
    let mut running = place.with_journal().spawn();
    let before = records(&place.path("journal"));
    wait_for(before + 2, || Some(place.path("journal")), &mut running);
    signal("STOP", place.server.id().unwrap());
    // Until every thread of the copy waits for the server.
    std::thread::sleep(Duration::from_millis(500));
    running.interrupt();
    std::thread::sleep(Duration::from_millis(200));
    assert!(running.is_running(), "it waits for what is in flight");
    running.interrupt();
    running.wait().expect_status(130);
    signal("CONT", place.server.id().unwrap());
    expect_identical(place.with_journal().run());
}

#[test]
fn a_finished_journal_prints_its_proof_and_reads_nothing() {
    let mut place = Place::new();
    expect_identical(place.with_journal().run());
    place.server.stop();
    let again = expect_identical(place.with_journal().run());
    again.expect_out("not re-read").expect_out("sent 18,000 cells");
    let json = place.with_journal().args(["--json", "--quiet"]).run().expect_status(0);
    let report: Value = serde_json::from_str(&json.out()).unwrap();
    assert_eq!(report["verdict"], "identical");
    assert_eq!(report["not_re_read"], true);
}

#[test]
fn a_source_that_changed_is_said_and_read_again() {
    let place = Place::new();
    expect_identical(place.with_journal().run());
    let file = place.path("in.lp");
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str(&format!("m,host=h0 v=-1i {}\n", START + 1));
    fs::write(&file, text).unwrap();
    let ran = place.with_journal().run().expect_status(0).expect_out("100 % of 18,001 cells");
    ran.expect_err("the source is another one").expect_out("sent 1 cells in 1 rows");
}

#[test]
fn the_same_file_elsewhere_goes_on_and_another_file_is_refused() {
    let place = Place::new();
    let mut running = place.with_journal().spawn();
    wait_for(5, || Some(place.path("journal")), &mut running);
    running.kill9();
    let moved = place.path("elsewhere.lp");
    fs::rename(place.path("in.lp"), &moved).unwrap();
    let copy = |file: &Path| {
        Gapless::new(["copy", file.to_str().unwrap(), &place.server.location("x"), "--journal"])
            .arg(place.path("journal"))
            .run()
    };
    let other = place.path("other.lp");
    fs::write(&other, "m v=1i 1\n").unwrap();
    copy(&other).expect_status(2).expect_err("of another source");
    let proven = records(&place.path("journal"));
    expect_identical(copy(&moved)).expect_out(&format!("{proven} of 60 partitions"));
}

#[test]
fn other_arguments_are_refused_with_their_difference() {
    let place = Place::new();
    expect_identical(place.with_journal().run());
    let ran = place.with_journal().args(["--start", "2020-09-20"]).run().expect_status(2);
    ran.expect_err("--start was nothing and is 2020-09-20").expect_err("--journal DIR");
    // What does not define the work may change.
    expect_identical(place.with_journal().args(["--jobs", "1", "--memory", "64"]).run());
}

#[test]
fn two_copies_never_share_a_journal() {
    let place = Place::new();
    let mut running = place.with_journal().spawn();
    wait_for(1, || Some(place.path("journal")), &mut running);
    signal("STOP", running.id());
    place.with_journal().run().expect_status(4).expect_err("another process");
    signal("CONT", running.id());
    expect_identical(running.wait());
}

#[test]
fn where_nothing_can_be_resumed_that_is_said_first() {
    let place = Place::new();
    let lines = fs::read(place.path("in.lp")).unwrap();
    let target = place.server.location("x");
    let ran = Gapless::new(["copy", "-", &target]).stdin(lines.clone()).run();
    expect_identical(ran).expect_err("cannot be resumed");
    for options in [&["-", target.as_str()][..], &["in.lp", "null:"], &["in.lp", &target, "-n"]] {
        let ran = Gapless::new(["copy", "--journal", "j"]).args(options).dir(&place.dir).run();
        ran.expect_status(2).expect_err("--journal cannot be used here");
    }
    assert!(!place.path("j").exists());
}

#[test]
fn a_damaged_journal_is_refused_with_its_place() {
    let place = Place::new();
    expect_identical(place.with_journal().run());
    let path = place.path("journal").join("journal");
    let mut bytes = fs::read(&path).unwrap();
    // Of a record among others: the last one, the proof, is the longest by far.
    let record = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(20).unwrap().0;
    bytes[record + 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let ran = place.with_journal().run().expect_status(4).expect_err("journal/journal, byte ");
    ran.expect_err("remove the journal");
}

#[test]
fn a_copy_that_could_not_begin_leaves_no_journal() {
    let place = Place::new();
    let file = place.path("in.lp");
    let ran = Gapless::new(["copy", file.to_str().unwrap(), &place.server.location("missing")])
        .env("XDG_STATE_HOME", place.path("state"))
        .run();
    ran.expect_status(4).expect_err("--create");
    assert_eq!(place.default_journal(), None);
}

/// Takes the stored data of a database away, as a server that had not synced them would lose them.
fn lose(server: &Influxd, database: &str) {
    for part in ["data", "wal"] {
        let policy = server.data_dir().join(part).join(database).join("autogen");
        for shard in fs::read_dir(policy).unwrap() {
            for file in fs::read_dir(shard.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                if path.is_file() {
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }
}

#[test]
fn what_a_server_loses_by_a_restart_is_noticed_and_sent_again() {
    let mut place = Place::new();
    // What was under way when it died may have been the cause, and is tried last if that is asked for.
    let mut running = place.with_journal().arg("--retry-suspects").spawn();
    wait_for(10, || Some(place.path("journal")), &mut running);
    signal("STOP", running.id());
    place.server.kill9();
    lose(&place.server, "x");
    place.server.restart();
    signal("CONT", running.id());
    let ran = expect_identical(running.wait()).expect_err("verified again");
    let proven = ran.out().lines().any(|line| line.contains("lost by a restart and repeated"));
    assert!(proven, "{}", ran.describe());
    assert_eq!(place.server.count("x", ""), 18_000);
}

#[test]
fn what_a_server_lost_while_the_copy_was_dead_is_sent_again() {
    let mut place = Place::new();
    let mut running = place.with_journal().spawn();
    wait_for(10, || Some(place.path("journal")), &mut running);
    running.kill9();
    place.server.kill9();
    lose(&place.server, "x");
    place.server.restart();
    let ran = expect_identical(place.with_journal().run());
    assert!(!ran.out().contains("were proven by earlier runs"), "{}", ran.describe());
    assert_eq!(place.server.count("x", ""), 18_000);
}

#[test]
fn what_somebody_deleted_between_two_runs_is_noticed_and_sent_again() {
    let place = Place::new();
    let mut running = place.with_journal().spawn();
    wait_for(10, || Some(place.path("journal")), &mut running);
    running.kill9();
    let proven = records(&place.path("journal"));
    let delete = format!("DELETE FROM m WHERE time < {}", START + DAY / 2);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let deleted =
        place.server.request("POST", "/query?db=x", &form, format!("q={delete}").as_bytes());
    assert_eq!(deleted.status, 200);
    let ran = expect_identical(place.with_journal().run());
    ran.expect_out(&format!("{} of 60 partitions were proven by earlier runs", proven - 1));
    assert_eq!(place.server.count("x", ""), 18_000);
}

#[test]
fn what_came_late_to_a_server_that_is_the_source_is_copied_by_the_next_run() {
    let place = Place::new();
    let source = place.server.location("s");
    place.server.query("CREATE DATABASE s WITH DURATION INF SHARD DURATION 1d");
    place.server.write("s", fs::read(place.path("in.lp")).unwrap());
    let copy = || {
        Gapless::new(["copy", &source, &place.server.location("x"), "--end", "2030-01-01"])
            .args(["--journal", place.path("journal").to_str().unwrap()])
    };
    let mut running = copy().spawn();
    wait_for(10, || Some(place.path("journal")), &mut running);
    running.kill9();
    place.server.write("s", format!("m,host=late v=1i {}", START + 1));
    copy().run().expect_status(0).expect_out("100 % of 18,001 cells");
}
