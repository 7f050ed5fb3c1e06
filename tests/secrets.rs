//! A password is nowhere but in the request that needs it: not in arguments, logs at any level,
//! reports, reject files, archives, outputs, or what is left of a failure or panic.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::canary::Canary;
use common::certificates::{Authority, LOOPBACK};
use common::http::{base64, encode};
use common::parrot::{Parrot, reply};
use common::ports::Port;
use common::{Gapless, Influxd, Ran};
use std::io::Write;
use std::path::Path;

const ROWS: &str = "m,h=a v=1 1600000000000000000\nthis is no row\nm,h=b v=2 1600000001000000000\n";
const VARIABLES: [&str; 2] = ["GAPLESS_SOURCE_PASSWORD", "GAPLESS_DESTINATION_PASSWORD"];

/// Runs the command in `dir` as it says most: both outputs, and a log of everything.
fn run(dir: &Path, arguments: &[&str], format: &str) -> Gapless {
    let log = format!("log.{format}");
    let more = ["--log", &log, "--log-level", "trace", "--log-format", format];
    Gapless::new(arguments).args(more).dir(dir).stdin(ROWS)
}

fn with_password(gapless: Gapless, password: &str) -> Gapless {
    VARIABLES.iter().fold(gapless, |gapless, variable| gapless.env(variable, password))
}

fn assert_silent(canary: &Canary, ran: &Ran) {
    canary.assert_not_in(&ran.stdout, "standard output");
    canary.assert_not_in(&ran.stderr, "standard error");
}

#[test]
fn the_search_finds_what_is_planted() {
    let canary = Canary::new("planted7Kx");
    let text = &canary.text;
    for before in ["", "x", "xy", "user:"] {
        let credentials = base64(format!("{before}{text}").as_bytes());
        let with_more = base64(format!("{before}{text}&more").as_bytes());
        for planted in [credentials, with_more, format!("{before}{text}"), encode(text)] {
            assert!(canary.form_in(planted.as_bytes()).is_some(), "{planted}");
        }
    }
    assert!(canary.form_in(format!("{text:?}").as_bytes()).is_some());
    assert_eq!(canary.form_in(b"planted7K"), None);
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    assert_eq!(canary.assert_not_below(dir.path()), 0);
    let found = |name: &str, content: &[u8]| {
        std::fs::write(below.join(name), content).unwrap();
        let found = std::panic::catch_unwind(|| canary.assert_not_below(dir.path())).is_err();
        std::fs::remove_file(below.join(name)).unwrap();
        found
    };
    assert!(!found("x", b"nothing"));
    assert!(found("x", text.as_bytes()));
    assert!(found("planted7Kx", b""));
    assert!(found("x.zst", &zstd::encode_all(text.as_bytes(), 3).unwrap()));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    assert!(found("x.gz", &gzip.finish().unwrap()));
    // A process that waits for its input with the secret among its arguments.
    let mut child = std::process::Command::new("sh")
        .args(["-c", "read line", text])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let watch = canary.watch_arguments();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let seen = watch.stop();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!seen.found.is_empty());
}

/// Every command with a server whose password is the secret. Returns what they printed.
fn everything(dir: &Path, server: &str, ca: &[&str], arm: &dyn Fn(Gapless) -> Gapless) -> Vec<Ran> {
    let run =
        |arguments: &[&str], format: &str| arm(run(dir, &[arguments, ca].concat(), format)).run();
    vec![
        run(&["copy", "-", server, "--reject", "x.lp", "--report", "r.json"], "json")
            .expect_status(3),
        run(&["copy", server, "archive", "--end", "2030-01-01", "--json"], "text").expect_status(0),
        run(&["copy", "archive", server, "--gzip", "--journal", "journal"], "json")
            .expect_status(0),
        run(&["verify", server, "archive", "--report", "v.json"], "text").expect_status(0),
        run(&["inspect", server, "--json"], "json").expect_status(0),
        run(&["digest", server], "text").expect_status(0),
        run(&["digest", server, "-o", "d.digest", "--end", "2030-01-01"], "json").expect_status(0),
        run(&["inspect", "d.digest", "--json"], "text").expect_status(0),
        run(&["cat", server], "json").expect_status(0),
    ]
}

#[test]
fn a_password_is_nowhere_but_in_requests() {
    for https in [false, true] {
        let canary = Canary::new(if https { "tlsJw4Rt" } else { "plainJw4Rt" });
        let builder = Influxd::builder().auth("ops", &canary.text);
        let influxd = if https { builder.https().start() } else { builder.start() };
        influxd.create_database("d");
        let ca = if https { vec!["--ca", influxd.ca().to_str().unwrap()] } else { vec![] };
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = elsewhere.path().join("password");
        std::fs::write(&file, format!("{}\n", canary.text)).unwrap();
        let watch = canary.watch_arguments();
        let by_variable = |gapless: Gapless| with_password(gapless, &canary.text);
        let rans = everything(dir.path(), &influxd.location("d"), &ca, &by_variable);
        let by_file = run(dir.path(), &["verify", "archive", &influxd.location("d")], "text")
            .args(&ca)
            .arg("--destination-password-file")
            .arg(&file)
            .run()
            .expect_status(0);
        let seen = watch.stop();
        assert!(seen.gapless, "the command's arguments were looked at");
        assert_eq!(seen.found, [""; 0]);
        rans.iter().chain([&by_file]).for_each(|ran| assert_silent(&canary, ran));
        let files = canary.assert_not_below(dir.path());
        assert!(files >= 6, "logs, reports, rejects and the archive: {files}");
        let journal = dir.path().join("journal");
        assert!(std::fs::read_dir(journal).unwrap().count() > 0, "a journal was searched");
        let log = std::fs::read_to_string(dir.path().join("log.json")).unwrap();
        assert!(log.contains("\"path\":\"/query\""), "requests are in the log: {log}");
    }
}

#[test]
fn what_fails_tells_no_password() {
    let canary = Canary::new("failsBz8Uw");
    let text = &canary.text;
    let dir = tempfile::tempdir().unwrap();
    let influxd = Influxd::builder().auth("ops", "another password").start();
    let nobody = Port::take();
    let untrusted = Parrot::start_tls(
        reply("204 No Content", "", ""),
        Authority::new().issue(&LOOPBACK, (2000, 4000)).server(rustls::ALL_VERSIONS),
    );
    let to = format!("Location: http://ops:{}@localhost:1/ping\r\n", encode(text));
    let redirect = Parrot::start(reply("307 Temporary Redirect", &to, ""));
    let credentials = base64(format!("ops:{text}").as_bytes());
    let repeated = format!("password: {text}\nauthorization: Basic {credentials}\n");
    let repeats = Parrot::start(reply("403 Forbidden", "X-Influxdb-Version: 1.6.7\r\n", &repeated));
    let broken = Parrot::start("HTTP/1.1 204 No Content\r\nX-Influxdb");
    let plain = |port: u16| format!("influxdb://ops@127.0.0.1:{port}/d");
    let locations = [
        (influxd.location("d"), "HTTP 401"),
        (plain(nobody.number), "refused"),
        (plain(untrusted.port).replace("influxdb", "influxdbs"), "not trusted"),
        (plain(redirect.port), "HTTP 307"),
        (plain(repeats.port), "403"),
        (plain(broken.port), "HTTP"),
    ];
    for (location, words) in &locations {
        for (arguments, format) in [
            (vec!["inspect", location.as_str()], "json"),
            (vec!["copy", "-", location, "--report", "r.json", "--reject", "x.lp"], "text"),
        ] {
            let ran = with_password(run(dir.path(), &arguments, format), text)
                .env("RUST_BACKTRACE", "full")
                .run()
                .expect_status(4)
                .expect_err(words);
            assert_silent(&canary, &ran);
        }
    }
    assert!(canary.assert_not_below(dir.path()) >= 2);
}

#[test]
fn a_password_among_arguments_is_refused_and_not_repeated() {
    let canary = Canary::new("argumentTq5");
    let dir = tempfile::tempdir().unwrap();
    for location in ["influxdb://ops:P@h:1/d", "influxdb://h:1/d?u=ops&p=P", "http://ops:P@h/d"] {
        for text in [encode(&canary.text), canary.text.clone()] {
            let location = location.replace('P', &text);
            let ran = run(dir.path(), &["inspect", &location], "json").run();
            assert_silent(&canary, &Ran { command: String::new(), ..ran.expect_status(2) });
        }
    }
    let ran = run(dir.path(), &["inspect", "-", "--password", &canary.text], "json").run();
    assert_silent(&canary, &ran.expect_status(2));
    canary.assert_not_below(dir.path());
}

/// Set for the process that panics.
const PANICS: &str = "PANICS_WITH";

#[test]
fn a_panic_says_where_it_was_and_leaves_nothing_of_memory() {
    let name = "a_panic_says_where_it_was_and_leaves_nothing_of_memory";
    if let Some(secret) = std::env::var_os(PANICS) {
        panic_with(&secret.display().to_string());
        return;
    }
    let canary = Canary::new("panicLv3Ye");
    let ran = Gapless::program(std::env::current_exe().unwrap(), ["--exact", name, "--nocapture"])
        .env(PANICS, &canary.text)
        .env("RUST_BACKTRACE", "full")
        .run()
        .expect_status(0)
        .expect_err("internal error at tests/secrets.rs:")
        .expect_err("in thread worker")
        .expect_err("kept back")
        .expect_err("words of the source")
        .expect_out("a worker panicked: its words may hold data: kept back")
        .expect_out("Max core file size        0                    0 ");
    assert_silent(&canary, &ran);
}

fn panic_with(secret: &str) {
    gapless::panics::install();
    let worker = std::thread::Builder::new().name("worker".into());
    let words = secret.to_owned();
    assert!(worker.spawn(move || panic!("{words}")).unwrap().join().is_err());
    assert!(std::thread::spawn(|| panic!("words of the source")).join().is_err());
    let error = gapless::pipeline::for_each(1, &[()], |()| panic!("{secret}")).unwrap_err();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    std::io::stdout().write_all(format!("{error}\n{limits}").as_bytes()).unwrap();
}
