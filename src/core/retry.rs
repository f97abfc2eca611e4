//! How much failover there may be over all traffic (spec 10.2): an outage must not multiply load.
//!
//! A token bucket of extra attempts: full at the start, refilled by requests and by time, one taken for each attempt
//! after a request's first. Atomics; time is an argument.

use std::sync::atomic::{AtomicU64, Ordering};

/// Extra attempts that fit into the bucket.
pub const CAPACITY: u32 = 20;
/// Millionths of an attempt.
const UNIT: u64 = 1_000_000;

/// The budget of one process.
#[derive(Debug)]
pub struct Budget {
    /// What there is, in millionths.
    left: AtomicU64,
    /// The last second for which the bucket was refilled.
    second: AtomicU64,
    per_request: AtomicU64,
    spent: AtomicU64,
}

impl Budget {
    /// A full bucket that gains `ratio` for each request, and one for each second.
    #[must_use]
    pub fn new(ratio: f64) -> Self {
        let per_request = AtomicU64::new(millionths(ratio));
        let left = AtomicU64::new(u64::from(CAPACITY) * UNIT);
        Self { left, second: AtomicU64::new(0), per_request, spent: AtomicU64::new(0) }
    }

    /// From now on the bucket gains this for each request.
    pub fn set_ratio(&self, ratio: f64) {
        self.per_request.store(millionths(ratio), Ordering::Relaxed);
    }

    /// A request has begun.
    pub fn deposit(&self) {
        self.add(self.per_request.load(Ordering::Relaxed));
    }

    /// Takes one extra attempt at `now` (nanoseconds), if there is one.
    #[must_use]
    pub fn try_spend(&self, now: u64) -> bool {
        let second = now / 1_000_000_000;
        let before = self.second.fetch_max(second, Ordering::AcqRel);
        if second > before {
            self.add((second - before).saturating_mul(UNIT));
        }
        let take = |left: u64| left.checked_sub(UNIT);
        let taken = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok();
        self.spent.fetch_add(u64::from(taken), Ordering::Relaxed);
        taken
    }

    /// Whole extra attempts that are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire) / UNIT
    }

    /// Extra attempts taken so far.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    fn add(&self, more: u64) {
        let full = u64::from(CAPACITY) * UNIT;
        let _ = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            Some(left.saturating_add(more).min(full))
        });
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ratio of 0 to 10")]
fn millionths(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 10.0) * UNIT as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Goal: twenty at once, then one for each second and each ten requests, and never more than twenty.
    #[test]
    fn refills_by_time_and_requests() {
        let budget = Budget::new(0.1);
        let spend = |now| (0..100).filter(|_| budget.try_spend(now)).count();
        assert_eq!(spend(0), 20);
        assert_eq!(spend(3_500_000_000), 3);
        (0..25).for_each(|_| budget.deposit());
        assert_eq!((spend(3_900_000_000), budget.left(), budget.spent()), (2, 0, 25));
        assert_eq!(spend(1_000_000_000_000), 20);
    }

    proptest! {
        /// Goal: whatever comes in whatever order, extra attempts stay within 20 + requests / 10 + seconds.
        #[test]
        fn stays_within_the_bucket(steps in prop::collection::vec((0u64..3_000_000_000, 0u8..4), 1..300)) {
            let (budget, mut now, mut requests, mut spent) = (Budget::new(0.1), 0, 0u64, 0u64);
            for (wait, what) in steps {
                now += wait;
                if what == 0 {
                    budget.deposit();
                    requests += 1;
                } else {
                    spent += u64::from(budget.try_spend(now));
                }
            }
            prop_assert!(spent <= 20 + requests / 10 + now / 1_000_000_000);
        }
    }
}
