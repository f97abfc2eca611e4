//! The families and labels of OpenTelemetry's conventions for generative AI, apart from the gateway's own (spec 13.2).

use super::metrics::{Catalogue, forget};
use super::record::{End, Record};
use prometheus::{Error, HistogramVec};
use std::sync::Arc;
use std::time::Duration;

/// Seconds; the buckets that the conventions advise for whole requests.
const REQUEST_BUCKETS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Seconds; the same for the time to the first token.
const FIRST_TOKEN_BUCKETS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Seconds; the same for the time between tokens.
const PER_TOKEN_BUCKETS: [f64; 11] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75];
/// Tokens; the same for token counts.
const TOKEN_BUCKETS: [f64; 11] =
    [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0];

/// The most series of one operation and model; a histogram is its buckets and three more.
pub(super) const SERIES: usize = REQUEST_BUCKETS.len()
    + FIRST_TOKEN_BUCKETS.len()
    + PER_TOKEN_BUCKETS.len()
    + 2 * TOKEN_BUCKETS.len()
    + 5 * 3;

/// The four families.
pub(super) struct GenAi {
    duration: HistogramVec,
    first_token: HistogramVec,
    per_token: HistogramVec,
    token_usage: HistogramVec,
}

impl GenAi {
    pub(super) fn forget_all_but(&self, models: &[Arc<str>]) {
        for family in [&self.duration, &self.first_token, &self.per_token, &self.token_usage] {
            forget(family, "gen_ai_request_model", models);
        }
    }

    /// Registers the families.
    ///
    /// # Errors
    ///
    /// A family is wrong or there twice.
    pub(super) fn new(catalogue: &Catalogue) -> Result<Self, Error> {
        let labels = ["gen_ai_operation_name", "gen_ai_request_model"];
        Ok(Self {
            duration: catalogue.histograms(
                "gen_ai_server_request_duration_seconds",
                "From a request's arrival to the last byte of its answer.",
                &REQUEST_BUCKETS,
                &labels,
            )?,
            first_token: catalogue.histograms(
                "gen_ai_server_time_to_first_token_seconds",
                "From a stream request's arrival to the first content sent.",
                &FIRST_TOKEN_BUCKETS,
                &labels,
            )?,
            per_token: catalogue.histograms(
                "gen_ai_server_time_per_output_token_seconds",
                "Time between output tokens of a stream after the first.",
                &PER_TOKEN_BUCKETS,
                &labels,
            )?,
            token_usage: catalogue.histograms(
                "gen_ai_client_token_usage",
                "Tokens of one request.",
                &TOKEN_BUCKETS,
                &["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_token_type"],
            )?,
        })
    }

    /// Counts one finished call of a configured model.
    pub(super) fn observe(&self, record: &Record, model: &str) {
        let operation = operation(record.route);
        let labels = [operation, model];
        self.duration.with_label_values(&labels).observe(record.duration.as_secs_f64());
        if let Some(first) = record.time_to_first_token {
            self.first_token.with_label_values(&labels).observe(first.as_secs_f64());
        }
        let Some((usage, _)) = record.usage else { return };
        #[allow(
            clippy::cast_precision_loss,
            reason = "histograms count in f64; token counts are far below 2^53"
        )]
        for (kind, count) in [("input", usage.input as f64), ("output", usage.output as f64)] {
            self.token_usage.with_label_values(&[operation, model, kind]).observe(count);
        }
        if let Some(pace) = pace(record, usage.output) {
            self.per_token.with_label_values(&labels).observe(pace.as_secs_f64());
        }
    }
}

/// The operation of a route: the word that the conventions prescribe where they have one, else the gateway's.
fn operation(route: &'static str) -> &'static str {
    match route {
        "completions" => "text_completion",
        other => other,
    }
}

/// Time between output tokens after the first; streams that completed only.
fn pace(record: &Record, output: u64) -> Option<Duration> {
    let first = record.time_to_first_token.filter(|_| record.end == End::Complete)?;
    let rest = u32::try_from(output.checked_sub(1)?).ok().filter(|rest| *rest > 0)?;
    Some(record.duration.saturating_sub(first) / rest)
}
