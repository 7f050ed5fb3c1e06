//! `backup` of real servers: the stock `influxd restore -portable` takes it, nothing acknowledged is missing,
//! and an interruption, a cut reply or a full directory never leave what passes for a backup.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const SECOND: i64 = 1_000_000_000;
const WEEK: i64 = 7 * 24 * 3_600 * SECOND;

/// Two databases, three policies, a shard a week, a point written again.
fn source() -> Influxd {
    let server = Influxd::start();
    server.create_database("one");
    server.create_database("two words");
    server.query("CREATE RETENTION POLICY \"r p\" ON one DURATION INF REPLICATION 1");
    server.query("CREATE USER reader WITH PASSWORD 'p'");
    server.query("GRANT READ ON one TO reader");
    for week in 0..4 {
        let lines = |field: &str| -> String {
            let line = |at: i64| {
                let time = START + week * WEEK + at * SECOND;
                format!("cpu,host=h{} {field}={at}.25,s=\"text {at}\" {time}\n", at % 7)
            };
            (0..2_000).map(line).collect()
        };
        server.write("one", lines("a"));
        server.write("two words", lines("b"));
        assert_eq!(server.post_write("one", "r p", lines("c"), "ns").0, 204);
    }
    server.flush();
    server.write("one", format!("cpu,host=h1 a=-1 {}\n", START + SECOND));
    server
}

fn backup(location: &str, directory: &Path) -> Gapless {
    Gapless::new(["backup", location]).arg(directory).args(["--json", "--quiet"])
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out()).unwrap_or_else(|_| panic!("{}", ran.describe()))
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn ending(directory: &Path, end: &str) -> PathBuf {
    let name = files(directory).into_iter().find(|name| name.ends_with(end));
    directory.join(name.unwrap_or_else(|| panic!("no *{end} in {:?}", files(directory))))
}

/// Both hold the same, as `verify` says.
#[track_caller]
fn same(one: &str, other: &str) {
    let options = ["--json", "--quiet", "--lag", "0", "--recheck", "10ms", "--end", "2030-01-01"];
    let report = json(&Gapless::new(["verify", one, other]).args(options).run().expect_status(0));
    assert_eq!(report["verdict"], "identical", "{report:#}");
    assert!(report["counts"]["matched"].as_u64() > Some(10_000), "{report:#}");
}

#[test]
fn the_stock_tool_restores_a_backup_and_nothing_is_missing() {
    let (server, dir) = (source(), tempfile::tempdir().unwrap());
    let ours = dir.path().join("ours");
    let ran = backup(&server.snapshot_location(""), &ours).run().expect_status(0);
    let report = json(&ran);
    assert_eq!(report["verdict"], "complete");
    assert_eq!(report["shards"], 12);
    assert_eq!(report["databases"], serde_json::json!(["one", "two words"]));
    let directory = ours.to_str().unwrap();
    same(&server.location(""), directory);
    same(&server.location(""), ending(&ours, ".digest").to_str().unwrap());
    // What the stock tool takes holds the same, under names and in words of the same form.
    let theirs = dir.path().join("theirs");
    server.backup(&["-portable"], &theirs);
    same(directory, theirs.to_str().unwrap());
    let read = |path: PathBuf| fs::read(path).unwrap();
    assert_eq!(read(ending(&ours, ".meta")), read(ending(&theirs, ".meta")));
    let manifest = |directory: &Path| -> Value {
        serde_json::from_slice(&read(ending(directory, ".manifest"))).unwrap()
    };
    let (written, stock) = (manifest(&ours), manifest(&theirs));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&written), keys(&stock));
    assert_eq!(keys(&written["files"][0]), keys(&stock["files"][0]));

    let restored = Influxd::start();
    restored.restore(&ours);
    same(&server.location(""), &restored.location(""));
    // And so does copy, into a server that has nothing.
    let other = Influxd::start();
    Gapless::new(["copy", directory, &other.location(""), "--create", "--quiet"])
        .dir(dir.path())
        .run()
        .expect_status(0);
    same(&restored.location(""), &other.location(""));
    // The next command shows what came since.
    let next = report["next"].as_str().unwrap();
    let words: Vec<&str> = next.split(' ').skip(1).collect();
    Gapless::new(words.clone()).arg("--quiet").run().expect_status(0).expect_out("NO GAPS");
    server.write("one", format!("cpu,host=late a=1 {}\n", START - 5 * WEEK));
    Gapless::new(words).arg("--quiet").run().expect_status(1).expect_out("GAPS");
}

#[test]
fn deletes_that_the_stock_tool_would_undo_are_said() {
    let (server, dir) = (source(), tempfile::tempdir().unwrap());
    let delete = format!("DELETE FROM cpu WHERE host = 'h3' AND time < {}", START + WEEK);
    server.influx_cli(["-database", "one", "-execute", &delete]);
    let ours = dir.path().join("ours");
    let report = json(&backup(&server.snapshot_location(""), &ours).run().expect_status(0));
    // Two policies of the database.
    assert_eq!(report["shards_with_deletes"], 2, "{report:#}");
    same(&server.location(""), ours.to_str().unwrap());
    let (stock, copied) = (Influxd::start(), Influxd::start());
    stock.restore(&ours);
    let count = |server: &Influxd| server.count("one", "cpu");
    assert!(count(&stock) > count(&server), "the stock tool restores deletes now: say so no more");
    let copy = ["copy", ours.to_str().unwrap(), &copied.location(""), "--create", "--quiet"];
    Gapless::new(copy).dir(dir.path()).run().expect_status(0);
    same(&server.location(""), &copied.location(""));
}

#[test]
fn one_database_or_policy_is_taken_where_it_is_named() {
    let (server, dir) = (source(), tempfile::tempdir().unwrap());
    let take = |location: &str, options: &[&str], name: &str| {
        let directory = dir.path().join(name);
        json(&backup(location, &directory).args(options).run().expect_status(0))["shards"].clone()
    };
    assert_eq!(take(&server.snapshot_location("one"), &[], "a"), 8);
    assert_eq!(take(&server.snapshot_location(""), &["--db", "one", "--rp", "r p"], "b"), 4);
    let from = server.location("one/r%20p");
    let within = ["--db", "one", "--rp", "r p", "--quiet", "--recheck", "10ms"];
    let b = dir.path().join("b");
    Gapless::new(["verify", b.to_str().unwrap(), &from]).args(within).run().expect_status(0);
    let c = dir.path().join("c");
    backup(&server.snapshot_location("nothing"), &c).run().expect_status(4).expect_err("nothing");
    assert!(
        ending(&c, ".unfinished").exists() && !files(&c).iter().any(|it| it.ends_with(".manifest"))
    );
    // A database without a point gives nothing to restore.
    server.create_database("empty");
    let d = dir.path().join("d");
    let report = json(&backup(&server.snapshot_location("empty"), &d).run().expect_status(3));
    assert_eq!(report["verdict"], "incomplete");
}

#[test]
fn a_backup_goes_on_where_it_was_killed() {
    let (server, dir) = (source(), tempfile::tempdir().unwrap());
    let directory = dir.path().join("backup");
    let location = server.snapshot_location("");
    let (mut kills, mut before) = (0, 0);
    let report = loop {
        let running = backup(&location, &directory).spawn();
        std::thread::sleep(Duration::from_millis(4 + 3 * kills));
        let ran = running.kill9();
        if ran.status == Some(0) {
            break json(&ran);
        }
        kills += 1;
        assert!(kills < 300, "it never ends: {}", ran.describe());
        let there = if directory.exists() { files(&directory) } else { Vec::new() };
        let shards = there.iter().filter(|name| name.ends_with(".tar.gz")).count();
        assert!(shards >= before, "what is whole stays: {there:?}");
        before = shards;
        let whole = there.iter().any(|name| name.ends_with(".manifest"));
        let begun = there.iter().any(|name| name.ends_with(".unfinished"));
        assert!(!whole || begun || kills > 1, "{there:?}");
        if whole && !begun {
            // It was killed right behind its last step.
            break serde_json::json!({ "shards": 12 });
        }
    };
    assert!(kills > 1, "it was never killed");
    assert_eq!(report["shards"], 12);
    let names = files(&directory);
    assert!(!names.iter().any(|name| name.contains("partial") || name.contains("unfinished")));
    same(&server.location(""), directory.to_str().unwrap());
    same(&server.location(""), ending(&directory, ".digest").to_str().unwrap());
    println!("{kills} kills");
}

/// A port before a server's snapshot port, which ends the replies that hold a shard after so many bytes.
struct Cutting {
    port: u16,
    at: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Cutting {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (at, ended) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicBool::new(false)));
        let (limit, end) = (Arc::clone(&at), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let limit = limit.load(Ordering::SeqCst);
                std::thread::spawn(move || forward(stream, to, limit));
            }
        });
        Self { port, at, ended }
    }

    fn location(&self) -> String {
        format!("influxdb-snapshot://127.0.0.1:{}", self.port)
    }
}

impl Drop for Cutting {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

/// Forwards one request and its reply.
fn forward(mut client: TcpStream, to: u16, limit: u64) {
    let mut request = Vec::new();
    let mut byte = [0];
    while request.last() != Some(&b'\n') {
        match client.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).unwrap();
    server.write_all(&request).unwrap();
    let limit = if request[1] == 0 { limit } else { u64::MAX };
    std::io::copy(&mut server.take(limit), &mut client).ok();
    client.shutdown(Shutdown::Both).ok();
}

#[test]
fn a_reply_that_is_cut_short_is_never_stored() {
    let (server, dir) = (source(), tempfile::tempdir().unwrap());
    let port = Cutting::start(server.snapshot_port());
    let directory = dir.path().join("backup");
    // A multiple of a tar's blocks: what arrives looks whole but for its end.
    port.at.store(5_120, Ordering::SeqCst);
    let mut running = backup(&port.location(), &directory).args(["--jobs", "1"]).spawn();
    std::thread::sleep(Duration::from_millis(700));
    assert!(running.is_running(), "it asks again");
    assert!(
        !files(&directory).iter().any(|name| name.ends_with(".tar.gz")),
        "{:?}",
        files(&directory)
    );
    port.at.store(u64::MAX, Ordering::SeqCst);
    let report = json(&running.wait().expect_status(0));
    assert_eq!(report["shards"], 12);
    same(&server.location(""), directory.to_str().unwrap());
}

#[test]
fn a_server_that_never_hands_over_a_whole_shard_ends_the_backup() {
    let (server, dir) = (source(), tempfile::tempdir().unwrap());
    let port = Cutting::start(server.snapshot_port());
    port.at.store(1_000, Ordering::SeqCst);
    let directory = dir.path().join("backup");
    let ran = backup(&port.location(), &directory).run().expect_status(4);
    ran.expect_err("the tar is cut short").expect_err("the same command goes on");
    let text = directory.to_str().unwrap();
    Gapless::new(["verify", text, &server.location("")])
        .run()
        .expect_status(4)
        .expect_err("nothing known");
    port.at.store(u64::MAX, Ordering::SeqCst);
    json(&backup(&port.location(), &directory).run().expect_status(0));
    same(&server.location(""), text);
}

#[test]
fn a_signal_ends_it_and_the_same_command_goes_on() {
    let (server, dir) = (source(), tempfile::tempdir().unwrap());
    let port = Cutting::start(server.snapshot_port());
    let directory = dir.path().join("backup");
    port.at.store(5_120, Ordering::SeqCst);
    let running = backup(&port.location(), &directory).spawn();
    std::thread::sleep(Duration::from_millis(500));
    // Nobody else makes a backup there meanwhile.
    backup(&port.location(), &directory).run().expect_status(4).expect_err("another process");
    running.interrupt();
    running.wait().expect_status(130).expect_err("the same command goes on");
    port.at.store(u64::MAX, Ordering::SeqCst);
    json(&backup(&port.location(), &directory).run().expect_status(0));
    same(&server.location(""), directory.to_str().unwrap());
}

#[test]
fn other_directories_and_other_servers_are_refused() {
    let (server, other) = (source(), Influxd::start());
    let dir = tempfile::tempdir().unwrap();
    let (full, whole, begun) = ["full", "whole", "begun"].map(|name| dir.path().join(name)).into();
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "x").unwrap();
    let location = server.snapshot_location("");
    backup(&location, &full).run().expect_status(4).expect_err("is not empty");
    assert_eq!(files(&full), ["mine"]);
    backup(&location, &whole).run().expect_status(0);
    let before = files(&whole);
    backup(&location, &whole).run().expect_status(4).expect_err("holds a whole backup");
    assert_eq!(files(&whole), before);
    backup(&server.snapshot_location("nothing"), &begun).run().expect_status(4);
    backup(&other.snapshot_location(""), &begun)
        .run()
        .expect_status(4)
        .expect_err("was begun in it");
    backup(&server.location(""), &begun).run().expect_status(2).expect_err("influxdb-snapshot://");
    let names: [&str; 2] = ["--db", "x"];
    backup(&server.snapshot_location("y"), &begun).args(names).run().expect_status(2);
}

#[test]
fn what_was_acknowledged_before_is_there_whatever_is_written_meanwhile() {
    let server = Influxd::builder()
        .config("data", "cache-snapshot-memory-size = \"64k\"")
        .config("data", "cache-snapshot-write-cold-duration = \"1s\"")
        .start();
    server.create_database("db");
    /// Ends the writer however the test ends.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let _end = End(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let first = written.load(Ordering::SeqCst);
                let line = |at: u64| {
                    format!("cpu,host=h{} v={at}i {}\n", at % 5, START + at.cast_signed() * SECOND)
                };
                server.write("db", (first..first + 500).map(line).collect::<String>());
                written.store(first + 500, Ordering::SeqCst);
            }
        });
        for round in 0..10 {
            while written.load(Ordering::SeqCst) < (round + 1) * 4_000 {
                std::thread::sleep(Duration::from_millis(5));
            }
            let acknowledged = written.load(Ordering::SeqCst);
            let directory = dir.path().join(round.to_string());
            json(&backup(&server.snapshot_location("db"), &directory).run().expect_status(0));
            let end = (START + acknowledged.cast_signed() * SECOND).to_string();
            let digest =
                Gapless::new(["inspect", directory.to_str().unwrap(), "--json", "--end", &end]);
            let report = json(&digest.args(["--db", "db", "--quiet"]).run().expect_status(0));
            assert_eq!(
                report["namespaces"][0]["cells"].as_u64(),
                Some(acknowledged),
                "round {round}: {report:#}"
            );
        }
    });
}
