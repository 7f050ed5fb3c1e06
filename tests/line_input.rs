//! Line protocol files as a source: what their comments and statements mean, which rows they give,
//! and that no row disappears without a word.

#![allow(clippy::unwrap_used, reason = "test code")]

use gapless::compress::Input;
use gapless::error::Error;
use gapless::line::Precision;
use gapless::plan::{Filter, Namespace, Partition, Scope};
use gapless::reject::Rejects;
use gapless::source::Source;
use gapless::source::line_file::{LineFile, Options, Stats};
use gapless::spill::Place;
use gapless::window::{DAY, Window};
use std::cell::RefCell;
use std::io::{Cursor, Read};

/// What an input was read as.
struct Taken {
    file: LineFile,
    stats: Stats,
    rejects: String,
    warnings: Vec<String>,
}

fn named(database: &str, retention_policy: &str) -> Namespace {
    Namespace { database: database.into(), retention_policy: retention_policy.into() }
}

fn options() -> Options {
    Options {
        precision: Precision::Nanoseconds,
        default_time: None,
        window: Window::ALL,
        namespace: Namespace::default(),
        memory_max: 64 << 20,
        spill: Place::new(None),
    }
}

fn try_read(input: impl Read + Send + 'static, options: &Options) -> Result<Taken, Error> {
    let dir = tempfile::tempdir().unwrap();
    let rejects = Rejects::new(Some(dir.path().join("rejected.lp")));
    let input = Input::from_reader("in.lp".into(), Box::new(input));
    let warnings = RefCell::new(Vec::new());
    let warn = |text: &str| warnings.borrow_mut().push(text.to_owned());
    let file = LineFile::read("in.lp", input, options, &rejects, &warn)?;
    let summary = rejects.finish().unwrap();
    let rejects = summary.file.map(|file| std::fs::read_to_string(file).unwrap());
    let stats = file.stats().clone();
    let warnings = warnings.into_inner();
    Ok(Taken { file, stats, rejects: rejects.unwrap_or_default(), warnings })
}

fn read_with(input: &str, options: &Options) -> Taken {
    try_read(Cursor::new(input.as_bytes().to_vec()), options).unwrap()
}

fn read(input: &str) -> Taken {
    read_with(input, &options())
}

impl Taken {
    /// `database.rp: measurement rows` of everything that is held, sorted.
    fn held(&self) -> Vec<String> {
        let mut held = Vec::new();
        for one in self.file.namespaces().unwrap() {
            let namespace = one.namespace;
            let partition = Partition::new(&namespace, Window::ALL, None);
            let mut reader = self.file.open(&partition).unwrap();
            while let Some(block) = reader.next_block().unwrap() {
                let series = block.runs().next().unwrap().0.to_string();
                held.push(format!("{namespace}: {series} {}", block.rows()));
            }
        }
        held
    }
}

#[test]
fn an_export_with_its_header_is_read_whole() {
    let read = read(
        "# INFLUXDB EXPORT: 1677-09-21T00:12:43Z - 2262-04-11T23:47:16Z\n# DDL\n\
         CREATE DATABASE d6 WITH NAME autogen\ncreate database \"a b\" WITH NAME \"x,y=z\"\n\
         CREATE RETENTION POLICY x ON d6 DURATION 0s REPLICATION 1\n# DML\n\
         # CONTEXT-DATABASE:d6\n# CONTEXT-RETENTION-POLICY:autogen\n# writing tsm data\nm v=1 1\n\
         # CONTEXT-DATABASE:a b\r\n# CONTEXT-RETENTION-POLICY: x,y=z \t\nm v=2 2\n",
    );
    assert_eq!((read.stats.ddl, read.stats.rejected, read.stats.rows), (3, 0, 2));
    assert_eq!(read.held(), ["a b.x,y=z: m 1", "d6.autogen: m 1"]);
}

#[test]
fn a_statement_with_quotes_swallows_nothing() {
    let read = read(
        "# DDL\nCREATE DATABASE \"a=b\" WITH NAME \"c\\\"d\"\nCREATE DATABASE x\\\n\
         DROP DATABASE a=\"b\n# DML\n# CONTEXT-DATABASE:a=b\nm v=1 1\nm v=2 2\n",
    );
    assert_eq!((read.stats.ddl, read.stats.rejected), (1, 2), "{}", read.rejects);
    assert_eq!(read.held(), ["a=b: m 2"]);
    assert!(read.rejects.contains("in.lp, line 4: reason"), "{}", read.rejects);
    assert!(read.rejects.contains("'DROP' stands where CREATE was expected"));
}

#[test]
fn a_statement_is_never_data_and_data_are_no_statements() {
    let read = read(
        "CREATE DATABASE a=1 1\n# DDL\nCREATE DATABASE a=1 1\nCREATE\\ DATABASE a=1 1\n\
         DROP DATABASE x\n# DML\nm v=1 1\nCREATE DATABASE d6 WITH NAME autogen\n",
    );
    assert_eq!((read.stats.ddl, read.stats.rejected), (0, 5), "{}", read.rejects);
    assert_eq!(read.held(), ["(unnamed): m 1"]);
    assert!(read.rejects.contains("\nCREATE\\ DATABASE a=1 1\n"), "{}", read.rejects);
}

#[test]
fn blanks_at_the_ends_of_a_name_are_its_own_where_a_statement_says_so() {
    let text = "# DDL\nCREATE DATABASE \"d \" WITH NAME \" r\"\nCREATE DATABASE d WITH NAME r\n\
                # DML\n# CONTEXT-DATABASE:d \n# CONTEXT-RETENTION-POLICY: r\nm v=1 1\n\
                # CONTEXT-DATABASE:d\n# CONTEXT-RETENTION-POLICY:r\nm v=1 1\nm v=2 2\n";
    for text in [text.to_owned(), text.replace("Y: r\n", "Y: r\r\n").replace(":d \n", ":d \r\n")] {
        let read = read(&text);
        assert_eq!(read.held(), ["d.r: m 2", "d . r: m 1"]);
        assert_eq!(read.warnings, [""; 0]);
    }
}

#[test]
fn blanks_that_no_statement_explains_are_left_out_with_a_warning() {
    let read =
        read("m v=1 1\n\n# CONTEXT-DATABASE: d \r\n# CONTEXT-RETENTION-POLICY: r\r\nm v=1 1\n");
    assert_eq!(read.held(), ["(unnamed): m 1", "d.r: m 1"]);
    assert_eq!(read.warnings.len(), 1, "{:?}", read.warnings);
    assert!(read.warnings[0].starts_with("in.lp, line 3: whether the name d begins or ends in"));
}

#[test]
fn every_name_that_a_context_line_can_hold_is_read_as_it_is() {
    for name in ["a:b", "a: b:", "it's", "a\"b\\", "é/日本", "a\tb", "#!~#", "a\rb"] {
        let read = read(&format!(
            "# CONTEXT-DATABASE:{name}\n# CONTEXT-RETENTION-POLICY:{name}\nm v=1 1\n"
        ));
        assert_eq!(read.held(), [format!("{name}.{name}: m 1")]);
        assert_eq!((read.stats.rejected, read.warnings), (0, Vec::new()));
    }
}

#[test]
fn what_statements_name_is_there_with_and_without_rows() {
    let text = "# DDL\nCREATE DATABASE a\nCREATE RETENTION POLICY x ON a DURATION 1d REPLICATION 1\n\
                CREATE DATABASE b WITH NAME autogen\nCREATE DATABASE c\n# DML\n\
                # CONTEXT-DATABASE:b\n# CONTEXT-RETENTION-POLICY:autogen\nm v=1 1\n";
    let names = |namespace| -> Vec<(Namespace, bool)> {
        let held = read_with(text, &Options { namespace, ..options() }).file.namespaces().unwrap();
        held.into_iter().map(|held| (held.namespace, held.settings.is_some())).collect()
    };
    let (x, autogen) = ((named("a", "x"), true), (named("b", "autogen"), false));
    let c = (named("c", ""), false);
    assert_eq!(names(Namespace::default()), [x.clone(), autogen.clone(), c]);
    assert_eq!(names(named("b", "")), [autogen]);
    assert_eq!(names(named("", "x")), [x]);
    assert_eq!(names(named("d", "")), [(named("d", ""), false)], "what was asked for");
}

#[test]
fn the_statistics_of_a_server_are_taken_only_by_name() {
    let text = "# DDL\nCREATE DATABASE _internal WITH NAME monitor\nCREATE DATABASE d WITH NAME r\n\
                # DML\n# CONTEXT-DATABASE:_internal\n# CONTEXT-RETENTION-POLICY:monitor\nm v=1 1\n\
                # CONTEXT-DATABASE:d\n# CONTEXT-RETENTION-POLICY:r\nm v=2 2\n";
    let all = read(text);
    assert_eq!((all.held(), all.stats.other_namespaces), (vec!["d.r: m 1".to_owned()], 1));
    assert!(all.warnings[0].contains("line 5: rows of _internal"), "{:?}", all.warnings);
    let one = read_with(text, &Options { namespace: named("_internal", ""), ..options() });
    assert_eq!((one.held(), one.warnings), (vec!["_internal.monitor: m 1".into()], Vec::new()));
}

#[test]
fn a_context_line_ends_with_its_line_whatever_it_holds() {
    for name in ["a=\"b", "a\\", "x y=\"z"] {
        let text = format!(
            "# CONTEXT-DATABASE:{name}\n# CONTEXT-RETENTION-POLICY:{name}\nm v=1 1\n\
             m s=\"p\nq\" 2\nn v=1 3\n\nbad\n"
        );
        let read = read(&text);
        assert_eq!((read.stats.rows, read.stats.rejected), (3, 1), "{name}: {}", read.rejects);
        assert!(read.rejects.contains("in.lp, line 8, column"), "{}", read.rejects);
        assert_eq!(read.held(), [format!("{name}.{name}: m 2"), format!("{name}.{name}: n 1")]);
    }
}

#[test]
fn rows_that_a_comment_swallows_are_rejected() {
    let read =
        read("m v=1 1\n# a note=\"x\n# CONTEXT-DATABASE:d\nm v=2 2\n\nm s=\"p\nq\" 3\nm v=4 4\n");
    assert_eq!((read.stats.rows, read.stats.rejected), (2, 2), "{}", read.rejects);
    assert_eq!(read.held(), ["(unnamed): m 1", "d: m 1"]);
    let expected = "# in.lp, line 4: reason 1: a quote in a comment swallows the lines that \
                    follow, as it does on a server\n# CONTEXT-DATABASE:d\n\
                    # CONTEXT-RETENTION-POLICY:\nm v=2 2\n# in.lp, line 6: reason 1\n\
                    m s='p\nq' 3\n";
    assert_eq!(read.rejects, expected.replace('\'', "\""));
}

#[test]
fn comments_are_told_apart_wherever_the_chunks_end() {
    // Long enough for several chunks, with cuts and blank lines at every distance from their ends.
    let (mut text, mut rows, mut rejected) = (String::new(), 0, 0);
    for at in 0..60_000 {
        text.push_str(&format!("m,h=a v={at},s=\"# a=\n\" {at}\n"));
        rows += 1;
        if at % 100 == 0 {
            text.push_str("# CONTEXT-DATABASE:d=\"x\n \n# CONTEXT-DATABASE:d\n");
        }
        if at % 1_000 == 7 {
            // The quotes of whole rows are even in number: the quote is open until half of the
            // next row has gone by.
            text.push_str("# a=\"x\n\nm v=\"1\" 5\n");
            rejected += 2;
            rows -= 1;
        }
    }
    text.push_str("last");
    let line = text.lines().count();
    let read = read(&text);
    assert_eq!((read.stats.rows, read.stats.rejected), (rows, rejected + 1));
    assert!(read.rejects.contains(&format!("in.lp, line {line}, column")), "the last line");
}

#[test]
fn a_context_line_whose_quote_is_never_closed_swallows_no_file() {
    let text = format!("# CONTEXT-DATABASE:a=\"b\n{}", "m,h=a v=1 1\n".repeat(300_000));
    let read = read_with(&text, &Options { memory_max: 32 << 20, ..options() });
    assert_eq!((read.stats.rows, read.stats.rejected), (300_000, 0));
    // The line is longer than the memory, so that its end is never seen.
    let read = read_with(&text, &Options { memory_max: 3 << 20, window: unit(9), ..options() });
    assert_eq!((read.stats.rows, read.stats.outside_window), (300_000, 300_000));
}

#[test]
fn many_cuts_cost_no_more_than_their_bytes() {
    let started = std::time::Instant::now();
    let read = read(&"# a=\"\nm v=\"\n\" 1\n".repeat(200_000));
    assert!(read.stats.rejected > 0);
    let backslashes = "# CONTEXT-DATABASE:a\\\n".repeat(200_000);
    assert_eq!(self::read(&backslashes).stats.rejected, 0);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

fn unit(day: i64) -> Window {
    Window { start: day * DAY, end: (day + 1) * DAY }
}

#[test]
fn given_names_are_those_of_plain_lines_and_filter_the_others() {
    let text = "m v=1 1\n# CONTEXT-DATABASE:a\nm v=2 2\n# CONTEXT-RETENTION-POLICY:x\nm v=3 3\n\
                # CONTEXT-RETENTION-POLICY:y\nm v=4 4\n# CONTEXT-DATABASE:b\n\
                # CONTEXT-RETENTION-POLICY:x\nm v=5 5\n";
    let with = |namespace| read_with(text, &Options { namespace, ..options() });
    let all = with(Namespace::default());
    assert_eq!(all.held(), ["(unnamed): m 1", "a: m 1", "a.x: m 1", "a.y: m 1", "b.x: m 1"]);
    let database = with(named("a", ""));
    assert_eq!(database.held(), ["a: m 2", "a.x: m 1", "a.y: m 1"]);
    assert_eq!((database.stats.rows, database.stats.other_namespaces), (5, 1));
    let both = with(named("a", "x"));
    assert_eq!((both.held(), both.stats.other_namespaces), (vec!["a.x: m 3".to_owned()], 2));
}

#[test]
fn an_input_without_rows_still_has_its_namespace() {
    for text in ["", "# CONTEXT-DATABASE:other\n"] {
        let read = read_with(text, &Options { namespace: named("d", ""), ..options() });
        let held = read.file.namespaces().unwrap();
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].namespace, named("d", ""));
        let scope =
            Scope { namespace: named("d", ""), window: Window::ALL, filter: Filter::default() };
        assert!(read.file.plan(&scope).unwrap().is_empty());
    }
}

#[test]
fn a_plan_names_the_days_that_hold_rows() {
    let text = format!(
        "a v=1 {}\na v=1 {}\nb,h=x v=1 {}\nb,h=y v=1 {}\na v=1 {}\n",
        5 * DAY,
        DAY,
        2 * DAY + 7,
        9 * DAY,
        6 * DAY - 1
    );
    let read = read(&text);
    let plan = |window, filter: Filter| -> Vec<(i64, i64)> {
        let scope = Scope { namespace: Namespace::default(), window, filter };
        let plan = read.file.plan(&scope).unwrap();
        plan.iter().map(|one| (one.window.start, one.window.end)).collect()
    };
    let days = |days: &[(i64, i64)]| -> Vec<(i64, i64)> {
        days.iter().map(|(start, end)| (start * DAY, end * DAY)).collect()
    };
    let all = Filter::default;
    assert_eq!(plan(Window::ALL, all()), days(&[(1, 2), (2, 3), (5, 6), (9, 10)]));
    let only = Filter { measurements: vec!["b".into()], ..Filter::default() };
    assert_eq!(plan(Window::ALL, only), days(&[(2, 3), (9, 10)]));
    let without = Filter { excluded: vec!["b".into()], ..Filter::default() };
    assert_eq!(plan(Window::ALL, without), days(&[(1, 2), (5, 6)]));
    assert_eq!(plan(unit(2), all()), days(&[(2, 3)]));
    assert_eq!(plan(Window { start: 3 * DAY, end: 5 * DAY }, all()), []);
    let half = Window { start: 9 * DAY + 1, end: 20 * DAY };
    assert_eq!(plan(half, all()), [(9 * DAY + 1, 10 * DAY)]);
}

#[test]
fn many_small_measurements_and_names_are_counted_in_memory() {
    let options = Options { memory_max: 8 << 20, ..options() };
    let take = |text: String| try_read(Cursor::new(text.into_bytes()), &options);
    let spilled = |text| take(text).unwrap().file.stats().spilled_bytes > 0;
    let measurements = |count: usize| (0..count).map(|at| format!("m{at} v=1 1\n")).collect();
    // Of 8 MiB, each measurement takes about 1 KiB, and its row less than 100 bytes.
    assert!(!spilled(measurements(3_000)));
    assert!(spilled(measurements(12_000)));
    let named = |rows: &str| -> String {
        (0..3_000)
            .map(|at| format!("# CONTEXT-DATABASE:{at}{}\n{rows}", "x".repeat(5_000)))
            .collect()
    };
    assert!(!spilled(named("")), "names without rows are not kept");
    let refused = |text| take(text).err().map(|error| error.to_string()).unwrap();
    let many = refused(named("m v=1 1\n"));
    assert!(many.contains("limit of 4 MiB, a quarter of --memory"), "{many}");
    let long = refused(format!("# CONTEXT-DATABASE:{}\n", "x".repeat(65_536)));
    assert!(long.contains("limit of 65535 bytes"), "{long}");
}
