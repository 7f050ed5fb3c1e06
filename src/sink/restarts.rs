//! Whether a server restarted: it may then have lost what it had acknowledged.
//!
//! A server tells administrators which process it is and when that started. Behind a balancer several
//! answer in turn: what counts is one that was not seen before. Where a server does not tell, every
//! connection that broke may have been a restart.

use super::Epoch;
use crate::http::Client;
use crate::influxql;
use std::sync::{Mutex, PoisonError};

/// Most runs of servers that are told apart.
const SEEN_MAX: usize = 1_000;

/// The runs of a server that were seen.
#[derive(Debug, Default)]
pub(super) struct Restarts(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    names: Vec<String>,
    /// The one that answered last.
    last: usize,
    /// One that had been followed by another answered again: there are several.
    several: bool,
    /// The server does not say which run it is.
    silent: bool,
}

impl Restarts {
    /// Asks the server.
    pub(super) fn look(&self, client: &Client) -> Epoch {
        // One node tells nothing of the others.
        let silent = self.lock().silent || client.nodes() > 1;
        let found = if silent { Ok(None) } else { influxql::incarnation(client) };
        let mut seen = self.lock();
        match found {
            Ok(Some(name)) => seen.add(name),
            // One that cannot be reached may be restarting.
            Ok(None) | Err(_) => seen.silent = true,
        }
        seen.epoch(client.faults())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn add(&mut self, name: String) {
        match self.names.iter().position(|seen| *seen == name) {
            Some(at) => self.several |= at != self.last,
            None if self.names.len() < SEEN_MAX => {
                self.last = self.names.len();
                self.names.push(name);
            }
            None => self.silent = true,
        }
    }

    fn epoch(&self, faults: u64) -> Epoch {
        let number = self.names.len() as u64 + if self.silent { faults } else { 0 };
        let known = !self.silent && !self.several;
        Epoch { number, name: self.names.get(self.last).filter(|_| known).cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_run_is_another_epoch_and_one_seen_before_is_none() {
        let mut seen = Seen::default();
        seen.add("1".into());
        let first = seen.epoch(0);
        assert_eq!((first.number, first.name.as_deref()), (1, Some("1")));
        assert_eq!(seen.epoch(9), first, "a connection that breaks is no restart");
        seen.add("2".into());
        let second = seen.epoch(9);
        assert_eq!((second.number, second.name.as_deref()), (2, Some("2")));
        seen.add("1".into());
        assert_eq!((seen.epoch(9).number, seen.epoch(9).name), (2, None), "there are two");
    }

    #[test]
    fn a_server_that_does_not_tell_may_have_restarted_with_every_break() {
        let seen = Seen { silent: true, ..Seen::default() };
        assert_ne!(seen.epoch(0), seen.epoch(1));
        assert_eq!(seen.epoch(1).name, None);
    }
}
