//! Where a request comes from: the peer's address, or what trusted proxies say of it (spec 5.3).
//!
//! `X-Forwarded-For` is read from its end: each trusted proxy vouches for the address that it added. The first address that
//! is not a trusted proxy is the client; whatever stands before it anybody may have written.

use super::Downstream;
use super::directory::address;
use crate::core::key::Network;
use std::net::IpAddr;

/// The client's address; `None` if the connection has none, or a trusted proxy wrote something else than addresses.
pub(super) fn of(session: &Downstream, trusted: &[Network]) -> Option<u128> {
    let peer = address(session.client_addr()?.as_inet()?.ip());
    let fields = session.req_header().headers.get_all("x-forwarded-for");
    let fields: Vec<&str> = fields.iter().filter_map(|value| value.to_str().ok()).collect();
    resolve(peer, &fields, trusted)
}

fn resolve(peer: u128, fields: &[&str], trusted: &[Network]) -> Option<u128> {
    let is_trusted = |address: u128| trusted.iter().any(|network| network.contains(address));
    let mut claimed = fields.iter().rev().flat_map(|field| field.rsplit(',')).map(str::trim);
    let mut origin = peer;
    while is_trusted(origin) {
        let Some(claim) = claimed.next() else { return Some(origin) };
        origin = address(claim.parse::<IpAddr>().ok()?);
    }
    Some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::directory::network;

    /// Goal: only what trusted proxies added is believed, whatever a client writes before it.
    #[test]
    fn the_last_stranger_is_the_client() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|text| network(&text.parse().unwrap()));
        let at = |text: &str| address(text.parse().unwrap());
        for (peer, fields, client) in [
            ("192.0.2.1", &["198.51.100.7"][..], Some("192.0.2.1")),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["198.51.100.7"], Some("198.51.100.7")),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.2.2.2"], Some("198.51.100.7")),
            ("2001:db8::1", &["1.1.1.1", "198.51.100.7"], Some("198.51.100.7")),
            ("10.0.0.1", &["unknown"], None),
        ] {
            assert_eq!(resolve(at(peer), fields, &trusted), client.map(at), "{peer} {fields:?}");
        }
    }
}
