//! Video: one request that stays open, whoever makes the video and however (spec 8.1, 10.2, 10.8, 11.5).

use crate::support::scripted::{self, Act, Asked, whole};
use crate::support::{Config, Gateway, Upstream, free_address, http};
use base64::Engine;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A dollar for ten seconds, and a little for each request.
pub(crate) const PRICE: &str = r#"price: { request: "0.001", second: "0.10" }, seconds_max: 12"#;

pub(crate) fn ask(gateway: &Gateway, model: &str) -> http::Reply {
    gateway.post("/v1/video/generations", &json!({"model": model, "prompt": "a tide"}).to_string())
}

/// The attempts at channels, from the log.
pub(crate) fn attempts(gateway: &Gateway, reply: &http::Reply) -> Vec<Value> {
    gateway.log_of(reply.request_id())["attempts"].as_array().unwrap().clone()
}

pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn answer(status: u16, body: &str) -> Vec<Act> {
    whole(status, &fields(&[("content-type", "application/json")]), body.as_bytes())
}

/// The money of all calls so far, in nano-dollars: set aside, settled, released.
pub(crate) fn money(gateway: &Gateway) -> [u64; 3] {
    ["reserved", "settled", "released"]
        .map(|kind| gateway.sum(&format!("tidegate_quota_{kind}_nanodollars_total")) as u64)
}

/// The same, once all that was set aside is settled or released, which may be a moment after the answer.
pub(crate) fn balanced(gateway: &Gateway) -> [u64; 3] {
    gateway.wait_for("the money", || gateway.sum("tidegate_quota_outstanding_nanodollars") == 0.0);
    let [reserved, settled, released] = money(gateway);
    assert_eq!(reserved, settled + released);
    [reserved, settled, released]
}

/// Goal: under both paths and in all spellings of the source image, a body reaches the upstream byte for byte but for the
/// model's name, and the answer has `videos[].url` under the gateway's names (spec 11.5, 1.4, 1.5).
#[test]
fn every_spelling_passes() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let gateway = Config::default()
        .model("m/video", "video")
        .channel("c", upstream.addr, &[("m/video", "veo")], "")
        .start();
    let bodies = [
        r#"{"prompt": {"text": "a tide", "image_url": "https://x/a.png"}, "model": "m/video"}"#,
        r#"{"model":"m/video","prompt":"a","input_image":"data:image/png;base64,AAAA"}"#,
        r#"{"model":"m/video","prompt":"a","input_image":{"url":"https:\/\/x\/a.png"}}"#,
        r#"{"model":"m/video","prompt":"a","input_image_url":"https://x/a.png","seconds":"4"}"#,
        r#"{"model":"m/video","prompt":"a","image_url":{"url":"https://x/a.png"},"fps":2.40e1}"#,
        r#"{"model":"m/video","image":"\u0041AAA","prompt":"a","duration":5.0}"#,
        r#"{"model":"m/video","input_image_b64":"AAAA","prompt":"a","unknown":[ 1 ]}"#,
    ];
    for path in ["/v1/video/generations", "/v1/videos", "/videos/"] {
        for body in bodies {
            let reply = gateway.post(path, body);
            assert_eq!(reply.status, 200, "{body}: {}", reply.text());
            let sent = upstream.stats.last_request().unwrap();
            assert_eq!(String::from_utf8_lossy(&sent.body), body.replace("m/video", "veo"));
            assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/video/generations"));
            let answer = reply.json();
            assert!(answer["videos"][0]["url"].as_str().unwrap().starts_with("https://"), "{answer}");
            assert!(answer["id"].as_str().unwrap().starts_with("gate-"), "{answer}");
            assert_eq!((&answer["model"], &answer["provider"]), (&json!("m/video"), &Value::Null));
        }
    }
    gateway.finish();
}

/// Goal: an image in base64 is no text, wherever it stands: megabytes of it fit small limits (spec 7.2).
#[test]
fn images_are_no_text() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model_with("m/video", "video", "free: true, context_window: 20000")
        .channel("c", upstream.addr, &[("m/video", "veo")], "")
        .limits("tpm: 100000")
        .start();
    let data = "iVBORw0KGgo".repeat(200_000);
    for name in ["image", "input_image", "input_image_url", "input_image_b64", "image_url"] {
        let mut body = json!({"model": "m/video", "prompt": {"text": "a tide"}});
        body["prompt"][name] = json!(data);
        body[name] = json!(data);
        let reply = gateway.post("/v1/videos", &body.to_string());
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
    }
    gateway.finish();
}

/// Goal: a video may take longer than any other answer, and is bounded by a time of its own (spec 10.2).
#[test]
fn video_has_a_time_of_its_own() {
    let upstream = Upstream::start();
    let short = "first_byte: 500ms, idle: 500ms, total: 1s, failover: 1s";
    let gateway = Config::default()
        .model("m/video", "video")
        .model("m/stuck", "video")
        .channel("c", upstream.addr, &[("m/video", "x+delay=3000")], &format!(", timeouts: {{ {short} }}"))
        .channel("s", upstream.addr, &[("m/stuck", "fault/hang")], ", timeouts: { video: 500ms }")
        .server("  body_timeout: 1s\n  keepalive: 1s\n  write_timeout: 1s")
        .start();
    let began = Instant::now();
    assert_eq!(ask(&gateway, "m/video").status, 200);
    assert!(began.elapsed() >= Duration::from_secs(3));
    let began = Instant::now();
    assert_eq!(ask(&gateway, "m/stuck").status, 502);
    assert!(began.elapsed() < Duration::from_secs(3));
    gateway.finish();
}

/// What a first upstream does, the status of the client's answer, and whether a second upstream is asked.
type Case = (&'static str, Vec<Act>, u16, bool);

fn cases() -> Vec<Case> {
    let json =
        |status, code: &str| answer(status, &format!(r#"{{"error":{{"message":"no","code":"{code}"}}}}"#));
    let page = |status| whole(status, &[], b"<html><body>Bad gateway</body></html>");
    let cut = || {
        let Act::Write(mut bytes) = answer(200, r#"{"videos":[{"url":"https://x"}]}"#).remove(0) else {
            panic!()
        };
        bytes.truncate(bytes.len() - 9);
        vec![Act::Write(bytes), Act::Close]
    };
    vec![
        ("400 bad parameter", json(400, "invalid_value"), 400, false),
        ("401", json(401, "invalid_api_key"), 200, true),
        ("402", json(402, "insufficient_balance"), 200, true),
        ("403", json(403, "forbidden"), 200, true),
        ("404 model", json(404, "model_not_found"), 200, true),
        ("413 page", page(413), 200, true),
        ("429", json(429, "rate_limit_exceeded"), 200, true),
        ("503", json(503, "overloaded"), 200, true),
        ("529", json(529, "overloaded_error"), 200, true),
        ("408", json(408, "timeout"), 502, false),
        ("500", json(500, "server_error"), 502, false),
        ("502 page", page(502), 502, false),
        ("503 without a word", whole(503, &[], b""), 502, false),
        ("504 page", page(504), 502, false),
        ("524 page", page(524), 502, false),
        ("200 with an error", json(200, "overloaded"), 502, false),
        ("200 with a page", page(200), 500, false),
        ("200 without a body", whole(200, &[], b""), 500, false),
        ("200 without videos", answer(200, r#"{"id":"x","videos":[]}"#), 500, false),
        ("200 with a job", answer(200, r#"{"id":"x","status":"queued"}"#), 500, false),
        ("200 with a failed job", answer(200, r#"{"id":"x","status":"failed"}"#), 502, false),
        ("cut in the body", cut(), 502, false),
        ("closed without a word", vec![Act::Close], 502, false),
        ("reset without a word", vec![Act::Reset], 502, false),
        ("closed in the head", vec![Act::Write(b"HTTP/1.1 200 O".to_vec()), Act::Close], 502, false),
        ("not HTTP", vec![Act::Write(b"ftp? ftp!\r\n\r\n".to_vec()), Act::Close], 502, false),
        ("no answer in time", vec![Act::Wait(Duration::from_secs(3))], 502, false),
    ]
}

/// Goal: a video is submitted a second time only if the first upstream surely did not take it on (spec 10.8). Method: an
/// upstream for each way to fail, and a good one behind it.
#[test]
fn a_video_is_not_made_twice() {
    let cases = Arc::new(cases());
    let script = Arc::clone(&cases);
    let bad = scripted::start(move |asked: &Asked| {
        script.iter().find(|(name, ..)| *name == asked.model()).map(|case| case.1.clone()).unwrap()
    });
    let good = Upstream::start();
    let mut config = Config::default();
    let with_unreachable = cases.iter().map(|case| (case.0, bad)).chain([("nobody there", free_address())]);
    for (index, (name, addr)) in with_unreachable.enumerate() {
        let model = format!("m/{index}");
        config = config
            .model_with(&model, "video", "free: true, hedge: true")
            .channel(&format!("b{index}"), addr, &[(&model, name)], ", timeouts: { video: 1s }")
            .channel(&format!("g{index}"), good.addr, &[(&model, "x")], ", priority: 1");
    }
    let gateway = config.start();
    let expected = cases.iter().map(|case| (case.0, case.2, case.3)).chain([("nobody there", 200, true)]);
    for (index, (name, status, repeated)) in expected.enumerate() {
        let before = good.stats.requests();
        let reply = ask(&gateway, &format!("m/{index}"));
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        assert_eq!(good.stats.requests() - before, u64::from(repeated), "{name}");
        assert_eq!(attempts(&gateway, &reply).len(), if repeated { 2 } else { 1 }, "{name}");
    }
    gateway.finish();
}

/// Goal: a kept connection that ends after a submit was written to it may have carried it, so it is not submitted again;
/// a chat call is (spec 10.3, 10.8).
#[test]
fn stale_connections_are_not_tried_again() {
    for (path, kind, status, asked) in
        [("/v1/videos", "video", 502, 2), ("/v1/chat/completions", "chat", 200, 3)]
    {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let upstream = scripted::start(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            1 => vec![Act::Close],
            _ => answer(
                200,
                r#"{"id":"x","videos":[{"url":"https://x"}],"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}"#,
            ),
        });
        let gateway =
            Config::default().model("m/x", kind).channel("c", upstream, &[("m/x", "x")], "").start();
        let body = r#"{"model":"m/x","prompt":"a","messages":[]}"#;
        assert_eq!(gateway.post(path, body).status, 200);
        let reply = gateway.post(path, body);
        assert_eq!((reply.status, count.load(Ordering::SeqCst)), (status, asked), "{kind}: {}", reply.text());
        gateway.finish();
    }
}

/// Goal: a video costs its seconds: as the answer says, else as was asked for, else the model's usual ones, never more
/// than the model's most by the client's word alone; what it cannot cost is set aside by nobody (spec 8.1, 8.2).
#[test]
fn seconds_are_charged_exactly() {
    let upstream = scripted::start(|asked: &Asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let film = r#"{"url":"https://x"}"#;
        answer(
            200,
            &match body["prompt"].as_str().unwrap() {
                "each" => r#"{"videos":[{"url":"https://x","duration":6.2}]}"#.to_owned(),
                "usage" => format!(r#"{{"videos":[{film}],"usage":{{"seconds":"5"}}}}"#),
                "tokens" => {
                    format!(r#"{{"videos":[{film}],"usage":{{"input_tokens":3,"output_tokens":0}}}}"#)
                }
                "all" => format!(r#"{{"seconds":4,"videos":[{film},{film}]}}"#),
                _ => format!(r#"{{"videos":[{film}]}}"#),
            },
        )
    });
    let gateway = Config::default()
        .model_with("m/video", "video", PRICE)
        .model_with("m/usual", "video", r#"price: { second: "0.10" }, seconds_default: 5"#)
        .channel("c", upstream, &[("m/video", "x"), ("m/usual", "x")], "")
        .account("credit: \"50.00\"")
        .start();
    let mut spent = 0;
    for (body, cents) in [
        (r#"{"model":"m/video","prompt":"x","seconds":"4"}"#, 40),
        (r#"{"model":"m/video","prompt":"x","seconds":4,"duration":7.5}"#, 80),
        (r#"{"model":"m/video","prompt":"x"}"#, 80),
        (r#"{"model":"m/video","prompt":"x","seconds":"auto"}"#, 80),
        (r#"{"model":"m/video","prompt":"x","duration":60}"#, 120),
        (r#"{"model":"m/video","prompt":"x","seconds":4,"n":3}"#, 120),
        (r#"{"model":"m/video","prompt":"each","seconds":4}"#, 70),
        (r#"{"model":"m/video","prompt":"usage","seconds":12}"#, 50),
        (r#"{"model":"m/video","prompt":"tokens","seconds":9}"#, 90),
        (r#"{"model":"m/video","prompt":"all"}"#, 80),
        (r#"{"model":"m/usual","prompt":"x"}"#, 50),
    ] {
        let reply = gateway.post("/v1/videos", body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        let request = if body.contains("m/video") { 1_000_000 } else { 0 };
        spent += cents * 10_000_000 + request;
        assert_eq!(money(&gateway)[1], spent, "{body}");
    }
    balanced(&gateway);
    gateway.finish();
}

/// Goal: a video that the balance does not cover is refused before anyone is asked (spec 8.2).
#[test]
fn what_is_not_covered_is_not_asked() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model_with("m/video", "video", PRICE)
        .channel("c", upstream.addr, &[("m/video", "x")], "")
        .account("credit: \"0.80\"")
        .start();
    assert_eq!(ask(&gateway, "m/video").status, 402);
    assert_eq!(upstream.stats.requests(), 0);
    assert_eq!(gateway.post("/v1/videos", r#"{"model":"m/video","prompt":"x","seconds":7}"#).status, 200);
    assert_eq!(money(&gateway)[1], 701_000_000);
    gateway.finish();
}

/// Goal: an answer of many megabytes passes unchanged, and costs the seconds that were asked for.
#[test]
fn large_videos_pass() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model_with("m/video", "video", PRICE)
        .channel("c", upstream.addr, &[("m/video", "x+size=8000001")], "")
        .account("credit: \"5.00\"")
        .start();
    let reply = gateway.post("/v1/videos", r#"{"model":"m/video","prompt":"x","seconds":"6"}"#);
    assert_eq!((reply.status, reply.complete), (200, true));
    let answer = reply.json();
    let film = answer["videos"][0]["url"].as_str().unwrap().strip_prefix("data:video/mp4;base64,").unwrap();
    let film = base64::engine::general_purpose::STANDARD.decode(film).unwrap();
    let tide = b"tide ".iter().cycle().take(8_000_001 - 12);
    assert!(film.iter().skip(12).eq(tide), "every byte is as it was");
    assert_eq!(money(&gateway)[1], 601_000_000);
    gateway.finish();
}
