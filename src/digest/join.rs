//! Two runs of leaves side by side, each place once, by the longer bucket where the sides differ in that.

use super::cell::SeriesHash;
use super::grid::Place;
use super::leaf::{Flags, Leaf};
use super::node::Node;
use std::iter::Peekable;

/// What the two sides hold in one place. Where a side has several leaves of it, they are added up.
#[derive(Clone, Copy, Debug)]
pub struct BothSides {
    /// Series and bucket.
    pub place: Place,
    /// What the source holds.
    pub source: Option<Leaf>,
    /// What the destination holds.
    pub destination: Option<Leaf>,
}

impl BothSides {
    /// The source's node; no cells where it holds nothing.
    #[must_use]
    pub fn source_node(&self) -> Node {
        self.source.map_or_else(Node::default, |leaf| leaf.node)
    }

    /// The destination's node; no cells where it holds nothing.
    #[must_use]
    pub fn destination_node(&self) -> Node {
        self.destination.map_or_else(Node::default, |leaf| leaf.node)
    }

    /// True where both hold something.
    #[must_use]
    pub fn is_on_both(&self) -> bool {
        self.source.is_some() && self.destination.is_some()
    }

    /// What is to be known of the names of either.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let one = |leaf: Option<Leaf>| leaf.map(|leaf| leaf.flags()).unwrap_or_default();
        let (ours, theirs) = (one(self.source), one(self.destination));
        Flags { hidden: ours.hidden || theirs.hidden, cut: ours.cut || theirs.cut }
    }

    /// True where a cell of either has a name that files may cut elsewhere.
    #[must_use]
    pub fn may_be_cut(&self) -> bool {
        self.flags().cut
    }
}

/// Goes through two sorted runs of leaves once, side by side, and yields every place. The leaves of
/// each run have nothing in common.
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
    // Of buckets that begin together the longest stands first: the first of both sides is the place.
    let heads = [source.peek(), destination.peek()];
    let place = heads.into_iter().flatten().map(|leaf| leaf.place()).min()?;
    Some(BothSides { place, source: take(source, place), destination: take(destination, place) })
}

/// The sum of the leaves of a place, which stand first.
fn take<'a, I: Iterator<Item = &'a Leaf>>(
    leaves: &mut Peekable<I>,
    (series, bucket): Place,
) -> Option<Leaf> {
    let is_part = |leaf: &&Leaf| leaf.series == series && bucket.holds(leaf.bucket());
    let mut sum = *leaves.next_if(is_part)?;
    while let Some(leaf) = leaves.next_if(is_part) {
        sum.absorb(leaf);
    }
    Some(sum.of_bucket(bucket))
}

/// Series whose identity queries of a server cannot show, or show only in part: those stored under
/// another spelling of their key. Of two series with one identity one is always such a spelling.
pub fn hidden_from_queries(leaves: &[Leaf]) -> impl Iterator<Item = SeriesHash> {
    leaves.iter().filter(|leaf| leaf.is_hidden()).map(|leaf| leaf.series)
}
