//! Data of known content, mutations that are planted into a copy of them, and what differs then, worked
//! out by comparing two maps cell by cell.
//!
//! Owns the kinds of mutations and the truth about them; how the data become a side is up to the test.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use super::line_tools::outcome::Stored;
use gapless::compare::{Class, Counts};
use gapless::window::{DAY, HOUR};
use std::collections::{BTreeMap, BTreeSet};

/// Days of the data, counted from zero.
pub const DAYS: i64 = 3;
/// Series of a namespace.
pub const SERIES: u16 = 24;

/// A row: number of the namespace, number of the series, time.
pub type RowKey = (u8, u16, i64);
pub type Row = BTreeMap<u8, Stored>;
pub type Data = BTreeMap<RowKey, Row>;

/// A small generator, so that a failure can be repeated from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
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

    fn time(&mut self) -> i64 {
        i64::try_from(self.next() % u64::try_from(DAYS * DAY).unwrap()).unwrap()
    }

    /// The first or the last time of an hour, or of a day.
    fn edge(&mut self) -> i64 {
        let length = if self.below(2) == 0 { HOUR } else { DAY };
        let last = i64::try_from(self.below(2)).unwrap();
        self.time() / length * length + last * (length - 1)
    }
}

/// Measurements as they occur, and as they are hard.
const MEASUREMENTS: [&str; 4] = ["cpu", "disk\\ io", "m\\,x", "größe"];

fn measurement(series: u16) -> usize {
    usize::from(series) % MEASUREMENTS.len()
}

/// The same number is the same series everywhere.
pub fn series_key(number: u16) -> String {
    let measurement = MEASUREMENTS[measurement(number)];
    match number % 3 {
        0 => format!("{measurement},host=h{number}"),
        1 => format!("{measurement},dc=eu\\ 1,host=h\\=\\,{number}"),
        _ => format!("{measurement},host=\"h{number}\",rack=a\\\\b"),
    }
}

/// So many namespaces, each with the same series; some rows stand at the ends of hours and days.
pub fn data(random: &mut Random, namespaces: u8, rows: usize) -> Data {
    let mut data = Data::new();
    for namespace in 0..namespaces {
        for series in 0..SERIES {
            for number in 0..rows {
                let time = if number % 5 == 0 { random.edge() } else { random.time() };
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

/// What is planted, one word each.
pub const KINDS: [&str; 12] = [
    "cell dropped",
    "row dropped",
    "row doubled",
    "bit of a value",
    "one nanosecond",
    "type",
    "tags",
    "another series",
    "values exchanged",
    "even number of rows shifted",
    "edits that cancel",
    "cell added",
];
/// What is planted at a level above the point.
pub const LEVELS: [&str; 5] =
    ["hour of a series", "series", "day of a measurement", "measurement", "namespace"];

/// What is planted into a copy of the data, and which rows were touched.
pub struct Mutant {
    pub data: Data,
    namespaces: u8,
    /// Only what a server takes: UTF-8, no unsigned integers, one type of a field in a day.
    is_real: bool,
    touched: BTreeSet<RowKey>,
    /// Namespace, measurement, field and day of what gets another type in the end.
    retyped: BTreeSet<(u8, usize, u8, i64)>,
    /// How often each of [`KINDS`] was planted.
    pub kinds: [u64; KINDS.len()],
    /// How often each of [`LEVELS`] was.
    pub levels: [u64; LEVELS.len()],
}

impl Mutant {
    pub fn new(data: &Data, namespaces: u8, is_real: bool) -> Self {
        let (touched, retyped) = (BTreeSet::new(), BTreeSet::new());
        let (kinds, levels) = Default::default();
        Self { data: data.clone(), namespaces, is_real, touched, retyped, kinds, levels }
    }

    pub fn planted(&self) -> u64 {
        self.kinds.iter().chain(&self.levels).sum()
    }

    /// A row that was not touched yet.
    fn row(&mut self, random: &mut Random) -> Option<RowKey> {
        for _ in 0..20 {
            let namespace = u8::try_from(random.below(usize::from(self.namespaces))).unwrap();
            let series = u16::try_from(random.below(usize::from(SERIES))).unwrap();
            let of_series = || {
                self.data.range((namespace, series, i64::MIN)..(namespace, series + 1, i64::MIN))
            };
            let rows = of_series().count();
            if rows == 0 {
                continue;
            }
            let found = of_series().nth(random.below(rows)).map(|(key, _)| *key);
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

    pub fn plant(&mut self, random: &mut Random) {
        let Some(key) = self.row(random) else { return };
        let (namespace, series, time) = key;
        let row = self.data[&key].clone();
        let field = *row.keys().nth(random.below(row.len())).unwrap();
        let kind = random.below(KINDS.len());
        match kind {
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
                self.set(key, field, self.flipped(&row[&field], bit));
            }
            4 => {
                let shift = if random.below(2) == 0 { 1 } else { -1 };
                self.data.remove(&key);
                self.copy_to((namespace, series, time + shift), row);
            }
            5 if self.is_real => {
                let day = time.div_euclid(DAY);
                self.retyped.insert((namespace, measurement(series), field, day));
            }
            5 => self.set(key, field, retyped(&row[&field], false)),
            6 => {
                self.data.remove(&key);
                self.copy_to((namespace, series + 100, time), row);
            }
            7 => {
                self.data.remove(&key);
                self.copy_to((namespace, (series + 1) % SERIES, time), row);
            }
            8 => self.exchange(key, random),
            9 => self.shift_rows(key, random),
            10 => self.cancel(key, random),
            _ => {
                let absent = (0..4).find(|field| !row.contains_key(field)).unwrap_or(4);
                self.set(key, absent, random.value(absent));
            }
        }
        self.kinds[kind] += 1;
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

    /// Two series exchange the values of a row.
    fn exchange(&mut self, key: RowKey, random: &mut Random) {
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
    pub fn drop_level(&mut self, random: &mut Random, level: usize) {
        let Some((namespace, series, time)) = self.row(random) else { return };
        let gone = |key: &RowKey| {
            let same = |length: i64| key.2.div_euclid(length) == time.div_euclid(length);
            let measured = measurement(key.1) == measurement(series);
            key.0 == namespace
                && match level {
                    0 => key.1 == series && same(HOUR),
                    1 => key.1 == series,
                    2 => measured && same(DAY),
                    3 => measured,
                    _ => true,
                }
        };
        self.data.retain(|key, _| !gone(key));
        self.levels[level] += 1;
    }

    /// Gives another type to what was chosen for it, wherever it stands by now.
    pub fn retype(&mut self) {
        for ((namespace, series, time), row) in &mut self.data {
            let (measurement, day) = (measurement(*series), time.div_euclid(DAY));
            for (field, value) in row {
                if self.retyped.contains(&(*namespace, measurement, *field, day)) {
                    *value = retyped(value, true);
                }
            }
        }
    }

    /// The same with one bit flipped.
    fn flipped(&self, stored: &Stored, bit: u32) -> Stored {
        match stored {
            Stored::Float(bits) => Stored::Float(bits ^ (1 << bit)),
            Stored::Integer(integer) => Stored::Integer(integer ^ (1 << bit)),
            Stored::Unsigned(unsigned) => Stored::Unsigned(unsigned ^ (1 << bit)),
            Stored::Boolean(boolean) => Stored::Boolean(!boolean),
            Stored::String(text) => {
                let mut text = text.clone();
                let at = bit as usize % text.len();
                text[at] ^= 1 << (bit % if self.is_real { 4 } else { 8 });
                Stored::String(text)
            }
        }
    }
}

/// The same number, as far as there is one, of another type.
#[allow(clippy::cast_possible_truncation, reason = "what a client without an i does")]
fn retyped(stored: &Stored, is_real: bool) -> Stored {
    match stored {
        Stored::Integer(integer) if is_real => Stored::Float((*integer as f64).to_bits()),
        Stored::Float(bits) if is_real => Stored::Integer(f64::from_bits(*bits) as i64),
        Stored::Integer(integer) => Stored::Unsigned(integer.unsigned_abs()),
        Stored::Float(bits) => Stored::Integer(bits.cast_signed()),
        Stored::Unsigned(_) | Stored::Boolean(_) => Stored::String(b"true".to_vec()),
        Stored::String(_) => Stored::Boolean(true),
    }
}

/// A cell that differs, and what both sides hold.
pub struct Difference {
    pub row: RowKey,
    pub field: u8,
    pub class: Class,
    pub source: Option<Stored>,
    pub destination: Option<Stored>,
}

/// What differs, worked out cell by cell, and the counts.
pub fn truth(source: &Data, destination: &Data) -> (Vec<Difference>, Counts) {
    let cells = |data: &Data| -> BTreeMap<(RowKey, u8), Stored> {
        let cells = data.iter().flat_map(|(key, row)| {
            row.iter().map(|(field, value)| ((*key, *field), value.clone()))
        });
        cells.collect()
    };
    let (ours, theirs) = (cells(source), cells(destination));
    let mut counts =
        Counts { source: ours.len() as u64, destination: theirs.len() as u64, ..Counts::default() };
    let mut differences = Vec::new();
    let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).copied().collect();
    for (row, field) in keys {
        let (one, two) = (ours.get(&(row, field)), theirs.get(&(row, field)));
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
        let (source, destination) = (one.cloned(), two.cloned());
        differences.push(Difference { row, field, class, source, destination });
    }
    (differences, counts)
}
