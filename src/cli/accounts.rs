//! `tidegate accounts`: make, list and show the accounts of a running gateway (spec 5.4, 13.1).

use super::admin::{Listener, escaped};
use super::{Ended, Format, answered, columns, keys};
use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an account.
    Create {
        /// Its name.
        id: String,
        /// Whether it passed the verification that some models ask for.
        #[arg(long)]
        verified: bool,
        /// The group of its keys that have none of their own.
        #[arg(long)]
        group: Option<String>,
        /// Whether its requests are paid for from its balance, or not at all.
        #[arg(long, value_enum, default_value_t = Billing::Prepaid)]
        billing: Billing,
        #[command(flatten)]
        limits: Limits,
        #[command(flatten)]
        admin: Listener,
    },
    /// List all accounts with their money.
    List {
        #[command(flatten)]
        admin: Listener,
    },
    /// Show an account with its keys.
    Show {
        /// Its name.
        id: String,
        #[command(flatten)]
        admin: Listener,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Billing {
    /// From its balance, in advance.
    Prepaid,
    /// Not at all: limits alone bound it.
    None,
}

/// Limits of an account or a key.
#[derive(Debug, Clone, Args)]
pub(super) struct Limits {
    /// Requests a minute; by default unbounded.
    #[arg(long, value_name = "NUMBER")]
    rpm: Option<u32>,
    /// Tokens a minute; by default unbounded.
    #[arg(long, value_name = "NUMBER")]
    tpm: Option<u64>,
    /// Requests at a time; by default unbounded.
    #[arg(long, value_name = "NUMBER")]
    concurrency: Option<u32>,
    /// Count what the limits would refuse, and refuse nothing.
    #[arg(long)]
    shadow: bool,
}

impl Limits {
    /// The limits as the admin listener takes them.
    pub(super) fn json(&self) -> Value {
        let Self { rpm, tpm, concurrency, shadow } = self;
        json!({ "rpm": rpm, "tpm": tpm, "concurrency": concurrency, "shadow": shadow })
    }
}

#[derive(Deserialize)]
struct Account {
    id: String,
    verified: bool,
    group: Option<String>,
    billing: String,
    available: Option<String>,
    held: Option<String>,
    spent: Option<String>,
    credited: Option<String>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(flatten)]
    account: Account,
    source: String,
    keys: Vec<keys::Listed>,
}

/// Runs one of the commands.
pub(super) fn run(command: &Command, format: Format) -> Ended {
    match command {
        Command::Create { id, verified, group, billing, limits, admin } => {
            let billing = if *billing == Billing::None { "none" } else { "prepaid" };
            let account = json!({
                "id": id, "verified": verified, "group": group, "billing": billing, "limits": limits.json(),
            });
            answered(admin.post("/accounts", &account), format, |_: Value| {
                let balance = format!(
                    "the account {id} is made; its balance is 0: tidegate credit {id} AMOUNT --once ID"
                );
                if billing == "prepaid" { balance } else { format!("the account {id} is made") }
            })
        }
        Command::List { admin } => answered(admin.get("/accounts"), format, listed),
        Command::Show { id, admin } => {
            answered(admin.get(&format!("/accounts/{}", escaped(id))), format, |details: Details| {
                let Details { account, source, keys } = details;
                let account = described(account);
                let keys = if keys.is_empty() { "no keys".to_owned() } else { keys::listed(keys) };
                format!("{account}\nfrom       {source}\n\n{keys}")
            })
        }
    }
}

const HEAD: [&str; 8] =
    ["ACCOUNT", "BILLING", "GROUP", "VERIFIED", "AVAILABLE USD", "HELD USD", "SPENT USD", "CREDITED USD"];

fn cells(account: Account) -> Vec<String> {
    let Account { id, verified, group, billing, available, held, spent, credited } = account;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let verified = if verified { "yes" } else { "no" }.to_owned();
    let money = [available, held, spent, credited].map(or_none);
    [vec![id, billing, or_none(group), verified], money.to_vec()].concat()
}

fn listed(accounts: Vec<Account>) -> String {
    let rows: Vec<_> = accounts.into_iter().map(cells).collect();
    columns(&HEAD, &rows, 0).trim_start().to_owned()
}

fn described(account: Account) -> String {
    let lines = HEAD.iter().zip(cells(account)).map(|(head, cell)| {
        let (name, unit) = head.split_once(' ').unwrap_or((head, ""));
        let unit = if cell == "-" { "" } else { unit };
        format!("{:<10} {cell} {unit}", name.to_lowercase()).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
