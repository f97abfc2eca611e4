//! Memory of what channels were found to lack or not to take, bounded and with an expiry (spec 1.6, 3.2).
//!
//! It only steers: a channel that may lack something is asked last, and nothing here says anything about its health.

use super::failure::Capability;
use super::id::ChannelId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a missing capability is remembered.
const CAPABILITY_TIME: Duration = Duration::from_secs(600);
/// The most that is remembered of one model.
const KNOWN_MAX: usize = 64;

/// Flags that expire, by number.
#[derive(Debug)]
pub struct Expiring<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Expiring<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const N: usize> Expiring<N> {
    /// Sets a flag until `time` from `now`, in nanoseconds, has passed; one beyond the last is none.
    pub fn set(&self, index: usize, now: u64, time: Duration) {
        if let Some(until) = self.0.get(index) {
            until.fetch_max(end(now, time), Ordering::AcqRel);
        }
    }

    /// Whether a flag is set at `now`.
    #[must_use]
    pub fn is_set(&self, index: usize, now: u64) -> bool {
        self.0.get(index).is_some_and(|until| until.load(Ordering::Acquire) > now)
    }
}

/// The capabilities that channels of one model were found to lack.
#[derive(Debug, Default)]
pub struct Lacking {
    /// When the last of them is forgotten; most models have none, and are not looked into.
    until: AtomicU64,
    known: Mutex<Vec<(ChannelId, Capability, u64)>>,
}

impl Lacking {
    /// Remembers that a channel lacks a capability; beyond the bound it is found out again.
    pub fn note(&self, channel: ChannelId, capability: Capability, now: u64) {
        let until = end(now, CAPABILITY_TIME);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(at, lacks, until)| *until > now && (*at, *lacks) != (channel, capability));
        if known.len() < KNOWN_MAX {
            known.push((channel, capability, until));
            self.until.fetch_max(until, Ordering::AcqRel);
        }
    }

    /// The channels that were found to lack something of what a request needs; `needs` is asked only if there are any.
    pub fn of(&self, needs: impl Fn(Capability) -> bool, now: u64) -> Vec<ChannelId> {
        if self.until.load(Ordering::Acquire) <= now {
            return Vec::new();
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let lacking = known.iter().filter(|(_, lacks, until)| *until > now && needs(*lacks));
        lacking.map(|(channel, ..)| *channel).collect()
    }
}

fn end(now: u64, time: Duration) -> u64 {
    now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Goal: what is remembered concerns requests of its kind alone, ends by itself, and is bounded.
    #[test]
    fn what_is_lacking_is_forgotten() {
        let lacking = Lacking::default();
        let (one, tools) = (ChannelId::new(1), |needed| needed == Capability::Tools);
        lacking.note(one, Capability::Tools, 0);
        lacking.note(one, Capability::Tools, SECOND);
        assert_eq!(lacking.of(tools, SECOND), [one]);
        assert_eq!(lacking.of(|needed| needed == Capability::Images, SECOND), []);
        assert_eq!((lacking.of(tools, 600 * SECOND), lacking.of(tools, 601 * SECOND)), (vec![one], vec![]));
        (0..1_000)
            .for_each(|channel| lacking.note(ChannelId::new(channel), Capability::Images, 700 * SECOND));
        assert_eq!(lacking.of(|_| true, 700 * SECOND).len(), KNOWN_MAX);
    }

    /// Goal: flags are independent and expire.
    #[test]
    fn flags_expire() {
        let flags = Expiring::<2>::default();
        flags.set(1, 0, Duration::from_secs(5));
        flags.set(9, 0, Duration::from_secs(5));
        let set = |now| [0, 1, 2].map(|index| flags.is_set(index, now));
        assert_eq!((set(4 * SECOND), set(5 * SECOND)), ([false, true, false], [false; 3]));
    }
}
