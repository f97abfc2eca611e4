//! The figures of an input that is too long, out of an upstream's words (spec 2.11).
//!
//! Only figures that a phrase names unmistakably count, and a count that is not above its maximum is none. What the
//! caller reads is made of them in `wire::error`.

use crate::core::failure::ContextFigures;

/// Phrases before the maximum, the more telling ones first.
const MAX: [&str; 46] = [
    "maximum context length is ",
    "maximum context length of ",
    "maximum context length: ",
    "maximum context length (",
    "context length is only ",
    "context length of only ",
    "available context size (",
    "context size (",
    "context size of ",
    "context limit is ",
    "context limit of ",
    "context window (",
    "context length (",
    "context length: ",
    "n_ctx: ",
    "n_ctx (",
    "n_ctx = ",
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
    "cannot exceed ",
    "must not exceed ",
    "maximum prompt length is ",
    "maximum input length is ",
    "maximum length of ",
    "maximum length ",
    "tokens allowed ",
    "limit: ",
];
/// Phrases before the count.
const COUNT: [&str; 40] = [
    "resulted in ",
    "request (",
    "n_keep: ",
    "n_keep (",
    "n_keep = ",
    "n_prompt_tokens = ",
    "keep the first ",
    "input has ",
    "input contains ",
    "you provided ",
    "received ",
    "your input is ",
    "input tokens (",
    "you sent ",
    "requested tokens (",
    "input of ",
    "request contains ",
    "input length ",
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

/// Phrases after parts of an input, which are summed up.
const INPUT_PARTS: [&str; 3] = [" of text input", " of tool input", " of image input"];
/// Phrases after the whole input.
const INPUT: [&str; 8] = [
    " in the messages",
    " in your messages",
    " in your prompt",
    " in the prompt",
    " tokens from the input",
    " input tokens",
    " `inputs` tokens",
    " prompt tokens",
];
/// Phrases after the part that is wanted for the output.
const OUTPUT: [&str; 8] = [
    " in the completion",
    " for the completion",
    " in the output",
    " tokens for the completion",
    " `max_new_tokens`",
    " max_new_tokens",
    " output tokens",
    " completion tokens",
];

/// What the words state.
#[must_use]
pub fn figures(words: &str) -> ContextFigures {
    let text = words.to_lowercase();
    let (max, parts) = match sum(&text) {
        Some((input, output, max)) => (Some(max), Some((input, output))),
        None => (number_after(&text, &MAX), parts(&text)),
    };
    let Some(max) = max else { return ContextFigures::default() };
    if let Some((input, output)) = parts {
        let fits = input < max && input.saturating_add(output) > max;
        let count = Some(input).filter(|input| fits || *input > max);
        let whole = || number_after(&text, &COUNT).filter(|count| *count > max);
        return ContextFigures {
            max: Some(max),
            count: count.or_else(whole),
            output: fits.then_some(output),
        };
    }
    let count = number_after(&text, &COUNT).filter(|count| *count > max);
    ContextFigures { max: Some(max), count, output: None }
}

/// `174415 + 32000 > 200000`: input, output and maximum.
fn sum(text: &str) -> Option<(u64, u64, u64)> {
    text.match_indices(" + ").find_map(|(at, plus)| {
        let input = number_before(text.get(..at)?)?;
        let rest = text.get(at + plus.len()..)?;
        let output = leading_number(rest)?;
        let max = rest.get(rest.find(" > ")? + 3..).and_then(leading_number)?;
        Some((input, output, max))
    })
}

/// The parts of the input and of the output, where both are stated exactly.
fn parts(text: &str) -> Option<(u64, u64)> {
    let stated = |phrase: &&str| {
        text.match_indices(*phrase).find_map(|(at, _)| {
            let before = text.get(..at)?;
            let exact =
                !before.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',').ends_with("at least ");
            number_before(before).filter(|_| exact)
        })
    };
    let in_parts = || INPUT_PARTS.iter().filter_map(stated).reduce(u64::saturating_add);
    let input = INPUT.iter().find_map(stated).or_else(in_parts)?;
    let output = OUTPUT.iter().find_map(stated).or_else(|| number_after(text, &["is too large: "]))?;
    Some((input, output))
}

/// The number at the end of a text.
fn number_before(text: &str) -> Option<u64> {
    let start = text.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',').len();
    leading_number(text.get(start..)?)
}

fn number_after(text: &str, phrases: &[&str]) -> Option<u64> {
    phrases.iter().find_map(|phrase| {
        let rest = text.get(text.find(phrase)? + phrase.len()..)?;
        leading_number(rest).filter(|number| *number > 0)
    })
}

/// The number at the beginning of a text.
fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(text.len());
    text.get(..end)?.replace(',', "").parse().ok()
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
        let split = ContextFigures { max: Some(200_000), count: Some(174_415), output: Some(32_000) };
        for text in [
            "input length and `max_tokens` exceed context limit: 174415 + 32000 > 200000, decrease input length",
            "This model's maximum context length is 200000 tokens. However, you requested 206415 tokens (174415 in the messages, 32000 in the completion).",
            "This endpoint's maximum context length is 200000 tokens. However, you requested about 206415 tokens (170415 of text input, 4000 of tool input, 32000 in the output).",
            "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 200000 tokens and your request has 174415 input tokens (32000 > 200000 - 174415).",
            "Requested token count exceeds the model's maximum context length of 200000 tokens. You requested a total of 206415 tokens: 174415 tokens from the input messages and 32000 tokens for the completion.",
        ] {
            assert_eq!(figures(text), split, "{text}");
        }
        let both = |max, count| ContextFigures { max: Some(max), count: Some(count), output: None };
        for (text, max, count) in [
            (
                "request (9015 tokens) exceeds the available context size (2048 tokens), try increasing it",
                2048,
                9015,
            ),
            ("Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)", 7424, 15028),
            ("exceed context limit: 210000 + 8 > 200000", 200_000, 210_000),
        ] {
            assert_eq!(figures(text), both(max, count), "{text}");
        }
        // The input alone fills the window: a smaller bound does not help.
        let full = "maximum context length is 8192 tokens. However, you requested 9216 tokens (8192 in the messages, 1024 in the completion)";
        assert_eq!(figures(full), both(8192, 9216));
        for text in ["maximum context length is 99999999999999999999 tokens", "too long", ""] {
            assert_eq!(figures(text), ContextFigures::default());
        }
    }
}
