//! Places that differ where a digest file stands for a side: what the sums prove, and no more.
//!
//! Cells cannot be told apart by reading both sides. Where the side that can be read holds more, the
//! difference of the sums is looked for among its rows: if it is the sum of one cell or of one row, then
//! that is what the digest file lacks (two sets of cells have the same sums by accident only with a
//! probability of about 2^-128); everything else is the same where that holds of the values' sums as
//! well as of the keys'. Where it is the digest file that holds more, cells that are gone are looked for
//! ([`super::gone`]). All other cells are unresolved.

use super::drill::{Group, groups, partitions_of};
use super::gone::{Gone, Times};
use super::{CellFinding, Class, Counts, Findings, Options, OwnedValue, Sides, Unit};
use crate::block::{Block, Column};
use crate::digest::cell::SeriesHasher;
use crate::digest::grid::{Place, Places};
use crate::digest::join::BothSides;
use crate::digest::node::Node;
use crate::error::Result;
use crate::plan::Namespace;
use crate::series::Series;
use crate::source::{Source, for_each_block};
use crate::value::Value;
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
    /// Both hold the same cells but for those that are named; whether with the same values is not known.
    SameCells,
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
    places: Vec<BothSides>,
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
    let mut again = Again::default();
    if let Some(readable) = &readable {
        let mut wanted = Vec::new();
        for both in &places {
            // What is gone is only named: nobody looks at names beyond the limit.
            let is_listed = again.gone.len() < options.findings_max;
            if let Some(look) = readable.more(both) {
                again.more.insert(both.place, look);
            } else if let Some(gone) = readable.gone(both).filter(|_| is_listed) {
                again.gone.insert(both.place, gone);
            } else {
                continue;
            }
            wanted.push(*both);
        }
        for group in groups(wanted, sides) {
            readable.read(&group, unit, options, &mut again)?;
        }
    }
    for both in places {
        let seen = again.seen(both.place);
        findings.summed(&both, seen, sides, unit, options);
    }
    Ok(())
}

/// Places that are read again: those of which the readable side holds more, and those of which the
/// digest file does.
#[derive(Default)]
struct Again {
    more: HashMap<Place, Look>,
    gone: HashMap<Place, Gone>,
    /// What was found of the latter.
    named: HashMap<Place, Seen>,
}

/// What reading a place again showed.
#[derive(Default)]
enum Seen {
    /// Nothing that tells cells apart.
    #[default]
    Nothing,
    /// Another state than the one that was digested.
    Moved,
    /// The cells that only one side holds, and what else is proven.
    Cells(Vec<CellFinding>, Rest),
}

/// What is known of the cells that both sides hold.
enum Rest {
    Same,
    ValuesDiffer,
    ValuesUnknown,
}

impl Again {
    fn seen(&mut self, place: Place) -> Seen {
        let Some(look) = self.more.remove(&place) else {
            return self.named.remove(&place).unwrap_or_default();
        };
        match look.cells.is_empty() {
            _ if look.met != look.held => Seen::Moved,
            true => Seen::Nothing,
            false if look.exact => Seen::Cells(look.cells, Rest::Same),
            false => Seen::Cells(look.cells, Rest::ValuesDiffer),
        }
    }
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
    /// What this side holds of a place, and the other.
    fn nodes(&self, both: &BothSides) -> (Node, Node) {
        let (source, destination) = (both.source_node(), both.destination_node());
        match self.class {
            Class::MissingInDestination => (source, destination),
            _ => (destination, source),
        }
    }

    /// What is to be looked for where this side holds more.
    fn more(&self, both: &BothSides) -> Option<Look> {
        let (held, other) = self.nodes(both);
        let (more, met) = (held.less(other), Node::default());
        let look = Look { more, held, met, cells: Vec::new(), exact: false };
        (held.cells > other.cells).then_some(look)
    }

    /// What is to be looked for where the other holds more.
    fn gone(&self, both: &BothSides) -> Option<Gone> {
        let (held, other) = self.nodes(both);
        (held.cells < other.cells).then(|| Gone::new(other.less(held), held))
    }

    fn read(&self, group: &Group, unit: &Unit, options: &Options, again: &mut Again) -> Result<()> {
        let Some(window) = group.window.intersect(unit.window) else { return Ok(()) };
        let (measurement, filter) = (group.measurement.as_deref(), &options.filter);
        let partitions =
            partitions_of(self.side, measurement, None, self.namespace, window, filter)?;
        let (mut times, places) = (Times::default(), group.places().collect::<Places>());
        for_each_block(self.side, &partitions, |block| {
            for (series, rows) in block.runs().filter(|(series, _)| filter.admits(series)) {
                let mut hasher = SeriesHasher::new(series);
                let hash = hasher.series();
                for row in rows {
                    let time = block.times()[row];
                    times.add(time);
                    let Some(place) = places.at(hash, time) else { continue };
                    if let Some(look) = again.more.get_mut(&place) {
                        self.row(block, series, &mut hasher, row, look, unit);
                    } else if let Some(gone) = again.gone.get_mut(&place) {
                        let cells = cells(block, &mut hasher, row);
                        let mut sum = Node::default();
                        cells.iter().for_each(|(node, ..)| sum += *node);
                        gone.row(block, series, row, sum);
                    }
                }
            }
            Ok(())
        })?;
        for place in group.places() {
            if let Some(gone) = again.gone.remove(&place) {
                again.named.insert(place, self.name(&gone, place, &times, unit));
            }
        }
        Ok(())
    }

    /// Names what is gone from this side, where that is proven.
    fn name(&self, gone: &Gone, place: Place, times: &Times, unit: &Unit) -> Seen {
        if !gone.is_still() {
            return Seen::Moved;
        }
        let Some(named) = gone.find(place.1, times) else { return Seen::Nothing };
        let class = match self.class {
            Class::MissingInDestination => Class::ExtraInDestination,
            _ => Class::MissingInDestination,
        };
        let cell = |field| CellFinding {
            namespace: unit.source.clone(),
            series: Arc::clone(&named.series),
            field,
            time: named.time,
            class,
            source: None,
            destination: None,
        };
        Seen::Cells(named.fields.into_iter().map(cell).collect(), Rest::ValuesUnknown)
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
        let (mut sum, cells) = (Node::default(), cells(block, hasher, row));
        cells.iter().for_each(|(node, ..)| sum += *node);
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

/// The cells of a row, each with its node.
fn cells<'b>(
    block: &'b Block,
    hasher: &mut SeriesHasher,
    row: usize,
) -> Vec<(Node, &'b Column, Value<'b>)> {
    let time = block.times()[row];
    let present = block.columns().iter().filter_map(|column| Some((column, column.get(row)?)));
    let each = present.map(|(column, value)| {
        let field = hasher.field(&column.field, column.field_type());
        let mut node = Node::default();
        node.add(field.key(time), field.value(time, value));
        (node, column, value)
    });
    each.collect()
}

impl Findings {
    /// Records a place of which the sums are known, and perhaps what only one side holds.
    fn summed(
        &mut self,
        both: &BothSides,
        seen: Seen,
        sides: Sides<'_>,
        unit: &Unit,
        options: &Options,
    ) {
        let (source, destination) = (both.source_node(), both.destination_node());
        let (least, most) =
            (source.cells.min(destination.cells), source.cells.max(destination.cells));
        let mut counts =
            Counts { source: source.cells, destination: destination.cells, ..Counts::default() };
        let (cells, proven) = match seen {
            Seen::Moved => {
                self.counts.unstable += most;
                return;
            }
            Seen::Nothing => {
                counts.unresolved = most;
                (Vec::new(), Some(Proven::of(source, destination)))
            }
            Seen::Cells(cells, rest) => {
                counts.missing_in_destination = source.cells - least;
                counts.extra_in_destination = destination.cells - least;
                let proven = match rest {
                    Rest::Same => None,
                    Rest::ValuesDiffer => Some(Proven::ValuesDiffer),
                    Rest::ValuesUnknown => Some(Proven::SameCells),
                };
                match proven {
                    None => counts.matched = least,
                    Some(_) => counts.unresolved = least,
                }
                (cells, proven)
            }
        };
        let series = cells.first().map(|cell| Arc::clone(&cell.series));
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
