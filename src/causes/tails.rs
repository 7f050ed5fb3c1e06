//! Tails of batches: the destination took the first points of a batch and lost the rest.
//!
//! A server may store what stands before a point that it refuses, or before the byte at which a body is too
//! large, and importers go on with the next batch: what is lost begins anywhere and ends where a batch
//! did. Batches have one length, so that in each series the losses end a multiple of some number of
//! points apart, whether points were written series by series or time by time. An outage that comes
//! again and again begins as regularly as it ends, and is none; losses by chance end anywhere.

use super::{nearly_all, of_class};
use crate::compare::{CellFinding, Class};
use std::collections::BTreeMap;

/// Points of a batch below which a common divisor is chance.
const BATCH_MIN: u64 = 10;
/// Distances between losses below which a common divisor is chance.
const DISTANCES_MIN: usize = 3;

/// Losses of one series and field, in its own steps.
#[derive(Default)]
struct Losses {
    cells: usize,
    starts: Vec<u64>,
    ends: Vec<u64>,
    longest: u64,
}

/// Says that what is missing are tails of batches, where it looks like that.
pub(super) fn of(cells: &[CellFinding]) -> Option<String> {
    type Times<'a> = BTreeMap<(&'a [u8], &'a [u8]), Vec<i64>>;
    let mut times = Times::new();
    for cell in of_class(cells, Class::MissingInDestination) {
        times.entry((cell.series.key(), &cell.field)).or_default().push(cell.time);
    }
    let all: usize = times.values().map(Vec::len).sum();
    let losses: Vec<Losses> = times.into_values().filter_map(Losses::of).collect();
    let some = losses.iter().map(|one| one.cells).sum();
    let distances: usize = losses.iter().map(|one| one.ends.len().saturating_sub(1)).sum();
    let batch = common(losses.iter().map(|one| &one.ends));
    let longest = losses.iter().map(|one| one.longest).max().unwrap_or(0);
    let follows = batch >= BATCH_MIN && longest < batch && distances >= DISTANCES_MIN;
    // What begins as regularly as it ends was no batch that broke off somewhere.
    let begins_anywhere =
        !common(losses.iter().map(|one| &one.starts)).is_multiple_of(batch.max(1));
    (follows && begins_anywhere && nearly_all(some, all)).then(|| {
        format!(
            "{some} of {all} missing cells are runs of points that begin anywhere and end every {batch} \
             points of their series, or a multiple: the tails of batches of which only the first part \
             was stored, as after a point that was refused or a body that was too large"
        )
    })
}

impl Losses {
    /// The runs of missing points, where there are several and points have one distance in time.
    fn of(mut times: Vec<i64>) -> Option<Self> {
        times.sort_unstable();
        let gaps = || times.windows(2).map(|two| two[1].abs_diff(two[0]));
        let step = gaps().min().filter(|step| *step > 0)?;
        let mut losses = Self { cells: times.len(), ..Self::default() };
        let (mut at, mut length) = (0, 1);
        losses.starts.push(0);
        for gap in gaps() {
            if !gap.is_multiple_of(step) {
                return None;
            }
            if gap > step {
                losses.ends.push(at);
                losses.starts.push(at + gap / step);
                losses.longest = losses.longest.max(length);
                length = 0;
            }
            at += gap / step;
            length += 1;
        }
        losses.ends.push(at);
        losses.longest = losses.longest.max(length);
        (losses.ends.len() > 1).then_some(losses)
    }
}

/// The largest number that divides all distances between neighbours in each list; zero where there are
/// none.
fn common<'a>(lists: impl Iterator<Item = &'a Vec<u64>>) -> u64 {
    let distances = lists.flat_map(|list| list.windows(2).map(|two| two[1] - two[0]));
    distances.fold(0, divisor)
}

fn divisor(mut one: u64, mut other: u64) -> u64 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::OwnedValue;
    use crate::line::key;
    use crate::plan::Namespace;
    use crate::value::Value;
    use std::ops::Range;
    use std::sync::Arc;

    const SECOND: i64 = 1_000_000_000;

    /// What is said where points of series, ten seconds apart, are missing.
    fn cause(lost: &[(u32, Range<i64>)]) -> String {
        let mut cells = Vec::new();
        for (host, points) in lost {
            let series = Arc::new(key::parse(format!("m,host={host}").as_bytes()));
            for point in points.clone() {
                cells.push(CellFinding {
                    namespace: Namespace::default(),
                    series: Arc::clone(&series),
                    field: b"f"[..].into(),
                    time: 1_600_000_000 * SECOND + point * 10 * SECOND,
                    class: Class::MissingInDestination,
                    source: Some(OwnedValue::Scalar(Value::Integer(point))),
                    destination: None,
                });
            }
        }
        of(&cells).unwrap_or_default()
    }

    #[test]
    fn runs_that_end_where_batches_do_are_said() {
        // An export writes series by series: batches of 500 end elsewhere in each of 1,800 points.
        let by_series = [
            (1, 437..500),
            (1, 990..1_000),
            (1, 1_201..1_500),
            (2, 170..200),
            (2, 1_199..1_200),
            (2, 1_650..1_700),
        ];
        assert!(cause(&by_series).contains("453 of 453 missing cells are runs"), "{by_series:?}");
        assert!(cause(&by_series).contains("every 500 points"));
        // Time by time, 50 points of each of three series make a batch; the last series lose one more.
        let by_time: Vec<_> = [(50, 7), (200, 12), (250, 3), (400, 30)]
            .iter()
            .flat_map(|(end, lost)| {
                (0..3).map(move |host| (host, end - lost - i64::from(host > 1)..*end))
            })
            .collect();
        assert!(cause(&by_time).contains("every 50 points"), "{}", cause(&by_time));
    }

    #[test]
    fn outages_and_losses_by_chance_are_not() {
        // One outage of all; the same one every day; losses that begin where batches do.
        let outage: Vec<_> = (0..9).map(|host| (host, 100..250)).collect();
        assert_eq!(cause(&outage), "");
        let nightly: Vec<_> = (0..9).map(|day| (1, day * 8_640..day * 8_640 + 60)).collect();
        assert_eq!(cause(&nightly), "");
        let heads = [(1, 500..563), (1, 1_000..1_010), (1, 1_500..1_799), (1, 2_500..2_540)];
        assert_eq!(cause(&heads), "");
        // By chance: single points, and runs.
        let single: Vec<_> = (1..90_i64).map(|at| (1, at * at * 7..at * at * 7 + 1)).collect();
        assert_eq!(cause(&single), "");
        let runs = [(1, 10..31), (1, 107..190), (1, 333..340), (1, 901..1_044), (2, 5..77)];
        assert_eq!(cause(&runs), "");
        // Two ends are at some distance, always.
        assert_eq!(cause(&[(1, 437..500), (1, 990..1_000)]), "");
        assert_eq!(cause(&[]), "");
        // Mostly something else.
        let mut mostly = vec![(1, 437..500), (1, 990..1_000), (1, 1_201..1_500), (1, 1_700..2_000)];
        mostly.extend((10..400).map(|host| (host, 5..6)));
        assert_eq!(cause(&mostly), "");
    }
}
