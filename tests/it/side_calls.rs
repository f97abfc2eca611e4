//! `POST /v1/responses/compact` and `POST /v1/messages/count_tokens`, which are about a call and are none themselves.

use crate::support::{Config, Gateway, Upstream, http, scripted};
use std::sync::{Arc, Mutex};
use tidegate::wire::provenance::{MARK_LEN, PREFIX};

const COMPACT: &str = "/v1/responses/compact";
const COUNT: &str = "/v1/messages/count_tokens";
const MESSAGES: &str = r#""messages":[{"role":"user","content":"How long is this?"}]"#;

fn priced(config: Config) -> Config {
    config
        .model_with("openai/gpt", "chat", r#"price: { input: "1000", output: "1000" }, context_window: 2000"#)
        .account(r#"credit: "20""#)
}

fn spent(gateway: &Gateway) -> f64 {
    let request = format!(
        "GET /v1/balance HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        crate::support::KEY
    );
    gateway.raw(request.as_bytes()).json()["used"].as_f64().unwrap()
}

/// An upstream that answers every call with the same body, and what it was asked.
fn upstream_saying(
    status: u16,
    body: &'static str,
) -> (std::net::SocketAddr, Arc<Mutex<Vec<scripted::Asked>>>) {
    let asked: Arc<Mutex<Vec<scripted::Asked>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let addr = scripted::start(move |asked| {
        let copy = scripted::Asked { head: asked.head.clone(), body: asked.body.clone() };
        seen.lock().unwrap().push(copy);
        scripted::whole(status, &[("content-type".into(), "application/json".into())], body.as_bytes())
    });
    (addr, asked)
}

fn of_model(body: &str) -> String {
    format!(r#"{{"model":"openai/gpt",{body}}}"#)
}

/// Goal: a count comes back as the upstream gave it, from its own path with the version named, and costs nothing: no money
/// is set aside, no tokens are taken from a limit, and a prompt that is too long for the model is counted all the same.
#[test]
fn counts_are_free() {
    let (addr, asked) = upstream_saying(200, r#"{"input_tokens":2095, "x":1.0}"#);
    let gateway = priced(Config::default())
        .channel("east", addr, &[("openai/gpt", "up")], "")
        .limits("tpm: 100, rpm: 5")
        .start();
    let words = "word ".repeat(6_000);
    let long = format!(r#""messages":[{{"role":"user","content":"{words}"}}]"#);
    for path in [COUNT, "/messages/count_tokens/"] {
        let reply = gateway.post(path, &of_model(&long));
        assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"input_tokens":2095}"#));
        assert_eq!(reply.header("request-id"), Some(reply.request_id()));
        assert_eq!(reply.header("x-ratelimit-remaining-tokens"), Some("100"));
        let log = gateway.log_of(reply.request_id());
        assert!(log["tokens"].is_null() && log["cost"].is_null(), "{log}");
        assert_eq!(log["route"], "messages_count_tokens");
    }
    assert_eq!(spent(&gateway), 0.0);
    assert_eq!(gateway.sum("tidegate_quota_reserved_nanodollars_total"), 0.0);
    let asked = asked.lock().unwrap();
    assert!(asked[0].head.starts_with("post /v1/messages/count_tokens http/1.1"), "{}", asked[0].head);
    assert!(asked[0].head.contains("anthropic-version: 2023-06-01"), "{}", asked[0].head);
    assert_eq!(asked[0].model(), "up");
    drop(asked);
    gateway.finish();
}

/// Goal: a count without a count is a failure, a stream of it is a mistake, and both are told in Anthropic's shape.
#[test]
fn counts_fail_in_their_own_language() {
    let (addr, _) = upstream_saying(200, r#"{"content":[{"type":"text","text":"hi"}]}"#);
    let gateway = priced(Config::default()).channel("east", addr, &[("openai/gpt", "up")], "").start();
    let kind = |reply: &http::Reply| reply.json()["error"]["type"].as_str().unwrap().to_owned();
    let none = gateway.post(COUNT, &of_model(MESSAGES));
    assert_eq!((none.status, &*kind(&none)), (500, "api_error"));
    let stream = gateway.post(COUNT, &of_model(&format!(r#"{MESSAGES},"stream":true"#)));
    assert_eq!((stream.status, &*kind(&stream)), (400, "invalid_request_error"));
    let unknown = gateway.post(COUNT, r#"{"model":"openai/none"}"#);
    assert_eq!((unknown.status, &*kind(&unknown)), (503, "api_error"));
    assert_eq!(unknown.json()["request_id"], unknown.request_id());
    gateway.finish();
}

/// Goal: a compacted conversation has a sealed id, the public model and its items byte for byte, and is charged by what it
/// reports; a stored response is found again (spec 1.5, 8.2).
#[test]
fn conversations_are_compacted() {
    let output = r#"[{"id":"msg_1","type":"message","role":"user","content":[{"type":"input_text","text":"é"}]},{"id":"cmp_1","type":"compaction","encrypted_content":"gAAAA\/B=="}]"#;
    let body: &'static str = Box::leak(
        format!(
            r#"{{"id":"resp_up","object":"response.compaction","created_at":1,"model":"up","output":{output},"usage":{{"input_tokens":100,"output_tokens":20,"total_tokens":120}}}}"#
        )
        .into_boxed_str(),
    );
    let (addr, asked) = upstream_saying(200, body);
    let gateway = priced(Config::default()).channel("east", addr, &[("openai/gpt", "up")], "").start();
    let first = gateway.post(COMPACT, &of_model(r#""input":"hello""#));
    assert_eq!(first.status, 200, "{}", first.text());
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("resp-gate-") && id.len() > 60, "{id}");
    // What is encrypted begins with the sealed origin.
    let text = first.text();
    let marked = text.find(PREFIX).unwrap();
    let unmarked = format!("{}{}", &text[..marked], &text[marked + MARK_LEN..]);
    assert_eq!(unmarked, body.replace("resp_up", &id).replace(r#""model":"up""#, r#""model":"openai/gpt""#));
    assert_eq!(spent(&gateway), 0.12, "100 and 20 tokens of a thousandth of a dollar each");
    let again = gateway.post(COMPACT, &of_model(&format!(r#""previous_response_id":"{id}""#)));
    assert_eq!(again.status, 200);
    let sent: serde_json::Value = serde_json::from_slice(&asked.lock().unwrap()[1].body).unwrap();
    assert_eq!(sent["previous_response_id"], "resp_up");
    let made_up = gateway.post(COMPACT, &of_model(r#""previous_response_id":"resp-gate-AAAA""#));
    assert_eq!((made_up.status, &made_up.json()["error"]["param"]), (400, &"previous_response_id".into()));
    let stream = gateway.post(COMPACT, &of_model(r#""input":"x","stream":true"#));
    assert_eq!((stream.status, &stream.json()["error"]["param"]), (400, &"stream".into()));
    assert_eq!(asked.lock().unwrap().len(), 2, "refusals touch no upstream");
    gateway.finish();
}

/// Goal: a response that would be made in the background is refused before anyone is asked, since nobody could fetch it; as a
/// stream it passes. One that ended without a word is an answer, as it is in a stream.
#[test]
fn responses_are_whole_or_refused() {
    let ended = r#"{"object":"response","status":"incomplete","output":[],"usage":{"input_tokens":1,"output_tokens":9}}"#;
    let upstream = scripted::start(move |asked| match asked.body.windows(6).any(|word| word == b"stream") {
        true => scripted::whole(
            200,
            &[],
            format!("data: {{\"type\":\"response.incomplete\",\"response\":{ended}}}\n\n").as_bytes(),
        ),
        false => scripted::whole(200, &[], ended.as_bytes()),
    });
    let gateway =
        Config::default().model("a/b", "chat").channel("one", upstream, &[("a/b", "x")], "").start();
    let ask = |more: &str| gateway.post("/v1/responses", &format!(r#"{{"model":"a/b","input":"x"{more}}}"#));
    let refused = ask(r#","background":true"#);
    let error = &refused.json()["error"];
    assert_eq!((refused.status, &error["param"]), (400, &"background".into()), "{error}");
    assert!(gateway.log_of(refused.request_id())["attempts"].as_array().unwrap().is_empty());
    for more in ["", r#","background":false"#, r#","background":true,"stream":true"#] {
        let reply = ask(more);
        assert_eq!((reply.status, reply.complete), (200, true), "{more}: {}", reply.text());
        assert!(reply.text().contains(r#""status":"incomplete""#), "{}", reply.text());
    }
    gateway.finish();
}

/// Goal: what cannot be bounded is refused where the balance does not cover it, and nothing is taken (spec 8.2).
#[test]
fn a_compaction_is_covered_or_refused() {
    let upstream = Upstream::start();
    let gateway = priced(Config::default())
        .channel("east", upstream.addr, &[("openai/gpt", "up")], "")
        .account(r#"credit: "5""#)
        .start();
    let reply = gateway.post(COMPACT, &of_model(r#""input":"hello""#));
    assert_eq!((reply.status, upstream.stats.requests()), (402, 0));
    assert_eq!(gateway.post("/v1/responses", &of_model(r#""input":"hello""#)).status, 200);
    assert_eq!(gateway.sum("tidegate_quota_outstanding_nanodollars"), 0.0);
    gateway.finish();
}

/// Goal: an upstream that does not know these calls is not held to be broken: what else it serves goes on, however often
/// somebody asks for them.
#[test]
fn upstreams_need_not_know_them() {
    for (status, said) in [
        (404, r#"{"detail":"Not Found"}"#),
        (
            404,
            r#"{"error":{"message":"Invalid URL (POST /v1/responses/compact)","type":"invalid_request_error"}}"#,
        ),
        (405, "<html><body>405 Not Allowed</body></html>"),
        (200, "<html><body>Welcome</body></html>"),
    ] {
        let addr = scripted::start(move |asked| {
            let known = asked.head.starts_with("post /v1/chat/completions");
            let answer = r#"{"id":"x","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
            let (status, body) = if known { (200, answer) } else { (status, said) };
            scripted::whole(status, &[], body.as_bytes())
        });
        let gateway = Config::default()
            .model("openai/gpt", "chat")
            .channel("one", addr, &[("openai/gpt", "up")], "")
            .start();
        for _ in 0..6 {
            assert!(matches!(gateway.post(COMPACT, &of_model(r#""input":"hello""#)).status, 500 | 502));
            assert!(matches!(gateway.post(COUNT, &of_model(MESSAGES)).status, 500 | 502));
            assert_eq!(gateway.chat("openai/gpt", false).status, 200, "after {status} {said}");
        }
        gateway.finish();
    }
}
