//! TLS and HTTP/2 on either side: certificates are verified, and a call is the same call whatever carries it
//! (spec 12.1, 15.2).

use crate::support::scripted::{self, Act};
use crate::support::{Config, KEY, Upstream, free_address};
use bytes::Bytes;
use http::Request;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const GOOD: &str = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}"#;
const STREAM: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"good\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const CONTENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"good\"}}]}\n\n";

/// A certificate for `localhost`, and the folder in which it and its key lie.
pub(crate) struct Authority {
    own: CertifiedKey<rcgen::KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let own = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), own.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
        Self { own, folder }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn acceptor(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.own.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions();
        let certs = vec![CertificateDer::from(self.own.cert.der().to_vec())];
        let mut config = config.unwrap().with_no_client_auth().with_single_cert(certs, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    pub(crate) fn connector(&self, protocols: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.own.cert.der().to_vec())).unwrap();
        let config = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions();
        let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

/// An upstream that speaks HTTP/2, over TLS if there is an acceptor.
fn upstream(acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => answer_h2(stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer_h2(stream).await;
                            }
                        }
                    }
                });
            }
        });
    });
    addr
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn answer_h2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let mut body = request.into_body();
            let mut text = Vec::new();
            while let Some(Ok(piece)) = body.data().await {
                text.extend_from_slice(&piece);
                let _ = body.flow_control().release_capacity(piece.len());
            }
            let asked: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let streams = asked["stream"] == true;
            match asked["model"].as_str() {
                Some("header") => return respond.send_reset(h2::Reason::INTERNAL_ERROR),
                Some("status") => {
                    let answer = http::Response::builder().status(500).body(()).unwrap();
                    respond.send_response(answer, true).unwrap();
                    return;
                }
                Some(at @ ("role" | "content")) => {
                    let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                    let begun = if at == "role" { ROLE } else { CONTENT };
                    send.send_data(Bytes::from_static(begun.as_bytes()), false).unwrap();
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    return send.send_reset(h2::Reason::INTERNAL_ERROR);
                }
                _ => {}
            }
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(if streams { STREAM } else { GOOD }.as_bytes()), true).unwrap();
        });
    }
}

/// One call over HTTP/2; its status and body.
async fn call_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    scheme: &str,
    body: &str,
) -> (u16, String) {
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let request = Request::post(format!("{scheme}://localhost/v1/chat/completions"))
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (answer, mut out) = send.send_request(request, false).unwrap();
    out.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    let answer = answer.await.unwrap();
    let status = answer.status().as_u16();
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        text.extend_from_slice(&piece.unwrap());
    }
    (status, String::from_utf8(text).unwrap())
}

fn body(model: &str, stream: bool) -> String {
    crate::support::chat_body(model, stream)
}

/// Goal: upstreams over HTTP/2, with TLS and without; a certificate of a foreign authority or for another name is refused,
/// and the client reads the plain 502.
#[test]
fn upstreams_speak_http2_and_are_verified() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let tls = upstream(Some(ours.acceptor(&[b"h2"])));
    let plain = upstream(None);
    let ca = format!(", http2: true, sni: localhost, ca: \"{}\"", ours.file("cert.pem"));
    let secure = |id: &str, model: &str, more: &str| {
        format!(
            "  - {{ id: {id}, provider: openai_compatible, base_url: \"https://{tls}/v1\", credentials: [{{ value: c }}], models: {{ \"{model}\": x }}{more} }}\n"
        )
    };
    let mut config = Config::default()
        .model("m/plain", "chat")
        .model("m/tls", "chat")
        .model("m/foreign", "chat")
        .model("m/name", "chat")
        .channel("plain", plain, &[("m/plain", "x")], ", http2: true");
    config.channels.push(secure("tls", "m/tls", &ca));
    config.channels.push(secure(
        "foreign",
        "m/foreign",
        &ca.replace(&ours.file("cert.pem"), &theirs.file("cert.pem")),
    ));
    config.channels.push(secure("name", "m/name", &ca.replace("sni: localhost", "sni: other.example")));
    let gateway = config.start();
    for model in ["m/plain", "m/tls"] {
        for _ in 0..3 {
            assert_eq!(
                gateway.chat(model, false).json()["choices"][0]["message"]["content"],
                "good",
                "{model}"
            );
            assert!(gateway.chat(model, true).text().ends_with("data: [DONE]\n\n"), "{model}");
        }
    }
    for model in ["m/foreign", "m/name"] {
        let reply = gateway.chat(model, false);
        assert_eq!(reply.status, 502, "{model}");
        let attempt = &gateway.log_of(reply.request_id())["attempts"][0];
        assert_eq!(
            (&attempt["rule"], &attempt["outcome"]),
            (&"transport: TLS failed".into(), &"misconfigured".into())
        );
    }
    gateway.finish();
}

/// Goal: clients over HTTPS and HTTP/2, and over HTTP/2 without TLS on a port of its own, are served as others are.
#[test]
fn clients_speak_http2() {
    let own = Authority::new();
    let (h2c, plain) = (free_address(), upstream(None));
    let gateway = |server: String| {
        Config::default()
            .model("m/x", "chat")
            .channel("c", plain, &[("m/x", "x")], ", http2: true")
            .server(&server)
            .start()
    };
    let calls = |addr: SocketAddr, tls: Option<TlsConnector>| {
        runtime().block_on(async move {
            for (model, stream, status, words) in [
                ("m/x", false, 200, "good"),
                ("m/x", true, 200, "[DONE]"),
                ("m/none", false, 503, "No available channel"),
            ] {
                let connection = TcpStream::connect(addr).await.unwrap();
                let (code, text) = match &tls {
                    None => call_h2(connection, "http", &body(model, stream)).await,
                    Some(tls) => {
                        let name = ServerName::try_from("localhost").unwrap();
                        let connection = tls.connect(name, connection).await.unwrap();
                        call_h2(connection, "https", &body(model, stream)).await
                    }
                };
                assert!(code == status && text.contains(words), "{code} {text}");
            }
        });
    };
    let plain_text = gateway(format!("  listen_h2c: [\"{h2c}\"]"));
    plain_text.wait_for("the listener of HTTP/2", || std::net::TcpStream::connect(h2c).is_ok());
    calls(h2c, None);
    plain_text.count(3);
    plain_text.finish();
    let (cert, key) = (own.file("cert.pem"), own.file("key.pem"));
    let secure = gateway(format!("  tls: {{ cert: \"{cert}\", key: \"{key}\" }}"));
    calls(secure.public, Some(own.connector(&[b"h2"])));
    secure.count(3);
    secure.finish();
}

/// Goal: the bound on the time of a header bounds no request over HTTP/2, where the framework has read the header before.
#[test]
fn long_calls_over_http2_are_not_slow_headers() {
    let (h2c, upstream) = (free_address(), Upstream::start());
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "x+delay=2500")], "")
        .server(&format!("  listen_h2c: [\"{h2c}\"]\n  keepalive: 1s\n  header_timeout: 1s"))
        .start();
    gateway.wait_for("the listener of HTTP/2", || std::net::TcpStream::connect(h2c).is_ok());
    let (code, text) = runtime().block_on(async {
        let connection = TcpStream::connect(h2c).await.unwrap();
        call_h2(connection, "http", &body("m/x", false)).await
    });
    assert_eq!(code, 200, "{text}");
    gateway.count(1);
    gateway.finish();
}

/// The same faults over HTTP/1.1.
fn faulty_h1() -> SocketAddr {
    scripted::start(|asked| {
        let begun =
            |event: &str| vec![scripted::chunked(200, &[]), scripted::chunk(event.as_bytes()), Act::Reset];
        match asked.model().as_str() {
            "header" => vec![Act::Close],
            "status" => scripted::whole(500, &[], b""),
            "role" => begun(ROLE),
            _ => begun(CONTENT),
        }
    })
}

/// Where a fault happens, what the client reads, and what the operator does: rule, outcome, and the channel's state.
const FAULTS: [(&str, u16, &str, &str, &str); 6] = [
    ("connect", 502, "transport: connect failed", "broken", "up"),
    ("tls", 502, "transport: TLS failed", "misconfigured", "cooling"),
    ("header", 502, "", "broken", "up"),
    ("status", 502, "status: 5xx", "broken", "up"),
    ("role", 502, "", "broken", "up"),
    ("content", 200, "", "broken_mid_stream", "up"),
];

/// Goal: each fault at each phase, with HTTP/1.1 and HTTP/2 on either side, gives the client's answer, the trace of
/// attempts and the channel's state of the table.
#[test]
fn faults_are_the_same_over_every_protocol() {
    let (h1, h2) = (faulty_h1(), upstream(None));
    let (h2c, nobody) = (free_address(), free_address());
    let mut config = Config::default().server(&format!("  listen_h2c: [\"{h2c}\"]"));
    for (protocol, addr, more) in [("h1", h1, ""), ("h2", h2, ", http2: true")] {
        for client in ["h1", "h2"] {
            for (fault, ..) in FAULTS {
                let (model, id) =
                    (format!("{protocol}{client}/{fault}"), format!("{protocol}-{client}-{fault}"));
                let (scheme, addr) = match fault {
                    "connect" => ("http", nobody),
                    // Nobody there speaks TLS.
                    "tls" => ("https", h2),
                    _ => ("http", addr),
                };
                config = config.model(&model, "chat");
                config.channels.push(format!(
                    "  - {{ id: {id}, provider: openai_compatible, base_url: \"{scheme}://{addr}/v1\", sni: localhost, credentials: [{{ value: c }}], models: {{ \"{model}\": {fault} }}, timeouts: {{ connect: 1s }}{more} }}\n"
                ));
            }
        }
    }
    let gateway = config.start();
    gateway.wait_for("the listener of HTTP/2", || std::net::TcpStream::connect(h2c).is_ok());
    for protocol in ["h1", "h2"] {
        for (fault, status, rule, outcome, state) in FAULTS {
            let reply = gateway.chat(&format!("{protocol}h1/{fault}"), true);
            let log = gateway.log_of(reply.request_id());
            let (code, text) = runtime().block_on(async {
                let connection = TcpStream::connect(h2c).await.unwrap();
                call_h2(connection, "http", &body(&format!("{protocol}h2/{fault}"), true)).await
            });
            gateway.count(1);
            for (code, text) in [(reply.status, reply.text()), (code, text)] {
                assert_eq!(code, status, "{protocol} {fault}: {text}");
                assert!(
                    text.contains("Service temporarily unavailable") && !text.contains("[DONE]"),
                    "{text}"
                );
                assert_eq!(text.contains("good"), fault == "content", "{text}");
            }
            let attempt = &log["attempts"][0];
            assert_eq!(
                (log["attempts"].as_array().unwrap().len(), &attempt["outcome"]),
                (1, &outcome.into()),
                "{log}"
            );
            assert!(rule.is_empty() || attempt["rule"] == rule, "{protocol} {fault}: {attempt}");
            for client in ["h1", "h2"] {
                let series = format!(
                    "tidegate_channel_state{{channel=\"{protocol}-{client}-{fault}\",state=\"{state}\"}}"
                );
                assert_eq!(gateway.metrics()[&series], 1.0, "{series}");
            }
        }
    }
    gateway.finish();
}

/// Goal: certificates and keys that cannot work are told by `check`, with the file's name.
#[test]
fn certificates_are_checked_beforehand() {
    let (one, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    let tls = |cert: String, key: String| format!("  tls: {{ cert: \"{cert}\", key: \"{key}\" }}");
    for (server, more, problem) in [
        (
            tls(one.file("cert.pem"), other.file("key.pem")),
            String::new(),
            "certificate and key cannot be used",
        ),
        (tls(one.file("none.pem"), one.file("key.pem")), String::new(), "none.pem"),
        (String::new(), format!(", ca: \"{}\"", one.file("key.pem")), "has no certificate"),
        (String::new(), ", ca: \"nowhere.pem\"".to_owned(), "nowhere.pem"),
    ] {
        let addr = ([127, 0, 0, 1], 9).into();
        let config =
            Config::default().model("m/x", "chat").channel("c", addr, &[("m/x", "x")], &more).server(&server);
        std::fs::write(&file, config.text(addr, addr)).unwrap();
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = command.args(["check", "-c", file.to_str().unwrap()]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(78) && told.contains(problem), "{problem}: {told}");
    }
}
