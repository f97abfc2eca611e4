//! The metrics as Prometheus reads them (spec 13.2).

use crate::support::{Config, KEY, Upstream, chat_body, http};
use std::io::Write;
use std::process::{Command, Stdio};

/// Goal: Prometheus' own checker accepts what is exported, after every kind of request.
#[test]
fn promtool_accepts_them() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .model("m/bad", "chat")
        .channel("c", upstream.addr, &[("m/x", "x+chunks=3"), ("m/bad", "fault/overload-openai")], "")
        .start();
    gateway.chat("m/bad", false);
    for model in ["m/x", "m/none"] {
        gateway.chat(model, false);
        gateway.chat(model, true);
    }
    gateway.post("/nothing", "{}");
    let text = http::get(gateway.admin, "/metrics").unwrap();
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: on Debian, apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(&text.body).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let metrics = gateway.metrics();
    let value = |name: &str| metrics.get(name).copied().unwrap_or_else(|| panic!("{name} is not there"));
    assert_eq!(value(r#"tidegate_requests_total{code="ok",model="m/x",route="chat",status="200"}"#), 2.0);
    assert_eq!(
        value(r#"tidegate_requests_total{code="model_not_found",model="other",route="chat",status="503"}"#),
        2.0
    );
    assert_eq!(value(r#"tidegate_attempts_total{channel="c",outcome="overloaded"}"#), 1.0);
    assert_eq!(value(r#"tidegate_rewrites_total{class="overloaded",status="502"}"#), 1.0);
    assert_eq!(value(r#"tidegate_rejections_total{reason="unknown_path",stage="route"}"#), 1.0);
    assert_eq!(value(r#"tidegate_stream_end_total{reason="complete"}"#), 1.0);
    assert!(value(r#"tidegate_tokens_total{channel="c",model="m/x",type="output"}"#) > 0.0);
    assert_eq!(value("tidegate_config_generation"), 1.0);
    gateway.finish();
}

/// Goal: model names, keys, paths, methods and ids that clients make up do not add a single series to those of the kinds of
/// refusal, and all series stay within the stated bound. Four clients send 100,000 requests drawn from seeds.
#[test]
fn clients_cannot_make_series() {
    /// Enough for each kind of refusal on each route.
    const WARM: u64 = 5_000;
    const REQUESTS: u64 = 100_000;
    let upstream = Upstream::start();
    let gateway =
        Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    let send = |seeds: std::ops::Range<u64>| {
        let mut stream = http::connect(gateway.public).unwrap();
        for seed in seeds {
            gateway.count(1);
            stream.write_all(&made_up(seed)).unwrap();
            let reply = http::read_reply(&mut stream).expect("an answer");
            assert!([200, 400, 401, 404, 503].contains(&reply.status), "{seed}: {}", reply.text());
            if reply.header("connection") == Some("close") {
                stream = http::connect(gateway.public).unwrap();
            }
        }
    };
    send(0..WARM);
    // A request is counted a moment after its answer.
    gateway.wait_for("the first to be counted", || gateway.sum("tidegate_requests_total") == WARM as f64);
    let before = gateway.metrics().len();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let send = &send;
            scope.spawn(move || send(WARM + thread * REQUESTS / 4..WARM + (thread + 1) * REQUESTS / 4));
        }
    });
    gateway.wait_for("all", || gateway.sum("tidegate_requests_total") == (WARM + REQUESTS) as f64);
    let after = gateway.metrics().len();
    assert_eq!(after, before);
    assert!(after <= tidegate::telemetry::series::series_max(1, 1, 1), "{after}");
    gateway.finish();
}

/// A request of which nearly everything is made up.
fn made_up(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let word: String = (0..random.usize(1..40)).map(|_| random.alphanumeric()).collect();
    let routes = ["/v1/chat/completions", "/v1/messages", "/responses", "/v1/embeddings/", "/v1/models"];
    let path = match random.u8(..4) {
        0 => format!("/{word}?{word}"),
        1 => format!("/v1/models/{word}"),
        _ => routes[random.usize(..routes.len())].to_owned(),
    };
    let method = ["POST", "POST", "GET", "PUT", &word.to_uppercase()][random.usize(..5)].to_owned();
    let key = if random.bool() { KEY } else { &word };
    let body = chat_body(if random.u8(..8) == 0 { "m/x" } else { &word }, random.bool());
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {word}\r\nauthorization: Bearer {key}\r\nx-{word}: {word}\r\n\
         content-type: application/json\r\nx-request-id: {word}\r\nuser-agent: {word}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Goal: the admin listener has its pages and nothing else.
#[test]
fn the_admin_listener_is_small() {
    let upstream = Upstream::start();
    let gateway =
        Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/", 200), ("/x", 404), ("/metrics/x", 404)] {
        assert_eq!(http::get(gateway.admin, path).unwrap().status, status, "{path}");
    }
    gateway.finish();
}
