//! How much is asked of a server at once: requests under way, and bytes of a batch.
//!
//! Additive increase, multiplicative decrease: a reply that asks for less, or one that takes far
//! longer than those before it, halves what is under way; every success adds a part of one. What
//! is too slow or too large halves the batch, too. While a `Retry-After` runs nothing starts.
//!
//! A state machine without a clock: time is handed in, as the time since any one moment. Who waits,
//! and who is told, is somebody else's business. Invariants: at least one request may be under way,
//! and never more than the limit; a batch is never held below [`BATCH_MIN`].

use std::collections::BTreeMap;
use std::time::Duration;

/// Smallest batch that a server is held to be too slow or too small for.
pub const BATCH_MIN: usize = 64 << 10;
/// Bytes that every success adds to a batch that was halved.
const BATCH_STEP: usize = 64 << 10;
/// A batch that has grown to this is free again.
const BATCH_FREE: usize = 8 << 20;
/// Longest `Retry-After` that is granted.
pub const HOLD_MAX: Duration = Duration::from_secs(60);
/// A reply is late behind so many times the average.
const LATE_TIMES: f64 = 8.0;
/// No reply is late that took less: a server may pause to write its cache or to collect garbage.
const LATE_MIN: Duration = Duration::from_secs(3);
/// Replies before an average is trusted.
const REPLIES_MIN: u32 = 8;
/// Weight of the newest reply in the average.
const WEIGHT: f64 = 1.0 / 8.0;
/// A request costs as much as so many of its bytes before it has any.
const BYTES_OF_A_REQUEST: f64 = 262_144.0;

/// What became of a request, as far as the pace is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, and how long that took says how busy the server is.
    Answered,
    /// It ended; how long it took says nothing.
    Ended,
    /// The server asks for less, perhaps for nothing at all for a while.
    Busy {
        /// Its status or reason ("503").
        why: String,
        /// Its `Retry-After`.
        after: Option<Duration>,
    },
    /// It took too long.
    Slow {
        /// Its status or reason ("timeout").
        why: String,
    },
    /// It is larger than the server takes.
    TooLarge,
}

/// A request that was under way.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// When it was sent.
    pub started: Duration,
    /// Bytes that it carried, before compression.
    pub bytes: usize,
}

/// A change of the pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Less is asked for from now on.
    BackedOff {
        /// The reason, one word: a status, `timeout`, `latency`, `connection`, `413`.
        why: String,
    },
    /// Requests that were sent since are answered: more is asked for again, bit by bit.
    Recovers,
}

/// When the next request may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// Not before this time.
    At(Duration),
    /// When one has ended.
    Later,
}

/// The pace of requests to one server.
#[derive(Clone, Debug)]
pub struct Pace {
    at_once_max: usize,
    /// Requests that may be under way; its whole part counts.
    at_once: f64,
    under_way: usize,
    /// What is under way is halved no more for requests that were sent before.
    backed_off: Option<Duration>,
    backing_off: bool,
    held_until: Duration,
    batch: usize,
    /// Batches of more were refused for their size.
    batch_max: usize,
    /// Seconds of a reply by its size, and how many were seen.
    cost: f64,
    replies: u32,
    backoffs: BTreeMap<String, u64>,
}

impl Pace {
    /// A pace of at most so many requests at once. It begins there: most servers take it.
    #[must_use]
    pub fn new(at_once_max: usize) -> Self {
        let at_once_max = at_once_max.clamp(1, 1 << 16);
        Self {
            at_once_max,
            at_once: as_float(at_once_max),
            under_way: 0,
            backed_off: None,
            backing_off: false,
            held_until: Duration::ZERO,
            batch: usize::MAX,
            batch_max: usize::MAX,
            cost: 0.0,
            replies: 0,
            backoffs: BTreeMap::new(),
        }
    }

    /// Requests that may be under way.
    #[must_use]
    pub fn at_once(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 65,536"
        )]
        let whole = self.at_once as usize;
        whole.clamp(1, self.at_once_max)
    }

    /// Requests that are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Bytes that a batch should not exceed; `usize::MAX` where nothing speaks against any.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.batch.min(self.batch_max)
    }

    /// How often less was asked for, by reason.
    #[must_use]
    pub fn backoffs(&self) -> &BTreeMap<String, u64> {
        &self.backoffs
    }

    /// When the next request may start.
    #[must_use]
    pub fn may_start(&self, now: Duration) -> Start {
        if now < self.held_until {
            Start::At(self.held_until)
        } else if self.under_way < self.at_once() {
            Start::Now
        } else {
            Start::Later
        }
    }

    /// A request starts.
    pub fn start(&mut self) {
        self.under_way += 1;
    }

    /// A request ended.
    pub fn end(&mut self, request: Request, now: Duration, outcome: &Outcome) -> Option<Change> {
        self.under_way = self.under_way.saturating_sub(1);
        match outcome {
            Outcome::Answered if self.is_late(request, now) => {
                self.back_off(request, now, "latency")
            }
            Outcome::Answered | Outcome::Ended => self.succeed(request),
            Outcome::Busy { why, after } => {
                let after = after.unwrap_or_default().min(HOLD_MAX);
                self.held_until = self.held_until.max(now + after);
                self.back_off(request, now, why)
            }
            Outcome::Slow { why } => {
                let half = (request.bytes / 2).max(BATCH_MIN);
                if request.bytes > 0 {
                    self.batch = self.batch.min(half);
                }
                self.back_off(request, now, why)
            }
            Outcome::TooLarge => {
                let half = (request.bytes / 2).max(BATCH_MIN);
                if half >= self.batch_max {
                    return None;
                }
                self.batch_max = half;
                self.note("413")
            }
        }
    }

    /// The server runs no more than it runs now: what it said is in a reply that goes on.
    /// `at_once` is its limit, where it names one.
    pub fn refuse(&mut self, now: Duration, at_once: Option<usize>) -> Option<Change> {
        if let Some(limit) = at_once {
            self.at_once_max = self.at_once_max.min(limit.max(1));
            self.at_once = self.at_once.min(as_float(self.at_once_max));
        }
        let request = Request { started: now, bytes: 0 };
        // Requests that were refused together halve once.
        if self.backed_off.is_some_and(|at| now < at + Duration::from_millis(100)) {
            return None;
        }
        self.back_off(request, now, "queries")
    }

    fn back_off(&mut self, request: Request, now: Duration, why: &str) -> Option<Change> {
        if self.backed_off.is_some_and(|at| request.started < at) {
            return None;
        }
        self.backed_off = Some(now);
        self.at_once = as_float((self.at_once() / 2).max(1));
        self.note(why)
    }

    fn note(&mut self, why: &str) -> Option<Change> {
        self.backing_off = true;
        *self.backoffs.entry(why.to_owned()).or_default() += 1;
        Some(Change::BackedOff { why: why.to_owned() })
    }

    fn succeed(&mut self, request: Request) -> Option<Change> {
        if self.backed_off.is_some_and(|at| request.started < at) {
            return None;
        }
        self.at_once = (self.at_once + 1.0 / self.at_once).min(as_float(self.at_once_max));
        self.batch = self.batch.saturating_add(BATCH_STEP);
        if self.batch >= BATCH_FREE {
            self.batch = usize::MAX;
        }
        std::mem::take(&mut self.backing_off).then_some(Change::Recovers)
    }

    /// Adds a reply to the average; true where it came far too late.
    fn is_late(&mut self, request: Request, now: Duration) -> bool {
        let took = now.saturating_sub(request.started);
        let cost = took.as_secs_f64() / (1.0 + as_float(request.bytes) / BYTES_OF_A_REQUEST);
        let late = self.replies >= REPLIES_MIN && took >= LATE_MIN && cost > LATE_TIMES * self.cost;
        let weight = if self.replies == 0 { 1.0 } else { WEIGHT };
        self.cost += weight * (cost - self.cost);
        self.replies = self.replies.saturating_add(1);
        late
    }
}

fn as_float(number: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sizes and counts far below 2^52")]
    let float = number as f64;
    float
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: usize = 1 << 20;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn busy(after: Option<u64>) -> Outcome {
        Outcome::Busy { why: "503".into(), after: after.map(at) }
    }

    /// Sends one request from `from` to `to`.
    fn send(pace: &mut Pace, from: u64, to: u64, outcome: &Outcome) -> Option<Change> {
        pace.start();
        pace.end(Request { started: at(from), bytes: MIB }, at(to), outcome)
    }

    #[test]
    fn a_busy_server_halves_what_is_under_way_and_successes_add() {
        let mut pace = Pace::new(8);
        assert_eq!(pace.at_once(), 8);
        let change = send(&mut pace, 0, 1, &busy(None));
        assert_eq!(change, Some(Change::BackedOff { why: "503".into() }));
        assert_eq!(pace.at_once(), 4);
        assert_eq!(pace.batch_bytes(), usize::MAX, "a busy server says nothing about sizes");
        assert_eq!(send(&mut pace, 1, 2, &Outcome::Ended), Some(Change::Recovers));
        assert_eq!(pace.at_once(), 4);
        let mut successes = 1;
        while pace.at_once() < 8 {
            assert_eq!(send(&mut pace, 2, 3, &Outcome::Ended), None);
            successes += 1;
        }
        assert!((20..=40).contains(&successes), "one more for each round: {successes}");
        for _ in 0..1_000 {
            send(&mut pace, 2, 3, &Outcome::Ended);
        }
        assert_eq!(pace.at_once(), 8, "never above the limit");
    }

    #[test]
    fn requests_that_fail_together_halve_once() {
        let mut pace = Pace::new(16);
        for _ in 0..16 {
            pace.start();
        }
        let request = Request { started: at(1), bytes: MIB };
        let changes = (0..16).filter_map(|_| pace.end(request, at(2), &busy(None))).count();
        assert_eq!((changes, pace.at_once()), (1, 8));
        // What was sent before tells nothing about the lower pace.
        pace.start();
        assert_eq!(pace.end(request, at(3), &Outcome::Ended), None);
        send(&mut pace, 3, 4, &busy(None));
        assert_eq!(pace.at_once(), 4);
    }

    #[test]
    fn one_request_is_always_allowed() {
        let mut pace = Pace::new(0);
        for round in 0..10 {
            send(&mut pace, round, round + 1, &busy(None));
            assert_eq!((pace.at_once(), pace.may_start(at(round + 1))), (1, Start::Now));
        }
        pace.start();
        assert_eq!(pace.may_start(at(99)), Start::Later);
    }

    #[test]
    fn nothing_starts_while_a_retry_after_runs() {
        let mut pace = Pace::new(4);
        send(&mut pace, 0, 1, &busy(Some(7)));
        assert_eq!(pace.may_start(at(7)), Start::At(at(8)));
        // A shorter wish does not cut it short.
        send(&mut pace, 0, 2, &busy(Some(1)));
        assert_eq!(pace.may_start(at(7)), Start::At(at(8)));
        assert_eq!(pace.may_start(at(8)), Start::Now);
        send(&mut pace, 8, 9, &busy(Some(86_400)));
        assert_eq!(pace.may_start(at(10)), Start::At(at(69)), "a minute at most");
    }

    #[test]
    fn what_is_too_slow_halves_the_batch_and_what_is_too_large_for_good() {
        let mut pace = Pace::new(4);
        let slow = Outcome::Slow { why: "timeout".into() };
        send(&mut pace, 0, 1, &slow);
        assert_eq!((pace.at_once(), pace.batch_bytes()), (2, MIB / 2));
        for _ in 0..100 {
            send(&mut pace, 2, 3, &Outcome::Ended);
        }
        assert_eq!(pace.batch_bytes(), MIB / 2 + 100 * BATCH_STEP);
        for _ in 0..100 {
            send(&mut pace, 2, 3, &Outcome::Ended);
        }
        assert_eq!(pace.batch_bytes(), usize::MAX);
        let change = send(&mut pace, 3, 4, &Outcome::TooLarge);
        assert_eq!(change, Some(Change::BackedOff { why: "413".into() }));
        assert_eq!((pace.at_once(), pace.batch_bytes()), (4, MIB / 2));
        assert_eq!(send(&mut pace, 3, 4, &Outcome::TooLarge), None, "known already");
        for _ in 0..100 {
            send(&mut pace, 5, 6, &Outcome::Ended);
        }
        assert_eq!(pace.batch_bytes(), MIB / 2);
        for round in 0..20 {
            pace.start();
            let request = Request { started: at(6 + round), bytes: pace.batch_bytes() };
            pace.end(request, at(7 + round), &slow);
        }
        assert_eq!(pace.batch_bytes(), BATCH_MIN);
    }

    #[test]
    fn a_reply_far_later_than_those_before_is_a_sign() {
        let mut pace = Pace::new(8);
        let mut reply = |from: u64, took: u64, bytes: usize| {
            let started = Duration::from_millis(from);
            pace.start();
            let now = started + Duration::from_millis(took);
            pace.end(Request { started, bytes }, now, &Outcome::Answered)
        };
        for round in 0..20 {
            assert_eq!(reply(round * 100, 100, MIB), None);
        }
        assert_eq!(reply(3_000, 2_900, MIB), None, "a pause");
        for round in 0..20 {
            assert_eq!(reply(6_000 + round * 100, 100, MIB), None);
        }
        assert_eq!(reply(9_000, 3_000, 40 * MIB), None, "it was larger");
        let late = Some(Change::BackedOff { why: "latency".into() });
        assert_eq!(reply(20_000, 30_000, MIB), late);
        // A server that is always so slow is not late for ever.
        assert_eq!(reply(60_000, 30_000, MIB), Some(Change::Recovers));
        assert_eq!(pace.backoffs().get("latency"), Some(&1));
    }

    #[test]
    fn a_named_limit_is_kept() {
        let mut pace = Pace::new(8);
        assert!(pace.refuse(at(1), Some(2)).is_some());
        assert_eq!(pace.at_once(), 1);
        assert_eq!(pace.refuse(at(1), Some(2)), None, "refused together");
        for _ in 0..100 {
            pace.start();
            pace.end(Request { started: at(2), bytes: 0 }, at(3), &Outcome::Ended);
        }
        assert_eq!(pace.at_once(), 2);
        assert!(pace.refuse(at(9), None).is_some(), "others ask the server, too");
        assert_eq!(pace.at_once(), 1);
    }

    proptest! {
        #[test]
        fn the_pace_stays_within_its_bounds_whatever_happens(
            limit in 0..40_usize,
            events in prop::collection::vec((0..6_u8, 0..100_u64, 0..8_000_000_usize), 0..200),
        ) {
            let mut pace = Pace::new(limit);
            let mut now = at(0);
            for (what, seconds, bytes) in events {
                let started = now;
                let outcome = match what {
                    0 => busy(Some(seconds)),
                    1 => busy(None),
                    2 => Outcome::Slow { why: "timeout".into() },
                    3 => Outcome::TooLarge,
                    4 => Outcome::Ended,
                    _ => Outcome::Answered,
                };
                pace.start();
                now += at(seconds);
                pace.end(Request { started, bytes }, now, &outcome);
                prop_assert!((1..=limit.max(1)).contains(&pace.at_once()));
                prop_assert!(pace.batch_bytes() >= BATCH_MIN);
                prop_assert_eq!(pace.under_way(), 0);
                match pace.may_start(now) {
                    Start::Now => {}
                    Start::At(then) => prop_assert!(now < then && then <= now + HOLD_MAX),
                    Start::Later => prop_assert!(false, "nothing is under way"),
                }
            }
        }
    }
}
