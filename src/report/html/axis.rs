//! The axis of time: buckets of whole hours, where each is drawn, and what is written below them.

use crate::window::{HOUR, format_time};
use std::fmt::{self, Write};

/// Most buckets of a chart.
pub(super) const BUCKETS_MAX: i64 = 240;
/// Pixels of all buckets together, at most.
const WIDTH: i64 = 720;
/// Widest bucket, in pixels.
const BUCKET_WIDTH_MAX: i64 = 60;
/// Hours of a bucket or between two labels, up to a week; beyond, twice as many each.
const LADDER: [i64; 9] = [1, 2, 3, 6, 12, 24, 48, 96, 168];
/// Pixels of a label, with room around it.
const LABEL: i64 = 92;

/// Buckets of time from the left to the right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// First hour since 1970.
    pub(super) first: i64,
    /// Hours of a bucket.
    pub(super) hours: i64,
    /// Number of buckets.
    pub(super) buckets: i64,
    /// Where the first begins.
    pub(super) left: i64,
}

impl Axis {
    /// The axis on which the hours from `first` up to `end` fit, in buckets of some multiple of
    /// `unit`, with a bucket or more besides at both ends.
    pub(super) fn fit(first: i64, end: i64, unit: i64, left: i64) -> Self {
        for hours in steps(unit) {
            let low = first.div_euclid(hours);
            let high = (end - 1).div_euclid(hours) + 1;
            let margin = 1.max((high - low) / 24);
            let buckets = high - low + 2 * margin;
            if buckets <= BUCKETS_MAX {
                return Self { first: (low - margin) * hours, hours, buckets, left };
            }
        }
        Self { first, hours: (end - first).max(1), buckets: 1, left }
    }

    /// The bucket of an hour.
    pub(super) fn bucket(&self, hour: i64) -> i64 {
        (hour - self.first).div_euclid(self.hours).clamp(0, self.buckets - 1)
    }

    /// Pixels of a bucket.
    pub(super) fn step(&self) -> i64 {
        (WIDTH / self.buckets).clamp(1, BUCKET_WIDTH_MAX)
    }

    /// Pixels of all.
    pub(super) fn width(&self) -> i64 {
        self.step() * self.buckets
    }

    /// Where a bucket begins.
    pub(super) fn x(&self, bucket: i64) -> i64 {
        self.left + bucket * self.step()
    }

    /// Where it ends on the right.
    pub(super) fn right(&self) -> i64 {
        self.x(self.buckets)
    }

    /// Nanoseconds at which a bucket begins.
    pub(super) fn start(&self, bucket: i64) -> i64 {
        nanoseconds(self.first + bucket * self.hours)
    }

    /// The time of a bucket, for people.
    pub(super) fn window(&self, bucket: i64) -> String {
        let end = self.start(bucket + 1);
        format!("{} to {}", format_time(self.start(bucket)), format_time(end))
    }

    /// Buckets that lie outside a window on both sides, in whole.
    pub(super) fn outside(&self, start: i64, end: i64) -> (i64, i64) {
        let before = (0..self.buckets).take_while(|at| self.start(at + 1) <= start).count();
        let after = (0..self.buckets).rev().take_while(|at| self.start(*at) >= end).count();
        (i64::try_from(before).unwrap_or(0), i64::try_from(after).unwrap_or(0))
    }

    /// Draws lines through a chart from `top` to `bottom`, and the times below them.
    pub(super) fn draw(&self, out: &mut String, top: i64, bottom: i64) -> fmt::Result {
        let every =
            steps(1).find(|hours| hours / self.hours * self.step() >= LABEL).unwrap_or(i64::MAX);
        let mut hour = self.first.div_euclid(every).saturating_add(1).saturating_mul(every);
        // What cannot be labelled in steps is labelled where it begins.
        if hour >= self.first + self.buckets * self.hours {
            hour = self.first;
        }
        while hour < self.first + self.buckets * self.hours {
            let x = self.left + (hour - self.first) / self.hours * self.step();
            write!(out, "<path class=\"grid\" d=\"M{x} {top}V{bottom}\"/>")?;
            if x + LABEL <= self.right() + LABEL / 2 {
                let label = label(hour, every);
                write!(out, "<text class=\"tick\" x=\"{x}\" y=\"{}\">{label}</text>", bottom + 14)?;
            }
            hour = hour.saturating_add(every);
        }
        Ok(())
    }
}

/// Steps of hours that people count in; of `unit`, where it is more than one.
fn steps(unit: i64) -> impl Iterator<Item = i64> {
    let ladder = if unit > 1 { vec![unit] } else { LADDER.to_vec() };
    let last = ladder.last().copied().unwrap_or(1);
    let beyond = (1..32).map(move |power| last.saturating_mul(1 << power));
    ladder.into_iter().chain(beyond)
}

pub(super) fn nanoseconds(hour: i64) -> i64 {
    hour.saturating_mul(HOUR)
}

/// The hour that holds a time, and that after the last of a window.
pub(super) fn hours(start: i64, end: i64) -> (i64, i64) {
    (start.div_euclid(HOUR), (end.saturating_sub(1)).div_euclid(HOUR) + 1)
}

/// A time as short as the steps between labels allow.
fn label(hour: i64, every: i64) -> String {
    let text = format_time(nanoseconds(hour));
    let Some((date, time)) = text.split_once('T') else { return text };
    if every >= 24 || time.starts_with("00:00") {
        return date.to_owned();
    }
    let day = date.split_once('-').map_or(date, |(_, day)| day);
    format!("{day} {}", time.get(..5).unwrap_or(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_span_fits() {
        let ends = [1, 2, 200, 300, 24 * 365, 24 * 3_650, 5_124_095];
        for (end, unit) in ends.into_iter().flat_map(|end| [(end, 1), (end, 2), (end, 4_096)]) {
            for first in [-2_562_048, -1, 0, 443_088] {
                let axis = Axis::fit(first, first + end, unit, 200);
                assert!(axis.buckets <= BUCKETS_MAX && axis.hours % unit == 0, "{axis:?}");
                assert!(axis.first <= first, "{axis:?}");
                assert!(axis.bucket(first) >= 1 && axis.bucket(first + end - 1) < axis.buckets - 1);
                let mut out = String::new();
                axis.draw(&mut out, 0, 100).unwrap();
                assert!((1..=9).contains(&out.matches("<text").count()), "{axis:?} {out}");
            }
        }
    }

    #[test]
    fn a_day_is_shown_in_hours() {
        let axis = Axis::fit(443_088, 443_112, 1, 0);
        assert_eq!((axis.hours, axis.buckets, axis.bucket(443_088)), (1, 26, 1));
        assert_eq!(axis.window(1), "2020-07-19T00:00:00Z to 2020-07-19T01:00:00Z");
        assert_eq!(axis.outside(axis.start(1), axis.start(25)), (1, 1));
    }
}
