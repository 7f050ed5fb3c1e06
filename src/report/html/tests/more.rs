//! Tests of what `repair` and `gaps` add to the page.

use super::*;
use crate::digest::node::Node;
use crate::repair::Action;
use crate::report::Digest;
use crate::report::gaps::{GapWindow, Gaps, Switched, WriterWindow};
use crate::report::repair::{Item, Repair, ToSend};

const ACTIONS: [Action; 5] =
    [Action::Send, Action::Overwrite, Action::Delete, Action::Conflict, Action::Refused];

fn repair(names: usize, name: impl Fn(usize) -> String) -> Repair {
    let item = |number: usize| Item {
        namespace: name(number),
        series: name(number),
        field: name(number),
        time: START,
        class: Class::ValueChanged,
        action: ACTIONS[number % ACTIONS.len()],
        reason: Some(name(number)),
        read_once: false,
        source: Some(name(number)),
        destination: None,
        base: Some(name(number)),
        changed: None,
    };
    Repair {
        applied: false,
        actions: ACTIONS.into_iter().map(|action| (action, 1_234)).collect(),
        send: ToSend {
            cells: 1_234,
            series: 12,
            windows: 34,
            start: Some(START),
            end: Some(START + HOUR),
            bytes: 56_789,
        },
        points_to_delete: 7,
        out_of_reach: 3,
        items: (0..names).map(item).collect(),
        undo_file: Some(name(0)),
        delete_list: Some(name(1)),
        vanished: vec![name(2)],
    }
}

fn gaps(windows: usize, names: usize, name: impl Fn(usize) -> String) -> Gaps {
    let report = different(names, 2, &name);
    let window = |number: usize| GapWindow {
        database: name(number % 3),
        retention_policy: "autogen".into(),
        start: START,
        end: START + 20 * 60_000_000_000,
        missing: 1_200,
        changed: 3,
        unresolved: 0,
    };
    let writer = |number: usize| WriterWindow {
        database: "telegraf".into(),
        retention_policy: "autogen".into(),
        writer: Some(name(number)),
        start: START,
        end: START + HOUR,
        switched: Some(START + HOUR),
        not_switched: number.is_multiple_of(2),
        missing: 60,
        changed: 0,
        lost_later: 1,
    };
    let mut windows: Vec<GapWindow> = (0..windows).map(window).collect();
    windows.sort_by(|one, two| one.database.cmp(&two.database));
    Gaps {
        version: 1,
        command: "gaps",
        verdict: "gaps",
        exit_status: 1,
        reasons: vec![name(0)],
        source: name(0),
        destination: name(1),
        start: START,
        end: START + 24 * HOUR,
        not_covered: vec![name(0)],
        counts: report.counts,
        bucket: 60_000_000_000,
        windows,
        by: name(0),
        switched: Some(Switched {
            earliest: START,
            median: START + HOUR,
            latest: START + 2 * HOUR,
            writers: 5,
            not_switched: (0..names).map(&name).collect(),
            unknown: 2,
        }),
        writers: (0..names).map(writer).collect(),
        shifted: 0,
        source_digest: Digest::of(Node::default()),
        destination_digest: Digest::of(Node::default()),
        seconds: 2.0,
        next: Some(name(1)),
        places: report.places,
        agreement: Agreement::default(),
        partial: false,
        arguments: vec![name(0)],
    }
}

#[test]
fn a_plan_says_what_would_be_done_between_the_differences_and_the_next_command() {
    let mut report = different(3, 2, |number| format!("cpu,host={number}"));
    report.repair = Some(repair(10, |number| format!("cpu,host={number}")));
    let page = page(&report);
    assert_inert(&page);
    let all = headings(&page);
    let at =
        |title: &str| all.iter().position(|one| *one == title).unwrap_or_else(|| panic!("{title}"));
    let order = [
        "Cells",
        "Where the sides differ",
        "What would be done",
        "Cells that differ, by what becomes of them",
        "Points that would be deleted",
        "Left as they are",
        "Would be overwritten",
        "Next command",
    ];
    assert!(order.map(at).is_sorted(), "{all:?}");
    assert!(page.contains("Nothing was written: this is a plan."));
    for words in ["1,234 cells of 12 series in 34 windows of an hour, 56,789 bytes", "7 points"] {
        assert!(page.contains(words), "{words}");
    }
    let applied = report.repair.as_mut().unwrap();
    applied.applied = true;
    let page = super::page(&report);
    assert!(page.contains("<h2>What was done</h2>") && !page.contains("this is a plan"));
}

#[test]
fn gaps_are_listed_by_policy_with_their_writers_and_drawn() {
    let gaps = gaps(30, 4, |number| format!("cpu{number}"));
    let page = page_of_gaps(&gaps, None);
    assert_inert(&page);
    let all = headings(&page);
    for title in ["Gaps", "cpu0.autogen", "cpu2.autogen", "Writers", "Not yet switched: 4"] {
        assert!(all.contains(&title), "{title}: {all:?}");
    }
    assert!(page.contains("GAPS</h1>") && page.contains("class=\"heat\""));
    for words in [
        "10 windows, 12,000 cells missing",
        "are missing at the destination, in 30 windows",
        "<td>20 min</td>",
        "<dt>Earliest (UTC)</dt><dd>2020-07-19T00:00:00Z</dd>",
        "<dt>Median</dt><dd>2020-07-19T01:00:00Z</dd>",
        "<dt>Latest</dt><dd>2020-07-19T02:00:00Z</dd>",
    ] {
        assert!(page.contains(words), "{words}");
    }
    let page = page_of_gaps(&gaps, Some(("COMPLETE   all\n  of it", 0)));
    assert_inert(&page);
    assert!(page.contains("COMPLETE</h1>") && page.contains("class=\"verdict good\""));
    assert!(page.contains("What was copied") && !page.contains("Next command"));
}

#[test]
fn hostile_names_in_plans_and_gaps_are_shown_and_do_nothing() {
    let mut report = different(3, 2, |number| format!("{HOSTILE}{number}"));
    report.repair = Some(repair(30, |number| format!("{HOSTILE}{number}")));
    assert_inert(&page(&report));
    assert_inert(&page_of_gaps(&gaps(30, 30, |number| format!("{HOSTILE}{number}")), None));
    let gaps = gaps(3, 3, |number| format!("{HOSTILE}{number}"));
    assert_inert(&page_of_gaps(&gaps, Some((HOSTILE, 1))));
}

#[test]
fn plans_and_gaps_of_any_size_stay_small() {
    let long = |number: usize| format!("m,k={number}{}", "\"'\u{1f600}".repeat(200));
    let mut report = different(200, 200, long);
    report.repair = Some(repair(10_000, long));
    let page = page(&report);
    assert_inert(&page);
    assert!(page.len() < BYTES_MAX && page.contains("What would be done"), "{}", page.len());
    let page = page_of_gaps(&gaps(10_000, 10_000, long), None);
    assert_inert(&page);
    assert!(page.len() < BYTES_MAX && page.contains("<h2>Writers</h2>"), "{}", page.len());
}
