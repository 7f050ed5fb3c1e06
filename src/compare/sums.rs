//! Places that differ where a digest file stands for a side: what the sums prove, and no more.
//!
//! Cells cannot be told apart by reading both sides. Where the side that can be read holds more, the
//! difference of the sums is looked for among its rows: if it is the sum of one cell or of one row, then
//! that is what the digest file lacks (two sets of cells have the same sums by accident only with a
//! probability of about 2^-128); everything else is the same where that holds of the values' sums as
//! well as of the keys'. All other cells are unresolved.

use super::drill::{Group, groups, partitions_of};
use super::{CellFinding, Class, Counts, Findings, Options, OwnedValue, Sides, Unit};
use crate::block::Block;
use crate::digest::cell::SeriesHasher;
use crate::digest::node::Node;
use crate::digest::set::{BothSides, Place, hour_of};
use crate::error::Result;
use crate::plan::Namespace;
use crate::series::Series;
use crate::source::{Source, for_each_block};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// What is proven of a place whose cells cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proven {
    /// Both sides hold the same cells but for those that are named, and at least one has another value
    /// or type.
    ValuesDiffer,
    /// Both hold as many cells, and not the same ones: at least one is missing and one is extra.
    OtherCells,
    /// The source holds so many cells more: at least as many are missing at the destination.
    SourceHasMore(u64),
    /// The destination holds so many cells more: at least as many are extra there.
    DestinationHasMore(u64),
}

impl Proven {
    fn of(source: Node, destination: Node) -> Self {
        match source.cells.abs_diff(destination.cells) {
            0 if source.keys == destination.keys => Self::ValuesDiffer,
            0 => Self::OtherCells,
            more if source.cells > destination.cells => Self::SourceHasMore(more),
            more => Self::DestinationHasMore(more),
        }
    }
}

/// The side that can be read, and how it stands to the other.
struct Readable<'a> {
    side: &'a dyn Source,
    namespace: &'a Namespace,
    /// How cells differ that only this side holds.
    class: Class,
}

/// Judges places that both sides hold and in which they differ.
pub(super) fn places(
    places: Vec<BothSides<'_>>,
    sides: Sides<'_>,
    unit: &Unit,
    options: &Options,
    findings: &mut Findings,
) -> Result<()> {
    let (class, missing) = (Class::ExtraInDestination, Class::MissingInDestination);
    let readable = match (sides.source.digest_file(), sides.destination.digest_file()) {
        (Some(_), None) => {
            Some(Readable { side: sides.destination, namespace: &unit.destination, class })
        }
        (None, _) => Some(Readable { side: sides.source, namespace: &unit.source, class: missing }),
        _ => None,
    };
    let mut found = HashMap::new();
    if let Some(readable) = &readable {
        let wanted = places.iter().filter_map(|both| Some((both.place, readable.look(both)?)));
        found = wanted.collect();
        let more: Vec<_> =
            places.iter().filter(|both| found.contains_key(&both.place)).copied().collect();
        for group in groups(more, sides) {
            readable.read(&group, unit, options, &mut found)?;
        }
    }
    for both in places {
        findings.summed(&both, found.remove(&both.place), sides, unit, options);
    }
    Ok(())
}

/// A place that is read again.
struct Look {
    /// What the readable side holds more.
    more: Node,
    /// What it held when it was digested, and what this reading met of it.
    held: Node,
    met: Node,
    /// The cells that it holds more.
    cells: Vec<CellFinding>,
    /// True where all others are the same.
    exact: bool,
}

impl Readable<'_> {
    /// What is to be looked for, where this side holds more.
    fn look(&self, both: &BothSides<'_>) -> Option<Look> {
        let (source, destination) = (both.source_node(), both.destination_node());
        let (held, other) = match self.class {
            Class::MissingInDestination => (source, destination),
            _ => (destination, source),
        };
        let more = held.less(other);
        let met = Node::default();
        let look = Look { more, held, met, cells: Vec::new(), exact: false };
        (held.cells > other.cells).then_some(look)
    }

    fn read(
        &self,
        group: &Group,
        unit: &Unit,
        options: &Options,
        found: &mut HashMap<Place, Look>,
    ) -> Result<()> {
        let Some(window) = group.window.intersect(unit.window) else { return Ok(()) };
        let (measurement, filter) = (group.measurement.as_deref(), &options.filter);
        let partitions = partitions_of(self.side, measurement, self.namespace, window, filter)?;
        for_each_block(self.side, &partitions, |block| {
            for (series, rows) in block.runs().filter(|(series, _)| filter.admits(series)) {
                let mut hasher = SeriesHasher::new(series);
                let hash = hasher.series();
                for row in rows {
                    let place = (hash, hour_of(block.times()[row]));
                    if let Some(look) = found.get_mut(&place) {
                        self.row(block, series, &mut hasher, row, look, unit);
                    }
                }
            }
            Ok(())
        })
    }

    /// Compares one row, and each of its cells, with what is looked for.
    fn row(
        &self,
        block: &Block,
        series: &Arc<Series>,
        hasher: &mut SeriesHasher,
        row: usize,
        look: &mut Look,
        unit: &Unit,
    ) {
        let time = block.times()[row];
        let (mut sum, mut cells) = (Node::default(), Vec::new());
        for column in block.columns() {
            let Some(value) = column.get(row) else { continue };
            let field = hasher.field(&column.field, column.field_type());
            let mut node = Node::default();
            node.add(field.key(time), field.value(time, value));
            sum += node;
            cells.push((node, column, value));
        }
        look.met += sum;
        let whole = sum.same_keys(look.more);
        for (node, column, value) in cells {
            if !whole && !node.same_keys(look.more) {
                continue;
            }
            look.exact = sum == look.more || node == look.more;
            let value = Some(OwnedValue::of(value));
            let (source, destination) = match self.class {
                Class::MissingInDestination => (value, None),
                _ => (None, value),
            };
            look.cells.push(CellFinding {
                namespace: unit.source.clone(),
                series: Arc::clone(series),
                field: Arc::clone(&column.field),
                time,
                class: self.class,
                source,
                destination,
            });
        }
    }
}

impl Findings {
    /// Records a place of which the sums are known, and perhaps what one side holds more.
    fn summed(
        &mut self,
        both: &BothSides<'_>,
        look: Option<Look>,
        sides: Sides<'_>,
        unit: &Unit,
        options: &Options,
    ) {
        let (source, destination) = (both.source_node(), both.destination_node());
        let most = source.cells.max(destination.cells);
        let mut counts =
            Counts { source: source.cells, destination: destination.cells, ..Counts::default() };
        if look.as_ref().is_some_and(|look| look.met != look.held) {
            self.counts.unstable += most;
            return;
        }
        let (cells, exact) = look.map_or_else(Default::default, |look| (look.cells, look.exact));
        let (series, mut proven) = (cells.first().map(|cell| Arc::clone(&cell.series)), None);
        if let Some(cell) = cells.first() {
            let more = source.cells.abs_diff(destination.cells);
            if exact {
                counts.matched = most - more;
            } else {
                counts.unresolved = most - more;
                proven = Some(Proven::ValuesDiffer);
            }
            match cell.class {
                Class::MissingInDestination => counts.missing_in_destination = more,
                _ => counts.extra_in_destination = more,
            }
        } else {
            counts.unresolved = most;
            proven = Some(Proven::of(source, destination));
        }
        self.counts.matched += counts.matched;
        self.counts.missing_in_destination += counts.missing_in_destination;
        self.counts.extra_in_destination += counts.extra_in_destination;
        self.counts.unresolved += counts.unresolved;
        let room = options.findings_max.saturating_sub(self.cells.len());
        self.cells.extend(cells.into_iter().take(room));
        if self.places.len() < options.findings_max {
            let measurement = super::measurement_of(both, sides);
            let listed = self.places.len();
            self.add_place(both.place, measurement, series, counts, unit, options);
            self.places.iter_mut().skip(listed).for_each(|place| place.proven = proven);
        }
    }
}
