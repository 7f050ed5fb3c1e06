//! Reading a real server.

use crate::common::Influxd;
use crate::setup::*;
use gapless::error::ErrorKind;
use gapless::http::{Client, Role, Server};
use gapless::series::Printable;
use gapless::source::Source;
use gapless::source::influx_http::InfluxHttp;
use gapless::window::Window;
use std::sync::Arc;
use std::time::Duration;

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
    assert_eq!(settings.duration, Some(3 * 3_600_000_000_000));
    assert_eq!(settings.shard_duration, Some(5_400_000_000_000));
    assert_eq!((settings.replication, settings.default), (Some(1), Some(false)));
    assert!(held[0].settings.as_ref().unwrap().is_default());

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

    influxd.write("d", "n w=1i 700000000000000");
    assert_eq!(read_as("ro", "ro").len(), 5);
    assert_eq!(read_as("ro", "ro"), read_as("admin", "secret one"));
}

#[test]
fn tags_are_left_to_the_server_where_it_understands_them() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let values = ["a", "it's", "x\\y", "2020-01-01T00:00:00Z", "a\nb", "é€", "\"q\"", "/a/", "a\\"];
    let mut lines = vec!["m,k=other,h=1 v=9,k=\"a\" 1".to_owned(), "m v=8 2".to_owned()];
    for (at, value) in values.iter().enumerate() {
        // A backslash at the end of a value is kept by a second tag behind it.
        if !value.ends_with('\\') {
            lines.push(format!("m,h=1,k={} v={at},k=\"other\" 1", value.replace('\n', "\\\n")));
        }
    }
    influxd.write("d", lines.join("\n"));
    let all = read(&source(&influxd, "d"), &scope("d", ""));
    for value in values {
        let mut filtered = scope("d", "");
        filtered.filter.tags = vec![("h".into(), "1".into()), ("k".into(), value.into())];
        let source = source(&influxd, "d");
        let mut blocks = 0;
        let mut series = Vec::new();
        for partition in source.plan(&filtered).unwrap() {
            let mut reader = source.open(&partition).unwrap();
            while let Some(block) = reader.next_block().unwrap() {
                blocks += 1;
                series.extend(block.runs().map(|(series, _)| series.as_ref().clone()));
            }
        }
        assert!(series.iter().all(|one| filtered.filter.admits(one)), "{value:?}: {series:?}");
        let there = !value.ends_with('\\') && !value.contains('\n');
        assert_eq!(series.len(), usize::from(there), "{value:?} in {blocks} blocks");
        // Whoever asks for more from now on gets it.
        assert_eq!(read(&source, &scope("d", "")), all);
    }
    for tags in [("k", ""), ("_name", "m"), ("k", "a\rb"), ("time", "1")] {
        let mut filtered = scope("d", "");
        filtered.filter.tags = vec![(tags.0.into(), tags.1.into())];
        assert_eq!(read(&source(&influxd, "d"), &filtered), all, "{tags:?} is left to the caller");
    }
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
    let port = crate::common::ports::Port::take();
    let client = Arc::new(Client::new(server_at(port.number), Role::Source).unwrap());
    let begun = std::time::Instant::now();
    let error = InfluxHttp::new(client, None, None).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connection { attempts: 1, .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(error.next_step().unwrap().contains("8086"), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}
