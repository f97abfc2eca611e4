//! The `x-ratelimit-*` headers that clients read (spec 2.7), in OpenAI's format.

use crate::core::limit::Standing;
use std::time::Duration;

/// Limit, remaining and reset of the requests a minute.
#[must_use]
pub fn request_headers(standing: &Standing) -> [(&'static str, String); 3] {
    [
        ("x-ratelimit-limit-requests", standing.limit.to_string()),
        ("x-ratelimit-remaining-requests", standing.remaining.to_string()),
        ("x-ratelimit-reset-requests", spell(standing.reset)),
    ]
}

/// Limit, remaining and reset of the tokens a minute.
#[must_use]
pub fn token_headers(standing: &Standing) -> [(&'static str, String); 3] {
    [
        ("x-ratelimit-limit-tokens", standing.limit.to_string()),
        ("x-ratelimit-remaining-tokens", standing.remaining.to_string()),
        ("x-ratelimit-reset-tokens", spell(standing.reset)),
    ]
}

/// A duration as OpenAI spells it: `120ms`, `7.2s`, `6m0s`; rounded up to milliseconds.
fn spell(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    match (minutes, millis) {
        (0, millis) if millis < 1_000 => format!("{millis}ms"),
        (0, millis) => format!("{}s", seconds(millis)),
        (minutes, millis) => format!("{minutes}m{}s", seconds(millis)),
    }
}

fn seconds(millis: u128) -> String {
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: durations look as the official SDKs expect them.
    #[test]
    fn durations_are_spelled() {
        for (millis, text) in [
            (0, "0ms"),
            (120, "120ms"),
            (1_000, "1s"),
            (7_250, "7.25s"),
            (360_000, "6m0s"),
            (61_001, "1m1.001s"),
        ] {
            assert_eq!(spell(Duration::from_millis(millis)), text);
        }
        assert_eq!(spell(Duration::from_nanos(1)), "1ms");
    }
}
