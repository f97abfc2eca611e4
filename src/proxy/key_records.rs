//! Accounts and keys as operators ask for them at run time, and as the store keeps them.

use super::directory::Rejected;
use crate::config;
use crate::config::mint;
use crate::core::key::{Digest, Pattern};
use crate::core::limits::Limited;
use crate::core::money::Money;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The longest name, in bytes.
pub(super) const NAME_MAX: usize = 64;
/// Entries of a key's metadata.
const METADATA_MAX: usize = 16;
/// Bytes of a value of a key's metadata.
const METADATA_VALUE_MAX: usize = 256;

/// An account as an operator asks for it; the limits are as in the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    pub(super) id: String,
    #[serde(default)]
    pub(super) verified: bool,
    #[serde(default)]
    pub(super) group: Option<String>,
    #[serde(default)]
    pub(super) billing: Option<String>,
    #[serde(default)]
    pub(super) limits: RequestedLimits,
}

/// A key as an operator asks for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    pub(super) id: String,
    pub(super) account: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) models: Option<Vec<String>>,
    #[serde(default)]
    pub(super) group: Option<String>,
    /// Unix seconds; a request may have a date instead.
    #[serde(default, deserialize_with = "moment")]
    pub(super) expires: Option<u64>,
    /// Dollars, as a decimal number in quotes.
    #[serde(default)]
    pub(super) quota: Option<String>,
    #[serde(default)]
    pub(super) ips: Vec<IpNet>,
    #[serde(default)]
    pub(super) limits: RequestedLimits,
    /// Whatever the operator wants to find again, such as a ticket or a team.
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

/// Limits as an operator asks for them.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestedLimits {
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
pub(super) struct StoredKey {
    pub(super) digest: String,
    pub(super) key: NewKey,
}

/// The last rotation of a key, kept under the key's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rotation {
    /// The digest with which the key was configured or made, as long as the configuration has that one.
    pub(super) base: String,
    /// The digest of its secret.
    pub(super) digest: String,
    /// The digest of the secret before.
    pub(super) previous: String,
    /// Unix seconds until which the secret before works.
    pub(super) until: u64,
}

impl Rotation {
    /// The secret and the one before it with its end, where the rotation is one of the key with this digest. A configuration
    /// that has another digest than before the rotation, and not the new one, has replaced the key by hand.
    pub(super) fn applied_to(&self, base: &Digest) -> Option<(Digest, (Digest, u64))> {
        let parsed = [&self.base, &self.previous, &self.digest].map(|digest| mint::parse_digest(digest));
        if !parsed.contains(&Some(*base)) {
            return None;
        }
        let [_, previous, digest] = parsed;
        Some((digest?, (previous?, self.until)))
    }
}

impl NewAccount {
    /// # Errors
    ///
    /// What makes no sense of it.
    pub(super) fn check(&self) -> Result<(), Rejected> {
        check_name(&self.id)?;
        if !matches!(self.billing.as_deref(), None | Some("prepaid" | "none")) {
            return Err(Rejected::Invalid("billing must be prepaid or none".into()));
        }
        self.limits.check()
    }
}

impl NewKey {
    /// # Errors
    ///
    /// What makes no sense of it at `now`, in Unix seconds.
    pub(super) fn check(&self, now: u64) -> Result<(), Rejected> {
        let invalid = |why: &str| Err(Rejected::Invalid(why.to_owned()));
        check_name(&self.id)?;
        if self.quota.as_deref().is_some_and(|quota| Money::parse(quota).is_none()) {
            return invalid("quota must be a decimal number of dollars in quotes");
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return invalid("expires lies in the past");
        }
        let exact = |model: &String| matches!(Pattern::parse(model), Pattern::Exact(id) if id.contains('*'));
        if self.models.iter().flatten().any(exact) {
            return invalid("models must be *, prefix/* or ids");
        }
        let odd =
            |(name, value): (&String, &String)| name.len() > NAME_MAX || value.len() > METADATA_VALUE_MAX;
        if self.metadata.len() > METADATA_MAX || self.metadata.iter().any(odd) {
            return invalid(
                "metadata must have at most 16 entries, with names of 64 and values of 256 bytes",
            );
        }
        self.limits.check()
    }
}

impl RequestedLimits {
    fn check(self) -> Result<(), Rejected> {
        let Self { rpm, tpm, concurrency, shadow: _ } = self;
        if rpm == Some(0) || tpm == Some(0) || concurrency == Some(0) {
            return Err(Rejected::Invalid("limits must be 1 or more".into()));
        }
        Ok(())
    }
}

pub(super) fn check_name(id: &str) -> Result<(), Rejected> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.is_empty() || id.len() > NAME_MAX || !id.chars().all(allowed) {
        return Err(Rejected::Invalid("id must be 1 to 64 letters, digits, '.', '_' or '-'".into()));
    }
    Ok(())
}

/// Unix seconds, or a date as the configuration has it.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let given = Option::<serde_json::Value>::deserialize(deserializer)?;
    let wrong = || serde::de::Error::custom("expires must be a date such as 2027-01-31, or Unix seconds");
    match given {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => config::parse_date(&text).ok_or_else(wrong).map(Some),
        Some(number) => number.as_u64().ok_or_else(wrong).map(Some),
    }
}

impl From<RequestedLimits> for Limited {
    fn from(limits: RequestedLimits) -> Self {
        let RequestedLimits { rpm, tpm, concurrency, shadow } = limits;
        Self { rpm, tpm, concurrency, shadow }
    }
}

impl From<Limited> for RequestedLimits {
    fn from(limits: Limited) -> Self {
        let Limited { rpm, tpm, concurrency, shadow } = limits;
        Self { rpm, tpm, concurrency, shadow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a rotation holds for a key that is configured with the secret before it or with its own, and for no other.
    #[test]
    fn rotations_follow_the_configuration() {
        let text = |byte: u8| mint::digest_text(&[byte; 32]);
        let rotation = Rotation { base: text(1), digest: text(3), previous: text(2), until: 9 };
        for base in [1, 2, 3] {
            assert_eq!(rotation.applied_to(&[base; 32]), Some(([3; 32], ([2; 32], 9))), "{base}");
        }
        assert_eq!(rotation.applied_to(&[4; 32]), None);
    }

    /// Goal: an expiry is a date or Unix seconds, and nothing else.
    #[test]
    fn expiries_are_dates() {
        let read = |expires: &str| {
            let text = format!(r#"{{"id":"a","account":"b","expires":{expires}}}"#);
            serde_json::from_str::<NewKey>(&text).ok().and_then(|key| key.expires)
        };
        assert_eq!(read(r#""2027-01-31""#), Some(1_801_353_600));
        assert_eq!(read(r#""2027-01-31T00:00:01Z""#), Some(1_801_353_601));
        assert_eq!((read("7"), read(r#""soon""#), read("-1"), read("null")), (Some(7), None, None, None));
    }
}
