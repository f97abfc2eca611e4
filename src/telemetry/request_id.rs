//! The name of a request, for client and operator (spec 2.7).

/// The longest id of a client that is taken over, in bytes.
pub const CLIENT_ID_MAX: usize = 64;
/// The random characters of a key of the gateway with its checksum.
const KEY_RANDOM: usize = 38;
/// As much of a credential as is compared, in bytes.
const KEY_MAX: usize = 512;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A piece of a credential as long as this is one, in bytes.
const PIECE: usize = 12;
/// Beginnings of keys, and how much has to follow.
const KEYS: [(&str, usize); 2] = [("tg_", 8), ("sk-", 16)];

/// The client's own id if it fits `[A-Za-z0-9._-]{1,64}` and is no credential, else a fresh one; ids are in logs.
#[must_use]
pub fn choose<'a>(from_client: Option<&str>, credentials: impl Iterator<Item = &'a str>) -> String {
    let own = from_client.filter(|id| is_acceptable(id) && !is_key(id));
    own.filter(|id| !holds_any(id, credentials)).map_or_else(|| format!("req-{}", random(22)), str::to_owned)
}

/// `length` random characters that are safe in ids, at five bits each.
#[must_use]
pub fn random(length: usize) -> String {
    (0..length).map(|_| char::from(*fastrand::choice(ALPHABET).unwrap_or(&b'0'))).collect()
}

fn is_acceptable(id: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    !id.is_empty() && id.len() <= CLIENT_ID_MAX && id.bytes().all(allowed)
}

/// Reports an id with a key of the gateway or of a provider in it: `task-…` and `stg_…` are none.
fn is_key(id: &str) -> bool {
    let bytes = id.as_bytes();
    let is_at = |at: usize, begin: &str, rest: usize| {
        let after = bytes.get(at + begin.len()..).unwrap_or_default();
        let begins =
            at.checked_sub(1).and_then(|before| bytes.get(before)).is_none_or(|c| !c.is_ascii_alphanumeric());
        let run = after.iter().take_while(|c| **c != b'.').count();
        let random = after.iter().take_while(|c| c.is_ascii_alphanumeric()).count();
        begins && run >= rest || begin == "tg_" && random >= KEY_RANDOM
    };
    let starts = |at: usize, begin: &str| {
        bytes.get(at..at + begin.len()).is_some_and(|head| head.eq_ignore_ascii_case(begin.as_bytes()))
    };
    (0..bytes.len()).any(|at| KEYS.iter().any(|(begin, rest)| starts(at, begin) && is_at(at, begin, *rest)))
}

/// Reports an id with a piece of one of the credentials in it, in either case.
fn holds_any<'a>(id: &str, mut credentials: impl Iterator<Item = &'a str>) -> bool {
    credentials.any(|credential| {
        let length = PIECE.min(credential.len()).max(1);
        let credential = credential.as_bytes();
        let mut pieces = credential.get(..credential.len().min(KEY_MAX)).unwrap_or_default().windows(length);
        pieces.any(|piece| id.as_bytes().windows(length).any(|window| window.eq_ignore_ascii_case(piece)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an acceptable id is kept, anything else is replaced by an acceptable one.
    #[test]
    fn ids_are_always_acceptable() {
        let choose = |id| choose(id, ["key-of-a-client-1"].into_iter());
        assert_eq!(choose(Some("My.id_1-2")), "My.id_1-2");
        for own in ["sk-short.id", "task-0123456789abcdef0123", "stg_0123456789abcdef", "msg_0123456789"] {
            assert_eq!(choose(Some(own)), own);
        }
        let key = format!("x{}{}", "tg_", "a1".repeat(19));
        for key in [key.as_str(), "req-sk-0123456789abcdef"] {
            assert_ne!(choose(Some(key)), key);
        }
        let long = "a".repeat(65);
        for bad in [
            None,
            Some(""),
            Some("a b"),
            Some("é"),
            Some("a\nb"),
            Some(long.as_str()),
            Some("req-KEY-of-a-client-1"),
            Some("f-a-client-1"),
            Some("tg_0123456789"),
        ] {
            let minted = choose(bad);
            assert!(is_acceptable(&minted) && Some(minted.as_str()) != bad);
        }
        assert_ne!(choose(None), choose(None));
    }
}
