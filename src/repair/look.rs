//! Reads some points again: those of one measurement at given times, on any side.

use crate::block::Block;
use crate::compare::{OwnedValue, partitions_of};
use crate::error::Result;
use crate::plan::{Filter, Namespace};
use crate::series::Series;
use crate::source::{Source, for_each_block};
use crate::window::{HOUR, Window};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A point as a side holds it.
pub(super) struct Held<'a> {
    pub(super) series: &'a Arc<Series>,
    pub(super) time: i64,
    block: &'a Block,
    row: usize,
}

impl Held<'_> {
    /// Its fields and their values.
    pub(super) fn cells(&self) -> impl Iterator<Item = (&Arc<[u8]>, OwnedValue)> + '_ {
        self.block
            .columns()
            .iter()
            .filter_map(|column| Some((&column.field, OwnedValue::of(column.get(self.row)?))))
    }
}

/// Shows every point of a measurement at some times, whatever its series; nothing where the side has
/// no such namespace.
pub(super) fn points(
    side: &dyn Source,
    namespace: &Namespace,
    measurement: &[u8],
    times: &BTreeSet<i64>,
    mut each: impl FnMut(Held<'_>),
) -> Result<()> {
    for window in stretches(times) {
        let filter = Filter::default();
        let partitions = partitions_of(side, Some(measurement), None, namespace, window, &filter)?;
        for_each_block(side, &partitions, |block| {
            for (series, rows) in block.runs() {
                if series.measurement() != measurement {
                    continue;
                }
                for row in rows {
                    let time = block.times()[row];
                    if times.contains(&time) {
                        each(Held { series, time, block, row });
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Windows around times; those less than an hour apart share one.
fn stretches(times: &BTreeSet<i64>) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for &time in times {
        let end = time.saturating_add(1);
        match windows.last_mut() {
            Some(last) if time.saturating_sub(last.end) < HOUR => last.end = end,
            _ => windows.push(Window { start: time, end }),
        }
    }
    windows
}
