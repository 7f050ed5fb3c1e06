//! What partitions held that were too large for one query.
//!
//! A query holds the files of a shard for as long as its reply is read, and a reply is read no
//! faster than the destination takes it. A copy reads what it sends a second time: by then it is
//! known what is large, and it is asked for in parts of about as many rows and bytes as one query
//! may bring. What that costs is a query for each part.

use crate::plan::Namespace;
use crate::window::Window;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Rows that one query may bring, about.
const ROWS: u64 = 2_000_000;
/// Bytes of a reply to one query, about.
const BYTES: u64 = 256 << 20;
/// Most parts of a partition.
const PARTS_MAX: u64 = 256;

/// What a partition held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: u64,
    /// Of the replies that brought it.
    pub(super) bytes: u64,
    /// The time of its first row and of its last.
    pub(super) times: Option<(i64, i64)>,
}

impl Size {
    /// Adds rows at times.
    pub(super) fn add(&mut self, times: &[i64]) {
        self.rows += times.len() as u64;
        if let (Some(&first), Some(&last)) = (times.iter().min(), times.iter().max()) {
            let (before, after) = self.times.unwrap_or((first, last));
            self.times = Some((before.min(first), after.max(last)));
        }
    }
}

/// Most rows and bytes of one query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Default for Most {
    fn default() -> Self {
        Self { rows: ROWS, bytes: BYTES }
    }
}

impl Most {
    /// Parts in which a window is asked for, in order.
    fn cut(self, window: Window, size: Size) -> Vec<Window> {
        let rows = size.rows.div_ceil(self.rows.max(1));
        let parts = rows.max(size.bytes.div_ceil(self.bytes.max(1))).min(PARTS_MAX);
        let Some((first, last)) = size.times else { return vec![window] };
        let length = i128::from(last) - i128::from(first) + 1;
        let bound = |part: u64| {
            let bound = i128::from(first) + length * i128::from(part) / i128::from(parts.max(1));
            i64::try_from(bound).unwrap_or(window.end)
        };
        let mut bounds: Vec<i64> = (1..parts).map(bound).collect();
        bounds.retain(|&bound| window.start < bound && bound < window.end);
        bounds.insert(0, window.start);
        bounds.push(window.end);
        bounds.dedup();
        bounds.windows(2).map(|pair| Window { start: pair[0], end: pair[1] }).collect()
    }
}

/// A namespace, a measurement and a window.
type Place = (Namespace, Vec<u8>, Window);

/// The partitions that are known to be too large for one query.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    most: Most,
    large: Mutex<HashMap<Place, Size>>,
}

impl Sizes {
    pub(super) fn new(most: Most) -> Self {
        Self { most, ..Self::default() }
    }

    /// Parts in which a partition is asked for.
    pub(super) fn parts(&self, namespace: &Namespace, name: &[u8], window: Window) -> Vec<Window> {
        let large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        match large.get(&(namespace.clone(), name.to_vec(), window)) {
            Some(size) => self.most.cut(window, *size),
            None => vec![window],
        }
    }

    /// Notes what a partition held that was read to its end.
    pub(super) fn note(&self, namespace: &Namespace, name: &[u8], window: Window, size: Size) {
        if size.rows > self.most.rows || size.bytes > self.most.bytes {
            let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
            large.insert((namespace.clone(), name.to_vec(), window), size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { rows: 100, bytes: 1_000 };

    fn cut(rows: u64, bytes: u64, times: (i64, i64)) -> Vec<(i64, i64)> {
        let window = Window { start: 0, end: 1_000 };
        let parts = MOST.cut(window, Size { rows, bytes, times: Some(times) });
        parts.iter().map(|part| (part.start, part.end)).collect()
    }

    #[test]
    fn what_is_large_is_cut_where_its_rows_are() {
        assert_eq!(cut(100, 1_000, (0, 999)), [(0, 1_000)]);
        assert_eq!(cut(101, 0, (0, 999)), [(0, 500), (500, 1_000)]);
        assert_eq!(cut(0, 3_000, (400, 429)), [(0, 410), (410, 420), (420, 1_000)]);
        assert_eq!(cut(1_000, 0, (7, 7)), [(0, 7), (7, 1_000)], "one time cannot be cut");
        let most = cut(1 << 40, 0, (0, 999));
        assert_eq!(most.len(), 256);
        assert!(most.windows(2).all(|pair| pair[0].1 == pair[1].0), "nothing is left out");
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        let size = Size { rows: 1_000, bytes: 0, times: Some((i64::MIN, i64::MAX)) };
        let parts = MOST.cut(Window::ALL, size);
        assert_eq!(parts.len(), 10);
        assert_eq!((parts[0].start, parts[9].end), (Window::ALL.start, Window::ALL.end));
    }

    #[test]
    fn only_what_is_large_is_kept() {
        let sizes = Sizes::new(MOST);
        let (namespace, window) = (Namespace::default(), Window { start: 0, end: 1_000 });
        let mut size = Size::default();
        size.add(&[5, 3, 9]);
        size.add(&[]);
        assert_eq!(size, Size { rows: 3, bytes: 0, times: Some((3, 9)) });
        sizes.note(&namespace, b"m", window, size);
        assert!(sizes.large.lock().unwrap().is_empty());
        sizes.note(&namespace, b"m", window, Size { rows: 200, ..size });
        assert_eq!(sizes.parts(&namespace, b"m", window).len(), 2);
        assert_eq!(sizes.parts(&namespace, b"n", window), [window]);
    }
}
