//! An upper bound on what is sent a second, in cells or in bytes: `--rate`.
//!
//! A token bucket kept as the time at which everything taken so far is paid for, in whole fractions
//! of a nanosecond, so that nothing is lost to rounding: over any long time, no more passes than the
//! rate allows and one bucket. The bucket begins empty and holds one second's worth, so that what
//! was not used during a short pause is made up for. Time is handed in; [`Limiter`] adds the clock.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;
/// What the bucket holds, as time.
const BURST: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Cells: values of fields.
    Cells,
    /// Bytes of line protocol, before compression.
    Bytes,
}

/// So many cells or bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What is counted.
    pub unit: Unit,
    /// How many a second; at least one.
    pub per_second: u64,
}

impl Rate {
    /// The share of this rate's unit in what is sent.
    #[must_use]
    pub fn amount(&self, cells: u64, bytes: u64) -> u64 {
        match self.unit {
            Unit::Cells => cells,
            Unit::Bytes => bytes,
        }
    }
}

impl FromStr for Rate {
    type Err = Error;

    /// # Errors
    /// A usage error for anything but a whole number, perhaps with a multiple (k, M, G; for bytes
    /// also Ki, Mi, Gi), and `cells/s` or `B/s`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::usage(format!(
                "--rate {text:?} {why}: write 200000cells/s, 200kcells/s or 20MB/s"
            ))
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, rest) = text.split_at(digits);
        let rest = rest.strip_suffix("/s").ok_or_else(|| wrong("has no unit"))?;
        let (unit, multiple) = match (rest.strip_suffix("cells"), rest.strip_suffix('B')) {
            (Some(multiple), _) => (Unit::Cells, multiple),
            (None, Some(multiple)) => (Unit::Bytes, multiple),
            (None, None) => return Err(wrong("has no known unit")),
        };
        let multiple: u64 = match (multiple, unit) {
            ("", _) => 1,
            ("k", _) => 1_000,
            ("M", _) => 1_000_000,
            ("G", _) => 1_000_000_000,
            ("Ki", Unit::Bytes) => 1 << 10,
            ("Mi", Unit::Bytes) => 1 << 20,
            ("Gi", Unit::Bytes) => 1 << 30,
            _ => return Err(wrong("has no known unit")),
        };
        let number: u64 = number.parse().map_err(|_ignored| wrong("is no whole number"))?;
        match number.checked_mul(multiple) {
            Some(0) => Err(wrong("would send nothing")),
            Some(per_second) => Ok(Self { unit, per_second }),
            None => Err(wrong("is too much to be a limit")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Cells => "cells/s",
            Unit::Bytes => "B/s",
        };
        write!(f, "{}{unit}", self.per_second)
    }
}

/// A token bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: u64,
    /// When all that was taken is paid for: nanoseconds times `per_second`.
    paid: u128,
}

impl Bucket {
    /// An empty bucket.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1), paid: 0 }
    }

    /// Takes an amount at a time, and says how long to wait before it may be used.
    pub fn take(&mut self, now: Duration, amount: u64) -> Duration {
        let rate = u128::from(self.per_second);
        let full = now.saturating_sub(BURST).as_nanos() * rate;
        self.paid = self.paid.max(full) + u128::from(amount) * SECOND;
        // Whole nanoseconds, rounded up: never too early.
        let at = self.paid.div_ceil(rate);
        let at = Duration::from_nanos(u64::try_from(at).unwrap_or(u64::MAX));
        at.saturating_sub(now)
    }
}

/// A bucket that several threads take from.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    begun: Instant,
    bucket: Mutex<Bucket>,
}

impl Limiter {
    /// A limiter whose clock starts now.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, begun: Instant::now(), bucket: Mutex::new(Bucket::new(rate.per_second)) }
    }

    /// Takes so many cells, or bytes, and says how long to wait before they are sent.
    pub fn take(&self, cells: u64, bytes: u64) -> Duration {
        let amount = self.rate.amount(cells, bytes);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(self.begun.elapsed(), amount)
    }

    /// Cells and bytes of a batch that is worth a tenth of a second, so that what is sent comes
    /// evenly.
    #[must_use]
    pub fn batch(&self) -> (u64, usize) {
        let amount = (self.rate.per_second / 10).max(1);
        match self.rate.unit {
            Unit::Cells => (amount, usize::MAX),
            Unit::Bytes => (u64::MAX, usize::try_from(amount).unwrap_or(usize::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_read_with_their_units() {
        for (text, unit, per_second) in [
            ("200000cells/s", Unit::Cells, 200_000),
            ("200kcells/s", Unit::Cells, 200_000),
            ("3Mcells/s", Unit::Cells, 3_000_000),
            ("1B/s", Unit::Bytes, 1),
            ("20MB/s", Unit::Bytes, 20_000_000),
            ("20MiB/s", Unit::Bytes, 20 << 20),
            ("1GB/s", Unit::Bytes, 1_000_000_000),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate { unit, per_second }, "{text}");
            assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in [
            "",
            "5",
            "5k",
            "cells/s",
            "0cells/s",
            "0MB/s",
            "-1cells/s",
            "1.5MB/s",
            "5rows/s",
            "5Mb/s",
            "5cells",
            "5MB/min",
            "5 MB/s",
            "1e9B/s",
            "5Kicells/s",
            "99999999999GB/s",
            "18446744073709551616B/s",
            "+5B/s",
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.to_string().contains("20MB/s"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_taken_is_paid_for_before_it_is_used() {
        let mut bucket = Bucket::new(1_000);
        let now = Duration::ZERO;
        assert_eq!(bucket.take(now, 500), Duration::from_millis(500));
        assert_eq!(bucket.take(now, 500), Duration::from_secs(1));
        assert_eq!(bucket.take(Duration::from_millis(900), 0), Duration::from_millis(100));
        // A pause fills the bucket up to one second's worth.
        assert_eq!(bucket.take(Duration::from_secs(60), 1_000), Duration::ZERO);
        assert_eq!(bucket.take(Duration::from_secs(60), 1_000), Duration::from_secs(1));
    }

    #[test]
    fn it_is_exact_in_the_long_run_at_a_rate_that_divides_nothing() {
        let mut bucket = Bucket::new(7);
        let mut now = Duration::ZERO;
        for _ in 0..7_000 {
            now += bucket.take(now, 3);
        }
        assert_eq!(now, Duration::from_secs(3_000));
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_bucket(
            per_second in 1..5_000_000_u64,
            takes in prop::collection::vec((0..3_000_000_000_u64, 0..20_000_000_u64), 1..60),
        ) {
            let mut bucket = Bucket::new(per_second);
            let mut now = Duration::ZERO;
            let mut used: Vec<(Duration, u64)> = Vec::new();
            for (idle, amount) in takes {
                now += Duration::from_nanos(idle);
                let at = now + bucket.take(now, amount);
                used.push((at, amount));
            }
            for from in 0..used.len() {
                let mut sum = 0_u128;
                // What came first was paid for before the interval begins.
                for &(at, amount) in &used[from + 1..] {
                    sum += u128::from(amount);
                    let length = (at - used[from].0 + BURST).as_nanos() + 1;
                    prop_assert!(sum * SECOND <= length * u128::from(per_second));
                }
            }
        }
    }
}
