//! `repair` while clients write: what is newer than what was compared is not lost.

use super::common::forward::{Behaviour, Forward};
use super::common::{self, Gapless};
use super::{Both, actions, at, counted};
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

impl Both {
    fn value(&self, minute: i64) -> Vec<Value> {
        let query = format!("SELECT usage FROM db..cpu WHERE host = 'a' AND time = {}", at(minute));
        let value = |server: &common::Influxd| {
            let reply = server.query(&query);
            common::influxd::rows(&reply).first().map_or(Value::Null, |row| row[1].clone())
        };
        vec![value(&self.one), value(&self.two)]
    }
}

#[test]
fn a_newer_value_that_a_client_writes_to_both_sides_meanwhile_stays_at_both() {
    for missing in [true, false] {
        let both = Both::start();
        let minute = if missing { 400 } else { 1 };
        let line = |value: i64| format!("cpu,host=a usage={value} {}", at(minute));
        both.one.write("db", line(71));
        let report = both.repair_meanwhile(&["--overwrite"], 0, || {
            both.two.write("db", line(72));
            both.one.write("db", line(72));
        });
        let expected = if missing { "send" } else { "overwrite" };
        assert_eq!(actions(&report), counted(&[(expected, 1)]), "{report:#}");
        assert_eq!(both.value(minute), [72.0, 72.0], "{report:#}");
        assert_eq!(report["verdict"], "identical");
    }
}

#[test]
fn what_is_missing_and_changes_before_it_is_sent_is_left() {
    let both = Both::start();
    both.one.write("db", format!("cpu,host=a usage=71 {}", at(400)));
    // The first write is for another namespace, and is held up.
    for (server, value) in [(&both.one, 1), (&both.two, 2)] {
        server.query("CREATE RETENTION POLICY a ON db DURATION INF REPLICATION 1");
        let line = format!("m v={value} {}", at(1));
        assert_eq!(server.post_write("db", "a", line, "ns").0, 204);
    }
    assert_eq!(both.one.post_write("db", "a", format!("m v=3 {}", at(2)), "ns").0, 204);
    let many: String = (0..5_000).fold(String::new(), |mut lines, minute| {
        writeln!(lines, "many v=1 {}", at(minute)).unwrap();
        lines
    });
    assert_eq!(both.one.post_write("db", "a", many, "ns").0, 204);
    let report = both.repair_meanwhile(&[], 1, || {
        both.delete(&both.one, &format!("DELETE FROM cpu WHERE host = 'a' AND time = {}", at(400)));
    });
    let expected = [("send", 5_001), ("conflict", 1), ("changed_meanwhile", 1)];
    assert_eq!(actions(&report), counted(&expected), "{report:#}");
    assert_eq!(both.value(400), [Value::Null, Value::Null]);
}

#[test]
fn an_extra_point_that_changes_while_others_are_deleted_is_left() {
    let both = Both::start();
    let mut extras = String::new();
    for minute in 0..1_000 {
        writeln!(extras, "gone,host=a v={minute}i {}", at(minute)).unwrap();
    }
    both.two.write("db", extras);
    let slow = Behaviour { bytes_a_second: 100_000, ..Behaviour::default() };
    let slow = Forward::start(both.two.port(), slow);
    let there = format!("influxdb://127.0.0.1:{}/db", slow.port());
    let mut running = Gapless::new(["repair", &both.one.location("db"), &there])
        .args(["--json", "--quiet", "--apply", "--delete-extra"])
        .args(["--delete-list=list", "--undo-file=undo"])
        .dir(both.dir.path())
        .spawn();
    let left = || both.rows("SELECT v FROM db..gone");
    while running.is_running() && left() == 1_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    both.two.write("db", format!("gone,host=a v=-1i {}", at(999)));
    let ran = running.wait().expect_status(3);
    let report: Value = serde_json::from_str(&ran.out()).unwrap();
    assert_eq!(actions(&report), counted(&[("delete", 999), ("refused", 1)]), "{report:#}");
    assert_eq!(report["repair"]["points_to_delete"], 999);
    let reply = both.two.query("SELECT v FROM db..gone");
    let row = common::influxd::rows(&reply);
    assert_eq!((row.len(), &row[0][1]), (1, &(-1).into()));
    for file in ["undo", "list"] {
        let text = std::fs::read_to_string(both.path(file)).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("gone")).count(), 999, "{file}");
    }
}
