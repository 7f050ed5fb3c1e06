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

/// A digest file of the first server.
fn digest(both: &Both, name: &str, options: &[&str]) -> String {
    let file = both.path(name);
    let digest = Gapless::new(["digest", &both.one.location("db"), "-o", &file, "--quiet"]);
    digest.args(options).run().expect_status(0);
    file
}

#[test]
fn a_digest_file_as_the_base_settles_series_and_hours_three_ways() {
    let both = Both::start();
    for server in [&both.one, &both.two] {
        for (host, hour) in [("a", 0), ("b", 1), ("c", 2)] {
            server.write("db", format!("cpu,host={host} usage=-1 {}", at(hour * 60) + 1));
        }
    }
    let base = digest(&both, "base", &[]);
    let change = |server: &Influxd, host: &str, hour: i64, value: i64| {
        let (one, two) = (at(hour * 60 + 10), at(hour * 60) + 2 + value);
        server.write("db", format!("cpu,host={host} usage={value} {one}"));
        server.write("db", format!("cpu,host={host} usage={value} {two}"));
        let time = at(hour * 60) + 1;
        both.delete(server, &format!("DELETE FROM cpu WHERE host = '{host}' AND time = {time}"));
    };
    change(&both.one, "a", 0, 1);
    change(&both.two, "b", 1, 2);
    change(&both.one, "c", 2, 3);
    change(&both.two, "c", 2, 4);
    // Behind the hours that both changed: another series, of which nobody changed anything else.
    both.one.write("db", format!("cpu,host=new usage=7 {}", at(130)));

    let before = both.digest();
    let options = ["--delete-extra", "--base", &base, "--undo-file=undo"];
    let plan = both.repair(&options, 1);
    let expected = [
        ("overwrite", 1),
        ("send", 2),
        ("delete", 1),
        ("keep_changed", 1),
        ("keep_added", 1),
        ("may_be_deleted", 1),
        ("conflict", 3),
    ];
    assert_eq!(actions(&plan), counted(&expected), "{plan:#}");
    let changed = |side| plan["repair"]["items"].to_string().matches(side).count();
    assert_eq!(changed("\"at_source\""), 4);
    assert_eq!(changed("\"at_destination\""), 3);
    assert_eq!(changed("both sides changed this series and hour"), 3);
    assert_eq!(before, both.digest(), "a plan writes nothing");

    let applied = both.repair(&[&options[..], &["--apply"]].concat(), 1);
    assert_eq!(actions(&applied), counted(&expected), "{applied:#}");
    // What the source alone changed is the same by now; all else is left.
    let left = &applied["counts"];
    assert_eq!(left["value_changed"], 2, "{applied:#}");
    assert_eq!(left["missing_in_destination"], 2);
    assert_eq!(left["extra_in_destination"], 2);
    for host in ["a", "new"] {
        let tag = format!("host={host}");
        let same = Gapless::new(["verify", &both.one.location("db"), &both.two.location("db")]);
        same.args(["--quiet", "--tag", &tag, "--recheck=none"]).run().expect_status(0);
    }
}

#[test]
fn a_digest_file_of_other_series_or_times_settles_nothing() {
    let both = Both::start();
    let (others, early) = (
        digest(&both, "others", &["--tag", "host=b"]),
        digest(&both, "early", &["--end", "2020-07-19T01:30:00Z"]),
    );
    both.one
        .write("db", format!("cpu,host=a usage=100 {}\ncpu,host=a usage=100 {}", at(80), at(95)));
    let before = both.digest();
    let refused = |base: &str, options: &[&str], words: &str| {
        Gapless::new(["repair", &both.one.location("db"), &both.two.location("db"), "--apply"])
            .args(["--base", base])
            .args(options)
            .run()
            .expect_status(4)
            .expect_err(words);
    };
    refused(&others, &[], "it holds only the series of --tag host=b");
    refused(&early, &[], "it was not digested of db.autogen at 2020-07-19T01:35:00Z");
    let mut newer = std::fs::read(&early).unwrap();
    newer[16] += 1;
    std::fs::write(both.path("newer"), newer).unwrap();
    refused(&both.path("newer"), &[], "version");
    assert_eq!(before, both.digest(), "nothing was written");
    // Of the half hour that it covers it tells who changed it.
    let options = ["--apply", "--base", &early, "--end", "2020-07-19T01:30:00Z"];
    let report = both.repair(&options, 0);
    assert_eq!(actions(&report), counted(&[("overwrite", 1)]), "{report:#}");
}
