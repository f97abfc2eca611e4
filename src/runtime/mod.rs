//! Ring 3: the process: services, signals, drain.
//!
//! An [`Assembly`] is a whole gateway, ready to run: the public listener, the admin listener, the resolver, and the
//! sandbox where the configuration asks for one. [`signals`] decides when it ends, [`drain`] how.

mod certificate;
mod drain;
pub mod reload;
mod sampler;
pub mod signals;

use self::certificate::Certificate;
use self::reload::Reload;
use self::sampler::Sampler;
use self::signals::DrainWish;
use crate::admin::guard::Guard;
use crate::admin::{Admin, Readiness};
use crate::config::{Config, Tls};
use crate::proxy::{Built, Gateway};
use crate::sandbox;
use crate::store::Bank;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::{HttpProxy, ProxyServiceBuilder};
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use sd_notify::NotifyState;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long services may take to stop after the grace period.
const STOP_TIMEOUT_SECONDS: u64 = 1;
/// Where listeners are handed over, in the folder of the store.
const UPGRADE_SOCKET: &str = "listeners.sock";
/// How long a new process waits for the listeners of the old one, and the other way round.
const UPGRADE_PATIENCE_SECONDS: usize = 60;
/// How long the store may take to write the last changes.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the access log may take to be written at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// A whole gateway, ready to run.
pub struct Assembly {
    server: Server,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    reload: Arc<Reload>,
    wish: Arc<DrainWish>,
    bank: Arc<Bank>,
    log: Option<AccessLog>,
}

impl Assembly {
    /// Puts the checked configuration of a file together; the access log goes to `log`. With `upgrade`, listeners and ledger
    /// are taken over from the process that has them, which SIGQUIT tells to hand them over.
    ///
    /// # Errors
    ///
    /// An address cannot be listened at, or the log cannot be started.
    pub fn new(file: &Path, config: Config, log: Box<dyn Write + Send>, upgrade: bool) -> io::Result<Self> {
        let (listen, admin, sandbox) =
            (config.server.listen.clone(), config.admin.listen, config.sandbox.clone());
        let (listen_h2c, tls) = (config.server.listen_h2c.clone(), config.server.tls.clone());
        for address in listen
            .iter()
            .chain(&listen_h2c)
            .chain([&admin])
            .chain(sandbox.iter().map(|sandbox| &sandbox.listen))
        {
            if !upgrade {
                check_address(*address)?;
            }
        }
        let options = Opt { upgrade, ..Opt::default() };
        let mut server = Server::new_with_opt_and_conf(Some(options), server_conf(&config));
        // With `upgrade` it waits here until the old process hands its listeners over.
        server.bootstrap();
        let guard = Guard::new(&config.admin);
        let certificate = tls.as_ref().map(Certificate::of).transpose()?;
        let Built { gateway, resolver, reloader, inspector, helm, metrics, failures, directory, bank, log } =
            Gateway::builder(config.clone()).access_log(log).upgrade(upgrade).build()?;
        let reload = Arc::new(Reload::new(file.to_owned(), config, reloader, certificate.clone()));
        let readiness = Arc::new(Readiness::default());
        let wish = Arc::<DrainWish>::default();
        let (sampler, history) = Sampler::new(inspector.clone());

        let mut public = public_service(&server, gateway.clone(), "public", false);
        for address in &listen {
            match (&tls, &certificate) {
                (Some(tls), Some(shown)) => {
                    let settings = tls_settings(tls, Arc::clone(shown))?;
                    public.add_tls_with_settings(&address.to_string(), None, settings);
                }
                _ => public.add_tcp(&address.to_string()),
            }
        }
        server.add_service(public);
        if !listen_h2c.is_empty() {
            // A port of its own: a server that may be asked either way waits for bytes that HTTP/1 need not send.
            let mut public = public_service(&server, gateway, "public-h2c", true);
            listen_h2c.iter().for_each(|address| public.add_tcp(&address.to_string()));
            server.add_service(public);
        }

        let app = Admin {
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            failures,
            inspector,
            helm,
            history,
            directory,
            bank: Arc::clone(&bank),
            reload: Arc::clone(&reload),
            wish: Arc::clone(&wish),
            guard,
        };
        let mut admin_service = Service::new("admin".into(), app);
        admin_service.threads = Some(1);
        admin_service.add_tcp(&admin.to_string());
        server.add_service(admin_service);

        server.add_service(background_service("resolver", resolver));
        server.add_service(background_service("sampler", sampler));
        if let Some(sandbox) = sandbox {
            server.add_service(background_service("sandbox", Upstream(sandbox.listen)));
        }
        Ok(Self { server, metrics, readiness, reload, wish, bank, log })
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

    /// Runs until `signal` says to stop and the requests under way are finished or out of time; `then` is called as
    /// soon as the last of them is (the framework itself would wait out the whole grace period).
    pub fn run(
        self,
        signal: Box<dyn ShutdownSignalWatch + Send + Sync>,
        then: impl FnOnce() + Send + 'static,
    ) {
        let Self { server, metrics, readiness, bank, log, .. } = self;
        let flush = move || {
            if let Err(e) = bank.close(STORE_PATIENCE) {
                log::error!("{e}; what is set aside is settled at the next start");
            }
            if let Some(log) = log {
                log.flush(LOG_PATIENCE);
            }
        };
        let at_end = flush.clone();
        drain::watch(server.watch_execution_phase(), metrics, move || {
            flush();
            then();
        });
        readiness.set(true);
        // Without a service manager that listens there is nobody to tell.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        server.run(RunArgs { shutdown_signal: signal });
        at_end();
    }
}

/// The public listener's service, for HTTP/2 without TLS or for the rest.
fn public_service(server: &Server, gateway: Gateway, name: &str, h2c: bool) -> Service<HttpProxy<Gateway>> {
    let mut options = HttpServerOptions::default();
    // So that CONNECT gets the gateway's own 404 and not the framework's 405 (spec 1.2).
    options.allow_connect_method_proxying = true;
    options.h2c = h2c;
    ProxyServiceBuilder::new(&server.configuration, gateway).name(name).server_options(options).build()
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
        upgrade_sock: config.store.path.join(UPGRADE_SOCKET).to_string_lossy().into_owned(),
        upgrade_sock_connect_accept_max_retries: Some(UPGRADE_PATIENCE_SECONDS),
        ..ServerConf::default()
    }
}

/// Tells a taken or foreign address in one line, instead of the panic that it would be in a service's thread.
fn check_address(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind(address)
        .map(drop)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot listen at {address}: {e}")))
}
