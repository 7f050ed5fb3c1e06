//! Deletes points that only the destination holds, and nothing else.
//!
//! A point is deleted only where a statement can name its series exactly, all of it is extra, no other
//! retention policy of the database holds a point of that series at that time (`DELETE` would take it,
//! too), and it still is as it was when it was compared. Afterwards every other point of the measurement
//! at these times, in every policy, has to be there as before.

use super::{Action, Difference, look};
use crate::compare::OwnedValue;
use crate::digest::cell::{SeriesHash, SeriesHasher};
use crate::error::Result;
use crate::http::Client;
use crate::influxql::{self, delete};
use crate::plan::Namespace;
use crate::series::Series;
use crate::source::Source;
use crate::stop::Stop;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Points that one run deletes: each takes a statement.
const POINTS_MAX: usize = 10_000;

/// Where deleting takes place.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "sources do not ask for Debug")]
pub struct Places<'a> {
    /// The destination's server.
    pub client: &'a Client,
    /// Reads it.
    pub destination: &'a dyn Source,
    /// Reads the source.
    pub source: &'a dyn Source,
}

/// A point that can be deleted.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its namespace at the destination.
    pub namespace: Namespace,
    /// Its series.
    pub series: Arc<Series>,
    /// Nanoseconds.
    pub time: i64,
    /// The statement.
    pub statement: String,
}

/// Points of one measurement of one namespace that are to be deleted.
#[derive(Default)]
struct Group {
    source: Namespace,
    times: BTreeSet<i64>,
    points: BTreeMap<(Vec<u8>, i64), Vec<usize>>,
}

/// A field and its value.
type Cell = (Arc<[u8]>, OwnedValue);

/// What a side holds at the times of a group.
type Found = HashMap<(SeriesHash, i64), Vec<Cell>>;

/// Looks at every point that is to be deleted. Where one must not be, its cells are refused with the
/// reason; the others are given.
///
/// # Errors
/// Where a side cannot be read or asked.
pub fn check(places: Places<'_>, differences: &mut [Difference]) -> Result<Vec<Target>> {
    let mut groups: BTreeMap<(Namespace, Vec<u8>), Group> = BTreeMap::new();
    for (number, one) in differences.iter().enumerate() {
        if one.action == Action::Delete {
            let cell = &one.cell;
            let key = (one.destination.clone(), cell.series.measurement().to_vec());
            let group = groups.entry(key).or_default();
            group.source.clone_from(&cell.namespace);
            group.times.insert(cell.time);
            let point = (cell.series.key().to_vec(), cell.time);
            group.points.entry(point).or_default().push(number);
        }
    }
    let mut targets = Vec::new();
    for ((namespace, measurement), group) in groups {
        check_group(places, &namespace, &measurement, &group, differences, &mut targets)?;
    }
    Ok(targets)
}

fn check_group(
    places: Places<'_>,
    namespace: &Namespace,
    measurement: &[u8],
    group: &Group,
    differences: &mut [Difference],
    targets: &mut Vec<Target>,
) -> Result<()> {
    let known = delete::tag_keys(places.client, &namespace.database, measurement)?;
    let source = found(places.source, &group.source, measurement, &group.times)?;
    let (mut own, mut elsewhere) = (Found::new(), HashMap::new());
    for policy in policies(places.client, namespace)? {
        let held = found(places.destination, &policy, measurement, &group.times)?;
        if policy == *namespace {
            own = held;
        } else {
            elsewhere.extend(held.into_keys().map(|key| (key, policy.clone())));
        }
    }
    for ((_, time), numbers) in &group.points {
        let series = Arc::clone(&differences[numbers[0]].cell.series);
        let key = (SeriesHasher::new(&series).series(), *time);
        let statement = if targets.len() >= POINTS_MAX {
            Err(format!("one run deletes {POINTS_MAX} points: run it again"))
        } else if !series.shown_by_queries() {
            Err("queries do not show a series of that key as it is stored".into())
        } else if source.contains_key(&key) {
            Err("the source holds this point with other fields, and DELETE takes whole points"
                .into())
        } else if let Some(policy) = elsewhere.get(&key) {
            Err(format!(
                "{policy} holds a point of this series at this time, and DELETE takes both"
            ))
        } else if !is_as_compared(own.get(&key), numbers, differences) {
            Err("it is not what it was when it was compared".into())
        } else {
            delete::point(&series, &known, *time)
        };
        match statement {
            Ok(statement) => {
                let namespace = namespace.clone();
                targets.push(Target { namespace, series, time: *time, statement });
            }
            Err(reason) => {
                numbers.iter().for_each(|&number| differences[number].refuse(reason.clone()));
            }
        }
    }
    Ok(())
}

/// True where a point has exactly the cells that were found to be extra.
fn is_as_compared(held: Option<&Vec<Cell>>, numbers: &[usize], differences: &[Difference]) -> bool {
    let same = |(field, value): &Cell| {
        numbers.iter().any(|&number| {
            let cell = &differences[number].cell;
            cell.field == *field && cell.destination.as_ref() == Some(value)
        })
    };
    held.is_some_and(|held| held.len() == numbers.len() && held.iter().all(same))
}

fn found(
    side: &dyn Source,
    namespace: &Namespace,
    measurement: &[u8],
    times: &BTreeSet<i64>,
) -> Result<Found> {
    let mut found = Found::new();
    look::points(side, namespace, measurement, times, |held| {
        let key = (SeriesHasher::new(held.series).series(), held.time);
        let cells = held.cells().map(|(field, value)| (Arc::clone(field), value));
        found.entry(key).or_default().extend(cells);
    })?;
    Ok(found)
}

/// The retention policies of a database, with its name.
fn policies(client: &Client, namespace: &Namespace) -> Result<Vec<Namespace>> {
    let database = &namespace.database;
    let policies = influxql::retention_policies(client, database)?;
    let named = |(retention_policy, _)| Namespace { database: database.clone(), retention_policy };
    Ok(policies.into_iter().map(named).collect())
}

/// Deletes points one after the other. Gives those that vanished besides, a line each.
///
/// # Errors
/// Where the server cannot be asked, refuses a statement, or an end was asked for.
pub fn run(places: Places<'_>, targets: &[Target], stop: &Stop) -> Result<Vec<String>> {
    let before = around(places, targets)?;
    for target in targets {
        stop.check()?;
        delete::execute(places.client, &target.namespace.database, &target.statement)?;
    }
    let after = around(places, targets)?;
    let meant: HashSet<(&Namespace, &[u8], i64)> = targets
        .iter()
        .map(|target| (&target.namespace, target.series.key(), target.time))
        .collect();
    let gone = |(point, cells): &(&Point, &usize)| {
        let (namespace, key, time) = point;
        !meant.contains(&(namespace, &**key, *time))
            && after.get(point).is_none_or(|now| now < cells)
    };
    let mut lines: Vec<String> = before
        .iter()
        .filter(gone)
        .map(|((namespace, key, time), _)| {
            format!("{namespace} {} {time}", crate::series::Printable(key))
        })
        .collect();
    lines.sort_unstable();
    Ok(lines)
}

/// A point of any series: namespace, raw key, time.
type Point = (Namespace, Vec<u8>, i64);

/// Every point of the measurements at these times, in every policy, with the number of its cells.
fn around(places: Places<'_>, targets: &[Target]) -> Result<HashMap<Point, usize>> {
    let mut wanted: BTreeMap<(&Namespace, &[u8]), BTreeSet<i64>> = BTreeMap::new();
    for target in targets {
        let key = (&target.namespace, target.series.measurement());
        wanted.entry(key).or_default().insert(target.time);
    }
    let mut points = HashMap::new();
    for ((namespace, measurement), times) in wanted {
        for policy in policies(places.client, namespace)? {
            look::points(places.destination, &policy, measurement, &times, |held| {
                let point = (policy.clone(), held.series.key().to_vec(), held.time);
                points.insert(point, held.cells().count());
            })?;
        }
    }
    Ok(points)
}
