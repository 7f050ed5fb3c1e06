//! Compares one unit of two sides: digests first, cells only where the digests differ.
//!
//! A unit is a namespace and a window. Each side is read once and gives a set of digests by series
//! and bucket of time; the sets are merge-joined, one range of series hashes after the other, so that memory
//! stays bounded however many series there are. Where a place is missing on one side, its cells are
//! counted without a further look; where both hold something else, that place is read again on both
//! sides and the cells are told apart. Where a digest file stands for a side, nothing can be read again
//! there: what the sums prove of such a place is said instead. Nothing here knows what will be done with
//! the answer.

mod drill;
mod gone;
mod name;
pub mod recheck;
pub mod same;
mod sums;
pub mod timeline;

pub(crate) use self::drill::partitions_of;
pub use self::sums::Proven;

use self::drill::{Drill, groups};
use self::same::{Same, Seeker};
use self::timeline::Timeline;
use crate::digest::cell::{KeyHash, SeriesHash, ValueHash};
use crate::digest::grid::{Place, Places};
use crate::digest::join::{BothSides, hidden_from_queries, join};
use crate::digest::leaf::Leaf;
use crate::digest::node::Node;
use crate::digest::set::{self, Builder, DigestSet, FOLD_FROM, HashRange};
use crate::error::Result;
use crate::plan::{Filter, Namespace, Scope};
use crate::series::Series;
use crate::source::{Source, for_each_block, plan_or_nothing};
use crate::spill;
use crate::types::TypeTable;
use crate::value::Value;
use crate::window::Window;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
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
    /// Tell apart even the cells of places that the source lacks altogether.
    pub drill_extra: bool,
    /// Who is shown every cell that is told apart.
    pub observer: Option<Arc<dyn Observe>>,
    /// Note which cells the destination lacks, and not only how many.
    pub note_missing: bool,
    /// Which cells to note where the destination holds them with another value.
    pub note_changed: Note,
}

/// Cells that are to be noted.
#[derive(Clone, Debug, Default)]
pub enum Note {
    /// None.
    #[default]
    Nothing,
    /// All.
    Everything,
    /// These.
    Only(Arc<Cells>),
}

/// Some cells: all of some places, and single ones.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// Places of which every cell is meant.
    pub places: Places,
    /// Cells of other places.
    pub cells: HashSet<KeyHash>,
}

impl Note {
    fn holds(&self, series: SeriesHash, time: i64, cell: KeyHash) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Only(some) => {
                some.places.at(series, time).is_some() || some.cells.contains(&cell)
            }
        }
    }
}

impl Options {
    /// Limits, with which cells are told apart only where both sides hold some.
    #[must_use]
    pub fn new(
        filter: Filter,
        memory_max: usize,
        spill: spill::Place,
        findings_max: usize,
    ) -> Self {
        Self {
            filter,
            memory_max,
            spill,
            findings_max,
            drill_missing: false,
            drill_extra: false,
            observer: None,
            note_missing: false,
            note_changed: Note::Nothing,
        }
    }
}

/// Is shown every cell of the places that are told apart, also those that are the same on both sides.
/// Called from worker threads. Of a place that turns out to be unstable, cells may have been shown.
pub trait Observe: Send + Sync + Debug {
    /// One cell.
    fn cell(&self, unit: &Unit, cell: &Seen<'_>);

    /// Every cell of a window that is told apart was shown, of the measurement at hand. A unit is gone
    /// through by one thread, window after window.
    fn passed(&self, _unit: &Unit, _window: Window) {}
}

/// A cell, as both sides hold it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The series, as the side names it that holds it; the source where both do.
    pub series: &'a Arc<Series>,
    /// Field key, unescaped.
    pub field: &'a Arc<[u8]>,
    /// Nanoseconds.
    pub time: i64,
    /// How it differs; `None` where it does not.
    pub class: Option<Class>,
    /// The source's value.
    pub source: Option<Value<'a>>,
    /// The destination's value.
    pub destination: Option<Value<'a>>,
}

/// One side of one unit, read once.
#[derive(Debug, Default)]
pub struct Digest {
    /// Digests by series and bucket of time.
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
    /// Cells of places that differed when they were read first, and agree since they were read again.
    /// They are among the matched ones.
    #[serde(default)]
    pub transient: u64,
    /// Cells of places that differ, and that retention policies reached meanwhile.
    #[serde(default)]
    pub expired: u64,
    /// Cells of places that differ, and in which a digest file stands for one side, so that they cannot
    /// be told apart.
    #[serde(default)]
    pub unresolved: u64,
}

impl Counts {
    /// Cells that differ in value or type.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.value_changed + self.type_changed
    }

    /// Cells that were told apart and in which the sides differ. Where there are unresolved ones, the
    /// sides differ in some of them, too.
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
        self.transient += other.transient;
        self.expired += other.expired;
        self.unresolved += other.unresolved;
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
    /// The bucket of time, cut to the unit.
    pub window: Window,
    /// Counts of this place.
    pub counts: Counts,
    /// What is proven of its unresolved cells, where there are some.
    pub proven: Option<Proven>,
    /// It was judged by its first reading, although a side takes writes.
    pub read_once: bool,
}

impl PlaceFinding {
    /// A place of a series that is known, for tests of what is made of places.
    #[cfg(test)]
    pub(crate) fn new(
        namespace: Namespace,
        hash: SeriesHash,
        series: Arc<Series>,
        window: Window,
        counts: Counts,
    ) -> Self {
        let (measurement, series) = (None, Some(series));
        let (proven, read_once) = (None, false);
        Self { namespace, hash, measurement, series, window, counts, proven, read_once }
    }

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
    /// The source's value; that of a digest file is not known.
    pub source: Option<OwnedValue>,
    /// The destination's value, likewise.
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
    /// The value, kept.
    #[must_use]
    pub fn of(value: Value<'_>) -> Self {
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
    pub places: Places,
    /// Places that it cannot show, so that nobody can say what it lacks there.
    pub unprovable: Places,
    /// Places that it holds in part or with other values.
    pub partial: Places,
    /// Cells that it lacks in `partial` places.
    pub cells: HashSet<KeyHash>,
    /// Cells that it holds with another value or type in `partial` places, as far as they are noted, and
    /// what it holds.
    pub changed: HashMap<KeyHash, ValueHash>,
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
    /// Where both sides agree, by series.
    pub same: Same,
    /// Sum of what the source holds.
    pub source: Node,
    /// Sum of what the destination holds.
    pub destination: Node,
    /// What was read again to tell cells apart.
    pub read_again: ReadAgain,
    /// Cells that differ in places which were judged by their first reading, although a side takes writes.
    pub read_once: u64,
}

/// What was read a second time, on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReadAgain {
    /// Places that differed.
    pub places: u64,
    /// Cells of the blocks that were read for them.
    pub cells: u64,
}

impl AddAssign for ReadAgain {
    fn add_assign(&mut self, other: Self) {
        self.places += other.places;
        self.cells += other.cells;
    }
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
    if let Some(file) = side.digest_file() {
        let set = file.set(namespace, window, options.memory_max, &options.spill)?;
        counted(set.total().cells)?;
        return Ok(Digest { set, types: TypeTable::default() });
    }
    let set = Builder::new(options.memory_max, options.spill.clone());
    let mut set = set.fold_days(window, FOLD_FROM);
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
    if let Some(file) = side.digest_file() {
        return file.cells(namespace, window);
    }
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

    /// True where both can be read again.
    fn hold_rows(&self) -> bool {
        self.source.digest_file().is_none() && self.destination.digest_file().is_none()
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
    let mut all = Findings::of_totals(sides);
    for range in set::ranges(&sides.ours.set, &sides.theirs.set, 2 * options.memory_max) {
        let found = compare_range(sides, unit, range, options)?;
        each(&found.counts, &found.missing)?;
        all.add(found, options.findings_max);
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
    let cut = sides.differ_in_cuts();
    let mut again = Vec::new();
    for place in differing(sides, unit, &ours, &theirs, options, &mut findings) {
        let missing = place.destination.is_none() && !options.drill_missing;
        let extra = place.source.is_none() && !options.drill_extra;
        if missing || extra {
            findings.whole_place(&place, sides, unit, options);
        } else {
            again.push(place);
        }
    }
    if sides.hold_rows() {
        for group in groups(again, sides) {
            Drill::new(&group, unit, cut).run(sides, unit, options, &mut findings)?;
        }
    } else {
        sums::places(again, sides, unit, options, &mut findings)?;
    }
    Ok(findings)
}

/// The places of a range that differ; those that agree, or that a side cannot show, are counted.
fn differing(
    sides: Sides<'_>,
    unit: &Unit,
    ours: &[Leaf],
    theirs: &[Leaf],
    options: &Options,
    findings: &mut Findings,
) -> Vec<BothSides> {
    let hidden = hidden(sides, ours, theirs);
    let cut = sides.differ_in_cuts();
    let (mut differ, mut seeker) = (Vec::new(), Seeker::new(&unit.source));
    for place in join(ours, theirs) {
        findings.timeline.add(&place, unit.window);
        if hidden.contains(&place.place.0) {
            findings.hidden_place(&place, options);
        } else if place.source_node() == place.destination_node() {
            findings.counts.matched += place.source_node().cells;
            seeker.see(place.place.0, place.place.1.window());
        } else if cut && !place.is_on_both() && place.may_be_cut() {
            findings.hidden_place(&place, options);
        } else {
            differ.push(place);
        }
    }
    findings.same = seeker.finish();
    differ
}

/// Series that one of the sides cannot show although the other holds them.
fn hidden(sides: Sides<'_>, ours: &[Leaf], theirs: &[Leaf]) -> HashSet<SeriesHash> {
    if sides.source.sees_raw_keys() == sides.destination.sees_raw_keys() {
        return HashSet::new();
    }
    hidden_from_queries(ours).chain(hidden_from_queries(theirs)).collect()
}

/// The measurement of a place, by either side's names.
fn measurement_of(place: &BothSides, sides: Sides<'_>) -> Option<Arc<[u8]>> {
    let ours = place.source.and_then(|leaf| sides.ours.set.measurement(&leaf));
    let theirs = || place.destination.and_then(|leaf| sides.theirs.set.measurement(&leaf));
    ours.or_else(theirs).cloned()
}

impl Findings {
    /// What both sides hold, nothing being compared yet.
    fn of_totals(sides: Sides<'_>) -> Self {
        let (source, destination) = (sides.ours.set.total(), sides.theirs.set.total());
        let counts =
            Counts { source: source.cells, destination: destination.cells, ..Counts::default() };
        Self { counts, source, destination, ..Self::default() }
    }

    /// Adds what was found of one range of series; the totals and what is missing are not of it.
    fn add(&mut self, found: Self, findings_max: usize) {
        self.counts += found.counts;
        self.timeline += &found.timeline;
        self.same.add(found.same);
        self.read_again += found.read_again;
        self.read_once += found.read_once;
        self.places.extend(found.places);
        self.places.truncate(findings_max);
        self.cells.extend(found.cells);
        self.cells.truncate(findings_max);
    }

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
    fn whole_place(&mut self, place: &BothSides, sides: Sides<'_>, unit: &Unit, options: &Options) {
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
        (hash, bucket): Place,
        measurement: Option<Arc<[u8]>>,
        series: Option<Arc<Series>>,
        counts: Counts,
        unit: &Unit,
        options: &Options,
    ) {
        if self.places.len() < options.findings_max
            && let Some(window) = bucket.window().intersect(unit.window)
        {
            let namespace = unit.source.clone();
            let (proven, read_once) = (None, false);
            self.places.push(PlaceFinding {
                namespace,
                hash,
                measurement,
                series,
                window,
                counts,
                proven,
                read_once,
            });
        }
    }

    /// Counts the cells of a hidden series in one place. What the destination shows there may be
    /// newer than the source, so only a place that shows nothing counts as lacking.
    fn hidden_place(&mut self, place: &BothSides, options: &Options) {
        let (source, destination) = (place.source_node().cells, place.destination_node().cells);
        self.counts.unprovable += source.max(destination);
        let sendable = destination == 0 || matches!(options.note_changed, Note::Everything);
        if options.note_missing && source > 0 && sendable {
            self.missing.unprovable.insert(place.place);
        }
    }
}
