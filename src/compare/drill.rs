//! Reads places that differ again, on both sides, and tells their cells apart.
//!
//! Places are taken in groups of one measurement and neighbouring buckets of one length, each group
//! small enough that the destination's cells are held while the source's pass by.

use super::{
    CellFinding, Class, Counts, Findings, Options, OwnedValue, ReadAgain, Seen, Sides, Unit,
    measurement_of,
};
use crate::block::Block;
use crate::digest::cell::{FieldHasher, KeyHash, SeriesHasher, ValueHash};
use crate::digest::grid::{Level, Place, Places};
use crate::digest::join::BothSides;
use crate::error::Result;
use crate::plan::{Filter, Namespace, Partition, Scope, Wanted};
use crate::series::{Series, holds_separator};
use crate::source::{Source, for_each_block, plan_or_nothing};
use crate::value::Value;
use crate::window::Window;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Cells that are held at once while places are read again.
const CELLS_HELD_MAX: u64 = 500_000;

/// Places up to which each is read again with nothing beside it. Of more, some that agree are read, too, so
/// that a server is not asked as often as there are places.
pub(super) const FEW: usize = 1_000;

/// Differences of one measurement that are read again together.
pub(super) struct Group {
    /// Unescaped; where it is unknown, all are read.
    pub(super) measurement: Option<Arc<[u8]>>,
    pub(super) window: Window,
    places: Vec<Difference>,
}

/// A place that both sides hold and in which they differ.
struct Difference {
    place: Place,
    source: u64,
    destination: u64,
}

/// Groups differences by measurement and time, each group small enough to be held.
pub(super) fn groups(differences: Vec<BothSides>, sides: Sides<'_>) -> Vec<Group> {
    // A dense series is not to be read for a day because a sparse one differs in that.
    type Kind = (Option<Arc<[u8]>>, Level);
    let few = differences.len() <= FEW;
    let mut by_kind: BTreeMap<Kind, Vec<Difference>> = BTreeMap::new();
    for both in differences {
        let kind = (measurement_of(&both, sides), both.place.1.level());
        by_kind.entry(kind).or_default().push(Difference {
            place: both.place,
            source: both.source_node().cells,
            destination: both.destination_node().cells,
        });
    }
    let mut groups: Vec<Group> = Vec::new();
    for ((measurement, _), mut places) in by_kind {
        places.sort_unstable_by_key(|difference| (difference.place.1, difference.place.0));
        let mut held = u64::MAX;
        for place in places {
            let cells = place.source + place.destination;
            let window = place.place.1.window();
            match groups.last_mut() {
                // A bucket that no difference lies in ends a group: it need not be read.
                Some(group)
                    if held.saturating_add(cells) <= CELLS_HELD_MAX
                        && window.start <= group.window.end
                        && (!few || group.would_be_filled_by(&place, window)) =>
                {
                    group.window.end = window.end;
                    group.places.push(place);
                    held += cells;
                }
                _ => {
                    held = cells;
                    let measurement = measurement.clone();
                    groups.push(Group { measurement, window, places: vec![place] });
                }
            }
        }
    }
    groups
}

impl Group {
    /// The places.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().map(|difference| difference.place)
    }

    /// True where all series of the group differ in all its buckets still if one place more is in it.
    fn would_be_filled_by(&self, place: &Difference, window: Window) -> bool {
        let series = place.place.0;
        window == self.window || self.places.iter().all(|one| one.place.0 == series)
    }

    /// The window in pieces that each hold about as many cells as may be held at once: a single
    /// bucket of one series can hold more.
    fn slices(&self, window: Window) -> impl Iterator<Item = Window> + use<> {
        let cells: u64 = self.places.iter().map(|place| place.source + place.destination).sum();
        let pieces = i64::try_from(cells.div_ceil(CELLS_HELD_MAX)).unwrap_or(1).max(1);
        let length = (window.end - window.start).div_euclid(pieces).max(1);
        let mut start = window.start;
        std::iter::from_fn(move || {
            (start < window.end).then(|| {
                let end = start.saturating_add(length).min(window.end);
                Window { start: std::mem::replace(&mut start, end), end }
            })
        })
    }
}

/// Reads the places of a group again and tells their cells apart.
pub(super) struct Drill<'a> {
    group: &'a Group,
    series: Wanted,
    unit: &'a Unit,
    /// What was found in each place, with its series once that was met; `source` and `destination`
    /// count what this reading met.
    counts: HashMap<Place, (Counts, Option<Arc<Series>>)>,
    places: Places,
    /// Cells of the destination that were not met at the source yet. More than one has the same
    /// key where raw series keys share an identity.
    held: HashMap<KeyHash, Vec<Held>>,
    /// A cell whose name holds `#!~#` may be the other side's under another name.
    cut: bool,
    /// Cells of the blocks that were read.
    cells_read: u64,
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
    pub(super) fn new(group: &'a Group, unit: &'a Unit, cut: bool) -> Self {
        let counts = group.places.iter().map(|place| (place.place, Default::default())).collect();
        let series = Arc::new(group.places().map(|(series, _)| series).collect());
        let (places, held) = (group.places().collect(), HashMap::new());
        Self { group, series, unit, counts, places, held, cut, cells_read: 0 }
    }

    pub(super) fn run(
        mut self,
        sides: Sides<'_>,
        unit: &Unit,
        options: &Options,
        findings: &mut Findings,
    ) -> Result<()> {
        let Some(window) = self.group.window.intersect(unit.window) else { return Ok(()) };
        let filter = &options.filter;
        for window in self.group.slices(window) {
            self.each_cell(sides.destination, &unit.destination, window, filter, |this, cell| {
                this.hold(cell);
            })?;
            self.each_cell(sides.source, &unit.source, window, filter, |this, cell| {
                this.meet(cell, options, findings);
            })?;
            self.extras(options, findings);
            options.observer.iter().for_each(|observer| observer.passed(unit, window));
        }
        self.finish(unit, options, findings);
        Ok(())
    }

    /// Keeps one cell of the destination until the source's cells pass by.
    fn hold(&mut self, cell: &Cell<'_>) {
        if let Some((counts, series)) = self.counts.get_mut(&cell.place) {
            counts.destination += 1;
            series.get_or_insert_with(|| Arc::clone(cell.series));
        }
        self.held.entry(cell.hasher.key(cell.time)).or_default().push(Held {
            place: cell.place,
            series: Arc::clone(cell.series),
            field: Arc::clone(cell.field),
            time: cell.time,
            hash: cell.hasher.value(cell.time, cell.value),
            value: OwnedValue::of(cell.value),
        });
    }

    /// The cell of the destination that stands for one of the source: of the same raw key, else
    /// with the same value, else any.
    fn counterpart(&mut self, key: KeyHash, cell: &Cell<'_>) -> Option<Held> {
        let held = self.held.get_mut(&key)?;
        let hash = cell.hasher.value(cell.time, cell.value);
        let same_key = held.iter().position(|held| held.series.key() == cell.series.key());
        let same_value = || held.iter().position(|held| held.hash == hash);
        let at = same_key.or_else(same_value).unwrap_or(0);
        let found = held.swap_remove(at);
        if held.is_empty() {
            self.held.remove(&key);
        }
        Some(found)
    }

    /// One cell of the source against what the destination holds in its place.
    fn meet(&mut self, cell: &Cell<'_>, options: &Options, findings: &mut Findings) {
        let key = cell.hasher.key(cell.time);
        let held = self.counterpart(key, cell);
        let Some((counts, series)) = self.counts.get_mut(&cell.place) else { return };
        series.get_or_insert_with(|| Arc::clone(cell.series));
        counts.source += 1;
        if held.is_none() && options.note_missing {
            findings.missing.cells.insert(key);
            findings.missing.partial.insert(cell.place);
        }
        let show = |class: Option<Class>| {
            show(
                options,
                self.unit,
                &Seen {
                    series: cell.series,
                    field: cell.field,
                    time: cell.time,
                    class,
                    source: Some(cell.value),
                    destination: held.as_ref().map(|held| held.value.value()),
                },
            );
        };
        let class = match &held {
            None if self.cut && may_be_cut(cell.series, cell.field) => {
                counts.unprovable += 1;
                return;
            }
            None => {
                counts.missing_in_destination += 1;
                Class::MissingInDestination
            }
            Some(held) if held.hash == cell.hasher.value(cell.time, cell.value) => {
                counts.matched += 1;
                show(None);
                return;
            }
            Some(held) => {
                if options.note_changed.holds(cell.place.0, cell.time, key) {
                    findings.missing.changed.insert(key, held.hash);
                }
                if held.value.value().field_type() == cell.value.field_type() {
                    counts.value_changed += 1;
                    Class::ValueChanged
                } else {
                    counts.type_changed += 1;
                    Class::TypeChanged
                }
            }
        };
        show(Some(class));
        if options.note_missing {
            findings.missing.partial.insert(cell.place);
        }
        if findings.cells.len() < options.findings_max {
            findings.cells.push(CellFinding {
                namespace: self.unit.source.clone(),
                series: Arc::clone(cell.series),
                field: Arc::clone(cell.field),
                time: cell.time,
                class,
                source: Some(OwnedValue::of(cell.value)),
                destination: held.map(|held| held.value),
            });
        }
    }

    /// What the source did not meet is extra.
    fn extras(&mut self, options: &Options, findings: &mut Findings) {
        let mut extra: Vec<Held> = self.held.drain().flat_map(|(_, held)| held).collect();
        extra.sort_unstable_by(|a, b| {
            (a.series.key(), a.time, &a.field).cmp(&(b.series.key(), b.time, &b.field))
        });
        for held in extra {
            let unprovable = self.cut && may_be_cut(&held.series, &held.field);
            if let Some((counts, _)) = self.counts.get_mut(&held.place) {
                match unprovable {
                    true => counts.unprovable += 1,
                    false => counts.extra_in_destination += 1,
                }
            }
            if unprovable {
                continue;
            }
            show(
                options,
                self.unit,
                &Seen {
                    series: &held.series,
                    field: &held.field,
                    time: held.time,
                    class: Some(Class::ExtraInDestination),
                    source: None,
                    destination: Some(held.value.value()),
                },
            );
            if findings.cells.len() < options.findings_max {
                findings.cells.push(CellFinding {
                    namespace: self.unit.source.clone(),
                    series: held.series,
                    field: held.field,
                    time: held.time,
                    class: Class::ExtraInDestination,
                    source: None,
                    destination: Some(held.value),
                });
            }
        }
    }

    /// Adds the places to the findings. A place that this reading finds otherwise than its digest
    /// said changed meanwhile.
    fn finish(self, unit: &Unit, options: &Options, findings: &mut Findings) {
        let Self { group, mut counts, cells_read, .. } = self;
        findings.read_again += ReadAgain { places: group.places.len() as u64, cells: cells_read };
        for place in &group.places {
            let (counts, series) = counts.remove(&place.place).unwrap_or_default();
            let same = counts.source == place.source && counts.destination == place.destination;
            if !same || counts.different() + counts.unprovable == 0 {
                let cells = counts.source.max(place.source);
                findings.counts.unstable += cells.max(place.destination);
                continue;
            }
            findings.counts.matched += counts.matched;
            findings.counts.missing_in_destination += counts.missing_in_destination;
            findings.counts.extra_in_destination += counts.extra_in_destination;
            findings.counts.value_changed += counts.value_changed;
            findings.counts.type_changed += counts.type_changed;
            findings.counts.unprovable += counts.unprovable;
            if counts.different() == 0 {
                continue;
            }
            let measurement = group.measurement.clone();
            findings.add_place(place.place, measurement, series, counts, unit, options);
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
        let measurement = self.group.measurement.as_deref();
        let series = Some(&self.series);
        let partitions = partitions_of(side, measurement, series, namespace, window, filter)?;
        for_each_block(side, &partitions, |block| {
            self.cells_read += block.cells();
            self.each_cell_of(block, filter, &mut each);
            Ok(())
        })
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
            let at = |row| Some((row, self.places.at(hash, block.times()[row])?));
            let placed: Vec<(usize, Place)> = rows.filter_map(at).collect();
            for column in block.columns() {
                let hasher = hasher.field(&column.field, column.field_type());
                for &(row, place) in &placed {
                    let time = block.times()[row];
                    if let Some(value) = column.get(row) {
                        let field = &column.field;
                        each(self, &Cell { place, series, field, time, value, hasher: &hasher });
                    }
                }
            }
        }
    }
}

/// True for a cell that files may show under another series and field.
fn may_be_cut(series: &Series, field: &[u8]) -> bool {
    holds_separator(series.key()) || holds_separator(field)
}

/// Shows a cell to whoever wants to see it.
fn show(options: &Options, unit: &Unit, seen: &Seen<'_>) {
    options.observer.iter().for_each(|observer| observer.cell(unit, seen));
}

/// The partitions of one measurement, or of all where it is unknown, and of some series or all.
pub(crate) fn partitions_of(
    side: &dyn Source,
    measurement: Option<&[u8]>,
    series: Option<&Wanted>,
    namespace: &Namespace,
    window: Window,
    filter: &Filter,
) -> Result<Vec<Partition>> {
    let narrowed = measurement.map(|name| filter.only(name));
    let scope = Scope::new(namespace, window, narrowed.as_ref().unwrap_or(filter));
    let mut partitions = plan_or_nothing(side, &scope)?;
    if let Some(name) = measurement {
        partitions.retain(|one| one.measurement.as_ref().is_none_or(|other| other == name));
        partitions.iter_mut().for_each(|one| one.measurement = Some(name.to_vec()));
    }
    partitions.iter_mut().for_each(|one| one.series = series.cloned());
    Ok(partitions)
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
