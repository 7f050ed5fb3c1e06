//! Divides a command's work into units: which namespace is compared with which, and in which
//! windows. Pure functions of what both sides say about themselves.

use crate::compare::Unit;
use crate::digest_file::{DigestFile, whole_hours};
use crate::error::{Error, Result};
use crate::plan::{Filter, Grid, Held, Namespace, RpSettings, Scope};
use crate::source::{Source, plan_or_nothing};
use crate::window::{DAY, HOUR, Window};
use std::fmt;
use std::str::FromStr;

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

/// Windows in which either side may hold something, cut along the grid, in order of time. Where a side
/// is a digest file, its units stand as they are, and the grid is followed around them by whole hours.
/// Where both are, units that meet are one.
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
    let plan = |side: &dyn Source, namespace: &Namespace| -> Result<Vec<Window>> {
        let partitions = plan_or_nothing(side, &Scope::new(namespace, window, filter))?;
        Ok(partitions.into_iter().map(|partition| partition.window).collect())
    };
    let (mut units, mut windows) = (Vec::new(), Vec::new());
    let sides = [
        Some((source, &pair.source.namespace)).filter(|_| !pair.source_lacks),
        destination.map(|destination| (destination, &pair.destination)),
    ];
    for (side, namespace) in sides.into_iter().flatten() {
        let planned = plan(side, namespace)?;
        match side.digest_file() {
            None => windows.extend(planned),
            Some(_) if units.is_empty() => units = planned,
            Some(_) => units = together(units, planned),
        }
    }
    windows.sort_unstable();
    windows.dedup();
    let cells = grid.cells(&windows, window)?;
    let held = |side: &dyn Source| side.digest_file().is_some();
    let windows = match held(source) || destination.is_some_and(held) {
        true => around(units, by_whole_hours(cells, window)),
        false => cells,
    };
    let unit = |window| Unit {
        source: pair.source.namespace.clone(),
        source_lacks: pair.source_lacks,
        destination: pair.destination.clone(),
        window,
    };
    Ok(windows.into_iter().map(unit).collect())
}

/// The same time, divided so that no hour is in two windows. Windows are in order and do not overlap,
/// before and after.
#[must_use]
pub fn by_whole_hours(windows: Vec<Window>, scope: Window) -> Vec<Window> {
    let mut whole: Vec<Window> = Vec::with_capacity(windows.len());
    for window in windows {
        let begin = whole.last().map_or(scope.start, |last| last.end);
        let rest = Window { start: begin, end: scope.end };
        whole.extend(whole_hours(window).intersect(rest));
    }
    whole
}

/// Windows of both lists, in order; those that meet are one, since a digest of the one may be known only
/// with what lies in the other.
fn together(windows: Vec<Window>, others: Vec<Window>) -> Vec<Window> {
    let mut all = [windows, others].concat();
    all.sort_unstable();
    let mut united: Vec<Window> = Vec::with_capacity(all.len());
    for window in all {
        match united.last_mut().filter(|last| window.start < last.end) {
            Some(last) => last.end = last.end.max(window.end),
            None => united.push(window),
        }
    }
    united
}

/// Windows, and the parts of others that lie outside of them, in order.
fn around(windows: Vec<Window>, others: Vec<Window>) -> Vec<Window> {
    let mut all = Vec::with_capacity(windows.len() + others.len());
    let mut known = windows.iter().peekable();
    for mut other in others {
        while known.next_if(|window| window.end <= other.start).is_some() {}
        let mut meeting = known.clone();
        while let Some(window) = meeting.next_if(|window| window.start < other.end) {
            let before = Window { start: other.start, end: window.start };
            all.extend((!before.is_empty()).then_some(before));
            other.start = window.end;
        }
        all.extend((!other.is_empty()).then_some(other));
    }
    all.extend(windows);
    all.sort_unstable();
    all
}

/// The pairs, each cut to the windows in which both sides can speak of it: a digest file knows what it
/// was made of and nothing else. Returns also what is left out, for people.
#[must_use]
pub fn covered(pairs: Vec<Pair>, files: [Option<&DigestFile>; 2]) -> (Vec<Pair>, Vec<String>) {
    let (mut covered, mut left_out) = (Vec::new(), Vec::new());
    for pair in pairs {
        let sides = files.into_iter().zip([&pair.source.namespace, &pair.destination]);
        let known: Vec<(&DigestFile, Vec<Window>)> = sides
            .filter_map(|(file, namespace)| Some((file?, file?.coverage(namespace))))
            .collect();
        let mut windows = vec![pair.window];
        for (file, known) in &known {
            let before = windows.clone();
            windows = common(&windows, known);
            if windows != before && !pair.window.is_empty() {
                let (namespace, file) = (&pair.source.namespace, file.path().display());
                left_out.push(match windows.is_empty() {
                    true => format!("{namespace}: {file} was not made of it"),
                    false => format!("the times of {namespace} that {file} was not made of"),
                });
            }
        }
        let spans: Vec<&[Window]> = known.iter().map(|(_, known)| &known[..]).collect();
        let grain = |time| known.iter().map(|(file, _)| file.grain(time)).max().unwrap_or(HOUR);
        let whole = windows.into_iter().map(|window| uncut(window, &spans, &grain));
        covered.extend(
            whole.filter(|window| !window.is_empty()).map(|window| Pair { window, ..pair.clone() }),
        );
    }
    (covered, left_out)
}

/// What windows of both lists have in common.
fn common(windows: &[Window], known: &[Window]) -> Vec<Window> {
    let both = |window: &Window| -> Vec<Window> {
        known.iter().filter_map(|known| window.intersect(*known)).collect()
    };
    windows.iter().flat_map(both).collect()
}

/// A window without the buckets at its ends of which only one of several digests ends where it does: the
/// others know those buckets as a whole. `grain` gives how long they are at a time.
fn uncut(window: Window, digests: &[&[Window]], grain: &dyn Fn(i64) -> i64) -> Window {
    let Window { mut start, mut end } = window;
    if !digests.iter().all(|spans| spans.iter().any(|span| span.start == start)) {
        start = next_whole(start, grain(start));
    }
    if !digests.iter().all(|spans| spans.iter().any(|span| span.end == end)) {
        end = last_whole(end, grain(end));
    }
    Window { start, end }
}

/// The first multiple of a length that is not before a time.
#[must_use]
pub fn next_whole(time: i64, length: i64) -> i64 {
    let rest = time.rem_euclid(length);
    if rest == 0 { time } else { time.saturating_add(length - rest) }
}

/// The last multiple of a length that is not behind a time.
#[must_use]
pub fn last_whole(time: i64, length: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(length))
}

/// Most slices: a hundred years of days.
const SLICES_MAX: i64 = 36_525;

/// One of several parts of all time: the UTC days whose number since 1970, divided by the number of
/// parts, leaves that of the part. The parts together are all time, and a day stays in its part for
/// ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// From 1 to `of`.
    number: i64,
    of: i64,
}

impl Slice {
    /// The parts of units that lie in it.
    #[must_use]
    pub fn cut(self, units: Vec<Unit>) -> Vec<Unit> {
        if self.of == 1 {
            return units;
        }
        let part =
            |unit: Unit| self.days(unit.window).map(move |window| Unit { window, ..unit.clone() });
        units.into_iter().flat_map(part).collect()
    }

    /// Its days that meet a window, cut to it.
    fn days(self, whole: Window) -> impl Iterator<Item = Window> + use<> {
        let first = whole.start.div_euclid(DAY);
        let first = first + (self.number - 1 - first).rem_euclid(self.of);
        let step = usize::try_from(self.of).unwrap_or(usize::MAX);
        let last = whole.end.div_euclid(DAY);
        let day = move |day: i64| {
            let start = day.saturating_mul(DAY);
            Window { start, end: start.saturating_add(DAY) }.intersect(whole)
        };
        (first..=last).step_by(step).filter_map(day)
    }
}

impl FromStr for Slice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let figure =
            |text: &str| text.parse::<i64>().ok().filter(|one| (1..=SLICES_MAX).contains(one));
        let both = text.split_once('/').and_then(|(one, two)| Some((figure(one)?, figure(two)?)));
        match both {
            Some((number, of)) if number <= of => Ok(Self { number, of }),
            _ => Err(Error::usage(format!(
                "{text:?} is no slice: write n/t, as 1/7 to 7/7, with t no more than {SLICES_MAX}"
            ))),
        }
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
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

    fn windows(bounds: &[(i64, i64)]) -> Vec<Window> {
        bounds.iter().map(|(start, end)| Window { start: *start, end: *end }).collect()
    }

    #[test]
    fn an_hour_is_never_in_two_windows() {
        let half = HOUR / 2;
        let cut = |bounds: &[(i64, i64)], scope: (i64, i64)| {
            let bounds: Vec<_> = bounds.iter().map(|(a, b)| (a * half, b * half)).collect();
            let scope = Window { start: scope.0 * half, end: scope.1 * half };
            let whole = by_whole_hours(windows(&bounds), scope);
            whole.iter().map(|one| (one.start / half, one.end / half)).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[(0, 3), (3, 6)], (0, 100)), [(0, 4), (4, 6)]);
        assert_eq!(cut(&[(1, 3), (8, 9)], (1, 9)), [(1, 4), (8, 9)]);
        assert_eq!(cut(&[(0, 3), (3, 4), (4, 5)], (0, 100)), [(0, 4), (4, 6)]);
        assert_eq!(cut(&[(-3, -1)], (-100, 0)), [(-4, 0)]);
    }

    #[test]
    fn an_hour_that_one_digest_cuts_and_another_does_not_is_left_out() {
        let half = HOUR / 2;
        let spans = |bounds: &[(i64, i64)]| {
            windows(&bounds.iter().map(|(a, b)| (a * half, b * half)).collect::<Vec<_>>())
        };
        let (cut, whole) = (spans(&[(1, 5), (9, 12)]), spans(&[(0, 20)]));
        let [first, second] = common(&cut, &whole)[..] else { panic!("two windows") };
        let hours = |_| HOUR;
        assert_eq!(uncut(first, &[&cut, &whole], &hours), spans(&[(2, 4)])[0]);
        assert_eq!(uncut(second, &[&cut, &whole], &hours), spans(&[(10, 12)])[0]);
        assert_eq!(uncut(first, &[&cut, &cut], &hours), first);
        assert_eq!(uncut(first, &[&cut], &hours), first, "the other side is read");
        // A day of which a digest has a leaf of its own is left out as well.
        let (cut, whole) = (spans(&[(47, 149)]), spans(&[(0, 200)]));
        let from_second_day = |time| if time < 48 * half { HOUR } else { DAY };
        let window = common(&cut, &whole)[0];
        assert_eq!(uncut(window, &[&cut, &whole], &from_second_day), spans(&[(48, 144)])[0]);
    }

    #[test]
    fn what_lies_around_windows_is_in_others() {
        let known = windows(&[(10, 20), (20, 30), (50, 60)]);
        let others = windows(&[(0, 5), (5, 25), (28, 70), (80, 90)]);
        let expected =
            windows(&[(0, 5), (5, 10), (10, 20), (20, 30), (30, 50), (50, 60), (60, 70), (80, 90)]);
        assert_eq!(around(known.clone(), others), expected);
        assert_eq!(around(known.clone(), Vec::new()), known);
        assert_eq!(around(Vec::new(), known.clone()), known);
        let met = windows(&[(0, 5), (5, 30), (50, 70)]);
        assert_eq!(together(known.clone(), windows(&[(0, 5), (5, 25), (55, 70)])), met);
        assert_eq!(
            around(known, windows(&[(12, 13), (14, 55)])),
            windows(&[(10, 20), (20, 30), (30, 50), (50, 60),])
        );
    }

    #[test]
    fn two_namespaces_never_become_one() {
        let target = Target { database: Some("b".into()), retention_policy: None };
        assert!(pairs(vec![held("a", "x"), held("c", "x")], &target, Window::ALL).is_err());
        let target = Target { database: None, retention_policy: Some("z".into()) };
        assert!(pairs(vec![held("a", "x"), held("a", "y")], &target, Window::ALL).is_err());
    }

    #[test]
    fn slices_together_are_the_whole_and_have_nothing_in_common() {
        let hour = 3 * HOUR;
        for whole in [(-9 * DAY - hour, 30 * DAY + hour), (hour, 2 * hour), (DAY, 3 * DAY)] {
            let whole = Window { start: whole.0, end: whole.1 };
            for of in [1, 2, 7, 100] {
                let all = (1..=of).flat_map(|number| Slice { number, of }.days(whole));
                let mut all: Vec<Window> = all.collect();
                all.sort_unstable();
                let ends = (all.first().unwrap().start, all.last().unwrap().end);
                assert_eq!(ends, (whole.start, whole.end));
                assert!(all.windows(2).all(|two| two[0].end == two[1].start));
            }
        }
        let days: Vec<Window> =
            Slice { number: 2, of: 7 }.days(Window { start: 0, end: 9 * DAY }).collect();
        assert_eq!(days, windows(&[(DAY, 2 * DAY), (8 * DAY, 9 * DAY)]));
    }

    #[test]
    fn what_is_no_slice_is_refused() {
        for text in ["", "1", "0/7", "8/7", "1/0", "-1/7", "a/b", "1/7/9", "1/99999999"] {
            assert!(text.parse::<Slice>().is_err(), "{text}");
        }
        assert_eq!("7/7".parse::<Slice>().unwrap().to_string(), "7/7");
    }
}
