//! `digest`: reads a source once and gives the digest of each measurement, to be compared by eye,
//! by a script, or later: then from the digest file in which they are saved.

mod export;
mod merge;
mod save;

pub use self::export::export;
pub use self::merge::merge;
pub use self::save::{Options, Saved, save};

use crate::digest::node::Node;
use crate::digest::set;
use crate::digest_file::DigestFile;
use crate::error::{ErrorKind, Result};
use crate::pipeline::{self, Progress, Stage};
use crate::plan::{Filter, Namespace, Scope};
use crate::source::{Source, for_each_block};
use crate::window::Window;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

/// Most measurements that are told apart.
const MEASUREMENTS_MAX: usize = 1_000_000;

/// What stands for the measurements whose names a digest file had no room for.
const UNNAMED: &[u8] = b"(measurements whose names were too many to keep)";

/// Digests by namespace and measurement, unescaped.
pub type Digests = BTreeMap<(Namespace, Box<[u8]>), Node>;

/// Digests every namespace, `jobs` partitions at a time.
///
/// # Errors
/// Where the source cannot be read, or holds too many measurements.
pub fn run(
    source: &dyn Source,
    namespaces: &[Namespace],
    window: Window,
    filter: &Filter,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<Digests> {
    if let Some(file) = source.digest_file() {
        return of_file(file, namespaces, window, progress);
    }
    let mut partitions = Vec::new();
    for namespace in namespaces {
        partitions.extend(source.plan(&Scope::new(namespace, window, filter))?);
    }
    let digests = Mutex::new(Digests::new());
    progress.units(partitions.len());
    progress.done(Stage::Verify, 0, 0);
    pipeline::for_each(jobs, &partitions, |partition| {
        for_each_block(source, std::slice::from_ref(partition), |block| {
            let node = set::sum(block, |series| filter.admits(series));
            let Some((first, _)) = block.runs().next().filter(|_| node.cells > 0) else {
                return Ok(());
            };
            progress.done(Stage::Verify, node.cells, 0);
            let mut digests = digests.lock().unwrap_or_else(PoisonError::into_inner);
            let name = (partition.namespace.clone(), first.measurement().into());
            *digests.entry(name).or_default() += node;
            limit(digests.len(), &source.name())
        })?;
        progress.unit_done();
        Ok(())
    })?;
    Ok(digests.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The digests of what a digest file holds.
fn of_file(
    file: &DigestFile,
    namespaces: &[Namespace],
    window: Window,
    progress: &dyn Progress,
) -> Result<Digests> {
    let mut digests = Digests::new();
    progress.done(Stage::Verify, 0, 0);
    for namespace in namespaces {
        file.leaves(namespace, window, &mut |leaf, measurement| {
            let name = measurement.map_or(UNNAMED, |name| name);
            progress.done(Stage::Verify, leaf.node.cells, 0);
            *digests.entry((namespace.clone(), name.into())).or_default() += leaf.node;
            limit(digests.len(), &file.path().display())
        })?;
    }
    Ok(digests)
}

fn limit(measurements: usize, place: &dyn Display) -> Result<()> {
    if measurements <= MEASUREMENTS_MAX {
        return Ok(());
    }
    let what = format!("the number of measurements of {place}");
    Err(ErrorKind::Limit { what, max: MEASUREMENTS_MAX.to_string() }.into())
}
