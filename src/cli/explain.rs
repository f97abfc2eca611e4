//! `tidegate explain` (spec 12.2)

use super::admin::escaped;
use super::style::{Tone, paint, state as coloured};
use super::{EXIT_RUNTIME, Ended, Format, admin, api, complain, read, say};
use crate::core::api::Api;
use crate::telemetry::time_span::for_people;
use clap::Args;
use serde::Deserialize;
use std::process::ExitCode;
use std::time::Duration;

/// The request that is explained.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The model, by its public id.
    model: String,
    /// The key that asks, by its name in the configuration.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// The API that is called.
    #[arg(long, value_parser = api(), default_value = "chat")]
    api: Api,
    /// Its input, in tokens.
    #[arg(long, default_value_t = 0)]
    tokens: u64,
    #[command(flatten)]
    admin: admin::Listener,
}

#[derive(Deserialize)]
struct Explanation {
    candidates: Vec<Usable>,
    excluded: Vec<Excluded>,
    waits_ms: Option<u64>,
    error: Option<Told>,
}

#[derive(Deserialize)]
struct Usable {
    channel: String,
    state: String,
    priority: u32,
    share: f64,
    in_flight: u32,
    latency_ms: Option<f64>,
    success: f64,
    cause: Option<Cause>,
    credentials: Vec<Credential>,
}

#[derive(Deserialize)]
struct Excluded {
    channel: String,
    reason: String,
    left_ms: Option<u64>,
    cause: Option<Cause>,
    credentials: Vec<Credential>,
}

/// A credential of a channel that is not up.
#[derive(Deserialize)]
struct Credential {
    position: usize,
    state: String,
    left_ms: Option<u64>,
    cause: Option<Cause>,
}

/// The failure behind a state.
#[derive(Deserialize)]
struct Cause {
    class: String,
    rule: String,
    request_id: String,
}

#[derive(Deserialize)]
struct Told {
    status: u16,
    code: String,
    message: String,
}

/// Tells which channels a request would see, and why not the others.
pub(super) fn run(arguments: &Arguments, format: Format) -> Ended {
    let key = arguments.key.as_deref().map(|key| format!("&key={}", escaped(key))).unwrap_or_default();
    let (model, api, tokens) = (escaped(&arguments.model), arguments.api.as_str(), arguments.tokens);
    let path = format!("/explain?model={model}&api={api}&tokens={tokens}{key}");
    let explained = arguments.admin.get(&path).and_then(|body| match format {
        Format::Json => Ok(body.trim_end().to_owned()),
        Format::Text => read::<Explanation>(&body)
            .map(|explained| described(&explained))
            .map_err(|e| format!("the gateway's answer is odd: {e}")),
    });
    match explained {
        Ok(text) => {
            say(text);
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => complain(EXIT_RUNTIME, why),
    }
}

fn described(explained: &Explanation) -> String {
    let mut lines = Vec::new();
    for usable in &explained.candidates {
        let Usable { channel, state, priority, share, in_flight, latency_ms, success, .. } = usable;
        let latency = latency_ms.map_or_else(|| "-".to_owned(), |latency| format!("{latency:.0} ms"));
        lines.push(format!(
            "{channel}: {}, priority {priority}, share {:.1} %, {in_flight} in flight, first content after {latency}, {:.0} % succeeded",
            coloured(state),
            share * 100.0,
            success * 100.0,
        ));
        lines.extend(usable.cause.iter().map(|cause| format!("    {}", cause.told())));
        lines.extend(usable.credentials.iter().map(|credential| credential.told()));
    }
    for Excluded { channel, reason, left_ms, cause, credentials } in &explained.excluded {
        let left = left_ms.map(|left| format!(" for {} more", for_people(Duration::from_millis(left))));
        let reason = match meaning(reason) {
            Some(meaning) => format!("{reason}: {meaning}"),
            None => coloured(reason),
        };
        lines.push(format!("{channel}: not asked, {reason}{}", left.unwrap_or_default()));
        // What credentials have to say says the same again.
        lines.extend(
            cause.iter().filter(|_| credentials.is_empty()).map(|cause| format!("    {}", cause.told())),
        );
        lines.extend(credentials.iter().map(|credential| credential.told()));
    }
    if let Some(waits) = explained.waits_ms {
        let waits = for_people(Duration::from_millis(waits));
        lines.push(format!("the request would wait {waits} for the first that is back"));
    }
    if let Some(Told { status, code, message }) = &explained.error {
        lines.push(paint(Tone::Bad, &format!("the client would read {status} {code}: {message}")));
    }
    lines.join("\n")
}

impl Cause {
    fn told(&self) -> String {
        let Self { class, rule, request_id } = self;
        format!("because of {class} (rule: {rule}), request {request_id}")
    }
}

impl Credential {
    fn told(&self) -> String {
        let Self { position, state, left_ms, cause } = self;
        let left = left_ms.map(|left| format!(" for {} more", for_people(Duration::from_millis(left))));
        let cause = cause.as_ref().map(|cause| format!(", {}", cause.told()));
        let (left, cause) = (left.unwrap_or_default(), cause.unwrap_or_default());
        format!("    credential {position}: {}{left}{cause}", coloured(state))
    }
}

/// The meaning of a reason that is no state of health.
fn meaning(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "api" => "it does not speak this API",
        "group" => "it serves other groups of keys",
        "context_window" => "the input is larger than its context window",
        "draining" => "its weight is 0",
        "full" => "its own limits leave no room",
        "pinned_elsewhere" => "the request goes on from an answer of another channel",
        _ => return None,
    })
}
