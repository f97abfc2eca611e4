//! `GET /v1/balance` (spec 1.8): what an account has and what a key has used.
//!
//! What is shown is durable: the read waits for the commit under way. The balance is what was credited and is not spent;
//! money that is held for requests under way still belongs to it.

use super::{Ctx, Cut, Downstream, reply};
use crate::core::key::{Key, Pattern};
use crate::core::ledger::AccountFunds;
use crate::core::money::Money;
use crate::core::refusal::Refusal;
use crate::store::Teller;
use crate::telemetry::record::End;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// An amount as a JSON number of dollars, exact to the nano-dollar.
struct Dollars(Money);

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = serde_json::value::RawValue::from_string(self.0.to_string());
        number.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[derive(Serialize)]
struct Balance<'a> {
    object: &'static str,
    currency: &'static str,
    balance: Dollars,
    used: Dollars,
    total: Dollars,
    balance_quota: i64,
    used_quota: i64,
    total_quota: i64,
    token: KeyBalance<'a>,
}

#[derive(Serialize)]
struct KeyBalance<'a> {
    id: &'a str,
    name: &'a str,
    remaining: Dollars,
    used: Dollars,
    total: Dollars,
    remaining_quota: i64,
    used_quota: i64,
    total_quota: i64,
    unlimited_quota: bool,
    model_limits_enabled: bool,
    model_limits: Vec<String>,
    expires_at: u64,
}

impl<'a> Balance<'a> {
    /// `None` if the ledger cannot be asked.
    fn of(teller: &Teller, key: &'a Key) -> Option<Self> {
        let (account, own) = teller.funds(&key.account.id, &key.id)?;
        let account = if key.account.prepaid { account } else { AccountFunds::default() };
        let balance = account.available.saturating_add(account.held);
        let remaining = key.quota.map_or(balance, |quota| quota.saturating_sub(own.spent).max(Money::ZERO));
        Some(Self {
            object: "balance",
            currency: "USD",
            balance: Dollars(balance),
            used: Dollars(account.spent),
            total: Dollars(account.credited),
            balance_quota: balance.quota_units(),
            used_quota: account.spent.quota_units(),
            total_quota: account.credited.quota_units(),
            token: KeyBalance {
                id: &key.id,
                name: &key.name,
                remaining: Dollars(remaining),
                used: Dollars(own.spent),
                total: Dollars(remaining.saturating_add(own.spent)),
                remaining_quota: remaining.quota_units(),
                used_quota: own.spent.quota_units(),
                total_quota: remaining.saturating_add(own.spent).quota_units(),
                unlimited_quota: key.quota.is_none(),
                model_limits_enabled: !key.models.contains(&Pattern::All),
                model_limits: key
                    .models
                    .iter()
                    .filter(|p| **p != Pattern::All)
                    .map(ToString::to_string)
                    .collect(),
                expires_at: key.expires.unwrap_or(0),
            },
        })
    }
}

/// Answers with the balance of a key and its account.
///
/// # Errors
///
/// [`Cut`] if the client left.
///
/// # Cancel safety
///
/// Must be run to its end.
pub(super) async fn show(session: &mut Downstream, ctx: &mut Ctx, key: &Key) -> Result<(), Cut> {
    let teller = Arc::clone(&ctx.shared.teller);
    // Read first: what is settled while one waits would be shown, and need not be durable.
    let balance = Balance::of(&teller, key);
    let durable = teller.bank().durable().await;
    let body = match balance.filter(|_| durable.is_ok()) {
        Some(balance) => serde_json::to_vec(&balance).map_err(|_| Cut::Defect)?,
        None => return reply::refuse(session, ctx, &Refusal::StoreUnavailable.into()).await,
    };
    let header = reply::header(ctx, 200, "application/json").map_err(|_| Cut::Defect)?;
    reply::send(session, ctx, header, Bytes::from(body)).await?;
    ctx.record.end = End::Complete;
    Ok(())
}
