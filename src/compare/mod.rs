//! Compares one unit of two sides: digests first, cells only where the digests differ.
//!
//! A unit is a namespace and a window. Each side is read once and gives a set of digests by series
//! and hour; the sets are merge-joined. Where a place is missing on one side, its cells are counted
//! without a further look; where both hold something else, that place is read again on both sides
//! and the cells are told apart. Nothing here knows what will be done with the answer.

mod drill;

use self::drill::{Drill, groups};
use crate::digest::cell::{KeyHash, SeriesHash};
use crate::digest::node::Node;
use crate::digest::set::{self, BothSides, DigestSet, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Filter, Namespace, Scope};
use crate::series::Series;
use crate::source::{Source, for_each_block, plan_or_nothing};
use crate::types::TypeTable;
use crate::value::Value;
use crate::window::{HOUR, Window};
use std::collections::HashSet;
use std::ops::AddAssign;
use std::sync::Arc;

/// The unit of comparison.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The namespace, as the source names it.
    pub source: Namespace,
    /// The source has no such namespace.
    pub source_lacks: bool,
    /// The namespace, as the destination names it.
    pub destination: Namespace,
    /// The time range.
    pub window: Window,
}

/// What limits and filters a comparison.
#[derive(Clone, Debug)]
pub struct Options {
    /// Series to compare.
    pub filter: Filter,
    /// Bytes that the digests of one side of one unit may take.
    pub memory_max: usize,
    /// Findings that are kept with their values; counts go on beyond.
    pub findings_max: usize,
    /// Tell apart even the cells of places that the destination lacks altogether.
    pub drill_missing: bool,
    /// Note which cells the destination lacks, and not only how many.
    pub note_missing: bool,
    /// Note which cells the destination holds with another value.
    pub note_changed: bool,
}

/// One side of one unit, read once.
#[derive(Debug, Default)]
pub struct Digest {
    /// Digests by series and hour.
    pub set: DigestSet,
    /// Types that each field has in the unit.
    pub types: TypeTable,
}

/// Counts of cells. Every cell of either side is in exactly one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Cells read from the source.
    pub source: u64,
    /// Cells read from the destination.
    pub destination: u64,
    /// The same on both sides.
    pub matched: u64,
    /// At the source only.
    pub missing_in_destination: u64,
    /// At the destination only.
    pub extra_in_destination: u64,
    /// On both sides, with another value of the same type.
    pub value_changed: u64,
    /// On both sides, with another type.
    pub type_changed: u64,
    /// Cells of either side that the other cannot show.
    pub unprovable: u64,
    /// Cells of places that changed between two readings, so that nothing can be said of them.
    pub unstable: u64,
}

impl Counts {
    /// Cells that differ in value or type.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.value_changed + self.type_changed
    }

    /// Cells in which the sides differ.
    #[must_use]
    pub fn different(&self) -> u64 {
        self.missing_in_destination + self.extra_in_destination + self.changed()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.source += other.source;
        self.destination += other.destination;
        self.matched += other.matched;
        self.missing_in_destination += other.missing_in_destination;
        self.extra_in_destination += other.extra_in_destination;
        self.value_changed += other.value_changed;
        self.type_changed += other.type_changed;
        self.unprovable += other.unprovable;
        self.unstable += other.unstable;
    }
}

/// How one cell differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// At the source only.
    MissingInDestination,
    /// At the destination only.
    ExtraInDestination,
    /// Another value of the same type.
    ValueChanged,
    /// Another type.
    TypeChanged,
}

/// A place in which the sides differ, with its counts.
#[derive(Clone, Debug)]
pub struct PlaceFinding {
    /// The series.
    pub series: Arc<Series>,
    /// The hour, cut to the unit.
    pub window: Window,
    /// Counts of this place.
    pub counts: Counts,
}

/// A cell in which the sides differ, with both values.
#[derive(Clone, Debug)]
pub struct CellFinding {
    /// The series.
    pub series: Arc<Series>,
    /// Field key, unescaped.
    pub field: Arc<[u8]>,
    /// Nanoseconds.
    pub time: i64,
    /// How it differs.
    pub class: Class,
    /// The source's value.
    pub source: Option<OwnedValue>,
    /// The destination's value.
    pub destination: Option<OwnedValue>,
}

/// A value that outlives the block it was read from.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    /// Any type but string.
    Scalar(Value<'static>),
    /// A string.
    String(Box<[u8]>),
}

impl OwnedValue {
    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Float(value) => Self::Scalar(Value::Float(value)),
            Value::Integer(value) => Self::Scalar(Value::Integer(value)),
            Value::Unsigned(value) => Self::Scalar(Value::Unsigned(value)),
            Value::Boolean(value) => Self::Scalar(Value::Boolean(value)),
            Value::String(bytes) => Self::String(bytes.into()),
        }
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Scalar(value) => *value,
            Self::String(bytes) => Value::String(bytes),
        }
    }
}

/// Cells that the destination lacks.
#[derive(Debug, Default)]
pub struct Missing {
    /// Places that it lacks altogether.
    pub places: HashSet<Place>,
    /// Places that it cannot show, so that nobody can say what it lacks there.
    pub unprovable: HashSet<Place>,
    /// Places that it holds in part or with other values.
    pub partial: HashSet<Place>,
    /// Cells that it lacks in `partial` places.
    pub cells: HashSet<KeyHash>,
    /// Cells that it holds with another value or type in `partial` places.
    pub changed: HashSet<KeyHash>,
}

/// What comparing one unit found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Counts of the unit.
    pub counts: Counts,
    /// Every place that differs, up to the limit.
    pub places: Vec<PlaceFinding>,
    /// Cells that differ in places that both sides hold, up to the limit.
    pub cells: Vec<CellFinding>,
    /// What the destination lacks.
    pub missing: Missing,
    /// Sum of what the source holds.
    pub source: Node,
    /// Sum of what the destination holds.
    pub destination: Node,
}

/// Reads one side of a unit and digests it.
///
/// # Errors
/// Where the side cannot be read, or its digests take more than `options.memory_max`.
pub fn digest(
    side: &dyn Source,
    namespace: &Namespace,
    window: Window,
    options: &Options,
) -> Result<Digest> {
    let mut set = DigestSet::default();
    let mut types = TypeTable::default();
    let partitions = plan_or_nothing(side, &Scope::new(namespace, window, &options.filter))?;
    for_each_block(side, &partitions, |block| {
        set.add_block(block, |series| options.filter.admits(series));
        types.add_block(block, |series| options.filter.admits(series));
        within_memory(&set, side, window, options.memory_max)
    })?;
    Ok(Digest { set: set.finish(), types })
}

fn within_memory(set: &DigestSet, side: &dyn Source, window: Window, max: usize) -> Result<()> {
    if set.memory() <= max {
        return Ok(());
    }
    let what = format!("the digests of {} from {window}", side.name());
    let limit = ErrorKind::Limit { what, max: format!("{} MiB of --memory", max >> 20) };
    Err(Error::from(limit)
        .with_next("give a larger --memory, or a shorter window with --start and --end"))
}

impl Unit {
    /// Two halves that part at an hour, so that no place lies in both; nothing where there is only
    /// one hour.
    #[must_use]
    pub fn halves(&self) -> Option<[Self; 2]> {
        let (first, last) = (set::hour_of(self.window.start), set::hour_of(self.window.end - 1));
        let middle = (first + (last - first).div_euclid(2) + 1) * HOUR;
        let part = |window: Window| Self { window, ..self.clone() };
        (first < last).then(|| {
            [
                part(Window { start: self.window.start, end: middle }),
                part(Window { start: middle, end: self.window.end }),
            ]
        })
    }
}

/// Does `work` on a unit or, where that needs too much memory, on its halves, one after the other.
///
/// # Errors
/// Where `work` fails for another reason, or a single hour is too much.
pub fn in_parts(unit: &Unit, work: &dyn Fn(&Unit) -> Result<()>) -> Result<()> {
    match work(unit) {
        Err(error) if matches!(error.kind(), ErrorKind::Limit { .. }) => {
            let Some(halves) = unit.halves() else { return Err(error) };
            halves.iter().try_for_each(|half| in_parts(half, work))
        }
        outcome => outcome,
    }
}

/// Counts the cells of one side.
///
/// # Errors
/// Where the side cannot be read.
pub fn count(
    side: &dyn Source,
    namespace: &Namespace,
    window: Window,
    filter: &Filter,
) -> Result<u64> {
    let mut cells = 0;
    let partitions = plan_or_nothing(side, &Scope::new(namespace, window, filter))?;
    for_each_block(side, &partitions, |block| {
        for (_, rows) in block.runs().filter(|(series, _)| filter.admits(series)) {
            let present =
                |row| block.columns().iter().filter(move |column| column.get(row).is_some());
            cells += rows.map(|row| present(row).count() as u64).sum::<u64>();
        }
        Ok(())
    })?;
    Ok(cells)
}

/// Compares the digests of one unit and tells the cells apart where they differ.
///
/// # Errors
/// Where a side cannot be read again.
pub fn compare(
    source: (&dyn Source, &Digest),
    destination: (&dyn Source, &Digest),
    unit: &Unit,
    options: &Options,
) -> Result<Findings> {
    let mut findings = Findings {
        source: source.1.set.total(),
        destination: destination.1.set.total(),
        ..Findings::default()
    };
    findings.counts.source = findings.source.cells;
    findings.counts.destination = findings.destination.cells;
    let hidden = hidden(source, destination);
    let mut again = Vec::new();
    for place in set::join(source.1.set.leaves(), destination.1.set.leaves()) {
        let lacks = place.destination.cells == 0 && !options.drill_missing;
        if hidden.contains(&place.place.0) {
            findings.hidden_place(&place, options);
        } else if place.source == place.destination {
            findings.counts.matched += place.source.cells;
        } else if place.source.cells == 0 || lacks {
            findings.whole_place(&place, source.1, destination.1, unit, options);
        } else {
            again.push(place);
        }
    }
    for group in groups(again, source.1, destination.1) {
        Drill::new(&group, source.1, destination.1).run(
            source.0,
            destination.0,
            unit,
            options,
            &mut findings,
        )?;
    }
    Ok(findings)
}

/// Series that one of the sides cannot show although the other holds them.
fn hidden(
    source: (&dyn Source, &Digest),
    destination: (&dyn Source, &Digest),
) -> HashSet<SeriesHash> {
    if source.0.sees_raw_keys() == destination.0.sees_raw_keys() {
        return HashSet::new();
    }
    source.1.set.hidden_from_queries().chain(destination.1.set.hidden_from_queries()).collect()
}

/// The series of a place, by either side's dictionary.
fn series_of(hash: SeriesHash, source: &Digest, destination: &Digest) -> Option<Arc<Series>> {
    source.set.series(hash).chain(destination.set.series(hash)).next().cloned()
}

impl Findings {
    /// What is known where there is nothing to compare with.
    #[must_use]
    pub fn of_source(source: Node) -> Self {
        let counts = Counts { source: source.cells, ..Counts::default() };
        Self { counts, source, ..Self::default() }
    }

    /// Records a place that only one side holds.
    fn whole_place(
        &mut self,
        difference: &BothSides,
        source: &Digest,
        destination: &Digest,
        unit: &Unit,
        options: &Options,
    ) {
        let counts = Counts {
            source: difference.source.cells,
            destination: difference.destination.cells,
            missing_in_destination: difference.source.cells,
            extra_in_destination: difference.destination.cells,
            ..Counts::default()
        };
        if difference.source.cells > 0 && options.note_missing {
            self.missing.places.insert(difference.place);
        }
        self.counts.missing_in_destination += counts.missing_in_destination;
        self.counts.extra_in_destination += counts.extra_in_destination;
        if let Some(series) = series_of(difference.place.0, source, destination) {
            self.add_place(series, difference.place, counts, unit, options);
        }
    }

    fn add_place(
        &mut self,
        series: Arc<Series>,
        place: Place,
        counts: Counts,
        unit: &Unit,
        options: &Options,
    ) {
        if self.places.len() < options.findings_max
            && let Some(window) = hour_window(place.1).intersect(unit.window)
        {
            self.places.push(PlaceFinding { series, window, counts });
        }
    }

    /// Counts the cells of a hidden series in one place. What the destination shows there may be
    /// newer than the source, so only a place that shows nothing counts as lacking.
    fn hidden_place(&mut self, place: &BothSides, options: &Options) {
        self.counts.unprovable += place.source.cells.max(place.destination.cells);
        let sendable = place.destination.cells == 0 || options.note_changed;
        if options.note_missing && place.source.cells > 0 && sendable {
            self.missing.unprovable.insert(place.place);
        }
    }
}

/// The hour of a place as a window; at the ends of time it is shorter.
fn hour_window(hour: i64) -> Window {
    let start = hour.saturating_mul(HOUR);
    Window { start, end: start.saturating_add(HOUR) }
}
