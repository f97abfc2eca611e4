//! Usage as upstreams report it (spec 7.1), in OpenAI's two spellings and in Anthropic's.
//!
//! Chat, completions and embeddings say `prompt_tokens` and `completion_tokens`; Responses and images say
//! `input_tokens` and `output_tokens`; so does Messages, but it counts what its cache read and wrote apart. A member that is missing, null, negative, fractional or absurd counts as not
//! reported; parts never exceed their whole. So nonsense harms neither side.

use super::envelope::Members;
use crate::core::usage::Usage;
use serde_json::value::RawValue;

/// The largest count that is believed; more than any model can read or write in one call.
const TOKENS_MAX: u64 = 1 << 40;

/// Reads a `usage` object; `None` where it reports no tokens at all.
#[must_use]
pub fn parse(usage: &[u8]) -> Option<Usage> {
    let members: Members<'_> = serde_json::from_slice(usage).ok()?;
    let input = count(&members, &["prompt_tokens", "input_tokens"]);
    let output = count(&members, &["completion_tokens", "output_tokens"]);
    if input.is_none() && output.is_none() {
        return None;
    }
    let apart = |name| count(&members, &[name]).unwrap_or(0);
    let (cache_read, cache_write) = (apart("cache_read_input_tokens"), apart("cache_creation_input_tokens"));
    let input = input.unwrap_or(0).saturating_add(cache_read).saturating_add(cache_write);
    let output = output.unwrap_or(0);
    let read = details(&members, &["prompt_tokens_details", "input_tokens_details"]);
    let written = details(&members, &["completion_tokens_details", "output_tokens_details"]);
    let part = |of: &Option<Members<'_>>, name| of.as_ref().and_then(|m| count(m, &[name])).unwrap_or(0);
    Some(Usage {
        input,
        output,
        cached: part(&read, "cached_tokens").max(cache_read).min(input),
        cache_write,
        reasoning: part(&written, "reasoning_tokens").min(output),
    })
}

fn find<'a>(members: &Members<'a>, names: &[&str]) -> Option<&'a RawValue> {
    members.0.iter().rev().find(|(name, _)| names.contains(&&**name)).map(|(_, value)| *value)
}

fn count(members: &Members<'_>, names: &[&str]) -> Option<u64> {
    find(members, names)?.get().parse().ok().filter(|count| *count <= TOKENS_MAX)
}

fn details<'a>(members: &Members<'a>, names: &[&str]) -> Option<Members<'a>> {
    serde_json::from_str(find(members, names)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: both spellings, with their parts, and nonsense that counts as not reported.
    #[test]
    fn reads_what_makes_sense() {
        let usage = |input, output, cached, reasoning| {
            Some(Usage { input, output, cached, cache_write: 0, reasoning })
        };
        for (json, expected) in [
            (r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}"#, usage(9, 4, 0, 0)),
            (
                r#"{"input_tokens":9,"input_tokens_details":{"cached_tokens":20},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":3}}"#,
                usage(9, 4, 9, 3),
            ),
            (r#"{"prompt_tokens":9,"total_tokens":9}"#, usage(9, 0, 0, 0)),
            (r#"{"input_tokens":2,"cache_read_input_tokens":7,"output_tokens":4}"#, usage(9, 4, 7, 0)),
            (r#"{"prompt_tokens":-9,"completion_tokens":1.5}"#, None),
            (r#"{"prompt_tokens":18446744073709551615,"completion_tokens":4}"#, usage(0, 4, 0, 0)),
            (r#"{"prompt_tokens":null,"completion_tokens":"4"}"#, None),
            ("{}", None),
            ("null", None),
            ("[", None),
        ] {
            assert_eq!(parse(json.as_bytes()), expected, "{json}");
        }
    }
}
