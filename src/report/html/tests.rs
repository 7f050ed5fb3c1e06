//! Tests of the page: its structure, what hostile names make of it, and how large it becomes.

mod more;

use super::*;
use crate::compare::{Class, PlaceFinding};
use crate::digest::cell::SeriesHash;
use crate::line::key;
use crate::plan::Namespace;
use crate::report::{Agreement, Bucket, Cell, Context, Expired, Place, of_verify};
use crate::window::HOUR;
use crate::{reject, verify};
use std::sync::Arc;
use std::time::Duration;

const HOSTILE: &str = "<script>alert(1)</script>\"&'\u{0}\u{1b}[31m\n\u{202e}]]>--><!--";

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;

fn report(outcome: verify::Outcome) -> Report {
    let context = Context {
        source: "old.lp".into(),
        destination: "influxdb://new:8086/telegraf".into(),
        command: ["verify", "old.lp", "influxdb://new:8086/telegraf"].map(str::to_owned).to_vec(),
        window: Window { start: START, end: START + 24 * HOUR },
        not_covered: Vec::new(),
        unread: Vec::new(),
        filtered: false,
        lines: None,
        rejects: reject::Summary::default(),
        elapsed: Duration::from_secs(26),
        expired: Expired::default(),
        insecure: Vec::new(),
        throughput: Vec::new(),
    };
    of_verify(context, outcome, true)
}

/// A report of differences in some series, an hour each, every `step` hours.
fn different(series: usize, places: usize, name: impl Fn(usize) -> String) -> Report {
    let counts = Counts {
        source: 1_000_000,
        destination: 900_000,
        matched: 900_000,
        missing_in_destination: 100_000,
        ..Counts::default()
    };
    let mut report = report(verify::Outcome { counts, ..Default::default() });
    for number in 0..series {
        for hour in 0..places {
            let start = START + i64::try_from(hour).unwrap() * HOUR;
            let mut counts = Counts { source: 60, ..Counts::default() };
            match (number + hour) % 3 {
                0 => counts.missing_in_destination = 60,
                1 => counts.value_changed = 3,
                _ => counts.extra_in_destination = 1,
            }
            report.places.push(Place {
                database: "telegraf".into(),
                retention_policy: "autogen".into(),
                series: name(number),
                start,
                end: start + HOUR,
                counts,
                proven: None,
                read_once: false,
            });
        }
        report.cells.push(Cell {
            database: "telegraf".into(),
            retention_policy: "autogen".into(),
            series: name(number),
            field: name(number),
            time: START,
            class: Class::ValueChanged,
            source: Some(name(number)),
            destination: None,
        });
    }
    report.timeline.bucket_seconds = 3_600;
    report.timeline.buckets = (0..24)
        .map(|hour| Bucket {
            start: START + hour * HOUR,
            source: 1_000,
            destination: if hour == 11 { 0 } else { 1_000 },
        })
        .collect();
    report
}

/// The elements of a page as they begin, all of them closed in order.
fn elements(page: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let body = page.strip_prefix("<!doctype html>").unwrap();
    for piece in body.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("not closed: {piece}"));
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{piece}");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap().to_owned();
        if name != "meta" && !tag.ends_with('/') {
            open.push(name);
        }
        all.push(tag.to_owned());
    }
    assert!(open.is_empty(), "{open:?}");
    all
}

/// What a browser would load or run.
fn assert_inert(page: &str) {
    for tag in elements(page) {
        let name = tag.split([' ', '/']).next().unwrap();
        for forbidden in ["script", "link", "img", "iframe", "object", "embed", "form", "a", "base"]
        {
            assert_ne!(name, forbidden, "{tag}");
        }
        for attribute in ["src=", "href=", " on"] {
            assert!(!tag.contains(attribute), "{tag}");
        }
    }
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert_eq!(style.matches("url(").count(), style.matches("url(#").count());
    assert!(!style.contains("@import") && !page.contains("http://") && !page.contains("https://"));
    let shown = |one: char| one == '\n' || !one.is_control();
    assert!(page.chars().all(shown), "a control character");
}

fn headings(page: &str) -> Vec<&str> {
    let begins =
        |piece: &&str| ["h1>", "h2>", "h3>", "caption>"].iter().any(|tag| piece.starts_with(tag));
    let text = |piece: &'_ str| piece.find('>').map_or(0, |at| at + 1);
    page.split('<')
        .filter(begins)
        .map(|piece| &piece[text(piece)..])
        .filter(|text| !text.is_empty())
        .collect()
}

#[test]
fn the_page_has_one_order() {
    let mut report = different(25, 2, |number| format!("cpu,host={number}"));
    report.causes.push("every time of host=3 is an hour late".into());
    let page = page(&report);
    assert_inert(&page);
    assert_eq!(
        headings(&page),
        [
            "What was compared",
            "Not covered",
            "Cells",
            "Cells by class",
            "Suspected causes",
            "Where the sides differ",
            "Where they differ: series and time",
            "Cells of both sides by time",
            "Series and times that differ most",
            "Hours in a row of one series",
            "Hours in a row of one series",
            "Both values, where both sides hold that series and hour",
            "Cells that differ, in order of series and time",
            "Cells that differ, in order of series and time",
            "Next command",
            "How it went",
            "What was done, in all",
            "Settings",
            "Digests",
        ]
    );
    assert!(page.contains("</span> DIFFERENT</h1>"));
    assert!(page.contains("gapless copy old.lp influxdb://new:8086/telegraf"));
    assert!(page.contains("an hour late"));
}

#[test]
fn a_chart_shows_each_kind_of_difference_and_the_gap() {
    let page = page(&different(3, 3, |number| format!("cpu,host={number}")));
    for class in ["missing", "changed", "extra"] {
        let bar = format!("<rect class=\"{class}\" x=\"");
        assert_eq!(page.matches(&bar).count(), 1 + 3, "{class}: one in the legend");
    }
    let window = "2020-07-19T00:00:00Z to 2020-07-19T01:00:00Z";
    assert!(page.contains(&format!("<title>{window}: missing_in_destination 60</title>")));
    assert_eq!(page.matches("<rect class=\"gap\" x=").count(), 1);
    let gap = "2020-07-19T11:00:00Z to 2020-07-19T12:00:00Z: source 1,000, destination 0";
    assert!(page.contains(gap));
    assert!(page.contains("not covered: outside the window"));
}

#[test]
fn hostile_names_are_shown_and_do_nothing() {
    let mut report = different(3, 2, |number| format!("{HOSTILE}{number}"));
    for list in
        [&mut report.causes, &mut report.not_covered, &mut report.reasons, &mut report.created]
    {
        list.push(HOSTILE.into());
    }
    report.source = HOSTILE.into();
    report.destination = HOSTILE.into();
    report.arguments.push(HOSTILE.into());
    report.rejected.insert(HOSTILE.into(), 1);
    report.next = Some(HOSTILE.into());
    report.places.iter_mut().for_each(|place| place.database = HOSTILE.into());
    let page = page(&report);
    assert_inert(&page);
    let shown =
        "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&amp;&#39;\\u{0}\\u{1b}[31m\\u{a}\\u{202e}";
    assert!(page.matches(shown).count() > 15, "{}", page.matches(shown).count());
    let kept = page_of_text(HOSTILE, HOSTILE, 1);
    assert_inert(&kept);
    assert!(kept.contains("class=\"verdict bad\""));
}

#[test]
fn a_page_stays_small_whatever_it_is_made_of() {
    let long = |number: usize| format!("m,k={number}{}", "\"'\u{1f600}".repeat(200));
    let mut many = different(300, 239, long);
    many.cells = (0..40).flat_map(|_| different(50, 0, long).cells).collect();
    let names = |count: usize| (0..count).map(long).collect::<Vec<_>>();
    many.timeline.buckets = (0..4_096)
        .map(|hour| Bucket { start: START + hour * HOUR, source: u64::MAX / 4_096, destination: 1 })
        .collect();
    (many.source, many.destination) = (long(0).repeat(9), long(1).repeat(9));
    (many.arguments, many.next) = (names(100), Some(long(0).repeat(100)));
    (many.causes, many.not_covered, many.created) = (names(100), names(100), names(100));
    (many.reasons, many.settings_differ) = (names(100), names(100));
    many.rejected = names(100).into_iter().map(|name| (name, 1)).collect();
    let page = page(&many);
    assert_inert(&page);
    assert!((1_000_000..BYTES_MAX).contains(&page.len()), "{}", page.len());
    assert!(page.contains("DIFFERENT</h1>") && page.contains("are not on this page"));
    assert!(page_of_text(&"<".repeat(900_000), &"\n&".repeat(900_000), 0).len() < BYTES_MAX);
}

#[test]
fn nothing_to_draw_is_no_reason_to_draw() {
    let mut counts = Counts { source: 5, destination: 5, matched: 5, ..Counts::default() };
    let page = page(&report(verify::Outcome { counts, ..Default::default() }));
    assert_inert(&page);
    assert!(page.contains("IDENTICAL</h1>") && page.contains("No difference was found"));
    assert!(!page.contains("class=\"heat\""));
    counts.unstable = 1;
    let page = super::page(&report(verify::Outcome { counts, ..Default::default() }));
    assert!(page.contains("INCOMPLETE</h1>") && !page.contains("No difference was found"));
}

/// Hours 0 to 4 of one series: the same, missing, none, the same, the same.
#[test]
fn hours_that_agree_are_told_from_hours_without_data() {
    let hash = SeriesHash(1);
    let hours = |from: i64, to: i64| Window { start: START + from * HOUR, end: START + to * HOUR };
    let counts = Counts { source: 4, missing_in_destination: 4, ..Counts::default() };
    let series = Arc::new(key::parse(b"m,host=a"));
    let place = PlaceFinding::new(Namespace::default(), hash, series, hours(1, 2), counts);
    let mut outcome = verify::Outcome { counts, places: vec![place], ..Default::default() };
    let namespace = Arc::new(Namespace::default());
    outcome.same.push(&namespace, hash, vec![hours(0, 1), hours(3, 5)]);
    // Another namespace has nothing to do with it.
    let other = Namespace { database: "other".into(), ..Namespace::default() };
    outcome.same.push(&Arc::new(other), hash, vec![hours(2, 3)]);
    let known = page(&report(outcome));
    assert!(known.contains("no data (nothing drawn)"), "{known}");
    let line = known.lines().find(|line| line.contains("class=\"name\"")).unwrap();
    let (_, path) = line.split_once("class=\"same\" d=\"").unwrap();
    let (path, _) = path.split_once('"').unwrap();
    // The hour before it, and no other: the chart ends an hour after the difference.
    assert_eq!((path.matches('M').count(), path.matches('h').count()), (1, 1), "{path}");

    let mut unknown = different(1, 1, |_| "m".into());
    unknown.agreement = Agreement::default();
    assert!(page(&unknown).contains("no difference, or no data (thin line)"));
}
