//! Keys, the credentials Tidegate issues, and what their holders may do (spec 5.1 to 5.3).
//!
//! A key is known by the SHA-256 digest of its text alone; the text is nowhere in this process after it was read from
//! a request. Unknown, disabled and expired keys are the same refusal, so that nobody can tell them apart.

use super::id::{AccountId, KeyId};
use super::limit::{Denied, RateLimit, Standing};
use super::permit::{Permit, Permits};
use std::collections::HashMap;
use std::sync::Arc;

/// SHA-256 of a whole key.
pub type Digest = [u8; 32];

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The public name of the key, for logs; never the key.
    pub id: Arc<str>,
    /// Who owns it.
    pub account: AccountId,
    /// A disabled key is refused as if unknown.
    pub enabled: bool,
    /// Unix seconds from which on it is refused; `None` for never.
    pub expires: Option<u64>,
    /// The models it may call.
    pub models: Vec<Pattern>,
    /// The group that decides which channels serve it.
    pub group: Option<Arc<str>>,
    /// Its own limits and their present state.
    pub limits: Arc<KeyLimits>,
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

/// An account, as far as requests need to know it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub id: Arc<str>,
    /// Whether it passed the verification that some models require.
    pub verified: bool,
    /// Its group, for keys that have none of their own.
    pub group: Option<Arc<str>>,
}

/// The limits of one key with their counters; shared between configuration generations, so that a reload forgets
/// nothing.
#[derive(Debug, Default)]
pub struct KeyLimits {
    concurrency: Option<Arc<Permits>>,
    requests: Option<RateLimit>,
}

/// What a request holds of its key's limits while it runs.
#[derive(Debug, Default)]
pub struct Admission {
    /// The concurrency slot; comes back on drop.
    pub permit: Option<Permit>,
    /// How the request rate stands after this request.
    pub requests: Option<Standing>,
}

/// Why a key's limits refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// As many requests as allowed are running.
    Concurrency {
        /// The most that may run at a time.
        limit: u32,
    },
    /// The requests of this minute are used up.
    Requests(Denied),
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

impl Key {
    /// Whether the key may be used at all at `now` (Unix seconds).
    #[must_use]
    pub fn is_valid(&self, now: u64) -> bool {
        self.enabled && self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether the key may call `model`.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.matches(model))
    }
}

impl KeyLimits {
    /// Fresh limits: so many requests a minute, so many at a time; `None` for no bound.
    #[must_use]
    pub fn new(requests_per_minute: Option<u32>, concurrency: Option<u32>) -> Arc<Self> {
        Arc::new(Self {
            concurrency: concurrency.map(Permits::new),
            requests: requests_per_minute.map(RateLimit::per_minute),
        })
    }

    /// Admits one request at `now` (nanoseconds of a monotonic clock), all limits or none (spec 6.2).
    ///
    /// # Errors
    ///
    /// The first limit that refuses; nothing is taken then.
    pub fn try_admit(&self, now: u64) -> Result<Admission, Exceeded> {
        let permit = match &self.concurrency {
            None => None,
            Some(permits) => {
                Some(permits.try_acquire().ok_or(Exceeded::Concurrency { limit: permits.limit() })?)
            }
        };
        let requests = match &self.requests {
            None => None,
            Some(rate) => Some(rate.try_take(1, now).map_err(Exceeded::Requests)?),
        };
        Ok(Admission { permit, requests })
    }

    /// Requests running now under this key, where concurrency is bounded.
    #[must_use]
    pub fn running(&self) -> Option<u32> {
        self.concurrency.as_ref().map(|permits| permits.used())
    }
}

/// All keys and accounts of one configuration generation.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
    accounts: Vec<Account>,
    by_digest: HashMap<Digest, KeyId>,
}

impl Keys {
    /// The tables; a key's account is an index of `accounts`. Of two keys with one digest the first counts.
    #[must_use]
    pub fn new(accounts: Vec<Account>, keys: Vec<(Digest, Key)>) -> Self {
        let mut by_digest = HashMap::with_capacity(keys.len());
        for (index, (digest, _)) in keys.iter().enumerate() {
            by_digest.entry(*digest).or_insert(KeyId::new(index));
        }
        Self { keys: keys.into_iter().map(|(_, key)| key).collect(), accounts, by_digest }
    }

    /// The key with this digest, if it may be used at `now` (Unix seconds).
    #[must_use]
    pub fn authenticate(&self, digest: &Digest, now: u64) -> Option<(KeyId, &Key)> {
        let id = *self.by_digest.get(digest)?;
        self.key(id).filter(|key| key.is_valid(now)).map(|key| (id, key))
    }

    /// The key of an id.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys.get(id.index())
    }

    /// All keys, in the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Key] {
        &self.keys
    }

    /// The account of an id.
    #[must_use]
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(id.index())
    }

    /// The group a key belongs to: its own, or its account's.
    #[must_use]
    pub fn group<'a>(&'a self, key: &'a Key) -> Option<&'a str> {
        key.group.as_deref().or_else(|| self.account(key.account)?.group.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(expires: Option<u64>, enabled: bool) -> Key {
        Key {
            id: "k".into(),
            account: AccountId::new(0),
            enabled,
            expires,
            models: vec![Pattern::parse("openai/*"), Pattern::parse("x/y")],
            group: None,
            limits: KeyLimits::new(None, None),
        }
    }

    /// Goal: unknown, disabled and expired keys are all just absent (spec 2.2, 401).
    #[test]
    fn only_valid_keys_authenticate() {
        let keys = Keys::new(
            vec![Account { id: "a".into(), verified: false, group: Some("g".into()) }],
            vec![([1; 32], key(Some(100), true)), ([2; 32], key(None, false)), ([3; 32], key(None, true))],
        );
        assert!(keys.authenticate(&[1; 32], 99).is_some());
        assert!(keys.authenticate(&[1; 32], 100).is_none());
        assert!(keys.authenticate(&[2; 32], 0).is_none());
        assert!(keys.authenticate(&[9; 32], 0).is_none());
        let (id, found) = keys.authenticate(&[3; 32], 0).unwrap();
        assert_eq!((id.index(), keys.group(found)), (2, Some("g")));
    }

    /// Goal: model rules match exactly: all, a whole path prefix, or one id (spec 1.3, 5.3).
    #[test]
    fn patterns_match_exactly() {
        let key = key(None, true);
        assert!(key.may_use("openai/gpt") && key.may_use("x/y"));
        assert!(!key.may_use("openai") && !key.may_use("x/y2") && !key.may_use("OPENAI/gpt"));
        assert_eq!(Pattern::parse("gpt*"), Pattern::Exact("gpt*".into()));
    }

    /// Goal: a refusal by one limit leaves the others untouched (spec 6.2).
    #[test]
    fn admission_is_all_or_nothing() {
        let limits = KeyLimits::new(Some(2), Some(1));
        let first = limits.try_admit(0).unwrap();
        assert_eq!(limits.try_admit(0).unwrap_err(), Exceeded::Concurrency { limit: 1 });
        drop(first);
        drop(limits.try_admit(0).unwrap());
        assert!(matches!(limits.try_admit(0), Err(Exceeded::Requests(_))));
        assert_eq!(limits.running(), Some(0));
    }
}
