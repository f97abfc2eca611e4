//! Video at channels that take jobs, behind the same face (spec 11.5, 10.8, 8.3).

use crate::support::scripted::{self, Act, Asked, whole};
use crate::support::{Config, Gateway, KEY, Upstream, http};
use crate::video::{PRICE, answer, ask, attempts, balanced, fields, money};
use base64::Engine;
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Polling that is quick enough for tests.
const POLLING: &str = ", video: { interval: 20ms, interval_max: 50ms }";

/// A gateway whose channels take jobs, one for each model `m/<name>` with these knobs, and a good one behind them.
fn polling(upstream: SocketAddr, models: &[(&str, &str)], more: &str) -> Gateway {
    let named: Vec<_> =
        models.iter().map(|(name, knobs)| (format!("m/{name}"), format!("sora{knobs}"))).collect();
    let served: Vec<_> = named.iter().map(|(public, name)| (public.as_str(), name.as_str())).collect();
    let spare: Vec<_> = named.iter().map(|(public, _)| (public.as_str(), "spare")).collect();
    named
        .iter()
        .fold(Config::default(), |config, (model, _)| config.model_with(model, "video", PRICE))
        .channel_each("c", upstream, &served, &format!("{POLLING}{more}"))
        .channel("spare", upstream, &spare, ", priority: 1")
        .account("credit: \"50.00\"")
        .start()
}

/// Goal: a channel that takes jobs looks like one that answers: the job is left once, asked for on the same channel with
/// the same credential, and its file or its address is the client's; the seconds are those of the upstream.
#[test]
fn jobs_look_like_answers() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let gateway = polling(
        upstream.addr,
        &[("file", "+job=150+size=100001"), ("address", "+job=150+url=1"), ("at-once", "")],
        "",
    );
    for (name, url) in [("file", "data:video/mp4;base64,"), ("address", "https://"), ("at-once", "data:")] {
        let asked = upstream.stats.requests();
        let body = format!(r#"{{"model":"m/{name}", "prompt":"a tide","seconds":"6","n": 1}}"#);
        let reply = gateway.post("/v1/video/generations", &body);
        assert_eq!((reply.status, reply.complete), (200, true), "{name}: {}", reply.text());
        let answer = reply.json();
        let film = answer["videos"][0]["url"].as_str().unwrap();
        assert!(film.starts_with(url), "{name}: {film:.80}");
        if name == "file" {
            let file = base64::engine::general_purpose::STANDARD.decode(&film[url.len()..]).unwrap();
            assert_eq!((file.len(), &file[4..12]), (100_001, &b"ftypisom"[..]));
        }
        assert!(answer["id"].as_str().unwrap().starts_with("gate-"), "{name}");
        assert_eq!(answer["model"], format!("m/{name}"));
        let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["created", "id", "model", "object", "usage", "videos"], "{name}");
        let sent = upstream.stats.last_requests();
        let sent = &sent[sent.len() - (upstream.stats.requests() - asked) as usize..];
        assert_eq!((sent[0].method.as_str(), sent[0].path.as_str()), ("POST", "/v1/videos"), "{name}");
        let (model, upstream_model) = (format!("m/{name}"), &gateway_model(&sent[0].body));
        assert_eq!(String::from_utf8_lossy(&sent[0].body), body.replace(&model, upstream_model));
        assert!(sent[1..].iter().all(|request| request.method == "GET" && request.body.is_empty()), "{name}");
        let credentials: Vec<_> = sent.iter().map(|request| request.header("authorization")).collect();
        assert!(credentials.iter().all(|credential| *credential == credentials[0]), "{name}");
        let log = gateway.log_of(reply.request_id());
        assert_eq!(log["attempts"].as_array().map(Vec::len), Some(1), "{name}");
        assert_eq!(log["cost_usd"].to_string(), "0.601", "{name}");
    }
    gateway.finish();
}

fn gateway_model(body: &[u8]) -> String {
    serde_json::from_slice::<Value>(body).unwrap()["model"].as_str().unwrap().to_owned()
}

/// Goal: a job that was taken on and ends badly, at any state, costs nothing and is left to no other channel; what the
/// job was refused for is the caller's to read; one that could not be left goes to the next channel.
#[test]
fn jobs_fail_at_every_state() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let models = [
        ("unaccepted", "+fault=overload-openai"),
        ("refused-at-once", "+fault=policy-400"),
        ("unclear", "+fault=html-200"),
        ("failed", "+job=60+ends=failed"),
        ("refused", "+job=60+ends=refused"),
        ("expired", "+job=60+ends=expired"),
        ("lost", "+job=60+ends=lost"),
        ("broken", "+job=60+ends=broken"),
        ("no-content", "+job=60+ends=no-content"),
        ("stuck", "+job=60+ends=stuck"),
    ];
    let gateway = polling(upstream.addr, &models, ", timeouts: { video: 1s }");
    let mut spent = 0;
    for (name, status, code) in [
        ("unaccepted", 200, Value::Null),
        ("refused-at-once", 400, json!("content_policy_violation")),
        ("unclear", 500, json!("unexpected_provider_response")),
        ("failed", 502, json!("service_unavailable")),
        ("refused", 400, json!("content_policy_violation")),
        ("expired", 502, json!("service_unavailable")),
        ("lost", 502, json!("service_unavailable")),
        ("broken", 502, json!("service_unavailable")),
        ("no-content", 502, json!("service_unavailable")),
        ("stuck", 502, json!("service_unavailable")),
    ] {
        let began = Instant::now();
        let reply = ask(&gateway, &format!("m/{name}"));
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (status, &code),
            "{name}: {}",
            reply.text()
        );
        assert!(began.elapsed() < Duration::from_secs(3), "{name}");
        assert_eq!(attempts(&gateway, &reply).len(), if status == 200 { 2 } else { 1 }, "{name}");
        // The spare channel answers at once, with four seconds.
        spent += if status == 200 { 401_000_000 } else { 0 };
        assert_eq!(money(&gateway)[1], spent, "{name}");
    }
    let cancelled = || upstream.stats.last_request().is_some_and(|request| request.method == "DELETE");
    gateway.wait_for("the stuck job to be cancelled", cancelled);
    balanced(&gateway);
    gateway.finish();
}

/// Goal: questions that go wrong are asked again; paths are the channel's own; a file may be elsewhere, and one that
/// breaks off is cut, so that nobody takes it for whole, and costs nothing.
#[test]
fn upstreams_have_ways_of_their_own() {
    let asked = Arc::new(AtomicU64::new(0));
    let flaky = Arc::clone(&asked);
    let upstream = scripted::start(move |asked: &Asked| {
        let line = asked.head.lines().next().unwrap().to_owned();
        let path = line.split(' ').nth(1).unwrap();
        match path {
            "/v1/make" => match asked.model().as_str() {
                "nameless" => answer(200, r#"{"status":"queued"}"#),
                "at-once" => {
                    answer(200, r#"{"id":"j","status":"succeeded","data":[{"url":"https://x/f.mp4"}]}"#)
                }
                name => answer(202, &format!(r#"{{"task_id":"{name}","state":"submitted"}}"#)),
            },
            "/v1/jobs/flaky" => match flaky.fetch_add(1, Ordering::SeqCst) {
                0 => answer(500, r#"{"error":{"message":"no"}}"#),
                1 => vec![Act::Reset],
                2 => answer(404, r#"{"error":{"message":"not yet"}}"#),
                3 => answer(200, r#"{"id":"another","status":"dreaming"}"#),
                _ => answer(200, r#"{"id":"another","status":"completed","output":["https://x/f.mp4"]}"#),
            },
            path if path.starts_with("/v1/jobs/") => answer(200, r#"{"status":"completed","seconds":"3"}"#),
            "/v1/files/moved" => whole(302, &fields(&[("location", "https://x/f.mp4")]), b""),
            "/v1/files/cut" => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: video/webm\r\ncontent-length: 90000\r\n\r\n";
                vec![Act::Write([head.as_bytes(), &[7; 50_000]].concat()), Act::Close]
            }
            _ => answer(200, r#"{"error":{"message":"gone","code":"server_error"}}"#),
        }
    });
    let names = ["flaky", "moved", "at-once", "cut", "no-file", "nameless"];
    let served: Vec<_> = names.iter().map(|name| (format!("m/{name}"), *name)).collect();
    let served: Vec<_> = served.iter().map(|(public, name)| (public.as_str(), *name)).collect();
    let paths =
        ", video: { submit: /make, status: \"/jobs/{id}\", content: \"/files/{id}\", interval: 10ms }";
    let config =
        served.iter().fold(Config::default(), |config, (model, _)| config.model_with(model, "video", PRICE));
    let gateway = config.channel_each("c", upstream, &served, paths).account("credit: \"50.00\"").start();
    for name in ["flaky", "moved", "at-once"] {
        let reply = ask(&gateway, &format!("m/{name}"));
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        assert_eq!(reply.json()["videos"], json!([{"url": "https://x/f.mp4"}]), "{name}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    // Eight seconds where the upstream says nothing, three where it does.
    let settled = 801_000_000 + 301_000_000 + 801_000_000;
    assert_eq!(money(&gateway)[1], settled);
    let reply = ask(&gateway, "m/cut");
    assert_eq!((reply.status, reply.complete), (200, false));
    assert!(reply.text().contains(r#""url":"data:video/webm;base64,BwcH"#));
    assert_eq!(gateway.log_of(reply.request_id())["end"], "broken_mid_stream");
    for (name, status) in [("no-file", 502), ("nameless", 500)] {
        assert_eq!(ask(&gateway, &format!("m/{name}")).status, status, "{name}");
    }
    assert_eq!(balanced(&gateway)[1], settled);
    gateway.finish();
}

/// Goal: a client that leaves while its video is made is charged nothing, once; polling stops and the job is cancelled,
/// and an upstream that makes it itself is cut off at once (spec 8.3, 10.5).
#[test]
fn clients_that_leave_pay_nothing() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let gateway = Config::default()
        .model_with("m/job", "video", PRICE)
        .model_with("m/direct", "video", PRICE)
        .channel("jobs", upstream.addr, &[("m/job", "x+job=60000")], POLLING)
        .channel("direct", upstream.addr, &[("m/direct", "fault/hang")], "")
        .account("credit: \"50.00\"")
        .start();
    for (model, asked) in [("m/job", 4), ("m/direct", 1)] {
        gateway.count(1);
        let (before, aborted) = (upstream.stats.requests(), upstream.stats.aborted());
        let mut client = http::connect(gateway.public).unwrap();
        client.write_all(&submit(model)).unwrap();
        gateway.wait_for("questions", || upstream.stats.requests() >= before + asked);
        assert!(gateway.sum("tidegate_quota_outstanding_nanodollars") > 0.0, "{model}");
        drop(client);
        let cancelled = || match model {
            "m/job" => upstream.stats.last_request().is_some_and(|request| request.method == "DELETE"),
            _ => upstream.stats.aborted() == aborted + 1,
        };
        gateway.wait_for("the end of the job", cancelled);
        balanced(&gateway);
        let asked = upstream.stats.requests();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(upstream.stats.requests(), asked, "nobody asks for the job any more");
    }
    let [reserved, settled, released] = balanced(&gateway);
    assert_eq!((settled, released), (0, reserved));
    gateway.wait_for("the log", || gateway.log().len() == 2);
    assert!(gateway.log().iter().all(|line| line["end"] == "client_gone"));
    gateway.finish();
}

fn submit(model: &str) -> Vec<u8> {
    let body = format!(r#"{{"model":"{model}","prompt":"a"}}"#);
    format!(
        "POST /v1/videos HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
