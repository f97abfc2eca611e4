//! Ids of stored responses: sealed, so that a client carries them and learns nothing (spec 1.5).
//!
//! A sealed id says at which channel and under which credential a response is stored, and its id there. It is encrypted
//! and authenticated (AES-256-GCM, RFC 5116) under a key of the process or of the configuration, bound to the account that
//! it was given to, and padded to one of few lengths. So it can be neither read nor made up nor borrowed.

use super::provenance::{self, MARK_LEN, Origin};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// What sealed ids begin with.
pub const PREFIX: &str = "resp-gate-";
/// Plain texts are padded to a multiple of this, in bytes.
const PAD: usize = 64;
/// The longest id of an upstream that is sealed, in bytes.
const UPSTREAM_ID_MAX: usize = 512;
/// The longest sealed id that is looked at, in bytes.
const SEALED_MAX: usize = 1_024;

/// Seals and opens ids under one key.
pub struct Sealer(LessSafeKey);

/// Where a response is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The channel, by [`short_digest`] of its name.
    pub channel: u64,
    /// The credential, by [`short_digest`]; 0 for none.
    pub credential: u64,
    /// Its id there.
    pub upstream_id: String,
}

/// Names by which channels and credentials are sealed: they stay the same when lists are put in another order.
#[must_use]
pub fn short_digest(text: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    digest.first_chunk::<8>().map_or(0, |start| u64::from_be_bytes(*start))
}

impl Sealer {
    /// A sealer whose key is made of this secret.
    ///
    /// # Errors
    ///
    /// Never: a digest has the length of a key.
    pub fn new(secret: &[u8]) -> Result<Self, ring::error::Unspecified> {
        let mut digest = Sha256::new();
        digest.update(b"tidegate response ids");
        digest.update(secret);
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &digest.finalize())?)))
    }

    /// The sealed id; `nonce` must be random. `None` if the upstream's id is longer than any.
    #[must_use]
    pub fn seal(&self, stored: &Stored, account: &str, nonce: [u8; NONCE_LEN]) -> Option<String> {
        let id = stored.upstream_id.as_bytes();
        if id.is_empty() || id.len() > UPSTREAM_ID_MAX {
            return None;
        }
        let mut text = Vec::with_capacity(2 * PAD);
        text.extend_from_slice(&stored.channel.to_be_bytes());
        text.extend_from_slice(&stored.credential.to_be_bytes());
        text.extend_from_slice(&u16::try_from(id.len()).ok()?.to_be_bytes());
        text.extend_from_slice(id);
        text.resize(text.len().next_multiple_of(PAD), 0);
        let aad = Aad::from(account.as_bytes());
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text).ok()?;
        Some(format!("{PREFIX}{}", BASE64.encode([&nonce[..], &text].concat())))
    }

    /// The mark of reasoning that this account's request made at `origin`; `nonce` must be random, and of no other seal.
    #[must_use]
    pub fn mark(&self, origin: Origin, account: &str, nonce: [u8; NONCE_LEN]) -> Option<Bytes> {
        let mut text = [origin.channel.to_be_bytes(), origin.credential.to_be_bytes()].concat();
        let aad = Aad::from([b"reasoning of ", account.as_bytes()].concat());
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text).ok()?;
        // One byte more, so that its base64 needs no padding.
        let encoded = STANDARD.encode([&nonce[..], &text, &[0]].concat());
        Some(format!("{}{encoded}", provenance::PREFIX).into())
    }

    /// The origin that a mark says, if this account was given it under this key.
    #[must_use]
    pub fn origin(&self, mark: &str, account: &str) -> Option<Origin> {
        let encoded = mark.strip_prefix(provenance::PREFIX).filter(|_| mark.len() == MARK_LEN)?;
        let sealed = STANDARD.decode(encoded).ok()?;
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.split_last()?.1.to_vec();
        let aad = Aad::from([b"reasoning of ", account.as_bytes()].concat());
        let text = &*self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text).ok()?;
        let (channel, text) = text.split_first_chunk::<8>()?;
        let credential = text.first_chunk::<8>()?;
        Some(Origin { channel: u64::from_be_bytes(*channel), credential: u64::from_be_bytes(*credential) })
    }

    /// What a sealed id says, if this account was given it under this key.
    #[must_use]
    pub fn open(&self, id: &str, account: &str) -> Option<Stored> {
        let encoded = id.strip_prefix(PREFIX).filter(|encoded| encoded.len() <= SEALED_MAX)?;
        let sealed = BASE64.decode(encoded).ok()?;
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let aad = Aad::from(account.as_bytes());
        let text = &*self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text).ok()?;
        let (channel, text) = text.split_first_chunk::<8>()?;
        let (credential, text) = text.split_first_chunk::<8>()?;
        let (length, text) = text.split_first_chunk::<2>()?;
        let upstream_id = text.get(..usize::from(u16::from_be_bytes(*length)))?;
        Some(Stored {
            channel: u64::from_be_bytes(*channel),
            credential: u64::from_be_bytes(*credential),
            upstream_id: String::from_utf8(upstream_id.to_vec()).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(id: &str) -> Stored {
        Stored { channel: short_digest("east"), credential: 7, upstream_id: id.to_owned() }
    }

    proptest! {
        /// Goal: what was sealed opens for its account and key alone, and no other bytes open.
        #[test]
        fn opens_what_was_sealed(id in "[a-z0-9_]{1,200}", nonce: [u8; 12], at in 0usize..60, flip in 1u8..64) {
            let (sealer, other) = (Sealer::new(b"one").unwrap(), Sealer::new(b"two").unwrap());
            let sealed = sealer.seal(&stored(&id), "acme", nonce).unwrap();
            prop_assert_eq!(sealer.open(&sealed, "acme"), Some(stored(&id)));
            prop_assert_eq!(sealer.open(&sealed, "rival"), None);
            prop_assert_eq!(other.open(&sealed, "acme"), None);
            prop_assert!(!sealed.contains(&id) || id.len() < 4);
            let mut bytes = sealed.into_bytes();
            let at = PREFIX.len() + at;
            bytes[at] = if bytes[at] == b'A' { b'A' + flip % 25 + 1 } else { b'A' };
            prop_assert_eq!(sealer.open(&String::from_utf8(bytes).unwrap(), "acme"), None);
        }
    }

    /// Goal: ids of usual lengths have one length, and nonsense is no id.
    #[test]
    fn lengths_tell_nothing() {
        let sealer = Sealer::new(b"one").unwrap();
        let length = |id: &str| sealer.seal(&stored(id), "acme", [1; 12]).map(|sealed| sealed.len());
        assert_eq!(length("resp_1"), length(&"r".repeat(46)));
        assert_eq!((length(""), length(&"r".repeat(513))), (None, None));
        for nonsense in ["", "resp-gate-", "resp-gate-1700000000-abc", "resp-gate-!!!!", "resp_1"] {
            assert_eq!(sealer.open(nonsense, "acme"), None, "{nonsense}");
        }
    }
}
