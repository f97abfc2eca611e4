//! `tidegate keys`: make one for the configuration, or list, make and revoke those of a running gateway (spec 5.2, 5.4).

use super::admin::{Listener, escaped};
use super::{EXIT_RUNTIME, EXIT_USAGE, Ended, Format, answered, columns, complain, say};
use crate::config::mint;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;
use std::io;
use std::process::ExitCode;

/// The last second that has a date of four digits for its year.
const YEAR_9999: u64 = 253_402_300_799;

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
pub(super) fn run(command: &Command, format: Format) -> Ended {
    match command {
        Command::New => new(format),
        Command::Hash => hash(format),
        Command::List { admin } => answered(admin.get("/keys"), format, listed),
        Command::Create { id, account, models, quota, admin } => {
            let models = (!models.is_empty()).then_some(models);
            let key = serde_json::json!({ "id": id, "account": account, "models": models, "quota": quota });
            answered(admin.post("/keys", &key), format, |Made { key }| format!("key:    {key}"))
        }
        Command::Revoke { id, admin } => {
            let answer = admin.post(&format!("/keys/{}/revoke", escaped(id)), &serde_json::Value::Null);
            answered(answer, format, |Revoked { revoked }| format!("the key {revoked} is revoked"))
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    account: String,
    enabled: bool,
    expires: Option<u64>,
    quota: Option<String>,
    spent: String,
}

/// A key that was made; it is in this answer and nowhere else.
#[derive(Deserialize)]
struct Made {
    key: String,
}

#[derive(Deserialize)]
struct Revoked {
    revoked: String,
}

fn listed(keys: Vec<Listed>) -> String {
    let row = |key: Listed| {
        vec![
            key.id,
            key.account,
            if key.enabled { "valid" } else { "not valid" }.to_owned(),
            key.expires.map_or("never".to_owned(), moment),
            key.quota.unwrap_or_else(|| "-".to_owned()),
            key.spent,
        ]
    };
    let rows: Vec<_> = keys.into_iter().map(row).collect();
    let head = ["KEY", "ACCOUNT", "", "EXPIRES", "QUOTA USD", "SPENT USD"];
    columns(&head, &rows, 0).trim_start().to_owned()
}

/// Unix seconds as a date, as long as there are dates.
fn moment(seconds: u64) -> String {
    if seconds > YEAR_9999 {
        return seconds.to_string();
    }
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Makes a key; it is shown here and nowhere else.
fn new(format: Format) -> Ended {
    let key = match mint::mint() {
        Ok(key) => key,
        Err(e) => return complain(EXIT_RUNTIME, format_args!("no randomness: {e}")),
    };
    let digest = mint::digest_text(&mint::digest(&key));
    match format {
        Format::Text => say(format_args!("key:    {key}\ndigest: {digest}")),
        Format::Json => say(json!({ "key": key, "digest": digest })),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the digest of a key that is given on standard input, so that it is in no shell history.
fn hash(format: Format) -> Ended {
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
    let digest = mint::digest_text(&mint::digest(key));
    match format {
        Format::Text => say(digest),
        Format::Json => say(json!({ "digest": digest })),
    }
    Ok(ExitCode::SUCCESS)
}
