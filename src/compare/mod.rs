//! Compares one unit of two sides: digests first, cells only where the digests differ.
//!
//! A unit is a namespace and a window. Each side is read once and gives a set of digests by series
//! and hour; the sets are merge-joined, one range of series hashes after the other, so that memory
//! stays bounded however many series there are. Where a place is missing on one side, its cells are
//! counted without a further look; where both hold something else, that place is read again on both
//! sides and the cells are told apart. Nothing here knows what will be done with the answer.

mod drill;
mod name;
pub mod timeline;

use self::drill::{Drill, groups};
use self::timeline::Timeline;
use crate::digest::cell::{KeyHash, SeriesHash};
use crate::digest::node::Node;
use crate::digest::set::{self, BothSides, Builder, DigestSet, HashRange, Leaf, Place};
use crate::error::Result;
use crate::plan::{Filter, Namespace, Scope};
use crate::series::Series;
use crate::source::{Source, for_each_block, plan_or_nothing};
use crate::spill;
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
    /// Bytes that the digests of one side of one unit may take in memory.
    pub memory_max: usize,
    /// Where digests go that do not fit in memory.
    pub spill: spill::Place,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// The namespace, as the source names it.
    pub namespace: Namespace,
    /// Hash of the series.
    pub hash: SeriesHash,
    /// The measurement, unescaped, where it is known.
    measurement: Option<Arc<[u8]>>,
    /// The series; unknown until it was met, and for ever where it is gone by then.
    pub series: Option<Arc<Series>>,
    /// The hour, cut to the unit.
    pub window: Window,
    /// Counts of this place.
    pub counts: Counts,
}

impl PlaceFinding {
    /// By what findings are sorted.
    #[must_use]
    pub fn order(&self) -> (&Namespace, Option<&[u8]>, SeriesHash, Window) {
        let key = self.series.as_ref().map(|series| series.key());
        (&self.namespace, key, self.hash, self.window)
    }
}

/// A cell in which the sides differ, with both values.
#[derive(Clone, Debug)]
pub struct CellFinding {
    /// The namespace, as the source names it.
    pub namespace: Namespace,
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
    /// It holds nothing at all: every cell is missing, and none is named here.
    pub everything: bool,
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
    /// Cells of both sides by time.
    pub timeline: Timeline,
    /// Sum of what the source holds.
    pub source: Node,
    /// Sum of what the destination holds.
    pub destination: Node,
}

/// Reads one side of a unit and digests it. `counted` is told the cells of each block, and may put an
/// end to it.
///
/// # Errors
/// Where the side cannot be read, `counted` fails, or digests that do not fit in memory cannot be written to disk.
pub fn digest(
    side: &dyn Source,
    namespace: &Namespace,
    window: Window,
    options: &Options,
    counted: &dyn Fn(u64) -> Result<()>,
) -> Result<Digest> {
    let mut set = Builder::new(options.memory_max, options.spill.clone());
    let mut types = TypeTable::default();
    let partitions = plan_or_nothing(side, &Scope::new(namespace, window, &options.filter))?;
    for_each_block(side, &partitions, |block| {
        types.add_block(block, |series| options.filter.admits(series));
        counted(block.cells())?;
        set.add_block(block, |series| options.filter.admits(series))
    })?;
    Ok(Digest { set: set.finish()?, types })
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

/// The two sides of one unit, digested.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "sources do not ask for Debug")]
pub struct Sides<'a> {
    /// Reads the source.
    pub source: &'a dyn Source,
    /// What it held.
    pub ours: &'a Digest,
    /// Reads the destination.
    pub destination: &'a dyn Source,
    /// What it held.
    pub theirs: &'a Digest,
}

impl Sides<'_> {
    /// True where only one of the sides tells series and field apart by `#!~#`
    /// ([`Source::cuts_keys`]): cells whose names hold it may then be the same under two names.
    fn differ_in_cuts(&self) -> bool {
        self.source.cuts_keys() != self.destination.cuts_keys()
    }
}

/// Compares the digests of one unit, tells the cells apart where they differ, and names the series
/// of the findings. What is missing is handed to `each`, for one range of series after the other.
///
/// # Errors
/// Where a side cannot be read again, or `each` fails.
pub fn compare(
    sides: Sides<'_>,
    unit: &Unit,
    options: &Options,
    mut each: impl FnMut(&Counts, &Missing) -> Result<()>,
) -> Result<Findings> {
    let mut all = Findings {
        source: sides.ours.set.total(),
        destination: sides.theirs.set.total(),
        ..Findings::default()
    };
    all.counts.source = all.source.cells;
    all.counts.destination = all.destination.cells;
    for range in set::ranges(&sides.ours.set, &sides.theirs.set, 2 * options.memory_max) {
        let mut found = compare_range(sides, unit, range, options)?;
        each(&found.counts, &found.missing)?;
        all.counts += found.counts;
        all.timeline += &found.timeline;
        all.places.append(&mut found.places);
        all.places.truncate(options.findings_max);
        all.cells.append(&mut found.cells);
        all.cells.truncate(options.findings_max);
    }
    name::places(&mut all.places, sides, unit, &options.filter)?;
    Ok(all)
}

/// Compares one range of series. The totals are not counted here.
fn compare_range(
    sides: Sides<'_>,
    unit: &Unit,
    range: HashRange,
    options: &Options,
) -> Result<Findings> {
    let (ours, theirs) = (sides.ours.set.leaves(range)?, sides.theirs.set.leaves(range)?);
    let mut findings = Findings::default();
    let hidden = hidden(sides, &ours, &theirs);
    let cut = sides.differ_in_cuts();
    let mut again = Vec::new();
    for place in set::join(&ours, &theirs) {
        findings.timeline.add(&place);
        let lacks = place.destination.is_none() && !options.drill_missing;
        if hidden.contains(&place.place.0) {
            findings.hidden_place(&place, options);
        } else if place.source_node() == place.destination_node() {
            findings.counts.matched += place.source_node().cells;
        } else if cut && !place.is_on_both() && place.may_be_cut() {
            findings.hidden_place(&place, options);
        } else if place.source.is_none() || lacks {
            findings.whole_place(&place, sides, unit, options);
        } else {
            again.push(place);
        }
    }
    for group in groups(again, sides) {
        Drill::new(&group, &unit.source, cut).run(sides, unit, options, &mut findings)?;
    }
    Ok(findings)
}

/// Series that one of the sides cannot show although the other holds them.
fn hidden(sides: Sides<'_>, ours: &[Leaf], theirs: &[Leaf]) -> HashSet<SeriesHash> {
    if sides.source.sees_raw_keys() == sides.destination.sees_raw_keys() {
        return HashSet::new();
    }
    set::hidden_from_queries(ours).chain(set::hidden_from_queries(theirs)).collect()
}

/// The measurement of a place, by either side's names.
fn measurement_of(place: &BothSides<'_>, sides: Sides<'_>) -> Option<Arc<[u8]>> {
    let ours = place.source.and_then(|leaf| sides.ours.set.measurement(leaf));
    let theirs = || place.destination.and_then(|leaf| sides.theirs.set.measurement(leaf));
    ours.or_else(theirs).cloned()
}

impl Findings {
    /// What is known where there is nothing to compare with.
    #[must_use]
    pub fn of_source(source: Node) -> Self {
        let counts = Counts { source: source.cells, ..Counts::default() };
        Self { counts, source, ..Self::default() }
    }

    /// What is known where the destination holds nothing.
    #[must_use]
    pub fn all_missing(source: Node) -> Self {
        let mut findings = Self::of_source(source);
        findings.counts.missing_in_destination = source.cells;
        findings
    }

    /// Records a place that only one side holds.
    fn whole_place(
        &mut self,
        place: &BothSides<'_>,
        sides: Sides<'_>,
        unit: &Unit,
        options: &Options,
    ) {
        let (source, destination) = (place.source_node().cells, place.destination_node().cells);
        let counts = Counts {
            source,
            destination,
            missing_in_destination: source,
            extra_in_destination: destination,
            ..Counts::default()
        };
        if source > 0 && options.note_missing {
            self.missing.places.insert(place.place);
        }
        self.counts.missing_in_destination += source;
        self.counts.extra_in_destination += destination;
        if self.places.len() < options.findings_max {
            let measurement = measurement_of(place, sides);
            self.add_place(place.place, measurement, None, counts, unit, options);
        }
    }

    fn add_place(
        &mut self,
        (hash, hour): Place,
        measurement: Option<Arc<[u8]>>,
        series: Option<Arc<Series>>,
        counts: Counts,
        unit: &Unit,
        options: &Options,
    ) {
        if self.places.len() < options.findings_max
            && let Some(window) = hour_window(hour).intersect(unit.window)
        {
            let namespace = unit.source.clone();
            self.places.push(PlaceFinding { namespace, hash, measurement, series, window, counts });
        }
    }

    /// Counts the cells of a hidden series in one place. What the destination shows there may be
    /// newer than the source, so only a place that shows nothing counts as lacking.
    fn hidden_place(&mut self, place: &BothSides<'_>, options: &Options) {
        let (source, destination) = (place.source_node().cells, place.destination_node().cells);
        self.counts.unprovable += source.max(destination);
        let sendable = destination == 0 || options.note_changed;
        if options.note_missing && source > 0 && sendable {
            self.missing.unprovable.insert(place.place);
        }
    }
}

/// The hour of a place as a window; at the ends of time it is shorter.
fn hour_window(hour: i64) -> Window {
    let start = hour.saturating_mul(HOUR);
    Window { start, end: start.saturating_add(HOUR) }
}
