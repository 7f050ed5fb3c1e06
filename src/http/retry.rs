//! When a request is repeated: plain data, and the waiting between attempts.

use super::Reply;
use crate::pace::Outcome;
use crate::stop;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often and how long a request is repeated after passing failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Most attempts, the first one included.
    pub attempts: u32,
    /// No attempt begins later than this after the first failure, without the time for which
    /// attempts had to wait for others.
    pub total: Duration,
    /// Wait before the second attempt; it doubles from there.
    pub first: Duration,
    /// Longest wait that is not the server's wish.
    pub longest: Duration,
    /// Longest wait that a server's `Retry-After` is granted.
    pub wish: Duration,
}

impl Default for Retry {
    /// 12 attempts within 5 minutes, waits from 0.2 to 30 seconds: long enough for a restart.
    fn default() -> Self {
        Self {
            attempts: 12,
            total: Duration::from_secs(300),
            first: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            wish: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// How long to wait after `made` attempts, or `None` where the limits are reached.
    ///
    /// Waits lie between half and the whole of the doubled time, by `jitter`, so that clients which
    /// failed together do not return together. A server's own wish counts up to [`Retry::wish`].
    #[must_use]
    pub fn delay(
        &self,
        made: u32,
        elapsed: Duration,
        after: Option<Duration>,
        jitter: u32,
    ) -> Option<Duration> {
        if made >= self.attempts {
            return None;
        }
        let doubled =
            self.first.saturating_mul(1 << made.saturating_sub(1).min(20)).min(self.longest);
        let half = doubled / 2;
        let backoff = half + half.mul_f64(f64::from(jitter) / f64::from(u32::MAX));
        let wait = backoff.max(after.unwrap_or_default().min(self.wish));
        (elapsed + wait <= self.total).then_some(wait)
    }
}

/// Attempts at one request.
#[derive(Debug)]
pub struct Attempts {
    retry: Retry,
    /// When the first one failed.
    failed: Option<Instant>,
    /// How long attempts had to wait for others since.
    held: Duration,
    made: u32,
}

impl Attempts {
    /// The first attempt begins now.
    #[must_use]
    pub fn new(retry: Retry) -> Self {
        Self { retry, failed: None, held: Duration::ZERO, made: 1 }
    }

    /// Attempts that were made.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Notes that an attempt had to wait for others, which is nobody's failure.
    pub(super) fn held(&mut self, time: Duration) {
        if self.failed.is_some() {
            self.held += time;
        }
    }

    /// Waits before another attempt; false, at once, where the limits are reached.
    pub fn wait(&mut self, after: Option<Duration>) -> bool {
        let elapsed = self.failed.get_or_insert_with(Instant::now).elapsed();
        self.pause(elapsed.saturating_sub(self.held), after)
    }

    /// The same where others keep the server from answering: only the number of attempts is limited,
    /// since nobody knows how long others take.
    pub fn wait_for_others(&mut self) -> bool {
        self.pause(Duration::ZERO, None)
    }

    fn pause(&mut self, elapsed: Duration, after: Option<Duration>) -> bool {
        let jitter = RandomState::new().hash_one(self.made) & u64::from(u32::MAX);
        let jitter = u32::try_from(jitter).unwrap_or_default();
        let Some(wait) = self.retry.delay(self.made, elapsed, after, jitter) else {
            return false;
        };
        tracing::debug!(attempt = self.made + 1, wait_s = wait.as_secs_f64(), "waits to ask again");
        self.made += 1;
        stop::pause(wait)
    }
}

/// How long a `Retry-After` asks to wait (RFC 9110, 10.2.3): seconds, or a date, from which the
/// server's clock is taken off, or ours where it did not tell its own. A date that has passed asks
/// for no wait; what is neither is no wish.
pub(super) fn retry_after(text: &str, server_clock: Option<i64>) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_nanosecond();
    let ours = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let now = server_clock.map_or_else(|| ours().try_into().unwrap_or(i128::MAX), i128::from);
    Some(Duration::from_nanos(u64::try_from((date - now).max(0)).unwrap_or(u64::MAX)))
}

/// True where a reply says that the same request may succeed later.
#[must_use]
pub(super) fn is_passing(reply: &Reply) -> bool {
    match reply.status {
        408 | 429 | 502..=504 => true,
        500 => {
            let words = reply.words();
            words == "timeout" || words.contains("cache-max-memory-size exceeded")
        }
        _ => false,
    }
}

/// What a reply says of the pace; a server's wish counts up to `retry.wish`.
pub(super) fn outcome(reply: &Reply, retry: Retry) -> Outcome {
    let why = || reply.status.to_string();
    let after = reply.retry_after.map(|after| after.min(retry.wish));
    match reply.status {
        413 => Outcome::TooLarge,
        408 | 504 => Outcome::Slow { why: why() },
        500 if reply.words() == "timeout" => Outcome::Slow { why: "timeout".into() },
        500 if reply.words().contains("cache-max-memory-size exceeded") => {
            Outcome::Busy { why: "cache".into(), after }
        }
        429 | 502 | 503 => Outcome::Busy { why: why(), after },
        _ => Outcome::Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let retry = Retry {
            attempts: 4,
            total: Duration::from_secs(100),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(3),
            wish: Duration::from_secs(60),
        };
        let delay = |made, jitter| retry.delay(made, Duration::ZERO, None, jitter);
        assert_eq!(delay(1, u32::MAX), Some(Duration::from_secs(1)));
        assert_eq!(delay(1, 0), Some(Duration::from_millis(500)));
        assert_eq!(delay(2, u32::MAX), Some(Duration::from_secs(2)));
        assert_eq!(delay(3, u32::MAX), Some(Duration::from_secs(3)));
        assert_eq!(delay(4, 0), None);
    }

    #[test]
    fn the_time_for_which_others_were_waited_for_does_not_count() {
        let retry = Retry {
            attempts: 9,
            total: Duration::from_secs(1),
            first: Duration::ZERO,
            longest: Duration::ZERO,
            wish: Duration::ZERO,
        };
        let mut attempts = Attempts::new(retry);
        attempts.held(Duration::from_secs(9));
        assert_eq!(attempts.held, Duration::ZERO, "nothing had failed");
        assert!(attempts.wait(None));
        let ago = Instant::now().checked_sub(Duration::from_secs(10)).expect("a time ago");
        attempts.failed = Some(ago);
        assert!(!attempts.wait(None));
        attempts.held(Duration::from_millis(9_900));
        assert!(attempts.wait(None));
        attempts.held = Duration::ZERO;
        while attempts.wait_for_others() {}
        assert_eq!(attempts.made(), retry.attempts);
    }

    #[test]
    fn a_servers_wish_is_granted_up_to_a_minute() {
        let retry = Retry::default();
        let delay = |seconds, elapsed| {
            retry.delay(1, elapsed, Some(Duration::from_secs(seconds)), u32::MAX)
        };
        assert_eq!(delay(7, Duration::ZERO), Some(Duration::from_secs(7)));
        assert_eq!(delay(86_400, Duration::ZERO), Some(retry.wish));
        assert_eq!(delay(7, retry.total), None);
    }

    #[test]
    fn a_retry_after_is_seconds_or_a_date_and_nothing_else() {
        // Wed, 21 Oct 2015 07:28:00 GMT
        let clock = Some(1_445_412_480_000_000_000);
        let seconds = |text: &str| retry_after(text, clock).map(|wait| wait.as_secs());
        for (text, wait) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("100000000000000000000", Some(u64::MAX)),
            ("Wed, 21 Oct 2015 07:28:09 GMT", Some(9)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("Tue, 21 Oct 2025 07:28:00 GMT", Some(10 * 365 * 86_400 + 3 * 86_400)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("\u{663}", None),
        ] {
            assert_eq!(seconds(text), wait, "{text:?}");
        }
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT", None), Some(Duration::ZERO));
    }

    #[test]
    fn the_total_of_the_default_waits_is_bounded() {
        let retry = Retry::default();
        let mut elapsed = Duration::ZERO;
        let mut made = 1;
        while let Some(wait) = retry.delay(made, elapsed, None, u32::MAX) {
            elapsed += wait;
            made += 1;
        }
        assert!(elapsed > Duration::from_secs(60) && elapsed <= retry.total, "{elapsed:?}");
    }

    fn reply(status: u16, body: &str) -> Reply {
        let body = body.as_bytes().to_vec();
        Reply { status, date: None, version: None, retry_after: None, location: None, body }
    }

    #[test]
    fn what_a_reply_says_of_the_pace() {
        let busy = |why: &str| Outcome::Busy { why: why.into(), after: None };
        let slow = |why: &str| Outcome::Slow { why: why.into() };
        for (status, words, expected) in [
            (204, "", Outcome::Answered),
            (400, "partial write: x dropped=1", Outcome::Answered),
            (413, "Request Entity Too Large", Outcome::TooLarge),
            (429, "", busy("429")),
            (503, "", busy("503")),
            (500, "engine: cache-max-memory-size exceeded: (1/2)", busy("cache")),
            (500, "timeout", slow("timeout")),
            (504, "", slow("504")),
            (500, "retention policy not found: timeout", Outcome::Answered),
        ] {
            let body = format!("{{\"error\":\"{words}\"}}");
            assert_eq!(
                outcome(&reply(status, &body), Retry::default()),
                expected,
                "{status} {words}"
            );
        }
    }

    #[test]
    fn busy_and_refusing_servers_are_told_apart() {
        for (status, body) in [
            (503, ""),
            (429, ""),
            (500, r#"{"error":"timeout"}"#),
            (500, r#"{"error":"engine: cache-max-memory-size exceeded: (1/2)"}"#),
        ] {
            assert!(is_passing(&reply(status, body)), "{status} {body}");
        }
        for (status, body) in [
            (204, ""),
            (400, r#"{"error":"timeout"}"#),
            (500, r#"{"error":"retention policy not found: timeout"}"#),
            (404, ""),
        ] {
            assert!(!is_passing(&reply(status, body)), "{status} {body}");
        }
    }
}
