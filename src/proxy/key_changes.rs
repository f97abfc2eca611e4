//! What operators change of accounts and keys while the gateway runs (spec 5.4, 13.1).

use super::clock;
use super::directory::{ACCOUNT, Directory, KEY, REVOKED, ROTATED, Rejected};
use super::key_records::{NAME_MAX, NewAccount, NewKey, Rotation, StoredKey};
use crate::config::mint;
use crate::core::key::Digest;
use crate::core::ledger::Credited;
use crate::core::money::Money;
use serde::Serialize;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a secret may go on working after it was rotated out.
const OVERLAP_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// A rotated key: its new secret, this once.
#[derive(Debug, Serialize)]
pub struct Rotated {
    key: String,
    /// Unix seconds until which the secret before works.
    previous_expires: u64,
}

/// Each change is durable when its method has returned. What cannot be written down is taken back where asking again would be
/// refused, above all a key that nobody has been told; a revocation and a credit stay, for asked again they are the same.
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
        account.check()?;
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
        key.check(clock::unix().as_secs())?;
        let secret = new_secret()?;
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

    /// Revokes a key with all its secrets, wherever it came from; the next request with it is refused.
    ///
    /// # Errors
    ///
    /// [`Rejected`]
    pub async fn revoke_key(&self, id: &str) -> Result<(), Rejected> {
        {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut digests: Vec<Digest> = self.current.load().digests_of(id).copied().collect();
            if digests.is_empty() {
                let already =
                    if self.revoked_digests(id).is_empty() { "" } else { ": it is revoked already" };
                return Err(Rejected::Unknown(format!("there is no key {id}{already}")));
            }
            // A file that still has the secret of before a rotation must not bring the key back.
            digests.extend(self.base_of(id));
            for digest in digests {
                self.put(REVOKED, &mint::digest_text(&digest), &id)?;
            }
            self.rebuild();
        }
        self.durable().await
    }

    /// The names of the records that revoke a key.
    fn revoked_digests(&self, id: &str) -> Vec<Arc<str>> {
        let records = self.bank.records(REVOKED).into_iter();
        let of_key = records
            .filter(|(_, bytes)| serde_json::from_slice::<String>(bytes).is_ok_and(|known| known == id));
        of_key.map(|(digest, _)| digest).collect()
    }

    /// Takes the revocation of a key back: its secrets work again.
    ///
    /// # Errors
    ///
    /// [`Rejected`]
    pub async fn restore_key(&self, id: &str) -> Result<(), Rejected> {
        {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let digests = self.revoked_digests(id);
            if digests.is_empty() {
                return Err(Rejected::Unknown(format!("there is no revoked key {id}")));
            }
            for digest in digests {
                self.bank.remove_record(REVOKED, &digest);
            }
            self.rebuild();
        }
        self.durable().await
    }

    /// Gives a key another secret; the one before works for `overlap` more, and any before that no longer.
    ///
    /// # Errors
    ///
    /// [`Rejected`]
    pub async fn rotate_key(&self, id: &str, overlap: Duration) -> Result<Rotated, Rejected> {
        if overlap > OVERLAP_MAX {
            return Err(Rejected::Invalid("overlap must be at most 90 days".into()));
        }
        let secret = new_secret()?;
        // In whole seconds, and not less than was asked for.
        let until =
            clock::unix().saturating_add(overlap).saturating_add(Duration::from_nanos(999_999_999)).as_secs();
        let before = {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let current = self.current.load();
            let digest = current.secret_of(id).copied();
            let digest = digest.ok_or_else(|| Rejected::Unknown(format!("there is no key {id}")))?;
            let configured = self.configured.load();
            if configured.keys.iter().any(|key| key.id == id && key.minted) {
                return Err(Rejected::Conflict(format!("the key {id} is made anew with each process")));
            }
            let before = self.rotation_of(id);
            let rotation = Rotation {
                base: mint::digest_text(&self.base_of(id).unwrap_or(digest)),
                digest: mint::digest_text(&mint::digest(&secret)),
                previous: mint::digest_text(&digest),
                until,
            };
            self.put(ROTATED, id, &rotation)?;
            self.rebuild();
            before
        };
        match (self.durable().await, before) {
            (Ok(()), _) => Ok(Rotated { key: secret, previous_expires: until }),
            (Err(rejected), Some(before)) => {
                let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
                self.put(ROTATED, id, &before)?;
                self.rebuild();
                Err(rejected)
            }
            (Err(_), None) => {
                self.take_back(ROTATED, id);
                Err(Rejected::StoreUnavailable)
            }
        }
    }

    fn rotation_of(&self, id: &str) -> Option<Rotation> {
        let records = self.bank.records(ROTATED).into_iter();
        let mut of_key = records.filter(|(key, _)| **key == *id);
        of_key.next().and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok())
    }

    /// The digest with which a key was configured or made.
    fn base_of(&self, id: &str) -> Option<Digest> {
        let configured = self.configured.load();
        let configured = configured.keys.iter().find(|key| key.id == id).map(|key| key.digest);
        configured.or_else(|| {
            let stored = self.stored::<StoredKey>(KEY).into_iter().find(|stored| stored.key.id == id)?;
            mint::parse_digest(&stored.digest)
        })
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

    fn put(&self, kind: &str, id: &str, record: &impl Serialize) -> Result<(), Rejected> {
        let bytes = serde_json::to_vec(record).map_err(|e| Rejected::Invalid(e.to_string()))?;
        self.bank.put_record(kind, id, &bytes);
        Ok(())
    }

    /// Waits for what was made to be durable, or takes it back.
    async fn made(&self, kind: &str, id: &str) -> Result<(), Rejected> {
        let durable = self.durable().await;
        if durable.is_err() {
            self.take_back(kind, id);
        }
        durable
    }

    fn take_back(&self, kind: &str, id: &str) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.bank.remove_record(kind, id);
        self.rebuild();
    }

    async fn durable(&self) -> Result<(), Rejected> {
        self.bank.durable().await.map_err(|_| Rejected::StoreUnavailable)
    }
}

fn new_secret() -> Result<String, Rejected> {
    mint::mint().map_err(|e| Rejected::Invalid(format!("no key could be made: {e}")))
}
