//! The sections `accounts` and `keys`.

use super::reader::{Form, Item, Object};
use super::types::{Account, Billing, Key, Model};
use super::{keys_file, limits, mint, name, price, server};
use crate::core::key::Pattern;
use crate::core::money::Money;
use std::collections::HashSet;
use std::fmt;
use std::time::UNIX_EPOCH;

const BILLING: [(&str, Billing); 2] = [("prepaid", Billing::Prepaid), ("none", Billing::None)];

/// Advice on a key that is revoked and configured.
pub(super) const REVOKED_HINT: &str = "take it out of the file, or: tidegate keys restore ID";

/// A key that was made for this run, because the file says `generate: true`.
#[derive(Clone)]
pub struct Minted {
    /// The public name of the key.
    pub key_id: String,
    key: String,
}

impl Minted {
    /// The key, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

pub(super) fn accounts(item: Option<Item<'_>>) -> Vec<Account> {
    let mut seen = HashSet::new();
    let account = |item: &Item<'_>| {
        let object = item.object()?;
        let id = name(&object, &mut seen);
        let verified = object.get("verified").map_or(Some(false), |item| item.flag());
        let group = text(&object, "group");
        let billing = object.get("billing").map_or(Some(Billing::Prepaid), |item| item.one_of(&BILLING));
        let credit = object.get("credit").and_then(|item| price::amount(&item));
        let limits = limits::limits(object.get("limits"));
        object.finish();
        Some(Account { id: id?, verified: verified?, group, billing: billing?, credit, limits })
    };
    item.map(|item| item.list()).unwrap_or_default().iter().filter_map(account).collect()
}

pub(super) fn keys(
    (item, file): (Option<Item<'_>>, Option<Item<'_>>),
    (accounts, models): (&[Account], &[Model]),
    with_sandbox: bool,
) -> (Vec<Key>, Vec<Minted>) {
    let mut known = Known::new(accounts, models);
    let mut minted = Vec::new();
    let mut keys = Vec::new();
    for item in item.map(|item| item.list()).unwrap_or_default() {
        let Some(object) = item.object() else { continue };
        let id = name(&object, &mut known.ids);
        let made = generate(&object, with_sandbox);
        let digest = match made {
            true => fresh(&item, id.as_deref().unwrap_or_default(), &mut minted),
            false => given_digest(&item, &object, &mut known.digests),
        };
        keys.extend(key(&object, id, (digest, made), &known));
        object.finish();
    }
    if let Some(item) = file {
        keys_file::read(&item, &mut known, &mut keys);
    }
    (keys, minted)
}

/// What keys refer to, and what of them may be there once.
pub(super) struct Known<'a> {
    pub(super) accounts: HashSet<&'a str>,
    models: HashSet<&'a str>,
    pub(super) ids: HashSet<String>,
    pub(super) digests: HashSet<[u8; 32]>,
}

impl<'a> Known<'a> {
    fn new(accounts: &'a [Account], models: &'a [Model]) -> Self {
        Self {
            accounts: accounts.iter().map(|account| account.id.as_str()).collect(),
            models: models.iter().map(|model| model.id.as_str()).collect(),
            ids: HashSet::new(),
            digests: HashSet::new(),
        }
    }
}

/// Reads a key whose digest is known.
pub(super) fn key(
    object: &Object<'_>,
    id: Option<String>,
    (digest, minted): (Option<[u8; 32]>, bool),
    known: &Known<'_>,
) -> Option<Key> {
    let account = object.required("account").and_then(|item| owner(&item, known));
    let named = text(object, "name");
    let enabled = object.get("enabled").map_or(Some(true), |item| item.flag());
    let expires = object.get("expires").map(|item| date(&item));
    let allowed = object.get("models").map_or_else(|| vec!["*".to_owned()], |item| patterns(&item, known));
    let group = text(object, "group");
    let quota = object.get("quota").and_then(|item| quota(&item));
    let ips = object.get("ips").map(|item| server::networks(&item)).unwrap_or_default();
    let limits = limits::limits(object.get("limits"));
    Some(Key {
        name: named.or_else(|| id.clone())?,
        id: id?,
        account: account?,
        enabled: enabled?,
        expires: expires.flatten(),
        digest: digest?,
        minted,
        models: allowed,
        group,
        quota,
        ips,
        limits,
    })
}

/// Whether a key is to be made for this run; only for trials, where the upstream is the sandbox.
fn generate(object: &Object<'_>, with_sandbox: bool) -> bool {
    let Some(item) = object.get("generate") else { return false };
    let wanted = item.flag().unwrap_or(false);
    if wanted && !with_sandbox {
        item.refuse_with("is for trials with the sandbox only", "make a key with: tidegate keys new");
    }
    wanted
}

fn fresh(item: &Item<'_>, key_id: &str, minted: &mut Vec<Minted>) -> Option<[u8; 32]> {
    match mint::mint() {
        Ok(key) => {
            let digest = mint::digest(&key);
            minted.push(Minted { key_id: key_id.to_owned(), key });
            Some(digest)
        }
        Err(e) => {
            item.refuse(format!("no key could be made: {e}"));
            None
        }
    }
}

/// The digest, which has to be there unless the key is made for this run.
pub(super) fn given_digest(
    key: &Item<'_>,
    object: &Object<'_>,
    seen: &mut HashSet<[u8; 32]>,
) -> Option<[u8; 32]> {
    let given = object.get("digest");
    if given.is_none() {
        key.refuse("has no digest");
    }
    digest(&given?, seen)
}

fn digest(item: &Item<'_>, seen: &mut HashSet<[u8; 32]>) -> Option<[u8; 32]> {
    let parsed = mint::parse_digest(item.text()?);
    let Some(digest) = parsed else {
        item.refuse_with(
            "is no digest",
            "sha256: and 64 hexadecimal digits, as printed by: tidegate keys hash",
        );
        return None;
    };
    if !seen.insert(digest) {
        item.refuse("is the digest of another key, too");
        return None;
    }
    if item.reader.is_revoked(&digest) {
        item.warn_with("this key is revoked, and is refused", REVOKED_HINT);
    }
    Some(digest)
}

fn owner(item: &Item<'_>, known: &Known<'_>) -> Option<String> {
    let id = item.text()?;
    if !known.accounts.contains(id) {
        item.refuse(format!("is not under accounts: {id}"));
        return None;
    }
    Some(id.to_owned())
}

/// Unix seconds, or a date and time with zone.
pub(super) fn date(item: &Item<'_>) -> Option<u64> {
    if let super::tree::Value::Integer(_) = item.node.value {
        return item.number(0..=i128::from(u32::MAX) * 4);
    }
    let seconds = parse_date(item.text()?);
    if seconds.is_none() {
        item.refuse_with("is no date", "such as 2027-01-31T12:00:00Z, in UTC");
    }
    seconds
}

/// The Unix seconds of `2027-01-31` or `2027-01-31T12:00:00Z`, in UTC.
pub(crate) fn parse_date(text: &str) -> Option<u64> {
    let parsed = humantime::parse_rfc3339_weak(text)
        .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")));
    parsed.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs())
}

fn patterns(item: &Item<'_>, known: &Known<'_>) -> Vec<String> {
    let pattern = |item: Item<'_>| {
        let text = item.text()?;
        if let Pattern::Exact(id) = Pattern::parse(text) {
            if id.contains('*') {
                item.refuse_with("is no pattern", "*, or prefix/*, or an id");
            } else if !known.models.contains(&*id) {
                item.warn("names a model that is not under models");
            }
        }
        Some(text.to_owned())
    };
    item.list().into_iter().filter_map(pattern).collect()
}

/// What a key may spend in all: dollars, or as much as its account has.
fn quota(item: &Item<'_>) -> Option<Money> {
    item.as_form(Form::OneOf(vec!["unlimited"]));
    if item.node.value == super::tree::Value::Text("unlimited".into()) { None } else { price::amount(item) }
}

fn text(object: &Object<'_>, name: &'static str) -> Option<String> {
    object.get(name).and_then(|item| item.text().map(str::to_owned))
}
