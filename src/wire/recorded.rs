//! Recorded answers of upstreams, judged as live ones are: for `tidegate classify`, and for tests.
//!
//! A recording is what `curl -i` prints, or a JSON object with `status`, `headers` and `body`.

use super::classify::{Answer, Judge, decoded, looks_failed};
use super::endpoint::Call;
use super::stream::{EventStream, Expected, Fault, Step, StreamOptions};
use super::{answer::Identity, rules};
use crate::core::failure::{Class, Effect, Verdict};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

/// How much of an error body is looked at, as over the wire (spec 3.1).
const BODY_MAX: usize = 64 * 1024;

/// One recorded answer.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The HTTP status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub body: Vec<u8>,
}

/// A recording in JSON.
#[derive(Deserialize)]
struct Written {
    status: u16,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: Value,
    /// The pieces of a stream.
    #[serde(default)]
    stream: Vec<String>,
}

/// What the gateway makes of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It goes to the client.
    Passes,
    /// It is a failure, and the client has seen nothing of it.
    Failed(Verdict),
    /// It begins to go to the client and then breaks; the verdict is on what broke it.
    BreaksOff(Verdict),
}

impl Recorded {
    /// Reads a recording.
    ///
    /// # Errors
    ///
    /// A sentence on what it is not.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        if text.trim_ascii_start().starts_with(b"{") {
            return Self::of_json(text);
        }
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut head = httparse::Response::new(&mut fields);
        // A hand-written recording may have bare newlines, which the parser takes, too.
        let Ok(httparse::Status::Complete(end)) = head.parse(text) else {
            return Err(
                "expected what `curl -i` prints (a status line, headers, an empty line, a body), or a JSON object with status, headers and body",
            );
        };
        let mut headers = HeaderMap::new();
        for field in head.headers.iter() {
            let (name, value) = (field.name.parse::<HeaderName>(), HeaderValue::from_bytes(field.value));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let body = text.get(end..).unwrap_or_default().to_vec();
        Ok(Self { status: head.code.unwrap_or_default(), headers, body })
    }

    fn of_json(text: &[u8]) -> Result<Self, &'static str> {
        let written: Written = serde_json::from_slice(text)
            .map_err(|_| "expected a JSON object with status, headers and body")?;
        let mut headers = HeaderMap::new();
        for (name, field) in &written.headers {
            let field = field.as_str().map(HeaderValue::from_str);
            if let (Ok(name), Some(Ok(field))) = (name.parse::<HeaderName>(), field) {
                headers.append(name, field);
            }
        }
        let body = match written.body {
            Value::String(body) => body.into_bytes(),
            Value::Null => written.stream.concat().into_bytes(),
            other => other.to_string().into_bytes(),
        };
        let status = written.status;
        Ok(Self { status, headers, body })
    }

    /// Judges it as the answer to a call, streamed if it is an event stream.
    #[must_use]
    pub fn judge(&self, call: Call, judge: &Judge<'_>) -> Outcome {
        let body = decoded(&self.body, BODY_MAX);
        let answer = Answer { status: self.status, headers: &self.headers, body: &body };
        if !(200..300).contains(&self.status) {
            return Outcome::Failed(judge.classify(answer));
        }
        if is_stream(&self.body) {
            return judge_stream([&*self.body], call, judge);
        }
        match looks_failed(&body, call) {
            Some(row) => Outcome::Failed(judge.failed_success(&row, answer)),
            None => Outcome::Passes,
        }
    }
}

/// Judges an event stream, in the pieces in which it came.
#[must_use]
pub fn judge_stream<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    call: Call,
    judge: &Judge<'_>,
) -> Outcome {
    let identity = Identity::of(call, 0, "recorded", judge.caller.public_model);
    let mut stream = EventStream::new(StreamOptions {
        call,
        identity,
        wants_usage: false,
        created: 0,
        expected: Expected::default(),
    });
    let mut committed = false;
    for piece in pieces.into_iter().map(Some).chain([None]) {
        let step = match piece {
            Some(piece) => stream.push(piece),
            None => stream.finish(),
        };
        // A whole recording arrives at once, so what was committed shows in what would have been sent.
        committed |= step == Step::Content || stream.has_content();
        match step {
            Step::Preamble | Step::Content => {}
            Step::Done => return Outcome::Passes,
            Step::Failed(fault) if committed => return Outcome::BreaksOff(of_fault(&fault, judge)),
            Step::Failed(fault) => return Outcome::Failed(of_fault(&fault, judge)),
        }
    }
    Outcome::Passes
}

/// The verdict on a stream that failed.
#[must_use]
pub fn of_fault(fault: &Fault, judge: &Judge<'_>) -> Verdict {
    match fault {
        Fault::ErrorEvent(data) => judge.classify_event(data),
        fault => silent_fault(fault),
    }
}

/// The verdict on a stream that failed without saying why.
#[must_use]
pub fn silent_fault(fault: &Fault) -> Verdict {
    match fault {
        Fault::ErrorEvent(_) => Verdict::new(Class::Broken, "stream: error event"),
        Fault::Cut => Verdict::new(Class::Broken, "stream: cut"),
        Fault::NotAnEvent => Verdict::new(Class::NotUnderstood, "stream: not an event"),
        Fault::LineTooLong => Verdict::new(Class::NotUnderstood, "stream: line too long"),
        Fault::GateFull => Verdict::new(Class::NotUnderstood, "stream: no content in many events"),
        Fault::Empty => Verdict::new(Class::NotUnderstood, rules::EMPTY_STREAM),
        Fault::NoContent => {
            let verdict = Verdict::new(Class::NotUnderstood, rules::NOTHING_IN_STREAM);
            Verdict { effect: Effect::None, ..verdict }
        }
    }
}

/// Whether a body is an event stream, by its bytes.
#[must_use]
pub fn is_stream(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    [&b"data:"[..], b"event:", b"id:", b"retry:", b"error:", b":"].iter().any(|field| body.starts_with(field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::caller::Caller;
    use crate::wire::custom::Custom;

    fn outcome(recording: &str, call: Call) -> Outcome {
        let caller = Caller::new(b"{}", "p/m", "m");
        let judge = Judge { caller: &caller, custom: Custom::default(), now: 0 };
        Recorded::parse(recording.as_bytes()).unwrap().judge(call, &judge)
    }

    /// Goal: both kinds of recording, and streams in them, are judged as over the wire.
    #[test]
    fn recordings_are_judged() {
        let raw = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\n\r\n{}";
        let Outcome::Failed(verdict) = outcome(raw, Call::Chat) else { panic!() };
        assert_eq!((verdict.class, verdict.retry_after.unwrap().as_secs()), (Class::RateLimited, 7));
        let json = r#"{"status":400,"headers":{},"body":{"error":{"message":"x","code":"content_filter"}}}"#;
        assert!(matches!(outcome(json, Call::Chat), Outcome::Failed(v) if v.class == Class::ContentRefused));
        let good = "HTTP/1.1 200 OK\n\n{\"choices\":[{\"text\":\"a\"}]}";
        assert_eq!(outcome(good, Call::Chat), Outcome::Passes);
        let content = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        let broken = format!("HTTP/1.1 200 OK\n\n{content}data: {{\"error\":{{}}}}\n\n");
        assert!(matches!(outcome(&broken, Call::Chat), Outcome::BreaksOff(_)));
        assert!(matches!(outcome("HTTP/1.1 200 OK\n\n: hi\n\n", Call::Messages), Outcome::Failed(_)));
        for nonsense in ["", "hello", "{", r#"{"body":""}"#] {
            assert!(Recorded::parse(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
