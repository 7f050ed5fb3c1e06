//! `copy --undo-file`: by its list, what a copy created is taken back, also where it was interrupted.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const MINUTE: i64 = 60_000_000_000;

fn at(minute: i64) -> i64 {
    START + minute * MINUTE
}

/// Two servers with a database.
struct Both {
    one: Influxd,
    two: Influxd,
    dir: TempDir,
}

impl Both {
    fn start() -> Self {
        let (one, two) = (Influxd::start(), Influxd::start());
        one.create_database("db");
        two.create_database("db");
        Self { one, two, dir: tempfile::tempdir().unwrap() }
    }

    /// A copy that keeps its journal where it is asked to.
    fn copy(&self, options: &[&str]) -> Gapless {
        Gapless::new(["copy", &self.one.location("db"), &self.two.location("db")])
            .args(["--quiet", "--undo-file", "undo"])
            .args(options)
            .dir(self.dir.path())
    }

    fn digest(&self) -> String {
        let digest = Gapless::new(["digest", &self.two.location("db"), "--quiet"]);
        digest.args(["--end", "2021-01-01"]).run().expect_status(0).out()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// The rows that are listed as created.
    fn listed(&self, name: &str) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        for line in self.read(name).lines() {
            if let Some(row) = line.strip_prefix("# created in db.autogen: ") {
                rows.push(row.to_owned());
            } else if let Some(rest) = line.strip_prefix("#| ") {
                write!(rows.last_mut().unwrap(), "\n{rest}").unwrap();
            }
        }
        rows
    }
}

/// Deletes the point of a row, whose names need no quotes.
fn statement(row: &str) -> String {
    let (key, _) = row.split_once(' ').unwrap();
    let (_, time) = row.rsplit_once(' ').unwrap();
    let mut words = key.split(',');
    let mut statement = format!("DELETE FROM \"{}\" WHERE time = {time}", words.next().unwrap());
    for tag in words {
        let (name, value) = tag.split_once('=').unwrap();
        write!(statement, " AND \"{name}\" = '{value}'").unwrap();
    }
    statement
}

#[test]
fn what_a_copy_created_is_taken_back_by_its_list() {
    let both = Both::start();
    let mut lines = String::new();
    for minute in 0..300 {
        writeln!(lines, "cpu,host=a usage={minute} {}", at(minute)).unwrap();
    }
    both.one.write("db", &lines);
    // The first hour and a half is there; a value differs; a series is the destination's own.
    let there: String = lines.lines().take(90).flat_map(|line| [line, "\n"]).collect();
    both.two.write("db", there);
    both.one.write("db", format!("cpu,host=a usage=-1 {}", at(7)));
    both.two.write("db", format!("own,host=b v=1 {}", at(100)));
    both.one.write(
        "db",
        format!("new,host=a text=\"one\n# created in db.autogen: no\",n=1i {}", at(5)),
    );

    let before = both.digest();
    both.copy(&[]).run().expect_status(1).expect_out("what was created is listed in undo");
    assert_ne!(before, both.digest());
    let path = both.dir.path().join("undo");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!both.dir.path().join("undo.partial").exists());
    let rows = both.listed("undo");
    assert_eq!(rows.len(), 211, "{}", both.read("undo"));
    assert!(
        rows.iter().all(|row| !row.contains(&at(7).to_string())),
        "what was there is no creation"
    );
    for row in &rows {
        both.two.influx_cli(["-database", "db", "-execute", &statement(row)]);
    }
    assert_eq!(before, both.digest());
    // Nothing sends what stands in it.
    let sent = Gapless::new(["copy", "undo", &both.two.location("db"), "--quiet"]);
    sent.dir(both.dir.path()).run().expect_status(3);
    assert_eq!(before, both.digest());

    // It is never written over.
    let text = both.read("undo");
    both.copy(&["--create"]).run().expect_status(2).expect_err("undo exists");
    both.copy(&["--overwrite"]).run().expect_status(2).expect_err("--overwrite");
    both.copy(&["--dry-run"]).run().expect_status(2);
    assert_eq!(both.read("undo"), text);
}

#[test]
fn the_list_of_a_copy_that_was_killed_goes_on_where_it_was() {
    let both = Both::start();
    let mut expected = BTreeSet::new();
    for start in [0, 40_000, 80_000] {
        let mut lines = String::new();
        for minute in start..start + 40_000 {
            writeln!(lines, "mem,host=a used={minute}i {}", at(minute)).unwrap();
            expected.insert(format!("mem,host=a used={minute}i {}", at(minute)));
        }
        both.one.write("db", &lines);
    }
    both.two.write("db", format!("mem,host=b used=1i {}", at(3)));
    let before = both.digest();
    let partial = both.dir.path().join("undo.partial");
    let mut last = 0;
    for kills in 0..3 {
        let mut running = both.copy(&["--journal", "journal", "--rate", "30kcells/s"]).spawn();
        let end = Instant::now() + Duration::from_secs(60);
        while running.is_running() && partial.metadata().map_or(0, |held| held.len()) <= last {
            assert!(Instant::now() < end, "nothing is listed");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300 * kills));
        running.kill9();
        last = partial.metadata().unwrap().len();
        assert!(!both.dir.path().join("undo").exists());
        // What the kill left unfinished.
        let torn =
            [&std::fs::read(&partial).unwrap()[..], b"# created in db.autogen: mem,ho"].concat();
        std::fs::write(&partial, torn).unwrap();
    }
    // Whoever does not go on with that copy does not take its list over.
    both.copy(&["--measurement", "mem", "--journal", "other"])
        .run()
        .expect_status(2)
        .expect_err("lists what an interrupted copy created");
    both.copy(&["--journal", "journal"]).run().expect_status(0);
    let rows = both.listed("undo");
    assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(!partial.exists());
    both.two.influx_cli(["-database", "db", "-execute", "DELETE FROM mem WHERE host = 'a'"]);
    assert_eq!(before, both.digest());
}
