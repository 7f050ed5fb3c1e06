//! Compares one unit of two sides: digests first, cells only where the digests differ.
//!
//! A unit is a namespace and a window. Each side is read once and gives a set of digests by series
//! and hour; the sets are merge-joined. Where a place is missing on one side, its cells are counted
//! without a further look; where both hold something else, that place is read again on both sides
//! and the cells are told apart. Nothing here knows what will be done with the answer.

use crate::block::Block;
use crate::digest::cell::{FieldHasher, KeyHash, SeriesHash, SeriesHasher, ValueHash};
use crate::digest::node::Node;
use crate::digest::set::{self, DigestSet, LeafDifference, Place, hour_of};
use crate::error::{ErrorKind, Result};
use crate::plan::{Filter, Namespace, Scope};
use crate::series::Series;
use crate::source::Source;
use crate::types::TypeTable;
use crate::value::{FieldType, Value};
use crate::window::{HOUR, Window};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::AddAssign;
use std::sync::Arc;

/// Cells that are held at once while places are read again.
const CELLS_HELD_MAX: u64 = 500_000;

/// The unit of comparison.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The namespace, as the source names it.
    pub source: Namespace,
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
    /// Cells of the source that the destination cannot show, or the reverse.
    pub unprovable: u64,
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
    for_each_block(side, namespace, window, &options.filter, |block| {
        set.add_block(block, &options.filter);
        types.add_block(block);
        within_memory(&set, side, window, options.memory_max)
    })?;
    Ok(Digest { set: set.finish(), types })
}

fn within_memory(set: &DigestSet, side: &dyn Source, window: Window, max: usize) -> Result<()> {
    if set.memory() <= max {
        return Ok(());
    }
    let what = format!("the digests of {} from {window}", side.name());
    let limit = ErrorKind::Limit { what, max: format!("{max} bytes (a quarter of --memory)") };
    Err(crate::error::Error::from(limit)
        .with_next("give a larger --memory, or a shorter window with --start and --end"))
}

/// Hands every block of one side of a unit to `each`.
///
/// # Errors
/// Where the side cannot be read, or `each` fails.
pub fn for_each_block(
    side: &dyn Source,
    namespace: &Namespace,
    window: Window,
    filter: &Filter,
    mut each: impl FnMut(&Block) -> Result<()>,
) -> Result<()> {
    let scope = Scope { namespace: namespace.clone(), window, filter: filter.clone() };
    for partition in side.plan(&scope)? {
        let mut reader = side.open(&partition)?;
        while let Some(block) = reader.next_block()? {
            each(&block)?;
        }
    }
    Ok(())
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
    for difference in set::compare(source.1.set.leaves(), destination.1.set.leaves()) {
        if hidden.contains(&difference.place.0) {
            continue;
        }
        let lacks = difference.destination.cells == 0 && !options.drill_missing;
        if difference.source.cells == 0 || lacks {
            findings.whole_place(&difference, source.1, destination.1, unit, options);
        } else {
            again.push(difference);
        }
    }
    findings.count_hidden(&hidden, source.1, destination.1);
    for group in groups(again, source.1, destination.1) {
        Drill::new(&group, source.1, destination.1).run(
            source.0,
            destination.0,
            unit,
            options,
            &mut findings,
        )?;
    }
    let counts = &mut findings.counts;
    let accounted = counts.missing_in_destination + counts.changed() + counts.unprovable;
    // A side that moves between the two reads can make the second find more than the first.
    counts.matched = counts.source.saturating_sub(accounted);
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
    /// Records a place that only one side holds.
    fn whole_place(
        &mut self,
        difference: &LeafDifference,
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
        if difference.source.cells > 0 {
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

    /// Counts the cells of hidden series and names their places.
    fn count_hidden(
        &mut self,
        hidden: &HashSet<SeriesHash>,
        source: &Digest,
        destination: &Digest,
    ) {
        if hidden.is_empty() {
            return;
        }
        for leaf in source.set.leaves().iter().filter(|leaf| hidden.contains(&leaf.series)) {
            self.counts.unprovable += leaf.node.cells;
            self.missing.unprovable.insert(leaf.place());
        }
        // What the destination shows of them is neither matched nor extra.
        for leaf in destination.set.leaves().iter().filter(|leaf| hidden.contains(&leaf.series)) {
            self.counts.destination -= leaf.node.cells;
        }
    }
}

/// The hour of a place as a window; at the ends of time it is shorter.
fn hour_window(hour: i64) -> Window {
    let start = hour.saturating_mul(HOUR);
    Window { start, end: start.saturating_add(HOUR) }
}

/// Differences of one measurement that are read again together.
struct Group {
    measurement: Vec<u8>,
    window: Window,
    places: Vec<LeafDifference>,
}

/// Groups differences by measurement and time, each group small enough to be held.
fn groups(differences: Vec<LeafDifference>, source: &Digest, destination: &Digest) -> Vec<Group> {
    let mut by_measurement: BTreeMap<Vec<u8>, Vec<LeafDifference>> = BTreeMap::new();
    for difference in differences {
        if let Some(series) = series_of(difference.place.0, source, destination) {
            by_measurement.entry(series.measurement().to_vec()).or_default().push(difference);
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    for (measurement, mut places) in by_measurement {
        places.sort_unstable_by_key(|difference| (difference.place.1, difference.place.0));
        let mut held = u64::MAX;
        for place in places {
            let cells = place.source.cells + place.destination.cells;
            let window = hour_window(place.place.1);
            match groups.last_mut() {
                // An hour that no difference lies in ends a group: it need not be read.
                Some(group)
                    if held.saturating_add(cells) <= CELLS_HELD_MAX
                        && window.start <= group.window.end =>
                {
                    group.window.end = window.end;
                    group.places.push(place);
                    held += cells;
                }
                _ => {
                    held = cells;
                    groups.push(Group {
                        measurement: measurement.clone(),
                        window,
                        places: vec![place],
                    });
                }
            }
        }
    }
    groups
}

/// Reads the places of a group again and tells their cells apart.
struct Drill<'a> {
    group: &'a Group,
    source: &'a Digest,
    destination: &'a Digest,
    counts: HashMap<Place, Counts>,
    /// Cells of the destination that were not met at the source yet.
    held: HashMap<KeyHash, Held>,
}

struct Held {
    place: Place,
    series: Arc<Series>,
    field: Arc<[u8]>,
    time: i64,
    hash: ValueHash,
    value: OwnedValue,
}

impl<'a> Drill<'a> {
    fn new(group: &'a Group, source: &'a Digest, destination: &'a Digest) -> Self {
        let counts = group.places.iter().map(|difference| {
            let counts = Counts {
                source: difference.source.cells,
                destination: difference.destination.cells,
                ..Counts::default()
            };
            (difference.place, counts)
        });
        Self { group, source, destination, counts: counts.collect(), held: HashMap::new() }
    }

    fn run(
        mut self,
        source: &dyn Source,
        destination: &dyn Source,
        unit: &Unit,
        options: &Options,
        findings: &mut Findings,
    ) -> Result<()> {
        let Some(window) = self.group.window.intersect(unit.window) else {
            return Ok(());
        };
        let mut filter = options.filter.clone();
        if let Ok(measurement) = String::from_utf8(self.group.measurement.clone()) {
            filter.measurements = vec![measurement];
        }
        self.each_cell(destination, &unit.destination, window, &filter, |this, cell| {
            let held = Held {
                place: cell.place,
                series: Arc::clone(cell.series),
                field: Arc::clone(cell.field),
                time: cell.time,
                hash: cell.hasher.value(cell.time, cell.value),
                value: OwnedValue::of(cell.value),
            };
            this.held.insert(cell.hasher.key(cell.time), held);
        })?;
        self.each_cell(source, &unit.source, window, &filter, |this, cell| {
            this.meet(cell, options, findings);
        })?;
        self.finish(unit, options, findings);
        Ok(())
    }

    /// One cell of the source against what the destination holds in its place.
    fn meet(&mut self, cell: &Cell<'_>, options: &Options, findings: &mut Findings) {
        let key = cell.hasher.key(cell.time);
        let Some(counts) = self.counts.get_mut(&cell.place) else {
            return;
        };
        let held = self.held.remove(&key);
        let class = match &held {
            None => {
                counts.missing_in_destination += 1;
                findings.missing.cells.insert(key);
                Class::MissingInDestination
            }
            Some(held) if held.hash == cell.hasher.value(cell.time, cell.value) => return,
            Some(held) => {
                findings.missing.changed.insert(key);
                if held.value.value().field_type() == cell.value.field_type() {
                    counts.value_changed += 1;
                    Class::ValueChanged
                } else {
                    counts.type_changed += 1;
                    Class::TypeChanged
                }
            }
        };
        findings.missing.partial.insert(cell.place);
        if findings.cells.len() < options.findings_max {
            findings.cells.push(CellFinding {
                series: Arc::clone(cell.series),
                field: Arc::clone(cell.field),
                time: cell.time,
                class,
                source: Some(OwnedValue::of(cell.value)),
                destination: held.map(|held| held.value),
            });
        }
    }

    /// What is still held is extra; the counts go to the findings.
    fn finish(mut self, unit: &Unit, options: &Options, findings: &mut Findings) {
        let mut extra: Vec<Held> = std::mem::take(&mut self.held).into_values().collect();
        extra.sort_unstable_by(|a, b| {
            (a.series.key(), a.time, &a.field).cmp(&(b.series.key(), b.time, &b.field))
        });
        for held in extra {
            if let Some(counts) = self.counts.get_mut(&held.place) {
                counts.extra_in_destination += 1;
            }
            if findings.cells.len() < options.findings_max {
                findings.cells.push(CellFinding {
                    series: held.series,
                    field: held.field,
                    time: held.time,
                    class: Class::ExtraInDestination,
                    source: None,
                    destination: Some(held.value),
                });
            }
        }
        for difference in &self.group.places {
            let counts = self.counts[&difference.place];
            findings.counts.missing_in_destination += counts.missing_in_destination;
            findings.counts.extra_in_destination += counts.extra_in_destination;
            findings.counts.value_changed += counts.value_changed;
            findings.counts.type_changed += counts.type_changed;
            let series = series_of(difference.place.0, self.source, self.destination);
            if let Some(series) = series.filter(|_| counts.different() > 0) {
                findings.add_place(series, difference.place, counts, unit, options);
            }
        }
    }

    /// Goes through the cells of the group's places on one side.
    fn each_cell(
        &mut self,
        side: &dyn Source,
        namespace: &Namespace,
        window: Window,
        filter: &Filter,
        mut each: impl FnMut(&mut Self, &Cell<'_>),
    ) -> Result<()> {
        let measurement = self.group.measurement.clone();
        let scope = Scope { namespace: namespace.clone(), window, filter: filter.clone() };
        for mut partition in side.plan(&scope)? {
            match &partition.measurement {
                Some(other) if *other != measurement => continue,
                _ => partition.measurement = Some(measurement.clone()),
            }
            let mut reader = side.open(&partition)?;
            while let Some(block) = reader.next_block()? {
                self.each_cell_of(&block, filter, &mut each);
            }
        }
        Ok(())
    }

    fn each_cell_of(
        &mut self,
        block: &Block,
        filter: &Filter,
        each: &mut impl FnMut(&mut Self, &Cell<'_>),
    ) {
        for (series, rows) in block.runs().filter(|(series, _)| filter.admits(series)) {
            let mut hasher = SeriesHasher::new(series);
            let hash = hasher.series();
            for column in block.columns() {
                let hasher = hasher.field(&column.field, column.field_type());
                for row in rows.clone() {
                    let time = block.times()[row];
                    let place = (hash, hour_of(time));
                    if let Some(value) = column.get(row)
                        && self.counts.contains_key(&place)
                    {
                        let field = &column.field;
                        each(self, &Cell { place, series, field, time, value, hasher: &hasher });
                    }
                }
            }
        }
    }
}

/// One cell while a block is gone through.
struct Cell<'a> {
    place: Place,
    series: &'a Arc<Series>,
    field: &'a Arc<[u8]>,
    time: i64,
    value: Value<'a>,
    hasher: &'a FieldHasher,
}

/// The type of a value, for reports.
#[must_use]
pub fn type_of(value: &OwnedValue) -> FieldType {
    value.value().field_type()
}
