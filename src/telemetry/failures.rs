//! The last failures behind the gateway, for `/failures` and `tidegate why <request id>` (spec 2.12, 13.1).
//!
//! A bounded ring in memory: what went wrong with which channel, in the upstream's words as far as they may be kept, and
//! what the client was told. A request is in it when an attempt failed, when its answer broke, or when the gateway
//! itself failed; refusals of the gateway's own checks are not, so that nobody can flush the ring from outside.

use super::access_log;
use super::metrics::Labels;
use super::record::{End, Outcome, Record};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Requests that are remembered.
pub const CAPACITY: usize = 512;

/// The ring; taking a note locks it for as long as a push takes, and only failed requests do.
#[derive(Default)]
pub struct Failures(Mutex<VecDeque<Arc<Note>>>);

struct Note {
    record: Record,
    labels: Arc<Labels>,
}

impl Failures {
    /// Remembers a finished request if something behind the gateway failed.
    pub fn note(&self, record: &Record, labels: &Arc<Labels>) {
        if !is_failure(record) {
            return;
        }
        let note = Arc::new(Note { record: record.clone(), labels: Arc::clone(labels) });
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == CAPACITY {
            ring.pop_front();
        }
        ring.push_back(note);
    }

    /// The last `limit` of them, newest first, or those of one request, as the JSON of `/failures`.
    #[must_use]
    pub fn render(&self, request_id: Option<&str>, limit: usize) -> String {
        // The lock is not held while JSON is made.
        let notes: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let wanted =
            notes.iter().rev().filter(|note| request_id.is_none_or(|id| *note.record.request_id == *id));
        let lines: Vec<_> =
            wanted.take(limit).map(|note| access_log::render(&note.record, &note.labels)).collect();
        format!("{{\"failures\":[{}]}}\n", lines.join(","))
    }
}

fn is_failure(record: &Record) -> bool {
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(..));
    record.attempts.iter().any(|attempt| failed(&attempt.outcome))
        || record.end == End::BrokenMidStream
        || record.status >= 500
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn record(id: &str, status: u16) -> Record {
        Record { status, ..Record::begun(0, id.into(), 1) }
    }

    /// Goal: failures are there, newest first and by id; refusals are not; the oldest make room.
    #[test]
    fn the_last_are_remembered() {
        let labels = Metrics::new().unwrap().labels(&[], &[]);
        let failures = Failures::default();
        for (id, status) in [("a", 502), ("b", 401), ("c", 500)] {
            failures.note(&record(id, status), &labels);
        }
        let shown: serde_json::Value = serde_json::from_str(&failures.render(None, 10)).unwrap();
        let ids: Vec<_> =
            shown["failures"].as_array().unwrap().iter().map(|f| f["request_id"].clone()).collect();
        assert_eq!(ids, ["c", "a"]);
        assert!(
            failures.render(Some("a"), 10).contains("\"a\"")
                && !failures.render(Some("b"), 10).contains("\"b\"")
        );
        for _ in 0..CAPACITY {
            failures.note(&record("new", 502), &labels);
        }
        assert!(!failures.render(None, CAPACITY).contains("\"c\""));
    }
}
