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

use super::drill::partitions_of;
use super::{Digest, Findings, Options, Sides, Unit, compare_range, hour_window, measurement_of};
use crate::digest::cell::{SeriesHash, SeriesHasher};
use crate::digest::node::Node;
use crate::digest::set::{self, Builder, Flags, HashRange, Leaf, Place};
use crate::error::Result;
use crate::plan::{Namespace, Wanted};
use crate::source::{Source, for_each_block};
use crate::window::Window;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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

    /// Its hour.
    #[must_use]
    pub fn window(&self) -> Window {
        hour_window(self.place.1)
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
        let (found, differ) = sift_range(sides, range, options, room - pending.len())?;
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
    range: HashRange,
    options: &Options,
    room: usize,
) -> Result<(Findings, Option<Vec<Pending>>)> {
    let (ours, theirs) = (sides.ours.set.leaves(range)?, sides.theirs.set.leaves(range)?);
    let mut findings = Findings::default();
    let mut pending = Vec::new();
    for both in super::differing(sides, &ours, &theirs, options, &mut findings) {
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
        let places: HashSet<Place> = pending.iter().map(|one| one.place).collect();
        let (filter, memory) = (&options.filter, options.memory_max);
        let (mut nodes, mut cells_read) = (HashMap::new(), 0);
        for Stretches { measurement, series, windows } in stretches(pending) {
            let measurement = measurement.as_deref();
            for window in windows.into_iter().filter_map(|window| window.intersect(unit.window)) {
                let mut set = Builder::new(memory, options.spill.clone());
                let partitions =
                    partitions_of(side, measurement, Some(&series), namespace, window, filter)?;
                for_each_block(side, &partitions, |block| {
                    cells_read += block.cells();
                    set.add_block(block, |one| {
                        filter.admits(one) && series.contains(&SeriesHasher::new(one).series())
                    })
                })?;
                let set = set.finish()?;
                for range in set::ranges(&set, &set, 2 * memory) {
                    let leaves = set.leaves(range)?;
                    let wanted = leaves.iter().filter(|leaf| places.contains(&leaf.place()));
                    nodes.extend(wanted.map(|leaf| (leaf.place(), leaf.node)));
                }
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
    /// Its hours, those that follow each other joined.
    windows: Vec<Window>,
}

fn stretches(pending: &[Pending]) -> impl Iterator<Item = Stretches> {
    type Places = (BTreeSet<SeriesHash>, BTreeSet<i64>);
    let mut places: BTreeMap<Option<Arc<[u8]>>, Places> = BTreeMap::new();
    for one in pending {
        let (series, hours) = places.entry(one.measurement.clone()).or_default();
        series.insert(one.place.0);
        hours.insert(one.place.1);
    }
    let joined = |hours: BTreeSet<i64>| {
        let mut windows: Vec<Window> = Vec::new();
        for window in hours.into_iter().map(hour_window) {
            match windows.last_mut() {
                Some(last) if last.end == window.start => last.end = window.end,
                _ => windows.push(window),
            }
        }
        windows
    };
    places.into_iter().map(move |(measurement, (series, hours))| Stretches {
        measurement,
        series: Arc::new(series),
        windows: joined(hours),
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
            let hour = i32::try_from(one.place.1).unwrap_or(i32::MAX);
            let leaf = Leaf::new(one.place.0, hour, node(one), one.flags);
            set.add_leaf(&leaf, one.measurement.as_deref())?;
        }
        Ok(Digest { set: set.finish()?, ..Digest::default() })
    };
    Ok((digest(|one| one.source)?, digest(|one| one.destination)?))
}
