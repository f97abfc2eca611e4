//! Who may ask the admin listener what (spec 13.1).
//!
//! A page in an operator's browser can reach a loopback address under a name of its own (DNS rebinding), so `Host` has to
//! be one that is meant. Off loopback everything but the three open paths needs the token.

use crate::config::{self, Secret};
use arc_swap::ArcSwap;
use http::HeaderMap;
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// What comes before a token.
const BEARER: &[u8] = b"Bearer ";

/// The name in a `Host`, without brackets and port; `None` if there is more to it than that.
fn name_of(host: &str) -> Option<&str> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

/// The rules of one admin listener.
pub struct Guard {
    address: IpAddr,
    rules: ArcSwap<Rules>,
}

/// What a reload may change of them.
struct Rules {
    hosts: Vec<String>,
    token: Option<Secret>,
}

impl Rules {
    fn of(admin: &config::Admin) -> Self {
        Self { hosts: admin.allowed_hosts.clone(), token: admin.token.clone() }
    }
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// `Host` names somebody else.
    ForeignHost,
    /// The token is missing or wrong, or none is configured.
    NoToken,
}

impl Guard {
    /// The rules of a configuration.
    #[must_use]
    pub fn new(admin: &config::Admin) -> Self {
        Self { address: admin.listen.ip(), rules: ArcSwap::from_pointee(Rules::of(admin)) }
    }

    /// Takes the names and the token of another configuration; the address takes a restart.
    pub(crate) fn change(&self, admin: &config::Admin) {
        self.rules.store(Arc::new(Rules::of(admin)));
    }

    /// Whether a request may read what is not open to all.
    pub(super) fn may_read(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.is_meant(host) {
            return Err(Denied::ForeignHost);
        }
        if self.address.is_loopback() || self.has_token(headers) { Ok(()) } else { Err(Denied::NoToken) }
    }

    /// Whether a request may change something: that needs the token everywhere.
    pub(super) fn may_change(&self, headers: &HeaderMap) -> Result<(), Denied> {
        self.may_read(headers)?;
        if self.has_token(headers) { Ok(()) } else { Err(Denied::NoToken) }
    }

    fn is_meant(&self, host: &str) -> bool {
        let Some(name) = name_of(host) else { return false };
        if let Ok(address) = name.parse::<IpAddr>() {
            // A name is what is bound anew, an address is not: whoever listens at all of them is meant by each.
            return address.is_loopback() || address == self.address || self.address.is_unspecified();
        }
        name.eq_ignore_ascii_case("localhost")
            || self.rules.load().hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let presented = headers.get("authorization").map(http::HeaderValue::as_bytes);
        // The scheme may be written in either case (RFC 9110).
        let presented = presented.and_then(|value| value.split_at_checked(BEARER.len()));
        let presented = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER));
        let presented = presented.map(|(_, token)| token).unwrap_or_default();
        self.rules
            .load()
            .token
            .as_ref()
            .is_some_and(|token| token.expose().as_bytes().ct_eq(presented).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(listen: &str, host: &str, token: Option<&str>) -> Result<(), Denied> {
        let admin = config::Admin {
            listen: listen.parse().unwrap(),
            token: Some(Secret::new("the-token".into())),
            allowed_hosts: vec!["ops.example".into()],
        };
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().unwrap());
        if let Some(token) = token {
            headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Guard::new(&admin).may_read(&headers)
    }

    /// Goal: only names that are meant, and off loopback only with the token.
    #[test]
    fn strangers_are_kept_out() {
        for host in ["127.0.0.1:9090", "localhost", "[::1]:9090", "ops.example:9090"] {
            assert_eq!(asked("127.0.0.1:9090", host, None), Ok(()), "{host}");
        }
        let odd = ["[::1]evil.example", "evil.example@127.0.0.1", "127.0.0.1:9090:1", "localhost/"];
        for host in ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1"].into_iter().chain(odd) {
            assert_eq!(asked("127.0.0.1:9090", host, None), Err(Denied::ForeignHost), "{host}");
        }
        assert_eq!(asked("10.0.0.1:9090", "10.0.0.1:9090", None), Err(Denied::NoToken));
        assert_eq!(asked("10.0.0.1:9090", "10.0.0.1:9090", Some("the-tokem")), Err(Denied::NoToken));
        assert_eq!(asked("10.0.0.1:9090", "10.0.0.1:9090", Some("the-token")), Ok(()));
        assert_eq!(asked("0.0.0.0:9090", "10.0.0.1:9090", Some("the-token")), Ok(()));
        assert_eq!(asked("0.0.0.0:9090", "10.0.0.1:9090", None), Err(Denied::NoToken));
        assert_eq!(asked("[::]:9090", "evil.example", Some("the-token")), Err(Denied::ForeignHost));
    }

    /// Goal: the token counts as a whole, whichever way the scheme is written, and an empty one is none.
    #[test]
    fn the_token_is_whole() {
        let admin = config::Admin {
            listen: "127.0.0.1:9090".parse().unwrap(),
            token: Some(Secret::new("the-token".into())),
            allowed_hosts: Vec::new(),
        };
        let may = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "localhost".parse().unwrap());
            headers.insert("authorization", value.parse().unwrap());
            Guard::new(&admin).may_change(&headers).is_ok()
        };
        assert!(may("Bearer the-token") && may("bearer the-token"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer the", "Bearer the-token ", "Basic the-token", "the-token"]
        {
            assert!(!may(wrong), "{wrong:?}");
        }
    }
}
