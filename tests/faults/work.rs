//! A copy of which every part of the accounts is known beforehand, and the judgement of its end by
//! what the server holds.

use crate::common::influxd::rows;
use crate::common::{Gapless, Influxd, Ran};
use crate::proxy::{Proxy, Rule};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

/// Series `m,h=h0` to `m,h=h4`, the last of which the server refuses.
const SERIES: usize = 5;
/// Points of a series, each of two cells.
const POINTS: usize = 40;
const START: i64 = 1_700_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// Points of each series that a later line of the input replaces.
const SUPERSEDED: [usize; SERIES] = [5, 0, 5, 0, 3];
/// Points of each series that the server holds before. The first of `h1` has another `v` there.
const HELD: [usize; SERIES] = [10, 1, 1, 1, 0];

fn line(series: usize, point: usize, value: usize) -> String {
    let time = START + i64::try_from(point).unwrap() * SECOND;
    format!("m,h=h{series} f={point}.5,v={value}i {time}\n")
}

/// The value of `v` in the end.
fn value(series: usize, point: usize) -> usize {
    series * 1_000 + point
}

/// Lines of the input, with those that are replaced before the others.
fn input() -> String {
    let old = (0..SERIES)
        .flat_map(|series| (0..SUPERSEDED[series]).map(move |point| line(series, point, 777)));
    let new = (0..SERIES)
        .flat_map(|series| (0..POINTS).map(move |point| line(series, point, value(series, point))));
    old.chain(new).collect()
}

/// A server that holds at most four values of a tag: those that it is given by [`Case::new`].
pub(crate) fn server() -> Influxd {
    Influxd::builder().config("data", "max-values-per-tag = 4").start()
}

/// One copy to a database of its own.
pub(crate) struct Case<'a> {
    pub(crate) server: &'a Influxd,
    pub(crate) database: String,
    pub(crate) dir: TempDir,
}

impl<'a> Case<'a> {
    pub(crate) fn new(server: &'a Influxd, database: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("in.lp"), input()).unwrap();
        server.create_database(&database);
        let held = (0..SERIES).flat_map(|series| {
            (0..HELD[series]).map(move |point| {
                line(series, point, if series == 1 { 999 } else { value(series, point) })
            })
        });
        server.write(&database, held.collect::<String>());
        Self { server, database, dir }
    }

    /// Copies through the proxy.
    pub(crate) fn copy(&self, proxy: &Proxy) -> Ran {
        let location = proxy.location(&self.database);
        let arguments = ["copy", "in.lp", &location, "--quiet", "--report", "report.json"];
        Gapless::new(arguments).dir(self.dir.path()).run()
    }

    /// Copies with something going wrong, and judges the end.
    pub(crate) fn run(&self, name: &str, proxy: &Proxy, rules: Vec<Rule>) -> Ran {
        proxy.set(rules);
        let ran = self.copy(proxy);
        assert_eq!(proxy.left(), 0, "{name}: the fault did not happen\n{}", ran.describe());
        // The conflict that is left.
        assert_eq!(ran.status, Some(1), "{name}\n{}", ran.describe());
        self.judge_accounts(name);
        self.judge_server(name);
        ran
    }

    /// The server holds what it should, series by series, and the reject file holds the rest once.
    pub(crate) fn judge_server(&self, name: &str) {
        let rejected = std::fs::read_to_string(self.dir.path().join("gapless-rejected.lp"));
        let rejected = rejected.unwrap_or_default();
        for series in 0..SERIES {
            let q = format!("SELECT v, f FROM \"{}\"..m WHERE h = 'h{series}'", self.database);
            let reply = self.server.query(&q);
            let found: Vec<(i64, i64, f64)> = rows(&reply)
                .into_iter()
                .map(|row| {
                    (row[0].as_i64().unwrap(), row[1].as_i64().unwrap(), row[2].as_f64().unwrap())
                })
                .collect();
            let refused = rejected.matches(&format!("\nm,h=h{series} ")).count();
            if series == 4 {
                assert!(found.is_empty(), "{name}: h{series}");
                let each = (0..POINTS).filter(|point| {
                    let line = format!("\n{}", line(series, *point, value(series, *point)));
                    rejected.matches(&line).count() == 1
                });
                assert_eq!((each.count(), refused), (POINTS, POINTS), "{name}: {rejected}");
                continue;
            }
            let expected: Vec<(i64, i64, f64)> = (0..POINTS)
                .map(|point| {
                    let at = i64::try_from(point).unwrap();
                    let left = series == 1 && point == 0;
                    let value = if left { 999 } else { value(series, point) };
                    let float = f64::from(u32::try_from(point).unwrap()) + 0.5;
                    (START + at * SECOND, i64::try_from(value).unwrap(), float)
                })
                .collect();
            assert_eq!(found, expected, "{name}: h{series}");
            assert_eq!(refused, 0, "{name}: h{series}");
        }
    }

    /// What the report counts adds up to what was given.
    fn judge_accounts(&self, name: &str) {
        let report = report(self.dir.path());
        let accounts = &report["accounts"];
        let count = |what: &str| accounts[what].as_u64().unwrap_or_else(|| panic!("{what}"));
        let decoded = 2 * (SERIES * POINTS + SUPERSEDED.iter().sum::<usize>()) as u64;
        let held = 2 * HELD.iter().sum::<usize>() as u64;
        let resolved = 2 * (SERIES * POINTS) as u64;
        let (conflicts, refused) = (1, 2 * POINTS as u64);
        for (what, expected) in [
            ("decoded", decoded),
            ("superseded", decoded - resolved),
            ("resolved", resolved),
            ("already_there", held - conflicts),
            ("expired", 0),
            ("refused", refused),
            ("conflicts", conflicts),
            ("sent", resolved - held - refused),
            ("lost", 0),
            ("unaccounted", 0),
        ] {
            assert_eq!(count(what), expected, "{name}: {what} of {accounts}");
        }
        let series = report["rejected_series"].as_array().unwrap();
        assert_eq!(series.len(), 1, "{name}: {series:?}");
        assert_eq!(series[0]["series"], "m,h=h4");
        assert_eq!(series[0]["rows"], POINTS);
        assert_eq!(series[0]["start"], START);
        assert_eq!(series[0]["end"], START + (POINTS as i64 - 1) * SECOND + 1);
        let reason = series[0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("max-values-per-tag limit exceeded"), "{name}: {reason}");
    }
}

/// The report of a copy.
pub(crate) fn report(dir: &Path) -> Value {
    let text = std::fs::read(dir.join("report.json")).expect("the report");
    serde_json::from_slice(&text).expect("JSON")
}

/// Asserts figures of the accounts, and that they add up.
#[track_caller]
pub(crate) fn assert_accounts(dir: &Path, expected: &[(&str, u64)]) {
    let accounts = &report(dir)["accounts"];
    for (what, count) in expected.iter().chain(&[("lost", 0), ("unaccounted", 0)]) {
        assert_eq!(accounts[*what], *count, "{what} of {accounts}");
    }
}

/// Runs a copy for each fault, on one server, and judges each.
pub(crate) fn judge_all(faults: Vec<(String, Vec<Rule>)>) {
    let server = server();
    let proxy = Proxy::start(server.port(), Vec::new());
    for (at, (name, rules)) in faults.into_iter().enumerate() {
        Case::new(&server, format!("db{at}")).run(&name, &proxy, rules);
    }
}
