//! The metrics of channels' health and of failover (spec 13.2).

use super::metrics::{Catalogue, forget};
use crate::core::unit::Standing;
use prometheus::core::Collector;
use prometheus::{Error, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::Arc;

/// How channels stand, how their health changed, and how much failover there may be.
pub struct HealthMetrics {
    changes: IntCounterVec,
    state: IntGaugeVec,
    credential_state: IntGaugeVec,
    hedges: IntCounterVec,
    exclusions: IntCounterVec,
    members_dropped: IntCounterVec,
    budget: IntGauge,
    spent: IntCounter,
    not_replayable: IntCounter,
    replay_bytes: IntGauge,
    body_bytes: IntGauge,
}

/// Series of one credential: its states.
pub(super) const SERIES_OF_CREDENTIAL: usize = Standing::WORDS.len();
/// Series of one channel: its states, and the three kinds of change.
pub(super) const SERIES: usize = Standing::WORDS.len() + 3 + EXCLUSIONS;
/// Reasons for which a channel is not tried: states in which it takes nothing, five kinds of mismatch, a parameter that it does
/// not take, a failure before, and no room.
const EXCLUSIONS: usize = Standing::WORDS.len() + 5 + 3;

impl HealthMetrics {
    pub(super) fn new(new: &Catalogue) -> Result<Self, Error> {
        Ok(Self {
            changes: new.counters(
                "tidegate_channel_health_changes_total",
                "Ejections, ejections that were due but not done (kept), and readmissions.",
                &["channel", "change"],
            )?,
            state: new.gauges(
                "tidegate_channel_state",
                "1 for the state that a channel is in: up, failing (kept as the last), cooling, missing, ejected, out, probing or disabled.",
                &["channel", "state"],
            )?,
            credential_state: new.gauges(
                "tidegate_credential_state",
                "1 for the state that a credential is in, by its position at the channel; 1 is the first.",
                &["channel", "credential", "state"],
            )?,
            exclusions: new.counters(
                "tidegate_exclusions_total",
                "Channels that could not be tried when a request found none, by the reason.",
                &["channel", "reason"],
            )?,
            members_dropped: new.counters(
                "tidegate_members_dropped_total",
                "Members of upstream answers dropped because neither the API nor pass_members lists them.",
                &["channel"],
            )?,
            hedges: new.counters(
                "tidegate_hedges_total",
                "Second attempts beside a slow first one: they won, they lost, both failed, or the client left.",
                &["outcome"],
            )?,
            budget: new.gauge(
                "tidegate_retry_budget_attempts",
                "Further attempts that the budget over all traffic would allow now.",
            )?,
            spent: new
                .counter("tidegate_retry_budget_spent_total", "Further attempts taken from the budget.")?,
            not_replayable: new.counter(
                "tidegate_not_replayable_total",
                "Requests whose body was not kept for another attempt, because too much was kept already.",
            )?,
            replay_bytes: new
                .gauge("tidegate_replay_bytes", "Bodies of requests that are kept for another attempt.")?,
            body_bytes: new.gauge("tidegate_body_bytes", "Memory of the bodies of all requests.")?,
        })
    }

    pub(super) fn forget_all_but(&self, channels: &[Arc<str>]) {
        forget(&self.changes, "channel", channels);
        forget(&self.state, "channel", channels);
        forget(&self.credential_state, "channel", channels);
        forget(&self.exclusions, "channel", channels);
        forget(&self.members_dropped, "channel", channels);
    }

    /// Counts a change of a channel's health.
    pub fn change(&self, channel: &str, change: &str) {
        self.changes.with_label_values(&[channel, change]).inc();
    }

    /// Shows the state that a channel is in.
    pub fn set_state(&self, channel: &str, state: &str) {
        for word in Standing::WORDS {
            self.state.with_label_values(&[channel, word]).set(i64::from(word == state));
        }
    }

    /// Shows the state that a credential is in, by its position at the channel from 1 on.
    pub fn set_credential_state(&self, channel: &str, position: usize, state: Standing) {
        let position = position.to_string();
        for word in Standing::WORDS {
            let shown = self.credential_state.with_label_values(&[channel, &position, word]);
            shown.set(i64::from(word == state.as_str()));
        }
    }

    /// Takes the series of positions away at which a channel has no credential any more.
    pub fn forget_credentials_beyond(&self, count: impl Fn(&str) -> usize) {
        for shown in self.credential_state.collect() {
            for metric in shown.get_metric() {
                let label = |name: &str| {
                    metric.get_label().iter().find(|pair| pair.name() == name).map(|pair| pair.value())
                };
                let (Some(channel), Some(position)) = (label("channel"), label("credential")) else {
                    continue;
                };
                if position.parse::<usize>().is_ok_and(|position| position > count(channel)) {
                    let state = label("state").unwrap_or_default();
                    // It may be gone already; then nothing is left to do.
                    let _ = self.credential_state.remove_label_values(&[channel, position, state]);
                }
            }
        }
    }

    /// Counts a channel that could not be tried when a request found none.
    pub fn exclusion(&self, channel: &str, reason: &str) {
        self.exclusions.with_label_values(&[channel, reason]).inc();
    }

    /// Counts members of an answer that were dropped because they are not known (spec 1.5).
    pub fn members_dropped(&self, channel: &str, count: u64) {
        self.members_dropped.with_label_values(&[channel]).inc_by(count);
    }

    /// Counts a second attempt by its outcome.
    pub fn hedge(&self, outcome: &str) {
        self.hedges.with_label_values(&[outcome]).inc();
    }

    /// Shows the retry budget: what is left, and what has been spent so far.
    pub fn set_budget(&self, left: u64, spent: u64) {
        self.budget.set(i64::try_from(left).unwrap_or(i64::MAX));
        self.spent.inc_by(spent.saturating_sub(self.spent.get()));
    }

    /// Counts a request whose body is not kept for another attempt (spec 10.6).
    pub fn not_replayable(&self) {
        self.not_replayable.inc();
    }

    /// Shows how much is kept for other attempts, in bytes.
    pub fn set_replay_bytes(&self, bytes: usize) {
        self.replay_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows the memory that the bodies of all requests take.
    pub fn set_body_bytes(&self, bytes: usize) {
        self.body_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
