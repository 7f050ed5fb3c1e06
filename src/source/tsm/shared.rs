//! What several threads ask for at once is fetched once, and never older than its question.

use crate::error::Result;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Things by key, as long as somebody holds them.
#[derive(Debug)]
pub(super) struct Shared<K, T>(Mutex<BTreeMap<K, Arc<Slot<T>>>>);

#[derive(Debug)]
struct Slot<T> {
    /// Fetches that were begun.
    begun: AtomicU64,
    /// The number of the last fetch, and what it gave. Held while one is under way.
    last: Mutex<(u64, Weak<T>)>,
}

impl<K, T> Default for Shared<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, T> Shared<K, T> {
    /// What a fetch gives that begins after this is called: one of its own, or that of another thread
    /// which waited as well. One fetch of a key is under way at a time.
    ///
    /// # Errors
    /// As `fetch`.
    pub(super) fn get(
        &self,
        key: K,
        fetch: impl FnOnce() -> Result<Option<T>>,
    ) -> Result<Option<Arc<T>>> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(key).or_insert_with(|| {
                Arc::new(Slot { begun: AtomicU64::new(0), last: Mutex::new((0, Weak::new())) })
            }))
        };
        let asked = slot.begun.load(Ordering::SeqCst);
        let mut last = slot.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 > asked
            && let Some(known) = last.1.upgrade()
        {
            return Ok(Some(known));
        }
        let number = slot.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let fetched = fetch()?.map(Arc::new);
        *last = (number, fetched.as_ref().map(Arc::downgrade).unwrap_or_default());
        Ok(fetched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded as channel;
    use std::thread;

    #[test]
    fn who_waits_shares_the_next_fetch_and_not_the_one_under_way() {
        let (shared, fetches) = (Shared::<u8, u64>::default(), AtomicU64::new(0));
        let next = || fetches.fetch_add(1, Ordering::SeqCst) + 1;
        let (begun, begins) = channel();
        let (go_on, goes_on) = channel::<()>();
        let (asking, asks) = channel();
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                shared.get(1, || {
                    begun.send(()).unwrap();
                    goes_on.recv().unwrap();
                    Ok(Some(next()))
                })
            });
            begins.recv().unwrap();
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let (asking, shared) = (asking.clone(), &shared);
                    scope.spawn(move || {
                        asking.send(()).unwrap();
                        shared.get(1, || Ok(Some(next())))
                    })
                })
                .collect();
            (0..3).for_each(|_| asks.recv().unwrap());
            assert_eq!(*shared.get(2, || Ok(Some(7))).unwrap().unwrap(), 7);
            go_on.send(()).unwrap();
            assert_eq!(*first.join().unwrap().unwrap().unwrap(), 1);
            let seen: Vec<_> =
                waiting.into_iter().map(|one| one.join().unwrap().unwrap().unwrap()).collect();
            assert!(seen.iter().all(|one| **one > 1), "{seen:?}");
        });
        // Nobody holds any of them now.
        let before = fetches.load(Ordering::SeqCst);
        assert_eq!(*shared.get(1, || Ok(Some(next()))).unwrap().unwrap(), before + 1);
        assert!(shared.get(3, || Ok(None)).unwrap().is_none());
    }
}
