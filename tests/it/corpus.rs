//! The classifier on recorded answers of many providers (spec 3.7), where the collection lies beside the checkout.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tidegate::core::api::Api;
use tidegate::core::failure::{Class, Next, Verdict};
use tidegate::core::refusal::Failure;
use tidegate::wire::answer::Identity;
use tidegate::wire::chat_stream::{ChatStream, Fault, Step, StreamOptions};
use tidegate::wire::classify::{Answer, classify, classify_event, decoded, failed_success, looks_failed};
use tidegate::wire::error::PublicError;
use tidegate::wire::sanitize::Caller;

const CALLER: Caller<'_> = Caller {
    body: br#"{"model":"provider/public-model","messages":[{"role":"user","content":"https://example.com/cat.png"}]}"#,
    public_model: "provider/public-model",
    upstream_model: "upstream-model",
};

fn entries() -> Option<Vec<Value>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/upstream_errors.json");
    let text = std::fs::read(path).ok()?;
    let value: Value = serde_json::from_slice(&text).unwrap();
    Some(value.as_array().or_else(|| value["entries"].as_array()).unwrap().clone())
}

fn headers(entry: &Value) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in entry["headers"].as_object().into_iter().flatten() {
        if let (Ok(name), Some(Ok(value))) =
            (name.parse::<HeaderName>(), value.as_str().map(HeaderValue::from_str))
        {
            map.insert(name, value);
        }
    }
    map
}

fn api(entry: &Value) -> Api {
    match entry["api"].as_str() {
        Some("images") => Api::Images,
        Some("embeddings") => Api::Embeddings,
        Some("responses") => Api::Responses,
        Some("messages") => Api::Messages,
        _ => Api::Chat,
    }
}

fn body(entry: &Value) -> Vec<u8> {
    match (entry["body"].as_str(), entry["body_b64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(encoded)) => base64(encoded),
        _ => Vec::new(),
    }
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
fn judge(entry: &Value) -> Option<Verdict> {
    let status = entry["status"].as_u64().unwrap() as u16;
    let (headers, raw) = (headers(entry), body(entry));
    let body = decoded(&raw, 64 * 1024);
    let answer = Answer { status, headers: &headers, body: &body };
    if (200..300).contains(&status) {
        let row = looks_failed(&body, api(entry))?;
        return Some(failed_success(&row, answer, &CALLER, 0));
    }
    Some(classify(answer, &CALLER, 0))
}

/// The verdict on a chat stream before its commit point; `None` if it has begun.
fn judge_stream(chunks: &[Value]) -> Option<Verdict> {
    let options = StreamOptions {
        identity: Identity::new("gate-1-a", CALLER.public_model),
        object: "chat.completion.chunk",
        wants_usage: false,
        created: 1,
    };
    let mut stream = ChatStream::new(options);
    for chunk in chunks {
        match chunk.as_str().unwrap() {
            "<<RST>>" | "<<STALL>>" => return Some(Verdict::new(Class::Broken, "transport")),
            text => match stream.push(Bytes::copy_from_slice(text.as_bytes()).as_ref()) {
                Step::Preamble => {}
                Step::Content | Step::Done => return None,
                Step::Failed(fault) => return Some(of_fault(fault)),
            },
        }
    }
    match stream.finish() {
        Step::Failed(fault) => Some(of_fault(fault)),
        _ => None,
    }
}

fn of_fault(fault: Fault) -> Verdict {
    match fault {
        Fault::ErrorEvent(data) => classify_event(&data, &CALLER, 0),
        Fault::Cut => Verdict::new(Class::Broken, "cut"),
        _ => Verdict::new(Class::NotUnderstood, "stream"),
    }
}

/// Goal: the gateway's verdict agrees with what is expected of each recorded answer. The share stated here is what the
/// rules reach today; it may only rise.
#[test]
fn agrees_with_the_recorded_answers() {
    let Some(entries) = entries() else {
        eprintln!("skipped: no collection of recorded answers beside the checkout");
        return;
    };
    let (mut agreed, mut wrong) = (0, Vec::new());
    for entry in &entries {
        if entry["status"] == 0
            || !matches!(api(entry), Api::Chat | Api::Images | Api::Embeddings) && entry["stream"].is_array()
        {
            continue;
        }
        let verdict = match entry["stream"].as_array() {
            Some(chunks) => judge_stream(chunks),
            None => judge(entry),
        };
        let expect = &entry["expect"];
        let status = verdict.as_ref().map_or(200, |v| match v.class {
            Class::ModelMissing => 503,
            _ => u64::from(PublicError::of(&Failure::Upstream(v.clone()), 503).status()),
        });
        let accepted = expect["client_status"] == status
            || expect["accept_status"].as_array().is_some_and(|also| also.contains(&status.into()));
        let retried = verdict.as_ref().is_some_and(|v| v.class.next() == Next::Any);
        let told = verdict.as_ref().and_then(|v| v.message.clone()).unwrap_or_default();
        let leaks = entry["must_not_leak"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|s| told.contains(s.as_str().unwrap()));
        if accepted && !leaks && (expect["retry_other_channel"] == retried || status == 413) {
            agreed += 1;
        } else {
            wrong.push(format!(
                "{} {} want {} {} got {status} {:?}{} {}",
                entry["id"],
                entry["status"],
                expect["class"],
                expect["client_status"],
                verdict.map(|v| v.rule),
                if leaks { " LEAKS" } else { "" },
                String::from_utf8_lossy(&body(entry))
                    .chars()
                    .take(150)
                    .collect::<String>()
                    .replace('\n', " "),
            ));
        }
    }
    let total = agreed + wrong.len();
    eprintln!("{}\n{agreed} of {total} agree", wrong.join("\n"));
    assert!(agreed * 100 >= total * 90, "{agreed} of {total}");
}
