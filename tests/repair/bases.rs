//! `repair --base`: each kind of older state settles changes the same way.

use super::common::{self, Gapless, Influxd};
use super::{Both, MINUTE, START, actions, at, counted};

/// Changes on both sides of a base: what only one side changed is taken from there.
fn three_ways(base: impl Fn(&Both) -> String) {
    let both = Both::start();
    both.two.write("db", format!("cpu,host=a usage=-1 {}", START - MINUTE));
    both.one.write("db", format!("cpu,host=a usage=-1 {}", START - MINUTE));
    let base = base(&both);
    both.one.write("db", format!("cpu,host=a usage=100 {}\ncpu,host=a usage=300 {}", at(1), at(3)));
    both.two.write("db", format!("cpu,host=a usage=200 {}\ncpu,host=a usage=301 {}", at(2), at(3)));
    both.one.write("db", format!("cpu,host=a usage=7 {}", at(500)));
    both.two.write("db", format!("cpu,host=b usage=8 {}", at(501)));
    both.delete(&both.two, &format!("DELETE FROM cpu WHERE host = 'b' AND time = {}", at(4)));
    both.delete(
        &both.one,
        &format!("DELETE FROM cpu WHERE host = 'a' AND time = {}", START - MINUTE),
    );

    let options = ["--apply", "--delete-extra", "--base", &base, "--undo-file=undo"];
    let report = both.repair(&options, 1);
    let expected = [
        ("send", 1),
        ("overwrite", 1),
        ("keep_changed", 1),
        ("conflict", 1),
        ("may_be_deleted", 2),
        ("delete", 1),
        ("keep_added", 1),
    ];
    assert_eq!(actions(&report), counted(&expected), "{report:#}");
    let value = |minute: i64| {
        let query = format!("SELECT usage FROM db..cpu WHERE host = 'a' AND time = {}", at(minute));
        common::influxd::rows(&both.two.query(&query))[0][1].as_f64().unwrap()
    };
    assert_eq!([value(1), value(2), value(3), value(500)], [100.0, 200.0, 301.0, 7.0]);
    assert_eq!(both.rows(&format!("SELECT * FROM db..cpu WHERE time = {}", at(4))), 2);
    let again = [&options[..], &["--send-deleted"]].concat();
    both.repair(&again, 1);
    assert_eq!(both.rows(&format!("SELECT * FROM db..cpu WHERE time = {}", at(4))), 3);
}

#[test]
fn an_archive_as_the_base_settles_changes_three_ways() {
    three_ways(|both| {
        let archive = both.path("base");
        Gapless::new(["copy", &both.one.location("db"), &archive, "--quiet"])
            .run()
            .expect_status(0);
        archive
    });
}

#[test]
fn a_portable_backup_as_the_base_settles_changes_three_ways() {
    three_ways(|both| {
        let backup = both.path("backup");
        both.one.backup(&["-portable", "-database", "db"], backup.as_ref());
        backup
    });
}

#[test]
fn a_live_server_as_the_base_settles_changes_three_ways() {
    let old = Influxd::start();
    three_ways(|both| {
        old.create_database("db");
        Gapless::new(["copy", &both.one.location("db"), &old.location("db"), "--quiet"])
            .run()
            .expect_status(0);
        old.location("db")
    });
}

#[test]
fn a_line_file_as_the_base_settles_changes_three_ways() {
    three_ways(|both| {
        let lines = Gapless::new(["cat", &both.one.location("db"), "--quiet"]).run();
        let file = both.path("base.lp");
        std::fs::write(&file, lines.expect_status(0).stdout).unwrap();
        file
    });
}
