//! `inspect`: what a source holds, by namespace and measurement, from one reading of all of it.
//!
//! Series are counted by their identity, as everywhere else, through 64-bit hashes: exactly, but
//! for a chance of about one in a million that two of ten million have the same. Their number is
//! bounded by the caller; beyond the bound the count says how many there are at least, and that it
//! is no more than that. Nothing is estimated.

use crate::block::Block;
use crate::digest::cell::SeriesHasher;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::{Progress, Stage};
use crate::plan::{Filter, Held, Scope};
use crate::series::Series;
use crate::source::{Source, for_each_block};
use crate::value::FieldType;
use crate::window::Window;
use std::collections::{BTreeMap, HashSet};
use std::iter::Sum;
use std::ops::Range;
use std::sync::Arc;

/// What is looked at, and how much of it may be kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The time range.
    pub window: Window,
    /// The series.
    pub filter: Filter,
    /// Series of one namespace that are told apart: about 20 bytes each.
    pub series_max: usize,
    /// Measurements and fields of one namespace, each field once a type. More of them are an error.
    pub names_max: usize,
}

/// A number of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many, and no more.
    Exactly(u64),
    /// So many, perhaps more: the limit was reached.
    AtLeast(u64),
}

impl Count {
    /// The number, of which there may be more.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Exactly(number) | Self::AtLeast(number) => number,
        }
    }

    /// True where it is the whole number.
    #[must_use]
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Exactly(_))
    }
}

/// Counts of series that have nothing in common.
impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::Exactly(0), |one, two| {
            let number = one.number() + two.number();
            if one.is_exact() && two.is_exact() {
                Self::Exactly(number)
            } else {
                Self::AtLeast(number)
            }
        })
    }
}

/// What one namespace holds in the scope.
#[derive(Clone, Debug)]
pub struct NamespaceFacts {
    /// Names and settings.
    pub held: Held,
    /// Measurements that have cells, by name, unescaped.
    pub measurements: BTreeMap<Box<[u8]>, MeasurementFacts>,
}

/// What one measurement holds in the scope.
#[derive(Clone, Debug)]
pub struct MeasurementFacts {
    /// Series that have cells.
    pub series: Count,
    /// Rows: a series and time each.
    pub rows: u64,
    /// Cells.
    pub cells: u64,
    /// Time of the oldest row, nanoseconds.
    pub first: i64,
    /// Time of the newest row, nanoseconds.
    pub last: i64,
    /// Cells by field key, unescaped, and type.
    pub fields: BTreeMap<(Arc<[u8]>, FieldType), u64>,
}

/// Goes once through everything that `held` names. A namespace without cells has no measurements.
///
/// # Errors
/// Where the source cannot be read, or holds more names than the limit.
pub fn run(
    source: &dyn Source,
    held: &[Held],
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<NamespaceFacts>> {
    progress.done(Stage::Read, 0, 0);
    held.iter().map(|held| namespace(source, held, options, progress)).collect()
}

fn namespace(
    source: &dyn Source,
    held: &Held,
    options: &Options,
    progress: &dyn Progress,
) -> Result<NamespaceFacts> {
    let scope = Scope::new(&held.namespace, options.window, &options.filter);
    let mut gathered = Gathered { series_left: options.series_max, ..Gathered::default() };
    for_each_block(source, &source.plan(&scope)?, |block| {
        let cells = gathered.block(block, &options.filter);
        progress.done(Stage::Read, cells, 0);
        if gathered.names <= options.names_max {
            return Ok(());
        }
        let what = format!("the number of measurements and fields in {}", held.namespace);
        let limit = ErrorKind::Limit { what, max: options.names_max.to_string() };
        Err(Error::from(limit).with_next("look at fewer, with --measurement or --exclude"))
    })?;
    let measurements = gathered.measurements.into_iter();
    let measurements = measurements.map(|(name, one)| (name, one.facts())).collect();
    Ok(NamespaceFacts { held: held.clone(), measurements })
}

/// One namespace on the way.
#[derive(Default)]
struct Gathered {
    measurements: BTreeMap<Box<[u8]>, Measured>,
    /// Measurements and fields.
    names: usize,
    /// Series that may still be kept.
    series_left: usize,
    /// Hashes of the present block; kept for its room.
    hashes: Vec<u64>,
}

/// One measurement on the way.
#[derive(Default)]
struct Measured {
    series: HashSet<u64, foldhash::fast::RandomState>,
    /// Most series of one block that are not among those kept: so many are known besides.
    series_beyond: usize,
    rows: u64,
    cells: u64,
    times: Option<(i64, i64)>,
    fields: BTreeMap<(Arc<[u8]>, FieldType), u64>,
}

impl Gathered {
    /// Adds what is wanted of a block; returns the number of its cells.
    fn block(&mut self, block: &Block, filter: &Filter) -> u64 {
        let wanted: Vec<(&Series, Range<usize>)> = block
            .runs()
            .filter(|(series, _)| filter.admits(series))
            .map(|(series, rows)| (&**series, rows))
            .collect();
        let Some((series, _)) = wanted.first() else { return 0 };
        let name = series.measurement();
        if !self.measurements.contains_key(name) {
            self.measurements.insert(name.into(), Measured::default());
            self.names += 1;
        }
        let Some(measured) = self.measurements.get_mut(name) else { return 0 };
        measured.add_rows(block, &wanted);
        let known = measured.fields.len();
        let cells = measured.add_cells(block, &wanted);
        self.names += measured.fields.len() - known;
        self.hashes.clear();
        self.hashes.extend(wanted.iter().map(|(series, _)| hash(series)));
        measured.add_series(&mut self.hashes, &mut self.series_left);
        cells
    }
}

impl Measured {
    fn add_rows(&mut self, block: &Block, wanted: &[(&Series, Range<usize>)]) {
        for (_, rows) in wanted {
            self.rows += rows.len() as u64;
            // Rows of a series are in order of time.
            let times = &block.times()[rows.clone()];
            if let [first, .., last] | [first @ last] = times {
                let (oldest, newest) = self.times.unwrap_or((*first, *last));
                self.times = Some((oldest.min(*first), newest.max(*last)));
            }
        }
    }

    fn add_cells(&mut self, block: &Block, wanted: &[(&Series, Range<usize>)]) -> u64 {
        let all = wanted.iter().map(|(_, rows)| rows.len()).sum::<usize>() == block.rows();
        let mut total = 0;
        for column in block.columns() {
            let cells = if all {
                column.cells()
            } else {
                let rows = wanted.iter().flat_map(|(_, rows)| rows.clone());
                rows.filter(|row| column.get(*row).is_some()).count() as u64
            };
            if cells > 0 {
                let field = (Arc::clone(&column.field), column.field_type());
                *self.fields.entry(field).or_default() += cells;
                total += cells;
            }
        }
        self.cells += total;
        total
    }

    /// Keeps the series that are new, as many as there is room for.
    fn add_series(&mut self, hashes: &mut Vec<u64>, left: &mut usize) {
        // Two spellings of one identity may stand in one block.
        hashes.sort_unstable();
        hashes.dedup();
        let mut beyond = 0;
        for hash in hashes {
            if *left > 0 {
                *left -= usize::from(self.series.insert(*hash));
            } else if !self.series.contains(hash) {
                beyond += 1;
            }
        }
        self.series_beyond = self.series_beyond.max(beyond);
    }

    fn facts(self) -> MeasurementFacts {
        let series = (self.series.len() + self.series_beyond) as u64;
        let (first, last) = self.times.unwrap_or_default();
        MeasurementFacts {
            series: match self.series_beyond {
                0 => Count::Exactly(series),
                _ => Count::AtLeast(series),
            },
            rows: self.rows,
            cells: self.cells,
            first,
            last,
            fields: self.fields,
        }
    }
}

/// Half of the identity's hash.
fn hash(series: &Series) -> u64 {
    // The low half: the rest is cut off on purpose.
    u64::try_from(SeriesHasher::new(series).series().0 & u128::from(u64::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
