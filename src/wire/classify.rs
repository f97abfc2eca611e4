//! What an upstream's answer means (spec 3): status, headers and body together become a [`Verdict`].
//!
//! The engine reads the body ([`Reading`]), takes its layers from the innermost out, and asks the ordered table of
//! [`super::rules`] for the first row that matches. It judges answers that look like a success, too: an error object in
//! a 200, a page where JSON is due, an answer without choices (spec 3.1). It is a pure function of what was received.

use super::caller::Caller;
use super::custom::Custom;
use super::endpoint::Call;
use super::reading::{Form, Reading};
use super::report::Report;
use super::rule::{Evidence, Facts, Row, has_code, within};
use super::rules::words::REQUEST;
use super::rules::{self, DEFAULTS, ERROR_IN_SUCCESS, REQUEST_SCOPED, UNKNOWN};
use super::sanitize::sanitize;
use super::{content, context, fault, hint};
use crate::core::api::Api;
use crate::core::failure::{Accepted, Class, ContextFigures, Effect, Next, RequestFault, Verdict};
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

/// By which an answer is judged besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// Who asked.
    pub caller: &'a Caller<'a>,
    /// What the operator adds to the rules.
    pub custom: Custom<'a>,
    /// Unix seconds.
    pub now: u64,
}

/// The outcome of the table.
struct Found {
    row: &'static Row,
    effect: Effect,
    layer: usize,
    /// The upstream's own code or field proves that the request is at fault.
    proven: bool,
}

impl Judge<'_> {
    /// Judges an answer that is a failure by its status, or that [`looks_failed`].
    #[must_use]
    pub fn classify(&self, answer: Answer<'_>) -> Verdict {
        let reading = Reading::of(answer.body).with_code(amazon_code(answer.headers));
        let sent = self.custom.status(answer.status);
        let status = effective_status(sent, &reading);
        let found = self.look_up(status, &reading, sent);
        let report = reading.layers.get(found.layer).cloned().unwrap_or_default();
        let mut verdict = Verdict::new(found.row.class, found.row.name);
        (verdict.effect, verdict.next) = (found.effect, found.row.its_next());
        self.overrule(&mut verdict, &found, status, &reading);
        self.acquit(&mut verdict, &reading);
        verdict.accepted = accepted(sent, &reading, verdict.class);
        verdict.retry_after = hint::retry_after(answer.headers, &reading, self.now);
        match verdict.class {
            Class::CallerMistake => self.speak_to_caller(&mut verdict, found.row, &report),
            Class::ContextTooLong => measure(&mut verdict, &reading),
            Class::CapabilityMissing => verdict.capability = found.row.its_capability(),
            _ => {}
        }
        verdict
    }

    /// A member that only the gateway wrote is no fault of the caller's (spec 1.6).
    fn acquit(&self, verdict: &mut Verdict, reading: &Reading) {
        if !matches!(verdict.class, Class::CallerMistake | Class::CapabilityMissing) {
            return;
        }
        let refused = |report: &Report| {
            let added = self.caller.refused_addition(report.param.as_deref(), &report.message)?;
            // A bound is also named where the input is too long for it.
            let unknown = || fault::of(report) == RequestFault::UnsupportedParameter;
            (!added.ends_with("_tokens") || unknown()).then_some(added)
        };
        let Some(member) = reading.layers.iter().find_map(refused) else { return };
        verdict.class = Class::Misconfigured;
        verdict.rule = Cow::Borrowed(ADDED);
        verdict.next = Next::Any;
        // A name that the caller wrote somewhere may be an echo of theirs (spec 3.5).
        verdict.effect = if self.caller.wrote(member) { Effect::None } else { Class::Misconfigured.effect() };
        verdict.refused_addition = Some(member);
    }

    /// Judges a 2xx that is a failure for the reason `row`.
    #[must_use]
    pub fn failed_success(&self, row: &Row, answer: Answer<'_>) -> Verdict {
        if [ERROR_IN_SUCCESS.name, rules::NO_CONTENT.name].contains(&row.name) {
            let told = self.classify(answer);
            if row.name == ERROR_IN_SUCCESS.name || told.rule != ERROR_IN_SUCCESS.name {
                return told;
            }
        }
        let mut verdict = Verdict::new(row.class, row.name);
        (verdict.effect, verdict.next) = (row.its_effect(), row.its_next());
        verdict
    }

    /// Judges an error event of a stream.
    #[must_use]
    pub fn classify_event(&self, data: &[u8]) -> Verdict {
        self.classify(Answer { status: 200, headers: &HeaderMap::new(), body: data })
    }

    /// The first row that matches, over all layers; else the default of the status.
    fn look_up(&self, status: u16, reading: &Reading, sent: u16) -> Found {
        for (layer, report) in reading.layers.iter().enumerate() {
            if self.is_echo(report) {
                continue;
            }
            let facts = Facts { status, form: reading.form, report };
            if let Some((row, evidence)) = self.row_for(facts) {
                let proven = row.name == REQUEST_SCOPED.name;
                return Found { row, effect: self.trusted(row, &evidence, facts), layer, proven };
            }
        }
        let silent = |report: &&Report| report.codes.is_empty() && report.message.is_empty();
        let layer = usize::from(reading.layers.first().is_some_and(|report| silent(&report)));
        let nobody = Report::default();
        let facts = Facts { status, form: reading.form, report: &nobody };
        let last = if within(&[(200, 299)], sent) { &ERROR_IN_SUCCESS } else { &UNKNOWN };
        let row = default_row(facts).unwrap_or(last);
        Found { row, effect: row.its_effect(), layer, proven: false }
    }

    /// An error inside the words of another one is the caller's own if they wrote it.
    fn is_echo(&self, report: &Report) -> bool {
        let message = report.message.to_lowercase();
        let echoed = || !message.is_empty() && self.caller.wrote_all(&[&*message]);
        report.in_words && (echoed() || report.spelled.iter().any(|code| self.caller.wrote(code)))
    }

    fn row_for(&self, facts: Facts<'_>) -> Option<(&'static Row, Evidence)> {
        let scoped = is_request_scoped(facts);
        let specific = rules::rows().find_map(|row| {
            let evidence = row.matches(facts)?;
            // The guard believes single words, so it has to be sure whose they are.
            let own =
                row.is_guard() && matches!(&evidence, Evidence::Words(words) if self.caller.wrote_all(words));
            (!own).then_some((row, evidence))
        });
        match specific {
            // A fault of the request is told from its code and place before any text is believed; that it is one of
            // length only refines what the caller reads.
            Some((row, _)) if scoped && row.is_text() && !refines(row, facts.report) => {
                Some((&REQUEST_SCOPED, Evidence::Structure))
            }
            None if scoped => Some((&REQUEST_SCOPED, Evidence::Structure)),
            found => found,
        }
    }

    /// What a row may do: words that the caller wrote themselves prove no more than the status does (spec 3.5).
    fn trusted(&self, row: &Row, evidence: &Evidence, facts: Facts<'_>) -> Effect {
        match evidence {
            Evidence::Words(words) if self.caller.wrote_all(words) => {
                let silent = Facts { report: &Report::default(), ..facts };
                row.its_effect().min(default_row(silent).map_or(Effect::None, Row::its_effect))
            }
            _ => row.its_effect(),
        }
    }

    /// Lets the operator's rules speak, within their bounds.
    fn overrule(&self, verdict: &mut Verdict, found: &Found, status: u16, reading: &Reading) {
        if found.proven {
            return;
        }
        let facts = |report| Facts { status, form: reading.form, report };
        let Some(row) = reading.layers.iter().find_map(|report| self.custom.row(facts(report))) else {
            return;
        };
        verdict.class = row.class;
        verdict.rule = Cow::Owned(row.name.clone());
        (verdict.effect, verdict.next) = (row.effect(), row.class.next());
    }

    /// Words of the upstream pass only with a positive signal that they are about the request (spec 3.6).
    fn speak_to_caller(&self, verdict: &mut Verdict, row: &Row, report: &Report) {
        let signal = row.name == REQUEST_SCOPED.name
            || report.param.is_some()
            || has_code(report, "validation")
            || self.caller.is_named_in(&report.message);
        if !signal {
            return;
        }
        let harmless = |param: &String| sanitize(param, self.caller).as_ref() == Some(param);
        verdict.param = report.param.clone().filter(|param| self.caller.is_field(param) && harmless(param));
        verdict.fault = fault::of(report);
        let passed = sanitize(&report.message, self.caller);
        verdict.message = match self.lost_field(&report.message, passed.as_deref(), verdict.param.as_deref())
        {
            Some(field) => Some(in_own_words(field, verdict.fault, passed.as_deref())),
            None => passed,
        };
    }

    /// The field that the upstream's words name and those that may pass do not.
    fn lost_field<'m>(&self, said: &'m str, passed: Option<&str>, param: Option<&'m str>) -> Option<&'m str> {
        let field = param.or_else(|| self.caller.field_in(said))?;
        let harmless = sanitize(field, self.caller).as_deref() == Some(field);
        let lost = said.contains(field) && !passed.unwrap_or_default().contains(field);
        let place = field.contains(['_', '.', '[']) || self.caller.has_at(field);
        (lost && place && harmless && self.caller.is_field(field)).then_some(field)
    }
}

/// Whether a complete 2xx answer to a call that is no stream is a failure all the same (spec 3.1); the reason is a row.
#[must_use]
pub fn looks_failed(body: &[u8], call: Call) -> Option<Row> {
    let trimmed = body.trim_ascii();
    match trimmed {
        [] if body.is_empty() => return Some(rules::EMPTY),
        [] => return Some(rules::BLANK),
        [b'<', ..] => return Some(rules::PAGE),
        _ => {}
    }
    let Ok(view) = serde_json::from_slice::<super::answer::Outline<'_>>(trimmed) else {
        return Some(rules::NOT_JSON);
    };
    if view.is_error() || view.ended_badly(trimmed) {
        return Some(ERROR_IN_SUCCESS);
    }
    if call.api() == Api::Images && view.is_withheld() {
        return Some(rules::WITHHELD);
    }
    if !view.answers(call) {
        return Some(rules::NO_CONTENT);
    }
    content::is_missing(trimmed, call).then_some(rules::NOTHING_IN_IT)
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

fn default_row(facts: Facts<'_>) -> Option<&'static Row> {
    DEFAULTS.iter().find(|row| row.matches(facts).is_some())
}

/// Words of somebody who lost or gave up an exchange behind them.
const DOUBTS: [&str; 5] = ["reset", "disconnect", "timeout", "timed out", "deadline"];

/// Whether an answer leaves open that the request is being carried out all the same (spec 10.8). A 4xx is a refusal, unless
/// it tells of time or of another request; a 5xx is one if its body gives a reason for it. What broke while it worked, what
/// a proxy gave up waiting for, and whatever begins like a success may have been taken on.
fn accepted(status: u16, reading: &Reading, class: Class) -> Accepted {
    let unclear = within(&[(408, 409), (424, 425), (499, 499)], status);
    let doubts = |report: &Report| {
        let message = report.message.to_ascii_lowercase();
        DOUBTS.iter().any(|word| message.contains(word))
    };
    let broken = matches!(class, Class::Broken | Class::Misconfigured | Class::NotUnderstood);
    let says_why = matches!(reading.form, Form::Json | Form::Text) && !broken;
    let reasoned = says_why && !reading.layers.iter().any(doubts);
    let refused = within(&[(400, 499)], status) && !unclear || within(&[(500, 599)], status) && reasoned;
    if refused { Accepted::No } else { Accepted::Perhaps }
}

/// A field of the request, in the gateway's own words, where the upstream's may not pass.
fn in_own_words(field: &str, fault: RequestFault, passed: Option<&str>) -> String {
    let own = match fault {
        RequestFault::UnsupportedParameter => {
            format!("The parameter {field} is not supported by this model.")
        }
        RequestFault::MissingParameter => format!("The parameter {field} is missing."),
        RequestFault::InvalidValue => format!("The parameter {field} has a value that is not allowed."),
        RequestFault::Unsaid => format!("The model provider rejected the parameter {field}."),
    };
    match passed {
        Some(passed) if passed.len() + own.len() < 480 => format!("{own} {passed}"),
        _ => own,
    }
}

/// A client error whose code or field says that the request is at fault; the model's name is the gateway's own.
fn is_request_scoped(facts: Facts<'_>) -> bool {
    let Facts { status, report, .. } = facts;
    // A relay's own status does not matter where the code is proof.
    let about = within(REQUEST, status) || within(&[(200, 299), (404, 404), (500, 503)], status);
    let coded = REQUEST_SCOPED.its_codes().iter().any(|code| has_code(report, code));
    let named = report.param.as_deref().is_some_and(|param| param != "model") && within(REQUEST, status);
    about && coded || named
}

fn refines(row: &Row, report: &Report) -> bool {
    if row.is_firm() {
        return true;
    }
    let about_input = |param: &String| {
        param.contains("token")
            || ["messages", "input", "prompt"].iter().any(|field| param.starts_with(field))
    };
    row.class == Class::ContextTooLong && report.param.as_ref().is_none_or(about_input)
}

/// The status that counts: an error inside a 2xx often names the one that it should have had.
fn effective_status(status: u16, reading: &Reading) -> u16 {
    if !within(&[(200, 299)], status) {
        return status;
    }
    let codes = || reading.layers.iter().flat_map(|layer| &layer.codes);
    let stated = codes().filter_map(|code| code.parse().ok()).find(|code| (400..600).contains(code));
    let blames_request = || codes().any(|code| REQUEST_TYPES.contains(&&**code));
    stated.unwrap_or_else(|| if blames_request() { 400 } else { status })
}

/// Types that stand for a 400, in the form of [`super::report::plain_code`].
const REQUEST_TYPES: [&str; 8] = [
    "invalidrequest",
    "invalidrequests",
    "badrequest",
    "invalidargument",
    "invalidinput",
    "validation",
    "requestvalidation",
    "unprocessableentity",
];
/// The rule for a member that only the gateway wrote.
const ADDED: &str = "field: written by the gateway";

/// The exception that Amazon names in a header: `ThrottlingException:http://…`.
fn amazon_code(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-amzn-errortype")?.to_str().ok()?.split(':').next()
}

/// Notes the figures that any layer states, the most telling first. An input that fits, with more room for output than is
/// left, is no input that is too long: a smaller bound helps, and shortening does not (spec 2.11).
fn measure(verdict: &mut Verdict, reading: &Reading) {
    let stated =
        reading.layers.iter().map(|layer| layer.figures.unwrap_or_else(|| context::figures(&layer.message)));
    let telling =
        |figures: &ContextFigures| (figures.output.is_some(), figures.count.is_some(), figures.max.is_some());
    verdict.context = stated.max_by_key(telling).unwrap_or_default();
    if verdict.context.output.is_some() {
        verdict.class = Class::CallerMistake;
        verdict.fault = RequestFault::InvalidValue;
    }
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
