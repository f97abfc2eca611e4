//! Which channel gets the next attempt (spec 9.1, 9.2, 9.5, 9.6).
//!
//! Tier before tier; inside a tier two draws in proportion to weight, of which the one that costs less wins; never a
//! channel that failed this request. A draw of a channel that cannot be used is repeated a few times and then replaced by
//! a look at all, so that a draw costs the same for ten channels as for ten thousand as long as most of them are well. No
//! lock, no allocation. What is usable now is asked of a [`View`].

use super::alias::Alias;
use super::api::Api;
use super::catalog::Candidate;
use super::id::ChannelId;
use std::time::Duration;

/// Draws before all candidates of a tier are looked at.
const DRAWS_MAX: usize = 12;
/// How much dearer the first draw has to be than the second to be passed by: noise must not shift shares.
const DEARER: f64 = 1.5;

/// What a request needs of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The API it has to speak.
    pub api: Api,
    /// The group of the caller's key.
    pub group: Option<&'a str>,
    /// A context window that has proved too small: only a declared larger one will do (spec 3.2).
    pub larger_than: Option<u64>,
    /// The only channel that will do, because what the request goes on from is stored there.
    pub pinned: Option<ChannelId>,
    /// Requests with the same number go to the same channel while it is well (spec 9.6).
    pub affinity: Option<u64>,
}

/// How candidates stand now.
pub trait View {
    /// Whether a request may be sent there now.
    fn is_usable(&self, candidate: &Candidate) -> bool;

    /// What a request would cost there; less is better, and 0 means that nothing is known.
    fn cost(&self, candidate: &Candidate) -> f64;

    /// The part of its share that it may have, from 0 to 1.
    fn share(&self, candidate: &Candidate) -> f64;
}

/// The candidates of one model that have the same priority.
#[derive(Debug)]
pub struct Tier {
    /// The candidates, in the order of the configuration.
    pub candidates: Vec<Candidate>,
    table: Alias,
}

impl Tier {
    /// A tier of these candidates.
    #[must_use]
    pub fn new(candidates: Vec<Candidate>) -> Self {
        let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
        Self { candidates, table: Alias::new(&weights) }
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
        } else if !candidate.apis.contains(self.api) {
            Some("api")
        } else if !candidate.serves(self.group) {
            Some("group")
        } else if self
            .larger_than
            .is_some_and(|small| candidate.context_window.is_none_or(|own| own <= small))
        {
            Some("context_window")
        } else {
            None
        }
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
    let fits = |candidate: &&Candidate| {
        wanted.mismatch(candidate).is_none()
            && !failed.contains(&candidate.channel)
            && view.is_usable(candidate)
    };
    tiers.iter().find_map(|tier| {
        let drawn = |number: u64| tier.table.draw(number).and_then(|index| tier.candidates.get(index));
        if let Some(favourite) = wanted.affinity.and_then(drawn).filter(fits) {
            return Some(favourite);
        }
        let mut draw = || {
            (0..DRAWS_MAX).find_map(|_| {
                let candidate = drawn(random()).filter(fits)?;
                (view.share(candidate) >= 1.0 || chance(random()) < view.share(candidate))
                    .then_some(candidate)
            })
        };
        match (draw(), draw()) {
            (Some(first), Some(second)) => Some(cheaper(first, second, view)),
            (Some(only), None) | (None, Some(only)) => Some(only),
            (None, None) => heaviest_ticket(tier.candidates.iter().filter(fits), random),
        }
    })
}

fn cheaper<'a>(first: &'a Candidate, second: &'a Candidate, view: &impl View) -> &'a Candidate {
    let (one, other) = (view.cost(first), view.cost(second));
    if other > 0.0 && one > DEARER * other { second } else { first }
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
