//! The credential that a client presents (spec 5.1).
//!
//! `Authorization: Bearer` everywhere, `x-api-key` for Anthropic's clients. Two fields of one name are refused; of two
//! credentials that differ, the caller of this module decides. Keys in a URL are not looked at.

use crate::core::refusal::Refusal;
use http::{HeaderMap, HeaderValue};

/// The longest key that is hashed, in bytes; a longer one is no key of ours, and hashing it would be free work for an
/// attacker.
pub const KEY_MAX: usize = 512;

/// The credentials of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// None.
    Nothing,
    /// One, or the same in both headers.
    One(&'a str),
    /// Those of `Authorization` and `x-api-key`, which differ; `None` for one that cannot be a key.
    Two(Option<&'a str>, Option<&'a str>),
}

/// The credentials that a client presents.
///
/// # Errors
///
/// [`Refusal::InvalidKey`] for a credential that cannot be one key.
pub fn presented(headers: &HeaderMap) -> Result<Presented<'_>, Refusal> {
    let possible = |key: &&str| (1..=KEY_MAX).contains(&key.len());
    match (only(headers, "authorization")?, only(headers, "x-api-key")?) {
        (None, None) => Ok(Presented::Nothing),
        (Some(value), None) => {
            bearer(value).ok().filter(possible).map(Presented::One).ok_or(Refusal::InvalidKey)
        }
        (None, Some(key)) => Some(key).filter(possible).map(Presented::One).ok_or(Refusal::InvalidKey),
        (Some(value), Some(key)) => match (bearer(value).ok().filter(possible), Some(key).filter(possible)) {
            (None, None) => Err(Refusal::InvalidKey),
            (Some(one), Some(other)) if one == other => Ok(Presented::One(one)),
            (one, other) => Ok(Presented::Two(one, other)),
        },
    }
}

/// The credentials of a request as they came, kept without a copy, so that they can be found in what others write.
#[derive(Debug, Clone, Default)]
pub struct Shown([Option<HeaderValue>; 2]);

impl Shown {
    /// Those in the header fields of a request; of fields that are there more than once, the first.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self(["authorization", "x-api-key"].map(|name| headers.get(name).cloned()))
    }

    /// The credentials without the schemes before them.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flatten().filter_map(bare)
    }
}

/// The credentials in the header fields of a request, without the schemes before them, whether they are keys or not.
pub fn values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    ["authorization", "x-api-key"].into_iter().filter_map(|name| bare(headers.get(name)?))
}

fn bare(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()?.split_whitespace().next_back()
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

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    /// Goal: both fields work, alone or agreeing; two that differ are told apart, and what cannot be one key is refused.
    #[test]
    fn reads_one_key() {
        for fields in [
            &[("authorization", "Bearer k")][..],
            &[("authorization", "bEARER  k ")],
            &[("x-api-key", "k")],
            &[("x-api-key", "k"), ("authorization", "Bearer k")],
        ] {
            assert_eq!(presented(&headers(fields)), Ok(Presented::One("k")), "{fields:?}");
        }
        assert_eq!(presented(&headers(&[])), Ok(Presented::Nothing));
        for (authorization, two) in [
            ("Bearer k", Presented::Two(Some("k"), Some("l"))),
            ("Basic k", Presented::Two(None, Some("l"))),
            ("Bearer ", Presented::Two(None, Some("l"))),
        ] {
            let fields = [("authorization", authorization), ("x-api-key", "l")];
            assert_eq!(presented(&headers(&fields)), Ok(two), "{authorization}");
        }
        let long = format!("Bearer {}", "k".repeat(KEY_MAX + 1));
        for fields in [
            &[("authorization", "Basic k")][..],
            &[("authorization", "k")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer k"), ("authorization", "Bearer k")],
            &[("authorization", "Basic k"), ("x-api-key", "")],
            &[("x-api-key", "")],
            &[("x-api-key", "é")],
            &[("authorization", long.as_str())],
        ] {
            assert_eq!(presented(&headers(fields)), Err(Refusal::InvalidKey), "{fields:?}");
        }
    }
}
