//! Verdicts under conditions in which it would be easy to say too much: sides that move, doubled
//! cells, namespaces that only one side has, places that are the same, nothing at all.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use gapless::block::Block;
use gapless::block::log::{RowLog, Table};
use gapless::compare::{Options, Unit};
use gapless::copy::{self, Destination};
use gapless::error::Result;
use gapless::line::decode::{Decoder, Item, Options as LineOptions};
use gapless::line::key;
use gapless::plan::{Filter, Held, Namespace, Partition, Scope};
use gapless::reject::Rejects;
use gapless::sink::{Ack, Batch, Refusal, Sink};
use gapless::source::{Reader, Source};
use gapless::stop::Stop;
use gapless::value::Value;
use gapless::verify;
use gapless::window::{HOUR, Window};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const ALL: Window = Window { start: 0, end: HOUR };

fn gapless(dir: &Path, arguments: &[&str]) -> Ran {
    Gapless::new(arguments).dir(dir).arg("--quiet").run()
}

fn file(dir: &Path, name: &str, lines: &str) {
    std::fs::write(dir.join(name), lines).unwrap();
}

/// A side whose rows depend on how often it was read before.
struct Scripted<F: Fn(usize) -> Vec<(i64, f64)>> {
    rows: F,
    readings: AtomicUsize,
}

fn scripted<F: Fn(usize) -> Vec<(i64, f64)>>(rows: F) -> Scripted<F> {
    Scripted { rows, readings: AtomicUsize::new(0) }
}

struct Blocks(Vec<Block>);

impl Reader for Blocks {
    fn next_block(&mut self) -> Result<Option<Block>> {
        Ok(self.0.pop())
    }
}

fn table(rows: &[(i64, f64)]) -> Table {
    let mut log = RowLog::default();
    let series = log.add_series(Arc::new(key::parse(b"m,h=a")));
    for (time, value) in rows {
        log.begin_row(series, *time);
        log.push(b"v", Value::Float(*value));
    }
    log.resolve()
}

impl<F: Fn(usize) -> Vec<(i64, f64)> + Send + Sync> Source for Scripted<F> {
    fn name(&self) -> String {
        "scripted".into()
    }

    fn namespaces(&self) -> Result<Vec<Held>> {
        Ok(vec![Held { namespace: Namespace::default(), settings: None }])
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        let namespace = scope.namespace.clone();
        Ok(vec![Partition::new(&namespace, scope.window, None)])
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let rows = (self.rows)(self.readings.fetch_add(1, Ordering::Relaxed));
        Ok(Box::new(Blocks(table(&rows).blocks(partition.window).collect())))
    }

    fn sees_raw_keys(&self) -> bool {
        true
    }
}

fn unit() -> Unit {
    let namespace = Namespace::default();
    Unit { source: namespace.clone(), source_lacks: false, destination: namespace, window: ALL }
}

fn options() -> Options {
    Options::new(Filter::default(), 1 << 20, gapless::spill::Place::new(None), 100)
}

#[test]
fn a_side_that_moved_between_two_readings_is_not_called_matched() {
    let ours = scripted(|_| vec![(1, 1.0), (2, 2.0)]);
    // At the digest another value, at the second look the same as ours.
    let theirs = scripted(|reading| vec![(1, if reading == 0 { 9.0 } else { 1.0 }), (2, 2.0)]);
    let outcome = verify::run(&ours, &theirs, &[unit()], 1, &options(), None, &()).unwrap();
    assert_eq!((outcome.counts.matched, outcome.counts.unstable), (0, 2));
}

/// A destination in memory: what is written is what is read.
#[derive(Default)]
struct Memory(std::sync::Mutex<Vec<(i64, f64)>>);

impl Sink for Memory {
    fn write(&self, batch: Batch) -> Result<Ack> {
        let mut decoder = Decoder::new(LineOptions::default());
        decoder.feed(&batch.body);
        decoder.finish();
        while let Ok(Some(Item::Row(row))) = decoder.next_item() {
            let time = row.time;
            let Some((_, Value::Float(value))) = row.fields().next() else { panic!("a float") };
            self.0.lock().unwrap().push((time, value));
        }
        Ok(Ack { requests: 1, ..Ack::default() })
    }

    fn close_unit(&self, _: &Namespace, _: Window) -> Result<()> {
        Ok(())
    }
}

fn copy_to(source: &dyn Source, reader: &dyn Source, sink: &dyn Sink, live: bool) -> copy::Outcome {
    let options = copy::Options {
        compare: options(),
        jobs: 1,
        batch_rows: 100,
        batch_bytes: 1 << 20,
        in_flight_bytes: 8 << 20,
        rate: None,
        cells: None,
        dry_run: false,
        overwrite: false,
        live,
        retry_suspects: false,
        server: false,
    };
    let destination = Destination { reader: Some(reader), sink };
    let (rejects, stop) = (Rejects::new(None), Stop::default());
    let surroundings = copy::Surroundings {
        rejects: &rejects,
        progress: &(),
        stop: &stop,
        journal: None,
        listing: None,
    };
    copy::run(source, destination, &[unit()], &options, surroundings).unwrap()
}

fn copy_live(source: &dyn Source) -> (copy::Outcome, Vec<(i64, f64)>) {
    let sink = Arc::new(Memory::default());
    let stored = Arc::clone(&sink);
    let reader = scripted(move |_| stored.0.lock().unwrap().clone());
    let outcome = copy_to(source, &reader, &*sink, true);
    (
        outcome,
        table(&sink.0.lock().unwrap())
            .blocks(ALL)
            .flat_map(|block| {
                let column = &block.columns()[0];
                let value = |row| match column.get(row) {
                    Some(Value::Float(value)) => value,
                    _ => panic!("a float"),
                };
                block
                    .times()
                    .iter()
                    .enumerate()
                    .map(|(row, time)| (*time, value(row)))
                    .collect::<Vec<_>>()
            })
            .collect(),
    )
}

#[test]
fn points_that_keep_coming_to_the_source_are_unstable_and_not_lost() {
    let source =
        scripted(|reading| (0..=i64::try_from(reading).unwrap()).map(|time| (time, 1.0)).collect());
    let (outcome, _) = copy_live(&source);
    assert_eq!(outcome.sent.lost, 0);
    assert!(outcome.verified.counts.unstable > 0);
}

#[test]
fn a_value_that_changes_while_an_empty_destination_is_filled_arrives() {
    // Read for the digest and for sending with the old value, then with the new one.
    let source = scripted(|reading| vec![(1, if reading < 2 { 1.0 } else { 2.0 })]);
    let (outcome, stored) = copy_live(&source);
    assert_eq!(stored, [(1, 2.0)]);
    assert_eq!((outcome.sent.lost, outcome.verified.counts.changed()), (0, 0));
    assert_eq!(outcome.verified.counts.matched, 1);
}

#[test]
fn a_value_that_is_overwritten_while_it_is_sent_follows_into_an_hour_that_was_held_in_part() {
    // What is compared, told apart and sent is the old value.
    let source =
        scripted(|reading| vec![(1, 1.0), (2, if reading < 3 { 2.0 } else { 9.0 }), (3, 3.0)]);
    let sink = Arc::new(Memory::default());
    // One value is another one there from the beginning: nobody here may touch it.
    sink.0.lock().unwrap().extend([(1, 1.0), (3, 7.0)]);
    let stored = Arc::clone(&sink);
    let reader = scripted(move |_| stored.0.lock().unwrap().clone());
    let outcome = copy_to(&source, &reader, &*sink, true);
    let sent: Vec<(i64, f64)> = sink.0.lock().unwrap()[2..].to_vec();
    assert_eq!(sent, [(2, 2.0), (2, 9.0)]);
    assert_eq!((outcome.verified.counts.matched, outcome.verified.counts.changed()), (2, 1));
}

/// Stores everything but the row at time 1, which it refuses each time.
#[derive(Default)]
struct Picky {
    stored: Memory,
    refused: std::sync::Mutex<Vec<String>>,
}

impl Sink for Picky {
    fn write(&self, batch: Batch) -> Result<Ack> {
        let text = String::from_utf8(batch.body.clone()).unwrap();
        let (bad, good): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.ends_with(" 1"));
        let body: String = good.iter().map(|line| format!("{line}\n")).collect();
        let ack = self.stored.write(Batch { body: body.into_bytes(), ..batch })?;
        self.refused.lock().unwrap().extend(bad.iter().map(|line| (*line).to_owned()));
        let refusal = |line: &&str| Refusal { line: line.as_bytes().into(), reason: "no".into() };
        Ok(Ack { refused: bad.iter().map(refusal).collect(), ..ack })
    }

    fn close_unit(&self, _: &Namespace, _: Window) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_was_refused_is_not_sent_again_when_something_else_is() {
    // The third point comes while the first two are sent.
    let source = scripted(|reading| {
        let late = if reading < 2 { None } else { Some((3, 3.0)) };
        [(1, 1.0), (2, 2.0)].into_iter().chain(late).collect()
    });
    let sink = Arc::new(Picky::default());
    let stored = Arc::clone(&sink);
    let reader = scripted(move |_| stored.stored.0.lock().unwrap().clone());
    let outcome = copy_to(&source, &reader, &*sink, true);
    assert_eq!(*sink.refused.lock().unwrap(), ["m,h=a v=1.0 1"]);
    assert_eq!((outcome.verified.counts.matched, outcome.sent.rejected), (2, 1));
    assert_eq!((outcome.sent.cells, outcome.sent.lost), (2, 0));
}

/// A cluster that acknowledges everything and stores nothing.
struct Lagging;

impl Sink for Lagging {
    fn write(&self, _: Batch) -> Result<Ack> {
        Ok(Ack { requests: 1, ..Ack::default() })
    }

    fn close_unit(&self, _: &Namespace, _: Window) -> Result<()> {
        Ok(())
    }

    fn lags(&self) -> bool {
        true
    }
}

#[test]
fn an_old_value_that_a_node_shows_for_a_while_is_no_conflict() {
    let source = scripted(|_| vec![(1, 1.0), (2, 2.0)]);
    // Each comparison that finds a difference reads the place once more to tell the cells apart.
    let old = |reading| if reading < 4 { 9.0 } else { 2.0 };
    let reader = scripted(move |reading| vec![(1, 1.0), (2, old(reading))]);
    let outcome = copy_to(&source, &reader, &Lagging, false);
    assert_eq!((outcome.verified.counts.matched, outcome.verified.counts.changed()), (2, 0));
    let stays = scripted(|_| vec![(1, 1.0), (2, 9.0)]);
    let outcome = copy_to(&source, &stays, &Lagging, false);
    assert_eq!(outcome.verified.counts.changed(), 1);
}

#[test]
fn a_cell_under_two_spellings_of_its_series_counts_twice() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "one.lp", "m=x v=1 1\n");
    file(dir.path(), "two.lp", "m=x v=1 1\nm\\=x v=1 1\n");
    gapless(dir.path(), &["verify", "one.lp", "two.lp"]).expect_status(1);
    gapless(dir.path(), &["verify", "two.lp", "one.lp"]).expect_status(1);
    gapless(dir.path(), &["verify", "two.lp", "./two.lp", "--json"]).expect_status(2);
}

#[test]
fn what_only_the_destination_can_hide_is_unprovable() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", "cpu v=1 1");
    file(dir.path(), "c.lp", "cpu v=1 1\nm\\=x v=1 1\nm\\=x v=2 2\n");
    let location = server.location("db");
    let both = [["verify", "c.lp", &location], ["verify", &location, "c.lp"]];
    for arguments in both {
        gapless(dir.path(), &arguments).expect_status(3).expect_out("unprovable 2");
    }
}

#[test]
fn a_retention_policy_or_database_that_one_side_lacks_is_a_difference() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    for name in ["a", "b"] {
        server.create_database(name);
        server.write(name, "m v=1 1");
    }
    server.query("CREATE RETENTION POLICY other ON b DURATION INF REPLICATION 1");
    server.post_write("b", "other", "m v=2 1", "ns");
    let (a, b) = (server.location("a"), server.location("b"));
    gapless(dir.path(), &["verify", &a, &b]).expect_status(1).expect_out("extra_in_destination 1");
    gapless(dir.path(), &["verify", &b, &a])
        .expect_status(1)
        .expect_out("missing_in_destination 1");
    gapless(dir.path(), &["verify", &b, &a, "--rp", "autogen"]).expect_status(0);
    let unknown = gapless(dir.path(), &["verify", &b, &a, "--rp", "no"]).expect_status(4);
    unknown.expect_err("it holds b.autogen, b.other");
    file(dir.path(), "none.lp", "");
    gapless(dir.path(), &["verify", "none.lp", &a]).expect_status(1).expect_out("extra");
}

#[test]
fn a_source_that_holds_nothing_is_no_success_and_leaves_no_archive() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    for name in ["empty", "full"] {
        server.create_database(name);
    }
    server.write("full", "m v=1 1");
    let (empty, full) = (server.location("empty"), server.location("full"));
    let ran = gapless(dir.path(), &["copy", &empty, &full]).expect_status(3);
    ran.expect_out("the source holds nothing in the window");
    gapless(dir.path(), &["copy", &empty, "archive"]).expect_status(3);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    gapless(dir.path(), &["copy", &full, "archive"]).expect_status(0);
    // A window that lies after the horizon is no wrong argument.
    let ran = gapless(dir.path(), &["copy", &full, "null:", "--start", "2200-01-01"]);
    ran.expect_status(3).expect_out("--lag");
    gapless(dir.path(), &["cat", &empty]).expect_status(3).expect_err("holds nothing");
}

#[test]
fn a_place_is_never_proven_against_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", "m v=1 1");
    let location = server.location("db");
    let named = location.replace("127.0.0.1", "localhost");
    for other in [&server.location("db/autogen"), &named] {
        for command in ["copy", "verify"] {
            let ran = gapless(dir.path(), &[command, &location, other]);
            ran.expect_status(2).expect_err("source and destination are the same");
        }
    }
}

#[test]
fn filters_apply_to_types_too_and_the_next_step_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    server.create_database("db");
    let location = server.location("db");
    file(dir.path(), "a b.lp", "m,h=a v=1i 1\nm,h=b v=1.5 1\nz v=1 1\nz v=\"s\" 2\nn v=1 1\n");
    let refused = gapless(dir.path(), &["copy", "a b.lp", &location]).expect_status(4);
    refused
        .expect_err("field v of measurement m in db")
        .expect_err("field v of measurement z in db");
    let some = ["--exclude", "z", "--tag", "h=a"];
    Gapless::new(["copy", "a b.lp", &location, "--quiet"])
        .args(some)
        .dir(dir.path())
        .run()
        .expect_status(0)
        .expect_out("IDENTICAL");
    server.write("db", "n v=2 1");
    let conflict = gapless(dir.path(), &["copy", "a b.lp", &location, "--measurement", "n"]);
    let conflict = conflict.expect_status(1);
    let out = conflict.out();
    let next = out.split("next: ").nth(1).unwrap().trim();
    assert!(next.contains("'a b.lp'") && next.ends_with("--measurement n"), "{next}");
    // The printed command works as it is.
    let next = next.replacen("gapless", env!("CARGO_BIN_EXE_gapless"), 1);
    Gapless::program("sh", ["-c", &next]).dir(dir.path()).run().expect_status(0);
    gapless(dir.path(), &["verify", "a b.lp", &location, "--measurement", "n"]).expect_status(0);
}

#[test]
fn a_report_that_cannot_be_written_does_not_hide_the_verdict() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "a.lp", "m v=1 1\n");
    let ran = gapless(dir.path(), &["copy", "a.lp", "a.arc", "--report", "no/where.json"]);
    ran.expect_status(4).expect_out("IDENTICAL").expect_err("no/where.json");
}

#[test]
fn cat_says_what_it_left_out_and_its_comments_swallow_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    server.create_database("q=\"z");
    server.post_write("q=\"z", "", "m v=1 1", "ns");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    server.post_write("q=\"z", "", format!("m v=2 {}", now.as_nanos()), "ns");
    let one = gapless(dir.path(), &["cat", &server.location("")]).expect_status(0);
    let one = one.expect_err("not covered: what is newer than");
    assert_eq!(one.out().lines().count(), 1);
    server.create_database("other");
    server.write("other", "m v=1 1");
    // A server would take what follows this name for a part of the comment.
    let two = gapless(dir.path(), &["cat", &server.location("")]).expect_status(0).out();
    file(dir.path(), "two.lp", &two);
    let copy = gapless(dir.path(), &["copy", "two.lp", "two.arc"]).expect_status(0);
    copy.expect_out("IDENTICAL").expect_out("matched 2");
    let verify = gapless(dir.path(), &["verify", "two.arc", &server.location(""), "--end", "2"]);
    verify.expect_status(0).expect_out("IDENTICAL").expect_out("matched 2");
}

#[test]
fn cat_writes_every_name_that_it_can_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = "# DDL\nCREATE DATABASE \" a \" WITH NAME \"r \"\n\
                     CREATE RETENTION POLICY \"s\\\\\" ON \" a \" DURATION 36h REPLICATION 1 \
                     SHARD DURATION 1d DEFAULT\nCREATE DATABASE nothing WITH NAME here\n# DML\n"
        .to_owned();
    for (database, rp) in
        [(" a ", "r "), (" a ", "s\\"), ("x=\"y", "it's\\"), ("é/b", "a:b:"), ("", "")]
    {
        writeln!(lines, "# CONTEXT-DATABASE:{database}\n# CONTEXT-RETENTION-POLICY:{rp}").unwrap();
        writeln!(lines, "m v=1 1\nm s=\"# a\n\nb\" 2").unwrap();
    }
    file(dir.path(), "in.lp", &lines);
    let one = gapless(dir.path(), &["cat", "in.lp"]).expect_status(0).out();
    assert!(!one.contains("warning"));
    file(dir.path(), "one.lp", &one);
    assert_eq!(gapless(dir.path(), &["cat", "one.lp"]).expect_status(0).out(), one);
    for name in ["in", "one"] {
        let archive = format!("{name}.arc");
        gapless(dir.path(), &["copy", &format!("{name}.lp"), &archive]).expect_status(0);
    }
    let same = gapless(dir.path(), &["verify", "in.arc", "one.arc"]).expect_status(0);
    same.expect_out("IDENTICAL").expect_out("matched 10");
    let manifest = |name: &str| -> serde_json::Value {
        let text = std::fs::read(dir.path().join(name).join("manifest.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let (one, two) = (manifest("in.arc"), manifest("one.arc"));
    assert_eq!(one["namespaces"], two["namespaces"], "the settings are the same, too");
    let settings = |at: usize| one["namespaces"][at]["settings"].to_string();
    assert!(one.to_string().contains("129600000000000"), "{} {}", settings(1), settings(2));
    assert!(one.to_string().contains("nothing"));
}

#[test]
fn digests_that_do_not_fit_are_compared_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for hour in 0..24 * 7 {
        for series in 0..400 {
            writeln!(lines, "m,s={series} v=1 {}", hour * HOUR).unwrap();
        }
    }
    file(dir.path(), "a.lp", &lines);
    let server = Influxd::start();
    server.create_database("db");
    let location = server.location("db");
    let small = ["--memory", "32", "--jobs", "2"];
    let copy = Gapless::new(["copy", "a.lp", &location, "--quiet"]).args(small).dir(dir.path());
    let copy = copy.run().expect_status(0).expect_out("IDENTICAL");
    copy.expect_out("100 % of 67,200 cells").expect_out("sent 67,200 cells");
    let verify = Gapless::new(["verify", "a.lp", &location, "--quiet"]).args(small).dir(dir.path());
    verify.run().expect_status(0);
}

#[test]
fn fields_that_cannot_share_a_line_get_lines_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "in.lp", "m a=1,v=1i 1\nm v=2 1\n");
    // Both types of `v` cannot stand in one line: each cell gets a line of its own.
    let ran = gapless(dir.path(), &["copy", "in.lp", "out.arc"]).expect_status(0);
    ran.expect_out("IDENTICAL").expect_out("matched 3").expect_out("sent 3 cells in 3 rows");
}

#[test]
fn cells_that_queries_cannot_show_are_not_overwritten_blindly() {
    let dir = tempfile::tempdir().unwrap();
    let server = Influxd::start();
    server.create_database("db");
    file(dir.path(), "in.lp", "m\\=x v=1 1\n");
    let location = server.location("db");
    gapless(dir.path(), &["copy", "in.lp", &location]).expect_status(3).expect_out("sent 1 cells");
    // This index shows the odd spelling; a client overwrites it there.
    server.write("db", "m\\=x v=77 1");
    let again = gapless(dir.path(), &["copy", "in.lp", &location]).expect_status(3);
    again.expect_out("sent 0 cells").expect_out("unprovable 1");
    let shown = server.query("SELECT v FROM db.autogen.\"m=x\"").to_string();
    assert!(shown.contains("77"), "{shown}");
}
