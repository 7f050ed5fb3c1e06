//! The harness itself, against the real server: what the other tests rest on.

mod common;

use std::net::TcpStream;
use std::time::Duration;

use common::http::{self, Endpoint};
use common::influxd::rows;
use common::{Gapless, Influxd};

#[test]
fn two_servers_run_side_by_side_and_share_nothing() {
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(Influxd::start);
        let two = scope.spawn(Influxd::start);
        (one.join().unwrap(), two.join().unwrap())
    });
    one.create_database("db");
    two.create_database("db");
    one.write("db", "cpu,host=a usage=1,idle=2i 1700000000000000001");
    assert_eq!((one.count("db", ""), two.count("db", "")), (2, 0));
}

#[test]
fn a_query_gives_back_what_was_written_to_the_nanosecond() {
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", "m,t=x f=1.5,s=\"two\" 1700000000123456789");
    let reply = server.query("SELECT f, s, t FROM db..m");
    assert_eq!(
        rows(&reply),
        [&serde_json::json!([1_700_000_000_123_456_789_i64, 1.5, "two", "x"])]
    );
}

#[test]
fn a_count_covers_every_retention_policy_and_only_the_measurements_asked_for() {
    let server = Influxd::start();
    server.create_database("my db");
    server.query("CREATE RETENTION POLICY \"keep it\" ON \"my db\" DURATION 0s REPLICATION 1");
    server.write("my db", "cpu f=1,g=2 1\ncpu f=1 2\nmem f=1 1");
    let (status, reply) = server.post_write("my db", "keep it", "cpu f=1 7", "s");
    assert_eq!((status, reply.as_str()), (204, ""));
    assert_eq!(server.count("my db", ""), 5);
    assert_eq!(server.count("my db", "^cpu$"), 4);
    assert_eq!(server.count("my db", "^disk/x"), 0);
}

#[test]
fn a_refused_write_shows_its_status_and_reason() {
    let server = Influxd::builder().max_body_size(1_000).start();
    server.create_database("db");
    let (status, reply) = server.post_write("db", "", "not line protocol", "ns");
    assert_eq!(status, 400, "{reply}");
    assert!(reply.contains("unable to parse"), "{reply}");
    let (status, reply) = server.post_write("db", "", vec![b'x'; 2_000], "ns");
    assert_eq!(status, 413, "{reply}");
}

#[test]
fn a_long_reply_is_read_whole() {
    let server = Influxd::start();
    server.create_database("db");
    let lines: Vec<String> = (0..9_000).map(|at| format!("m f={at}i {at}")).collect();
    server.write("db", lines.join("\n"));
    let reply = server.query("SELECT f FROM db..m");
    assert_eq!(rows(&reply).len(), 9_000);
}

#[test]
fn authentication_takes_the_admin_and_refuses_a_wrong_password() {
    let server = Influxd::builder().auth("root", "it's a \\ secret").start();
    server.create_database("db");
    server.write("db", "m f=1 1");
    for user in [None, Some(("root", "wrong"))] {
        let endpoint = Endpoint { user, ..server.endpoint() };
        let reply = http::request(&endpoint, "GET", "/query?q=SHOW%20DATABASES", &[], &[]);
        assert_eq!(reply.unwrap().status, 401);
    }
    assert!(server.location("db").starts_with("influxdb://root@127.0.0.1:"));
    let shown = server.influx_cli(["-execute", "SHOW DATABASES"]);
    assert!(shown.lines().any(|line| line == "db"), "{shown}");
}

#[test]
fn https_is_trusted_by_its_own_authority_only() {
    let server = Influxd::builder().https().start();
    let other = Influxd::builder().https().start();
    server.create_database("db");
    let shown = server.influx_cli(["-execute", "SHOW DATABASES"]);
    assert!(shown.lines().any(|line| line == "db"), "{shown}");
    let stranger = Endpoint { ca: Some(other.ca()), ..server.endpoint() };
    let refused = http::request(&stranger, "GET", "/ping", &[], &[]).unwrap_err();
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
    let plain = Endpoint { ca: None, ..server.endpoint() };
    assert_ne!(
        http::request(&plain, "GET", "/ping", &[], &[]).map(|reply| reply.status).ok(),
        Some(204)
    );
    assert!(server.location("").starts_with("influxdbs://127.0.0.1:"));
}

#[test]
fn both_indexes_serve_and_tsi1_leaves_its_directory() {
    for (index, kept_on_disk) in [("inmem", false), ("tsi1", true)] {
        let server = Influxd::builder().index(index).start();
        server.create_database("db");
        server.write("db", "m,t=a f=1 1");
        assert_eq!(server.count("db", "m"), 1, "{index}");
        let shard = std::fs::read_dir(server.data_dir().join("data/db/autogen")).unwrap();
        let found =
            shard.map(|entry| entry.unwrap().path()).any(|path| path.join("index").is_dir());
        assert_eq!(found, kept_on_disk, "{index}");
    }
}

#[test]
fn a_restart_after_a_stop_or_a_kill_keeps_data_and_ports() {
    let mut server = Influxd::start();
    let ports = (server.port(), server.snapshot_port());
    server.create_database("db");
    server.write("db", "m f=1 1");
    let first = server.id();
    server.restart();
    assert_ne!(server.id(), first);
    assert_eq!(server.count("db", ""), 1);
    server.write("db", "m f=1 2");
    server.kill9();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart();
    assert_eq!(server.count("db", ""), 2);
    assert_eq!((server.port(), server.snapshot_port()), ports);
    server.stop();
    assert!(TcpStream::connect(("127.0.0.1", server.snapshot_port())).is_err());
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_files() {
    let server = Influxd::start();
    let (port, dir) = (server.port(), server.data_dir().to_owned());
    drop(server);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!dir.exists());
}

#[test]
#[should_panic(expected = "max-concurrent-compactions must be greater than 0")]
fn a_server_that_cannot_start_shows_its_log() {
    Influxd::builder().config("data", "max-concurrent-compactions = -1").start();
}

#[test]
fn a_portable_backup_is_taken_from_the_snapshot_port() {
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", "m f=1 1");
    let dir = tempfile::tempdir().unwrap();
    server.backup(&["-portable", "-database", "db"], dir.path());
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().any(|name| name.to_string_lossy().ends_with(".manifest")));
}

#[test]
fn the_command_under_test_is_started() {
    let ran = Gapless::new(["--version"]).run();
    assert!(ran.status.is_some(), "{}", ran.describe());
}

#[test]
fn a_run_keeps_status_output_input_and_environment() {
    let script = "cat; echo \"$WORD\" >&2; exit 3";
    let ran = Gapless::program("sh", ["-c", script]).stdin("in").env("WORD", "out").run();
    let ran = ran.expect_status(3).expect_out("in").expect_err("out").expect_nowhere("never");
    assert_eq!(ran.last_line(), "out");
}

#[test]
#[should_panic(expected = "said before")]
fn a_wrong_status_shows_what_was_output() {
    Gapless::program("sh", ["-c", "echo said before"]).run().expect_status(1);
}

#[test]
#[should_panic(expected = "still running after 200ms, killed")]
fn a_run_past_its_deadline_is_killed() {
    Gapless::program("sleep", ["60"]).timeout(Duration::from_millis(200)).run();
}

#[test]
fn a_started_run_can_be_interrupted_and_killed() {
    let trap = "trap 'exit 130' INT; echo ready; while :; do sleep 0.05; done";
    let running = Gapless::program("sh", ["-c", trap]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    running.interrupt();
    running.wait().expect_status(130).expect_out("ready");
    let killed = Gapless::program("sleep", ["60"]).spawn().kill9();
    assert_eq!(killed.status, None);
}
