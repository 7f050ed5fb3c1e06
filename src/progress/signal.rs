//! SIGUSR1: print the progress now.
//!
//! The handler sets a flag and does nothing else; who prints looks at it. It is never taken away
//! again: the default action of the signal would end the process, and the data on their way with
//! it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the operator asked for a line since the flag was last looked at.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    /// From now on SIGUSR1 asks for a line. To be called once, first of all: until then the signal
    /// ends the process.
    ///
    /// # Errors
    /// Where the system refuses the handler.
    pub fn by_signal() -> io::Result<Self> {
        let asked = Self::default();
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&asked.0))?;
        Ok(asked)
    }

    /// Asks for a line.
    #[cfg(test)]
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once for each time that it was asked.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}
