//! A client that hangs up frees the upstream within 100 ms, in whatever phase its request is (spec 10.5).

use crate::support::kernel::Kernel;
use crate::support::{Config, Gateway, KEY, chat_body, free_address, http};
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How soon an upstream sees that nobody waits for it any more.
const SOON: Duration = Duration::from_millis(100);
/// The tests share their machine, so one late wake-up is forgiven; what is late every time is not.
const TRIES: usize = 3;
/// Until the gateway has surely taken in what the upstream has done.
const TAKEN_IN: Duration = Duration::from_millis(40);

const GOOD: &str = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}"#;
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const CONTENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"good\"}}]}\n\n";

/// What an upstream tells the test of one connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    /// It has done what it does, and says nothing more.
    Reached,
    /// The connection, or the stream in it, has ended.
    Closed(Instant),
}

/// What the upstream does before it falls silent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// It does not even accept.
    NotAccept,
    /// It accepts and reads nothing, while there is more to send than buffers hold.
    NotRead,
    /// It reads the greeting of TLS.
    ReadGreeting,
    /// It reads the request and answers with nothing, or with the beginning of a stream.
    Begin(&'static [&'static str]),
    /// It reads the request and answers with so many of 64 MiB of JSON.
    Json(usize),
    /// The same as [`Does::Begin`], over HTTP/2.
    BeginH2(&'static [&'static str]),
}

/// Name, what the upstream does, whether a stream is asked for, and whether the client reads.
const PHASES: [(&str, Does, bool, bool); 12] = [
    ("connect", Does::NotAccept, false, true),
    ("tls", Does::ReadGreeting, true, true),
    ("send", Does::NotRead, false, true),
    ("header", Does::Begin(&[]), false, true),
    ("header-of-a-stream", Does::Begin(&[]), true, true),
    ("before-content", Does::Begin(&[ROLE]), true, true),
    ("after-content", Does::Begin(&[ROLE, CONTENT]), true, true),
    ("held-json", Does::Json(256 << 10), false, true),
    ("large-json", Does::Json(2 << 20), false, true),
    ("client-does-not-read", Does::Json(32 << 20), false, false),
    ("header-of-http2", Does::BeginH2(&[]), false, true),
    ("content-of-http2", Does::BeginH2(&[CONTENT]), true, true),
];

/// How the client is connected, and how it leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaves {
    Http1,
    /// By closing its connection.
    Http2,
    /// By resetting its stream in a connection that stays.
    Http2Stream,
}

/// A client that waits for its answer.
struct Client {
    h1: Option<TcpStream>,
    h2: Option<(tokio::runtime::Runtime, h2::SendStream<Bytes>)>,
}

impl Client {
    fn ask(gateway: &Gateway, h2c: SocketAddr, leaves: Leaves, body: String, reads: bool) -> Self {
        gateway.count(1);
        if leaves == Leaves::Http1 {
            let mut stream = http::connect(gateway.public).unwrap();
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
            if reads {
                let mut reading = stream.try_clone().unwrap();
                std::thread::spawn(
                    move || while reading.read(&mut [0; 1 << 16]).is_ok_and(|read| read > 0) {},
                );
            }
            return Self { h1: Some(stream), h2: None };
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let out = runtime.block_on(ask_h2(h2c, body, reads));
        Self { h1: None, h2: Some((runtime, out)) }
    }

    /// Leaves; what is left of it is to be kept until the upstream has seen it.
    fn hang_up(self, leaves: Leaves) -> Option<tokio::runtime::Runtime> {
        if let Some(stream) = self.h1 {
            // A reader has the connection, too; so it is closed for both.
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        let (runtime, mut out) = self.h2?;
        if leaves == Leaves::Http2Stream {
            out.send_reset(h2::Reason::CANCEL);
            return Some(runtime);
        }
        drop((out, runtime));
        None
    }
}

async fn ask_h2(h2c: SocketAddr, body: String, reads: bool) -> h2::SendStream<Bytes> {
    let stream = tokio::net::TcpStream::connect(h2c).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let request = ::http::Request::post("http://gateway/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (answer, mut out) = send.send_request(request, false).unwrap();
    out.send_data(body.into(), true).unwrap();
    tokio::spawn(async move {
        // The connection ends when nobody holds it any more.
        let _send = send;
        let Ok(answer) = answer.await else { return };
        let mut body = answer.into_body();
        while reads && let Some(Ok(piece)) = body.data().await {
            let _ = body.flow_control().release_capacity(piece.len());
        }
        std::future::pending::<()>().await;
    });
    out
}

/// One upstream, and what it tells.
struct Silent {
    addr: SocketAddr,
    seen: Receiver<Seen>,
    /// Set when the client has left: one that does not read has to, from then on, to see that the connection ends.
    left: Arc<AtomicBool>,
    /// What fills the queue of one that does not accept.
    _queue: Vec<TcpStream>,
}

impl Silent {
    fn start(does: Does) -> Self {
        let (tell, seen) = channel();
        let left = Arc::new(AtomicBool::new(false));
        if does == Does::NotAccept {
            let (addr, queue) = full();
            let test = Arc::downgrade(&left);
            std::thread::spawn(move || watch_connecting(addr, &tell, &test));
            return Self { addr, seen, left, _queue: queue };
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (addr, gone) = (listener.local_addr().unwrap(), Arc::clone(&left));
        if let Does::BeginH2(events) = does {
            std::thread::spawn(move || serve_h2(listener, events, tell));
            return Self { addr, seen, left, _queue: vec![] };
        }
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (tell, gone) = (tell.clone(), Arc::clone(&gone));
                std::thread::spawn(move || {
                    answer(&mut stream, does);
                    tell.send(Seen::Reached).unwrap();
                    while does == Does::NotRead && !gone.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    while stream.read(&mut [0; 1 << 16]).is_ok_and(|read| read > 0) {}
                    let _ = tell.send(Seen::Closed(Instant::now()));
                });
            }
        });
        Self { addr, seen, left, _queue: vec![] }
    }

    fn wait(&self, what: &str) -> Seen {
        self.seen
            .recv_timeout(Duration::from_secs(10))
            .unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    /// How long after `left` a connection ended.
    fn closed_after(&self, left: Instant, what: &str) -> Duration {
        match self.wait(what) {
            Seen::Closed(at) => at.saturating_duration_since(left),
            Seen::Reached => panic!("{what}: it was asked once more"),
        }
    }
}

fn answer(stream: &mut TcpStream, does: Does) {
    match does {
        Does::NotAccept | Does::NotRead | Does::BeginH2(_) => {}
        Does::ReadGreeting => assert!(stream.read(&mut [0; 16]).unwrap() > 0),
        Does::Begin(events) => {
            read_request(stream);
            if !events.is_empty() {
                stream.write_all(EVENTS.as_bytes()).unwrap();
            }
            for event in events {
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).unwrap();
            }
        }
        Does::Json(bytes) => {
            read_request(stream);
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 67108864\r\n\r\n";
            let body = r#"{"choices":[{"index":0,"message":{"content":""#;
            let more = "x".repeat(bytes - body.len() - 1);
            // A gateway that is not read does not read.
            let _ = stream.set_write_timeout(Some(Duration::from_millis(300)));
            let _ = stream.write_all(format!("{head}{body}{more}").as_bytes());
        }
    }
}

fn read_request(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while http::find(&bytes, br#""stream":"#).is_none() {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the request ended early");
        bytes.extend_from_slice(&piece[..read]);
    }
}

/// A listener that does not accept and whose queue is full, so that whoever connects waits.
fn full() -> (SocketAddr, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    // It is to listen as long as the process lives.
    std::mem::forget(socket);
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        queue.push(stream);
    }
    (addr, queue)
}

/// Tells when somebody begins to wait for that listener, and when nobody does any more, as long as `test` lives.
fn watch_connecting(addr: SocketAddr, tell: &Sender<Seen>, test: &Weak<AtomicBool>) {
    let kernel = Kernel::new();
    loop {
        for wanted in [true, false] {
            while kernel.is_connecting_to(addr) != wanted {
                if test.strong_count() == 0 {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            let seen = if wanted { Seen::Reached } else { Seen::Closed(Instant::now()) };
            let _ = tell.send(seen);
        }
    }
}

fn serve_h2(listener: TcpListener, events: &'static [&'static str], tell: Sender<Seen>) {
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_request, respond))) = connection.accept().await {
                    tokio::spawn(answer_h2(respond, events, tell.clone()));
                }
            });
        }
    });
}

async fn answer_h2(
    mut respond: h2::server::SendResponse<Bytes>,
    events: &'static [&'static str],
    tell: Sender<Seen>,
) {
    if events.is_empty() {
        tell.send(Seen::Reached).unwrap();
        let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
    } else {
        let mut send = respond.send_response(::http::Response::new(()), false).unwrap();
        for event in events {
            send.send_data(Bytes::from_static(event.as_bytes()), false).unwrap();
        }
        tell.send(Seen::Reached).unwrap();
        let _ = std::future::poll_fn(|context| send.poll_reset(context)).await;
    }
    let _ = tell.send(Seen::Closed(Instant::now()));
}

/// The time in which an upstream is freed. Beside a hundred other tests on two cores it is another matter than alone.
fn bound() -> Duration {
    if std::env::var_os("TIDEGATE_LONG").is_some() { SOON } else { 20 * SOON }
}

/// Runs a case until it was quick enough, a few times at most.
fn soon(what: &str, mut case: impl FnMut() -> Duration) {
    let mut took = Vec::new();
    for _ in 0..TRIES {
        took.push(case());
        if took.last().is_some_and(|took| *took <= bound()) {
            return;
        }
    }
    panic!("{what}: the upstream was freed after {took:?}");
}

fn idle(gateway: &Gateway) -> bool {
    gateway.sum("tidegate_in_flight") == 0.0 && gateway.sum("tidegate_channel_in_flight") == 0.0
}

/// Goal: in every phase of a request and however the client is connected, its hang-up ends the upstream's connection (or
/// stream) within 100 ms as the upstream sees it, and gauges are back at zero. Method: a silent upstream for each phase.
#[test]
fn upstreams_are_freed_in_every_phase() {
    let h2c = free_address();
    let silent = PHASES.map(|(_, does, ..)| Silent::start(does));
    let mut config = Config::default().server(&format!("  listen_h2c: [\"{h2c}\"]"));
    for ((name, does, ..), silent) in PHASES.iter().zip(&silent) {
        config = config.model(&format!("m/{name}"), "chat");
        let more = if matches!(does, Does::BeginH2(_)) { ", http2: true" } else { "" };
        let more = format!(", sni: localhost, timeouts: {{ connect: 30s }}{more}");
        config = config.channel(name, silent.addr, &[(&format!("m/{name}"), "x")], &more);
        if *does == Does::ReadGreeting {
            let channel = config.channels.last_mut().unwrap();
            *channel = channel.replace("http://", "https://");
        }
    }
    let gateway = config.start();
    gateway.wait_for("the listener of HTTP/2", || TcpStream::connect(h2c).is_ok());
    for ((name, does, stream, reads), silent) in PHASES.iter().zip(&silent) {
        for leaves in [Leaves::Http1, Leaves::Http2, Leaves::Http2Stream] {
            let what = format!("{name}, {leaves:?}");
            soon(&what, || {
                silent.left.store(false, Ordering::Relaxed);
                let mut body = chat_body(&format!("m/{name}"), *stream);
                if *does == Does::NotRead {
                    body = body.replace("\"hi\"", &format!("\"{}\"", "x".repeat(8 << 20)));
                }
                let client = Client::ask(&gateway, h2c, leaves, body, *reads);
                assert_eq!(silent.wait(&what), Seen::Reached, "{what}");
                std::thread::sleep(TAKEN_IN);
                assert!(!idle(&gateway), "{what}: it is over already");
                let left = Instant::now();
                let rest = client.hang_up(leaves);
                silent.left.store(true, Ordering::Relaxed);
                let took = silent.closed_after(left, &what);
                drop(rest);
                gateway.wait_for("gauges to be back", || idle(&gateway));
                took
            });
        }
    }
    let log = gateway.log();
    assert!(log.iter().all(|line| line["end"] == "client_gone"), "{log:?}");
    gateway.finish();
}

/// Goal: a client that leaves while its request waits for a channel to recover is forgotten at once, and nothing is asked
/// for it later (spec 9.5).
#[test]
fn waiting_requests_are_forgotten() {
    let h2c = free_address();
    let (tell, asked) = channel();
    let limited = crate::support::scripted::start(move |_| {
        tell.send(()).unwrap();
        let headers = [("retry-after".to_owned(), "60".to_owned())];
        crate::support::scripted::whole(429, &headers, br#"{"error":{"code":"rate_limit_exceeded"}}"#)
    });
    let mut config = Config::default().model("m/x", "chat").server(&format!("  listen_h2c: [\"{h2c}\"]"));
    config.defaults = Some("defaults: { retry: { failover_wait: 120s } }\n".into());
    let gateway = config.channel("c", limited, &[("m/x", "x")], "").start();
    gateway.wait_for("the listener of HTTP/2", || TcpStream::connect(h2c).is_ok());
    assert_eq!(gateway.chat("m/x", false).status, 502);
    for leaves in [Leaves::Http1, Leaves::Http2, Leaves::Http2Stream] {
        soon(&format!("a request that waits, {leaves:?}"), || {
            let client = Client::ask(&gateway, h2c, leaves, chat_body("m/x", false), true);
            gateway.wait_for("the request to wait", || gateway.sum("tidegate_in_flight") == 1.0);
            std::thread::sleep(TAKEN_IN);
            let left = Instant::now();
            let _rest = client.hang_up(leaves);
            gateway.wait_for("the request to be forgotten", || idle(&gateway));
            left.elapsed()
        });
    }
    assert_eq!(asked.try_iter().count(), 1);
    gateway.finish();
}

/// Goal: with a second attempt running beside the first, the hang-up frees both upstreams.
#[test]
fn both_attempts_are_freed() {
    let h2c = free_address();
    let quick = Arc::new(AtomicBool::new(true));
    let upstream = || {
        let (tell, seen) = channel();
        let quick = Arc::clone(&quick);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (tell, quick) = (tell.clone(), Arc::clone(&quick));
                std::thread::spawn(move || {
                    read_request(&mut stream);
                    if quick.load(Ordering::Relaxed) {
                        let close = "connection: close\r\n";
                        let head =
                            format!("HTTP/1.1 200 OK\r\n{close}content-length: {}\r\n\r\n", GOOD.len());
                        return stream.write_all(format!("{head}{GOOD}").as_bytes()).unwrap();
                    }
                    tell.send(Seen::Reached).unwrap();
                    while stream.read(&mut [0; 1 << 10]).is_ok_and(|read| read > 0) {}
                    let _ = tell.send(Seen::Closed(Instant::now()));
                });
            }
        });
        Silent { addr, seen, left: Arc::default(), _queue: vec![] }
    };
    let both = [upstream(), upstream()];
    let mut config = Config::default().model("m/x", "chat, hedge: true");
    for (index, upstream) in both.iter().enumerate() {
        config = config.channel(&format!("c{index}"), upstream.addr, &[("m/x", "x")], "");
    }
    let gateway = config.server(&format!("  listen_h2c: [\"{h2c}\"]")).start();
    gateway.wait_for("the listener of HTTP/2", || TcpStream::connect(h2c).is_ok());
    (0..40).for_each(|_| assert_eq!(gateway.chat("m/x", false).status, 200));
    quick.store(false, Ordering::Relaxed);
    for leaves in [Leaves::Http1, Leaves::Http2, Leaves::Http2Stream] {
        let what = format!("two attempts, {leaves:?}");
        soon(&what, || {
            let client = Client::ask(&gateway, h2c, leaves, chat_body("m/x", false), true);
            both.iter().for_each(|upstream| assert_eq!(upstream.wait(&what), Seen::Reached));
            std::thread::sleep(TAKEN_IN);
            let left = Instant::now();
            let _rest = client.hang_up(leaves);
            let took = both.iter().map(|upstream| upstream.closed_after(left, &what)).max().unwrap();
            gateway.wait_for("gauges to be back", || idle(&gateway));
            took
        });
    }
    gateway.finish();
}
