//! A whole migration, rehearsed on real servers: `runbook` names the step that comes next, its commands are
//! run as they are printed, and the old server is called safe to stop only when no step was left out.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::influxd::rows;
use common::{Gapless, Influxd, Ran};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const SECOND: i64 = 1_000_000_000;
/// Between two points of a writer.
const STEP: i64 = 20 * SECOND;
const HOSTS: usize = 4;

/// Where a writer writes to.
const OLD: u8 = 0;
const BOTH: u8 = 1;
const NEW: u8 = 2;

/// A step that is left out of the script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LeftOut {
    Nothing,
    Backup,
    RestoreAndGap,
    Schema,
    DualWrite,
    Gap,
    Queries,
    SwitchOver,
}

struct Rehearsal {
    old: Influxd,
    new: Influxd,
    dir: TempDir,
    writers: [AtomicU8; HOSTS],
    stop: AtomicBool,
}

fn line(host: usize, at: i64) -> String {
    format!("cpu,host=h{host} load={at}.5,n={at}i {}\n", START + at * STEP)
}

impl Rehearsal {
    /// An old server that is in use, and a new one that is empty.
    fn start() -> Self {
        let (old, new) = (Influxd::start(), Influxd::start());
        old.create_database("telegraf");
        old.create_database("other db");
        for statement in [
            "CREATE RETENTION POLICY \"a week\" ON telegraf DURATION INF REPLICATION 1 SHARD DURATION 1d",
            "CREATE USER reader WITH PASSWORD 'secret-canary'",
            "CREATE USER boss WITH PASSWORD 'secret-canary' WITH ALL PRIVILEGES",
            "GRANT READ ON telegraf TO reader",
            "CREATE CONTINUOUS QUERY cq ON telegraf BEGIN SELECT mean(load) INTO telegraf.\"a week\".cpu_5m FROM \
             cpu GROUP BY time(520w), * END",
            "CREATE SUBSCRIPTION kapacitor ON \"other db\".autogen DESTINATIONS ALL 'http://127.0.0.1:9'",
        ] {
            old.query(statement);
        }
        let lines = |at: std::ops::Range<i64>| -> String {
            at.flat_map(|at| (0..HOSTS).map(move |host| line(host, at))).collect()
        };
        old.write("telegraf", lines(0..100));
        old.write("other db", lines(0..50));
        assert_eq!(old.post_write("telegraf", "a week", lines(0..50), "ns").0, 204);
        Self {
            old,
            new,
            dir: tempfile::tempdir().unwrap(),
            writers: Default::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Writes a point of now a host until the end, to where each writes at that time.
    fn write(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let now = i64::try_from(since.as_nanos()).unwrap();
            for host in 0..HOSTS {
                let to = self.writers[host].load(Ordering::SeqCst);
                let line = format!("cpu,host=h{host} load={now}.5,n={}i {now}\n", now / 7);
                if to != NEW {
                    self.old.write("telegraf", &line);
                }
                if to != OLD {
                    self.new.write("telegraf", &line);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Lets the writers write for a while.
    fn let_write(&self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }

    fn backup_dir(&self) -> String {
        self.dir.path().join("back up").to_str().unwrap().to_owned()
    }

    /// What the runbook says.
    fn runbook(&self, options: &[&str]) -> (Value, Ran) {
        let (old, new) = (self.old.location(""), self.new.location(""));
        let ran = Gapless::new(["runbook", "influxdb", &old, &new, "--json", "--quiet"])
            .args(["--lag", "1", "--bucket", "1s", "--recheck", "20ms,100ms,400ms"])
            .args(["--source-snapshot-port", &self.old.snapshot_port().to_string()])
            .args(["--destination-snapshot-port", &self.new.snapshot_port().to_string()])
            .args(options)
            .dir(self.dir.path())
            .run();
        let report =
            serde_json::from_str(&ran.out()).unwrap_or_else(|_| panic!("{}", ran.describe()));
        (report, ran.expect_nowhere("secret-canary"))
    }

    /// The runbook names this step. Gives its next command.
    #[track_caller]
    fn at(&self, step: &str) -> Option<String> {
        let (report, _) = self.runbook(&["--backup", &self.backup_dir()]);
        assert_eq!(report["step"], step, "{report:#}");
        assert_eq!(report["verdict"], "not_safe_to_stop");
        report["next"].as_str().map(str::to_owned)
    }

    /// Runs a command as it was printed.
    #[track_caller]
    fn run(&self, command: &str) -> Ran {
        let script = format!("gapless() {{ \"$BIN\" \"$@\" --quiet; }}\n{command}");
        Gapless::program("sh", ["-c", &script])
            .env("BIN", env!("CARGO_BIN_EXE_gapless"))
            .dir(self.dir.path())
            .run()
    }

    /// The migration, without one step. Gives what the runbook says in the end.
    fn migrate(&self, without: LeftOut) -> Value {
        if without != LeftOut::Backup {
            self.run(&self.at("backup").unwrap()).expect_status(0);
            self.let_write(1.0);
            if without != LeftOut::RestoreAndGap {
                let copy = self.at("restore").unwrap();
                assert!(copy.starts_with("gapless copy --create"), "{copy}");
                // In place of that command, by the stock tool.
                self.new.restore(self.backup_dir().as_ref());
            }
        }
        let schema = || {
            let (old, new) = (self.old.location(""), self.new.location(""));
            format!("gapless schema --apply --passwords gapless-passwords.jsonl {old} {new}")
        };
        match without {
            LeftOut::Schema => {}
            // Nobody has looked at the schema yet.
            LeftOut::Backup | LeftOut::RestoreAndGap => drop(self.run(&schema())),
            _ => {
                let next = self.at("schema").unwrap();
                assert!(next.contains("--passwords"), "{next}");
                self.run(&next);
            }
        }
        self.let_write(5.0);
        if without != LeftOut::DualWrite {
            if matches!(without, LeftOut::Nothing) {
                self.at("dual write");
            }
            for writer in &self.writers {
                writer.store(BOTH, Ordering::SeqCst);
                self.let_write(0.7);
            }
            // Until all of them were before the newest points that --lag leaves out.
            self.let_write(2.0);
        }
        self.change_the_past();
        if !matches!(without, LeftOut::Gap | LeftOut::RestoreAndGap) {
            self.fill(without);
        }
        if without != LeftOut::Queries {
            let (old, new) = (self.old.location(""), self.new.location(""));
            let command = match without {
                LeftOut::Nothing => self.at("continuous queries").unwrap(),
                _ => format!("gapless schema --apply --with-cqs --with-subscriptions {old} {new}"),
            };
            self.run(&command);
        }
        self.let_write(if without == LeftOut::DualWrite { 5.0 } else { 0.5 });
        if without != LeftOut::SwitchOver {
            if without == LeftOut::Nothing {
                self.at("switch over");
            }
            self.writers.iter().for_each(|writer| writer.store(NEW, Ordering::SeqCst));
            // Until the newest points at the old server are older than --lag.
            self.let_write(2.5);
        }
        let backup = self.backup_dir();
        let backup = ["--backup", &backup];
        self.runbook(if without == LeftOut::Backup { &[] } else { &backup }).0
    }

    /// A late point, one that is written again, and one that is deleted, all at the old server alone.
    fn change_the_past(&self) {
        self.old.write(
            "telegraf",
            format!("cpu,host=h0 load=1,n=1i {}\n", START - 5 * 86_400 * SECOND),
        );
        self.old.write("telegraf", format!("cpu,host=h1 load=-7 {}\n", START + 3 * STEP));
        let delete = format!("DELETE FROM cpu WHERE host = 'h2' AND time = {}", START + 5 * STEP);
        self.old.influx_cli(["-database", "telegraf", "-execute", &delete]);
    }

    /// Fills the gap, and settles what was written again, by the commands that the runbook names.
    fn fill(&self, without: LeftOut) {
        let (old, new) = (self.old.location(""), self.new.location(""));
        if without != LeftOut::Nothing {
            self.run(&format!(
                "gapless gaps --copy --create {old} {new} --lag 1 --recheck 20ms,100ms,400ms"
            ));
            self.run(&format!(
                "gapless repair --apply --overwrite {old} {new} --lag 1 --recheck 20ms,100ms"
            ));
            return;
        }
        let copy = self.at("gap").unwrap();
        assert!(copy.starts_with("gapless gaps --copy"), "{copy}");
        // What was written again is left, and said.
        self.run(&format!("{copy} --lag 1 --recheck 20ms,100ms,400ms")).expect_status(1);
        let repair = self.at("gap").unwrap();
        assert!(repair.starts_with("gapless repair --apply --base"), "{repair}");
        self.run(&format!("{repair} --lag 1 --recheck 20ms,100ms,400ms"));
    }
}

/// Rehearses while the writers write.
fn rehearse(without: LeftOut, check: impl FnOnce(&Rehearsal, Value)) {
    /// Ends the writers however it ends.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let rehearsal = Rehearsal::start();
    std::thread::scope(|scope| {
        let _end = End(&rehearsal.stop);
        scope.spawn(|| rehearsal.write());
        let report = rehearsal.migrate(without);
        check(&rehearsal, report);
    });
}

#[test]
fn a_migration_ends_in_safe_to_stop_and_both_servers_answer_alike() {
    rehearse(LeftOut::Nothing, |it, report| {
        assert_eq!(report["verdict"], "safe_to_stop", "{report:#}");
        assert_eq!(report["exit_status"], 0);
        let (_, ran) = it.runbook(&["--backup", &it.backup_dir()]);
        ran.expect_status(0);
        let until = START + 100 * STEP;
        for query in [
            format!(
                "SELECT count(*), sum(n), max(load) FROM cpu WHERE time < {until} AND host != 'h2' GROUP BY host"
            ),
            format!("SELECT * FROM cpu WHERE host = 'h1' AND time < {until}"),
            "SELECT * FROM \"a week\".cpu WHERE host != 'h2'".into(),
            "SHOW CONTINUOUS QUERIES".into(),
            "SHOW RETENTION POLICIES".into(),
            "SHOW GRANTS FOR reader".into(),
            "SHOW TAG VALUES WITH KEY = host".into(),
            "SHOW FIELD KEYS".into(),
        ] {
            let answer = |server: &Influxd| {
                let lines = server.influx_cli([
                    "-database",
                    "telegraf",
                    "-precision",
                    "ns",
                    "-execute",
                    &query,
                ]);
                let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            let (old, new) = (answer(&it.old), answer(&it.new));
            assert_eq!(old, new, "{query}");
            assert!(!old.is_empty(), "{query}");
        }
        // It is safe only as long as nobody writes there.
        it.old.write("telegraf", "cpu,host=h9 load=1");
        let (report, _) = it.runbook(&["--backup", &it.backup_dir()]);
        assert_eq!(report["verdict"], "not_safe_to_stop", "{report:#}");
    });
}

#[track_caller]
fn names(without: LeftOut, steps: &[&str]) {
    rehearse(without, |_, report| {
        assert_eq!(report["verdict"], "not_safe_to_stop", "{report:#}");
        assert_eq!(report["exit_status"], 3);
        assert!(steps.iter().any(|step| report["step"] == *step), "{report:#}");
    });
}

#[test]
fn without_a_backup_it_is_not_safe() {
    names(LeftOut::Backup, &["backup"]);
}

#[test]
fn without_the_restore_and_the_gap_it_is_not_safe() {
    names(LeftOut::RestoreAndGap, &["restore"]);
}

#[test]
fn without_the_schema_it_is_not_safe() {
    names(LeftOut::Schema, &["schema"]);
}

#[test]
fn without_dual_write_it_is_not_safe() {
    // What the writers wrote until they were switched over is missing.
    names(LeftOut::DualWrite, &["dual write", "gap"]);
}

#[test]
fn with_the_gap_open_it_is_not_safe() {
    names(LeftOut::Gap, &["gap"]);
}

#[test]
fn without_continuous_queries_it_is_not_safe() {
    names(LeftOut::Queries, &["continuous queries"]);
}

#[test]
fn while_clients_write_to_the_old_server_it_is_not_safe() {
    names(LeftOut::SwitchOver, &["switch over"]);
}

/// A port before a server, which calls it InfluxDB Enterprise.
fn enterprise(to: u16) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map(Result::unwrap) {
            std::thread::spawn(move || {
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).unwrap();
                let (mut asks, mut is_asked) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    std::io::copy(&mut asks, &mut is_asked).ok();
                    is_asked.shutdown(Shutdown::Write).ok();
                });
                let (mut client, mut buffer) = (client, [0; 65_536]);
                while let Ok(length @ 1..) = server.read(&mut buffer) {
                    // Of the same length.
                    let text = buffer[..length].to_vec();
                    let at = text.windows(9).position(|part| part == b"1.6.7~rc0");
                    let mut text = text;
                    if let Some(at) = at {
                        text[at..at + 9].copy_from_slice(b"1.8.9-c19");
                    }
                    if client.write_all(&text).is_err() {
                        break;
                    }
                }
                client.shutdown(Shutdown::Both).ok();
            });
        }
    });
    port
}

#[test]
fn replicas_of_a_cluster_are_unproven_until_the_operator_accepts_that() {
    let (old, new) = (Influxd::start(), Influxd::start());
    for server in [&old, &new] {
        server.create_database("db");
        server.write("db", line(1, 1));
    }
    assert!(!rows(&old.query("SHOW DATABASES")).is_empty());
    let cluster = format!("influxdb://127.0.0.1:{}", enterprise(new.port()));
    let run = |options: &[&str]| {
        Gapless::new(["runbook", "influxdb", &old.location(""), &cluster, "--quiet", "--lag", "0"])
            .args(["--recheck", "none", "--accept", "no-backup"])
            .args(options)
            .run()
    };
    run(&[]).expect_status(3).expect_out("per replica: unproven").expect_out("NOT SAFE TO STOP");
    run(&["--accept", "unproven-replicas"]).expect_status(0).expect_out("SAFE TO STOP");
}

#[test]
fn what_narrows_the_comparison_is_refused() {
    for options in [&["--db", "x"][..], &["--start", "2020-01-01"], &["--measurement", "m"]] {
        Gapless::new(["runbook", "influxdb", "influxdb://127.0.0.1:1", "influxdb://127.0.0.1:2"])
            .args(options)
            .run()
            .expect_status(2)
            .expect_err("a whole server is to be stopped");
    }
    Gapless::new(["runbook", "influxdb", "influxdb://127.0.0.1:1/db", "influxdb://127.0.0.1:2"])
        .run()
        .expect_status(2);
}
