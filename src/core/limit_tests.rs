use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// The naive model: what is there, as an exact fraction of units over the nanoseconds of a minute.
struct Model {
    limit: i128,
    there: i128,
    now: u64,
}

impl Model {
    fn new(limit: u64, now: u64) -> Self {
        let limit = i128::from(limit) * 60_000_000_000;
        Self { limit, there: limit, now }
    }

    fn pass_until(&mut self, now: u64) {
        let gained = i128::from(now - self.now) * (self.limit / 60_000_000_000);
        (self.there, self.now) = ((self.there + gained).min(self.limit), now);
    }

    fn has(&self, units: u64) -> bool {
        self.there >= i128::from(units) * 60_000_000_000
    }

    fn add(&mut self, units: i128) {
        self.there = (self.there + units * 60_000_000_000).clamp(-10 * self.limit, self.limit);
    }

    fn whole(&self) -> u64 {
        (self.there.max(0) / 60_000_000_000).try_into().unwrap()
    }
}

/// Goal: a fresh limit admits exactly its burst at one instant, and one more per interval afterwards.
#[test]
fn admits_a_burst_of_the_limit_and_refills_evenly() {
    for limit in [1, 2, 7, 60, 599, 600, 100_000] {
        let mut rate = Bucket::per_minute(limit);
        let now = 5 * SECOND;
        let admitted = (0..=limit).filter(|_| rate.try_take(1, now).is_ok()).count();
        assert_eq!(admitted, limit as usize);
        let wait = rate.try_take(1, now).unwrap_err().wait.unwrap().as_nanos() as u64;
        assert!(rate.try_take(1, now + wait - 1).is_err());
        assert!(rate.try_take(1, now + wait).is_ok());
    }
}

/// Goal: what can never fit is told apart from what has to wait (spec 6.5).
#[test]
fn a_request_larger_than_the_limit_never_fits() {
    let mut rate = Bucket::per_minute(10);
    assert_eq!(rate.try_take(11, 0).unwrap_err().wait, None);
    assert_eq!(rate.standing(0).remaining, 10);
    assert_eq!(Bucket::per_minute(0).try_take(1, 0).unwrap_err().wait, None);
    assert!(Bucket::per_minute(0).try_take(0, 0).is_ok());
}

/// Goal: take and refund leaves the limit as it was, and no refund makes it more than full.
#[test]
fn a_refund_restores_what_was_taken() {
    let mut rate = Bucket::per_minute(10);
    for _ in 0..1_000 {
        assert!(rate.try_take(10, SECOND).is_ok());
        rate.refund(10);
    }
    rate.refund(1_000);
    assert_eq!(rate.standing(SECOND).remaining, 10);
    assert!(rate.try_take(10, SECOND).is_ok() && rate.try_take(1, SECOND).is_err());
}

/// Goal: a charge may go into debt, by ten minutes at most; the wait counts the debt.
#[test]
fn a_debt_is_paid_off_within_ten_minutes() {
    let mut rate = Bucket::per_minute(60);
    rate.charge(90, SECOND);
    let denied = rate.try_take(1, SECOND).unwrap_err();
    assert_eq!(denied.wait, Some(Duration::from_secs(31)));
    assert_eq!(denied.standing, Standing { limit: 60, remaining: 0, reset: Duration::from_secs(90) });
    rate.charge(u64::MAX, SECOND);
    rate.charge(u64::MAX, SECOND);
    assert_eq!(rate.try_take(1, SECOND).unwrap_err().wait, Some(Duration::from_secs(601)));
    assert_eq!(rate.try_take(60, 601 * SECOND).unwrap_err().wait, Some(Duration::from_secs(60)));
    assert!(rate.try_take(60, 661 * SECOND).is_ok());
}

/// Goal: threads that read the clock in another order than they arrive gain nothing and lose nothing.
#[test]
fn a_time_that_goes_back_refills_nothing() {
    let mut rate = Bucket::per_minute(2);
    assert!(rate.try_take(2, 30 * SECOND).is_ok());
    rate.refund(1);
    assert!(rate.try_take(1, 0).is_ok());
    for now in [0, 30 * SECOND, 10, 59 * SECOND, 0, 59 * SECOND] {
        assert!(rate.try_take(1, now).is_err());
    }
    assert!(rate.try_take(1, 60 * SECOND).is_ok());
    assert!(rate.try_take(1, 60 * SECOND).is_err());
}

/// Goal: nothing wraps, whatever the numbers are.
#[test]
fn extremes_do_not_wrap() {
    let mut bucket = Bucket::per_minute(u64::MAX);
    bucket.charge(u64::MAX, u64::MAX);
    bucket.charge(u64::MAX, 0);
    assert_eq!(bucket.standing(u64::MAX).remaining, 0);
    assert_eq!(bucket.standing(u64::MAX).reset, Duration::from_secs(120));
    bucket.refund(u64::MAX);
    assert_eq!(bucket.try_take(u64::MAX, 0).unwrap_err().wait, Some(Duration::from_secs(60)));
    bucket.refund(u64::MAX);
    assert_eq!(bucket.standing(0).remaining, u64::MAX);
}

/// Goal: no drift over 100,000 mixed operations, for limits that divide a minute badly (spec 6.4).
/// Method: the bucket is the model's to the unit after each step, refusals and waits included.
#[test]
fn nothing_drifts() {
    for limit in [7, 1_000_003, 999_999_999, 1_000_000_000] {
        let (mut now, mut seed) = (SECOND, limit);
        let (mut bucket, mut model) = (Bucket::per_minute(limit), Model::new(limit, now));
        let mut outcomes = [0u32; 4];
        for _ in 0..100_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += (seed >> 33) % (SECOND / 2);
            model.pass_until(now);
            let units = 1 + (seed >> 20) % (limit / 50).max(1);
            let outcome = match seed >> 61 {
                0..=5 => match bucket.try_take(units, now) {
                    Ok(_) => {
                        assert!(model.has(units));
                        model.add(-i128::from(units));
                        0
                    }
                    Err(denied) => {
                        assert!(!model.has(units));
                        let wait = denied.wait.unwrap().as_nanos() as u64;
                        assert!(bucket.check(units, now + wait).is_ok());
                        assert!(bucket.check(units, now + wait - 1).is_err());
                        1
                    }
                },
                6 => {
                    bucket.refund(units);
                    model.add(i128::from(units));
                    2
                }
                _ => {
                    bucket.charge(units, now);
                    model.add(-i128::from(units));
                    3
                }
            };
            outcomes[outcome] += 1;
            assert_eq!(bucket.standing(now).remaining, model.whole());
        }
        assert!(outcomes.iter().all(|count| *count > 1_000), "{limit}: {outcomes:?}");
    }
}

proptest! {
    /// Goal: between any two instants never more than limit + elapsed × rate is admitted, and a refusal takes nothing.
    /// Method: all windows that begin and end with an admission, counted by hand; a naive model says what must fit.
    #[test]
    fn never_admits_more_than_the_limit(
        limit in 1u64..50,
        steps in prop::collection::vec((0u64..3_000_000_000, 1u64..5), 1..200),
    ) {
        let (mut now, mut rate) = (SECOND, Bucket::per_minute(limit));
        let (mut model, mut admitted) = (Model::new(limit, now), Vec::new());
        for (pause, units) in steps {
            now += pause;
            model.pass_until(now);
            let taken = rate.try_take(units, now);
            prop_assert_eq!(taken.is_ok(), model.has(units));
            if let Ok(standing) = taken {
                model.add(-i128::from(units));
                prop_assert_eq!(standing.remaining, model.whole());
                admitted.push((now, units));
            }
        }
        for (first, (since, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for (at, units) in &admitted[first..] {
                sum += u128::from(*units) * MINUTE;
                prop_assert!(sum <= u128::from(limit) * (MINUTE + u128::from(at - since)));
            }
        }
    }

    /// Goal: what was taken and not given back never exceeds limit + elapsed × rate, whatever is refunded when.
    #[test]
    fn refunds_make_nothing_of_nothing(
        limit in 1u64..1_000,
        steps in prop::collection::vec((0u64..40_000_000_000, 1u64..1_500, 0u64..1_500), 1..200),
    ) {
        let (mut now, mut bucket, mut net) = (SECOND, Bucket::per_minute(limit), 0);
        for (pause, units, back) in steps {
            if bucket.try_take(units, now).is_ok() {
                net += units;
                now += pause;
                bucket.refund(back.min(units));
                net -= back.min(units);
            }
            now += pause;
            let bound = u128::from(limit) * (MINUTE + u128::from(now - SECOND));
            prop_assert!(u128::from(net) * MINUTE <= bound);
        }
    }
}
