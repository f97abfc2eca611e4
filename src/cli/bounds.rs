//! What is bounded, by which name, and what counts what is refused (spec 15.1): the last section of the reference.
//!
//! Figures of fixed bounds are those of the code; the framework's own are not public, and are written out.

use crate::admin;
use crate::config::fixed as config;
use crate::config::reference::{default_of, grouped};
use crate::core::retry;
use crate::proxy::fixed;
use crate::runtime;
use crate::telemetry::{access_log, failures, request_id};
use crate::wire::{credential, envelope, framing, inflate, multipart, rewrite, sse, stream};
use std::fmt::Write;
use std::time::Duration;

const HEAD: &str = "\
## Bounds

Everything has a bound. A member of the configuration stands with its default; none means that nothing is bounded until it is
set. What is *fixed* is no matter of configuration. *The framework* is Pingora, which refuses what it cannot read before the gateway has a request to answer and to count. Each table says what becomes of what is over the bound, and which metric
counts it; of `tidegate_rejections_total` it names stage and reason.
";

/// One bound: what is bounded, the name or the figure, what happens beyond it, what counts it.
type Row = (&'static str, String, &'static str, &'static str);

/// The section, with a table for each side.
pub(super) fn markdown() -> String {
    let mut text = String::from(HEAD);
    for (title, rows) in [
        ("Headers of clients", heads()),
        ("Bodies of clients", bodies()),
        ("Connections of clients", connections()),
        ("Load", load()),
        ("How often and how long upstreams are asked", asking()),
        ("What upstreams send", answers()),
        ("What operators see and send", operators()),
    ] {
        let _ =
            write!(text, "\n### {title}\n\n| what | bound | beyond it | counted by |\n|---|---|---|---|\n");
        for (what, bound, beyond, counted) in rows {
            let _ = writeln!(text, "| {what} | {bound} | {beyond} | {counted} |");
        }
    }
    text
}

fn fixed(figure: impl std::fmt::Display) -> String {
    format!("fixed: {figure}")
}

/// Members of the configuration, each with what it is by default.
fn named(names: &[&str]) -> String {
    let name = |name: &&str| match default_of(name) {
        Some(value) => format!("`{name}`: {value}"),
        None => format!("`{name}`: none"),
    };
    names.iter().map(name).collect::<Vec<_>>().join("; ")
}

fn bytes(count: usize) -> String {
    match (count >> 20, count >> 10) {
        (0, 0) => format!("{count} bytes"),
        (0, kib) => format!("{kib} KiB"),
        (mib, _) => format!("{mib} MiB"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn heads() -> Vec<Row> {
    vec![
        (
            "header, in bytes",
            named(&["server.header_max"]),
            "400 `headers_too_large`",
            "`headers`, `headers_too_large`",
        ),
        (
            "header fields",
            fixed(fixed::FIELDS_MAX),
            "400 `headers_too_large`",
            "`headers`, `headers_too_large`",
        ),
        (
            "header, as the framework reads it",
            "the framework: HTTP/1.1 1 MiB and 256 fields, HTTP/2 64 KiB".to_owned(),
            "an empty 400; over HTTP/2 a refused stream",
            "nothing: no request was received",
        ),
        (
            "time to send a header",
            format!(
                "{}, from accept or from the first byte of a later header",
                named(&["server.header_timeout"])
            ),
            "the connection is closed",
            "`tidegate_connections_refused_total`",
        ),
        ("key, in bytes", fixed(credential::KEY_MAX), "401 `invalid_api_key`", "`key`, `invalid_key`"),
        (
            "`x-request-id`, in characters",
            fixed(request_id::CLIENT_ID_MAX),
            "the gateway makes its own",
            "nothing: it is not refused",
        ),
    ]
}

fn bodies() -> Vec<Row> {
    vec![
        (
            "body, also decompressed",
            named(&["server.body_max"]),
            "413 `request_too_large`",
            "`size`, `body_too_large`",
        ),
        (
            "memory of all bodies",
            named(&["server.body_total_max"]),
            "the generic 502",
            "`gateway`, `body_memory`; `tidegate_body_bytes` has what is used",
        ),
        (
            "ratio of decompression; large bodies worked on at a time",
            format!("{}; fixed: {}", named(&["server.inflation_max"]), fixed::OFFLOADED_MAX),
            "413 `request_too_large`; waits",
            "`size`, `body_too_large`",
        ),
        (
            "time to send a body",
            named(&["server.body_timeout"]),
            "400 `request_timeout`",
            "`body`, `body_timeout`",
        ),
        (
            "bodies kept for another attempt, of all requests",
            named(&["server.replay_max"]),
            "tried at one channel",
            "`tidegate_not_replayable_total`; `tidegate_replay_bytes` has what is kept",
        ),
        ("depth of JSON", fixed(envelope::DEPTH_MAX), "400 `invalid_json`", "`envelope`, `not_a_request`"),
        (
            "form: parts, and bytes of a part's header",
            fixed(format_args!("{}, {}", multipart::PARTS_MAX, bytes(multipart::HEADERS_MAX))),
            "400 `invalid_request_error`",
            "`envelope`, `bad_form`",
        ),
        (
            "answers of one call (`n`)",
            format!("{}; fixed: {}", named(&["models[].n_max"]), envelope::CHOICES_MAX),
            "400 `invalid_value`",
            "`rules`, `over_bound`; `envelope`, `invalid_value`",
        ),
        (
            "output of one answer",
            named(&["models[].output_max"]),
            "400 `invalid_value`",
            "`rules`, `over_bound`",
        ),
        (
            "input",
            named(&["models[].context_window"]),
            "413 `context_length_exceeded`",
            "`rules`, `context_too_long`",
        ),
        (
            "time to take what is written",
            named(&["server.write_timeout"]),
            "the client is cut, its permit comes back",
            "`tidegate_stream_end_total{reason=\"client_gone\"}`",
        ),
    ]
}

fn load() -> Vec<Row> {
    vec![
        (
            "requests under way, which are also those that wait for anything",
            named(&["server.max_connections"]),
            "the generic 502",
            "`gateway`, `busy`; `tidegate_connections` has those under way",
        ),
        (
            "streams of one HTTP/2 connection",
            "the framework: 100".to_owned(),
            "refused as HTTP/2 has it",
            "nothing: no request was received",
        ),
        (
            "requests a minute, tokens a minute, requests at a time",
            named(&["keys[].limits", "accounts[].limits", "models[].limits", "limits"]),
            "429",
            "`limits`, `requests_per_minute`, `tokens_per_minute`, `concurrency`",
        ),
        (
            "the same at a channel",
            named(&["channels[].limits"]),
            "another channel; the generic 502 if there is none",
            "`tidegate_exclusions_total{reason=\"full\"}`",
        ),
        (
            "queue for a channel that recovers, in time",
            named(&["defaults.retry.failover_wait"]),
            "the generic 502 at once",
            "`tidegate_exclusions_total` by channel and reason",
        ),
        (
            "queue for the ledger",
            named(&["server.max_connections"]),
            "the generic 502 when the disk fails",
            "`quota`, `store_unavailable`; `tidegate_store_waiting` has those that wait",
        ),
    ]
}

fn connections() -> Vec<Row> {
    vec![
        (
            "connections of clients, idle ones included",
            format!(
                "twice {}, and {} more",
                named(&["server.max_connections"]),
                grouped(fixed::CONNECTIONS_SPARE)
            ),
            "the longest idle ones are closed; where none is, closed unanswered",
            "`tidegate_connections_refused_total`, `tidegate_connections_closed_total`",
        ),
        (
            "time of an idle connection",
            named(&["server.keepalive"]),
            "closed",
            "`tidegate_connections_closed_total`",
        ),
        (
            "age of a connection",
            named(&["server.connection_age"]),
            "closed between requests; over HTTP/2 told so first",
            "`tidegate_connections_closed_total`",
        ),
        (
            "connections of one address",
            named(&["server.connections_per_address"]),
            "closed unanswered",
            "`tidegate_connections_refused_total`",
        ),
        (
            "connections of the admin listener",
            format!(
                "{}, {} for a header",
                grouped(runtime::ADMIN_CONNECTIONS_MAX),
                seconds(runtime::ADMIN_HEADER_TIMEOUT)
            ),
            "closed unanswered",
            "`tidegate_connections_refused_total`",
        ),
        (
            "line of a chunk's size, trailer section, in bytes",
            format!("{} and {}", fixed(framing::CHUNK_LINE_MAX), fixed(framing::TRAILER_MAX)),
            "400 `invalid_request_error`",
            "`body`, `body_unreadable`",
        ),
    ]
}

fn asking() -> Vec<Row> {
    let budget = format!(
        "{} for each request; fixed: {} at once, and 1 a second",
        named(&["defaults.retry.budget_ratio"]),
        retry::CAPACITY
    );
    let times = named(&[
        "defaults.timeouts.connect",
        "defaults.timeouts.first_byte",
        "defaults.timeouts.idle",
        "defaults.timeouts.total",
        "defaults.timeouts.video",
        "defaults.timeouts.failover",
    ]);
    vec![
        (
            "attempts of one request",
            format!("{}; `channels[].retry.attempts`: the same", named(&["defaults.retry.attempts"])),
            "the failure that weighs most is answered",
            "`tidegate_rewrites_total` by class and status",
        ),
        (
            "further attempts over all traffic",
            budget,
            "no further attempt",
            "`tidegate_retry_budget_attempts` has what is left, `tidegate_retry_budget_spent_total` what was taken",
        ),
        (
            "time to connect, to a stream's first byte, between two reads, for all",
            times,
            "another channel; after the first content an error inside the stream",
            "`tidegate_attempts_total`, outcome `broken` or `broken_mid_stream`",
        ),
        (
            "time to take one write of a request",
            fixed(seconds(fixed::WRITE_TIMEOUT)),
            "another channel",
            "`tidegate_attempts_total{outcome=\"broken\"}`",
        ),
    ]
}

fn answers() -> Vec<Row> {
    let held = format!("{} events, {}", stream::HELD_EVENTS_MAX, bytes(stream::HELD_BYTES_MAX));
    let whole = format!(
        "{}; without content {}",
        named(&["server.hold_max"]),
        fixed(bytes(fixed::HELD_UNDECIDED_MAX))
    );
    let errors = format!("{}, {}", bytes(fixed::ERROR_BODY_MAX), seconds(fixed::ERROR_BODY_TIMEOUT));
    let idle = format!("{}, {}", grouped(fixed::KEPT_MAX), seconds(fixed::IDLE_MAX));
    vec![
        (
            "header",
            "the framework: 1 MiB and 256 fields".to_owned(),
            "another channel",
            "`tidegate_attempts_total{outcome=\"broken\"}`",
        ),
        (
            "error body that is read, in bytes and time",
            fixed(errors),
            "judged by what was read",
            "nothing: it is not refused",
        ),
        (
            "line of a stream, and data of one event in several lines",
            fixed(bytes(sse::LINE_MAX)),
            "another channel; after the first content an error inside the stream",
            "`tidegate_attempts_total`, outcome `not_understood` or `broken_mid_stream`",
        ),
        (
            "stream that is held back until its first content",
            fixed(held),
            "another channel",
            "`tidegate_attempts_total{outcome=\"not_understood\"}`",
        ),
        (
            "JSON answer that is held back until it is complete",
            whole,
            "sent on as it comes, once it shows content; else another channel",
            "`tidegate_attempts_total{outcome=\"not_understood\"}`",
        ),
        (
            "name of a member of a large JSON answer",
            fixed(bytes(rewrite::NAME_MAX)),
            "compared with nothing, and not kept",
            "nothing: it is not refused",
        ),
        (
            "value of a large JSON answer that is kept for reading (`usage`)",
            fixed(bytes(rewrite::KEPT_MAX)),
            "passes unread",
            "`tidegate_tokens_total`, by count",
        ),
        (
            "gzip that nobody asked for, inflated at a time",
            fixed(format_args!("what {} hold", bytes(inflate::STEP))),
            "waits for what is before it",
            "nothing: it is not refused",
        ),
        (
            "answer about a job for a video",
            fixed(bytes(fixed::STATE_MAX)),
            "the request fails with 500",
            "`tidegate_attempts_total{outcome=\"not_understood\"}`",
        ),
        ("idle connections that are kept, and for how long", fixed(idle), "closed", "nothing"),
    ]
}

fn operators() -> Vec<Row> {
    let configuration = format!("{}, {}", bytes(config::TEXT_BYTES_MAX), config::DEPTH_MAX);
    let keys = format!("{} GiB, {}", config::KEYS_FILE_BYTES_MAX >> 30, bytes(config::KEYS_LINE_BYTES_MAX));
    let sent = format!("{}, {}", bytes(admin::BODY_MAX), seconds(admin::BODY_TIMEOUT));
    vec![
        (
            "lines of the access log that wait to be written",
            fixed(grouped(access_log::QUEUE_MAX)),
            "dropped",
            "`tidegate_access_log_dropped_total`",
        ),
        (
            "label values",
            "`models`, `channels` and closed lists".to_owned(),
            "a model that is not configured is `other`",
            "`tidegate_requests_total{model=\"other\"}`",
        ),
        (
            "failures that `/failures` and `tidegate why` know",
            fixed(failures::CAPACITY),
            "the oldest is forgotten; the log has it",
            "nothing: it is not refused",
        ),
        ("body sent to the admin listener, in bytes and time", fixed(sent), "413", "nothing"),
        (
            "configuration, in bytes and in lists and mappings inside each other",
            fixed(configuration),
            "refused; a reload changes nothing",
            "`tidegate_config_last_reload_successful`",
        ),
        (
            "`keys_file`, in bytes, and a line of it",
            fixed(keys),
            "refused; a reload changes nothing",
            "`tidegate_config_last_reload_successful`",
        ),
    ]
}
