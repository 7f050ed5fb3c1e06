//! TLS: a server is spoken to only when it proves to be the one named, by TLS 1.2 or later, unless
//! the operator asks for less, which is said each time and written down.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::certificates::{Authority, Identity, LOOPBACK};
use common::parrot::{self, Parrot};
use common::{Gapless, Influxd, Ran};
use rustls::version::{TLS12, TLS13};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

const YEARS: (i32, i32) = (2000, 4000);
const PASSWORD: &str = "not for strangers";

fn inspect(port: u16, ca: &Path) -> Ran {
    let location = format!("influxdbs://ops@127.0.0.1:{port}/d");
    Gapless::new(["inspect", &location, "--ca"])
        .arg(ca)
        .env("GAPLESS_SOURCE_PASSWORD", PASSWORD)
        .run()
}

fn pong() -> String {
    parrot::reply("204 No Content", "X-Influxdb-Version: 1.6.7\r\n", "")
}

#[test]
fn a_server_that_does_not_prove_who_it_is_gets_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs, ca) = (Authority::new(), Authority::new(), dir.path().join("ca.pem"));
    ours.write(&ca);
    for (identity, words, next) in [
        (ours.issue(&LOOPBACK, (2000, 2001)), "has expired", "renew"),
        (ours.issue(&LOOPBACK, (3000, 3001)), "not trusted", "--ca FILE"),
        (ours.issue(&["db.example", "127.0.0.2"], YEARS), "not made out to", "name the host"),
        (theirs.issue(&LOOPBACK, YEARS), "not trusted", "--ca FILE"),
        (Identity::self_signed(&LOOPBACK), "not trusted", "--ca FILE"),
    ] {
        let server = Parrot::start_tls(pong(), identity.server(&[&TLS12, &TLS13]));
        let ran = inspect(server.port, &ca).expect_status(4);
        ran.expect_err(words).expect_err(next).expect_nowhere(PASSWORD);
        assert_eq!(server.asked(), [""; 0], "{words}: nothing was said to it");
    }
}

#[test]
fn both_current_protocols_are_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, ca) = (Authority::new(), dir.path().join("ca.pem"));
    authority.write(&ca);
    for version in [&TLS12, &TLS13] {
        let config = authority.issue(&LOOPBACK, YEARS).server(&[version]);
        let server = Parrot::start_tls(pong(), config);
        inspect(server.port, &ca).expect_status(4);
        let asked = server.asked();
        assert!(asked[0].starts_with("GET /ping"), "{version:?}: {asked:?}");
    }
}

/// The record in which a server chooses TLS 1.1 (RFC 4346, 7.4.1.3) and an old suite.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let mut record = vec![22, 3, 2, 0, 4 + 38, 2, 0, 0, 38];
    assert_eq!(hello.len(), 38);
    record.extend(hello);
    record
}

/// What a client sent before and after a reply.
struct Talk {
    begun: Vec<u8>,
    after: Vec<u8>,
}

/// Sends `reply` to whoever begins.
fn old_server(reply: Vec<u8>) -> (u16, std::thread::JoinHandle<Talk>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let talk = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut begun = vec![0; 16_384];
        let length = stream.read(&mut begun).unwrap();
        begun.truncate(length);
        stream.write_all(&reply).unwrap();
        let mut after = Vec::new();
        stream.read_to_end(&mut after).ok();
        Talk { begun, after }
    });
    (port, talk)
}

#[test]
fn a_server_that_chooses_an_old_protocol_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    Authority::new().write(&ca);
    let alert_of_protocol_version = vec![21, 3, 2, 0, 2, 2, 70];
    for reply in [hello_of_tls_1_1(), alert_of_protocol_version] {
        let (port, talk) = old_server(reply);
        let ran = inspect(port, &ca).expect_status(4);
        ran.expect_err("too old").expect_err("TLS 1.2 or 1.3");
        let Talk { begun, after } = talk.join().unwrap();
        // supported_versions (RFC 8446, 4.2.1): two of two bytes each, 1.3 and 1.2.
        let offered = [0, 43, 0, 5, 4, 3, 4, 3, 3];
        assert!(begun.windows(9).any(|window| window == offered), "{begun:x?}");
        let of_data = after.first() == Some(&23);
        assert!(!of_data && after.len() < 16, "nothing but an alert: {after:x?}");
    }
}

#[test]
fn a_certificate_is_ignored_only_when_asked_and_never_in_silence() {
    let influxd = Influxd::builder().auth("ops", PASSWORD).https().start();
    influxd.create_database("d");
    let dir = tempfile::tempdir().unwrap();
    let location = influxd.location("d");
    let run = |arguments: &[&str]| {
        let run = Gapless::new(arguments).dir(dir.path()).stdin("m v=1 1\n");
        let run = run.env("GAPLESS_SOURCE_PASSWORD", PASSWORD);
        run.env("GAPLESS_DESTINATION_PASSWORD", PASSWORD).run()
    };
    let copy = ["copy", "-", &location, "--quiet"];
    run(&copy).expect_status(4).expect_err("not trusted");
    assert_eq!(influxd.count("d", ""), 0);
    let asked = [&copy[..], &["--insecure-destination", "--report", "r.json"]].concat();
    let ran = run(&asked).expect_status(0);
    ran.expect_err("warning: INSECURE: the certificate of the destination is not verified")
        .expect_out("not covered: whether the destination is the one named");
    let report = std::fs::read_to_string(dir.path().join("r.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["insecure"], serde_json::json!(["destination"]));
    for command in ["inspect", "digest", "cat"] {
        run(&[command, &location]).expect_status(4).expect_err("not trusted");
        let ran = run(&[command, &location, "--insecure-source", "--quiet"]).expect_status(0);
        let said = ran.out() + &ran.err();
        assert!(said.contains("warning: INSECURE: the certificate of the source"), "{said}");
        assert!(said.contains("whether the source is the one named"), "{said}");
    }
    // What is verified says nothing.
    let ca = influxd.ca().to_str().unwrap();
    let ran = run(&["verify", &location, &location.replace("127.0.0.1", "localhost"), "--ca", ca]);
    assert!(!(ran.out() + &ran.err()).contains("INSECURE"), "{}", ran.describe());
}

#[test]
fn ignoring_certificates_where_there_are_none_is_a_mistake() {
    for arguments in [
        ["copy", "-", "influxdb://h/d", "--insecure-destination"],
        ["verify", "influxdb://h/d", "influxdbs://h/e", "--insecure-source"],
    ] {
        Gapless::new(arguments).run().expect_status(2).expect_err("is for influxdbs://");
    }
}
