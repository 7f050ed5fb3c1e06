//! What is printed when, with time handed in.

#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;
use crate::pipeline::Stage;
use std::sync::{Arc, Mutex};

const INTERVAL: Duration = Duration::from_secs(30);

/// An output that keeps what it is given.
#[derive(Clone, Default)]
pub(in crate::progress) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    pub(in crate::progress) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A run, second by second.
struct Run {
    printer: Printer,
    facts: Facts,
    kept: Kept,
    asked: Asked,
    now: Duration,
}

impl Run {
    fn new(show: Show) -> Self {
        let (kept, asked) = (Kept::default(), Asked::default());
        let printer = Printer::new(show, Box::new(kept.clone()), asked.clone(), INTERVAL);
        Self { printer, facts: Facts::default(), kept, asked, now: Duration::ZERO }
    }

    fn turn(&mut self, events: Vec<Event>) {
        let moment = Moment { elapsed: self.now, ts: format!("T{}", self.now.as_secs()) };
        self.printer.turn(&moment, &self.facts, events);
    }

    /// Lets seconds pass, in each of which cells are sent.
    fn pass(&mut self, seconds: u64, cells: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.facts.done(Stage::Send, cells, 0);
            self.turn(Vec::new());
        }
    }

    fn lines(&self) -> Vec<String> {
        self.kept.lines()
    }
}

#[test]
fn a_line_comes_every_thirty_seconds() {
    let mut run = Run::new(Show::Lines);
    run.pass(29, 10);
    assert_eq!(run.lines(), [""; 0]);
    run.pass(36, 10);
    let ts: Vec<String> = run.lines().iter().map(|line| line[..7].to_owned()).collect();
    assert_eq!(ts, ["ts=T30 ", "ts=T60 "]);
}

#[test]
fn a_change_of_state_prints_a_line_and_moves_no_other() {
    let mut run = Run::new(Show::Lines);
    run.pass(10, 10);
    run.turn(vec![Event::State("backoff:503".into())]);
    run.pass(20, 10);
    let lines = run.lines();
    assert!(lines[0].starts_with("ts=T10 ") && lines[0].ends_with("state=backoff:503"));
    assert!(lines[1].starts_with("ts=T30 "));
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_machine_that_slept_owes_no_lines() {
    let mut run = Run::new(Show::Lines);
    run.now = Duration::from_secs(3_600);
    run.turn(Vec::new());
    run.pass(29, 10);
    assert_eq!(run.lines().len(), 1);
    run.pass(1, 10);
    assert_eq!(run.lines().len(), 2);
}

#[test]
fn what_is_asked_for_is_printed_at_once_unless_quiet() {
    for (show, printed) in [(Show::Lines, 1), (Show::OnRequest, 1), (Show::Warnings, 0)] {
        let name = format!("{show:?}");
        let mut run = Run::new(show);
        run.pass(2, 10);
        run.asked.ask();
        run.pass(3, 10);
        assert_eq!(run.lines().len(), printed, "{name}");
    }
}

#[test]
fn warnings_are_printed_in_every_mode_and_nothing_else_where_it_is_quiet() {
    for show in [Show::Lines, Show::OnRequest, Show::Warnings] {
        let lines = matches!(show, Show::Lines);
        let mut run = Run::new(show);
        let sides = vec![("source", "a".to_owned())];
        run.turn(vec![
            Event::Begin { command: "cat".into(), sides },
            Event::State("open".into()),
            Event::Warning("careful".into()),
        ]);
        run.pass(100, 1);
        let printed = run.lines();
        assert!(printed.contains(&"warning: careful".to_owned()));
        assert_eq!(printed.len(), if lines { 6 } else { 1 }, "{printed:?}");
    }
}

#[test]
fn an_output_that_is_broken_stops_nothing() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut run = Run::new(Show::Lines);
    run.printer.out = Box::new(Broken);
    run.pass(100, 1);
    assert_eq!(run.facts.read().stages[Stage::Send as usize].cells, 100);
}

#[test]
fn numbers_never_go_backwards_and_no_line_has_a_percentage() {
    let mut run = Run::new(Show::Lines);
    run.pass(60, 10);
    run.facts.expect(Stage::Send, 2_000);
    run.pass(60, 10);
    run.facts.expect(Stage::Send, 9_000);
    run.pass(60, 10);
    run.facts.expect(Stage::Send, 1_000);
    run.pass(60, 10);
    let value = |line: &String, key: &str| -> Option<u64> {
        let (_, rest) = line.split_once(&format!(" {key}="))?;
        rest.split(' ').next()?.parse().ok()
    };
    let lines = run.lines();
    assert_eq!(lines.len(), 8);
    assert_eq!(value(&lines[0], "total"), None);
    for pair in lines.windows(2) {
        for key in ["done", "total"] {
            assert!(value(&pair[0], key) <= value(&pair[1], key), "{key}: {pair:?}");
        }
    }
    assert!(lines.iter().all(|line| !line.contains(['%', '\u{1b}'])), "{lines:?}");
}
