//! Keys for clients: minting, checksum, digest (spec 5.2).
//!
//! A key is `tg_`, 32 random base-62 characters (190 bits), and 6 more that check them, so that a key that was not copied
//! in full is told before anyone searches elsewhere. Only its digest is ever stored.

use sha2::{Digest, Sha256};

const PREFIX: &str = "tg_";
const RANDOM_LENGTH: usize = 32;
const CHECK_LENGTH: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh key.
///
/// # Errors
///
/// The system has no randomness.
pub fn mint() -> Result<String, getrandom::Error> {
    let mut key = String::from(PREFIX);
    let mut bytes = [0u8; 64];
    while key.len() < PREFIX.len() + RANDOM_LENGTH {
        getrandom::fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte: what lies above it would favour some characters.
        let fair = bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| digit(usize::from(*byte)));
        key.extend(fair.take(PREFIX.len() + RANDOM_LENGTH - key.len()));
    }
    let check = checksum(&key);
    Ok(key + &check)
}

/// Whether a text is a whole key of this form.
#[must_use]
pub fn checksum_ok(key: &str) -> bool {
    let whole = key.len() == PREFIX.len() + RANDOM_LENGTH + CHECK_LENGTH && key.starts_with(PREFIX);
    whole
        && key.split_at_checked(key.len() - CHECK_LENGTH).is_some_and(|(body, check)| checksum(body) == check)
}

/// What is stored of a key.
#[must_use]
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// A digest as the configuration spells it: `sha256:<hex>`.
#[must_use]
pub fn digest_text(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
}

/// The digest that [`digest_text`] spelled.
#[must_use]
pub fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.is_ascii())?;
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(digest)
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    digest.iter().take(CHECK_LENGTH).filter_map(|byte| digit(usize::from(*byte))).collect()
}

fn digit(value: usize) -> Option<char> {
    ALPHABET.get(value % ALPHABET.len()).map(|digit| char::from(*digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: minted keys check, differ, and no single changed character goes unnoticed often.
    #[test]
    fn keys_check() {
        let key = mint().unwrap();
        assert_eq!(key.len(), 41);
        assert!(checksum_ok(&key) && mint().unwrap() != key);
        assert!(!checksum_ok(&key[..40]) && !checksum_ok(&format!("{key}a")) && !checksum_ok("tg_"));
        let wrong = key.replace(&key[10..11], if &key[10..11] == "a" { "b" } else { "a" });
        assert!(!checksum_ok(&wrong));
    }

    /// Goal: a digest is spelled and read back.
    #[test]
    fn digests_are_spelled() {
        let digest = digest("abc");
        let text = digest_text(&digest);
        assert_eq!(text, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(parse_digest(&text), Some(digest));
        for bad in ["", "sha256:", "ba7816", &text[..70], &text.replace('b', "x")] {
            assert_eq!(parse_digest(bad), None);
        }
    }
}
