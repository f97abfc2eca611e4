use super::*;
use crate::wire::answer::{Identity, rewrite};
use crate::wire::stream::{EventStream, Expected, Step, StreamOptions};
use bytes::BytesMut;
use serde_json::{Value, json};

/// A table, and those in it, are in order, so that they can be searched.
fn check(names: Names, depth: usize) {
    assert!(depth < 8, "deeper than what follows it");
    assert!(names.is_sorted_by(|(one, _), (other, _)| one < other), "{names:?}");
    for (_, shape) in names {
        if let Of(names) = shape {
            check(names, depth + 1);
        }
    }
}

const CALLS: [Call; 10] = [
    Call::Chat,
    Call::Completions,
    Call::Responses,
    Call::Compact,
    Call::Messages,
    Call::CountTokens,
    Call::Embeddings,
    Call::ImageGenerations,
    Call::ImageEdits,
    Call::Video,
];

/// Goal: every table can be searched, and is no deeper than what follows it.
#[test]
fn tables_are_in_order() {
    for form in CALLS.map(of).into_iter().chain([&RESPONSE_EVENT, &MESSAGE_EVENT]) {
        check(form.members, 0);
    }
    check(USAGE, 0);
}

/// What client programs and specifications know of each API, as whole answers.
fn complete() -> Vec<(Call, Value)> {
    let parsed: Value = serde_json::from_str(include_str!("../../tests/data/answers/complete.json")).unwrap();
    let calls = [
        ("chat", Call::Chat),
        ("completions", Call::Completions),
        ("responses", Call::Responses),
        ("compact", Call::Compact),
        ("messages", Call::Messages),
        ("count_tokens", Call::CountTokens),
        ("embeddings", Call::Embeddings),
        ("images", Call::ImageGenerations),
        ("video", Call::Video),
    ];
    calls.map(|(name, call)| (call, parsed[name].clone())).into_iter().collect()
}

fn identity(call: Call) -> Identity {
    Identity::of(call, 7, "r", "pub/m")
}

/// The answer as the client should read it: with the gateway's names.
fn named(call: Call, mut answer: Value) -> Value {
    for (name, value) in [("id", identity(call).id().clone()), ("model", identity(call).model().clone())] {
        if !answer[name].is_null() {
            answer[name] = serde_json::from_slice(&value).unwrap();
        }
    }
    answer
}

/// Goal: an answer with every member of the specification, and the extensions that clients read, passes unchanged but for the
/// gateway's names, whole and in pieces.
#[test]
fn complete_answers_pass_unchanged() {
    for (call, answer) in complete() {
        let told = rewrite(answer.to_string().as_bytes(), identity(call));
        let out: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!((out, told.dropped), (named(call, answer.clone()), 0), "{call:?}");
        let (mut rewriter, mut out) = (identity(call).watching_rewriter(), BytesMut::new());
        answer.to_string().as_bytes().chunks(7).for_each(|piece| rewriter.push(piece, &mut out));
        let out: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((out, rewriter.dropped()), (named(call, answer), 0), "{call:?}");
    }
}

/// Members that upstreams have told of themselves.
const LEAKS: [&str; 14] = [
    "chutes_verification",
    "providerMetadata",
    "provider_metadata",
    "provider_specific_fields",
    "sid",
    "vertex_ai_grounding_metadata",
    "vertex_ai_safety_results",
    "x_nanogpt_pricing",
    "sla_metrics",
    "x_groq",
    "timings",
    "provider",
    "native_finish_reason",
    "cost",
];

/// The answer with a leak in every object that is looked into.
fn leaking(value: &Value, names: Names) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| leaking(item, names)).collect(),
        Value::Object(members) => {
            let leaks =
                LEAKS.iter().map(|name| ((*name).to_owned(), json!({"who": "secret", "a": ["}", 1]})));
            let known = members.iter().map(|(name, value)| {
                let value = match find(names, name) {
                    Some(Of(names)) => leaking(value, names),
                    _ => value.clone(),
                };
                (name.clone(), value)
            });
            Value::Object(leaks.chain(known).collect())
        }
        other => other.clone(),
    }
}

/// Goal: what no table has is dropped wherever it stands, whole and in pieces, and counted; a channel may name what passes.
#[test]
fn what_nobody_knows_is_dropped() {
    for (call, answer) in complete() {
        let leaking = leaking(&answer, of(call).members).to_string();
        let told = rewrite(leaking.as_bytes(), identity(call));
        let out: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(out, named(call, answer.clone()), "{call:?}");
        assert_eq!(told.dropped, leaking.matches("secret").count() as u64, "{call:?}");
        for size in [1, 5, 1_000] {
            let (mut rewriter, mut out) = (identity(call).watching_rewriter(), BytesMut::new());
            leaking.as_bytes().chunks(size).for_each(|piece| rewriter.push(piece, &mut out));
            let out: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!((out, rewriter.is_complete()), (named(call, answer.clone()), true), "{call:?} {size}");
        }
        let passing = identity(call).passing(Some(Arc::new(["sid".to_owned()])));
        let passed = rewrite(leaking.as_bytes(), passing).body;
        let passed = String::from_utf8(passed.to_vec()).unwrap();
        assert_eq!(passed.matches("secret").count(), passed.matches("\"sid\":{").count());
        assert!(passed.contains("\"sid\""), "{call:?}");
        let trusted = rewrite(leaking.as_bytes(), identity(call).unchanged()).body;
        assert_eq!(trusted.len(), leaking.len(), "{call:?}");
    }
}

/// Goal: what an answer always has is there though the upstream sent none, and the upstream's own `metadata` is not (spec 1.5).
#[test]
fn id_and_model_are_always_there() {
    let told = rewrite(br#"{"choices":[],"metadata":{"weight_version":"default"}}"#, identity(Call::Chat));
    assert_eq!(&told.body[..], br#"{"choices":[],"id":"gate-7-r","model":"pub/m"}"#);
    assert_eq!(
        &rewrite(b"{}", identity(Call::Responses)).body[..],
        br#"{"id":"resp-gate-7-r","model":"pub/m"}"#
    );
    assert_eq!(
        &rewrite(b"{}", identity(Call::Messages)).body[..],
        br#"{"id":"msg_gate_7r","model":"pub/m"}"#
    );
    assert_eq!(&rewrite(b"{}", identity(Call::Embeddings)).body[..], br#"{"model":"pub/m"}"#);
    assert_eq!(&rewrite(b"{}", identity(Call::CountTokens)).body[..], b"{}");
    assert_eq!(&rewrite(b"{}", identity(Call::Chat).unchanged()).body[..], b"{}");
    let own = Identity::new("g", "m");
    assert_eq!(&own.usage(br#"{"prompt_tokens":1,"cost":2}"#)[..], br#"{"prompt_tokens":1}"#);
}

/// Events of streams with a leak in every object that is looked into, and what the client reads of them.
fn streamed(call: Call, form: &Form, events: &[Value]) -> (String, u64) {
    let options = StreamOptions {
        call,
        identity: identity(call),
        wants_usage: true,
        created: 7,
        expected: Expected::default(),
    };
    let mut stream = EventStream::new(options);
    for event in events {
        let step = stream.push(format!("data: {}\n\n", leaking(event, form.members)).as_bytes());
        assert!(!matches!(step, Step::Failed(_)), "{event}: {step:?}");
    }
    assert_eq!(stream.finish(), Step::Done);
    (String::from_utf8(stream.take().to_vec()).unwrap(), stream.dropped())
}

fn chat_events() -> Vec<Value> {
    let chunk = |delta: Value, reason: Value| {
        json!({"object": "chat.completion.chunk", "created": 7, "obfuscation": "x",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    };
    let call = json!({"index": 0, "id": "c", "type": "function",
        "function": {"name": "f", "arguments": "{\"sid\":1}"},
        "extra_content": {"google": {"thought_signature": "s"}}});
    vec![
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(json!({"content": "one"}), Value::Null),
        chunk(json!({"content": "two"}), Value::Null),
        chunk(json!({"tool_calls": [call]}), Value::Null),
        chunk(json!({}), json!("tool_calls")),
    ]
}

fn message_events() -> Vec<Value> {
    let text = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    vec![
        json!({"type": "message_start", "message": {"type": "message", "role": "assistant", "content": [],
            "stop_reason": null, "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        text("one"),
        text("two"),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ]
}

fn response_events() -> Vec<Value> {
    let delta = |number: u64, text: &str| {
        json!({"type": "response.output_text.delta", "sequence_number": number, "item_id": "i", "output_index": 0,
            "content_index": 0, "delta": text, "logprobs": []})
    };
    let response = complete().into_iter().find(|(call, _)| *call == Call::Responses).unwrap().1;
    let begun = json!({"object": "response", "output": []});
    vec![
        json!({"type": "response.created", "sequence_number": 0, "response": begun}),
        delta(1, "one"),
        delta(2, "two"),
        json!({"type": "response.output_item.done", "sequence_number": 3, "output_index": 0,
            "item": response["output"][0]}),
        json!({"type": "response.completed", "sequence_number": 4, "response": response}),
    ]
}

/// Goal: in streams nothing that no table has passes either, and each thing dropped is counted, also in events that are
/// recognised by an earlier one; every chunk has an id and a model.
#[test]
fn streams_tell_nothing_either() {
    let cases = [
        (Call::Chat, &CHAT, chat_events()),
        (Call::Messages, &MESSAGE_EVENT, message_events()),
        (Call::Responses, &RESPONSE_EVENT, response_events()),
    ];
    for (call, form, events) in cases {
        let (told, dropped) = streamed(call, form, &events);
        assert!(!told.contains("secret") && told.contains("one") && told.contains("two"), "{call:?}: {told}");
        for data in told.split("\n\n").filter_map(|event| event.split_once("data: ")).map(|(_, data)| data) {
            let Ok(event) = serde_json::from_str::<Value>(data) else { continue };
            let whole = match call {
                Call::Chat => Some(&event),
                Call::Messages => event.get("message"),
                _ => event.get("response"),
            };
            assert!(
                whole.is_none_or(|whole| whole["model"] == "pub/m" && whole["id"].is_string()),
                "{event}"
            );
        }
        let sent: String = events.iter().map(|event| leaking(event, form.members).to_string()).collect();
        // What ends a stream of messages is the gateway's own.
        let unread = if call == Call::Messages { LEAKS.len() } else { 0 };
        assert_eq!(dropped, (sent.matches("secret").count() - unread) as u64, "{call:?}");
    }
}
