//! Which models a caller may know of, and what the list of models says (spec 1.7, 5.3).

use crate::support::{Config, Gateway, KEY, Upstream, chat_body, http};

const GOLD: &str = "gold-key-of-the-tests-012345678";
const NARROW: &str = "narrow-key-of-the-tests-0123456";
const ELSEWHERE: &str = "elsewhere-key-of-the-tests-0123";

fn gateway(upstream: &Upstream, rest: &str) -> Gateway {
    let addr = upstream.addr;
    let mut config = Config::default()
        .model("plain/one", "chat")
        .model_with("gold/one", "chat", "free: true, context_window: 100")
        .model_with("mixed/one", "chat", "free: true, context_window: 100")
        .model_with("odd/a%2Fb", "chat", "free: true, created: 2026-01-02")
        .channel("all", addr, &[("plain/one", "x"), ("odd/a%2Fb", "x")], "")
        .channel("gold", addr, &[("gold/one", "x"), ("mixed/one", "x")], ", groups: [gold]")
        .channel("chat", addr, &[("mixed/one", "x")], ", apis: [chat], context_window: 50")
        .key("gold", GOLD, ", group: gold")
        .key("narrow", NARROW, ", models: [\"plain/*\"]")
        .key("elsewhere", ELSEWHERE, ", ips: [192.0.2.1]");
    config.rest = rest.to_owned();
    config.start()
}

fn get(gateway: &Gateway, path: &str, key: &str) -> http::Reply {
    let key = if key.is_empty() { String::new() } else { format!("x-api-key: {key}\r\n") };
    gateway.raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\n{key}\r\n").as_bytes())
}

fn post(gateway: &Gateway, path: &str, key: &str, body: &str) -> http::Reply {
    let head = format!("host: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n");
    gateway
        .raw(format!("POST {path} HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

fn listed(gateway: &Gateway, key: &str) -> Vec<String> {
    let list = get(gateway, "/v1/models", key).json();
    assert_eq!(list["object"], "list");
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

/// Goal: the list has what a key may use: by its rules for models, and by the groups that channels serve.
#[test]
fn lists_are_narrowed_to_the_key() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "");
    let all = ["plain/one", "gold/one", "mixed/one", "odd/a%2Fb"];
    assert_eq!(listed(&gateway, ""), all);
    assert_eq!(listed(&gateway, GOLD), all);
    assert_eq!(listed(&gateway, KEY), ["plain/one", "mixed/one", "odd/a%2Fb"]);
    assert_eq!(listed(&gateway, NARROW), ["plain/one"]);
    for path in ["/v1/models", "/v1/models/plain/one", "/v1/balance"] {
        let reply = get(&gateway, path, ELSEWHERE);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (403, &"ip_not_allowed".into()), "{path}");
    }
    gateway.finish();
}

/// Goal: a model whose channels serve other groups alone cannot be told from one that does not exist: neither by its path
/// nor by a call, in either language, whatever status unknown models have.
#[test]
fn hidden_models_do_not_exist() {
    let upstream = Upstream::start();
    for (rest, status) in [("", 503), ("errors: { unknown_model: 404 }\n", 404)] {
        let gateway = gateway(&upstream, rest);
        let same = |hidden: http::Reply, unknown: http::Reply| {
            let ours = hidden.text().replace("gold/one", "none/one").replace(hidden.request_id(), "");
            assert_eq!(ours, unknown.text().replace(unknown.request_id(), ""));
            assert_eq!(hidden.status, unknown.status);
            hidden.status
        };
        assert_eq!(
            same(get(&gateway, "/v1/models/gold/one", KEY), get(&gateway, "/v1/models/none/one", KEY)),
            404
        );
        for path in ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"] {
            let call = |model: &str| post(&gateway, path, KEY, &chat_body(model, false));
            assert_eq!(same(call("gold/one"), call("none/one")), status, "{path}");
        }
        assert_eq!(upstream.stats.requests(), 0);
        assert_eq!(get(&gateway, "/v1/models/gold/one", GOLD).status, 200);
        gateway.finish();
    }
}

/// Goal: what a model is served by and for is asked of the channels of the caller's group alone: the endpoint, and the
/// context that fits.
#[test]
fn channels_of_other_groups_say_nothing() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "");
    let messages = chat_body("mixed/one", false).replace("}]", "}],\"max_tokens\":9");
    let wrong = post(&gateway, "/v1/messages", KEY, &messages);
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    assert!(wrong.text().contains("POST /v1/chat/completions"), "{}", wrong.text());
    assert_eq!(post(&gateway, "/v1/messages", GOLD, &messages).status, 200);
    let long = chat_body("mixed/one", false).replace("hi", &"word ".repeat(80));
    let refused = post(&gateway, "/v1/chat/completions", KEY, &long);
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.text().contains("maximum context length is 50 tokens"), "{}", refused.text());
    assert_eq!(post(&gateway, "/v1/chat/completions", GOLD, &long).status, 200);
    gateway.finish();
}

/// Goal: an id stands in a path as it is or percent-encoded, with one slash at its end or none; dates are those configured;
/// HEAD says what GET would.
#[test]
fn ids_are_found_in_paths() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "");
    for path in
        ["/v1/models/plain/one", "/models/plain/one/", "/models/plain%2fone", "/v1/models/%70lain/one?x=%2F"]
    {
        let model = get(&gateway, path, KEY).json();
        assert_eq!((&model["id"], &model["object"]), (&"plain/one".into(), &"model".into()), "{path}");
        assert_eq!(model["owned_by"], "plain");
        assert!(model["created"].as_u64() > Some(1_700_000_000));
    }
    let dated = get(&gateway, "/v1/models/odd%2Fa%252Fb", KEY).json();
    assert_eq!((&dated["id"], &dated["created"]), (&"odd/a%2Fb".into(), &1_767_312_000.into()));
    for path in [
        "/v1/models/odd/a%2Fb",
        "/v1/models/PLAIN/one",
        "/v1/models/plain/one//",
        "/v1/models/%zz",
        "/v1/models/%ff",
    ] {
        let reply = get(&gateway, path, KEY);
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (404, &"model_not_found".into()),
            "{path}"
        );
    }
    for (path, status) in [("/v1/models/plain/one", 200), ("/v1/models/none", 404), ("/v1/balance", 401)] {
        let whole = get(&gateway, path, "");
        gateway.count(1);
        let mut stream = http::connect(gateway.public).unwrap();
        let request = format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
        let length = format!("\r\ncontent-length: {}\r\n", whole.body.len());
        assert!(answer.to_lowercase().contains(&length), "{answer}");
    }
    gateway.finish();
}
