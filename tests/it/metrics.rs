//! The metrics as Prometheus reads them (spec 13.2).

use crate::support::{Config, Upstream, chat_body, http};
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

/// Goal: 10,000 model names that clients make up do not add a single series.
#[test]
fn clients_cannot_make_series() {
    let upstream = Upstream::start();
    let gateway =
        Config::default().model("m/x", "chat").channel("c", upstream.addr, &[("m/x", "x")], "").start();
    gateway.chat("made/up", false);
    // A request is counted a moment after its answer.
    gateway.wait_for("the first to be counted", || gateway.sum("tidegate_requests_total") == 1.0);
    let before = gateway.metrics().len();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut stream = http::connect(gateway.public).unwrap();
                for index in 0..2_500 {
                    let body = chat_body(&format!("made/up-{thread}-{index}"), false);
                    let head = format!(
                        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
                         content-type: application/json\r\nx-request-id: {thread}-{index}\r\ncontent-length: {}\r\n\r\n{body}",
                        crate::support::KEY,
                        body.len()
                    );
                    stream.write_all(head.as_bytes()).unwrap();
                    assert_eq!(http::read_reply(&mut stream).unwrap().status, 503);
                }
            });
        }
    });
    gateway.count(10_000);
    assert_eq!(gateway.metrics().len(), before);
    gateway.finish();
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
