//! Which channel gets the next attempt (spec 9.1, 9.2, 9.5, 9.6).
//!
//! Tier before tier; inside a tier two draws in proportion to weight, of which the one that costs less wins; never a
//! channel that failed this request. A draw of a channel that cannot be used is repeated a few times and then replaced by
//! a look at all, so that a draw costs the same for ten channels as for ten thousand as long as most of them are well. No
//! lock, no allocation. What is usable now is asked of a [`View`].
//!
//! What makes draws of many channels dear is not work but memory. Of a channel that is well a draw reads two places, its
//! column of the table and its hot state, and those of both draws are waited for together.

use super::alias::Alias;
use super::api::{Api, ApiSet};
use super::catalog::{self, Candidate};
use super::id::ChannelId;
use std::sync::Arc;
use std::time::Duration;

/// Draws before all candidates of a tier are looked at.
const DRAWS_MAX: usize = 12;
/// How much too high an estimate of tokens can be, in hundredths.
const ESTIMATE_EXCESS: u64 = 135;
/// How much dearer the first draw has to be than the second to be passed by: noise must not shift shares.
const DEARER: f32 = 1.5;

/// What a request needs of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The API it has to speak.
    pub api: Api,
    /// The group of the caller's key.
    pub group: Option<&'a str>,
    /// A context window that has proved too small: only a declared larger one will do (spec 3.2).
    pub larger_than: Option<u64>,
    /// Input tokens, as expected: what is surely too small for them will not do.
    pub input: u64,
    /// The only channel that will do, because what the request goes on from is stored there.
    pub pinned: Option<ChannelId>,
    /// Requests with the same number go to the same channel while it is well (spec 9.6).
    pub affinity: Option<u64>,
}

/// How candidates stand now.
pub trait View {
    /// Whether it is known that a channel takes everything and its full share, so that nothing more has to be asked.
    fn is_calm(&self, channel: ChannelId) -> bool;

    /// What a request would cost at a channel, for its weight; less is better, and 0 means that nothing is known.
    fn cost(&self, channel: ChannelId) -> f32;

    /// Whether a request may be sent there now.
    fn is_usable(&self, candidate: &Candidate) -> bool;

    /// The part of its share that it may have, from 0 to 1.
    fn share(&self, candidate: &Candidate) -> f64;
}

/// The candidates of one model that have the same priority.
#[derive(Debug)]
pub struct Tier {
    /// The candidates, in the order of the configuration.
    pub candidates: Vec<Candidate>,
    table: Alias<Face>,
    kinds: Vec<Kind>,
}

/// What a draw has to know of a candidate, in four bytes: with a hundred thousand candidates their size is what counts.
#[derive(Debug, Clone, Copy)]
struct Face {
    /// The number of the channel, lowest byte first.
    channel: [u8; 3],
    /// Its kind; one of no kind has to be looked at closely.
    kind: u8,
}

/// What candidates can serve; those of one tier are of few kinds.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    apis: ApiSet,
    groups: Arc<[Box<str>]>,
    context_window: Option<u64>,
}

impl Kind {
    fn of(candidate: &Candidate) -> Self {
        let Candidate { apis, context_window, ref groups, .. } = *candidate;
        Self { apis, context_window, groups: Arc::clone(groups) }
    }

    /// The position of the kind of a candidate, which becomes known; `u8::MAX` if there are too many.
    fn number(kinds: &mut Vec<Self>, candidate: &Candidate) -> u8 {
        let own = Self::of(candidate);
        let known = kinds.iter().position(|kind| *kind == own);
        let number = known.unwrap_or_else(|| {
            kinds.push(own);
            kinds.len() - 1
        });
        kinds.truncate(usize::from(u8::MAX));
        u8::try_from(number).unwrap_or(u8::MAX)
    }
}

impl Face {
    fn new(candidate: &Candidate, kind: u8) -> Self {
        let [a, b, c, rest @ ..] = candidate.channel.index().to_le_bytes();
        let is_whole = rest.iter().all(|byte| *byte == 0);
        Self { channel: [a, b, c], kind: if is_whole { kind } else { u8::MAX } }
    }

    fn channel(self) -> ChannelId {
        let [a, b, c] = self.channel;
        ChannelId::new(u32::from_le_bytes([a, b, c, 0]) as usize)
    }
}

/// A candidate that was drawn, and its position in its tier.
type Drawn = (usize, Face);

impl Tier {
    /// A tier of these candidates.
    #[must_use]
    pub fn new(candidates: Vec<Candidate>) -> Self {
        let mut kinds = Vec::new();
        let mut entry = |candidate: &Candidate| {
            let kind = Kind::number(&mut kinds, candidate);
            (candidate.weight, Face::new(candidate, kind))
        };
        let entries: Vec<_> = candidates.iter().map(&mut entry).collect();
        Self { table: Alias::new(&entries), candidates, kinds }
    }

    /// Whether some channel of it serves this group and, if one is named, speaks this API. It costs a look at each kind.
    #[must_use]
    pub fn offers(&self, api: Option<Api>, group: Option<&str>) -> bool {
        let fits = |apis: ApiSet, groups: &[Box<str>]| {
            api.is_none_or(|api| apis.contains(api)) && catalog::serves(groups, group)
        };
        let all_known = self.kinds.len() < usize::from(u8::MAX);
        self.kinds.iter().any(|kind| fits(kind.apis, &kind.groups))
            || !all_known && self.candidates.iter().any(|candidate| fits(candidate.apis, &candidate.groups))
    }
}

impl Wanted<'_> {
    /// Why a candidate cannot serve the request, whatever its health; `None` if it can.
    #[must_use]
    pub fn mismatch(&self, candidate: &Candidate) -> Option<&'static str> {
        if self.pinned.is_some_and(|channel| channel != candidate.channel) {
            Some("pinned_elsewhere")
        } else if candidate.weight == 0 && self.pinned.is_none() {
            Some("draining")
        } else {
            self.unserved(candidate.apis, &candidate.groups, candidate.context_window)
        }
    }

    /// What of these keeps them from serving the request.
    fn unserved(
        &self,
        apis: ApiSet,
        groups: &[Box<str>],
        context_window: Option<u64>,
    ) -> Option<&'static str> {
        if !apis.contains(self.api) {
            Some("api")
        } else if !catalog::serves(groups, self.group) {
            Some("group")
        } else if self.larger_than.is_some_and(|small| context_window.is_none_or(|own| own <= small))
            || context_window.is_some_and(|own| self.least_input() > own)
        {
            Some("context_window")
        } else {
            None
        }
    }
}

impl Wanted<'_> {
    /// Input tokens that there are at the least: an estimate is rarely a third too high.
    fn least_input(&self) -> u64 {
        self.input.saturating_mul(100) / ESTIMATE_EXCESS
    }
}

/// Draws the next channel, or `None` if there is none that can be used now. `random` gives uniform numbers.
pub fn select<'a>(
    tiers: &'a [Tier],
    wanted: Wanted<'_>,
    failed: &[ChannelId],
    view: &impl View,
    random: &mut impl FnMut() -> u64,
) -> Option<&'a Candidate> {
    tiers.iter().find_map(|tier| Drawing { tier, wanted, failed, view }.select(random))
}

/// The drawing of one channel from one tier.
struct Drawing<'a, 'b, V> {
    tier: &'a Tier,
    wanted: Wanted<'b>,
    failed: &'b [ChannelId],
    view: &'b V,
}

impl<'a, V: View> Drawing<'a, '_, V> {
    fn select(&self, random: &mut impl FnMut() -> u64) -> Option<&'a Candidate> {
        let candidate = |position: usize| self.tier.candidates.get(position);
        let favourite = self.wanted.affinity.and_then(|number| self.tier.table.draw(number));
        if let Some((position, face)) = favourite
            && (self.is_plainly_fit(face)
                || candidate(position).is_some_and(|candidate| self.fits(candidate)))
        {
            return candidate(position);
        }
        // Both before either is looked at, so that the second does not wait for the first.
        let [first, second] = [random(), random()].map(|number| self.tier.table.draw(number));
        match (self.take(first, random), self.take(second, random)) {
            (Some(first), Some(second)) => candidate(self.cheaper(first, second)),
            (Some((only, _)), None) | (None, Some((only, _))) => candidate(only),
            (None, None) => {
                heaviest_ticket(self.tier.candidates.iter().filter(|candidate| self.fits(candidate)), random)
            }
        }
    }

    /// What was drawn, or after a few more draws another one, that can be used.
    fn take(&self, drawn: Option<Drawn>, random: &mut impl FnMut() -> u64) -> Option<Drawn> {
        let drawn = drawn?;
        if self.is_plainly_fit(drawn.1) || self.is_taken(drawn, random) {
            return Some(drawn);
        }
        (1..DRAWS_MAX).find_map(|_| {
            let drawn = self.tier.table.draw(random())?;
            (self.is_plainly_fit(drawn.1) || self.is_taken(drawn, random)).then_some(drawn)
        })
    }

    /// Whether a candidate fits and needs no closer look, which is to be so for most.
    fn is_plainly_fit(&self, face: Face) -> bool {
        let fits = |kind: &Kind| self.wanted.unserved(kind.apis, &kind.groups, kind.context_window).is_none();
        self.wanted.pinned.is_none()
            && self.tier.kinds.get(usize::from(face.kind)).is_some_and(fits)
            && !self.failed.contains(&face.channel())
            && self.view.is_calm(face.channel())
    }

    /// Whether a candidate fits, and its share lets it be taken this time.
    fn is_taken(&self, (position, _): Drawn, random: &mut impl FnMut() -> u64) -> bool {
        self.tier.candidates.get(position).is_some_and(|candidate| {
            let share = || self.view.share(candidate);
            self.fits(candidate) && (share() >= 1.0 || chance(random()) < share())
        })
    }

    fn fits(&self, candidate: &Candidate) -> bool {
        self.wanted.mismatch(candidate).is_none()
            && !self.failed.contains(&candidate.channel)
            && self.view.is_usable(candidate)
    }

    /// The position of the one that costs less.
    fn cheaper(&self, (first, one): Drawn, (second, other): Drawn) -> usize {
        let (one, other) = (self.view.cost(one.channel()), self.view.cost(other.channel()));
        if other > 0.0 && one > DEARER * other { seldom(second) } else { first }
    }
}

/// Its argument. It makes a branch of what leads here, by which the processor goes on with what is drawn mostly while the
/// costs are still on their way.
#[cold]
#[inline(never)]
fn seldom(position: usize) -> usize {
    position
}

/// One of all, in proportion to weight, in one pass.
fn heaviest_ticket<'a>(
    candidates: impl Iterator<Item = &'a Candidate>,
    random: &mut impl FnMut() -> u64,
) -> Option<&'a Candidate> {
    let mut total = 0.0;
    candidates.fold(None, |kept, candidate| {
        total += f64::from(candidate.weight);
        let takes_over = kept.is_none() || chance(random()) * total < f64::from(candidate.weight);
        if takes_over { Some(candidate) } else { kept }
    })
}

/// A uniform number as one from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "thirty-two bits of chance are enough")]
fn chance(random: u64) -> f64 {
    (random >> 32) as f64 / f64::from(u32::MAX)
}

/// Why nothing could be drawn (spec 9.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// No candidate was left that this request had not tried.
    UsedUp,
    /// All that are left rest; the first of them for this long, if that is known.
    Resting(Option<Duration>),
    /// All that are left rest because they do not have the model.
    Missing,
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
