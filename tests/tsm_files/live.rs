//! Files of a server, against what its queries show.

use crate::common::Influxd;
use crate::files::{Cells, Seen, cells};
use crate::line_tools::outcome::Bytes;
use gapless::http::{Client, Role, Server};
use gapless::plan::{Filter, Namespace, Scope};
use gapless::source::influx_http::InfluxHttp;
use gapless::source::{Source, for_each_block};
use gapless::window::{TIME_MAX, TIME_MIN, Window};
use std::fmt::Write;
use std::fs;
use std::sync::Arc;

const DB: &str = "files";
/// 1,700,000,000 s.
const T: i64 = 1_700_000_000_000_000_000;

/// Every cell that queries show.
fn queried(source: &InfluxHttp) -> Cells {
    let namespace = Namespace { database: DB.into(), retention_policy: "autogen".into() };
    let scope = Scope { namespace, window: Window::ALL, filter: Filter::default() };
    let mut found = Cells::new();
    for_each_block(source, &source.plan(&scope).unwrap(), |block| {
        for (series, rows) in block.runs() {
            for row in rows {
                for column in block.columns() {
                    if let Some(value) = column.get(row) {
                        let key = Bytes([series.key(), b"#!~#", &column.field].concat());
                        let before = found.insert((key, block.times()[row]), value.into());
                        assert!(before.is_none());
                    }
                }
            }
        }
        Ok(())
    })
    .unwrap();
    found
}

fn source(server: &Influxd) -> InfluxHttp {
    let place = Server::at("127.0.0.1", server.port());
    let client = Arc::new(Client::new(place, Role::Source).unwrap());
    InfluxHttp::new(client, Some(DB.into()), None).unwrap()
}

/// Regular and irregular times, counters, noise, and constants.
fn many() -> String {
    let mut lines = String::new();
    let mut noise = 1_u64;
    for n in 0..2500_i64 {
        noise =
            noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let small = i64::try_from(noise >> 54).unwrap();
        let float = f64::from_bits(noise >> 12 | 0x3ff0_0000_0000_0000);
        let time = T + n * 10_000_000_000;
        writeln!(
            lines,
            "m,h=a f={float:?},c=7,n={}i,r={small}i,b={} {time}",
            n * 3,
            small % 3 == 0
        )
        .unwrap();
        let time = T + n * 1_000_000 + small;
        writeln!(lines, "m,h=b n={}i,s=\"text {small}\" {time}", noise.cast_signed()).unwrap();
    }
    lines
}

/// Values and names at the edges.
fn edges() -> String {
    let long = "z".repeat(65_536);
    [
        format!("edge i={}i,f=-0,s=\"\" {T}", i64::MIN),
        format!("edge i={}i,f=5e-324,s=\"{long}\" {}", i64::MAX, T + 1),
        format!("edge i=0i,f=2.2250738585072009e-308,s=\"two\nlines\" {}", T + 2),
        format!("edge i=-1i,f=1.7976931348623157e308,s=\"a\\\"b\\\\c\" {}", T + 3),
        format!("edge,lone=1 i={}i {T}", i64::MAX),
        format!("far f=1,s=\"first\" {TIME_MIN}"),
        "far f=2,b=true -1".to_owned(),
        "far f=3,b=false 0".to_owned(),
        format!("far f=4,i=5i {TIME_MAX}"),
        format!("esc\\,aped\\ m,ta\\=g=va\\,l\\ ue,x=ü f\\,\\ \\\"1\\\"=1,p=2i {T}"),
    ]
    .join("\n")
}

fn compare(index: &str) {
    let mut server = Influxd::builder().index(index).start();
    server.create_database(DB);
    server.write(DB, many());
    server.write(DB, edges());
    server.flush();
    // A second file that overwrites parts of the first.
    let over = |from: i64, to: i64, value: &str| -> String {
        (from..to).map(|n| format!("m,h=a {value} {}\n", T + n * 10_000_000_000)).collect()
    };
    server.write(DB, over(990, 1010, "f=-1,b=true,new=\"x\""));
    server.write(DB, format!("gone f=1,s=\"x\" {T}"));
    server.flush();
    let query = |text: &str| {
        let reply = server.request(
            "POST",
            &format!("/query?db={DB}&q={}", crate::common::http::encode(text)),
            &[],
            b"",
        );
        assert!(reply.status == 200 && !reply.text().contains("error"), "{}", reply.text());
    };
    // Tombstones of both, of a range and of whole series.
    let time = |n: i64| T + n * 10_000_000_000;
    query(&format!(
        "DELETE FROM m WHERE h = 'a' AND time >= {} AND time <= {}",
        time(1000),
        time(1500)
    ));
    query("DROP SERIES FROM gone");
    // Some of it again, then deleted from the log in part.
    server.write(DB, over(1200, 1220, "f=1000,n=-5i"));
    server.write(DB, format!("gone f=2 {T}\ngone f=3 {}", T + 1));
    query(&format!("DELETE FROM gone WHERE time = {T}"));
    query(&format!("DELETE FROM m WHERE h = 'a' AND time = {}", time(1210)));
    server.write(DB, over(1214, 1216, "f=2000,b=false"));
    server.write(DB, edges());

    let expected = queried(&source(&server));
    server.stop();
    let mut seen = Seen::default();
    let found = cells(server.data_dir(), DB, &mut seen);
    assert!(seen.tsm_files > 2 && seen.tombstones > 5, "{seen:?}");
    assert!(seen.wal_cells > 50 && seen.wal_deletes > 1, "{seen:?}");
    assert!(expected.len() > 15_000, "{}", expected.len());
    for (cell, value) in &expected {
        assert_eq!(found.get(cell), Some(value), "{cell:?}");
    }
    let more: Vec<_> = found.keys().filter(|cell| !expected.contains_key(cell)).take(9).collect();
    assert!(more.is_empty(), "{more:?}");

    let source_meta = fs::read(server.data_dir().join("meta/meta.db")).unwrap();
    let meta = gapless::meta::decode(&source_meta).unwrap();
    let mut windows: Vec<Window> =
        meta.databases[0].rps[0].groups.iter().map(|group| group.window()).collect();
    windows.sort();
    assert!(windows.len() > 3 && windows.windows(2).all(|two| two[0].end <= two[1].start));
    for (_, time) in found.keys() {
        assert!(windows.iter().any(|window| window.contains(*time)), "{time}");
    }
}

#[test]
fn files_hold_what_queries_show_with_an_index_in_memory() {
    compare("inmem");
}

#[test]
fn files_hold_what_queries_show_with_an_index_on_disk() {
    compare("tsi1");
}
