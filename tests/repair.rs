//! `repair` on two real servers: the plan writes nothing, what is settled is settled as it is said, and
//! nothing vanishes but what was named.

#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "repair/bases.rs"]
mod bases;
mod common;
#[path = "repair/ends.rs"]
mod ends;
#[path = "repair/harm.rs"]
mod harm;
#[path = "repair/moving.rs"]
mod moving;

use common::{Gapless, Influxd};
use serde_json::Value;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const MINUTE: i64 = 60_000_000_000;

/// Two servers with the same three hosts, a point a minute for three hours.
struct Both {
    one: Influxd,
    two: Influxd,
    dir: TempDir,
}

fn lines() -> String {
    let mut lines = String::new();
    for minute in 0..180 {
        for host in ["a", "b", "c"] {
            let time = START + minute * MINUTE;
            writeln!(lines, "cpu,host={host} usage={minute}.5,n={minute}i {time}").unwrap();
        }
    }
    lines
}

fn at(minute: i64) -> i64 {
    START + minute * MINUTE
}

impl Both {
    fn start() -> Self {
        Self::with_index("inmem")
    }

    fn with_index(index: &str) -> Self {
        let (one, two) = (Influxd::start(), Influxd::builder().index(index).start());
        for server in [&one, &two] {
            server.create_database("db");
            server.write("db", lines());
        }
        Self { one, two, dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn repair(&self, options: &[&str], status: i32) -> Value {
        let ran = Gapless::new(["repair", &self.one.location("db"), &self.two.location("db")])
            .args(["--json", "--quiet"])
            .args(options)
            .dir(self.dir.path())
            .run()
            .expect_status(status);
        serde_json::from_str(&ran.out()).unwrap()
    }

    fn digest(&self) -> String {
        let digest = Gapless::new(["digest", &self.two.location("db"), "--quiet"]);
        digest.args(["--end", "2021-01-01"]).run().expect_status(0).out()
    }

    fn delete(&self, server: &Influxd, statement: &str) {
        server.influx_cli(["-database", "db", "-execute", statement]);
    }

    fn rows(&self, query: &str) -> usize {
        common::influxd::rows(&self.two.query(query)).len()
    }
}

fn actions(report: &Value) -> Vec<(String, u64)> {
    let actions = report["repair"]["actions"].as_object().unwrap();
    actions.iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect()
}

fn counted(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    let mut expected: Vec<_> = expected.iter().map(|(name, n)| ((*name).into(), *n)).collect();
    expected.sort();
    expected
}

#[test]
fn a_plan_writes_nothing_and_each_kind_of_difference_is_settled_as_it_says() {
    let both = Both::start();
    both.one.write("db", format!("cpu,host=a usage=99.25 {}\nnew,x=1 v=1,w=2 {}", at(10), at(5)));
    both.delete(&both.two, &format!("DELETE FROM cpu WHERE host = 'b' AND time = {}", at(70)));
    both.two.write("db", format!("cpu,host=c usage=1.5 {}", at(100) + MINUTE / 2));
    both.one.write("db", format!("typed v=1.5 {}", at(1)));
    both.two.write("db", format!("typed v=1i {}", at(1)));

    let before = both.digest();
    let plan = both.repair(&["--delete-extra"], 1);
    let expected = [("send", 4), ("conflict", 2), ("delete", 1)];
    assert_eq!(actions(&plan), counted(&expected), "{plan:#}");
    assert_eq!(plan["repair"]["applied"], false);
    let send = &plan["repair"]["send"];
    assert_eq!(
        (&send["cells"], &send["series"], &send["windows"]),
        (&4.into(), &2.into(), &2.into())
    );
    assert!(send["bytes"].as_u64().unwrap() > 40);
    assert!(plan["next"].as_str().unwrap().starts_with("gapless repair --apply"));
    assert_eq!(before, both.digest(), "a plan writes nothing");
    assert_eq!(std::fs::read_dir(both.dir.path()).unwrap().count(), 0, "nor any file");

    let applied = both.repair(&["--apply"], 1);
    assert_eq!(applied["counts"]["missing_in_destination"], 0);
    assert_eq!(applied["counts"]["value_changed"], 1);
    assert_eq!(applied["counts"]["extra_in_destination"], 1);
    assert_eq!(applied["sent"]["cells"], 4);

    let forced = both.repair(&["--apply", "--overwrite", "--delete-extra", "--undo-file=u"], 1);
    let expected = [("overwrite", 1), ("type_differs", 1), ("delete", 1)];
    assert_eq!(actions(&forced), counted(&expected), "{forced:#}");
    assert_eq!(forced["counts"]["type_changed"], 1);
    assert_eq!(
        (&forced["counts"]["value_changed"], &forced["counts"]["extra_in_destination"]),
        (&0.into(), &0.into())
    );

    both.delete(&both.one, "DROP MEASUREMENT typed");
    both.delete(&both.two, "DROP MEASUREMENT typed");
    let rest = both.repair(&[], 0);
    assert_eq!(rest["verdict"], "identical");
    assert_eq!(both.repair(&["--apply"], 0)["verdict"], "identical");
    both.two.write("db", format!("cpu,host=c usage=1.5 {}", at(100) + MINUTE / 2));
    let text =
        Gapless::new(["repair", &both.one.location("db"), &both.two.location("db"), "--quiet"])
            .run()
            .expect_status(1);
    text.expect_out("extra, left (--delete-extra): 1 cells").expect_out("this is a plan");
}

#[test]
fn only_the_named_extras_are_deleted() {
    only_the_named_extras("inmem");
}

#[test]
fn only_the_named_extras_are_deleted_by_the_other_index() {
    only_the_named_extras("tsi1");
}

fn only_the_named_extras(index: &str) {
    let both = Both::with_index(index);
    let time = at(500);
    both.two.query("CREATE RETENTION POLICY other ON db DURATION INF REPLICATION 1");
    both.one.query("CREATE RETENTION POLICY other ON db DURATION INF REPLICATION 1");
    let kept = [
        // A series with more tags, and others at the same time.
        format!("m,host=a,rack=1 v=1 {time}"),
        format!("m,host=b v=1 {time}"),
        format!("m,host=a v=1 {}", time + 1),
        format!("m v=1 {}", time + 1),
        format!("host,host=a host=1 {}", time + 1),
        // A field has the name of the tag.
        format!("host,host=b host=1 {time}"),
    ]
    .join("\n");
    for server in [&both.one, &both.two] {
        server.write("db", &kept);
        // Another policy holds the point: on both sides.
        assert_eq!(server.post_write("db", "other", format!("m,host=rp v=1 {time}"), "ns").0, 204);
        // One field only is extra.
        server.write("db", format!("m,host=half v=1 {time}"));
    }
    let hostile = "q\"uo't\\e,host=it's\\ \"here\"\\,\\=x,line=a\\\nb v=1";
    let extras = [
        format!("m,host=a v=1 {time}"),
        format!("m v=1 {time}"),
        format!("host,host=a host=1 {time}"),
        format!("{hostile} {time}"),
    ]
    .join("\n");
    both.two.write("db", &extras);
    both.two.write("db", format!("m,host=rp v=2 {time}\nm,host=half w=2 {time}"));
    let before = both.two.count("db", "");

    let list = both.path("list");
    let options =
        ["--delete-extra", "--apply", "--delete-list", &list, "--undo-file", &both.path("undo")];
    let report = both.repair(&options, 3);
    assert_eq!(actions(&report), counted(&[("delete", 4), ("refused", 2)]), "{report:#}");
    assert_eq!(report["verdict"], "incomplete");
    assert_eq!(report["repair"]["points_to_delete"], 4);
    assert!(report["repair"]["vanished"].is_null(), "{report:#}");
    assert_eq!(report["counts"]["missing_in_destination"], 0);
    assert_eq!(report["counts"]["extra_in_destination"], 2);
    assert_eq!(both.two.count("db", ""), before - 4);
    assert_eq!(std::fs::read_to_string(&list).unwrap().lines().count(), 4);
    let reasons = report["repair"]["items"].to_string();
    for reason in ["db.other holds a point of this series", "holds this point with other fields"] {
        assert!(reasons.contains(reason), "{reasons}");
    }

    // What was deleted comes back.
    let undo = Gapless::new(["copy", "--overwrite", &both.path("undo"), &both.two.location("db")]);
    undo.arg("--quiet").dir(both.dir.path()).run().expect_status(0);
    assert_eq!(both.two.count("db", ""), before);
    // Without pauses nothing is deleted.
    for pauses in ["--recheck=none", "--recheck=0s", "--recheck=0s,9s"] {
        both.repair_fails(&["--delete-extra", pauses], "--delete-extra needs --recheck");
    }
    both.repair_fails(&["--delete-extra", "--apply"], "needs --undo-file");
}

impl Both {
    fn repair_fails(&self, options: &[&str], words: &str) {
        Gapless::new(["repair", &self.one.location("db"), &self.two.location("db")])
            .args(options)
            .run()
            .expect_status(2)
            .expect_err(words);
    }
}

#[test]
fn an_undo_file_brings_the_old_state_back() {
    let both = Both::start();
    both.one
        .write("db", format!("cpu,host=a usage=99.25 {}\nnew v=\"a\nb \\\"\" {}", at(10), at(5)));
    both.two.write("db", format!("cpu,host=c usage=1.5 {}", at(100) + MINUTE / 2));
    let before = both.digest();
    let undo = both.path("undo.lp");
    let options = ["--apply", "--overwrite", "--delete-extra", "--undo-file", &undo];
    let report = both.repair(&options, 0);
    assert_eq!(report["repair"]["undo_file"], undo.as_str());
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&undo).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&undo).unwrap();
    assert!(text.contains("# created in db.autogen: new v=\"a\n#| b \\\"\""), "{text}");

    // A second repair does not write over it.
    both.delete(&both.two, "DROP MEASUREMENT new");
    let second = both.repair(&options, 0);
    assert_eq!(second["repair"]["undo_file"], format!("{undo}.2").as_str());
    assert_eq!(std::fs::read_to_string(&undo).unwrap(), text);

    both.delete(&both.two, "DROP MEASUREMENT new");
    let copy = Gapless::new(["copy", "--overwrite", &undo, &both.two.location("db"), "--quiet"]);
    copy.dir(both.dir.path()).run().expect_status(0).expect_out("sent 2 cells");
    assert_eq!(both.digest(), before);
}

#[test]
fn points_without_a_time_of_their_own_are_not_made_duplicates() {
    let both = Both::start();
    let (time, second) = (at(300), 1_000_000_000);
    both.one.write("db", format!("ping v=1,w=2 {time}\nping v=3 {}", time + 10 * second));
    both.two.write(
        "db",
        format!("ping v=1,w=2 {}\nping v=3 {}", time + second - 1, time + 11 * second),
    );
    let report = both.repair(&["--apply", "--delete-extra", "--undo-file=undo"], 1);
    // The second pair is a whole second apart: two points.
    let expected = [("shifted", 4), ("send", 1), ("delete", 1)];
    assert_eq!(actions(&report), counted(&expected), "{report:#}");
    assert!(report["repair"]["items"].to_string().contains("999999999 ns"));
    assert_eq!(both.rows("SELECT * FROM db..ping"), 2);
    both.repair(&["--apply", "--send-shifted"], 1);
    assert_eq!(both.rows("SELECT * FROM db..ping"), 3);
}

#[test]
fn a_writer_meanwhile_and_a_kill_in_the_middle_do_no_harm() {
    let both = Both::start();
    let mut more = String::new();
    for minute in 0..20_000 {
        writeln!(more, "mem,host=a used={minute}i,free={minute}.5 {}", at(minute)).unwrap();
    }
    both.one.write("db", &more);
    both.two.write("db", format!("mem,host=a used=-1i {}", at(0) + 1));
    let stop = AtomicBool::new(false);
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(now.as_nanos()).unwrap()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let line = format!("mem,host=live used=1i {}", now());
                both.one.write("db", &line);
                std::thread::sleep(Duration::from_millis(5));
                both.two.write("db", &line);
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let options = ["--apply", "--delete-extra", "--undo-file", "undo"];
            for pause in [300, 600, 1_000] {
                let running = Gapless::new(["repair", &both.one.location("db")])
                    .arg(both.two.location("db"))
                    .args(options)
                    .dir(both.dir.path())
                    .spawn();
                std::thread::sleep(Duration::from_millis(pause));
                running.kill9();
            }
            let report = both.repair(&options, 0);
            assert_eq!(report["verdict"], "identical", "{report:#}");
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!(both.rows("SELECT * FROM db..mem WHERE host = 'a'"), 20_000);
}

#[test]
fn what_cannot_be_repaired_is_said_at_once() {
    let both = Both::start();
    let digests = both.path("digests");
    let saved = Gapless::new(["digest", &both.one.location("db"), "-o", &digests, "--quiet"]).run();
    saved.expect_status(0);
    let repair = |source: &str, destination: &str| {
        Gapless::new(["repair", source, destination, "--quiet"]).run()
    };
    repair(&digests, &both.two.location("db")).expect_status(2);
    repair(&both.one.location("db"), &both.path("archive"))
        .expect_status(2)
        .expect_err("is no server");
    both.repair_fails(&["--send-deleted"], "--base");
}

#[test]
fn what_is_new_outside_of_the_scope_or_moving_is_never_deleted() {
    let both = Both::start();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_nanos()).unwrap();
    let extras = [
        format!("cpu,host=a v=1 {now}"),
        format!("cpu,host=a v=1 {}", at(400)),
        format!("cpu,host=b v=1 {}", at(390)),
        format!("cpu,host=moving v=1 {}", at(390)),
        format!("other,host=a v=1 {}", at(390)),
    ];
    both.two.write("db", extras.join("\n"));
    let end = at(395).to_string();
    let scope = ["--apply", "--delete-extra", "--undo-file=undo", "--end", &end, "--tag", "host=a"];
    assert!(actions(&both.repair(&[&scope[..], &["--measurement", "cpu"]].concat(), 0)).is_empty());
    let horizon = both.repair(&["--measurement", "cpu", "--delete-extra", "--tag", "host=a"], 1);
    assert_eq!(actions(&horizon), counted(&[("delete", 1)]), "{horizon:#}");

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 2;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                both.two.write("db", format!("cpu,host=moving v={value} {}", at(390)));
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let report = both.repair(
                &["--apply", "--delete-extra", "--undo-file=undo", "--tag", "host=moving"],
                3,
            );
            assert_eq!(report["counts"]["unstable"], 1, "{report:#}");
            assert!(actions(&report).is_empty());
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    for (host, rows) in [("moving", 1), ("a", 2), ("b", 1)] {
        let query = format!("SELECT v FROM db..cpu WHERE host = '{host}'");
        assert_eq!(both.rows(&query), rows, "{host}");
    }
    assert_eq!(both.rows("SELECT v FROM db..other"), 1);
}

#[test]
fn a_type_that_the_shard_group_cannot_hold_is_foreseen() {
    let both = Both::start();
    both.one.write("db", format!("mixed v=1.5,w=1 {}", at(2)));
    both.two.write("db", format!("mixed v=1i {}", at(90)));
    let expected = counted(&[("send", 1), ("type_differs", 1), ("extra", 1)]);
    let plan = both.repair(&[], 1);
    assert_eq!(actions(&plan), expected, "{plan:#}");
    let applied = both.repair(&["--apply"], 1);
    assert_eq!((&applied["sent"]["cells"], &applied["sent"]["rejected"]), (&1.into(), &0.into()));
    assert_eq!(applied["counts"]["missing_in_destination"], 1);
}
