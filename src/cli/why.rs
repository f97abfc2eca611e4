//! `tidegate why` (spec 2.12)

use super::admin::escaped;
use super::{EXIT_RUNTIME, Ended, Format, admin, complain, read, say};
use serde::Deserialize;
use std::process::ExitCode;

/// Tells of one failed request what the client was not told.
pub(super) fn run(request_id: &str, admin: &admin::Listener, format: Format) -> Ended {
    let found = match admin.get(&format!("/failures?format=json&id={}", escaped(request_id))) {
        Ok(found) => found,
        Err(why) => return complain(EXIT_RUNTIME, why),
    };
    let parsed = read::<Found>(&found).unwrap_or_default();
    let Some(failure) = parsed.failures.first() else {
        let hint = "is not among the last failures; the access log has every request";
        return complain(EXIT_RUNTIME, format_args!("{request_id} {hint}"));
    };
    match format {
        Format::Text => say(described(failure)),
        Format::Json => say(found.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// What `/failures` answers.
#[derive(Default, Deserialize)]
struct Found {
    failures: Vec<Failed>,
}

/// One line of the access log, as far as it is told here.
#[derive(Deserialize)]
pub(super) struct Failed {
    pub(super) request_id: String,
    pub(super) time: String,
    pub(super) model: Option<String>,
    route: String,
    key: Option<String>,
    pub(super) attempts: Vec<Attempt>,
    #[serde(default)]
    pub(super) excluded: Vec<Excluded>,
    pub(super) refusal: Option<Refused>,
    pub(super) status: u16,
    pub(super) code: Option<String>,
    told: Option<String>,
    end: String,
    duration_ms: f64,
}

#[derive(Deserialize)]
pub(super) struct Attempt {
    pub(super) channel: String,
    pub(super) upstream_status: Option<u16>,
    pub(super) outcome: String,
    pub(super) rule: Option<String>,
    ms: f64,
    #[serde(default)]
    words: String,
}

#[derive(Deserialize)]
pub(super) struct Excluded {
    pub(super) channel: String,
    pub(super) reason: String,
}

#[derive(Deserialize)]
pub(super) struct Refused {
    pub(super) reason: String,
}

/// A failure in lines for people.
fn described(failure: &Failed) -> String {
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    let mut lines = vec![
        format!("request   {} at {}", failure.request_id, failure.time),
        format!(
            "asked     {} on {}, by the key {}",
            or(&failure.model, "no model"),
            failure.route,
            or(&failure.key, "-")
        ),
    ];
    for (number, attempt) in (1..).zip(&failure.attempts) {
        let status =
            attempt.upstream_status.map_or("no answer".to_owned(), |status| format!("status {status}"));
        let Attempt { channel, outcome, ms, words, .. } = attempt;
        let rule = or(&attempt.rule, "-");
        lines
            .push(format!("attempt {number} at {channel}: {status}, {outcome} (rule: {rule}) after {ms} ms"));
        if !words.is_empty() {
            lines.push(format!("          upstream said: {words}"));
        }
    }
    for Excluded { channel, reason } in &failure.excluded {
        lines.push(format!("not asked {channel}: {reason}"));
    }
    lines.extend(
        failure.refusal.iter().map(|refused| format!("refused   by the gateway itself: {}", refused.reason)),
    );
    lines.push(format!("client    was told {} {}", failure.status, or(&failure.code, "")));
    lines.extend(failure.told.iter().map(|told| format!("          {told}")));
    lines.push(format!("end       {} after {} ms", failure.end, failure.duration_ms));
    lines.join("\n")
}
