//! One layer of an upstream's error: its structured fields and its words.
//!
//! Every provider spells the same few facts in its own members; a [`Report`] has them in one form. Codes lose their case,
//! their separators and a final `error` or `exception`, so that `RateLimitError`, `rate_limit_error` and `Rate limit` are
//! one code. Words lose what stands in quotation marks, because that is what clients wrote (spec 3.4, 3.5).

use super::reading::TEXT_MAX;
use crate::core::failure::ContextFigures;
use serde_json::{Map, Value};

/// The longest code-like value that is compared, in bytes.
const CODE_MAX: usize = 96;
/// The codes that one report may have.
const CODES_MAX: usize = 24;

/// What one object says of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything code-like (`code`, `type`, `status`, reasons in `details`), by [`plain_code`].
    pub codes: Vec<String>,
    /// The request field at fault.
    pub param: Option<String>,
    /// The words.
    pub message: String,
    /// The first [`TEXT_MAX`] characters of the words, in lower case and without quotations.
    pub text: String,
    /// How long to wait, as written in `details` (Google's `retryDelay`).
    pub retry_delay: Option<String>,
    /// The quota that is used up, as Google names it; its name says per which time.
    pub quota: Option<String>,
    /// The codes as they were spelled.
    pub spelled: Vec<String>,
    /// It stood inside the words of another report, so that a caller may have written it.
    pub in_words: bool,
    /// When a limit is reset, in Unix milliseconds, as a relay passes its upstream's header on.
    pub reset_millis: Option<u64>,
    /// The figures of an input that is too long, where they have members of their own.
    pub figures: Option<ContextFigures>,
}

/// Members that hold a code.
const CODES: [&str; 18] = [
    "code",
    "type",
    "status",
    "error_type",
    "errorCode",
    "error_code",
    "__type",
    "statusCode",
    "status_code",
    "reason",
    ":exception-type",
    "Code",
    "errorType",
    "err_code",
    "errcode",
    "errno",
    "internal_code",
    "error_name",
];
/// Members that say how many seconds to wait.
const WAITS: [&str; 5] =
    ["retry_after", "retry_after_seconds", "resets_in_seconds", "reset_after_seconds", "estimated_time"];
/// Members that hold the words.
const WORDS: [&str; 18] = [
    "message",
    "status_msg",
    "msg",
    "detail",
    "error",
    "title",
    "error_description",
    "Message",
    "errorMessage",
    "error_message",
    "error_msg",
    "errmsg",
    "errMsg",
    "err_msg",
    "errorMsg",
    "description",
    "text",
    "desc",
];

/// A code without case, separators and a final `error` or `exception`.
#[must_use]
pub fn plain_code(code: &str) -> String {
    let plain: String = code.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let stem = plain.strip_suffix("exception").or_else(|| plain.strip_suffix("error"));
    stem.filter(|stem| !stem.is_empty()).map_or_else(|| plain.clone(), str::to_owned)
}

impl Report {
    /// A report that is words alone.
    pub(super) fn with_message(message: &str) -> Self {
        Self { message: message.to_owned(), text: searched(message), ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn add_code(&mut self, code: &str) {
        if !code.is_empty() && code.len() <= CODE_MAX && self.codes.len() < CODES_MAX {
            // Amazon puts the namespace of a class before its name.
            self.codes.push(plain_code(code.rsplit('#').next().unwrap_or(code)));
            self.spelled.push(code.to_owned());
        }
    }

    /// What one object says of itself.
    pub(super) fn of(members: &Map<String, Value>) -> Self {
        let said = |name: &&str| members.get(*name)?.as_str().filter(|words| !words.is_empty());
        let message = WORDS.iter().find_map(said).unwrap_or_default();
        let mut report = Self::with_message(message);
        report.add_codes(members);
        report.add_details(members.get("details"));
        report.add_outcome(members);
        if report.param.is_none() {
            report.param = param(members);
        }
        if members.contains_key("loc") || members.contains_key("path") && report.param.is_some() {
            report.name_place();
        }
        report.figures = figures(members);
        if report.retry_delay.is_none() {
            let wait = WAITS.iter().find_map(|name| members.get(*name)?.as_f64());
            report.retry_delay = wait.filter(|seconds| *seconds > 0.0).map(|seconds| format!("{seconds}s"));
        }
        report.reset_millis = members
            .get("metadata")
            .and_then(|metadata| metadata.get("headers")?.get("X-RateLimit-Reset")?.as_str()?.parse().ok());
        report
    }

    fn add_value(&mut self, value: Option<&Value>) {
        match value {
            Some(Value::String(code)) => self.add_code(code),
            Some(Value::Number(code)) => self.add_code(&code.to_string()),
            _ => {}
        }
    }

    fn add_codes(&mut self, members: &Map<String, Value>) {
        // MiniMax counts its own errors, which are not what the same numbers mean elsewhere.
        if let (Some(Value::Number(code)), true) =
            (members.get("status_code"), members.contains_key("status_msg"))
        {
            self.add_code(&format!("base_resp.{code}"));
            return;
        }
        for name in CODES {
            self.add_value(members.get(name));
        }
        // A short `error` beside a `message` is a code ("Too Many Requests"); alone it is the message.
        if let Some(Value::String(error)) = members.get("error")
            && *error != self.message
        {
            self.add_code(error);
        }
        let inner = members.get("innererror").or(members.get("inner_error"));
        self.add_value(inner.and_then(|inner| inner.get("code")));
    }

    /// Google lists objects, Anthropic has one.
    fn add_details(&mut self, details: Option<&Value>) {
        let several = details.and_then(Value::as_array).into_iter().flatten();
        let one = details.filter(|details| details.is_object());
        for detail in several.chain(one) {
            self.add_value(detail.get("reason"));
            self.add_value(detail.get("error_code"));
            if let Some(delay) = detail.get("retryDelay").and_then(Value::as_str) {
                self.retry_delay = Some(delay.to_owned());
            }
            let quota = detail.get("violations").and_then(|all| all.get(0)?.get("quotaId")?.as_str());
            self.quota = self.quota.take().or_else(|| quota.map(str::to_lowercase));
            let violation = detail.get("fieldViolations").and_then(|all| all.get(0)?.get("field")?.as_str());
            self.param = self.param.take().or_else(|| violation.map(str::to_owned));
        }
    }

    /// Answers without content say why in the places where content would be.
    fn add_outcome(&mut self, members: &Map<String, Value>) {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let blocked = text(members.get("promptFeedback").and_then(|feedback| feedback.get("blockReason")));
        if blocked.is_some() {
            self.add_code("prompt_blocked");
        }
        for (list, reason) in [("choices", "finish_reason"), ("candidates", "finishReason")] {
            let first = members.get(list).and_then(|all| all.get(0)?.get(reason));
            if let Some(reason) = text(first) {
                self.add_code(&format!("finish_{reason}"));
            }
        }
    }

    /// A validator's words are useless without the place that it names.
    fn name_place(&mut self) {
        if let Some(place) = self.param.clone().filter(|place| !self.message.contains(place)) {
            self.message = format!("{place}: {}", self.message);
        }
    }
}

/// The request field at fault: `param`, or the place that a schema validator names.
fn param(members: &Map<String, Value>) -> Option<String> {
    let named = members.get("param").and_then(Value::as_str).unwrap_or_default();
    if !named.is_empty() && !matches!(named, "None" | "null") {
        return Some(named.to_owned());
    }
    let place = members.get("loc").or_else(|| members.get("path"))?;
    let parts: Vec<String> = match place {
        Value::Array(steps) => {
            steps.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect()
        }
        Value::String(steps) if members.contains_key("loc") => {
            steps.split(" -> ").map(str::to_owned).collect()
        }
        _ => return None,
    };
    let parts: Vec<String> = parts.into_iter().filter(|part| part != "body").collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

/// Figures that servers give in members of their own; the count only where it is above the maximum.
fn figures(members: &Map<String, Value>) -> Option<ContextFigures> {
    const MAX: [&str; 5] =
        ["n_ctx", "max_context_length", "context_length", "max_tokens_allowed", "context_window"];
    const COUNT: [&str; 4] = ["n_prompt_tokens", "prompt_tokens", "input_tokens", "token_count"];
    let figure = |names: &[&str]| names.iter().find_map(|name| members.get(*name)?.as_u64());
    let max = figure(&MAX)?;
    let count = figure(&COUNT).filter(|count| *count > max);
    Some(ContextFigures { max: Some(max), count, output: None })
}

/// The part of the words that rules look at: lower case, one space between words, quotations left out.
fn searched(message: &str) -> String {
    let part: String = message.chars().take(TEXT_MAX).collect();
    let mut text = String::with_capacity(part.len());
    for c in without_quotations(&part).chars().flat_map(char::to_lowercase) {
        match c {
            c if c.is_whitespace() => {
                if !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            '’' => text.push('\''),
            c => text.push(c),
        }
    }
    text
}

/// A text without what stands between quotation marks of one kind; an apostrophe inside a word is none.
fn without_quotations(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or_default();
        let opens = matches!(c, '"' | '`' | '\'') && !kept.ends_with(|before: char| before.is_alphanumeric());
        match opens.then(|| closing(tail, c)).flatten() {
            Some(after) => {
                kept.push(c);
                kept.push(c);
                rest = after;
            }
            None => {
                kept.push(c);
                rest = tail;
            }
        }
    }
    kept
}

/// What follows the mark that closes a quotation.
fn closing(text: &str, mark: char) -> Option<&str> {
    text.match_indices(mark).find_map(|(at, _)| {
        let after = text.get(at + mark.len_utf8()..)?;
        (!after.starts_with(char::is_alphanumeric)).then_some(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(json: &str) -> Report {
        Report::of(serde_json::from_str::<Value>(json).unwrap().as_object().unwrap())
    }

    /// Goal: one code, however it is spelled.
    #[test]
    fn codes_have_one_form() {
        for code in ["rate_limit_error", "RateLimitError", "Rate limit", "rate-limit", "RATE_LIMIT"] {
            assert_eq!(plain_code(code), "ratelimit", "{code}");
        }
        assert_eq!(plain_code("ThrottlingException"), "throttling");
        assert_eq!(plain_code("error"), "error");
    }

    /// Goal: every member that providers use is read.
    #[test]
    fn reads_the_members_of_all() {
        assert_eq!(report(r#"{"code":"Bad argument","error":"No key"}"#).codes, ["badargument"]);
        assert_eq!(report(r#"{"error":"Too Many","message":"Wait"}"#).codes, ["toomany"]);
        assert_eq!(report(r#"{"status_code":1004,"status_msg":"no"}"#).codes, ["baseresp1004"]);
        let place = report(r#"{"loc":["body","messages",0],"msg":"bad","type":"x"}"#);
        assert_eq!((place.param.as_deref(), &*place.message), (Some("messages.0"), "messages.0: bad"));
        let google = report(
            r#"{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"reason":"R","retryDelay":"3s"},{"violations":[{"quotaId":"PerDay"}]}]}"#,
        );
        assert_eq!((google.codes.len(), google.retry_delay.as_deref()), (3, Some("3s")));
        assert_eq!(google.quota.as_deref(), Some("perday"));
        assert_eq!(report(r#"{"details":{"error_code":"on_hold"}}"#).codes, ["onhold"]);
        assert_eq!(report(r#"{"promptFeedback":{"blockReason":"X"}}"#).codes, ["promptblocked"]);
        assert_eq!(report(r#"{"choices":[{"finish_reason":"gone"}]}"#).codes, ["finishgone"]);
    }

    /// Goal: what clients wrote is not searched: quotations are left out, apostrophes are none.
    #[test]
    fn quotations_are_not_searched() {
        for (message, text) in [
            ("Could not parse 'insufficient quota'", "could not parse ''"),
            ("The model `gpt` doesn't exist, isn't it", "the model `` doesn't exist, isn't it"),
            ("organization’s \"rate 'limit'\" is", "organization's \"\" is"),
            ("an open 'quote", "an open 'quote"),
        ] {
            assert_eq!(searched(message), text);
        }
    }

    proptest! {
        /// Goal: no words panic, and what is searched is bounded.
        #[test]
        fn never_panics(message in ".{0,900}") {
            prop_assert!(searched(&message).chars().count() <= 3 * TEXT_MAX);
        }
    }
}
