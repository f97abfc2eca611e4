//! The access log: one JSON object per request (spec 13.3), written by a thread of its own behind a bounded queue.
//!
//! A request never waits for the log: when the queue is full the line is dropped and counted. The log holds no body, no
//! credential and no prompt; the key is named by its id.

use super::metrics::Labels;
use super::record::{Attempt, Outcome, Record};
use crate::core::id::ChannelId;
use prometheus::IntCounter;
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that may wait to be written.
pub const QUEUE_MAX: usize = 8_192;

/// The sending end of the log; cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    queue: SyncSender<Entry>,
    dropped: IntCounter,
}

/// How long the writer rests between two batches.
const REST: Duration = Duration::from_millis(5);

enum Entry {
    Line(Box<Record>, Arc<Labels>),
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// A log that writes to `out`; `dropped` counts the lines that found the queue full or the thread gone.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub fn start(out: Box<dyn Write + Send>, dropped: IntCounter) -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&entries, out))?;
        Ok(Self { queue, dropped })
    }

    /// Hands one finished request to the log.
    pub fn write(&self, record: Record, labels: Arc<Labels>) {
        if self.queue.try_send(Entry::Line(Box::new(record), labels)).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits until everything handed over so far is written, at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }
}

/// Writes until the last sender is gone. After each batch it rests for a moment, so that under load a request's line costs
/// neither a wake-up of this thread nor a write of its own.
fn write_all(entries: &Receiver<Entry>, out: Box<dyn Write + Send>) {
    let mut out = io::BufWriter::with_capacity(64 * 1024, out);
    while let Ok(first) = entries.recv() {
        write_entry(first, &mut out);
        entries.try_iter().for_each(|entry| write_entry(entry, &mut out));
        let _ = out.flush();
        std::thread::sleep(REST);
    }
}

fn write_entry(entry: Entry, out: &mut impl Write) {
    match entry {
        Entry::Line(record, labels) => {
            let mut line = render(&record, &labels);
            line.push('\n');
            // A log that cannot be written must not stop the gateway; the reader of a closed pipe is gone for good.
            let _ = out.write_all(line.as_bytes());
        }
        Entry::Flush(done) => {
            let _ = out.flush();
            let _ = done.send(());
        }
    }
}

/// As long as most lines are, in bytes.
const LINE_USUAL: usize = 1_024;

/// One line, without its end.
#[must_use]
pub fn render(record: &Record, labels: &Labels) -> String {
    let line = Line {
        time: humantime::format_rfc3339_millis(
            std::time::UNIX_EPOCH + Duration::from_millis(record.started_at),
        )
        .to_string(),
        request_id: &record.request_id,
        key: record.key.as_deref(),
        route: record.route,
        model: record.model.map(|model| labels.model(model)),
        channel: record.attempts.last().map(|attempt| labels.channel(attempt.channel)),
        attempts: record.attempts.iter().map(|attempt| AttemptView::of(attempt, labels)).collect(),
        excluded: record.excluded.iter().map(|excluded| Excluded::of(*excluded, labels)).collect(),
        status: record.status,
        code: record.code,
        told: record.told.as_deref(),
        refusal: record.refusal.map(|(stage, reason)| Refused { stage, reason }),
        stream: record.stream,
        tokens: record.usage.map(|(usage, source)| Tokens {
            input: usage.input,
            output: usage.output,
            cached: usage.cached,
            cache_write: usage.cache_write,
            reasoning: usage.reasoning,
            source: source.as_str(),
            input_source: source.sides().0,
            output_source: source.sides().1,
            flawed: record.flawed_usage,
            excess: record.excess.map(|(_, input, output)| Reported { input, output }),
        }),
        cost_usd: record.cost.and_then(|cost| RawValue::from_string(cost.to_string()).ok()),
        time_to_first_token_ms: record.time_to_first_token.map(millis),
        duration_ms: millis(record.duration),
        overhead_ms: millis(record.overhead),
        commit_gate_ms: record.commit_gate.map(millis),
        bytes: record.bytes,
        client_retry: record.client_retry,
        end: record.end.as_str(),
        generation: record.generation,
    };
    let mut text = Vec::with_capacity(LINE_USUAL);
    // A line is made of numbers and strings, which serialise.
    let _ = serde_json::to_writer(&mut text, &line);
    String::from_utf8(text).unwrap_or_default()
}

/// Milliseconds with three decimals.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    key: Option<&'a str>,
    route: &'static str,
    model: Option<&'a str>,
    channel: Option<&'a str>,
    attempts: Vec<AttemptView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    excluded: Vec<Excluded<'a>>,
    status: u16,
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<&'a str>,
    refusal: Option<Refused>,
    stream: bool,
    tokens: Option<Tokens>,
    /// Exact, as a JSON number.
    cost_usd: Option<Box<RawValue>>,
    time_to_first_token_ms: Option<f64>,
    duration_ms: f64,
    overhead_ms: f64,
    commit_gate_ms: Option<f64>,
    bytes: u64,
    client_retry: u32,
    end: &'static str,
    generation: u64,
}

#[derive(Serialize)]
struct AttemptView<'a> {
    channel: &'a str,
    upstream_status: Option<u16>,
    outcome: &'static str,
    rule: Option<&'a str>,
    ms: f64,
    #[serde(skip_serializing_if = "str::is_empty")]
    words: &'a str,
}

impl<'a> AttemptView<'a> {
    fn of(attempt: &'a Attempt, labels: &'a Labels) -> Self {
        Self {
            channel: labels.channel(attempt.channel),
            upstream_status: attempt.upstream_status,
            outcome: attempt.outcome.as_str(),
            rule: match &attempt.outcome {
                Outcome::Failed(_, rule) => Some(rule),
                Outcome::Success | Outcome::Abandoned => None,
            },
            ms: millis(attempt.elapsed),
            words: &attempt.words,
        }
    }
}

/// A channel that could not be tried when none was left.
#[derive(Serialize)]
struct Excluded<'a> {
    channel: &'a str,
    reason: &'static str,
}

impl<'a> Excluded<'a> {
    fn of((channel, reason): (ChannelId, &'static str), labels: &'a Labels) -> Self {
        Self { channel: labels.channel(channel), reason }
    }
}

#[derive(Serialize)]
struct Refused {
    stage: &'static str,
    reason: &'static str,
}

#[derive(Serialize)]
struct Tokens {
    input: u64,
    output: u64,
    cached: u64,
    cache_write: u64,
    reasoning: u64,
    source: &'static str,
    input_source: &'static str,
    output_source: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    flawed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    excess: Option<Reported>,
}

/// Figures of an upstream that nobody paid for, because the call cannot have used so much.
#[derive(Serialize)]
struct Reported {
    input: u64,
    output: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A writer that blocks until it is released.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn record() -> Record {
        Record::begun(0, "r-1".into(), 1)
    }

    /// Goal: what is handed over is written as one JSON object a line.
    #[test]
    fn writes_lines() {
        let (metrics, sink) = (Metrics::new().unwrap(), Sink::default());
        let labels = metrics.labels(&[], &[]);
        let log = AccessLog::start(Box::new(sink.clone()), metrics.log_dropped()).unwrap();
        log.write(record(), labels.clone());
        log.write(record(), labels);
        log.flush(Duration::from_secs(5));
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["request_id"], "r-1");
        assert_eq!(lines[0]["time"], "1970-01-01T00:00:00.000Z");
    }

    /// Goal: a stuck writer costs lines, which are counted, and never blocks a request.
    #[test]
    fn a_full_queue_drops_and_counts() {
        let (release, stuck) = channel();
        let metrics = Metrics::new().unwrap();
        let labels = metrics.labels(&[], &[]);
        let log = AccessLog::start(Box::new(Stuck(stuck)), metrics.log_dropped()).unwrap();
        for _ in 0..QUEUE_MAX * 4 {
            log.write(record(), labels.clone());
        }
        assert!(metrics.log_dropped().get() > 0);
        drop(release);
    }
}
