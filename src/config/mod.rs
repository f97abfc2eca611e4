//! Configuration.
#![allow(missing_docs, clippy::allow_attributes_without_reason)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration, as meant: checked, defaults applied, secrets read.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub errors: Errors,
    pub models: Vec<Model>,
    pub channels: Vec<Channel>,
    pub accounts: Vec<Account>,
    pub keys: Vec<Key>,
    /// Set when the configuration asks for the built-in scripted upstream inside this process (quick start).
    pub sandbox: Option<Sandbox>,
}

#[derive(Debug, Clone)]
pub struct Sandbox {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub listen: Vec<SocketAddr>,
    pub health_path: Option<String>,
    pub threads: usize,
    pub body_max: usize,
    /// The whole time a client may take to send a body.
    pub body_timeout: Duration,
    pub header_max: usize,
    pub max_connections: usize,
    pub keepalive: Duration,
    /// How long a single write to a client may take.
    pub write_timeout: Duration,
    pub drain: Duration,
    pub grace: Duration,
}

#[derive(Debug, Clone)]
pub struct Admin {
    pub listen: SocketAddr,
    pub token: Option<Secret>,
    pub allowed_hosts: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Errors {
    /// 503, or 404 where the operator prefers that (spec 2.3).
    pub unknown_model: u16,
}

pub use crate::core::api::{Api, ModelKind};

#[derive(Debug, Clone)]
pub struct Model {
    pub id: String,
    pub kind: ModelKind,
    pub context_window: Option<u64>,
    pub output_max: Option<u64>,
    /// `verification: telegram`: the account must be verified.
    pub verification: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    OpenAi,
    Anthropic,
    Gemini,
    Azure,
    OpenAiCompatible,
}

#[derive(Debug, Clone)]
pub struct BaseUrl {
    pub tls: bool,
    /// Host name or IP literal, without brackets.
    pub host: String,
    pub port: u16,
    /// Path with the version, no trailing slash: `/v1`.
    pub path: String,
}

#[derive(Debug, Clone)]
pub struct Channel {
    pub id: String,
    pub enabled: bool,
    pub provider: Provider,
    pub base_url: BaseUrl,
    pub credentials: Vec<Secret>,
    /// Public model id, upstream model name; in the order of the file. Public ids exist in `models`.
    pub models: Vec<(String, String)>,
    pub apis: Vec<Api>,
    pub stream_usage: bool,
    pub trusted: bool,
    pub pass_headers: Vec<http::HeaderName>,
    /// Empty: every group.
    pub groups: Vec<String>,
    pub sni: Option<String>,
    pub timeouts: Timeouts,
    pub attempts: u32,
    /// Lower is tried first.
    pub priority: u32,
    pub weight: u32,
}

#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    pub first_byte: Duration,
    pub idle: Duration,
    pub total: Duration,
    pub failover: Duration,
}

#[derive(Debug, Clone)]
pub struct Account {
    pub id: String,
    pub verified: bool,
    pub group: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Key {
    pub id: String,
    pub account: String,
    pub name: String,
    pub enabled: bool,
    /// Unix seconds.
    pub expires: Option<u64>,
    /// SHA-256 of the whole key.
    pub digest: [u8; 32],
    /// Patterns as written: `*`, `prefix/*`, or an exact id.
    pub models: Vec<String>,
    pub group: Option<String>,
    pub limits: Limits,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    pub rpm: Option<u32>,
    pub concurrency: Option<u32>,
}

/// A secret; its value never appears in `Debug`.
#[derive(Clone)]
pub struct Secret(std::sync::Arc<zeroize::Zeroizing<String>>);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(std::sync::Arc::new(zeroize::Zeroizing::new(value)))
    }
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[allow(unused)]
fn unused(_: PathBuf) {}
