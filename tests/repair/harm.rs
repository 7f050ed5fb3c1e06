//! `repair` where the source cannot be believed, where sides move meanwhile, and where it is ended: what is
//! not known to be as it was compared is left.

use super::common::forward::{Behaviour, Forward};
use super::common::{self, Gapless};
use super::{Both, MINUTE, START, actions, at, counted, lines};
use serde_json::Value;
use std::fmt::Write;
use std::time::{Duration, Instant};

impl Both {
    /// A repair from another source than the first server.
    fn repair_from(&self, source: &str, options: &[&str]) -> Gapless {
        Gapless::new(["repair", source, &self.two.location("db"), "--json", "--quiet"])
            .args(options)
            .dir(self.dir.path())
    }

    /// The same through a port that tells the first write to come again in a while: what is to happen
    /// between the comparison and what follows happens then.
    pub(super) fn repair_meanwhile(
        &self,
        options: &[&str],
        status: i32,
        meanwhile: impl FnOnce(),
    ) -> Value {
        let behaviour = Behaviour { first_busy: 3, ..Behaviour::default() };
        let port = Forward::start(self.two.port(), behaviour);
        let there = format!("influxdb://127.0.0.1:{}/db", port.port());
        let running = Gapless::new(["repair", &self.one.location("db"), &there])
            .args(["--json", "--quiet", "--apply"])
            .args(options)
            .dir(self.dir.path())
            .spawn();
        wait_for(|| port.refused() > 0);
        meanwhile();
        let ran = running.wait().expect_status(status);
        serde_json::from_str(&ran.out()).unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

fn wait_for(done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn json(ran: &common::Ran) -> Value {
    serde_json::from_str(&ran.out()).unwrap()
}

/// Every action but one about what is extra leaves it.
fn assert_deletes_nothing(both: &Both, report: &Value, why: &str) {
    assert_eq!(report["repair"]["points_to_delete"], 0, "{report:#}");
    assert!(actions(report).iter().all(|(name, _)| name != "delete"), "{report:#}");
    assert!(report["repair"]["items"].to_string().contains(why), "{report:#}");
    assert_eq!(both.rows("SELECT * FROM db..cpu"), 540);
}

const DELETES: [&str; 2] = ["--delete-extra", "--undo-file=undo"];
const OVER_ALL: [&str; 4] = ["--start", "2020-07-01", "--end", "2020-08-01"];

#[test]
fn a_line_file_with_rejected_lines_deletes_nothing() {
    let both = Both::start();
    let text = lines().replacen("usage=7.5,n=7i", "usage=7.5,n=", 1);
    std::fs::write(both.path("lines"), format!("# CONTEXT-DATABASE: db\n{text}")).unwrap();
    let options = [&DELETES[..], &OVER_ALL].concat();
    let ran = both.repair_from("lines", &options).run().expect_status(1);
    assert_deletes_nothing(&both, &json(&ran), "1 lines of it were rejected");
    let ran = both.repair_from("lines", &options).arg("--apply").run().expect_status(3);
    assert_deletes_nothing(&both, &json(&ran), "1 lines of it were rejected");
    // The whole file may delete, for times that are named.
    std::fs::write(both.path("lines"), format!("# CONTEXT-DATABASE: db\n{}", lines())).unwrap();
    both.two.write("db", format!("cpu,host=a n=1i {}", at(1) + 1));
    both.repair_from("lines", &DELETES)
        .arg("--start=2020-07-01")
        .run()
        .expect_status(2)
        .expect_err("--delete-extra needs --start and --end");
    both.repair_from("lines", &options).arg("--apply").run().expect_status(0);
    assert_eq!(both.rows("SELECT * FROM db..cpu"), 540);
}

#[test]
fn files_that_were_not_read_delete_nothing() {
    let mut both = Both::start();
    both.one.flush();
    both.one.stop();
    let shard = both.one.data_dir().join("data/db/autogen");
    let mut files = Vec::new();
    for shard in std::fs::read_dir(shard).unwrap() {
        let inside = std::fs::read_dir(shard.unwrap().path()).unwrap();
        files.extend(inside.map(|file| file.unwrap().path()));
    }
    let tsm: Vec<_> =
        files.iter().filter(|file| file.extension().is_some_and(|end| end == "tsm")).collect();
    assert!(!tsm.is_empty(), "{files:?}");
    for file in tsm {
        std::fs::rename(file, file.with_extension("tsm.bad")).unwrap();
    }
    let source = both.one.data_dir().to_str().unwrap().to_owned();
    let options = [&DELETES[..], &OVER_ALL, &["--db", "db"]].concat();
    let ran = both.repair_from(&source, &options).run().expect_status(1);
    assert_deletes_nothing(&both, &json(&ran), "it was not read in full");
    let ran = both.repair_from(&source, &options).arg("--apply").run().expect_status(3);
    assert_deletes_nothing(&both, &json(&ran), "it was not read in full");
    both.repair_from(&source, &[&DELETES[..], &["--lag", "0"]].concat()).run().expect_status(1);
}

#[test]
fn a_backup_deletes_nothing_that_it_does_not_cover() {
    let both = Both::start();
    // A second shard group, which the backup leaves out.
    let week = 7 * 24 * 60 * MINUTE;
    for server in [&both.one, &both.two] {
        server.write("db", format!("other v=1 {}", START + 2 * week));
    }
    let backup = both.path("backup");
    let mut arguments = vec!["-portable", "-database", "db"];
    arguments.extend(["-start", "2020-07-28T00:00:00Z", "-end", "2020-08-30T00:00:00Z"]);
    both.one.backup(&arguments, backup.as_ref());
    let far = [&DELETES[..], &["--start", "2020-07-01", "--end", "2030-08-30"]].concat();
    both.repair_from(&backup, &DELETES).run().expect_status(2).expect_err("--start and --end");
    let ran = both.repair_from(&backup, &far).arg("--apply").run().expect_status(3);
    assert_deletes_nothing(&both, &json(&ran), "it may have been left out");

    // And nothing that was written after it was made.
    let whole = both.path("whole");
    both.one.backup(&["-portable", "-database", "db"], whole.as_ref());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_nanos()).unwrap();
    both.two.write("db", format!("late v=1 {}\nlate v=2 {}", now + 500_000_000, at(3)));
    std::thread::sleep(Duration::from_secs(3));
    let options = [&far[..], &["--lag", "0", "--apply"]].concat();
    let report = json(&both.repair_from(&whole, &options).run().expect_status(3));
    assert_eq!(actions(&report), counted(&[("delete", 1), ("refused", 1)]), "{report:#}");
    assert!(report["repair"]["items"].to_string().contains("the source says nothing of"));
    assert_eq!(both.rows("SELECT * FROM db..late"), 1);
}

#[test]
fn a_source_that_is_gone_meanwhile_deletes_nothing() {
    let both = Both::start();
    both.two.write("db", format!("cpu,host=extra n=1i {}", at(5)));
    let running = Gapless::new(["repair", &both.one.location("db"), &both.two.location("db")])
        .args(["--json", "--quiet", "--apply", "--recheck=4s"])
        .args(DELETES)
        .dir(both.dir.path())
        .spawn();
    std::thread::sleep(Duration::from_secs(2));
    both.one.query("DROP DATABASE db");
    let ran = running.wait();
    assert_eq!(both.rows("SELECT * FROM db..cpu WHERE host = 'extra'"), 1, "{}", ran.describe());
}

#[test]
fn an_end_does_not_reach_beyond_the_horizon() {
    let both = Both::start();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_nanos()).unwrap();
    both.two.write("db", format!("cpu,host=a n=1i {}", now - MINUTE));
    let options = [&DELETES[..], &["--end", "2100-01-01", "--apply"]].concat();
    let report = both.repair(&options, 0);
    assert!(actions(&report).is_empty(), "{report:#}");
    assert!(report["not_covered"].to_string().contains("'s clock less 600 s (--lag)"));
    assert_eq!(both.rows("SELECT * FROM db..cpu"), 541);
}

#[test]
fn a_base_settles_nothing_of_a_policy_that_it_does_not_hold() {
    let both = Both::start();
    let base = both.path("base");
    Gapless::new(["copy", &both.one.location("db"), &base, "--quiet"]).run().expect_status(0);
    for (server, value) in [(&both.one, 9), (&both.two, 1)] {
        server.query("CREATE RETENTION POLICY p2 ON db DURATION INF REPLICATION 1");
        let line = format!("cpu,host=a n={value}i {}", at(1));
        assert_eq!(server.post_write("db", "p2", line, "ns").0, 204);
    }
    both.repair_from(&both.one.location("db"), &["--base", &base, "--apply"])
        .run()
        .expect_status(4)
        .expect_err("no base for db.p2");
    let query = "SELECT n FROM db.p2.cpu";
    assert_eq!(common::influxd::rows(&both.two.query(query))[0][1], 1);
}

#[test]
fn what_one_side_changed_and_the_other_deleted_is_left() {
    let both = Both::start();
    let base = both.path("base");
    Gapless::new(["copy", &both.one.location("db"), &base, "--quiet"]).run().expect_status(0);
    let delete = |minute| format!("DELETE FROM cpu WHERE host = 'a' AND time = {}", at(minute));
    both.one.write("db", format!("cpu,host=a usage=100,n=100i {}", at(1)));
    both.delete(&both.two, &delete(1));
    both.two.write("db", format!("cpu,host=a usage=200,n=200i {}", at(2)));
    both.delete(&both.one, &delete(2));
    let options = [&DELETES[..], &["--apply", "--base", &base]].concat();
    let report = both.repair(&options, 1);
    let expected = counted(&[("conflict", 2), ("deleted_and_changed", 2)]);
    assert_eq!(actions(&report), expected, "{report:#}");
    assert!(report["repair"]["items"].to_string().contains("deleted at the destination since"));
    assert_eq!(both.rows("SELECT * FROM db..cpu"), 539);
}

#[test]
fn what_changes_before_it_is_overwritten_or_deleted_is_left() {
    let both = Both::start();
    both.one.write("db", format!("cpu,host=a usage=71,n=72i {}\nnew v=1 {}", at(1), at(1)));
    both.two.write("db", format!("cpu,host=x usage=1 {}\ncpu,host=y usage=2 {}", at(5), at(6)));
    let options = [&DELETES[..], &["--overwrite", "--delete-list=list"]].concat();
    let report = both.repair_meanwhile(&options, 3, || {
        both.two.write("db", format!("cpu,host=a usage=99 {}", at(1)));
        both.two.write("db", format!("cpu,host=x usage=98 {}", at(5)));
    });
    let expected =
        [("send", 1), ("overwrite", 1), ("changed_meanwhile", 1), ("delete", 1), ("refused", 1)];
    assert_eq!(actions(&report), counted(&expected), "{report:#}");
    assert_eq!(report["repair"]["send"]["cells"], 2);
    let query = format!("SELECT usage, n FROM db..cpu WHERE host = 'a' AND time = {}", at(1));
    let row = common::influxd::rows(&both.two.query(&query))[0].clone();
    assert_eq!((&row[1], &row[2]), (&99.into(), &72.into()));
    assert_eq!(both.rows("SELECT * FROM db..cpu WHERE host = 'x'"), 1);
    let undo = both.read("undo");
    let former: Vec<&str> = undo.lines().filter(|line| !line.starts_with('#')).collect();
    let expected =
        [format!("cpu,host=a n=1i {}", at(1)), format!("cpu,host=y usage=2.0 {}", at(6))];
    assert_eq!(former, expected, "{undo}");
    assert!(undo.contains("# created in db.autogen: new v=1"), "{undo}");
    let list = both.read("list");
    assert!(list.contains("'y'") && !list.contains("'x'"), "{list}");
}

#[test]
fn an_interrupted_deletion_says_how_far_it_went_and_what_else_is_gone() {
    let both = Both::start();
    let mut extras = String::new();
    for number in 0..3_000 {
        writeln!(extras, "gone,host=a v={number}i {}", at(number)).unwrap();
    }
    both.two.write("db", extras);
    for server in [&both.one, &both.two] {
        server.write("db", format!("gone,host=bystander v=1i {}", at(0)));
    }
    let count = || both.rows("SELECT v FROM db..gone WHERE host = 'a'");
    let running = Gapless::new(["repair", &both.one.location("db"), &both.two.location("db")])
        .args(["--apply", "--quiet", "--delete-list=list"])
        .args(DELETES)
        .dir(both.dir.path())
        .spawn();
    wait_for(|| count() < 3_000);
    both.delete(&both.two, "DELETE FROM gone WHERE host = 'bystander'");
    running.interrupt();
    let ran = running.wait().expect_status(130);
    let left = count();
    assert!(left > 0, "it was interrupted in the middle");
    let deleted = format!("{} of 3000 points deleted, and 1 others vanished", 3_000 - left);
    let ran = ran.expect_err(&deleted).expect_err("what was there before is in undo");
    ran.expect_err(&format!("db.autogen gone,host=bystander {}", at(0)));
    // The undo file was there before, with all that was meant.
    assert_eq!(both.read("undo").lines().filter(|line| line.starts_with("gone,")).count(), 3_000);
}

#[test]
fn a_destination_that_dies_among_deletions_is_said_to_be_unseen() {
    let both = Both::start();
    let mut extras = String::new();
    for number in 0..3_000 {
        writeln!(extras, "gone,host=a v={number}i {}", at(number)).unwrap();
    }
    both.two.write("db", extras);
    let port = Forward::start(both.two.port(), Behaviour::default());
    let there = format!("influxdb://127.0.0.1:{}/db", port.port());
    let running = Gapless::new(["repair", &both.one.location("db"), &there])
        .args(["--apply", "--quiet", "--delete-list=list"])
        .args(DELETES)
        .dir(both.dir.path())
        .spawn();
    wait_for(|| both.rows("SELECT v FROM db..gone") < 3_000);
    port.die();
    running.interrupt();
    running
        .wait()
        .expect_status(130)
        .expect_err("nobody could look for points that vanished")
        .expect_err("of 3000 points deleted")
        .expect_err("what was there before is in undo");
}

#[test]
fn what_no_undo_file_can_hold_is_not_deleted() {
    let both = Both::start();
    both.two.query(&format!("SELECT n INTO db..\"#odd\" FROM db..cpu WHERE time = {}", at(1)));
    let odd = || both.rows("SELECT * FROM db..\"#odd\"");
    assert_eq!(odd(), 1);
    let report = both.repair(&[&DELETES[..], &["--apply"]].concat(), 3);
    assert_eq!(actions(&report), counted(&[("refused", 1)]), "{report:#}");
    assert!(report["repair"]["items"].to_string().contains("no undo file can hold"), "{report:#}");
    assert_eq!(odd(), 1);
}

#[test]
fn a_list_of_deletions_replaces_no_file() {
    let both = Both::start();
    std::fs::write(both.path("list"), "mine").unwrap();
    both.two.write("db", format!("cpu,host=x usage=1 {}", at(5)));
    let report = both.repair(&[&DELETES[..], &["--apply", "--delete-list=list"]].concat(), 0);
    assert_eq!(report["repair"]["delete_list"], "list.2");
    assert_eq!(both.read("list"), "mine");
    assert_eq!(both.read("list.2").lines().count(), 1);
}

#[test]
fn a_plan_with_many_deletions_names_a_command_that_works() {
    let both = Both::start();
    let mut extras = String::new();
    for number in 0..101 {
        writeln!(extras, "gone,host=a v={number}i {}", at(number)).unwrap();
    }
    both.two.write("db", extras);
    let plan = both.repair(&["--delete-extra"], 1);
    let next = plan["next"].as_str().unwrap().to_owned();
    let words: Vec<&str> = next.split(' ').skip(1).collect();
    Gapless::new(words).dir(both.dir.path()).run().expect_status(0);
    assert_eq!(both.rows("SELECT * FROM db..gone"), 0);
    assert_eq!(both.read("gapless-deleted.txt").lines().count(), 101);
}
