//! Planted mutations: every one is found and named exactly, nothing else is accused.
//!
//! What differs is worked out a second time, by comparing two maps cell by cell; what a comparison of
//! digests finds has to be the same. `GAPLESS_TEST_MUTATIONS` says how many are planted.

#![allow(clippy::unwrap_used, reason = "test code")]

mod line_tools;

use gapless::block::Block;
use gapless::block::log::RowLog;
use gapless::compare::{Class, Counts, Options, OwnedValue, Unit};
use gapless::error::Result;
use gapless::line::key;
use gapless::plan::{Filter, Held, Namespace, Partition, Scope};
use gapless::source::{Reader, Source};
use gapless::spill::Place;
use gapless::verify;
use gapless::window::{DAY, HOUR, Window};
use line_tools::outcome::Stored;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const DAYS: i64 = 3;
const NAMESPACES: u8 = 2;
const SERIES: u16 = 24;

/// A row: number of the namespace, number of the series, time.
type RowKey = (u8, u16, i64);
type Row = BTreeMap<u8, Stored>;
type Data = BTreeMap<RowKey, Row>;

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn value(&mut self, field: u8) -> Stored {
        match field {
            0 => Stored::Float(f64::from(u16::try_from(self.below(60_000)).unwrap()).to_bits()),
            1 => Stored::Integer(i64::try_from(self.below(1 << 40)).unwrap()),
            2 => Stored::Boolean(self.below(2) == 0),
            _ => Stored::String(format!("text {}", self.below(1_000)).into_bytes()),
        }
    }
}

/// Names as they occur, and as they are hard: the same number is the same series everywhere.
fn series_key(number: u16) -> String {
    let measurement = ["cpu", "disk\\ io", "m\\,x", "größe"][usize::from(number % 4)];
    match number % 3 {
        0 => format!("{measurement},host=h{number}"),
        1 => format!("{measurement},dc=eu\\ 1,host=h\\=\\,{number}"),
        _ => format!("{measurement},host=\"h{number}\",rack=a\\\\b"),
    }
}

fn namespace(number: u8) -> Namespace {
    Namespace { database: format!("db {number}"), retention_policy: "rp".into() }
}

fn data(random: &mut Random) -> Data {
    let mut data = Data::new();
    for namespace in 0..NAMESPACES {
        for series in 0..SERIES {
            for _ in 0..30 {
                let time =
                    i64::try_from(random.next() % u64::try_from(DAYS * DAY).unwrap()).unwrap();
                let mut row = Row::new();
                for field in 0..4 {
                    if random.below(4) > 0 {
                        row.insert(field, random.value(field));
                    }
                }
                if row.is_empty() {
                    row.insert(1, random.value(1));
                }
                data.insert((namespace, series, time), row);
            }
        }
    }
    data
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

/// What is planted into a copy of the data, and which rows were touched.
struct Mutant {
    data: Data,
    touched: BTreeSet<RowKey>,
    planted: u64,
}

impl Mutant {
    /// A row that was not touched yet.
    fn row(&mut self, random: &mut Random) -> Option<RowKey> {
        for _ in 0..20 {
            let (namespace, series) = (
                u8::try_from(random.below(usize::from(NAMESPACES))).unwrap(),
                u16::try_from(random.below(usize::from(SERIES))).unwrap(),
            );
            let time = i64::try_from(random.next() % u64::try_from(DAYS * DAY).unwrap()).unwrap();
            let found = self.data.range((namespace, series, time)..).next().map(|(key, _)| *key);
            if let Some(key) = found.filter(|key| self.touched.insert(*key)) {
                return Some(key);
            }
        }
        None
    }

    /// Puts a row where none is.
    fn put(&mut self, key: RowKey, row: Row) {
        assert!(self.data.insert(key, row).is_none(), "{key:?} is taken");
        self.touched.insert(key);
    }

    fn plant(&mut self, random: &mut Random) {
        let Some(key) = self.row(random) else { return };
        let (namespace, series, time) = key;
        let row = self.data[&key].clone();
        let field = *row.keys().nth(random.below(row.len())).unwrap();
        match random.below(10) {
            0 => {
                self.data.get_mut(&key).unwrap().remove(&field);
                if self.data[&key].is_empty() {
                    self.data.remove(&key);
                }
            }
            1 => drop(self.data.remove(&key)),
            2 => self.copy_to((namespace, series, time + 17), row),
            3 => {
                let bit = u32::try_from(random.below(64)).unwrap();
                self.set(key, field, flipped(&row[&field], bit));
            }
            4 => {
                let shift = if random.below(2) == 0 { 1 } else { -1 };
                self.data.remove(&key);
                self.copy_to((namespace, series, time + shift), row);
            }
            5 => self.set(key, field, retyped(&row[&field])),
            6 => {
                self.data.remove(&key);
                self.copy_to((namespace, series + 100, time), row);
            }
            7 => self.swap_values(key, random),
            8 => self.shift_rows(key, random),
            _ => self.cancel(key, random),
        }
        self.planted += 1;
    }

    fn set(&mut self, key: RowKey, field: u8, value: Stored) {
        self.data.get_mut(&key).unwrap().insert(field, value);
    }

    fn copy_to(&mut self, key: RowKey, row: Row) {
        if self.data.contains_key(&key) {
            // A nanosecond beside another row by chance: what is missing alone is a mutation, too.
            return;
        }
        self.put(key, row);
    }

    /// Two series exchange a row, at one time.
    fn swap_values(&mut self, key: RowKey, random: &mut Random) {
        let Some(other) = self.row(random) else { return drop(self.data.remove(&key)) };
        let (one, two) = (self.data.remove(&key).unwrap(), self.data.remove(&other).unwrap());
        self.data.insert(key, two);
        self.data.insert(other, one);
    }

    /// An even number of rows of one series moves by the same time.
    fn shift_rows(&mut self, key: RowKey, random: &mut Random) {
        let of_series = self.data.range(key..(key.0, key.1 + 1, i64::MIN));
        let keys: Vec<RowKey> = of_series.map(|(key, _)| *key).take(4).collect();
        let even = keys.len() / 2 * 2;
        let shift = 1 + i64::try_from(random.below(1_000_000)).unwrap();
        let rows: Vec<(RowKey, Row)> = keys
            .into_iter()
            .take(even.max(1))
            .filter(|one| *one == key || self.touched.insert(*one))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|one| (one, self.data.remove(&one).unwrap()))
            .collect();
        for ((namespace, series, time), row) in rows {
            self.copy_to((namespace, series, time + shift), row);
        }
    }

    /// Two edits whose plain sums cancel: what one value gains another loses.
    fn cancel(&mut self, key: RowKey, random: &mut Random) {
        let Some(other) = self.row(random) else { return drop(self.data.remove(&key)) };
        let gain = 1 + i64::try_from(random.below(1_000)).unwrap();
        for (key, gain) in [(key, gain), (other, -gain)] {
            let row = self.data.get_mut(&key).unwrap();
            let value = match row.get(&1) {
                Some(Stored::Integer(value)) => value.wrapping_add(gain),
                _ => gain,
            };
            row.insert(1, Stored::Integer(value));
        }
    }

    /// Everything of a level of the hierarchy is gone.
    fn drop_level(&mut self, random: &mut Random) {
        let Some((namespace, series, time)) = self.row(random) else { return };
        let level = random.below(4);
        let hour = time.div_euclid(HOUR);
        let gone = |key: &RowKey| {
            key.0 == namespace
                && match level {
                    0 => key.1 == series && key.2.div_euclid(HOUR) == hour,
                    1 => key.1 == series,
                    2 => key.1 % 4 == series % 4,
                    _ => true,
                }
        };
        self.data.retain(|key, _| !gone(key));
        self.planted += 1;
    }
}

/// The same with one bit flipped.
fn flipped(stored: &Stored, bit: u32) -> Stored {
    match stored {
        Stored::Float(bits) => Stored::Float(bits ^ (1 << bit)),
        Stored::Integer(integer) => Stored::Integer(integer ^ (1 << bit)),
        Stored::Unsigned(unsigned) => Stored::Unsigned(unsigned ^ (1 << bit)),
        Stored::Boolean(boolean) => Stored::Boolean(!boolean),
        Stored::String(text) => {
            let mut text = text.clone();
            let at = bit as usize % text.len();
            text[at] ^= 1 << (bit % 8);
            Stored::String(text)
        }
    }
}

/// The same number, as far as there is one, of another type.
fn retyped(stored: &Stored) -> Stored {
    match stored {
        Stored::Integer(integer) => Stored::Unsigned(integer.unsigned_abs()),
        Stored::Float(bits) => Stored::Integer(bits.cast_signed()),
        Stored::Unsigned(_) | Stored::Boolean(_) => Stored::String(b"true".to_vec()),
        Stored::String(_) => Stored::Boolean(true),
    }
}

/// A cell by its names, how it differs, and both values as text.
type Named = (Namespace, Vec<u8>, i64, String, String, String, String);

/// What differs, worked out cell by cell, and the counts.
fn truth(source: &Data, destination: &Data) -> (BTreeSet<Named>, Counts) {
    let cells = |data: &Data| -> BTreeMap<(RowKey, u8), Stored> {
        let cells = data.iter().flat_map(|(key, row)| {
            row.iter().map(|(field, value)| ((*key, *field), value.clone()))
        });
        cells.collect()
    };
    let (ours, theirs) = (cells(source), cells(destination));
    let mut counts =
        Counts { source: ours.len() as u64, destination: theirs.len() as u64, ..Counts::default() };
    let mut named = BTreeSet::new();
    let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).copied().collect();
    for place in keys {
        let (one, two) = (ours.get(&place), theirs.get(&place));
        let class = match (one, two) {
            (Some(one), Some(two)) if one == two => {
                counts.matched += 1;
                continue;
            }
            (Some(one), Some(two)) => {
                let same = one.value().field_type() == two.value().field_type();
                *(if same { &mut counts.value_changed } else { &mut counts.type_changed }) += 1;
                if same { Class::ValueChanged } else { Class::TypeChanged }
            }
            (Some(_), None) => {
                counts.missing_in_destination += 1;
                Class::MissingInDestination
            }
            _ => {
                counts.extra_in_destination += 1;
                Class::ExtraInDestination
            }
        };
        let ((number, series, time), field) = place;
        let text = |stored: Option<&Stored>| format!("{:?}", stored.map(Stored::value));
        let key = key::parse(series_key(series).as_bytes()).key().to_vec();
        let field = format!("f {field}");
        named.insert((
            namespace(number),
            key,
            time,
            field,
            format!("{class:?}"),
            text(one),
            text(two),
        ));
    }
    (named, counts)
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
    let source = data(random);
    let mut mutant = Mutant { data: source.clone(), touched: BTreeSet::new(), planted: 0 };
    for _ in 0..1 + random.below(120) {
        mutant.plant(random);
    }
    if random.below(4) == 0 {
        mutant.drop_level(random);
    }
    let (named, counts) = truth(&source, &mutant.data);
    assert!(named.len() as u64 >= mutant.planted / 2, "seed {seed}: little was planted");
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
    mutant.planted
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
        let data = data(&mut Random(seed));
        let outcome = compared(&data, &data, true);
        assert_eq!(outcome.counts.different(), 0, "seed {seed}");
        assert_eq!(outcome.source, outcome.destination);
        assert!(outcome.places.is_empty() && outcome.counts.matched > 2_000, "seed {seed}");
    }
}
