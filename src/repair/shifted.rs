//! Finds points that clients wrote to both sides without a time: each server gave its own.
//!
//! Such a pair is a point that is missing and one that is extra, of one series, with the same fields and
//! values, less than a second apart. To send one of them would make a duplicate of the other.

use super::{Action, Difference};
use crate::compare::{Class, OwnedValue};
use crate::plan::Namespace;
use std::collections::{BTreeMap, HashMap};

/// The most by which two clocks and two requests may differ.
const SHIFT_MAX: i64 = 1_000_000_000;

/// Points of one series by time: numbers of their cells.
type Points = BTreeMap<i64, Vec<usize>>;

/// Marks the cells of such pairs.
pub(super) fn mark(differences: &mut [Difference]) {
    let mut series: HashMap<(&Namespace, &[u8]), (Points, Points)> = HashMap::new();
    for (number, difference) in differences.iter().enumerate() {
        let cell = &difference.cell;
        let (missing, extra) = series.entry((&cell.namespace, cell.series.key())).or_default();
        let points = match cell.class {
            Class::MissingInDestination => missing,
            Class::ExtraInDestination => extra,
            Class::ValueChanged | Class::TypeChanged => continue,
        };
        points.entry(cell.time).or_default().push(number);
    }
    let mut shifted = Vec::new();
    for (missing, mut extra) in series.into_values() {
        for (time, cells) in missing {
            let window = time.saturating_sub(SHIFT_MAX - 1)..time.saturating_add(SHIFT_MAX);
            let near = extra.range(window).filter(|(_, other)| same(differences, &cells, other));
            let nearest = near.min_by_key(|(other, _)| other.abs_diff(time)).map(|near| *near.0);
            if let Some((nearest, other)) = nearest.and_then(|at| extra.remove_entry(&at)) {
                shifted.extend(cells.into_iter().map(|cell| (cell, nearest - time)));
                shifted.extend(other.into_iter().map(|cell| (cell, time - nearest)));
            }
        }
    }
    for (number, shift) in shifted {
        let side = if differences[number].cell.source.is_some() { "destination" } else { "source" };
        let reason = format!("the {side} holds the same point {shift} ns from there");
        differences[number].action = Action::Shifted;
        differences[number].reason = Some(reason);
    }
}

/// True where two points have the same fields with the same values.
fn same(differences: &[Difference], one: &[usize], other: &[usize]) -> bool {
    let cells = |numbers: &[usize]| -> BTreeMap<Vec<u8>, Option<OwnedValue>> {
        let cells = numbers.iter().map(|&number| &differences[number].cell);
        let value = |cell: &crate::compare::CellFinding| {
            cell.source.clone().or_else(|| cell.destination.clone())
        };
        cells.map(|cell| (cell.field.to_vec(), value(cell))).collect()
    };
    one.len() == other.len() && cells(one) == cells(other)
}
