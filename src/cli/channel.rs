//! `tidegate channel` and `tidegate drain`: what an operator does by hand to a running gateway (spec 12.2, 13.1).

use super::admin::{Listener, escaped};
use super::{EXIT_RUNTIME, Ended, Format, complain, read, say};
use clap::{Args, Subcommand};
use serde::Deserialize;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Give a channel no new traffic until it is enabled again, also after reloads, at most until the process ends.
    Disable(Named),
    /// Undo `disable`.
    Enable(Named),
    /// Bring everything of a channel back that rests or was taken out.
    Readmit(Named),
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// The channel.
    id: String,
    #[command(flatten)]
    admin: Listener,
}

#[derive(Deserialize)]
struct Steered {
    channel: String,
    state: String,
    readmitted: usize,
}

/// Does it, and says how the channel stands.
pub(super) fn run(command: &Command, format: Format) -> Ended {
    let (word, Named { id, admin }) = match command {
        Command::Disable(named) => ("disable", named),
        Command::Enable(named) => ("enable", named),
        Command::Readmit(named) => ("readmit", named),
    };
    let answer = match admin.post(&format!("/channels/{}/{word}", escaped(id)), &serde_json::Value::Null) {
        Ok(answer) => answer,
        Err(why) => return complain(EXIT_RUNTIME, why),
    };
    match (format, read::<Steered>(&answer)) {
        (Format::Json, _) => say(answer.trim_end()),
        (Format::Text, Ok(Steered { channel, state, readmitted })) => {
            let back = if word == "readmit" { format!(", {readmitted} readmitted") } else { String::new() };
            say(format_args!("channel {channel} is {state}{back}"));
        }
        (Format::Text, Err(e)) => {
            return complain(EXIT_RUNTIME, format_args!("the gateway's answer is odd: {e}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a drain does, for who asks for one.
const DRAINS: &str = "\
the gateway drains: not ready from now on, but still accepting for server.drain; then its public
listeners close, requests under way may finish within server.grace, and the process ends with
exit code 0. Whatever supervises it may start it again.";

/// Begins a drain, as SIGTERM does.
pub(super) fn drain(admin: &Listener, format: Format) -> Ended {
    match (format, admin.post("/drain", &serde_json::Value::Null)) {
        (Format::Json, Ok(answer)) => say(answer.trim_end()),
        (Format::Text, Ok(_)) => say(DRAINS),
        (_, Err(why)) => return complain(EXIT_RUNTIME, why),
    }
    Ok(ExitCode::SUCCESS)
}
