//! Places that differ on sides that take writes: they are read again, with growing pauses, before
//! anything is said of them.
//!
//! ```text
//! both sides agree                          transient: what was under way has arrived
//! both hold what they held before, unlike   confirmed: told apart and reported
//! a side still changes after the last pause unstable: nothing can be said
//! ```
//!
//! A side that cannot be read is an error of the whole comparison: no place is dropped.

use super::drill::{FEW, partitions_of};
use super::{Digest, Findings, Options, Sides, Unit, compare_range, measurement_of};
use crate::digest::grid::{Bucket, Level, Place, Places};
use crate::digest::leaf::{Flags, Leaf};
use crate::digest::node::Node;
use crate::digest::set::{self, Builder, HashRange};
use crate::error::Result;
use crate::plan::{Namespace, Wanted};
use crate::source::{Source, for_each_block};
use crate::window::{HOUR, Window};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A place that differed when it was read last.
#[derive(Clone, Debug)]
pub struct Pending {
    place: Place,
    /// Unescaped; unknown where there are too many names to keep.
    measurement: Option<Arc<[u8]>>,
    source: Node,
    destination: Node,
    /// What both sides held when they were read first, as it is in their totals.
    first: (Node, Node),
    /// What is to be known of its names.
    flags: Flags,
}

impl Pending {
    /// Its series and bucket.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// What the source holds.
    #[must_use]
    pub fn source(&self) -> Node {
        self.source
    }

    /// What the destination holds.
    #[must_use]
    pub fn destination(&self) -> Node {
        self.destination
    }

    /// What both sides held when they were read first.
    #[must_use]
    pub fn first(&self) -> (Node, Node) {
        self.first
    }

    /// The most cells that either side held.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.source.cells.max(self.destination.cells)
    }

    /// True where a time before which nothing is kept has reached its first hour. What is older than a
    /// shard group's end goes with that group, and none ends within an hour.
    #[must_use]
    pub fn is_reached(&self, floor: i64) -> bool {
        let Window { start, end } = self.place.1.window();
        start.saturating_add(HOUR).min(end) <= floor
    }
}

/// What reading places again showed.
#[derive(Debug, Default)]
pub struct Settled {
    /// Places on which both sides agree by now, and the cells that they hold.
    pub transient: Vec<Pending>,
    /// Places that hold on both sides what they held before.
    pub confirmed: Vec<Pending>,
    /// Places of which a side changed.
    pub moving: Vec<Pending>,
    /// Cells of the blocks that were read.
    pub cells_read: u64,
}

/// Compares the digests of one unit as far as they agree, and notes up to `room` places in which they
/// do not. What goes beyond is judged as it is, and marked.
///
/// # Errors
/// Where a side cannot be read again, or digests on disk cannot.
pub fn sift(
    sides: Sides<'_>,
    unit: &Unit,
    options: &Options,
    room: usize,
) -> Result<(Findings, Vec<Pending>)> {
    let mut all = Findings::of_totals(sides);
    let mut pending: Vec<Pending> = Vec::new();
    for range in set::ranges(&sides.ours.set, &sides.theirs.set, 2 * options.memory_max) {
        let (found, differ) = sift_range(sides, unit, range, options, room - pending.len())?;
        match differ {
            Some(differ) => {
                all.add(found, options.findings_max);
                pending.extend(differ);
            }
            None => {
                let mut found = compare_range(sides, unit, range, options)?;
                found.places.iter_mut().for_each(|place| place.read_once = true);
                found.read_once = found.counts.different() + found.counts.unresolved;
                all.add(found, options.findings_max);
            }
        }
    }
    super::name::places(&mut all.places, sides, unit, &options.filter)?;
    Ok((all, pending))
}

/// The places of a range that differ; `None` where there is no room for them.
fn sift_range(
    sides: Sides<'_>,
    unit: &Unit,
    range: HashRange,
    options: &Options,
    room: usize,
) -> Result<(Findings, Option<Vec<Pending>>)> {
    let (ours, theirs) = (sides.ours.set.leaves(range)?, sides.theirs.set.leaves(range)?);
    let mut findings = Findings::default();
    let mut pending = Vec::new();
    for both in super::differing(sides, unit, &ours, &theirs, options, &mut findings) {
        if pending.len() == room {
            return Ok((findings, None));
        }
        let (source, destination) = (both.source_node(), both.destination_node());
        pending.push(Pending {
            place: both.place,
            measurement: measurement_of(&both, sides),
            source,
            destination,
            first: (source, destination),
            flags: both.flags(),
        });
    }
    Ok((findings, Some(pending)))
}

/// Reads places again on both sides; `source` is `None` where it has no such namespace.
///
/// # Errors
/// Where a side cannot be read.
pub fn settle(
    source: Option<&dyn Source>,
    destination: &dyn Source,
    unit: &Unit,
    pending: Vec<Pending>,
    options: &Options,
) -> Result<Settled> {
    let mut settled = Settled::default();
    let ours = source.map(|side| Nodes::read(side, &unit.source, unit, &pending, options));
    let ours = ours.transpose()?.unwrap_or_default();
    let theirs = Nodes::read(destination, &unit.destination, unit, &pending, options)?;
    settled.cells_read = ours.cells_read + theirs.cells_read;
    for place in pending {
        let ours = ours.now(place.place, place.source);
        let theirs = theirs.now(place.place, place.destination);
        let same = ours == place.source && theirs == place.destination;
        let place = Pending { source: ours, destination: theirs, ..place };
        if ours == theirs {
            settled.transient.push(place);
        } else if same {
            settled.confirmed.push(place);
        } else {
            settled.moving.push(place);
        }
    }
    Ok(settled)
}

/// Places of one side as they are now.
#[derive(Default)]
struct Nodes {
    /// The nodes of those that hold something; `None` for a digest file, which does not change.
    nodes: Option<HashMap<Place, Node>>,
    cells_read: u64,
}

impl Nodes {
    fn now(&self, place: Place, before: Node) -> Node {
        match &self.nodes {
            Some(nodes) => nodes.get(&place).copied().unwrap_or_default(),
            None => before,
        }
    }

    fn read(
        side: &dyn Source,
        namespace: &Namespace,
        unit: &Unit,
        pending: &[Pending],
        options: &Options,
    ) -> Result<Self> {
        if side.digest_file().is_some() {
            return Ok(Self::default());
        }
        let filter = &options.filter;
        let (mut nodes, mut cells_read) = (HashMap::<Place, Node>::new(), 0);
        for Stretches { measurement, series, places, windows } in stretches(pending) {
            let measurement = measurement.as_deref();
            for window in windows.into_iter().filter_map(|window| window.intersect(unit.window)) {
                let partitions =
                    partitions_of(side, measurement, Some(&series), namespace, window, filter)?;
                for_each_block(side, &partitions, |block| {
                    cells_read += block.cells();
                    set::sums_at(
                        block,
                        &places,
                        |one| filter.admits(one),
                        |place, node| {
                            *nodes.entry(place).or_default() += node;
                        },
                    );
                    Ok(())
                })?;
            }
        }
        Ok(Self { nodes: Some(nodes), cells_read })
    }
}

/// What is read again of one measurement.
struct Stretches {
    measurement: Option<Arc<[u8]>>,
    /// Its series alone: a server lists no others of it.
    series: Wanted,
    /// What of it is to be summed: each place is in one stretch.
    places: Places,
    /// Its buckets of one length, those that follow each other joined.
    windows: Vec<Window>,
}

fn stretches(pending: &[Pending]) -> impl Iterator<Item = Stretches> {
    // By level: a dense series is not to be read for a day because a sparse one differs in that.
    // And of few places each bucket by itself, with the series that differ in that.
    type Kind = (Option<Arc<[u8]>>, Level, Option<Bucket>);
    let few = pending.len() <= FEW;
    let mut kinds: BTreeMap<Kind, Vec<Place>> = BTreeMap::new();
    for one in pending {
        let bucket = one.place.1;
        let kind = (one.measurement.clone(), bucket.level(), few.then_some(bucket));
        kinds.entry(kind).or_default().push(one.place);
    }
    let joined = |buckets: BTreeSet<Bucket>| {
        let mut windows: Vec<Window> = Vec::new();
        for window in buckets.into_iter().map(Bucket::window) {
            match windows.last_mut() {
                Some(last) if last.end == window.start => last.end = window.end,
                _ => windows.push(window),
            }
        }
        windows
    };
    kinds.into_iter().map(move |((measurement, ..), places)| Stretches {
        measurement,
        series: Arc::new(places.iter().map(|place| place.0).collect()),
        windows: joined(places.iter().map(|place| place.1).collect()),
        places: places.into_iter().collect(),
    })
}

/// Digests of both sides that hold nothing but some places, to be compared as any are.
///
/// # Errors
/// Where they do not fit in memory and cannot be written to disk.
pub fn digests_of(pending: &[Pending], options: &Options) -> Result<(Digest, Digest)> {
    let digest = |node: fn(&Pending) -> Node| -> Result<Digest> {
        let mut set = Builder::new(options.memory_max, options.spill.clone());
        for one in pending.iter().filter(|one| node(one).cells > 0) {
            let leaf = Leaf::new(one.place, node(one), one.flags);
            set.add_leaf(&leaf, one.measurement.as_deref())?;
        }
        Ok(Digest { set: set.finish()?, ..Digest::default() })
    };
    Ok((digest(|one| one.source)?, digest(|one| one.destination)?))
}
