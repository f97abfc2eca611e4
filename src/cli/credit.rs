//! `tidegate credit`: book an amount to an account (spec 5.4, 13.1).

use super::admin::{Listener, escaped};
use super::{Ended, Format, answered};
use clap::Args;
use serde::Deserialize;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The account.
    account: String,
    /// Dollars, such as 25.00; with a minus sign they are taken away.
    #[arg(allow_hyphen_values = true)]
    amount: String,
    /// What makes it book once, however often it is said: an invoice's number, for instance.
    #[arg(long, value_name = "ID")]
    once: String,
    #[command(flatten)]
    admin: Listener,
}

/// What the gateway answers.
#[derive(Deserialize)]
struct Booked {
    /// `false` if it had been booked before.
    booked: bool,
}

/// Books the amount, if that was not done before.
pub(super) fn run(arguments: &Arguments, format: Format) -> Ended {
    let Arguments { account, amount, once, admin } = arguments;
    let credit = serde_json::json!({ "amount": amount, "idempotency_key": once });
    let answer = admin.post(&format!("/accounts/{}/credit", escaped(account)), &credit);
    answered(answer, format, |Booked { booked }| match booked {
        true => format!("{amount} USD are booked to {account}"),
        false => format!("{once} was booked before, nothing has changed"),
    })
}
