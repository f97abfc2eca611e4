//! `tidegate keys`: make one for the configuration, or list, make and revoke those of a running gateway (spec 5.2, 5.4).

use super::admin::Listener;
use super::{EXIT_RUNTIME, EXIT_USAGE, Ended, answered, complain, say};
use crate::config::mint;
use clap::Subcommand;
use std::io;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a new key for the configuration; print it, once, and its digest.
    New,
    /// Read a key from standard input and print its digest.
    Hash,
    /// List the keys of a running gateway that are not revoked.
    List {
        #[command(flatten)]
        admin: Listener,
    },
    /// Make a key in a running gateway; print it, once.
    Create {
        /// Its name, for logs.
        id: String,
        /// The account that owns it.
        #[arg(long)]
        account: String,
        /// A model that it may use: *, prefix/* or an id; may be repeated; by default all.
        #[arg(long = "model", value_name = "PATTERN")]
        models: Vec<String>,
        /// What it may spend in all, in dollars; by default as much as the account has.
        #[arg(long, value_name = "DOLLARS")]
        quota: Option<String>,
        #[command(flatten)]
        admin: Listener,
    },
    /// Revoke a key of a running gateway, for good.
    Revoke {
        /// Its name.
        id: String,
        #[command(flatten)]
        admin: Listener,
    },
}

/// Runs one of the commands.
pub(super) fn run(command: &Command) -> Ended {
    match command {
        Command::New => new(),
        Command::Hash => hash(),
        Command::List { admin } => answered(admin.get("/keys")),
        Command::Create { id, account, models, quota, admin } => {
            let models = (!models.is_empty()).then_some(models);
            let key = serde_json::json!({ "id": id, "account": account, "models": models, "quota": quota });
            answered(admin.post("/keys", &key))
        }
        Command::Revoke { id, admin } => {
            answered(admin.post(&format!("/keys/{id}/revoke"), &serde_json::Value::Null))
        }
    }
}

/// Makes a key; it is shown here and nowhere else.
fn new() -> Ended {
    let key = match mint::mint() {
        Ok(key) => key,
        Err(e) => return complain(EXIT_RUNTIME, format_args!("no randomness: {e}")),
    };
    say(format_args!("key:    {key}"));
    say(format_args!("digest: {}", mint::digest_text(&mint::digest(&key))));
    Ok(ExitCode::SUCCESS)
}

/// Prints the digest of a key that is given on standard input, so that it is in no shell history.
fn hash() -> Ended {
    let mut line = String::new();
    if let Err(e) = io::stdin().read_line(&mut line) {
        return complain(EXIT_RUNTIME, format_args!("standard input: {e}"));
    }
    let key = line.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        return complain(EXIT_USAGE, "expected a key on standard input");
    }
    if key.starts_with("tg_") && !mint::checksum_ok(key) {
        return complain(EXIT_USAGE, "the checksum of this key is wrong: it was not copied in full");
    }
    say(mint::digest_text(&mint::digest(key)));
    Ok(ExitCode::SUCCESS)
}
