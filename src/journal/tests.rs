//! What a journal remembers, and what it refuses.

use super::*;
use crate::compare::Counts;
use crate::copy::Sent;
use crate::digest::node::Node;
use crate::plan::Namespace;
use std::fs::OpenOptions;
use std::io::Write;
use tempfile::TempDir;

const WINDOW: Window = Window { start: 0, end: 100 };

fn work() -> Work {
    Work::default().with("source", "influxdb://a:1/x").with("--start", "0").with("--end", "")
}

fn unit(start: i64) -> Unit {
    let namespace = Namespace { database: "d".into(), retention_policy: "r".into() };
    let window = Window { start, end: start + 10 };
    Unit { source: namespace.clone(), source_lacks: false, destination: namespace, window }
}

fn done(cells: u64) -> Done {
    Done {
        time: 7,
        source_digest: Node { cells, keys: [u64::MAX, 1], values: [2, 3] },
        destination_digest: Node { cells, keys: [u64::MAX, 1], values: [2, 3] },
        counts: Counts { source: cells, matched: cells, ..Counts::default() },
        sent: Sent { cells, ..Sent::default() },
        incarnation: Some("1 then".into()),
        stored: Some(serde_json::json!({ "parts": [1] })),
    }
}

fn identity(blake3: &str) -> Identity {
    Identity { path: "/x.lp".into(), size: 5, modified: 9, blake3: blake3.into() }
}

fn open(dir: &TempDir) -> Result<Journal> {
    Journal::open(dir.path().join("journal"), work())
}

#[test]
fn what_was_proven_is_known_to_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir).unwrap();
    assert_eq!(first.begun(), None);
    first.begin(WINDOW, Some(identity("a"))).unwrap();
    first.record(&unit(0), done(3)).unwrap();
    first.record(&unit(10), done(u64::MAX)).unwrap();
    drop(first);

    let second = open(&dir).unwrap();
    assert_eq!(second.begun().unwrap().0, WINDOW);
    assert_eq!((second.units(), second.cut()), (2, 0));
    assert!(!second.look_at_source(Some(&identity("a"))).unwrap());
    second.begin(WINDOW, Some(identity("a"))).unwrap();
    assert_eq!(second.done(&unit(10)), Some(done(u64::MAX)));
    assert_eq!(second.done(&unit(20)), None);
    assert_eq!(second.done(&Unit { window: Window { start: 0, end: 9 }, ..unit(0) }), None);
}

#[test]
fn nothing_is_made_before_the_work_begins_and_nothing_left_when_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(&dir).unwrap();
    assert!(!journal.directory().exists());
    journal.begin(WINDOW, None).unwrap();
    assert!(journal.directory().exists());
    journal.remove().unwrap();
    assert!(!journal.directory().exists());
    assert!(journal.record(&unit(0), done(1)).is_err());
}

#[test]
fn other_arguments_are_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).unwrap().begin(WINDOW, None).unwrap();
    let other = work().with("--start", "5").with("--end", "9");
    let error = Journal::open(dir.path().join("journal"), other).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{text}");
    assert!(text.contains("--end was nothing and is 9; --start was 0 and is 5"), "{text}");
    assert!(!text.contains("source was"), "{text}");
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal").join(FILE);
    fs::create_dir(dir.path().join("journal")).unwrap();
    for text in ["my notes", "0123456789abcdef- no", "0123 x"] {
        fs::write(&path, text).unwrap();
        assert!(open(&dir).is_err(), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    for text in ["", "0123", "0123456789abcdef {\"rec", "\0\0\0"] {
        fs::write(&path, text).unwrap();
        assert_eq!(open(&dir).unwrap().cut(), text.len() as u64);
    }
}

#[test]
fn nodes_may_change_as_long_as_one_stays() {
    let with = |nodes: &[&str]| {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        work().with_nodes("destination", &nodes)
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    Journal::open(path.clone(), with(&["a:1", "b:1"])).unwrap().begin(WINDOW, None).unwrap();
    Journal::open(path.clone(), with(&["c:1", "b:1"])).unwrap();
    let error = Journal::open(path, with(&["c:1"])).unwrap_err();
    assert!(error.to_string().contains("destination nodes was a:1,b:1 and is c:1"), "{error}");
    assert_eq!(with(&["b:1", "a:1"]).text(), with(&["a:1", "c:1"]).text());
}

#[test]
fn a_source_that_changed_makes_what_was_proven_worthless() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir).unwrap();
    first.begin(WINDOW, Some(identity("a"))).unwrap();
    first.record(&unit(0), done(3)).unwrap();
    drop(first);
    let second = open(&dir).unwrap();
    assert!(second.look_at_source(Some(&identity("b"))).unwrap());
    second.begin(WINDOW, Some(identity("b"))).unwrap();
    assert_eq!(second.done(&unit(0)), None);
    second.record(&unit(10), done(4)).unwrap();
    drop(second);
    let third = open(&dir).unwrap();
    assert!(!third.look_at_source(Some(&identity("b"))).unwrap());
    assert_eq!(third.units(), 1);
}

#[test]
fn the_same_file_elsewhere_is_the_same_and_another_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).unwrap().begin(WINDOW, Some(identity("a"))).unwrap();
    let moved = Identity { path: "/elsewhere".into(), modified: 1, ..identity("a") };
    assert!(!open(&dir).unwrap().look_at_source(Some(&moved)).unwrap());
    let other = Identity { blake3: "b".into(), ..moved };
    let error = open(&dir).unwrap().look_at_source(Some(&other)).unwrap_err();
    assert!(error.to_string().contains("/elsewhere"), "{error}");
}

#[test]
fn a_finished_journal_gives_its_proof_until_the_work_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir).unwrap();
    first.begin(WINDOW, Some(identity("a"))).unwrap();
    first.finish("text\nof two lines".into(), "{}\n".into()).unwrap();
    drop(first);
    let second = open(&dir).unwrap();
    let (proof, source) = second.proof().unwrap();
    assert_eq!((proof.text.as_str(), source), ("text\nof two lines", Some(identity("a"))));
    second.begin(WINDOW, Some(identity("b"))).unwrap();
    drop(second);
    assert!(open(&dir).unwrap().proof().is_none());
}

#[test]
fn a_record_that_was_cut_short_is_cut_off_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir).unwrap();
    first.begin(WINDOW, None).unwrap();
    first.record(&unit(0), done(3)).unwrap();
    drop(first);
    let path = dir.path().join("journal").join(FILE);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"0123456789abcdef {\"record\":\"unit\"").unwrap();
    let second = open(&dir).unwrap();
    assert_eq!((second.units(), second.cut()), (1, 33));
}

#[test]
fn a_newer_version_and_a_file_of_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal").join(FILE);
    let begun = Begun {
        format: FORMAT.into(),
        version: VERSION + 1,
        gapless: "9.9.9".into(),
        time: 0,
        work: work(),
        window: WINDOW.into(),
        source: None,
    };
    Log::create(&path).unwrap().append(&Record::Begun(begun).json().unwrap()).unwrap();
    let error = open(&dir).unwrap_err();
    assert!(error.next_step().unwrap().contains("9.9.9"), "{error}");

    fs::remove_file(&path).unwrap();
    Log::create(&path).unwrap().append("{\"record\":\"resumed\",\"time\":1}").unwrap();
    assert!(open(&dir).is_err());
    fs::remove_file(&path).unwrap();
    Log::create(&path).unwrap().append("{\"record\":\"of the future\"}").unwrap();
    assert!(open(&dir).unwrap_err().to_string().contains("line 1"));
}
