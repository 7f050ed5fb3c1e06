//! Servers with limits on queries: what is too much for one query is read in parts.

use crate::common::Influxd;
use crate::setup::*;
use gapless::http::{Client, Role};
use gapless::source::Source;
use gapless::source::influx_http::InfluxHttp;
use std::sync::Arc;

const ROWS: usize = 5_000;

fn filled(section: &str, line: &str) -> Influxd {
    let influxd = Influxd::builder().config(section, line).start();
    influxd.create_database("d");
    let lines: Vec<String> =
        (0..ROWS).map(|at| format!("m,h={} v={at}i,w={at} {}", at % 7, at * 1000)).collect();
    influxd.write("d", lines.join("\n"));
    influxd
}

fn expected() -> Vec<String> {
    let cells = |at: usize| {
        let (host, time) = (at % 7, at * 1000);
        let float = f64::from(u32::try_from(at).expect("a small number"));
        [
            format!("m,h={host} v=Integer({at}) {time}"),
            format!("m,h={host} w=Float({float:?}) {time}"),
        ]
    };
    let mut all: Vec<String> = (0..ROWS).flat_map(cells).collect();
    all.sort();
    all
}

#[test]
fn more_series_than_a_query_may_read_are_an_error_that_names_the_setting() {
    let influxd = filled("coordinator", "max-select-series = 3");
    let source = source(&influxd, "d");
    let partitions = source.plan(&scope("d", "")).unwrap();
    let error = read_partition(&source, &partitions[0]).unwrap_err();
    assert!(error.to_string().contains("max-select-series"), "{error}");
    assert!(error.next_step().unwrap().contains("--tag"), "{error:?}");
    let mut one = scope("d", "");
    one.filter.tags = vec![("h".into(), "3".into())];
    let one = read(&crate::setup::source(&influxd, "d"), &one);
    assert!(one.len() > 1000, "one series is not too many");
}

/// Asserts that a server which refuses to read many rows in one query is read all the same.
#[track_caller]
fn assert_read_in_parts(line: &str, words: &str) {
    let influxd = Influxd::builder().config("coordinator", line).start();
    influxd.create_database("d");
    let rows = 600_000;
    for part in 0..30 {
        let rows = part * (rows / 30)..(part + 1) * (rows / 30);
        let lines: Vec<String> =
            rows.map(|at| format!("m,h={} a={at},b={at},c={at},d={at} {at}000", at % 3)).collect();
        influxd.write("d", lines.join("\n"));
    }
    let often = ["d.autogen.m"; 4].join(", ");
    let whole = influxd.query_raw(&format!("SELECT * FROM {often} GROUP BY *")).text();
    assert!(whole.contains(words), "the limit is in force: {} bytes", whole.len());
    let source = source(&influxd, "d");
    let (mut cells, mut times) = (0, std::collections::HashSet::new());
    for partition in source.plan(&scope("d", "")).expect("a plan") {
        let mut reader = source.open(&partition).expect("a reader");
        while let Some(block) = reader.next_block().expect("a block") {
            cells += block.cells();
            times.extend(block.times().iter().copied());
        }
    }
    assert_eq!(cells, 4 * rows);
    assert_eq!(times.len() as u64, rows, "no row twice");
}

#[test]
fn a_query_that_takes_too_long_is_read_in_parts() {
    assert_read_in_parts("query-timeout = \"300ms\"", "query-timeout");
}

#[test]
fn more_points_than_a_query_may_read_are_read_in_parts() {
    // The server looks once a second.
    assert_read_in_parts("max-select-point = 100000", "max-select-point");
}

#[test]
fn a_server_that_runs_one_query_at_a_time_is_asked_again() {
    let influxd = filled("coordinator", "max-concurrent-queries = 1");
    std::thread::scope(|threads| {
        let reader = || {
            let client = Client::new(server_at(influxd.port()), Role::Source).expect("a client");
            let source = InfluxHttp::new(Arc::new(client), Some("d".into()), None).unwrap();
            read(&source, &scope("d", ""))
        };
        let readers: Vec<_> = (0..4).map(|_| threads.spawn(reader)).collect();
        for reader in readers {
            assert_eq!(reader.join().expect("a reader"), expected());
        }
    });
}

#[test]
fn what_is_known_to_be_large_is_read_in_parts() {
    let influxd = filled("coordinator", "max-select-series = 0");
    let queries = || {
        let vars = influxd.request("GET", "/debug/vars", &[], &[]).text();
        let vars: serde_json::Value = serde_json::from_str(&vars).expect("JSON");
        let http = vars.as_object().expect("an object").values().find(|one| one["name"] == "httpd");
        http.expect("statistics")["values"]["queryReq"].as_u64().expect("a count")
    };
    let source = source(&influxd, "d").with_query_max(ROWS as u64 / 4, 1 << 30);
    let read = || {
        let before = queries();
        assert_eq!(read(&source, &scope("d", "")), expected());
        queries() - before
    };
    let (first, second, third) = (read(), read(), read());
    assert_eq!((second - first, third - first), (3, 3), "four parts in place of one");
}
