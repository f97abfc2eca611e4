//! What the caller sent, so that their own words can be told from the upstream's.

use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

/// The request of which an upstream's answer speaks.
#[derive(Debug, Clone)]
pub struct Caller<'a> {
    body: &'a [u8],
    /// The model as the caller knows it.
    pub public_model: &'a str,
    /// The model as the upstream knows it.
    pub upstream_model: &'a str,
    plain: OnceCell<String>,
    top: OnceCell<Vec<(String, bool)>>,
    added: Option<Vec<&'static str>>,
}

/// The longest path of a member that is looked up in a request, in bytes.
const PATH_MAX: usize = 200;
/// As much of a message as is looked at, in bytes.
const SAID_MAX: usize = 2_048;

/// Nouns for parts of a request. With one of them a message speaks of the request, though it names no field.
const PARTS: [&str; 33] = [
    "alternate",
    "contents",
    "item",
    "items",
    "message",
    "assistant",
    "conversation",
    "prefill",
    "prompt",
    "prompts",
    "document",
    "documents",
    "pdf",
    "pages",
    "content",
    "block",
    "blocks",
    "turn",
    "turns",
    "input",
    "inputs",
    "instructions",
    "audio",
    "video",
    "json",
    "base64",
    "parameter",
    "parameters",
    "argument",
    "arguments",
    "cache_control",
    "budget_tokens",
    "previous_response_id",
];

/// Request fields whose name in a message says that it speaks of the request.
const FIELDS: [&str; 40] = [
    "messages",
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "tool",
    "tools",
    "tool_choice",
    "tool_call_id",
    "tool_calls",
    "tool_use",
    "tool_result",
    "function",
    "functions",
    "schema",
    "response_format",
    "image",
    "images",
    "image_url",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "stream",
    "stream_options",
    "reasoning",
    "reasoning_effort",
    "effort",
    "thinking",
    "parameter",
    "parameters",
    "input_schema",
    "dimensions",
    "size",
    "role",
    "roles",
    "pattern",
];

/// Request fields whose names are words of their own, so that only their place tells them.
const MORE_FIELDS: [&str; 36] = [
    "audio",
    "background",
    "best_of",
    "echo",
    "encoding_format",
    "file",
    "include",
    "input",
    "instructions",
    "mask",
    "metadata",
    "modalities",
    "model",
    "n",
    "output_format",
    "parallel_tool_calls",
    "prediction",
    "previous_response_id",
    "prompt",
    "quality",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "stop_sequences",
    "store",
    "style",
    "suffix",
    "system",
    "text",
    "truncation",
    "url",
    "user",
    "verbosity",
    "video",
    "web_search_options",
];

impl<'a> Caller<'a> {
    /// The caller who sent `body` for `public_model`, which is `upstream_model` there.
    #[must_use]
    pub fn new(body: &'a [u8], public_model: &'a str, upstream_model: &'a str) -> Self {
        Self { body, public_model, upstream_model, plain: OnceCell::new(), top: OnceCell::new(), added: None }
    }

    /// The same, with the members that the gateway wrote into the request beside the caller's.
    #[must_use]
    pub fn with_added(mut self, added: Vec<&'static str>) -> Self {
        self.added = Some(added);
        self
    }

    /// The member that a refusal names, if the gateway wrote it and the caller did not (spec 1.6).
    ///
    /// Where it is not known what the gateway wrote, it is what it writes into every stream.
    #[must_use]
    pub fn refused_addition(&self, param: Option<&str>, message: &str) -> Option<&'static str> {
        let assumed = [STREAM_OPTIONS];
        let added = match &self.added {
            Some(added) => added.as_slice(),
            None if self.streams() => &assumed,
            None => &[],
        };
        added.iter().copied().find(|member| {
            let names = |name: &str| {
                let first = param.and_then(|param| param.split(['.', '[']).next());
                first == Some(name) || words(message).any(|word| word == name)
            };
            let refused = names(member) || *member == STREAM_OPTIONS && names(INCLUDE_USAGE);
            refused && !self.wrote(&format!("\"{member}\""))
        })
    }

    /// Whether the caller asked for a stream.
    fn streams(&self) -> bool {
        self.top().iter().any(|(name, is_true)| name == "stream" && *is_true)
    }

    /// The names of the members at the top of the request, and which of them are true; none if it is no JSON object.
    fn top(&self) -> &[(String, bool)] {
        self.top.get_or_init(|| {
            let members: Option<HashMap<Cow<'_, str>, &RawValue>> = serde_json::from_slice(self.body).ok();
            let members = members.unwrap_or_default().into_iter();
            members.map(|(name, raw)| (name.into_owned(), raw.get() == "true")).collect()
        })
    }

    /// Whether a path begins with a member that the request has at its top: `messages.0.content.1`.
    #[must_use]
    pub fn has_at(&self, path: &str) -> bool {
        let first = path.split(['.', '[']).next().unwrap_or_default();
        path.len() <= PATH_MAX && self.top().iter().any(|(name, _)| name == first)
    }

    /// Whether the caller wrote these bytes.
    #[must_use]
    pub fn wrote(&self, text: &str) -> bool {
        !text.is_empty() && memchr::memmem::find(self.body, text.as_bytes()).is_some()
    }

    /// Whether the caller wrote all of these words, in lower case, however they were escaped and spaced.
    ///
    /// Then a text that has them may be an echo, and proves nothing (spec 3.5).
    #[must_use]
    pub fn wrote_all(&self, words: &[&str]) -> bool {
        let plain = self.plain.get_or_init(|| plain(self.body));
        !words.is_empty() && words.iter().all(|word| plain.contains(word))
    }

    /// Whether `param` is the place of a field: its first name is one that requests have, or that the caller wrote.
    #[must_use]
    pub fn is_field(&self, param: &str) -> bool {
        let shaped = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '-' | '$');
        let first = param.split(['.', '[']).next().unwrap_or_default();
        let known =
            FIELDS.contains(&first) || MORE_FIELDS.contains(&first) || self.wrote(&format!("\"{first}\""));
        known && param.len() <= 200 && param.chars().all(shaped)
    }

    /// Whether the words name a member that the caller sent, or a part that requests have.
    #[must_use]
    pub fn is_named_in(&self, message: &str) -> bool {
        let message = beginning(message);
        let lower = message.to_lowercase();
        let is_deep = |place: &str| place.contains('[') || place.matches('.').count() > 1;
        let is_compound = |word: &str| {
            word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'))
        };
        self.field_in(message).is_some()
            || places(message).any(is_deep)
            || quoted(message).any(is_compound)
            || words(&lower).any(|word| FIELDS.contains(&word) || PARTS.contains(&word))
            || words(message).any(|word| word.len() >= 4 && self.has_as_snake(word).is_some())
    }

    /// The field of the request that the words name: one that requests have, a member that the caller sent, or the place
    /// of one.
    #[must_use]
    pub fn field_in<'m>(&self, message: &'m str) -> Option<&'m str> {
        let is_member = |word: &str| self.wrote(&format!("\"{word}\""));
        let named = |word: &&str| {
            let compound = word.contains('_');
            compound && (FIELDS.contains(word) || MORE_FIELDS.contains(word) || is_member(word))
                || word.len() >= 4 && self.has_as_snake(word).is_some()
        };
        let message = beginning(message);
        places(message)
            .find(|place| self.has_at(place))
            .or_else(|| words(message).find(named))
            .or_else(|| quoted(message).find(|word| is_member(word)))
            .or_else(|| words(message).find(|word| word.len() >= 4 && FIELDS.contains(word)))
    }

    /// The member that the caller sent in snake case and a message has in camel case.
    fn has_as_snake(&self, word: &str) -> Option<String> {
        let snake = snake_case(word)?;
        self.wrote(&format!("\"{snake}\"")).then_some(snake)
    }
}

/// As much of a message as is looked at.
pub(super) fn beginning(message: &str) -> &str {
    message.get(..message.floor_char_boundary(SAID_MAX)).unwrap_or(message)
}

/// What the gateway writes into streams (spec 1.6).
const STREAM_OPTIONS: &str = "stream_options";
/// And its member.
const INCLUDE_USAGE: &str = "include_usage";

/// The words of a text that could be names of members.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// What stands in quotation marks in a text, which is meant as a name, however short.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let inside = text.split(['\'', '"', '`']).skip(1).step_by(2);
    inside.filter(|word| word.len() <= 64 && !word.is_empty())
}

/// The words of a text that are written as places in a request: with steps, or before a colon.
fn places(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().filter_map(|word| {
        let bare = word.trim_matches(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '[' | ']')));
        let stepped = bare.contains(['.', '[']);
        (stepped || word.ends_with(':')).then_some(bare).filter(|bare| !bare.is_empty())
    })
}

/// `maxTokens` as `max_tokens`; `None` for what is not in camel case.
fn snake_case(word: &str) -> Option<String> {
    let camel = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
        && word.chars().any(|c| c.is_ascii_uppercase());
    if !camel {
        return None;
    }
    let mut snake = String::with_capacity(word.len() + 4);
    for c in word.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    Some(snake)
}

/// A JSON text without its escapes, in lower case, with one space between words.
fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' { unescaped(&mut chars) } else { c };
        if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

/// The character that an escape spells; half of a pair counts as nothing that rules look for.
fn unescaped(chars: &mut std::str::Chars<'_>) -> char {
    match chars.next() {
        Some('u') => {
            let digits: String = chars.by_ref().take(4).collect();
            u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
        }
        Some('n' | 'r' | 't') | None => ' ',
        Some(c) => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a message counts as about the request only when it names a field.
    #[test]
    fn knows_when_a_field_is_named() {
        let caller = Caller::new(br#"{"my_field":1}"#, "p/m", "m");
        assert!(caller.is_named_in("`temperature` is too high") && caller.is_named_in("bad my_field"));
        assert!(Caller::new(br#"{"ab":1}"#, "p/m", "m").is_named_in("extra input 'ab'"));
        assert!(!caller.is_named_in("please pay") && !caller.is_named_in("no_such thing"));
    }

    /// Goal: an echo is recognised, whatever escapes and spaces the caller used.
    #[test]
    fn knows_the_callers_own_words() {
        let caller = Caller::new(br#"{"content":"Incorrect\u0020API\n key, \u00e9"}"#, "p/m", "m");
        assert!(caller.wrote_all(&["incorrect api key"]) && caller.wrote_all(&["api", "é"]));
        assert!(!caller.wrote_all(&["incorrect", "balance"]) && !caller.wrote_all(&[]));
    }
}
