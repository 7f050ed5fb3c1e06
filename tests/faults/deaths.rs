//! Lines of which a server dies: they are not sent, and where one is all the same, the server is
//! not killed with it again and again.

use crate::common::{Gapless, Influxd, Ran};
use crate::proxy::{Fault, Proxy, Rule};
use crate::work::{assert_accounts, report};
use gapless::http::{Client, Retry, Role, Secret, Server};
use gapless::line::encode;
use gapless::plan::Namespace;
use gapless::sink::influx::{Influx, Options};
use gapless::sink::{Batch, Sink};
use gapless::value::Value;
use gapless::window::Window;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A field key that ends in a backslash and a value of one quote: it ends the process of 1.6.7.
const KILLER: &str = r#"0 \\="=" 60"#;
/// The same for 1.13.2.
const OTHER_KILLER: &str = r#"m \0=","=3,"=" 61"#;

fn batch(lines: &[String]) -> Batch {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Batch {
        namespace: Namespace { database: "db".into(), retention_policy: "autogen".into() },
        window: Window::ALL,
        body: body.into_bytes(),
        rows: lines.len() as u64,
        cells: lines.len() as u64,
    }
}

fn address(server: &Influxd) -> Server {
    Server::at("127.0.0.1", server.port())
}

fn sink(server: &Influxd) -> Influx {
    // A server that starts again on a busy machine takes its time.
    let retry = Retry { attempts: 200, longest: Duration::from_millis(500), ..Retry::default() };
    let client =
        Client::with_limits(address(server), Role::Destination, retry, Duration::from_secs(20))
            .unwrap();
    Influx::new(Arc::new(client), Options::default()).unwrap()
}

#[test]
fn what_kills_a_server_is_never_sent() {
    let mut server = Influxd::start();
    server.create_database("db");
    let dir = tempfile::tempdir().unwrap();
    let input = format!("m v=1 1\n{KILLER}\n{OTHER_KILLER}\nm v=2 2\n");
    std::fs::write(dir.path().join("in.lp"), input).unwrap();
    let copy = Gapless::new(["copy", "in.lp", &server.location("db")]).dir(dir.path());
    copy.run().expect_status(3).expect_out("2 rows were rejected").expect_out("panics");
    assert!(!server.has_ended(), "{}", server.log_tail());
    assert_eq!(server.count("db", ""), 2);
    // From a source that holds such a field, however it came there.
    for (field, value) in [(&br"\"[..], &b"="[..]), (br"\\", b"=")] {
        let mut out = Vec::new();
        let unwritable = encode::row(&mut out, b"0", &[(field, Value::String(value))], 1);
        assert!(unwritable.unwrap_err().reason.contains("does not re-parse"), "{field:?}");
    }
}

#[test]
fn of_a_batch_that_kills_the_server_the_row_is_found_that_does_and_the_others_are_stored() {
    let mut server = Influxd::start();
    server.create_database("db");
    let sink = sink(&server);
    let mut lines: Vec<String> = (0..100).map(|at| format!("m,h=a v={at}i {at}")).collect();
    lines[60] = KILLER.to_owned();
    let whole = batch(&lines);
    let body = whole.body.clone();
    let ack = sink.write(whole).unwrap();
    assert_eq!((ack.requests, ack.refused.len()), (1, 0), "it is not sent again");
    assert!(ack.suspects == body);
    server.wait_for_exit();
    server.restart();
    let others: Vec<String> = (0..10).map(|at| format!("m,h=b v={at}i {at}")).collect();
    assert!(sink.write(batch(&others)).unwrap().suspects.is_empty(), "the others go on");

    let suspects = batch(&lines);
    let (ack, deaths) = std::thread::scope(|threads| {
        let writer = threads.spawn(|| sink.write_suspects(suspects));
        let mut deaths = 0;
        while !writer.is_finished() {
            if server.has_ended() {
                deaths += 1;
                server.restart();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (writer.join().unwrap().unwrap(), deaths)
    });
    // A piece of four, and the row alone.
    assert_eq!((ack.refused.len(), ack.suspects.len(), deaths), (1, 0, 2));
    assert_eq!(ack.refused[0].line, KILLER.as_bytes());
    assert!(ack.refused[0].reason.contains("died"), "{:?}", ack.refused);
    if server.has_ended() {
        server.restart();
    }
    assert_eq!(server.count("db", ""), 109);
}

#[test]
fn the_age_of_a_server_is_known_to_whoever_may_only_write() {
    let server = Influxd::builder().auth("admin", "one").start();
    server.create_database("db");
    server.query("CREATE USER writer WITH PASSWORD 'two'");
    server.query("GRANT WRITE ON db TO writer");
    let age = |user: &str, password: &str| {
        let password = Some(Secret::new(password.into()));
        let address = Server { user: Some(user.into()), password, ..address(&server) };
        let client = Client::new(address, Role::Destination).unwrap();
        gapless::influxql::uptime(&client).unwrap()
    };
    let (admin, writer) = (age("admin", "one").unwrap(), age("writer", "two").unwrap());
    assert!(admin > Duration::ZERO && writer > admin, "{admin:?} {writer:?}");
}

/// How a supervisor brings a dead server back.
#[derive(Clone, Copy)]
enum Back {
    /// Nobody listens for a while.
    Refusing,
    /// What stands before it goes on listening.
    Hidden,
}

/// Runs a copy of `file` while the server behind the proxy dies whenever it is told to, and is
/// started again; returns how often that was.
fn supervised(
    (server, proxy): (&mut Influxd, &mut Proxy),
    (dir, file): (&Path, &str),
    more: &[&str],
    back: Back,
) -> (Ran, usize) {
    let location = proxy.location("db");
    let arguments = ["copy", file, &location, "--report", "report.json"];
    let mut copy = Gapless::new(arguments).args(more).dir(dir).spawn();
    let mut deaths = 0;
    while copy.is_running() {
        if proxy.is_dying() {
            deaths += 1;
            if matches!(back, Back::Refusing) {
                proxy.refuse();
            }
            server.kill9();
            if matches!(back, Back::Hidden) {
                server.restart();
                proxy.died();
            } else {
                proxy.died();
                // Seen by whoever looks at once; later the process is younger than the request.
                server.restart();
                proxy.listen();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    (copy.wait(), deaths)
}

const DAY: i64 = 86_400_000_000_000;

/// Two weeks of fifty rows, one of which kills.
fn input(dir: &Path) {
    let start = 1_700_000_000_000_000_000 / (7 * DAY) * (7 * DAY) + 4 * DAY;
    let row = |at: i64| {
        let time = start + at / 50 * 7 * DAY + at;
        let text = if at == 20 { "poison" } else { "food" };
        format!("m,h=a s=\"{text}\" {time}\n")
    };
    std::fs::write(dir.join("in.lp"), (0..100).map(row).collect::<String>()).unwrap();
}

fn assert_suspects_are_tried_last_and_only_when_asked(back: Back) {
    let mut server = Influxd::start();
    server.create_database("db");
    let dir = tempfile::tempdir().unwrap();
    input(dir.path());
    let mut proxy = Proxy::start(server.port(), Vec::new());
    let poison = || vec![Rule { times: usize::MAX, ..Rule::once("\"poison\"", Fault::Dies) }];
    proxy.set(poison());

    let alone = &["--jobs", "1"];
    let (ran, deaths) = supervised((&mut server, &mut proxy), (dir.path(), "in.lp"), alone, back);
    assert_eq!(deaths, 1, "{}", ran.describe());
    let ran = ran.expect_status(3).expect_out("50 rows were rejected");
    ran.expect_out("next: gapless copy --retry-suspects in.lp")
        .expect_err("died while it was sent 50 rows of db");
    assert_eq!(report(dir.path())["sent"]["suspects"], 50);
    assert_accounts(dir.path(), &[("resolved", 100), ("sent", 50), ("refused", 50)]);
    let report = report(dir.path());
    assert!(report["rejected_series"][0]["reason"].as_str().unwrap().contains("server died"));
    assert_eq!(server.count("db", ""), 50);

    let more = &["--jobs", "1", "--retry-suspects"];
    let (ran, deaths) = supervised((&mut server, &mut proxy), (dir.path(), "in.lp"), more, back);
    // Whole, in a piece of two, and alone.
    assert_eq!(deaths, 3, "{}", ran.describe());
    let ran = ran.expect_status(3).expect_out("1 row was rejected");
    assert!(!ran.out().contains("next:"), "{}", ran.describe());
    assert_eq!(server.count("db", ""), 99);

    // What was rejected can be given back, once nothing speaks against it.
    proxy.set(Vec::new());
    let rest = "gapless-rejected.lp.2";
    let (ran, _) = supervised((&mut server, &mut proxy), (dir.path(), rest), &[], back);
    ran.expect_status(0);
    let verify = Gapless::new(["verify", "in.lp", &server.location("db")]).dir(dir.path());
    verify.run().expect_status(0).expect_out("IDENTICAL");
}

#[test]
fn rows_during_which_the_server_goes_away_are_tried_last_and_only_when_asked() {
    assert_suspects_are_tried_last_and_only_when_asked(Back::Refusing);
}

#[test]
fn rows_during_which_the_server_is_replaced_are_tried_last_and_only_when_asked() {
    assert_suspects_are_tried_last_and_only_when_asked(Back::Hidden);
}

#[test]
fn what_is_broken_off_with_a_killer_is_stored_when_suspects_are_tried() {
    let mut server = Influxd::start();
    server.create_database("db");
    let dir = tempfile::tempdir().unwrap();
    // Batches of two shard groups are under way at once.
    let row = |at: i64| {
        let text = if at == 50_000 { "poison" } else { "food" };
        format!("m,h={} s=\"{text}\" {}\n", at % 7, at % 2 * 7 * DAY + at)
    };
    std::fs::write(dir.path().join("in.lp"), (0..200_000).map(row).collect::<String>()).unwrap();
    let mut proxy = Proxy::start(server.port(), Vec::new());
    proxy.set(vec![Rule { times: usize::MAX, ..Rule::once("\"poison\"", Fault::Dies) }]);

    let both = (&mut server, &mut proxy);
    let more = &["--jobs", "8"];
    let (ran, deaths) = supervised(both, (dir.path(), "in.lp"), more, Back::Refusing);
    ran.expect_status(3).expect_out("next: gapless copy --retry-suspects");
    assert_eq!(deaths, 1);
    let accounts = report(dir.path())["accounts"].clone();
    assert_accounts(dir.path(), &[("resolved", 200_000)]);
    let refused = accounts["refused"].as_u64().unwrap();
    assert!(refused <= 8 * 20_000, "no more than was under way: {accounts}");
    assert_eq!(server.count("db", ""), 200_000 - refused);

    let both = (&mut server, &mut proxy);
    let more = &["--jobs", "8", "--retry-suspects"];
    let (ran, deaths) = supervised(both, (dir.path(), "in.lp"), more, Back::Refusing);
    ran.expect_status(3).expect_out("1 row was rejected");
    assert!(deaths <= 5, "{deaths}");
    assert_accounts(dir.path(), &[("refused", 1)]);
    assert_eq!(server.count("db", ""), 199_999);
}
