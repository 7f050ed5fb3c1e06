//! Two servers that are written, overwritten and deleted from while they are compared: what is on its way
//! is no difference, and what differs is found.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Random};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Two servers, and what keeps them moving.
struct Both {
    one: Influxd,
    two: Influxd,
    begun: i64,
}

impl Both {
    fn start() -> Self {
        let server = || {
            let config = |builder: common::Builder, section, line| builder.config(section, line);
            let builder = config(Influxd::builder(), "retention", "check-interval = \"1s\"");
            builder.start()
        };
        let (one, two) = (server(), server());
        let both = Self { one, two, begun: now() / HOUR * HOUR };
        for server in [&both.one, &both.two] {
            server.query(
                "CREATE DATABASE db WITH DURATION 48h REPLICATION 1 SHARD DURATION 1h NAME short",
            );
        }
        // Fifty hours of eight hosts, of which retention has taken some already.
        let mut lines = String::new();
        for minute in 0..47 * 60 {
            let time = both.begun - 46 * HOUR + i64::from(minute) * 60 * SECOND;
            for host in 0..8 {
                lines.push_str(&format!("cpu,host=h{host} load={minute}.5,n={minute}i {time}\n"));
            }
        }
        both.write(&lines);
        both
    }

    /// The second server hears of it a little later, as from a client that writes twice.
    fn write(&self, lines: &str) {
        self.one.write("db", lines);
        thread::sleep(Duration::from_millis(20));
        self.two.write("db", lines);
    }

    fn delete(&self, host: u64, time: i64) {
        for server in [&self.one, &self.two] {
            let statement = format!(
                "DELETE FROM cpu WHERE host = 'h{host}' AND time >= {time} AND time < {}",
                time + 300 * SECOND
            );
            server.influx_cli(["-database", "db", "-execute", &statement]);
        }
    }

    /// Writes new points, late ones and others again, until it is stopped.
    fn keep_writing(&self, stop: &AtomicBool, written: &AtomicU64) {
        let mut random = Random(written.load(Ordering::Relaxed));
        while !stop.load(Ordering::Relaxed) {
            let mut lines = String::new();
            for _ in 0..20 {
                let host = random.below(8);
                let value = random.below(1_000_000);
                let back = i64::try_from(random.below(40 * 3_600)).unwrap() * SECOND;
                let old = self.begun - back;
                lines.push_str(&format!("cpu,host=h{host} load={value}.25 {old}\n"));
                lines.push_str(&format!("cpu,host=h{host} load={value}.75 {}\n", now()));
            }
            self.write(&lines);
            written.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(60));
        }
    }

    fn keep_deleting(&self, stop: &AtomicBool) {
        let mut random = Random(7);
        while !stop.load(Ordering::Relaxed) {
            let back = i64::try_from(random.below(40 * 60)).unwrap() * 60 * SECOND;
            self.delete(random.below(8), self.begun - back);
            thread::sleep(Duration::from_millis(400));
        }
    }

    fn verify(&self, options: &[&str]) -> Value {
        let ran = Gapless::new(["verify", &self.one.location("db"), &self.two.location("db")])
            .args(["--json", "--quiet", "--lag", "0"])
            .args(options)
            .run();
        serde_json::from_str(&ran.out()).unwrap_or_else(|_| panic!("{}", ran.describe()))
    }
}

#[test]
fn nothing_that_moves_is_called_a_difference_and_what_differs_is_found() {
    let rounds: u64 = std::env::var("GAPLESS_TEST_LIVE").map_or(10, |text| text.parse().unwrap());
    let both = Both::start();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(1));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        thread::scope(|scope| {
            scope.spawn(|| both.keep_writing(&stop, &written));
            scope.spawn(|| both.keep_deleting(&stop));
            let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (1..=rounds).map(|round| judge(&both, round)).sum::<u64>()
            }));
            stop.store(true, Ordering::Relaxed);
            judged.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }));
    let transient = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(transient > 0, "nothing moved: the test shows nothing");
    assert!(written.load(Ordering::Relaxed) > rounds, "the writer wrote");
}

/// Plants a difference that stays and compares. Gives the cells that were on their way.
fn judge(both: &Both, round: u64) -> u64 {
    // Hosts of their own: no writer and no deleter touches them.
    let line = format!("cpu,host=lost{round} load={round} {}\n", both.begun - HOUR);
    both.one.write("db", line);
    let report = both.verify(&["--recheck=1s,2s,4s"]);
    let counts = &report["counts"];
    assert_eq!(report["exit_status"], 1, "round {round}: {report:#}");
    let places: Vec<&str> = report["places"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["series"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = {
        let mut all: Vec<_> = (1..=round).map(|number| format!("cpu,host=lost{number}")).collect();
        all.sort();
        all
    };
    assert_eq!(places, expected, "round {round}: {counts:#}");
    assert_eq!(counts["missing_in_destination"], round, "{counts:#}");
    for class in ["extra_in_destination", "value_changed", "type_changed"] {
        assert_eq!(counts[class], 0, "round {round}, {class}: {counts:#}");
    }
    counts["transient"].as_u64().unwrap() + counts["unstable"].as_u64().unwrap()
}

#[test]
fn sides_that_rest_are_compared_once_and_their_differences_twice() {
    let both = Both::start();
    let identical = both.verify(&["--recheck=1h"]);
    assert_eq!(identical["verdict"], "identical");
    assert_eq!(identical["read_again"]["places"], 0);
    both.one.write("db", format!("cpu,host=lost load=1 {}\n", both.begun - HOUR));
    let different = both.verify(&["--recheck=10ms,1h"]);
    assert_eq!(different["exit_status"], 1);
    // Of one place, what stands beside it in its hour is read and no more.
    let cells = different["read_again"]["cells"].as_u64().unwrap();
    assert!(cells > 0 && cells < 2_500, "{cells}");
    let at_once = both.verify(&["--recheck=none"]);
    assert_eq!(at_once["counts"]["missing_in_destination"], 1);
    let nonsense = Gapless::new(["verify", "a", "b", "--recheck", "soon"]).run();
    nonsense.expect_status(2).expect_err("--recheck 5s,15s");
}
