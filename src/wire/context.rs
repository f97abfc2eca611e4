//! What a caller reads whose input is too long (spec 2.11): figures of the upstream in the words that agents recognise.

/// The message with maximum and count, where the upstream stated both unmistakably; `None` for the gateway's own words.
#[must_use]
pub fn message(upstream: &str) -> Option<String> {
    let text = upstream.to_lowercase();
    let (max, count) = stated(&text)?;
    (count > max).then(|| {
        format!(
            "Your input exceeds the context window of this model. This model's maximum context length is {max} tokens. \
             However, your messages resulted in {count} tokens. Please reduce the length of the messages."
        )
    })
}

/// Maximum and count, by the phrases that name which is which.
fn stated(text: &str) -> Option<(u64, u64)> {
    let max = number_after(text, &["maximum context length is ", "context window of ", "tokens > "])?;
    let count = number_after(
        text,
        &["resulted in ", "you requested ", "requested about ", "prompt is too long: ", "prompt contains "],
    )?;
    Some((max, count))
}

fn number_after(text: &str, phrases: &[&str]) -> Option<u64> {
    phrases.iter().find_map(|phrase| {
        let rest = text.get(text.find(phrase)? + phrase.len()..)?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(rest.len());
        rest.get(..end)?.replace(',', "").parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: figures come out of the usual phrasings, and nothing is said where one of them is missing or absurd.
    #[test]
    fn finds_both_figures_or_none() {
        for text in [
            "This model's maximum context length is 8,192 tokens. However, your messages resulted in 9001 tokens.",
            "prompt is too long: 9001 tokens > 8192 maximum",
            "This model's maximum context length is 8192 tokens, however you requested 9001 tokens (1 in the messages)",
        ] {
            let message = message(text).unwrap();
            assert!(message.contains("is 8192 tokens") && message.contains("in 9001 tokens"), "{message}");
        }
        assert_eq!(message("maximum context length is 8192 tokens"), None);
        assert_eq!(message("maximum context length is 9 tokens, you requested 8 tokens"), None);
        assert_eq!(message("maximum context length is 99999999999999999999 tokens, you requested 8"), None);
    }
}
