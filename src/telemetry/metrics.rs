//! The metric catalogue (spec 13.2) on a registry of its own.
//!
//! Every label value is a configured name, a word of a closed list in the code, or `other`, so that the number of series
//! is bounded by [`series_max`](super::series::series_max) whatever clients send. What is touched on every request of a model or channel is
//! resolved once per configuration generation, in [`Labels`].

use super::connections::ConnectionMetrics;
use super::gen_ai::GenAi;
use super::health::HealthMetrics;
use super::money::MoneyMetrics;
use super::process::ProcessMetrics;
use super::record::Record;
use crate::core::id::{ChannelId, ModelId};
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Counter, Encoder, Error, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The label of everything that is not configured.
pub(super) const OTHER: &str = "other";

/// The label of what models counted that are not configured any more.
pub(super) const REMOVED: &str = "removed";

/// Seconds that a stream is held back.
pub(super) const GATE_BUCKETS: [f64; 10] = [0.000_1, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
/// Seconds of the gateway's own work.
pub const OVERHEAD_BUCKETS: [f64; 11] =
    [0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0];

/// All metrics of one process.
pub struct Metrics {
    registry: Registry,
    pub(super) requests: IntCounterVec,
    pub(super) attempts: IntCounterVec,
    health: HealthMetrics,
    money: MoneyMetrics,
    process: ProcessMetrics,
    rewrites: IntCounterVec,
    rejections: IntCounterVec,
    in_flight: IntGaugeVec,
    channel_in_flight: IntGaugeVec,
    pub(super) tokens: IntCounterVec,
    gen_ai: GenAi,
    pub(super) overhead: Histogram,
    commit_gate: Histogram,
    stream_end: IntCounterVec,
    client_retries: IntCounter,
    late_errors: IntCounter,
    panics: IntCounter,
    connections: IntGauge,
    client_connections: ConnectionMetrics,
    log_dropped: IntCounter,
    generation: IntGauge,
    last_reload_successful: IntGauge,
    /// A scrape and a reload must not both move what one model counted.
    forgetting: Mutex<()>,
}

/// Registers families one after another.
pub(super) struct Catalogue(Registry);

impl Catalogue {
    /// Nothing yet but which version this is.
    fn new() -> Result<Self, Error> {
        let new = Self(Registry::new());
        let build = new.gauges("tidegate_build_info", "Always 1; the version is a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(new)
    }

    fn add<C: Collector + Clone + 'static>(&self, collector: Result<C, Error>) -> Result<C, Error> {
        let collector = collector?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.add(IntCounter::new(name, help))
    }

    pub(super) fn counter_of_seconds(&self, name: &str, help: &str) -> Result<Counter, Error> {
        self.add(Counter::new(name, help))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::new(name, help))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, Error> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }

    pub(super) fn ratios(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }
}

impl Metrics {
    /// The catalogue with nothing counted yet.
    ///
    /// # Errors
    ///
    /// A family is wrong or there twice; a test would have told.
    pub fn new() -> Result<Arc<Self>, Error> {
        let new = Catalogue::new()?;
        Ok(Arc::new(Self {
            requests: new.counters(
                "tidegate_requests_total",
                "Requests received and finished, refused ones too; status 0: the client left before one was sent.",
                &["route", "model", "status", "code"],
            )?,
            health: HealthMetrics::new(&new)?,
            money: MoneyMetrics::new(&new)?,
            process: ProcessMetrics::new(&new)?,
            client_connections: ConnectionMetrics::new(&new)?,
            attempts: new.counters(
                "tidegate_attempts_total",
                "Attempts at upstream channels by what came of them.",
                &["channel", "outcome"],
            )?,
            rewrites: new.counters(
                "tidegate_rewrites_total",
                "Upstream failures that became the client's answer, by class and public status.",
                &["class", "status"],
            )?,
            rejections: new.counters(
                "tidegate_rejections_total",
                "Requests refused by the gateway's own checks.",
                &["stage", "reason"],
            )?,
            in_flight: new.gauges("tidegate_in_flight", "Admitted requests that are not finished.", &["model"])?,
            channel_in_flight: new.gauges(
                "tidegate_channel_in_flight",
                "Attempts and streams under way at a channel.",
                &["channel"],
            )?,
            tokens: new.counters(
                "tidegate_tokens_total",
                "Tokens of answered requests; cached is a part of input, reasoning of output.",
                &["model", "channel", "type"],
            )?,
            gen_ai: GenAi::new(&new)?,
            overhead: new.histogram(
                "tidegate_overhead_seconds",
                "The gateway's own time before the first attempt, without waiting for the client's body.",
                &OVERHEAD_BUCKETS,
            )?,
            commit_gate: new.histogram(
                "tidegate_commit_gate_seconds",
                "How long the first event of a stream was held back until there was content.",
                &GATE_BUCKETS,
            )?,
            stream_end: new.counters("tidegate_stream_end_total", "Streams by how they ended.", &["reason"])?,
            client_retries: new.counter("tidegate_client_retries_total", "Retries, as the client's SDK says.")?,
            late_errors: new.counter(
                "tidegate_late_stream_errors_total",
                "Error events that came after everything was finished, and were dropped.",
            )?,
            panics: new.counter("tidegate_panics_total", "Defects that were caught; each is a 500 for one request.")?,
            connections: new.gauge("tidegate_connections", "Requests under way on the public listener.")?,
            log_dropped: new
                .counter("tidegate_access_log_dropped_total", "Access log lines dropped because the queue was full.")?,
            generation: new.gauge("tidegate_config_generation", "Generation of the configuration in force.")?,
            last_reload_successful: new
                .gauge("tidegate_config_last_reload_successful", "Whether the last load of a configuration worked.")?,
            registry: new.0,
            forgetting: Mutex::default(),
        }))
    }

    /// The children of configured models and channels, resolved once.
    #[must_use]
    pub fn labels(&self, models: &[Arc<str>], channels: &[Arc<str>]) -> Arc<Labels> {
        let in_flight = |model: &Arc<str>| self.in_flight.with_label_values(&[&**model]);
        let channel_in_flight = |channel: &Arc<str>| self.channel_in_flight.with_label_values(&[&**channel]);
        Arc::new(Labels {
            in_flight: models.iter().map(in_flight).collect(),
            channel_in_flight: channels.iter().map(channel_in_flight).collect(),
            models: models.into(),
            channels: channels.into(),
        })
    }

    /// Takes the series of models and channels away that are not configured any more (spec 13.2).
    pub fn forget_all_but(&self, labels: &Labels) {
        let _one = self.forgetting.lock().unwrap_or_else(PoisonError::into_inner);
        let channels: &[Arc<str>] = &labels.channels;
        let models: &[Arc<str>] = &labels.models;
        forget(&self.attempts, "channel", channels);
        forget(&self.channel_in_flight, "channel", channels);
        forget(&self.tokens, "channel", channels);
        forget(&self.tokens, "model", models);
        // The sum over all stays the number of requests that there were, under a label that rates can leave out.
        forget_and(&self.requests, "model", models, |labels, counter| {
            let mut labels = labels.clone();
            labels.insert("model", REMOVED);
            self.requests.with(&labels).inc_by(counter.get());
        });
        forget(&self.in_flight, "model", models);
        self.health.forget_all_but(channels);
        self.money.forget_all_but(models);
        self.gen_ai.forget_all_but(models);
    }

    /// The metrics of health and failover.
    #[must_use]
    pub fn health(&self) -> &HealthMetrics {
        &self.health
    }

    /// The metrics of client connections and of load shedding.
    #[must_use]
    pub fn client_connections(&self) -> &ConnectionMetrics {
        &self.client_connections
    }

    /// The metrics of limits, money and its store.
    #[must_use]
    pub fn money(&self) -> &MoneyMetrics {
        &self.money
    }

    /// The metrics of this process.
    #[must_use]
    pub fn process(&self) -> &ProcessMetrics {
        &self.process
    }

    /// Says that a configuration generation is in force.
    pub fn set_generation(&self, generation: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.last_reload_successful.set(1);
    }

    /// Says that the last load of a configuration did not work.
    pub fn reload_failed(&self) {
        self.last_reload_successful.set(0);
    }

    /// Counts access log lines that were dropped.
    #[must_use]
    pub fn log_dropped(&self) -> IntCounter {
        self.log_dropped.clone()
    }

    /// Counts caught defects.
    #[must_use]
    pub fn panics(&self) -> &IntCounter {
        &self.panics
    }

    /// Counts error events after the end of a stream (spec 2.6).
    #[must_use]
    pub fn late_errors(&self) -> &IntCounter {
        &self.late_errors
    }

    /// Counts a request under way until the guard is dropped.
    pub fn begin_request(&self) -> InFlight {
        InFlight::begin(&self.connections)
    }

    /// Requests under way on the public listener.
    #[must_use]
    pub fn requests_under_way(&self) -> i64 {
        self.connections.get()
    }

    /// Counts one finished request.
    pub fn observe(&self, record: &Record, labels: &Labels) {
        let model = record.model.map_or(OTHER, |model| labels.model(model));
        let status = StatusText::of(record.status);
        let code = record.code.unwrap_or(if record.status == 0 { "none" } else { "ok" });
        self.requests.with_label_values(&[record.route, model, status.as_str(), code]).inc();
        for attempt in &record.attempts {
            let channel = labels.channel(attempt.channel);
            self.attempts.with_label_values(&[channel, attempt.outcome.as_str()]).inc();
        }
        if let Some(class) = record.rewritten {
            self.rewrites.with_label_values(&[class.as_str(), status.as_str()]).inc();
        }
        if let Some((stage, reason)) = record.refusal {
            self.rejections.with_label_values(&[stage, reason]).inc();
        }
        if record.client_retry > 0 {
            self.client_retries.inc();
        }
        if record.model.is_some() {
            self.observe_call(record, labels, model);
        }
    }

    /// What only calls of configured models have.
    fn observe_call(&self, record: &Record, labels: &Labels, model: &str) {
        self.gen_ai.observe(record, model);
        let Some(last) = record.attempts.last() else { return };
        self.overhead.observe(record.overhead.as_secs_f64());
        if record.members_dropped > 0 {
            self.health.members_dropped(labels.channel(last.channel), record.members_dropped);
        }
        if let Some(held) = record.commit_gate {
            self.commit_gate.observe(held.as_secs_f64());
        }
        if record.stream && record.status == 200 {
            self.stream_end.with_label_values(&[record.end.as_str()]).inc();
        }
        let Some((usage, source)) = record.usage else { return };
        if record.flawed_usage {
            self.money.flawed();
        }
        if let Some((excess, ..)) = record.excess {
            self.money.excess(excess);
        }
        if record.cost.is_some() {
            self.money.settled(source, record.uncollected);
        }
        if let Some(cost) = record.cost {
            self.money.charged(model, cost);
        }
        let channel = labels.channel(last.channel);
        for (kind, count) in [
            ("input", usage.input),
            ("output", usage.output),
            ("cached", usage.cached),
            ("reasoning", usage.reasoning),
        ] {
            if count > 0 {
                self.tokens.with_label_values(&[model, channel, kind]).inc_by(count);
            }
        }
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        self.process.refresh();
        let mut out = Vec::with_capacity(32 * 1024);
        // Writing to memory cannot fail; a family that cannot be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        out
    }
}

/// What a counter has counted, which is whole numbers.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, up to 2^53")]
pub(super) fn counted(metric: &prometheus::proto::Metric) -> u64 {
    metric.get_counter().get_value() as u64
}

/// Takes the series away whose label names nothing that is configured.
pub(super) fn forget<T: MetricVecBuilder>(family: &MetricVec<T>, label: &str, configured: &[Arc<str>]) {
    forget_and(family, label, configured, |_, _| {});
}

/// The same, and calls `then` with the labels of each and the child that was there, which counts no further.
fn forget_and<T: MetricVecBuilder>(
    family: &MetricVec<T>,
    label: &str,
    configured: &[Arc<str>],
    then: impl Fn(&HashMap<&str, &str>, T::M),
) {
    for shown in family.collect() {
        for metric in shown.get_metric() {
            let pairs = metric.get_label().iter();
            let labels: HashMap<&str, &str> = pairs.map(|pair| (pair.name(), pair.value())).collect();
            let known = labels.get(label).is_none_or(|name| {
                [OTHER, REMOVED].contains(name) || configured.iter().any(|configured| **configured == **name)
            });
            if !known {
                // Taken first and read last: a request that ends at this moment is counted, too.
                let Ok(child) = family.get_metric_with(&labels) else { continue };
                if family.remove(&labels).is_ok() {
                    then(&labels, child);
                }
            }
        }
    }
}

/// Names and resolved children of one configuration generation.
pub struct Labels {
    models: Arc<[Arc<str>]>,
    channels: Arc<[Arc<str>]>,
    in_flight: Vec<IntGauge>,
    channel_in_flight: Vec<IntGauge>,
}

impl Labels {
    /// The name of a model.
    #[must_use]
    pub fn model(&self, model: ModelId) -> &str {
        self.models.get(model.index()).map_or(OTHER, |name| name)
    }

    /// The name of a channel.
    #[must_use]
    pub fn channel(&self, channel: ChannelId) -> &str {
        self.channels.get(channel.index()).map_or(OTHER, |name| name)
    }

    /// The names of the channels.
    pub(super) fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|channel| &**channel)
    }

    /// Counts an admitted request of a model until the guard is dropped.
    #[must_use]
    pub fn begin(&self, model: ModelId) -> Option<InFlight> {
        self.in_flight.get(model.index()).map(InFlight::begin)
    }

    /// Counts an attempt at a channel until the guard is dropped.
    #[must_use]
    pub fn begin_attempt(&self, channel: ChannelId) -> Option<InFlight> {
        self.channel_in_flight.get(channel.index()).map(InFlight::begin)
    }
}

/// One more on a gauge, until dropped.
#[must_use = "a guard that is dropped at once counts nothing"]
pub struct InFlight(IntGauge);

impl InFlight {
    fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A status as a label, without an allocation.
struct StatusText([u8; 3]);

impl StatusText {
    fn of(status: u16) -> Self {
        let digit = |n: u16| u8::try_from(n % 10).map_or(b'0', |digit| b'0' + digit);
        Self([digit(status / 100), digit(status / 10), digit(status)])
    }

    fn as_str(&self) -> &str {
        match std::str::from_utf8(&self.0) {
            Ok("000") | Err(_) => "0",
            Ok(text) => text,
        }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
