//! The health of one thing that can fail: a channel, a model on a channel, or a credential (spec 9.3, 9.4).
//!
//! A [`Unit`] is *up*; *failing* but kept, as the last of a model; *cooling* until a time because its provider asked for
//! it; *ejected* until a time because it failed; *missing* the model, or *out* because it was refused. A cooldown simply
//! ends; the others end with a probe: once their time has come, one request at a time may try, and its success readmits.
//! The first outage lasts for seconds, and each failed probe doubles it. All of it is atomics: reading takes no lock. Time
//! is an argument, in nanoseconds of a clock that does not go back.

use super::cause::CauseCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Failures in a row that eject (spec 9.4).
pub const FAILURES_MAX: u32 = 5;
/// The window over which a success ratio is taken, and how many samples it needs.
const WINDOW: Duration = Duration::from_secs(10);
const SAMPLES_MIN: u32 = 20;
/// The longest ejection, in first ones.
const EJECTION_GROWTH: u32 = 30;
/// After this long without one, the next ejection is a first one again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// How long a probe may take before another one is let through.
const PROBE_LEASE: Duration = Duration::from_secs(60);
/// After readmission the share grows to the full one over this time.
pub const SLOW_START: Duration = Duration::from_secs(20);
/// The share at the moment of readmission.
const SLOW_START_SHARE: f64 = 0.1;

/// Where the kind of a state begins in its word; below it is the time at which it ends, in milliseconds, rounded up.
const KIND_SHIFT: u32 = 60;
const UP: u64 = 0;
const COOLING: u64 = 1;
const MISSING: u64 = 2;
const EJECTED: u64 = 3;
const OUT: u64 = 4;
/// It takes traffic, so there is no end.
const FAILING: u64 = 5;

/// The health of one thing.
#[derive(Debug, Default)]
pub struct Unit {
    /// Kind and end, packed.
    state: AtomicU64,
    failures: AtomicU32,
    /// Cooldowns in a row for which nobody said how long.
    rests: AtomicU32,
    ejections: AtomicU32,
    /// Refusals since the last readmission, of which only those of probes add up.
    refusals: AtomicU32,
    /// When a probe that is under way is given up.
    probe_until: AtomicU64,
    readmitted_at: AtomicU64,
    /// Number of the window, successes and failures in it, packed.
    window: AtomicU64,
    /// The failure behind the last state other than up; whoever applies verdicts keeps it up to date.
    pub cause: CauseCell,
}

/// As what a request was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Entry {
    /// As any other.
    #[default]
    Plain,
    /// As the one that tries whether the unit is well again.
    Probe,
}

/// How a unit stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes traffic.
    Up,
    /// It fails and takes traffic all the same, as the last usable one of a model.
    Failing,
    /// It rests because it was asked to.
    Cooling(Duration),
    /// It rests because it does not have the model.
    Missing(Duration),
    /// It was taken out because it failed.
    Ejected(Duration),
    /// It was taken out because it was refused.
    Out(Duration),
    /// Its time has come: the next request is a probe.
    Due,
    /// A probe is under way.
    Probing,
    /// An operator has disabled it.
    Disabled,
}

impl Standing {
    /// Whether a request may be sent now.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Failing | Self::Due)
    }

    /// Until it may be used, as far as that is known.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        match self {
            Self::Up | Self::Failing | Self::Due | Self::Probing | Self::Disabled => None,
            Self::Cooling(left) | Self::Missing(left) | Self::Ejected(left) | Self::Out(left) => Some(left),
        }
    }

    /// The word used as a metric label and by `tidegate explain`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Failing => "failing",
            Self::Cooling(_) => "cooling",
            Self::Missing(_) => "missing",
            Self::Ejected(_) => "ejected",
            Self::Out(_) => "out",
            Self::Due | Self::Probing => "probing",
            Self::Disabled => "disabled",
        }
    }

    /// Every word of [`Standing::as_str`].
    pub const WORDS: [&'static str; 8] =
        ["up", "failing", "cooling", "missing", "ejected", "out", "probing", "disabled"];
}

/// Why a unit is taken out until a probe succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Its credential, account or address was refused.
    Refused,
    /// The upstream does not have the model.
    Missing,
}

/// How long a cooldown lasts for which nobody says how long: the first, and the longest after doubling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first cooldown.
    pub first: Duration,
    /// The longest, also of those that an upstream asks for.
    pub max: Duration,
}

impl Backoff {
    /// The duration after this many earlier ones.
    fn after(self, earlier: u32) -> Duration {
        self.first.saturating_mul(1 << earlier.min(16)).min(self.max)
    }
}

impl Unit {
    /// How it stands at `now`.
    #[must_use]
    pub fn standing(&self, now: u64) -> Standing {
        let word = self.state.load(Ordering::Acquire);
        let (kind, left) = (word >> KIND_SHIFT, until(word).saturating_sub(now));
        let left = Duration::from_nanos(left);
        match kind {
            COOLING if !left.is_zero() => Standing::Cooling(left),
            MISSING if !left.is_zero() => Standing::Missing(left),
            EJECTED if !left.is_zero() => Standing::Ejected(left),
            OUT if !left.is_zero() => Standing::Out(left),
            MISSING | EJECTED | OUT => self.probing(kind, now),
            FAILING => Standing::Failing,
            _ => Standing::Up,
        }
    }

    /// Its standing once the time of a state has come that ends with a probe.
    fn probing(&self, kind: u64, now: u64) -> Standing {
        match self.probe_until.load(Ordering::Acquire).saturating_sub(now) {
            0 => Standing::Due,
            // Others must still see that it is for want of the model.
            left if kind == MISSING => Standing::Missing(Duration::from_nanos(left)),
            _ => Standing::Probing,
        }
    }

    /// Claims the right to send a request at `now`; of those that come while a probe is due, one gets it.
    #[must_use]
    pub fn try_enter(&self, now: u64) -> Option<Entry> {
        match self.standing(now) {
            Standing::Up | Standing::Failing => Some(Entry::Plain),
            Standing::Due => {
                let lease = now.saturating_add(nanos(PROBE_LEASE));
                let claim = |until: u64| (until <= now).then_some(lease);
                let claimed = self.probe_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim);
                claimed.is_ok().then_some(Entry::Probe)
            }
            _ => None,
        }
    }

    /// Gives a probe's claim back that led to no verdict: the client left, or the failure was the caller's.
    pub fn leave(&self, entry: Entry) {
        if entry == Entry::Probe {
            self.probe_until.store(0, Ordering::Release);
        }
    }

    /// A request succeeded. Whether this readmitted the unit, which only a probe does.
    pub fn succeeded(&self, entry: Entry, now: u64) -> bool {
        self.failures.store(0, Ordering::Release);
        self.rests.store(0, Ordering::Release);
        self.sample(true, now);
        let word = self.state.load(Ordering::Acquire);
        if word >> KIND_SHIFT == FAILING {
            // Whatever it has become meanwhile stays.
            let _ = self.state.compare_exchange(word, UP, Ordering::AcqRel, Ordering::Acquire);
        }
        if entry == Entry::Probe {
            self.readmit(now);
        }
        entry == Entry::Probe
    }

    /// A request failed in a way that counts. Whether the unit should be ejected now: after failures in a row, by its
    /// success ratio, or because the failure was a probe's.
    #[must_use]
    pub fn failed(&self, entry: Entry, now: u64) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let (successes, failed) = self.sample(false, now);
        let often = successes + failed >= SAMPLES_MIN && failed > successes;
        let up = matches!(self.standing(now), Standing::Up | Standing::Failing);
        // What was sent before an ejection says nothing new after it.
        entry == Entry::Probe || up && (failures >= FAILURES_MAX || often)
    }

    /// Takes it out, at first for this long, and for a time that grows with each ejection; `jitter` is one uniform number.
    pub fn eject(&self, now: u64, first: Duration, jitter: u64) {
        let since = now.saturating_sub(self.readmitted_at.load(Ordering::Acquire));
        if since > nanos(FORGIVEN_AFTER) && matches!(self.standing(now), Standing::Up | Standing::Failing) {
            self.ejections.store(0, Ordering::Release);
        }
        let before = self.ejections.fetch_add(1, Ordering::AcqRel);
        let time = first.saturating_mul((1 << before.min(10)).min(EJECTION_GROWTH));
        self.failures.store(0, Ordering::Release);
        self.window.store(0, Ordering::Release);
        self.set(EJECTED, now, jittered(time, jitter));
    }

    /// Notes that it fails and is kept all the same; its next success ends that.
    pub fn keep(&self, now: u64) {
        let old = self.state.load(Ordering::Acquire);
        if self.standing(now) == Standing::Up {
            let failing = word(FAILING, 0, Duration::ZERO);
            let _ = self.state.compare_exchange(old, failing, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Lets it rest, for as long as it asked or else for a time that grows; what ends later stays.
    ///
    /// Without a hint, what was sent before the rest began says nothing new: many requests in flight are one failure.
    pub fn rest(&self, now: u64, asked: Option<Duration>, backoff: Backoff, jitter: u64) {
        if asked.is_none() && matches!(self.standing(now), Standing::Cooling(_)) {
            return;
        }
        self.extend(COOLING, now, jittered(self.rest_time(asked, backoff), jitter));
    }

    /// Puts the next probe off, because the last one was asked to wait.
    pub fn postpone(&self, now: u64, asked: Option<Duration>, backoff: Backoff, jitter: u64) {
        let time = jittered(self.rest_time(asked, backoff), jitter);
        self.set(self.state.load(Ordering::Acquire) >> KIND_SHIFT, now, time);
    }

    fn rest_time(&self, asked: Option<Duration>, backoff: Backoff) -> Duration {
        match asked {
            Some(asked) => asked.max(Duration::from_millis(100)).min(backoff.max),
            None => backoff.after(self.rests.fetch_add(1, Ordering::AcqRel)),
        }
    }

    /// Takes it out until a probe succeeds: at first for the first time of `backoff`, and for twice as long after each
    /// probe that is refused too, or for as long as was asked. What was sent before it was taken out says nothing new.
    pub fn take_out(
        &self,
        (outage, entry): (Outage, Entry),
        now: u64,
        asked: Option<Duration>,
        backoff: Backoff,
        jitter: u64,
    ) {
        let is_away = needs_probe(self.state.load(Ordering::Acquire));
        if backoff.max.is_zero() || entry == Entry::Plain && is_away {
            return;
        }
        let step = backoff.after(self.refusals.fetch_add(1, Ordering::AcqRel));
        let kind = match outage {
            Outage::Refused => OUT,
            Outage::Missing => MISSING,
        };
        self.set(kind, now, jittered(step.max(asked.unwrap_or_default()), jitter));
    }

    /// Brings it back.
    pub fn readmit(&self, now: u64) {
        self.readmitted_at.store(now.max(1), Ordering::Release);
        self.state.store(UP, Ordering::Release);
        self.probe_until.store(0, Ordering::Release);
        self.failures.store(0, Ordering::Release);
        self.refusals.store(0, Ordering::Release);
    }

    /// The part of its share that it may have, from readmission on.
    #[must_use]
    pub fn share(&self, now: u64) -> f64 {
        let readmitted = self.readmitted_at.load(Ordering::Acquire);
        let since = Duration::from_nanos(now.saturating_sub(readmitted));
        if readmitted == 0 || since >= SLOW_START {
            return 1.0;
        }
        SLOW_START_SHARE.max(since.as_secs_f64() / SLOW_START.as_secs_f64())
    }

    /// How often it has been ejected lately.
    #[must_use]
    pub fn ejections(&self) -> u32 {
        self.ejections.load(Ordering::Acquire)
    }

    fn set(&self, kind: u64, now: u64, time: Duration) {
        self.probe_until.store(0, Ordering::Release);
        self.state.store(word(kind, now, time), Ordering::Release);
    }

    /// Sets a cooldown unless something that ends later, or that needs a probe, is there.
    fn extend(&self, kind: u64, now: u64, time: Duration) {
        let new = word(kind, now, time);
        let later = |old: u64| {
            let longer = until(old) > now && until(old) >= until(new);
            (!needs_probe(old) && !longer).then_some(new)
        };
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }

    /// Counts a sample; successes and failures of its window.
    fn sample(&self, success: bool, now: u64) -> (u32, u32) {
        let number = (now / nanos(WINDOW)) & 0xff_ffff;
        let count = |old: u64| {
            let (successes, failures) =
                if old >> 40 == number { (old >> 20 & 0xf_ffff, old & 0xf_ffff) } else { (0, 0) };
            let capped = |count: u64, more: bool| (count + u64::from(more)).min(0xf_ffff);
            Some(number << 40 | capped(successes, success) << 20 | capped(failures, !success))
        };
        let before = self.window.fetch_update(Ordering::AcqRel, Ordering::Acquire, count).unwrap_or_default();
        let after = count(before).unwrap_or_default();
        (u32::try_from(after >> 20 & 0xf_ffff).unwrap_or(0), u32::try_from(after & 0xf_ffff).unwrap_or(0))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn word(kind: u64, now: u64, time: Duration) -> u64 {
    let end = now.saturating_add(nanos(time)).div_ceil(1_000_000);
    kind << KIND_SHIFT | end.min((1 << KIND_SHIFT) - 1)
}

/// Whether a state ends with a probe.
fn needs_probe(word: u64) -> bool {
    matches!(word >> KIND_SHIFT, MISSING | EJECTED | OUT)
}

/// When a state ends, in nanoseconds.
fn until(word: u64) -> u64 {
    (word & ((1 << KIND_SHIFT) - 1)).saturating_mul(1_000_000)
}

/// Up to a tenth longer, so that not everything comes back at once.
fn jittered(time: Duration, jitter: u64) -> Duration {
    let thousandth = (jitter % 100) as u32;
    time.saturating_add(time.saturating_mul(thousandth) / 1_000)
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
