//! What the caller sent, so that their own words can be told from the upstream's.

use std::cell::OnceCell;

/// The request of which an upstream's answer speaks.
#[derive(Debug, Clone)]
pub struct Caller<'a> {
    body: &'a [u8],
    /// The model as the caller knows it.
    pub public_model: &'a str,
    /// The model as the upstream knows it.
    pub upstream_model: &'a str,
    plain: OnceCell<String>,
}

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
        Self { body, public_model, upstream_model, plain: OnceCell::new() }
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

    /// Whether the words name a member that the caller sent, or a field that requests have.
    #[must_use]
    pub fn is_named_in(&self, message: &str) -> bool {
        let is_member = |word: &str| self.wrote(&format!("\"{word}\""));
        let plain = message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        // What stands in quotation marks is meant as a name, however short.
        let quoted = message.split(['\'', '"', '`']).skip(1).step_by(2);
        plain
            .filter(|word| word.len() >= 4)
            .any(|word| FIELDS.contains(&word) || word.contains('_') && is_member(word))
            || quoted.filter(|word| word.len() <= 64).any(is_member)
    }
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
