//! What is counted of a line file in memory, and what is said where a limit is reached.

#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::compress::Input;
use crate::line::Precision;
use crate::plan::Namespace;
use crate::reject::Rejects;
use crate::source::line_file::{self, LineFile};
use crate::window::DAY;
use std::io::Cursor;

fn options() -> Options {
    Options { window: Window::ALL, filter: Filter::default(), series_max: 1_000, names_max: 1_000 }
}

fn inspect(lines: &str, options: &Options) -> Result<Vec<NamespaceFacts>> {
    let reading = line_file::Options {
        precision: Precision::Nanoseconds,
        default_time: None,
        window: options.window,
        namespace: Namespace::default(),
        memory_max: 64 << 20,
        spill: crate::spill::Place::new(None),
    };
    let stored = Box::new(Cursor::new(lines.as_bytes().to_vec()));
    let input = Input::from_reader("in.lp".into(), stored);
    let source = LineFile::read("in.lp", input, &reading, &Rejects::new(None), &|_| ())?;
    run(&source, &source.namespaces()?, options, &())
}

/// The only namespace's measurement.
fn measurement(facts: &[NamespaceFacts], name: &str) -> MeasurementFacts {
    facts[0].measurements[name.as_bytes()].clone()
}

fn cells(facts: &MeasurementFacts, field: &str, field_type: FieldType) -> Option<u64> {
    facts.fields.get(&(Arc::from(field.as_bytes()), field_type)).copied()
}

#[test]
fn everything_is_counted_once() {
    let lines = "\
cpu,host=a u=1,n=1i 10\ncpu,host=a u=2 20\ncpu,host=b n=5i 5\ncpu,host=a u=3 20\nmem f=t 7\n";
    let facts = inspect(lines, &options()).unwrap();
    let cpu = measurement(&facts, "cpu");
    assert_eq!((cpu.series, cpu.rows, cpu.cells), (Count::Exactly(2), 3, 4));
    assert_eq!((cpu.first, cpu.last), (5, 20));
    assert_eq!(cells(&cpu, "u", FieldType::Float), Some(2));
    assert_eq!(cells(&cpu, "n", FieldType::Integer), Some(2));
    assert_eq!(measurement(&facts, "mem").series, Count::Exactly(1));
}

#[test]
fn a_field_of_two_types_is_counted_in_each() {
    let facts = inspect("m v=1 1\nm v=1i 2\nm v=2i 3\n", &options()).unwrap();
    let m = measurement(&facts, "m");
    assert_eq!(cells(&m, "v", FieldType::Float), Some(1));
    assert_eq!(cells(&m, "v", FieldType::Integer), Some(2));
}

#[test]
fn what_the_filter_leaves_out_is_in_no_count() {
    let filter = Filter { tags: vec![("host".into(), "b".into())], ..Filter::default() };
    let lines = "m,host=a v=1,only_a=1 1\nm,host=b v=1 2\nm,host=b v=1 3\nother v=1 1\n";
    let facts = inspect(lines, &Options { filter, ..options() }).unwrap();
    let m = measurement(&facts, "m");
    assert_eq!((m.series, m.rows, m.cells), (Count::Exactly(1), 2, 2));
    assert_eq!((m.first, m.last), (2, 3));
    assert_eq!(cells(&m, "only_a", FieldType::Float), None);
    assert_eq!(facts[0].measurements.len(), 1);
}

#[test]
fn the_window_bounds_what_is_counted() {
    let window = Window { start: 10, end: 20 };
    let facts =
        inspect("m v=1 9\nm v=1 10\nm v=1 19\nm v=1 20\n", &Options { window, ..options() });
    let m = measurement(&facts.unwrap(), "m");
    assert_eq!((m.rows, m.first, m.last), (2, 10, 19));
}

#[test]
fn each_namespace_is_counted_for_itself() {
    let lines = "# CONTEXT-DATABASE:a\n# CONTEXT-RETENTION-POLICY:r\nm v=1 1\n\
        # CONTEXT-DATABASE:b\n# CONTEXT-RETENTION-POLICY:r\nm v=1 1\nm v=1 2\n";
    let facts = inspect(lines, &options()).unwrap();
    let rows: Vec<(String, u64)> = facts
        .iter()
        .map(|one| (one.held.namespace.to_string(), one.measurements[&b"m"[..]].rows))
        .collect();
    assert_eq!(rows, [("a.r".to_owned(), 1), ("b.r".to_owned(), 2)]);
}

#[test]
fn two_spellings_of_a_series_are_one() {
    let facts = inspect("m\\=x v=1 1\nm=x v=1 2\n", &options()).unwrap();
    assert_eq!(measurement(&facts, "m=x").series, Count::Exactly(1));
}

#[test]
fn beyond_its_limit_the_count_is_a_lower_bound() {
    let lines = |days: i64| -> String {
        // The same series every day, in an order that no block keeps.
        (0..days * 100).map(|row| format!("m,h={} v=1 {}\n", row % 100, row * DAY / 100)).collect()
    };
    let count = |series_max, days| {
        let facts = inspect(&lines(days), &Options { series_max, ..options() }).unwrap();
        measurement(&facts, "m").series
    };
    assert_eq!(count(100, 3), Count::Exactly(100));
    assert_eq!(count(1_000, 3), Count::Exactly(100));
    for series_max in [0, 1, 99] {
        let at_least = count(series_max, 3);
        assert!(!at_least.is_exact(), "{at_least:?}");
        assert!((1..=100).contains(&at_least.number()), "{at_least:?}");
        assert!(at_least.number() >= series_max as u64, "{at_least:?}");
    }
}

#[test]
fn the_limit_is_shared_by_the_measurements_of_a_namespace_and_not_by_namespaces() {
    let lines = "# CONTEXT-DATABASE:a\n# CONTEXT-RETENTION-POLICY:r\na,h=1 v=1 1\na,h=2 v=1 1\n\
        b,h=1 v=1 1\n# CONTEXT-DATABASE:b\n# CONTEXT-RETENTION-POLICY:r\na,h=1 v=1 1\n";
    let facts = inspect(lines, &Options { series_max: 2, ..options() }).unwrap();
    let series = |at: usize, name: &str| facts[at].measurements[name.as_bytes()].series;
    assert_eq!(series(0, "a"), Count::Exactly(2));
    assert_eq!(series(0, "b"), Count::AtLeast(1));
    assert_eq!(series(1, "a"), Count::Exactly(1));
    let all: Count = facts[0].measurements.values().map(|one| one.series).sum();
    assert_eq!(all, Count::AtLeast(3));
}

#[test]
fn too_many_names_are_an_error_with_a_next_step() {
    let error = inspect("m a=1,b=1,c=1 1\n", &Options { names_max: 3, ..options() }).unwrap_err();
    assert!(error.to_string().contains("exceeds the limit of 3"), "{error}");
    assert!(error.next_step().is_some());
    inspect("m a=1,b=1,c=1 1\n", &Options { names_max: 4, ..options() }).unwrap();
}

#[test]
fn progress_hears_of_every_cell() {
    #[derive(Default)]
    struct Cells(std::sync::atomic::AtomicU64);
    impl Progress for Cells {
        fn stage(&self, _: &str) {}
        fn expect(&self, _: Stage, _: u64) {}
        fn expect_bytes(&self, _: Stage, _: u64) {}
        fn done(&self, _: Stage, cells: u64, _: u64) {
            self.0.fetch_add(cells, std::sync::atomic::Ordering::Relaxed);
        }
        fn units(&self, _: usize) {}
        fn unit_done(&self) {}
        fn retried(&self, _: u64) {}
        fn rejected(&self, _: u64) {}
        fn warn(&self, _: &str) {}
    }
    let reading = line_file::Options {
        precision: Precision::Nanoseconds,
        default_time: None,
        window: Window::ALL,
        namespace: Namespace::default(),
        memory_max: 64 << 20,
        spill: crate::spill::Place::new(None),
    };
    let input =
        Input::from_reader("in.lp".into(), Box::new(Cursor::new(&b"m a=1,b=2 1\nm a=1 2\n"[..])));
    let source = LineFile::read("in.lp", input, &reading, &Rejects::new(None), &|_| ()).unwrap();
    let heard = Cells::default();
    run(&source, &source.namespaces().unwrap(), &options(), &heard).unwrap();
    assert_eq!(heard.0.into_inner(), 3);
}
