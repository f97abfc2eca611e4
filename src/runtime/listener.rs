//! The listeners as services of the framework, and how their connections end (spec 12.3).
//!
//! When its listeners close, the framework drops each connection that has no request at that instant, also one whose request
//! is on its way: the client has connected, perhaps is still shaking hands, and reads a closed connection. So [`Guarded`] waits
//! [`LINGER`] before it lets go of them, and knows when there are none. [`Steady`] keeps the admin listener open while a
//! drain lasts: that is when an operator looks.

use super::connections::{Connection, Connections, Expiry, Full, Open};
use super::guarded_stream::GuardedStream;
use crate::proxy::{ConnectionBounds, Gateway, HeaderArrived, HeaderObserver, Readiness};
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::{ALPN, Stream, l4};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::listening::Service;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// How long a connection without a request may stay after its listener has closed: as long as a client on the other side of
/// the world takes for a handshake and a header.
pub(super) const LINGER: Duration = Duration::from_secs(1);

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

/// The first bytes of an HTTP/2 connection (RFC 9113, 3.4).
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bounds of one kind of listener, and what counts the connections that it ends.
pub(super) trait Policy: Send + Sync + 'static {
    /// The bounds in force now.
    fn bounds(&self) -> ConnectionBounds;

    /// Whether the bound for each address does not concern this one.
    fn is_exempt(&self, address: IpAddr) -> bool;

    /// Whether no connection may be accepted at the moment, whatever its number.
    fn is_shedding(&self) -> bool;

    /// Counts a connection that ended before its first request.
    fn refused(&self, reason: &'static str);

    /// Counts a connection that ended after its last request.
    fn closed(&self, reason: &'static str);
}

impl Policy for Gateway {
    fn bounds(&self) -> ConnectionBounds {
        self.connection_bounds()
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.is_trusted_proxy(address)
    }

    fn is_shedding(&self) -> bool {
        self.sheds_connections()
    }

    fn refused(&self, reason: &'static str) {
        self.note_refused_connection(reason);
    }

    fn closed(&self, reason: &'static str) {
        self.note_closed_connection(reason);
    }
}

/// An HTTP application behind a listener whose connections are bounded in number and in time: the framework bounds the time
/// between two pieces of a header, so a byte a minute would hold a connection for ever, and HTTP/2 not at all (spec 15.2).
pub(super) struct Guarded<A, P> {
    shared: Arc<Shared<A, P>>,
}

struct Shared<A, P> {
    app: Arc<A>,
    policy: P,
    connections: Arc<Connections>,
    tls: Option<Acceptor>,
    /// The application's options for connections that turn out to be HTTP/1.1.
    plain: HttpServerOptions,
    /// The same where HTTP/2 is spoken without TLS.
    h2c: HttpServerOptions,
    speaks_h2c: bool,
}

/// The application on one connection.
struct OnConnection<A, P> {
    shared: Arc<Shared<A, P>>,
    connection: Arc<Connection>,
    is_h2c: bool,
}

impl<A, P: Policy> Guarded<A, P>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// Guards an application; with `tls` its clients have to speak it, without they may.
    pub(super) fn new(
        app: A,
        policy: P,
        connections: Arc<Connections>,
        tls: Option<Acceptor>,
        speaks_h2c: bool,
    ) -> Self {
        let mut plain = app.server_options().cloned().unwrap_or_default();
        plain.h2c = false;
        let mut h2c = plain.clone();
        h2c.h2c = true;
        let app = Arc::new(app);
        Self { shared: Arc::new(Shared { app, policy, connections, tls, plain, h2c, speaks_h2c }) }
    }
}

impl<A, P: Policy> Shared<A, P>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// Counts the end of a connection that no request is in flight on.
    fn note(&self, expiry: Expiry, had_request: bool) {
        match expiry {
            Expiry::SlowHeader => self.policy.refused("slow_header"),
            Expiry::Idle if !had_request => self.policy.refused("idle"),
            Expiry::Idle => self.policy.closed("idle"),
            Expiry::Age => self.policy.closed("age"),
            Expiry::Evicted => self.policy.closed("evicted"),
        }
    }

    /// Admits a connection or counts why not.
    fn admit(&self, session: &Stream) -> Option<Open> {
        if self.policy.is_shedding() {
            self.policy.refused("overload");
            return None;
        }
        let bounds = self.policy.bounds();
        let address = bounds.per_address.and_then(|_| peer_address(session));
        let address = address.filter(|address| !self.policy.is_exempt(*address));
        match self.connections.admit(address, bounds.max, bounds.per_address) {
            Ok(open) => Some(open),
            Err(Full::Total) => {
                self.policy.refused("too_many");
                None
            }
            Err(Full::Address) => {
                self.policy.refused("too_many_of_address");
                None
            }
        }
    }

    /// The stream that the framework is to read, with TLS where there is TLS, and whether HTTP/2 is spoken on it.
    async fn opened(&self, session: Stream, connection: &Arc<Connection>) -> Option<(Stream, Protocol)> {
        let mut session = session;
        if let Some(tls) = &self.tls {
            let plain = session.into_any().downcast::<l4::stream::Stream>().ok()?;
            match tls.tls_handshake(*plain).await {
                Ok(encrypted) => session = Box::new(encrypted),
                Err(e) => {
                    // Scanners and health checks without TLS end here all day.
                    log::debug!("TLS handshake failed: {e}");
                    self.policy.refused("handshake");
                    return None;
                }
            }
            if matches!(session.selected_alpn_proto(), Some(ALPN::H2)) {
                return Some((session, Protocol::Http2));
            }
        } else if self.speaks_h2c {
            let mut preface = [0; H2_PREFACE.len()];
            if session.try_peek(&mut preface).await.ok()? && preface == *H2_PREFACE {
                return Some((session, Protocol::Http2WithoutTls));
            }
        }
        Some((Box::new(GuardedStream::new(session, Arc::clone(connection))), Protocol::Http1))
    }
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    Http2WithoutTls,
}

fn peer_address(session: &Stream) -> Option<IpAddr> {
    let digest = session.get_socket_digest()?;
    digest.peer_addr()?.as_inet().map(|address| address.ip().to_canonical())
}

#[async_trait]
impl<A, P: Policy> HttpServerApp for OnConnection<A, P>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let scope = self.connection.expect_request();
        // Over HTTP/2 the header is there already.
        if session.is_http2() {
            scope.header_arrived();
            return self.shared.app.process_new_http(session, shutdown).await;
        }
        // The deadlines of headers are the connection's, which the framework's own could only anticipate; zero is for ever.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(0));
        }
        session.set_connection_user_context(Some(Box::new(HeaderArrived(
            Arc::clone(&scope) as Arc<dyn HeaderObserver>
        ))));
        let reusable = self.shared.app.process_new_http(session, shutdown).await;
        reusable.filter(|_| !self.connection.is_aged(self.shared.policy.bounds().age))
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.shared.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(if self.is_h2c { &self.shared.h2c } else { &self.shared.plain })
    }
}

#[async_trait]
impl<A, P: Policy> ServerApp for Guarded<A, P>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// # Cancel safety
    ///
    /// May be dropped; the requests on the connection are settled as killed then.
    async fn process_new(self: &Arc<Self>, session: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let shared = &self.shared;
        shared.connections.clock().start();
        let open = shared.admit(&session)?;
        let connection = open.connection();
        let times = || shared.policy.bounds();
        let serving = serve(shared, session, connection, shutdown);
        tokio::pin!(serving);
        tokio::select! {
            biased;
            () = &mut serving => {}
            expiry = connection.expired(times) => shared.note(expiry, connection.has_served()),
            () = shared.connections.are_cut() => {}
        }
        None
    }

    async fn cleanup(&self) {
        tokio::time::sleep(LINGER).await;
        self.shared.app.http_cleanup().await;
    }
}

/// Serves one connection to its end. An HTTP/2 connection that is too old is told so (GOAWAY), and ends with its streams.
async fn serve<A, P: Policy>(
    shared: &Arc<Shared<A, P>>,
    session: Stream,
    connection: &Arc<Connection>,
    shutdown: &ShutdownWatch,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Some((session, protocol)) = shared.opened(session, connection).await else { return };
    let app = Arc::new(OnConnection {
        shared: Arc::clone(shared),
        connection: Arc::clone(connection),
        is_h2c: protocol == Protocol::Http2WithoutTls,
    });
    if protocol == Protocol::Http1 {
        app.process_new(session, shutdown).await;
        return;
    }
    let (retire, retired) = watch::channel(*shutdown.borrow());
    let serving = app.process_new(session, &retired);
    tokio::pin!(serving);
    let mut ending = shutdown.clone();
    tokio::select! {
        _ = &mut serving => return,
        () = connection.aged(|| shared.policy.bounds().age) => shared.policy.closed("age"),
        _ = ending.wait_for(|ending| *ending) => {}
    }
    // The receiver is in the future that is served.
    let _ = retire.send(true);
    serving.await;
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
