//! Rate limits: the generic cell rate algorithm with refund (spec 6.1, 6.2, 6.4).
//!
//! A [`RateLimit`] of L per minute admits a burst of L and refills evenly, L a minute. Its whole state is one atomic
//! word, the *theoretical arrival time*, so admission is exact under any number of simultaneous requests and takes no
//! lock. Time is an argument: nanoseconds since an origin the caller chose, never going back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MINUTE_NANOS: u64 = 60_000_000_000;

/// A limit of so many units a minute.
#[derive(Debug)]
pub struct RateLimit {
    limit: u32,
    /// Time that one unit takes to refill, rounded up so that never more than the limit is admitted in a minute.
    interval: u64,
    /// When the bucket will be full again.
    full_at: AtomicU64,
}

/// How a limit stands after an admission or a refusal; the numbers of the `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Units a minute.
    pub limit: u32,
    /// Units that would be admitted at once now.
    pub remaining: u32,
    /// Until the bucket is full again.
    pub reset: Duration,
}

/// A denial by a [`RateLimit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Until the same request would be admitted, if nothing else comes; `None` means never, it is larger than the limit.
    pub wait: Option<Duration>,
    /// How the limit stands.
    pub standing: Standing,
}

impl RateLimit {
    /// A full bucket of `limit` units a minute; zero admits nothing.
    #[must_use]
    pub fn per_minute(limit: u32) -> Self {
        Self { limit, interval: MINUTE_NANOS.div_ceil(u64::from(limit.max(1))), full_at: AtomicU64::new(0) }
    }

    /// Takes `units`, or refuses and takes nothing.
    ///
    /// # Errors
    ///
    /// [`Denied`] when fewer than `units` are left at `now`.
    pub fn try_take(&self, units: u32, now: u64) -> Result<Standing, Denied> {
        if units > self.limit {
            return Err(Denied { wait: None, standing: self.standing(now) });
        }
        let cost = self.interval.saturating_mul(u64::from(units));
        let horizon = now.saturating_add(self.burst());
        let taken = self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
            Some(full_at.max(now).saturating_add(cost)).filter(|next| *next <= horizon)
        });
        match taken {
            Ok(before) => Ok(self.standing_at(before.max(now).saturating_add(cost), now)),
            Err(full_at) => {
                let wait = full_at.saturating_add(cost).saturating_sub(horizon);
                Err(Denied {
                    wait: Some(Duration::from_nanos(wait)),
                    standing: self.standing_at(full_at, now),
                })
            }
        }
    }

    /// Gives `units` back that were taken before and not used.
    pub fn refund(&self, units: u32) {
        let cost = self.interval.saturating_mul(u64::from(units));
        let _ = self
            .full_at
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| Some(full_at.saturating_sub(cost)));
    }

    /// How the limit stands at `now`.
    #[must_use]
    pub fn standing(&self, now: u64) -> Standing {
        self.standing_at(self.full_at.load(Ordering::Acquire), now)
    }

    fn standing_at(&self, full_at: u64, now: u64) -> Standing {
        let missing = full_at.saturating_sub(now);
        let remaining = self.burst().saturating_sub(missing) / self.interval;
        Standing {
            limit: self.limit,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX).min(self.limit),
            reset: Duration::from_nanos(missing),
        }
    }

    /// The time that a whole bucket takes to refill.
    fn burst(&self) -> u64 {
        self.interval.saturating_mul(u64::from(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    const SECOND: u64 = 1_000_000_000;

    /// Goal: a fresh limit admits exactly its burst at one instant, and one more per interval afterwards.
    #[test]
    fn admits_a_burst_of_the_limit_and_refills_evenly() {
        for limit in [1, 2, 7, 60, 599, 600, 100_000] {
            let rate = RateLimit::per_minute(limit);
            let now = 5 * SECOND;
            let admitted = (0..=limit).filter(|_| rate.try_take(1, now).is_ok()).count();
            assert_eq!(admitted, limit as usize);
            let wait = rate.try_take(1, now).unwrap_err().wait.unwrap().as_nanos() as u64;
            assert!(rate.try_take(1, now + wait - 1).is_err());
            assert!(rate.try_take(1, now + wait).is_ok());
        }
    }

    /// Goal: with any number of threads at one instant, exactly the limit is admitted (spec 6.2).
    #[test]
    fn is_exact_under_contention() {
        for _ in 0..20 {
            let rate = Arc::new(RateLimit::per_minute(100));
            let admitted = Arc::new(AtomicU32::new(0));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..125 {
                            if rate.try_take(1, SECOND).is_ok() {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(admitted.load(Ordering::Relaxed), 100);
        }
    }

    /// Goal: what can never fit is told apart from what has to wait (spec 6.5).
    #[test]
    fn a_request_larger_than_the_limit_never_fits() {
        let rate = RateLimit::per_minute(10);
        assert_eq!(rate.try_take(11, 0).unwrap_err().wait, None);
        assert_eq!(rate.standing(0).remaining, 10);
        assert_eq!(RateLimit::per_minute(0).try_take(1, 0).unwrap_err().wait, None);
    }

    /// Goal: take and refund leaves the limit as it was.
    #[test]
    fn a_refund_restores_what_was_taken() {
        let rate = RateLimit::per_minute(10);
        for _ in 0..1_000 {
            assert!(rate.try_take(10, SECOND).is_ok());
            rate.refund(10);
        }
        assert_eq!(rate.standing(SECOND).remaining, 10);
    }

    proptest! {
        /// Goal: over any schedule, never more than limit + elapsed × rate is admitted, and a refusal takes nothing.
        /// Method: a naive model with exact fractions beside the limit.
        #[test]
        fn never_admits_more_than_the_model(limit in 1u32..50, steps in prop::collection::vec((0u64..3_000_000_000, 1u32..5), 1..200)) {
            let rate = RateLimit::per_minute(limit);
            let (mut now, mut level) = (SECOND, f64::from(limit));
            for (pause, units) in steps {
                now += pause;
                level = (level + pause as f64 / MINUTE_NANOS as f64 * f64::from(limit)).min(f64::from(limit));
                let admitted = rate.try_take(units, now).is_ok();
                if admitted {
                    level -= f64::from(units);
                }
                prop_assert!(level > -0.001, "overspent: {level}");
                prop_assert!(admitted || level < f64::from(units) + 0.001, "refused with {level} left for {units}");
            }
        }
    }
}
