//! The credential that a client presents (spec 5.1).
//!
//! `Authorization: Bearer` everywhere, `x-api-key` for Anthropic's clients. What could be read in two ways is refused:
//! two fields of one name, or two credentials that differ. Keys in a URL are not looked at.

use crate::core::refusal::Refusal;
use http::HeaderMap;

/// The longest key that is hashed, in bytes; a longer one is no key of ours, and hashing it would be free work for an
/// attacker.
pub const KEY_MAX: usize = 512;

/// The text of the client's key, or `None` if there is none.
///
/// # Errors
///
/// [`Refusal::InvalidKey`] for a credential that cannot be one key.
pub fn presented(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let bearer = only(headers, "authorization")?.map(bearer).transpose()?;
    let api_key = only(headers, "x-api-key")?;
    match (bearer, api_key) {
        (Some(a), Some(b)) if a != b => Err(Refusal::InvalidKey),
        (Some(key), _) | (None, Some(key)) if key.is_empty() || key.len() > KEY_MAX => {
            Err(Refusal::InvalidKey)
        }
        (bearer, api_key) => Ok(bearer.or(api_key)),
    }
}

/// The value of a field that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Refusal::InvalidKey),
        (Some(_), Some(_)) => Err(Refusal::InvalidKey),
    }
}

/// The key behind the scheme, whose name is case-insensitive (RFC 9110, 11.1).
fn bearer(value: &str) -> Result<&str, Refusal> {
    let (scheme, key) = value.trim().split_once(' ').ok_or(Refusal::InvalidKey)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim()) } else { Err(Refusal::InvalidKey) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    /// Goal: both fields work, alone or agreeing; whatever is ambiguous is refused.
    #[test]
    fn reads_one_key() {
        for fields in [
            &[("authorization", "Bearer k")][..],
            &[("authorization", "bEARER  k ")],
            &[("x-api-key", "k")],
            &[("x-api-key", "k"), ("authorization", "Bearer k")],
        ] {
            assert_eq!(presented(&headers(fields)), Ok(Some("k")), "{fields:?}");
        }
        assert_eq!(presented(&headers(&[])), Ok(None));
        let long = format!("Bearer {}", "k".repeat(KEY_MAX + 1));
        for fields in [
            &[("authorization", "Basic k")][..],
            &[("authorization", "k")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer k"), ("authorization", "Bearer k")],
            &[("authorization", "Bearer k"), ("x-api-key", "l")],
            &[("x-api-key", "")],
            &[("x-api-key", "é")],
            &[("authorization", long.as_str())],
        ] {
            assert_eq!(presented(&headers(fields)), Err(Refusal::InvalidKey), "{fields:?}");
        }
    }
}
