//! Types that change between shard groups, as a user who may only read sees them, and shard groups
//! whose durations changed.

use crate::common::Influxd;
use crate::setup::*;
use gapless::http::Role;
use gapless::plan::{Filter, Namespace};
use gapless::source::Source;
use gapless::source::influx_http::InfluxHttp;
use gapless::value::FieldType;
use gapless::window::{DAY, HOUR, Window};
use std::time::{Duration, Instant};

/// A server with a user `ro` who may read the database `d`, whose RP makes groups of one day.
fn server_with_reader(settings: &[(&str, &str)]) -> Influxd {
    let builder = Influxd::builder().auth("admin", "secret one");
    let influxd =
        settings.iter().fold(builder, |builder, (section, line)| builder.config(section, line));
    let influxd = influxd.start();
    influxd.create_database("d");
    influxd.query(
        "CREATE RETENTION POLICY r ON d DURATION INF REPLICATION 1 SHARD DURATION 1d DEFAULT",
    );
    influxd.query("CREATE USER ro WITH PASSWORD 'ro'");
    influxd.query("GRANT READ ON d TO ro");
    influxd
}

fn as_user(influxd: &Influxd, user: &str, password: &str) -> InfluxHttp {
    let client = client_of(with_user(influxd, user, password), Role::Source);
    InfluxHttp::new(client, Some("d".into()), None).expect("the database")
}

fn longer_groups(influxd: &Influxd) {
    influxd.query("ALTER RETENTION POLICY r ON d SHARD DURATION 7d");
}

/// Line protocol at a time of a day since 1970.
fn at(line: &str, day: i64, after: i64) -> String {
    format!("{line} {}", day * DAY + after)
}

/// What both users read; the same, or the test fails.
fn read_by_both(influxd: &Influxd) -> Vec<String> {
    let by_reader = read(&as_user(influxd, "ro", "ro"), &scope("d", ""));
    assert_eq!(by_reader, read(&as_user(influxd, "admin", "secret one"), &scope("d", "")));
    by_reader
}

#[test]
fn a_reader_gets_every_type_of_a_field_although_the_shard_duration_was_changed() {
    let influxd = server_with_reader(&[]);
    // Monday 1970-01-05 begins a group of seven days.
    let early = [
        at("m,h=a v=9007199254740993i", 4, 0),
        at("m,h=a v=-9007199254740993i", 4, DAY - 1),
        at("m,h=a v=-0", 5, 0),
        at("m,h=b v=9007199254740992,w=1", 5, DAY - 1),
        at("m,h=a v=\"\"", 6, 0),
        at("m,h=a v=\"9007199254740993\"", 6, DAY - 1),
        at("m,h=a v=t", 7, 0),
        at("m,h=a v=5i", 8, HOUR),
    ];
    influxd.write("d", early.join("\n"));
    longer_groups(&influxd);
    influxd.write("d", [at("m,h=a v=5", 14, 0), at("m,h=a v=-5", 17, DAY - 1)].join("\n"));
    influxd.write("d", [at("m,h=a v=5i", 18, 0), at("m,h=a v=\"5\"", 40, 7)].join("\n"));
    let cell = |key: &str, value: &str, day: i64, after: i64| {
        format!("m,h={key} v={value} {}", day * DAY + after)
    };
    let mut expected = vec![
        cell("a", "Integer(9007199254740993)", 4, 0),
        cell("a", "Integer(-9007199254740993)", 4, DAY - 1),
        cell("a", "Float(-0.0)", 5, 0),
        cell("b", "Float(9007199254740992.0)", 5, DAY - 1),
        format!("m,h=b w=Float(1.0) {}", 6 * DAY - 1),
        cell("a", "\"\"", 6, 0),
        cell("a", "\"9007199254740993\"", 6, DAY - 1),
        cell("a", "Boolean(true)", 7, 0),
        cell("a", "Integer(5)", 8, HOUR),
        cell("a", "Float(5.0)", 14, 0),
        cell("a", "Float(-5.0)", 17, DAY - 1),
        cell("a", "Float(5.0)", 18, 0),
        cell("a", "\"5\"", 40, 7),
    ];
    // The group of the days 11 to 18 has floats by then.
    expected.retain(|line| !line.ends_with(&format!(" {}", 18 * DAY)));
    expected.push(cell("a", "Integer(5)", 18, 0));
    expected.sort();
    assert_eq!(read_by_both(&influxd), expected);
}

#[test]
fn groups_shorter_than_the_settings_say_are_found_by_a_reader() {
    let influxd = server_with_reader(&[("data", "index-version = \"tsi1\"")]);
    longer_groups(&influxd);
    influxd.write("d", [at("m v=5i", 4, 0), at("m v=6i", 10, DAY - 1)].join("\n"));
    influxd.query("ALTER RETENTION POLICY r ON d SHARD DURATION 1h");
    let hours: Vec<String> = (0..6)
        .map(|hour| at(if hour % 2 == 0 { "m v=5" } else { "m v=5i" }, 11, hour * HOUR + HOUR / 2))
        .collect();
    influxd.write("d", hours.join("\n"));
    longer_groups(&influxd);
    let found = read_by_both(&influxd);
    assert_eq!(found.len(), 8);
    assert_eq!(found.iter().filter(|line| line.contains("Float(5.0)")).count(), 3);
    assert_eq!(found.iter().filter(|line| line.contains("Integer(5)")).count(), 4);
}

#[test]
fn strings_and_numbers_are_told_apart_where_groups_overlap() {
    let influxd = server_with_reader(&[]);
    influxd.write("d", [at("m,h=a s=\"5\",b=t,n=1,x=1", 4, 0), at("m,h=a n=-0", 4, 1)].join("\n"));
    longer_groups(&influxd);
    // This group reaches over that of day 4, and has other types.
    influxd.write("d", at("m,h=a s=5i,b=7,n=2,x=\"t\"", 8, 0));
    let (first, second) = (4 * DAY, 8 * DAY);
    let mut expected = vec![
        format!("m,h=a s=\"5\" {first}"),
        format!("m,h=a b=Boolean(true) {first}"),
        format!("m,h=a n=Float(1.0) {first}"),
        format!("m,h=a n=Float(-0.0) {}", first + 1),
        format!("m,h=a x=Float(1.0) {first}"),
        format!("m,h=a s=Integer(5) {second}"),
        format!("m,h=a b=Float(7.0) {second}"),
        format!("m,h=a n=Float(2.0) {second}"),
        format!("m,h=a x=\"t\" {second}"),
    ];
    expected.sort();
    assert_eq!(read_by_both(&influxd), expected);
    let types = |from: i64, field: &[u8]| {
        let namespace = Namespace { database: "d".into(), retention_policy: "r".into() };
        let window = Window { start: from, end: from + DAY };
        as_user(&influxd, "ro", "ro").types_in(&namespace, b"m", field, window).unwrap()
    };
    assert_eq!(types(first, b"s"), [FieldType::String]);
    assert_eq!(types(second, b"s"), [FieldType::Integer]);
    assert_eq!(types(first, b"x"), [FieldType::Float]);
}

#[test]
fn integers_and_floats_of_overlapping_groups_are_exact_or_an_error() {
    let cold = ("data", "cache-snapshot-write-cold-duration = \"1s\"");
    let influxd = server_with_reader(&[cold]);
    influxd.write("d", [at("m,h=a v=5i", 4, 0), at("m,h=b v=6i", 4, DAY - 1)].join("\n"));
    longer_groups(&influxd);
    influxd.write("d", at("m,h=a v=7", 8, 0));
    let mut expected = vec![
        format!("m,h=a v=Integer(5) {}", 4 * DAY),
        format!("m,h=b v=Integer(6) {}", 5 * DAY - 1),
        format!("m,h=a v=Float(7.0) {}", 8 * DAY),
    ];
    expected.sort();
    // Values in memory do not show their type; soon they are in blocks, which do.
    let all = |user: &str, password: &str| {
        let source = as_user(&influxd, user, password);
        let mut cells = Vec::new();
        for partition in source.plan(&scope("d", "")).expect("a plan") {
            cells.extend(read_partition(&source, &partition)?);
        }
        cells.sort();
        Ok::<_, gapless::error::Error>(cells)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    for (user, password) in [("ro", "ro"), ("admin", "secret one")] {
        loop {
            match all(user, password) {
                Ok(cells) => {
                    assert_eq!(cells, expected, "{user}");
                    break;
                }
                Err(error) => {
                    assert!(error.to_string().contains("memory"), "{error}");
                    assert!(Instant::now() < deadline, "{error}");
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    // One batch puts a row of day 5 into the long group, whose type it takes.
    influxd.write("d", at("m,h=a v=8i", 5, 0).replace("8i", "8"));
    influxd.write("d", [at("m,h=a v=9", 9, 0), at("m,h=a v=10", 4, 1)].join("\n"));
    let error = loop {
        match all("ro", "ro") {
            Ok(cells) => panic!("day 4 has floats and integers: {cells:?}"),
            Err(error) if error.to_string().contains("may hold both") => break error,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(error.next_step().unwrap().contains("snapshot port"), "{error:?}");
}

#[test]
fn the_types_of_one_group_are_told_without_reading_it() {
    let influxd = server_with_reader(&[]);
    let lines = [
        at("m v=5i,w=1", 4, 0),
        at("m v=5", 5, 0),
        at("m v=\"5\"", 6, 0),
        at("m w=2", 7, 0),
        at("n v=t", 4, 0),
        at("n \"q\\ r=1i", 4, 0),
    ];
    influxd.write("d", lines.join("\n"));
    let source = as_user(&influxd, "ro", "ro");
    let namespace = Namespace { database: "d".into(), retention_policy: String::new() };
    let types = |measurement: &str, field: &str, day: i64| {
        let window = Window { start: day * DAY, end: (day + 1) * DAY };
        source.types_in(&namespace, measurement.as_bytes(), field.as_bytes(), window).unwrap()
    };
    assert_eq!(types("m", "v", 4), [FieldType::Integer]);
    assert_eq!(types("m", "v", 5), [FieldType::Float]);
    assert_eq!(types("m", "v", 6), [FieldType::String]);
    assert_eq!(types("n", "v", 4), [FieldType::Boolean]);
    assert_eq!(types("n", "\"q r", 4), [FieldType::Integer]);
    for (measurement, field, day) in [("m", "v", 7), ("m", "x", 4), ("x", "v", 4), ("n", "v", 5)] {
        assert!(types(measurement, field, day).is_empty(), "{measurement}.{field} on day {day}");
    }

    let mut scope = scope("d", "");
    let all = source.field_types(&scope).unwrap().expect("a server knows its types");
    assert_eq!(
        all[&b"m"[..]][&b"v"[..]],
        [FieldType::Float, FieldType::Integer, FieldType::String]
    );
    assert_eq!(all[&b"m"[..]][&b"w"[..]], [FieldType::Float]);
    assert_eq!(all.len(), 2);
    scope.filter = Filter { excluded: vec!["m".into()], ..Filter::default() };
    assert_eq!(source.field_types(&scope).unwrap().expect("types").len(), 1);
}
