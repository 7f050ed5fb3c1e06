//! Clients that overwrite points on both servers while `copy` runs: what is newest stays at both.
//!
//! `GAPLESS_TEST_OVERWRITES=100` does so many rounds (10 by default), `GAPLESS_TEST_SEED` others.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Random, influxd::rows};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const MINUTE: i64 = 60_000_000_000;
const HOSTS: u64 = 20;
const MINUTES: u64 = 150;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A host and a minute.
type Point = (u64, u64);

fn line((host, minute): Point, value: u64) -> String {
    let time = START + i64::try_from(minute).unwrap() * 7 * MINUTE;
    format!("cpu,host=h{host} v={value}i {time}\n")
}

/// Two servers, and the newest values that both acknowledged.
struct Both {
    one: Influxd,
    two: Influxd,
    newest: Mutex<BTreeMap<Point, u64>>,
}

impl Both {
    /// A client of its own hosts: it writes a point to both servers, in an order of its own, before it goes on
    /// to the next.
    fn overwrite(&self, db: &str, seed: u64, client: u64, stop: &AtomicBool, written: &AtomicU64) {
        let mut random = Random(seed * 2 + client);
        let mut servers = [&self.one, &self.two];
        if (seed + client).is_multiple_of(2) {
            servers.reverse();
        }
        while !stop.load(Ordering::Relaxed) {
            let host = random.below(HOSTS / 2) * 2 + client;
            // Every other value is for one of a few points that are written again and again.
            let minutes = if random.below(2) == 0 { 3 } else { MINUTES };
            let point = (host, random.below(minutes));
            let value = written.fetch_add(1, Ordering::Relaxed) + 1;
            for server in servers {
                server.write(db, line(point, value));
            }
            self.newest.lock().unwrap().insert(point, value);
        }
    }

    fn held(&self, server: &Influxd, db: &str) -> BTreeMap<Point, u64> {
        let mut held = BTreeMap::new();
        for host in 0..HOSTS {
            let query = format!("SELECT v FROM {db}..cpu WHERE host = 'h{host}'");
            for row in rows(&server.query(&query)) {
                let minute = (row[0].as_i64().unwrap() - START) / (7 * MINUTE);
                held.insert((host, u64::try_from(minute).unwrap()), row[1].as_u64().unwrap());
            }
        }
        held
    }
}

/// Copies while two clients write. Gives how many values they wrote.
fn round(both: &Both, seed: u64) -> u64 {
    let db = format!("db{seed}");
    let random = &mut Random(seed);
    let (mut source, mut destination) = (String::new(), String::new());
    let mut newest = both.newest.lock().unwrap();
    newest.clear();
    // Of some points the destination holds the value, by hours in which it lacks others.
    let share = [0, 3, 8][usize::try_from(seed % 3).unwrap()];
    for host in 0..HOSTS {
        for minute in 0..MINUTES {
            newest.insert((host, minute), 0);
            source.write_str(&line((host, minute), 0)).unwrap();
            if random.below(10) < share {
                destination.write_str(&line((host, minute), 0)).unwrap();
            }
        }
    }
    drop(newest);
    for (server, lines) in [(&both.one, source), (&both.two, destination)] {
        server.create_database(&db);
        server.write(&db, lines);
    }
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = std::thread::scope(|scope| {
        for client in 0..2 {
            let (db, stop, written) = (&db, &stop, &written);
            scope.spawn(move || both.overwrite(db, seed, client, stop, written));
        }
        let outcome = std::panic::catch_unwind(|| {
            (0..2)
                .map(|_| {
                    Gapless::new(["copy", &both.one.location(&db), &both.two.location(&db)])
                        .args(["--json", "--quiet"])
                        .run()
                })
                .collect::<Vec<_>>()
        });
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let newest = both.newest.lock().unwrap().clone();
    assert_eq!(both.held(&both.one, &db), newest, "seed {seed}: the clients' own writes");
    let held = both.held(&both.two, &db);
    let lost: Vec<_> =
        newest.iter().filter(|(point, value)| held.get(point) != Some(value)).collect();
    assert!(
        lost.is_empty(),
        "seed {seed}: {} of {written:?} values are lost, {:?}\n{}",
        lost.len(),
        &lost[..lost.len().min(5)],
        outcome.iter().map(common::Ran::describe).collect::<String>()
    );
    assert_eq!(held.len(), newest.len(), "seed {seed}: as many points");
    let report: serde_json::Value = serde_json::from_str(&outcome[0].out()).unwrap();
    assert!(
        report["sent"]["cells"].as_u64() > Some(0),
        "seed {seed}: nothing was sent: {report:#}"
    );
    assert!(
        written.load(Ordering::Relaxed) > 10,
        "seed {seed}: hardly anything was written meanwhile"
    );
    written.load(Ordering::Relaxed)
}

#[test]
fn an_older_value_never_takes_the_place_of_a_newer_one() {
    let rounds = setting("GAPLESS_TEST_OVERWRITES", 10);
    let first = setting("GAPLESS_TEST_SEED", 1);
    println!("GAPLESS_TEST_OVERWRITES={rounds} GAPLESS_TEST_SEED={first}");
    let (one, two) = (Influxd::start(), Influxd::start());
    let both = Both { one, two, newest: Mutex::default() };
    let written: u64 = (first..first + rounds).map(|seed| round(&both, seed)).sum();
    println!("{written} values were written meanwhile");
}
