//! `repair` while it deletes: what vanishes beside, an interruption and the run that completes it, and lists
//! that are too long to be shown.

use super::common::forward::{Behaviour, Forward};
use super::common::{Gapless, Running};
use super::{Both, actions, at, counted};
use serde_json::Value;
use std::time::Duration;

/// Extra points, each beside one of another series that both sides hold.
const EXTRAS: i64 = 150;

/// Bytes a second at which a destination takes requests: its deletions take a few seconds.
const SLOW: u64 = 25_000;

impl Both {
    fn with_extras() -> Self {
        let both = Self::start();
        for minute in 0..EXTRAS {
            let time = at(minute);
            both.two.write("db", format!("m,host=extra v={minute} {time}"));
            for server in [&both.one, &both.two] {
                server.write("db", format!("m,host=kept v={minute} {time}"));
            }
        }
        both
    }

    fn extras(&self) -> usize {
        self.rows("SELECT v FROM db..m WHERE host = 'extra'")
    }

    fn kept(&self) -> usize {
        self.rows("SELECT v FROM db..m WHERE host = 'kept'")
    }

    /// Begins to delete by a slow port, and comes back when the first points are gone.
    fn deleting(&self, slow: &Forward) -> Running {
        let there = format!("influxdb://127.0.0.1:{}/db", slow.port());
        let mut running = Gapless::new(["repair", &self.one.location("db"), &there])
            .args(["--json", "--quiet", "--apply", "--delete-extra"])
            .args(["--delete-list", &self.path("list"), "--undo-file", &self.path("undo")])
            .spawn();
        let all = usize::try_from(EXTRAS).unwrap();
        while running.is_running() && self.extras() == all {
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }
}

#[test]
fn a_point_that_vanishes_beside_what_is_deleted_is_named_and_fails() {
    let both = Both::with_extras();
    let slow = Behaviour { bytes_a_second: SLOW, ..Behaviour::default() };
    let slow = Forward::start(both.two.port(), slow);
    let running = both.deleting(&slow);
    assert!(both.extras() > 0, "it was too fast");
    let last = at(EXTRAS - 1);
    both.delete(&both.two, &format!("DELETE FROM m WHERE host = 'kept' AND time = {last}"));
    let ran = running.wait().expect_status(4);
    let report: Value = serde_json::from_str(&ran.out()).unwrap();
    assert_eq!(report["verdict"], "lost", "{report:#}");
    let vanished = serde_json::json!([format!("db.autogen m,host=kept {last}")]);
    assert_eq!(report["repair"]["vanished"], vanished);
    assert_eq!((both.extras(), both.kept()), (0, 149));
    // What was asked for was done, and the rest is told as it is: one cell is missing.
    assert_eq!(report["counts"]["missing_in_destination"], 1);
    assert_eq!(report["counts"]["extra_in_destination"], 0);
}

#[test]
fn an_interrupted_repair_ends_with_130_and_another_one_completes_it() {
    let both = Both::with_extras();
    both.one.write("db", format!("cpu,host=a usage=7 {}", at(400)));
    let slow = Behaviour { bytes_a_second: SLOW, ..Behaviour::default() };
    let slow = Forward::start(both.two.port(), slow);
    let running = both.deleting(&slow);
    running.interrupt();
    let ran = running.wait().expect_status(130);
    let left = both.extras();
    let all = usize::try_from(EXTRAS).unwrap();
    assert!(left > 0 && left < all, "{left} extra points are left\n{}", ran.describe());
    assert_eq!(both.kept(), all);
    assert_eq!(both.rows(&format!("SELECT usage FROM db..cpu WHERE time = {}", at(400))), 1);
    // Everything that is gone can come back from what was written down before.
    let undo = std::fs::read_to_string(both.path("undo")).unwrap();
    assert_eq!(undo.lines().filter(|line| line.starts_with("m,host=extra ")).count(), all);

    let list = both.path("rest");
    let options = ["--apply", "--delete-extra", "--delete-list", &list, "--undo-file=more"];
    let report = both.repair(&options, 0);
    assert_eq!(report["verdict"], "identical", "{report:#}");
    assert_eq!(actions(&report), counted(&[("delete", left as u64)]));
    assert_eq!(std::fs::read_to_string(&list).unwrap().lines().count(), left);
    assert_eq!((both.extras(), both.kept()), (0, all));
}

#[test]
fn more_than_a_hundred_deletions_need_a_file_for_their_list() {
    let both = Both::start();
    both.one.write("db", format!("cpu,host=a usage=7 {}", at(400)));
    for minute in 0..100 {
        both.two.write("db", format!("m,host=extra v=1 {}", at(minute)));
    }
    let apply = || {
        Gapless::new(["repair", &both.one.location("db"), &both.two.location("db"), "--apply"])
            .args(["--delete-extra", "--progress=none", "--undo-file=undo"])
            .dir(both.dir.path())
            .run()
    };
    both.two.write("db", format!("m,host=extra v=1 {}", at(100)));
    apply().expect_status(2).expect_err("101 points").expect_err("--delete-list");
    assert_eq!(both.extras(), 101);
    assert_eq!(both.rows(&format!("SELECT usage FROM db..cpu WHERE time = {}", at(400))), 0);

    both.delete(&both.two, &format!("DELETE FROM m WHERE time = {}", at(100)));
    let listed = apply().expect_status(0);
    assert_eq!(listed.err().matches("DELETE FROM \"m\" WHERE time = ").count(), 100);
    assert_eq!(both.extras(), 0);

    for minute in 0..101 {
        both.two.write("db", format!("m,host=extra v=1 {}", at(minute)));
    }
    let list = both.path("list");
    let options = ["--apply", "--delete-extra", "--delete-list", &list, "--undo-file=undo"];
    let report = both.repair(&options, 0);
    assert_eq!(report["repair"]["points_to_delete"], 101);
    assert_eq!(std::fs::read_to_string(&list).unwrap().lines().count(), 101);
    assert_eq!(both.extras(), 0);
}
