//! Settles by a digest file as the older state: it holds no value, but the sum of every series and hour.
//!
//! ```text
//! the source holds what was digested       nobody changed it there: what the destination changed is kept
//! the destination holds what was digested  only the source changed: it counts
//! neither does                             both changed, or nobody knows: left
//! ```
//!
//! All cells of a series and hour share the answer. An hour that the digest was cut in is compared as far as
//! it was digested; of a time that it does not cover, nothing is known, and that is refused.

use super::Difference;
use crate::block::Block;
use crate::compare::partitions_of;
use crate::digest::cell::{SeriesHash, SeriesHasher};
use crate::digest::node::Node;
use crate::digest::set::hour_of;
use crate::digest_file::DigestFile;
use crate::error::{Error, Result};
use crate::plan::{Filter, Namespace, Wanted};
use crate::series::holds_separator;
use crate::source::{Source, for_each_block};
use crate::window::{HOUR, Window, format_time};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Who changed a series and hour since it was digested.
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

/// A series, and the part of an hour that was digested.
type Leaf = (SeriesHash, Window);

/// Leaves of one namespace of a side, and what they hold.
type Nodes = HashMap<Leaf, Node>;

/// Notes of every difference who changed its series and hour since they were digested; `name` gives its
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
    let each = || differences.iter().zip(&places);
    let then = digested(base, places.iter())?;
    let ours = each().map(|(one, (_, leaf))| (&one.cell.namespace, one, *leaf));
    let ours = held(source, ours)?;
    let theirs = each().map(|(one, (_, leaf))| (&one.destination, one, *leaf));
    let theirs = held(destination, theirs)?;
    for (one, (namespace, leaf)) in differences.iter_mut().zip(&places) {
        let node = |nodes: &BTreeMap<Namespace, Nodes>, namespace: &Namespace| {
            nodes.get(namespace).and_then(|nodes| nodes.get(leaf)).copied().unwrap_or_default()
        };
        let then = node(&then, namespace);
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

/// Where the digest holds the sum that a difference is part of.
fn place(
    one: &Difference,
    base: &DigestFile,
    name: &impl Fn(&Difference) -> Option<Namespace>,
) -> Result<(Namespace, Leaf)> {
    let time = one.cell.time;
    let namespace = name(one).unwrap_or_else(|| one.cell.namespace.clone());
    let start = hour_of(time).saturating_mul(HOUR);
    let hour = Window { start, end: start.saturating_add(HOUR) };
    let covered = base.coverage(&namespace);
    let part = covered.iter().find(|window| window.contains(time));
    let Some(part) = part.and_then(|part| part.intersect(hour)) else {
        let reason = format!("it was not digested of {namespace} at {}", format_time(time));
        let next = match (covered.first(), covered.last()) {
            (Some(first), Some(last)) => format!(
                "repair what it covers alone: --start {} --end {}",
                format_time(first.start),
                format_time(last.end)
            ),
            _ => "name another base, or repair what it holds alone (--db, --rp)".into(),
        };
        return Err(Error::location(base.path().display(), reason).with_next(next));
    };
    Ok((namespace, (SeriesHasher::new(&one.cell.series).series(), part)))
}

/// What the digest holds of some leaves.
fn digested<'p>(
    base: &DigestFile,
    places: impl Iterator<Item = &'p (Namespace, Leaf)>,
) -> Result<BTreeMap<Namespace, Nodes>> {
    let mut all: BTreeMap<Namespace, HashMap<(SeriesHash, i64), Leaf>> = BTreeMap::new();
    for (namespace, leaf) in places {
        let place = (leaf.0, hour_of(leaf.1.start));
        all.entry(namespace.clone()).or_default().insert(place, *leaf);
    }
    let mut found = BTreeMap::new();
    for (namespace, wanted) in all {
        let mut nodes = Nodes::new();
        let start = wanted.values().map(|leaf| leaf.1.start).min().unwrap_or_default();
        let end = wanted.values().map(|leaf| leaf.1.end).max().unwrap_or(start);
        base.leaves(&namespace, Window { start, end }, &mut |leaf, _| {
            if let Some(place) = wanted.get(&leaf.place()) {
                *nodes.entry(*place).or_default() += leaf.node;
            }
            Ok(())
        })?;
        found.insert(namespace, nodes);
    }
    Ok(found)
}

/// What a side holds of some leaves now.
fn held<'d>(
    side: &dyn Source,
    leaves: impl Iterator<Item = (&'d Namespace, &'d Difference, Leaf)>,
) -> Result<BTreeMap<Namespace, Nodes>> {
    type Parts = (BTreeSet<SeriesHash>, BTreeMap<i64, Window>);
    let mut wanted: BTreeMap<(&Namespace, &[u8]), Parts> = BTreeMap::new();
    for (namespace, one, (series, part)) in leaves {
        let parts = wanted.entry((namespace, one.cell.series.measurement())).or_default();
        parts.0.insert(series);
        parts.1.insert(hour_of(part.start), part);
    }
    let mut found: BTreeMap<Namespace, Nodes> = BTreeMap::new();
    for ((namespace, measurement), (series, parts)) in wanted {
        let series: Wanted = Arc::new(series);
        let nodes = found.entry(namespace.clone()).or_default();
        for window in joined(parts.values()) {
            let (only, filter) = (Some(&series), Filter::default());
            let partitions =
                partitions_of(side, Some(measurement), only, namespace, window, &filter)?;
            for_each_block(side, &partitions, |block| {
                add(block, &series, &parts, nodes);
                Ok(())
            })?;
        }
    }
    Ok(found)
}

/// Adds what a block holds of some series in parts of hours.
fn add(block: &Block, series: &Wanted, parts: &BTreeMap<i64, Window>, nodes: &mut Nodes) {
    for (one, rows) in block.runs() {
        let mut hasher = SeriesHasher::new(one);
        let hash = hasher.series();
        if !series.contains(&hash) {
            continue;
        }
        for column in block.columns() {
            let hasher = hasher.field(&column.field, column.field_type());
            for row in rows.clone() {
                let time = block.times()[row];
                let part = parts.get(&hour_of(time)).filter(|part| part.contains(time));
                if let (Some(part), Some(value)) = (part, column.get(row)) {
                    let node = nodes.entry((hash, *part)).or_default();
                    node.add(hasher.key(time), hasher.value(time, value));
                }
            }
        }
    }
}

/// Windows of which those that follow each other are one.
fn joined<'w>(parts: impl Iterator<Item = &'w Window>) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for part in parts {
        match windows.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => windows.push(*part),
        }
    }
    windows
}
