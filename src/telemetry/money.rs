//! The metrics of limits, money and its store (spec 8.4, 13.2).
//!
//! The four sums of the ledger are shown from one look at it, so that reserved = settled + released + outstanding holds in
//! every scrape.

use super::metrics::{Catalogue, forget};
use crate::core::estimate::Learned;
use crate::core::ledger::Totals;
use crate::core::limits::Scope;
use crate::core::money::Money;
use crate::core::usage::{Excess, UsageSource};
use prometheus::{Error, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::Arc;

/// Seconds of a commit.
const COMMIT_BUCKETS: [f64; 10] = [0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0];
/// Series besides those of a model: four sums, uncollected, flawed, two excesses, two sources, the store's, shadow refusals, and
/// balances of accounts.
pub(super) const SERIES: usize = 4 + 1 + 1 + 2 + 2 + 5 + COMMIT_BUCKETS.len() + 3 + 5 * 3 + ACCOUNTS_MAX;
/// Series of one model.
pub(super) const SERIES_OF_MODEL: usize = 2;
/// Accounts whose balance is exported at most.
pub const ACCOUNTS_MAX: usize = 100;

/// What is exported of money, its store and the limits.
pub struct MoneyMetrics {
    reserved: IntCounter,
    settled: IntCounter,
    released: IntCounter,
    outstanding: IntGauge,
    uncollected: IntCounter,
    settlements: IntCounterVec,
    flawed: IntCounter,
    excess: IntCounterVec,
    commits: IntCounter,
    failures: IntCounter,
    rows: IntCounter,
    waiting: IntGauge,
    well: IntGauge,
    commit_seconds: Histogram,
    estimate: GaugeVec,
    would_refuse: IntCounterVec,
    cost: IntCounterVec,
    balance: IntGaugeVec,
}

/// What the store has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreCounts {
    /// Commits that worked.
    pub commits: u64,
    /// Commits that failed.
    pub failures: u64,
    /// Rows written.
    pub rows: u64,
    /// Requests that wait for a commit.
    pub waiting: usize,
    /// Whether the last commit worked.
    pub well: bool,
}

impl MoneyMetrics {
    pub(super) fn new(new: &Catalogue) -> Result<Self, Error> {
        Ok(Self {
            reserved: new.counter(
                "tidegate_quota_reserved_nanodollars_total",
                "Money set aside for requests; always the sum of settled, released and outstanding.",
            )?,
            settled: new
                .counter("tidegate_quota_settled_nanodollars_total", "Money charged for requests.")?,
            released: new.counter(
                "tidegate_quota_released_nanodollars_total",
                "Money set aside and given back, because the request failed or cost less.",
            )?,
            outstanding: new.gauge(
                "tidegate_quota_outstanding_nanodollars",
                "Money set aside for requests under way; zero when idle.",
            )?,
            uncollected: new.counter(
                "tidegate_quota_uncollected_nanodollars_total",
                "What requests cost beyond what their account had, and nobody paid.",
            )?,
            settlements: new.counters(
                "tidegate_settlements_total",
                "Charged requests, by where the figures come from: reported by the upstream, or estimated.",
                &["source"],
            )?,
            flawed: new.counter(
                "tidegate_usage_flawed_total",
                "Answers whose upstream reported something as usage that is no count of tokens.",
            )?,
            excess: excess_counters(new)?,
            commits: new
                .counter("tidegate_store_commits_total", "Batches that the embedded store made durable.")?,
            failures: new.counter(
                "tidegate_store_failures_total",
                "Batches that the embedded store could not write.",
            )?,
            rows: new.counter("tidegate_store_rows_total", "Rows that the embedded store wrote.")?,
            waiting: new.gauge("tidegate_store_waiting", "Requests that wait for the embedded store.")?,
            well: new.gauge(
                "tidegate_store_well",
                "1 if the embedded store works; 0 while it fails and paid requests are refused.",
            )?,
            commit_seconds: new.histogram(
                "tidegate_store_commit_seconds",
                "How long the embedded store took for one batch.",
                &COMMIT_BUCKETS,
            )?,
            estimate: new.ratios(
                "tidegate_estimate_ratio",
                "Reported input tokens over estimated ones, a moving average that corrects the estimates.",
                &["model"],
            )?,
            would_refuse: new.counters(
                "tidegate_limit_would_refuse_total",
                "Requests that limits in shadow mode would have refused.",
                &["scope", "dimension"],
            )?,
            cost: new.counters(
                "tidegate_cost_nanodollars_total",
                "Money charged for answered requests, by model.",
                &["model"],
            )?,
            balance: new.gauges(
                "tidegate_account_balance_nanodollars",
                "Money that an account of the configuration can still spend; the first hundred that pay from a balance.",
                &["account"],
            )?,
        })
    }

    pub(super) fn forget_all_but(&self, models: &[Arc<str>]) {
        forget(&self.estimate, "model", models);
        forget(&self.cost, "model", models);
    }

    /// What each commit's duration is observed by.
    #[must_use]
    pub fn commit_seconds(&self) -> Histogram {
        self.commit_seconds.clone()
    }

    /// Shows the sums of the ledger.
    pub fn set_totals(&self, totals: Totals) {
        follow(&self.reserved, totals.reserved);
        follow(&self.settled, totals.settled);
        follow(&self.released, totals.released);
        self.outstanding.set(i64::try_from(totals.outstanding).unwrap_or(i64::MAX));
    }

    /// Shows what the store has done.
    pub fn set_store(&self, counts: StoreCounts) {
        follow(&self.commits, counts.commits.into());
        follow(&self.failures, counts.failures.into());
        follow(&self.rows, counts.rows.into());
        self.waiting.set(i64::try_from(counts.waiting).unwrap_or(i64::MAX));
        self.well.set(counts.well.into());
    }

    /// Shows how a model's estimates compare to what is reported.
    pub fn set_estimate(&self, model: &str, learned: &Learned) {
        self.estimate.with_label_values(&[model]).set(learned.factor());
    }

    /// Counts an answer with nonsense in its usage.
    pub(super) fn flawed(&self) {
        self.flawed.inc();
    }

    /// Counts an answer with more in its usage than there can have been.
    pub(super) fn excess(&self, excess: Excess) {
        for (side, is_beyond) in [("input", excess.input), ("output", excess.output)] {
            if is_beyond {
                self.excess.with_label_values(&[side]).inc();
            }
        }
    }

    /// Counts a settlement.
    pub(super) fn settled(&self, source: UsageSource, uncollected: Money) {
        self.settlements.with_label_values(&[source.as_str()]).inc();
        self.uncollected.inc_by(u64::try_from(uncollected.nanos()).unwrap_or(0));
    }

    /// Counts the cost of a request.
    pub(super) fn charged(&self, model: &str, cost: Money) {
        self.cost.with_label_values(&[model]).inc_by(u64::try_from(cost.nanos()).unwrap_or(0));
    }

    /// Shows what accounts of the configuration can still spend, at most [`ACCOUNTS_MAX`] of them.
    pub fn set_balances(&self, balances: &[(Arc<str>, Money)]) {
        let shown: Vec<Arc<str>> = balances.iter().map(|(account, _)| Arc::clone(account)).collect();
        forget(&self.balance, "account", &shown);
        for (account, balance) in balances.iter().take(ACCOUNTS_MAX) {
            self.balance.with_label_values(&[account]).set(balance.nanos());
        }
    }

    /// Shows what limits in shadow mode would have refused, over all things of a scope.
    pub fn set_would_refuse(&self, scope: Scope, dimension: &str, count: u64) {
        follow(&self.would_refuse.with_label_values(&[scope.as_str(), dimension]), count.into());
    }
}

fn excess_counters(new: &Catalogue) -> Result<IntCounterVec, Error> {
    let excess = new.counters(
        "tidegate_usage_excess_total",
        "Answers whose upstream reported more tokens than the call can have used, by side; charged as counted.",
        &["side"],
    )?;
    // There from the start, so that the first one is an increase.
    for side in ["input", "output"] {
        excess.with_label_values(&[side]);
    }
    Ok(excess)
}

/// Brings a counter up to a sum that is kept elsewhere.
fn follow(counter: &IntCounter, sum: u128) {
    let sum = u64::try_from(sum).unwrap_or(u64::MAX);
    counter.inc_by(sum.saturating_sub(counter.get()));
}
