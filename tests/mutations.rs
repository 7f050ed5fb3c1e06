//! Planted mutations: every one is found and named exactly, nothing else is accused.
//!
//! What differs is worked out a second time, by comparing two maps cell by cell; what a comparison of
//! digests finds has to be the same. `GAPLESS_TEST_MUTATIONS` says how many are planted.

#![allow(clippy::unwrap_used, reason = "test code")]

mod line_tools;
mod planting;

use gapless::block::Block;
use gapless::block::log::RowLog;
use gapless::compare::{Counts, Options, OwnedValue, Unit};
use gapless::error::Result;
use gapless::line::key;
use gapless::plan::{Filter, Held, Namespace, Partition, Scope};
use gapless::source::{Reader, Source};
use gapless::spill::Place;
use gapless::verify;
use gapless::window::{DAY, HOUR, Window};
use line_tools::outcome::Stored;
use planting::{DAYS, Data, LEVELS, Mutant, Random, Row, RowKey, data, series_key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NAMESPACES: u8 = 2;
const ROWS: usize = 30;

fn namespace(number: u8) -> Namespace {
    Namespace { database: format!("db {number}"), retention_policy: "rp".into() }
}

/// The data as a side.
struct Side(BTreeMap<u8, Vec<(RowKey, Row)>>);

impl Side {
    fn of(data: &Data) -> Self {
        let mut by_namespace: BTreeMap<u8, Vec<(RowKey, Row)>> = BTreeMap::new();
        for (key, row) in data {
            by_namespace.entry(key.0).or_default().push((*key, row.clone()));
        }
        Self(by_namespace)
    }

    fn number(namespace: &Namespace) -> u8 {
        (0..NAMESPACES).find(|number| self::namespace(*number) == *namespace).unwrap()
    }
}

struct Blocks(std::vec::IntoIter<Block>);

impl Reader for Blocks {
    fn next_block(&mut self) -> Result<Option<Block>> {
        Ok(self.0.next())
    }
}

impl Source for Side {
    fn name(&self) -> String {
        "planted".into()
    }

    fn namespaces(&self) -> Result<Vec<Held>> {
        let held = |number| Held { namespace: namespace(number), settings: None };
        Ok((0..NAMESPACES).map(held).collect())
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        let namespace = scope.namespace.clone();
        Ok(vec![Partition::new(&namespace, scope.window, None)])
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let rows = self.0.get(&Self::number(&partition.namespace));
        // A block holds one measurement: a log is one measurement's.
        let mut logs: BTreeMap<Vec<u8>, RowLog> = BTreeMap::new();
        for ((_, series, time), row) in rows.into_iter().flatten() {
            if !partition.window.contains(*time) {
                continue;
            }
            let series = key::parse(series_key(*series).as_bytes());
            let wanted = partition.measurement.as_deref();
            if wanted.is_some_and(|wanted| wanted != series.measurement()) {
                continue;
            }
            let log = logs.entry(series.measurement().to_vec()).or_default();
            let series = log.add_series(Arc::new(series));
            log.begin_row(series, *time);
            for (field, value) in row {
                log.push(format!("f {field}").as_bytes(), value.value());
            }
        }
        let blocks = logs.into_values().map(RowLog::resolve);
        let blocks: Vec<Block> =
            blocks.flat_map(|table| table.blocks(partition.window).collect::<Vec<_>>()).collect();
        Ok(Box::new(Blocks(blocks.into_iter())))
    }

    fn sees_raw_keys(&self) -> bool {
        true
    }
}

/// A cell by its names, how it differs, and both values as text.
type Named = (Namespace, Vec<u8>, i64, String, String, String, String);

/// What differs, by names, and the counts.
fn truth(source: &Data, destination: &Data) -> (BTreeSet<Named>, Counts) {
    let (differences, counts) = planting::truth(source, destination);
    let text = |stored: &Option<Stored>| format!("{:?}", stored.as_ref().map(Stored::value));
    let named = differences.iter().map(|one| {
        let (number, series, time) = one.row;
        let key = key::parse(series_key(series).as_bytes()).key().to_vec();
        let (field, class) = (format!("f {}", one.field), format!("{:?}", one.class));
        (namespace(number), key, time, field, class, text(&one.source), text(&one.destination))
    });
    (named.collect(), counts)
}

fn compared(source: &Data, destination: &Data, all: bool) -> verify::Outcome {
    let (ours, theirs) = (Side::of(source), Side::of(destination));
    let units: Vec<Unit> = (0..NAMESPACES)
        .flat_map(|number| {
            // Reaching beyond: rows may be shifted over the ends of days.
            (-1..=DAYS).map(move |day| Unit {
                source: namespace(number),
                source_lacks: false,
                destination: namespace(number),
                window: Window { start: day * DAY, end: (day + 1) * DAY },
            })
        })
        .collect();
    let mut options = Options::new(Filter::default(), 1 << 20, Place::new(None), usize::MAX / 4);
    (options.drill_missing, options.drill_extra) = (all, all);
    verify::run(&ours, &theirs, &units, 1, &options, None, &()).unwrap()
}

fn found(outcome: &verify::Outcome) -> BTreeSet<Named> {
    let text = |value: &Option<OwnedValue>| format!("{:?}", value.as_ref().map(OwnedValue::value));
    let cells = outcome.cells.iter().map(|cell| {
        let field = String::from_utf8(cell.field.to_vec()).unwrap();
        let (key, class) = (cell.series.key().to_vec(), format!("{:?}", cell.class));
        let (one, two) = (text(&cell.source), text(&cell.destination));
        (cell.namespace.clone(), key, cell.time, field, class, one, two)
    });
    let named: BTreeSet<Named> = cells.collect();
    assert_eq!(named.len(), outcome.cells.len(), "a cell is named twice");
    named
}

fn round(seed: u64) -> u64 {
    let random = &mut Random(seed);
    let source = data(random, NAMESPACES, ROWS);
    let mut mutant = Mutant::new(&source, NAMESPACES, false);
    for _ in 0..1 + random.below(120) {
        mutant.plant(random);
    }
    if random.below(4) == 0 {
        let level = random.below(LEVELS.len());
        mutant.drop_level(random, level);
    }
    let (named, counts) = truth(&source, &mutant.data);
    assert!(named.len() as u64 >= mutant.planted() / 2, "seed {seed}: little was planted");
    let outcome = compared(&source, &mutant.data, true);
    assert_eq!(outcome.counts, counts, "seed {seed}");
    let found = found(&outcome);
    let wrong: Vec<_> = found.symmetric_difference(&named).take(5).collect();
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    // Where a side holds nothing at all in an hour, the hour is named and the counts are the same.
    let outcome = compared(&source, &mutant.data, false);
    assert_eq!(outcome.counts, counts, "seed {seed}");
    let places: BTreeSet<_> = outcome
        .places
        .iter()
        .map(|p| (&p.namespace, p.series.as_ref().unwrap().key(), p.window.start))
        .collect();
    let hours: BTreeSet<_> =
        named.iter().map(|cell| (&cell.0, &cell.1[..], cell.2.div_euclid(HOUR) * HOUR)).collect();
    assert_eq!(places, hours, "seed {seed}");
    mutant.planted()
}

#[test]
fn every_planted_mutation_is_named_exactly_and_nothing_else_is() {
    let wanted: u64 =
        std::env::var("GAPLESS_TEST_MUTATIONS").map_or(100_000, |text| text.parse().unwrap());
    let planted = std::sync::atomic::AtomicU64::new(0);
    let seeds = std::sync::atomic::AtomicU64::new(1);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while planted.load(order) < wanted {
                    planted.fetch_add(round(seeds.fetch_add(1, order)), order);
                }
            });
        }
    });
    println!("{} mutations, seeds 1 to {}", planted.load(order), seeds.load(order) - 1);
    assert!(planted.load(order) >= wanted);
}

#[test]
fn what_is_the_same_is_never_accused() {
    for seed in 1..20 {
        let data = data(&mut Random(seed), NAMESPACES, ROWS);
        let outcome = compared(&data, &data, true);
        assert_eq!(outcome.counts.different(), 0, "seed {seed}");
        assert_eq!(outcome.source, outcome.destination);
        assert!(outcome.places.is_empty() && outcome.counts.matched > 2_000, "seed {seed}");
    }
}
