//! The bounds of shard groups, found by counting.
//!
//! Who may only read is not told the shard groups, but is told how many shards a query would read
//! ([`influxql::touched`]). That is enough: groups are intervals, so that every group which meets a
//! window covers it exactly where the window meets no more groups than its first and its last
//! nanosecond do. The settings of the retention policy are only where the search begins, since they
//! may have been others when older groups were made.
//!
//! [`influxql::touched`]: crate::influxql::touched

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Grid, UNITS_MAX};
use crate::window::{HOUR, Window};

/// Where bounds are looked for: on the hour, else on the second, else anywhere.
const STEPS: [i64; 3] = [HOUR, 1_000_000_000, 1];

/// Windows that together hold whatever is in `scope`, in order, none reaching over a bound of a
/// group, or of the grid. `count` says how many groups meet a window.
pub(super) fn divide(
    count: &mut dyn FnMut(Window) -> Result<u64>,
    grid: Grid,
    scope: Window,
) -> Result<Vec<Window>> {
    let mut windows = Vec::new();
    let mut rest = vec![scope];
    while let Some(window) = rest.pop() {
        let groups = if window.is_empty() { 0 } else { count(window)? };
        if groups == 0 {
            continue;
        }
        if let Some(bound) = middle(grid, window) {
            rest.push(Window { start: bound, ..window });
            rest.push(Window { end: bound, ..window });
        } else if groups == 1 {
            windows.push(window);
        } else {
            cut(count, window, &mut windows)?;
        }
        if windows.len() > UNITS_MAX {
            let what = "the number of shard groups".into();
            return Err(Error::from(ErrorKind::Limit { what, max: UNITS_MAX.to_string() }));
        }
    }
    Ok(windows)
}

/// A bound of the grid about the middle of a window, where one is inside.
fn middle(grid: Grid, window: Window) -> Option<i64> {
    let cell = grid.cell(i64::midpoint(window.start, window.end));
    [cell.start, cell.end].into_iter().find(|&bound| window.start < bound && bound < window.end)
}

/// Cuts a window that several groups meet, from its start on.
fn cut(
    count: &mut dyn FnMut(Window) -> Result<u64>,
    window: Window,
    out: &mut Vec<Window>,
) -> Result<()> {
    let mut start = window.start;
    while start < window.end {
        let here = count(instant(start))?;
        let end = longest(count, start, window.end, here)?;
        if here > 0 {
            out.push(Window { start, end });
        }
        start = end;
    }
    Ok(())
}

/// The end of a long stretch from `start` on that the `here` groups at its start cover, and that
/// no other meets: up to the bound, or to the last step before it.
fn longest(
    count: &mut dyn FnMut(Window) -> Result<u64>,
    start: i64,
    most: i64,
    here: u64,
) -> Result<i64> {
    let mut covered = |end: i64| -> Result<bool> {
        Ok(count(Window { start, end })? == here && count(instant(end - 1))? == here)
    };
    if covered(most)? {
        return Ok(most);
    }
    for step in STEPS {
        let step = i128::from(step);
        // Multiples of the step: the last that is known to be covered, the first that is not.
        let mut yes = i128::from(start).div_euclid(step);
        let mut no = (i128::from(most) + step - 1).div_euclid(step);
        while no - yes > 1 {
            let middle = (yes + no).div_euclid(2);
            let end = i64::try_from(middle * step).unwrap_or(most);
            if covered(end)? {
                yes = middle;
            } else {
                no = middle;
            }
        }
        if let Ok(end) = i64::try_from(yes * step)
            && end > start
        {
            return Ok(end);
        }
    }
    // One nanosecond is covered by whatever meets it.
    Ok(start + 1)
}

fn instant(time: i64) -> Window {
    Window { start: time, end: time + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::DAY;
    use proptest::prelude::*;

    /// Divides what groups cover; also says how often was counted.
    fn divided(groups: &[Window], grid: i64, scope: Window) -> (Vec<Window>, u64) {
        let mut asked = 0;
        let mut count = |window: Window| {
            asked += 1;
            Ok(groups.iter().filter(|group| group.intersect(window).is_some()).count() as u64)
        };
        let windows = divide(&mut count, Grid { duration: grid }, scope).expect("windows");
        (windows, asked)
    }

    fn days(from: i64, to: i64) -> Window {
        Window { start: from * DAY, end: to * DAY }
    }

    #[test]
    fn groups_of_another_duration_than_the_settings_say_are_found() {
        // Monday 1970-01-05 begins a group of seven days.
        let groups: Vec<Window> = (5..9).map(|day| days(day, day + 1)).collect();
        let (windows, asked) = divided(&groups, 7 * DAY, Window::ALL);
        assert_eq!(windows, groups);
        assert!(asked < 200, "{asked}");
        let (windows, _) = divided(&[days(4, 11), days(11, 18)], DAY, Window::ALL);
        assert_eq!(windows.len(), 14, "never longer than the grid");
    }

    #[test]
    fn a_group_that_reaches_over_others_is_cut_where_they_begin_and_end() {
        let groups = [days(4, 5), days(5, 6), days(4, 11)];
        let (windows, _) = divided(&groups, 7 * DAY, Window::ALL);
        assert_eq!(windows, [days(4, 5), days(5, 6), days(6, 11)]);
        let scope = Window { start: 5 * DAY - 7, end: 5 * DAY + 1 };
        let (windows, _) = divided(&groups, 7 * DAY, scope);
        assert_eq!(
            windows,
            [
                Window { start: scope.start, end: 5 * DAY },
                Window { start: 5 * DAY, end: scope.end }
            ]
        );
    }

    proptest! {
        #[test]
        fn no_window_reaches_over_a_bound_and_nothing_is_left_out(
            bounds in prop::collection::vec((0..40_i64, 1..30_i64, 0..5_i64), 1..6),
            grid in prop::sample::select(vec![HOUR, 3 * HOUR, DAY]),
            scope in (-10..20_i64, 1..60_i64),
        ) {
            // Odd bounds too, to the nanosecond.
            let at = |hours: i64, odd: i64| {
                hours * HOUR + [0, 0, 1, 1_000_000_000, 90_000_000_001][usize::try_from(odd).unwrap()]
            };
            let groups: Vec<Window> = bounds
                .into_iter()
                .map(|(start, length, odd)| Window { start: at(start, odd), end: at(start + length, odd) })
                .collect();
            let scope = Window { start: scope.0 * HOUR, end: (scope.0 + scope.1) * HOUR + 5 };
            let (windows, _) = divided(&groups, grid, scope);
            for pair in windows.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
            for window in &windows {
                prop_assert!(!window.is_empty() && window.intersect(scope) == Some(*window));
                let met: Vec<_> = groups.iter().filter(|group| group.intersect(*window).is_some()).collect();
                prop_assert!(!met.is_empty());
                // One group may end inside; several cover it.
                let covered = met.iter().all(|group| group.intersect(*window) == Some(*window));
                prop_assert!(met.len() == 1 || covered, "{window:?} of {met:?}");
            }
            for group in groups.iter().filter_map(|group| group.intersect(scope)) {
                for time in [group.start, i64::midpoint(group.start, group.end), group.end - 1] {
                    prop_assert!(windows.iter().any(|window| window.contains(time)), "{time}");
                }
            }
        }
    }
}
