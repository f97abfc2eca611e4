//! One channel as requests meet it: its health, its load, its own limits, and the visit of one request to it.
//!
//! A [`Visit`] is a guard: whatever ends the request, the channel's load and permit go back, and the claim of a probe that
//! led to no verdict.

use super::limit::RateLimit;
use super::load::Load;
use super::permit::{Permit, Permits};
use super::unit::{Entry, Standing, Unit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

/// The health of one channel. What every draw looks at comes first and lies together.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ChannelHealth {
    /// Whether anything of the channel may be other than well, so that more has to be looked at: set by whatever is not
    /// well, taken back by the next look that finds all well.
    troubled: AtomicBool,
    /// How busy and quick it is.
    pub load: Load,
    /// The channel itself.
    pub unit: Unit,
    /// The models on it, by [`Candidate::slot`].
    pub models: Vec<Unit>,
    /// Its credentials, in the order of the configuration.
    pub credentials: Vec<Unit>,
    concurrency: Option<Arc<Permits>>,
    requests: Option<RateLimit>,
}

/// Limits of a channel's own (spec 6.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Requests at a time.
    pub concurrency: Option<u32>,
    /// Requests a minute.
    pub rpm: Option<u32>,
}

/// Which credential a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The next that is well, from this number of a count of requests on.
    Next(usize),
    /// This one and no other.
    Only(usize),
}

/// What a request holds while it is at a channel; dropped without a verdict, it gives the claims of probes back.
#[derive(Debug)]
#[must_use = "a visit that is dropped at once bounds nothing"]
pub struct Visit {
    /// The credential that it uses.
    pub credential: Option<usize>,
    /// As what it was let through by the channel, by the model on it, and by the credential.
    pub(super) entries: [Entry; 3],
    pub(super) health: Arc<ChannelHealth>,
    slot: usize,
    _permit: Option<Permit>,
}

impl Visit {
    /// The units that it is at, and as what.
    pub(super) fn units(&self) -> impl Iterator<Item = (&Unit, Entry)> {
        let of_credential = self.credential.and_then(|index| self.health.credentials.get(index));
        let units = [Some(&self.health.unit), self.health.models.get(self.slot), of_credential];
        units.into_iter().zip(self.entries).filter_map(|(unit, entry)| Some((unit?, entry)))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.health.load.end();
        for (unit, entry) in self.units() {
            unit.leave(entry);
        }
    }
}

impl ChannelHealth {
    /// A channel that is well, with so many models and credentials.
    #[must_use]
    pub fn new(models: usize, credentials: usize, limits: ChannelLimits) -> Self {
        let units = |count: usize| std::iter::repeat_with(Unit::default).take(count).collect();
        Self {
            unit: Unit::default(),
            models: units(models),
            credentials: units(credentials),
            troubled: AtomicBool::new(true),
            load: Load::default(),
            concurrency: limits.concurrency.map(Permits::new),
            requests: limits.rpm.map(RateLimit::per_minute),
        }
    }

    /// The standing that keeps a model from this channel, or [`Standing::Up`].
    #[must_use]
    pub fn standing(&self, slot: usize, now: u64) -> Standing {
        let of_model = self.models.get(slot).map_or(Standing::Up, |unit| unit.standing(now));
        let of_channel = self.unit.standing(now);
        if !of_channel.is_usable() {
            return of_channel;
        }
        if !of_model.is_usable() {
            return of_model;
        }
        let credentials = || self.credentials.iter().map(|unit| unit.standing(now));
        if self.credentials.is_empty() || credentials().any(Standing::is_usable) {
            return if of_channel == Standing::Up { of_model } else { of_channel };
        }
        // All credentials rest: the channel is back with the first of them.
        credentials().min_by_key(|standing| standing.left().unwrap_or(Duration::MAX)).unwrap_or(Standing::Up)
    }

    /// How the channel stands as a whole: by itself, or by its credentials where all of them rest.
    #[must_use]
    pub fn overall(&self, now: u64) -> Standing {
        // No model has this slot, so none of them counts.
        self.standing(usize::MAX, now)
    }

    /// Whether it is known that nothing of it rests or is readmitted slowly, and that it has no limits.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        !self.troubled.load(Ordering::Acquire)
    }

    /// Looks whether all is well, so that the next draws need not.
    pub(super) fn calm_down(&self, now: u64) {
        let well = |unit: &Unit| unit.standing(now) == Standing::Up && unit.share(now) >= 1.0;
        // Taken back before the look: what begins to rest meanwhile is either seen, or says so after this.
        self.troubled.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut units = [&self.unit].into_iter().chain(&self.models).chain(&self.credentials);
        if self.concurrency.is_some() || self.requests.is_some() || !units.all(well) {
            self.trouble();
        }
    }

    /// Something of it is about to rest: draws have to look.
    pub(super) fn trouble(&self) {
        self.troubled.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Whether its own limits would take one more request now.
    #[must_use]
    pub fn has_room(&self, now: u64) -> bool {
        let free = self.concurrency.as_ref().is_none_or(|permits| permits.used() < permits.limit());
        free && self.requests.as_ref().is_none_or(|rate| rate.standing(now).remaining > 0)
    }

    /// Lets one request in, with a credential; `None` if another one was faster. `turn` says
    /// which credential.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>, slot: usize, turn: Turn, now: u64) -> Option<Visit> {
        let permit = match &self.concurrency {
            None => None,
            Some(permits) => Some(permits.try_acquire()?),
        };
        // From here on the guard gives back what was claimed, wherever it ends.
        self.load.begin();
        let entries = [Entry::Plain; 3];
        let mut visit = Visit { credential: None, entries, health: Arc::clone(self), slot, _permit: permit };
        visit.entries[0] = self.unit.try_enter(now)?;
        if let Some(of_model) = self.models.get(slot) {
            visit.entries[1] = of_model.try_enter(now)?;
        }
        (visit.credential, visit.entries[2]) = self.credential(turn, now)?;
        let taken = self.requests.as_ref().is_none_or(|rate| rate.try_take(1, now).is_ok());
        taken.then_some(visit)
    }

    /// The next credential that may be used, if the channel has any.
    fn credential(&self, turn: Turn, now: u64) -> Option<(Option<usize>, Entry)> {
        let count = self.credentials.len();
        let turn = match turn {
            Turn::Only(index) => {
                let entry = self.credentials.get(index)?.try_enter(now)?;
                return Some((Some(index), entry));
            }
            Turn::Next(turn) => turn,
        };
        if count == 0 {
            return Some((None, Entry::Plain));
        }
        (0..count).map(|step| turn.wrapping_add(step) % count).find_map(|index| {
            let entry = self.credentials.get(index)?.try_enter(now)?;
            Some((Some(index), entry))
        })
    }

    /// Brings everything of the channel back.
    pub fn readmit(&self, now: u64) {
        self.trouble();
        [&self.unit]
            .into_iter()
            .chain(&self.models)
            .chain(&self.credentials)
            .for_each(|unit| unit.readmit(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    /// Goal: who finds no credential, or no room, keeps no probe from the next one (spec 9.4).
    #[test]
    fn what_cannot_be_entered_claims_no_probe() {
        let limits = ChannelLimits { rpm: Some(1), ..ChannelLimits::default() };
        let health = Arc::new(ChannelHealth::new(1, 2, limits));
        for unit in [&health.unit, &health.models[0], &health.credentials[0]] {
            unit.eject(0, Duration::from_secs(1), 0);
        }
        health.credentials[1].take_out(0, Duration::from_secs(3600), 0);
        assert!(health.try_enter(0, Turn::Only(1), MINUTE).is_none(), "this credential is out");
        let probe = health.try_enter(0, Turn::Only(0), MINUTE).expect("the probes are free");
        assert_eq!(probe.entries, [Entry::Probe; 3]);
        drop(probe);
        assert!(health.try_enter(0, Turn::Only(0), MINUTE).is_none(), "the minute is used up");
        let units = [&health.unit, &health.models[0], &health.credentials[0]];
        assert!(units.iter().all(|unit| unit.try_enter(MINUTE) == Some(Entry::Probe)));
    }
}
