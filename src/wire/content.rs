//! Answers that are complete and have nothing in them (spec 7.1).
//!
//! A successful status, a proper shape and an empty text are no answer: nobody pays for it, and another channel may do
//! better. It is one where the upstream says why nothing is there: it refused, it thought, it ran into the bound that the
//! client set. What is not known counts as content.

use super::endpoint::Call;
use super::envelope::{Members, Text};
use super::usage;
use crate::core::api::Api;
use crate::core::usage::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Larger answers are not looked into, in bytes; none of them is empty.
const LOOKED_AT_MAX: usize = 16 * 1024;
/// Deeper values are taken for content.
const DEPTH_MAX: usize = 8;

/// Members that say something about an answer or a part of it, and show nothing.
const ASIDE: [&str; 22] = [
    "role",
    "type",
    "id",
    "index",
    "object",
    "status",
    "phase",
    "created",
    "annotations",
    "logprobs",
    "finish_reason",
    "stop_reason",
    "metadata",
    "provider_specific_fields",
    "provider_metadata",
    "providerMetadata",
    "revised_prompt",
    "content_filter_results",
    "content_filter_result",
    "prompt_filter_results",
    "cache_control",
    "citations",
];

/// What of an answer says whether there is anything in it.
#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    output: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    incomplete_details: Option<Details<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
}

/// Whether a whole answer of the right shape has no content, and does not say why.
#[must_use]
pub fn is_missing(body: &[u8], call: Call) -> bool {
    if body.len() > LOOKED_AT_MAX || call == Call::CountTokens {
        return false;
    }
    // What is not of this shape is judged elsewhere.
    let Ok(view) = serde_json::from_slice::<View<'_>>(body) else { return false };
    match call.api() {
        Api::Chat | Api::Completions => view.lacks_choices(),
        Api::Messages => view.lacks_blocks(),
        Api::Responses => view.lacks_items(),
        Api::Embeddings | Api::Images => {
            view.data.is_some_and(|data| !shows(data, call.api() == Api::Embeddings, DEPTH_MAX))
        }
        Api::Video => false,
    }
}

/// Whether a stop reason says why there is nothing to read: the model refused, ran into its bound (which may be zero, to
/// fill a cache) or into a stop sequence, or waits.
#[must_use]
pub fn explains_nothing(reason: &str) -> bool {
    matches!(reason, "refusal" | "max_tokens" | "stop_sequence" | "pause_turn")
}

/// Whether an image of an answer is there.
pub(super) fn is_image(item: &RawValue) -> bool {
    shows(item, false, DEPTH_MAX)
}

impl View<'_> {
    fn lacks_choices(&self) -> bool {
        let Some(choices) = self.choices.as_ref().filter(|choices| !choices.is_empty()) else { return false };
        let used = self.used();
        choices.iter().all(|choice| {
            let shown = [choice.message, choice.text].into_iter().flatten();
            let explained = match choice.finish_reason.as_ref().map(|reason| &*reason.0) {
                Some("content_filter") => true,
                Some("length") => used.output > 0,
                _ => used.reasoning > 0,
            };
            !explained && !shown.into_iter().any(|value| shows(value, false, DEPTH_MAX))
        })
    }

    fn lacks_blocks(&self) -> bool {
        let explained = self.stop_reason.as_ref().is_some_and(|reason| explains_nothing(&reason.0));
        let shown = self.content.is_none_or(|content| shows(content, false, DEPTH_MAX));
        !explained && !shown && self.used().reasoning == 0
    }

    fn lacks_items(&self) -> bool {
        let Some(items) = &self.output else { return false };
        let is = |text: &Option<Text<'_>>, word| text.as_ref().is_some_and(|text| text.0 == word);
        let used = self.used();
        let refused = self.incomplete_details.as_ref().is_some_and(|d| is(&d.reason, "content_filter"));
        let bounded = is(&self.status, "incomplete") && used.output > 0;
        !refused && !bounded && used.reasoning == 0 && !items.iter().any(|item| is_item(item))
    }

    fn used(&self) -> Usage {
        let read = self.usage.map(|usage| usage::read(usage.get().as_bytes()));
        read.and_then(|reading| reading.usage).unwrap_or_default()
    }
}

/// Whether an output item of a response is something: a message or an image needs content, all others are by being there.
fn is_item(item: &RawValue) -> bool {
    let members = serde_json::from_str::<Members<'_>>(item.get()).ok();
    let kind = members.as_ref().and_then(|members| members.text("type"));
    match kind.as_deref() {
        None | Some("message" | "image_generation_call") => shows(item, false, DEPTH_MAX),
        Some(_) => true,
    }
}

/// Whether a value has anything for the client: a text, or in vectors a number.
fn shows(value: &RawValue, numbers: bool, depth: usize) -> bool {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => text.len() > 2,
        Some(b'[' | b'{') if depth == 0 => true,
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(text)
            .map_or(true, |items| items.iter().any(|item| shows(item, numbers, depth - 1))),
        Some(b'{') => serde_json::from_str::<Members<'_>>(text).map_or(true, |members| {
            let shown = |name: &str| !ASIDE.contains(&name);
            members.0.iter().any(|(name, value)| shown(name) && shows(value, numbers, depth - 1))
        }),
        Some(b'-' | b'0'..=b'9') => numbers,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(rest: &str) -> String {
        format!(r#"{{"id":"x","choices":[{{"index":0,{rest}}}]}}"#)
    }

    fn used(rest: &str, usage: &str) -> String {
        format!(r#"{{"id":"x","choices":[{{"index":0,{rest}}}],"usage":{usage}}}"#)
    }

    /// Goal: a complete answer without content is none, in every language.
    #[test]
    fn an_empty_answer_is_none() {
        for empty in [
            chat(r#""message":{"role":"assistant","content":""},"finish_reason":"stop""#),
            chat(
                r#""message":{"role":"assistant","content":null,"refusal":null,"annotations":[]},"finish_reason":"stop""#,
            ),
            chat(
                r#""message":{"role":"assistant","content":[{"type":"text","text":""}],"tool_calls":[]},"finish_reason":"tool_calls""#,
            ),
            chat(r#""text":"","finish_reason":"stop""#),
            chat(r#""message":{"content":""},"finish_reason":"length""#),
            used(
                r#""message":{"content":""},"finish_reason":"stop""#,
                r#"{"prompt_tokens":5,"completion_tokens":1}"#,
            ),
            "{\"choices\":[{}]}".to_owned(),
        ] {
            assert!(is_missing(empty.as_bytes(), Call::Chat), "{empty}");
        }
        for (call, empty) in [
            (Call::Responses, r#"{"status":"completed","output":[]}"#),
            (
                Call::Responses,
                r#"{"status":"completed","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"","annotations":[]}]}]}"#,
            ),
            (Call::Messages, r#"{"type":"message","content":[],"stop_reason":"end_turn"}"#),
            (
                Call::Messages,
                r#"{"type":"message","content":[{"type":"text","text":""}],"stop_reason":"end_turn"}"#,
            ),
            (Call::ImageGenerations, r#"{"data":[{"b64_json":""}]}"#),
            (Call::ImageGenerations, r#"{"data":[{}]}"#),
            (Call::ImageEdits, r#"{"data":[{"url":null,"revised_prompt":"a cat"}]}"#),
            (Call::Embeddings, r#"{"data":[{"object":"embedding","index":0,"embedding":[]}]}"#),
        ] {
            assert!(is_missing(empty.as_bytes(), call), "{empty}");
        }
    }

    /// Goal: whatever shows something is an answer, and so is one that says that the model refused, thought, or ran into a
    /// bound.
    #[test]
    fn an_answer_with_anything_in_it_is_one() {
        for full in [
            chat(r#""message":{"content":"a"}"#),
            chat(
                r#""message":{"content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":"tool_calls""#,
            ),
            chat(r#""message":{"content":null,"refusal":"no"},"finish_reason":"stop""#),
            chat(r#""message":{"content":"","reasoning_content":"hm"},"finish_reason":"length""#),
            chat(r#""message":{"content":""},"finish_reason":"content_filter""#),
            chat(
                r#""message":{"content":null,"images":[{"image_url":{"url":"data:"}}]},"finish_reason":"stop""#,
            ),
            used(
                r#""message":{"content":""},"finish_reason":"length""#,
                r#"{"prompt_tokens":5,"completion_tokens":16}"#,
            ),
            used(
                r#""message":{"content":""},"finish_reason":"stop""#,
                r#"{"prompt_tokens":5,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":9}}"#,
            ),
        ] {
            assert!(!is_missing(full.as_bytes(), Call::Chat), "{full}");
        }
        for (call, full) in [
            (Call::Responses, r#"{"status":"completed","output":[{"type":"reasoning","summary":[]}]}"#),
            (Call::Responses, r#"{"status":"completed","output":[{"type":"function_call","name":"f"}]}"#),
            (
                Call::Responses,
                r#"{"status":"incomplete","incomplete_details":{"reason":"content_filter"},"output":[]}"#,
            ),
            (
                Call::Responses,
                r#"{"status":"incomplete","output":[],"usage":{"input_tokens":1,"output_tokens":9}}"#,
            ),
            (Call::Messages, r#"{"type":"message","content":[],"stop_reason":"refusal"}"#),
            (
                Call::Messages,
                r#"{"type":"message","content":[],"stop_reason":"max_tokens","usage":{"input_tokens":9,"output_tokens":0}}"#,
            ),
            (
                Call::Messages,
                r#"{"type":"message","content":[{"type":"tool_use","id":"1","name":"f","input":{}}],"stop_reason":"tool_use"}"#,
            ),
            (Call::ImageGenerations, r#"{"data":[{"b64_json":""},{"url":"x"}]}"#),
            (Call::Embeddings, r#"{"data":[{"object":"embedding","index":0,"embedding":[0.5]}]}"#),
            (Call::Embeddings, r#"{"data":[{"index":0,"sparse_embedding":{"12":0.5}}]}"#),
            (Call::CountTokens, r#"{"input_tokens":0}"#),
        ] {
            assert!(!is_missing(full.as_bytes(), call), "{full}");
        }
    }
}
