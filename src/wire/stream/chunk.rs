//! What one event of a chat or completions stream says.
//!
//! One parse of borrowed members; no tree is built. A hit is judged by where it stands, so a tool argument that spells
//! `"usage"` or `"error"` is content and nothing else.

use crate::wire::delivered::items;
use crate::wire::envelope::{Members, Text, is_present};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The meaning of one event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chunk<'a> {
    /// It reports an error instead of content.
    pub error: bool,
    /// It has text, a tool call, reasoning, a refusal or an image: something a client could show (spec 10.1).
    pub content: bool,
    /// Images that it has.
    pub images: u64,
    /// It has no choices at all.
    pub no_choices: bool,
    /// Choices that it mentions, one bit each.
    pub seen: u128,
    /// Choices that it finishes, one bit each.
    pub finished: u128,
    /// A choice finished with a failure: the reason `error` never passes (spec 2.6).
    pub finished_badly: bool,
    /// Choices that it finishes because a filter held something back, one bit each.
    pub withheld: u128,
    /// No choice has anything of an answer in it, not even nothing: what it says, it says beside the answer.
    pub aside: bool,
    /// The failure is one of length, which is a failure only where nothing was said.
    pub finished_short: bool,
    /// What it shows, if that is one string and nothing else in it says anything.
    pub plain: Option<&'a RawValue>,
    /// Padding against those who guess words by the length of events.
    pub padding: Option<&'a RawValue>,
    /// Its usage, if it is not null; where it has none of its own, that of a choice.
    pub usage: Option<&'a RawValue>,
    /// A choice of it has a usage that is not null.
    pub usage_in_choices: bool,
}

#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    base_resp: Option<BaseResp<'a>>,
    #[serde(borrow, default)]
    obfuscation: Option<&'a RawValue>,
}

/// How MiniMax reports errors, and successes too.
#[derive(Deserialize)]
struct BaseResp<'a> {
    #[serde(borrow, default)]
    status_code: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<Members<'a>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

impl<'a> Chunk<'a> {
    /// Reads the data of one event; `show` is called with each member that a client could show.
    ///
    /// # Errors
    ///
    /// The data is not JSON or not of the shape of a chunk.
    pub fn parse(data: &'a [u8], mut show: impl FnMut(&RawValue)) -> Result<Self, serde_json::Error> {
        // A derived structure would take an array for its members in order.
        if !data.trim_ascii_start().starts_with(b"{") {
            return Err(serde::de::Error::custom("not an object"));
        }
        let view: View<'a> = serde_json::from_slice(data)?;
        let choices = view.choices.unwrap_or_default();
        let mut chunk = Self {
            error: view.error.is_some_and(is_present)
                || view.kind.is_some_and(|kind| kind.get() == "\"error\"")
                || view.base_resp.is_some_and(|resp| resp.status_code.is_some_and(|code| code.get() != "0")),
            no_choices: choices.is_empty(),
            aside: choices.iter().all(|choice| choice.delta.is_none() && choice.text.is_none()),
            padding: view.obfuscation.filter(|padding| padding.get().starts_with('"')),
            usage: view.usage.filter(|usage| usage.get() != "null"),
            ..Self::default()
        };
        let of_choice = choices.iter().filter_map(|choice| choice.usage).next_back();
        chunk.usage_in_choices = of_choice.is_some();
        chunk.usage = chunk.usage.or(of_choice);
        let (mut shown, mut last) = (0, None);
        for choice in &choices {
            chunk.add(choice, &mut |value| {
                (shown, last) = (shown + 1, Some(value));
                show(value);
            });
        }
        let alone =
            shown == 1 && !chunk.error && chunk.finished == 0 && chunk.images == 0 && chunk.usage.is_none();
        chunk.plain = last.filter(|value| alone && value.get().starts_with('"'));
        Ok(chunk)
    }

    fn add(&mut self, choice: &Choice<'a>, show: &mut impl FnMut(&'a RawValue)) {
        let bit = 1u128.checked_shl(u32::try_from(choice.index).unwrap_or(0)).unwrap_or(1);
        self.seen |= bit;
        let delta = choice.delta.as_ref().map(|delta| delta.0.as_slice()).unwrap_or_default();
        let images = delta.iter().filter(|(name, _)| name == "images").map(|(_, list)| items(list));
        self.images += images.sum::<u64>();
        // Whatever a delta carries besides a role is content.
        let members = delta.iter().filter(|(name, _)| name != "role").map(|(_, value)| *value);
        for value in members.chain(choice.text).filter(|value| is_present(value)) {
            self.content = true;
            show(value);
        }
        if let Some(Text(reason)) = &choice.finish_reason {
            self.finished |= bit;
            self.withheld |= if reason == "content_filter" { bit } else { 0 };
            self.finished_short |= reason == "model_context_window_exceeded";
            self.finished_badly |= matches!(
                &**reason,
                "error" | "insufficient_system_resource" | "model_context_window_exceeded"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &str) -> Chunk<'_> {
        Chunk::parse(data.as_bytes(), |_| {}).unwrap()
    }

    /// Goal: only what a client could show counts as content (spec 10.1).
    #[test]
    fn tells_content_from_preamble() {
        for preamble in [
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[]}}]}"#,
            r#"{"choices":[{"delta":{}}],"usage":null}"#,
            r#"{"choices":[]}"#,
            r#"{"choices":[{"text":""}]}"#,
        ] {
            assert!(!parse(preamble).content, "{preamble}");
        }
        for content in [
            r#"{"choices":[{"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"text":"a"}]}"#,
        ] {
            assert!(parse(content).content, "{content}");
        }
    }

    /// Goal: errors, finish reasons and usage are seen where they stand, and nowhere else.
    #[test]
    fn judges_by_place() {
        assert!(parse(r#"{"error":{"message":"x"}}"#).error);
        assert!(parse(r#"{"type":"error","message":"x"}"#).error);
        assert!(!parse(r#"{"error":null,"choices":[]}"#).error);
        let fake = r#"{"choices":[{"index":1,"delta":{"content":"{\"error\":1,\"usage\":{}}"},"finish_reason":"error"}]}"#;
        let chunk = parse(fake);
        assert!(!chunk.error && chunk.usage.is_none() && chunk.finished_badly);
        assert_eq!((chunk.seen, chunk.finished), (2, 2));
        assert!(parse(r#"{"choices":[],"usage":{"a":1}}"#).usage.is_some());
        let own = parse(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"a":1}}]}"#);
        assert!(own.usage_in_choices && own.usage.is_some_and(|usage| usage.get() == r#"{"a":1}"#));
        assert!(!parse(r#"{"choices":[{"delta":{"usage":{"a":1}}}]}"#).usage_in_choices);
        assert!(Chunk::parse(b"[1]", |_| {}).is_err() && Chunk::parse(b"{\"choices\":1}", |_| {}).is_err());
    }
}
