//! Deletes points that only the destination holds, and nothing else.
//!
//! A point is deleted only where a statement can name its series exactly, all of it is extra, no other
//! retention policy of the database holds a point of that series at that time (`DELETE` would take it,
//! too), and it still is as it was when it was compared. Afterwards every other point of the measurement
//! at these times, in every policy, has to be there as before.

use super::vouch::Vouch;
use super::{Action, Difference, lines, look};
use crate::compare::OwnedValue;
use crate::digest::cell::{SeriesHash, SeriesHasher};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Client;
use crate::influxql::{self, delete};
use crate::plan::{Filter, Namespace, Scope};
use crate::series::Series;
use crate::source::Source;
use crate::stop::Stop;
use crate::window::Window;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Points that one run deletes: each takes a statement.
const POINTS_MAX: usize = 10_000;
/// Points that are looked at, and then deleted, at once: what a client changes in between is deleted.
const DELETED_AT_ONCE: usize = 100;

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
    /// How far the source is believed.
    pub vouch: Vouch,
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
    /// Its cells, by their numbers among the differences.
    cells: Vec<usize>,
}

impl Target {
    /// True where it is still to be deleted.
    #[must_use]
    pub fn is_due(&self, differences: &[Difference]) -> bool {
        self.cells.iter().all(|&number| differences[number].action == Action::Delete)
    }
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
    if refuse_for_doubt(places, differences) {
        return Ok(Vec::new());
    }
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
    // The source was just read, and may have named more that it could not read.
    if refuse_for_doubt(places, differences) {
        targets.clear();
    }
    Ok(targets)
}

/// Refuses everything where the source was not read in full; true where it was not.
fn refuse_for_doubt(places: Places<'_>, differences: &mut [Difference]) -> bool {
    let Some(doubt) = places.vouch.doubt(places.source) else { return false };
    let wanted = differences.iter_mut().filter(|one| one.action == Action::Delete);
    wanted.for_each(|one| one.refuse(doubt.clone()));
    true
}

fn check_group(
    places: Places<'_>,
    namespace: &Namespace,
    measurement: &[u8],
    group: &Group,
    differences: &mut [Difference],
    targets: &mut Vec<Target>,
) -> Result<()> {
    let seen = see(places, namespace, measurement, group)?;
    for ((_, time), numbers) in &group.points {
        let statement = match &seen {
            None => Err("the source has no such database or retention policy any more".into()),
            Some(_) if targets.len() >= POINTS_MAX => {
                Err(format!("one run deletes {POINTS_MAX} points: run it again"))
            }
            Some(seen) => seen.statement(places.vouch, *time, numbers, differences),
        };
        match statement {
            Ok(statement) => {
                let series = Arc::clone(&differences[numbers[0]].cell.series);
                let namespace = namespace.clone();
                let cells = numbers.clone();
                targets.push(Target { namespace, series, time: *time, statement, cells });
            }
            Err(reason) => {
                numbers.iter().for_each(|&number| differences[number].refuse(reason.clone()));
            }
        }
    }
    Ok(())
}

/// What is there at the times of a group.
struct Seen {
    /// Tag keys of the measurement.
    known: Vec<Vec<u8>>,
    source: Found,
    own: Found,
    /// Points of the other retention policies.
    elsewhere: HashMap<(SeriesHash, i64), Namespace>,
    /// Shard groups of which the source holds nothing.
    empty: Vec<Window>,
}

/// Reads all that a point's deletion depends on; `None` where the source has no such namespace.
fn see(
    places: Places<'_>,
    namespace: &Namespace,
    measurement: &[u8],
    group: &Group,
) -> Result<Option<Seen>> {
    let known = delete::tag_keys(places.client, &namespace.database, measurement)?;
    let source = found(places.source, &group.source, measurement, &group.times)?;
    // After it was read: what is there now was there then.
    if !is_there(places.source, group, measurement)? {
        return Ok(None);
    }
    let empty = places.vouch.empty_groups(places.source, &group.source, &group.times)?;
    let (mut own, mut elsewhere) = (Found::new(), HashMap::new());
    for policy in policies(places.client, namespace)? {
        let held = found(places.destination, &policy, measurement, &group.times)?;
        if policy == *namespace {
            own = held;
        } else {
            elsewhere.extend(held.into_keys().map(|key| (key, policy.clone())));
        }
    }
    Ok(Some(Seen { known, source, own, elsewhere, empty }))
}

/// False where the source has no namespace of that name: it then says nothing of its points.
fn is_there(source: &dyn Source, group: &Group, measurement: &[u8]) -> Result<bool> {
    let (Some(&start), Some(&last)) = (group.times.first(), group.times.last()) else {
        return Ok(false);
    };
    let window = Window { start, end: last.saturating_add(1) };
    let filter = Filter::default().only(measurement);
    match source.plan(&Scope::new(&group.source, window, &filter)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound { .. }) => Ok(false),
        outcome => outcome.map(|_| true),
    }
}

impl Seen {
    /// The statement that deletes a point, or why it must not be deleted.
    fn statement(
        &self,
        vouch: Vouch,
        time: i64,
        numbers: &[usize],
        differences: &[Difference],
    ) -> Result<String, String> {
        let series = &differences[numbers[0]].cell.series;
        let key = (SeriesHasher::new(series).series(), time);
        if !series.shown_by_queries() {
            return Err("queries do not show a series of that key as it is stored".into());
        }
        if self.source.contains_key(&key) {
            let reason =
                "the source holds this point with other fields, and DELETE takes whole points";
            return Err(reason.into());
        }
        if let Some(policy) = self.elsewhere.get(&key) {
            return Err(format!(
                "{policy} holds a point of this series at this time, and DELETE takes both"
            ));
        }
        if let Some(doubt) = vouch.doubt_at(time, &self.empty) {
            return Err(doubt);
        }
        if !is_as_compared(self.own.get(&key), numbers, differences) {
            return Err("it is not what it was when it was compared".into());
        }
        numbers.iter().try_for_each(|&number| lines::check_former(&differences[number]))?;
        delete::point(series, &self.known, time)
    }
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

/// What a run of statements did, however it ended.
#[derive(Debug, Default)]
pub struct Ran {
    /// Points whose statements were sent, the last perhaps without an answer.
    pub points: usize,
    /// Points that vanished besides, a line each.
    pub vanished: Vec<String>,
    /// Why it ended early.
    pub failed: Option<Error>,
    /// Why nobody looked for what vanished.
    pub unchecked: Option<Error>,
}

/// Deletes points one after the other, a few right after they were looked at once more, and looks for
/// those that vanished besides: also where it ends early, for what was deleted until then. What is not
/// as it was compared by then is left, and `left` told before the others of its kind are deleted.
///
/// # Errors
/// Where the server cannot be asked before: nothing is deleted then.
pub fn run(
    places: Places<'_>,
    differences: &mut [Difference],
    targets: &[Target],
    stop: &Stop,
    left: &mut dyn FnMut(&[Difference]) -> Result<()>,
) -> Result<Ran> {
    let before = around(places, targets)?;
    let (mut ran, mut sent) = (Ran::default(), Vec::new());
    for some in targets.chunks(DELETED_AT_ONCE) {
        if let Err(error) = delete(places, differences, some, stop, left, &mut sent) {
            ran.failed = Some(error);
            break;
        }
    }
    ran.points = sent.len();
    match around(places, &sent) {
        Ok(after) => ran.vanished = vanished(&before, &after, &sent),
        Err(error) => ran.unchecked = Some(error),
    }
    Ok(ran)
}

/// Deletes some points; adds each to `sent` before its statement is.
fn delete(
    places: Places<'_>,
    differences: &mut [Difference],
    some: &[Target],
    stop: &Stop,
    left: &mut dyn FnMut(&[Difference]) -> Result<()>,
    sent: &mut Vec<Target>,
) -> Result<()> {
    stop.check()?;
    let due = look_again(places, differences, some)?;
    if due.len() < some.len() {
        left(differences)?;
    }
    for target in due {
        stop.check()?;
        sent.push(target.clone());
        delete::execute(places.client, &target.namespace.database, &target.statement)?;
    }
    Ok(())
}

/// Those of some points that may still be deleted; the cells of the others are refused.
fn look_again<'t>(
    places: Places<'_>,
    differences: &mut [Difference],
    some: &'t [Target],
) -> Result<Vec<&'t Target>> {
    let numbers: Vec<usize> = some.iter().flat_map(|target| target.cells.clone()).collect();
    let mut now: Vec<Difference> =
        numbers.iter().map(|&number| differences[number].clone()).collect();
    check(places, &mut now)?;
    for (number, now) in numbers.into_iter().zip(now) {
        differences[number] = now;
    }
    Ok(some.iter().filter(|target| target.is_due(differences)).collect())
}

/// What was there before and is not any more, of what stood at the times of `sent`, without that itself.
fn vanished(
    before: &HashMap<Point, usize>,
    after: &HashMap<Point, usize>,
    sent: &[Target],
) -> Vec<String> {
    let (mut meant, mut looked_at) = (HashSet::new(), HashSet::new());
    for target in sent {
        meant.insert((&target.namespace, target.series.key(), target.time));
        looked_at.insert((&target.namespace.database, target.series.measurement(), target.time));
    }
    let gone = |(point, cells): &(&Point, &usize)| {
        let Point { namespace, series, time } = point;
        looked_at.contains(&(&namespace.database, series.measurement(), *time))
            && !meant.contains(&(namespace, series.key(), *time))
            && after.get(point).is_none_or(|now| now < cells)
    };
    let line = |point: &Point| format!("{} {} {}", point.namespace, point.series, point.time);
    let mut lines: Vec<String> = before.iter().filter(gone).map(|(point, _)| line(point)).collect();
    lines.sort_unstable();
    lines
}

/// A point of any series.
#[derive(PartialEq, Eq, Hash)]
struct Point {
    namespace: Namespace,
    series: Arc<Series>,
    time: i64,
}

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
                let (namespace, series) = (policy.clone(), Arc::clone(held.series));
                points.insert(Point { namespace, series, time: held.time }, held.cells().count());
            })?;
        }
    }
    Ok(points)
}
