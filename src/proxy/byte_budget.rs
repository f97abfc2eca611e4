//! A bound on the memory of many requests together, given back by dropping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes in use over all requests.
#[derive(Debug, Default)]
pub(super) struct ByteBudget {
    used: AtomicUsize,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl ByteBudget {
    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, if no more than `max` are in use then.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize, max: usize) -> Option<Share> {
        let mut share = Share { budget: Arc::clone(self), bytes: 0 };
        share.try_grow(bytes, max).then_some(share)
    }
}

impl Share {
    /// Takes `bytes` more, if no more than `max` of the whole budget are in use then; returns whether it did.
    pub(super) fn try_grow(&mut self, bytes: usize, max: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= max);
        let grown = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }

    /// Bytes of this share.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: shares grow up to the bound and no further, and give back all that they took.
    #[test]
    fn shares_are_bounded_and_given_back() {
        let budget = Arc::<ByteBudget>::default();
        let mut first = budget.try_take(60, 100).unwrap();
        assert!(budget.try_take(41, 100).is_none());
        assert!(first.try_grow(40, 100) && !first.try_grow(1, 100) && !first.try_grow(usize::MAX, 100));
        assert_eq!((first.bytes(), budget.used()), (100, 100));
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_take(0, 0).is_some());
    }
}
