//! Work in parallel: items over worker threads, and one producer with several consumers.
//!
//! Worker threads are for bytes; sockets live on the HTTP client's own threads and reach them
//! through bounded channels. The first error stops the rest; a panic becomes an error.

use crate::error::{Error, ErrorKind, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

/// What is counted while a command runs. Stages may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The source is read: files are loaded, the rest is digested.
    Read,
    /// What the destination lacks is sent and acknowledged.
    Send,
    /// Sides are digested to be compared.
    Verify,
}

impl Stage {
    /// Every stage, in the order in which a cell passes through them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Send, Self::Verify];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Send => "send",
            Self::Verify => "verify",
        }
    }
}

/// What is told while work goes on: facts only, as they come about. Called from worker threads, so
/// that nothing here blocks or prints.
///
/// A stage begins with its first `done` or `expect`; `done(stage, 0, 0)` says that it begins. Rates
/// are taken from then on, so that it should be said before the work, and the work be told in small
/// pieces: once a block or batch.
pub trait Progress: Send + Sync {
    /// The command does something else from now on, or goes on for a reason that the operator
    /// should know ("open", "send", "backoff:503").
    fn stage(&self, stage: &str);
    /// The cells of a stage are counted: there are `cells` in all. Said again, the largest counts.
    fn expect(&self, stage: Stage, cells: u64);
    /// The bytes of a stage are known: there are `bytes` in all. Said again, the largest counts.
    fn expect_bytes(&self, stage: Stage, bytes: u64);
    /// More was done.
    fn done(&self, stage: Stage, cells: u64, bytes: u64);
    /// The number of units is known.
    fn units(&self, total: usize);
    /// A unit is finished.
    fn unit_done(&self);
    /// Requests were repeated.
    fn retried(&self, times: u64);
    /// Rows were rejected.
    fn rejected(&self, rows: u64);
    /// Something that the operator should know at once.
    fn warn(&self, text: &str);
}

/// Nobody is told.
impl Progress for () {
    fn stage(&self, _: &str) {}
    fn expect(&self, _: Stage, _: u64) {}
    fn expect_bytes(&self, _: Stage, _: u64) {}
    fn done(&self, _: Stage, _: u64, _: u64) {}
    fn units(&self, _: usize) {}
    fn unit_done(&self) {}
    fn retried(&self, _: u64) {}
    fn rejected(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}

/// Runs `work` on every item, `jobs` at a time, in order of the items.
///
/// # Errors
/// The first error of any item; items that were not begun by then are left out.
pub fn for_each<'i, T: Sync>(
    jobs: usize,
    items: &'i [T],
    work: impl Fn(&'i T) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            work(item).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..jobs.clamp(1, items.len().max(1))).map(|_| scope.spawn(worker)).collect();
        join(workers)
    })
}

/// Runs `produce` on this thread and `consume` on `consumers` others, with a bounded queue between.
///
/// # Errors
/// The first error of a consumer, else that of the producer.
pub fn fan_out<T: Send>(
    consumers: usize,
    produce: impl FnOnce(&mut dyn FnMut(T) -> Result<()>) -> Result<()>,
    consume: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let consumers = consumers.max(1);
    let (sender, receiver): (Sender<T>, Receiver<T>) = bounded(consumers);
    thread::scope(|scope| {
        let consume = &consume;
        // Each worker owns its end: when all have left, the producer's next send fails.
        let ends = std::iter::repeat_n(receiver, consumers);
        let workers: Vec<_> =
            ends.map(|end| scope.spawn(move || end.iter().try_for_each(consume))).collect();
        let produced = produce(&mut |item| sender.send(item).map_err(|_gone| consumers_gone()));
        drop(sender);
        join(workers).and(produced)
    })
}

/// Runs `produce` on another thread and `consume` on this one, in the order of the items, with a queue of
/// `depth` between.
///
/// # Errors
/// The error of the consumer, else that of the producer.
pub fn ahead<T: Send>(
    depth: usize,
    produce: impl FnOnce(&mut dyn FnMut(T) -> Result<()>) -> Result<()> + Send,
    consume: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let (sender, receiver): (Sender<T>, Receiver<T>) = bounded(depth);
    thread::scope(|scope| {
        let producer = scope.spawn(move || {
            produce(&mut |item| sender.send(item).map_err(|_gone| consumers_gone()))
        });
        let consumed = receiver.iter().try_for_each(consume);
        // The producer's next item finds nobody.
        drop(receiver);
        let produced = join(vec![producer]);
        consumed.and(produced)
    })
}

/// What the producer sees when every consumer failed; their own error is reported instead.
fn consumers_gone() -> Error {
    ErrorKind::Panicked("every writer stopped".into()).into()
}

/// Lets so many bytes pass at once; who comes with more waits. What is larger than the whole passes
/// alone.
#[derive(Debug)]
pub struct Gate {
    bytes_max: usize,
    inside: Mutex<usize>,
    left: Condvar,
}

/// Bytes inside a [`Gate`], until it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    gate: &'a Gate,
    bytes: usize,
}

impl Gate {
    /// A gate for so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inside: Mutex::new(0), left: Condvar::new() }
    }

    /// Waits until there is room.
    pub fn enter(&self, bytes: usize) -> Permit<'_> {
        let full = |inside: &mut usize| *inside > 0 && *inside + bytes > self.bytes_max;
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside = self.left.wait_while(inside, full).unwrap_or_else(PoisonError::into_inner);
        *inside += bytes;
        Permit { gate: self, bytes }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.gate.inside.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.gate.left.notify_all();
    }
}

fn join(workers: Vec<ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    let mut first = Ok(());
    for worker in workers {
        let outcome = worker.join().unwrap_or_else(|panic| Err(panicked(&*panic)));
        first = first.and(outcome);
    }
    first
}

/// What may be repeated of a panic: words that stand in the source. Those that were put together at
/// run time may hold data.
#[must_use]
pub fn words_of_panic(panic: &(dyn Any + Send)) -> &'static str {
    panic.downcast_ref::<&'static str>().copied().unwrap_or("its words may hold data: kept back")
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    ErrorKind::Panicked(words_of_panic(panic).into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_item_is_worked_on_once() {
        let items: Vec<u64> = (1..=1_000).collect();
        let sum = AtomicU64::new(0);
        for_each(4, &items, |item| {
            sum.fetch_add(*item, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 500_500);
    }

    #[test]
    fn the_first_error_stops_the_rest_and_is_returned() {
        let items: Vec<u64> = (0..100_000).collect();
        let done = AtomicUsize::new(0);
        let outcome = for_each(2, &items, |item| {
            done.fetch_add(1, Ordering::Relaxed);
            if *item == 3 { Err(Error::usage("three")) } else { Ok(()) }
        });
        assert_eq!(outcome.unwrap_err().to_string(), "three");
        assert!(done.into_inner() < items.len());
    }

    #[test]
    fn a_gate_lets_only_so_many_bytes_pass_at_once() {
        let (gate, inside, most) = (Gate::new(10), AtomicUsize::new(0), AtomicUsize::new(0));
        let items: Vec<usize> = (1..200).map(|item| item % 7 + 1).collect();
        for_each(8, &items, |bytes| {
            let _permit = gate.enter(*bytes);
            let now = inside.fetch_add(*bytes, Ordering::SeqCst) + bytes;
            most.fetch_max(now, Ordering::SeqCst);
            thread::yield_now();
            inside.fetch_sub(*bytes, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        assert!((1..=10).contains(&most.into_inner()));
        drop(gate.enter(1_000));
    }

    #[test]
    fn a_panic_is_an_error() {
        let outcome = for_each(2, &[1], |_| panic!("boom"));
        assert!(outcome.unwrap_err().to_string().contains("boom"));
    }

    #[test]
    fn a_producer_is_not_left_waiting_when_every_consumer_failed() {
        let outcome =
            fan_out(2, |send| (0..10_000).try_for_each(send), |_: u64| Err(Error::usage("full")));
        assert_eq!(outcome.unwrap_err().to_string(), "full");
    }

    #[test]
    fn items_are_consumed_in_order_while_the_next_are_made() {
        let mut seen = Vec::new();
        let outcome = ahead(
            2,
            |send| (0..1_000).try_for_each(send),
            |item: u64| {
                seen.push(item);
                Ok(())
            },
        );
        outcome.unwrap();
        assert!(seen.into_iter().eq(0..1_000));
        let refused = ahead(2, |send| (0..).try_for_each(send), |_: u64| Err(Error::usage("full")));
        assert_eq!(refused.unwrap_err().to_string(), "full");
        let failed = ahead(2, |_| Err(Error::usage("broken")), |_: u64| Ok(()));
        assert_eq!(failed.unwrap_err().to_string(), "broken");
    }

    #[test]
    fn all_that_is_produced_is_consumed() {
        let sum = AtomicU64::new(0);
        fan_out(
            3,
            |send| (1..=1_000).try_for_each(send),
            |item: u64| {
                sum.fetch_add(item, Ordering::Relaxed);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(sum.into_inner(), 500_500);
    }
}
