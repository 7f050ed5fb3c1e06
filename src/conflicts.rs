//! Type conflicts: fields that have another type at the destination, or more than one, in one of
//! its shard groups. They are found before anything is sent, and dealt with as the operator chose.
//!
//! A server keeps one type for each field and shard group: the one that comes first, which among
//! parallel batches would be chance. So it is decided here: the type that the destination holds, or
//! else the type of the earliest cell of the source. (The order of lines in an export would be no
//! better: it follows the names of shards as text, 10 before 9.)

use crate::block::Block;
use crate::compare::Unit;
use crate::error::{Error, ErrorKind, Result};
use crate::line::encode::Encoder;
use crate::plan::{Filter, Namespace, Scope};
use crate::reject::{Rejected, Rejects};
use crate::series::{Printable, Series};
use crate::source::typed::{Rule, cast};
use crate::source::{Source, for_each_block, plan_or_nothing};
use crate::types::FieldTypes;
use crate::value::FieldType;
use crate::window::Window;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::str::FromStr;
use std::sync::Arc;

/// Most conflicts that are dealt with.
const CONFLICTS_MAX: usize = 10_000;
/// Conflicts that are named in an error.
const NAMED_MAX: usize = 20;

/// What is done about cells whose type the destination cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Nothing is sent.
    #[default]
    Fail,
    /// They go to the reject file; everything else is sent.
    Reject,
    /// They are cast where that is exact, and rejected where it is not.
    Cast,
}

impl FromStr for Policy {
    type Err = Error;

    /// # Errors
    /// A usage error for any other word.
    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "fail" => Self::Fail,
            "reject" => Self::Reject,
            "cast" => Self::Cast,
            _ => {
                return Err(Error::usage(format!("unknown policy {word:?}"))
                    .with_next("use --on-type-conflict fail, reject or cast"));
            }
        })
    }
}

/// One field in one shard group of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The unit in which the cells stand.
    pub unit: Window,
    /// The shard group.
    pub group: Window,
    /// The namespace, as the source names it.
    pub source: Namespace,
    /// The namespace, as the destination names it.
    pub destination: Namespace,
    /// Measurement, unescaped.
    pub measurement: Arc<[u8]>,
    /// Field key, unescaped.
    pub field: Arc<[u8]>,
    /// The type that stays.
    pub keep: FieldType,
    /// The destination holds that type already.
    pub held: bool,
    /// Cells of the source by the types that lose.
    pub losing: Vec<(FieldType, u64)>,
}

impl Conflict {
    /// The conflict of one field in one shard group, if there is one. Where groups overlap, the
    /// destination may hold several types in one window: what fits one of them is let pass.
    fn of(
        part: &Unit,
        group: &Group,
        (measurement, field): FieldName,
        types: &[Occurrence],
        held: &[FieldType],
    ) -> Option<Self> {
        let first = earliest(types)?;
        let keep = if held.contains(&first) { first } else { *held.first().unwrap_or(&first) };
        let losing = types.iter().filter(|one| one.field_type != keep);
        let losing = losing.filter(|one| held.len() < 2 || !held.contains(&one.field_type));
        let losing: Vec<_> = losing.map(|one| (one.field_type, one.cells)).collect();
        (!losing.is_empty()).then(|| Self {
            unit: part.window,
            group: group.window,
            source: part.source.clone(),
            destination: part.destination.clone(),
            measurement,
            field,
            keep,
            held: !held.is_empty(),
            losing,
        })
    }

    /// Cells of types that lose.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.losing.iter().map(|(_, cells)| cells).sum()
    }

    fn reason(&self, lost: FieldType) -> String {
        let (keep, held) =
            (self.keep, if self.held { "the destination holds" } else { "first is" });
        format!(
            "field type conflict: field {} of measurement {} is {lost} where {held} {keep}",
            Printable(&self.field),
            Printable(&self.measurement)
        )
    }
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let losing: Vec<String> =
            self.losing.iter().map(|(one, cells)| format!("{cells} {one}")).collect();
        write!(
            f,
            "field {} of measurement {} in {} ({}): {} cells, where {} {}",
            Printable(&self.field),
            Printable(&self.measurement),
            self.destination,
            self.group,
            losing.join(" and "),
            if self.held { "the destination holds" } else { "the first cell is" },
            self.keep
        )
    }
}

/// What became of the cells in conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAside {
    /// Cells that were cast.
    pub cast: u64,
    /// Cells that went to the reject file.
    pub rejected: u64,
}

/// Finds the conflicts of some units. `cell` gives the shard group that would be made for a unit,
/// which may reach beyond it.
///
/// # Errors
/// Where a side cannot be read or asked, or there are too many conflicts to be dealt with.
pub fn find(
    source: &dyn Source,
    destination: &dyn Source,
    units: &[Unit],
    filter: &Filter,
    cell: impl Fn(&Unit) -> Window,
) -> Result<Vec<Conflict>> {
    let mut suspects: BTreeMap<(&Namespace, &Namespace), Suspects> = BTreeMap::new();
    let mut conflicts = Vec::new();
    for unit in units.iter().filter(|unit| !unit.source_lacks) {
        let pair = (&unit.source, &unit.destination);
        let suspects = match suspects.entry(pair) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let window = span_of(units, pair);
                new.insert(Suspects::of(source, destination, unit, window, filter)?)
            }
        };
        if !suspects.any() {
            continue;
        }
        for group in suspects.groups(unit.window, cell(unit)) {
            let part = Unit { window: group.part, ..unit.clone() };
            let found = Occurring::read(source, &part, suspects, filter)?;
            for (name, types) in found.0 {
                let held = suspects.held(destination, &part, &group, &name, filter)?;
                conflicts.extend(Conflict::of(&part, &group, name, &types, &held));
            }
            if conflicts.len() > CONFLICTS_MAX {
                return Err(too_many());
            }
        }
    }
    Ok(conflicts)
}

/// From the start of the first unit of two namespaces to the end of the last.
fn span_of(units: &[Unit], pair: (&Namespace, &Namespace)) -> Window {
    let windows = units
        .iter()
        .filter(|unit| (&unit.source, &unit.destination) == pair)
        .map(|unit| unit.window);
    let empty = Window { start: i64::MAX, end: i64::MIN };
    windows.fold(empty, |all, one| Window {
        start: all.start.min(one.start),
        end: all.end.max(one.end),
    })
}

fn too_many() -> Error {
    let what = "the number of fields in type conflict, by shard group".into();
    Error::from(ErrorKind::Limit { what, max: CONFLICTS_MAX.to_string() }).with_next(
        "nothing was sent: leave measurements out with --exclude, or copy a shorter window",
    )
}

/// One shard group and the part of a unit that lies in it.
struct Group {
    part: Window,
    window: Window,
    /// It is there; else it will be made.
    exists: bool,
}

/// Fields that have more than one type on both sides together.
struct Suspects {
    /// `None` where only reading tells.
    types: Option<FieldTypes>,
    /// What the destination holds.
    held: Option<FieldTypes>,
    /// The shard groups that the destination has, in order; `None` where it does not say.
    groups: Option<Vec<Window>>,
}

impl Suspects {
    fn of(
        source: &dyn Source,
        destination: &dyn Source,
        unit: &Unit,
        window: Window,
        filter: &Filter,
    ) -> Result<Self> {
        let ours = source.field_types(&Scope::new(&unit.source, window, filter))?;
        let scope = Scope::new(&unit.destination, Window::ALL, filter);
        let held = match destination.field_types(&scope) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound { .. }) => {
                Some(FieldTypes::new())
            }
            outcome => outcome?,
        };
        let types = ours.zip(held.as_ref()).map(|(ours, held)| several(ours, held, filter));
        let groups = match held.as_ref().is_some_and(BTreeMap::is_empty) {
            true => Some(Vec::new()),
            false => destination.groups(&unit.destination)?,
        };
        Ok(Self { types, held, groups })
    }

    /// The shard groups in which a window lies: those that are there, which may have been made with
    /// another duration than the policy has now, and between them those that will be made.
    fn groups(&self, window: Window, cell: Window) -> Vec<Group> {
        let Some(groups) = &self.groups else {
            return vec![Group { part: window, window: cell, exists: true }];
        };
        let (mut found, mut at) = (Vec::new(), window.start);
        for group in groups {
            let rest = Window { start: at, end: window.end };
            let Some(part) = group.intersect(rest) else { continue };
            if at < part.start {
                let new = Window { start: at, end: part.start };
                found.push(Group { part: new, window: new, exists: false });
            }
            found.push(Group { part, window: *group, exists: true });
            at = part.end;
        }
        if at < window.end {
            let new = Window { start: at, end: window.end };
            found.push(Group { part: new, window: new, exists: false });
        }
        found
    }

    fn any(&self) -> bool {
        self.types.as_ref().is_none_or(|types| !types.is_empty())
    }

    fn admits(&self, measurement: &[u8], field: &[u8]) -> bool {
        let Some(types) = &self.types else { return true };
        types.get(measurement).is_some_and(|fields| fields.contains_key(field))
    }

    /// The types that the destination holds of a field in a shard group.
    fn held(
        &self,
        destination: &dyn Source,
        part: &Unit,
        group: &Group,
        (measurement, field): &FieldName,
        filter: &Filter,
    ) -> Result<Vec<FieldType>> {
        let may = self.held.as_ref().is_none_or(|held| {
            held.get(&**measurement).is_some_and(|fields| fields.contains_key(&**field))
        });
        if !may || !group.exists {
            return Ok(Vec::new());
        }
        // Whatever series has the field there gives it its type.
        let any = Filter { excluded: Vec::new(), tags: Vec::new(), ..filter.only(measurement) };
        let scope = Scope::new(&part.destination, group.window, &any);
        destination.types_of(&scope, measurement, field)
    }

    /// A filter that reads no other measurements, as far as it can be expressed.
    fn narrow(&self, filter: &Filter) -> Filter {
        let names = self.types.iter().flat_map(BTreeMap::keys);
        let names: Option<Vec<String>> =
            names.map(|name| String::from_utf8(name.to_vec()).ok()).collect();
        let measurements = names.filter(|names| !names.is_empty());
        let given = || filter.measurements.clone();
        Filter { measurements: measurements.unwrap_or_else(given), ..filter.clone() }
    }
}

/// The fields that have more than one type on both sides together.
fn several(mut ours: FieldTypes, held: &FieldTypes, filter: &Filter) -> FieldTypes {
    for (measurement, fields) in &mut ours {
        let there = held.get(measurement);
        fields.retain(|field, types| {
            types.extend(there.and_then(|fields| fields.get(field)).into_iter().flatten());
            types.sort_unstable();
            types.dedup();
            types.len() > 1
        });
    }
    ours.retain(|measurement, fields| !fields.is_empty() && filter.admits_measurement(measurement));
    ours
}

/// A type with which a field occurs in a unit of the source.
struct Occurrence {
    field_type: FieldType,
    first: i64,
    cells: u64,
}

fn earliest(types: &[Occurrence]) -> Option<FieldType> {
    types.iter().min_by_key(|one| (one.first, one.field_type)).map(|one| one.field_type)
}

/// The types with which suspicious fields occur in a unit of the source.
#[derive(Default)]
struct Occurring(BTreeMap<FieldName, Vec<Occurrence>>);

/// Measurement and field key, unescaped.
type FieldName = (Arc<[u8]>, Arc<[u8]>);

impl Occurring {
    fn read(
        source: &dyn Source,
        unit: &Unit,
        suspects: &Suspects,
        filter: &Filter,
    ) -> Result<Self> {
        let mut found = Self::default();
        let scope = Scope::new(&unit.source, unit.window, &suspects.narrow(filter));
        for_each_block(source, &plan_or_nothing(source, &scope)?, |block| {
            found.add(block, suspects, filter);
            Ok(())
        })?;
        Ok(found)
    }

    fn add(&mut self, block: &Block, suspects: &Suspects, filter: &Filter) {
        let Some((first, _)) = block.runs().next() else { return };
        let measurement: Arc<[u8]> = first.measurement().into();
        for column in block.columns() {
            if !suspects.admits(&measurement, &column.field) {
                continue;
            }
            let wanted = block.runs().filter(|(series, _)| filter.admits(series));
            let rows = wanted.flat_map(|(_, rows)| rows).filter(|row| column.get(*row).is_some());
            let times: Vec<i64> = rows.map(|row| block.times()[row]).collect();
            let Some(first) = times.iter().min().copied() else { continue };
            let name = (Arc::clone(&measurement), Arc::clone(&column.field));
            let (types, cells) = (self.0.entry(name).or_default(), times.len() as u64);
            let field_type = column.field_type();
            match types.iter_mut().find(|one| one.field_type == field_type) {
                Some(known) => {
                    known.first = known.first.min(first);
                    known.cells += cells;
                }
                None => types.push(Occurrence { field_type, first, cells }),
            }
        }
    }
}

/// The rules by which a source is read so that no conflict is left.
#[must_use]
pub fn rules(conflicts: &[Conflict], policy: Policy) -> Vec<Rule> {
    let rule = |conflict: &Conflict| Rule {
        namespace: conflict.source.clone(),
        window: conflict.unit,
        measurement: Arc::clone(&conflict.measurement),
        field: Arc::clone(&conflict.field),
        keep: conflict.keep,
        cast: policy == Policy::Cast,
    };
    conflicts.iter().map(rule).collect()
}

/// The error that names conflicts, where they are not to be dealt with.
#[must_use]
pub fn refused(conflicts: &[Conflict]) -> Error {
    let mut named: Vec<String> =
        conflicts.iter().take(NAMED_MAX).map(|conflict| format!("\n  {conflict}")).collect();
    if conflicts.len() > NAMED_MAX {
        named.push(format!("\n  and {} more", conflicts.len() - NAMED_MAX));
    }
    let what = format!(
        "a server keeps one type for each field and shard group, and these do not fit:{}",
        named.concat()
    );
    Error::from(ErrorKind::Data(what)).with_next(
        "nothing was sent: choose --on-type-conflict reject (these cells go to the reject file) or \
         cast (where it is exact), leave the measurement out with --exclude, or, where the types \
         follow each other in time, give the retention policy at the destination shorter shard \
         groups before it holds data (SHARD DURATION)",
    )
}

/// Puts the cells that will not be sent into the reject file, and counts those that will be cast.
///
/// # Errors
/// Where the source cannot be read or the reject file not written.
pub fn set_aside(
    source: &dyn Source,
    conflicts: &[Conflict],
    policy: Policy,
    filter: &Filter,
    rejects: &Rejects,
) -> Result<SetAside> {
    let mut counts = SetAside::default();
    let mut together: BTreeMap<_, Vec<&Conflict>> = BTreeMap::new();
    for conflict in conflicts {
        let place = (&conflict.source, conflict.unit, &conflict.measurement);
        together.entry(place).or_default().push(conflict);
    }
    for ((namespace, window, measurement), conflicts) in together {
        let scope = Scope::new(namespace, window, &filter.only(measurement));
        for_each_block(source, &plan_or_nothing(source, &scope)?, |block| {
            let mut each = conflicts.iter();
            each.try_for_each(|one| one.set_aside(block, policy, filter, rejects, &mut counts))
        })?;
    }
    Ok(counts)
}

impl Conflict {
    fn set_aside(
        &self,
        block: &Block,
        policy: Policy,
        filter: &Filter,
        rejects: &Rejects,
        counts: &mut SetAside,
    ) -> Result<()> {
        let columns = block.columns();
        let is_field = |at: &usize| *columns[*at].field == *self.field;
        let keep =
            (0..columns.len()).filter(is_field).find(|at| columns[*at].field_type() == self.keep);
        let losing: Vec<usize> = (0..columns.len())
            .filter(is_field)
            .filter(|at| columns[*at].field_type() != self.keep)
            .collect();
        let mut encoder = Encoder::new(block);
        let wanted =
            |series: &Series| filter.admits(series) && series.measurement() == &*self.measurement;
        for (series, rows) in block.runs().filter(|(series, _)| wanted(series)) {
            for row in rows {
                // Of several values one is cast, and only where none has the type that stays.
                let mut taken = keep.is_some_and(|at| columns[at].get(row).is_some());
                for &at in &losing {
                    let Some(value) = columns[at].get(row) else { continue };
                    let castable = || cast(value, self.keep, &mut Vec::new()).is_some();
                    if policy == Policy::Cast && !taken && castable() {
                        counts.cast += 1;
                        taken = true;
                        continue;
                    }
                    counts.rejected += 1;
                    let mut mask = vec![false; columns.len()];
                    mask[at] = true;
                    let mut line = Vec::new();
                    if encoder.row(series, row, Some(&mask), &mut line).is_err() {
                        line.clear();
                    }
                    let line = line.strip_suffix(b"\n").unwrap_or(&line);
                    let place = format!("{}, series {series}", self.source);
                    let point = Some((series.key(), block.times()[row]));
                    let reason = &self.reason(columns[at].field_type());
                    let (namespace, place, row) = (&self.source, &place, line);
                    rejects.add(&Rejected { namespace, point, place, reason, row })?;
                }
            }
        }
        Ok(())
    }
}
