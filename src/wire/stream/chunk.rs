//! What one event of a chat or completions stream says.
//!
//! One parse of borrowed members; no tree is built. A hit is judged by where it stands, so a tool argument that spells
//! `"usage"` or `"error"` is content and nothing else.

use super::repair::is_no_reason;
use crate::wire::delivered::items;
use crate::wire::envelope::{Members, Text, is_present};
use crate::wire::usage::inner_usage;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The meaning of one event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chunk<'a> {
    /// It reports an error instead of content.
    pub error: bool,
    /// It has members that say nothing in a way of their own; nothing of it was read (see the module `repair`).
    pub odd: bool,
    /// It has text, a tool call, reasoning, a refusal or an image: something a client could show (spec 10.1).
    pub content: bool,
    /// Images that it has.
    pub images: u64,
    /// It has no choices at all.
    pub no_choices: bool,
    /// Choices that it mentions, one bit each.
    pub seen: u128,
    /// Choices that it finishes, for a documented reason, one bit each.
    pub finished: u128,
    /// A choice has a reason of whatever kind.
    pub reasoned: bool,
    /// Choices that call tools, one bit each.
    pub calls: u128,
    /// Choices that call a function in the older way, one bit each.
    pub calls_function: u128,
    /// A choice finished with a failure: the reason `error` never passes (spec 2.6).
    pub finished_badly: bool,
    /// Choices that it finishes because a filter held something back, one bit each.
    pub withheld: u128,
    /// A choice of it finished at the bound of its length.
    pub bounded: bool,
    /// No choice has anything of an answer in it, not even nothing: what it says, it says beside the answer.
    pub aside: bool,
    /// The failure is one of length, which is a failure only where nothing was said.
    pub finished_short: bool,
    /// What it shows, if that is one string and nothing else in it says anything.
    pub plain: Option<&'a RawValue>,
    /// Padding against those who guess words by the length of events.
    pub padding: Option<&'a RawValue>,
    /// Its usage, if it is not null; where it has none of its own, that of a choice, or of `x_groq`.
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
    x_groq: Option<&'a RawValue>,
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
    /// As it stands, null included.
    #[serde(borrow, default, deserialize_with = "raw")]
    index: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Delta<'a>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

/// Reasons by which a choice ends; any other passes, and ends nothing (spec 2.6).
const FINISHES: [&str; 5] = ["stop", "length", "tool_calls", "function_call", "content_filter"];

/// What a choice adds.
#[derive(Default)]
enum Delta<'a> {
    #[default]
    None,
    Some(Members<'a>),
    /// An empty list or text, as some languages write an empty object.
    Odd,
}

impl<'de: 'a, 'a> Deserialize<'de> for Delta<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <&RawValue>::deserialize(deserializer)?;
        match value.get() {
            "null" => Ok(Self::None),
            "[]" | "\"\"" | "false" => Ok(Self::Odd),
            object => serde_json::from_str(object).map(Self::Some).map_err(serde::de::Error::custom),
        }
    }
}

fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Choice<'_> {
    fn number(&self) -> Option<u64> {
        self.index.map_or(Some(0), |index| index.get().parse().ok())
    }

    fn is_odd(&self) -> bool {
        self.number().is_none()
            || matches!(self.delta, Delta::Odd)
            || self.finish_reason.as_ref().is_some_and(|reason| is_no_reason(&reason.0))
    }
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
            odd: choices.iter().any(Choice::is_odd),
            error: view.error.is_some_and(is_present)
                || choices.iter().any(|choice| choice.error.is_some_and(is_present))
                || view.kind.is_some_and(|kind| kind.get() == "\"error\"")
                || view.base_resp.is_some_and(|resp| resp.status_code.is_some_and(|code| code.get() != "0")),
            no_choices: choices.is_empty(),
            aside: choices.iter().all(|choice| matches!(choice.delta, Delta::None) && choice.text.is_none()),
            padding: view.obfuscation.filter(|padding| padding.get().starts_with('"')),
            usage: view.usage.filter(|usage| usage.get() != "null"),
            ..Self::default()
        };
        if chunk.odd {
            return Ok(chunk);
        }
        let of_choice = choices.iter().filter_map(|choice| choice.usage).next_back();
        chunk.usage_in_choices = of_choice.is_some();
        chunk.usage = chunk.usage.or(of_choice).or_else(|| view.x_groq.and_then(inner_usage));
        let (mut shown, mut last) = (0, None);
        for choice in &choices {
            chunk.add(choice, &mut |value| {
                (shown, last) = (shown + 1, Some(value));
                show(value);
            });
        }
        let alone =
            shown == 1 && !chunk.error && !chunk.reasoned && chunk.images == 0 && chunk.usage.is_none();
        chunk.plain = last.filter(|value| alone && value.get().starts_with('"'));
        Ok(chunk)
    }

    fn add(&mut self, choice: &Choice<'a>, show: &mut impl FnMut(&'a RawValue)) {
        let index = choice.number().and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        let bit = 1u128.checked_shl(index).unwrap_or(1);
        self.seen |= bit;
        let delta = match &choice.delta {
            Delta::Some(members) => members.0.as_slice(),
            Delta::None | Delta::Odd => &[],
        };
        let images = delta.iter().filter(|(name, _)| name == "images").map(|(_, list)| items(list));
        self.images += images.sum::<u64>();
        // Whatever a delta carries besides a role is content.
        let members = delta.iter().filter(|(name, _)| name != "role").map(|(_, value)| *value);
        for value in members.chain(choice.text).filter(|value| is_present(value)) {
            self.content = true;
            show(value);
        }
        let calls = |wanted| delta.iter().any(|(name, value)| name == wanted && is_present(value));
        self.calls |= if calls("tool_calls") { bit } else { 0 };
        self.calls_function |= if calls("function_call") { bit } else { 0 };
        if let Some(Text(reason)) = &choice.finish_reason {
            self.reasoned = true;
            self.finished |= if FINISHES.contains(&&**reason) { bit } else { 0 };
            self.bounded |= reason == "length";
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
        assert_eq!((chunk.seen, chunk.finished, chunk.reasoned), (2, 0, true));
        assert!(parse(r#"{"choices":[],"usage":{"a":1}}"#).usage.is_some());
        let own = parse(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"a":1}}]}"#);
        assert!(own.usage_in_choices && own.usage.is_some_and(|usage| usage.get() == r#"{"a":1}"#));
        assert!(!parse(r#"{"choices":[{"delta":{"usage":{"a":1}}}]}"#).usage_in_choices);
        assert!(Chunk::parse(b"[1]", |_| {}).is_err() && Chunk::parse(b"{\"choices\":1}", |_| {}).is_err());
    }
}
