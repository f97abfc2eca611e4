//! The health of all channels, models on them and credentials: what failures do, and who may be used (spec 9.3 to 9.7).
//!
//! A [`Board`] belongs to one generation of the configuration. It turns verdicts into rests, ejections and outages, keeps
//! the last usable channel of a model from being ejected, and is the [`View`] by which channels are drawn.

use super::catalog::{Candidate, Catalog};
use super::failure::{Class, Effect, Verdict};
use super::id::ChannelId;
use super::limit::RateLimit;
use super::load::Load;
use super::permit::{Permit, Permits};
use super::select::{Nothing, View, Wanted};
use super::unit::{Backoff, Entry, Standing, Unit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The first rest of a model on a channel that is overloaded, and of a credential that is rate limited: load passes.
const OVERLOAD: Duration = Duration::from_secs(1);
/// The first rest of a channel that is misconfigured or blocked.
const CHANNEL: Duration = Duration::from_secs(5);
/// The longest rest on the word of a rate limit header.
const PACE_MAX: Duration = Duration::from_secs(10);
/// How long what takes no traffic takes none; zero switches a kind of rest off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The longest cooldown, whatever a provider asks for.
    pub cooldown_max: Duration,
    /// The first ejection; each further one is twice as long, up to thirty times this.
    pub ejection: Duration,
    /// A credential that was refused, or whose account is empty, until it is probed (spec 3.2).
    pub refused: Duration,
    /// A channel whose address or region was refused, until it is probed.
    pub blocked: Duration,
    /// A model that a channel does not have.
    pub missing: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            cooldown_max: Duration::from_secs(600),
            ejection: Duration::from_secs(10),
            refused: Duration::from_secs(3600),
            blocked: Duration::from_secs(600),
            missing: Duration::from_secs(600),
        }
    }
}

/// The health of one configuration generation.
#[derive(Debug)]
pub struct Board {
    channels: Vec<Arc<ChannelHealth>>,
    times: Times,
    /// Two channels must not both be ejected because each saw the other.
    ejecting: Mutex<()>,
}

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
    entries: [Entry; 3],
    health: Arc<ChannelHealth>,
    slot: usize,
    _permit: Option<Permit>,
}

impl Visit {
    /// The units that it is at, and as what.
    fn units(&self) -> impl Iterator<Item = (&Unit, Entry)> {
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

/// What an attempt did to the health of a channel, for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The channel, or the model on it, was ejected.
    Ejected,
    /// The ejection was due, and was not done: it is the last usable channel of a model.
    Kept,
    /// A probe brought it back.
    Readmitted,
}

impl Change {
    /// The word used in logs and as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::Kept => "kept",
            Self::Readmitted => "readmitted",
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
    fn calm_down(&self, now: u64) {
        let well = |unit: &Unit| unit.standing(now) == Standing::Up && unit.share(now) >= 1.0;
        let units = [&self.unit].into_iter().chain(&self.models).chain(&self.credentials);
        if self.concurrency.is_none() && self.requests.is_none() && units.into_iter().all(well) {
            self.troubled.store(false, Ordering::Release);
        }
    }

    /// Something of it is about to rest: draws have to look.
    fn trouble(&self) {
        self.troubled.store(true, Ordering::Release);
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
        let of_channel = self.unit.try_enter(now)?;
        let entered =
            self.models.get(slot).map_or(Some(Entry::Plain), |unit| unit.try_enter(now)).and_then(|entry| {
                let (credential, of_credential) = self.credential(turn, now)?;
                if self.requests.as_ref().is_some_and(|rate| rate.try_take(1, now).is_err()) {
                    self.models.get(slot).into_iter().for_each(|unit| unit.leave(entry));
                    return None;
                }
                Some((credential, [of_channel, entry, of_credential]))
            });
        let Some((credential, entries)) = entered else {
            self.unit.leave(of_channel);
            return None;
        };
        let health = Arc::clone(self);
        self.load.begin();
        Some(Visit { credential, entries, health, slot, _permit: permit })
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

impl Board {
    /// The board of these channels, by [`ChannelId`].
    #[must_use]
    pub fn new(channels: Vec<Arc<ChannelHealth>>, times: Times) -> Self {
        Self { channels, times, ejecting: Mutex::new(()) }
    }

    /// The health of a channel.
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> Option<&Arc<ChannelHealth>> {
        self.channels.get(id.index())
    }

    /// An attempt showed content after this long.
    pub fn answered(&self, visit: &Visit, after: Duration) {
        visit.health.load.succeeded(after);
    }

    /// An answer was complete.
    pub fn completed(&self, mut visit: Visit, now: u64) -> Option<Change> {
        let readmitted = visit.units().filter(|(unit, entry)| unit.succeeded(*entry, now)).count();
        visit.entries = [Entry::Plain; 3];
        if !visit.health.is_calm() {
            visit.health.calm_down(now);
        }
        (readmitted > 0).then_some(Change::Readmitted)
    }

    /// An attempt failed. `jitter` is one uniform number.
    pub fn failed(
        &self,
        catalog: &Catalog,
        at: &Candidate,
        visit: Visit,
        verdict: &Verdict,
        now: u64,
        jitter: u64,
    ) -> Option<Change> {
        let health = Arc::clone(&visit.health);
        if verdict.effect != Effect::None {
            health.load.failed();
            // Before anything rests, so that no draw overlooks it; a flag that is taken back too early is set again below.
            health.trouble();
        }
        let change = self.apply(catalog, at, visit, verdict, now, jitter);
        if verdict.effect != Effect::None {
            health.trouble();
        }
        change
    }

    /// Does what a verdict says.
    fn apply(
        &self,
        catalog: &Catalog,
        at: &Candidate,
        visit: Visit,
        verdict: &Verdict,
        now: u64,
        jitter: u64,
    ) -> Option<Change> {
        let health = Arc::clone(&visit.health);
        if verdict.effect == Effect::CountsTowardEjection {
            return self.count(catalog, at, visit, now, jitter);
        }
        let credential = visit.credential;
        // The claims of probes that this verdict does not touch go back.
        drop(visit);
        let of_credential =
            credential.and_then(|index| health.credentials.get(index)).unwrap_or(&health.unit);
        let of_model = health.models.get(at.slot)?;
        let asked = verdict.retry_after;
        match verdict.effect {
            Effect::None | Effect::CountsTowardEjection => {}
            Effect::ModelRests if verdict.class == Class::ModelMissing => {
                of_model.rest_missing(now, self.times.missing, jitter);
            }
            Effect::ModelRests => of_model.rest(now, asked, self.bounded(OVERLOAD), jitter),
            Effect::CredentialRests => of_credential.rest(now, asked, self.bounded(OVERLOAD), jitter),
            Effect::CredentialOut => {
                of_credential.take_out(now, asked.unwrap_or_default().max(self.times.refused), jitter)
            }
            Effect::ChannelRests => health.unit.rest(now, asked, self.bounded(CHANNEL), jitter),
            Effect::ChannelOut => health.unit.take_out(now, self.times.blocked, jitter),
        }
        None
    }

    /// A credential says that it is used up for this long: it rests before it is refused, but never for long on a mere
    /// header, and not where nothing else could serve.
    pub fn paced(&self, catalog: &Catalog, at: &Candidate, visit: &Visit, left: Duration, now: u64) {
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let others = visit.health.credentials.iter().enumerate();
        let other = others
            .filter(|(index, _)| Some(*index) != visit.credential)
            .any(|(_, unit)| unit.standing(now).is_usable());
        if let Some(unit) = visit.credential.and_then(|index| visit.health.credentials.get(index))
            && (other || !self.is_last(catalog, at.channel, None, now))
        {
            unit.rest(now, Some(left), Backoff { first: left, max: PACE_MAX }, 0);
            visit.health.trouble();
        }
    }

    fn bounded(&self, first: Duration) -> Backoff {
        Backoff { first, max: self.times.cooldown_max }
    }

    /// Counts a failure toward the ejection of the channel, or else of the model on it.
    fn count(
        &self,
        catalog: &Catalog,
        at: &Candidate,
        mut visit: Visit,
        now: u64,
        jitter: u64,
    ) -> Option<Change> {
        let health = Arc::clone(&visit.health);
        let of_model = health.models.get(at.slot)?;
        let [entry, entry_of_model, _] = std::mem::take(&mut visit.entries);
        let (channel_due, model_due) = (health.unit.failed(entry, now), of_model.failed(entry_of_model, now));
        for (unit, entry) in [(&health.unit, entry), (of_model, entry_of_model)] {
            unit.leave(entry);
        }
        if !channel_due && !model_due || self.times.ejection.is_zero() {
            return None;
        }
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if channel_due && (entry == Entry::Probe || !self.is_last(catalog, at.channel, None, now)) {
            health.unit.eject(now, self.times.ejection, jitter);
            return Some(Change::Ejected);
        }
        if model_due && (entry_of_model == Entry::Probe || !self.is_last(catalog, at.channel, Some(at), now))
        {
            of_model.eject(now, self.times.ejection, jitter);
            return Some(Change::Ejected);
        }
        Some(Change::Kept)
    }

    /// Whether a channel is the last usable one of a model: of `only` that of a candidate, else of any that it serves. One
    /// that only waits for its probe has not shown that it is well.
    fn is_last(&self, catalog: &Catalog, channel: ChannelId, only: Option<&Candidate>, now: u64) -> bool {
        catalog.served_by(channel).any(|(own, others)| {
            let concerned = only.is_none_or(|only| only.slot == own.slot);
            let other = |candidate: &&Candidate| {
                candidate.channel != channel
                    && candidate.weight > 0
                    && self.stands(candidate, now) == Standing::Up
            };
            concerned && !others.flat_map(|tier| &tier.candidates).any(|candidate| other(&candidate))
        })
    }

    /// How a candidate stands.
    #[must_use]
    pub fn stands(&self, candidate: &Candidate, now: u64) -> Standing {
        self.channel(candidate.channel).map_or(Standing::Up, |health| health.standing(candidate.slot, now))
    }

    /// Why nothing could be drawn of these candidates: whether they rest, and how long the first of them (spec 9.5).
    pub fn nothing<'a>(
        &self,
        candidates: impl Iterator<Item = &'a Candidate>,
        wanted: Wanted<'_>,
        failed: &[ChannelId],
        now: u64,
    ) -> Nothing {
        let fitting = candidates
            .filter(|candidate| wanted.mismatch(candidate).is_none() && !failed.contains(&candidate.channel));
        let (mut any, mut missing, mut soonest) = (false, true, None::<Duration>);
        for standing in fitting.map(|candidate| self.stands(candidate, now)) {
            any = true;
            missing &= matches!(standing, Standing::Missing(_));
            // What was refused does not come back by waiting.
            let left = standing.left().filter(|_| !matches!(standing, Standing::Out(_)));
            soonest = match (soonest, left) {
                (Some(before), Some(left)) => Some(before.min(left)),
                (before, left) => before.or(left),
            };
        }
        match (any, missing) {
            (false, _) => Nothing::UsedUp,
            (true, true) => Nothing::Missing,
            (true, false) => Nothing::Resting(soonest),
        }
    }
}

/// The board at a moment, as channels are drawn by it.
pub struct Now<'a> {
    /// The board.
    pub board: &'a Board,
    /// The moment.
    pub now: u64,
}

impl View for Now<'_> {
    fn is_usable(&self, candidate: &Candidate) -> bool {
        self.board.channel(candidate.channel).is_some_and(|health| {
            health.is_calm()
                || health.standing(candidate.slot, self.now).is_usable() && health.has_room(self.now)
        })
    }

    fn cost(&self, candidate: &Candidate) -> f64 {
        self.board.channel(candidate.channel).map_or(0.0, |health| health.load.cost(candidate.weight))
    }

    fn share(&self, candidate: &Candidate) -> f64 {
        self.board.channel(candidate.channel).map_or(1.0, |health| {
            if health.is_calm() {
                return 1.0;
            }
            let of_model = health.models.get(candidate.slot).map_or(1.0, |unit| unit.share(self.now));
            health.unit.share(self.now).min(of_model)
        })
    }
}

#[cfg(test)]
#[path = "simulation.rs"]
mod simulation;
