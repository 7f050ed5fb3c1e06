//! Half-open time windows in i64 nanoseconds UTC, and how they are written by people.

use crate::error::{Error, Result};
use std::fmt;

/// Nanoseconds in one hour.
pub const HOUR: i64 = 3_600_000_000_000;
/// Nanoseconds in one day.
pub const DAY: i64 = 24 * HOUR;

/// The earliest time an InfluxDB 1.x server stores (it keeps the two below it for itself).
pub const TIME_MIN: i64 = i64::MIN + 2;
/// The latest time an InfluxDB 1.x server stores.
pub const TIME_MAX: i64 = i64::MAX - 1;

/// `[start, end)` in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First nanosecond inside.
    pub start: i64,
    /// First nanosecond after.
    pub end: i64,
}

impl Window {
    /// Every time that a server can store.
    pub const ALL: Self = Self { start: TIME_MIN, end: TIME_MAX + 1 };

    /// A window that must hold at least one nanosecond.
    ///
    /// # Errors
    /// A usage error where `end` is not after `start`.
    pub fn new(start: i64, end: i64) -> Result<Self> {
        let window = Self { start, end };
        if window.is_empty() {
            return Err(Error::usage(format!(
                "the window is empty: --end {} is not after --start {}",
                format_time(end),
                format_time(start)
            )));
        }
        Ok(window)
    }

    /// True where no time is inside.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// True where `time` is inside.
    #[must_use]
    pub fn contains(self, time: i64) -> bool {
        self.start <= time && time < self.end
    }

    /// What both windows cover, if anything.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (!both.is_empty()).then_some(both)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all time");
        }
        let bound = |open: i64, time: i64| {
            if time == open { "…".into() } else { format_time(time) }
        };
        write!(f, "{} to {}", bound(Self::ALL.start, self.start), bound(Self::ALL.end, self.end))
    }
}

/// RFC 3339 in UTC, with only the fractional digits that are needed.
#[must_use]
pub fn format_time(time: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time))
        .map_or_else(|_| time.to_string(), |timestamp| timestamp.to_string())
}

/// Reads RFC 3339, a date alone (midnight UTC), or nanoseconds since the epoch.
///
/// # Errors
/// A usage error that shows the accepted forms.
pub fn parse_time(text: &str) -> Result<i64> {
    if let Ok(nanoseconds) = text.parse::<i64>() {
        return Ok(nanoseconds);
    }
    let unreadable = || {
        Error::usage(format!(
            "{text:?} is no time: write 2020-07-19T00:00:00Z, 2020-07-19, or nanoseconds since 1970"
        ))
    };
    let timestamp: jiff::Timestamp = if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == "2020-07-19".len()
    {
        date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_ignored| unreadable())?.timestamp()
    } else {
        text.parse().map_err(|_ignored| unreadable())?
    };
    i64::try_from(timestamp.as_nanosecond()).map_err(|_ignored| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_accepted_form() {
        assert_eq!(parse_time("2020-07-19T00:00:00Z").unwrap(), 1_595_116_800_000_000_000);
        assert_eq!(parse_time("2020-07-19").unwrap(), 1_595_116_800_000_000_000);
        assert_eq!(parse_time("2020-07-19T02:00:00+02:00").unwrap(), 1_595_116_800_000_000_000);
        assert_eq!(parse_time("1970-01-01T00:00:00.000000001Z").unwrap(), 1);
        assert_eq!(parse_time("-5").unwrap(), -5);
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for text in ["", "yesterday", "2020-07-19T00:00:00", "9999-01-01T00:00:00Z", "1e9"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_ends_after_it_starts() {
        assert!(Window::new(5, 5).is_err());
        assert!(Window::new(5, 4).is_err());
        assert!(Window::new(5, 6).unwrap().contains(5));
        assert!(!Window::new(5, 6).unwrap().contains(6));
    }

    #[test]
    fn windows_are_printed_for_people() {
        assert_eq!(Window::ALL.to_string(), "all time");
        assert_eq!(
            Window { start: 0, end: HOUR }.to_string(),
            "1970-01-01T00:00:00Z to 1970-01-01T01:00:00Z"
        );
    }
}
