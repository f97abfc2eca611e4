//! The listeners as services of the framework, and how their connections end (spec 12.3).
//!
//! When its listeners close, the framework drops each connection that has no request at that instant, also one whose request
//! is on its way: the client has connected, perhaps is still shaking hands, and reads a closed connection. So [`Public`] waits
//! [`LINGER`] before it lets go of them, and knows when there are none. [`Steady`] keeps the admin listener open while a
//! drain lasts: that is when an operator looks.

use crate::proxy::{Gateway, HeaderArrived, Readiness};
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::listening::Service;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How long a connection without a request may stay after its listener has closed: as long as a client on the other side of
/// the world takes for a handshake and a header.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The clients' connections of all public listeners.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: AtomicUsize,
    cut: Notify,
}

impl Connections {
    /// How many there are, idle ones too.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Ends them all, with the requests on them.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

/// The listening sockets of this process, as the framework keeps them.
pub(super) struct Listeners {
    addresses: Vec<String>,
    table: OnceLock<ListenFds>,
}

impl Listeners {
    /// Those that are going to listen at these addresses.
    pub(super) fn at(addresses: Vec<String>) -> Arc<Self> {
        Arc::new(Self { addresses, table: OnceLock::new() })
    }

    /// Whether all of them are open.
    pub(super) fn are_open(&self) -> bool {
        let Some(table) = self.table.get() else { return false };
        let table = table.lock();
        self.addresses.iter().all(|address| table.get(address).is_some())
    }

    /// Sends a copy of each to the process that waits at this path; takes some seconds if none does.
    ///
    /// # Errors
    ///
    /// Nobody takes them.
    pub(super) fn send_to(&self, path: &str) -> io::Result<()> {
        let table = self.table.get().ok_or(io::ErrorKind::NotConnected)?;
        table.lock().send_to_sock(path).map(drop).map_err(io::Error::from)
    }
}

/// One client's connection, until it is dropped.
struct Open<'a>(&'a Connections);

impl<'a> Open<'a> {
    fn on(connections: &'a Connections) -> Self {
        connections.open.fetch_add(1, Ordering::AcqRel);
        Self(connections)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What serves a public listener: the framework's proxy, with a bound and an end for its connections.
pub(super) struct Public {
    requests: Arc<Requests>,
    connections: Arc<Connections>,
}

impl Public {
    pub(super) fn new(proxy: HttpProxy<Gateway>, gateway: Gateway, connections: Arc<Connections>) -> Self {
        let requests = Requests { proxy: Arc::new(proxy), gateway };
        Self { requests: Arc::new(requests), connections }
    }
}

/// The framework's proxy, with a bound for the time that a header takes: the framework bounds the time between two pieces of
/// it, so a byte a minute would hold a connection for ever (spec 15.2).
struct Requests {
    proxy: Arc<HttpProxy<Gateway>>,
    gateway: Gateway,
}

#[async_trait]
impl HttpServerApp for Requests {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        // Over HTTP/2 the header is there already.
        if session.is_http2() {
            return self.proxy.process_new_http(session, shutdown).await;
        }
        let arrived = HeaderArrived::default();
        // A connection may be idle before it brings the next header.
        let idle = Duration::from_secs(session.get_keepalive().unwrap_or_default());
        session.set_connection_user_context(Some(Box::new(arrived.clone())));
        tokio::select! {
            biased;
            reusable = self.proxy.process_new_http(session, shutdown) => reusable,
            () = overdue(&arrived, &self.gateway, idle) => None,
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        tokio::time::sleep(LINGER).await;
        self.proxy.http_cleanup().await;
    }
}

/// Waits until a header should have arrived, and for ever if it has.
async fn overdue(arrived: &HeaderArrived, gateway: &Gateway, idle: Duration) {
    if !arrived.is_so() {
        tokio::time::sleep(idle + gateway.header_timeout()).await;
    }
    if arrived.is_so() {
        std::future::pending::<()>().await;
    }
    gateway.note_slow_header();
}

#[async_trait]
impl ServerApp for Public {
    /// # Cancel safety
    ///
    /// May be dropped; the requests on the connection are settled as killed then.
    async fn process_new(self: &Arc<Self>, session: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _open = Open::on(&self.connections);
        if !self.requests.gateway.has_room_for(self.connections.open()) {
            return None;
        }
        tokio::select! {
            reusable = self.requests.process_new(session, shutdown) => reusable,
            () = self.connections.cut.notified() => None,
        }
    }

    async fn cleanup(&self) {
        self.requests.cleanup().await;
    }
}

/// A service whose listeners stay open while the process drains, until its end. When another process takes its place they
/// close with the others, so that no scrape is answered by the old one.
pub(super) struct Steady<A> {
    pub(super) service: Service<A>,
    pub(super) readiness: Arc<Readiness>,
    /// Is told of all listening sockets of the process, which the framework shows to services alone.
    pub(super) listeners: Arc<Listeners>,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> pingora::services::Service for Steady<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(table) = &fds {
            // A service is started once.
            let _ = self.listeners.table.set(Arc::clone(table));
        }
        let (close, closing) = watch::channel(false);
        let readiness = Arc::clone(&self.readiness);
        let told = async move {
            // The sender is gone only with the server itself.
            let _ = shutdown.wait_for(|shutdown| *shutdown).await;
            if readiness.is_handing_over() {
                let _ = close.send(true);
            }
            std::future::pending().await
        };
        tokio::select! {
            () = self.service.start_service(fds, closing, listeners_per_fd) => {}
            () = told => {}
        }
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    /// Without it no listener is closed that a process before this one had and this one does not want.
    fn listen_addresses(&self) -> Option<Vec<String>> {
        pingora::services::Service::listen_addresses(&self.service)
    }
}
