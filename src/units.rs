//! Divides a command's work into units: which namespace is compared with which, and in which
//! windows. Pure functions of what both sides say about themselves.

use crate::compare::Unit;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Filter, Grid, Held, Namespace, Partition, Scope};
use crate::source::Source;
use crate::window::Window;

/// A namespace of the source and the one of the destination that it is compared with or copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What the source holds.
    pub source: Held,
    /// The destination's name for it, which may not exist yet.
    pub destination: Namespace,
    /// The time range.
    pub window: Window,
}

/// Database and RP that the operator named for the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Database; the source's name where none is given.
    pub database: Option<String>,
    /// RP; the source's name where none is given.
    pub retention_policy: Option<String>,
}

/// Pairs the namespaces of a source with those of a destination by name, or by the names that the
/// operator gave.
///
/// # Errors
/// A usage error where two databases or RPs would be mapped to one.
pub fn pairs(source: Vec<Held>, target: &Target, window: Window) -> Result<Vec<Pair>> {
    let mut pairs: Vec<Pair> = Vec::new();
    for held in source {
        let from = &held.namespace;
        let destination = Namespace {
            database: target.database.clone().unwrap_or_else(|| from.database.clone()),
            retention_policy: target
                .retention_policy
                .clone()
                .unwrap_or_else(|| from.retention_policy.clone()),
        };
        if let Some(other) = pairs.iter().find(|pair| pair.destination == destination) {
            return Err(Error::usage(format!(
                "{} and {from} of the source would both become {destination}: name one of them \
                 with --db and --rp",
                other.source.namespace
            )));
        }
        pairs.push(Pair { source: held, destination, window });
    }
    Ok(pairs)
}

/// Windows in which either side may hold something, cut along the grid, in order of time.
///
/// # Errors
/// Where a side cannot be asked, or there are too many of them.
pub fn units(
    pair: &Pair,
    source: &dyn Source,
    destination: Option<&dyn Source>,
    grid: Grid,
    filter: &Filter,
) -> Result<Vec<Unit>> {
    let window = pair.window;
    let plan = |side: &dyn Source, namespace: &Namespace| {
        let scope = Scope { namespace: namespace.clone(), window, filter: filter.clone() };
        side.plan(&scope)
    };
    let held =
        |partitions: Vec<Partition>| partitions.into_iter().map(|partition| partition.window);
    let mut windows: Vec<Window> = held(plan(source, &pair.source.namespace)?).collect();
    match destination.map_or(Ok(Vec::new()), |side| plan(side, &pair.destination)) {
        Ok(partitions) => windows.extend(held(partitions)),
        // A namespace that is still to be made holds nothing.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    windows.sort_unstable();
    windows.dedup();
    let unit = |window| Unit {
        source: pair.source.namespace.clone(),
        destination: pair.destination.clone(),
        window,
    };
    Ok(grid.cells(&windows, window)?.into_iter().map(unit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(database: &str, retention_policy: &str) -> Held {
        let namespace =
            Namespace { database: database.into(), retention_policy: retention_policy.into() };
        Held { namespace, settings: None }
    }

    #[test]
    fn names_are_kept_unless_the_operator_gives_others() {
        let kept =
            pairs(vec![held("a", "x"), held("a", "y")], &Target::default(), Window::ALL).unwrap();
        assert_eq!(kept[1].destination, held("a", "y").namespace);
        let target = Target { database: Some("b".into()), retention_policy: None };
        let mapped = pairs(vec![held("a", "x")], &target, Window::ALL).unwrap();
        assert_eq!(mapped[0].destination, held("b", "x").namespace);
    }

    #[test]
    fn two_namespaces_never_become_one() {
        let target = Target { database: Some("b".into()), retention_policy: None };
        assert!(pairs(vec![held("a", "x"), held("c", "x")], &target, Window::ALL).is_err());
        let target = Target { database: None, retention_policy: Some("z".into()) };
        assert!(pairs(vec![held("a", "x"), held("a", "y")], &target, Window::ALL).is_err());
    }
}
