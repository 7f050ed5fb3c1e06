//! `verify`: compares two sides unit by unit and changes neither. Where a side takes writes, what differs
//! is read again before it is called a difference ([`recheck`]).

use crate::compare::recheck::{self, Pending};
use crate::compare::same::Same;
use crate::compare::timeline::Timeline;
use crate::compare::{
    self, CellFinding, Counts, Digest, Findings, Options, PlaceFinding, ReadAgain, Sides, Unit,
};
use crate::digest::node::Node;
use crate::error::{ErrorKind, Result};
use crate::pipeline::{self, Progress, Stage};
use crate::source::Source;
use crate::stop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a comparison of all units found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Counts over all units.
    pub counts: Counts,
    /// Places that differ, in order of series and time, up to the limit.
    pub places: Vec<PlaceFinding>,
    /// Cells that differ, in order of series and time, up to the limit.
    pub cells: Vec<CellFinding>,
    /// Cells of both sides by time.
    pub timeline: Timeline,
    /// Where both sides agree, by series.
    pub same: Same,
    /// Sum of what the source holds.
    pub source: Node,
    /// Sum of what the destination holds.
    pub destination: Node,
    /// Units compared.
    pub units: u64,
    /// What was read again, to tell cells apart or because a side takes writes.
    pub read_again: ReadAgain,
    /// Cells that differ in places which were judged by their first reading, although a side takes writes.
    pub read_once: u64,
}

impl Outcome {
    /// Adds the findings of one unit; detail beyond the limit is dropped, counts are not.
    pub fn add(&mut self, findings: Findings, findings_max: usize) {
        self.counts += findings.counts;
        self.source += findings.source;
        self.destination += findings.destination;
        self.units += 1;
        self.timeline += &findings.timeline;
        self.detail(findings, findings_max);
    }

    /// Adds what was found of places that are in the totals already.
    fn add_settled(&mut self, findings: Findings, findings_max: usize) {
        let counts = Counts { source: 0, destination: 0, ..findings.counts };
        self.counts += counts;
        self.detail(findings, findings_max);
    }

    fn detail(&mut self, findings: Findings, findings_max: usize) {
        self.read_again += findings.read_again;
        self.read_once += findings.read_once;
        self.same.add(findings.same);
        self.places.extend(findings.places);
        self.cells.extend(findings.cells);
        // Sorted before it is cut, so that what is kept does not depend on which unit came first.
        if self.places.len().max(self.cells.len()) > 2 * findings_max {
            sort(&mut self.places, &mut self.cells, findings_max);
        }
    }

    /// Puts what a place holds now into the totals, for what it held when it was read first.
    fn now(&mut self, place: &Pending) {
        let (source, destination) = place.first();
        self.source = self.source.less(source);
        self.source += place.source();
        self.destination = self.destination.less(destination);
        self.destination += place.destination();
        (self.counts.source, self.counts.destination) = (self.source.cells, self.destination.cells);
    }

    fn transient(&mut self, place: &Pending) {
        self.now(place);
        self.counts.matched += place.source().cells;
        self.counts.transient += place.cells();
    }

    fn expired(&mut self, place: &Pending) {
        self.now(place);
        self.counts.expired += place.cells();
    }

    fn unstable(&mut self, place: &Pending) {
        self.now(place);
        self.counts.unstable += place.cells();
    }
}

/// Sorts detail by series and time, and cuts it to a limit.
pub fn sort(places: &mut Vec<PlaceFinding>, cells: &mut Vec<CellFinding>, findings_max: usize) {
    places.sort_by(|a, b| a.order().cmp(&b.order()));
    cells.sort_by(|a, b| {
        let order = |cell: &CellFinding| (cell.time, Arc::clone(&cell.field));
        (&a.namespace, a.series.key(), order(a)).cmp(&(&b.namespace, b.series.key(), order(b)))
    });
    places.truncate(findings_max);
    cells.truncate(findings_max);
}

/// How sides that take writes are compared: places that differ are read again before they are judged.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a function does not say what it is")]
pub struct Live<'a> {
    /// The pauses before each reading.
    pub pauses: &'a [Duration],
    /// The time before which retention policies may have dropped what a unit holds, as it is now.
    pub floor: &'a (dyn Fn(&Unit) -> Option<i64> + Sync),
    /// Places that are read again, over all units; what goes beyond is judged by its first reading, and
    /// marked.
    pub places_max: usize,
}

/// As many places as are read again: each is held in memory.
pub const PLACES_MAX: usize = 200_000;

/// Compares every unit, `jobs` at a time; `live` where a side takes writes.
///
/// # Errors
/// Where a side cannot be read: nothing is then known about it.
pub fn run(
    source: &dyn Source,
    destination: &dyn Source,
    units: &[Unit],
    jobs: usize,
    options: &Options,
    live: Option<Live<'_>>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let verify = Verify { source, destination, jobs, options, progress, outcome: Mutex::default() };
    progress.units(units.len());
    let pending = verify.first(units, live.map(|live| live.places_max))?;
    if let Some(live) = live {
        verify.again(pending, live)?;
    }
    let mut outcome = verify.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    sort(&mut outcome.places, &mut outcome.cells, options.findings_max);
    Ok(outcome)
}

/// A comparison under way.
struct Verify<'a> {
    source: &'a dyn Source,
    destination: &'a dyn Source,
    jobs: usize,
    options: &'a Options,
    progress: &'a dyn Progress,
    outcome: Mutex<Outcome>,
}

/// Units with the places in which they differed when they were read last.
type ToDo<'a> = Vec<(&'a Unit, Vec<Pending>)>;

impl Verify<'_> {
    /// Reads every unit once; gives what is to be read again, if anything is.
    fn first<'a>(&self, units: &'a [Unit], places_max: Option<usize>) -> Result<ToDo<'a>> {
        let all = Mutex::new((ToDo::new(), 0_usize));
        pipeline::for_each(self.jobs, units, |unit| {
            let room = places_max.map(|max| max.saturating_sub(lock(&all).1));
            let pending = self.unit(unit, room)?;
            if !pending.is_empty() {
                let mut all = lock(&all);
                all.1 += pending.len();
                all.0.push((unit, pending));
            }
            self.progress.unit_done();
            Ok(())
        })?;
        Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn unit(&self, unit: &Unit, room: Option<usize>) -> Result<Vec<Pending>> {
        let (source, destination, options) = (self.source, self.destination, self.options);
        self.progress.done(Stage::Verify, 0, 0);
        let counted = |cells| {
            self.progress.done(Stage::Verify, cells, 0);
            Ok(())
        };
        let ours = match unit.source_lacks {
            true => Digest::default(),
            false => compare::digest(source, &unit.source, unit.window, options, &counted)?,
        };
        let theirs =
            compare::digest(destination, &unit.destination, unit.window, options, &counted)?;
        let sides = Sides { source, ours: &ours, destination, theirs: &theirs };
        let (findings, pending) = match room {
            None => (compare::compare(sides, unit, options, |_, _| Ok(()))?, Vec::new()),
            Some(room) => recheck::sift(sides, unit, options, room)?,
        };
        lock(&self.outcome).add(findings, options.findings_max);
        Ok(pending)
    }

    /// Reads places again after each pause, until nothing is left to be told.
    fn again(&self, mut todo: ToDo<'_>, live: Live<'_>) -> Result<()> {
        for pause in live.pauses {
            if todo.is_empty() {
                return Ok(());
            }
            self.progress.stage("recheck");
            if !stop::pause(*pause) {
                return Err(ErrorKind::Interrupted.into());
            }
            let moving = Mutex::new(ToDo::new());
            pipeline::for_each(self.jobs, &todo, |(unit, pending)| {
                let left = self.settle(unit, pending.clone(), live)?;
                if !left.is_empty() {
                    lock(&moving).push((unit, left));
                }
                Ok(())
            })?;
            todo = moving.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        for place in todo.iter().flat_map(|(_, pending)| pending) {
            lock(&self.outcome).unstable(place);
        }
        Ok(())
    }

    /// Reads the places of one unit again and judges those that are settled. Gives the rest.
    fn settle(&self, unit: &Unit, pending: Vec<Pending>, live: Live<'_>) -> Result<Vec<Pending>> {
        let (destination, options) = (self.destination, self.options);
        let source = Some(self.source).filter(|_| !unit.source_lacks);
        let read = pending.len() as u64;
        let settled = recheck::settle(source, destination, unit, pending, options)?;
        let floor = (live.floor)(unit).unwrap_or(i64::MIN);
        let (expired, confirmed): (Vec<_>, Vec<_>) =
            settled.confirmed.into_iter().partition(|place| place.is_reached(floor));
        let (ours, theirs) = recheck::digests_of(&confirmed, options)?;
        let sides = Sides { source: self.source, ours: &ours, destination, theirs: &theirs };
        let found = compare::compare(sides, unit, options, |_, _| Ok(()))?;
        let mut outcome = lock(&self.outcome);
        outcome.read_again += ReadAgain { places: read, cells: settled.cells_read };
        let namespace = Arc::new(unit.source.clone());
        for place in &settled.transient {
            outcome.transient(place);
            let (series, bucket) = place.place();
            outcome.same.push(&namespace, series, vec![bucket.window()]);
        }
        expired.iter().for_each(|place| outcome.expired(place));
        confirmed.iter().for_each(|place| outcome.now(place));
        outcome.add_settled(found, options.findings_max);
        Ok(settled.moving)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Input;
    use crate::line::Precision;
    use crate::plan::{Filter, Namespace};
    use crate::reject::Rejects;
    use crate::source::line_file::{self, LineFile};
    use crate::spill;
    use crate::window::{HOUR, Window};
    use std::fmt::Write;
    use std::io::Cursor;

    const HOURS: i64 = 5;

    fn side(value: u8) -> LineFile {
        let mut text = String::new();
        for hour in 0..HOURS {
            writeln!(text, "m v={value} {}", hour * HOUR).unwrap();
        }
        let options = line_file::Options {
            precision: Precision::Nanoseconds,
            default_time: None,
            window: Window::ALL,
            namespace: Namespace::default(),
            memory_max: 1 << 20,
            spill: spill::Place::new(None),
        };
        let input = Input::from_reader("in.lp".into(), Box::new(Cursor::new(text.into_bytes())));
        LineFile::read("in.lp", input, &options, &Rejects::new(None), &|_| ()).unwrap()
    }

    #[test]
    fn places_beyond_those_that_are_read_again_are_marked_and_counted() {
        let (one, two) = (side(1), side(2));
        let unit = Unit {
            source: Namespace::default(),
            source_lacks: false,
            destination: Namespace::default(),
            window: Window { start: 0, end: HOURS * HOUR },
        };
        let options = Options::new(Filter::default(), 1 << 20, spill::Place::new(None), 100);
        for (places_max, once) in [(usize::MAX, 0), (5, 0), (4, 5), (0, 5)] {
            let (pauses, floor) = ([Duration::ZERO], |_: &Unit| None);
            let live = Some(Live { pauses: &pauses, floor: &floor, places_max });
            let units = std::slice::from_ref(&unit);
            let found = run(&one, &two, units, 1, &options, live, &()).unwrap();
            let marked = found.places.iter().filter(|place| place.read_once).count() as u64;
            assert_eq!((found.read_once, marked), (once, once), "{places_max}");
            assert_eq!(found.counts.value_changed, 5, "{places_max}");
        }
    }
}
