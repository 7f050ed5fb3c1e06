//! `gaps`: the windows in which the destination lacks what the source holds, by namespace and writer,
//! found by looking in place of being noted down.
//!
//! A comparison shows every cell of the hours that differ ([`Observe`]). Cells are counted in *buckets*
//! (a minute by default) of each *writer*, the value of a tag. Buckets that differ and follow each other
//! make a gap; a bucket in which everything agrees ends it, and so does an hour in which everything
//! agrees, of which no cell is shown.
//!
//! Writers are switched to both servers one after another. The end of the last run of three or more
//! buckets that only the source holds is when a writer was switched; single buckets lost later are
//! losses. A writer of which the source holds nothing behind such a run was not switched yet.
//!
//! A line that a client sends without a timestamp gets another on each server: the same values less
//! than a second apart. To fill such a gap would double the points.

mod shifts;

use self::shifts::Shifts;
use crate::compare::{Class, Observe, Seen, Unit};
use crate::error::Result;
use crate::plan::{Filter, Namespace, Scope};
use crate::series::Series;
use crate::source::{Source, plan_or_nothing};
use crate::window::{HOUR, Window};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buckets that are kept; beyond, buckets become longer.
const BUCKETS_MAX: usize = 500_000;
/// Writers of which the source is read once more.
pub const LOOKED_MAX: usize = 1_000;
/// Buckets in a row that make a run.
const RUN: usize = 3;

/// Who wrote a series: the value of a tag, unescaped; `None` where it has no such tag.
pub type Writer = Option<Box<[u8]>>;

/// Cells of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// The same on both sides.
    pub matched: u64,
    /// At the source only.
    pub missing: u64,
    /// At the destination only.
    pub extra: u64,
    /// With another value or type.
    pub changed: u64,
}

impl Bucket {
    fn add(&mut self, other: Self) {
        self.matched += other.matched;
        self.missing += other.missing;
        self.extra += other.extra;
        self.changed += other.changed;
    }

    /// True where the destination lacks something, or holds something else.
    fn is_gap(&self) -> bool {
        self.missing + self.changed > 0
    }

    /// True where only the source holds anything.
    fn is_source_only(&self) -> bool {
        self.missing > 0 && self.matched + self.changed + self.extra == 0
    }
}

/// Counts what a comparison shows.
#[derive(Debug)]
pub struct Observer {
    /// The tag that tells writers apart.
    by: Vec<u8>,
    state: Mutex<State>,
}

type Key = (Namespace, Writer);

#[derive(Debug, Default)]
struct State {
    /// Length of a bucket, nanoseconds; divides an hour until there are too many.
    length: i64,
    writers: BTreeMap<Key, BTreeMap<i64, Bucket>>,
    buckets: usize,
    shifts: Shifts,
}

/// A window in which the destination lacks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The namespace, as the source names it.
    pub namespace: Namespace,
    /// From the first bucket to the end of the last.
    pub window: Window,
    /// What was counted in it.
    pub cells: Bucket,
}

/// What was found of one writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterGap {
    /// The namespace, as the source names it.
    pub namespace: Namespace,
    /// The value of the tag.
    pub writer: Writer,
    /// From its first bucket that differs to the end of its last.
    pub window: Window,
    /// The end of its last run of buckets that only the source holds, if it has one.
    pub switched: Option<i64>,
    /// What was counted in its buckets that differ.
    pub cells: Bucket,
    /// Cells in buckets that differ behind that run: losses, and no gap.
    pub lost_later: u64,
    /// Whether the source holds anything of the writer behind that run; `None` where nobody looked.
    pub goes_on: Option<bool>,
}

impl WriterGap {
    /// True where the source holds nothing behind the writer's last run: whether it was switched, nobody
    /// can say, since it has written nothing that both sides hold.
    #[must_use]
    pub fn is_not_switched(&self) -> bool {
        self.switched.is_some() && self.goes_on == Some(false)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Windows, by namespace and time.
    pub gaps: Vec<Gap>,
    /// Writers that lack something, by namespace and name.
    pub writers: Vec<WriterGap>,
    /// Length of a bucket, nanoseconds.
    pub bucket: i64,
    /// Cells that the destination seems to hold with another time, less than a second away.
    pub shifted: u64,
}

impl Observer {
    /// Counts in buckets of a length, nanoseconds, of the writers that a tag tells apart.
    #[must_use]
    pub fn new(by: &[u8], length: i64) -> Self {
        let state = State { length, ..State::default() };
        Self { by: by.to_vec(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted so far, as windows.
    #[must_use]
    pub fn found(&self) -> Found {
        let state = self.state();
        let mut found =
            Found { bucket: state.length, shifted: state.shifts.count(), ..Found::default() };
        let mut together: BTreeMap<&Namespace, BTreeMap<i64, Bucket>> = BTreeMap::new();
        for ((namespace, writer), buckets) in &state.writers {
            let of_all = together.entry(namespace).or_default();
            for (number, bucket) in buckets {
                of_all.entry(*number).or_default().add(*bucket);
            }
            found.writers.extend(of_writer(namespace, writer, buckets, state.length));
        }
        for (namespace, buckets) in together {
            let runs = runs(&buckets, state.length, Bucket::is_gap);
            found.gaps.extend(runs.into_iter().map(|run| Gap {
                namespace: namespace.clone(),
                window: run.window(state.length),
                cells: run.cells,
            }));
        }
        found
    }
}

impl Observe for Observer {
    fn cell(&self, unit: &Unit, cell: &Seen<'_>) {
        let writer = cell.series.tag(&self.by).map(Box::from);
        let bucket = match cell.class {
            None => Bucket { matched: 1, ..Bucket::default() },
            Some(Class::MissingInDestination) => Bucket { missing: 1, ..Bucket::default() },
            Some(Class::ExtraInDestination) => Bucket { extra: 1, ..Bucket::default() },
            Some(Class::ValueChanged | Class::TypeChanged) => {
                Bucket { changed: 1, ..Bucket::default() }
            }
        };
        let mut state = self.state();
        state.shifts.see(unit, cell);
        state.add((unit.source.clone(), writer), cell.time, bucket);
    }

    fn passed(&self, unit: &Unit, window: Window) {
        self.state().shifts.passed(unit, window);
    }
}

impl State {
    fn add(&mut self, key: Key, time: i64, bucket: Bucket) {
        let number = time.div_euclid(self.length);
        let buckets = self.writers.entry(key).or_default();
        let before = buckets.len();
        buckets.entry(number).or_default().add(bucket);
        self.buckets += buckets.len() - before;
        while self.buckets > BUCKETS_MAX && self.length < i64::MAX / 4 {
            self.widen();
        }
    }

    /// Makes buckets twice as long.
    fn widen(&mut self) {
        self.length *= 2;
        self.buckets = 0;
        for buckets in self.writers.values_mut() {
            let mut wider: BTreeMap<i64, Bucket> = BTreeMap::new();
            for (number, bucket) in std::mem::take(buckets) {
                wider.entry(number.div_euclid(2)).or_default().add(bucket);
            }
            self.buckets += wider.len();
            *buckets = wider;
        }
    }
}

/// Looks whether the source holds anything of the writers behind their last runs, up to the end of the
/// window. Of more than [`LOOKED_MAX`] writers the rest is left unknown.
///
/// # Errors
/// Where the source cannot be read.
pub fn look_behind(
    source: &dyn Source,
    writers: &mut [WriterGap],
    by: &[u8],
    end: i64,
    filter: &Filter,
) -> Result<()> {
    for writer in writers.iter_mut().filter(|writer| writer.switched.is_some()).take(LOOKED_MAX) {
        let from = writer.switched.unwrap_or(end);
        let window = Window { start: from, end: end.max(from) };
        writer.goes_on = Some(holds(source, writer, by, window, filter)?);
    }
    Ok(())
}

fn holds(
    source: &dyn Source,
    gap: &WriterGap,
    by: &[u8],
    window: Window,
    filter: &Filter,
) -> Result<bool> {
    let mut filter = filter.clone();
    let name = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    filter.tags.extend(gap.writer.as_deref().and_then(|value| Some((name(by)?, name(value)?))));
    let scope = Scope::new(&gap.namespace, window, &filter);
    for partition in plan_or_nothing(source, &scope)? {
        let mut reader = source.open(&partition)?;
        while let Some(block) = reader.next_block()? {
            let ours =
                |series: &Series| filter.admits(series) && series.tag(by) == gap.writer.as_deref();
            if block.series().iter().any(|series| ours(series)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Buckets that follow each other.
#[derive(Debug)]
struct Run {
    first: i64,
    last: i64,
    buckets: usize,
    cells: Bucket,
}

impl Run {
    fn window(&self, length: i64) -> Window {
        let end = self.last.saturating_add(1).saturating_mul(length);
        Window { start: self.first.saturating_mul(length), end }
    }
}

/// The runs of buckets that are `wanted`. A bucket that is not, or an hour of which nothing was shown,
/// ends a run.
fn runs(
    buckets: &BTreeMap<i64, Bucket>,
    length: i64,
    wanted: impl Fn(&Bucket) -> bool,
) -> Vec<Run> {
    let hour = |number: i64| number.saturating_mul(length).div_euclid(HOUR.max(length));
    let mut runs: Vec<Run> = Vec::new();
    let mut open = false;
    let mut before = None;
    for (number, bucket) in buckets {
        let follows = before.is_some_and(|before| hour(*number) - hour(before) <= 1);
        before = Some(*number);
        if !wanted(bucket) {
            open = false;
            continue;
        }
        match runs.last_mut().filter(|_| open && follows) {
            Some(run) => {
                run.last = *number;
                run.buckets += 1;
                run.cells.add(*bucket);
            }
            None => {
                runs.push(Run { first: *number, last: *number, buckets: 1, cells: *bucket });
            }
        }
        open = true;
    }
    runs
}

/// What differs of one writer, if anything does.
fn of_writer(
    namespace: &Namespace,
    writer: &Writer,
    buckets: &BTreeMap<i64, Bucket>,
    length: i64,
) -> Option<WriterGap> {
    let gaps = runs(buckets, length, Bucket::is_gap);
    let (first, last) = (gaps.first()?, gaps.last()?);
    let window = Window { start: first.window(length).start, end: last.window(length).end };
    let mut cells = Bucket::default();
    gaps.iter().for_each(|run| cells.add(run.cells));
    let only = runs(buckets, length, Bucket::is_source_only);
    let switched = only.iter().rfind(|run| run.buckets >= RUN).map(|run| run.window(length).end);
    let later = |number: i64| switched.is_none_or(|end| number.saturating_mul(length) >= end);
    let lost = buckets.iter().filter(|(number, bucket)| bucket.is_gap() && later(**number));
    let lost_later = lost.map(|(_, bucket)| bucket.missing + bucket.changed).sum();
    let (namespace, writer) = (namespace.clone(), writer.clone());
    let goes_on = None;
    Some(WriterGap { namespace, writer, window, switched, cells, lost_later, goes_on })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::key;
    use crate::value::Value;
    use crate::window::Window as Times;
    use std::sync::Arc;

    const MINUTE: i64 = 60_000_000_000;

    fn unit() -> Unit {
        let namespace = Namespace { database: "db".into(), retention_policy: "rp".into() };
        let (source, destination) = (namespace.clone(), namespace);
        Unit { source, source_lacks: false, destination, window: Times::ALL }
    }

    /// Shows a cell at the source, the destination or both.
    fn show(observer: &Observer, series: &str, time: i64, source: Option<i64>, there: Option<i64>) {
        let class = match (source, there) {
            (Some(one), Some(two)) if one == two => None,
            (Some(_), Some(_)) => Some(Class::ValueChanged),
            (Some(_), None) => Some(Class::MissingInDestination),
            _ => Some(Class::ExtraInDestination),
        };
        let series = Arc::new(key::parse(series.as_bytes()));
        let field: Arc<[u8]> = b"f"[..].into();
        let (source, destination) = (source.map(Value::Integer), there.map(Value::Integer));
        let seen = Seen { series: &series, field: &field, time, class, source, destination };
        observer.cell(&unit(), &seen);
    }

    #[test]
    fn a_writer_is_switched_where_its_last_run_ends_and_what_is_lost_later_is_no_gap() {
        let observer = Observer::new(b"host", MINUTE);
        for minute in 0..120 {
            let both = !(10..70).contains(&minute);
            let there = (both && minute != 100).then_some(minute);
            show(&observer, "m,host=a", minute * MINUTE, Some(minute), there);
            let there = (minute < 20).then_some(minute);
            show(&observer, "m,host=b", minute * MINUTE, Some(minute), there);
        }
        let found = observer.found();
        let [a, b] = &found.writers[..] else { panic!("{found:?}") };
        assert_eq!((a.switched, a.lost_later), (Some(70 * MINUTE), 1));
        assert_eq!((a.window.start, a.window.end), (10 * MINUTE, 101 * MINUTE));
        assert_eq!((b.switched, b.cells.missing), (Some(120 * MINUTE), 100));
        let windows: Vec<_> = found.gaps.iter().map(|gap| gap.window).collect();
        assert_eq!(windows, [Times { start: 10 * MINUTE, end: 120 * MINUTE }]);
        assert_eq!(found.shifted, 0);
    }

    #[test]
    fn hours_that_agree_part_windows_and_so_do_buckets() {
        let observer = Observer::new(b"host", MINUTE);
        for (minute, there) in [(0, None), (1, None), (2, Some(2)), (3, None), (400, None)] {
            show(&observer, "m", minute * MINUTE, Some(minute), there);
        }
        let found = observer.found();
        let windows: Vec<_> = found.gaps.iter().map(|gap| gap.window.start / MINUTE).collect();
        assert_eq!(windows, [0, 3, 400]);
        assert_eq!(found.writers[0].writer, None);
        assert_eq!(found.writers[0].switched, None, "no three buckets in a row");
    }

    #[test]
    fn equal_values_less_than_a_second_apart_are_one_point_with_two_times() {
        let observer = Observer::new(b"host", MINUTE);
        for at in 0..10 {
            let time = at * MINUTE;
            show(&observer, "m,host=a", time, Some(at), None);
            show(&observer, "m,host=a", time + 400_000_000 + at, None, Some(at));
        }
        show(&observer, "m,host=a", 20 * MINUTE, Some(1), None);
        show(&observer, "m,host=a", 21 * MINUTE, None, Some(1));
        observer.passed(&unit(), Times { start: 0, end: HOUR });
        assert_eq!(observer.found().shifted, 10);
    }

    #[test]
    fn a_large_gap_before_them_does_not_hide_points_with_two_times() {
        let observer = Observer::new(b"host", MINUTE);
        for hour in 0..3 {
            let start = hour * HOUR;
            for at in 0..200_000 {
                show(&observer, "m,host=a", start + at * 1_000_000, Some(at), None);
            }
            observer.passed(&unit(), Times { start, end: start + HOUR });
        }
        for at in 0..100 {
            show(&observer, "m,host=a", 4 * HOUR + at * MINUTE, Some(at), None);
            show(&observer, "m,host=a", 4 * HOUR + at * MINUTE + 300_000_000, None, Some(at));
        }
        observer.passed(&unit(), Times { start: 4 * HOUR, end: 6 * HOUR });
        assert_eq!(observer.found().shifted, 100);
    }

    #[test]
    fn a_point_may_have_its_other_time_in_the_hour_before_or_behind() {
        for shift in [-1, 1] {
            let observer = Observer::new(b"host", MINUTE);
            let at = |time: i64| HOUR + shift * time;
            show(&observer, "m", at(-1), Some(1), None);
            observer.passed(&unit(), if shift > 0 { FIRST } else { SECOND });
            show(&observer, "m", at(1), None, Some(1));
            observer.passed(&unit(), if shift > 0 { SECOND } else { FIRST });
            assert_eq!(observer.found().shifted, 1);
        }
    }

    const FIRST: Times = Times { start: 0, end: HOUR };
    const SECOND: Times = Times { start: HOUR, end: 2 * HOUR };

    #[test]
    fn buckets_become_longer_where_there_are_too_many() {
        let observer = Observer::new(b"host", 1_000_000_000);
        let many = i64::try_from(BUCKETS_MAX).unwrap() * 3;
        let mut state = observer.state();
        for second in 0..many {
            let bucket = Bucket { missing: 1, ..Bucket::default() };
            state.add((Namespace::default(), None), second * 1_000_000_000, bucket);
        }
        assert!(state.buckets <= BUCKETS_MAX, "{}", state.buckets);
        drop(state);
        let found = observer.found();
        assert_eq!((found.bucket, found.gaps.len()), (4_000_000_000, 1));
        assert_eq!(found.gaps[0].cells.missing, many.unsigned_abs());
    }
}
