//! The high percentiles of a latency, from a histogram of constant size that forgets slowly.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Buckets, each a quarter wider than the one before: from 1 ms to over ten minutes.
const BUCKETS: usize = 64;
const FIRST: f64 = 0.001;
const GROWTH: f64 = 1.25;
/// After so many samples all counts are halved, so that old ones fade.
const SAMPLES_MAX: u32 = 2_000;
/// Fewer samples than this say nothing about a high percentile.
const SAMPLES_MIN: u32 = 20;

/// A histogram of latencies.
#[derive(Debug)]
pub struct Latencies {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU32::new(0)), total: AtomicU32::new(0) }
    }
}

impl Latencies {
    /// Takes a sample.
    pub fn record(&self, latency: Duration) {
        let ratio = (latency.as_secs_f64() / FIRST).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to a few hundred"
        )]
        let bucket = (ratio.ln() / GROWTH.ln()).ceil() as usize;
        if let Some(count) = self.counts.get(bucket.min(BUCKETS - 1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if self.total.fetch_add(1, Ordering::Relaxed) >= SAMPLES_MAX {
            self.fade();
        }
    }

    fn fade(&self) {
        let halved = self.counts.iter().map(|count| {
            let kept = count.load(Ordering::Relaxed) / 2;
            count.store(kept, Ordering::Relaxed);
            kept
        });
        self.total.store(halved.sum(), Ordering::Relaxed);
    }

    /// The latency that 95 of 100 samples stay below; `None` as long as there are too few.
    #[must_use]
    pub fn p95(&self) -> Option<Duration> {
        let total: u32 = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        if total < SAMPLES_MIN {
            return None;
        }
        let (mut seen, mut bound) = (0, FIRST);
        for count in &self.counts {
            seen += count.load(Ordering::Relaxed);
            if u64::from(seen) * 100 >= u64::from(total) * 95 {
                break;
            }
            bound *= GROWTH;
        }
        Some(Duration::from_secs_f64(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the percentile is right within a bucket, needs samples, and follows a change.
    #[test]
    fn the_percentile_is_near() {
        let latencies = Latencies::default();
        assert_eq!(latencies.p95(), None);
        for millis in 1..=100 {
            latencies.record(Duration::from_millis(millis * 10));
        }
        let p95 = latencies.p95().unwrap().as_secs_f64();
        assert!((0.95..1.25).contains(&p95), "{p95}");
        (0..20_000).for_each(|_| latencies.record(Duration::from_millis(20)));
        assert!(latencies.p95().unwrap() < Duration::from_millis(30));
        latencies.record(Duration::from_secs(100_000));
    }
}
