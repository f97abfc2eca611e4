//! The last failures behind the gateway, for `/failures` and `tidegate why <request id>` (spec 2.12, 13.1).
//!
//! A bounded ring in memory: what went wrong with which channel, in the upstream's words as far as they may be kept, and
//! what the client was told. A request is in it when an attempt failed, when its answer broke, or when the gateway
//! itself failed; refusals of the gateway's own checks are not, so that nobody can flush the ring from outside. Of each
//! channel the last failure is kept besides, however many others fail after it.

use super::access_log;
use super::metrics::Labels;
use super::record::{Attempt, End, Outcome, Record};
use crate::core::failure::Class;
use crate::core::id::ChannelId;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Requests that are remembered.
pub const CAPACITY: usize = 512;

/// The ring; taking a note locks it for as long as a push takes, and only failed requests do.
#[derive(Default)]
pub struct Failures(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    ring: VecDeque<Arc<Note>>,
    channels: HashMap<String, Arc<LastFailure>>,
}

struct Note {
    record: Record,
    labels: Arc<Labels>,
}

/// The last failure of a channel that says something about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastFailure {
    /// When the request ended, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Its class.
    pub class: &'static str,
    /// The rule that decided it.
    pub rule: Cow<'static, str>,
    /// The upstream's status, if there was an answer.
    pub status: Option<u16>,
}

/// What the status page shows of a failed request.
#[derive(Debug, Serialize)]
pub struct FailureView {
    /// When it began.
    pub time: String,
    /// Its id.
    pub request_id: Arc<str>,
    /// The model, if it is configured.
    pub model: Option<String>,
    /// The name of the key.
    pub key: Option<Arc<str>>,
    /// The status that the client was sent.
    pub status: u16,
    /// The code that the client read.
    pub code: Option<&'static str>,
    /// How it ended.
    pub end: &'static str,
    /// What was tried.
    pub attempts: Vec<AttemptView>,
    /// What could not be tried when nothing was left, and why: the cause where there was no attempt at all.
    pub excluded: Vec<ExcludedView>,
    /// The gateway's own reason, where it is at fault itself: that it is full, or that its store fails.
    pub refusal: Option<&'static str>,
}

/// What the status page shows of a channel that could not be tried.
#[derive(Debug, Serialize)]
pub struct ExcludedView {
    /// The channel.
    pub channel: String,
    /// Its state, or what the request asked that it does not have.
    pub reason: &'static str,
}

/// What the status page shows of an attempt.
#[derive(Debug, Serialize)]
pub struct AttemptView {
    /// The channel.
    pub channel: String,
    /// The upstream's status, if there was an answer.
    pub status: Option<u16>,
    /// What came of it.
    pub outcome: &'static str,
    /// The rule that decided so.
    pub rule: Option<Cow<'static, str>>,
    /// The upstream's words, as far as they may be kept.
    pub words: String,
}

impl Failures {
    /// Remembers a finished request if something behind the gateway failed.
    pub fn note(&self, record: &Record, labels: &Arc<Labels>) {
        if !is_failure(record) {
            return;
        }
        let note = Arc::new(Note { record: record.clone(), labels: Arc::clone(labels) });
        let mut kept = self.lock();
        for (attempt, failure) in blamed(record) {
            kept.channels.insert(labels.channel(attempt.channel).to_owned(), Arc::new(failure));
        }
        if kept.ring.len() == CAPACITY {
            kept.ring.pop_front();
        }
        kept.ring.push_back(note);
    }

    /// The last failure of each channel that had one.
    #[must_use]
    pub fn of_channels(&self) -> HashMap<String, Arc<LastFailure>> {
        self.lock().channels.clone()
    }

    /// Forgets the last failures of channels that are not configured any more.
    pub fn forget_all_but(&self, labels: &Labels) {
        let known: HashSet<&str> = labels.channels().collect();
        self.lock().channels.retain(|channel, _| known.contains(&**channel));
    }

    /// The last `limit` failed requests, newest first.
    #[must_use]
    pub fn last(&self, limit: usize) -> Vec<FailureView> {
        // The lock is not held while text is made.
        let notes: Vec<_> = self.lock().ring.iter().rev().take(limit).cloned().collect();
        notes.iter().map(|note| view(note)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last `limit` of them, newest first, or those of one request, as lines of JSON like those of the access log.
    #[must_use]
    pub fn render_lines(&self, request_id: Option<&str>, limit: usize) -> String {
        let mut lines = self.lines(request_id, limit);
        lines.iter_mut().for_each(|line| line.push('\n'));
        lines.concat()
    }

    /// The same as one JSON object.
    #[must_use]
    pub fn render(&self, request_id: Option<&str>, limit: usize) -> String {
        format!("{{\"failures\":[{}]}}\n", self.lines(request_id, limit).join(","))
    }

    fn lines(&self, request_id: Option<&str>, limit: usize) -> Vec<String> {
        // The lock is not held while JSON is made.
        let notes: Vec<_> = self.lock().ring.iter().cloned().collect();
        let wanted =
            notes.iter().rev().filter(|note| request_id.is_none_or(|id| *note.record.request_id == *id));
        wanted.take(limit).map(|note| access_log::render(&note.record, &note.labels)).collect()
    }
}

fn is_failure(record: &Record) -> bool {
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(..));
    record.attempts.iter().any(|attempt| failed(&attempt.outcome))
        || record.end == End::BrokenMidStream
        || (record.status >= 500 && !is_the_callers(record))
}

/// A name that is not configured is the caller's own, though it is answered 503 (spec 2.3).
fn is_the_callers(record: &Record) -> bool {
    record.refusal.is_some_and(|(stage, _)| stage == "model")
}

/// The attempts that say something bad about their channels.
fn blamed(record: &Record) -> impl Iterator<Item = (&Attempt, LastFailure)> {
    let took = u64::try_from(record.duration.as_millis()).unwrap_or(0);
    let at_ms = record.started_at.saturating_add(took);
    record.attempts.iter().filter_map(move |attempt| {
        let (class, rule) = match &attempt.outcome {
            Outcome::Failed(class, rule) if !class.is_the_requests() => (*class, rule.clone()),
            Outcome::Success if record.end == End::BrokenMidStream => {
                (Class::BrokenMidStream, Cow::Borrowed("mid-stream"))
            }
            _ => return None,
        };
        Some((attempt, LastFailure { at_ms, class: class.as_str(), rule, status: attempt.upstream_status }))
    })
}

fn view(Note { record, labels }: &Note) -> FailureView {
    let begun = std::time::UNIX_EPOCH + Duration::from_millis(record.started_at);
    let attempt = |attempt: &Attempt| AttemptView {
        channel: labels.channel(attempt.channel).to_owned(),
        status: attempt.upstream_status,
        outcome: attempt.outcome.as_str(),
        rule: match &attempt.outcome {
            Outcome::Failed(_, rule) => Some(rule.clone()),
            Outcome::Success | Outcome::Abandoned => None,
        },
        words: attempt.words.clone(),
    };
    let excluded = |(channel, reason): &(ChannelId, &'static str)| ExcludedView {
        channel: labels.channel(*channel).to_owned(),
        reason,
    };
    FailureView {
        time: humantime::format_rfc3339_seconds(begun).to_string(),
        request_id: Arc::clone(&record.request_id),
        model: record.model.map(|model| labels.model(model).to_owned()),
        key: record.key.clone(),
        status: record.status,
        code: record.code,
        end: record.end.as_str(),
        attempts: record.attempts.iter().map(attempt).collect(),
        excluded: record.excluded.iter().map(excluded).collect(),
        refusal: record.refusal.map(|(_, reason)| reason),
    }
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
        let refused = Some(("model", "unknown_model"));
        failures.note(&Record { refusal: refused, ..record("made up by a client", 503) }, &labels);
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

    /// Goal: the last failure of a channel outlives the ring, is never a caller's mistake, and goes with the channel.
    #[test]
    fn channels_are_remembered() {
        let metrics = Metrics::new().unwrap();
        let labels = metrics.labels(&[], &["good".into(), "bad".into()]);
        let failures = Failures::default();
        let attempt = |channel, outcome| Attempt {
            channel: ChannelId::new(channel),
            upstream_status: Some(503),
            outcome,
            elapsed: Duration::ZERO,
            words: "<busy>".into(),
        };
        let failed = |class| Outcome::Failed(class, "code: busy".into());
        let mut first = record("a", 502);
        first.attempts =
            vec![attempt(1, failed(Class::Overloaded)), attempt(0, failed(Class::CallerMistake))];
        first.excluded = vec![(ChannelId::new(1), "cooling")];
        failures.note(&first, &labels);
        let shown = &failures.last(9)[0];
        assert_eq!(shown.attempts[0].words, "<busy>");
        assert_eq!((&*shown.excluded[0].channel, shown.excluded[0].reason), ("bad", "cooling"));
        let mut cut = Record { end: End::BrokenMidStream, started_at: 5, ..record("b", 200) };
        cut.attempts = vec![attempt(0, Outcome::Success)];
        failures.note(&cut, &labels);
        (0..CAPACITY).for_each(|_| failures.note(&record("c", 500), &labels));
        let known = failures.of_channels();
        assert_eq!((known["bad"].class, &*known["bad"].rule), ("overloaded", "code: busy"));
        assert_eq!((known["good"].class, known["good"].at_ms), ("broken_mid_stream", 5));
        failures.forget_all_but(&metrics.labels(&[], &["good".into()]));
        assert_eq!(failures.of_channels().len(), 1);
    }
}
