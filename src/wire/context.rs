//! The figures of an input that is too long, out of an upstream's words (spec 2.11).
//!
//! Only figures that a phrase names unmistakably count, and a count that is not above its maximum is none. What the
//! caller reads is made of them in `wire::error`.

use crate::core::failure::ContextFigures;

/// Phrases before the maximum, the more telling ones first.
const MAX: [&str; 26] = [
    "maximum context length is ",
    "maximum context length of ",
    "maximum context length: ",
    "maximum context length (",
    "context length is only ",
    "context window of ",
    "context length of ",
    "tokens > ",
    "configured limit of ",
    "number of tokens allowed (",
    "maximum allowed length (",
    "max input tokens: ",
    "token limit: ",
    "max_seq_len (",
    "max_model_len of ",
    "maximum model length of ",
    "must have less than ",
    "exceeds the limit of ",
    "while limit is ",
    "limit is ",
    "limit of ",
    "should be [1, ",
    "must be <= ",
    "less than ",
    "maximum of ",
    "at most ",
];
/// Phrases before the count.
const COUNT: [&str; 23] = [
    "resulted in ",
    "your request has ",
    "for a total of at least ",
    "you requested about ",
    "requested about ",
    "you requested ",
    "(requested: ",
    "requested: ",
    "prompt is too long: ",
    "prompt contains at least ",
    "prompt contains ",
    "input token count (",
    "input token count: ",
    "prompt token count of ",
    "token count of ",
    "prompt length ",
    "input length (",
    "(length ",
    "current length is ",
    "length of prompt_tokens (",
    "input too long: ",
    "given: ",
    "prompt has ",
];

/// What the words state.
#[must_use]
pub fn figures(words: &str) -> ContextFigures {
    let text = words.to_lowercase();
    let Some(max) = number_after(&text, &MAX) else { return ContextFigures::default() };
    let count = number_after(&text, &COUNT).filter(|count| *count > max);
    ContextFigures { max: Some(max), count, output: None }
}

fn number_after(text: &str, phrases: &[&str]) -> Option<u64> {
    phrases.iter().find_map(|phrase| {
        let rest = text.get(text.find(phrase)? + phrase.len()..)?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(rest.len());
        rest.get(..end)?.replace(',', "").parse().ok().filter(|number| *number > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: figures come out of the usual phrasings, and nothing is said where they are missing or absurd.
    #[test]
    fn finds_what_is_stated() {
        for text in [
            "This model's maximum context length is 8,192 tokens. However, your messages resulted in 9001 tokens.",
            "prompt is too long: 9001 tokens > 8192 maximum",
            "This model's maximum context length is 8192 tokens, however you requested 9001 tokens (1 in the messages)",
            "Current length is 9001 while limit is 8192",
            "Your request exceeded model token limit: 8192 (requested: 9001)",
            "length of prompt_tokens (9001) must be less than max_seq_len (8192).",
        ] {
            assert_eq!(
                figures(text),
                ContextFigures { max: Some(8192), count: Some(9001), output: None },
                "{text}"
            );
        }
        let only = |max| ContextFigures { max: Some(max), count: None, output: None };
        assert_eq!(figures("Range of input length should be [1, 8192]"), only(8192));
        assert_eq!(figures("maximum context length is 9 tokens, you requested 8 tokens"), only(9));
        for text in ["maximum context length is 99999999999999999999 tokens", "too long", ""] {
            assert_eq!(figures(text), ContextFigures::default());
        }
    }
}
