//! Suspected causes, from the pattern of the differences. Guesses for an operator, each with the figures
//! that speak for it; none where nothing fits.
//!
//! Only what is kept with its values is looked at (`--max-differences`), and only patterns that nearly
//! all cells of their class follow are said.

mod tails;

use crate::compare::{CellFinding, Class, OwnedValue, PlaceFinding};
use crate::series::Printable;
use crate::value::Value;
use crate::verify::Outcome;
use crate::window::{HOUR, format_time};
use std::collections::{BTreeMap, BTreeSet};

/// Cells below which a pattern is chance.
const FEW: usize = 3;
/// Nanoseconds within which two times may be one point's, that clients wrote without a time.
const SHIFT_MAX: u64 = 1_000_000_000;
/// Units to which times are cut, with their names.
const UNITS: [(i64, &str); 4] = [
    (1_000, "microseconds"),
    (1_000_000, "milliseconds"),
    (1_000_000_000, "seconds"),
    (60_000_000_000, "minutes"),
];

/// What may have caused the differences, one guess a line.
#[must_use]
pub fn of(outcome: &Outcome) -> Vec<String> {
    let mut causes = Vec::new();
    causes.extend(times(&outcome.cells));
    causes.extend(integers_as_floats(&outcome.cells));
    causes.extend(rounded(&outcome.cells));
    causes.extend(doubled_escapes(&outcome.places));
    causes.extend(in_common(&outcome.places));
    causes.extend(tails::of(&outcome.cells));
    causes.extend(too_old(outcome));
    causes
}

/// True where nearly all of a class follow a pattern.
fn nearly_all(some: usize, all: usize) -> bool {
    some >= FEW && some.saturating_mul(10) >= all.saturating_mul(9)
}

fn of_class(cells: &[CellFinding], class: Class) -> impl Iterator<Item = &CellFinding> {
    cells.iter().filter(move |cell| cell.class == class)
}

/// What is missing and what is extra, paired by series, field and order of time where their values are
/// the same: times that were shifted or cut.
fn times(cells: &[CellFinding]) -> Option<String> {
    type Times<'a> = BTreeMap<(&'a [u8], &'a [u8]), Vec<(i64, String)>>;
    let by_field = |class: Class| -> Times<'_> {
        let mut times = Times::new();
        for cell in of_class(cells, class) {
            let value = cell.source.as_ref().or(cell.destination.as_ref());
            let value = format!("{:?}", value.map(OwnedValue::value));
            times.entry((cell.series.key(), &cell.field)).or_default().push((cell.time, value));
        }
        times.values_mut().for_each(|times| times.sort());
        times
    };
    let (missing, extra) =
        (by_field(Class::MissingInDestination), by_field(Class::ExtraInDestination));
    let mut pairs = Vec::new();
    for (field, ours) in &missing {
        let Some(theirs) = extra.get(field).filter(|theirs| theirs.len() == ours.len()) else {
            continue;
        };
        if ours.iter().zip(theirs).all(|(one, two)| one.1 == two.1) {
            pairs.extend(ours.iter().zip(theirs).map(|(one, two)| (one.0, two.0)));
        }
    }
    let all = of_class(cells, Class::MissingInDestination).count();
    nearly_all(pairs.len(), all).then(|| of_pairs(&pairs, all)).flatten()
}

fn of_pairs(pairs: &[(i64, i64)], all: usize) -> Option<String> {
    let held = format!("{} of {all} missing cells are at the destination", pairs.len());
    let first = pairs.first().map(|(one, two)| two.wrapping_sub(*one))?;
    if pairs.iter().all(|(one, two)| two.wrapping_sub(*one) == first) {
        let (nanoseconds, way) =
            (first.unsigned_abs(), if first < 0 { "earlier" } else { "later" });
        return Some(format!("{held}, all {nanoseconds} ns {way}: times were shifted"));
    }
    for (unit, name) in UNITS {
        if pairs.iter().all(|(one, two)| one.div_euclid(unit).checked_mul(unit) == Some(*two)) {
            return Some(format!("{held} with times cut to {name}: --precision, or a client's"));
        }
    }
    let near = |(one, two): &(i64, i64)| one.abs_diff(*two) < SHIFT_MAX;
    pairs.iter().all(near).then(|| {
        format!(
            "{held} less than a second away, each by another time: clients wrote them without \
             timestamps, and a copy would double them"
        )
    })
}

fn values(cell: &CellFinding) -> Option<(Value<'_>, Value<'_>)> {
    Some((cell.source.as_ref()?.value(), cell.destination.as_ref()?.value()))
}

#[expect(clippy::cast_precision_loss, reason = "the question is whether it was lost")]
fn integers_as_floats(cells: &[CellFinding]) -> Option<String> {
    let all = of_class(cells, Class::TypeChanged).count();
    let same = |cell: &&CellFinding| match values(cell) {
        Some((Value::Integer(one), Value::Float(two))) => one as f64 == two,
        _ => false,
    };
    let some = of_class(cells, Class::TypeChanged).filter(same).count();
    nearly_all(some, all).then(|| {
        format!(
            "{some} of {all} cells of another type are the same number as a float: integers lost \
                 their `i` on the way"
        )
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the question is whether somebody did that")]
fn rounded(cells: &[CellFinding]) -> Option<String> {
    let all = of_class(cells, Class::ValueChanged).count();
    let floats = || {
        of_class(cells, Class::ValueChanged).filter_map(|cell| match values(cell)? {
            (Value::Float(one), Value::Float(two)) => Some((one, two)),
            _ => None,
        })
    };
    let single = floats().filter(|(one, two)| f64::from(*one as f32) == *two).count();
    if nearly_all(single, all) {
        return Some(format!(
            "{single} of {all} changed values are the source's in single precision: floats of 32 bits \
             on the way"
        ));
    }
    let near = floats().filter(|(one, two)| (one - two).abs() <= one.abs() * 1e-6).count();
    nearly_all(near, all).then(|| {
        format!("{near} of {all} changed values agree to six digits or more: floats were rounded")
    })
}

/// Series that are missing and extra under names that differ in nothing but doubled backslashes.
fn doubled_escapes(places: &[PlaceFinding]) -> Option<String> {
    let names = |missing: bool| -> BTreeSet<&[u8]> {
        let wanted = places.iter().filter(|place| match missing {
            true => place.counts.destination == 0 && place.counts.missing_in_destination > 0,
            false => place.counts.source == 0 && place.counts.extra_in_destination > 0,
        });
        wanted.filter_map(|place| place.series.as_ref()).map(|series| series.key()).collect()
    };
    let (missing, extra) = (names(true), names(false));
    let plain = |key: &[u8]| -> Vec<u8> { key.iter().copied().filter(|b| *b != b'\\').collect() };
    let known: BTreeSet<Vec<u8>> = extra.iter().map(|key| plain(key)).collect();
    let twice = |key: &&&[u8]| !extra.contains(**key) && known.contains(&plain(key));
    let some = missing.iter().filter(twice).count();
    (some > 0 && some * 10 >= missing.len() * 9).then(|| {
        format!(
            "{some} of {} series that are missing are at the destination under names that differ only \
             in backslashes: names were escaped once too often, or too little",
            missing.len()
        )
    })
}

/// A measurement or tag that nearly all that is missing has, and not all that differs is asked for.
fn in_common(places: &[PlaceFinding]) -> Option<String> {
    let lacking = || places.iter().filter(|place| place.counts.missing_in_destination > 0);
    let all: u64 = lacking().map(|place| place.counts.missing_in_destination).sum();
    let series: BTreeSet<&[u8]> =
        lacking().filter_map(|place| place.series.as_ref()).map(|series| series.key()).collect();
    if series.len() < 2 {
        return None;
    }
    let mut shares: BTreeMap<String, u64> = BTreeMap::new();
    for place in lacking() {
        let Some(series) = &place.series else { continue };
        let cells = place.counts.missing_in_destination;
        for (key, value) in series.tags() {
            *shares.entry(format!("{}={}", Printable(key), Printable(value))).or_default() += cells;
        }
    }
    let (name, some) = shares.into_iter().max_by_key(|(_, cells)| *cells)?;
    let count = |cells: u64| usize::try_from(cells).unwrap_or(usize::MAX);
    nearly_all(count(some), count(all))
        .then(|| format!("{some} of {all} missing cells are of {name}"))
}

/// What is missing is older than all that the destination holds.
fn too_old(outcome: &Outcome) -> Option<String> {
    let buckets = || outcome.timeline.buckets();
    let (first, _) = buckets().find(|(_, cells)| cells.destination > 0)?;
    let older: u64 =
        buckets().take_while(|(hour, _)| *hour < first).map(|(_, cells)| cells.source).sum();
    let all = outcome.counts.missing_in_destination;
    let count = |cells: u64| usize::try_from(cells).unwrap_or(usize::MAX);
    let since = format_time(first.saturating_mul(HOUR));
    nearly_all(count(older), count(all)).then(|| {
        format!(
            "{older} of {all} missing cells are older than {since}, before which the destination holds \
             nothing: its retention policy is shorter, or was when it was filled"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Counts;
    use crate::compare::timeline::Cells;
    use crate::digest::cell::SeriesHash;
    use crate::line::key;
    use crate::plan::Namespace;
    use crate::window::Window;
    use std::sync::Arc;

    fn cell(time: i64, class: Class, source: Option<f64>, destination: Option<f64>) -> CellFinding {
        let value = |value: f64| OwnedValue::Scalar(Value::Float(value));
        CellFinding {
            namespace: Namespace::default(),
            series: Arc::new(key::parse(b"m,host=a")),
            field: b"f"[..].into(),
            time,
            class,
            source: source.map(value),
            destination: destination.map(value),
        }
    }

    /// Cells that are missing at some times and extra at others, with the same values.
    fn moved(to: impl Fn(i64) -> i64) -> Vec<String> {
        let mut cells = Vec::new();
        for at in 0..20_i32 {
            let time = 1_600_000_000_123_456_789 + i64::from(at) * 77_777_777_777;
            let value = Some(f64::from(at));
            cells.push(cell(time, Class::MissingInDestination, value, None));
            cells.push(cell(to(time), Class::ExtraInDestination, None, value));
        }
        of(&Outcome { cells, ..Outcome::default() })
    }

    #[test]
    fn times_that_were_shifted_or_cut_are_told_from_clients_without_times() {
        let cause = |to: fn(i64) -> i64| moved(to).join("\n");
        assert!(cause(|time| time + 3_600_000).contains("all 3600000 ns later"));
        assert!(cause(|time| time - time % 1_000_000).contains("cut to milliseconds"));
        assert!(cause(|time| time - time % 1_000_000_000).contains("cut to seconds"));
        assert!(cause(|time| time + time % 999_983).contains("without timestamps"));
        assert_eq!(cause(|time| time + time % 9_999_999_967), "");
    }

    fn changed(to: impl Fn(f64) -> f64) -> String {
        let value = |at: i32| f64::from(at) * 1.234_567_890_123 + 0.1;
        let cells = (0..20).map(|at| {
            cell(i64::from(at), Class::ValueChanged, Some(value(at)), Some(to(value(at))))
        });
        of(&Outcome { cells: cells.collect(), ..Outcome::default() }).join("\n")
    }

    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "what somebody did")]
    fn floats_that_were_rounded_are_told_from_other_values() {
        assert!(changed(|value| f64::from(value as f32)).contains("single precision"));
        assert!(changed(|value| (value * 1e7).round() / 1e7).contains("six digits"));
        assert_eq!(changed(|value| value + 1.0), "");
    }

    #[test]
    fn integers_that_became_floats_are_said() {
        let mut cells = Vec::new();
        for at in 0..5_i32 {
            let mut one = cell(i64::from(at), Class::TypeChanged, Some(0.0), Some(f64::from(at)));
            one.source = Some(OwnedValue::Scalar(Value::Integer(i64::from(at))));
            cells.push(one);
        }
        assert!(of(&Outcome { cells, ..Outcome::default() })[0].contains("lost their `i`"));
    }

    fn place(series: &[u8], missing: u64, extra: u64) -> PlaceFinding {
        let counts = Counts {
            source: missing,
            destination: extra,
            missing_in_destination: missing,
            extra_in_destination: extra,
            ..Counts::default()
        };
        let series = Arc::new(key::parse(series));
        let window = Window { start: 0, end: HOUR };
        PlaceFinding::new(Namespace::default(), SeriesHash(0), series, window, counts)
    }

    #[test]
    fn what_is_older_than_all_that_the_destination_holds_is_said() {
        let cause = |gone: std::ops::Range<i64>| {
            let mut outcome = Outcome::default();
            for hour in 100..200 {
                let destination = if gone.contains(&hour) { 0 } else { 10 };
                outcome.counts.missing_in_destination += 10 - destination;
                outcome.timeline.add_hour(hour, Cells { source: 10, destination });
            }
            of(&outcome).join("\n")
        };
        assert!(
            cause(100..130).contains("300 of 300 missing cells are older than 1970-01-06T10:00")
        );
        assert_eq!(cause(110..130), "");
        assert_eq!(cause(100..200), "", "it holds nothing at all");
    }

    #[test]
    fn names_that_were_escaped_twice_and_what_all_has_in_common_are_said() {
        let names =
            [(&br"m,host=a\ b"[..], &br"m,host=a\\\ b"[..]), (br"m,p=c:\\x", br"m,p=c:\\\\x")];
        let places = names.iter().flat_map(|(one, two)| [place(one, 4, 0), place(two, 0, 4)]);
        let causes = of(&Outcome { places: places.collect(), ..Outcome::default() });
        assert!(causes.iter().any(|cause| cause.contains("backslashes")), "{causes:?}");
        let places = [&b"cpu,dc=eu,host=a"[..], b"mem,dc=us,host=a", b"disk,dc=us,host=a"];
        let places = places.iter().map(|name| place(name, 40, 0)).collect();
        let causes = of(&Outcome { places, ..Outcome::default() });
        assert_eq!(causes, ["120 of 120 missing cells are of host=a"]);
        let places = (0..9).map(|at| place(format!("m,host={at}").as_bytes(), 9, 0)).collect();
        assert_eq!(of(&Outcome { places, ..Outcome::default() }), [""; 0]);
    }
}
