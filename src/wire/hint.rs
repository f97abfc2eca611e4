//! How long an upstream asks to be left alone (spec 9.3): from headers, and from the places in bodies where it is said.
//!
//! The more exact place wins: a header in milliseconds, `Retry-After`, Google's `retryDelay`, the words ("try again in
//! 7m12s", "will reset at …"), the limit that is used up, and last the time that the limit is counted over. The hint is
//! taken as given; whoever rests a credential or a channel for it clamps it.

use super::reading::Reading;
use super::report::Report;
use http::HeaderMap;
use std::time::{Duration, SystemTime};

/// The longest hint that is believed at all; beyond it a number is taken for nonsense.
const HINT_MAX: Duration = Duration::from_secs(62 * 24 * 3600);
const DAY: u64 = 24 * 3600;
/// Midnight in California in winter, in seconds after midnight UTC; an hour late in summer.
const PACIFIC_MIDNIGHT: u64 = 8 * 3600;
/// China's offset, whose providers write local times without a zone.
const CHINA: u64 = 8 * 3600;

/// What is left of each limit, and when it comes back; some relays turn the words round.
const OPENAI_LIMITS: [(&str, &str); 4] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-requests-remaining", "x-ratelimit-reset-requests"),
    ("x-ratelimit-tokens-remaining", "x-ratelimit-reset-tokens"),
];
const ANTHROPIC_LIMITS: [(&str, &str); 4] = [
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
];

/// The hint of an answer received at `now` (Unix seconds).
#[must_use]
pub fn retry_after(headers: &HeaderMap, reading: &Reading, now: u64) -> Option<Duration> {
    let in_body = |find: fn(&Report, u64) -> Option<Duration>| {
        reading.layers.iter().find_map(|report| find(report, now))
    };
    millis(headers)
        .or_else(|| retry_after_header(headers, now))
        .or_else(|| in_body(of_daily_quota))
        .or_else(|| in_body(|report, _| spelled(report.retry_delay.as_deref()?)))
        .or_else(|| in_body(in_words))
        .or_else(|| in_body(|report, now| until(report.reset_millis? / 1_000, now)))
        .or_else(|| reset_header(headers, now))
        .or_else(|| in_body(of_window))
        .filter(|hint| *hint <= HINT_MAX)
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

/// How long a limit is used up, as the headers of a good answer say it: the next request would be refused.
#[must_use]
pub fn used_up(headers: &HeaderMap, now: u64) -> Option<Duration> {
    reset_header(headers, now).filter(|left| !left.is_zero() && *left <= HINT_MAX)
}

/// The limit that is used up says when it comes back: OpenAI as a time to go, Anthropic as a date.
fn reset_header(headers: &HeaderMap, now: u64) -> Option<Duration> {
    // Most answers say nothing of limits, and every answer is looked at.
    if !headers.keys().any(|name| name.as_str().contains("-ratelimit-")) {
        return None;
    }
    let used_up = |(remaining, _): &&(&str, &str)| field(headers, remaining) == Some("0");
    let openai = OPENAI_LIMITS.iter().filter(used_up).filter_map(|(_, reset)| {
        let reset = field(headers, reset)?;
        spelled(reset).or_else(|| Duration::try_from_secs_f64(reset.parse().ok()?).ok())
    });
    let anthropic = ANTHROPIC_LIMITS.iter().filter(used_up);
    let anthropic = anthropic.filter_map(|(_, reset)| until(date(field(headers, reset)?)?, now));
    openai.chain(anthropic).max()
}

/// Google repeats a short `retryDelay` for a quota of the day, which comes back at midnight in California.
fn of_daily_quota(report: &Report, now: u64) -> Option<Duration> {
    report.quota.as_ref()?.contains("perday").then(|| next_in_day(now, PACIFIC_MIDNIGHT))
}

/// "try again in 7m12s", "after 1 seconds", "will reset at 2026-03-06 22:19:54".
fn in_words(report: &Report, now: u64) -> Option<Duration> {
    const BEFORE_TIME: [&str; 11] = [
        "try again in ",
        "retry in ",
        "retry after ",
        "again after ",
        "please wait ",
        "wait for ",
        "reset in ",
        "resets in ",
        "reset after ",
        "resets after ",
        "again within ",
    ];
    const BEFORE_DATE: [&str; 4] = ["reset at ", "resets at ", "reset on ", "available at "];
    let after = |phrase: &&str| report.text.get(report.text.find(*phrase)? + phrase.len()..);
    let time = BEFORE_TIME.iter().filter_map(after).find_map(leading_time);
    time.or_else(|| {
        BEFORE_DATE.iter().filter_map(after).find_map(|rest| {
            let zoned = rest.get(..20).filter(|text| text.ends_with('z'));
            match zoned {
                Some(text) => until(date(text)?, now),
                None => until(date(rest.get(..19)?)?.checked_sub(CHINA)?, now),
            }
        })
    })
}

/// What a limit is counted over, where nothing says when it ends.
fn of_window(report: &Report, now: u64) -> Option<Duration> {
    let says = |words: &[&str]| words.iter().any(|word| report.text.contains(word));
    if says(&["per month", "/ month", "monthly"]) {
        return next_month(now);
    }
    if says(&["per day", "per-day", "daily", "(tpd)", "(rpd)", " tpd "]) {
        return Some(next_in_day(now, 0));
    }
    says(&["per minute", "per_minute", "per min", "max rpm"]).then_some(Duration::from_secs(60))
}

/// The time to the next instant that is `second` seconds into a day of UTC.
fn next_in_day(now: u64, second: u64) -> Duration {
    let into = (now % DAY + DAY - second) % DAY;
    Duration::from_secs(DAY - into)
}

fn next_month(now: u64) -> Option<Duration> {
    let today =
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(now)).to_string();
    let (year, month): (u32, u32) = (today.get(..4)?.parse().ok()?, today.get(5..7)?.parse().ok()?);
    let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    until(date(&format!("{year:04}-{month:02}-01 00:00:00"))?, now)
}

/// A date in Unix seconds; without a zone it is UTC.
fn date(text: &str) -> Option<u64> {
    let at = humantime::parse_rfc3339_weak(&text.to_uppercase()).ok()?;
    at.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

fn until(at: u64, now: u64) -> Option<Duration> {
    at.checked_sub(now).map(Duration::from_secs)
}

/// A time at the beginning of a text, as people write it (`9m38.016s`, `6 seconds`) or as providers do.
fn leading_time(text: &str) -> Option<Duration> {
    let (number, rest) = number(text)?;
    let word: String = rest.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    let whole = text.split_whitespace().next()?.trim_end_matches(['.', ',', ')']);
    spelled(whole).or_else(|| Duration::try_from_secs_f64(number * unit(&word)?).ok())
}

/// A duration as providers spell it: `21.8s`, `1m30s`, `120ms`.
fn spelled(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let (number, tail) = number(rest)?;
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (word, next) = tail.split_at_checked(unit_end)?;
        total = total.checked_add(Duration::try_from_secs_f64(number * unit(word)?).ok()?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// A unit in seconds.
fn unit(word: &str) -> Option<f64> {
    Some(match word {
        "ms" | "milliseconds" | "millisecond" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sunday, 6 November 1994, 08:49:37 UTC.
    const NOW: u64 = 784_111_777;

    fn hint(fields: &[(&'static str, &str)], body: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        retry_after(&headers, &Reading::of(body.as_bytes()), NOW)
    }

    fn seconds(s: f64) -> Option<Duration> {
        Some(Duration::from_secs_f64(s))
    }

    /// Goal: every header, the more exact one first, and nonsense ignored.
    #[test]
    fn reads_every_header() {
        assert_eq!(hint(&[("retry-after", "7")], ""), seconds(7.0));
        assert_eq!(hint(&[("retry-after", "7"), ("retry-after-ms", "250")], ""), seconds(0.25));
        assert_eq!(hint(&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")], ""), seconds(10.0));
        let used_up = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1m1.5s")];
        assert_eq!(hint(&used_up, ""), seconds(61.5));
        let used_up = [
            ("anthropic-ratelimit-requests-remaining", "3"),
            ("anthropic-ratelimit-requests-reset", "1994-11-06T09:49:37Z"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "1994-11-06T08:50:37Z"),
        ];
        assert_eq!(hint(&used_up, ""), seconds(60.0));
        for nonsense in ["-1", "soon", "1e99", "99999999999"] {
            assert_eq!(hint(&[("retry-after", nonsense)], ""), None, "{nonsense}");
        }
        assert_eq!(hint(&[], ""), None);
    }

    /// Goal: every place in a body where it is said.
    #[test]
    fn reads_every_body() {
        for (words, expected) in [
            ("Please try again in 174ms.", 0.174),
            ("Please try again in 9m38.016s. Upgrade", 578.016),
            ("please try again after 1 seconds", 1.0),
            ("Please retry after 6 seconds.", 6.0),
            ("Please wait 43218 seconds before retrying", 43_218.0),
            ("Your limit will reset at 1994-11-06 16:50:37", 60.0),
            ("resets at 1994-11-06T08:50:37Z (2056)", 60.0),
            ("Too many tokens per day, please wait", 54_623.0),
            ("limited to 1000 API calls / month", 2_128_223.0),
            ("requests_per_minute_per_project", 60.0),
        ] {
            assert_eq!(
                hint(&[], &format!(r#"{{"error":{{"message":"{words}"}}}}"#)),
                seconds(expected),
                "{words}"
            );
        }
        assert_eq!(hint(&[], r#"{"error":{"details":[{"retryDelay":"21.5s"}]}}"#), seconds(21.5));
        let daily =
            r#"{"error":{"details":[{"violations":[{"quotaId":"RequestsPerDay"}]},{"retryDelay":"5s"}]}}"#;
        assert_eq!(hint(&[], daily), seconds(83_423.0));
        let relayed = r#"{"error":{"code":429,"metadata":{"headers":{"X-RateLimit-Reset":"784111787000"}}}}"#;
        assert_eq!(hint(&[], relayed), seconds(10.0));
    }

    proptest! {
        /// Goal: no header value and no words panic.
        #[test]
        fn never_panics(text in "[0-9a-z.:, -]{0,40}") {
            let _ = spelled(&text);
            let _ = hint(&[("retry-after", &text)], &format!(r#"{{"message":"try again in {text} reset at {text}"}}"#));
        }
    }
}
