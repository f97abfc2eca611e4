//! Channels as the relay uses them: where they are, what they are sent, and which credential is next.
//!
//! Names are resolved in the background and never in a request, except for the very first answer: the last good
//! addresses are kept when a resolver fails, and used in turn.

use super::limit_pool::LimitPool;
use crate::config::{self, Authorities};
use crate::core::channel::ChannelHealth;
use crate::core::hot::Seat;
use crate::core::lacking::Expiring;
use crate::core::limits::{Limits, Scope};
use crate::core::unit::Unit;
use crate::wire::additions::{Addition, Additions};
use crate::wire::endpoint::Call;
use crate::wire::seal::short_digest;
use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a pooled connection may be idle; below the keep-alive time of the usual providers.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(50);
/// Requests that share a connection of HTTP/2.
const H2_STREAMS: usize = 100;
/// How long an addition that was refused is left out.
const NOT_TAKEN_TIME: Duration = Duration::from_secs(3_600);
/// How often a connection of HTTP/2 is asked whether it is alive.
const H2_PING: Duration = Duration::from_secs(20);

/// One way to reach a provider, ready to use.
pub(crate) struct Channel {
    /// As configured.
    pub(crate) settings: config::Channel,
    /// Its health and load.
    pub(crate) health: Arc<ChannelHealth>,
    /// Its name.
    pub(crate) id: Arc<str>,
    /// The value of `Host`.
    pub(crate) host: HeaderValue,
    credentials: Vec<(HeaderName, HeaderValue)>,
    next_credential: AtomicUsize,
    peers: ArcSwap<Vec<Arc<HttpPeer>>>,
    next_peer: AtomicUsize,
    authorities: Option<Arc<[WrappedX509]>>,
    /// Its name in sealed ids, and the names of its credentials.
    pub(crate) sealed_name: u64,
    sealed_credentials: Vec<u64>,
    /// Additions that it was found not to take, by [`Addition::index`].
    not_taken: Expiring<{ Addition::ALL.len() }>,
    /// A number that channels with other authorities do not have.
    group: u64,
}

impl Channel {
    /// A channel of a new generation: the one that was there `before`, if nothing of it has changed, else one that keeps
    /// the state of what stayed the same (spec 12.3).
    pub(crate) fn succeeding(
        settings: &config::Channel,
        seat: Seat,
        pool: &LimitPool,
        before: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        match before.filter(|before| before.settings == *settings) {
            Some(before) => Arc::clone(before),
            None => Arc::new(Self::new(settings.clone(), seat, pool, before.map(|before| &**before))),
        }
    }

    /// A channel whose name has not been resolved yet, unless it is an address; its hot state is at this seat.
    fn new(settings: config::Channel, seat: Seat, pool: &LimitPool, before: Option<&Self>) -> Self {
        let limits = pool.of(Scope::Channel, &settings.id, settings.limits);
        let place = |of: &config::Channel| (of.provider, of.base_url.clone(), of.api_version.clone());
        let health = match before.filter(|before| place(&before.settings) == place(&settings)) {
            None => ChannelHealth::new(seat, settings.models.len(), settings.credentials.len(), limits),
            Some(before) => inherited(before, &settings, seat, limits),
        };
        // An operator's word on a name holds for whatever the name stands for.
        let health = match before {
            Some(before) => health.switched_with(&before.health),
            None => health,
        };
        let channel = Self {
            health: Arc::new(health),
            id: settings.id.as_str().into(),
            host: host_value(&settings.base_url),
            credentials: settings
                .credentials
                .iter()
                .filter_map(|secret| settings.provider.credential(secret.expose()))
                .collect(),
            next_credential: AtomicUsize::new(0),
            peers: ArcSwap::default(),
            next_peer: AtomicUsize::new(0),
            sealed_name: short_digest(&settings.id),
            sealed_credentials: settings
                .credentials
                .iter()
                .map(|secret| short_digest(secret.expose()))
                .collect(),
            not_taken: Expiring::default(),
            authorities: settings.ca.as_ref().map(authorities),
            group: settings.ca.as_ref().map_or(0, group),
            settings,
        };
        if let Ok(address) = channel.settings.base_url.host.parse::<IpAddr>() {
            channel.use_addresses(&[SocketAddr::new(address, channel.settings.base_url.port)]);
        }
        channel
    }

    /// The next address to try; `None` while there is none.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub(crate) async fn peer(&self) -> Option<Arc<HttpPeer>> {
        if self.peers.load().is_empty() {
            self.resolve().await;
        }
        let peers = self.peers.load();
        let turn = self.next_peer.fetch_add(1, Ordering::Relaxed) % peers.len().max(1);
        peers.get(turn).cloned()
    }

    /// A number that counts requests, by which credentials take turns.
    pub(crate) fn next_turn(&self) -> usize {
        self.next_credential.fetch_add(1, Ordering::Relaxed)
    }

    /// A credential, as a header field.
    pub(crate) fn credential(&self, index: Option<usize>) -> Option<&(HeaderName, HeaderValue)> {
        self.credentials.get(index?)
    }

    /// The name of a credential in sealed ids; 0 for none.
    pub(crate) fn sealed_credential(&self, index: Option<usize>) -> u64 {
        index.and_then(|index| self.sealed_credentials.get(index)).copied().unwrap_or(0)
    }

    /// The credential of a name in sealed ids.
    pub(crate) fn credential_of(&self, sealed: u64) -> Option<usize> {
        self.sealed_credentials.iter().position(|name| *name == sealed)
    }

    /// What the gateway does not add for now, since the channel refused it.
    pub(crate) fn not_taken(&self, now: u64) -> Additions {
        Addition::ALL.into_iter().filter(|addition| self.not_taken.is_set(addition.index(), now)).collect()
    }

    /// Remembers for an hour that it took a request without these, after it had refused them.
    pub(crate) fn takes_without(&self, left_out: Additions, now: u64) {
        // Reasoning that it could not read says nothing about the next request.
        let of_channel = left_out.iter().filter(|addition| *addition != Addition::SealedReasoning);
        of_channel.for_each(|addition| self.not_taken.set(addition.index(), now, NOT_TAKEN_TIME));
    }

    /// Path and query of a call at this channel.
    pub(crate) fn target(&self, call: Call, upstream_model: &str) -> String {
        let config::Channel { provider, base_url, api_version, .. } = &self.settings;
        provider.target(&base_url.path, api_version.as_deref(), call, upstream_model)
    }

    /// Looks the host up and keeps what was found; what was known before stays when nothing is.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; then nothing changes.
    pub(crate) async fn resolve(&self) {
        let url = &self.settings.base_url;
        if url.host.parse::<IpAddr>().is_ok() {
            return;
        }
        match tokio::net::lookup_host((url.host.as_str(), url.port)).await {
            Ok(found) => {
                let mut addresses: Vec<SocketAddr> = found.collect();
                addresses.sort_unstable();
                addresses.dedup();
                if !addresses.is_empty() {
                    self.use_addresses(&addresses);
                }
            }
            Err(e) => log::warn!("channel {}: its host could not be resolved: {e}", self.id),
        }
    }

    fn use_addresses(&self, addresses: &[SocketAddr]) {
        let known = self.peers.load();
        if known.iter().map(|peer| peer._address.as_inet().copied()).eq(addresses.iter().map(|a| Some(*a))) {
            return;
        }
        self.peers
            .store(Arc::new(addresses.iter().map(|address| Arc::new(self.peer_at(*address))).collect()));
    }

    fn peer_at(&self, address: SocketAddr) -> HttpPeer {
        let url = &self.settings.base_url;
        let sni = self.settings.sni.clone().unwrap_or_else(|| url.host.clone());
        let mut peer = HttpPeer::new(address, url.tls, sni);
        peer.options.connection_timeout = Some(self.settings.timeouts.connect);
        peer.options.total_connection_timeout = Some(self.settings.timeouts.connect);
        peer.options.idle_timeout = Some(IDLE_MAX);
        if self.settings.http2 {
            // Without TLS there is nothing to negotiate by.
            peer.options.set_http_version(2, if url.tls { 1 } else { 2 });
            peer.options.max_h2_streams = H2_STREAMS;
            peer.options.h2_ping_interval = Some(H2_PING);
        }
        if let Some(authorities) = &self.authorities {
            peer.options.ca = Some(Arc::clone(authorities));
            // The pool tells peers apart by this, and not by their authorities.
            peer.group_key = self.group;
        }
        peer.options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            #[cfg(target_os = "linux")]
            user_timeout: Duration::ZERO,
        });
        peer
    }
}

/// The health of a channel at the same place as `before`: its models and credentials keep their state, by what they are and
/// not by where they stand in a list (spec 9.7).
fn inherited(before: &Channel, settings: &config::Channel, seat: Seat, limits: Arc<Limits>) -> ChannelHealth {
    let known = |list: &[Arc<Unit>], position: Option<usize>| {
        position.and_then(|position| list.get(position)).cloned().unwrap_or_default()
    };
    let models = settings.models.iter().map(|served| {
        known(&before.health.models, before.settings.models.iter().position(|known| known == served))
    });
    let credentials = settings.credentials.iter().map(|secret| {
        let position = before.settings.credentials.iter().position(|known| known == secret);
        known(&before.health.credentials, position)
    });
    let units = (models.collect(), credentials.collect());
    ChannelHealth::of(seat, Arc::clone(&before.health.unit), units, limits)
}

/// The authorities in the form of the connector; the configuration has checked that they can be read.
fn authorities(ca: &Authorities) -> Arc<[WrappedX509]> {
    ca.0.iter().map(|der| WrappedX509::new(der.clone(), parse_x509)).collect()
}

fn group(ca: &Authorities) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    ca.0.hash(&mut hasher);
    hasher.finish()
}

/// `Host` with the port where it is not the scheme's own (RFC 9110, 7.2).
fn host_value(url: &config::BaseUrl) -> HeaderValue {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let text = match (url.tls, url.port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    };
    // The configuration accepts host names only; an empty value would be refused by the upstream.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}
