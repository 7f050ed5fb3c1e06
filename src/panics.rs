//! What is left of a panic, which is a defect of this program: where it was, and nothing that the
//! program held in memory.
//!
//! A message that was put together at run time may hold data or worse and is kept back; one that
//! stands in the source is printed. No core file is written: memory holds passwords.

use crate::pipeline::words_of_panic;
use crate::progress;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::thread;

/// Has panics of this process say what may be said, and forbids core files.
pub fn install() {
    #[cfg(unix)]
    forbid_core_files();
    std::panic::set_hook(Box::new(|panic| {
        let text = text(panic);
        tracing::error!(reason = text.as_str());
        progress::print(&text);
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            progress::print(&trace.to_string());
        }
    }));
}

fn text(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current().name().unwrap_or("unnamed").to_owned();
    let words = words_of_panic(panic.payload());
    format!("internal error at {place} in thread {thread}: {words}")
}

#[cfg(unix)]
fn forbid_core_files() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Without the right to lower a limit there is nothing to be done about it.
    let _refused = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
