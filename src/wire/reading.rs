//! What an upstream's error body says, whatever its shape.
//!
//! Providers wrap their errors in arrays, in strings that are JSON again, in `error` as object or as string, in
//! `base_resp`, `detail`, `errors`, and relays wrap those of others once more. [`Reading::of`] peels all of it and gives
//! the layers, innermost first (spec 3.4): the innermost knows best what happened. Nothing is judged here.

use super::envelope::{DEPTH_MAX, depth_exceeds};
use super::report::Report;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The part of a text that rules look at, in characters (spec 3.4).
pub const TEXT_MAX: usize = 600;
/// Wrappings that are peeled; more of them is nobody's honest answer.
const LAYERS_MAX: usize = 6;

/// Members in which an error stands inside of another object.
const WRAPPINGS: [&str; 13] = [
    "error",
    "errors",
    "base_resp",
    "response",
    "detail",
    "last_error",
    "message",
    "header",
    "Response",
    "Error",
    "body",
    "cause",
    "upstream_error",
];

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
    /// Nothing at all.
    #[default]
    Empty,
    /// White space only: what a server sends to keep a connection alive.
    Blank,
    /// A JSON object, array or string.
    Json,
    /// A page.
    Html,
    /// Some other text.
    Text,
    /// Not text.
    Binary,
}

impl Reading {
    /// Reads a decoded body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let trimmed = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        if let Some(value) = json(trimmed) {
            let mut layers = Vec::new();
            peel(&value, &mut layers);
            layers.reverse();
            if layers.is_empty() {
                layers.push(Report::default());
            }
            return Self { form: Form::Json, layers };
        }
        let text = beginning(trimmed);
        let form = match text.as_bytes() {
            [] if body.is_empty() => Form::Empty,
            [] if trimmed.is_empty() => Form::Blank,
            [b'<', ..] => Form::Html,
            _ if text.contains('\u{fffd}') || text.contains('\0') => Form::Binary,
            _ => Form::Text,
        };
        let report = if form == Form::Binary { Report::default() } else { Report::with_message(&text) };
        Self { form, layers: vec![report] }
    }

    /// A reading of one code that came elsewhere than in the body, such as in a header.
    #[must_use]
    pub fn with_code(mut self, code: Option<&str>) -> Self {
        if let (Some(code), Some(inner)) = (code, self.layers.first_mut()) {
            inner.add_code(code);
        }
        self
    }
}

/// As much of a text as anything looks at.
fn beginning(body: &[u8]) -> Cow<'_, str> {
    let part = body.get(..body.len().min(8 * TEXT_MAX)).unwrap_or_default();
    match std::str::from_utf8(part) {
        // Cut inside a character by the bound, not by the upstream.
        Err(e) if e.error_len().is_none() => {
            String::from_utf8_lossy(part.get(..e.valid_up_to()).unwrap_or_default())
        }
        _ => String::from_utf8_lossy(part),
    }
}

/// A JSON object, array or string; text that is not UTF-8 is read with its strange characters replaced.
fn json(body: &[u8]) -> Option<Value> {
    let plausible = matches!(body.first(), Some(b'{' | b'[' | b'"')) && !depth_exceeds(body, DEPTH_MAX);
    if !plausible {
        return None;
    }
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text).ok(),
        Err(_) => serde_json::from_str(&String::from_utf8_lossy(body)).ok(),
    }
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
        Value::String(text) => {
            layers.push(Report::with_message(text));
            peel_inside(text, layers);
        }
        Value::Object(members) => peel_object(members, layers),
        _ => {}
    }
}

fn peel_object(members: &Map<String, Value>, layers: &mut Vec<Report>) {
    let report = Report::of(members);
    let message = report.message.clone();
    if !report.is_empty() {
        layers.push(report);
    }
    for name in WRAPPINGS {
        // Google repeats its error in a list, with less in it; validators list the places there.
        let placed = |list: &Value| list.get(0).is_some_and(|first| first.get("loc").is_some());
        if name == "errors" && !message.is_empty() && !members.get(name).is_some_and(placed) {
            continue;
        }
        match members.get(name) {
            // The string form is this layer's own message.
            Some(Value::String(_)) | None => {}
            Some(inner) => peel(inner, layers),
        }
    }
    if let Some(raw) = members.get("metadata").and_then(|metadata| metadata.get("raw")) {
        peel(raw, layers);
    }
    peel_inside(&message, layers);
}

/// The JSON that a text is or contains, as it stands or as a relay's language printed it (`b'{\n "error"…'`).
fn peel_inside(text: &str, layers: &mut Vec<Report>) {
    let Some(inner) = text.find('{').and_then(|at| text.get(at..)) else { return };
    let found = first_value(inner)
        .or_else(|| first_value(&unescaped(inner)))
        .or_else(|| first_value(&of_python(inner)));
    if let Some(value) = found {
        let outer = layers.len();
        peel(&value, layers);
        layers.iter_mut().skip(outer).for_each(|report| report.in_words = true);
    }
}

/// A text without one layer of escapes, as the representation of a string or of bytes has them.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n' | 'r' | 't') => out.push(' '),
            Some(escaped @ ('\\' | '\'' | '"')) => out.push(escaped),
            Some(other) => out.extend(['\\', other]),
            None => {}
        }
    }
    out
}

/// A text with the literals of Python as those of JSON: `{'code': 429, 'param': None}`.
fn of_python(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars();
    let mut word = String::new();
    while let Some(c) = chars.next() {
        if c.is_alphabetic() {
            word.push(c);
            continue;
        }
        out.push_str(of_python_word(&word));
        word.clear();
        match c {
            '(' => out.push('['),
            ')' => out.push(']'),
            '\'' | '"' => push_string(c, &mut chars, &mut out),
            c => out.push(c),
        }
    }
    out.push_str(&word);
    out
}

/// A word of Python outside of strings.
fn of_python_word(word: &str) -> &str {
    match word {
        "None" => "null",
        "True" => "true",
        "False" => "false",
        other => other,
    }
}

/// A string of Python that has begun with this mark, as one of JSON.
fn push_string(mark: char, chars: &mut std::str::Chars<'_>, out: &mut String) {
    out.push('"');
    while let Some(c) = chars.next() {
        match c {
            c if c == mark => break,
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\\' => match chars.next() {
                Some('\'') => out.push('\''),
                Some(escaped) => out.extend(['\\', escaped]),
                None => {}
            },
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The value at the beginning of a text, whatever follows it.
fn first_value(text: &str) -> Option<Value> {
    if depth_exceeds(text.as_bytes(), DEPTH_MAX) {
        return None;
    }
    serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok()
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
            r#"{"error":{"message":"relay: {\"error\":{\"message\":\"No\",\"code\":\"C\",\"type\":\"t\",\"param\":\"p\"}} (id 7)"}}"#,
            r#"{"error":{"message":"Relay - b'{\\n \"error\": {\\n \"message\": \"No\", \"code\": \"c\", \"type\": \"t\", \"param\": \"p\"}}'"}}"#,
        ] {
            let report = inner(body);
            assert_eq!(report.message, "No", "{body}");
            assert_eq!(report.codes, ["c", "t"], "{body}");
            assert_eq!(report.param.as_deref(), Some("p"), "{body}");
        }
        assert_eq!(inner(r#"{"message":{"detail":[{"msg":"bad","type":"x"}]},"type":"t"}"#).message, "bad");
        let printed = r#"{"error":{"message":"Relay - b'{\\n \"error\": {\"message\": \"Unknown \\\\\"a\\\\\" at \\'b\\'\"}}'"}}"#;
        assert_eq!(inner(printed).message, "Unknown \"a\" at 'b'");
        let python = r#"{"error":"All failed: [{'error': {'code': 429, 'message': \"it's full\", 'status': 'EXHAUSTED', 'param': None}}]"}"#;
        assert_eq!((inner(python).codes.len(), &*inner(python).message), (2, "it's full"));
        let place = r#"{"detail":"x","errors":[{"loc":"body -> messages -> 0","msg":"bad","type":"y"}]}"#;
        assert_eq!(inner(place).message, "messages.0: bad");
        let header = r#"{"header":{"code":11200,"message":"no","status":2}}"#;
        assert_eq!(inner(header).message, "no");
    }

    /// Goal: a body is taken for what its bytes are.
    #[test]
    fn knows_forms() {
        for (body, form) in [
            (&b""[..], Form::Empty),
            (b" \n", Form::Blank),
            (b"{}", Form::Json),
            (b"{\"m\":\"Param\xe8tre\"}", Form::Json),
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
