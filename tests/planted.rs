//! Differences planted into real servers, at every level: each is named exactly, by class, series, field,
//! time and both values, and nothing else is accused, whichever way the sides are read.
//!
//! One server holds the data, the other a copy with mutations, and what differs is worked out cell by
//! cell. `GAPLESS_TEST_PLANTED=5000` plants so many (400 by default), `GAPLESS_TEST_SEED` another lot.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;
mod line_tools;
mod planting;

use common::influxd::ident;
use common::{Gapless, Influxd};
use gapless::compare::Class;
use gapless::line::key;
use gapless::series::Printable;
use gapless::window::HOUR;
use line_tools::outcome::Stored;
use planting::{Data, KINDS, LEVELS, Mutant, Random, series_key};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// 2020-07-19T00:00:00Z: the time that the planted ones count from.
const START: i64 = 1_595_116_800_000_000_000;
const ROWS: usize = 20;
/// Mutations of one lot, before those of whole levels.
const LOT: u64 = 130;

/// The namespaces by their numbers. The last three are levels of their own: a retention policy that the
/// copy lacks, a database that it lacks, and one that only the copy has.
const NAMESPACES: [(&str, &str); 8] = [
    ("da ta", "one"),
    ("da ta", "t\"wo"),
    ("other", "one"),
    ("other", "two"),
    ("less", "one"),
    ("less", "gone"),
    ("gone", "one"),
    ("extra", "one"),
];
/// Those into which single mutations are planted.
const MUTABLE: u8 = 5;
const NO_POLICY: u8 = 5;
const NO_DATABASE: u8 = 6;
const EXTRA_DATABASE: u8 = 7;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A cell by its names.
type Name = (String, String, String, i64, String);
/// An hour of a series by its names.
type Hour = (String, String, String, i64);
/// Missing, extra, value changed, type changed.
type Classes = [u64; 4];

/// What a comparison says, or should.
#[derive(Debug, Default, PartialEq)]
struct Said {
    /// How each cell differs that stands in an hour of which both sides hold something.
    cells: BTreeMap<Name, (String, Option<Stored>, Option<Stored>)>,
    hours: BTreeMap<Hour, Classes>,
    counts: Classes,
    /// Cells of the source and of the destination, and those that are the same.
    held: [u64; 3],
}

const CLASSES: [&str; 4] =
    ["missing_in_destination", "extra_in_destination", "value_changed", "type_changed"];

fn number_of(class: Class) -> usize {
    match class {
        Class::MissingInDestination => 0,
        Class::ExtraInDestination => 1,
        Class::ValueChanged => 2,
        Class::TypeChanged => 3,
    }
}

impl Said {
    fn expected(source: &Data, destination: &Data) -> Self {
        let (differences, counts) = planting::truth(source, destination);
        let hours = |data: &Data| -> BTreeSet<(u8, u16, i64)> {
            data.keys().map(|key| (key.0, key.1, key.2.div_euclid(HOUR))).collect()
        };
        let (ours, theirs) = (hours(source), hours(destination));
        let mut said = Self {
            counts: [
                counts.missing_in_destination,
                counts.extra_in_destination,
                counts.value_changed,
                counts.type_changed,
            ],
            held: [counts.source, counts.destination, counts.matched],
            ..Self::default()
        };
        for one in differences {
            let (namespace, series, time) = one.row;
            let (database, policy) = NAMESPACES[usize::from(namespace)];
            let (database, policy) = (database.to_owned(), policy.to_owned());
            let key = key::parse(series_key(series).as_bytes());
            let series_name = Printable(key.key()).to_string();
            let class = number_of(one.class);
            let hour = time.div_euclid(HOUR);
            let place =
                (database.clone(), policy.clone(), series_name.clone(), START + hour * HOUR);
            said.hours.entry(place).or_default()[class] += 1;
            let at = (namespace, series, hour);
            if ours.contains(&at) && theirs.contains(&at) {
                let name = (database, policy, series_name, START + time, format!("f{}", one.field));
                let how = (CLASSES[class].to_owned(), one.source, one.destination);
                said.cells.insert(name, how);
            }
        }
        said
    }

    fn of(report: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let classes = |counts: &Value| CLASSES.map(|class| counts[class].as_u64().unwrap());
        let (mut said, counts) = (Self::default(), &report["counts"]);
        said.counts = classes(counts);
        said.held = ["source", "destination", "matched"].map(|name| counts[name].as_u64().unwrap());
        for cell in report["cells"].as_array().unwrap() {
            let name = ["database", "retention_policy", "series"].map(|name| text(&cell[name]));
            let [database, policy, series] = name;
            let time = cell["time"].as_i64().unwrap();
            let name = (database, policy, series, time, text(&cell["field"]));
            let value = |side: &str| cell[side].as_str().map(parsed);
            let how = (text(&cell["class"]), value("source"), value("destination"));
            assert!(said.cells.insert(name.clone(), how).is_none(), "{name:?} is named twice");
        }
        for place in report["places"].as_array().unwrap() {
            let name = ["database", "retention_policy", "series"].map(|name| text(&place[name]));
            let [database, policy, series] = name;
            let name = (database, policy, series, place["start"].as_i64().unwrap());
            let before = said.hours.insert(name.clone(), classes(&place["counts"]));
            assert!(before.is_none(), "{name:?} is named twice");
        }
        said
    }

    /// What one says and the other does not, as far as a message shows it.
    fn less(&self, other: &Self) -> String {
        let cells = self.cells.iter().filter(|(name, how)| other.cells.get(*name) != Some(how));
        let hours = self.hours.iter().filter(|(name, how)| other.hours.get(*name) != Some(how));
        let (cells, hours): (Vec<_>, Vec<_>) = (cells.take(5).collect(), hours.take(5).collect());
        format!("{:?} {:?} {cells:#?} {hours:#?}", self.held, self.counts)
    }
}

/// A value as a report writes it.
fn parsed(text: &str) -> Stored {
    if let Some(text) = text.strip_prefix('"') {
        return Stored::String(text.strip_suffix('"').unwrap().as_bytes().to_vec());
    }
    match text {
        "true" | "false" => Stored::Boolean(text == "true"),
        _ => match text.strip_suffix('i') {
            Some(integer) => Stored::Integer(integer.parse().unwrap()),
            None => Stored::Float(text.parse::<f64>().unwrap().to_bits()),
        },
    }
}

/// Makes a server hold these data.
fn load(server: &Influxd, data: &Data) {
    let mut bodies: BTreeMap<u8, String> = BTreeMap::new();
    for ((namespace, series, time), row) in data {
        let body = bodies.entry(*namespace).or_default();
        let fields = row.iter().map(|(field, value)| match value {
            Stored::String(text) => {
                let text = String::from_utf8(text.clone()).unwrap();
                format!("f{field}=\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
            other => format!("f{field}={other:?}"),
        });
        let fields: Vec<String> = fields.collect();
        writeln!(body, "{} {} {}", series_key(*series), fields.join(","), START + time).unwrap();
    }
    let databases: BTreeSet<&str> =
        bodies.keys().map(|number| NAMESPACES[usize::from(*number)].0).collect();
    for database in databases {
        server.create_database(database);
    }
    for (number, body) in bodies {
        let (database, policy) = NAMESPACES[usize::from(number)];
        server.query(&format!(
            "CREATE RETENTION POLICY {} ON {} DURATION INF REPLICATION 1 SHARD DURATION 1d",
            ident(policy),
            ident(database)
        ));
        let (status, reply) = server.post_write(database, policy, body, "ns");
        assert_eq!(status, 204, "{reply}");
    }
}

fn unload(server: &Influxd) {
    for (database, _) in NAMESPACES {
        server.query(&format!("DROP DATABASE {}", ident(database)));
    }
}

/// Compares two sides and holds what is said against the truth.
fn judge(seed: u64, way: &str, (one, two): (&str, &str), expected: &Said) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let ran = Gapless::new(["verify", one, two, "--quiet", "--max-differences=1000000"])
        .args(["--json", "--report", file.to_str().unwrap()])
        .run()
        .expect_status(1);
    let report: Value = serde_json::from_str(&ran.out()).unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for part in ["verdict", "counts", "places", "cells"] {
        assert_eq!(report[part], written[part], "seed {seed}, {way}: {part} of the file");
    }
    assert_eq!(report["verdict"], "different", "seed {seed}, {way}: {}", report["reasons"]);
    let said = Said::of(&report);
    assert!(
        said == *expected,
        "seed {seed}, {way}: said and not so {}\nso and not said {}\n{:#}",
        said.less(expected),
        expected.less(&said),
        report["counts"]
    );
    for class in ["unprovable", "unstable", "transient", "unresolved", "expired"] {
        assert_eq!(report["counts"][class], 0, "seed {seed}, {way}: {class}");
    }
}

/// One lot of mutations, compared in each way in which running servers are read. Gives how often each
/// kind and level was planted, and what is to be said of it.
fn lot(one: &Influxd, two: &Influxd, seed: u64) -> (Mutant, Said) {
    let random = &mut Random(seed);
    let all = u8::try_from(NAMESPACES.len()).unwrap();
    let mut source = planting::data(random, all, ROWS);
    let mut mutant = Mutant::new(&source, MUTABLE, true);
    while mutant.planted() < LOT {
        mutant.plant(random);
    }
    // The last level is that of the namespaces, which follow.
    for level in 0..LEVELS.len() - 1 {
        mutant.drop_level(random, level);
    }
    mutant.data.retain(|key, _| key.0 != NO_POLICY && key.0 != NO_DATABASE);
    source.retain(|key, _| key.0 != EXTRA_DATABASE);
    mutant.levels[LEVELS.len() - 1] += 3;
    mutant.retype();
    let expected = Said::expected(&source, &mutant.data);
    assert!(expected.cells.len() as u64 > LOT, "seed {seed}: little was planted");

    for (server, data) in [(one, &source), (two, &mutant.data)] {
        unload(server);
        load(server, data);
    }
    let (from, to) = (one.location(""), two.location(""));
    judge(seed, "by queries", (&from, &to), &expected);
    let from = one.snapshot_location("");
    judge(seed, "the source by its snapshot port", (&from, &to), &expected);
    let both = (&*from, &*two.snapshot_location(""));
    judge(seed, "both by their snapshot ports", both, &expected);
    let dir = tempfile::tempdir().unwrap();
    one.backup(&["-portable"], dir.path());
    judge(seed, "the source as a backup", (path(dir.path()), &to), &expected);
    (mutant, expected)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_planted_into_real_servers_is_named_exactly_and_nothing_else_is() {
    let (wanted, first) = (setting("GAPLESS_TEST_PLANTED", 400), setting("GAPLESS_TEST_SEED", 1));
    println!("GAPLESS_TEST_PLANTED={wanted} GAPLESS_TEST_SEED={first}");
    let (mut one, mut two) = (Influxd::start(), Influxd::start());
    let (mut planted, mut kinds, mut levels) = (0, [0; KINDS.len()], [0; LEVELS.len()]);
    for seed in first.. {
        let (mutant, expected) = lot(&one, &two, seed);
        kinds.iter_mut().zip(mutant.kinds).for_each(|(sum, more)| *sum += more);
        levels.iter_mut().zip(mutant.levels).for_each(|(sum, more)| *sum += more);
        planted += mutant.planted();
        if planted >= wanted {
            println!("{planted} mutations, seeds {first} to {seed}: {kinds:?} {levels:?}");
            one.stop();
            two.stop();
            let directories = (path(one.data_dir()), path(two.data_dir()));
            judge(seed, "both as data directories", directories, &expected);
            break;
        }
    }
    for (name, count) in KINDS.iter().zip(kinds).chain(LEVELS.iter().zip(levels)) {
        assert!(count > 0, "{name} was never planted");
    }
}
