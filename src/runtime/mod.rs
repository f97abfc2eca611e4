//! Ring 3: the process: services, signals, drain.
//!
//! An [`Assembly`] is a whole gateway, ready to run: the public listener, the admin listener, the resolver, and the
//! sandbox where the configuration asks for one. [`signals`] decides when it ends, [`drain`] how, [`succession`] who comes
//! after it.

mod certificate;
mod connections;
mod drain;
mod guarded_stream;
mod listener;
mod overload;
pub mod reload;
mod sampler;
pub mod signals;
pub mod succession;

use self::certificate::Certificate;
use self::connections::Connections;
use self::drain::Drain;
use self::listener::{Guarded, Listeners, Policy, Steady};
use self::overload::Overload;
use self::reload::Reload;
use self::sampler::Sampler;
use self::signals::{DrainWish, Impatience};
use self::succession::{LISTENERS_SOCKET, PATIENCE, Predecessor, Succession};
use crate::admin::Admin;
use crate::admin::guard::Guard;
use crate::config::{self, Config, Tls};
use crate::proxy::{Built, ConnectionBounds, Gateway, Readiness};
use crate::sandbox;
use crate::store::Bank;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Connections of the admin listener at the same time: scrapers, an operator's browser, the command line.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 64;
/// How long a header may take on the admin listener.
pub(crate) const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection of the admin listener may be idle: longer than the usual interval between two scrapes.
const ADMIN_KEEPALIVE: Duration = Duration::from_secs(75);
/// How long a connection of the admin listener may be open.
const ADMIN_AGE: Duration = Duration::from_secs(86_400);
/// How long services may take to stop after the grace period.
const STOP_TIMEOUT_SECONDS: u64 = 1;
/// How long the store may take to write the last changes.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the access log may take to be written at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// Ways to start a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Start {
    /// Takes listeners and ledger over from the process that has them, which SIGQUIT tells to hand them over.
    pub upgrade: bool,
    /// Begins a new ledger where there was one that has gone.
    pub new_ledger: bool,
}

/// A whole gateway, ready to run.
pub struct Assembly {
    server: Server,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    reload: Arc<Reload>,
    wish: Arc<DrainWish>,
    connections: Arc<Connections>,
    impatience: Arc<Impatience>,
    succession: Arc<Succession>,
    bank: Arc<Bank>,
    log: Option<AccessLog>,
}

impl Assembly {
    /// Puts the checked configuration of a file together; the access log goes to `log`.
    ///
    /// # Errors
    ///
    /// An address cannot be listened at, the log cannot be started, or there is no process to take over from.
    pub fn new(file: &Path, config: Config, log: Box<dyn Write + Send>, start: Start) -> io::Result<Self> {
        let Start { upgrade, new_ledger } = start;
        let certificate = config.server.tls.as_ref().map(Certificate::of).transpose()?;
        let predecessor = if upgrade {
            Some(Predecessor::find(&config.store.path)?)
        } else {
            check_addresses(&config)?;
            None
        };
        let (settings, admin, sandbox) =
            (config.server.clone(), config.admin.clone(), config.sandbox.clone());
        let (folder, addresses) = (config.store.path.clone(), addresses(&config));
        let options = Opt { upgrade, ..Opt::default() };
        let mut server = Server::new_with_opt_and_conf(Some(options), server_conf(&config));
        // With `upgrade` it waits here until the old process hands its listeners over.
        server.bootstrap();
        let built = Gateway::builder(config.clone()).access_log(log);
        let built = built.upgrade(upgrade).new_ledger(new_ledger).build()?;
        let (guard, shown) = (Arc::new(Guard::new(&admin)), certificate.clone());
        let reload = Reload::new(file.to_owned(), config, built.reloader, shown, Arc::clone(&guard));
        let reload = Arc::new(reload);
        let (wish, impatience, connections) = (Arc::default(), Arc::default(), Arc::default());
        let listeners = Listeners::at(addresses);
        let succession = Arc::new(Succession::new(folder, predecessor, Arc::clone(&listeners), built.teller));
        let (sampler, history) = Sampler::new(built.inspector.clone());

        add_public_services(&mut server, &built.gateway, &connections, &settings, certificate.as_ref())?;

        let app = Admin {
            metrics: Arc::clone(&built.metrics),
            readiness: Arc::clone(&built.readiness),
            failures: built.failures,
            inspector: built.inspector,
            helm: built.helm,
            history,
            directory: built.directory,
            bank: Arc::clone(&built.bank),
            reload: Arc::clone(&reload),
            wish: Arc::clone(&wish),
            guard,
        };
        let overload = Overload {
            gateway: built.gateway.clone(),
            connections: Arc::clone(&connections),
            clock: Arc::clone(connections.clock()),
        };
        let policy = AdminPolicy(built.gateway);
        let mut service =
            Service::new("admin".into(), Guarded::new(app, policy, Arc::default(), None, false));
        service.threads = Some(1);
        service.add_tcp(&admin.listen.to_string());
        server.add_service(Steady { service, readiness: Arc::clone(&built.readiness), listeners });

        server.add_service(background_service("resolver", built.resolver));
        server.add_service(background_service("overload", overload));
        server.add_service(background_service("sampler", sampler));
        if let Some(sandbox) = sandbox {
            server.add_service(background_service("sandbox", Upstream(sandbox.listen)));
        }
        let Built { metrics, readiness, bank, log, .. } = built;
        Ok(Self { server, metrics, readiness, reload, wish, connections, impatience, succession, bank, log })
    }

    /// The metrics of this gateway.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Whether it wants traffic.
    #[must_use]
    pub fn readiness(&self) -> Arc<Readiness> {
        Arc::clone(&self.readiness)
    }

    /// What loads the configuration again.
    #[must_use]
    pub fn reload(&self) -> Arc<Reload> {
        Arc::clone(&self.reload)
    }

    /// What `POST /drain` asks.
    #[must_use]
    pub fn wish(&self) -> Arc<DrainWish> {
        Arc::clone(&self.wish)
    }

    /// What ends a drain before its time.
    #[must_use]
    pub fn impatience(&self) -> Arc<Impatience> {
        Arc::clone(&self.impatience)
    }

    /// How this process takes the place of another, and gives its own away.
    #[must_use]
    pub fn succession(&self) -> Arc<Succession> {
        Arc::clone(&self.succession)
    }

    /// Runs until `signal` says to stop and the requests under way are finished or out of time; `then` is called as
    /// soon as the last of them is (the framework itself would wait out the whole grace period).
    pub fn run(
        self,
        signal: Box<dyn ShutdownSignalWatch + Send + Sync>,
        then: impl FnOnce() + Send + 'static,
    ) {
        let Self { server, metrics, readiness, connections, impatience, succession, bank, log, .. } = self;
        let flush = move || {
            if let Err(e) = bank.close(STORE_PATIENCE) {
                log::error!("{e}; what is set aside is settled at the next start");
            }
            if let Some(log) = log {
                log.flush(LOG_PATIENCE);
            }
        };
        let at_end = flush.clone();
        if succession.takes_over() {
            // Its listeners are open, and whoever asks at them hears no less of it than of the process before.
            readiness.start();
        }
        let drain = Drain { metrics, readiness: Arc::clone(&readiness), connections, impatience, succession };
        drain.watch(server.watch_execution_phase(), move || {
            flush();
            then();
        });
        server.run(RunArgs { shutdown_signal: signal });
        at_end();
    }
}

/// Bounds of the admin listener, which are its own, so that it answers when the public one is full.
struct AdminPolicy(Gateway);

impl Policy for AdminPolicy {
    fn bounds(&self) -> ConnectionBounds {
        ConnectionBounds {
            header: ADMIN_HEADER_TIMEOUT,
            keepalive: ADMIN_KEEPALIVE,
            age: ADMIN_AGE,
            max: ADMIN_CONNECTIONS_MAX,
            per_address: None,
        }
    }

    fn is_exempt(&self, _address: IpAddr) -> bool {
        true
    }

    fn is_shedding(&self) -> bool {
        false
    }

    fn refused(&self, reason: &'static str) {
        self.0.note_refused_connection(match reason {
            "too_many" => "admin_too_many",
            _ => "admin_slow_header",
        });
    }

    fn closed(&self, _reason: &'static str) {}
}

/// Adds the listeners of clients.
fn add_public_services(
    server: &mut Server,
    gateway: &Gateway,
    connections: &Arc<Connections>,
    settings: &config::Server,
    certificate: Option<&Arc<Certificate>>,
) -> io::Result<()> {
    let tls = settings.tls.as_ref().zip(certificate);
    let tls = tls.map(|(tls, shown)| tls_settings(tls, Arc::clone(shown))).transpose()?;
    let tls = tls.map(TlsSettings::build);
    let mut public = public_service(server, gateway.clone(), connections, tls, false);
    listen_at(&mut public, &settings.listen);
    server.add_service(public);
    if !settings.listen_h2c.is_empty() {
        // A port of its own: a server that may be asked either way waits for bytes that HTTP/1 need not send.
        let mut public = public_service(server, gateway.clone(), connections, None, true);
        listen_at(&mut public, &settings.listen_h2c);
        server.add_service(public);
    }
    Ok(())
}

/// The public listener's service, for HTTP/2 without TLS or for the rest.
fn public_service(
    server: &Server,
    gateway: Gateway,
    connections: &Arc<Connections>,
    tls: Option<Acceptor>,
    h2c: bool,
) -> Service<Guarded<HttpProxy<Gateway>, Gateway>> {
    let mut options = HttpServerOptions::default();
    // So that CONNECT gets the gateway's own 404 and not the framework's 405 (spec 1.2).
    options.allow_connect_method_proxying = true;
    let mut proxy = http_proxy(&server.configuration, gateway.clone());
    proxy.server_options = Some(options);
    let public = Guarded::new(proxy, gateway, Arc::clone(connections), tls, h2c);
    Service::new(if h2c { "public-h2c" } else { "public" }.into(), public)
}

/// Names the addresses of a public listener. TLS is the service's own, so that its handshake has the deadline of a header.
fn listen_at(public: &mut Service<Guarded<HttpProxy<Gateway>, Gateway>>, addresses: &[SocketAddr]) {
    for address in addresses {
        public.add_tcp(&address.to_string());
    }
}

/// HTTPS with HTTP/2 for those who can.
fn tls_settings(tls: &Tls, shown: Arc<Certificate>) -> io::Result<TlsSettings> {
    let (cert, key) = (tls.cert.to_string_lossy(), tls.key.to_string_lossy());
    let mut settings = TlsSettings::intermediate(&cert, &key).map_err(io::Error::other)?;
    settings.set_cert_resolver(shown);
    settings.enable_h2();
    Ok(settings)
}

/// The sandbox as a service of this process.
struct Upstream(SocketAddr);

#[async_trait]
impl BackgroundService for Upstream {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        match sandbox::bind(self.0).await {
            Ok(sandbox) => {
                tokio::select! {
                    () = sandbox.run() => {}
                    _ = shutdown.changed() => {}
                }
            }
            Err(e) => log::error!("the sandbox cannot listen at {}: {e}", self.0),
        }
    }
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        grace_period_seconds: Some(config.server.grace.as_secs()),
        graceful_shutdown_timeout_seconds: Some(STOP_TIMEOUT_SECONDS),
        upgrade_sock: config.store.path.join(LISTENERS_SOCKET).to_string_lossy().into_owned(),
        upgrade_sock_connect_accept_max_retries: usize::try_from(PATIENCE.as_secs()).ok(),
        ..ServerConf::default()
    }
}

/// The addresses whose listeners go from process to process.
fn addresses(config: &Config) -> Vec<String> {
    let public = config.server.listen.iter().chain(&config.server.listen_h2c);
    public.chain([&config.admin.listen]).map(ToString::to_string).collect()
}

/// Tells a taken or foreign address in one line, instead of the panic that it would be in a service's thread.
fn check_addresses(config: &Config) -> io::Result<()> {
    let public = config.server.listen.iter().chain(&config.server.listen_h2c);
    let sandbox = config.sandbox.iter().map(|sandbox| &sandbox.listen);
    for address in public.chain([&config.admin.listen]).chain(sandbox) {
        TcpListener::bind(address)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot listen at {address}: {e}")))?;
    }
    Ok(())
}
