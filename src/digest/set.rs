//! A set of digests: one node for each series and hour, sorted by series hash and hour.
//!
//! Two sets are compared by going through both once, side by side ([`join`]).

use super::cell::{FieldHasher, SeriesHash, SeriesHasher};
use super::node::Node;
use crate::block::Block;
use crate::series::Series;
use crate::window::HOUR;
use std::cmp::Ordering;
use std::iter::Peekable;
use std::sync::Arc;

/// Hours since 1970 that a time falls into; times before are in negative hours.
#[must_use]
pub fn hour_of(time: i64) -> i64 {
    time.div_euclid(HOUR)
}

/// The node of one series and hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Hash of the series' identity.
    pub series: SeriesHash,
    /// Hours since 1970.
    pub hour: i64,
    /// Sums over the cells.
    pub node: Node,
}

impl Leaf {
    /// By what leaves are sorted and matched.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.series, self.hour)
    }
}

/// Which leaf: series and hour.
pub type Place = (SeriesHash, i64);

/// Digests of what was read from one side.
#[derive(Debug, Default)]
pub struct DigestSet {
    leaves: Vec<Leaf>,
    series: Vec<(SeriesHash, Arc<Series>)>,
    /// Bytes of the series' keys.
    key_bytes: usize,
    total: Node,
}

impl DigestSet {
    /// Adds the rows of those series of a block that are wanted.
    pub fn add_block(&mut self, block: &Block, wanted: impl Fn(&Series) -> bool) {
        let mut fields = Vec::with_capacity(block.columns().len());
        for (series, rows) in block.runs() {
            if !wanted(series) {
                continue;
            }
            let mut hasher = SeriesHasher::new(series);
            fields.clear();
            fields.extend(
                block
                    .columns()
                    .iter()
                    .map(|column| hasher.field(&column.field, column.field_type())),
            );
            self.add_series(hasher.series(), series);
            for row in rows {
                self.add_row(hasher.series(), block, row, &fields);
            }
        }
    }

    fn add_series(&mut self, hash: SeriesHash, series: &Arc<Series>) {
        // A series that goes on from one block to the next is named once.
        if self.series.last().is_none_or(|(_, last)| last.key() != series.key()) {
            self.series.push((hash, Arc::clone(series)));
            self.key_bytes += series.memory();
        }
    }

    fn add_row(&mut self, series: SeriesHash, block: &Block, row: usize, fields: &[FieldHasher]) {
        let time = block.times()[row];
        let hour = hour_of(time);
        if self.leaves.last().is_none_or(|last| last.place() != (series, hour)) {
            self.leaves.push(Leaf { series, hour, node: Node::default() });
        }
        let Some(leaf) = self.leaves.last_mut() else {
            return;
        };
        for (column, field) in block.columns().iter().zip(fields) {
            if let Some(value) = column.get(row) {
                leaf.node.add(field.key(time), field.value(time, value));
            }
        }
    }

    /// Sorts the set and adds up the leaves of one place.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.leaves.sort_unstable_by_key(Leaf::place);
        self.leaves.dedup_by(|later, kept| {
            let same = later.place() == kept.place();
            if same {
                kept.node += later.node;
            }
            same
        });
        self.series.sort_unstable_by(|(one, a), (two, b)| (one, a.key()).cmp(&(two, b.key())));
        self.series.dedup_by(|(_, later), (_, kept)| later.key() == kept.key());
        self.total = Node::default();
        for leaf in &self.leaves {
            self.total += leaf.node;
        }
        self
    }

    /// The leaves, sorted by place once the set is finished.
    #[must_use]
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The sum of all leaves, once the set is finished.
    #[must_use]
    pub fn total(&self) -> Node {
        self.total
    }

    /// The series with this hash: more than one where raw keys share an identity.
    pub fn series(&self, hash: SeriesHash) -> impl Iterator<Item = &Arc<Series>> {
        let first = self.series.partition_point(|(other, _)| *other < hash);
        self.series[first..].iter().take_while(move |(other, _)| *other == hash).map(|(_, s)| s)
    }

    /// Series whose identity queries of a server cannot show, or show only in part: those stored
    /// under another spelling of their key, and those that share their identity with another.
    pub fn hidden_from_queries(&self) -> impl Iterator<Item = SeriesHash> {
        self.series.chunk_by(|(one, _), (two, _)| one == two).filter_map(|same| match same {
            [(_, only)] if only.shown_by_queries() => None,
            [(hash, _), ..] => Some(*hash),
            [] => None,
        })
    }

    /// Bytes in use, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        // Keys are shared with the block they came from while that lives; afterwards they are ours.
        self.leaves.len() * size_of::<Leaf>() + self.series.len() * 32 + self.key_bytes
    }
}

/// What the two sides hold in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BothSides {
    /// Series and hour.
    pub place: Place,
    /// What the source holds; no cells where the place is absent.
    pub source: Node,
    /// What the destination holds; no cells where the place is absent.
    pub destination: Node,
}

/// Goes through two sorted runs of leaves once, side by side, and yields every place.
pub fn join<'a>(
    source: &'a [Leaf],
    destination: &'a [Leaf],
) -> impl Iterator<Item = BothSides> + 'a {
    let mut source = source.iter().peekable();
    let mut destination = destination.iter().peekable();
    std::iter::from_fn(move || next_place(&mut source, &mut destination))
}

fn next_place<'a, I: Iterator<Item = &'a Leaf>>(
    source: &mut Peekable<I>,
    destination: &mut Peekable<I>,
) -> Option<BothSides> {
    let order = match (source.peek(), destination.peek()) {
        (None, None) => return None,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(one), Some(two)) => one.place().cmp(&two.place()),
    };
    let one = if order.is_le() { source.next() } else { None };
    let two = if order.is_ge() { destination.next() } else { None };
    Some(BothSides {
        place: one.or(two)?.place(),
        source: one.map_or_else(Node::default, |leaf| leaf.node),
        destination: two.map_or_else(Node::default, |leaf| leaf.node),
    })
}
