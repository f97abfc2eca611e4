//! What an upstream's error body says, whatever its shape.
//!
//! Providers wrap their errors in arrays, in strings that are JSON again, in `error` as object or as string, in
//! `base_resp`, `detail`, `errors`, and relays wrap those of others once more. [`Reading::of`] peels all of it and gives
//! the layers, innermost first (spec 3.4): the innermost knows best what happened. Nothing is judged here.

use super::envelope::{DEPTH_MAX, depth_exceeds};
use serde_json::{Map, Value};

/// The part of a text that rules look at, in characters (spec 3.4).
pub const TEXT_MAX: usize = 600;
/// Wrappings that are peeled; more of them is nobody's honest answer.
const LAYERS_MAX: usize = 6;
/// The longest code-like value that is compared, in bytes.
const CODE_MAX: usize = 96;

/// An error body as its layers.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// What the body is, by its bytes; the content type is not believed (spec 3.1).
    pub form: Form,
    /// Reports found, innermost first; never empty.
    pub layers: Vec<Report>,
}

/// What a body is, by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Nothing, or white space.
    #[default]
    Empty,
    /// A JSON object or array.
    Json,
    /// A page.
    Html,
    /// Some other text.
    Text,
    /// Not text.
    Binary,
}

/// One layer of an error: its structured fields, and its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything code-like (`code`, `type`, `status`, reasons in `details`), in lower case.
    pub codes: Vec<String>,
    /// The request field at fault.
    pub param: Option<String>,
    /// The words.
    pub message: String,
    /// The first [`TEXT_MAX`] characters of the words, in lower case.
    pub text: String,
    /// How long to wait, as written in `details` (Google's `retryDelay`).
    pub retry_delay: Option<String>,
}

impl Report {
    fn with_message(message: &str) -> Self {
        let text = message.chars().take(TEXT_MAX).flat_map(char::to_lowercase).collect();
        Self { message: message.to_owned(), text, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.message.is_empty() && self.retry_delay.is_none()
    }

    fn add_code(&mut self, value: Option<&Value>) {
        let code = match value {
            Some(Value::String(code)) if !code.is_empty() && code.len() <= CODE_MAX => code.to_lowercase(),
            Some(Value::Number(code)) => code.to_string(),
            _ => return,
        };
        self.codes.push(code);
    }
}

impl Reading {
    /// Reads a decoded body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let trimmed = strip_bom(body).trim_ascii();
        if let Some(value) = json(trimmed) {
            let mut layers = Vec::new();
            peel(&value, &mut layers);
            layers.reverse();
            if layers.is_empty() {
                layers.push(Report::default());
            }
            return Self { form: Form::Json, layers };
        }
        let Ok(text) =
            std::str::from_utf8(trimmed.get(..trimmed.len().min(8 * TEXT_MAX)).unwrap_or_default())
                .or_else(|e| std::str::from_utf8(trimmed.get(..e.valid_up_to()).unwrap_or_default()))
        else {
            return Self { form: Form::Binary, layers: vec![Report::default()] };
        };
        let form = match text.as_bytes() {
            [] if trimmed.is_empty() => Form::Empty,
            [] => Form::Binary,
            [b'<', ..] => Form::Html,
            _ => Form::Text,
        };
        Self { form, layers: vec![Report::with_message(text)] }
    }

    /// A reading of one code that came elsewhere than in the body, such as in a header.
    #[must_use]
    pub fn with_code(mut self, code: Option<String>) -> Self {
        if let (Some(code), Some(inner)) = (code, self.layers.first_mut()) {
            inner.codes.push(code);
        }
        self
    }
}

fn strip_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

fn json(body: &[u8]) -> Option<Value> {
    let plausible = matches!(body.first(), Some(b'{' | b'[' | b'"')) && !depth_exceeds(body, DEPTH_MAX);
    if plausible { serde_json::from_slice(body).ok() } else { None }
}

/// Collects the reports of a value, outermost first.
fn peel(value: &Value, layers: &mut Vec<Report>) {
    if layers.len() >= LAYERS_MAX {
        return;
    }
    match value {
        Value::Array(items) => {
            if let Some(first) = items.first() {
                peel(first, layers);
            }
        }
        Value::String(text) => peel_text(text, layers),
        Value::Object(members) => peel_object(members, layers),
        _ => {}
    }
}

/// A text, and the JSON that it is or that it ends with.
fn peel_text(text: &str, layers: &mut Vec<Report>) {
    layers.push(Report::with_message(text));
    let inner = text.find('{').and_then(|at| text.get(at..)).or_else(|| text.get(text.find('[')?..));
    if let Some(value) = inner.and_then(|inner| json(inner.trim().as_bytes())) {
        peel(&value, layers);
    }
}

fn peel_object(members: &Map<String, Value>, layers: &mut Vec<Report>) {
    let report = report(members);
    let message = report.message.clone();
    if !report.is_empty() {
        layers.push(report);
    }
    for name in ["error", "errors", "base_resp", "response", "detail", "last_error"] {
        match members.get(name) {
            // The string form of `error` is this layer's own message.
            Some(Value::String(_)) | None => {}
            Some(inner) => peel(inner, layers),
        }
    }
    if let Some(raw) = members.get("metadata").and_then(|metadata| metadata.get("raw")) {
        peel(raw, layers);
    }
    if message.contains('{') {
        let inner = message.find('{').and_then(|at| message.get(at..)).unwrap_or_default();
        if let Some(value) = json(inner.trim().as_bytes()) {
            peel(&value, layers);
        }
    }
}

/// What one object says of itself.
fn report(members: &Map<String, Value>) -> Report {
    let words = ["message", "status_msg", "msg", "detail", "error", "title", "error_description", "Message"];
    let message = words.iter().find_map(|name| members.get(*name)?.as_str()).unwrap_or_default();
    let mut report = Report::with_message(message);
    for name in ["code", "type", "status", "error_type", "errorCode", "__type", "status_code", "reason"] {
        report.add_code(members.get(name));
    }
    // A short `error` beside a `message` is a code ("Too Many Requests"); alone it is the message.
    if members.get("error").is_some_and(Value::is_string) && message != text(members.get("error")) {
        report.add_code(members.get("error"));
    }
    report.add_code(
        members.get("innererror").or(members.get("inner_error")).and_then(|inner| inner.get("code")),
    );
    report.param = param(members);
    for detail in members.get("details").and_then(Value::as_array).into_iter().flatten() {
        report.add_code(detail.get("reason"));
        if let Some(delay) = detail.get("retryDelay").and_then(Value::as_str) {
            report.retry_delay = Some(delay.to_owned());
        }
        let violation = detail.get("fieldViolations").and_then(|all| all.get(0)?.get("field"));
        report.param = report.param.take().or_else(|| violation?.as_str().map(str::to_owned));
    }
    report
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

/// The request field at fault: `param`, or the place that a schema validator names.
fn param(members: &Map<String, Value>) -> Option<String> {
    let named = text(members.get("param"));
    if !named.is_empty() && !matches!(named, "None" | "null") {
        return Some(named.to_owned());
    }
    let place = members.get("loc")?.as_array()?;
    let parts: Vec<String> = place
        .iter()
        .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
        .filter(|part| part != "body")
        .collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inner(body: &str) -> Report {
        Reading::of(body.as_bytes()).layers.remove(0)
    }

    /// Goal: whatever the wrapping, the innermost report comes first with its fields.
    #[test]
    fn peels_every_wrapping() {
        for body in [
            r#"{"error":{"message":"No","code":"c","type":"t","param":"p"}}"#,
            r#"[{"error":{"message":"No","code":"c","type":"t","param":"p"}}]"#,
            r#""{\"error\":{\"message\":\"No\",\"code\":\"c\",\"type\":\"t\",\"param\":\"p\"}}""#,
            r#"{"error":{"message":"Outer","code":1,"metadata":{"raw":"{\"message\":\"No\",\"code\":\"c\",\"type\":\"t\",\"param\":\"p\"}"}}}"#,
            r#"{"error":{"message":"relay: {\"error\":{\"message\":\"No\",\"code\":\"C\",\"type\":\"t\",\"param\":\"p\"}}"}}"#,
        ] {
            let report = inner(body);
            assert_eq!(report.message, "No", "{body}");
            assert_eq!(report.codes, ["c", "t"], "{body}");
            assert_eq!(report.param.as_deref(), Some("p"), "{body}");
        }
        assert_eq!(inner(r#"{"code":"Bad argument","error":"No key"}"#).codes, ["bad argument"]);
        assert_eq!(inner(r#"{"error":"Too Many","message":"Wait"}"#).codes, ["too many"]);
        assert_eq!(inner(r#"{"base_resp":{"status_code":1004,"status_msg":"no"}}"#).codes, ["1004"]);
        assert_eq!(
            inner(r#"{"detail":[{"loc":["body","messages",0],"msg":"bad","type":"x"}]}"#).param.as_deref(),
            Some("messages.0")
        );
        let google = inner(
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"reason":"R","retryDelay":"3s"}]}}"#,
        );
        assert_eq!((google.codes.len(), google.retry_delay.as_deref()), (3, Some("3s")));
    }

    /// Goal: a body is taken for what its bytes are.
    #[test]
    fn knows_forms() {
        for (body, form) in [
            (&b""[..], Form::Empty),
            (b" \n", Form::Empty),
            (b"{}", Form::Json),
            (b"<html>", Form::Html),
            (b"error code: 1015", Form::Text),
            (b"{\"a\"", Form::Text),
            (b"\xff\xfe", Form::Binary),
        ] {
            assert_eq!(Reading::of(body).form, form);
        }
        let deep = "[".repeat(100_000);
        assert_eq!(Reading::of(deep.as_bytes()).form, Form::Text);
    }

    proptest! {
        /// Goal: any bytes give a reading with at least one layer, without panic.
        #[test]
        fn never_panics(body: Vec<u8>, text in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,80}") {
            prop_assert!(!Reading::of(&body).layers.is_empty());
            prop_assert!(!Reading::of(text.as_bytes()).layers.is_empty());
        }
    }
}
