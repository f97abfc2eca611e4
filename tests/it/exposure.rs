//! The gateway exposed to clients without a key (spec 15): slow clients of every kind, large bodies, a process whose
//! resources run short.

use crate::protocols::{Authority, runtime};
use crate::support::{Config, Gateway, KEY, Upstream, chat_body, free_address, http, is_long};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame, and a PING (RFC 9113, 6.5 and 6.7).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// The beginning of a HEADERS frame of 100 bytes on stream 1.
const HALF_HEADERS: &[u8] = &[0, 0, 100, 1, 4, 0, 0, 0, 1, 0x82];
/// The beginning of a TLS record of 512 bytes.
const HALF_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1];

/// Bytes that a slow client sends at first, and those that it sends again and again.
struct Slow {
    name: &'static str,
    port: Port,
    first: &'static [u8],
    then: &'static [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Plain,
    H2c,
    /// Bytes before a handshake.
    Tls,
    /// Bytes of HTTP/2 after a handshake.
    TlsH2,
    Admin,
}

const fn slow(name: &'static str, port: Port, first: &'static [u8], then: &'static [u8]) -> Slow {
    Slow { name, port, first, then }
}

const SLOW: [Slow; 15] = [
    slow("silent", Port::Plain, b"", b""),
    slow("header by bytes", Port::Plain, b"GET /v1/models HTTP/1.1\r\nx-slow: ", b"x"),
    slow("empty lines", Port::Plain, b"", b"\r\n"),
    slow("idle after an answer", Port::Plain, b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n", b""),
    slow("silent", Port::H2c, b"", b""),
    slow("half a preface", Port::H2c, b"PRI * HT", b""),
    slow("preface and settings", Port::H2c, b"", b""),
    slow("pings", Port::H2c, b"", PING),
    slow("half a header", Port::H2c, HALF_HEADERS, b""),
    slow("silent", Port::Tls, b"", b""),
    slow("half a handshake", Port::Tls, HALF_HELLO, b"\x03"),
    slow("silent", Port::TlsH2, b"", b""),
    slow("pings", Port::TlsH2, b"", PING),
    slow("silent", Port::Admin, b"", b""),
    slow("header by bytes", Port::Admin, b"GET /livez HTTP/1.1\r\nx-slow: ", b"x"),
];

/// Plays one slow client until the gateway closes the connection; the time that took.
async fn play(slow: &Slow, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Duration {
    let began = Instant::now();
    let speaks_h2 = slow.port == Port::TlsH2
        || slow.port == Port::H2c
            && (slow.then == PING || slow.first == HALF_HEADERS || slow.name.starts_with("preface"));
    let mut first = Vec::new();
    if speaks_h2 {
        first.extend_from_slice(PREFACE);
        first.extend_from_slice(SETTINGS);
    }
    first.extend_from_slice(slow.first);
    let _ = stream.write_all(&first).await;
    let mut piece = [0; 1024];
    loop {
        match tokio::time::timeout(Duration::from_millis(100), stream.read(&mut piece)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return began.elapsed(),
            Err(_) if slow.then.is_empty() => {}
            Err(_) => {
                if stream.write_all(slow.then).await.is_err() {
                    return began.elapsed();
                }
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{}: still open", slow.name);
    }
}

/// The ports of two gateways, with and without TLS.
#[derive(Clone)]
struct Ports {
    plain: SocketAddr,
    h2c: SocketAddr,
    secure: SocketAddr,
    admin: SocketAddr,
    connector: tokio_rustls::TlsConnector,
}

impl Ports {
    /// Opens the connection of one slow client and plays it to its end; the time that took.
    async fn attack(&self, slow: &Slow) -> Duration {
        let address = match slow.port {
            Port::Plain => self.plain,
            Port::H2c => self.h2c,
            Port::Tls | Port::TlsH2 => self.secure,
            Port::Admin => self.admin,
        };
        let stream = TcpStream::connect(address).await.unwrap();
        if slow.port != Port::TlsH2 {
            return play(slow, stream).await;
        }
        let name = "localhost".try_into().unwrap();
        play(slow, self.connector.connect(name, stream).await.unwrap()).await
    }

    /// Plays so many clients of each kind at once; the longest time of each kind.
    async fn attack_by_all(self, clients: usize) -> Vec<Duration> {
        let mut attacks = tokio::task::JoinSet::new();
        for (kind, slow) in SLOW.iter().enumerate() {
            // No more than the admin listener takes, which is its own bound.
            let clients = if slow.port == Port::Admin { clients.min(25) } else { clients };
            for _ in 0..clients {
                let ports = self.clone();
                attacks.spawn(async move { (kind, ports.attack(slow).await) });
            }
        }
        let mut slowest = vec![Duration::ZERO; SLOW.len()];
        while let Some(ended) = attacks.join_next().await {
            let (kind, took) = ended.unwrap();
            slowest[kind] = slowest[kind].max(took);
        }
        slowest
    }
}

/// The slowest of twenty requests of somebody else.
fn control(address: SocketAddr) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(http::get(address, "/v1/models").unwrap().status, 200);
        slowest = slowest.max(began.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    slowest
}

/// Goal: slow clients of every kind, on HTTP/1.1, HTTP/2, TLS and the admin listener, are closed within the bound and counted,
/// and others are served meanwhile.
#[test]
fn slow_clients_of_every_kind_are_closed_within_the_bound() {
    let clients = if is_long() { 300 } else { 30 };
    let margin = Duration::from_secs(if is_long() { 2 } else { 6 });
    let (upstream, authority, h2c) = (Upstream::start(), Authority::new(), free_address());
    let start = |server: &str| {
        let config = Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "");
        config.server(&format!("  keepalive: 2s\n  header_timeout: 2s\n{server}")).start()
    };
    let plain = start(&format!("  listen_h2c: [\"{h2c}\"]"));
    plain.wait_for("the listener of HTTP/2", || std::net::TcpStream::connect(h2c).is_ok());
    let (cert, key) = (authority.file("cert.pem"), authority.file("key.pem"));
    let secure = start(&format!("  tls: {{ cert: \"{cert}\", key: \"{key}\" }}"));
    let connector = authority.connector(&[b"h2"]);
    let ports = Ports { plain: plain.public, h2c, secure: secure.public, admin: plain.admin, connector };
    let (slowest, control) = std::thread::scope(|scope| {
        let control = scope.spawn(|| control(plain.public));
        (runtime().block_on(ports.attack_by_all(clients)), control.join().unwrap())
    });
    for (slow, took) in SLOW.iter().zip(&slowest) {
        // The bound of the admin listener is fixed.
        let bound = Duration::from_secs(if slow.port == Port::Admin { 10 } else { 2 });
        assert!(*took <= bound + margin, "{:?} {}: closed after {took:?}", slow.port, slow.name);
    }
    for gateway in [&plain, &secure] {
        assert!(gateway.sum("tidegate_connections_refused_total") > 0.0);
        assert_eq!(http::get(gateway.admin, "/readyz").unwrap().status, 200);
    }
    assert!(!is_long() || control < Duration::from_millis(200), "{control:?}");
    // Those that are idle after an answer have had one.
    plain.count(20 + clients as u64);
    plain.finish();
    secure.finish();
}

/// Goal: an HTTP/2 client whose connection is too old is told so, and an HTTP/1.1 connection ends between two requests.
#[test]
fn old_connections_end() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "x")], "")
        .server("  connection_age: 1s")
        .start();
    let mut connection = http::connect(gateway.public).unwrap();
    let began = Instant::now();
    let mut served = 0;
    while connection.write_all(b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n").is_ok() {
        let Some(reply) = http::read_reply(&mut connection) else { break };
        assert_eq!(reply.status, 200);
        served += 1;
        assert!(began.elapsed() < Duration::from_secs(15), "still open");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(served >= 2, "{served} requests served");
    gateway.count(served);
    gateway.finish();
}

/// Goal: connections of one address are bounded where that is configured, and those of trusted proxies are not.
#[test]
fn connections_of_one_address_are_bounded() {
    let upstream = Upstream::start();
    for (trusted, open) in [("", 3), ("\n  trusted_proxies: [127.0.0.0/8]", 6)] {
        let gateway = Config::default()
            .model("m/x", "chat")
            .channel("c", upstream.addr, &[("m/x", "x")], "")
            .server(&format!("  connections_per_address: 3{trusted}"))
            .start();
        // Connections of before may be there still.
        gateway.wait_for("as many connections as may be", || {
            let mut connections: Vec<_> = (0..6).map(|_| http::connect(gateway.public).unwrap()).collect();
            let answered = connections.iter_mut().filter_map(|connection| {
                let _ = connection.write_all(b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n");
                http::read_reply(connection)
            });
            let answered = answered.count();
            assert!(answered <= open, "{answered} connections");
            gateway.count(answered as u64);
            answered == open
        });
        gateway.finish();
    }
}

/// The gateway under limits of the shell.
fn limited(config: &Config, limits: &str, folder: &std::path::Path) -> Gateway {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limits}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tidegate")]);
    config.start_by(shell, folder)
}

/// One large request whose last byte is sent when all others have arrived; its status.
fn large_request(address: SocketAddr, bytes: usize, arrived: &Barrier) -> Option<u16> {
    let text = "x".repeat(bytes);
    let body = format!(r#"{{"model":"m/x","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = http::connect(address)?;
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let (first, last) = body.as_bytes().split_at(body.len() - 1);
    // Who is refused meanwhile cannot be written to any more.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(first));
    arrived.wait();
    let _ = sent.and_then(|()| stream.write_all(last));
    http::read_reply(&mut stream).map(|reply| reply.status)
}

/// Goal: under a limit on memory large bodies get what there is and the generic 502 beyond it, and the process lives
/// (spec 2.10, 15.1).
#[test]
fn bodies_beyond_the_memory_are_refused() {
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let config = Config::default()
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "x")], "")
        .server("  overload: { refuse_requests: { memory: 100 }, refuse_connections: { memory: 100 } }");
    let gateway = limited(&config, "ulimit -v 1258291", folder.path());
    let (clients, bytes) = (60, 8 << 20);
    let (arrived, served, refused) = (Barrier::new(clients), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| match large_request(gateway.public, bytes, &arrived) {
                Some(200) => served.fetch_add(1, Ordering::Relaxed),
                Some(502) | None => refused.fetch_add(1, Ordering::Relaxed),
                other => panic!("{other:?}"),
            });
        }
    });
    let (served, refused) = (served.into_inner(), refused.into_inner());
    assert!((1..=20).contains(&served) && served + refused == clients, "{served} served, {refused} refused");
    let reason = r#"tidegate_rejections_total{reason="body_memory",stage="gateway"}"#;
    assert!(gateway.metrics().get(reason).is_some_and(|counted| *counted > 0.0));
    gateway.count(clients as u64);
    assert_eq!(gateway.chat("m/x", false).status, 200, "small ones are always taken");
    gateway.wait_for("memory to be given back", || gateway.sum("tidegate_body_bytes") == 0.0);
    gateway.finish();
}

/// Goal: a small body that inflates beyond the ratio costs its client a 413 and nobody else anything.
#[test]
fn inflating_bodies_are_bounded_in_ratio() {
    let upstream = Upstream::start();
    let gateway =
        Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    let mut bomb = Vec::new();
    let text = vec![b' '; 16 << 20];
    brotli::CompressorWriter::new(&mut bomb, 4096, 5, 22).write_all(&text).unwrap();
    let mut request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-encoding: br\r\ncontent-length: {}\r\n\r\n",
        bomb.len()
    );
    let mut bytes = std::mem::take(&mut request).into_bytes();
    bytes.extend_from_slice(&bomb);
    let before = gateway.resident_bytes();
    let statuses: Vec<_> = (0..8).map(|_| gateway.raw(&bytes).status).collect();
    assert_eq!(statuses, [413; 8]);
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    gateway.finish();
}

/// Goal: a large body of a key without money is refused before it is read, one of a key over its limit too.
#[test]
fn large_bodies_are_not_read_for_nothing() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model_with("m/paid", "chat", "price: { input: \"1\", output: \"1\" }")
        .channel("c", upstream.addr, &[("m/paid", "x")], "")
        .limits("rpm: 1")
        .key("rich", "key-of-the-rich-0123456789", ", account: rich")
        .further_account("rich", "credit: \"5\"")
        .start();
    let ask = |key: &str| {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: 8000000\r\n\r\n{{"
        );
        let mut stream = http::connect(gateway.public).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // It is answered though the body does not come; who might pay is waited for.
        http::read_reply(&mut stream).map(|reply| reply.status)
    };
    assert_eq!(ask(KEY), Some(402));
    assert_eq!(ask("key-of-the-rich-0123456789"), None);
    gateway.count(2);
    gateway.finish();
}

/// Goal: load is shed step by step as descriptors run short, each step is counted, and all of it ends with the load
/// (spec 15.1).
#[test]
fn load_is_shed_in_steps() {
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let config =
        Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").server(
            "  overload:\n    close_idle: { descriptors: 40, memory: 100 }\n    \
             refuse_connections: { descriptors: 60, memory: 100 }\n    \
             refuse_requests: { descriptors: 75, memory: 100, delay: 60s }",
        );
    let gateway = limited(&config, "ulimit -n 400", folder.path());
    let level = || gateway.sum("tidegate_overload_level");
    gateway.wait_for("calm", || level() == 0.0);
    let mut kept = http::connect(gateway.public).unwrap();
    let ask = |connection: &mut std::net::TcpStream| {
        let _ = connection.write_all(b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n");
        http::read_reply(connection).map(|reply| reply.status)
    };
    assert_eq!(ask(&mut kept), Some(200));
    // Connections that have not been idle for a second are not closed, so each step is reached.
    let flood: Vec<_> = (0..340).filter_map(|_| std::net::TcpStream::connect(gateway.public).ok()).collect();
    gateway.wait_for("the last step", || level() == 3.0);
    gateway.wait_for("idle connections to be closed", || {
        let closed = r#"tidegate_connections_closed_total{reason="evicted"}"#;
        gateway.metrics().get(closed).is_some_and(|closed| *closed > 50.0)
    });
    drop(flood);
    gateway.wait_for("calm after it", || level() == 0.0);
    assert_eq!(ask(&mut http::connect(gateway.public).unwrap()), Some(200));
    gateway.count(2);
    drop(kept);
    gateway.finish();
}

/// Goal: what the framework answers to bytes that are no HTTP does not name it.
#[test]
fn answers_to_malformed_requests_name_no_server() {
    let upstream = Upstream::start();
    let gateway =
        Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    for request in ["GET / HTTP/1.1\r\nbad name: x\r\n\r\n", "NONSENSE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut connection = http::connect(gateway.public).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 400 ") || answer.is_empty(), "{request:?}: {answer}");
        assert!(!answer.contains("server:") && !answer.contains("pingora"), "{request:?}: {answer}");
    }
    let counted = gateway.sum("tidegate_requests_total");
    gateway.count(counted as u64);
    gateway.finish();
}

/// Goal: bodies whose chunks another reader could take differently are refused, and the connection ends; others pass.
#[test]
fn ambiguous_chunks_are_refused() {
    let upstream = Upstream::start();
    let gateway =
        Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    let body = chat_body("m/x", false);
    let size = format!("{:x}", body.len());
    let cases = [
        (format!("{size};note=\"a b\"\r\n{body}\r\n0\r\nx-sum: 1\r\n\r\n"), 200),
        (format!("{size}\t\r\n{body}\r\n0\r\n\r\n"), 400),
        (format!("{size};a\0b\r\n{body}\r\n0\r\n\r\n"), 400),
        (format!("{size};a\nb\r\n{body}\r\n0\r\n\r\n"), 400),
        (format!("{size}\r\n{body}\r\n0\r\nno field\r\n\r\n"), 400),
        (format!("{size}\r\n{body}\r\n\r\n\r\n"), 400),
    ];
    for (chunks, status) in cases {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let mut connection = http::connect(gateway.public).unwrap();
        connection.write_all(format!("{head}{chunks}").as_bytes()).unwrap();
        let reply = http::read_reply(&mut connection).unwrap();
        assert_eq!(reply.status, status, "{chunks:?}: {}", reply.text());
        gateway.count(1);
    }
    let fragment = http::exchange(gateway.public, b"GET /v1/models#x HTTP/1.1\r\nhost: g\r\n\r\n").unwrap();
    assert_eq!((fragment.status, fragment.header("server")), (400, None));
    let long_name = format!("GET /v1/models HTTP/1.1\r\nhost: g\r\n{}: x\r\n\r\n", "x".repeat(32 << 10));
    assert_eq!(gateway.raw(long_name.as_bytes()).status, 400);
    gateway.finish();
}

/// Goal: a ledger that has gone or is empty is not begun anew unless the operator says so, and its folder is the gateway's alone.
#[test]
fn a_lost_ledger_is_not_begun_anew_unnoticed() {
    use std::os::unix::fs::PermissionsExt;
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let config = Config::default()
        .model_with("m/paid", "chat", "price: { input: \"1\", output: \"1\" }")
        .account("credit: \"5\"")
        .channel("c", upstream.addr, &[("m/paid", "x")], "");
    let gateway = config.start_in(folder.path());
    let ledger = gateway.store().join("ledger.redb");
    let mode = std::fs::metadata(gateway.store()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(gateway.chat("m/paid", false).status, 200);
    gateway.finish();
    let refused = |words: &str| {
        let run = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "-c"])
            .arg(folder.path().join("tidegate.yaml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success() && said.contains(words), "{said}");
    };
    for (bytes, words) in
        [(Some(&b""[..]), "it is empty"), (Some(&b"no ledger"[..]), "no ledger"), (None, "--new-ledger")]
    {
        match bytes {
            Some(bytes) => std::fs::write(&ledger, bytes).unwrap(),
            None => std::fs::remove_file(&ledger).unwrap(),
        }
        refused(words);
    }
    let mut anew = Command::new("sh");
    anew.args(["-c", "exec \"$0\" \"$@\" --new-ledger", env!("CARGO_BIN_EXE_tidegate")]);
    let gateway = config.start_by(anew, folder.path());
    assert_eq!(gateway.chat("m/paid", false).status, 200);
    gateway.finish();
}
