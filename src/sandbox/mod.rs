//! Ring 3: the sandbox, a scripted upstream that speaks OpenAI's API.
//!
//! The quick start, the tests and the cost benchmark run against it. It owns its bytes and its time: honest answers are
//! quick and exact, and each fault of the table ([`catalogue`]) is one that a gateway meets with real upstreams. What a
//! request gets is decided by the request alone, by the model name or the header `x-sandbox-fault`, so one sandbox serves
//! many tests at once. Always holds: no request ends the server, and memory for one request is bounded. Deliberately
//! absent: TLS, HTTP/2, checking of credentials beyond their presence, and any sense in the content.

mod answer;
mod ask;
mod canned;
mod fault;
#[cfg(test)]
mod fault_tests;
mod http;
mod inject;
mod speech;
mod stats;
mod stream;
#[cfg(test)]
mod test_client;
#[cfg(test)]
mod tests;
mod video;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use answer::{Answer, Route};
use ask::{Ask, Scene};
use fault::{Case, Kind};
use http::{Conn, NoRequest, Reply, Request};
use stream::Script;

pub use fault::{Applies, Fault, Phase, catalogue, faults};
pub use stats::{Recorded, Stats};

/// How long a fault stays silent at most.
const LONG: Duration = Duration::from_secs(600);

/// What a sandbox is set to.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Wait before each content chunk of a stream, unless the request says otherwise; zero by default.
    pub chunk_delay: Duration,
}

impl Options {
    /// Listens here and waits nowhere.
    pub fn new(listen: SocketAddr) -> Options {
        Options { listen, chunk_delay: Duration::ZERO }
    }
}

/// A sandbox that is bound to its address.
#[derive(Debug)]
pub struct Sandbox {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections of a sandbox share.
#[derive(Debug)]
struct Shared {
    stats: Arc<Stats>,
    chunk_delay: Duration,
    /// Requests that each percentage of `flaky-<pct>` has answered.
    flaky: [AtomicU64; 101],
}

/// How an answer leaves its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Complete: the next request may follow, if the client wants that.
    Keep,
    Close,
    Reset,
}

/// Binds a sandbox with default options.
///
/// # Errors
/// The address cannot be bound.
pub async fn bind(listen: SocketAddr) -> io::Result<Sandbox> {
    bind_with(Options::new(listen)).await
}

/// Binds a sandbox.
///
/// # Errors
/// The address cannot be bound.
pub async fn bind_with(options: Options) -> io::Result<Sandbox> {
    let listener = TcpListener::bind(options.listen).await?;
    let addr = listener.local_addr()?;
    let flaky = std::array::from_fn(|_| AtomicU64::new(0));
    let shared = Shared { stats: Arc::default(), chunk_delay: options.chunk_delay, flaky };
    Ok(Sandbox { listener, addr, shared: Arc::new(shared) })
}

impl Sandbox {
    /// The address that clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The counters, which outlive the sandbox.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.stats)
    }

    /// Serves until dropped; it never returns and never fails for a bad client.
    ///
    /// # Cancel safety
    /// Dropping it closes the listener and all connections at once.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, Arc::clone(&self.shared)));
                    }
                    // Out of file descriptors, or the client left already: only time helps.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _open = shared.stats.count_connection();
    let mut conn = Conn::new(stream);
    loop {
        let request = match conn.request().await {
            Ok(request) => request,
            Err(NoRequest::Closed) => return,
            Err(NoRequest::Cut) => return shared.stats.count_cut_upload(),
            Err(NoRequest::Refused(status)) => {
                let message = "The sandbox cannot read this request";
                // The connection ends either way.
                let _ = refuse(&mut conn, status, message, "unreadable_request", false).await;
                return conn.linger().await;
            }
        };
        match answer(&mut conn, &shared, &request).await {
            Ok(Outcome::Keep) if request.keep_alive => {}
            Ok(Outcome::Keep | Outcome::Close) => return,
            Ok(Outcome::Reset) => return conn.reset(),
            Err(_) => return shared.stats.count_aborted(),
        }
    }
}

/// Answers one request; an error means that the client is gone.
async fn answer(conn: &mut Conn, shared: &Shared, request: &Request) -> io::Result<Outcome> {
    let serial = shared.stats.count_request();
    let _answering = shared.stats.count_answering();
    if shared.stats.is_recording() {
        shared.stats.record(request.recorded());
    }
    let keep = request.keep_alive;
    let Some(route) = Route::of(&request.method, &request.target) else {
        return no_route(conn, request).await;
    };
    if !request.authorized {
        let message =
            "You didn't provide an API key. You need to provide your API key in an Authorization header.";
        return refuse(conn, 401, message, "missing_api_key", keep).await;
    }
    if let Route::Job(step) = route {
        return video::follow(conn, request, step).await;
    }
    let ask = match route {
        Route::Models => Ok(Ask::default()),
        _ => Ask::parse(&request.body),
    };
    let ask = match ask {
        Ok(ask) => ask,
        Err(message) => return refuse(conn, 400, &message, "invalid_request", keep).await,
    };
    if route == Route::Embeddings && !ask.inputs_fit() {
        return refuse(conn, 400, "input must hold 1 to 2048 texts", "invalid_request", keep).await;
    }
    let scene = match Scene::read(&ask.model, request.fault.as_deref(), shared.chunk_delay) {
        Ok(scene) if scene.fits(ask.choices()) => scene,
        Ok(_) => return refuse(conn, 400, "size times n is over 64 MiB", "sandbox_knob", keep).await,
        Err(message) => return refuse(conn, 400, &message, "sandbox_knob", keep).await,
    };
    conn.pause(scene.delay).await?;
    let answer = Answer { route, ask: &ask, scene: &scene, serial };
    match scene.fault {
        Some(case) => act_out(conn, shared, request, &answer, case).await,
        None => honest(conn, request, &answer, Script::default()).await,
    }
}

async fn act_out(
    conn: &mut Conn,
    shared: &Shared,
    request: &Request,
    answer: &Answer<'_>,
    case: Case,
) -> io::Result<Outcome> {
    let keep = request.keep_alive;
    let streams = answer.route.can_stream() && answer.ask.streams();
    if case.fault.applies == Applies::Stream && !streams {
        let message = format!("The sandbox fault '{}' applies to streams alone", case.fault.name);
        return refuse(conn, 400, &message, "sandbox_fault", keep).await;
    }
    let script = match case.fault.kind {
        Kind::Status => return inject::status(conn, case.parameter, keep).await,
        Kind::Canned(canned) => return inject::say(conn, canned, keep).await,
        Kind::Flaky if shared.fails_now(case.parameter) => {
            return inject::say(conn, &canned::FLAKY_503, keep).await;
        }
        Kind::Flaky => Script::default(),
        Kind::Wire(wire) => match inject::misbehave(conn, wire, answer).await? {
            Some(outcome) => return Ok(outcome),
            None => Script::default(),
        },
        Kind::Break(at, then) => Script { breaks: Some((at, then)), shape: None },
        Kind::Shape(shape) => Script { breaks: None, shape: Some(shape) },
    };
    honest(conn, request, answer, script).await
}

/// Sends the honest answer, as a stream where one is asked for.
async fn honest(
    conn: &mut Conn,
    request: &Request,
    answer: &Answer<'_>,
    script: Script,
) -> io::Result<Outcome> {
    if answer.route.can_stream() && answer.ask.streams() {
        return stream::play(conn, answer, script, request.keep_alive, request.chunked_ok).await;
    }
    let (body, id) = (answer.body(), format!("req_sandbox_{}", answer.serial));
    let reply = Reply {
        status: 200,
        content_type: "application/json",
        headers: &[("x-request-id", &id)],
        body: body.as_bytes(),
        keep_alive: request.keep_alive,
    };
    conn.write(&reply.bytes()).await?;
    Ok(Outcome::Keep)
}

async fn no_route(conn: &mut Conn, request: &Request) -> io::Result<Outcome> {
    if request.method == "HEAD" {
        // An answer to HEAD has no body, whatever it is.
        conn.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
        return Ok(Outcome::Close);
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let message = format!("Invalid URL ({} {path})", request.method);
    refuse(conn, 404, &message, "unknown_url", request.keep_alive).await
}

/// Answers with an error of the sandbox's own, in OpenAI's shape.
async fn refuse(
    conn: &mut Conn,
    status: u16,
    message: &str,
    code: &str,
    keep_alive: bool,
) -> io::Result<Outcome> {
    let body = answer::error(message, "invalid_request_error", Some(code));
    let body = body.as_bytes();
    conn.write(&Reply { status, content_type: "application/json", headers: &[], body, keep_alive }.bytes())
        .await?;
    Ok(Outcome::Keep)
}

impl Shared {
    /// Whether this request is one of the `percent` in a hundred that fail, spread evenly.
    fn fails_now(&self, percent: u16) -> bool {
        let Some(turns) = self.flaky.get(usize::from(percent)) else { return false };
        let (turn, percent) = (turns.fetch_add(1, Relaxed) % 100, u64::from(percent));
        (turn + 1) * percent / 100 > turn * percent / 100
    }
}
