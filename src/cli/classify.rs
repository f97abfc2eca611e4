//! `tidegate classify` (spec 3.4)

use super::{Complaint, EXIT_RUNTIME, EXIT_USAGE, Ended, Format, api, complain, say};
use crate::config;
use crate::core::api::Api;
use crate::core::failure::{Capability, Class, Verdict};
use crate::core::refusal::Failure;
use crate::wire::caller::Caller;
use crate::wire::classify::Judge;
use crate::wire::custom::{Custom, CustomRow};
use crate::wire::endpoint::Call;
use crate::wire::error::{Dialect, PublicError};
use crate::wire::recorded::{Outcome, Recorded};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest recording, in bytes.
const RECORDING_MAX: u64 = 64 << 20;

/// What to judge, and as whose answer.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What `curl -i` printed, or a JSON object with status, headers and body; `-` reads standard input.
    #[arg(value_name = "FILE")]
    recording: PathBuf,
    /// The API that was called.
    #[arg(long, value_parser = api(), default_value = "chat")]
    api: Api,
    /// The request that was answered: what the caller wrote is told from the upstream's words by it.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// The model as the caller knows it.
    #[arg(long, value_name = "ID", default_value = "provider/model")]
    model: String,
    /// The model as the upstream knows it.
    #[arg(long, value_name = "NAME", default_value = "")]
    upstream_model: String,
    /// A configuration whose `classify` rules are tried first.
    #[arg(short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// The channel of that configuration whose `status_map` counts.
    #[arg(long, value_name = "ID", requires = "config")]
    channel: Option<String>,
}

/// Judges a recording and says how.
pub(super) fn run(arguments: &Arguments, format: Format) -> Ended {
    let (rows, statuses) = custom(arguments)?;
    let recorded = match read(&arguments.recording).map(|text| Recorded::parse(&text)) {
        Ok(Ok(recorded)) => recorded,
        Ok(Err(why)) => {
            return complain(EXIT_USAGE, format_args!("{}: {why}", arguments.recording.display()));
        }
        Err(e) => return complain(EXIT_RUNTIME, format_args!("{}: {e}", arguments.recording.display())),
    };
    let request = match arguments.request.as_deref().map(read).transpose() {
        Ok(request) => request.unwrap_or_default(),
        Err(e) => return complain(EXIT_RUNTIME, format_args!("the request: {e}")),
    };
    let caller = Caller::new(&request, &arguments.model, &arguments.upstream_model);
    let custom = Custom { rows: &rows, statuses: &statuses };
    let judge = Judge { caller: &caller, custom, now: now() };
    let call = Call::of(arguments.api);
    let (outcome, verdict) = match recorded.judge(call, &judge) {
        Outcome::Passes => ("passes", None),
        Outcome::Failed(verdict) => ("failed", Some(verdict)),
        Outcome::BreaksOff(verdict) => {
            ("breaks_off", Some(Verdict { next: Class::BrokenMidStream.next(), ..verdict }))
        }
    };
    let told = verdict.as_ref().filter(|_| outcome == "failed");
    let told = told.map(|verdict| told_by(verdict, call, &arguments.model));
    say(match format {
        Format::Json => json!({
            "outcome": outcome,
            "verdict": verdict.as_ref().map(as_json),
            "client": told,
        })
        .to_string(),
        Format::Text => match (verdict, told) {
            (None, _) => "passes to the client".to_owned(),
            (Some(verdict), Some(told)) => described(&verdict) + "\n\n" + &told.as_text(),
            (Some(verdict), None) => {
                let told = "client  reads what came before, then an error event inside the stream (502)";
                format!("{}\n\n{told}", described(&verdict))
            }
        },
    });
    Ok(ExitCode::SUCCESS)
}

/// Rules, and statuses that are taken for others.
type OwnRules = (Vec<CustomRow>, Vec<(u16, u16)>);

/// The operator's own rules, if a configuration is given.
fn custom(arguments: &Arguments) -> Result<OwnRules, Complaint> {
    let Some(path) = &arguments.config else { return Ok(Default::default()) };
    let loaded = config::load(path).map_err(|problems| Complaint::of(&problems))?;
    let Some(id) = &arguments.channel else { return Ok((loaded.config.classify, Vec::new())) };
    let channel = loaded.config.channels.into_iter().find(|channel| channel.id == *id);
    match channel {
        Some(channel) => Ok((loaded.config.classify, channel.status_map)),
        None => Err(Complaint::new(EXIT_USAGE, format_args!("no channel {id} in {}", path.display()))),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(RECORDING_MAX).read_to_end(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(RECORDING_MAX).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// Unix seconds: dates in an answer are told as times from now.
#[allow(clippy::disallowed_methods, reason = "a command of its own has no clock to be handed")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The verdict in lines for people.
fn described(verdict: &Verdict) -> String {
    let hint = verdict
        .retry_after
        .map_or_else(|| "none".to_owned(), |hint| humantime::format_duration(hint).to_string());
    let lacks = verdict.capability.map(|lacks| format!("\nlacks   {}", lacks.as_str())).unwrap_or_default();
    let added = verdict.refused_addition.map(|added| format!("\nadded   {added}")).unwrap_or_default();
    format!(
        "row     {}\nclass   {}\nretry   {}\neffect  {}\nhint    {hint}{lacks}{added}",
        verdict.rule,
        verdict.class.as_str(),
        verdict.next.as_str(),
        verdict.effect.as_str(),
    )
}

/// The verdict for scripts.
fn as_json(verdict: &Verdict) -> Value {
    json!({
        "row": verdict.rule,
        "class": verdict.class.as_str(),
        "retry": verdict.next.as_str(),
        "effect": verdict.effect.as_str(),
        "capability": verdict.capability.map(Capability::as_str),
        "refused_addition": verdict.refused_addition,
        "hint_ms": verdict.retry_after.map(|hint| u64::try_from(hint.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// What the client would read.
#[derive(Serialize)]
struct Told {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Told {
    fn as_text(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("HTTP/1.1 {}\n{headers}\n{}", self.status, self.body)
    }
}

/// The answer that the client would read, if no other channel answered.
fn told_by(verdict: &Verdict, call: Call, model: &str) -> Told {
    let failure = match verdict.class {
        Class::ModelMissing => Failure::NowhereServed(model.to_owned()),
        _ => Failure::Upstream(verdict.clone()),
    };
    let error = PublicError::of(&failure, 503);
    let dialect = if call == Call::Messages { Dialect::Anthropic } else { Dialect::OpenAi };
    let headers = error.retry_headers(0);
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Told {
        status: error.status(),
        headers: [("content-type".into(), "application/json".into())].into_iter().chain(headers).collect(),
        body: error.render(dialect, "req-example").to_string(),
    }
}
