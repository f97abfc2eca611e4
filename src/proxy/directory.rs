//! Who may call: accounts and keys of the configuration and those made while the gateway runs (spec 5.4).
//!
//! What an operator makes is a record in the store, durable before it is told. A revocation is a record of the key's digest,
//! so it wins over the configuration, also after the key got another name there. Requests read one snapshot, which is built
//! anew with every change.

use super::clock;
use super::limit_pool::LimitPool;
use crate::config::{self, Billing, Config, mint};
use crate::core::key::{Account, Digest, Key, Keys, Network, Pattern};
use crate::core::ledger::Credited;
use crate::core::limits::{Limited, Scope};
use crate::core::money::Money;
use crate::store::Bank;
use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Kinds of records in the store.
const ACCOUNT: &str = "account";
const KEY: &str = "key";
const REVOKED: &str = "revoked";
/// The longest name.
const NAME_MAX: usize = 64;

/// The accounts and keys of one process.
pub struct Directory {
    bank: Arc<Bank>,
    pool: Arc<LimitPool>,
    configured: ArcSwap<Configured>,
    current: ArcSwap<Keys>,
    /// One change at a time.
    changing: Mutex<()>,
}

/// What the configuration has of them.
#[derive(Default)]
struct Configured {
    accounts: Vec<config::Account>,
    keys: Vec<config::Key>,
}

/// An account as an operator asks for it; the limits are as in the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    id: String,
    #[serde(default)]
    verified: bool,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    billing: Option<String>,
    #[serde(default)]
    limits: NewLimits,
}

/// A key as an operator asks for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    id: String,
    account: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    models: Option<Vec<String>>,
    #[serde(default)]
    group: Option<String>,
    /// Unix seconds.
    #[serde(default)]
    expires: Option<u64>,
    /// Dollars, as a decimal number in quotes.
    #[serde(default)]
    quota: Option<String>,
    #[serde(default)]
    ips: Vec<IpNet>,
    #[serde(default)]
    limits: NewLimits,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLimits {
    #[serde(default)]
    rpm: Option<u32>,
    #[serde(default)]
    tpm: Option<u64>,
    #[serde(default)]
    concurrency: Option<u32>,
    #[serde(default)]
    shadow: bool,
}

/// A key as it is kept: with its digest, without itself.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    digest: String,
    key: NewKey,
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// There is no such thing.
    Unknown(String),
    /// It makes no sense, as the sentence says.
    Invalid(String),
    /// It is at odds with what is there.
    Conflict(String),
    /// The store does not take it now.
    StoreUnavailable,
}

/// What is shown of an account.
#[derive(Debug, Serialize)]
pub struct AccountView {
    id: String,
    verified: bool,
    group: Option<String>,
    billing: &'static str,
    /// Dollars, as decimal numbers.
    available: Option<String>,
    held: Option<String>,
    spent: Option<String>,
    credited: Option<String>,
}

/// What is shown of a key; the key itself is nowhere.
#[derive(Debug, Serialize)]
pub struct KeyView {
    id: String,
    name: String,
    account: String,
    enabled: bool,
    expires: Option<u64>,
    quota: Option<String>,
    spent: String,
}

impl Directory {
    /// The directory of a configuration and of what the store has; opening credits are booked, once each.
    pub(crate) fn new(config: &Config, bank: Arc<Bank>, pool: Arc<LimitPool>) -> Self {
        let (configured, current, changing) = (ArcSwap::default(), ArcSwap::default(), Mutex::default());
        let directory = Self { bank, pool, configured, current, changing };
        directory.reconfigure(config);
        directory
    }

    /// Takes the accounts and keys of another configuration; what was made or revoked while the gateway runs stays.
    pub(crate) fn reconfigure(&self, config: &Config) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (accounts, keys) = (config.accounts.clone(), config.keys.clone());
        self.configured.store(Arc::new(Configured { accounts, keys }));
        self.book_opening_credits();
        self.rebuild();
    }

    /// The accounts and keys of this moment.
    pub(crate) fn current(&self) -> Guard<Arc<Keys>> {
        self.current.load()
    }

    /// The first accounts of the configuration that pay from a balance.
    pub(crate) fn prepaid_accounts(&self, max: usize) -> Vec<Arc<str>> {
        let configured = self.configured.load();
        let prepaid = configured.accounts.iter().filter(|account| account.billing == Billing::Prepaid);
        prepaid.take(max).map(|account| account.id.as_str().into()).collect()
    }

    fn book_opening_credits(&self) {
        let configured = self.configured.load();
        for account in configured.accounts.iter().filter(|account| account.billing == Billing::Prepaid) {
            let Some(credit) = account.credit else { continue };
            let booked = self.bank.with(|ledger| ledger.credit(&account.id, "opening", credit));
            if let Credited::Differs(before) = booked {
                log::warn!(
                    "account {}: its opening credit was booked as {before} and is not changed; use: tidegate credit",
                    account.id
                );
            }
        }
    }

    /// Puts the configuration and the records of the store together.
    fn rebuild(&self) {
        let configured = self.configured.load();
        let mut accounts: Vec<Arc<Account>> =
            configured.accounts.iter().map(|account| Arc::new(self.configured_account(account))).collect();
        for stored in self.stored::<NewAccount>(ACCOUNT) {
            if !accounts.iter().any(|account| *account.id == *stored.id) {
                accounts.push(Arc::new(self.made_account(&stored)));
            }
        }
        let owner = |id: &str| accounts.iter().find(|account| *account.id == *id).cloned();
        let mut keys: Vec<(Digest, Key)> = configured
            .keys
            .iter()
            .filter_map(|key| Some((key.digest, self.configured_key(key, owner(&key.account)?))))
            .collect();
        keys.extend(self.stored::<StoredKey>(KEY).into_iter().filter_map(|stored| {
            let owner = owner(&stored.key.account)?;
            Some((mint::parse_digest(&stored.digest)?, self.made_key(&stored.key, owner)?))
        }));
        let revoked = self.bank.records(REVOKED);
        keys.retain(|(digest, _)| !revoked.iter().any(|(known, _)| **known == *mint::digest_text(digest)));
        self.bank.with(|ledger| {
            accounts.iter().filter(|account| account.prepaid).for_each(|a| ledger.open_account(&a.id));
            keys.iter()
                .filter(|(_, key)| key.account.prepaid)
                .for_each(|(_, key)| ledger.set_quota(&key.id, key.quota));
        });
        self.current.store(Arc::new(Keys::new(accounts, keys)));
    }

    fn stored<T: for<'a> Deserialize<'a>>(&self, kind: &str) -> Vec<T> {
        let records = self.bank.records(kind).into_iter();
        let read = records.map(|(id, bytes)| (id, serde_json::from_slice(&bytes)));
        read.filter_map(|(id, stored)| {
            stored.inspect_err(|e| log::error!("the store's {kind} {id} cannot be read: {e}")).ok()
        })
        .collect()
    }

    fn configured_account(&self, account: &config::Account) -> Account {
        Account {
            id: account.id.as_str().into(),
            verified: account.verified,
            group: account.group.as_deref().map(Into::into),
            prepaid: account.billing == Billing::Prepaid,
            limits: self.pool.of(Scope::Account, &account.id, account.limits),
        }
    }

    fn made_account(&self, account: &NewAccount) -> Account {
        Account {
            id: account.id.as_str().into(),
            verified: account.verified,
            group: account.group.as_deref().map(Into::into),
            prepaid: account.billing.as_deref() != Some("none"),
            limits: self.pool.of(Scope::Account, &account.id, account.limits.into()),
        }
    }

    fn configured_key(&self, key: &config::Key, account: Arc<Account>) -> Key {
        Key {
            id: key.id.as_str().into(),
            name: key.name.as_str().into(),
            account,
            enabled: key.enabled,
            expires: key.expires,
            models: key.models.iter().map(|written| Pattern::parse(written)).collect(),
            group: key.group.as_deref().map(Into::into),
            networks: key.ips.iter().map(network).collect(),
            quota: key.quota,
            limits: self.pool.of(Scope::Key, &key.id, key.limits),
        }
    }

    fn made_key(&self, key: &NewKey, account: Arc<Account>) -> Option<Key> {
        let models = key.models.as_deref();
        Some(Key {
            id: key.id.as_str().into(),
            name: key.name.as_deref().unwrap_or(&key.id).into(),
            account,
            enabled: true,
            expires: key.expires,
            models: models.map_or_else(
                || vec![Pattern::All],
                |models| models.iter().map(|model| Pattern::parse(model)).collect(),
            ),
            group: key.group.as_deref().map(Into::into),
            networks: key.ips.iter().map(network).collect(),
            quota: match &key.quota {
                None => None,
                // An amount that cannot be read must not become no bound.
                Some(text) => Some(Money::parse(text)?),
            },
            limits: self.pool.of(Scope::Key, &key.id, key.limits.into()),
        })
    }
}

/// What an operator changes while the gateway runs. Each change is durable when its method has returned. What cannot be
/// written down is taken back where asking again would be refused, above all a key that nobody has been told; a revocation
/// and a credit stay, for asked again they are the same.
///
/// # Cancel safety
///
/// A method that is dropped half-way may have made its change or not.
impl Directory {
    /// Makes an account.
    ///
    /// # Errors
    ///
    /// [`Rejected`]
    pub async fn create_account(&self, account: NewAccount) -> Result<(), Rejected> {
        check_name(&account.id)?;
        if !matches!(account.billing.as_deref(), None | Some("prepaid" | "none")) {
            return Err(Rejected::Invalid("billing must be prepaid or none".into()));
        }
        {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            if self.current.load().account(&account.id).is_some() {
                return Err(Rejected::Conflict(format!("the account {} is there already", account.id)));
            }
            self.put(ACCOUNT, &account.id, &account)?;
            self.rebuild();
        }
        self.made(ACCOUNT, &account.id).await
    }

    /// Makes a key and gives it, this once.
    ///
    /// # Errors
    ///
    /// [`Rejected`]
    pub async fn create_key(&self, key: NewKey) -> Result<String, Rejected> {
        check_name(&key.id)?;
        if key.quota.as_deref().is_some_and(|quota| Money::parse(quota).is_none()) {
            return Err(Rejected::Invalid("quota must be a decimal number of dollars in quotes".into()));
        }
        let secret = mint::mint().map_err(|e| Rejected::Invalid(format!("no key could be made: {e}")))?;
        let id = key.id.clone();
        {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let current = self.current.load();
            if current.account(&key.account).is_none() {
                return Err(Rejected::Unknown(format!("there is no account {}", key.account)));
            }
            // Also a revoked key keeps its name: what is in the log under it is told of one key alone.
            let made = self.bank.records(KEY).iter().any(|(id, _)| **id == *key.id);
            if made || self.configured.load().keys.iter().any(|configured| configured.id == key.id) {
                return Err(Rejected::Conflict(format!("the key {} is there already", key.id)));
            }
            let digest = mint::digest_text(&mint::digest(&secret));
            self.put(KEY, &id, &StoredKey { digest, key })?;
            self.rebuild();
        }
        self.made(KEY, &id).await.map(|()| secret)
    }

    /// Revokes a key for good, wherever it came from; the next request with it is refused.
    ///
    /// # Errors
    ///
    /// [`Rejected`]
    pub async fn revoke_key(&self, id: &str) -> Result<(), Rejected> {
        {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(digest) = self.current.load().digest_of(id).copied() else {
                return Err(Rejected::Unknown(format!("there is no key {id}")));
            };
            self.put(REVOKED, &mint::digest_text(&digest), &id)?;
            self.rebuild();
        }
        self.durable().await
    }

    /// Books an amount to an account, once for each idempotency key; a negative amount takes it away.
    ///
    /// # Errors
    ///
    /// [`Rejected`]
    pub async fn credit(&self, account: &str, once: &str, amount: Money) -> Result<Credited, Rejected> {
        match self.current.load().account(account) {
            None => return Err(Rejected::Unknown(format!("there is no account {account}"))),
            Some(account) if !account.prepaid => {
                return Err(Rejected::Invalid(format!("the account {} has no balance", account.id)));
            }
            Some(_) => {}
        }
        if once.is_empty() || once.len() > 2 * NAME_MAX || once == "opening" {
            return Err(Rejected::Invalid("the idempotency key must have 1 to 128 characters".into()));
        }
        let booked = self.bank.with(|ledger| ledger.credit(account, once, amount));
        match booked {
            Credited::Booked | Credited::AlreadyBooked => self.durable().await.map(|()| booked),
            Credited::Differs(before) => {
                Err(Rejected::Conflict(format!("this idempotency key booked {before} before")))
            }
            Credited::BelowZero => Err(Rejected::Conflict("more than what is available".into())),
            Credited::TooMuch => Err(Rejected::Invalid("more than an account can hold".into())),
        }
    }

    /// All accounts with their money.
    #[must_use]
    pub fn account_views(&self) -> Vec<AccountView> {
        let view = |account: &Arc<Account>| {
            let funds = self.bank.with(|ledger| ledger.account(&account.id)).filter(|_| account.prepaid);
            AccountView {
                id: account.id.to_string(),
                verified: account.verified,
                group: account.group.as_deref().map(Into::into),
                billing: if account.prepaid { "prepaid" } else { "none" },
                available: funds.map(|funds| funds.available.to_string()),
                held: funds.map(|funds| funds.held.to_string()),
                spent: funds.map(|funds| funds.spent.to_string()),
                credited: funds.map(|funds| funds.credited.to_string()),
            }
        };
        self.current.load().accounts().iter().map(view).collect()
    }

    /// All keys that are not revoked, by name.
    #[must_use]
    pub fn key_views(&self) -> Vec<KeyView> {
        let view = |key: &Arc<Key>| KeyView {
            id: key.id.to_string(),
            name: key.name.to_string(),
            account: key.account.id.to_string(),
            enabled: key.is_valid(clock::unix().as_secs()),
            expires: key.expires,
            quota: key.quota.map(|quota| quota.to_string()),
            spent: self
                .bank
                .with(|ledger| ledger.key(&key.id))
                .map_or(Money::ZERO, |key| key.spent)
                .to_string(),
        };
        let mut views: Vec<KeyView> = self.current.load().all().map(view).collect();
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }

    fn put(&self, kind: &str, id: &str, record: &impl Serialize) -> Result<(), Rejected> {
        let bytes = serde_json::to_vec(record).map_err(|e| Rejected::Invalid(e.to_string()))?;
        self.bank.put_record(kind, id, &bytes);
        Ok(())
    }

    /// Waits for what was made to be durable, or takes it back.
    async fn made(&self, kind: &str, id: &str) -> Result<(), Rejected> {
        let durable = self.durable().await;
        if durable.is_err() {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            self.bank.remove_record(kind, id);
            self.rebuild();
        }
        durable
    }

    async fn durable(&self) -> Result<(), Rejected> {
        self.bank.durable().await.map_err(|_| Rejected::StoreUnavailable)
    }
}

fn check_name(id: &str) -> Result<(), Rejected> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.is_empty() || id.len() > NAME_MAX || !id.chars().all(allowed) {
        return Err(Rejected::Invalid("id must be 1 to 64 letters, digits, '.', '_' or '-'".into()));
    }
    Ok(())
}

impl From<NewLimits> for Limited {
    fn from(limits: NewLimits) -> Self {
        let NewLimits { rpm, tpm, concurrency, shadow } = limits;
        Self { rpm, tpm, concurrency, shadow }
    }
}

/// A network as the core compares it.
pub(crate) fn network(net: &IpNet) -> Network {
    let bits = match net {
        IpNet::V4(net) => net.prefix_len() + 96,
        IpNet::V6(net) => net.prefix_len(),
    };
    Network { address: address(net.addr()), bits }
}

/// An address as the core compares it.
pub(crate) fn address(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}
