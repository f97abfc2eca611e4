//! Streams of random events against a small reference model (spec 2.6, 7.1): never a success without a documented finish,
//! never a lost error, usage as the model counts it, every event well formed.

use super::*;
use crate::core::usage::UsageSource;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What an upstream may send next.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Preamble,
    Text(String),
    Tool,
    /// A reason, which may be none.
    Finish(&'static str),
    Usage(u64, u64),
    Quiet(usize),
    Error(usize),
    /// The success marker of the language.
    Marker,
    /// A marker of another language, which ends nothing by itself.
    Done,
}

/// What the model says of a stream's end.
#[derive(Debug, PartialEq)]
enum End {
    Success,
    Failure,
    /// There is no content: whether that is an answer depends on why.
    Open,
}

const CALLS: [Call; 4] = [Call::Chat, Call::Completions, Call::Messages, Call::Responses];
const INPUT: u64 = 11;
/// Reasons that end something, of those that come here.
const DOCUMENTED: [&str; 6] = ["stop", "length", "tool_calls", "end_turn", "max_tokens", "tool_use"];

const QUIET: [&str; 5] =
    [": ping\n\n", "data: {}\n\n", "data: {\"type\":\"ping\"}\n\n", "id: 7\nretry: 9\n\n", "event: x\n\n"];

const ERRORS: [&str; 9] = [
    r#"data: {"error":{"message":"secret"}}"#,
    r#"data: {"object":"error","message":"secret","code":500}"#,
    r#"data: {"detail":"secret"}"#,
    r#"data: {"code":10013,"message":"secret"}"#,
    r#"data: {"success":false,"errors":[{"message":"secret"}]}"#,
    r#"data: {"error_code":7,"error_msg":"secret"}"#,
    r#"error: {"message":"secret"}"#,
    "event: error\ndata: {\"message\":\"secret\"}",
    "data: {\ndata: \"error\": {\"message\":\n:x\ndata: \"secret\"}}",
];

fn event() -> impl Strategy<Value = Event> {
    let reason = prop::sample::select(vec!["stop", "stop", "length", "", "null", "eos"]);
    prop_oneof![
        2 => Just(Event::Preamble),
        8 => "[a-z é\"\\\\\n]{0,8}".prop_map(Event::Text),
        1 => Just(Event::Tool),
        3 => reason.prop_map(Event::Finish),
        2 => (1..900u64, 1..900u64).prop_map(|(input, output)| Event::Usage(input, output)),
        3 => (0..QUIET.len()).prop_map(Event::Quiet),
        1 => (0..ERRORS.len()).prop_map(Event::Error),
        2 => Just(Event::Marker),
        1 => Just(Event::Done),
    ]
}

/// The reason in the language of Messages.
fn stop_reason(reason: &str) -> &str {
    match reason {
        "stop" => "end_turn",
        "length" => "max_tokens",
        other => other,
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn in_chat(call: Call, event: &Event) -> String {
    let of = |choice: Value| data(&json!({"id": "u", "model": "um", "choices": [choice]}));
    let text = |text: &str, reason: Value| match call {
        Call::Completions => of(json!({"index": 0, "text": text, "finish_reason": reason})),
        _ => of(json!({"index": 0, "delta": {"content": text}, "finish_reason": reason})),
    };
    match event {
        Event::Preamble | Event::Tool if call == Call::Completions => text("", Value::Null),
        Event::Preamble => of(json!({"index": 0, "delta": {"role": "assistant", "content": ""}})),
        Event::Text(words) => text(words, Value::Null),
        Event::Tool => of(
            json!({"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}}),
        ),
        Event::Finish(reason) => text("", json!(reason)),
        Event::Usage(input, output) => {
            data(&json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}}))
        }
        _ => "data: [DONE]\n\n".to_owned(),
    }
}

fn in_messages(event: &Event) -> String {
    match event {
        Event::Preamble => data(&json!({"type": "message_start", "message": {"id": "u", "content": []}})),
        Event::Text(words) => data(
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}),
        ),
        Event::Tool => data(
            &json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}),
        ),
        Event::Finish(reason) => {
            data(&json!({"type": "message_delta", "delta": {"stop_reason": stop_reason(reason)}}))
        }
        Event::Usage(input, output) => data(
            &json!({"type": "message_delta", "delta": {}, "usage": {"input_tokens": input, "output_tokens": output}}),
        ),
        Event::Marker => data(&json!({"type": "message_stop"})),
        _ => "data: [DONE]\n\n".to_owned(),
    }
}

fn in_responses(event: &Event) -> String {
    let response = |status: &str| json!({"id": "resp_u", "status": status, "error": null, "output": []});
    let item = json!({"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": "{}"});
    match event {
        Event::Preamble => data(&json!({"type": "response.created", "response": response("in_progress")})),
        Event::Text(words) => data(&json!({"type": "response.output_text.delta", "delta": words})),
        Event::Tool => data(&json!({"type": "response.output_item.added", "item": item})),
        // Reasons and usage stand in the last event alone, here in one that is none.
        Event::Finish(_) | Event::Usage(..) => data(&json!({"type": "response.in_progress"})),
        Event::Marker => data(&json!({"type": "response.completed", "response": response("completed")})),
        _ => "data: [DONE]\n\n".to_owned(),
    }
}

fn written(call: Call, event: &Event) -> String {
    match (event, call) {
        (Event::Quiet(which), _) => QUIET[*which].to_owned(),
        (Event::Error(which), _) => format!("{}\n\n", ERRORS[*which]),
        (event, Call::Messages) => in_messages(event),
        (event, Call::Responses) => in_responses(event),
        (event, call) => in_chat(call, event),
    }
}

/// The reference model.
#[derive(Debug, Default)]
struct Model {
    content: bool,
    finished: bool,
    seen: bool,
    input: u64,
    output: u64,
    reported: bool,
    /// Text has come since the last report.
    text_since: bool,
}

impl Model {
    /// Takes events in until one of them ends the stream, or the upstream does.
    fn run(&mut self, call: Call, events: &[Event]) -> End {
        let chat = matches!(call, Call::Chat | Call::Completions);
        for event in events {
            match event {
                Event::Text(words) if !words.is_empty() => {
                    (self.content, self.text_since, self.seen) = (true, true, true)
                }
                Event::Tool if call != Call::Completions => {
                    (self.content, self.text_since, self.seen) = (true, true, true);
                }
                Event::Preamble | Event::Text(_) | Event::Tool => self.seen = true,
                Event::Finish(reason) if call != Call::Responses => {
                    self.seen = true;
                    self.finished |= matches!(*reason, "stop" | "length");
                }
                Event::Usage(input, output) if call != Call::Responses => {
                    // Reports are of the whole so far, and none of these is a zero.
                    (self.input, self.output) = (*input, *output);
                    (self.reported, self.text_since) = (true, false);
                }
                Event::Error(_) if !self.finished => return End::Failure,
                Event::Marker if !self.content => return End::Open,
                Event::Marker => return End::Success,
                Event::Done if chat && self.content => return End::Success,
                Event::Done if chat => return End::Open,
                // A marker of chat ends what has finished, and cuts what has not.
                Event::Done => break,
                _ => {}
            }
        }
        match self.finished {
            true if self.content => End::Success,
            true => End::Open,
            false => End::Failure,
        }
    }
}

/// Every event that the client reads: its name and its data.
fn read(text: &str) -> Vec<(Option<String>, String)> {
    let (mut events, mut name) = (Vec::new(), None);
    assert!(text.is_empty() || text.ends_with("\n\n"), "half an event: {text}");
    for line in text.split('\n') {
        match line.split_once(": ") {
            Some(("event", of)) => name = Some(of.to_owned()),
            Some(("data", of)) => events.push((name.take(), of.to_owned())),
            Some(("", "keep-alive")) => {}
            None if line.is_empty() => {}
            _ => panic!("no line of an event: {line:?} in {text}"),
        }
    }
    events
}

/// Checks that events are well formed, and that exactly a success has its marker and its documented finish.
fn check(call: Call, text: &str, success: bool) {
    let events = read(text);
    let markers = events.iter().filter(|(name, data)| {
        data == "[DONE]" || matches!(name.as_deref(), Some("message_stop" | "response.completed"))
    });
    assert_eq!(markers.count(), usize::from(success), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let mut finished = false;
    for (name, data) in events.iter().filter(|(_, data)| data != "[DONE]") {
        let value: Value = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
        let typed = matches!(call, Call::Messages | Call::Responses);
        assert_eq!(name.as_deref(), typed.then(|| value["type"].as_str().unwrap()), "{text}");
        let reason = match call {
            Call::Messages => &value["delta"]["stop_reason"],
            _ => &value["choices"][0]["finish_reason"],
        };
        assert!(!matches!(reason.as_str(), Some("" | "null")), "{text}");
        finished |= reason.as_str().is_some_and(|reason| DOCUMENTED.contains(&reason));
        if !typed {
            assert_eq!((&value["id"], &value["model"]), (&json!("gate-1-a"), &json!("pub/m")), "{text}");
        }
    }
    if success && call != Call::Responses {
        assert!(finished, "{text}");
    }
}

fn usage_in(call: Call, text: &str) -> Vec<Value> {
    let events = read(text).into_iter().filter_map(|(_, data)| serde_json::from_str::<Value>(&data).ok());
    let usage = events.map(|event| event["usage"].clone()).filter(Value::is_object);
    if call == Call::Messages { Vec::new() } else { usage.collect() }
}

fn agrees(call: Call, events: &[Event], size: usize) {
    let mut stream = EventStream::new(StreamOptions {
        call,
        identity: Identity::of(call, 1, "a", "pub/m"),
        wants_usage: true,
        created: 7,
        expected: Expected { input: INPUT, ..Expected::default() },
    });
    let bytes: String = events.iter().map(|event| written(call, event)).collect();
    let mut told = Vec::new();
    let mut step = Step::Preamble;
    for piece in bytes.as_bytes().chunks(size) {
        step = stream.push(piece);
        if step != Step::Preamble && !matches!(step, Step::Failed(_)) || stream.has_content() {
            told.extend_from_slice(&stream.take());
        }
        if !matches!(step, Step::Preamble | Step::Content) {
            break;
        }
    }
    if matches!(step, Step::Preamble | Step::Content) {
        step = stream.finish();
        if step == Step::Done || stream.has_content() {
            told.extend_from_slice(&stream.take());
        }
    }
    let text = String::from_utf8(told).unwrap();
    let mut model = Model::default();
    let end = model.run(call, events);
    let success = step == Step::Done;
    assert!(success || matches!(step, Step::Failed(_)), "{call:?} {events:?}: {step:?}");
    if end != End::Open {
        assert_eq!(success, end == End::Success, "{call:?} {events:?}: {step:?}\n{text}");
    }
    check(call, &text, success);
    if !success || end == End::Open {
        return;
    }
    let (usage, source) = stream.usage();
    let input = if model.reported { model.input } else { INPUT };
    assert_eq!(usage.input, input, "{call:?} {events:?}");
    if model.reported && !model.text_since {
        assert_eq!((usage.output, source), (model.output, UsageSource::Reported), "{call:?} {events:?}");
    } else {
        assert!(usage.output >= model.output, "{call:?} {events:?}");
    }
    if matches!(call, Call::Chat | Call::Completions) {
        let read = usage_in(call, &text);
        assert_eq!(read.len(), 1, "{text}");
        assert_eq!(
            (&read[0]["prompt_tokens"], &read[0]["completion_tokens"]),
            (&json!(usage.input), &json!(usage.output)),
            "{text}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Goal: whatever an upstream sends, in whatever pieces, the client reads what the model says.
    #[test]
    fn streams_agree_with_the_model(events in prop::collection::vec(event(), 0..14), size in 1usize..200) {
        for call in CALLS {
            agrees(call, &events, size);
        }
    }
}
