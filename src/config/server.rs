//! The sections `server`, `admin`, `store`, `errors` and `sandbox`.

use super::reader::{Item, Object};
use super::types::{Admin, Errors, Sandbox, Server, Store};
use super::{secret, tls};
use crate::core::overload::Thresholds;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Entries of `errors.stream_overflow_clients`.
const CLIENTS_MAX: usize = 32;
/// The longest of them, in bytes.
const CLIENT_MAX: usize = 128;

pub(super) fn server(item: Option<Item<'_>>) -> Server {
    let section = item.and_then(|item| item.object());
    let get = |name| section.as_ref().and_then(|section: &Object<'_>| section.get(name));
    let time =
        |name, default| get(name).and_then(|item| item.time_limit()).unwrap_or(Duration::from_secs(default));
    let size = |name, default| get(name).and_then(|item| item.size()).unwrap_or(default);
    let server = Server {
        listen: get("listen").map_or_else(|| vec![loopback(8080)], |item| addresses(&item)),
        listen_h2c: get("listen_h2c").map(|item| addresses(&item)).unwrap_or_default(),
        tls: get("tls").and_then(|item| tls::listener(&item)),
        seal_key: get("seal_key").and_then(|item| secret::read(&item)),
        health_path: get("health_path").and_then(|item| path(&item)),
        threads: get("threads")
            .and_then(|item| item.number(1..=1024))
            .unwrap_or_else(|| available_parallelism().map_or(1, Into::into)),
        body_max: size("body_max", 32 << 20),
        body_total_max: get("body_total_max").and_then(|item| item.size()),
        inflation_max: get("inflation_max").and_then(|item| item.number(1..=1_000_000)).unwrap_or(200),
        body_timeout: time("body_timeout", 60),
        header_max: size("header_max", 64 << 10),
        header_timeout: time("header_timeout", 30),
        hold_max: size("hold_max", 1 << 20),
        replay_max: size("replay_max", 256 << 20),
        max_connections: get("max_connections")
            .and_then(|item| item.number(1..=10_000_000))
            .unwrap_or(20_000),
        keepalive: time("keepalive", 75),
        connection_age: time("connection_age", 3600),
        connections_per_address: get("connections_per_address").and_then(|item| item.number(1..=10_000_000)),
        overload: get("overload").map(|item| overload(&item)).unwrap_or_default(),
        write_timeout: time("write_timeout", 30),
        trusted_proxies: get("trusted_proxies").map(|item| networks(&item)).unwrap_or_default(),
        drain: get("drain").and_then(|item| item.duration()).unwrap_or(Duration::from_secs(5)),
        grace: get("grace").and_then(|item| item.duration()).unwrap_or(Duration::from_secs(60)),
    };
    if let Some(section) = section {
        section.finish();
    }
    server
}

/// Thresholds of load shedding, each of which can be given alone.
fn overload(item: &Item<'_>) -> Thresholds {
    let mut thresholds = Thresholds::default();
    let Some(section) = item.object() else { return thresholds };
    let steps = [
        ("close_idle", &mut thresholds.close_idle),
        ("refuse_connections", &mut thresholds.refuse_connections),
        ("refuse_requests", &mut thresholds.refuse_requests),
    ];
    for (name, threshold) in steps {
        let Some(step) = section.get(name).and_then(|item| item.object()) else { continue };
        let percent = |name, default| step.get(name).and_then(|item| item.number(1..=100)).unwrap_or(default);
        threshold.memory = percent("memory", threshold.memory);
        threshold.descriptors = percent("descriptors", threshold.descriptors);
        threshold.delay = step.get("delay").and_then(|item| item.time_limit()).unwrap_or(threshold.delay);
        step.finish();
    }
    section.finish();
    thresholds
}

pub(super) fn admin(item: Option<Item<'_>>) -> Admin {
    let section = item.and_then(|item| item.object());
    let get = |name| section.as_ref().and_then(|section: &Object<'_>| section.get(name));
    let listen = get("listen").and_then(|item| address(&item));
    let token = get("token").and_then(|item| secret::read(&item));
    let hosts = get("allowed_hosts").map(|item| item.list()).unwrap_or_default();
    let allowed_hosts = hosts.iter().filter_map(|item| item.text().map(str::to_owned)).collect();
    if let Some(section) = section {
        section.finish();
    }
    Admin { listen: listen.unwrap_or(loopback(9090)), token, allowed_hosts }
}

/// The embedded store; a relative path starts from the configuration's folder.
pub(super) fn store(item: Option<Item<'_>>, folder: &Path) -> Store {
    let section = item.and_then(|item| item.object());
    let path = section.as_ref().and_then(|section| section.get("path")).and_then(|item| item.text());
    let path = folder.join(path.unwrap_or("data"));
    if let Some(section) = section {
        section.finish();
    }
    Store { path }
}

/// Addresses and networks, as `10.0.0.0/8` or `192.0.2.7`.
pub(super) fn networks(item: &Item<'_>) -> Vec<IpNet> {
    let network = |item: &Item<'_>| {
        let text = item.text()?;
        let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if parsed.is_none() {
            item.refuse_with("is no address or network", "such as 192.0.2.7 or 10.0.0.0/8");
        }
        parsed
    };
    item.list().iter().filter_map(network).collect()
}

pub(super) fn errors(item: Option<Item<'_>>) -> Errors {
    let section = item.and_then(|item| item.object());
    let status = section
        .as_ref()
        .and_then(|section| section.get("unknown_model"))
        .and_then(|item| item.one_of_numbers(&[503, 404]));
    let clients = section.as_ref().and_then(|section| section.get("stream_overflow_clients"));
    let clients = clients.map(|item| clients_of(&item)).unwrap_or_else(|| vec!["codex".to_owned()]);
    if let Some(section) = section {
        section.finish();
    }
    Errors { unknown_model: status.unwrap_or(503), stream_overflow_clients: clients }
}

/// Beginnings of `User-Agent`, none of which fits every client.
fn clients_of(item: &Item<'_>) -> Vec<String> {
    let list = item.list();
    if list.len() > CLIENTS_MAX {
        item.refuse(format!("has more than {CLIENTS_MAX} entries"));
    }
    let client = |item: &Item<'_>| {
        let text = item.text()?;
        if !(1..=CLIENT_MAX).contains(&text.len()) {
            item.refuse(format!("must be the beginning of a User-Agent, of 1 to {CLIENT_MAX} bytes"));
        }
        Some(text.to_owned())
    };
    list.iter().filter_map(client).collect()
}

pub(super) fn sandbox(item: &Item<'_>) -> Option<Sandbox> {
    let section = item.object()?;
    let listen = section.get("listen").map_or(Some(loopback(9101)), |item| address(&item));
    section.finish();
    Some(Sandbox { listen: listen? })
}

fn addresses(item: &Item<'_>) -> Vec<SocketAddr> {
    item.filled_list().iter().filter_map(address).collect()
}

fn address(item: &Item<'_>) -> Option<SocketAddr> {
    let parsed = item.text()?.parse().ok();
    if parsed.is_none() {
        item.refuse_with("is no address with a port", "such as 127.0.0.1:8080 or [::]:8080");
    }
    parsed
}

fn path(item: &Item<'_>) -> Option<String> {
    let path = item.text()?;
    if path.len() < 2 || !path.starts_with('/') || path.contains(['?', '#', ' ']) || path.starts_with("/v1") {
        item.refuse_with("must be a path outside the API", "such as /healthz");
        return None;
    }
    Some(path.to_owned())
}
