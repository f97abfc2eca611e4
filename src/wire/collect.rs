//! The JSON answer that was asked for, made of the event stream that an upstream sent instead.
//!
//! Some servers stream whatever they are asked. The stream is judged as one that was asked for is; what it amounts to is put
//! together as the official clients do it: texts are joined, calls of tools are merged by their index, the last word counts.

use super::answer::Identity;
use super::endpoint::Call;
use super::sse::{Frame, Framer};
use super::stream::{EventStream, Expected, Fault, Step, StreamOptions};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

type Object = Map<String, Value>;

/// Members that are said again rather than continued.
const NAMES: [&str; 6] = ["id", "type", "role", "name", "index", "format"];

/// The answer that a whole event stream amounts to; `None` where answers to this call are not streamed.
///
/// # Errors
///
/// The [`Fault`] by which the stream is none that succeeded.
pub fn answer(body: &[u8], call: Call) -> Option<Result<Vec<u8>, Fault>> {
    if !matches!(call, Call::Chat | Call::Completions | Call::Messages | Call::Responses) {
        return None;
    }
    Some(check(body, call).map(|()| {
        let mut answer = Answer::default();
        for event in events(body) {
            answer.add(event);
        }
        answer.finish(call).to_string().into_bytes()
    }))
}

/// Judges the stream as if a client had asked for it.
fn check(body: &[u8], call: Call) -> Result<(), Fault> {
    let mut stream = EventStream::new(StreamOptions {
        call,
        identity: Identity::of(call, 0, "collected", "collected"),
        wants_usage: false,
        created: 0,
        expected: Expected::default(),
    });
    // All of it is there, so nothing needs to be held back.
    stream.open();
    let mut step = stream.push(body);
    if matches!(step, Step::Preamble | Step::Content) {
        step = stream.finish();
    }
    match step {
        Step::Failed(fault) => Err(fault),
        Step::Preamble | Step::Content | Step::Done => Ok(()),
    }
}

/// The objects among the data of a stream that was judged.
fn events(body: &[u8]) -> impl Iterator<Item = Object> {
    let mut framer = Framer::default();
    framer.push(body);
    std::iter::from_fn(move || match framer.next_frame() {
        Ok(Some(frame)) => Some(frame),
        Ok(None) | Err(_) => framer.finish(),
    })
    .filter_map(|frame| match frame {
        Frame::Data(data) | Frame::Lines(data) => {
            serde_json::from_str::<Object>(&String::from_utf8_lossy(&data)).ok()
        }
        Frame::Error(_) | Frame::Bare(_) | Frame::Comment => None,
    })
}

/// An answer under way, in any language.
#[derive(Default)]
struct Answer {
    /// The members of the whole.
    whole: Object,
    /// Choices or blocks, by their index.
    parts: BTreeMap<u64, Object>,
    usage: Object,
}

impl Answer {
    fn add(&mut self, event: Object) {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "message_start" | "message_delta" | "content_block_start" | "content_block_delta" => {
                self.add_message(&kind, event);
            }
            kind if kind.starts_with("response.") => self.add_response(kind, event),
            _ if event.contains_key("choices") || event.contains_key("usage") => self.add_chunk(event),
            _ => {}
        }
    }

    fn add_chunk(&mut self, event: Object) {
        for (name, value) in event {
            match (&*name, value) {
                ("object", _) | (_, Value::Null) => {}
                ("usage", Value::Object(usage)) => merge_usage(&mut self.usage, usage),
                ("choices", Value::Array(choices)) => {
                    for choice in choices.into_iter().enumerate() {
                        self.add_choice(choice);
                    }
                }
                (_, value) => {
                    self.whole.insert(name, value);
                }
            }
        }
    }

    fn add_choice(&mut self, (place, choice): (usize, Value)) {
        let Value::Object(choice) = choice else { return };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(place as u64);
        let part = self.parts.entry(index).or_default();
        for (name, value) in choice {
            match (&*name, value) {
                ("index" | "usage", _) | (_, Value::Null) => {}
                ("delta", Value::Object(delta)) => {
                    let message = part.entry("message").or_insert_with(|| Value::Object(Object::new()));
                    if let Value::Object(message) = message {
                        merge(message, delta);
                    }
                }
                ("finish_reason", Value::String(reason)) if matches!(&*reason, "" | "null") => {}
                ("finish_reason", reason) => {
                    part.insert(name, reason);
                }
                (_, value) => merge(part, Object::from_iter([(name, value)])),
            }
        }
    }

    fn add_message(&mut self, kind: &str, mut event: Object) {
        let index = event.get("index").and_then(Value::as_u64).unwrap_or_default();
        let mut object = |name: &str| match event.remove(name) {
            Some(Value::Object(object)) => object,
            _ => Object::new(),
        };
        match kind {
            "message_start" => {
                self.whole = object("message");
                if let Some(Value::Object(usage)) = self.whole.remove("usage") {
                    merge_usage(&mut self.usage, usage);
                }
            }
            "message_delta" => {
                merge_usage(&mut self.usage, object("usage"));
                let said = object("delta").into_iter().filter(|(_, value)| !is_nothing(value));
                self.whole.extend(said);
            }
            "content_block_start" => {
                self.parts.insert(index, object("content_block"));
            }
            _ => {
                let mut delta = object("delta");
                delta.remove("type");
                // One source at a time, of the list that the block has.
                if let Some(citation) = delta.remove("citation") {
                    delta.insert("citations".to_owned(), json!([citation]));
                }
                merge(self.parts.entry(index).or_default(), delta);
            }
        }
    }

    fn add_response(&mut self, kind: &str, mut event: Object) {
        match (kind, event.remove("response"), event.remove("item")) {
            ("response.completed" | "response.incomplete", Some(Value::Object(response)), _) => {
                self.whole = response;
            }
            ("response.output_item.done", _, Some(Value::Object(item))) => {
                let index = event.get("output_index").and_then(Value::as_u64);
                self.parts.insert(index.unwrap_or(self.parts.len() as u64), item);
            }
            _ => {}
        }
    }

    fn finish(mut self, call: Call) -> Value {
        let parts = std::mem::take(&mut self.parts).into_iter();
        match call {
            Call::Messages => {
                let blocks: Vec<_> = parts.map(|(_, block)| Value::Object(finished_block(block))).collect();
                let called = blocks.iter().any(|block| block.get("type") == Some(&json!("tool_use")));
                let reason = if called { "tool_use" } else { "end_turn" };
                self.whole.insert("content".to_owned(), blocks.into());
                if self.whole.get("stop_reason").is_none_or(is_nothing) {
                    self.whole.insert("stop_reason".to_owned(), reason.into());
                }
            }
            Call::Responses => {
                let output = self.whole.get("output").and_then(Value::as_array);
                if output.is_none_or(Vec::is_empty) {
                    let items: Vec<_> = parts.map(|(_, item)| Value::Object(item)).collect();
                    self.whole.insert("output".to_owned(), items.into());
                }
            }
            call => {
                let object = if call == Call::Completions { "text_completion" } else { "chat.completion" };
                self.whole.insert("object".to_owned(), object.into());
                let choices: Vec<_> =
                    parts.map(|(index, choice)| finished_choice(index, choice, call)).collect();
                self.whole.insert("choices".to_owned(), choices.into());
            }
        }
        if !self.usage.is_empty() {
            self.whole.insert("usage".to_owned(), self.usage.into());
        }
        self.whole.into()
    }
}

/// A choice as JSON answers have it.
fn finished_choice(index: u64, mut choice: Object, call: Call) -> Value {
    choice.insert("index".to_owned(), index.into());
    let mut reason = "stop";
    if call == Call::Completions {
        choice.entry("text").or_insert_with(|| "".into());
    } else {
        let message = choice.entry("message").or_insert_with(|| json!({}));
        if let Value::Object(message) = message {
            message.entry("role").or_insert_with(|| "assistant".into());
            message.entry("content").or_insert(Value::Null);
            if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
                reason = "tool_calls";
                calls.iter_mut().filter_map(Value::as_object_mut).for_each(|call| {
                    call.remove("index");
                });
            }
        }
    }
    choice.entry("finish_reason").or_insert_with(|| reason.into());
    choice.into()
}

/// A block whose input came as text has it as an object.
fn finished_block(mut block: Object) -> Object {
    if let Some(Value::String(input)) = block.remove("partial_json") {
        let input = serde_json::from_str(&input).unwrap_or_else(|_| json!({}));
        block.insert("input".to_owned(), input);
    }
    block
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || matches!(value.as_str(), Some("" | "null"))
}

/// Adds what a part of an answer says to what was said before.
fn merge(into: &mut Object, more: Object) {
    for (name, value) in more {
        let Some(before) = into.get_mut(&name) else {
            into.insert(name, value);
            continue;
        };
        match (before, value) {
            (_, Value::Null) => {}
            (Value::String(before), Value::String(more)) if NAMES.contains(&&*name) => {
                if !more.is_empty() {
                    *before = more;
                }
            }
            (Value::String(before), Value::String(more)) => before.push_str(&more),
            (Value::Object(before), Value::Object(more)) => merge(before, more),
            (Value::Array(before), Value::Array(more)) => {
                more.into_iter().for_each(|item| add_item(before, item))
            }
            (before, value) => *before = value,
        }
    }
}

/// Adds an element to a list: to that of the same index, if it has one.
fn add_item(list: &mut Vec<Value>, item: Value) {
    let index = item.get("index").filter(|index| index.is_u64()).cloned();
    let known = index.and_then(|index| list.iter_mut().find(|known| known.get("index") == Some(&index)));
    match (known, item) {
        (Some(Value::Object(known)), Value::Object(item)) => merge(known, item),
        (_, item) => list.push(item),
    }
}

/// Adds a report of usage; the larger figure counts.
fn merge_usage(into: &mut Object, more: Object) {
    for (name, value) in more {
        match (into.get_mut(&name), value) {
            (Some(_), Value::Null) => {}
            (Some(Value::Object(before)), Value::Object(more)) => merge_usage(before, more),
            (Some(Value::Number(before)), Value::Number(more)) if before.as_f64() >= more.as_f64() => {}
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::classify::looks_failed;

    fn sse(events: &[&str]) -> String {
        events.iter().map(|event| format!("data: {event}\n\n")).collect()
    }

    fn collected(call: Call, events: &[&str]) -> Value {
        let answer = answer(sse(events).as_bytes(), call).unwrap().unwrap();
        assert!(looks_failed(&answer, call).is_none());
        serde_json::from_slice(&answer).unwrap()
    }

    /// Goal: a stream becomes the answer that was asked for, in every language.
    #[test]
    fn streams_become_answers() {
        let chat = collected(
            Call::Chat,
            &[
                r#"{"id":"u","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
                r#"{"id":"u","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":""}]}"#,
                r#"{"id":"u","choices":[{"index":0,"delta":{"content":"lo","tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\""}}]}}]}"#,
                r#"{"id":"u","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]},"logprobs":{"content":[1]}},{"index":1,"delta":{"content":"x"},"finish_reason":"length"}]}"#,
                r#"{"id":"u","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
                "[DONE]",
            ],
        );
        assert_eq!(
            chat,
            json!({"id":"u","object":"chat.completion","created":5,"model":"m","choices":[
                {"index":0,"message":{"role":"assistant","content":"Hello","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"logprobs":{"content":[1]},"finish_reason":"tool_calls"},
                {"index":1,"message":{"role":"assistant","content":"x"},"finish_reason":"length"}],
                "usage":{"prompt_tokens":3,"completion_tokens":2}})
        );
        let text = r#"{"id":"u","choices":[{"index":0,"text":"one "}]}"#;
        let stop = r#"{"choices":[{"index":0,"text":"two","finish_reason":"stop"}]}"#;
        assert_eq!(
            collected(Call::Completions, &[text, stop]),
            json!({"id":"u","object":"text_completion","choices":[{"index":0,"text":"one two","finish_reason":"stop"}]})
        );
        let message = collected(
            Call::Messages,
            &[
                r#"{"type":"message_start","message":{"id":"u","type":"message","role":"assistant","content":[],"stop_reason":null,"usage":{"input_tokens":9,"output_tokens":1}}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"n":1}}}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":0,"output_tokens":7}}"#,
                r#"{"type":"message_stop"}"#,
            ],
        );
        assert_eq!(
            message,
            json!({"id":"u","type":"message","role":"assistant","content":[
                {"type":"text","text":"Hello","citations":[{"n":1}]},
                {"type":"tool_use","id":"t","name":"f","input":{"a":1}}],
                "stop_reason":"tool_use","usage":{"input_tokens":9,"output_tokens":7}})
        );
        let response = collected(
            Call::Responses,
            &[
                r#"{"type":"response.created","response":{"id":"u","status":"in_progress","output":[]}}"#,
                r#"{"type":"response.output_text.delta","delta":"Hello"}"#,
                r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"Hello"}]}}"#,
                r#"{"type":"response.completed","response":{"id":"u","status":"completed","output":[]}}"#,
            ],
        );
        assert_eq!(
            response,
            json!({"id":"u","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hello"}]}]})
        );
    }

    /// Goal: a stream that failed or was cut is a failure here too, and other calls have no streams.
    #[test]
    fn failed_streams_are_no_answers() {
        let text = r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#;
        assert_eq!(answer(sse(&[text]).as_bytes(), Call::Chat), Some(Err(Fault::Cut)));
        let error = r#"{"detail":"broken"}"#;
        assert!(matches!(
            answer(sse(&[text, error]).as_bytes(), Call::Chat),
            Some(Err(Fault::ErrorEvent(_)))
        ));
        assert_eq!(answer(sse(&[text]).as_bytes(), Call::Embeddings), None);
    }
}
