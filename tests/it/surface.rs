//! What every route has in common: its spellings, its methods, and the headers that every answer carries (spec 1.1, 1.2, 2.7).

use crate::support::{Config, Gateway, KEY, Upstream, http};
use tidegate::wire::endpoint::{Endpoint, Line, TABLE};

fn gateway(upstream: &Upstream) -> Gateway {
    Config::default()
        .model("a/chat", "chat")
        .model("a/fails", "chat")
        .channel_each("c", upstream.addr, &[("a/chat", "x"), ("a/fails", "fault/overload-openai")], "")
        .start()
}

/// A path of the table as clients write it, in all spellings.
fn spellings(line: &Line) -> [String; 4] {
    let path = line.path.replace("{id}", "a/chat");
    [format!("/v1{path}"), format!("/v1{path}/"), path.clone(), format!("{path}/")]
}

fn ask(gateway: &Gateway, method: &str, path: &str, headers: &str, body: &str) -> http::Reply {
    let head = format!("host: x\r\n{headers}content-length: {}\r\n", body.len());
    gateway.raw(format!("{method} {path} HTTP/1.1\r\n{head}\r\n{body}").as_bytes())
}

fn with_key() -> String {
    format!("authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n")
}

/// Goal: every route answers in each of its spellings and to each of its methods, with the same; to other methods it is
/// 404 with the right ones named, OPTIONS among them; a second slash, or a second version, is another path.
#[test]
fn routes_have_four_spellings() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for line in &TABLE {
        let read = !matches!(line.endpoint, Endpoint::Call(_));
        for path in spellings(line) {
            let (found, body) = if read { ("GET", "") } else { ("POST", r#"{"model":"a/none"}"#) };
            let reply = ask(&gateway, found, &path, &with_key(), body);
            assert_eq!(reply.status, if read { 200 } else { 503 }, "{found} {path}: {}", reply.text());
            assert_eq!(gateway.log_of(reply.request_id())["route"], line.endpoint.label(), "{path}");
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
                if method == found {
                    continue;
                }
                let reply = ask(&gateway, method, &path, "", "");
                assert_eq!(
                    (reply.status, reply.header("allow")),
                    (404, Some(line.methods)),
                    "{method} {path}"
                );
                assert!(reply.text().contains("This path answers to"), "{method} {path}: {}", reply.text());
            }
        }
        let path = line.path.replace("{id}", "a/chat");
        for path in
            [format!("/v1{path}//"), format!("/v1/v1{path}"), format!("//v1{path}"), format!("/V1{path}")]
        {
            let reply = ask(&gateway, "GET", &path, &with_key(), "");
            assert_eq!((reply.status, reply.header("allow")), (404, None), "{path}");
        }
    }
    gateway.finish();
}

/// Goal: HEAD answers what GET does, without the body, to reads alone.
#[test]
fn head_is_get_without_a_body() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for line in &TABLE {
        for path in spellings(line) {
            let whole = ask(&gateway, "GET", &path, &with_key(), "");
            gateway.count(1);
            let mut stream = http::connect(gateway.public).unwrap();
            let request =
                format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n{}connection: close\r\n\r\n", with_key());
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
            let answer = answer.to_lowercase();
            assert!(answer.starts_with(&format!("http/1.1 {}", whole.status)), "{path}: {answer}");
            assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
            let length = format!("\r\ncontent-length: {}\r\n", whole.body.len());
            assert!(answer.contains(&length), "{path}: {answer}");
        }
    }
    gateway.finish();
}

/// Goal: every answer carries the request's id, on Messages under both names, and is not to be stored; streams alone are
/// not to be buffered. It holds for answers, streams and each kind of refusal, on every route.
#[test]
fn every_answer_names_its_request() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let bodies = [
        "{",
        r#"{"model":"a/none"}"#,
        r#"{"model":"a/chat","messages":[{"role":"user","content":"hi"}],"prompt":"hi","input":"hi","max_tokens":9}"#,
        r#"{"model":"a/chat","messages":[],"prompt":"hi","input":"hi","stream":true}"#,
        r#"{"model":"a/fails","messages":[],"prompt":"hi","input":"hi","stream":true}"#,
    ];
    let mut streams = 0;
    for (turn, line) in TABLE.iter().enumerate() {
        let path = &spellings(line)[turn % 4];
        let is_messages = line.path.starts_with("/messages");
        let method = line.methods.split(',').next().unwrap();
        let mut asked: Vec<_> = bodies.iter().map(|body| (method, with_key(), *body)).collect();
        asked.extend([(method, String::new(), ""), ("PUT", String::new(), "")]);
        asked.push((method, "x-api-key: wrong\r\n".to_owned(), ""));
        for (number, (method, headers, body)) in asked.iter().enumerate() {
            let id = format!("my.Request_{turn}-{number}");
            let reply = ask(&gateway, method, path, &format!("{headers}x-request-id: {id}\r\n"), body);
            let what = format!("{method} {path} {body}: {}", reply.status);
            assert_eq!(reply.request_id(), id, "{what}");
            assert_eq!(reply.header("request-id"), is_messages.then_some(&*id), "{what}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}");
            let is_stream = reply.header("content-type") == Some("text/event-stream");
            assert_eq!(reply.header("x-accel-buffering"), is_stream.then_some("no"), "{what}");
            assert!(is_stream || reply.header("content-type") == Some("application/json"), "{what}");
            assert_eq!(gateway.log_of(&id)["status"], reply.status, "{what}");
            streams += u32::from(is_stream);
        }
        for id in ["two words", "é", &"x".repeat(65)] {
            let reply = ask(&gateway, method, path, &format!("{}x-request-id: {id}\r\n", with_key()), "");
            assert_ne!(reply.request_id(), id);
            assert!(reply.request_id().len() <= 64 && !reply.request_id().is_empty());
        }
    }
    assert_eq!(streams, 4, "chat, completions, Responses and Messages");
    gateway.finish();
}

/// Goal: a WebSocket handshake on a known path is told at once that there is none; on another path it is 404, and a plain
/// request with such a header is served.
#[test]
fn websockets_are_426() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\n";
    for path in ["/v1/responses", "/responses/", "/v1/models"] {
        let reply = ask(&gateway, "GET", path, upgrade, "");
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["status"]), (426, &426.into()), "{path}");
        assert_eq!(
            (&error["type"], &error["code"]),
            (&"invalid_request_error".into(), &"wrong_endpoint".into())
        );
    }
    assert_eq!(ask(&gateway, "GET", "/v1/realtime", upgrade, "").status, 404);
    let body = r#"{"model":"a/chat","messages":[]}"#;
    let reply = ask(&gateway, "POST", "/v1/chat/completions", &with_key(), body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    gateway.finish();
}

/// Goal: of two different credentials the one that is a key counts if the other is none; two keys, or none, are refused with
/// the headers' names.
#[test]
fn the_credential_that_is_a_key_counts() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let reply = |authorization: &str, key: &str| {
        let headers = format!("authorization: {authorization}\r\nx-api-key: {key}\r\n");
        ask(&gateway, "GET", "/v1/balance", &headers, "")
    };
    let key = format!("Bearer {KEY}");
    for good in
        [reply(&key, "sk-other"), reply("Bearer sk-other", KEY), reply("Basic x", KEY), reply(&key, KEY)]
    {
        assert_eq!(good.status, 200, "{}", good.text());
    }
    let refused = reply("Bearer sk-one", "sk-other");
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(refused.status, 401);
    assert!(message.contains("Authorization") && message.contains("x-api-key"), "{message}");
    gateway.finish();
}

/// Goal: clients of Anthropic's API read the models in its shape, in pages; others in OpenAI's.
#[test]
fn models_are_told_in_both_shapes() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let get = |query: &str| {
        ask(&gateway, "GET", &format!("/v1/models{query}"), "anthropic-version: 2023-06-01\r\n", "")
    };
    let all = get("").json();
    assert_eq!((&all["has_more"], &all["first_id"]), (&false.into(), &"a/chat".into()), "{all}");
    assert_eq!(all["data"][0]["type"], "model");
    assert!(all["data"][0]["created_at"].as_str().unwrap().ends_with('Z') && all["object"].is_null());
    let first = get("?limit=1").json();
    assert_eq!((&first["has_more"], &first["last_id"]), (&true.into(), &"a/chat".into()), "{first}");
    let second = get("?limit=1&after_id=a%2Fchat").json();
    assert_eq!((&second["has_more"], &second["last_id"]), (&false.into(), &"a/fails".into()), "{second}");
    assert_eq!(get("?before_id=a/fails").json()["data"].as_array().unwrap().len(), 1);
    for bad in ["?limit=0", "?limit=x", "?after_id=none", "?after_id=a/chat&before_id=a/fails"] {
        assert_eq!(get(bad).status, 400, "{bad}");
    }
    let one = ask(&gateway, "GET", "/v1/models/a/chat", "anthropic-version: 2023-06-01\r\n", "").json();
    assert_eq!((&one["type"], &one["id"]), (&"model".into(), &"a/chat".into()), "{one}");
    assert_eq!(ask(&gateway, "GET", "/v1/models", "", "").json()["object"], "list");
    gateway.finish();
}

/// Goal: a response id that the gateway did not give is refused before any upstream is asked (spec 1.5).
#[test]
fn foreign_responses_are_not_gone_on_from() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let body = r#"{"model":"a/chat","input":"x","previous_response_id":"resp_of_somebody"}"#;
    let reply = gateway.post("/v1/responses", body);
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &"previous_response_id".into()));
    assert_eq!(upstream.stats.requests(), 0);
    let body = r#"{"model":"a/chat","input":"x","previous_response_id":null}"#;
    assert_eq!(gateway.post("/v1/responses", body).status, 200);
    gateway.finish();
}

/// Goal: a client that compacts only on an event reads in the stream that its input is too long, with the documented status in
/// it; it is logged and counted as the 413 that others read (spec 2.6, 2.11).
#[test]
fn some_clients_read_an_overflow_in_the_stream() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("a/small", "chat, context_window: 100")
        .channel("c", upstream.addr, &[("a/small", "x")], "")
        .start();
    let body = |stream: bool| {
        format!(r#"{{"model":"a/small","input":"{}","stream":{stream}}}"#, "many words ".repeat(200))
    };
    let ask = |agent: &str, path: &str, stream: bool| {
        gateway.post_with(path, &body(stream), &format!("user-agent: {agent}\r\n"))
    };
    let codex = "codex_cli_rs/0.99 (Debian)";
    let reply = ask(codex, "/v1/responses", true);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
    let text = reply.text();
    let failed = text.split_once("event: response.failed\ndata: ").unwrap().1;
    let failed: serde_json::Value = serde_json::from_str(failed.trim()).unwrap();
    assert_eq!(failed["response"]["error"]["code"], "context_length_exceeded", "{text}");
    assert!(text.starts_with("event: error\ndata: ") && text.contains(r#""status":413"#), "{text}");
    let log = gateway.log_of(reply.request_id());
    assert_eq!((&log["status"], &log["code"]), (&413.into(), &"context_length_exceeded".into()));
    assert_eq!(ask(codex, "/v1/responses", false).status, 413);
    assert_eq!(ask("openai-python/2", "/v1/responses", true).status, 413);
    gateway.finish();
}
