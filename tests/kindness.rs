//! Kindness to both sides: a server is asked for as much as it takes and no more, several nodes
//! share the work, and a slow destination costs no memory.
//!
//! Servers are real ones; where one has to be busy, slow or dead at a certain moment, a port that
//! forwards to it is ([`Forward`]).

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::forward::Behaviour;
use common::ports::Port;
use common::{Forward, Gapless, Influxd, Ran};
use gapless::http::{Attempts, Call, Client, Fault, FaultKind, News, Retry, Role, Server};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WEEK: u64 = 604_800_000_000_000;
const START: u64 = 1_600_041_600_000_000_000;

/// Rows of one field over some weeks and measurements.
fn lines(weeks: u64, measurements: u64, rows: u64) -> String {
    let mut text = String::new();
    for week in 0..weeks {
        for measurement in 0..measurements {
            for row in 0..rows {
                let time = START + week * WEEK + row * 1_000_000_000;
                writeln!(text, "m{measurement},h={} v={row}i {time}", row % 3).unwrap();
            }
        }
    }
    text
}

fn file(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("in.lp");
    std::fs::write(&path, text).unwrap();
    path
}

fn nodes(ports: &[u16], path: &str) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("influxdb://{}/{path}", hosts.join(","))
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out()).unwrap_or_else(|error| panic!("{error}\n{}", ran.describe()))
}

/// Copies from one source, given as words of the command line, with the report as JSON.
fn copy(source: &Path, destination: &str) -> Gapless {
    Gapless::new(["copy", source.to_str().unwrap(), destination, "--json", "--progress", "plain"])
}

/// An empty database on a server of its own.
fn destination() -> Influxd {
    let server = Influxd::start();
    server.create_database("d");
    server
}

#[test]
fn a_server_that_takes_few_writes_at_once_is_sent_fewer() {
    let (server, dir) = (destination(), tempfile::tempdir().unwrap());
    // Each batch takes longer than the time between two, so that they are under way at once.
    let behaviour =
        Behaviour { writes_at_once: 2, bytes_a_second: 2_000_000, ..Behaviour::default() };
    let forward = Forward::start(server.port(), behaviour);
    let source = file(dir.path(), &lines(2, 4, 20_000));
    let ran = copy(&source, &nodes(&[forward.port()], "d"))
        .args(["--jobs", "16", "--rate", "100kcells/s"])
        .run()
        .expect_status(0);
    let report = json(&ran);
    assert_eq!(report["verdict"], "identical");
    let backoffs = report["pace"]["backoffs"]["503"].as_u64().unwrap();
    assert!((1..=forward.refused()).contains(&backoffs), "{report}");
    assert!(report["sent"]["retries"].as_u64().unwrap() >= forward.refused(), "{report}");
    assert!(report["pace"]["at_once"].as_u64().unwrap() < 16, "{report}");
    let at = |words: &str| ran.err().find(words).unwrap_or_else(|| panic!("{}", ran.describe()));
    assert!(at("state=backoff:503") > at("state=copy"));
    assert!(ran.err()[at("state=backoff:503")..].contains("state=copy"), "it recovers");
    ran.expect_err(&format!("backed off {backoffs} (503 {backoffs})"));
}

#[test]
fn a_dead_node_is_left_out_and_used_again_when_it_returns() {
    let (server, dir) = (destination(), tempfile::tempdir().unwrap());
    let dies = Behaviour { dies_after: 3, ..Behaviour::default() };
    let one = Forward::start(server.port(), dies);
    let two = Forward::start(server.port(), Behaviour::default());
    let source = file(dir.path(), &lines(1, 1, 60_000));
    // The rate makes it last longer than the pause of a node that is left out.
    let running = copy(&source, &nodes(&[one.port(), two.port()], "d"))
        .args(["--rate", "10kcells/s"])
        .spawn();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = |what: &dyn Fn() -> bool| {
        while !what() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    wait(&|| one.is_dead());
    let before = two.writes();
    wait(&|| two.writes() >= before + 3);
    one.revive();
    let ran = running.wait().expect_status(0);
    let report = json(&ran);
    assert_eq!(report["verdict"], "identical");
    assert!(one.writes() > 3, "it was used again: {}", ran.describe());
    let [first, second] = report["pace"]["nodes"].as_array().unwrap().as_slice() else {
        panic!("{report}")
    };
    assert_eq!((&first["left_out"], &first["is_out"]), (&1.into(), &false.into()), "{report}");
    assert_eq!((&second["left_out"], &second["writes"]), (&0.into(), &two.writes().into()));
    let name = format!("the destination's node 127.0.0.1:{}", one.port());
    ran.expect_err(&format!("{name} is left out"))
        .expect_err("answers again")
        .expect_err("left out 1");
    let source = source.to_str().unwrap();
    Gapless::new(["verify", source, &server.location("d")]).run().expect_status(0);
}

#[test]
fn a_node_that_is_dead_from_the_start_keeps_nothing_from_arriving() {
    let (server, dir) = (destination(), tempfile::tempdir().unwrap());
    let dead = Port::take();
    let source = file(dir.path(), &lines(1, 2, 1_000));
    let destination = nodes(&[dead.number, server.port()], "d");
    let ran = copy(&source, &destination).run().expect_status(0);
    let report = json(&ran);
    assert_eq!(report["verdict"], "identical");
    assert_eq!(report["pace"]["nodes"][0]["is_out"], true, "{report}");
    ran.expect_err(&format!("127.0.0.1:{} is left out", dead.number));
    // A source of several nodes is read in the same way; and a report says what was left out.
    Gapless::new(["verify", source.to_str().unwrap(), &destination]).run().expect_status(0);
    server.create_database("e");
    Gapless::new(["copy", &destination, &server.location("e"), "--lag", "0"])
        .run()
        .expect_status(0)
        .expect_out("IDENTICAL");
}

#[test]
fn nodes_that_are_all_dead_are_an_error_that_names_one() {
    let (dir, dead) = (tempfile::tempdir().unwrap(), [Port::take(), Port::take()]);
    let source = file(dir.path(), &lines(1, 1, 10));
    let destination = nodes(&[dead[0].number, dead[1].number], "d");
    copy(&source, &destination)
        .run()
        .expect_status(4)
        .expect_err(&dead[1].number.to_string())
        .expect_err("is the server running");
}

fn server_at(port: u16) -> Server {
    Server::at("127.0.0.1", port)
}

/// A client of some nodes that sends four requests at once to each.
fn client(nodes: &[&Forward]) -> Client {
    let servers = nodes.iter().map(|node| server_at(node.port())).collect();
    let (role, timeout) = (Role::Destination, Duration::from_secs(20));
    Client::of_nodes(servers, role, Retry::default(), timeout, 4).unwrap()
}

/// Writes one row, once.
fn write_row(client: &Client, at: usize) -> Result<u16, Fault> {
    let body = Some(format!("m v={at} {at}").into_bytes().into());
    let query = &[("db", b"d".as_slice())];
    let call = Call { what: "", path: "/write", query, headers: &[], body };
    client.write(&call, 8, &mut Attempts::new(client.retry())).map(|reply| reply.status)
}

#[test]
fn nothing_is_written_to_a_node_while_its_wish_to_wait_runs() {
    let server = destination();
    let behaviour = Behaviour { first_busy: 1, ..Behaviour::default() };
    let forward = Forward::start(server.port(), behaviour);
    let client = client(&[&forward]);
    assert_eq!(write_row(&client, 0).unwrap(), 503);
    let begun = Instant::now();
    std::thread::scope(|threads| {
        for at in 1..4 {
            let client = &client;
            threads.spawn(move || {
                assert_eq!(write_row(client, at).unwrap(), 204);
                assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
            });
        }
        // What is no write need not wait.
        let ping = Call { what: "", path: "/ping", ..Call::default() };
        assert_eq!(client.once(&ping).unwrap().status, 204);
    });
    // Another node has no part in it.
    let other = Forward::start(server.port(), Behaviour::default());
    let behaviour = Behaviour { first_busy: 60, ..Behaviour::default() };
    let busy = Forward::start(server.port(), behaviour);
    let client = self::client(&[&busy, &other]);
    for at in 4..8 {
        assert_eq!(write_row(&client, at).unwrap(), 204);
    }
    assert_eq!((busy.refused(), busy.writes(), other.writes()), (1, 0, 4));
}

#[test]
fn requests_fail_only_when_every_node_does() {
    let server = destination();
    let [one, two] = [(); 2].map(|()| Forward::start(server.port(), Behaviour::default()));
    let client = client(&[&one, &two]);
    let told: Arc<Mutex<Vec<News>>> = Arc::default();
    let theirs = Arc::clone(&told);
    client.tell(Arc::new(move |news| theirs.lock().unwrap().push(news)));
    for at in 0..4 {
        assert_eq!(write_row(&client, at).unwrap(), 204);
    }
    assert_eq!((one.writes(), two.writes()), (2, 2), "writes are spread");
    one.die();
    for at in 4..8 {
        // What broke off one node is not sent to the next: it may have been the cause.
        let written = match write_row(&client, at) {
            Err(fault) if fault.kind == FaultKind::Broken => write_row(&client, at),
            written => written,
        };
        assert_eq!(written.unwrap(), 204);
    }
    two.die();
    let fault = write_row(&client, 8).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Passing | FaultKind::Broken), "{fault:?}");
    assert!(fault.reason.starts_with("127.0.0.1:"), "{fault:?}");
    one.revive();
    // Nobody lives as far as is known: they are tried all the same.
    let deadline = Instant::now() + Duration::from_secs(60);
    while write_row(&client, 9).is_err() && Instant::now() < deadline {}
    assert_eq!(server.count("d", ""), 9);
    let told = told.lock().unwrap();
    let left_out = told.iter().filter(|news| matches!(news, News::LeftOut { .. })).count();
    assert_eq!(left_out, 2, "{told:?}");
    assert!(told.iter().any(|news| matches!(news, News::Returned { .. })), "{told:?}");
}

#[test]
fn a_place_is_not_compared_with_itself_by_any_of_its_nodes() {
    let server = destination();
    server.write("d", "m v=1 1");
    let forward = Forward::start(server.port(), Behaviour::default());
    let both = nodes(&[forward.port(), server.port()], "d");
    let other = format!("influxdb://localhost:{}/d", server.port());
    for (source, destination) in [(&both, &other), (&other, &both)] {
        Gapless::new(["verify", source, destination])
            .run()
            .expect_status(2)
            .expect_err("source and destination are the same");
    }
}

/// Asserts that a source, and a destination, that run so many queries at once are read all the same.
#[track_caller]
fn assert_read_below(limit: u32) {
    let line = format!("max-concurrent-queries = {limit}");
    let limited = || {
        let server = Influxd::builder().config("coordinator", &line).start();
        server.create_database("d");
        server
    };
    let (from, to) = (limited(), limited());
    from.write("d", lines(6, 6, 400));
    let (source, destination) = (from.location("d"), to.location("d"));
    let jobs = ["--jobs", "8", "--lag", "0", "--progress", "plain"];
    Gapless::new(["copy", &source, &destination])
        .args(jobs)
        .run()
        .expect_status(0)
        .expect_out("IDENTICAL");
    Gapless::new(["verify", &source, &destination])
        .args(jobs)
        .run()
        .expect_status(0)
        .expect_out("IDENTICAL")
        .expect_err("state=backoff:queries");
}

#[test]
fn a_server_that_runs_one_query_at_once_is_asked_one_at_a_time() {
    assert_read_below(1);
}

#[test]
fn a_server_that_runs_two_queries_at_once_is_asked_two_at_a_time() {
    assert_read_below(2);
}

#[test]
fn a_slow_destination_costs_no_memory() {
    let (server, dir) = (destination(), tempfile::tempdir().unwrap());
    let behaviour = Behaviour { bytes_a_second: 30_000_000, ..Behaviour::default() };
    let forward = Forward::start(server.port(), behaviour);
    let long = "a long text that says little ".repeat(700);
    let mut text = String::new();
    for row in 0..6_000_u64 {
        writeln!(text, "m,h={} s=\"{row} {long}\" {}", row % 7, START + row).unwrap();
    }
    assert!(text.len() > 120_000_000);
    let source = file(dir.path(), &text);
    let mut running = copy(&source, &nodes(&[forward.port()], "d"))
        .args(["--memory", "16", "--spill", dir.path().to_str().unwrap()])
        .spawn();
    // The peak is kept by the kernel and never falls: only what the last moment added is missed.
    let (status, mut peak) = (format!("/proc/{}/status", running.id()), 0);
    while running.is_running() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    let ran = running.wait().expect_status(0);
    assert_eq!(json(&ran)["verdict"], "identical");
    assert!(peak > 0 && peak < (16 + 64) << 10, "{peak} KiB");
    // What was sent took as long as the destination made it take.
    assert!(ran.elapsed >= Duration::from_secs(4), "{:?}", ran.elapsed);
}

#[test]
fn no_more_is_sent_in_a_second_than_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let source = file(dir.path(), &lines(1, 1, 10_000));
    for rate in ["10kcells/s", "300kB/s"] {
        let ran = copy(&source, "null:").args(["--rate", rate, "--jobs", "8"]).run();
        assert!(ran.elapsed >= Duration::from_millis(900), "{rate}: {}", ran.describe());
        let report = json(&ran.expect_status(0));
        assert_eq!(report["sent"]["cells"], 10_000);
        assert!(report["sent"]["requests"].as_u64().unwrap() >= 9, "evenly: {report}");
    }
    copy(&source, "null:").args(["--rate", "50"]).run().expect_status(2).expect_err("20MB/s");
}
