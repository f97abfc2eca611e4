//! Frames that have nothing of an answer in them: errors, housekeeping, or neither (spec 2.6).
//!
//! What the classifier reads as an error in a JSON body is one in a stream, whatever its members are called. The rule, first
//! match wins:
//!
//! 1. A frame is an *error* if a member says so: one named `error` or beginning with `err`, `success: false`, a kind (`type`,
//!    `object`, `event`) with the word error, failure or exception in it, an exception's type, a status or code that is none of a
//!    success, or words for a reader (`message`, `detail` and the like).
//! 2. It is *housekeeping*, which changes nothing, if it is empty, if it has a kind, or if all its members are known as such.
//! 3. Anything else is unknown, and is no event of any language.
//!
//! Events that a language knows by their type, and chunks with choices, are not asked about here, save that a chunk that
//! shows nothing is an error if it [`is_marked`].

use crate::wire::envelope::{Members, Text, is_present};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It reports an error.
    Error,
    /// It says nothing about the answer.
    Housekeeping,
    /// Neither.
    Unknown,
}

/// How plainly a member speaks of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    None,
    /// It does where nothing of an answer stands beside it.
    Weak,
    /// It does everywhere.
    Strong,
}

/// Kinds of housekeeping that may have words.
const QUIET_KINDS: [&str; 12] = [
    "ping",
    "pong",
    "keepalive",
    "heartbeat",
    "status",
    "progress",
    "info",
    "notice",
    "log",
    "metadata",
    "usage",
    "processing",
];

/// Members of housekeeping that has no kind, without case and separators; those that begin with `x` and a separator, and
/// those of Amazon, are as well.
const QUIET_NAMES: [&str; 45] = [
    "id",
    "object",
    "type",
    "event",
    "created",
    "createdat",
    "model",
    "choices",
    "usage",
    "provider",
    "systemfingerprint",
    "servicetier",
    "requestid",
    "responseid",
    "sessionid",
    "conversationid",
    "traceid",
    "timings",
    "timeinfo",
    "timestamp",
    "time",
    "latency",
    "stats",
    "cost",
    "billing",
    "promptfilterresults",
    "contentfilters",
    "obfuscation",
    "nonce",
    "metadata",
    "nvext",
    "kvtransferparams",
    "ping",
    "heartbeat",
    "keepalive",
    "citations",
    "searchresults",
    "sources",
    "references",
    "baseresp",
    "success",
    "ok",
    "status",
    "statuscode",
    "code",
];

/// Judges the data of an event in which no language found anything of an answer.
pub(super) fn judge(data: &[u8]) -> Foreign {
    match data.trim_ascii_start().first() {
        Some(b'{') => {}
        Some(b'[') => return judge_list(data),
        Some(b'"') => return judge_text(data),
        _ => return Foreign::Unknown,
    }
    let Ok(members) = serde_json::from_slice::<Members<'_>>(data) else { return Foreign::Unknown };
    let kind = kind_of(&members);
    let quiet = kind.as_deref().is_some_and(|kind| QUIET_KINDS.contains(&&*plain(kind)));
    let least = if quiet { Mark::Strong } else { Mark::Weak };
    if members.0.iter().any(|(name, value)| mark(name, value) >= least) {
        return Foreign::Error;
    }
    if kind.is_some() || members.0.iter().all(is_quiet) {
        return Foreign::Housekeeping;
    }
    Foreign::Unknown
}

/// Whether an event that shows nothing says plainly that it reports an error.
pub(super) fn is_marked(data: &[u8]) -> bool {
    let members = serde_json::from_slice::<Members<'_>>(data);
    members.is_ok_and(|members| members.0.iter().any(|(name, value)| mark(name, value) == Mark::Strong))
}

/// A list is what its first element is: Google wraps errors so.
fn judge_list(data: &[u8]) -> Foreign {
    let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(data) else { return Foreign::Unknown };
    match items.first().map(|first| first.get().as_bytes()) {
        Some(first) if first.starts_with(b"{") => match judge(first) {
            Foreign::Error => Foreign::Error,
            _ => Foreign::Unknown,
        },
        _ => Foreign::Unknown,
    }
}

/// A text is words for a reader.
fn judge_text(data: &[u8]) -> Foreign {
    match serde_json::from_slice::<Text<'_>>(data) {
        Ok(Text(text)) if text.trim().is_empty() || text.trim() == "[DONE]" => Foreign::Housekeeping,
        Ok(_) => Foreign::Error,
        Err(_) => Foreign::Unknown,
    }
}

/// The first of `type`, `event` and `object` that is a word.
fn kind_of(members: &Members<'_>) -> Option<String> {
    let kind = |name| members.text(name).filter(|kind| !kind.is_empty()).map(Cow::into_owned);
    ["type", "event", "object"].into_iter().find_map(kind)
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_quiet((name, value): &(Cow<'_, str>, &RawValue)) -> bool {
    !is_present(value)
        || QUIET_NAMES.contains(&&*plain(name))
        || ["x_", "x-", "amazon-bedrock-"].iter().any(|prefix| name.starts_with(prefix))
}

fn mark(name: &str, value: &RawValue) -> Mark {
    if !is_present(value) && !matches!(value.get(), "false") {
        return Mark::None;
    }
    let text = serde_json::from_str::<Text<'_>>(value.get()).ok();
    let text = text.as_ref().map(|text| &*text.0);
    let name = plain(name);
    match &*name {
        "type" | "object" | "event" => {
            let kind = plain(text.unwrap_or_default());
            let failed = ["error", "fail", "exception"].iter().any(|word| kind.contains(word));
            if failed { Mark::Strong } else { Mark::None }
        }
        "success" | "ok" if value.get() == "false" => Mark::Strong,
        "iserror" if value.get() == "true" => Mark::Strong,
        "exceptiontype" | "exception" | "fault" | "failure" | "lasterror" => Mark::Strong,
        name if name.starts_with("err") => {
            if value.get() == "false" || is_success(value, text) {
                Mark::None
            } else {
                Mark::Strong
            }
        }
        "response" | "baseresp" | "data" if is_marked(value.get().as_bytes()) => Mark::Strong,
        "baseresp" if base_failed(value) => Mark::Strong,
        "code" | "statuscode" | "retcode" | "resultcode" | "ret" => {
            if is_success(value, text) {
                Mark::None
            } else {
                Mark::Weak
            }
        }
        "status" => status_mark(value, text),
        "message" | "msg" | "detail" | "details" | "title" | "reason" | "description" | "statusmsg"
        | "promptfeedback" => {
            if value.get() == "false" {
                Mark::None
            } else {
                Mark::Weak
            }
        }
        _ => Mark::None,
    }
}

/// MiniMax's own way to say that something failed.
fn base_failed(value: &RawValue) -> bool {
    let members = serde_json::from_str::<Members<'_>>(value.get());
    members.is_ok_and(|members| {
        members.0.iter().any(|(name, code)| name == "status_code" && !is_success(code, None))
    })
}

fn status_mark(value: &RawValue, text: Option<&str>) -> Mark {
    match text.map(plain) {
        Some(status) if matches!(&*status, "error" | "failed" | "failure" | "fail") => Mark::Strong,
        Some(status) => {
            let bad = ["error", "fail", "cancel", "denied", "invalid", "unavail", "exceed", "exhaust"];
            if bad.iter().any(|word| status.contains(word)) { Mark::Weak } else { Mark::None }
        }
        None if value.get() == "false" => Mark::Weak,
        None if is_success(value, None) => Mark::None,
        None => Mark::Weak,
    }
}

/// Whether a code is one of a success: nothing, a number of HTTP's, or the word.
fn is_success(value: &RawValue, text: Option<&str>) -> bool {
    let code = text.unwrap_or(value.get()).trim();
    match code.parse::<f64>() {
        Ok(number) => number == 0.0 || (200.0..300.0).contains(&number),
        Err(_) => {
            let word = plain(code);
            matches!(&*word, "" | "ok" | "success" | "succeeded" | "null" | "none" | "false" | "true")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: errors are known whatever their members are called, and housekeeping is none.
    #[test]
    fn errors_are_told_from_housekeeping() {
        for error in [
            r#"{"error":{"message":"x"}}"#,
            r#"{"object":"error","message":"x","code":500}"#,
            r#"{"detail":"x"}"#,
            r#"{"detail":[{"loc":["body"],"msg":"x"}]}"#,
            r#"{"text":"x","error_code":50002}"#,
            r#"{"code":10013,"message":"x"}"#,
            r#"{"code":"10013","msg":"x"}"#,
            r#"{"success":false,"errors":[{"message":"x"}]}"#,
            r#"{"success":false}"#,
            r#"{"error_code":7,"error_msg":"x"}"#,
            r#"{"errorCode":"E1"}"#,
            r#"{"errMsg":"x"}"#,
            r#"{"message":"x"}"#,
            r#"{"message":{"detail":"x"}}"#,
            r#"{"status":"error"}"#,
            r#"{"status":503,"title":"x"}"#,
            r#"{"status_code":1004,"status_msg":"x"}"#,
            r#"{"base_resp":{"status_code":1004,"status_msg":"x"}}"#,
            r#"{"__type":"ThrottlingException"}"#,
            r#"{"type":"server_overloaded","message":"x"}"#,
            r#"{"type":"upstream_failure"}"#,
            r#"{"response":{"error":{"message":"x"}}}"#,
            r#"{"choices":[],"code":500,"message":"x"}"#,
            r#"[{"error":{"message":"x"}}]"#,
            r#""Internal error""#,
            r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
        ] {
            assert_eq!(judge(error.as_bytes()), Foreign::Error, "{error}");
        }
        for quiet in [
            "{}",
            r#"{"type":"ping"}"#,
            r#"{"type":"status","message":"loading"}"#,
            r#"{"event":"heartbeat"}"#,
            r#"{"id":"x","object":"chat.completion.chunk","created":1,"model":"m"}"#,
            r#"{"id":"x","model":"m","usage":null,"error":null}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
            r#"{"base_resp":{"status_code":0,"status_msg":""}}"#,
            r#"{"code":0,"id":"x"}"#,
            r#"{"code":200,"success":true}"#,
            r#"{"x_groq":{"id":"x"}}"#,
            r#"{"amazon-bedrock-invocationMetrics":{"a":1}}"#,
            r#"{"type":"vendor.queue","position":3}"#,
            r#"{"prompt_filter_results":[]}"#,
            r#""""#,
        ] {
            assert_eq!(judge(quiet.as_bytes()), Foreign::Housekeeping, "{quiet}");
        }
        for unknown in ["[1]", "[]", "7", "null", "not json", r#"{"b64_json":"x"}"#, r#"{"foo":1}"#, r#"{"a"#]
        {
            assert_eq!(judge(unknown.as_bytes()), Foreign::Unknown, "{unknown}");
        }
    }
}
