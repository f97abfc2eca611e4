//! A configuration as meant: checked, defaults applied, secrets read.

pub use super::secret::Secret;
use super::tls::{Authorities, Tls};
pub use super::video::Polling;
use crate::core::api::{Api, ModelKind};
use crate::core::estimate::{Family, ImageRule};
use crate::core::health::Times;
use crate::core::images::ImageRules;
use crate::core::limits::Limited;
use crate::core::money::Money;
use crate::core::overload::Thresholds;
use crate::core::parameters::{Treatment, Unsupported};
use crate::core::price::Price;
use crate::wire::cors::Policy;
use crate::wire::custom::CustomRow;
pub use crate::wire::dialect::Provider;
use ipnet::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The public listener.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// How errors are told.
    pub errors: Errors,
    /// Which pages of other origins may call from a browser.
    pub cors: Option<Policy>,
    /// Models, in the order of the file.
    pub models: Vec<Model>,
    /// Channels, in the order of the file.
    pub channels: Vec<Channel>,
    /// Accounts, in the order of the file.
    pub accounts: Vec<Account>,
    /// Keys, in the order of the file, those of a keys file behind them. Shared, since there may be a million of them.
    pub keys: Arc<Vec<Key>>,
    /// Rules for upstream failures that are tried before the built-in ones (spec 3.4).
    pub classify: Vec<CustomRow>,
    /// Bounds of failover over all traffic.
    pub retry: Retry,
    /// Limits over all traffic.
    pub limits: Limited,
    /// The embedded store.
    pub store: Store,
    /// The scripted upstream inside this process, for the quick start.
    pub sandbox: Option<Sandbox>,
}

/// The public listener and its bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// Where clients connect with HTTP/2 without TLS.
    pub listen_h2c: Vec<SocketAddr>,
    /// What is shown at `listen`, where it is HTTPS.
    pub tls: Option<Tls>,
    /// A path that answers 200 for load balancers.
    pub health_path: Option<String>,
    /// Threads that serve clients.
    pub threads: usize,
    /// What the key of sealed ids is made of; without it they open as long as the process lives.
    pub seal_key: Option<Secret>,
    /// The largest request body, in bytes, also after decompression.
    pub body_max: usize,
    /// Memory of the bodies of all requests, in bytes; `None` for a share of the memory of the process.
    pub body_total_max: Option<usize>,
    /// The largest ratio of a decompressed body to what arrived.
    pub inflation_max: usize,
    /// The whole time a client may take to send a body.
    pub body_timeout: Duration,
    /// The largest request head, in bytes.
    pub header_max: usize,
    /// How long a client may take to send a header.
    pub header_timeout: Duration,
    /// How much of a JSON answer is held back until it is complete, in bytes (spec 10.1).
    pub hold_max: usize,
    /// How much of all bodies together is kept for other attempts, in bytes (spec 10.6).
    pub replay_max: usize,
    /// Requests that may be under way at the same time.
    pub max_connections: usize,
    /// How long an idle connection of a client is kept.
    pub keepalive: Duration,
    /// Longest life of a client connection, in-flight requests aside.
    pub connection_age: Duration,
    /// Connections of one client address at the same time; `None` for no bound.
    pub connections_per_address: Option<usize>,
    /// Thresholds of load shedding.
    pub overload: Thresholds,
    /// How long a single write to a client may take.
    pub write_timeout: Duration,
    /// Load balancers whose word on a client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long the gateway is not ready but still accepts, before it closes its listeners.
    pub drain: Duration,
    /// How long requests under way may take after that.
    pub grace: Duration,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Where operators and Prometheus connect.
    pub listen: SocketAddr,
    /// What operators present for everything that is not open to all.
    pub token: Option<Secret>,
    /// Names under which the listener may be asked, besides its address and loopback.
    pub allowed_hosts: Vec<String>,
}

/// The embedded store.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The folder of its file.
    pub path: PathBuf,
}

/// How errors are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Errors {
    /// The status for a model that nobody serves: 503, or 404 (spec 2.3).
    pub unknown_model: u16,
    /// Beginnings of `User-Agent`: these clients are told in the stream that an input is too long.
    pub stream_overflow_clients: Vec<String>,
}

/// Bounds of failover over all traffic (spec 9.3, 9.5, 10.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Extra attempts for each request.
    pub budget_ratio: f64,
    /// How long a request waits for the first channel to recover when all rest.
    pub failover_wait: Duration,
    /// How long what takes no traffic takes none.
    pub times: Times,
}

/// The scripted upstream inside this process.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// A model on offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The public id.
    pub id: String,
    /// What it produces.
    pub kind: ModelKind,
    /// Since when it is on offer, in Unix seconds.
    pub created: Option<u64>,
    /// Input and output tokens that fit together.
    pub context_window: Option<u64>,
    /// Output tokens of one answer.
    pub output_max: Option<u64>,
    /// Answers of one call.
    pub choices_max: Option<u64>,
    /// Members of requests that it does not take.
    pub unsupported: Unsupported,
    /// Seconds of a video for which a request names none.
    pub seconds_default: u64,
    /// The longest video, in seconds.
    pub seconds_max: Option<u64>,
    /// Whether slow requests are tried at a second channel beside the first.
    pub hedge: bool,
    /// Whether only verified accounts may call it (spec 5.3).
    pub verification: bool,
    /// What it costs.
    pub tariff: Tariff,
    /// The tokenizer whose counts its estimates follow.
    pub tokenizer: Family,
    /// How many tokens an image in a prompt is taken for.
    pub image_tokens: ImageRule,
    /// Limits over all its callers.
    pub limits: Limited,
    /// What it accepts of the images that it is asked for.
    pub images: ImageRules,
}

/// What a model costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tariff {
    /// Nothing, as declared.
    Free,
    /// This.
    Priced(Price),
    /// Nobody has said; such a model is not offered (spec 8.6).
    Unknown,
}

/// Where a channel's API begins, version included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// The port, the scheme's own where none is given.
    pub port: u16,
    /// The path, without a slash at its end: `/v1`.
    pub path: String,
}

/// Shown as it is written in a configuration, without a port that is the scheme's own.
impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, host, port, path } = self;
        let (scheme, usual) = if *tls { ("https", 443) } else { ("http", 80) };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]")?,
            false => write!(f, "{scheme}://{host}")?,
        }
        if *port != usual {
            write!(f, ":{port}")?;
        }
        f.write_str(path)
    }
}

/// One way to reach a provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Its name.
    pub id: String,
    /// Whether it is used at all.
    pub enabled: bool,
    /// Its dialect.
    pub provider: Provider,
    /// Where it is.
    pub base_url: BaseUrl,
    /// The version of its API, where requests name one (Azure).
    pub api_version: Option<String>,
    /// What it is shown, in the field of its dialect; used in turn. Empty where it is shown none.
    pub credentials: Vec<Secret>,
    /// Public model id and the upstream's name for it, in the order of the file.
    pub models: Vec<(String, String)>,
    /// The APIs it speaks.
    pub apis: Vec<Api>,
    /// Whether it can be asked for usage in streams (spec 1.6).
    pub stream_usage: bool,
    /// Members of requests that it does not take.
    pub unsupported: Unsupported,
    /// Statuses of this upstream, and those that they are taken for (spec 3.4).
    pub status_map: Vec<(u16, u16)>,
    /// Tokens that fit at this channel, where it is not what the model has.
    pub context_window: Option<u64>,
    /// Whether it is spoken to in HTTP/2.
    pub http2: bool,
    /// Authorities of its certificate, instead of the usual ones.
    pub ca: Option<Authorities>,
    /// Its own limits (spec 6.6).
    pub limits: Limited,
    /// Whether its ids pass unchanged (spec 1.5).
    pub trusted: bool,
    /// Header fields of clients that it asks for by name (spec 5.5).
    pub pass_headers: Vec<http::HeaderName>,
    /// Members of its answers that pass besides the known ones (spec 1.5).
    pub pass_members: Arc<[String]>,
    /// The groups it serves; empty means all.
    pub groups: Vec<String>,
    /// The name for TLS where it is not the host.
    pub sni: Option<String>,
    /// How it is asked for video, where it takes jobs instead of answering.
    pub video: Option<Polling>,
    /// Its bounds in time.
    pub timeouts: Timeouts,
    /// Attempts of one request, this one included, beyond which this channel is not tried.
    pub attempts: u32,
    /// Its tier; a lower one is used up first.
    pub priority: u32,
    /// Its share within the tier; 0 drains.
    pub weight: u32,
}

/// Bounds in time (spec 10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// To the first byte of a stream.
    pub first_byte: Duration,
    /// Between two reads of a stream.
    pub idle: Duration,
    /// For the whole request.
    pub total: Duration,
    /// For the whole request where it is one for a video.
    pub video: Duration,
    /// For the search, until a stream shows content.
    pub failover: Duration,
}

impl Timeouts {
    /// The bounds of calls of an API.
    #[must_use]
    pub fn of(self, api: Api) -> Self {
        if api == Api::Video { Self { total: self.video, ..self } } else { self }
    }
}

/// The owner of keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Its name.
    pub id: String,
    /// Whether it passed verification (spec 5.3).
    pub verified: bool,
    /// The group of its keys that have none of their own.
    pub group: Option<String>,
    /// Whether its requests are paid for.
    pub billing: Billing,
    /// Its opening balance, booked once (spec 5.4).
    pub credit: Option<Money>,
    /// Limits over all its keys.
    pub limits: Limited,
}

/// Whether the requests of an account are paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Billing {
    /// From its balance, in advance.
    #[default]
    Prepaid,
    /// They are not: limits alone bound it.
    None,
}

/// A key of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its public name, for logs.
    pub id: String,
    /// Its owner.
    pub account: String,
    /// What people call it.
    pub name: String,
    /// Whether it works.
    pub enabled: bool,
    /// Unix seconds from which on it does not; `None` for never.
    pub expires: Option<u64>,
    /// SHA-256 of the whole key.
    pub digest: [u8; 32],
    /// Whether it was made for this process, because the file says `generate: true`.
    pub minted: bool,
    /// The models it may use, as written: `*`, `prefix/*` or an exact id.
    pub models: Vec<String>,
    /// Its group.
    pub group: Option<String>,
    /// What it may spend in all; `None` for as much as its account has.
    pub quota: Option<Money>,
    /// The addresses it may be used from; empty for all.
    pub ips: Vec<IpNet>,
    /// Its limits.
    pub limits: Limited,
}

/// The member of requests that asks for usage in streams.
const STREAM_OPTIONS: &str = "stream_options";

impl Channel {
    /// What becomes of a member of a request here; `None` if it is taken. Where usage cannot be asked for in streams, a
    /// client's own wish for it is not passed on either (spec 1.6).
    #[must_use]
    pub fn treatment(&self, name: &str) -> Option<Treatment> {
        let refused = name == STREAM_OPTIONS && !self.stream_usage;
        refused.then_some(Treatment::Drop).or_else(|| self.unsupported.treatment(name))
    }

    /// The names of the members of requests that are not taken here.
    pub fn not_taken(&self) -> impl Iterator<Item = &str> {
        self.unsupported.names().chain((!self.stream_usage).then_some(STREAM_OPTIONS))
    }
}
