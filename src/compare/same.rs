//! Where the sides agree, by series: what a chart of differences needs to tell cells that are the same
//! from no cells at all.
//!
//! Bounded: beyond 100,000 runs nothing is kept, since a part of it would say "no cells" where there are
//! some.

use crate::digest::cell::SeriesHash;
use crate::plan::Namespace;
use crate::window::Window;
use std::collections::HashMap;
use std::sync::Arc;

/// Runs that are kept, and series.
const RUNS_MAX: usize = 100_000;

/// Stretches of time in which both sides hold the same cells of a series, and some. Buckets that follow
/// each other are one.
#[derive(Clone, Debug, Default)]
pub struct Same {
    /// By namespace, as the source names it, and series. Sorted, and none touches another.
    runs: HashMap<(Arc<Namespace>, SeriesHash), Vec<Window>>,
    count: usize,
    /// There were too many.
    cut: bool,
}

impl Same {
    /// The runs of a series; `None` where there are more in all than are kept.
    #[must_use]
    pub fn of(&self, namespace: &Arc<Namespace>, series: SeriesHash) -> Option<&[Window]> {
        let found = self.runs.get(&(Arc::clone(namespace), series));
        (!self.cut).then_some(found.map_or(&[], |runs| runs))
    }

    /// Adds runs of a series.
    pub fn push(&mut self, namespace: &Arc<Namespace>, series: SeriesHash, runs: Vec<Window>) {
        if self.cut || runs.is_empty() {
            return;
        }
        let known = self.runs.entry((Arc::clone(namespace), series)).or_default();
        let before = known.len();
        known.extend(runs);
        join(known);
        self.count = self.count + known.len() - before;
        if self.count > RUNS_MAX {
            *self = Self { cut: true, ..Self::default() };
        }
    }

    /// Adds what is known elsewhere.
    pub fn add(&mut self, other: Self) {
        if other.cut {
            *self = other;
            return;
        }
        for ((namespace, series), runs) in other.runs {
            self.push(&namespace, series, runs);
        }
    }

    /// Forgets what lies in a window of a namespace.
    pub fn forget(&mut self, namespace: &Namespace, window: Window) {
        for (_, runs) in self.runs.iter_mut().filter(|((one, _), _)| **one == *namespace) {
            self.count -= runs.len();
            let (before, after) = (
                Window { start: i64::MIN, end: window.start },
                Window { start: window.end, end: i64::MAX },
            );
            *runs = [before, after]
                .iter()
                .flat_map(|rest| runs.iter().filter_map(|run| run.intersect(*rest)))
                .collect();
            self.count += runs.len();
        }
    }
}

/// Sorts windows and makes one of those that touch.
fn join(windows: &mut Vec<Window>) {
    windows.sort_unstable();
    windows.dedup_by(|later, kept| {
        let touches = later.start <= kept.end;
        if touches {
            kept.end = kept.end.max(later.end);
        }
        touches
    });
}

/// Goes through the places of a range, which come in order.
#[derive(Debug)]
pub(super) struct Seeker {
    namespace: Arc<Namespace>,
    found: Same,
    /// The series at hand, and where it agrees so far.
    series: Option<SeriesHash>,
    windows: Vec<Window>,
}

impl Seeker {
    pub(super) fn new(namespace: &Namespace) -> Self {
        let (namespace, found) = (Arc::new(namespace.clone()), Same::default());
        Self { namespace, found, series: None, windows: Vec::new() }
    }

    /// The next place in which both sides agree.
    pub(super) fn see(&mut self, series: SeriesHash, window: Window) {
        if self.found.cut {
            return;
        }
        if self.series != Some(series) {
            self.close();
            self.series = Some(series);
        }
        let is_full = self.windows.len() > RUNS_MAX;
        match self.windows.last_mut() {
            Some(last) if last.end == window.start => last.end = window.end,
            _ if is_full => {}
            _ => self.windows.push(window),
        }
    }

    fn close(&mut self) {
        let windows = std::mem::take(&mut self.windows);
        if let Some(series) = self.series {
            self.found.push(&self.namespace, series, windows);
        }
    }

    pub(super) fn finish(mut self) -> Same {
        self.close();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window { start, end }
    }

    #[test]
    fn buckets_that_follow_each_other_are_one_whatever_unit_they_are_of() {
        let namespace = Arc::new(Namespace::default());
        let (one, two) = (SeriesHash(1), SeriesHash(2));
        let seen = |places: &[(SeriesHash, i64)]| {
            let mut seeker = Seeker::new(&Namespace::default());
            places.iter().for_each(|(series, at)| seeker.see(*series, window(*at, at + 1)));
            seeker.finish()
        };
        let mut same = seen(&[(one, 5), (one, 6), (two, 5), (two, 9)]);
        same.add(seen(&[(one, 4), (one, 7), (two, 2)]));
        assert_eq!(same.of(&namespace, one).unwrap(), [window(4, 8)]);
        assert_eq!(same.of(&namespace, two).unwrap(), [window(2, 3), window(5, 6), window(9, 10)]);
        assert_eq!(same.of(&namespace, SeriesHash(3)).unwrap(), []);
        same.forget(&namespace, window(5, 7));
        assert_eq!(same.of(&namespace, one).unwrap(), [window(4, 5), window(7, 8)]);
        assert_eq!(same.count, 4);
    }

    #[test]
    fn of_too_many_none_is_kept() {
        let namespace = Arc::new(Namespace::default());
        let mut same = Same::default();
        for series in 0..=RUNS_MAX as u128 {
            assert!(same.of(&namespace, SeriesHash(0)).is_some());
            same.push(&namespace, SeriesHash(series), vec![window(0, 1)]);
        }
        assert_eq!(same.of(&namespace, SeriesHash(0)), None);
        let mut other = Same::default();
        other.add(same);
        assert_eq!(other.of(&namespace, SeriesHash(0)), None);
    }
}
