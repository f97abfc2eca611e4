//! Limits of a thing, and admission by all that apply to a request (spec 6).
//!
//! A thing is a key, an account, a model, a channel or the whole gateway; its [`Limits`] bound requests a minute, tokens
//! a minute and requests at a time. [`try_admit`] decides for several of them at once, and says which one answers when
//! they refuse. What a request holds is an [`Admission`], a guard: whatever ends the request, its slots come back.
//!
//! A request is admitted by all or takes nothing of any, not even for an instant in which another one could be refused
//! wrongly: every thing that applies is locked, in one order for all requests, then all are asked, and only then is
//! anything taken. Each thing has a lock of its own, held for a few additions and never over anything that waits, so
//! requests meet only where they share a limit. Taking one after the other and giving back would need no lock, but a
//! request that a small limit refuses would disturb the large ones.

use super::limit::{Bucket, Denied, Standing};
use super::sync::{Mutex, MutexGuard};
use std::cmp::Reverse;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// What kind of thing limits belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The whole gateway.
    Global,
    /// An account, over all its keys.
    Account,
    /// One key.
    Key,
    /// A model, over all callers.
    Model,
    /// A channel, over all callers.
    Channel,
}

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Requests at a time.
    Concurrency,
}

/// Limits as configured; `None` for no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limited {
    /// Requests a minute.
    pub rpm: Option<u32>,
    /// Tokens a minute.
    pub tpm: Option<u64>,
    /// Requests at a time.
    pub concurrency: Option<u32>,
    /// Count what would be refused, and refuse nothing.
    pub shadow: bool,
}

/// The limits of one thing with their counters; shared between configuration generations, so that a reload forgets
/// nothing.
#[derive(Debug)]
pub struct Limits {
    scope: Scope,
    limited: Limited,
    counters: Mutex<Counters>,
}

#[derive(Debug)]
struct Counters {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    running: u32,
    /// What a limit in shadow would have refused, by [`Dimension`].
    would_refuse: [u64; Dimension::ALL.len()],
}

/// What a request asks of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Tokens of its input, as estimated.
    pub input: u64,
    /// Tokens that its output may have, as far as they are taken in advance.
    pub output: u64,
    /// Nanoseconds of a monotonic clock.
    pub now: u64,
}

/// How much of a bound is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What is bounded.
    pub dimension: Dimension,
    /// How much of it is used now.
    pub used: u64,
    /// The bound.
    pub limit: u64,
}

impl Used {
    /// The part of the bound that is used.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    pub fn ratio(&self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }
}

/// The limit that refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose limit it is.
    pub scope: Scope,
    /// What it bounds.
    pub dimension: Dimension,
    /// The bound.
    pub limit: u64,
    /// The wait and the standing of a limit per minute; `None` for concurrency, of which nobody knows when it is over.
    pub denied: Option<Denied>,
}

/// What an admitted request holds.
///
/// Dropped, it gives its slots back, and its tokens too unless they were corrected: a request that ends without a word on
/// its usage used none. The request itself stays counted.
#[derive(Debug, Default)]
#[must_use = "an admission that is dropped at once bounds nothing"]
pub struct Admission {
    levels: Vec<Level>,
    corrected: bool,
    requests: Option<Standing>,
    tokens: Option<Standing>,
}

/// What is held of one thing's limits.
#[derive(Debug)]
struct Level {
    limits: Arc<Limits>,
    tokens: u64,
}

impl Scope {
    /// The name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Account => "account",
            Self::Key => "key",
            Self::Model => "model",
            Self::Channel => "channel",
        }
    }
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Concurrency];

    /// The name in metrics and logs, which is also the code of its error.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::Tokens => "tokens_per_minute",
            Self::Concurrency => "concurrency",
        }
    }
}

impl Limits {
    /// Fresh limits: full buckets, nothing running.
    #[must_use]
    pub fn new(scope: Scope, limited: Limited) -> Arc<Self> {
        let counters = Counters {
            requests: limited.rpm.map(|limit| Bucket::per_minute(limit.into())),
            tokens: limited.tpm.map(Bucket::per_minute),
            running: 0,
            would_refuse: [0; Dimension::ALL.len()],
        };
        Arc::new(Self { scope, limited, counters: Mutex::new(counters) })
    }

    /// Whose limits they are.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The limits as configured.
    #[must_use]
    pub fn limited(&self) -> Limited {
        self.limited
    }

    /// Whether nothing is bounded; then nothing is counted either.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        let Limited { rpm, tpm, concurrency, shadow: _ } = self.limited;
        rpm.is_none() && tpm.is_none() && concurrency.is_none()
    }

    /// Requests admitted and not over yet.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.lock().running
    }

    /// Requests that were admitted only because the limits are in shadow, by what would have refused them.
    #[must_use]
    pub fn would_refuse(&self, dimension: Dimension) -> u64 {
        self.lock().would_refuse.get(dimension as usize).copied().unwrap_or(0)
    }

    /// How much of each bound is used; of a minute's, what has not come back yet.
    #[must_use]
    pub fn usage(&self, now: u64) -> Vec<Used> {
        if self.is_unbounded() {
            return Vec::new();
        }
        let counters = self.lock();
        let per_minute = |dimension, bucket: &Option<Bucket>| {
            let Standing { limit, remaining, .. } = bucket.as_ref()?.standing(now);
            Some(Used { dimension, used: limit.saturating_sub(remaining), limit })
        };
        let running = counters.running.into();
        let at_a_time =
            |limit: u32| Used { dimension: Dimension::Concurrency, used: running, limit: limit.into() };
        let used = [
            per_minute(Dimension::Requests, &counters.requests),
            per_minute(Dimension::Tokens, &counters.tokens),
            self.limited.concurrency.map(at_a_time),
        ];
        used.into_iter().flatten().collect()
    }

    /// Whether one more request would be admitted, with so many tokens in all (spec 6.6).
    #[must_use]
    pub fn has_room(&self, tokens: u64, now: u64) -> bool {
        let ask = Ask { input: 0, output: tokens, now };
        self.is_unbounded() || self.limited.shadow || self.refusal(&self.lock(), ask).is_none()
    }

    /// Admits one request with so many tokens in all; more tokens than the limit take the whole limit.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>, tokens: u64, now: u64) -> Option<Admission> {
        try_admit(&[self], Ask { input: 0, output: tokens, now }).ok()
    }

    /// Whether these limits refuse, and which of them answers.
    fn refusal(&self, counters: &Counters, ask: Ask) -> Option<Exceeded> {
        let of_requests = counters.requests.as_ref().and_then(|bucket| bucket.check(1, ask.now).err());
        let of_tokens = counters.tokens.as_ref().and_then(|bucket| {
            // A large answer may take the whole limit; an input that is larger than that never fits (spec 6.5).
            bucket.check(self.share(ask).max(ask.input), ask.now).err()
        });
        let full = self.limited.concurrency.filter(|limit| counters.running >= *limit);
        let per_minute = |dimension, denied: Denied| Exceeded {
            scope: self.scope,
            dimension,
            limit: denied.standing.limit,
            denied: Some(denied),
        };
        let refusals = [
            of_requests.map(|denied| per_minute(Dimension::Requests, denied)),
            of_tokens.map(|denied| per_minute(Dimension::Tokens, denied)),
            full.map(|limit| Exceeded {
                scope: self.scope,
                dimension: Dimension::Concurrency,
                limit: limit.into(),
                denied: None,
            }),
        ];
        refusals.into_iter().flatten().min_by_key(Exceeded::rank)
    }

    /// The tokens that a request takes: never more than there can be.
    fn share(&self, ask: Ask) -> u64 {
        let wanted = ask.input.saturating_add(ask.output);
        self.limited.tpm.map_or(0, |limit| wanted.min(limit))
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        // Nothing in here panics with the lock in hand; if something did, the counters would still be whole.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    /// Takes what a request needs, whatever is there.
    fn take(&mut self, tokens: u64, now: u64) {
        self.running = self.running.saturating_add(1);
        if let Some(bucket) = &mut self.requests {
            bucket.charge(1, now);
        }
        self.charge_tokens(tokens, now);
    }

    fn charge_tokens(&mut self, tokens: u64, now: u64) {
        if let Some(bucket) = &mut self.tokens {
            bucket.charge(tokens, now);
        }
    }

    fn refund_tokens(&mut self, tokens: u64) {
        if let Some(bucket) = &mut self.tokens {
            bucket.refund(tokens);
        }
    }

    fn count_in_shadow(&mut self, dimension: Dimension) {
        if let Some(count) = self.would_refuse.get_mut(dimension as usize) {
            *count = count.saturating_add(1);
        }
    }
}

impl Exceeded {
    /// Which of several refusals answers, the smallest: what never fits, then the longest wait, then concurrency.
    fn rank(&self) -> (u8, Reverse<Duration>) {
        match self.denied.map(|denied| denied.wait) {
            Some(None) => (0, Reverse(Duration::MAX)),
            Some(Some(wait)) => (1, Reverse(wait)),
            None => (2, Reverse(Duration::ZERO)),
        }
    }
}

/// Admits one request by all of the limits or by none (spec 6.1, 6.2); limits that are given twice count once.
///
/// A thing in shadow refuses nothing: a request that the others admit and it would refuse is counted, and takes nothing
/// of it, as if it were refused there.
///
/// # Errors
///
/// The refusal that answers, of all there are: one that never fits, else the longest wait, else concurrency. Nothing is
/// taken then, and nothing counted.
pub fn try_admit(limits: &[&Arc<Limits>], ask: Ask) -> Result<Admission, Exceeded> {
    let mut things: Vec<_> = limits.iter().copied().filter(|limits| !limits.is_unbounded()).collect();
    // One order for all requests, so that no two wait for each other.
    things.sort_unstable_by_key(|limits| (limits.scope, Arc::as_ptr(limits).addr()));
    things.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let mut locked: Vec<_> = things.into_iter().map(|limits| (limits, limits.lock())).collect();
    let enforced = locked.iter().filter(|(limits, _)| !limits.limited.shadow);
    let refusals = enforced.filter_map(|(limits, counters)| limits.refusal(counters, ask));
    if let Some(exceeded) = refusals.min_by_key(Exceeded::rank) {
        return Err(exceeded);
    }
    let mut admission = Admission::default();
    for (limits, counters) in &mut locked {
        admission.enter(limits, counters, ask);
    }
    Ok(admission)
}

/// What would become of one request now; takes and counts nothing.
///
/// # Errors
///
/// The refusal that would answer.
pub fn check(limits: &[&Arc<Limits>], ask: Ask) -> Result<(), Exceeded> {
    let enforced = limits.iter().filter(|limits| !limits.is_unbounded() && !limits.limited.shadow);
    let refusals = enforced.filter_map(|limits| limits.refusal(&limits.lock(), ask));
    refusals.min_by_key(Exceeded::rank).map_or(Ok(()), Err)
}

impl Admission {
    /// Puts the tokens that were really used in the place of the estimate, at every level; only the first call counts.
    pub fn correct(&mut self, actual: u64, now: u64) {
        if std::mem::replace(&mut self.corrected, true) {
            return;
        }
        for level in &self.levels {
            let mut counters = level.limits.lock();
            counters.charge_tokens(actual.saturating_sub(level.tokens), now);
            counters.refund_tokens(level.tokens.saturating_sub(actual));
        }
    }

    /// How the tightest limit of requests a minute stands after this one; limits in shadow do not show.
    #[must_use]
    pub fn tightest_requests(&self) -> Option<Standing> {
        self.requests
    }

    /// How the tightest limit of tokens a minute stands after this request; limits in shadow do not show.
    #[must_use]
    pub fn tightest_tokens(&self) -> Option<Standing> {
        self.tokens
    }

    /// Takes what the request needs of one thing, which does not refuse it unless it is in shadow.
    fn enter(&mut self, limits: &Arc<Limits>, counters: &mut Counters, ask: Ask) {
        if limits.limited.shadow
            && let Some(would) = limits.refusal(counters, ask)
        {
            counters.count_in_shadow(would.dimension);
            return;
        }
        let tokens = limits.share(ask);
        counters.take(tokens, ask.now);
        self.levels.push(Level { limits: Arc::clone(limits), tokens });
        if !limits.limited.shadow {
            let standing = |bucket: &Option<Bucket>| bucket.as_ref().map(|bucket| bucket.standing(ask.now));
            self.requests = tighter(self.requests, standing(&counters.requests));
            self.tokens = tighter(self.tokens, standing(&counters.tokens));
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        for level in &self.levels {
            let mut counters = level.limits.lock();
            counters.running = counters.running.saturating_sub(1);
            if !self.corrected {
                counters.refund_tokens(level.tokens);
            }
        }
    }
}

/// The standing with the fewer units left; of equals that of the smaller limit.
fn tighter(one: Option<Standing>, other: Option<Standing>) -> Option<Standing> {
    one.into_iter().chain(other).min_by_key(|standing| (standing.remaining, standing.limit))
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
