//! Connections before there is a request: how many there may be, and how long each phase may take (spec 15.1, 15.2). The
//! listeners ask, and count what they refuse here.

use super::{Gateway, directory};
use crate::config::Server;
use crate::core::overload::{Level, Load, next_level};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Connections beyond those that are idle or have a request in flight, which are answered that there are too many.
pub(crate) const CONNECTIONS_SPARE: usize = 256;

/// Hears of the header of a request on the connection that it watches.
pub(crate) trait HeaderObserver: Send + Sync {
    /// A header is complete, and its request is the gateway's from now on.
    fn header_arrived(&self);
}

/// An observer as the framework carries it to the request.
pub(crate) struct HeaderArrived(pub(crate) Arc<dyn HeaderObserver>);

/// Bounds of client connections, of the generation in force.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionBounds {
    /// From accept, or from the first byte of a later header, to its end.
    pub(crate) header: Duration,
    /// Without a request.
    pub(crate) keepalive: Duration,
    /// In all.
    pub(crate) age: Duration,
    /// Connections at the same time: as many may be idle as requests may be in flight (spec 15.1), and some more have a 502
    /// coming (2.10).
    pub(crate) max: usize,
    /// Connections of one address at the same time; `None` for no bound of its own.
    pub(crate) per_address: Option<usize>,
}

impl ConnectionBounds {
    fn new(server: &Server) -> Self {
        Self {
            header: server.header_timeout,
            keepalive: server.keepalive,
            age: server.connection_age,
            max: server.max_connections.saturating_mul(2).saturating_add(CONNECTIONS_SPARE),
            per_address: server.connections_per_address,
        }
    }
}

/// The level of load shedding in force.
#[derive(Debug, Default)]
pub(super) struct Shedding(AtomicU8);

impl Shedding {
    /// Whether the consequence of this level is in force.
    pub(super) fn reaches(&self, level: Level) -> bool {
        self.0.load(Ordering::Relaxed) >= level as u8
    }

    fn level(&self) -> Level {
        let mut steps = Level::STEPS.into_iter().rev();
        steps.find(|level| self.reaches(*level)).unwrap_or_default()
    }
}

impl Gateway {
    /// Takes the load of the process into account; returns the level of load shedding that follows.
    pub(crate) fn note_load(&self, load: &Load) -> Level {
        let before = self.shared.shedding.level();
        let level = next_level(before, load, &self.shared.generation.load().server.overload);
        self.shared.shedding.0.store(level as u8, Ordering::Relaxed);
        self.shared.metrics.client_connections().note_load(level, load);
        if level != before {
            log::warn!(
                "load shedding: {} -> {} (memory {} %, descriptors {} %, runtime delay {} ms)",
                before.as_str(),
                level.as_str(),
                load.memory,
                load.descriptors,
                load.delay.as_millis()
            );
        }
        level
    }

    /// Whether new connections are refused to shed load.
    pub(crate) fn sheds_connections(&self) -> bool {
        self.shared.shedding.reaches(Level::RefuseConnections)
    }

    /// The bounds of client connections in force now.
    pub(crate) fn connection_bounds(&self) -> ConnectionBounds {
        ConnectionBounds::new(&self.shared.generation.load().server)
    }

    /// Whether connections from this address are a load balancer's, which has as many as it has clients.
    pub(crate) fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        let address = directory::address(address);
        self.shared.generation.load().trusted_proxies.iter().any(|network| network.contains(address))
    }

    /// Counts a connection that ended before its first request, by reason.
    pub(crate) fn note_refused_connection(&self, reason: &'static str) {
        self.shared.metrics.client_connections().refused(reason);
    }

    /// Counts a connection that the gateway closed after its last request, by reason.
    pub(crate) fn note_closed_connection(&self, reason: &'static str) {
        self.shared.metrics.client_connections().closed(reason);
    }
}
