//! The counters as [`History`](super::history::History) wants them.

use super::history::Reading;
use super::metrics::{Metrics, OTHER, counted};
use super::record::Outcome;
use crate::core::failure::Class;
use prometheus::core::{Collector, Metric as _};
use prometheus::proto::Metric;
use std::collections::HashMap;

/// The outcome of attempts that succeeded.
const SUCCESS: &str = Outcome::Success.as_str();

impl Metrics {
    /// What has been counted so far. Reads the same families as `/metrics`, and holds up nobody who counts.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let mut reading = Reading {
            in_flight: u64::try_from(self.requests_under_way()).unwrap_or(0),
            overhead: self.overhead_buckets(),
            ..Reading::default()
        };
        each(&self.requests, |metric, count| {
            reading.requests += count;
            reading.errors += if is_error(metric) { count } else { 0 };
            if let Some(model) = label(metric, "model").filter(|model| *model != OTHER) {
                *entry(&mut reading.models, model) += count;
            }
        });
        each(&self.attempts, |metric, count| {
            let (Some(channel), Some(outcome)) = (label(metric, "channel"), label(metric, "outcome")) else {
                return;
            };
            let attempts = entry(&mut reading.channels, channel);
            match outcome {
                SUCCESS => attempts.successes += count,
                _ if blames_the_channel(outcome) => attempts.failures += count,
                _ => {}
            }
        });
        each(&self.tokens, |metric, count| {
            if let (Some("output"), Some(channel), Some(model)) =
                (label(metric, "type"), label(metric, "channel"), label(metric, "model"))
            {
                *reading.tokens.entry((channel.to_owned(), model.to_owned())).or_default() += count;
            }
        });
        reading
    }

    /// Requests finished, and those of them that were answered with a status from 500 on.
    #[must_use]
    pub fn finished(&self) -> (u64, u64) {
        let (mut requests, mut errors) = (0, 0);
        each(&self.requests, |metric, count| {
            requests += count;
            errors += if is_error(metric) { count } else { 0 };
        });
        (requests, errors)
    }

    /// Calls by the bucket of their overhead, none of them in two.
    fn overhead_buckets(&self) -> Vec<u64> {
        let metric = self.overhead.metric();
        let histogram = metric.get_histogram();
        let sums = histogram.get_bucket().iter().map(prometheus::proto::Bucket::cumulative_count);
        let mut below = 0;
        let counts = sums.chain([histogram.get_sample_count()]);
        counts.map(|sum| sum.saturating_sub(std::mem::replace(&mut below, sum))).collect()
    }
}

/// Whether a failure of this class says something about the channel.
fn blames_the_channel(outcome: &str) -> bool {
    Class::ALL.iter().any(|class| class.as_str() == outcome && !class.is_the_requests())
}

fn each(family: &impl Collector, mut then: impl FnMut(&Metric, u64)) {
    for shown in family.collect() {
        shown.get_metric().iter().for_each(|metric| then(metric, counted(metric)));
    }
}

fn is_error(metric: &Metric) -> bool {
    // Three digits, unless none was sent.
    label(metric, "status").is_some_and(|status| status.len() == 3 && status >= "500")
}

fn label<'a>(metric: &'a Metric, name: &str) -> Option<&'a str> {
    metric.get_label().iter().find(|pair| pair.name() == name).map(|pair| pair.value())
}

fn entry<'a, T: Default>(counts: &'a mut HashMap<String, T>, name: &str) -> &'a mut T {
    counts.entry(name.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{ChannelId, ModelId};
    use crate::telemetry::history::Attempts;
    use crate::telemetry::record::{Attempt, Record};
    use std::sync::Arc;
    use std::time::Duration;

    /// Goal: what requests did is read back by channel and model; mistakes of callers are no failures of a channel.
    #[test]
    fn counters_are_read() {
        let metrics = Metrics::new().unwrap();
        let labels = metrics.labels(&[Arc::from("m")], &[Arc::from("c")]);
        let attempt = |outcome: Outcome| Attempt {
            channel: ChannelId::new(0),
            upstream_status: Some(200),
            outcome,
            elapsed: Duration::ZERO,
            words: String::new(),
        };
        let failed = |class| Outcome::Failed(class, "rule".into());
        for (status, outcome) in [
            (200, Outcome::Success),
            (502, failed(Class::Overloaded)),
            (400, failed(Class::CallerMistake)),
            (0, Outcome::Abandoned),
        ] {
            let mut record = Record::begun(0, "r".into(), 1);
            (record.status, record.route, record.model) = (status, "chat", Some(ModelId::new(0)));
            record.overhead = Duration::from_micros(150);
            record.attempts = vec![attempt(outcome)];
            metrics.observe(&record, &labels);
        }
        let reading = metrics.reading();
        assert_eq!((reading.requests, reading.errors, reading.models["m"]), (4, 1, 4));
        assert_eq!(reading.channels["c"], Attempts { successes: 1, failures: 1 });
        assert_eq!((reading.overhead[2], reading.overhead.iter().sum::<u64>()), (4, 4));
    }
}
