//! The metrics of client connections and of load shedding (spec 13.2, 15.1).

use super::metrics::Catalogue;
use crate::core::overload::{Level, Load};
use prometheus::{Error, GaugeVec, IntCounterVec, IntGauge};

/// Connections that the gateway closed, the load of the process, and its consequence.
pub struct ConnectionMetrics {
    refused: IntCounterVec,
    closed: IntCounterVec,
    level: IntGauge,
    used: GaugeVec,
    delay: GaugeVec,
}

/// Reasons of refused connections: of the public listener seven, of the admin listener two.
const REFUSALS: usize = 9;
/// Reasons of closed connections.
const CLOSURES: usize = 3;
/// Series of all of it.
pub(super) const SERIES: usize = REFUSALS + CLOSURES + 4;

impl ConnectionMetrics {
    pub(super) fn new(new: &Catalogue) -> Result<Self, Error> {
        Ok(Self {
            refused: new.counters(
                "tidegate_connections_refused_total",
                "Connections closed before their first request, by reason.",
                &["reason"],
            )?,
            closed: new.counters(
                "tidegate_connections_closed_total",
                "Client connections that the gateway closed between two requests, by reason.",
                &["reason"],
            )?,
            level: new.gauge(
                "tidegate_overload_level",
                "Load shedding in force: 0 none, 1 closes idle connections, 2 refuses connections, 3 refuses requests.",
            )?,
            used: new.ratios(
                "tidegate_resource_used_ratio",
                "Memory and file descriptors in use, as a share of the limit of the process.",
                &["resource"],
            )?,
            delay: new.ratios(
                "tidegate_runtime_delay_seconds",
                "Delay of tasks that are ready to run, the longest of the last quarter second.",
                &[],
            )?,
        })
    }

    /// Counts a connection closed before its first request.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Counts a connection that the gateway closed between two requests.
    pub fn closed(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    /// Shows the load and the level of shedding.
    pub fn note_load(&self, level: Level, load: &Load) {
        self.level.set(i64::from(level as u8));
        self.used.with_label_values(&["memory"]).set(f64::from(load.memory) / 100.0);
        self.used.with_label_values(&["descriptors"]).set(f64::from(load.descriptors) / 100.0);
        self.delay.with_label_values::<&str>(&[]).set(load.delay.as_secs_f64());
    }
}
