//! Divides a command's work into units: which namespace is compared with which, and in which
//! windows. Pure functions of what both sides say about themselves.

use crate::compare::Unit;
use crate::error::{Error, Result};
use crate::plan::{Filter, Grid, Held, Namespace, RpSettings, Scope};
use crate::source::{Source, plan_or_nothing};
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
    /// The source has no such namespace: all that the destination holds there is extra.
    pub source_lacks: bool,
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
        let pair = Pair { source: held, destination, window, source_lacks: false };
        if let Some(other) = pairs.iter().find(|other| other.destination == pair.destination) {
            return Err(two_become_one(&other.source.namespace, &pair));
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Settings of a namespace, if they are known; an empty RP name stands for the default one.
#[must_use]
pub fn settings_of<'a>(held: &'a [Held], namespace: &Namespace) -> Option<&'a RpSettings> {
    let same = held.iter().filter(|held| held.namespace.database == namespace.database);
    let mut known = same.filter_map(|held| Some((held, held.settings.as_ref()?)));
    let found = known.find(|(held, settings)| match namespace.retention_policy.as_str() {
        "" => settings.is_default(),
        wanted => held.namespace.retention_policy == wanted,
    });
    found.map(|(_, settings)| settings)
}

/// Puts the names that the destination knows where the source names none: the default RP, or the
/// only namespace there is.
///
/// # Errors
/// A usage error where two namespaces then become one.
pub fn resolve(pairs: &mut [Pair], held: &[Held]) -> Result<()> {
    if let ([pair], [only]) = (&mut *pairs, held)
        && (pair.destination.database.is_empty() || only.namespace.database.is_empty())
    {
        pair.destination = only.namespace.clone();
    }
    for at in 0..pairs.len() {
        let wanted = pairs[at].destination.clone();
        let default = held.iter().find(|held| {
            held.namespace.database == wanted.database
                && held.settings.as_ref().is_some_and(RpSettings::is_default)
        });
        if let Some(default) = default.filter(|_| wanted.retention_policy.is_empty()) {
            pairs[at].destination = default.namespace.clone();
        }
        let (before, rest) = pairs.split_at(at);
        if let Some(other) = before.iter().find(|other| other.destination == rest[0].destination) {
            return Err(two_become_one(&other.source.namespace, &rest[0]));
        }
    }
    Ok(())
}

/// Adds the destination's namespaces that no namespace of the source is compared with: what they
/// hold is extra.
pub fn add_unpaired(pairs: &mut Vec<Pair>, held: &[Held], window: Window) {
    for held in held {
        if pairs.iter().all(|pair| pair.destination != held.namespace) {
            let source = Held { namespace: held.namespace.clone(), settings: None };
            let destination = held.namespace.clone();
            pairs.push(Pair { source, destination, window, source_lacks: true });
        }
    }
}

fn two_become_one(other: &Namespace, pair: &Pair) -> Error {
    Error::usage(format!(
        "{other} and {} of the source would both become {}: name one of them with --db and --rp",
        pair.source.namespace, pair.destination
    ))
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
    let mut windows: Vec<Window> = Vec::new();
    let mut add = |side: &dyn Source, namespace: &Namespace| -> Result<()> {
        let partitions = plan_or_nothing(side, &Scope::new(namespace, window, filter))?;
        windows.extend(partitions.into_iter().map(|partition| partition.window));
        Ok(())
    };
    if !pair.source_lacks {
        add(source, &pair.source.namespace)?;
    }
    if let Some(destination) = destination {
        add(destination, &pair.destination)?;
    }
    windows.sort_unstable();
    windows.dedup();
    let unit = |window| Unit {
        source: pair.source.namespace.clone(),
        source_lacks: pair.source_lacks,
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
