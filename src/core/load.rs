//! How busy and how quick a channel is: what two drawn candidates are compared by (spec 9.1).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The weight of a new sample in the moving averages.
const ALPHA: f32 = 0.2;

/// Requests under way at a channel, and moving averages of its latency and its success: twelve bytes, since every draw
/// reads those of two channels.
#[derive(Debug)]
pub struct Load {
    in_flight: AtomicU32,
    /// Seconds to first content, as bits; 0 before the first sample.
    latency: AtomicU32,
    /// Share of attempts that succeeded, as bits.
    success: AtomicU32,
}

impl Default for Load {
    fn default() -> Self {
        let one = AtomicU32::new(1f32.to_bits());
        Self { in_flight: AtomicU32::new(0), latency: AtomicU32::new(0), success: one }
    }
}

impl Load {
    /// A request begins.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// A request that began has ended.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// An attempt showed content after this long.
    pub fn succeeded(&self, after: Duration) {
        let sample = after.as_secs_f32().max(1e-6);
        average(&self.latency, sample);
        average(&self.success, 1.0);
    }

    /// An attempt failed in a way that says something about the channel.
    pub fn failed(&self) {
        average(&self.success, 0.0);
    }

    /// The average time to first content; `None` before the first sample.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        let seconds = f32::from_bits(self.latency.load(Ordering::Acquire));
        (seconds > 0.0).then(|| Duration::from_secs_f32(seconds))
    }

    /// The share of attempts that succeeded lately.
    #[must_use]
    pub fn success(&self) -> f32 {
        f32::from_bits(self.success.load(Ordering::Acquire))
    }

    /// What a further request would cost here, for a channel of this weight: less is better.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "what is compared by half its size needs no more digits")]
    pub fn cost(&self, weight: u32) -> f32 {
        let waiting = 1.0 + self.in_flight() as f32 / weight.max(1) as f32;
        let seconds = f32::from_bits(self.latency.load(Ordering::Acquire));
        seconds * waiting / self.success().powi(2).max(0.01)
    }
}

/// Takes a sample into an average that is kept as bits; the first one is the average.
fn average(cell: &AtomicU32, sample: f32) {
    let _ = cell.fetch_update(Ordering::AcqRel, Ordering::Acquire, |bits| {
        let old = f32::from_bits(bits);
        let new = if bits == 0 { sample } else { old + ALPHA * (sample - old) };
        // Never back to nothing, which would stand for no sample.
        Some(new.max(f32::MIN_POSITIVE).to_bits())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: slow, busy and failing channels cost more.
    #[test]
    fn cost_follows_what_is_seen() {
        let load = Load::default();
        assert_eq!((load.cost(1), load.latency()), (0.0, None));
        load.succeeded(Duration::from_secs(1));
        let quiet = load.cost(1);
        load.begin();
        load.begin();
        assert!(load.cost(1) > 2.9 * quiet && load.cost(10) < 1.3 * quiet);
        load.end();
        load.end();
        assert_eq!((load.in_flight(), load.cost(1)), (0, quiet));
        load.failed();
        assert!(load.cost(1) > quiet);
        (0..100).for_each(|_| load.failed());
        assert!(load.cost(1).is_finite() && load.success() < 0.01);
    }
}
