//! How long an upstream asks to be left alone (spec 9.3): from headers, and from the places in bodies where it is said.
//!
//! The hint is taken as given; whoever rests a credential or a channel for it clamps it.

use super::reading::Reading;
use http::HeaderMap;
use std::time::{Duration, SystemTime};

/// The longest hint that is believed at all; beyond it a number is taken for nonsense.
const HINT_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// The hint of an answer received at `now` (Unix seconds).
#[must_use]
pub fn retry_after(headers: &HeaderMap, reading: &Reading, now: u64) -> Option<Duration> {
    let from_headers = millis(headers).or_else(|| retry_after_header(headers, now));
    let from_details = || reading.layers.iter().find_map(|layer| spelled(layer.retry_delay.as_deref()?));
    from_headers.or_else(from_details).or_else(|| reset_header(headers)).filter(|hint| *hint <= HINT_MAX)
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn millis(headers: &HeaderMap) -> Option<Duration> {
    let millis: f64 = field(headers, "retry-after-ms")?.parse().ok()?;
    Duration::try_from_secs_f64(millis / 1_000.0).ok()
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after_header(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let value = field(headers, "retry-after")?;
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(Duration::from_secs(now)))
}

/// The limit that is used up says when it comes back: `x-ratelimit-reset-{requests,tokens}`.
fn reset_header(headers: &HeaderMap) -> Option<Duration> {
    ["requests", "tokens"]
        .iter()
        .filter(|kind| field(headers, &format!("x-ratelimit-remaining-{kind}")) == Some("0"))
        .filter_map(|kind| spelled(field(headers, &format!("x-ratelimit-reset-{kind}"))?))
        .max()
}

/// A duration as providers spell it: `21.8s`, `1m30s`, `120ms`.
fn spelled(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(unit_end)?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total =
            total.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hint(fields: &[(&'static str, &str)], body: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        retry_after(&headers, &Reading::of(body.as_bytes()), 784_111_777)
    }

    /// Goal: every way to say it, the more exact one first, and nonsense ignored.
    #[test]
    fn reads_every_spelling() {
        let seconds = |s| Some(Duration::from_secs_f64(s));
        assert_eq!(hint(&[("retry-after", "7")], ""), seconds(7.0));
        assert_eq!(hint(&[("retry-after", "7"), ("retry-after-ms", "250")], ""), seconds(0.25));
        assert_eq!(hint(&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")], ""), seconds(10.0));
        let google = r#"{"error":{"details":[{"retryDelay":"21.5s"}]}}"#;
        assert_eq!(hint(&[], google), seconds(21.5));
        let used_up = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1m1.5s")];
        assert_eq!(hint(&used_up, ""), seconds(61.5));
        for nonsense in ["-1", "soon", "1e99", "99999999999"] {
            assert_eq!(hint(&[("retry-after", nonsense)], ""), None, "{nonsense}");
        }
        assert_eq!(hint(&[], ""), None);
    }

    proptest! {
        /// Goal: no header value panics.
        #[test]
        fn never_panics(text in "[0-9a-z.:, -]{0,40}") {
            let _ = spelled(&text);
            let _ = hint(&[("retry-after", &text)], "");
        }
    }
}
