//! `tidegate run`

use super::{Complaint, EXIT_RUNTIME, Ended, Format, complain, hint};
use crate::config::{self, Config};
use crate::runtime::signals::LameDuck;
use crate::runtime::{Assembly, Start};
use log::{Log, Metadata, Record};
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Runs the gateway to its end.
pub(super) fn run(path: &Path, level: log::LevelFilter, start: Start, format: Format) -> Ended {
    start_log(level);
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(problems) => return Err(Complaint::of(&problems)),
    };
    for warning in &loaded.warnings {
        log::warn!("{}", warning.in_file(path));
    }
    let drain = loaded.config.server.drain;
    let greeting = Greeting::new(&loaded.config, &loaded.minted);
    for channel in loaded.config.channels.iter().filter(|channel| channel.credentials.is_empty()) {
        log::info!("channel {}: no credential is sent (credentials: none)", channel.id);
    }
    let assembly = match Assembly::new(path, loaded.config, Box::new(io::stdout()), start) {
        Ok(assembly) => assembly,
        Err(e) => return complain(EXIT_RUNTIME, e),
    };
    // Standard output is the access log and nothing else.
    match format {
        Format::Text => hint(&greeting),
        Format::Json => hint(greeting.json()),
    }
    let signals = LameDuck {
        readiness: assembly.readiness(),
        drain,
        reload: assembly.reload(),
        wish: assembly.wish(),
        impatience: assembly.impatience(),
        succession: assembly.succession(),
    };
    let succession = assembly.succession();
    assembly.run(Box::new(signals), || std::process::exit(0));
    Ok(if succession.has_failed() { ExitCode::from(EXIT_RUNTIME) } else { ExitCode::SUCCESS })
}

/// The gateway's own log, on standard error. Pingora is held to warnings: at debug it would print headers with keys. Its
/// proxy layer is silent: it calls every client that leaves early an error, and clients must not fill the log. So is its
/// transfer of listeners, which calls each second of waiting an error; what fails there is told by whom it fails for.
fn start_log(level: log::LevelFilter) {
    let pingora = level.min(log::LevelFilter::Warn);
    let mut builder = env_logger::Builder::new();
    builder.filter_level(pingora).filter_module("pingora_proxy", log::LevelFilter::Off);
    builder.filter_module("pingora_core::server::transfer_fd", log::LevelFilter::Off);
    builder.filter_module("tidegate", level);
    let logger = builder.build();
    log::set_max_level(logger.filter());
    // Fails only where a log was set before, which is then the one that counts.
    let _ = log::set_boxed_logger(Box::new(WithoutNoise(logger)));
}

/// What the framework calls an error and is none: a client that does not get through the handshake of TLS or HTTP/2, or leaves the
/// admin listener before its answer, so that every scan of the port would fill the log; a kept connection that was closed a moment before it was wanted, so that another is opened.
/// What else is said at these places is told, such as that sockets cannot be accepted.
/// So is the length of a request's body that is none, which is told with the value: it may be anything, such as a key.
const NOISE: [(&str, &str); 7] = [
    ("pingora_core::services::listening", "Downstream handshake error"),
    ("pingora_core::services::listening", "Downstream handshake timeout"),
    ("pingora_core::apps", "H2 handshake error"),
    ("pingora_core::apps::http_app", "HTTP server fails to"),
    ("pingora_core::protocols::http::v1::common", "invalid content-length header value"),
    ("pingora_core::protocols::http::v1::common", "negative content-length header value"),
    ("pingora_core::connectors", "failed to acquire reusable stream"),
];

/// The log without that.
struct WithoutNoise(env_logger::Logger);

impl WithoutNoise {
    fn is_noise(record: &Record<'_>) -> bool {
        let mut known = NOISE.into_iter().filter(|(target, _)| record.target() == *target);
        known.any(|(_, begin)| record.args().to_string().starts_with(begin))
    }
}

impl Log for WithoutNoise {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !Self::is_noise(record) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Where the gateway can be reached, and the keys that were made for this run.
struct Greeting {
    clients: Vec<String>,
    admin: String,
    /// Ids and keys.
    keys: Vec<(String, String)>,
}

impl Greeting {
    fn new(config: &Config, minted: &[config::Minted]) -> Self {
        let server = &config.server;
        let scheme = if server.tls.is_some() { "https" } else { "http" };
        let public = server.listen.iter().map(|address| format!("{scheme}://{address}/v1"));
        let h2c = server.listen_h2c.iter().map(|address| format!("http://{address}/v1"));
        Self {
            clients: public.chain(h2c).collect(),
            admin: format!("http://{}", config.admin.listen),
            keys: minted.iter().map(|key| (key.key_id.clone(), key.expose().to_owned())).collect(),
        }
    }

    fn json(&self) -> Value {
        let key = |(id, key): &(String, String)| json!({ "id": id, "key": key });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "clients": self.clients,
            "status": format!("{}/", self.admin),
            "metrics": format!("{}/metrics", self.admin),
            "keys": self.keys.iter().map(key).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tidegate {}", env!("CARGO_PKG_VERSION"))?;
        for address in &self.clients {
            write!(f, "\n  clients   {address}")?;
        }
        write!(f, "\n  status    {}/", self.admin)?;
        write!(f, "\n  metrics   {}/metrics", self.admin)?;
        for (id, key) in &self.keys {
            write!(f, "\n  key       {key}   ({id}, valid until this process ends)")?;
        }
        Ok(())
    }
}
