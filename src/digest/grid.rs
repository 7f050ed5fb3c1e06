//! The grid of time by which cells are summed: days, hours and minutes since 1970, one within the other.
//!
//! A *bucket* is one stretch of the grid, a *place* is a series and a bucket. Two buckets have nothing in
//! common, or one holds the other.

use super::cell::SeriesHash;
use crate::window::{DAY, HOUR, Window};
use std::collections::HashSet;

/// Nanoseconds in one minute.
pub const MINUTE: i64 = 60_000_000_000;

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Of a series with few cells.
    Day,
    /// Of most.
    Hour,
    /// Of a series with many.
    Minute,
}

impl Level {
    /// All, the longest first.
    pub const ALL: [Self; 3] = [Self::Day, Self::Hour, Self::Minute];

    /// Nanoseconds of a bucket.
    #[must_use]
    pub fn length(self) -> i64 {
        match self {
            Self::Day => DAY,
            Self::Hour => HOUR,
            Self::Minute => MINUTE,
        }
    }

    /// Its number in persisted formats; never to be changed.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Hour => 0,
            Self::Day => 1,
            Self::Minute => 2,
        }
    }

    /// The level of a number.
    pub(crate) fn of(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.code() == code)
    }
}

/// A stretch of the grid. Sorted by where they begin; of those that begin together, the longest first,
/// so that a bucket stands before all that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Minutes since 1970; those of all times that 64 bits hold fit.
    minute: i32,
    level: Level,
}

impl Bucket {
    /// The bucket of a level that a time falls into.
    #[must_use]
    #[inline]
    pub fn holding(level: Level, time: i64) -> Self {
        let minutes = level.length() / MINUTE;
        let minute = time.div_euclid(level.length()).saturating_mul(minutes);
        Self { minute: i32::try_from(minute).unwrap_or(i32::MAX), level }
    }

    /// The bucket of a level that begins at a minute since 1970, if one does.
    #[must_use]
    pub fn starting(level: Level, minute: i32) -> Option<Self> {
        let minutes = i32::try_from(level.length() / MINUTE).unwrap_or(1);
        (minute.rem_euclid(minutes) == 0).then_some(Self { minute, level })
    }

    /// How long it is.
    #[must_use]
    pub fn level(self) -> Level {
        self.level
    }

    /// Minutes from 1970 to its start.
    #[must_use]
    pub fn minute(self) -> i32 {
        self.minute
    }

    /// Its times; at the ends of time there are fewer.
    #[must_use]
    pub fn window(self) -> Window {
        let start = i64::from(self.minute).saturating_mul(MINUTE);
        // What begins before all times is cut there, and ends where it would.
        let end = i128::from(self.minute) * i128::from(MINUTE) + i128::from(self.level.length());
        Window { start, end: i64::try_from(end).unwrap_or(i64::MAX) }
    }

    /// The bucket of another level, no shorter, that holds this one.
    #[must_use]
    pub fn within(self, level: Level) -> Self {
        let minutes = i32::try_from(level.length() / MINUTE).unwrap_or(1);
        let before = self.minute.rem_euclid(minutes);
        Self { minute: self.minute.saturating_sub(before), level: level.min(self.level) }
    }

    /// True where it is the other, or the other is a part of it.
    #[must_use]
    #[inline]
    pub fn holds(self, other: Self) -> bool {
        self.level <= other.level && other.within(self.level) == self
    }
}

/// Which leaf: series and bucket.
pub type Place = (SeriesHash, Bucket);

/// Places of several levels, none of which holds another.
#[derive(Clone, Debug, Default)]
pub struct Places {
    places: HashSet<Place>,
    /// Which levels there are, in the order of [`Level::ALL`].
    levels: [bool; 3],
}

impl Places {
    /// Adds one.
    pub fn insert(&mut self, place: Place) {
        self.levels[place.1.level as usize] = true;
        self.places.insert(place);
    }

    /// The place that holds a time of a series, if there is one.
    #[must_use]
    pub fn at(&self, series: SeriesHash, time: i64) -> Option<Place> {
        let levels = Level::ALL.into_iter().zip(self.levels).filter(|(_, some)| *some);
        levels
            .map(|(level, _)| (series, Bucket::holding(level, time)))
            .find(|place| self.places.contains(place))
    }

    /// True where it has this one, or one that this is a part of.
    #[must_use]
    pub fn holds(&self, (series, bucket): Place) -> bool {
        let longer = Level::ALL.into_iter().filter(|level| *level <= bucket.level);
        longer.map(|level| (series, bucket.within(level))).any(|one| self.places.contains(&one))
    }

    /// Those that it has.
    pub fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl Extend<Place> for Places {
    fn extend<I: IntoIterator<Item = Place>>(&mut self, places: I) {
        places.into_iter().for_each(|place| self.insert(place));
    }
}

impl FromIterator<Place> for Places {
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut all = Self::default();
        all.extend(places);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_time_is_in_one_bucket_of_each_level_and_these_in_one_another(time: i64) {
            let [day, hour, minute] = Level::ALL.map(|level| Bucket::holding(level, time));
            for bucket in [day, hour, minute] {
                let window = bucket.window();
                prop_assert!(window.contains(time) || time == i64::MAX, "{window:?}");
                prop_assert_eq!(Bucket::starting(bucket.level(), bucket.minute()), Some(bucket));
                prop_assert_eq!(Level::of(bucket.level().code()), Some(bucket.level()));
            }
            prop_assert!(day.holds(hour) && hour.holds(minute) && day.holds(minute));
            prop_assert!(day <= hour && hour <= minute, "the longer stands first");
            prop_assert!(!minute.holds(hour) && !hour.holds(day));
            prop_assert_eq!(minute.within(Level::Day), day);
            let places: Places = [(SeriesHash(1), hour)].into_iter().collect();
            prop_assert_eq!(places.at(SeriesHash(1), time), Some((SeriesHash(1), hour)));
            prop_assert_eq!(places.at(SeriesHash(2), time), None);
            prop_assert!(places.holds((SeriesHash(1), minute)) && !places.holds((SeriesHash(1), day)));
        }
    }

    #[test]
    fn the_ends_of_time_have_buckets() {
        for (time, level) in [i64::MIN, i64::MAX].into_iter().zip([Level::Day; 2]) {
            let window = Bucket::holding(level, time).window();
            assert!(!window.is_empty() && window.start <= time && time <= window.end, "{window:?}");
        }
    }
}
