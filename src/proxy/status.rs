//! One look at the whole gateway, for the status page (spec 13.1).
//!
//! Like every look of an [`Inspector`] it changes nothing. It is bounded: of very many channels, models or limits it shows
//! those that an operator would look for first, and says how many there are besides.

use super::generation::Generation;
use super::inspect::{Draws, Inspector, millis_of};
use super::resting;
use super::upstream::Channel;
use super::{Shared, clock};
use crate::core::catalog::{Candidate, Model};
use crate::core::health::Now;
use crate::core::key::Key;
use crate::core::ledger::Ledger;
use crate::core::limits::{Limits, Used};
use crate::core::money::Money;
use crate::core::select::View;
use crate::core::unit::{Standing, Unit};
use crate::store::{Bank, Health};
use crate::telemetry::failures::LastFailure;
use crate::telemetry::history::{History, Reading};
use crate::telemetry::snapshot::{
    CauseView, ChannelRow, HistoryView, LimitRow, ModelRow, MoneyView, QuotaRow, Resting, Share, Snapshot,
    StoreView, Traffic, millis, rounded,
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
        let generation = shared.generation.load();
        let look = Look { shared, generation: &generation, history, now: shared.clock.nanos() };
        let (channels, channels_left_out) = look.channels(&shared.failures.of_channels());
        let (models, models_left_out) = look.models();
        let (limits, limits_left_out) = self.limits(&look);
        let (quotas, quotas_left_out) = self.quotas();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            time: rfc3339(clock::unix().as_secs()),
            generation: look.generation.number,
            loaded_at: rfc3339(look.generation.loaded_at),
            ready,
            outage: look.is_outage(),
            uptime_seconds: Duration::from_nanos(look.now).as_secs(),
            traffic: self.traffic(history),
            channels,
            channels_left_out,
            models,
            models_left_out,
            limits,
            limits_left_out,
            quotas,
            quotas_left_out,
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

impl Inspector {
    /// The keys whose quota is nearly spent, the fullest first.
    fn quotas(&self) -> (Vec<QuotaRow>, usize) {
        let (keys, today) = (self.0.directory.current(), clock::unix().as_secs());
        let with_quota = keys.all().filter(|key| key.quota.is_some() && key.is_valid(today));
        let row = |key: &Arc<Key>, ledger: &Ledger| {
            let (quota, funds) = (key.quota?, ledger.key(&key.id)?);
            let used = funds.spent.saturating_add(funds.held);
            let part = part_of(used, quota);
            (part > NEARLY).then(|| (part, key.id.to_string(), used, quota))
        };
        let bank = self.0.teller.bank();
        let mut near: Vec<_> = bank.with(|ledger| with_quota.filter_map(|key| row(key, ledger)).collect());
        near.sort_by(|(one, a, ..), (other, b, ..)| other.total_cmp(one).then(a.cmp(b)));
        let left_out = near.len().saturating_sub(LIMITS_MAX);
        near.truncate(LIMITS_MAX);
        let row = |(part, key, used, quota): (f64, String, Money, Money)| QuotaRow {
            key,
            used: used.to_string(),
            quota: quota.to_string(),
            percent: whole_percent(part),
        };
        (near.into_iter().map(row).collect(), left_out)
    }
}

/// One amount as a part of another; all of nothing is used up.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn part_of(used: Money, whole: Money) -> f64 {
    if whole == Money::ZERO { 1.0 } else { used.nanos() as f64 / whole.nanos() as f64 }
}

/// Rounded down, so that only what is used up is 100.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100")]
fn whole_percent(part: f64) -> u8 {
    (part * 100.0).clamp(0.0, 100.0) as u8
}

/// How a channel stands, also by the configuration's word.
pub(super) fn standing(channel: &Channel, now: u64) -> Standing {
    if channel.settings.enabled { channel.health.overall(now) } else { Standing::Disabled }
}

struct Look<'a> {
    shared: &'a Shared,
    generation: &'a Generation,
    history: &'a History,
    now: u64,
}

impl Look<'_> {
    /// Whether there are channels and none of them is up.
    fn is_outage(&self) -> bool {
        let channels = &self.generation.channels;
        !channels.is_empty() && !channels.iter().any(|channel| standing(channel, self.now) == Standing::Up)
    }

    fn channels(&self, failures: &HashMap<String, Arc<LastFailure>>) -> (Vec<ChannelRow>, usize) {
        let mut shown: Vec<&Arc<Channel>> = self.generation.channels.iter().collect();
        let left_out = shown.len().saturating_sub(CHANNELS_MAX);
        // What takes no traffic, or not all, is what an operator looks for; else the order is that of the file.
        let in_flight = |channel: &Channel| Reverse(channel.health.load().in_flight());
        shown.sort_by_cached_key(|channel| {
            (self.wellness(channel), (left_out > 0).then(|| in_flight(channel)))
        });
        shown.truncate(CHANNELS_MAX);
        let row = |channel: &Arc<Channel>| self.channel(channel, failures.get(&*channel.id));
        (shown.into_iter().map(row).collect(), left_out)
    }

    /// 0 for a channel that takes no traffic, 1 for one of which a part rests, 2 for the others.
    fn wellness(&self, channel: &Channel) -> u8 {
        let health = &channel.health;
        let rests = |unit: &Arc<Unit>| !unit.standing(self.now).is_usable();
        match standing(channel, self.now) == Standing::Up {
            false => 0,
            true if health.models.iter().chain(&health.credentials).any(rests) => 1,
            true => 2,
        }
    }

    fn channel(&self, channel: &Channel, last: Option<&Arc<LastFailure>>) -> ChannelRow {
        let Channel { settings, health, id, .. } = channel;
        let standing = standing(channel, self.now);
        let (minute, minutes) = (self.history.channel(id, MINUTE), self.history.channel(id, FIVE_MINUTES));
        let cause = resting::decisive_cause(self.shared, health, None, self.now);
        let usable = health.credentials.iter().filter(|unit| unit.standing(self.now).is_usable());
        ChannelRow {
            id: Arc::clone(id),
            state: standing.as_str(),
            reason: reason(channel, standing, cause.as_ref(), last),
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
            cause,
            resting_credentials: resting::credentials(self.shared, health, self.now),
            resting: self.resting(channel),
            last_failure: last.cloned(),
        }
    }

    fn resting(&self, Channel { settings, health, .. }: &Channel) -> Vec<Resting> {
        let standings = health.models.iter().map(|unit| (unit, unit.standing(self.now)));
        let resting =
            settings.models.iter().zip(standings).filter(|(_, (_, standing))| *standing != Standing::Up);
        let shown = resting.take(RESTING_MAX).map(|((model, _), (unit, standing))| Resting {
            model: model.clone(),
            state: standing.as_str(),
            left_ms: standing.left().map(millis_of),
            cause: resting::cause(self.shared, unit, self.now),
        });
        shown.collect()
    }

    fn models(&self) -> (Vec<ModelRow>, usize) {
        let requests = |model: &&Model| self.history.model(&model.id, MINUTE);
        let mut shown: Vec<&Model> = self.generation.catalog.all().collect();
        let left_out = shown.len().saturating_sub(MODELS_MAX);
        let view = self.view();
        let is_served = |model: &Model| model.candidates().any(|candidate| is_drawn(candidate, &view));
        // As for channels: first what is not served though it is asked for, then what is not served.
        shown.sort_by_cached_key(|model| {
            let asked = requests(model);
            let rank = if is_served(model) { 2 } else { u8::from(asked == 0) };
            (rank, (left_out > 0).then_some(Reverse(asked)))
        });
        shown.truncate(MODELS_MAX);
        let row = |model: &Model| ModelRow {
            id: Arc::clone(&model.id),
            requests_per_second: rounded(self.history.per_second(requests(&model), MINUTE)),
            candidates: self.shares(model),
            candidates_left_out: model.candidates().count().saturating_sub(CANDIDATES_MAX),
        };
        (shown.into_iter().map(row).collect(), left_out)
    }

    fn view(&self) -> Now<'_> {
        Now { board: &self.generation.board, now: self.now, tokens: 0 }
    }

    fn shares(&self, model: &Model) -> Vec<Share> {
        let view = self.view();
        let usable = |candidate: &Candidate| is_drawn(candidate, &view);
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

/// Whether a request without special wishes may be sent there now.
fn is_drawn(candidate: &Candidate, view: &Now<'_>) -> bool {
    candidate.weight > 0 && view.is_usable(candidate)
}

/// The reason for a channel's state: the failure behind it or, if that is not known, the channel's last one.
fn reason(
    channel: &Channel,
    standing: Standing,
    cause: Option<&CauseView>,
    last: Option<&Arc<LastFailure>>,
) -> Option<String> {
    let told = |class: &str, rule: &str| Some(format!("{class} ({rule})"));
    match standing {
        Standing::Up => None,
        Standing::Disabled if !channel.settings.enabled => Some("by the configuration".to_owned()),
        Standing::Disabled => Some("by an operator".to_owned()),
        _ => match (cause, last) {
            (Some(cause), _) => told(cause.class, &cause.rule),
            (None, Some(last)) => told(last.class, &last.rule),
            (None, None) => None,
        },
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
