//! `repair`: decides for every cell that differs what is done about it, and why nothing is.
//!
//! | cell | done |
//! | --- | --- |
//! | missing at the destination | sent |
//! | another value | sent where the base says that only the source changed, or the operator does |
//! | missing or extra, and the base holds another value | nothing: one side changed it, the other deleted it |
//! | another type, or one that the shard group cannot hold | nothing: it holds one type of a field |
//! | at the destination only | deleted where the operator says so and nothing else is hit ([`delete`]) |
//! | missing, and held by the base as by the source | nothing: it may have been deleted there |
//! | any, where the base is a digest file | what that says of its series and hour ([`leaves`]) |
//! | a point that stands at both sides less than a second apart | nothing: it was written without a time |
//! | what is not as it was compared when it is looked at right before it is written or deleted | nothing |
//!
//! What is sent goes through [`crate::copy`], as lines of its own ([`lines`]). Nothing here knows how
//! the sides are opened or what is reported.

pub mod delete;
pub mod leaves;
pub mod lines;
mod look;
mod shifted;
pub mod vouch;

use self::leaves::Changed;
use crate::compare::{CellFinding, Class, OwnedValue, PlaceFinding, Unit};
use crate::conflicts::Conflict;
use crate::digest::cell::{SeriesHash, SeriesHasher};
use crate::error::Result;
use crate::plan::Namespace;
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Cells that are looked at, and then written, at once: what a client changes in between is written over.
const WRITTEN_AT_ONCE: usize = 5_000;

/// What is done about a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The destination lacks it: sent.
    Send,
    /// The destination holds another value: the source's is sent.
    Overwrite,
    /// The source lacks it: deleted with its point.
    Delete,
    /// Kept: only the destination's value changed since the base.
    KeepChanged,
    /// Kept: it came to the destination since the base.
    KeepAdded,
    /// Left: nobody says which value counts.
    Conflict,
    /// Left: the destination cannot hold the source's type.
    TypeDiffers,
    /// Left: the base holds it as the source does, so that it may have been deleted at the destination.
    MayBeDeleted,
    /// Left: the source deleted it since the base, and the destination changed it.
    DeletedAndChanged,
    /// Left: a side changed it after it was compared.
    ChangedMeanwhile,
    /// Left: it stands at both sides with times less than a second apart.
    Shifted,
    /// Left: extra, and nobody asked for it to be deleted.
    Extra,
    /// Left: what was asked for cannot be done, for the reason that is given.
    Refused,
}

impl Action {
    /// Its name, as programs read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
            Self::KeepChanged => "keep_changed",
            Self::KeepAdded => "keep_added",
            Self::Conflict => "conflict",
            Self::TypeDiffers => "type_differs",
            Self::MayBeDeleted => "may_be_deleted",
            Self::DeletedAndChanged => "deleted_and_changed",
            Self::ChangedMeanwhile => "changed_meanwhile",
            Self::Shifted => "shifted",
            Self::Extra => "extra",
            Self::Refused => "refused",
        }
    }

    /// True where something is done.
    #[must_use]
    pub fn acts(self) -> bool {
        matches!(self, Self::Send | Self::Overwrite | Self::Delete)
    }
}

/// A cell that differs, and what is done about it.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The cell.
    pub cell: CellFinding,
    /// The namespace, as the destination names it.
    pub destination: Namespace,
    /// The source has no such namespace.
    pub source_lacks: bool,
    /// It was judged by its first reading, although a side takes writes: it may have been on its way.
    pub read_once: bool,
    /// The base's value, where there is a base and it holds one.
    pub base: Option<OwnedValue>,
    /// Who changed its series and hour, where the base is a digest file.
    pub changed: Option<Changed>,
    /// What is done.
    pub action: Action,
    /// Why not, where that has to be said.
    pub reason: Option<String>,
}

impl Difference {
    /// Leaves it as it is for a reason.
    fn refuse(&mut self, reason: impl Into<String>) {
        self.action = Action::Refused;
        self.reason = Some(reason.into());
    }
}

/// What the operator chose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choices {
    /// Changed cells are sent, whatever the base says.
    pub overwrite: bool,
    /// There is a base.
    pub base: bool,
    /// What may have been deleted at the destination is sent nevertheless.
    pub send_deleted: bool,
    /// Points that stand at both sides less than a second apart are sent nevertheless.
    pub send_shifted: bool,
    /// Extra points are deleted.
    pub delete_extra: bool,
    /// What is overwritten is to be written down first.
    pub undo: bool,
}

/// The cells that differ, without those of places that kept changing; each with its unit's names.
#[must_use]
pub fn differences(
    cells: Vec<CellFinding>,
    places: &[PlaceFinding],
    units: &[Unit],
) -> Vec<Difference> {
    // The windows of a series, by their starts: none has anything in common with another.
    let mut settled: HashMap<(&Namespace, SeriesHash), BTreeMap<i64, &PlaceFinding>> =
        HashMap::new();
    for place in places {
        let windows = settled.entry((&place.namespace, place.hash)).or_default();
        windows.insert(place.window.start, place);
    }
    let named: HashMap<&Namespace, &Unit> = units.iter().map(|unit| (&unit.source, unit)).collect();
    let difference = |cell: CellFinding| {
        let hash = SeriesHasher::new(&cell.series).series();
        let windows = settled.get(&(&cell.namespace, hash))?;
        let (_, place) = windows.range(..=cell.time).next_back()?;
        if !place.window.contains(cell.time) {
            return None;
        }
        let unit = named.get(&cell.namespace)?;
        Some(Difference {
            destination: unit.destination.clone(),
            source_lacks: unit.source_lacks,
            read_once: place.read_once,
            base: None,
            changed: None,
            action: Action::Conflict,
            reason: None,
            cell,
        })
    };
    cells.into_iter().filter_map(difference).collect()
}

/// Decides about every cell. What is deleted is still to be looked at ([`delete::check`]).
pub fn decide(differences: &mut [Difference], choices: Choices) {
    for difference in differences.iter_mut() {
        difference.action = decided(difference, choices);
        difference.reason = both_changed(difference).map(Into::into);
    }
    if !choices.send_shifted {
        shifted::mark(differences);
    }
    for difference in differences.iter_mut() {
        let wants_delete = difference.action == Action::Delete;
        if wants_delete && difference.source_lacks {
            difference.refuse("the source has no such database or retention policy at all");
        } else if wants_delete && difference.read_once {
            difference.refuse(
                "it was read once only, since too many places differed: it may be on its way (repair a \
                 shorter window)",
            );
        } else if matches!(difference.action, Action::Send | Action::Overwrite)
            && let Err(reason) = lines::check(difference)
        {
            difference.refuse(reason);
        } else if difference.action == Action::Overwrite
            && choices.undo
            && let Err(reason) = lines::check_former(difference)
        {
            difference.refuse(reason);
        }
    }
}

/// Says of a conflict what cannot be told from its values.
fn both_changed(difference: &Difference) -> Option<&'static str> {
    if difference.action == Action::Conflict && difference.changed.is_some() {
        return Some("both sides changed this series and hour, of which a digest knows no cells");
    }
    let is_missing = difference.cell.class == Class::MissingInDestination;
    (difference.action == Action::Conflict && is_missing)
        .then_some("changed at the source and deleted at the destination since the base")
}

fn decided(difference: &Difference, choices: Choices) -> Action {
    if let Some(changed) = difference.changed {
        return decided_by_leaf(difference.cell.class, changed, choices);
    }
    let (cell, base) = (&difference.cell, &difference.base);
    let (as_source, as_destination) =
        (base.is_some() && *base == cell.source, base.is_some() && *base == cell.destination);
    let changed = match (choices.overwrite, as_source, as_destination) {
        (true, ..) | (_, _, true) => Action::Overwrite,
        (_, true, _) => Action::KeepChanged,
        _ => Action::Conflict,
    };
    match cell.class {
        Class::MissingInDestination if as_source && !choices.send_deleted => Action::MayBeDeleted,
        Class::MissingInDestination if base.is_some() && !choices.send_deleted => Action::Conflict,
        Class::MissingInDestination => Action::Send,
        Class::ValueChanged => changed,
        Class::TypeChanged if changed == Action::Overwrite => Action::TypeDiffers,
        Class::TypeChanged => changed,
        Class::ExtraInDestination if base.is_some() && !as_destination => Action::DeletedAndChanged,
        Class::ExtraInDestination if !choices.delete_extra => Action::Extra,
        Class::ExtraInDestination if choices.base && !as_destination => Action::KeepAdded,
        Class::ExtraInDestination => Action::Delete,
    }
}

/// The same by a digest file: what one side alone changed is taken from there.
fn decided_by_leaf(class: Class, changed: Changed, choices: Choices) -> Action {
    match (class, changed) {
        (Class::MissingInDestination, Changed::AtSource) => Action::Send,
        (Class::MissingInDestination, _) if choices.send_deleted => Action::Send,
        (Class::MissingInDestination, Changed::AtDestination) => Action::MayBeDeleted,
        (Class::ValueChanged, Changed::AtSource) => Action::Overwrite,
        (Class::TypeChanged, Changed::AtSource) => Action::TypeDiffers,
        (Class::ValueChanged | Class::TypeChanged, Changed::AtDestination) => Action::KeepChanged,
        (Class::ExtraInDestination, Changed::AtDestination) => Action::KeepAdded,
        (Class::ExtraInDestination, Changed::AtSource) if choices.delete_extra => Action::Delete,
        (Class::ExtraInDestination, Changed::AtSource) => Action::Extra,
        (_, Changed::AtBoth) => Action::Conflict,
    }
}

/// Leaves missing cells whose type a shard group of the destination cannot hold.
pub fn refuse_types(differences: &mut [Difference], conflicts: &[Conflict]) {
    for conflict in conflicts {
        for one in differences.iter_mut().filter(|one| one.action == Action::Send) {
            let cell = &one.cell;
            let field_type = cell.source.as_ref().map(|value| value.value().field_type());
            let loses = conflict.losing.iter().any(|(lost, _)| Some(*lost) == field_type);
            if loses
                && one.destination == conflict.destination
                && conflict.unit.contains(cell.time)
                && *cell.series.measurement() == *conflict.measurement
                && cell.field == conflict.field
            {
                one.action = Action::TypeDiffers;
                one.reason = Some(format!("the field is {} there", conflict.keep));
            }
        }
    }
}

/// A cell of a side: its namespace there, series, time and field.
type CellOf = (Namespace, SeriesHash, i64, Arc<[u8]>);

/// Notes what an older state held in the place of every cell.
///
/// # Errors
/// Where it cannot be read.
pub fn note_base(
    differences: &mut [Difference],
    base: &dyn Source,
    name: impl Fn(&Difference) -> Option<Namespace>,
) -> Result<()> {
    for (number, value) in values(differences, base, |_, one| name(one))? {
        differences[number].base = Some(value);
    }
    Ok(())
}

/// The cells to which something is to be done, in pieces that are looked at and written one after the
/// other: neighbours in time, so that little is read for each.
#[must_use]
pub fn pieces(differences: &[Difference], action: Action) -> Vec<Vec<usize>> {
    let wanted = |number: &usize| differences[*number].action == action;
    let mut numbers: Vec<usize> = (0..differences.len()).filter(wanted).collect();
    numbers
        .sort_by_key(|&number| (&differences[number].destination, differences[number].cell.time));
    numbers.chunks(WRITTEN_AT_ONCE).map(<[usize]>::to_vec).collect()
}

/// Reads some cells once more that are to be written, and leaves those that are not as they were
/// compared; gives the others. The destination is read last: it is what is written to.
///
/// # Errors
/// Where a side cannot be read.
pub fn look_again(
    differences: &mut [Difference],
    piece: &[usize],
    source: &dyn Source,
    destination: &dyn Source,
) -> Result<BTreeSet<usize>> {
    let mut due: BTreeSet<usize> = piece.iter().copied().collect();
    let ours = values(differences, source, of_source(&due))?;
    let theirs = values(differences, destination, of_destination(&due))?;
    for &number in piece {
        let one = &mut differences[number];
        let is_same = ours.get(&number) == one.cell.source.as_ref()
            && theirs.get(&number) == one.cell.destination.as_ref();
        if !is_same {
            one.action = Action::ChangedMeanwhile;
            due.remove(&number);
        }
    }
    Ok(due)
}

/// Of cells that were written, those in whose place a client wrote a newer value to both sides just
/// before: the source holds that, and the destination what was written. They get the newer value.
///
/// # Errors
/// Where a side cannot be read.
pub fn overtaken(
    differences: &mut [Difference],
    written: &BTreeSet<usize>,
    source: &dyn Source,
    destination: &dyn Source,
) -> Result<BTreeSet<usize>> {
    let mut ours = values(differences, source, of_source(written))?;
    let newer = |(number, now): (&usize, &OwnedValue)| {
        let sent = differences[*number].cell.source.as_ref()?;
        let same_type = sent.value().field_type() == now.value().field_type();
        (sent != now && same_type).then_some(*number)
    };
    let newer: BTreeSet<usize> = ours.iter().filter_map(newer).collect();
    let theirs = values(differences, destination, of_destination(&newer))?;
    let mut overtaken = BTreeSet::new();
    for number in newer {
        let cell = &mut differences[number].cell;
        if theirs.get(&number) == cell.source.as_ref() {
            cell.source = ours.remove(&number);
            overtaken.insert(number);
        }
    }
    Ok(overtaken)
}

/// The namespaces in which the source holds some cells.
fn of_source(some: &BTreeSet<usize>) -> impl Fn(usize, &Difference) -> Option<Namespace> {
    |number, one| some.contains(&number).then(|| one.cell.namespace.clone())
}

/// The namespaces in which the destination holds them.
fn of_destination(some: &BTreeSet<usize>) -> impl Fn(usize, &Difference) -> Option<Namespace> {
    |number, one| some.contains(&number).then(|| one.destination.clone())
}

/// What a side holds in the place of cells, by their numbers; `name` gives their namespace there.
fn values(
    differences: &[Difference],
    side: &dyn Source,
    name: impl Fn(usize, &Difference) -> Option<Namespace>,
) -> Result<HashMap<usize, OwnedValue>> {
    let mut wanted: BTreeMap<(Namespace, Vec<u8>), BTreeSet<i64>> = BTreeMap::new();
    let mut at: HashMap<CellOf, usize> = HashMap::new();
    for (number, difference) in differences.iter().enumerate() {
        let cell = &difference.cell;
        let Some(namespace) = name(number, difference) else { continue };
        let measurement = cell.series.measurement().to_vec();
        wanted.entry((namespace.clone(), measurement)).or_default().insert(cell.time);
        let hash = SeriesHasher::new(&cell.series).series();
        at.insert((namespace, hash, cell.time, Arc::clone(&cell.field)), number);
    }
    let mut values = HashMap::new();
    for ((namespace, measurement), times) in &wanted {
        look::points(side, namespace, measurement, times, |held| {
            let hash = SeriesHasher::new(held.series).series();
            for (field, value) in held.cells() {
                let key = (namespace.clone(), hash, held.time, Arc::clone(field));
                if let Some(number) = at.get(&key) {
                    values.insert(*number, value);
                }
            }
        })?;
    }
    Ok(values)
}
