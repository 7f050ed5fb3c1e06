//! Progress as lines on standard error: one at each change of stage, and one every half minute.

use crate::pipeline::Progress;
use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(30);

/// Prints `key=value` lines.
#[derive(Debug)]
pub struct Lines {
    /// Nothing but warnings is printed.
    quiet: bool,
    begun: Instant,
    printed: Mutex<Instant>,
    units: AtomicUsize,
    units_done: AtomicUsize,
    read: AtomicU64,
    sent: AtomicU64,
}

impl Lines {
    /// Starts the clock.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            quiet,
            begun: now,
            printed: Mutex::new(now),
            units: AtomicUsize::new(0),
            units_done: AtomicUsize::new(0),
            read: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Time since the command began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Says that a stage begins.
    pub fn stage(&self, text: &str) {
        if !self.quiet {
            print(&format!("elapsed={:.1}s {text}", self.elapsed().as_secs_f64()));
        }
    }

    fn tick(&self) {
        if self.quiet {
            return;
        }
        // Another thread that holds the lock is printing: this one need not.
        let Ok(mut printed) = self.printed.try_lock() else { return };
        if printed.elapsed() < INTERVAL {
            return;
        }
        *printed = Instant::now();
        print(&format!(
            "elapsed={:.0}s units={}/{} cells_read={} cells_sent={}",
            self.elapsed().as_secs_f64(),
            self.units_done.load(Ordering::Relaxed),
            self.units.load(Ordering::Relaxed),
            self.read.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
        ));
    }
}

impl Progress for Lines {
    fn units(&self, total: usize) {
        self.units.store(total, Ordering::Relaxed);
    }

    fn read(&self, cells: u64) {
        self.read.fetch_add(cells, Ordering::Relaxed);
        self.tick();
    }

    fn sent(&self, cells: u64) {
        self.sent.fetch_add(cells, Ordering::Relaxed);
        self.tick();
    }

    fn unit_done(&self) {
        self.units_done.fetch_add(1, Ordering::Relaxed);
        self.tick();
    }

    fn warn(&self, text: &str) {
        let _guard = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        print(&format!("warning: {text}"));
    }
}

/// Messages go to standard error. That it is closed is no reason to stop moving data.
pub fn print(line: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}
