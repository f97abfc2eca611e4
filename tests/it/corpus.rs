//! The classifier and the streams on the recorded answers in `tests/data/corpus` (spec 3.7): once as pure functions,
//! once over the wire (`corpus_wire.rs`).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tidegate::core::failure::{Class, Effect, Next, Verdict};
use tidegate::core::refusal::Failure;
use tidegate::wire::answer::Identity;
use tidegate::wire::caller::Caller;
use tidegate::wire::classify::{Answer, Judge, decoded, looks_failed};
use tidegate::wire::custom::Custom;
use tidegate::wire::endpoint::Call;
use tidegate::wire::error::{Dialect, PublicError};
use tidegate::wire::stream::{EventStream, Expected, Fault, Step, StreamOptions};

pub(crate) const PUBLIC_MODEL: &str = "provider/public-model";

/// Entries where the gateway does otherwise on purpose: what is expected, and why it is not done.
///
/// Agreement in status is required of them all the same.
const OTHERWISE: [(&str, &str); 1] = [(
    "gzip-unlabelled-400",
    "spec 3.1 has bodies decoded by their magic bytes, so this is the 400 with an error object that it is: the caller's",
)];

/// Entries that are answered with another status on purpose: the status, and why.
const OTHER_STATUS: [(&str, u16, &str); 1] = [(
    "f-ccr-404-cache-control",
    400,
    "a capability that a request needs and a channel lacks is no missing model: others are tried, and if none has it the \
     client reads a 400 that names it",
)];

/// The files of recorded answers.
const FILES: [&str; 3] = ["upstream_errors.json", "upstream_errors_2.json", "own.json"];

/// One recorded answer.
pub(crate) struct Entry(pub(crate) Value);

impl Entry {
    pub(crate) fn id(&self) -> &str {
        self.0["id"].as_str().unwrap()
    }

    pub(crate) fn status(&self) -> u16 {
        self.0["status"].as_u64().unwrap() as u16
    }

    pub(crate) fn call(&self) -> Call {
        match self.0["api"].as_str() {
            Some("images") => Call::ImageGenerations,
            Some("embeddings") => Call::Embeddings,
            Some("responses") => Call::Responses,
            Some("messages") => Call::Messages,
            _ => Call::Chat,
        }
    }

    /// A request to which this could be the answer.
    pub(crate) fn request(&self, model: &str) -> String {
        let stream = self.is_stream();
        let content = r#""messages":[{"role":"user","content":"https://example.com/cat.png"}],"max_tokens":9,"n":1,"temperature":3"#;
        let input = r#""input":"https://example.com/cat.png","prompt":"a""#;
        let streams = if stream { r#","stream":true"# } else { "" };
        let request = format!(r#"{{"model":"{model}",{content},{input}{streams}}}"#);
        let Some(more) = self.0["request_extra"].as_object() else { return request };
        let mut members: serde_json::Map<String, Value> = serde_json::from_str(&request).unwrap();
        members.extend(more.clone());
        Value::Object(members).to_string()
    }

    /// Whether the answer is one to a stream request.
    fn is_stream(&self) -> bool {
        self.0["stream"].is_array() || self.id().starts_with("st-") || self.0["stream_request"] == true
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in self.0["headers"].as_object().into_iter().flatten() {
            let value = value.as_str().map(HeaderValue::from_str);
            if let (Ok(name), Some(Ok(value))) = (name.parse::<HeaderName>(), value) {
                map.insert(name, value);
            }
        }
        map
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        match (self.0["body"].as_str(), self.0["body_b64"].as_str()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(encoded)) => base64(encoded),
            _ => Vec::new(),
        }
    }

    pub(crate) fn chunks(&self) -> Option<Vec<&str>> {
        let chunks = self.0["stream"].as_array()?;
        Some(chunks.iter().map(|chunk| chunk.as_str().unwrap()).collect())
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        self.0[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// What of status and bytes that a client reads is not as expected.
    pub(crate) fn client_disagrees(&self, status: u16, told: &str) -> Option<String> {
        let other = OTHER_STATUS.iter().find(|(id, ..)| *id == self.id());
        let expected = match other {
            Some((_, status, _)) => u64::from(*status),
            None => self.0["expect"]["client_status"].as_u64().unwrap(),
        };
        let accepted = self.0["accept_status"].as_array();
        let also = accepted.is_some_and(|also| also.contains(&u64::from(status).into()));
        if expected != u64::from(status) && !also {
            return Some(format!("status {status}, not {expected}"));
        }
        if let Some(leaked) = self.texts("must_not_leak").into_iter().find(|text| told.contains(text)) {
            return Some(format!("leaks {leaked:?}: {told}"));
        }
        if expected != u64::from(status) {
            return None;
        }
        // What is kept stands in JSON, where quotation marks are escaped.
        let kept = |text: &&str| told.contains(*text) || told.contains(&text.replace('"', "\\\""));
        let lost = self.texts("must_keep").into_iter().find(|text| !kept(text));
        lost.map(|lost| format!("lost {lost:?}: {told}"))
    }

    /// What of retry, action and scope is not as expected.
    fn verdict_disagrees(&self, verdict: Option<&Verdict>, status: u16) -> Option<String> {
        let expect = &self.0["expect"];
        if OTHERWISE.iter().any(|(id, _)| *id == self.id()) || expect["client_status"] != status {
            return None;
        }
        let retried = verdict.is_some_and(|verdict| verdict.next == Next::Any);
        if expect["retry_other_channel"] != retried {
            return Some(format!("retry {retried}"));
        }
        let effect = verdict.map_or(Effect::None, |verdict| verdict.effect);
        let (action, scope) = match effect {
            Effect::None => ("none", "request"),
            Effect::CountsTowardEjection | Effect::ModelRests => ("cooldown", "channel_model"),
            Effect::CredentialRests => ("key_cooldown", "key"),
            Effect::CredentialOut => ("disable", "key"),
            Effect::ChannelRests => ("cooldown", "channel"),
            Effect::ChannelOut => ("disable", "channel"),
        };
        let (wanted, at) = (expect["channel_action"].as_str().unwrap(), expect["scope"].as_str().unwrap());
        // Several spellings of the same: no action has no scope, a credential's cooldown is one, and what counts toward
        // ejection does nothing yet.
        let counts = effect == Effect::CountsTowardEjection && wanted == "none";
        let same_scope = at == scope || action == "none" || counts;
        let same_action = wanted == action || wanted == "cooldown" && action == "key_cooldown" || counts;
        (!same_action || !same_scope).then(|| format!("{action}@{scope}, not {wanted}@{at}"))
    }
}

/// The recorded answers of `tests/data/corpus`.
pub(crate) fn entries() -> Vec<Entry> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/corpus");
    let of_file = |file: &&str| -> Vec<Value> {
        serde_json::from_slice(&std::fs::read(format!("{folder}/{file}")).unwrap()).unwrap()
    };
    FILES.iter().flat_map(of_file).map(Entry).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(u32::from(c - b'A')),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> = text.bytes().filter_map(value).collect();
    digits
        .chunks(4)
        .flat_map(|four| {
            let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
            bits.to_be_bytes()[1..four.len()].to_vec()
        })
        .collect()
}

/// The verdict on an answer that is not a stream; `None` if it passes.
fn judge(entry: &Entry, judge: &Judge<'_>) -> Option<Verdict> {
    let (status, headers, raw) = (entry.status(), entry.headers(), entry.body());
    let body = decoded(&raw, 64 * 1024);
    let answer = Answer { status, headers: &headers, body: &body };
    if (200..300).contains(&status) {
        let row = looks_failed(&body, entry.call())?;
        return Some(judge.failed_success(&row, answer));
    }
    Some(judge.classify(answer))
}

/// The verdict on a stream: before its commit point as any other, after it the one that it broke; `None` if it is good.
fn judge_stream(entry: &Entry, chunks: &[&str], judge: &Judge<'_>) -> Option<Verdict> {
    let first = chunks.first().copied().unwrap_or_default();
    if first.starts_with('{') {
        let answer = Answer { status: 200, headers: &HeaderMap::new(), body: first.as_bytes() };
        return Some(judge.failed_success(&looks_failed(first.as_bytes(), entry.call())?, answer));
    }
    let options = StreamOptions {
        call: entry.call(),
        identity: Identity::of(entry.call(), 1, "a", PUBLIC_MODEL),
        wants_usage: false,
        created: 1,
        expected: Expected::default(),
    };
    let (mut stream, mut committed) = (EventStream::new(options), false);
    let mut steps = chunks.iter().map(Some).chain([None]);
    loop {
        let step = match steps.next()? {
            Some(&"<<RST>>" | &"<<STALL>>") if stream.finish() != Step::Done => Step::Failed(Fault::Cut),
            Some(chunk) => stream.push(Bytes::copy_from_slice(chunk.as_bytes()).as_ref()),
            None => stream.finish(),
        };
        match step {
            Step::Preamble => {}
            Step::Content => committed = true,
            Step::Done => return None,
            Step::Failed(_) if committed => return Some(Verdict::new(Class::BrokenMidStream, "mid")),
            Step::Failed(Fault::ErrorEvent(data)) => return Some(judge.classify_event(&data)),
            Step::Failed(Fault::Cut) => return Some(Verdict::new(Class::Broken, "cut")),
            Step::Failed(_) => return Some(Verdict::new(Class::NotUnderstood, "stream")),
        }
    }
}

/// Goal: the gateway's verdict agrees with what is expected of each recorded answer in client status, retry, action and
/// scope, keeps what has to be kept, and leaks nothing.
#[test]
fn agrees_with_the_recorded_answers() {
    let entries = entries();
    let (mut agreed, mut wrong) = (0, Vec::new());
    // Transport failures have no bytes to judge; they are tried over the wire.
    for entry in entries.iter().filter(|entry| entry.status() != 0) {
        let request = entry.request(PUBLIC_MODEL);
        let caller = Caller::new(request.as_bytes(), PUBLIC_MODEL, "upstream-model");
        let judge_by = Judge { caller: &caller, custom: Custom::default(), now: 1_763_800_000 };
        let verdict = match entry.chunks() {
            Some(chunks) => judge_stream(entry, &chunks, &judge_by),
            None => judge(entry, &judge_by),
        };
        let error =
            verdict.as_ref().filter(|verdict| verdict.class != Class::BrokenMidStream).map(|verdict| {
                let failure = match verdict.class {
                    Class::ModelMissing => Failure::NowhereServed(PUBLIC_MODEL.into()),
                    _ => Failure::Upstream(verdict.clone()),
                };
                PublicError::of(&failure, 503)
            });
        let status = error.as_ref().map_or(200, PublicError::status);
        let dialect = if entry.call() == Call::Messages { Dialect::Anthropic } else { Dialect::OpenAi };
        let told = error.map(|error| error.render(dialect, "req-1")).unwrap_or_default();
        let disagreement = entry
            .client_disagrees(status, &told)
            .or_else(|| entry.verdict_disagrees(verdict.as_ref(), status));
        match disagreement {
            None => agreed += 1,
            Some(how) => {
                let body = String::from_utf8_lossy(&entry.body()).chars().take(200).collect::<String>();
                let rule = verdict.map(|verdict| verdict.rule);
                wrong.push(format!("{}: {how} ({rule:?}) {}", entry.id(), body.replace('\n', " ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{agreed} agree, {} do not", wrong.join("\n"), wrong.len());
}
