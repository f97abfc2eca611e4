//! One look at the whole gateway, for the status page (spec 13.1).
//!
//! Like every look of an [`Inspector`] it changes nothing. It is bounded: of very many channels, models or limits it shows
//! those that an operator would look for first, and says how many there are besides.

use super::clock;
use super::generation::Generation;
use super::inspect::{Draws, Inspector, millis_of};
use super::upstream::Channel;
use crate::core::catalog::{Candidate, Model};
use crate::core::health::Now;
use crate::core::limits::{Limits, Used};
use crate::core::money::Money;
use crate::core::select::View;
use crate::core::unit::Standing;
use crate::store::{Bank, Health};
use crate::telemetry::failures::LastFailure;
use crate::telemetry::history::{History, Reading};
use crate::telemetry::snapshot::{
    ChannelRow, HistoryView, LimitRow, ModelRow, MoneyView, Resting, Share, Snapshot, StoreView, Traffic,
    millis, rounded,
};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const CHANNELS_MAX: usize = 500;
const MODELS_MAX: usize = 200;
const CANDIDATES_MAX: usize = 20;
const RESTING_MAX: usize = 20;
const LIMITS_MAX: usize = 50;
const FAILURES_MAX: usize = 20;
/// From this part on a limit is near its end.
const NEARLY: f64 = 0.8;

/// The windows of what is shown.
const NOW: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const FIVE_MINUTES: Duration = Duration::from_secs(300);

impl Inspector {
    /// What has been counted so far, and when, by the clock of the gateway.
    #[must_use]
    pub fn reading(&self) -> (u64, Reading) {
        (self.0.clock.nanos(), self.0.metrics.reading())
    }

    /// Everything that an operator looks at first.
    #[must_use]
    pub fn snapshot(&self, history: &History, ready: bool) -> Snapshot {
        let shared = &self.0;
        let look = Look { generation: &shared.generation.load(), history, now: shared.clock.nanos() };
        let (channels, channels_left_out) = look.channels(&shared.failures.of_channels());
        let (models, models_left_out) = look.models();
        let (limits, limits_left_out) = self.limits(&look);
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            time: rfc3339(clock::unix().as_secs()),
            generation: look.generation.number,
            loaded_at: rfc3339(look.generation.loaded_at),
            ready,
            uptime_seconds: Duration::from_nanos(look.now).as_secs(),
            traffic: self.traffic(history),
            channels,
            channels_left_out,
            models,
            models_left_out,
            limits,
            limits_left_out,
            money: money(shared.teller.bank()),
            store: store(shared.teller.bank()),
            failures: shared.failures.last(FAILURES_MAX),
            history: HistoryView::of(history),
        }
    }

    fn traffic(&self, history: &History) -> Traffic {
        let (metrics, rates) = (&self.0.metrics, history.rates(NOW));
        let (requests, errors) = metrics.finished();
        let overhead = |part| history.overhead(MINUTE, part).map(millis);
        Traffic {
            requests,
            errors,
            requests_per_second: rounded(rates.requests),
            errors_per_second: rounded(rates.errors),
            tokens_per_second: rounded(rates.tokens),
            in_flight: u64::try_from(metrics.requests_under_way()).unwrap_or(0),
            overhead_p50_ms: overhead(0.5),
            overhead_p99_ms: overhead(0.99),
        }
    }

    /// The limits that are nearly used up, the fullest first.
    fn limits(&self, look: &Look<'_>) -> (Vec<LimitRow>, usize) {
        let mut near: Vec<(Used, &'static str, String)> = Vec::new();
        let mut look_at = |id: &str, limits: &Limits| {
            let full = limits.usage(look.now).into_iter().filter(|used| used.ratio() > NEARLY);
            near.extend(full.map(|used| (used, limits.scope().as_str(), id.to_owned())));
        };
        let keys = self.0.directory.current();
        keys.all().for_each(|key| look_at(&key.id, &key.limits));
        keys.accounts().iter().for_each(|account| look_at(&account.id, &account.limits));
        look.generation.catalog.on_offer().for_each(|model| look_at(&model.id, &model.limits));
        look_at("all", &look.generation.limits);
        near.sort_by(|(one, _, a), (other, _, b)| other.ratio().total_cmp(&one.ratio()).then(a.cmp(b)));
        let left_out = near.len().saturating_sub(LIMITS_MAX);
        near.truncate(LIMITS_MAX);
        let row = |(Used { dimension, used, limit }, scope, id)| LimitRow {
            scope,
            id,
            dimension: dimension.as_str(),
            used,
            limit,
        };
        (near.into_iter().map(row).collect(), left_out)
    }
}

/// How a channel stands, also by the configuration's word.
pub(super) fn standing(channel: &Channel, now: u64) -> Standing {
    if channel.settings.enabled { channel.health.overall(now) } else { Standing::Disabled }
}

struct Look<'a> {
    generation: &'a Generation,
    history: &'a History,
    now: u64,
}

impl Look<'_> {
    fn channels(&self, failures: &HashMap<String, Arc<LastFailure>>) -> (Vec<ChannelRow>, usize) {
        let mut shown: Vec<&Arc<Channel>> = self.generation.channels.iter().collect();
        let left_out = shown.len().saturating_sub(CHANNELS_MAX);
        if left_out > 0 {
            shown.sort_by_key(|channel| {
                let well = standing(channel, self.now) == Standing::Up;
                (well, Reverse(channel.health.load().in_flight()))
            });
            shown.truncate(CHANNELS_MAX);
        }
        let row = |channel: &Arc<Channel>| self.channel(channel, failures.get(&*channel.id));
        (shown.into_iter().map(row).collect(), left_out)
    }

    fn channel(&self, channel: &Channel, last: Option<&Arc<LastFailure>>) -> ChannelRow {
        let Channel { settings, health, id, .. } = channel;
        let standing = standing(channel, self.now);
        let (minute, minutes) = (self.history.channel(id, MINUTE), self.history.channel(id, FIVE_MINUTES));
        let usable = health.credentials.iter().filter(|unit| unit.standing(self.now).is_usable());
        ChannelRow {
            id: Arc::clone(id),
            state: standing.as_str(),
            reason: reason(channel, standing, last),
            left_ms: standing.left().map(millis_of),
            enabled: standing != Standing::Disabled,
            priority: settings.priority,
            weight: settings.weight,
            in_flight: health.load().in_flight(),
            limit: settings.limits.concurrency,
            success_1m: minute.success().map(rounded),
            success_5m: minutes.success().map(rounded),
            attempts_5m: minutes.successes + minutes.failures,
            first_token_ms: health.load().latency().map(|latency| millis(latency.as_secs_f64())),
            tokens_per_second: rounded(self.history.per_second(minute.tokens, MINUTE)),
            credentials: (usable.count(), health.credentials.len()),
            resting: self.resting(channel),
            last_failure: last.cloned(),
        }
    }

    fn resting(&self, Channel { settings, health, .. }: &Channel) -> Vec<Resting> {
        let standings = health.models.iter().map(|unit| unit.standing(self.now));
        let resting = settings.models.iter().zip(standings).filter(|(_, standing)| *standing != Standing::Up);
        let shown = resting.take(RESTING_MAX).map(|((model, _), standing)| Resting {
            model: model.clone(),
            state: standing.as_str(),
            left_ms: standing.left().map(millis_of),
        });
        shown.collect()
    }

    fn models(&self) -> (Vec<ModelRow>, usize) {
        let requests = |model: &&Model| self.history.model(&model.id, MINUTE);
        let mut shown: Vec<&Model> = self.generation.catalog.on_offer().collect();
        let left_out = shown.len().saturating_sub(MODELS_MAX);
        if left_out > 0 {
            shown.sort_by_cached_key(|model| Reverse(requests(model)));
            shown.truncate(MODELS_MAX);
        }
        let row = |model: &Model| ModelRow {
            id: Arc::clone(&model.id),
            requests_per_second: rounded(self.history.per_second(requests(&model), MINUTE)),
            candidates: self.shares(model),
            candidates_left_out: model.candidates().count().saturating_sub(CANDIDATES_MAX),
        };
        (shown.into_iter().map(row).collect(), left_out)
    }

    fn shares(&self, model: &Model) -> Vec<Share> {
        let view = Now { board: &self.generation.board, now: self.now, tokens: 0 };
        let usable = |candidate: &Candidate| candidate.weight > 0 && view.is_usable(candidate);
        let draws = Draws::of(model, &view, &usable);
        let share = |candidate: &Candidate| {
            let standing = self.generation.board.stands(candidate, self.now);
            let full = standing.is_usable() && !view.is_usable(candidate);
            let channel = self.generation.channel(candidate.channel);
            Share {
                channel: channel.map_or_else(|| "other".into(), |channel| Arc::clone(&channel.id)),
                state: match candidate.weight {
                    0 => "draining",
                    _ if full => "full",
                    _ => standing.as_str(),
                },
                share: if usable(candidate) { rounded(draws.share(candidate, &view)) } else { 0.0 },
            }
        };
        model.candidates().take(CANDIDATES_MAX).map(share).collect()
    }
}

/// Why a channel takes no traffic, as far as that is known: its last failure is mostly what did it.
fn reason(channel: &Channel, standing: Standing, last: Option<&Arc<LastFailure>>) -> Option<String> {
    match standing {
        Standing::Up => None,
        Standing::Disabled if !channel.settings.enabled => Some("by the configuration".to_owned()),
        Standing::Disabled => Some("by an operator".to_owned()),
        _ => Some(last.map_or_else(
            || "its limit is used up, as its headers say".to_owned(),
            |last| format!("{} ({})", last.class, last.rule),
        )),
    }
}

fn money(bank: &Bank) -> MoneyView {
    let totals = bank.with(|ledger| ledger.totals());
    let dollars = |nanos: u128| i64::try_from(nanos).map_or(Money::MAX, Money::from_nanos).to_string();
    MoneyView {
        reserved: dollars(totals.reserved),
        settled: dollars(totals.settled),
        released: dollars(totals.released),
        outstanding: dollars(totals.outstanding),
    }
}

fn store(bank: &Bank) -> StoreView {
    let counters = bank.counters();
    let error = match bank.health() {
        Health::Well => None,
        Health::Failing { error, .. } => Some(error.to_string()),
    };
    StoreView {
        well: error.is_none(),
        error,
        commits: counters.commits,
        failures: counters.failures,
        waiting: counters.waiting,
    }
}

fn rfc3339(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
