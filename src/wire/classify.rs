//! What an upstream's answer means (spec 3): status, headers and body together become a [`Verdict`].
//!
//! The engine reads the body ([`Reading`]), takes its layers from the innermost out, and asks the ordered table of
//! [`super::rules`] for the first row that matches. It judges answers that look like a success, too: an error object in
//! a 200, a page where JSON is due, an answer without choices (spec 3.1). It is a pure function of what was received.

use super::hint;
use super::reading::{Form, Reading, Report};
use super::rules::{DEFAULTS, ERROR_IN_SUCCESS, REQUEST_SCOPED, ROWS, Row, UNKNOWN};
use super::sanitize::{Caller, sanitize};
use crate::core::api::Api;
use crate::core::failure::{Class, Verdict};
use http::HeaderMap;
use std::borrow::Cow;

/// An upstream's answer, as far as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The body, decoded by [`decoded`], or its beginning.
    pub body: &'a [u8],
}

/// Judges an answer that is a failure by its status, or that [`looks_failed`].
#[must_use]
pub fn classify(answer: Answer<'_>, caller: &Caller<'_>, now: u64) -> Verdict {
    let reading = Reading::of(answer.body).with_code(amazon_code(answer.headers));
    let status = effective_status(answer.status, &reading);
    let (row, layer) = matching(status, &reading, answer.status);
    let report = reading.layers.get(layer).cloned().unwrap_or_default();
    let mut verdict = Verdict::new(row.class, row.name);
    verdict.effect = row.effect();
    verdict.retry_after = hint::retry_after(answer.headers, &reading, now);
    if row.class == Class::CallerMistake {
        speak_to_caller(&mut verdict, row, &report, caller);
    }
    if row.class == Class::ContextTooLong {
        verdict.message = super::context::message(&report.message);
    }
    verdict
}

/// Whether a complete 2xx answer to a call that is no stream is a failure all the same (spec 3.1); the reason is a row.
#[must_use]
pub fn looks_failed(body: &[u8], api: Api) -> Option<Row> {
    let trimmed = body.trim_ascii();
    if trimmed.is_empty() {
        return Some(Row::EMPTY);
    }
    let Ok(view) = serde_json::from_slice::<super::answer::Outline<'_>>(trimmed) else {
        return Some(Row::NOT_JSON);
    };
    if view.is_error() {
        return Some(ERROR_IN_SUCCESS);
    }
    (!view.has_content(api)).then_some(Row::NO_CONTENT)
}

/// Judges a 2xx that is a failure for the reason `row`.
#[must_use]
pub fn failed_success(row: &Row, answer: Answer<'_>, caller: &Caller<'_>, now: u64) -> Verdict {
    match row.class {
        Class::NotUnderstood => Verdict::new(row.class, row.name),
        _ => classify(answer, caller, now),
    }
}

/// Judges an error event of a stream.
#[must_use]
pub fn classify_event(data: &[u8], caller: &Caller<'_>, now: u64) -> Verdict {
    classify(Answer { status: 200, headers: &HeaderMap::new(), body: data }, caller, now)
}

/// An error body without its compression, found by its magic bytes (spec 3.1); bounded by `max` bytes.
#[must_use]
pub fn decoded(body: &[u8], max: usize) -> Cow<'_, [u8]> {
    use std::io::Read;
    let bound = u64::try_from(max).unwrap_or(u64::MAX);
    let mut out = Vec::new();
    let read = match body {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(body).take(bound).read_to_end(&mut out),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => match zstd::Decoder::new(body) {
            Ok(decoder) => decoder.take(bound).read_to_end(&mut out),
            Err(e) => Err(e),
        },
        _ => return Cow::Borrowed(body),
    };
    // A cut stream still gave its beginning, which is what rules look at.
    if read.is_err() && out.is_empty() { Cow::Borrowed(body) } else { Cow::Owned(out) }
}

/// The first row that matches, and the layer it matched.
fn matching(status: u16, reading: &Reading, sent: u16) -> (&'static Row, usize) {
    for (index, report) in reading.layers.iter().enumerate() {
        if let Some(row) = row_for(status, reading.form, report) {
            return (row, index);
        }
    }
    let innermost =
        |report: &Report| if report.codes.is_empty() && report.message.is_empty() { 1 } else { 0 };
    let layer = reading.layers.first().map_or(0, innermost);
    let default = DEFAULTS.iter().find(|row| row.matches(status, reading.form, &Report::default()));
    let last = if (200..300).contains(&sent) { &ERROR_IN_SUCCESS } else { &UNKNOWN };
    (default.unwrap_or(last), layer)
}

fn row_for(status: u16, form: Form, report: &Report) -> Option<&'static Row> {
    let specific = ROWS.iter().find(|row| row.matches(status, form, report));
    let scoped = REQUEST_SCOPED.matches(status, form, report) || names_a_field(status, report);
    match specific {
        // A fault of the request is told from its code and place before any text is believed; that it is one of
        // length only refines what the caller reads.
        Some(row) if scoped && row.is_text() && !refines(row, report) => Some(&REQUEST_SCOPED),
        None if scoped => Some(&REQUEST_SCOPED),
        found => found,
    }
}

fn refines(row: &Row, report: &Report) -> bool {
    row.class == Class::ContextTooLong && report.param.as_ref().is_none_or(|param| param.contains("token"))
}

/// A client error that names the request field at fault is the caller's.
fn names_a_field(status: u16, report: &Report) -> bool {
    report.param.is_some() && matches!(status, 400 | 409 | 413 | 415 | 422)
}

/// The status that counts: an error inside a 2xx often names the one that it should have had.
fn effective_status(status: u16, reading: &Reading) -> u16 {
    if !(200..300).contains(&status) {
        return status;
    }
    let codes = reading.layers.iter().flat_map(|layer| &layer.codes);
    codes.filter_map(|code| code.parse().ok()).find(|code| (400..600).contains(code)).unwrap_or(status)
}

/// The exception that Amazon names in a header: `ThrottlingException:http://…`.
fn amazon_code(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-amzn-errortype")?.to_str().ok()?;
    value.split(':').next().map(str::to_lowercase)
}

/// Words of the upstream pass only with a positive signal that they are about the request (spec 3.6).
fn speak_to_caller(verdict: &mut Verdict, row: &Row, report: &Report, caller: &Caller<'_>) {
    let signal = row.is_request_scoped() || report.param.is_some() || caller.is_named_in(&report.message);
    if signal {
        verdict.message = sanitize(&report.message, caller);
        verdict.param = report.param.clone().filter(|param| caller.is_field(param));
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
