//! Who may ask the admin listener what (spec 13.1).
//!
//! A page in an operator's browser can reach a loopback address under a name of its own (DNS rebinding), so `Host` has to
//! be one that is meant. Off loopback everything but the three open paths needs the token.

use crate::config::{self, Secret};
use http::HeaderMap;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// The rules of one admin listener.
pub struct Guard {
    address: IpAddr,
    hosts: Vec<String>,
    token: Option<Secret>,
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
        Self { address: admin.listen.ip(), hosts: admin.allowed_hosts.clone(), token: admin.token.clone() }
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
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let address = name.parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback() || address == self.address)
            || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let presented = headers.get("authorization").map(http::HeaderValue::as_bytes);
        let presented = presented.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        self.token.as_ref().is_some_and(|token| token.expose().as_bytes().ct_eq(presented).into())
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
        for host in ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1"] {
            assert_eq!(asked("127.0.0.1:9090", host, None), Err(Denied::ForeignHost), "{host}");
        }
        assert_eq!(asked("10.0.0.1:9090", "10.0.0.1:9090", None), Err(Denied::NoToken));
        assert_eq!(asked("10.0.0.1:9090", "10.0.0.1:9090", Some("the-tokem")), Err(Denied::NoToken));
        assert_eq!(asked("10.0.0.1:9090", "10.0.0.1:9090", Some("the-token")), Ok(()));
    }
}
