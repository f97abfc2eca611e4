//! Pages of other origins in a browser (spec 1.2).

use crate::support::{Config, Gateway, KEY, Upstream, chat_body, http};

const ORIGIN: &str = "https://app.example";
const PATHS: [&str; 6] = [
    "/v1/models",
    "/v1/models/a/b",
    "/v1/balance/",
    "/chat/completions",
    "/v1/messages/count_tokens",
    "/v1/videos",
];

fn gateway(upstream: &Upstream, cors: &str) -> Gateway {
    let mut config = Config::default()
        .model("a/b", "chat")
        .model("a/fails", "chat")
        .channel_each("c", upstream.addr, &[("a/b", "x"), ("a/fails", "fault/overload-openai")], "")
        .limits("rpm: 100");
    config.rest = cors.to_owned();
    config.start()
}

fn options(gateway: &Gateway, path: &str, headers: &str) -> http::Reply {
    gateway.raw(format!("OPTIONS {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes())
}

fn asks(origin: &str) -> String {
    format!(
        "origin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: authorization,content-type,x-stainless-os\r\n"
    )
}

/// Goal: without configuration there is no CORS: OPTIONS is 404 with what the path answers to, and no answer speaks of it.
#[test]
fn off_by_default() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "");
    for path in PATHS {
        let reply = options(&gateway, path, &asks(ORIGIN));
        let kind = reply.json()["error"]["type"].as_str().unwrap().to_owned();
        assert!(reply.status == 404 && kind.starts_with("not_found"), "{path}: {kind}");
        assert!(matches!(reply.header("allow"), Some("POST" | "GET, HEAD")), "{path}");
    }
    let reply = gateway.post_with(
        "/v1/chat/completions",
        &chat_body("a/b", false),
        "origin: https://app.example\r\n",
    );
    assert_eq!(reply.status, 200);
    assert!(reply.headers.iter().all(|(name, _)| !name.starts_with("access-control") && name != "vary"));
    gateway.finish();
}

/// Goal: a preflight of an allowed origin is answered without a key, on every known path, in every spelling; others get the
/// 404 that OPTIONS always is.
#[test]
fn preflights() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "cors: { origins: [\"https://app.example\"], max_age: 1h }\n");
    for path in PATHS {
        let reply = options(&gateway, path, &asks(ORIGIN));
        assert_eq!((reply.status, reply.body.len(), reply.header("content-type")), (204, 0, None), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(ORIGIN));
        assert!(matches!(reply.header("access-control-allow-methods"), Some("POST" | "GET, HEAD")), "{path}");
        let headers = reply.header("access-control-allow-headers");
        assert_eq!(headers, Some("authorization,content-type,x-stainless-os"));
        assert_eq!(reply.header("access-control-max-age"), Some("3600"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert!(reply.header("vary").unwrap().contains("Origin") && reply.header("content-length").is_none());
        assert_eq!(gateway.log_of(reply.request_id())["route"], "preflight");
    }
    for (path, headers) in [
        ("/v1/nothing", asks(ORIGIN)),
        ("/v1/models", asks("https://evil.example")),
        ("/v1/models", format!("origin: {ORIGIN}\r\n")),
        ("/v1/models", String::new()),
    ] {
        let reply = options(&gateway, path, &headers);
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].as_str()),
            (404, Some("not_found")),
            "{headers}"
        );
        assert_eq!(reply.header("access-control-allow-methods"), None);
    }
    gateway.finish();
}

/// Goal: every answer to a page that may call can be read by it: answers, streams, and each error before and behind a key;
/// a page that may not is told nothing, and caches are told that answers differ.
#[test]
fn answers_can_be_read() {
    let upstream = Upstream::start();
    let gateway =
        gateway(&upstream, "cors: { origins: [\"https://app.example\", \"http://localhost:3000\"] }\n");
    let post = |key: &str, path: &str, body: &str, origin: &str| {
        let head =
            format!("host: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n{origin}");
        gateway.raw(
            format!("POST {path} HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        )
    };
    let chat = "/v1/chat/completions";
    for (key, path, body, status) in [
        (KEY, chat, chat_body("a/b", false), 200),
        (KEY, chat, chat_body("a/b", true), 200),
        (KEY, chat, "{".to_owned(), 400),
        ("wrong", chat, chat_body("a/b", false), 401),
        ("wrong", "/v1/messages", chat_body("a/b", false), 401),
        (KEY, "/v1/nothing", String::new(), 404),
        (KEY, "/v1/models", String::new(), 404),
        (KEY, chat, chat_body("a/fails", true), 502),
        (KEY, chat, chat_body("a/none", false), 503),
    ] {
        for origin in [ORIGIN, "http://localhost:3000"] {
            let reply = post(key, path, &body, &format!("origin: {origin}\r\n"));
            assert_eq!(
                (reply.status, reply.header("access-control-allow-origin")),
                (status, Some(origin)),
                "{path}"
            );
            let exposed = reply.header("access-control-expose-headers").unwrap();
            for name in ["x-request-id", "retry-after", "x-should-retry", "x-ratelimit-remaining-tokens"] {
                assert!(exposed.split(", ").any(|exposed| exposed == name), "{name}");
            }
            assert_eq!(reply.header("vary"), Some("Origin"));
        }
        for foreign in ["", "origin: https://evil.example\r\n", "origin: null\r\n"] {
            let reply = post(key, path, &body, foreign);
            assert_eq!((reply.status, reply.header("vary")), (status, Some("Origin")));
            assert!(reply.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{foreign}");
        }
    }
    gateway.finish();
}

/// Goal: all origins may be allowed, and fields restricted.
#[test]
fn any_origin() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "cors: { origins: [\"*\"], headers: [authorization, content-type] }\n");
    let reply = options(&gateway, "/v1/models", &asks("null"));
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, Some("*")));
    assert_eq!(reply.header("access-control-allow-headers"), Some("authorization, content-type"));
    assert_eq!(reply.header("access-control-max-age"), Some("600"));
    let list = gateway.raw(b"GET /v1/models HTTP/1.1\r\nhost: x\r\norigin: https://any.example\r\n\r\n");
    assert_eq!((list.status, list.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(list.header("vary"), None);
    gateway.finish();
}
