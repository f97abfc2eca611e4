//! The status page: one file without a single request to elsewhere, filled in with a snapshot, so that it is a plain page of
//! tables where scripts are off; with scripts it brings itself up to date from `/status.json` (spec 13.1).
//!
//! What comes from outside, such as the words of an upstream, becomes [`Html`] by escaping alone. The browser is told to run
//! this script and this style and nothing else, by their digests.

use super::answer;
use crate::core::api::Api;
use crate::telemetry::failures::{AttemptView, ExcludedView, FailureView};
use crate::telemetry::snapshot::{CauseView, ChannelRow, LimitRow, ModelRow, QuotaRow, Snapshot};
use crate::telemetry::time_span::for_people;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Response};
use once_cell::sync::Lazy;
use sha2::{Digest, Sha256};
use std::fmt::{Display, Write};
use std::time::Duration;

const TEMPLATE: &str = include_str!("page.html");
/// The height of a chart, in its own units, and how much of it the highest value takes.
const CHART: f64 = 40.0;
const CHART_TOP: f64 = 38.0;

/// What is shown of a model without channels.
const NOT_SERVED: &str = "not offered: no enabled channel, or no price";

/// The rule for the browser.
static POLICY: Lazy<HeaderValue> = Lazy::new(|| {
    let digest = |tag: &str| {
        let begin = format!("<{tag}>");
        let (_, rest) = TEMPLATE.split_once(&begin).unwrap_or_default();
        let (inline, _) = rest.split_once(&format!("</{tag}>")).unwrap_or_default();
        STANDARD.encode(Sha256::digest(inline.as_bytes()))
    };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        digest("script"),
        digest("style"),
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The page with a snapshot.
pub(super) fn page(snapshot: &Snapshot) -> Response<Vec<u8>> {
    respond(200, |name| match name {
        "version" => Html::text(snapshot.version),
        "summary" => summary(snapshot),
        "time" => moment(&snapshot.time),
        "tiles" => figures(&now(snapshot)),
        "charts" => charts(snapshot),
        "channels" => channels(snapshot),
        "models" => models(snapshot),
        "limits" => limits(snapshot),
        "money" => figures(&money(snapshot)),
        "failures" => failures(snapshot),
        "apis" => {
            Html::all(Api::WORDS.iter().map(|(word, _)| Html::text(word).within("<option>", "</option>")))
        }
        "known" => Html::all(
            snapshot.models.iter().map(|model| Html::text(&model.id).within("<option>", "</option>")),
        ),
        _ => Html::default(),
    })
}

/// The page without any, for those who have to show the token first.
pub(super) fn locked() -> Response<Vec<u8>> {
    respond(401, |name| match name {
        "locked" => Html(" data-locked".into()),
        "summary" => Html::text("The admin token is needed"),
        _ => Html::default(),
    })
}

fn respond(status: u16, part: impl Fn(&str) -> Html) -> Response<Vec<u8>> {
    let mut response = answer(status, "text/html; charset=utf-8", fill(TEMPLATE, part).into_bytes());
    let headers = response.headers_mut();
    headers.insert("content-security-policy", POLICY.clone());
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    response
}

/// Puts the parts in their places; what is put there is not looked at again.
fn fill(template: &str, part: impl Fn(&str) -> Html) -> String {
    let mut filled = String::with_capacity(2 * template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        filled.push_str(before);
        filled.push_str(&part(name).0);
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// Text that may stand in the page as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Html(String);

impl Html {
    /// Any text, with all that could be markup escaped.
    fn text(text: impl Display) -> Self {
        let mut escaped = String::new();
        for c in text.to_string().chars() {
            match c {
                '&' => escaped.push_str("&amp;"),
                '<' => escaped.push_str("&lt;"),
                '>' => escaped.push_str("&gt;"),
                '"' => escaped.push_str("&quot;"),
                '\'' => escaped.push_str("&#39;"),
                _ => escaped.push(c),
            }
        }
        Self(escaped)
    }

    /// One after another.
    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        Self(parts.into_iter().map(|part| part.0).collect())
    }

    fn within(self, begin: &'static str, end: &'static str) -> Self {
        Self(format!("{begin}{}{end}", self.0))
    }

    fn line(self) -> Self {
        self.within("<div>", "</div>")
    }

    fn small(text: impl Display) -> Self {
        Self::text(text).within("<small>", "</small>")
    }
}

/// A state, in words and by a sign besides its colour.
fn state(word: &str) -> Html {
    let (begin, sign) = match word {
        "up" => ("<span class=\"state good\">", '●'),
        "cooling" => ("<span class=\"state warn\">", '◔'),
        "ejected" => ("<span class=\"state bad\">", '✕'),
        "out" => ("<span class=\"state bad\">", '■'),
        "probing" => ("<span class=\"state warn\">", '◌'),
        "failing" => ("<span class=\"state bad\">", '✕'),
        "disabled" => ("<span class=\"state off\">", '○'),
        "draining" => ("<span class=\"state off\">", '▽'),
        "full" => ("<span class=\"state warn\">", '▣'),
        _ => ("<span class=\"state warn\">", '?'),
    };
    Html::text(format_args!("{sign} {word}")).within(begin, "</span>")
}

/// A table; a column whose name begins with `#` is of numbers, and the first names its row.
fn table(columns: &[&str], rows: Vec<Vec<Html>>, left_out: usize) -> Html {
    if rows.is_empty() {
        return Html("<p class=\"none\">none</p>".into());
    }
    let kind = |column: &str| if column.starts_with('#') { "n" } else { "" };
    let name = |column: &str| Html::text(column.trim_start_matches('#')).0;
    let mut html = String::from("<table role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\">");
    for column in columns {
        let (kind, name) = (kind(column), name(column));
        let _ = write!(html, "<th scope=\"col\" role=\"columnheader\" class=\"{kind}\">{name}</th>");
    }
    html.push_str("</tr></thead><tbody role=\"rowgroup\">");
    for row in rows {
        html.push_str("<tr role=\"row\">");
        for (index, (Html(cell), column)) in row.iter().zip(columns).enumerate() {
            let (kind, name) = (kind(column), name(column));
            let _ = match index {
                0 => write!(html, "<th scope=\"row\" role=\"rowheader\">{cell}</th>"),
                _ => write!(html, "<td role=\"cell\" class=\"{kind}\" data-label=\"{name}\">{cell}</td>"),
            };
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>");
    if left_out > 0 {
        let _ = write!(html, "<p class=\"none\">and {left_out} more</p>");
    }
    Html(html)
}

fn figures(figures: &[(&str, String)]) -> Html {
    Html::all(figures.iter().map(|(term, value)| {
        let term = Html::text(term).within("<dt>", "</dt>");
        let value = Html::text(value).within("<dd>", "</dd>");
        Html::all([term, value]).line()
    }))
}

fn summary(snapshot: &Snapshot) -> Html {
    let count = |state: &str| snapshot.channels.iter().filter(|channel| channel.state == state).count();
    let (up, disabled) = (count("up"), count("disabled"));
    let is_whole = up + disabled == snapshot.channels.len();
    let (begin, head) = match (snapshot.ready, snapshot.outage) {
        (false, _) => ("<span class=\"state warn\">", "▽ not ready, draining"),
        (true, true) => ("<span class=\"state bad\">", "✕ outage: no channel is well"),
        (true, false) if is_whole => ("<span class=\"state good\">", "● ready"),
        (true, false) => ("<span class=\"state warn\">", "● ready"),
    };
    let shown = if snapshot.channels_left_out > 0 { " shown" } else { "" };
    let text = format!(" · {up} of {} channels{shown} up", snapshot.channels.len());
    let store = (!snapshot.store.well)
        .then(|| Html::text("✕ the store fails").within("<span class=\"state bad\">", "</span>"));
    let store = store.map(|store| Html::all([Html::text(" · "), store])).unwrap_or_default();
    Html::all([Html::text(head).within(begin, "</span>"), Html::text(text), store])
}

fn now(snapshot: &Snapshot) -> [(&'static str, String); 8] {
    let traffic = &snapshot.traffic;
    [
        ("Requests/s", number(traffic.requests_per_second)),
        ("Errors/s", number(traffic.errors_per_second)),
        ("In flight", traffic.in_flight.to_string()),
        ("Output tokens/s", number(traffic.tokens_per_second)),
        ("Overhead p50", millis(traffic.overhead_p50_ms)),
        ("Overhead p99", millis(traffic.overhead_p99_ms)),
        ("Generation", snapshot.generation.to_string()),
        ("Up for", span(snapshot.uptime_seconds)),
    ]
}

fn money(snapshot: &Snapshot) -> [(&'static str, String); 6] {
    let (money, store) = (&snapshot.money, &snapshot.store);
    [
        ("Reserved", format!("${}", money.reserved)),
        ("Settled", format!("${}", money.settled)),
        ("Released", format!("${}", money.released)),
        ("Outstanding", format!("${}", money.outstanding)),
        ("Store", store.error.as_ref().map_or_else(|| "● well".to_owned(), |error| format!("✕ {error}"))),
        ("Commits", format!("{}, {} failed", store.commits, store.failures)),
    ]
}

fn charts(snapshot: &Snapshot) -> Html {
    let history = &snapshot.history;
    let some = |values: &[f64]| values.iter().map(|value| Some(*value)).collect::<Vec<_>>();
    let in_flight: Vec<_> =
        history.in_flight.iter().map(|count| u32::try_from(*count).ok().map(f64::from)).collect();
    let plain = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
    let count = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
    let steps = history.steps_max;
    Html::all([
        chart("Requests/s", &some(&history.requests), steps, plain),
        chart("Errors/s", &some(&history.errors), steps, plain),
        chart("Tokens/s", &some(&history.tokens), steps, plain),
        chart("In flight", &in_flight, steps, count),
        chart("Overhead p99", &history.overhead_p99_ms, steps, millis),
    ])
}

/// Steps from left to right, the last one at the right edge; where there is no value there is a gap.
fn chart(name: &str, values: &[Option<f64>], steps: usize, unit: fn(Option<f64>) -> String) -> Html {
    let known = values.iter().flatten();
    let top =
        known.copied().fold(None, |top: Option<f64>, value| Some(top.map_or(value, |top| top.max(value))));
    let now = values.last().copied().flatten();
    let (mut path, mut is_open) = (String::new(), false);
    for (x, value) in (steps.saturating_sub(values.len())..).zip(values) {
        let Some(value) = value else {
            path.push_str(if is_open { "V40Z" } else { "" });
            is_open = false;
            continue;
        };
        let part = top.filter(|top| *top > 0.0).map_or(0.0, |top| value / top);
        let begin = if is_open { String::new() } else { format!("M{x} {CHART}") };
        let _ = write!(path, "{begin}V{:.1}H{}", CHART - part * CHART_TOP, x + 1);
        is_open = true;
    }
    path.push_str(if is_open { "V40Z" } else { "" });
    let (name, now, top) = (Html::text(name).0, Html::text(unit(now)).0, Html::text(unit(top)).0);
    Html(format!(
        "<figure><figcaption>{name} <b>{now}</b></figcaption>\
         <svg viewBox=\"0 0 {steps} 40\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{name}: now {now}, highest {top}\"><path d=\"{path}\"/></svg>\
         <p class=\"axis\"><span>−15 min</span><span>highest {top}</span><span>now</span></p></figure>"
    ))
}

fn channels(snapshot: &Snapshot) -> Html {
    let columns = [
        "Channel",
        "State",
        "#In flight",
        "#Success 1 min",
        "#5 min",
        "#First token",
        "#Tokens/s",
        "Last failure",
    ];
    let now = humantime::parse_rfc3339(&snapshot.time).ok();
    let now = now.and_then(|now| now.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let rows = snapshot.channels.iter().map(|channel| channel_row(channel, now_ms)).collect();
    table(&columns, rows, snapshot.channels_left_out)
}

fn channel_row(channel: &ChannelRow, now_ms: u64) -> Vec<Html> {
    let (usable, credentials) = channel.credentials;
    let mut notes = format!("priority {}, weight {}", channel.priority, channel.weight);
    if usable < credentials {
        let _ = write!(notes, ", {usable} of {credentials} credentials usable");
    }
    let why = [channel.reason.clone(), channel.left_ms.map(left)].into_iter().flatten();
    let why = why.collect::<Vec<_>>().join(", ");
    let resting = channel.resting.iter().map(|resting| {
        let what = format!("{} {} here", resting.model, resting.state);
        Html::small(told(&what, resting.left_ms, resting.cause.as_ref())).line()
    });
    let of_credentials = channel.resting_credentials.iter().map(|credential| {
        let what = format!("credential {} of {credentials} {}", credential.position, credential.state);
        Html::small(told(&what, credential.left_ms, credential.cause.as_ref())).line()
    });
    let why = (!why.is_empty()).then(|| Html::small(why).line());
    let last = channel.last_failure.as_ref().map_or_else(
        || Html::text("–"),
        |last| {
            let status = last.status.map(|status| format!(", status {status}")).unwrap_or_default();
            let ago = span(now_ms.saturating_sub(last.at_ms) / 1_000);
            Html::all([
                Html::text(format_args!("{}{status}", last.class)).line(),
                Html::small(format_args!("{}, {ago} ago", last.rule)).line(),
            ])
        },
    );
    let limit = channel.limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    vec![
        Html::all([Html::text(&channel.id), Html::small(notes).line()]),
        Html::all([state(channel.state).line()].into_iter().chain(why).chain(of_credentials).chain(resting)),
        Html::text(format_args!("{}{limit}", channel.in_flight)),
        Html::text(percent(channel.success_1m)),
        Html::text(percent(channel.success_5m)),
        Html::text(millis(channel.first_token_ms)),
        Html::text(number(channel.tokens_per_second)),
        last,
    ]
}

/// A resting unit, the time left, and the failure behind it.
fn told(what: &str, left_ms: Option<u64>, cause: Option<&CauseView>) -> String {
    let left = left_ms.map(|time| format!(", {}", left(time))).unwrap_or_default();
    let cause = cause.map(|cause| format!(": {} ({})", cause.class, cause.rule)).unwrap_or_default();
    format!("{what}{left}{cause}")
}

fn models(snapshot: &Snapshot) -> Html {
    let row = |model: &ModelRow| {
        let candidates = model.candidates.iter().map(|candidate| {
            let share = Html::text(format_args!("{} {} ", candidate.channel, percent(Some(candidate.share))));
            let state = if candidate.state == "up" { Html::default() } else { state(candidate.state) };
            Html::all([share, state]).line()
        });
        let none = model.candidates.is_empty().then(|| Html::text(NOT_SERVED).line());
        let more = model.candidates_left_out;
        let more = (more > 0).then(|| Html::small(format_args!("and {more} more")).line());
        vec![
            Html::text(&model.id),
            Html::text(number(model.requests_per_second)),
            Html::all(candidates.chain(none).chain(more)),
        ]
    };
    let rows = snapshot.models.iter().map(row).collect();
    table(&["Model", "#Requests/s", "Channels now"], rows, snapshot.models_left_out)
}

fn limits(snapshot: &Snapshot) -> Html {
    let row = |LimitRow { scope, id, dimension, used, limit }: &LimitRow| {
        let part = used.saturating_mul(100) / (*limit).max(1);
        vec![
            Html::text(format_args!("{scope} {id}")),
            Html::text(dimension.replace('_', " ")),
            Html::text(format_args!("{used} of {limit} ({part} %)")),
        ]
    };
    let quota = |QuotaRow { key, used, quota, percent }: &QuotaRow| {
        let used = Html::text(format_args!("${used} of ${quota} ({percent} %)"));
        vec![Html::text(format_args!("key {key}")), Html::text("quota"), used]
    };
    let rows = snapshot.quotas.iter().map(quota).chain(snapshot.limits.iter().map(row)).collect();
    table(&["Whose", "Limit", "#Used"], rows, snapshot.quotas_left_out + snapshot.limits_left_out)
}

fn failures(snapshot: &Snapshot) -> Html {
    let row = |failure: &FailureView| {
        let or_none = |text: Option<&str>| Html::text(text.unwrap_or("–"));
        let end = failure.end.replace('_', " ");
        let status = if failure.status == 0 { "nothing".to_owned() } else { failure.status.to_string() };
        vec![
            Html::text(&failure.request_id),
            moment(&failure.time),
            or_none(failure.model.as_deref()),
            or_none(failure.key.as_deref()),
            Html::text(format_args!("{status} {}", failure.code.unwrap_or(&end))),
            cause(failure),
        ]
    };
    let rows = snapshot.failures.iter().map(row).collect();
    table(&["Request", "Time", "Model", "Key", "The client read", "Hidden cause"], rows, 0)
}

/// What was tried, what could not be tried, and what the gateway itself had against it.
fn cause(failure: &FailureView) -> Html {
    let excluded = failure.excluded.iter();
    let excluded = excluded.map(|ExcludedView { channel, reason }| {
        Html::text(format_args!("{channel}: not asked, {reason}")).line()
    });
    let own = failure.refusal.map(|reason| Html::text(format_args!("the gateway itself: {reason}")).line());
    match Html::all(failure.attempts.iter().map(attempt).chain(excluded).chain(own)) {
        Html(none) if none.is_empty() => Html::text("–"),
        cause => cause,
    }
}

fn attempt(AttemptView { channel, status, outcome, rule, words }: &AttemptView) -> Html {
    let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let rule = rule.as_ref().map(|rule| format!(" ({rule})")).unwrap_or_default();
    let what = Html::text(format_args!("{channel}: {status}, {outcome}{rule}"));
    let words = (!words.is_empty()).then(|| Html::small(format_args!(" “{words}”")));
    Html::all([what].into_iter().chain(words)).line()
}

/// A figure with two or three digits.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn millis(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value < 1_000.0 => format!("{} ms", number(value)),
        Some(value) => format!("{} s", number(value / 1_000.0)),
    }
}

fn percent(part: Option<f64>) -> String {
    match part {
        None => "–".to_owned(),
        Some(0.0) => "0 %".to_owned(),
        Some(1.0) => "100 %".to_owned(),
        Some(part) => format!("{:.1} %", part * 100.0),
    }
}

/// A time in its two largest units.
fn span(seconds: u64) -> String {
    for_people(Duration::from_secs(seconds))
}

/// A time by the wall clock, for people.
fn moment(time: &str) -> Html {
    Html::text(time.replace('T', " ").replace('Z', " UTC"))
}

fn left(millis: u64) -> String {
    format!("{} left", span(millis.div_ceil(1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing that comes from outside is markup, in text or in an attribute, and no part is filled in twice.
    #[test]
    fn everything_is_escaped() {
        let hostile = "<script>alert(1)</script> & \"quotes\" 'too' {{version}}";
        let escaped = Html::text(hostile).0;
        assert!(!escaped.contains(['<', '>', '"', '\'']), "{escaped}");
        let filled = fill("a{{x}}b{{y}}c{{", |name| Html::text(if name == "x" { "{{y}}" } else { "y" }));
        assert_eq!(filled, "a{{y}}byc{{");
    }

    /// Goal: the browser runs what is in the file, and the file asks nobody else for anything.
    #[test]
    fn the_page_is_self_contained() {
        let policy = POLICY.to_str().unwrap();
        let empty = STANDARD.encode(Sha256::digest(b""));
        assert!(policy.starts_with("default-src 'none';") && !policy.contains(&empty), "{policy}");
        assert!(!policy.contains("unsafe"));
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!TEMPLATE.contains(outside), "{outside}");
        }
        assert_eq!(TEMPLATE.matches("href=").count(), TEMPLATE.matches("href=\"data:,\"").count());
    }

    /// Goal: a chart ends at its right edge, has gaps where nothing is known, and tells its figures in words too.
    #[test]
    fn charts_are_drawn() {
        let Html(drawn) = chart("p99", &[Some(1.0), None, Some(2.0)], 180, millis);
        assert!(drawn.contains("d=\"M177 40V21.0H178V40ZM179 40V2.0H180V40Z\""), "{drawn}");
        assert!(drawn.contains("aria-label=\"p99: now 2.00 ms, highest 2.00 ms\""), "{drawn}");
        assert!(chart("p99", &[], 180, millis).0.contains("now –, highest –"));
    }

    /// Goal: figures are short.
    #[test]
    fn figures_are_short() {
        assert_eq!([0.0, 1.234, 12.34, 1_234.5].map(number), ["0", "1.23", "12.3", "1234"]);
        assert_eq!([percent(Some(0.987)), percent(Some(1.0)), percent(None)], ["98.7 %", "100 %", "–"]);
        assert_eq!(
            [left(100), span(600), span(7_200), span(200_000)],
            ["1 s left", "10 min", "2 h", "2 d 8 h"]
        );
    }
}
