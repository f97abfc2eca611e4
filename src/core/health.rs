//! The health of all channels, models on them and credentials: what failures do, and who may be used (spec 9.3 to 9.7).
//!
//! A [`Board`] belongs to one generation of the configuration. It turns verdicts into rests, ejections and outages, keeps
//! the last usable channel of a model from being ejected, and is the [`View`] by which channels are drawn.

use super::catalog::{Candidate, Catalog};
use super::channel::{ChannelHealth, Visit};
use super::failure::{Class, Effect, Verdict};
use super::hot::{Hot, Row};
use super::id::ChannelId;
use super::select::{Nothing, View, Wanted};
use super::unit::{Backoff, Entry, Outage, Standing, Unit};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The first rest of a model on a channel that is overloaded, and of a credential that is rate limited: load passes.
const OVERLOAD: Duration = Duration::from_secs(1);
/// The first rest of a channel that is misconfigured or blocked.
const CHANNEL: Duration = Duration::from_secs(5);
/// The first outage of what was refused or lacks a model; it grows to the configured one.
const OUTAGE: Duration = Duration::from_secs(2);
/// The longest outage of the last usable credential or channel of a model.
const OUTAGE_OF_LAST: Duration = Duration::from_secs(5);
/// The same where the upstream named a time.
const ASKED_OF_LAST: Duration = Duration::from_secs(60);
/// The longest rest on the word of a rate limit header.
const PACE_MAX: Duration = Duration::from_secs(10);

/// How long what takes no traffic takes none; zero switches a kind of rest off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The longest cooldown, whatever a provider asks for.
    pub cooldown_max: Duration,
    /// The first ejection; each further one is twice as long, up to thirty times this.
    pub ejection: Duration,
    /// The longest outage of a credential that was refused, or whose account is empty (spec 3.2, 3.4).
    pub refused: Duration,
    /// The longest outage of a channel whose address or region was refused.
    pub blocked: Duration,
    /// The longest outage of a model that a channel does not have.
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
    rows: Vec<Row>,
    /// By [`ChannelId`], like the channels.
    places: Vec<Place>,
    times: Times,
    /// Two channels must not both be ejected because each saw the other.
    ejecting: Mutex<()>,
}

/// Where the hot state of a channel is, and what is compared with it.
#[derive(Debug, Clone, Copy)]
struct Place {
    row: u32,
    index: u32,
    weight: u32,
}

/// What an attempt did to the health of a channel, for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The channel, or the model on it, was ejected.
    Ejected,
    /// The ejection was due, and was not done: it is the last usable channel of a model, and failing.
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

impl Board {
    /// The board of these channels and their weights, by [`ChannelId`].
    #[must_use]
    pub fn new(channels: impl IntoIterator<Item = (Arc<ChannelHealth>, u32)>, times: Times) -> Self {
        let mut known: HashMap<*const Hot, u32> = HashMap::new();
        let (mut rows, mut places): (Vec<Row>, Vec<Place>) = (Vec::new(), Vec::new());
        let seated = channels.into_iter().map(|(health, weight)| {
            let seat = &health.seat;
            let row = *known.entry(seat.row.as_ptr()).or_insert_with(|| {
                rows.push(Arc::clone(&seat.row));
                position(rows.len() - 1)
            });
            places.push(Place { row, index: position(seat.index), weight });
            health
        });
        Self { channels: seated.collect(), rows, places, times, ejecting: Mutex::new(()) }
    }

    fn hot(&self, id: ChannelId) -> Option<(&Hot, u32)> {
        let Place { row, index, weight } = *self.places.get(id.index())?;
        Some((self.rows.get(row as usize)?.get(index as usize)?, weight))
    }

    /// The health of a channel.
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> Option<&Arc<ChannelHealth>> {
        self.channels.get(id.index())
    }

    /// An attempt showed content after this long.
    pub fn answered(&self, visit: &Visit, after: Duration) {
        visit.health.load().succeeded(after);
    }

    /// An answer was complete.
    pub fn completed(&self, mut visit: Visit, now: u64) -> Option<Change> {
        let readmitted = visit.units().filter(|(unit, entry)| unit.succeeded(*entry, now)).count();
        visit.entries = [Entry::Plain; 3];
        let health = Arc::clone(&visit.health);
        // Its place is free before one looks whether there is room.
        drop(visit);
        if !health.is_calm() {
            health.calm_down(now);
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
            health.load().failed();
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
        let credential = visit.credential.and_then(|index| health.credentials.get(index));
        let of_credential = credential.unwrap_or(&health.unit);
        let of_model = health.models.get(at.slot)?;
        let [entry, entry_of_model, own_entry] = visit.entries;
        let entry_of_credential = if credential.is_some() { own_entry } else { entry };
        let asked = verdict.retry_after;
        let rest = |unit: &Unit, entry: Entry, first: Duration| match entry {
            Entry::Plain => unit.rest(now, asked, self.bounded(first), jitter),
            Entry::Probe => unit.postpone(now, asked, self.bounded(first), jitter),
        };
        let take_out = |unit: &Unit, why: (Outage, Entry), max: Duration, is_last: bool| {
            let (asked, max) = match is_last {
                true => (asked.map(|asked| asked.min(ASKED_OF_LAST)), max.min(OUTAGE_OF_LAST)),
                false => (asked, max),
            };
            unit.take_out(why, now, asked, Backoff { first: OUTAGE, max }, jitter);
        };
        let is_last = |only| self.is_last(catalog, at.channel, only, now);
        match verdict.effect {
            Effect::None | Effect::CountsTowardEjection => {}
            Effect::ModelRests if verdict.class == Class::ModelMissing => {
                let why = (Outage::Missing, entry_of_model);
                take_out(of_model, why, self.times.missing, is_last(Some(at)));
            }
            Effect::ModelRests => rest(of_model, entry_of_model, OVERLOAD),
            Effect::CredentialRests => rest(of_credential, entry_of_credential, OVERLOAD),
            Effect::CredentialOut => {
                let last = !health.has_other_credential(visit.credential, now) && is_last(None);
                take_out(of_credential, (Outage::Refused, entry_of_credential), self.times.refused, last);
            }
            Effect::ChannelRests => rest(&health.unit, entry, CHANNEL),
            Effect::ChannelOut => {
                take_out(&health.unit, (Outage::Refused, entry), self.times.blocked, is_last(None));
            }
        }
        // The claims of probes go back last, so that no other request is a probe of what has just been refused.
        drop(visit);
        None
    }

    /// A credential says that it is used up for this long: it rests before it is refused, but never for long on a mere
    /// header, and not where nothing else could serve.
    pub fn paced(&self, catalog: &Catalog, at: &Candidate, visit: &Visit, left: Duration, now: u64) {
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let other = visit.health.has_other_credential(visit.credential, now);
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
        if !channel_due && !model_due {
            return None;
        }
        if self.times.ejection.is_zero() {
            keep(&health.unit, channel_due, now);
            keep(of_model, model_due, now);
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
        keep(&health.unit, channel_due, now);
        keep(of_model, model_due, now);
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
}

/// The board at a moment, as channels are drawn by it.
pub struct Now<'a> {
    /// The board.
    pub board: &'a Board,
    /// The moment.
    pub now: u64,
    /// The tokens of the request for which channels are looked at.
    pub tokens: u64,
}

impl Now<'_> {
    /// Why nothing could be drawn of these candidates: whether they rest, and how long the first of them (spec 9.5).
    pub fn nothing<'a>(
        &self,
        candidates: impl Iterator<Item = &'a Candidate>,
        wanted: Wanted<'_>,
        failed: &[ChannelId],
    ) -> Nothing {
        let fitting = candidates
            .filter(|candidate| wanted.mismatch(candidate).is_none() && !failed.contains(&candidate.channel));
        let (mut any, mut missing, mut soonest) = (false, true, None::<Duration>);
        for candidate in fitting {
            let standing = self.board.stands(candidate, self.now);
            any = true;
            missing &= matches!(standing, Standing::Missing(_));
            let left = standing.left().filter(|_| self.is_back_after(candidate, standing));
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

    /// Whether a candidate will take the request when its rest is over: what was refused does not come back by waiting, and
    /// what is full may be full then.
    fn is_back_after(&self, candidate: &Candidate, standing: Standing) -> bool {
        let has_room = |health: &Arc<ChannelHealth>| health.has_room(self.tokens, self.now);
        !matches!(standing, Standing::Out(_)) && self.board.channel(candidate.channel).is_some_and(has_room)
    }
}

impl View for Now<'_> {
    fn is_calm(&self, channel: ChannelId) -> bool {
        self.board.hot(channel).is_some_and(|(hot, _)| hot.is_calm())
    }

    fn cost(&self, channel: ChannelId) -> f32 {
        self.board.hot(channel).map_or(0.0, |(hot, weight)| hot.load.cost(weight))
    }

    fn is_usable(&self, candidate: &Candidate) -> bool {
        self.board.channel(candidate.channel).is_some_and(|health| {
            health.is_calm()
                || health.standing(candidate.slot, self.now).is_usable()
                    && health.has_room(self.tokens, self.now)
        })
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

/// Notes that a unit fails which is not ejected.
fn keep(unit: &Unit, is_due: bool, now: u64) {
    if is_due {
        unit.keep(now);
    }
}

/// Positions are bounded by the configuration, far below `u32::MAX`.
fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "simulation.rs"]
mod simulation;
