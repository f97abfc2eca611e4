//! `tidegate keys`: make one for the configuration, or list, make, rotate, revoke and restore those of a running gateway (spec 5.2,
//! 5.4).

use super::accounts::Limits;
use super::admin::{Listener, escaped};
use super::style::{Tone, paint};
use super::{EXIT_RUNTIME, EXIT_USAGE, Ended, Format, answered, columns, complain, say};
use crate::config::mint;
use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
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
        /// Only the keys of this account.
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        /// The keys that are revoked instead.
        #[arg(long, conflicts_with = "account")]
        revoked: bool,
        #[command(flatten)]
        admin: Listener,
    },
    /// Make a key in a running gateway; print it, once.
    Create(Box<New>),
    /// Give a key of a running gateway another secret, printed once; the one before works for a time.
    Rotate {
        /// Its name.
        id: String,
        /// How long the secret before goes on working: 24h, 7d, at most 90d; 0s ends it at once.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        #[command(flatten)]
        admin: Listener,
    },
    /// Revoke a key of a running gateway with all its secrets, also if it is in the configuration.
    Revoke {
        /// Its name.
        id: String,
        #[command(flatten)]
        admin: Listener,
    },
    /// Take the revocation of a key back.
    Restore {
        /// Its name.
        id: String,
        #[command(flatten)]
        admin: Listener,
    },
}

/// A key that is to be made.
#[derive(Debug, Args)]
pub(super) struct New {
    /// Its name, for logs.
    id: String,
    /// The account that owns it.
    #[arg(long)]
    account: String,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// A model that it may use: *, prefix/* or an id; may be repeated; by default all.
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// What it may spend in all, in dollars; by default as much as the account has.
    #[arg(long, value_name = "DOLLARS")]
    quota: Option<String>,
    /// When it ends, in UTC: 2027-01-31 or 2027-01-31T12:00:00Z; by default never.
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    /// An address or network that it may be used from; may be repeated; by default from anywhere.
    #[arg(long = "ip", value_name = "NETWORK", value_parser = network)]
    ips: Vec<String>,
    /// Its group, which decides which channels serve it; by default that of its account.
    #[arg(long)]
    group: Option<String>,
    /// Something to find again, such as team=build; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = entry)]
    metadata: Vec<(String, String)>,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    admin: Listener,
}

/// A network, which an address alone is as well.
fn network(text: &str) -> Result<String, String> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.map(|network| network.to_string()).ok_or_else(|| "such as 192.0.2.7 or 10.0.0.0/8".to_owned())
}

fn entry(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("such as team=build")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs one of the commands.
pub(super) fn run(command: &Command, format: Format) -> Ended {
    match command {
        Command::New => new(format),
        Command::Hash => hash(format),
        Command::List { revoked: true, admin, .. } => {
            answered(admin.get("/keys?revoked=true"), format, revoked)
        }
        Command::List { account, admin, .. } => {
            let of_account = account.as_deref().map(|account| format!("?account={}", escaped(account)));
            answered(admin.get(&format!("/keys{}", of_account.unwrap_or_default())), format, listed)
        }
        Command::Create(key) => create(key, format),
        Command::Rotate { id, overlap, admin } => {
            let answer = admin.post(&format!("/keys/{}/rotate", escaped(id)), &json!({ "overlap": overlap }));
            answered(answer, format, |Rotated { key, previous_expires }| {
                format!("key:    {key}\nthe secret before works until {}", moment(previous_expires))
            })
        }
        Command::Revoke { id, admin } => {
            let answer = admin.post(&format!("/keys/{}/revoke", escaped(id)), &serde_json::Value::Null);
            answered(answer, format, |Revoked { revoked }| {
                format!("the key {revoked} is revoked; to take it back: tidegate keys restore {revoked}")
            })
        }
        Command::Restore { id, admin } => {
            let answer = admin.post(&format!("/keys/{}/restore", escaped(id)), &serde_json::Value::Null);
            answered(answer, format, |Restored { restored }| format!("the key {restored} works again"))
        }
    }
}

fn create(new: &New, format: Format) -> Ended {
    let New { id, account, name, models, quota, expires, ips, group, metadata, limits, admin } = new;
    let metadata: BTreeMap<_, _> = metadata.iter().cloned().collect();
    let key = json!({
        "id": id,
        "account": account,
        "name": name,
        "models": (!models.is_empty()).then_some(models),
        "quota": quota,
        "expires": expires,
        "ips": ips,
        "group": group,
        "metadata": metadata,
        "limits": limits.json(),
    });
    answered(admin.post("/keys", &key), format, |Made { key }| format!("key:    {key}"))
}

#[derive(Deserialize)]
pub(super) struct Listed {
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

#[derive(Deserialize)]
struct Restored {
    restored: String,
}

/// A rotated key; its secret is in this answer and nowhere else.
#[derive(Deserialize)]
struct Rotated {
    key: String,
    previous_expires: u64,
}

#[derive(Deserialize)]
struct RevokedKey {
    id: String,
    in_configuration: bool,
}

fn revoked(keys: Vec<RevokedKey>) -> String {
    let place = |key: &RevokedKey| if key.in_configuration { "in the configuration" } else { "" };
    let rows: Vec<_> = keys.iter().map(|key| vec![key.id.clone(), place(key).to_owned()]).collect();
    columns(&["REVOKED KEY", ""], &rows, 0).trim_start().to_owned()
}

pub(super) fn listed(keys: Vec<Listed>) -> String {
    let row = |key: Listed| {
        vec![
            key.id,
            key.account,
            if key.enabled { paint(Tone::Good, "valid") } else { paint(Tone::Bad, "not valid") },
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
