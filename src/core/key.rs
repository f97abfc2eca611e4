//! Keys, the credentials Tidegate issues, and what their holders may do (spec 5.1 to 5.3).
//!
//! A key is known by the SHA-256 digest of its text alone; the text is nowhere in this process after it was read from
//! a request. Unknown, disabled and expired keys are the same refusal, so that nobody can tell them apart.

use super::limits::Limits;
use super::money::Money;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// SHA-256 of a whole key.
pub type Digest = [u8; 32];

/// One key.
#[derive(Debug, Clone)]
pub struct Key {
    /// The public name of the key, for logs; never the key.
    pub id: Arc<str>,
    /// What people call it.
    pub name: Arc<str>,
    /// Who owns it.
    pub account: Arc<Account>,
    /// A disabled key is refused as if unknown.
    pub enabled: bool,
    /// Unix seconds from which on it is refused; `None` for never.
    pub expires: Option<u64>,
    /// The models it may call.
    pub models: Vec<Pattern>,
    /// The group that decides which channels serve it.
    pub group: Option<Arc<str>>,
    /// The addresses it may be used from; empty for all.
    pub networks: Vec<Network>,
    /// What it may spend in all; `None` for as much as its account has.
    pub quota: Option<Money>,
    /// Its own limits and their present state.
    pub limits: Arc<Limits>,
}

/// A rule that names models: all, those with a prefix, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// `*`
    All,
    /// `prefix/*`, kept with its slash.
    Prefix(Box<str>),
    /// An exact id (spec 1.3: no fuzzy matching).
    Exact(Box<str>),
}

/// Addresses with the same first bits; IPv4 stands as IPv6 does it (RFC 4291, 2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address of it.
    pub address: u128,
    /// How many bits are the same, of 128.
    pub bits: u8,
}

/// An account, as far as requests need to know it; its money is in the ledger.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub id: Arc<str>,
    /// Whether it passed the verification that some models require.
    pub verified: bool,
    /// Its group, for keys that have none of their own.
    pub group: Option<Arc<str>>,
    /// Whether it pays from a balance; if not, only limits bound it.
    pub prepaid: bool,
    /// Limits over all its keys.
    pub limits: Arc<Limits>,
}

impl Network {
    /// Whether an address belongs to it.
    #[must_use]
    pub fn contains(self, address: u128) -> bool {
        let differing = (self.address ^ address).leading_zeros();
        differing >= u32::from(self.bits)
    }
}

impl Pattern {
    /// The rule as written in the configuration.
    #[must_use]
    pub fn parse(written: &str) -> Self {
        match written.strip_suffix('*') {
            Some("") => Self::All,
            Some(prefix) if prefix.ends_with('/') => Self::Prefix(prefix.into()),
            _ => Self::Exact(written.into()),
        }
    }

    /// Whether the rule names `model`.
    #[must_use]
    pub fn matches(&self, model: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => model.starts_with(&**prefix),
            Self::Exact(id) => &**id == model,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Exact(id) => f.write_str(id),
        }
    }
}

impl Key {
    /// Whether the key may be used at all at `now` (Unix seconds).
    #[must_use]
    pub fn is_valid(&self, now: u64) -> bool {
        self.enabled && self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether the key may be used from an address.
    #[must_use]
    pub fn may_come_from(&self, address: u128) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(address))
    }

    /// The group it belongs to: its own, or its account's.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref().or(self.account.group.as_deref())
    }

    /// Whether the key may call `model`.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.matches(model))
    }
}

/// All keys and accounts that are known at a moment.
#[derive(Debug, Default)]
pub struct Keys {
    by_digest: HashMap<Digest, Arc<Key>>,
    /// Secrets that were rotated out and still work for a time, which is in `expires` of their key.
    previous: HashMap<Digest, Arc<Key>>,
    accounts: Vec<Arc<Account>>,
}

impl Keys {
    /// The table of these keys and accounts. Of two keys with one digest the first counts.
    #[must_use]
    pub fn new<K: Into<Arc<Key>>>(accounts: Vec<Arc<Account>>, keys: Vec<(Digest, K)>) -> Self {
        let mut by_digest = HashMap::with_capacity(keys.len());
        for (digest, key) in keys {
            by_digest.entry(digest).or_insert_with(|| key.into());
        }
        Self { by_digest, previous: HashMap::new(), accounts }
    }

    /// Adds secrets that were rotated out, each with its key as it is until the secret expires.
    #[must_use]
    pub fn with_previous(mut self, previous: Vec<(Digest, Arc<Key>)>) -> Self {
        self.previous = previous.into_iter().collect();
        self
    }

    /// The key with this digest, if it may be used at `now` (Unix seconds).
    #[must_use]
    pub fn authenticate(&self, digest: &Digest, now: u64) -> Option<&Arc<Key>> {
        let key = self.by_digest.get(digest).or_else(|| self.previous.get(digest));
        key.filter(|key| key.is_valid(now))
    }

    /// The key of a name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Arc<Key>> {
        self.all().find(|key| &*key.id == id)
    }

    /// The digest of the secret of the key of a name.
    #[must_use]
    pub fn secret_of(&self, id: &str) -> Option<&Digest> {
        self.by_digest.iter().find(|(_, key)| &*key.id == id).map(|(digest, _)| digest)
    }

    /// The digests of the key of a name: of its secret, and of one that was rotated out and has not expired.
    pub fn digests_of(&self, id: &str) -> impl Iterator<Item = &Digest> {
        let all = self.by_digest.iter().chain(&self.previous);
        all.filter(move |(_, key)| &*key.id == id).map(|(digest, _)| digest)
    }

    /// Unix seconds until which the rotated-out secret of a key works.
    #[must_use]
    pub fn previous_until(&self, id: &str) -> Option<u64> {
        self.previous.values().find(|key| &*key.id == id).and_then(|key| key.expires)
    }

    /// All keys, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.by_digest.values()
    }

    /// The account of a name.
    #[must_use]
    pub fn account(&self, id: &str) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| &*account.id == id)
    }

    /// All accounts, in the order in which they became known.
    #[must_use]
    pub fn accounts(&self) -> &[Arc<Account>] {
        &self.accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limits::{Limited, Scope};

    fn key(expires: Option<u64>, enabled: bool) -> Key {
        let account = Account {
            id: "a".into(),
            verified: false,
            group: Some("g".into()),
            prepaid: true,
            limits: Limits::new(Scope::Account, Limited::default()),
        };
        Key {
            id: "k".into(),
            name: "k".into(),
            account: Arc::new(account),
            enabled,
            expires,
            models: vec![Pattern::parse("openai/*"), Pattern::parse("x/y")],
            group: None,
            networks: Vec::new(),
            quota: None,
            limits: Limits::new(Scope::Key, Limited::default()),
        }
    }

    /// Goal: unknown, disabled and expired keys are all just absent (spec 2.2, 401).
    #[test]
    fn only_valid_keys_authenticate() {
        let keys =
            vec![([1; 32], key(Some(100), true)), ([2; 32], key(None, false)), ([3; 32], key(None, true))];
        let keys = Keys::new(Vec::new(), keys);
        assert!(keys.authenticate(&[1; 32], 99).is_some());
        assert!(keys.authenticate(&[1; 32], 100).is_none());
        assert!(keys.authenticate(&[2; 32], 0).is_none());
        assert!(keys.authenticate(&[9; 32], 0).is_none());
        assert_eq!(keys.authenticate(&[3; 32], 0).unwrap().group(), Some("g"));
    }

    /// Goal: a secret that was rotated out works as its key until it expires, and makes no second key.
    #[test]
    fn previous_secrets_expire() {
        let current = vec![([1; 32], key(None, true))];
        let previous = vec![([2; 32], Arc::new(key(Some(100), true)))];
        let keys = Keys::new(Vec::new(), current).with_previous(previous);
        assert!(keys.authenticate(&[2; 32], 99).is_some() && keys.authenticate(&[2; 32], 100).is_none());
        assert!(keys.authenticate(&[1; 32], 100).is_some());
        assert_eq!((keys.all().count(), keys.digests_of("k").count()), (1, 2));
        assert_eq!(keys.previous_until("k"), Some(100));
    }

    /// Goal: model rules match exactly: all, a whole path prefix, or one id (spec 1.3, 5.3).
    #[test]
    fn patterns_match_exactly() {
        let key = key(None, true);
        assert!(key.may_use("openai/gpt") && key.may_use("x/y"));
        assert!(!key.may_use("openai") && !key.may_use("x/y2") && !key.may_use("OPENAI/gpt"));
        assert_eq!(Pattern::parse("gpt*"), Pattern::Exact("gpt*".into()));
    }

    /// Goal: a key with networks may come from these alone.
    #[test]
    fn networks_are_prefixes() {
        let mut key = key(None, true);
        assert!(key.may_come_from(7));
        key.networks = vec![Network { address: 0x10 << 64, bits: 64 }, Network { address: 5, bits: 128 }];
        assert!(key.may_come_from(0x10 << 64 | 99) && key.may_come_from(5));
        assert!(!key.may_come_from(0x11 << 64) && !key.may_come_from(4));
        assert!(Network { address: 0, bits: 0 }.contains(u128::MAX));
    }
}
