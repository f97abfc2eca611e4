//! `tidegate status` (spec 12.2): how a running gateway stands, in a terminal.

use super::style::{Tone, paint};
use super::table::{self, Cell, table};
use super::{EXIT_RUNTIME, Ended, Format, admin, complain, read, say};
use crate::telemetry::time_span::for_people;
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(2);
/// Moves to the upper left corner and clears what follows.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Look again every two seconds, until interrupted.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    admin: admin::Listener,
}

#[derive(Deserialize)]
struct Snapshot {
    version: String,
    generation: u64,
    ready: bool,
    outage: bool,
    uptime_seconds: u64,
    traffic: Traffic,
    channels: Vec<Channel>,
    channels_left_out: usize,
    models: Vec<Model>,
    models_left_out: usize,
    limits: Vec<Limit>,
    quotas: Vec<Quota>,
    money: Money,
    store: Store,
}

#[derive(Deserialize)]
struct Traffic {
    requests_per_second: f64,
    errors_per_second: f64,
    tokens_per_second: f64,
    in_flight: u64,
    overhead_p50_ms: Option<f64>,
    overhead_p99_ms: Option<f64>,
}

#[derive(Deserialize)]
struct Channel {
    id: String,
    state: String,
    reason: Option<String>,
    left_ms: Option<u64>,
    in_flight: u32,
    limit: Option<u32>,
    success_1m: Option<f64>,
    success_5m: Option<f64>,
    first_token_ms: Option<f64>,
    tokens_per_second: f64,
    credentials: (usize, usize),
    resting_credentials: Vec<Credential>,
    resting: Vec<Resting>,
}

#[derive(Deserialize)]
struct Credential {
    position: usize,
    state: String,
    left_ms: Option<u64>,
    cause: Option<Cause>,
}

#[derive(Deserialize)]
struct Resting {
    model: String,
    state: String,
    left_ms: Option<u64>,
    cause: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    class: String,
    rule: String,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    requests_per_second: f64,
    candidates: Vec<Share>,
}

#[derive(Deserialize)]
struct Share {
    channel: String,
    state: String,
    share: f64,
}

#[derive(Deserialize)]
struct Limit {
    scope: String,
    id: String,
    dimension: String,
    used: u64,
    limit: u64,
}

#[derive(Deserialize)]
struct Quota {
    key: String,
    used: String,
    quota: String,
    percent: u8,
}

#[derive(Deserialize)]
struct Money {
    settled: String,
    outstanding: String,
}

#[derive(Deserialize)]
struct Store {
    well: bool,
    error: Option<String>,
}

/// Shows it once, or again and again.
pub(super) fn run(arguments: &Arguments, format: Format) -> Ended {
    if arguments.watch {
        return watch(&arguments.admin, format);
    }
    match look(&arguments.admin, format) {
        Ok(text) => {
            say(text);
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => complain(EXIT_RUNTIME, why),
    }
}

/// Goes on until it is interrupted, or until nobody reads any more.
fn watch(admin: &admin::Listener, format: Format) -> Ended {
    let begin = if format == Format::Text && stdout().is_terminal() { CLEAR } else { "" };
    // Clearing is no colour: it goes past what strips those.
    let show = |text: &str| write!(stdout(), "{begin}").and_then(|()| writeln!(anstream::stdout(), "{text}"));
    loop {
        match look(admin, format) {
            Ok(text) => {
                if show(&text).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            // A token that is refused now is refused the next time; everything else may pass.
            Err(why)
                if [" answered 401: ", " answered 403: "].iter().any(|refused| why.contains(refused)) =>
            {
                return complain(EXIT_RUNTIME, why);
            }
            // What was shown before is old, so it goes.
            Err(why) => {
                let shown = match format {
                    Format::Json => json!({ "error": why }).to_string(),
                    Format::Text => format!("tidegate: {why}"),
                };
                if show(&shown).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
        std::thread::sleep(EVERY);
    }
}

fn look(admin: &admin::Listener, format: Format) -> Result<String, String> {
    let body = admin.get("/status.json")?;
    if format == Format::Json {
        return Ok(body.trim_end().to_owned());
    }
    let snapshot = read(&body).map_err(|e| format!("the gateway's answer is odd: {e}"))?;
    Ok(described(&snapshot))
}

fn described(snapshot: &Snapshot) -> String {
    let width = table::width();
    let Snapshot { version, generation, traffic, money, store, .. } = snapshot;
    let ready = match (snapshot.ready, snapshot.outage) {
        (false, _) => paint(Tone::Warn, "NOT READY"),
        (true, true) => paint(Tone::Bad, "OUTAGE: no channel is well"),
        (true, false) => "ready".to_owned(),
    };
    let uptime = for_people(Duration::from_secs(snapshot.uptime_seconds));
    let mut lines = vec![
        format!("Tidegate {version}, {ready}, generation {generation}, up for {uptime}"),
        format!(
            "{:.1} requests/s, {:.1} errors/s, {} in flight, {:.0} output tokens/s, overhead {} (p99 {})",
            traffic.requests_per_second,
            traffic.errors_per_second,
            traffic.in_flight,
            traffic.tokens_per_second,
            millis(traffic.overhead_p50_ms),
            millis(traffic.overhead_p99_ms),
        ),
        format!("{} USD settled, {} USD outstanding", money.settled, money.outstanding),
    ];
    if let Some(width) = width {
        let figures = lines.split_off(1);
        lines.extend(figures.iter().flat_map(|line| table::wrapped(line, width)));
    }
    if !store.well {
        let why = format!("THE STORE FAILS: {}", store.error.as_deref().unwrap_or("-"));
        lines.push(paint(Tone::Bad, &why));
    }
    lines.push(channels(&snapshot.channels, snapshot.channels_left_out, width));
    lines.push(models(&snapshot.models, snapshot.models_left_out, width));
    if !snapshot.limits.is_empty() || !snapshot.quotas.is_empty() {
        lines.push(limits(&snapshot.limits, &snapshot.quotas, width));
    }
    lines.join("\n")
}

fn channels(channels: &[Channel], left_out: usize, width: Option<usize>) -> String {
    let left =
        |left: Option<u64>| left.map(|left| format!("{} left", for_people(Duration::from_millis(left))));
    let told = |what: String, time: Option<u64>, cause: &Option<Cause>| {
        let time = left(time).map(|time| format!(", {time}")).unwrap_or_default();
        let cause = cause.as_ref().map(|Cause { class, rule }| format!(": {class} ({rule})"));
        format!("{what}{time}{}", cause.unwrap_or_default())
    };
    let row = |channel: &Channel| {
        let limit = channel.limit.map(|limit| format!("/{limit}")).unwrap_or_default();
        let (_, credentials) = channel.credentials;
        let of_credentials = channel.resting_credentials.iter().map(|credential| {
            let what = format!("credential {} of {credentials} {}", credential.position, credential.state);
            told(what, credential.left_ms, &credential.cause)
        });
        let of_models = channel.resting.iter().map(|resting| {
            told(format!("{} {}", resting.model, resting.state), resting.left_ms, &resting.cause)
        });
        let own = channel.reason.clone().into_iter().chain(left(channel.left_ms));
        let why = [own.collect::<Vec<_>>().join(", ")].into_iter().filter(|why| !why.is_empty());
        let why: Vec<String> = why.chain(of_credentials).chain(of_models).collect();
        vec![
            channel.id.clone().into(),
            Cell(channel.state.clone(), Tone::of_state(&channel.state)),
            format!("{}{limit}", channel.in_flight).into(),
            percent(channel.success_1m).into(),
            percent(channel.success_5m).into(),
            millis(channel.first_token_ms).into(),
            format!("{:.0}", channel.tokens_per_second).into(),
            why.join("; ").into(),
        ]
    };
    let head = ["CHANNEL", "STATE", "IN FLIGHT", "1 MIN", "5 MIN", "FIRST TOKEN", "TOKENS/S", ""];
    table(&head, channels.iter().map(row).collect(), left_out, width)
}

fn models(models: &[Model], left_out: usize, width: Option<usize>) -> String {
    let row = |model: &Model| {
        let shares = model.candidates.iter().filter(|candidate| candidate.share > 0.0);
        let is_failing = |candidate: &&Share| candidate.state == "failing";
        let fails = shares.clone().all(|candidate| is_failing(&candidate));
        let shown = |candidate: &Share| {
            let failing = if is_failing(&candidate) { " failing" } else { "" };
            format!("{} {}{failing}", candidate.channel, percent(Some(candidate.share)))
        };
        let shares: Vec<_> = shares.map(shown).collect();
        let tone = if fails { Tone::Bad } else { Tone::Plain };
        let shares = if shares.is_empty() { "none".to_owned() } else { shares.join(", ") };
        let shares = Cell(shares, tone);
        vec![model.id.clone().into(), format!("{:.1}", model.requests_per_second).into(), shares]
    };
    let rows = models.iter().map(row).collect();
    table(&["MODEL", "REQUESTS/S", "CHANNELS"], rows, left_out, width)
}

fn limits(limits: &[Limit], quotas: &[Quota], width: Option<usize>) -> String {
    let of_key = |Quota { key, used, quota, percent }: &Quota| {
        let used = format!("{used} of {quota} USD ({percent} %)");
        vec![format!("key {key}").into(), "quota".to_owned().into(), used.into()]
    };
    let row = |Limit { scope, id, dimension, used, limit }: &Limit| {
        let used = format!("{used} of {limit}");
        vec![format!("{scope} {id}").into(), dimension.replace('_', " ").into(), used.into()]
    };
    let rows = quotas.iter().map(of_key).chain(limits.iter().map(row)).collect();
    table(&["NEAR ITS LIMIT", "", "USED"], rows, 0, width)
}

fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:.1}%", part * 100.0))
}

fn millis(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2} ms"))
}
