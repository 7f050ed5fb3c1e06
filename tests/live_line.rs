//! The decoder against a real InfluxDB 1.6.7: it must accept what the server accepts, refuse what
//! the server refuses, and read what the server stores, to the byte.
//!
//! What was stored is read from the server's write-ahead log, so that nothing stands between: no
//! query, no JSON, no view under which two series are one.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;
mod line_tools;

use common::{Influxd, http};
use gapless::line::{decode::Options, key};
use gapless::series::Printable;
use line_tools::corpus;
use line_tools::hostile::{self, Random, mutate};
use line_tools::outcome::{Outcome, decode};
use line_tools::wal::{Wal, Written};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Stands for the server's clock.
const NOW: i64 = 1_700_000_000_123_456_789;
const HOUR: Duration = Duration::from_secs(3600);
/// Beginning of the reason of lines that must never be sent.
const KILLS: &str = "a value of one quote";

/// Makes a database whose points all lie in few shards.
fn create(server: &Influxd, database: &str) {
    server.query(&format!("CREATE DATABASE {database} WITH SHARD DURATION 5000w"));
}

/// Posts a text; an error where the server broke the connection.
fn post(server: &Influxd, database: &str, text: &[u8]) -> std::io::Result<(u16, String)> {
    let target = format!("/write?db={database}");
    let response = http::request(&server.endpoint(), "POST", &target, &[], text)?;
    Ok((response.status, response.text()))
}

/// A server and the database in which lines are tried.
struct Trial {
    server: Influxd,
    wal: Wal,
    databases: usize,
    /// Texts that the server took whole, and texts of which it refused something.
    taken: u64,
    refused: u64,
}

impl Trial {
    fn new() -> Self {
        let server = Influxd::start();
        let wal = Wal::new(server.data_dir());
        let mut trial = Self { server, wal, databases: 0, taken: 0, refused: 0 };
        trial.renew();
        trial
    }

    fn database(&self) -> String {
        format!("db{}", self.databases)
    }

    fn renew(&mut self) {
        if self.databases > 0 {
            self.server.query(&format!("DROP DATABASE {}", self.database()));
        }
        self.databases += 1;
        create(&self.server, &self.database());
    }

    /// Tries a text; where the database may be to blame, once more in a new one.
    fn judge(&mut self, text: &[u8]) -> Result<(), String> {
        if self.judge_once(text).is_ok() {
            return Ok(());
        }
        self.renew();
        self.judge_once(text)
    }

    fn judge_once(&mut self, text: &[u8]) -> Result<(), String> {
        let outcomes = decode(text, &[], Options { default_time: Some(NOW), ..Options::default() });
        let reasons: Vec<&str> = outcomes.iter().filter_map(reason).collect();
        if reasons.iter().any(|reason| reason.starts_with(KILLS)) {
            return Ok(());
        }
        let database = self.database();
        let reply = post(&self.server, &database, text);
        let (status, body) = reply.map_err(|error| {
            self.server = Influxd::start();
            self.wal = Wal::new(self.server.data_dir());
            self.databases = 0;
            self.renew();
            format!("the server died ({error}) of {outcomes:?}")
        })?;
        let mut written = self.wal.take(&database);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        for (_, time, _) in &mut written {
            if Duration::from_nanos(u64::try_from(*time).unwrap_or(0)).abs_diff(clock) < HOUR {
                *time = NOW;
            }
        }
        sort(&mut written);
        if body.contains("contains invalid UTF-8") && outcomes.iter().any(is_warned) {
            // This build of the server has a shard that it cannot write any more.
            self.renew();
            return Ok(());
        }
        let shown = format!("{status} {body} {written:?}, but {outcomes:?}");
        let expected = expected(&outcomes);
        if conflict(&expected) {
            return Ok(());
        }
        if (status == 204) != reasons.is_empty() {
            return Err(format!("the server says {shown}"));
        }
        let parsed = reasons.iter().all(|reason| is_parser_reason(reason));
        let stored = if parsed { written == expected } else { written.is_empty() };
        if !stored && (parsed || outcomes.len() == 1) {
            return Err(format!("the server stored {shown}"));
        }
        let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        // The reply has no bytes outside UTF-8, and our reasons have no control characters.
        let body = body["error"].as_str().unwrap_or_default();
        let body = Printable(body.as_bytes()).to_string();
        let named = |reason: &&str| {
            let words = reason.split(" (the line").next().unwrap();
            words.contains("\\x") || body.contains(words)
        };
        if parsed && !reasons.iter().all(named) {
            return Err(format!("the server gives other reasons: {shown}"));
        }
        self.taken += u64::from(status == 204);
        self.refused += u64::from(status != 204);
        Ok(())
    }
}

fn reason(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Bad { reason, .. } => Some(reason),
        _ => None,
    }
}

fn is_warned(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Row(point) if point.warning)
}

/// True for reasons of the parser, which leave the other lines of a request alone.
fn is_parser_reason(reason: &str) -> bool {
    let late =
        ["invalid tag key", "invalid field name", "field type conflict", "unknown field type"];
    let unreadable = reason.starts_with("unable to parse") && reason.contains(" value \"");
    !unreadable && !late.iter().any(|words| reason.starts_with(words))
}

fn expected(outcomes: &[Outcome]) -> Vec<Written> {
    let mut expected = Vec::new();
    for outcome in outcomes {
        let Outcome::Row(point) = outcome else { continue };
        for (name, value) in &point.fields {
            let key = [&point.key.0[..], b"#!~#", &name.0].concat();
            expected.push((key.as_slice().into(), point.time, value.clone()));
        }
    }
    sort(&mut expected);
    expected
}

/// By key and time, since each shard has a log of its own; else in order.
fn sort(written: &mut [Written]) {
    written.sort_by(|one, two| (&one.0, one.1).cmp(&(&two.0, two.1)));
}

/// True where the types of two lines of one text conflict, which is no matter of the decoder.
fn conflict(expected: &[Written]) -> bool {
    expected.windows(2).any(|pair| {
        let type_of = |written: &Written| std::mem::discriminant(&written.2);
        pair[0].0 == pair[1].0 && type_of(&pair[0]) != type_of(&pair[1])
    })
}

#[test]
fn a_server_does_with_every_tricky_line_what_the_file_says() {
    let mut trial = Trial::new();
    let mut disagreements = Vec::new();
    for case in corpus::cases().iter().filter(|case| !case.kills) {
        trial.renew();
        if let Err(why) = trial.judge(&case.text) {
            disagreements.push(why);
        } else if let Err(why) = identity_is_shown(&trial, &case.text) {
            disagreements.push(why);
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

/// Compares the identity of each stored series with the measurements that a query shows.
fn identity_is_shown(trial: &Trial, text: &[u8]) -> Result<(), String> {
    let options = Options { default_time: Some(NOW), ..Options::default() };
    let mut ours: Vec<String> = decode(text, &[], options)
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Row(point) => {
                let series = key::parse(&point.key.0);
                Some(String::from_utf8_lossy(series.measurement()).into_owned())
            }
            _ => None,
        })
        .collect();
    ours.sort();
    let reply = trial.server.query(&format!("SHOW MEASUREMENTS ON {}", trial.database()));
    let rows = reply["results"][0]["series"][0]["values"].as_array();
    let theirs: Vec<&str> = rows.into_iter().flatten().filter_map(|row| row[0].as_str()).collect();
    // A point that is refused late leaves its measurement behind.
    if ours.is_empty() || ours == theirs {
        return Ok(());
    }
    Err(format!("the server shows {theirs:?}, but {ours:?} was read"))
}

#[test]
fn a_server_panics_on_the_lines_that_are_never_sent() {
    for case in corpus::cases().iter().filter(|case| case.kills) {
        let mut server = Influxd::start();
        create(&server, "db");
        let reply = post(&server, "db", &case.text);
        assert!(reply.is_err(), "the server lives: {reply:?}");
        assert!(!server.wait_for_exit().success());
    }
}

#[test]
fn a_server_fails_on_the_numbers_of_tags_that_are_warned_of() {
    let server = Influxd::start();
    create(&server, "db");
    for count in [99, 100, 101, 200, 300, 400] {
        let tags: String = (0..count).map(|at| format!(",t{at:03}=x")).collect();
        let text = format!("m{tags} v=1 1");
        let outcomes = decode(text.as_bytes(), &[], Options::default());
        let (status, _) = post(&server, "db", text.as_bytes()).unwrap();
        assert_eq!(status == 500, is_warned(&outcomes[0]), "{count} tags: {status}");
        assert!(matches!(status, 204 | 500));
    }
}

#[test]
fn a_server_agrees_about_hostile_lines() {
    let seeds = hostile::seeds();
    let mut trial = Trial::new();
    let mut disagreements = Vec::new();
    for seed in 0..lines() {
        let mut text = mutate(&seeds, &mut Random::new(seed));
        if text.starts_with(b"m") {
            // A measurement of its own, lest the types of earlier lines decide.
            text.splice(1..1, seed.to_string().into_bytes());
        }
        if let Err(why) = trial.judge(&text) {
            disagreements.push(format!("seed {seed}: {why}"));
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    // Lines that are all refused, or all taken, would prove little.
    let (taken, refused) = (trial.taken, trial.refused);
    println!("{taken} taken, {refused} refused, {} databases", trial.databases);
    assert!(taken.min(refused) > lines() / 8, "{taken} taken, {refused} refused");
}

/// Number of hostile lines; `GAPLESS_HOSTILE_LINES` asks for more.
fn lines() -> u64 {
    std::env::var("GAPLESS_HOSTILE_LINES").map_or(4_000, |lines| lines.parse().unwrap())
}
