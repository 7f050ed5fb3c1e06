//! How the counters went over the whole run, for the report.
//!
//! Bounded: at most [`SAMPLES_MAX`] samples, evenly spread. Where there would be more, every other one
//! is dropped and they are taken half as often from then on.

use super::facts::{Amounts, Reading};
use serde::Serialize;
use std::time::Duration;

/// Samples that are kept.
pub const SAMPLES_MAX: usize = 256;
/// Time between two samples at first.
const STEP: Duration = Duration::from_millis(200);

/// The counters at one moment, all since the command began.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// Seconds since the command began.
    pub seconds: f64,
    /// What was read.
    pub read: Done,
    /// What was sent.
    pub send: Done,
    /// What was read to be compared.
    pub verify: Done,
    /// Requests that were repeated.
    pub retries: u64,
    /// Rows that were rejected.
    pub rejected: u64,
}

/// What a stage did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Cells.
    pub cells: u64,
    /// Bytes, where they are counted.
    pub bytes: u64,
}

impl Sample {
    fn of(elapsed: Duration, reading: &Reading) -> Self {
        let [read, send, verify] =
            reading.stages.map(|Amounts { cells, bytes, .. }| Done { cells, bytes });
        let Reading { retried, rejected, .. } = *reading;
        Self { seconds: elapsed.as_secs_f64(), read, send, verify, retries: retried, rejected }
    }

    /// The stages by their names, in the order of [`crate::pipeline::Stage::ALL`].
    #[must_use]
    pub fn stages(&self) -> [(&'static str, Done); 3] {
        [("read", self.read), ("send", self.send), ("verify", self.verify)]
    }
}

/// Samples of a run.
#[derive(Debug)]
pub(super) struct History {
    samples: Vec<Sample>,
    step: Duration,
    /// When the next sample is due.
    next: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { samples: Vec::new(), step: STEP, next: Duration::ZERO }
    }
}

impl History {
    /// Keeps a reading, where one is due.
    pub(super) fn sample(&mut self, elapsed: Duration, reading: &Reading) {
        if elapsed < self.next {
            return;
        }
        if self.samples.len() + 1 >= SAMPLES_MAX {
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.step *= 2;
        }
        self.samples.push(Sample::of(elapsed, reading));
        self.next = elapsed + self.step;
    }

    /// The samples, and one of this moment.
    pub(super) fn until(&self, elapsed: Duration, reading: &Reading) -> Vec<Sample> {
        let mut samples = self.samples.clone();
        samples.push(Sample::of(elapsed, reading));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Facts;
    use super::*;
    use crate::pipeline::Stage;

    #[test]
    fn what_is_kept_is_bounded_even_and_in_order() {
        let (facts, mut history) = (Facts::default(), History::default());
        let mut now = Duration::ZERO;
        for _ in 0..100_000 {
            facts.done(Stage::Read, 1, 2);
            now += Duration::from_millis(50);
            history.sample(now, &facts.read());
            assert!(history.samples.len() < SAMPLES_MAX);
        }
        let samples = history.until(now, &facts.read());
        assert!(samples.len() > SAMPLES_MAX / 2 - 2, "{}", samples.len());
        let steps = samples.windows(2).map(|pair| pair[1].seconds - pair[0].seconds);
        let (least, most) =
            steps.fold((f64::MAX, 0_f64), |(a, b), step| (a.min(step), b.max(step)));
        assert!(least >= 0.0 && most < 52.0, "{least} {most}");
        let last = samples.last().unwrap();
        assert_eq!(last.read, Done { cells: 100_000, bytes: 200_000 });
    }

    #[test]
    fn stages_keep_their_order() {
        let names = Sample::default().stages().map(|(name, _)| name);
        assert_eq!(names, Stage::ALL.map(Stage::name));
    }
}
