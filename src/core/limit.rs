//! Rate limits, for requests and for tokens: a bucket that refills evenly (spec 6.1, 6.2, 6.4).
//!
//! A limit of L per minute admits a burst of L and refills L a minute. A [`Bucket`] is a plain value; who shares one
//! keeps it behind a lock, as [`Limits`](super::limits::Limits) do. Time is an argument: nanoseconds since an origin the
//! caller chose; a time before one that was seen already counts as that one, so threads that read the clock in another
//! order than they come are fine.
//!
//! Nothing is rounded, so nothing drifts. What is missing from a bucket is counted in parts: one unit is as many parts as
//! a minute has nanoseconds, so that a nanosecond refills exactly L parts, whatever the limit is. An interval per unit
//! would fit into one atomic word, but in whole nanoseconds it is off by more than a hundredth for limits near a billion.
//! Only what is shown is rounded: units down, times up.

use std::time::Duration;

/// Nanoseconds of a minute, and so the parts of one unit.
const MINUTE: u128 = 60_000_000_000;
/// How far charges may take a bucket below empty, in minutes of its refill: no report of usage locks longer than that.
const DEBT_MINUTES_MAX: u128 = 10;

/// A bucket of so many units a minute; full when new.
#[derive(Debug, Clone)]
pub struct Bucket {
    limit: u64,
    /// Parts that were missing at `seen`; more than the whole bucket while it is in debt.
    missing: u128,
    /// The latest time at which anything was taken.
    seen: u64,
}

/// How a limit stands after an admission or a refusal; the numbers of the `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Units a minute.
    pub limit: u64,
    /// Units that would be admitted at once now.
    pub remaining: u64,
    /// Until the bucket is full again.
    pub reset: Duration,
}

/// A denial by a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Until the same request would be admitted, if nothing else comes; `None` means never, it is larger than the limit.
    pub wait: Option<Duration>,
    /// How the limit stands.
    pub standing: Standing,
}

impl Bucket {
    /// A full bucket of `limit` units a minute; zero admits nothing.
    #[must_use]
    pub fn per_minute(limit: u64) -> Self {
        Self { limit, missing: 0, seen: 0 }
    }

    /// Whether `units` could be taken at `now`; takes nothing.
    ///
    /// # Errors
    ///
    /// [`Denied`] when fewer than `units` are left.
    pub fn check(&self, units: u64, now: u64) -> Result<(), Denied> {
        let short = (self.missing(now) + parts(units)).saturating_sub(parts(self.limit));
        if short == 0 {
            return Ok(());
        }
        let wait = (units <= self.limit).then(|| self.refill_time(short));
        Err(Denied { wait, standing: self.standing(now) })
    }

    /// Takes `units`, or refuses and takes nothing.
    ///
    /// # Errors
    ///
    /// [`Denied`] when fewer than `units` are left at `now`.
    pub fn try_take(&mut self, units: u64, now: u64) -> Result<Standing, Denied> {
        self.check(units, now)?;
        self.charge(units, now);
        Ok(self.standing(now))
    }

    /// Takes `units` whether there are as many or not, into a debt of at most ten minutes.
    pub fn charge(&mut self, units: u64, now: u64) {
        let lowest = parts(self.limit) * (1 + DEBT_MINUTES_MAX);
        self.missing = (self.missing(now) + parts(units)).min(lowest);
        self.seen = self.seen.max(now);
    }

    /// Gives `units` back that were taken before and not used; a bucket is never more than full.
    pub fn refund(&mut self, units: u64) {
        self.missing = self.missing.saturating_sub(parts(units));
    }

    /// How the limit stands at `now`.
    #[must_use]
    pub fn standing(&self, now: u64) -> Standing {
        let missing = self.missing(now);
        let remaining = parts(self.limit).saturating_sub(missing) / MINUTE;
        Standing {
            limit: self.limit,
            remaining: u64::try_from(remaining).unwrap_or(u64::MAX),
            reset: self.refill_time(missing),
        }
    }

    /// The parts that are missing at `now`.
    fn missing(&self, now: u64) -> u128 {
        let refilled = u128::from(now.saturating_sub(self.seen)) * u128::from(self.limit);
        self.missing.saturating_sub(refilled)
    }

    /// How long so many parts take to refill.
    fn refill_time(&self, parts: u128) -> Duration {
        let nanos = parts.div_ceil(u128::from(self.limit.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn parts(units: u64) -> u128 {
    u128::from(units) * MINUTE
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
