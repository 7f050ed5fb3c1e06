//! Points that clients wrote without a time: each server gave them its own, so that the same values stand
//! less than a second apart.
//!
//! Cells that one side alone holds are paired within each window that is told apart, and near its edges
//! with those of the windows beside it. What waits is thereby no more than one window holds, however
//! large the gap is.

use crate::compare::{Class, Seen, Unit};
use crate::plan::Namespace;
use crate::value::Value;
use crate::window::Window;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Times that lie nearer than this may be one point's, nanoseconds.
const SHIFT_MAX: i64 = 1_000_000_000;
/// Cells near edges that are kept. The oldest go beyond: a client that writes without times does it
/// within windows, too, and is found there.
const EDGES_MAX: usize = 200_000;

/// A cell that one side alone holds: series, field and value, hashed; and the time.
type Lone = (u64, i64);

/// Cells that one side alone holds.
#[derive(Debug, Default)]
struct Sides {
    source: Vec<Lone>,
    destination: Vec<Lone>,
}

/// Pairs cells that differ in nothing but a little time.
#[derive(Debug, Default)]
pub(super) struct Shifts {
    hasher: RandomState,
    /// Of the window at hand of each unit.
    at_hand: HashMap<(Namespace, Window), Sides>,
    edges: Sides,
    count: u64,
}

impl Shifts {
    /// Takes a cell that is shown.
    pub(super) fn see(&mut self, unit: &Unit, cell: &Seen<'_>) {
        let (value, at_source) = match (cell.class, cell.source, cell.destination) {
            (Some(Class::MissingInDestination), Some(value), _) => (value, true),
            (Some(Class::ExtraInDestination), _, Some(value)) => (value, false),
            _ => return,
        };
        let value = match value {
            Value::String(bytes) => (None, bytes),
            scalar => (scalar.bits(), &b""[..]),
        };
        let lone = (self.hasher.hash_one((cell.series.key(), &**cell.field, value)), cell.time);
        let sides = self.at_hand.entry((unit.source.clone(), unit.window)).or_default();
        if at_source { &mut sides.source } else { &mut sides.destination }.push(lone);
    }

    /// Pairs the cells of a window that were shown, and keeps those near its edges.
    pub(super) fn passed(&mut self, unit: &Unit, window: Window) {
        let key = (unit.source.clone(), unit.window);
        let Some(mut sides) = self.at_hand.remove(&key) else { return };
        self.count += sides.pair();
        let near = |one: &Lone| {
            one.1.abs_diff(window.start) < SHIFT_MAX.unsigned_abs()
                || one.1.abs_diff(window.end) < SHIFT_MAX.unsigned_abs()
        };
        self.edges.source.extend(sides.source.into_iter().filter(near));
        self.edges.destination.extend(sides.destination.into_iter().filter(near));
        for lone in [&mut self.edges.source, &mut self.edges.destination] {
            let beyond = lone.len().saturating_sub(EDGES_MAX);
            lone.drain(..beyond);
        }
    }

    /// Pairs so far.
    pub(super) fn count(&self) -> u64 {
        let Sides { source, destination } = &self.edges;
        let mut edges = Sides { source: source.clone(), destination: destination.clone() };
        self.count + edges.pair()
    }
}

impl Sides {
    /// Takes out the cells that are paired, and counts the pairs.
    fn pair(&mut self) -> u64 {
        if self.source.is_empty() || self.destination.is_empty() {
            return 0;
        }
        self.source.sort_unstable();
        self.destination.sort_unstable();
        let mut there = std::mem::take(&mut self.destination).into_iter().peekable();
        let (mut pairs, mut alone) = (0, Vec::new());
        self.source.retain(|&(cell, time)| {
            let behind = |lone: &Lone| {
                lone.0 < cell || (lone.0 == cell && lone.1 <= time.saturating_sub(SHIFT_MAX))
            };
            while let Some(lone) = there.next_if(behind) {
                alone.push(lone);
            }
            let near = |lone: &Lone| lone.0 == cell && lone.1 < time.saturating_add(SHIFT_MAX);
            let paired = there.next_if(near).is_some();
            pairs += u64::from(paired);
            !paired
        });
        alone.extend(there);
        self.destination = alone;
        pairs
    }
}
