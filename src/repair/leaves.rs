//! Settles by a digest file as the older state: it holds no value, but the sum of every series and bucket of time.
//!
//! ```text
//! the source holds what was digested       nobody changed it there: what the destination changed is kept
//! the destination holds what was digested  only the source changed: it counts
//! neither does                             both changed, or nobody knows: left
//! ```
//!
//! All cells of a series and bucket share the answer. A bucket that the digest was cut in is compared as far as
//! it was digested; of a time that it does not cover, nothing is known, and that is refused.

use super::Difference;
use crate::block::Block;
use crate::compare::partitions_of;
use crate::digest::cell::{SeriesHash, SeriesHasher};
use crate::digest::grid::{Bucket, Level};
use crate::digest::node::Node;
use crate::digest_file::DigestFile;
use crate::error::{Error, Result};
use crate::plan::{Filter, Namespace, Wanted};
use crate::series::holds_separator;
use crate::source::{Source, for_each_block};
use crate::window::{Window, format_time};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Who changed a series and bucket since it was digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// The source: the destination holds what was digested.
    AtSource,
    /// The destination: the source holds what was digested.
    AtDestination,
    /// Both, as far as is known.
    AtBoth,
}

/// A series, and the part of a bucket that was digested.
type Leaf = (SeriesHash, Window);

/// Leaves of one namespace of a side, and what they hold.
type Nodes = HashMap<Leaf, Node>;

/// Stretches of time of a series, by their starts; none has anything in common with another.
type Stretches = BTreeMap<i64, Window>;

/// Notes of every difference who changed its series and bucket since they were digested; `name` gives its
/// namespace in the digest.
///
/// # Errors
/// Where the digest was not made of a difference's time, or where a side or the file cannot be read.
pub fn note(
    differences: &mut [Difference],
    base: &DigestFile,
    (source, destination): (&dyn Source, &dyn Source),
    name: impl Fn(&Difference) -> Option<Namespace>,
) -> Result<()> {
    let mut places = Vec::with_capacity(differences.len());
    for one in differences.iter() {
        places.push(place(one, base, &name)?);
    }
    let then = digested(base, &places)?;
    let places: Vec<(Namespace, Leaf)> =
        places.into_iter().map(|place| place.leaf(&then)).collect();
    let each = || differences.iter().zip(&places);
    let ours = each().map(|(one, (_, leaf))| (&one.cell.namespace, one, *leaf));
    let ours = held(source, ours)?;
    let theirs = each().map(|(one, (_, leaf))| (&one.destination, one, *leaf));
    let theirs = held(destination, theirs)?;
    for (one, (namespace, leaf)) in differences.iter_mut().zip(&places) {
        let node = |nodes: &BTreeMap<Namespace, Nodes>, namespace: &Namespace| {
            nodes.get(namespace).and_then(|nodes| nodes.get(leaf)).copied().unwrap_or_default()
        };
        let then = then.get(namespace).and_then(|held| held.node(*leaf)).unwrap_or_default();
        let as_source = node(&ours, &one.cell.namespace) == then;
        let as_destination = node(&theirs, &one.destination) == then;
        one.changed = Some(match (as_source, as_destination) {
            // Files may show it as another series: that the digest lacks it says nothing.
            _ if holds_separator(one.cell.series.key()) => Changed::AtBoth,
            (true, false) => Changed::AtDestination,
            (false, true) => Changed::AtSource,
            // Where both hold it by now, they changed after they were compared.
            _ => Changed::AtBoth,
        });
    }
    Ok(())
}

/// A difference, and the times about it that were digested.
struct Place {
    namespace: Namespace,
    series: SeriesHash,
    time: i64,
    covered: Window,
}

impl Place {
    /// The leaf that it is part of: the part of its bucket that was digested. Where the digest holds nothing
    /// about it, nothing was in the minute, however long the buckets beside it are.
    fn leaf(self, then: &BTreeMap<Namespace, Held>) -> (Namespace, Leaf) {
        let held = then.get(&self.namespace).and_then(|held| held.of(self.series, self.time));
        let bucket = held.map_or(Bucket::holding(Level::Minute, self.time), |(bucket, _)| bucket);
        let part = bucket.window().intersect(self.covered).unwrap_or(self.covered);
        (self.namespace, (self.series, part))
    }
}

/// Where a difference is, and which of it was digested.
fn place(
    one: &Difference,
    base: &DigestFile,
    name: &impl Fn(&Difference) -> Option<Namespace>,
) -> Result<Place> {
    let time = one.cell.time;
    let namespace = name(one).unwrap_or_else(|| one.cell.namespace.clone());
    let known = base.coverage(&namespace);
    let Some(covered) = known.iter().find(|window| window.contains(time)).copied() else {
        let reason = format!("it was not digested of {namespace} at {}", format_time(time));
        let next = match (known.first(), known.last()) {
            (Some(first), Some(last)) => format!(
                "repair what it covers alone: --start {} --end {}",
                format_time(first.start),
                format_time(last.end)
            ),
            _ => "name another base, or repair what it holds alone (--db, --rp)".into(),
        };
        return Err(Error::location(base.path().display(), reason).with_next(next));
    };
    let series = SeriesHasher::new(&one.cell.series).series();
    Ok(Place { namespace, series, time, covered })
}

/// What a digest holds of some series of a namespace, sorted; no bucket has anything in common with another.
#[derive(Default)]
struct Held(HashMap<SeriesHash, Vec<(Bucket, Node)>>);

impl Held {
    /// Adds up what lies in one bucket: merged digests may hold it in parts.
    fn merge(&mut self) {
        for leaves in self.0.values_mut() {
            leaves.sort_unstable_by_key(|(bucket, _)| *bucket);
            leaves.dedup_by(|later, kept| {
                let is_part = kept.0.holds(later.0);
                if is_part {
                    kept.1 += later.1;
                }
                is_part
            });
        }
    }

    fn of(&self, series: SeriesHash, time: i64) -> Option<(Bucket, Node)> {
        let leaves = self.0.get(&series)?;
        let behind = leaves.partition_point(|(bucket, _)| bucket.window().start <= time);
        let leaf = *leaves.get(behind.checked_sub(1)?)?;
        leaf.0.window().contains(time).then_some(leaf)
    }

    fn node(&self, (series, part): Leaf) -> Option<Node> {
        self.of(series, part.start).map(|(_, node)| node)
    }
}

/// What the digest holds about some differences.
fn digested(base: &DigestFile, places: &[Place]) -> Result<BTreeMap<Namespace, Held>> {
    let mut all: BTreeMap<&Namespace, HashMap<SeriesHash, BTreeSet<i64>>> = BTreeMap::new();
    for place in places {
        let times = all.entry(&place.namespace).or_default().entry(place.series).or_default();
        times.insert(place.time);
    }
    let mut found = BTreeMap::new();
    for (namespace, wanted) in all {
        let mut held = Held::default();
        let start = wanted.values().filter_map(BTreeSet::first).min().copied().unwrap_or_default();
        let last = wanted.values().filter_map(BTreeSet::last).max().copied().unwrap_or(start);
        // Of merged digests one may hold an hour of a day that another holds as a whole.
        let day = |time| Bucket::holding(Level::Day, time).window();
        let window = Window { start: day(start).start, end: day(last).end };
        base.leaves(namespace, window, &mut |leaf, _| {
            let Some(times) = wanted.get(&leaf.series) else { return Ok(()) };
            let Window { start, end } = leaf.bucket().within(Level::Day).window();
            if times.range(start..end).next().is_some() {
                held.0.entry(leaf.series).or_default().push((leaf.bucket(), leaf.node));
            }
            Ok(())
        })?;
        held.merge();
        found.insert(namespace.clone(), held);
    }
    Ok(found)
}

/// What a side holds of some leaves now.
fn held<'d>(
    side: &dyn Source,
    leaves: impl Iterator<Item = (&'d Namespace, &'d Difference, Leaf)>,
) -> Result<BTreeMap<Namespace, Nodes>> {
    type Parts = HashMap<SeriesHash, Stretches>;
    let mut wanted: BTreeMap<(&Namespace, &[u8]), Parts> = BTreeMap::new();
    for (namespace, one, (series, part)) in leaves {
        let parts = wanted.entry((namespace, one.cell.series.measurement())).or_default();
        parts.entry(series).or_default().insert(part.start, part);
    }
    let mut found: BTreeMap<Namespace, Nodes> = BTreeMap::new();
    for ((namespace, measurement), parts) in wanted {
        let series: Wanted = Arc::new(parts.keys().copied().collect());
        let nodes = found.entry(namespace.clone()).or_default();
        for window in joined(parts.values().flat_map(BTreeMap::values)) {
            let (only, filter) = (Some(&series), Filter::default());
            let partitions =
                partitions_of(side, Some(measurement), only, namespace, window, &filter)?;
            for_each_block(side, &partitions, |block| {
                add(block, &parts, window, nodes);
                Ok(())
            })?;
        }
    }
    Ok(found)
}

/// Adds what a block holds of some series in their parts of a window.
fn add(block: &Block, wanted: &HashMap<SeriesHash, Stretches>, window: Window, nodes: &mut Nodes) {
    for (one, rows) in block.runs() {
        let mut hasher = SeriesHasher::new(one);
        let hash = hasher.series();
        let Some(parts) = wanted.get(&hash) else { continue };
        let part_at = |time: i64| {
            let (_, part) = parts.range(..=time).next_back()?;
            (part.contains(time) && window.contains(time)).then_some(*part)
        };
        for column in block.columns() {
            let hasher = hasher.field(&column.field, column.field_type());
            for row in rows.clone() {
                let time = block.times()[row];
                if let (Some(part), Some(value)) = (part_at(time), column.get(row)) {
                    let node = nodes.entry((hash, part)).or_default();
                    node.add(hasher.key(time), hasher.value(time, value));
                }
            }
        }
    }
}

/// Windows in order of which those that meet or follow each other are one.
fn joined<'w>(parts: impl Iterator<Item = &'w Window>) -> Vec<Window> {
    let mut parts: Vec<Window> = parts.copied().collect();
    parts.sort_unstable();
    let mut windows: Vec<Window> = Vec::new();
    for part in parts {
        match windows.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => windows.push(part),
        }
    }
    windows
}
