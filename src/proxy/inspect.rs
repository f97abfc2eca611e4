//! What an operator may look at: how channels stand, and what a request would see (spec 12.2, 13.2). Nothing is changed by
//! looking: no counter is touched, nothing is claimed.

use super::charge::Need;
use super::generation::Generation;
use super::resting;
use super::status::standing;
use super::{Shared, admit, clock, quota};
use crate::core::api::Api;
use crate::core::catalog::{Candidate, Model};
use crate::core::health::Now;
use crate::core::key::Key;
use crate::core::ledger::Ledger;
use crate::core::limits::{self, Ask};
use crate::core::refusal::{Failure, Refusal};
use crate::core::select::{Nothing, View, Wanted};
use crate::store::Counters;
use crate::telemetry::money::{ACCOUNTS_MAX, StoreCounts};
use crate::telemetry::snapshot::{CauseView, CredentialRow};
use crate::wire::error::PublicError;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A look into a running gateway.
#[derive(Clone)]
pub struct Inspector(pub(super) Arc<Shared>);

/// Of which request one wants to know what it would see.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The model's public id.
    pub model: &'a str,
    /// The name of the key that asks; without it only what holds for all keys counts.
    pub key: Option<&'a str>,
    /// The API that is called.
    pub api: Api,
    /// Its input, in tokens.
    pub tokens: u64,
}

/// What a request would see.
#[derive(Debug, Serialize)]
pub struct Explanation {
    model: String,
    /// Channels that it may be sent to, in the order of their tiers.
    candidates: Vec<Usable>,
    /// Channels of the model that it would not be sent to now.
    excluded: Vec<Excluded>,
    /// For how long the request would first wait, in milliseconds, because all that could serve it rest and one of them
    /// is back soon (spec 9.5); null if it would not wait.
    waits_ms: Option<u64>,
    /// The error that the client would read at once; null if there is a channel to try or to wait for.
    error: Option<Told>,
}

#[derive(Debug, Serialize)]
struct Usable {
    channel: String,
    upstream_model: String,
    state: &'static str,
    priority: u32,
    weight: u32,
    /// The part of the first draws that it gets by weight and slow start; later tiers get none while one before can.
    share: f64,
    in_flight: u32,
    /// Average time to first content, in milliseconds.
    latency_ms: Option<f64>,
    /// Share of attempts that succeeded lately.
    success: f64,
    /// The failure behind a state other than up.
    cause: Option<CauseView>,
    /// Credentials of the channel that are not up.
    credentials: Vec<CredentialRow>,
}

#[derive(Debug, Serialize)]
struct Excluded {
    channel: String,
    /// The first thing that keeps the request from it: something that the request wants, `full`, or the state.
    reason: &'static str,
    /// The state of the model on the channel, which need not be the reason.
    state: &'static str,
    /// For how much longer, in milliseconds, where the state is the reason and that is known.
    left_ms: Option<u64>,
    /// The failure behind the state, where the state is the reason.
    cause: Option<CauseView>,
    /// Credentials of the channel that are not up, where the state is the reason.
    credentials: Vec<CredentialRow>,
}

#[derive(Debug, Serialize)]
struct Told {
    status: u16,
    code: &'static str,
    message: String,
}

impl Inspector {
    /// Brings the gauges of channels up to date, before metrics are shown.
    pub fn refresh(&self) {
        let (generation, now) = (self.0.generation.load(), self.0.clock.nanos());
        if generation.number > 1 {
            // Requests of an older generation may have brought series back since the last look.
            self.0.metrics.forget_all_but(&generation.labels);
            let channels = generation.channels.iter();
            let counts: HashMap<&str, usize> =
                channels.map(|channel| (&*channel.id, channel.health.credentials.len())).collect();
            let count = |channel: &str| counts.get(channel).copied().unwrap_or(0);
            self.0.metrics.health().forget_credentials_beyond(count);
        }
        for channel in &generation.channels {
            self.0.metrics.health().set_state(&channel.id, standing(channel, now).as_str());
            for (position, unit) in (1..).zip(&channel.health.credentials) {
                self.0.metrics.health().set_credential_state(&channel.id, position, unit.standing(now));
            }
        }
        self.0.metrics.health().set_budget(self.0.budget.left(), self.0.budget.spent());
        self.0.metrics.health().set_replay_bytes(self.0.replay.held());
        self.0.metrics.health().set_body_bytes(self.0.bodies.used());
        self.refresh_money(&generation);
    }

    fn refresh_money(&self, generation: &Generation) {
        let (money, bank) = (self.0.metrics.money(), self.0.teller.bank());
        money.set_totals(bank.with(|ledger| ledger.totals()));
        let Counters { commits, failures, rows, waiting } = bank.counters();
        money.set_store(StoreCounts { commits, failures, rows, waiting, well: bank.is_well() });
        for model in generation.catalog.on_offer() {
            if let Some((id, _)) = generation.catalog.find(&model.id) {
                money.set_estimate(&model.id, generation.learned(id));
            }
        }
        let accounts = self.0.directory.prepaid_accounts(ACCOUNTS_MAX);
        let available = |ledger: &Ledger, id: &str| ledger.account(id).map(|funds| funds.available);
        let balance = |ledger: &Ledger, id: Arc<str>| available(ledger, &id).map(|available| (id, available));
        let balances: Vec<_> =
            bank.with(|ledger| accounts.into_iter().filter_map(|id| balance(ledger, id)).collect());
        money.set_balances(&balances);
        for ((scope, dimension), count) in self.0.pool.would_refuse() {
            money.set_would_refuse(scope, dimension.as_str(), count);
        }
    }

    /// What a request would see now. From where it comes is not asked, so the addresses that a key allows do not count.
    #[must_use]
    pub fn explain(&self, question: Question<'_>) -> Explanation {
        let (generation, now) = (self.0.generation.load(), self.0.clock.nanos());
        let (known, today) = (self.0.directory.current(), clock::unix().as_secs());
        let named = question.key.map(|id| known.find(id).filter(|key| key.is_valid(today)));
        let key = named.flatten().map(|key| &**key);
        let admitted = match named {
            Some(None) => Err(Refusal::InvalidKey),
            _ => self.admit(&generation, key, question, now),
        };
        match admitted {
            Ok((model, need)) => Shown::new(self, &generation, now).explain(model, key, (question.api, need)),
            Err(refusal) => Shown::new(self, &generation, now).refused(question, key, refusal),
        }
    }

    /// The checks of admission in their order (spec 4.1), without a key those that hold for all keys; nothing is taken.
    fn admit<'a>(
        &self,
        generation: &'a Generation,
        key: Option<&Key>,
        Question { model, api, tokens, .. }: Question<'_>,
        now: u64,
    ) -> Result<(&'a Model, Need), Refusal> {
        let unknown = || Refusal::UnknownModel(model.to_owned());
        let (found, group) = (generation.catalog.find(model), key.and_then(Key::group));
        let (id, model) = found.filter(|(_, model)| model.exists_for(group)).ok_or_else(unknown)?;
        if let Some(key) = key {
            admit::check_model(key, model)?;
        }
        if !model.reachable_for(group, api) {
            return Err(Refusal::WrongEndpoint { model: model.id.to_string(), home: model.home(group) });
        }
        if let Some(max) = model.context_window.filter(|max| tokens > *max) {
            return Err(Refusal::ContextTooLong { max, count: Some(tokens) });
        }
        let need = quota::need_of(model, generation.learned(id), api, tokens);
        let of_key = key.map(|key| [&key.account.limits, &key.limits]);
        let limits: Vec<_> =
            [&generation.limits, &model.limits].into_iter().chain(of_key.into_iter().flatten()).collect();
        let ask = Ask { input: need.input, output: need.output_ahead(), now };
        limits::check(&limits, ask).map_err(Refusal::Limited)?;
        if let Some(key) = key {
            quota::check(&self.0.teller, key, model, need)?;
        }
        Ok((model, need))
    }
}

/// What a request of this key needs of a channel.
fn wanted(key: Option<&Key>, api: Api, input: u64) -> Wanted<'_> {
    Wanted { api, group: key.and_then(Key::group), larger_than: None, input, pinned: None, affinity: None }
}

/// One look at the channels, for an explanation.
struct Shown<'a> {
    shared: &'a Shared,
    generation: &'a Generation,
    now: u64,
}

impl<'a> Shown<'a> {
    fn new(inspector: &'a Inspector, generation: &'a Generation, now: u64) -> Self {
        Self { shared: &inspector.0, generation, now }
    }

    /// What a request sees that is refused before channels are looked at; those that could not serve it are told all the
    /// same.
    fn refused(
        &self,
        Question { model, api, tokens, .. }: Question<'_>,
        key: Option<&Key>,
        refusal: Refusal,
    ) -> Explanation {
        let wanted = wanted(key, api, tokens);
        let found = self.generation.catalog.find(model).into_iter().flat_map(|(_, model)| model.candidates());
        let unfit = found.filter(|candidate| wanted.mismatch(candidate).is_some());
        Explanation {
            model: model.to_owned(),
            candidates: Vec::new(),
            excluded: unfit.map(|candidate| self.excluded(candidate, wanted)).collect(),
            waits_ms: None,
            error: Some(told(&refusal.into(), self.generation.unknown_model)),
        }
    }

    fn explain(&self, model: &Model, key: Option<&Key>, (api, need): (Api, Need)) -> Explanation {
        let wanted = wanted(key, api, need.in_context);
        let view = Now { board: &self.generation.board, now: self.now, tokens: need.tokens_ahead() };
        let usable =
            |candidate: &Candidate| wanted.mismatch(candidate).is_none() && view.is_usable(candidate);
        let draws = Draws::of(model, &view, &usable);
        let shown = |candidate: &Candidate| self.usable(candidate, draws.share(candidate, &view));
        let excluded = model.candidates().filter(|candidate| !usable(candidate));
        let (waits, error) = match draws.first {
            Some(_) => (None, None),
            None => nothing(self.generation, model, wanted, &view),
        };
        Explanation {
            model: model.id.to_string(),
            candidates: model.candidates().filter(|candidate| usable(candidate)).map(shown).collect(),
            excluded: excluded.map(|candidate| self.excluded(candidate, wanted)).collect(),
            waits_ms: waits.map(millis_of),
            error,
        }
    }

    fn usable(&self, candidate: &Candidate, share: f64) -> Usable {
        let Self { shared, generation, now } = *self;
        let health = generation.board.channel(candidate.channel);
        let latency = health.and_then(|health| health.load().latency());
        let slot = Some(candidate.slot);
        Usable {
            channel: generation.labels.channel(candidate.channel).to_owned(),
            upstream_model: candidate.upstream_model.to_string(),
            state: generation.board.stands(candidate, now).as_str(),
            priority: candidate.priority,
            weight: candidate.weight,
            share,
            in_flight: health.map_or(0, |health| health.load().in_flight()),
            latency_ms: latency.map(|latency| latency.as_secs_f64() * 1_000.0),
            success: health.map_or(1.0, |health| f64::from(health.load().success())),
            cause: health.and_then(|health| resting::decisive_cause(shared, health, slot, now)),
            credentials: health.map(|health| resting::credentials(shared, health, now)).unwrap_or_default(),
        }
    }

    fn excluded(&self, candidate: &Candidate, wanted: Wanted<'_>) -> Excluded {
        let Self { shared, generation, now } = *self;
        let standing = generation.board.stands(candidate, now);
        let mismatch = wanted.mismatch(candidate);
        let reason = mismatch.unwrap_or_else(|| match standing.is_usable() {
            true => "full",
            false => standing.as_str(),
        });
        // What a request wants and does not find there has nothing to do with the state of health.
        let health = generation.board.channel(candidate.channel).filter(|_| mismatch.is_none());
        Excluded {
            channel: generation.labels.channel(candidate.channel).to_owned(),
            reason,
            state: standing.as_str(),
            left_ms: standing.left().filter(|_| mismatch.is_none()).map(millis_of),
            cause: health
                .and_then(|health| resting::decisive_cause(shared, health, Some(candidate.slot), now)),
            credentials: health.map(|health| resting::credentials(shared, health, now)).unwrap_or_default(),
        }
    }
}

/// The first tier of a model with a candidate that can be used, and the weight of all of these in it.
pub(super) struct Draws {
    first: Option<u32>,
    total: f64,
}

impl Draws {
    /// Of the candidates that can be used.
    pub(super) fn of(model: &Model, view: &Now<'_>, usable: &impl Fn(&Candidate) -> bool) -> Self {
        let can_be_used = || model.candidates().filter(|candidate| usable(candidate));
        let first = can_be_used().next().map(|candidate| candidate.priority);
        let in_first = can_be_used().filter(|candidate| Some(candidate.priority) == first);
        Self { first, total: in_first.map(|candidate| drawn(candidate, view)).sum() }
    }

    /// The part of the first draws that a candidate gets, if it can be used; later tiers get none.
    pub(super) fn share(&self, candidate: &Candidate, view: &Now<'_>) -> f64 {
        let is_first = Some(candidate.priority) == self.first;
        if is_first { drawn(candidate, view) / self.total.max(f64::MIN_POSITIVE) } else { 0.0 }
    }
}

/// The weight of a candidate, as far as it has come back.
fn drawn(candidate: &Candidate, view: &Now<'_>) -> f64 {
    f64::from(candidate.weight) * view.share(candidate)
}

/// A time as milliseconds.
pub(super) fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What becomes of a request that finds no channel to try: how long it waits, or the error that it ends with at once.
fn nothing(
    generation: &Generation,
    model: &Model,
    wanted: Wanted<'_>,
    view: &Now<'_>,
) -> (Option<Duration>, Option<Told>) {
    let failure = match view.nothing(model.candidates(), wanted, &[]) {
        Nothing::Resting(Some(left)) if left <= generation.retry.failover_wait => return (Some(left), None),
        nothing => match (model.too_small_for(wanted), nothing) {
            (Some(max), _) => Refusal::ContextTooLong { max, count: None }.into(),
            (None, Nothing::Missing) => Failure::NowhereServed(model.id.to_string()),
            (None, Nothing::Resting(left)) => Failure::NoChannel(left),
            (None, Nothing::UsedUp) => Failure::NoChannel(None),
        },
    };
    (None, Some(told(&failure, generation.unknown_model)))
}

fn told(failure: &Failure, unknown_model: u16) -> Told {
    let error = PublicError::of(failure, unknown_model);
    Told { status: error.status(), code: error.code.entry().name, message: error.message.into_owned() }
}
