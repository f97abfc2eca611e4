//! One channel as requests meet it: its health, its load, its own limits, and the visit of one request to it.
//!
//! A [`Visit`] is a guard: whatever ends the request, the channel's load and permit go back, and the claim of a probe that
//! led to no verdict.

use super::hot::Seat;
use super::limits::{Admission, Limits};
use super::load::Load;
use super::unit::{Entry, Standing, Unit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The health of one channel. What every draw looks at is elsewhere, side by side with that of others.
#[derive(Debug)]
pub struct ChannelHealth {
    pub(super) seat: Seat,
    /// The channel itself.
    pub unit: Arc<Unit>,
    /// The models on it, by [`Candidate::slot`](super::catalog::Candidate::slot).
    pub models: Vec<Arc<Unit>>,
    /// Its credentials, in the order of the configuration.
    pub credentials: Vec<Arc<Unit>>,
    /// Its own limits (spec 6.6).
    limits: Arc<Limits>,
    /// Whether an operator has disabled it; one with the channels of its name in other generations.
    disabled: Arc<AtomicBool>,
}

/// Which credential a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn<'a> {
    /// The next that is well, from this number of a count of requests on.
    Next(usize),
    /// The same, but none of these, which the request has tried.
    Untried(usize, &'a [usize]),
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
    /// What it took of the channel's own limits.
    admission: Admission,
}

impl Visit {
    /// The units that it is at, and as what.
    pub(super) fn units(&self) -> impl Iterator<Item = (&Unit, Entry)> {
        let of_credential = self.credential.and_then(|index| self.health.credentials.get(index));
        let units = [Some(&self.health.unit), self.health.models.get(self.slot), of_credential];
        units.into_iter().zip(self.entries).filter_map(|(unit, entry)| Some((&**unit?, entry)))
    }

    /// The request has used so many tokens; without this word it has used none.
    pub fn used(&mut self, tokens: u64, now: u64) {
        self.admission.correct(tokens, now);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.health.load().end();
        for (unit, entry) in self.units() {
            unit.leave(entry);
        }
    }
}

impl ChannelHealth {
    /// A channel that is well, with so many models and credentials, whose hot state is at this place.
    #[must_use]
    pub fn new(seat: Seat, models: usize, credentials: usize, limits: Arc<Limits>) -> Self {
        let units = |count: usize| std::iter::repeat_with(Arc::default).take(count).collect();
        let health = Self::of(seat, Arc::default(), (units(models), units(credentials)), limits);
        health.calm_down(0);
        health
    }

    /// A channel with units that may have been another's: what stays the same over a change of the configuration keeps
    /// its state (spec 9.7, 12.3).
    #[must_use]
    pub fn of(
        seat: Seat,
        unit: Arc<Unit>,
        (models, credentials): (Vec<Arc<Unit>>, Vec<Arc<Unit>>),
        limits: Arc<Limits>,
    ) -> Self {
        let health = Self { seat, unit, models, credentials, limits, disabled: Arc::default() };
        // Whether all is well is found out by the first look.
        health.trouble();
        health
    }

    /// Makes it disabled and enabled together with `other`, which has its name in another generation.
    #[must_use]
    pub fn switched_with(mut self, other: &Self) -> Self {
        self.disabled = Arc::clone(&other.disabled);
        self.trouble();
        self
    }

    /// Takes it out of new traffic until it is enabled again, whatever its health.
    pub fn disable(&self) {
        self.disabled.store(true, Ordering::SeqCst);
        self.trouble();
    }

    /// Undoes [`ChannelHealth::disable`].
    pub fn enable(&self) {
        self.disabled.store(false, Ordering::SeqCst);
    }

    /// Whether an operator has disabled it.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::SeqCst)
    }

    /// How busy and quick it is.
    #[must_use]
    pub fn load(&self) -> &Load {
        &self.seat.hot().load
    }

    /// The standing that keeps a model from this channel, or [`Standing::Up`].
    #[must_use]
    pub fn standing(&self, slot: usize, now: u64) -> Standing {
        if self.is_disabled() {
            return Standing::Disabled;
        }
        let of_model = self.models.get(slot).map_or(Standing::Up, |unit| unit.standing(now));
        let of_channel = self.unit.standing(now);
        // Of several that rest, the one that does so longest says when the model is back.
        let all = [of_channel, of_model, self.of_credentials(now)];
        let resting = all.into_iter().filter(|standing| !standing.is_usable());
        let not_up = || all.into_iter().find(|standing| *standing != Standing::Up);
        resting.max_by_key(left).or_else(not_up).unwrap_or(Standing::Up)
    }

    /// The standing of its credentials together: up if one is, else of one that may be used, else of the first that is back.
    fn of_credentials(&self, now: u64) -> Standing {
        let standings = || self.credentials.iter().map(|unit| unit.standing(now));
        if self.credentials.is_empty() || standings().any(|standing| standing == Standing::Up) {
            return Standing::Up;
        }
        let usable = standings().find(|standing| standing.is_usable());
        usable.or_else(|| standings().min_by_key(left)).unwrap_or(Standing::Up)
    }

    /// Whether a credential besides this one may be used now.
    #[must_use]
    pub fn has_other_credential(&self, credential: Option<usize>, now: u64) -> bool {
        self.has_credential_besides(|index| Some(index) == credential, now)
    }

    /// Whether a credential that is none of these may be used now.
    #[must_use]
    pub fn has_credential_besides(&self, excluded: impl Fn(usize) -> bool, now: u64) -> bool {
        let mut others = self.credentials.iter().enumerate().filter(|(index, _)| !excluded(*index));
        others.any(|(_, unit)| unit.standing(now).is_usable())
    }

    /// How the channel stands as a whole: by itself, or by its credentials where all of them rest.
    #[must_use]
    pub fn overall(&self, now: u64) -> Standing {
        // No model has this slot, so none of them counts.
        self.standing(usize::MAX, now)
    }

    /// Whether it is known that nothing of it rests or is readmitted slowly, and that its own limits leave room.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.seat.hot().is_calm()
    }

    /// Looks whether all is well, so that the next draws need not.
    pub(super) fn calm_down(&self, now: u64) {
        let well = |unit: &Arc<Unit>| unit.standing(now) == Standing::Up && unit.share(now) >= 1.0;
        self.seat.hot().calm();
        let mut units = [&self.unit].into_iter().chain(&self.models).chain(&self.credentials);
        // Whether tokens a minute leave room depends on the request, so that has to be looked at every time.
        if self.is_disabled()
            || !units.all(well)
            || self.limits.limited().tpm.is_some()
            || !self.has_room(1, now)
        {
            self.trouble();
        }
    }

    /// Something of it is about to rest: draws have to look.
    pub(super) fn trouble(&self) {
        self.seat.hot().trouble();
    }

    /// Whether its own limits would take one more request of so many tokens now.
    #[must_use]
    pub fn has_room(&self, tokens: u64, now: u64) -> bool {
        self.limits.has_room(tokens, now)
    }

    /// Lets one request of so many tokens in, with a credential; `None` if another one was faster. `turn` says which
    /// credential.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>, slot: usize, turn: Turn<'_>, tokens: u64, now: u64) -> Option<Visit> {
        if self.is_disabled() {
            // Draws of an older generation may not know it yet.
            self.trouble();
            return None;
        }
        // From here on the guard gives back what was claimed, wherever it ends.
        self.load().begin();
        let entries = [Entry::Plain; 3];
        let mut visit = Visit {
            credential: None,
            entries,
            health: Arc::clone(self),
            slot,
            admission: Admission::default(),
        };
        visit.entries[0] = self.unit.try_enter(now)?;
        if let Some(of_model) = self.models.get(slot) {
            visit.entries[1] = of_model.try_enter(now)?;
        }
        (visit.credential, visit.entries[2]) = self.credential(turn, now)?;
        // Last, since a request that is counted stays counted.
        visit.admission = self.limits.try_enter(tokens, now)?;
        if !self.has_room(1, now) {
            // It took the last place: from here on draws have to look.
            self.trouble();
        }
        Some(visit)
    }

    /// The next credential that may be used, if the channel has any.
    fn credential(&self, turn: Turn<'_>, now: u64) -> Option<(Option<usize>, Entry)> {
        let count = self.credentials.len();
        let (turn, tried) = match turn {
            Turn::Only(index) => {
                let entry = self.credentials.get(index)?.try_enter(now)?;
                return Some((Some(index), entry));
            }
            Turn::Next(turn) => (turn, &[][..]),
            Turn::Untried(turn, tried) => (turn, tried),
        };
        if count == 0 {
            return Some((None, Entry::Plain));
        }
        let untried = |index: &usize| !tried.contains(index);
        let indices = (0..count).map(|step| turn.wrapping_add(step) % count);
        indices.filter(untried).find_map(|index| {
            let entry = self.credentials.get(index)?.try_enter(now)?;
            Some((Some(index), entry))
        })
    }

    /// Brings everything of the channel back that rests or was taken out; how many things that were.
    pub fn readmit(&self, now: u64) -> usize {
        self.trouble();
        let units = [&self.unit].into_iter().chain(&self.models).chain(&self.credentials);
        let away = units.filter(|unit| unit.standing(now) != Standing::Up);
        away.map(|unit| unit.readmit(now)).count()
    }
}

/// Until something may be used, where nobody knows as long as there is.
fn left(standing: &Standing) -> Duration {
    standing.left().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limits::{Limited, Scope};
    use crate::core::unit::{Backoff, Outage};

    const MINUTE: u64 = 60_000_000_000;

    /// Takes a unit out for this long from the start.
    fn take_out(unit: &Unit, outage: Outage, seconds: u64) {
        let time = Duration::from_secs(seconds);
        unit.take_out((outage, Entry::Plain), 0, None, Backoff { first: time, max: time }, 0);
    }

    /// Goal: a channel with limits is calm until they leave no room, and again when they do (spec 6.6).
    #[test]
    fn limits_trouble_nobody_until_they_are_reached() {
        let limited = Limited { concurrency: Some(2), rpm: Some(3), ..Limited::default() };
        let limits = Limits::new(Scope::Channel, limited);
        let health = Arc::new(ChannelHealth::new(Seat::row(1).next().unwrap(), 1, 1, limits));
        let enter = |now| health.try_enter(0, Turn::Next(0), 1, now);
        assert!(health.is_calm());
        let one = enter(0).unwrap();
        assert!(health.is_calm());
        let two = enter(0).unwrap();
        assert!(!health.is_calm(), "nobody else may run");
        drop((one, two));
        health.calm_down(0);
        assert!(health.is_calm());
        let last = enter(0).unwrap();
        assert!(!health.is_calm(), "the minute is used up");
        drop(last);
        health.calm_down(1);
        assert!(!health.is_calm());
        health.calm_down(MINUTE);
        assert!(health.is_calm());
    }

    /// Goal: a disabled channel takes nobody, whatever else says so, and is disabled with those of its name; enabled, it is
    /// as it was.
    #[test]
    fn disabled_channels_take_nobody() {
        let limits = || Limits::new(Scope::Channel, Limited::default());
        let mut seats = Seat::row(2);
        let health = Arc::new(ChannelHealth::new(seats.next().unwrap(), 1, 0, limits()));
        let later = ChannelHealth::new(seats.next().unwrap(), 1, 0, limits()).switched_with(&health);
        let later = Arc::new(later);
        let under_way = health.try_enter(0, Turn::Next(0), 1, 0).unwrap();
        later.disable();
        for health in [&health, &later] {
            assert_eq!(health.standing(0, 0), Standing::Disabled);
            assert!(health.try_enter(0, Turn::Next(0), 1, 0).is_none());
            health.calm_down(0);
            assert!(!health.is_calm());
        }
        drop(under_way);
        assert_eq!(health.load().in_flight(), 0);
        later.enable();
        health.calm_down(0);
        assert!(health.is_calm() && health.try_enter(0, Turn::Next(0), 1, 0).is_some());
    }

    /// Goal: what rests comes back when an operator says so, and what is well does not begin slowly for it.
    #[test]
    fn operators_readmit() {
        let limits = Limits::new(Scope::Channel, Limited::default());
        let health = ChannelHealth::new(Seat::row(1).next().unwrap(), 1, 2, limits);
        take_out(&health.credentials[0], Outage::Refused, 3600);
        health.models[0].eject(0, Duration::from_secs(10), 0);
        assert_eq!(health.readmit(1), 2);
        assert_eq!((health.standing(0, 1), health.unit.share(1)), (Standing::Up, 1.0));
        assert!(health.models[0].share(1) < 0.2);
    }

    /// Goal: of a channel, a model on it and its credentials the one that rests longest says when the model is back; of the
    /// credentials the first.
    #[test]
    fn the_longest_rest_counts() {
        let limits = Limits::new(Scope::Channel, Limited::default());
        let health = ChannelHealth::new(Seat::row(1).next().unwrap(), 2, 2, limits);
        let seconds = |seconds| Duration::from_secs(seconds);
        health.unit.eject(0, seconds(10), 0);
        take_out(&health.models[0], Outage::Missing, 20);
        assert_eq!(health.standing(0, 0), Standing::Missing(seconds(20)));
        assert_eq!(health.standing(1, 0), Standing::Ejected(seconds(10)));
        take_out(&health.credentials[0], Outage::Refused, 30);
        assert_eq!(health.standing(1, 0), Standing::Ejected(seconds(10)), "there is another credential");
        take_out(&health.credentials[1], Outage::Refused, 15);
        assert_eq!(health.standing(1, 0), Standing::Out(seconds(15)));
        assert_eq!(
            (health.standing(1, 15_000_000_000), health.overall(0)),
            (Standing::Due, Standing::Out(seconds(15)))
        );
        // One that is only due to be tried has not shown that it is back.
        health.unit.readmit(0);
        assert_eq!(health.overall(15_000_000_000), Standing::Due);
        health.credentials[1].readmit(15_000_000_000);
        assert_eq!(health.overall(15_000_000_000), Standing::Up);
    }

    /// Goal: who finds no credential, or no room, keeps no probe from the next one (spec 9.4).
    #[test]
    fn what_cannot_be_entered_claims_no_probe() {
        let limits = Limits::new(Scope::Channel, Limited { rpm: Some(1), ..Limited::default() });
        let seat = Seat::row(1).next().unwrap();
        let health = Arc::new(ChannelHealth::new(seat, 1, 2, limits));
        for unit in [&health.unit, &health.models[0], &health.credentials[0]] {
            unit.eject(0, Duration::from_secs(1), 0);
        }
        take_out(&health.credentials[1], Outage::Refused, 3600);
        assert!(health.try_enter(0, Turn::Only(1), 1, MINUTE).is_none(), "this credential is out");
        let probe = health.try_enter(0, Turn::Only(0), 1, MINUTE).expect("the probes are free");
        assert_eq!(probe.entries, [Entry::Probe; 3]);
        drop(probe);
        assert!(health.try_enter(0, Turn::Only(0), 1, MINUTE).is_none(), "the minute is used up");
        let units = [&health.unit, &health.models[0], &health.credentials[0]];
        assert!(units.iter().all(|unit| unit.try_enter(MINUTE) == Some(Entry::Probe)));
    }
}
