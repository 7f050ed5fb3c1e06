//! The operator's wish that a command comes to an end: finish what is in flight, begin nothing new.

use crate::error::{ErrorKind, Result};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How often a pause looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Exit status of a command that was interrupted and can be resumed.
pub const INTERRUPTED: u8 = 130;

/// What the signals raise: waits deep inside look at it.
static SIGNALLED: OnceLock<Stop> = OnceLock::new();

/// Waits, at most until a signal asks for an end. True where the whole time has passed.
#[must_use]
pub fn pause(time: Duration) -> bool {
    match SIGNALLED.get() {
        Some(stop) => stop.sleep(time),
        None => {
            std::thread::sleep(time);
            true
        }
    }
}

/// Whether the operator asked for an end. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on SIGINT and SIGTERM ask for an end. A second one ends the process at once, with
    /// [`INTERRUPTED`]: what was recorded until then is on disk.
    ///
    /// # Errors
    /// Where the system refuses the handlers.
    pub fn by_signal() -> io::Result<Self> {
        let stop = Self::default();
        #[cfg(unix)]
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let (at_once, flag) = (Arc::clone(&stop.0), Arc::clone(&stop.0));
            // In this order: the first signal finds the flag down, and raises it.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(INTERRUPTED),
                at_once,
            )?;
            signal_hook::flag::register(signal, flag)?;
        }
        Ok(SIGNALLED.get_or_init(|| stop).clone())
    }

    /// Asks for an end.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True where an end was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on unless an end was asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_requested() { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    /// Waits, at most until an end is asked for. True where the whole time has passed.
    #[must_use]
    pub fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            if self.is_requested() {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_when_an_end_is_asked_for() {
        let stop = Stop::default();
        assert!(stop.sleep(Duration::from_millis(1)));
        let other = stop.clone();
        let waiting = std::thread::spawn(move || other.sleep(Duration::from_secs(3_600)));
        stop.request();
        assert!(!waiting.join().unwrap());
        assert!(stop.check().is_err());
    }
}
