//! Ring 3: the gateway itself, on Pingora's parts.
//!
//! [`Gateway`] implements [`ProxyHttp`], and a request reads from top to bottom: [`admit`] decides whether it may,
//! [`relay`] finds a channel that answers, [`forward`] sends the answer, [`ctx`] settles once. The exchange with the
//! upstream is the gateway's own, inside `request_filter`, because Pingora's built-in path sends the response header
//! before anyone has seen the body (spec 3.1, 10.1). What Pingora gives: listeners, sessions, pool, TLS, shutdown.
//!
//! What always holds: nothing reaches the client before the commit point; permits and gauges are guards in [`ctx::Ctx`];
//! a panic is one request's 500.

mod admit;
mod asked;
mod attempt;
mod balance;
mod body;
mod byte_budget;
mod charge;
mod clock;
pub mod ctx;
mod directory;
mod door;
mod exchange;
mod forward;
mod generation;
mod head;
mod health_log;
mod inspect;
mod key_changes;
mod key_records;
mod limit_pool;
mod memory;
mod models;
mod needs;
mod offload;
mod origin;
mod parameters;
mod polling;
mod pool;
mod quota;
mod race;
mod readiness;
mod relay;
mod reload;
mod replay;
mod reply;
mod resolver;
mod resting;
mod search;
mod settle;
mod status;
mod steer;
mod thoughts;
mod upstream;

/// Bounds that are fixed, for those who tell operators of them (spec 15.1).
pub(crate) mod fixed {
    pub(crate) use super::admit::FIELDS_MAX;
    pub(crate) use super::attempt::HELD_UNDECIDED_MAX;
    pub(crate) use super::door::CONNECTIONS_SPARE;
    pub(crate) use super::exchange::{ERROR_BODY_MAX, ERROR_BODY_TIMEOUT};
    pub(crate) use super::offload::OFFLOADED_MAX;
    pub(crate) use super::polling::STATE_MAX;
    pub(crate) use super::pool::{KEPT_MAX, WRITE_TIMEOUT};
    pub(crate) use super::upstream::IDLE_MAX;
}

use crate::config::{self, Config, Secret};
use crate::core::refusal::Failure;
use crate::core::retry::Budget;
use crate::store::handover::{self, Taken};
use crate::store::{Bank, Embedded, Options, Teller};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::failures::Failures;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::End;
use crate::telemetry::request_id;
use crate::wire::credential;
use crate::wire::error::Dialect;
use crate::wire::seal::Sealer;
use admit::{Admitted, Stop};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use byte_budget::ByteBudget;
use clock::Clock;
use ctx::Ctx;
pub use directory::{AccountDetails, AccountView, Directory, KeyView, Rejected, RevokedView};
use door::Shedding;
pub(crate) use door::{ConnectionBounds, HeaderArrived, HeaderObserver};
use futures::FutureExt;
use generation::Generation;
pub use inspect::{Explanation, Inspector, Question};
pub use key_changes::Rotated;
pub use key_records::{NewAccount, NewKey};
use limit_pool::LimitPool;
pub(crate) use memory::{MemoryLimits, descriptors_percent};
use pingora::http::RequestHeader;
use pingora::modules::http::HttpModules;
use pingora::protocols::http::ServerSession as Downstream;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pool::ConnectionPool;
pub use readiness::Readiness;
pub use reload::Reloader;
use replay::Replay;
pub use resolver::Resolver;
use std::any::Any;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;
pub use steer::{Helm, Steer, Steered};

/// A longer timeout of a client bounds nothing, in seconds.
const CLIENT_TIMEOUT_MAX: f64 = 86_400.0;

/// What all requests of a process share.
pub(crate) struct Shared {
    generation: ArcSwap<Generation>,
    metrics: Arc<Metrics>,
    failures: Arc<Failures>,
    log: Option<AccessLog>,
    upstreams: Arc<ConnectionPool>,
    budget: Budget,
    sealer: Arc<Sealer>,
    teller: Arc<Teller>,
    directory: Arc<Directory>,
    pool: Arc<LimitPool>,
    readiness: Arc<Readiness>,
    /// Changes of health are noted one at a time, so that each has one line in the log.
    health_changes: Mutex<()>,
    replay: Replay,
    /// Memory of the bodies of all requests, from their first byte until they are let go of.
    bodies: Arc<ByteBudget>,
    /// The bound on it where the configuration has none, in bytes.
    bodies_max: usize,
    shedding: Shedding,
    clock: Clock,
}

/// Why a client's connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The client left, or stopped reading.
    ClientGone,
    /// The upstream broke off an answer that cannot say so.
    Upstream,
    /// A defect of ours before anything was written.
    Defect,
}

/// The gateway as a Pingora proxy.
///
/// ```no_run
/// use pingora::proxy::ProxyServiceBuilder;
/// use pingora::server::{Server, configuration::ServerConf};
/// use pingora::services::background::background_service;
/// use tidegate::{config, proxy::Gateway};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let loaded = config::load("tidegate.yaml".as_ref())?;
/// let built = Gateway::builder(loaded.config).access_log(Box::new(std::io::stdout())).build()?;
///
/// let mut server = Server::new_with_opt_and_conf(None, ServerConf::default());
/// server.bootstrap();
/// let mut public = ProxyServiceBuilder::new(&server.configuration, built.gateway).name("tidegate").build();
/// public.add_tcp("127.0.0.1:8080");
/// server.add_service(public);
/// server.add_service(background_service("resolver", built.resolver));
/// server.run_forever();
/// # }
/// ```
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// What a [`Gateway`] is built from.
pub struct Builder {
    config: Config,
    log: Option<Box<dyn Write + Send>>,
    metrics: Option<Arc<Metrics>>,
    upgrade: bool,
    new_ledger: bool,
}

/// A gateway and what has to run beside it.
pub struct Built {
    /// To be served by a Pingora proxy service.
    pub gateway: Gateway,
    /// To be added to the server as a background service.
    pub resolver: Resolver,
    /// What is to be exported.
    pub metrics: Arc<Metrics>,
    /// Puts other configurations into force.
    pub reloader: Reloader,
    /// A look into it.
    pub inspector: Inspector,
    /// What takes channels out of traffic and brings them back.
    pub helm: Helm,
    /// The last failures behind the gateway.
    pub failures: Arc<Failures>,
    /// Accounts and keys, to be shown and changed.
    pub directory: Arc<Directory>,
    /// The ledger and its store, to be closed before the process ends.
    pub bank: Arc<Bank>,
    /// The ledger as requests meet it, to be offered to the process after this one.
    pub teller: Arc<Teller>,
    /// Whether clients are sent away; a new gateway's are not.
    pub readiness: Arc<Readiness>,
    /// To be flushed before the process ends; `None` if there is no log.
    pub log: Option<AccessLog>,
}

impl Gateway {
    /// Begins to build a gateway from a checked configuration.
    #[must_use]
    pub fn builder(config: Config) -> Builder {
        Builder { config, log: None, metrics: None, upgrade: false, new_ledger: false }
    }
}

impl Builder {
    /// Writes the access log to `out`; without it there is none.
    #[must_use]
    pub fn access_log(mut self, out: Box<dyn Write + Send>) -> Self {
        self.log = Some(out);
        self
    }

    /// Counts into these metrics instead of fresh ones.
    #[must_use]
    pub fn metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Takes the ledger over from a process that owns it, instead of failing because it does (spec 12.3).
    #[must_use]
    pub fn upgrade(mut self, upgrade: bool) -> Self {
        self.upgrade = upgrade;
        self
    }

    /// Begins a new ledger where there was one that has gone or is empty, instead of failing because it has (spec 8.5).
    #[must_use]
    pub fn new_ledger(mut self, new_ledger: bool) -> Self {
        self.new_ledger = new_ledger;
        self
    }

    /// Builds the gateway.
    ///
    /// # Errors
    ///
    /// The store cannot be opened, the log's thread cannot be started, or the metric catalogue is inconsistent.
    pub fn build(self) -> io::Result<Built> {
        offload::start();
        let metrics = match self.metrics {
            Some(metrics) => metrics,
            None => Metrics::new().map_err(io::Error::other)?,
        };
        let log = self.log.map(|out| AccessLog::start(out, metrics.log_dropped())).transpose()?;
        let teller = stored(&self.config.store, &metrics, self.upgrade, self.new_ledger)?;
        let bank = Arc::clone(teller.bank());
        let pool = Arc::<LimitPool>::default();
        let directory = Arc::new(Directory::new(&self.config, Arc::clone(&bank), Arc::clone(&pool)));
        let generation = Generation::new(&self.config, &metrics, &pool, None);
        metrics.set_generation(generation.number);
        metrics.process().set_start(clock::unix().as_secs_f64());
        let failures = Arc::<Failures>::default();
        let readiness = Arc::<Readiness>::default();
        let shared = Arc::new(Shared {
            generation: ArcSwap::from_pointee(generation),
            metrics: Arc::clone(&metrics),
            failures: Arc::clone(&failures),
            log: log.clone(),
            upstreams: Arc::new(ConnectionPool::new()),
            sealer: Arc::new(sealer(self.config.server.seal_key.as_ref())?),
            budget: Budget::new(self.config.retry.budget_ratio),
            teller: Arc::clone(&teller),
            directory: Arc::clone(&directory),
            pool,
            readiness: Arc::clone(&readiness),
            health_changes: Mutex::default(),
            replay: Replay::default(),
            bodies: Arc::default(),
            bodies_max: body::memory_max(&MemoryLimits::read()),
            shedding: Shedding::default(),
            clock: Clock::start(),
        });
        Ok(Built {
            gateway: Gateway { shared: Arc::clone(&shared) },
            reloader: Reloader(Arc::clone(&shared)),
            inspector: Inspector(Arc::clone(&shared)),
            helm: Helm(Arc::clone(&shared)),
            resolver: Resolver(shared),
            metrics,
            failures,
            directory,
            bank,
            teller,
            readiness,
            log,
        })
    }
}

/// The ledger with its store: taken over from the process before this one, if that is still there and is to be replaced, or
/// recovered from what it left.
fn stored(
    settings: &config::Store,
    metrics: &Metrics,
    upgrade: bool,
    new_ledger: bool,
) -> io::Result<Arc<Teller>> {
    let unusable = |e| io::Error::other(format!("store.path {}: {e}", settings.path.display()));
    // Balances and digests of keys are nobody else's.
    DirBuilder::new().recursive(true).mode(0o700).create(&settings.path).map_err(unusable)?;
    let process = clock::process_number();
    let taken = if upgrade { handover::take(&settings.path, process)? } else { None };
    let store = if new_ledger {
        Embedded::open_or_begin_anew(&settings.path)
    } else {
        Embedded::open(&settings.path)
    };
    let store = store.map_err(io::Error::other)?;
    let commits = metrics.money().commit_seconds();
    let options = Options {
        process,
        living: taken.iter().map(Taken::from).collect(),
        clock: clock::nanos_of_process,
        observe: Box::new(move |took| commits.observe(took.as_secs_f64())),
    };
    let bank = Bank::start(Box::new(store), options).map_err(io::Error::other)?;
    let recovery = bank.recovery();
    if recovery.settled + recovery.released > 0 {
        log::warn!(
            "requests of a process that died: {} settled at what was delivered, {} USD; {} released",
            recovery.settled,
            recovery.charged,
            recovery.released
        );
    }
    let teller = Teller::new(bank, settings.path.clone());
    if let Some(taken) = taken {
        taken.serve(&teller)?;
    }
    Ok(teller)
}

/// The sealer of response ids, under the configured key or one of this process.
fn sealer(key: Option<&Secret>) -> io::Result<Sealer> {
    let sealer = match key {
        Some(key) => Sealer::new(key.expose().as_bytes()),
        None => {
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            Sealer::new(&random)
        }
    };
    sealer.map_err(|_| io::Error::other("no key for response ids"))
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// In a box: the framework keeps it in several places of a request's future, which is allocated for each request.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx::new(&self.shared))
    }

    /// Pingora's own filters (compression) are not wanted.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// What waits for the header hears that it is there.
    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        _ctx: &mut Box<Ctx>,
        waiting: Box<dyn Any + Send + Sync>,
    ) {
        if let Some(arrived) = waiting.downcast_ref::<HeaderArrived>() {
            arrived.0.header_arrived();
        }
    }

    /// Bounds in time for everything that the client has to do; and where the process is going to end, the end of the
    /// connection with this answer.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> pingora::Result<()> {
        let (session, server) = (&mut session.downstream_session, &ctx.generation.server);
        if session.get_keepalive().is_some() {
            let leaving = self.shared.readiness.is_leaving();
            // Zero would be for ever.
            session.set_keepalive((!leaving).then_some(server.keepalive.as_secs().max(1)));
        }
        session.set_read_timeout(Some(server.body_timeout));
        session.set_write_timeout(Some(server.write_timeout));
        session.set_pipelining_enabled(true);
        Ok(())
    }

    /// The whole request: admission, relay, answer.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> pingora::Result<bool> {
        let downstream = &mut *session.downstream_session;
        begin(downstream.req_header(), ctx);
        let served = AssertUnwindSafe(serve(downstream, ctx)).catch_unwind().await;
        let ended = match served {
            Ok(ended) => ended,
            Err(_) => answer_defect(downstream, ctx).await,
        };
        ctx.release();
        ended.map(|()| true).map_err(|cut| cut.note(ctx))
    }

    /// Never reached: every request is answered in `request_filter`.
    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut Box<Ctx>,
    ) -> pingora::Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "requests are relayed before this phase")
    }

    /// What is left after [`Cut`]: nothing can be said to the client any more, so the connection ends.
    async fn fail_to_proxy(&self, _session: &mut Session, _e: &Error, _ctx: &mut Box<Ctx>) -> FailToProxy {
        FailToProxy { error_code: 0, can_reuse_downstream: false }
    }

    async fn logging(&self, _session: &mut Session, _e: Option<&Error>, ctx: &mut Box<Ctx>) {
        ctx.settle();
    }

    /// The access log says it all, and a client that hangs up is no error.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Ctx>, _error: &Error) -> bool {
        true
    }
}

/// Names the request and reads the client's hints (spec 2.7, 10.4).
fn begin(head: &RequestHeader, ctx: &mut Ctx) {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    ctx.begin(request_id::choose(text("x-request-id"), credential::values(&head.headers)));
    // A hint that can only shorten; the SDKs send their own timeout, in seconds.
    let timeout = text("x-stainless-timeout").and_then(|seconds| seconds.parse().ok());
    let timeout =
        timeout.filter(|seconds: &f64| *seconds > 0.0).map(|seconds| seconds.min(CLIENT_TIMEOUT_MAX));
    ctx.client_deadline = timeout.map(|seconds| ctx.started + Duration::from_secs_f64(seconds));
    ctx.cors = ctx.generation.cors.as_ref().map(|cors| cors.answer(&head.headers)).unwrap_or_default();
    ctx.dialect = Dialect::of_path(head.uri.path());
    ctx.record.client_retry =
        text("x-stainless-retry-count").and_then(|count| count.parse().ok()).unwrap_or(0);
}

/// One request, from top to bottom.
async fn serve(session: &mut Downstream, ctx: &mut Ctx) -> Result<(), Cut> {
    #[cfg(test)]
    tests::panic_if_asked(session);
    match admit::admit(session, ctx).await {
        Ok(Admitted::Call(call)) => relay::relay(session, ctx, &call).await,
        Ok(Admitted::Models(visible)) => models::list(session, ctx, &visible).await,
        Ok(Admitted::Model(visible, id)) => models::one(session, ctx, &visible, id).await,
        Ok(Admitted::Balance(key)) => balance::show(session, ctx, &key).await,
        Ok(Admitted::Health) => health(session, ctx).await,
        Ok(Admitted::Preflight(fields)) => reply::preflight(session, ctx, fields).await,
        Err(Stop::Failure(failure)) => reply::refuse(session, ctx, &failure).await,
        Err(Stop::ClientGone) => Err(Cut::ClientGone),
    }
}

/// The answer for load balancers: the process is there.
async fn health(session: &mut Downstream, ctx: &mut Ctx) -> Result<(), Cut> {
    let header = reply::header(ctx, 200, "text/plain").map_err(|_| Cut::Defect)?;
    reply::send(session, ctx, header, bytes::Bytes::from_static(b"ok\n")).await?;
    ctx.record.end = End::Complete;
    Ok(())
}

/// A panic is a 500 for this request alone, if nothing has been sent yet.
async fn answer_defect(session: &mut Downstream, ctx: &mut Ctx) -> Result<(), Cut> {
    ctx.shared.metrics.panics().inc();
    log::error!("request {}: a defect was caught (the panic message is above)", ctx.record.request_id);
    let begun = session.response_written().is_some_and(|header| !header.status.is_informational());
    if begun {
        return Err(Cut::Upstream);
    }
    session.set_keepalive(None);
    reply::refuse(session, ctx, &Failure::Internal).await
}

impl Cut {
    /// Notes how the request ended, and gives the error that makes Pingora close the connection.
    fn note(self, ctx: &mut Ctx) -> Box<Error> {
        if self == Self::ClientGone {
            ctx.record.end = End::ClientGone;
        }
        Error::new(ErrorType::ConnectionClosed)
    }
}

#[cfg(test)]
mod tests;
