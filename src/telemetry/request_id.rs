//! The name of a request, for client and operator (spec 2.7).

/// The longest id of a client that is taken over, in bytes.
pub const CLIENT_ID_MAX: usize = 64;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The client's own id if it fits `[A-Za-z0-9._-]{1,64}`, else a fresh one.
#[must_use]
pub fn choose(from_client: Option<&str>) -> String {
    from_client.filter(|id| is_acceptable(id)).map_or_else(|| format!("req-{}", random(22)), str::to_owned)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an acceptable id is kept, anything else is replaced by an acceptable one.
    #[test]
    fn ids_are_always_acceptable() {
        assert_eq!(choose(Some("My.id_1-2")), "My.id_1-2");
        let long = "a".repeat(65);
        for bad in [None, Some(""), Some("a b"), Some("é"), Some("a\nb"), Some(long.as_str())] {
            let minted = choose(bad);
            assert!(is_acceptable(&minted) && Some(minted.as_str()) != bad);
        }
        assert_ne!(choose(None), choose(None));
    }
}
