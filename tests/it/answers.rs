//! What clients get for the ordinary request, and for each mistake of their own.

use crate::support::{Config, Gateway, KEY, Upstream, chat_body, http};
use std::io::Write;

fn gateway(upstream: &Upstream) -> Gateway {
    Config::default()
        .model("openai/gpt", "chat")
        .model("openai/embed", "embedding")
        .model("openai/image", "image")
        .model("openai/idle", "chat")
        .channel(
            "east",
            upstream.addr,
            &[("openai/gpt", "gpt-up"), ("openai/embed", "e"), ("openai/image", "i")],
            "",
        )
        .server("  body_max: 64KiB\n  body_timeout: 1s\n  health_path: /healthz")
        .start()
}

/// Goal: the example of spec 2.1, byte for byte.
#[test]
fn the_seed_example() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let reply = gateway.chat("openai/unknown-model", false);
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.text(),
        r#"{"error":{"message":"No available channel for model openai/unknown-model","type":"api_error","param":null,"code":"model_not_found","status":503}}"#
    );
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert_eq!(gateway.chat("openai/idle", false).text().replace("idle", "unknown-model"), reply.text());
    assert_eq!(upstream.stats.requests(), 0);
    gateway.finish();
}

/// Goal: every relayed endpoint answers under the gateway's names and tells nothing of the upstream (spec 1.5, 2.8).
#[test]
fn answers_carry_the_gateways_names() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let chat = gateway.chat("openai/gpt", false);
    let body = chat.json();
    assert_eq!((chat.status, body["model"].as_str()), (200, Some("openai/gpt")));
    assert!(body["id"].as_str().unwrap().starts_with("gate-"));
    assert!(body.get("system_fingerprint").is_none() && body.get("service_tier").is_none());
    assert!(body["usage"]["total_tokens"].as_u64() > Some(0));
    let text = gateway.post("/completions/", r#"{"model":"openai/gpt","prompt":"x"}"#);
    assert_eq!((text.status, text.json()["object"].as_str()), (200, Some("text_completion")));
    let embedded = gateway.post("/v1/embeddings", r#"{"model":"openai/embed","input":"x"}"#);
    assert_eq!((embedded.status, embedded.json()["model"].as_str()), (200, Some("openai/embed")));
    let image = gateway.post("/v1/images/generations", r#"{"model":"openai/image","prompt":"x"}"#);
    assert!(image.json()["data"][0]["b64_json"].is_string());
    for reply in [chat, text, embedded, image] {
        let names: Vec<_> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
        let expected =
            ["content-type", "x-request-id", "cache-control", "content-length", "date", "connection"];
        assert_eq!(names, expected);
    }
    gateway.finish();
}

/// Goal: in a stream the usage chunk comes once and only when asked for, before `[DONE]`; the id is one (spec 1.5, 1.6).
#[test]
fn streams_are_rewritten() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let plain = gateway.chat("openai/gpt", true);
    assert_eq!(plain.header("content-type"), Some("text/event-stream"));
    assert_eq!(plain.header("x-accel-buffering"), Some("no"));
    assert!(plain.complete && !plain.text().contains("usage") && !plain.text().contains("gpt-up"));
    assert_eq!(plain.events().last().map(String::as_str), Some("[DONE]"));
    let asked =
        r#"{"model":"openai/gpt","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let events = gateway.post("/v1/chat/completions", asked).events();
    let with_usage: Vec<_> = events.iter().filter(|event| event.contains("total_tokens")).collect();
    assert_eq!(with_usage, [&events[events.len() - 2]]);
    let log = gateway.log_of(plain.request_id());
    assert!(log["tokens"]["output"].as_u64() > Some(0), "usage is asked for behind the client's back: {log}");
    gateway.finish();
}

/// Goal: the upstream reads the client's body with the model renamed and nothing else changed, its own credential, and
/// no header of the client that is not on the list (spec 1.4, 5.5).
#[test]
fn upstreams_see_what_they_should() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let gateway = gateway(&upstream);
    let body =
        r#"{ "x":1.00E2,"m\u006fdel":"openai\/gpt", "a":[1,2.50,{"model":"keep"}],"é":"\ud83d\ude00" }"#;
    let headers = "cookie: a=b\r\nx-forwarded-for: 1.2.3.4\r\nx-stainless-os: x\r\nopenai-organization: o\r\nopenai-beta: v2\r\nconnection: authorization\r\nx-sandbox-fault: close\r\n";
    let reply = gateway.post_with("/v1/chat/completions", body, headers);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = upstream.stats.last_request().unwrap();
    assert_eq!(seen.body, body.replace(r#""openai\/gpt""#, r#""gpt-up""#).as_bytes());
    assert_eq!(seen.header("authorization"), Some("Bearer credential-of-east"));
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "openai-beta",
            "user-agent"
        ]
    );
    gateway.finish();
}

/// Goal: each check answers with its documented error, in the order of admission; no refusal touches an upstream
/// (spec 2.2, 4.1). Method: requests with two faults each, of which the earlier one has to answer.
#[test]
fn refusals_in_their_order() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let bearer = format!("authorization: Bearer {KEY}\r\n");
    let json = "content-type: application/json\r\n";
    let big = "x".repeat(70 * 1024);
    let head = |line: &str, headers: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    };
    let chat = "POST /v1/chat/completions";
    let cases = [
        (head("GET /nothing", "", &big), 404, "not_found"),
        (head("GET /v1/chat/completions", "", &big), 404, "not_found"),
        (head(chat, "", &big), 413, "request_too_large"),
        (head(chat, "", "{"), 401, "missing_api_key"),
        (head(chat, "authorization: Bearer wrong\r\n", "{"), 401, "invalid_api_key"),
        (head(chat, "authorization: Bearer wrong\r\nx-api-key: other\r\n", "{"), 401, "invalid_api_key"),
        // A credential of somebody else beside the key does no harm.
        (head(chat, &format!("{bearer}x-api-key: other\r\n"), "{"), 400, "invalid_request_error"),
        (head(chat, &bearer, "{"), 400, "invalid_request_error"),
        (head(chat, &format!("{bearer}{json}content-encoding: lzma\r\n"), "{"), 400, "invalid_request_error"),
        (head(chat, &format!("{bearer}{json}"), "{"), 400, "invalid_json"),
        (head(chat, &format!("{bearer}{json}"), "[1]"), 400, "invalid_json"),
        (head(chat, &format!("{bearer}{json}"), ""), 400, "invalid_json"),
        (head(chat, &format!("{bearer}{json}"), r#"{"stream":1}"#), 400, "missing_required_parameter"),
        (head(chat, &format!("{bearer}{json}"), r#"{"model":"nope","stream":1}"#), 400, "invalid_value"),
        (head(chat, &format!("{bearer}{json}"), r#"{"model":"nope"}"#), 503, "model_not_found"),
        (head(chat, &format!("{bearer}{json}"), r#"{"model":"openai/embed"}"#), 400, "wrong_endpoint"),
        (
            head(
                "POST /v1/embeddings",
                &format!("{bearer}{json}"),
                r#"{"model":"openai/embed","stream":true}"#,
            ),
            400,
            "invalid_value",
        ),
        (head("GET /v1/models/openai/none", "", ""), 404, "model_not_found"),
        (head("GET /v1/models", "authorization: Bearer wrong\r\n", ""), 401, "invalid_api_key"),
        (format!("{chat} HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(130)), 400, "headers_too_large"),
        (format!("{chat} HTTP/1.1\r\nhost: x\r\na: {big}\r\n\r\n"), 400, "headers_too_large"),
        (format!("{chat} HTTP/1.1\r\n\r\n"), 400, "invalid_request_error"),
    ];
    for (request, status, code) in cases {
        let reply = gateway.raw(request.as_bytes());
        let shown: String = request.chars().take(120).collect();
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (status, Some(code)), "{shown}");
        assert_eq!(reply.json()["error"]["status"], status, "{shown}");
        assert_eq!(reply.header("x-should-retry"), Some("false"), "{shown}");
    }
    assert_eq!(gateway.raw(head("GET /healthz", "", "").as_bytes()).text(), "ok\n");
    assert_eq!(upstream.stats.requests(), 0);
    gateway.finish();
}

/// Goal: the list and single models are found with and without a key; HEAD has no body (spec 1.1, 1.7).
#[test]
fn models_are_listed() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let list = gateway.raw(b"GET /models HTTP/1.1\r\nhost: x\r\n\r\n").json();
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["openai/gpt", "openai/embed", "openai/image"]);
    for path in ["/v1/models/openai/gpt", "/models/openai%2Fgpt", "/v1/models/openai/gpt/"] {
        let one = gateway.raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        assert_eq!((one.status, one.json()["owned_by"].as_str()), (200, Some("openai")), "{path}");
    }
    gateway.count(1);
    let mut stream = http::connect(gateway.public).unwrap();
    stream.write_all(b"HEAD /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    gateway.finish();
}

/// Goal: a client's request id is kept if it is harmless, else replaced (spec 2.7).
#[test]
fn request_ids_are_kept_or_minted() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for (sent, kept) in [("abc.DEF_1-2", true), ("with space", false), ("", false)] {
        let reply = gateway.post_with("/x", "", &format!("x-request-id: {sent}\r\n"));
        assert_eq!(reply.request_id() == sent, kept, "{sent}");
    }
    gateway.finish();
}

/// Goal: `Expect: 100-continue` is answered before the body, and with the refusal alone where there is one.
#[test]
fn expectations_are_met() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.count(2);
    let body = chat_body("openai/gpt", false);
    let mut stream = http::connect(gateway.public).unwrap();
    let head = |key: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
    };
    stream.write_all(head(KEY).as_bytes()).unwrap();
    let mut first = [0; 25];
    std::io::Read::read_exact(&mut stream, &mut first).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 100 Continue\r\n\r\n"), "{}", String::from_utf8_lossy(&first));
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(http::read_reply(&mut stream).unwrap().status, 200);
    let mut stream = http::connect(gateway.public).unwrap();
    stream.write_all(head("wrong").as_bytes()).unwrap();
    let refused = http::read_reply(&mut stream).unwrap();
    assert_eq!((refused.status, refused.header("connection")), (401, Some("close")));
    gateway.finish();
}

/// Goal: a body that drips is refused after its time, a compressed one is read, a bomb is not (spec 4.1, 4.3, 15.2).
#[test]
fn bodies_are_bounded() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let post = |body: Vec<u8>| {
        let mut request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
             content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend(body);
        gateway.raw(&request)
    };
    assert_eq!(post(gzip(chat_body("openai/gpt", false).as_bytes())).status, 200);
    assert_eq!(post(gzip(&vec![b' '; 50 << 20])).json()["error"]["code"], "request_too_large");
    assert_eq!(post(b"no gzip".to_vec()).status, 400);
    gateway.count(1);
    let mut stream = http::connect(gateway.public).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let late = http::read_reply(&mut stream).unwrap();
    assert_eq!((late.status, late.json()["error"]["code"].as_str()), (400, Some("request_timeout")));
    gateway.finish();
}

/// Goal: one connection serves many requests, pipelined ones too, and an HTTP/1.0 client gets a stream without chunks.
#[test]
fn connections_are_used_again() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    gateway.count(4);
    let mut stream = http::connect(gateway.public).unwrap();
    let request = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(&request.repeat(2)).unwrap();
    let first = http::read_reply(&mut stream).unwrap();
    let second = match first.rest.len() {
        0 => http::read_reply(&mut stream).unwrap(),
        _ => http::read_reply(&mut std::io::Read::chain(&first.rest[..], &mut stream)).unwrap(),
    };
    stream.write_all(request).unwrap();
    let third = http::read_reply(&mut stream).unwrap();
    assert_eq!([first.status, second.status, third.status], [200; 3]);
    let body = chat_body("openai/gpt", true);
    let mut old = http::connect(gateway.public).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    old.write_all(head.as_bytes()).unwrap();
    let reply = http::read_reply(&mut old).unwrap();
    assert!(
        reply.header("transfer-encoding").is_none() && reply.text().ends_with("data: [DONE]\n\n"),
        "{}",
        reply.text()
    );
    gateway.finish();
}
