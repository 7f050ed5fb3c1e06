//! Writing to a real server.

use crate::common::Influxd;
use crate::setup::*;
use gapless::error::ErrorKind;
use gapless::http::{Client, Retry, Role};
use gapless::sink::Sink;
use gapless::sink::influx::{Influx, Options};
use std::sync::Arc;
use std::time::Duration;

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
    // Alone, it is still the row: the server answers a ping.
    let alone = sink(&influxd, Options::default()).write(batch("d", &rows[60..61])).unwrap();
    assert_eq!(refused(&alone), [(rows[60].clone(), "Internal Server Error")]);
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
    use gapless::influxql::{self, create};
    let influxd = Influxd::start();
    let client = client(&influxd);
    let run = |statement: String| create::execute(&client, &statement);
    run(create::database("new one", None).unwrap()).unwrap();
    run(create::database("new one", None).unwrap()).unwrap();
    let settings = gapless::plan::RpSettings {
        duration: Some(7 * gapless::window::DAY),
        shard_duration: Some(gapless::window::DAY),
        replication: Some(1),
        default: Some(true),
    };
    let forever = gapless::plan::RpSettings {
        duration: Some(0),
        replication: Some(1),
        ..gapless::plan::RpSettings::default()
    };
    run(create::retention_policy("new one", "a \"b\"", &settings).unwrap()).unwrap();
    run(create::retention_policy("new one", "keep", &forever).unwrap()).unwrap();
    run(create::retention_policy("new one", "keep", &forever).unwrap()).unwrap();
    let policies = influxql::retention_policies(&client, "new one").unwrap();
    let names: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a \"b\"", "autogen", "keep"]);
    assert_eq!(policies[0].1, settings);
    assert_eq!(policies[2].1.duration, Some(0));
    assert!(run(create::retention_policy("new one", "keep", &settings).unwrap()).is_err());
    run(create::database("d", Some(("only one", &settings))).unwrap()).unwrap();
    let policies = influxql::retention_policies(&client, "d").unwrap();
    assert_eq!(policies, [("only one".to_owned(), settings)]);
    let clock = client.clock().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((i128::from(clock) - i128::try_from(now.as_nanos()).unwrap()).abs() < 60_000_000_000);
}

#[test]
fn every_number_of_tags_that_panics_a_server_is_set_aside() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let row = |tags: usize| {
        let tags: Vec<String> = (0..tags).map(|at| format!("t{at:04}=v")).collect();
        format!("m,{} v=1i {}", tags.join(","), tags.len())
    };
    let rows: Vec<String> = [99, 100, 101, 200, 201, 400, 800, 801].map(row).into_iter().collect();
    let ack = sink(&influxd, Options::default()).write(batch("d", &rows)).unwrap();
    let refused: Vec<String> = refused(&ack).into_iter().map(|(line, _)| line).collect();
    assert_eq!(refused, [100, 200, 400, 800].map(row));
    assert_eq!(influxd.count("d", ""), 4);
}

#[test]
fn a_server_that_fails_at_every_row_ends_the_copy() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let tags: Vec<String> = (0..100).map(|at| format!("t{at:03}=v")).collect();
    let rows: Vec<String> = (0..20).map(|at| format!("m,{} v=1i {at}", tags.join(","))).collect();
    let error = sink(&influxd, Options::default()).write(batch("d", &rows)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { status: 500, .. }), "{error}");
    assert!(error.next_step().unwrap().contains("log of the server"), "{error:?}");
}

#[test]
fn behind_the_limit_of_requests_rows_are_refused_together() {
    let influxd = Influxd::start();
    influxd.create_database("d");
    let mut rows: Vec<String> = (0..256).map(|at| format!("m v= {at}")).collect();
    rows[0] = "m v=1 0".into();
    let ack =
        sink(&influxd, Options::default()).with_requests_max(40).write(batch("d", &rows)).unwrap();
    assert!(ack.requests <= 40 + 9, "{} requests", ack.requests);
    let refused = refused(&ack);
    assert!(refused.iter().map(|(line, _)| line).eq(&rows[1..]), "each once, in their order");
    let (alone, others) = refused.split_at(10);
    assert!(alone.iter().all(|(_, reason)| *reason == "missing field value"), "{alone:?}");
    let expected =
        "missing field value (not tried alone: too many rows of this batch were refused)";
    assert_eq!(others.last().unwrap().1, expected);
    assert_eq!(influxd.count("d", ""), 1);
}
