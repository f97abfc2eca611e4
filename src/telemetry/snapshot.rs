//! What `/status.json`, the status page and `tidegate status` show: one look at a running gateway (spec 13.1).
//!
//! Every list has a bound, and says how many rows it left out. No key, no credential and no prompt is in it; times are in
//! milliseconds, rates per second, money in whole dollars and their parts as decimal numbers.

use super::failures::{FailureView, LastFailure};
use super::history::History;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;

/// One look at a gateway.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// The version of the gateway.
    pub version: &'static str,
    /// When the look was taken, by the wall clock.
    pub time: String,
    /// The generation of the configuration in force.
    pub generation: u64,
    /// When it was loaded.
    pub loaded_at: String,
    /// Whether new traffic is wanted.
    pub ready: bool,
    /// Whether there are channels and none of them is up: every request that needs one probably fails.
    pub outage: bool,
    /// How long the gateway has run, in seconds.
    pub uptime_seconds: u64,
    /// All requests together.
    pub traffic: Traffic,
    /// Channels; those that are not well come first where there are too many.
    pub channels: Vec<ChannelRow>,
    /// Channels that are not in the list.
    pub channels_left_out: usize,
    /// Models on offer; the busiest come first where there are too many.
    pub models: Vec<ModelRow>,
    /// Models that are not in the list.
    pub models_left_out: usize,
    /// Limits of keys, accounts and others of which more than four fifths are used, the fullest first.
    pub limits: Vec<LimitRow>,
    /// Limits that are not in the list.
    pub limits_left_out: usize,
    /// Keys whose quota is nearly spent, the fullest first.
    pub quotas: Vec<QuotaRow>,
    /// How many of them are not shown.
    pub quotas_left_out: usize,
    /// The sums of the ledger.
    pub money: MoneyView,
    /// What makes it durable.
    pub store: StoreView,
    /// The last failures behind the gateway, newest first.
    pub failures: Vec<FailureView>,
    /// The last fifteen minutes.
    pub history: HistoryView,
}

/// All requests together: rates over the last ten seconds, overhead over the last minute.
#[derive(Debug, Serialize)]
pub struct Traffic {
    /// Requests finished since the gateway began.
    pub requests: u64,
    /// Of these, answered with a status from 500 on.
    pub errors: u64,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Requests per second that were answered with a status from 500 on.
    pub errors_per_second: f64,
    /// Output tokens per second.
    pub tokens_per_second: f64,
    /// Requests under way.
    pub in_flight: u64,
    /// The gateway's own time per request that half of them did not exceed.
    pub overhead_p50_ms: Option<f64>,
    /// The same for ninety-nine of a hundred.
    pub overhead_p99_ms: Option<f64>,
}

/// One channel.
#[derive(Debug, Serialize)]
pub struct ChannelRow {
    /// Its name.
    pub id: Arc<str>,
    /// The word for how it stands.
    pub state: &'static str,
    /// Why, where it takes no traffic.
    pub reason: Option<String>,
    /// For how much longer, where that is known.
    pub left_ms: Option<u64>,
    /// Whether neither the configuration nor an operator has disabled it.
    pub enabled: bool,
    /// Its tier.
    pub priority: u32,
    /// Its share within the tier; 0 drains.
    pub weight: u32,
    /// Attempts and streams under way.
    pub in_flight: u32,
    /// How many there may be.
    pub limit: Option<u32>,
    /// The part of its attempts that succeeded in the last minute.
    pub success_1m: Option<f64>,
    /// The same over five minutes.
    pub success_5m: Option<f64>,
    /// Attempts of the last five minutes.
    pub attempts_5m: u64,
    /// Average time to first content.
    pub first_token_ms: Option<f64>,
    /// Output tokens per second, over the last minute.
    pub tokens_per_second: f64,
    /// Credentials that may be used, of how many.
    pub credentials: (usize, usize),
    /// The failure behind its state, where it is not up.
    pub cause: Option<CauseView>,
    /// Credentials that are not up, by their positions.
    pub resting_credentials: Vec<CredentialRow>,
    /// Models that rest on it, while it as a whole does not.
    pub resting: Vec<Resting>,
    /// Its last failure.
    pub last_failure: Option<Arc<LastFailure>>,
}

/// A model that rests on a channel.
#[derive(Debug, Serialize)]
pub struct Resting {
    /// Its public id.
    pub model: String,
    /// The word for how it stands.
    pub state: &'static str,
    /// For how much longer, where that is known.
    pub left_ms: Option<u64>,
    /// The failure behind it.
    pub cause: Option<CauseView>,
}

/// A credential of a channel that is not up.
#[derive(Debug, Serialize)]
pub struct CredentialRow {
    /// Its position in the configuration; 1 is the first.
    pub position: usize,
    /// The word for its state.
    pub state: &'static str,
    /// For how much longer, where that is known.
    pub left_ms: Option<u64>,
    /// The failure behind it.
    pub cause: Option<CauseView>,
}

/// The failure behind a state of a channel, a model on it or a credential.
#[derive(Debug, Serialize)]
pub struct CauseView {
    /// Its class.
    pub class: &'static str,
    /// The rule that decided the class.
    pub rule: Cow<'static, str>,
    /// The request that met it, for `tidegate why`.
    pub request_id: Arc<str>,
    /// When the state began, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// One model.
#[derive(Debug, Serialize)]
pub struct ModelRow {
    /// Its public id.
    pub id: Arc<str>,
    /// Requests per second, over the last minute.
    pub requests_per_second: f64,
    /// The channels that serve it, in the order of their tiers.
    pub candidates: Vec<Share>,
    /// Candidates that are not in the list.
    pub candidates_left_out: usize,
}

/// What a channel gets of a model's requests now.
#[derive(Debug, Serialize)]
pub struct Share {
    /// The channel.
    pub channel: Arc<str>,
    /// The word for how the model stands there.
    pub state: &'static str,
    /// The part of the requests that is sent there first; the groups of keys are left aside.
    pub share: f64,
}

/// One limit that is nearly used up.
#[derive(Debug, Serialize)]
pub struct LimitRow {
    /// Whose it is: of a key, an account, a model or all.
    pub scope: &'static str,
    /// The name of that; never a key itself.
    pub id: String,
    /// What is bounded.
    pub dimension: &'static str,
    /// How much is used.
    pub used: u64,
    /// The bound.
    pub limit: u64,
}

/// A key whose quota is nearly spent.
#[derive(Debug, Serialize)]
pub struct QuotaRow {
    /// The key.
    pub key: String,
    /// What it has spent and what is set aside for it, in dollars.
    pub used: String,
    /// What it may spend, in dollars.
    pub quota: String,
    /// The part that is used, in per cent.
    pub percent: u8,
}

/// The sums of the ledger, in dollars: reserved = settled + released + outstanding.
#[derive(Debug, Serialize)]
pub struct MoneyView {
    /// Set aside so far.
    pub reserved: String,
    /// Charged so far.
    pub settled: String,
    /// Given back so far.
    pub released: String,
    /// Set aside now.
    pub outstanding: String,
}

/// The store.
#[derive(Debug, Serialize)]
pub struct StoreView {
    /// Whether what changes becomes durable.
    pub well: bool,
    /// Why not.
    pub error: Option<String>,
    /// Batches that became durable.
    pub commits: u64,
    /// Batches that could not be written.
    pub failures: u64,
    /// Requests that wait for one.
    pub waiting: usize,
}

/// The last fifteen minutes, a list for each figure, the oldest first.
#[derive(Debug, Default, Serialize)]
pub struct HistoryView {
    /// The time between two values.
    pub step_seconds: u64,
    /// How many values there may be.
    pub steps_max: usize,
    /// Requests per second.
    pub requests: Vec<f64>,
    /// Requests per second that were answered with a status from 500 on.
    pub errors: Vec<f64>,
    /// Output tokens per second.
    pub tokens: Vec<f64>,
    /// Requests under way.
    pub in_flight: Vec<u64>,
    /// The gateway's own time per request that ninety-nine of a hundred did not exceed; nothing where there were none.
    pub overhead_p99_ms: Vec<Option<f64>>,
}

impl HistoryView {
    /// What is shown of a history.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of five seconds")]
    pub fn of(history: &History) -> Self {
        let mut view = Self {
            step_seconds: super::history::STEP.as_secs(),
            steps_max: super::history::STEPS_MAX,
            ..Self::default()
        };
        for step in history.steps() {
            let seconds = step.span.as_secs_f64().max(f64::MIN_POSITIVE);
            let rate = |count: u64| rounded(count as f64 / seconds);
            view.requests.push(rate(step.requests));
            view.errors.push(rate(step.errors));
            view.tokens.push(rate(step.tokens));
            view.in_flight.push(step.in_flight);
            view.overhead_p99_ms.push(history.overhead_of(step, 0.99).map(millis));
        }
        view
    }
}

/// Seconds as milliseconds, with three digits behind the point.
#[must_use]
pub fn millis(seconds: f64) -> f64 {
    rounded(seconds * 1_000.0)
}

/// With three digits behind the point: what is shown needs no more.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
