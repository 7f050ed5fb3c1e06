//! Loopback ports for servers under test, each held for as long as its server may need it.
//!
//! Owns the choice of a port. A port is taken below the range the kernel gives to outgoing
//! connections, and locked by a file for the life of its server, so that neither another test
//! process nor a passing connection can take it while the server is stopped for a restart.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of 127.0.0.1 that no other test uses while this is held.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: File,
}

impl Port {
    /// Takes a free port.
    pub fn take() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let locks = std::env::temp_dir().join("gapless-test-ports");
        fs::create_dir_all(&locks).expect("a directory for the locks of test ports");
        let process = u16::try_from(std::process::id() % 1_000).expect("below 1,000") * 12;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + process.wrapping_add(step) % COUNT;
            let lock = File::create(locks.join(number.to_string())).expect("the lock of a port");
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port from {FIRST} to {}", FIRST + COUNT - 1);
    }
}
