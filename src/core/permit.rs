//! Concurrency permits (spec 6.2, 6.3).
//!
//! A [`Permits`] of L hands out at most L [`Permit`]s at a time. A permit is a guard: it comes back when it is dropped,
//! whatever ended the request, so no path can forget it.

use super::sync::{AtomicU32, Ordering};
use std::sync::Arc;

/// A bound on how many requests run at the same time.
#[derive(Debug)]
pub struct Permits {
    limit: u32,
    used: AtomicU32,
}

/// One slot of a [`Permits`], held until dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once bounds nothing"]
pub struct Permit(Arc<Permits>);

impl Permits {
    /// A pool of `limit` permits.
    #[must_use]
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU32::new(0) })
    }

    /// Takes a permit, or `None` when all are in use.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| (used < self.limit).then_some(used + 1))
            .ok()
            .map(|_| Permit(Arc::clone(self)))
    }

    /// The most permits there can be.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The permits in use now.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// Goal: never more permits than the limit are out, and all come back, also through a panic.
    /// Method: threads take and drop while a watcher reads the count; one thread panics with a permit in hand.
    #[test]
    fn never_more_than_the_limit_and_all_come_back() {
        let permits = Permits::new(3);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(permits.used() <= 3);
                }
            });
            let workers: Vec<_> = (0..6)
                .map(|_| scope.spawn(|| (0..10_000).filter(|_| permits.try_acquire().is_some()).count()))
                .collect();
            assert!(workers.into_iter().all(|worker| worker.join().unwrap() > 0));
            done.store(true, Ordering::Relaxed);
        });
        let inner = Arc::clone(&permits);
        let panicked = std::thread::spawn(move || {
            let _permit = inner.try_acquire().unwrap();
            panic!("with a permit in hand");
        });
        assert!(panicked.join().is_err());
        assert_eq!(permits.used(), 0);
    }

    /// Goal: a full pool refuses and a returned permit can be taken again.
    #[test]
    fn refuses_when_full() {
        let permits = Permits::new(1);
        let held = permits.try_acquire().unwrap();
        assert!(permits.try_acquire().is_none());
        drop(held);
        assert!(permits.try_acquire().is_some());
        assert!(Permits::new(0).try_acquire().is_none());
    }
}
