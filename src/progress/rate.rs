//! Rates over the last minute, shares and the time that is left, from readings of the counters.
//!
//! Invariant: what it keeps is bounded, however long a run takes and however often it is asked, and
//! a share, once shown, is never followed by a smaller one.

use super::facts::{Amounts, Reading};
use crate::pipeline::Stage;
use std::collections::VecDeque;
use std::time::Duration;

/// How far back rates look.
const WINDOW: Duration = Duration::from_secs(60);
/// Time between two samples that are kept.
const STEP: Duration = Duration::from_secs(1);
/// Share from which on the time that is left is told: before it, it would be a guess.
const SHARE_FOR_ETA: u64 = 2;

/// One stage at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) stage: Stage,
    pub(super) amounts: Amounts,
    /// Cells and bytes a second; `None` where the stage is too young to tell.
    pub(super) rate: Option<(u64, u64)>,
    /// Thousandths that are done, where it is known how much there is.
    pub(super) permille: Option<u64>,
    /// Seconds that are left.
    pub(super) eta: Option<u64>,
}

/// The last minute of every stage.
#[derive(Debug, Default)]
pub(super) struct Rates {
    histories: [History; Stage::ALL.len()],
}

#[derive(Debug, Default)]
struct History {
    samples: VecDeque<Sample>,
    /// Largest share that was shown.
    permille: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    cells: u64,
    bytes: u64,
}

impl Rates {
    /// Takes a reading, made at `now` since the run began; gives what is to be shown of the stages
    /// that have begun.
    pub(super) fn view(&mut self, now: Duration, reading: &Reading) -> Vec<View> {
        let stages = Stage::ALL.into_iter().zip(&reading.stages).zip(&mut self.histories);
        stages
            .filter(|((_, amounts), _)| amounts.begun)
            .map(|((stage, amounts), history)| history.view(stage, now, *amounts))
            .collect()
    }

    /// Keeps a reading for later rates. To be called about once a second: the time from one call to
    /// the next in which a stage begins counts as its first.
    pub(super) fn sample(&mut self, now: Duration, reading: &Reading) {
        for (amounts, history) in reading.stages.iter().zip(&mut self.histories) {
            history.sample(now, amounts);
        }
    }
}

impl History {
    fn sample(&mut self, now: Duration, amounts: &Amounts) {
        if !amounts.begun {
            self.samples.clear();
        }
        if self.samples.back().is_none_or(|last| now.saturating_sub(last.at) >= STEP) {
            let Amounts { cells, bytes, .. } = *amounts;
            self.samples.push_back(Sample { at: now, cells, bytes });
        }
        while self.samples.get(1).is_some_and(|second| second.at + WINDOW <= now) {
            self.samples.pop_front();
        }
    }

    fn view(&mut self, stage: Stage, now: Duration, amounts: Amounts) -> View {
        let rate = self.rate(now, &amounts);
        let permille = amounts.share().map(|(done, total)| {
            self.permille = self.permille.max(permille(done, total));
            self.permille
        });
        View { stage, amounts, rate, permille, eta: eta(&amounts, rate) }
    }

    fn rate(&self, now: Duration, amounts: &Amounts) -> Option<(u64, u64)> {
        let first = self.samples.front()?;
        let time = now.saturating_sub(first.at);
        let per_second = |amount: u64| {
            let per_second = u128::from(amount) * 1_000 / time.as_millis();
            u64::try_from(per_second).unwrap_or(u64::MAX)
        };
        (time >= STEP).then(|| {
            (
                per_second(amounts.cells.saturating_sub(first.cells)),
                per_second(amounts.bytes.saturating_sub(first.bytes)),
            )
        })
    }
}

/// Rounded down, so that everything is said to be done only where it is.
fn permille(done: u64, total: u64) -> u64 {
    let share = u128::from(done) * 1_000 / u128::from(total.max(1));
    if done >= total { 1_000 } else { u64::try_from(share).unwrap_or(1_000) }
}

/// Seconds until the rest is done at this rate.
fn eta(amounts: &Amounts, rate: Option<(u64, u64)>) -> Option<u64> {
    let (done, total) = amounts.share()?;
    let (cells, bytes) = rate?;
    let rate = if amounts.cells_total.is_some() { cells } else { bytes };
    let early = u128::from(done) * 100 < u128::from(total) * u128::from(SHARE_FOR_ETA);
    // Of a stage that is complete nothing follows for the others.
    (rate > 0 && !early && done < total).then(|| (total - done).div_ceil(rate))
}

/// Seconds until all stages of which it is known are done: they run beside each other.
pub(super) fn eta_of_all(views: &[View]) -> Option<u64> {
    views.iter().filter_map(|view| view.eta).max()
}

/// The stage that moves: the last of those that do; else the first that is known to be unfinished,
/// else the last that has begun.
pub(super) fn current(views: &[View]) -> Option<&View> {
    let moves =
        |view: &&View| view.rate.is_some_and(|rate| rate != (0, 0)) && !view.amounts.is_complete();
    let unfinished = |view: &&View| view.permille.is_some() && !view.amounts.is_complete();
    views.iter().rfind(moves).or_else(|| views.iter().find(unfinished)).or(views.last())
}

#[cfg(test)]
mod tests {
    use super::super::facts::Facts;
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Runs a send stage second by second; `cells` gives what each second adds.
    fn run(facts: &Facts, rates: &mut Rates, time: std::ops::Range<u64>, cells: u64) -> View {
        let mut last = None;
        for second in time {
            facts.done(Stage::Send, cells, 10 * cells);
            let reading = facts.read();
            rates.sample(seconds(second), &reading);
            last = rates.view(seconds(second), &reading).pop();
        }
        last.unwrap()
    }

    #[test]
    fn rates_are_those_of_the_last_minute_and_not_of_the_whole_run() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        run(&facts, &mut rates, 0..1_000, 1_000);
        assert_eq!(run(&facts, &mut rates, 1_000..1_030, 0).rate, Some((500, 5_000)));
        assert_eq!(run(&facts, &mut rates, 1_030..1_061, 0).rate, Some((0, 0)));
    }

    #[test]
    fn the_time_before_a_stage_began_does_not_lower_its_rate() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        for second in 0..50 {
            rates.sample(seconds(second), &facts.read());
        }
        let view = run(&facts, &mut rates, 50..55, 100);
        assert_eq!(view.rate, Some((100, 1_000)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        for tick in 0..100_000 {
            facts.done(Stage::Read, 1, 1);
            rates.sample(Duration::from_millis(tick * 50), &facts.read());
        }
        assert!(rates.histories[0].samples.len() <= 62);
    }

    #[test]
    fn the_time_that_is_left_is_told_from_two_percent_on() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        facts.expect(Stage::Send, 1_000);
        assert_eq!(run(&facts, &mut rates, 0..19, 1).eta, None);
        assert_eq!(run(&facts, &mut rates, 19..20, 1).eta, Some(980));
    }

    #[test]
    fn a_stalled_stage_has_no_time_that_is_left() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        facts.expect(Stage::Send, 1_000);
        assert!(run(&facts, &mut rates, 0..50, 10).eta.is_some());
        let stalled = run(&facts, &mut rates, 50..120, 0);
        assert_eq!((stalled.rate, stalled.eta), (Some((0, 0)), None));
    }

    #[test]
    fn a_share_does_not_fall_when_the_total_grows() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        facts.expect(Stage::Send, 100);
        assert_eq!(run(&facts, &mut rates, 0..8, 10).permille, Some(800));
        facts.expect(Stage::Send, 1_000);
        assert_eq!(run(&facts, &mut rates, 8..10, 10).permille, Some(800));
        assert_eq!(run(&facts, &mut rates, 10..100, 10).permille, Some(1_000));
    }

    #[test]
    fn no_share_is_known_before_the_total() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        let view = run(&facts, &mut rates, 0..10, 10);
        assert_eq!((view.permille, view.eta), (None, None));
    }

    #[test]
    fn all_but_one_is_not_called_everything() {
        assert_eq!(permille(999_999, 1_000_000), 999);
        assert_eq!(permille(0, 0), 1_000);
        assert_eq!(permille(u64::MAX - 1, u64::MAX), 999);
    }

    #[test]
    fn the_stage_that_is_waited_for_is_the_first_unfinished_one() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        let mut name = |facts: &Facts| {
            let views = rates.view(seconds(1), &facts.read());
            current(&views).map(|view| view.stage.name())
        };
        assert_eq!(name(&facts), None);
        facts.expect(Stage::Read, 10);
        facts.done(Stage::Verify, 1, 0);
        assert_eq!(name(&facts), Some("read"));
        facts.done(Stage::Read, 10, 0);
        assert_eq!(name(&facts), Some("verify"));
    }
}
