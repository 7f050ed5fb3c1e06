//! `digest`: reads a source once and gives the digest of each measurement, to be compared by eye,
//! by a script, or later.

use crate::digest::node::Node;
use crate::digest::set;
use crate::error::{ErrorKind, Result};
use crate::pipeline::{self, Progress, Stage};
use crate::plan::{Filter, Namespace, Scope};
use crate::source::{Source, for_each_block};
use crate::window::Window;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Most measurements that are told apart.
const MEASUREMENTS_MAX: usize = 1_000_000;

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
            if digests.len() > MEASUREMENTS_MAX {
                let what = format!("the number of measurements of {}", source.name());
                return Err(ErrorKind::Limit { what, max: MEASUREMENTS_MAX.to_string() }.into());
            }
            Ok(())
        })?;
        progress.unit_done();
        Ok(())
    })?;
    Ok(digests.into_inner().unwrap_or_else(PoisonError::into_inner))
}
