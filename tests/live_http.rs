//! InfluxDB 1.6.7 over HTTP, as a source and as a destination: what a real server does, and, from
//! a scripted one, what a real server cannot be made to do.

mod common;

use common::Influxd;
use gapless::block::Block;
use gapless::error::{Error, ErrorKind};
use gapless::http::{Client, Retry, Role, Secret, Server};
use gapless::plan::{Filter, Namespace, Partition, Scope};
use gapless::series::Printable;
use gapless::sink::influx::{Influx, Options};
use gapless::sink::{Ack, Batch, Sink};
use gapless::source::Source;
use gapless::source::influx_http::InfluxHttp;
use gapless::value::Value;
use gapless::window::Window;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

fn server_at(port: u16) -> Server {
    Server {
        tls: false,
        host: "127.0.0.1".into(),
        port,
        prefix: String::new(),
        user: None,
        password: None,
        ca: None,
    }
}

/// Gives up soon, so that failures are seen.
const IMPATIENT: Retry = Retry {
    attempts: 4,
    total: Duration::from_secs(20),
    first: Duration::from_millis(20),
    longest: Duration::from_millis(200),
};

fn client_of(server: Server, role: Role) -> Arc<Client> {
    Arc::new(
        Client::with_limits(server, role, IMPATIENT, Duration::from_secs(20)).expect("a client"),
    )
}

fn client(influxd: &Influxd) -> Arc<Client> {
    client_of(server_at(influxd.port()), Role::Source)
}

fn with_user(influxd: &Influxd, user: &str, password: &str) -> Server {
    Server {
        user: Some(user.into()),
        password: Some(Secret::new(password.into())),
        ..server_at(influxd.port())
    }
}

fn source(influxd: &Influxd, database: &str) -> InfluxHttp {
    InfluxHttp::new(client(influxd), Some(database.into()), None).expect("the database")
}

fn scope(database: &str, retention_policy: &str) -> Scope {
    Scope {
        namespace: Namespace {
            database: database.into(),
            retention_policy: retention_policy.into(),
        },
        window: Window::ALL,
        filter: Filter::default(),
    }
}

/// Cells of a block as text.
fn cells(block: &Block, out: &mut Vec<String>) {
    for (series, rows) in block.runs() {
        for row in rows {
            for column in block.columns() {
                if let Some(value) = column.get(row) {
                    let value = match value {
                        Value::String(bytes) => format!("{:?}", Printable(bytes).to_string()),
                        other => format!("{other:?}"),
                    };
                    let (field, time) = (Printable(&column.field), block.times()[row]);
                    out.push(format!("{series} {field}={value} {time}"));
                }
            }
        }
    }
}

fn read_partition(source: &InfluxHttp, partition: &Partition) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    let mut reader = source.open(partition)?;
    while let Some(block) = reader.next_block()? {
        cells(&block, &mut out);
    }
    Ok(out)
}

/// Every cell of a scope, sorted; no cell twice.
fn read(source: &InfluxHttp, scope: &Scope) -> Vec<String> {
    let mut all = Vec::new();
    for partition in source.plan(scope).expect("a plan") {
        all.extend(read_partition(source, &partition).expect("the rows"));
    }
    all.sort();
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "a cell was read twice: {all:?}");
    all
}

#[test]
fn every_value_is_read_exactly() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let rows = [
        &b"x,host=a host=\"field\",v=1i,f=-0,g=5e-324,s=\"\",b=t 1"[..],
        b"x,host=a big=9007199254740993i,min=-9223372036854775808i,max=9223372036854775807i 1",
        b"x,host=a s=\"a\nb\\\"c\\\\d\xff\xfe\" 2",
        b"x,host=b v=200i -5",
        b"x v=3i 9223372036854775806",
        b"x v=4i -9223372036854775806",
        b"x,host=a,v=tag v=70000i 8",
        b"x a\\=b=2,a\\ b=3,a\\\"b=4,\"q\"=5,a\rb=6 6",
    ];
    influxd.write("d", rows.join(&b'\n'));
    // This build fails to note such a field down at first, and stores it the second time.
    influxd.post_write("d", "", b"x \xff\xfe=1 6", "ns");
    influxd.write("d", b"x \xff\xfe=1 6");
    let expected = [
        "x a b=Float(3.0) 6",
        "x \"q\"=Float(5.0) 6",
        "x a\"b=Float(4.0) 6",
        "x a=b=Float(2.0) 6",
        "x a\\rb=Float(6.0) 6",
        "x \\xff\\xfe=Float(1.0) 6",
        "x v=Integer(3) 9223372036854775806",
        "x v=Integer(4) -9223372036854775806",
        "x,host=a b=Boolean(true) 1",
        "x,host=a big=Integer(9007199254740993) 1",
        "x,host=a f=Float(-0.0) 1",
        "x,host=a g=Float(5e-324) 1",
        "x,host=a host=\"field\" 1",
        "x,host=a max=Integer(9223372036854775807) 1",
        "x,host=a min=Integer(-9223372036854775808) 1",
        "x,host=a s=\"\" 1",
        "x,host=a s=\"a\\\\nb\\\"c\\\\d\\\\xff\\\\xfe\" 2",
        "x,host=a v=Integer(1) 1",
        "x,host=a,v=tag v=Integer(70000) 8",
        "x,host=b v=Integer(200) -5",
    ];
    let mut expected: Vec<String> = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(read(&source(&influxd, "d"), &scope("d", "autogen")), expected);
    assert_eq!(read(&source(&influxd, "d"), &scope("d", "")), expected, "the default RP");
}

#[test]
fn names_of_every_kind_are_read() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let names: [&[u8]; 16] = [
        b"plain",
        b"a\"b",
        b"a'b",
        b"a\\\\b",
        b"a\\b",
        b"a\\n",
        "unié€".as_bytes(),
        b"bad\xffutf",
        b"bad\xfeutf",
        b"cr\rx",
        b"nul\x00x",
        b"lf\\\nx",
        b".*",
        b"a/b",
        b" lead,\xe2\x82",
        b"\xed\xa0\x80s\r/z",
    ];
    let mut expected = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let mut escaped = Vec::new();
        for &byte in *name {
            if b", ".contains(&byte) {
                escaped.push(b'\\');
            }
            escaped.push(byte);
        }
        // The same bytes as a tag key and a tag value.
        let key = [&escaped[..], b",k", &escaped, b"=v", &escaped].concat();
        influxd.write("d", [&key[..], b" v=1 ", at.to_string().as_bytes()].concat());
        expected.push(format!("{} v=Float(1.0) {at}", Printable(&key)));
    }
    expected.sort();
    assert_eq!(read(&source(&influxd, "d"), &scope("d", "autogen")), expected);
}

#[test]
fn types_that_change_between_shard_groups_are_exact() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    influxd.write("d", "m v=9007199254740993i 0");
    influxd.write("d", "m v=1.5 700000000000000");
    influxd.write("d", "m v=\"s\" 1500000000000000");
    influxd.write("d", "m v=t 2500000000000000");
    let expected = [
        "m v=\"s\" 1500000000000000",
        "m v=Boolean(true) 2500000000000000",
        "m v=Float(1.5) 700000000000000",
        "m v=Integer(9007199254740993) 0",
    ];
    assert_eq!(read(&source(&influxd, "d"), &scope("d", "autogen")), expected);
}

#[test]
fn spellings_of_one_series_that_queries_mix_are_an_error() {
    // Seen with the index `inmem` once the server was started again.
    let mut influxd = Influxd::start();
    influxd.create_database("d");
    influxd.write("d", "n\\=x v=1 1000");
    influxd.write("d", "n=x v=2 1000\nother v=1 1");
    influxd.restart();
    let source = source(&influxd, "d");
    let partitions = source.plan(&scope("d", "autogen")).unwrap();
    let of = |name: &[u8]| {
        let found = partitions.iter().find(|one| one.measurement.as_deref() == Some(name));
        read_partition(&source, found.unwrap())
    };
    let error = of(b"n=x").unwrap_err();
    assert!(error.to_string().contains("several spellings"), "{error}");
    assert!(of(b"other").is_ok());
}

#[test]
fn a_narrower_window_is_cut_to_the_nanosecond() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let lines: Vec<String> = (0..10).map(|at| format!("m v={at} {at}")).collect();
    influxd.write("d", lines.join("\n"));
    let mut scope = scope("d", "autogen");
    scope.window = Window { start: 3, end: 6 };
    assert_eq!(read(&source(&influxd, "d"), &scope).len(), 3);
    scope.filter.measurements = vec!["other".into()];
    assert!(source(&influxd, "d").plan(&scope).unwrap().is_empty());
}

#[test]
fn long_series_are_read_in_several_blocks() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let count = 150_000;
    for part in 0..3 {
        let rows = part * 50_000..(part + 1) * 50_000;
        let lines: Vec<String> = rows.map(|at| format!("m,h={} v={at}i {at}", at % 2)).collect();
        influxd.write("d", lines.join("\n"));
    }
    let source = source(&influxd, "d");
    let partitions = source.plan(&scope("d", "autogen")).unwrap();
    assert_eq!(partitions.len(), 1);
    let mut reader = source.open(&partitions[0]).unwrap();
    let (mut rows, mut blocks) = (0, 0);
    while let Some(block) = reader.next_block().unwrap() {
        rows += block.rows();
        blocks += 1;
    }
    assert_eq!(rows, count);
    assert_eq!(blocks, 3);
}

#[test]
fn a_reader_that_is_dropped_half_way_leaves_the_client_usable() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let lines: Vec<String> = (0..100_000).map(|at| format!("m v={at}i {at}")).collect();
    influxd.write("d", lines.join("\n"));
    let source = source(&influxd, "d");
    let partitions = source.plan(&scope("d", "autogen")).unwrap();
    for _ in 0..5 {
        let mut reader = source.open(&partitions[0]).unwrap();
        assert!(reader.next_block().unwrap().is_some());
    }
    assert_eq!(read(&source, &scope("d", "autogen")).len(), 100_000);
}

#[test]
fn namespaces_come_with_their_settings() {
    let influxd = Influxd::start();
    influxd.create_database("b");
    influxd.create_database("a");
    influxd.query(
        "CREATE RETENTION POLICY \"w h\" ON a DURATION 3h REPLICATION 1 SHARD DURATION 1h30m",
    );
    let all = InfluxHttp::new(client(&influxd), None, None).unwrap();
    let held = all.namespaces().unwrap();
    let names: Vec<String> = held.iter().map(|held| held.namespace.to_string()).collect();
    assert_eq!(names, ["a.autogen", "a.w h", "b.autogen"]);
    let settings = held[1].settings.as_ref().unwrap();
    assert_eq!(settings.duration, 3 * 3_600_000_000_000);
    assert_eq!(settings.shard_duration, 5_400_000_000_000);
    assert_eq!((settings.replication, settings.default), (1, false));
    assert!(held[0].settings.as_ref().unwrap().default);

    let one = InfluxHttp::new(client(&influxd), Some("a".into()), Some("w h".into())).unwrap();
    assert_eq!(one.namespaces().unwrap().len(), 1);
    assert!(!one.sees_raw_keys());
}

#[test]
fn what_does_not_exist_is_named_beside_what_does() {
    let influxd = Influxd::start();
    influxd.create_database("here");
    let missing = |database: &str, policy: Option<&str>| {
        let policy = policy.map(str::to_owned);
        InfluxHttp::new(client(&influxd), Some(database.into()), policy).unwrap_err()
    };
    let error = missing("gone", None);
    assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("\"gone\""), "{error}");
    assert!(error.to_string().contains("holds here"), "{error}");
    let error = missing("here", Some("no\"pe"));
    assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("holds autogen"), "{error}");
}

#[test]
fn a_user_who_may_only_read_gets_everything_all_the_same() {
    let influxd = Influxd::builder().auth("admin", "secret one").start();
    influxd.create_database("d");
    influxd.query("CREATE USER ro WITH PASSWORD 'ro'");
    influxd.query("GRANT READ ON d TO ro");
    influxd.write("d", "m v=1 -5\nm v=2 700000000000000\nm v=3 9223372036854775806\nn w=t 7");
    let read_as = |user: &str, password: &str| {
        let client = client_of(with_user(&influxd, user, password), Role::Source);
        read(&InfluxHttp::new(client, Some("d".into()), None).unwrap(), &scope("d", ""))
    };
    assert_eq!(read_as("ro", "ro").len(), 4);
    assert_eq!(read_as("ro", "ro"), read_as("admin", "secret one"));

    // What would not be exact without the shard groups is refused.
    influxd.write("d", "n w=1i 700000000000000");
    let client = client_of(with_user(&influxd, "ro", "ro"), Role::Source);
    let ro = InfluxHttp::new(client, Some("d".into()), None).unwrap();
    let error = ro.plan(&scope("d", "")).unwrap_err();
    assert!(error.to_string().contains("boolean"), "{error}");
    assert!(error.next_step().unwrap().contains("admin"));
    assert_eq!(read_as("admin", "secret one").len(), 5);
}

#[test]
fn a_refused_user_is_named_and_the_password_is_not() {
    let influxd = Influxd::builder().auth("admin", "secret one").start();
    influxd.create_database("d");
    let error = |server: Server| {
        let client = client_of(server, Role::Source);
        let error = InfluxHttp::new(Arc::clone(&client), Some("d".into()), None).unwrap_err();
        let shown = format!("{error} {error:?} {client:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        error
    };
    let wrong = error(with_user(&influxd, "admin", "hunter2"));
    assert!(matches!(wrong.kind(), ErrorKind::Refused { status: 401, .. }), "{wrong}");
    assert!(wrong.to_string().contains("\"admin\""), "{wrong}");
    assert!(wrong.next_step().unwrap().contains("GAPLESS_SOURCE_PASSWORD"), "{wrong:?}");
    let nobody = error(server_at(influxd.port()));
    assert!(matches!(nobody.kind(), ErrorKind::Refused { status: 401, .. }), "{nobody}");
    assert!(nobody.next_step().unwrap().contains("name a user"), "{nobody:?}");
}

#[test]
fn tls_works_with_the_right_authority_only() {
    let influxd = Influxd::builder().https().start();
    influxd.create_database("d");
    influxd.write("d", "m v=1 1");
    let server =
        Server { tls: true, ca: Some(influxd.ca().to_path_buf()), ..server_at(influxd.port()) };
    let open =
        |server: Server| InfluxHttp::new(client_of(server, Role::Source), Some("d".into()), None);
    assert_eq!(read(&open(server.clone()).unwrap(), &scope("d", "")).len(), 1);
    let named = Server { host: "localhost".into(), ..server.clone() };
    assert!(open(named).is_ok());

    let untrusted = open(Server { ca: None, ..server.clone() }).unwrap_err();
    assert!(untrusted.to_string().contains("not trusted"), "{untrusted}");
    assert!(untrusted.next_step().unwrap().contains("--ca FILE"), "{untrusted:?}");
    let plain = open(Server { tls: false, ..server.clone() }).unwrap_err();
    assert!(plain.next_step().unwrap().contains("influxdbs://"), "{plain:?}");
    let no_file = Server { ca: Some("/nowhere/ca.pem".into()), ..server };
    assert!(Client::new(no_file, Role::Source).is_err());

    let influxd = Influxd::start();
    let reverse = open(Server { tls: true, ..server_at(influxd.port()) }).unwrap_err();
    assert!(reverse.to_string().contains("does not speak TLS"), "{reverse}");
    assert!(reverse.next_step().unwrap().contains("influxdb://"), "{reverse:?}");
}

#[test]
fn a_refused_connection_fails_at_once_with_a_next_step() {
    let port = common::ports::Port::take();
    let client = Arc::new(Client::new(server_at(port.number), Role::Source).unwrap());
    let begun = std::time::Instant::now();
    let error = InfluxHttp::new(client, None, None).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connection { attempts: 1, .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(error.next_step().unwrap().contains("8086"), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

fn sink(influxd: &Influxd, options: Options) -> Influx {
    let client = client_of(server_at(influxd.port()), Role::Destination);
    Influx::new(client, options).expect("a server")
}

fn batch(database: &str, rows: &[String]) -> Batch {
    Batch {
        namespace: Namespace { database: database.into(), retention_policy: "autogen".into() },
        window: Window::ALL,
        body: rows.iter().flat_map(|row| [row.as_bytes(), b"\n"].concat()).collect(),
        rows: rows.len() as u64,
        cells: rows.len() as u64,
    }
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("m,h=a v={at}i {at}")).collect()
}

fn refused(ack: &Ack) -> Vec<(String, &str)> {
    let line = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    ack.refused.iter().map(|one| (line(&one.line), one.reason.as_str())).collect()
}

#[test]
fn a_batch_is_stored_plain_and_compressed() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    for gzip in [false, true] {
        let options = Options { gzip, consistency: Some("all".parse().unwrap()) };
        let rows: Vec<String> = (0..10).map(|at| format!("m,gzip={gzip} v={at}i {at}")).collect();
        let ack = sink(&influxd, options).write(batch("d", &rows)).unwrap();
        assert_eq!((ack.refused.len(), ack.requests, ack.retries), (0, 1, 0));
    }
    assert_eq!(influxd.count("d", "m"), 20);
}

#[test]
fn a_bad_row_among_a_thousand_stands_alone() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let mut rows = lines(1000);
    rows[123] = "m,h=a v=\"text that\nspans lines\" 123".into();
    rows[500] = "m v= 500".into();
    rows[501] = "other t=\"a,b c=d\n# no comment\" 501".into();
    let ack = sink(&influxd, Options::default()).write(batch("d", &rows)).unwrap();
    let refused = refused(&ack);
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(refused[0].0, rows[123]);
    assert!(refused[0].1.starts_with("field type conflict: input field \"v\""), "{refused:?}");
    assert_eq!(refused[1], (rows[500].clone(), "missing field value"));
    assert_eq!(influxd.count("d", ""), 998);
    assert!(ack.requests <= 2 * 2 * 10 + 1, "{} requests", ack.requests);
}

#[test]
fn refusals_that_quote_awkward_rows_are_understood() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let mut rows = lines(50);
    rows[10] = "m v=\u{1}\u{7f}\r\u{e9} 10".into();
    rows[20] = format!("m v={} 20", "x".repeat(700_000));
    rows[30] = "m v=': dropped=7 30".into();
    let ack = sink(&influxd, Options::default()).write(batch("d", &rows)).unwrap();
    let refused = refused(&ack);
    let found: Vec<&String> = refused.iter().map(|(line, _)| line).collect();
    assert_eq!(found, [&rows[10], &rows[20], &rows[30]]);
    assert_eq!(refused[0].1, "invalid boolean");
    assert_eq!(influxd.count("d", ""), 47);
}

#[test]
fn batches_are_written_from_many_threads() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let sink = sink(&influxd, Options { gzip: true, ..Options::default() });
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let sink = &sink;
            scope.spawn(move || {
                for part in 0..10 {
                    let row = |at| format!("m,t={thread} v={at}i {}", part * 100 + at);
                    let rows: Vec<String> = (0..100).map(row).collect();
                    assert!(sink.write(batch("d", &rows)).unwrap().refused.is_empty());
                }
            });
        }
    });
    assert_eq!(influxd.count("d", ""), 8_000);
}

#[test]
fn rows_beyond_the_retention_policy_are_refused_one_by_one() {
    let influxd = Influxd::start();
    influxd.query("CREATE DATABASE d WITH DURATION 1h REPLICATION 1 NAME autogen");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut rows = lines(64);
    rows[40] = format!("m v=1 {}", now.as_nanos());
    let ack = sink(&influxd, Options::default()).write(batch("d", &rows)).unwrap();
    let refused = refused(&ack);
    assert_eq!(refused.len(), 63);
    assert!(refused.iter().all(|(_, reason)| *reason == "points beyond retention policy"));
    let expected: Vec<&String> = rows.iter().filter(|row| **row != rows[40]).collect();
    assert!(refused.iter().map(|(line, _)| line).eq(expected), "in the order of the batch");
    assert!(ack.requests < 128, "{} requests", ack.requests);
    assert_eq!(influxd.count("d", ""), 1);
}

#[test]
fn a_batch_that_is_too_large_is_sent_in_parts() {
    let influxd = Influxd::builder().max_body_size(2_000).start();
    influxd.create_database("d");
    let mut rows = lines(1000);
    rows[7] = format!("m s=\"{}\" 7", "x".repeat(2_000));
    let ack = sink(&influxd, Options::default()).write(batch("d", &rows)).unwrap();
    let refused = refused(&ack);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].0 == rows[7] && refused[0].1.contains("larger than the server takes"));
    assert_eq!(influxd.count("d", ""), 999);
}

#[test]
fn a_row_that_makes_the_server_fail_stands_alone() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    // A point of exactly 100 tags panics inside servers before 1.8.6.
    let tags: Vec<String> = (0..100).map(|at| format!("t{at:03}=v")).collect();
    let mut rows = lines(100);
    rows[60] = format!("m,{} v=1i 60", tags.join(","));
    let ack = sink(&influxd, Options::default()).write(batch("d", &rows)).unwrap();
    assert_eq!(refused(&ack), [(rows[60].clone(), "Internal Server Error")]);
    assert_eq!(influxd.count("d", ""), 99);
    // Alone, it cannot be told from a server that fails at everything.
    let alone = sink(&influxd, Options::default()).write(batch("d", &rows[60..61]));
    assert!(matches!(alone.unwrap_err().kind(), ErrorKind::Refused { status: 500, .. }));
}

#[test]
fn a_missing_database_or_policy_is_an_error_with_a_next_step() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let sink = sink(&influxd, Options::default());
    let error = sink.write(batch("gone", &lines(3))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
    assert!(error.next_step().unwrap().contains("--create"), "{error:?}");
    let mut no_policy = batch("d", &lines(3));
    no_policy.namespace.retention_policy = "gone".into();
    let error = sink.write(no_policy).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("\"gone\""), "{error}");
}

#[test]
fn a_user_who_may_only_read_cannot_write() {
    let influxd = Influxd::builder().auth("admin", "secret one").start();
    influxd.create_database("d");
    influxd.query("CREATE USER ro WITH PASSWORD 'ro'");
    influxd.query("GRANT READ ON d TO ro");
    let write = |user: &str, password: &str| {
        let client = client_of(with_user(&influxd, user, password), Role::Destination);
        Influx::new(client, Options::default()).unwrap().write(batch("d", &lines(3)))
    };
    let error = write("ro", "ro").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { status: 403, .. }), "{error}");
    assert!(error.to_string().contains("\"ro\""), "{error}");
    assert!(error.next_step().unwrap().contains("GAPLESS_DESTINATION_PASSWORD"), "{error:?}");
    let error = write("admin", "hunter2").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { status: 401, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert!(write("admin", "secret one").unwrap().refused.is_empty());
}

#[test]
fn a_restart_of_the_server_is_waited_for() {
    let mut influxd = Influxd::start();
    influxd.create_database("d");
    let patient = Retry { attempts: 40, ..Retry::default() };
    let server = server_at(influxd.port());
    let client = Client::with_limits(server, Role::Destination, patient, Duration::from_secs(20));
    let sink = Influx::new(Arc::new(client.unwrap()), Options::default()).unwrap();
    influxd.stop();
    let writer = std::thread::spawn(move || sink.write(batch("d", &lines(100))));
    std::thread::sleep(Duration::from_millis(500));
    influxd.restart();
    let ack = writer.join().unwrap().unwrap();
    assert!(ack.retries > 0 && ack.refused.is_empty(), "{ack:?}");
    assert_eq!(influxd.count("d", ""), 100);
}

#[test]
fn databases_and_policies_are_created_as_asked() {
    use gapless::influxql;
    let influxd = Influxd::start();
    let client = client(&influxd);
    influxql::create_database(&client, "new one").unwrap();
    influxql::create_database(&client, "new one").unwrap();
    let settings = gapless::plan::RpSettings {
        duration: 7 * gapless::window::DAY,
        shard_duration: gapless::window::DAY,
        replication: 1,
        default: true,
    };
    influxql::create_retention_policy(&client, "new one", "a \"b\"", Some(&settings)).unwrap();
    influxql::create_retention_policy(&client, "new one", "keep", None).unwrap();
    let policies = influxql::retention_policies(&client, "new one").unwrap();
    let names: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a \"b\"", "autogen", "keep"]);
    assert_eq!(policies[0].1, settings);
    assert_eq!(policies[2].1.duration, 0);
    assert!(
        influxql::create_retention_policy(&client, "new one", "keep", Some(&settings)).is_err()
    );
    assert!(influxql::create_database(&client, "a\rb").is_err());
    let clock = client.clock().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((i128::from(clock) - i128::try_from(now.as_nanos()).unwrap()).abs() < 60_000_000_000);
}

/// A server that plays back replies, one a connection, and keeps what it was asked.
struct Script {
    port: u16,
    asked: std::thread::JoinHandle<Vec<String>>,
}

/// Plays `replies` back. The first answers the ping with which clients begin.
fn script(replies: Vec<Vec<u8>>) -> Script {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
            let mut request = Vec::new();
            let mut buffer = [0; 65_536];
            while !is_whole(&request) {
                let length = stream.read(&mut buffer).expect("a request");
                assert!(length > 0, "a request that ends early");
                request.extend_from_slice(&buffer[..length]);
            }
            asked.push(String::from_utf8_lossy(&request).into_owned());
            stream.write_all(&reply).expect("to reply");
        }
        asked
    });
    Script { port, asked }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nX-Influxdb-Version: 1.8.10\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn pong() -> Vec<u8> {
    reply("204 No Content", "", b"")
}

fn scripted_sink(script: &Script) -> Influx {
    let client = client_of(server_at(script.port), Role::Destination);
    Influx::new(client, Options::default()).expect("a server")
}

#[test]
fn a_busy_server_is_asked_again_when_it_says_so() {
    let script = script(vec![
        pong(),
        reply("503 Service Unavailable", "Retry-After: 1\r\n", b""),
        reply("500 Internal Server Error", "", br#"{"error":"timeout"}"#),
        pong(),
    ]);
    let begun = std::time::Instant::now();
    let ack = scripted_sink(&script).write(batch("d", &lines(3))).unwrap();
    assert_eq!((ack.requests, ack.retries, ack.refused.len()), (3, 2, 0));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let asked = script.asked.join().unwrap();
    assert!(asked[1].contains("POST /write?db=d&precision=ns&rp=autogen"), "{}", asked[1]);
    assert!(asked[1..].iter().all(|request| request.contains("m,h=a v=2i 2\n")));
}

#[test]
fn a_batch_that_takes_too_long_twice_is_halved() {
    let slow = || reply("500 Internal Server Error", "", br#"{"error":"timeout"}"#);
    let script = script(vec![pong(), slow(), slow(), pong(), pong()]);
    let ack = scripted_sink(&script).write(batch("d", &lines(4))).unwrap();
    assert_eq!((ack.requests, ack.refused.len()), (4, 0));
    let asked = script.asked.join().unwrap();
    let rows = |at: usize| asked[at].matches("m,h=a").count();
    assert_eq!([rows(1), rows(2), rows(3), rows(4)], [4, 4, 2, 2]);
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let busy = || reply("503 Service Unavailable", "", b"");
    let script = script(vec![pong(), busy(), busy(), busy(), busy()]);
    let error = scripted_sink(&script).write(batch("d", &lines(3))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { status: 503, .. }), "{error}");
    assert_eq!(script.asked.join().unwrap().len(), 5);
}

#[test]
fn a_connection_that_breaks_is_no_acknowledgement() {
    let script = script(vec![pong(), b"HTTP/1.1 2".to_vec(), pong()]);
    let ack = scripted_sink(&script).write(batch("d", &lines(3))).unwrap();
    assert_eq!((ack.requests, ack.retries), (2, 1));
}

#[test]
fn only_a_204_acknowledges() {
    let script = script(vec![pong(), reply("200 OK", "", b"<html>welcome</html>")]);
    let error = scripted_sink(&script).write(batch("d", &lines(3))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { status: 200, .. }), "{error}");
}

#[test]
fn a_refusal_that_fills_the_reply_is_understood() {
    let line = "x".repeat(600_000);
    let words = format!("{{\"error\":\"unable to parse '{line}': invalid\"}}");
    let header = format!("X-Influxdb-Error: {line}\r\n");
    let bad = || reply("400 Bad Request", &header, words.as_bytes());
    let script = script(vec![pong(), bad(), bad(), pong()]);
    let ack = scripted_sink(&script).write(batch("d", &lines(2))).unwrap();
    assert_eq!(refused(&ack), [("m,h=a v=0i 0".into(), "a refusal that is too long to be read")]);
}

#[test]
fn what_is_no_influxdb_is_said_to_be_none() {
    let answer = |reply: &[u8]| {
        let script = script(vec![reply.to_vec()]);
        let client = client_of(server_at(script.port), Role::Source);
        InfluxHttp::new(client, None, None).unwrap_err()
    };
    let error = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(error.to_string().contains("no InfluxDB"), "{error}");
    let error = answer(b"HTTP/1.1 204 No\r\nX-Influxdb-Version: v2.7.1\r\n\r\n");
    assert!(error.to_string().contains("InfluxDB v2.7.1"), "{error}");
    let error = answer(b"SSH-2.0-OpenSSH_9.6\r\n");
    assert!(error.to_string().contains("does not speak HTTP"), "{error}");
}

/// A query's reply in MessagePack, in chunks of which the last may be missing.
fn chunked(parts: &[&[u8]], ended: bool) -> Vec<u8> {
    let mut out =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
    for part in parts {
        out.extend(format!("{:x}\r\n", part.len()).bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    if ended {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    out
}

const FIELD_KEYS: &[u8] = b"\x81\xa7results\x91\x81\xa6series\x91\x83\xa4name\xa1m\xa7columns\x92\
    \xa8fieldKey\xa9fieldType\xa6values\x91\x92\xa1v\xa7integer";
const FIRST: &[u8] = b"\x81\xa7results\x91\x82\xa6series\x91\x83\xa4name\xa1m\xa7columns\x92\
    \xa4time\xa1v\xa6values\x91\x92\x01\x05\xa7partial\xc3";
const LAST: &[u8] = b"\x81\xa7results\x91\x81\xa6series\x91\x83\xa4name\xa1m\xa7columns\x92\
    \xa4time\xa1v\xa6values\x91\x92\x02\x06";
const FLOAT: &[u8] = b"\x81\xa7results\x91\x81\xa6series\x91\x83\xa4name\xa1m\xa7columns\x92\
    \xa4time\xa1v\xa6values\x91\x92\x02\xcb\x40\x14\0\0\0\0\0\0";

/// Reads a partition whose query is answered by each of `answers` in turn.
fn read_scripted(answers: Vec<Vec<u8>>) -> Result<Vec<String>, Error> {
    let mut replies = vec![pong(), chunked(&[FIELD_KEYS], true)];
    replies.extend(answers);
    let script = script(replies);
    let client = client_of(server_at(script.port), Role::Source);
    let source = InfluxHttp::new(client, None, None).expect("a server");
    let partition = Partition {
        namespace: Namespace { database: "d".into(), retention_policy: "r".into() },
        window: Window { start: 0, end: 10 },
        measurement: Some(b"m".to_vec()),
    };
    let read = read_partition(&source, &partition);
    script.asked.join().expect("as many requests as replies");
    read
}

#[test]
fn a_reply_that_is_cut_short_is_asked_for_again() {
    let whole = || chunked(&[FIRST, LAST], true);
    let expected = ["m v=Integer(5) 1", "m v=Integer(6) 2"];
    assert_eq!(read_scripted(vec![whole()]).unwrap(), expected);
    let cut = [
        chunked(&[FIRST], true),
        chunked(&[FIRST, LAST], false),
        chunked(&[FIRST, &LAST[..20]], true),
        chunked(&[], true),
    ];
    for cut in cut {
        assert_eq!(read_scripted(vec![cut, whole()]).unwrap(), expected);
    }
}

#[test]
fn a_reply_that_stays_cut_short_is_an_error() {
    let cut = || chunked(&[FIRST], true);
    let error = read_scripted(vec![cut(), cut(), cut(), cut()]).unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");
}

#[test]
fn an_error_inside_a_reply_is_an_error() {
    let failed = b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa5error\xa7timeout";
    let error = read_scripted(vec![chunked(&[FIRST, failed], true)]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Query { .. }), "{error}");
    assert!(error.to_string().contains("timeout"), "{error}");
}

#[test]
fn a_value_of_an_unlisted_type_is_an_error() {
    let float = || chunked(&[FLOAT], true);
    let error = read_scripted(vec![float(), chunked(&[FIELD_KEYS], true), float()]).unwrap_err();
    assert!(error.to_string().contains("Float(5.0)"), "{error}");
}
