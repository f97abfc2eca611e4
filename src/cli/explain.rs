//! `tidegate explain` (spec 12.2)

use super::admin::escaped;
use super::{EXIT_RUNTIME, Ended, Format, admin, api, complain, say};
use crate::core::api::Api;
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
}

#[derive(Deserialize)]
struct Excluded {
    channel: String,
    reason: String,
    left_ms: Option<u64>,
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
        Format::Text => serde_json::from_str::<Explanation>(&body)
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
        let Usable { channel, state, priority, share, in_flight, latency_ms, success } = usable;
        let latency = latency_ms.map_or_else(|| "-".to_owned(), |latency| format!("{latency:.0} ms"));
        lines.push(format!(
            "{channel}: {state}, priority {priority}, share {:.1} %, {in_flight} in flight, first content after {latency}, {:.0} % succeeded",
            share * 100.0,
            success * 100.0,
        ));
    }
    let seconds = |millis| Duration::from_millis(millis).as_secs_f64();
    for Excluded { channel, reason, left_ms } in &explained.excluded {
        let left = left_ms.map(|left| format!(" for {:.1} s more", seconds(left)));
        lines.push(format!("{channel}: not asked, {reason}{}", left.unwrap_or_default()));
    }
    if let Some(waits) = explained.waits_ms {
        lines.push(format!("the request would wait {:.1} s for the first that is back", seconds(waits)));
    }
    if let Some(Told { status, code, message }) = &explained.error {
        lines.push(format!("the client would read {status} {code}: {message}"));
    }
    lines.join("\n")
}
