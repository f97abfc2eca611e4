//! Who may call: accounts and keys of the configuration and those made while the gateway runs (spec 5.4).
//!
//! What an operator makes is a record in the store, durable before it is told. A revocation is a record of the key's digest,
//! so it wins over the configuration, also after the key got another name there. Requests read one snapshot, which is built
//! anew with every change.

use super::clock;
use super::key_records::{NewAccount, NewKey, RequestedLimits, Rotation, StoredKey};
use super::limit_pool::LimitPool;
use crate::config::{self, Billing, Config, mint};
use crate::core::key::{Account, Digest, Key, Keys, Network, Pattern};
use crate::core::ledger::Credited;
use crate::core::limits::Scope;
use crate::core::money::Money;
use crate::store::Bank;
use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Kinds of records in the store.
pub(super) const ACCOUNT: &str = "account";
pub(super) const KEY: &str = "key";
pub(super) const REVOKED: &str = "revoked";
pub(super) const ROTATED: &str = "rotated";
/// Where accounts and keys come from, as operators are shown it.
const CONFIGURED: &str = "configuration";
const AT_RUN_TIME: &str = "run time";

/// The accounts and keys of one process.
pub struct Directory {
    pub(super) bank: Arc<Bank>,
    pool: Arc<LimitPool>,
    pub(super) configured: ArcSwap<Configured>,
    pub(super) current: ArcSwap<Keys>,
    /// One change at a time.
    pub(super) changing: Mutex<()>,
}

/// What the configuration has of them.
#[derive(Default)]
pub(super) struct Configured {
    accounts: Vec<config::Account>,
    pub(super) keys: Arc<Vec<config::Key>>,
    /// The folder of the store, which has the list of revoked keys for readers of the configuration.
    folder: PathBuf,
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
    limits: RequestedLimits,
}

/// An account with its keys.
#[derive(Debug, Serialize)]
pub struct AccountDetails {
    #[serde(flatten)]
    account: AccountView,
    source: &'static str,
    keys: Vec<KeyView>,
}

/// A key that is revoked.
#[derive(Debug, Serialize)]
pub struct RevokedView {
    id: String,
    in_configuration: bool,
}

/// What is shown of a key; the key itself is nowhere.
#[derive(Debug, Serialize)]
pub struct KeyView {
    id: String,
    name: String,
    account: String,
    source: &'static str,
    enabled: bool,
    /// Unix seconds.
    expires: Option<u64>,
    /// Unix seconds until which the secret before the last rotation works.
    previous_expires: Option<u64>,
    models: Vec<String>,
    group: Option<String>,
    quota: Option<String>,
    spent: String,
    limits: RequestedLimits,
    metadata: BTreeMap<String, String>,
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
        self.configured.store(Arc::new(Configured {
            accounts: config.accounts.clone(),
            keys: Arc::clone(&config.keys),
            folder: config.store.path.clone(),
        }));
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
    pub(super) fn rebuild(&self) {
        let configured = self.configured.load();
        let mut accounts: Vec<Arc<Account>> =
            configured.accounts.iter().map(|account| Arc::new(self.configured_account(account))).collect();
        let mut owners: HashMap<String, Arc<Account>> =
            accounts.iter().map(|account| (account.id.to_string(), Arc::clone(account))).collect();
        for stored in self.stored::<NewAccount>(ACCOUNT) {
            let account = self.made_account(&stored);
            // What the configuration has under this name comes first.
            if let Entry::Vacant(owner) = owners.entry(stored.id) {
                accounts.push(Arc::clone(owner.insert(Arc::new(account))));
            }
        }
        let mut secrets = self.secrets();
        secrets.keys.reserve(configured.keys.len());
        for key in configured.keys.iter() {
            if let Some(owner) = owners.get(&key.account) {
                secrets.add(key.digest, self.configured_key(key, Arc::clone(owner)));
            }
        }
        for stored in self.stored::<StoredKey>(KEY) {
            let owner = owners.get(&stored.key.account).cloned();
            let key = owner.and_then(|owner| self.made_key(&stored.key, owner));
            if let Some((digest, key)) = mint::parse_digest(&stored.digest).zip(key) {
                secrets.add(digest, key);
            }
        }
        self.bank.with(|ledger| {
            accounts.iter().filter(|account| account.prepaid).for_each(|a| ledger.open_account(&a.id));
            for (_, key) in secrets.keys.iter().filter(|(_, key)| key.account.prepaid) {
                // The ledger has a row for a key once it spends or is bounded.
                if key.quota.is_some() || ledger.key(&key.id).is_some() {
                    ledger.set_quota(&key.id, key.quota);
                }
            }
        });
        let Secrets { keys, previous, .. } = secrets;
        self.current.store(Arc::new(Keys::new(accounts, keys).with_previous(previous)));
        self.write_revoked();
    }

    /// Which secrets are valid, as the records of rotations and revocations have it.
    fn secrets(&self) -> Secrets {
        let revoked = self.bank.records(REVOKED).into_iter();
        let revoked = revoked.filter_map(|(digest, _)| mint::parse_digest(&digest)).collect();
        let rotations = self.bank.records(ROTATED).into_iter();
        let rotations = rotations.filter_map(|(id, bytes)| Some((id, serde_json::from_slice(&bytes).ok()?)));
        Secrets { revoked, rotations: rotations.collect(), keys: Vec::new(), previous: Vec::new() }
    }

    /// Writes the digests of revoked keys beside the ledger, so that reading a configuration that has one of them can warn.
    fn write_revoked(&self) {
        let revoked = self.bank.records(REVOKED);
        let path = self.configured.load().folder.join(config::REVOKED_FILE);
        let mut text = String::new();
        for (digest, id) in &revoked {
            let id = serde_json::from_slice::<String>(id).unwrap_or_default();
            text.push_str(&format!("{digest} {id}\n"));
        }
        if std::fs::read_to_string(&path).is_ok_and(|known| known == text)
            || (text.is_empty() && !path.exists())
        {
            return;
        }
        if let Err(e) = std::fs::write(&path, text) {
            log::warn!("{}: the list of revoked keys was not written: {e}", path.display());
        }
    }

    pub(super) fn stored<T: for<'a> Deserialize<'a>>(&self, kind: &str) -> Vec<T> {
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
        let id: Arc<str> = key.id.as_str().into();
        Key {
            name: if key.name == key.id { Arc::clone(&id) } else { key.name.as_str().into() },
            id,
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

/// What operators are shown.
impl Directory {
    /// All accounts with their money.
    #[must_use]
    pub fn account_views(&self) -> Vec<AccountView> {
        self.current.load().accounts().iter().map(|account| self.account_view(account)).collect()
    }

    /// One account with its keys.
    #[must_use]
    pub fn account_details(&self, id: &str) -> Option<AccountDetails> {
        let account = self.current.load().account(id).map(|account| self.account_view(account))?;
        let configured = self.configured.load().accounts.iter().any(|account| account.id == id);
        let source = if configured { CONFIGURED } else { AT_RUN_TIME };
        Some(AccountDetails { account, source, keys: self.key_views(Some(id)) })
    }

    fn account_view(&self, account: &Account) -> AccountView {
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
            limits: account.limits.limited().into(),
        }
    }

    /// All keys that are not revoked, or those of one account, by name.
    #[must_use]
    pub fn key_views(&self, of_account: Option<&str>) -> Vec<KeyView> {
        let current = self.current.load();
        let made: HashMap<String, StoredKey> =
            self.stored::<StoredKey>(KEY).into_iter().map(|stored| (stored.key.id.clone(), stored)).collect();
        let chosen = current.all().filter(|key| of_account.is_none_or(|account| *key.account.id == *account));
        let mut views: Vec<KeyView> =
            chosen.map(|key| self.key_view(key, made.get(&*key.id), &current)).collect();
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }

    fn key_view(&self, key: &Key, made: Option<&StoredKey>, current: &Keys) -> KeyView {
        let spent = self.bank.with(|ledger| ledger.key(&key.id)).map_or(Money::ZERO, |key| key.spent);
        KeyView {
            id: key.id.to_string(),
            name: key.name.to_string(),
            account: key.account.id.to_string(),
            source: if made.is_some() { AT_RUN_TIME } else { CONFIGURED },
            enabled: key.is_valid(clock::unix().as_secs()),
            expires: key.expires,
            previous_expires: current.previous_until(&key.id),
            models: key.models.iter().map(ToString::to_string).collect(),
            group: key.group.as_deref().map(Into::into),
            quota: key.quota.map(|quota| quota.to_string()),
            spent: spent.to_string(),
            limits: key.limits.limited().into(),
            metadata: made.map(|stored| stored.key.metadata.clone()).unwrap_or_default(),
        }
    }

    /// Keys that are revoked, by name.
    #[must_use]
    pub fn revoked_views(&self) -> Vec<RevokedView> {
        let configured = self.configured.load();
        let in_file: HashSet<&str> = configured.keys.iter().map(|key| key.id.as_str()).collect();
        let ids: BTreeSet<String> = self.stored::<String>(REVOKED).into_iter().collect();
        let view = |id: String| RevokedView { in_configuration: in_file.contains(id.as_str()), id };
        ids.into_iter().map(view).collect()
    }
}

/// The secrets of all keys, as they are put together.
struct Secrets {
    revoked: HashSet<Digest>,
    /// By the names of their keys.
    rotations: HashMap<Arc<str>, Rotation>,
    keys: Vec<(Digest, Arc<Key>)>,
    previous: Vec<(Digest, Arc<Key>)>,
}

impl Secrets {
    /// Adds a key that was made or configured with the secret of `base`.
    fn add(&mut self, base: Digest, key: Key) {
        let rotation = self.rotations.get(&key.id).and_then(|rotation| rotation.applied_to(&base));
        let Some((digest, (previous, until))) = rotation else {
            if !self.revoked.contains(&base) {
                self.keys.push((base, Arc::new(key)));
            }
            return;
        };
        if !self.revoked.contains(&previous) && clock::unix().as_secs() < until {
            let expires = Some(key.expires.map_or(until, |expires| expires.min(until)));
            self.previous.push((previous, Arc::new(Key { expires, ..key.clone() })));
        }
        if !self.revoked.contains(&digest) {
            self.keys.push((digest, Arc::new(key)));
        }
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
