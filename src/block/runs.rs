//! Sorting the rows of one series by time, where they are a few runs that are sorted already.
//!
//! An export has all points of one field together and then those of the next, so that the rows of a
//! series are a run for each field, most often with the same times. Such runs are merged; what is
//! in no order is sorted as usual. Rows of one time stay in the order in which they were written.

use super::number;

/// Runs up to which they are merged.
const RUNS_MAX: usize = 64;

/// Sorts rows by their times, and what belongs to each with them.
pub(super) fn sort(times: &mut [i64], cells: &mut [usize], shapes: &mut [u32]) {
    let order = merged(times).unwrap_or_else(|| {
        let mut order: Vec<u32> = (0..number(times.len())).collect();
        order.sort_unstable_by_key(|&row| (times[row as usize], row));
        order
    });
    arrange(times, &order);
    arrange(cells, &order);
    arrange(shapes, &order);
}

fn arrange<T: Copy>(values: &mut [T], order: &[u32]) {
    let arranged: Vec<T> = order.iter().map(|&from| values[from as usize]).collect();
    values.copy_from_slice(&arranged);
}

/// The order of rows that are a few runs; `None` of others.
fn merged(times: &[i64]) -> Option<Vec<u32>> {
    let mut runs = runs(times)?;
    let mut order = Vec::with_capacity(times.len());
    // Comparisons that found nothing to take; more than this are not worth it.
    let mut spare = 4 * times.len();
    while let Some(least) = runs.iter().map(|run| times[run.next]).min() {
        let before = order.len();
        for run in &mut runs {
            while run.next < run.end && times[run.next] == least {
                order.push(number(run.next));
                run.next += 1;
            }
        }
        spare = (spare + order.len() - before).checked_sub(runs.len())?;
        runs.retain(|run| run.next < run.end);
    }
    Some(order)
}

/// Rows of which none is earlier than the one before it.
struct Run {
    next: usize,
    end: usize,
}

/// The runs, if they are few.
fn runs(times: &[i64]) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for end in 1..=times.len() {
        if times.get(end).is_none_or(|time| *time < times[end - 1]) {
            if runs.len() == RUNS_MAX {
                return None;
            }
            runs.push(Run { next: start, end });
            start = end;
        }
    }
    Some(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(times: &[i64]) {
        let mut expected: Vec<(i64, usize)> = times.iter().copied().zip(0..).collect();
        expected.sort();
        let mut sorted = times.to_vec();
        let mut cells: Vec<usize> = (0..times.len()).collect();
        let mut shapes: Vec<u32> = (0..number(times.len())).collect();
        sort(&mut sorted, &mut cells, &mut shapes);
        let found: Vec<(i64, usize)> = sorted.into_iter().zip(cells.iter().copied()).collect();
        assert_eq!(found, expected);
        assert!(cells.iter().zip(shapes).all(|(cell, shape)| number(*cell) == shape));
    }

    #[test]
    fn runs_of_the_same_times_are_merged_and_keep_their_order() {
        for runs in [1, 2, RUNS_MAX as i64, RUNS_MAX as i64 + 1] {
            let times: Vec<i64> = (0..runs).flat_map(|_| 0..100).collect();
            assert_eq!(merged(&times).is_some(), runs <= RUNS_MAX as i64);
            check(&times);
        }
        // Runs that have nothing in common are not merged one row at a time.
        let apart: Vec<i64> =
            (0..60).flat_map(|run| (0..100).map(move |at| 60 * at + run)).collect();
        assert!(merged(&apart).is_none());
        check(&apart);
        check(&[]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_of_one_time_stay_in_the_order_of_writing(
            mut runs in proptest::collection::vec(proptest::collection::vec(-9_i64..9, 0..30), 0..9),
            sorted in any::<bool>(),
        ) {
            if sorted {
                runs.iter_mut().for_each(|run| run.sort_unstable());
            }
            check(&runs.concat());
        }
    }
}
