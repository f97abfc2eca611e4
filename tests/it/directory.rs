//! Accounts and keys that are made, credited and revoked while the gateway runs (spec 5.3, 5.4, 13.1).

use crate::support::{Config, Gateway, KEY, Upstream, chat_body};
use assert_cmd::Command;
use serde_json::Value;

const TOKEN: &str = "token-of-the-operator";

fn config(upstream: &Upstream) -> Config {
    Config { admin: format!(", token: {{ value: {TOKEN} }}"), ..Config::default() }
        .model_with("m/each", "chat", r#"price: { request: "0.01" }"#)
        .model("m/free", "chat")
        .channel("c", upstream.addr, &[("m/each", "x"), ("m/free", "x")], "")
        .account("credit: \"1.00\"")
}

fn post(gateway: &Gateway, path: &str, body: &str) -> (u16, Value) {
    let reply = gateway.operate("POST", path, TOKEN, body);
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

/// The status of a call with a key.
fn call(gateway: &Gateway, key: &str, model: &str) -> u16 {
    let body = chat_body(model, false);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    gateway.raw(request.as_bytes()).status
}

/// Goal: an account and a key that are made work at once, are limited as asked for, and credit is booked once for each
/// idempotency key; a revoked key is refused by the next request, and all of it outlives the process.
#[test]
fn made_at_run_time() {
    let upstream = Upstream::start();
    let mut gateway = config(&upstream).start();
    assert_eq!(post(&gateway, "/accounts", r#"{"id":"new"}"#).0, 201);
    assert_eq!(post(&gateway, "/accounts", r#"{"id":"new"}"#).0, 409);
    let (status, made) =
        post(&gateway, "/keys", r#"{"id":"k1","account":"new","models":["m/*"],"quota":"0.02"}"#);
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(status == 201 && key.starts_with("tg_"), "{made}");
    assert_eq!((call(&gateway, &key, "m/each"), call(&gateway, &key, "m/free")), (402, 200));
    for booked in [true, false] {
        let credit = r#"{"amount":"5","idempotency_key":"invoice-1"}"#;
        assert_eq!(
            post(&gateway, "/accounts/new/credit", credit),
            (200, serde_json::json!({ "booked": booked }))
        );
    }
    assert_eq!(
        post(&gateway, "/accounts/new/credit", r#"{"amount":"6","idempotency_key":"invoice-1"}"#).0,
        409
    );
    assert_eq!(post(&gateway, "/accounts/new/credit", r#"{"amount":"-99","idempotency_key":"back"}"#).0, 409);
    let statuses: Vec<u16> = (0..3).map(|_| call(&gateway, &key, "m/each")).collect();
    assert_eq!(statuses, [200, 200, 402], "the quota of the key");
    let accounts: Value = gateway.operate("GET", "/accounts", TOKEN, "").json();
    assert_eq!(
        (&accounts[1]["id"], &accounts[1]["available"], &accounts[1]["spent"]),
        (&"new".into(), &"4.98".into(), &"0.02".into())
    );
    let keys = gateway.operate("GET", "/keys", TOKEN, "").text();
    assert!(keys.contains(r#""id":"k1""#) && !keys.contains(&key), "{keys}");

    gateway.restart();
    assert_eq!((call(&gateway, &key, "m/free"), call(&gateway, &key, "m/each")), (200, 402));
    assert_eq!(post(&gateway, "/keys/k1/revoke", "").0, 200);
    assert_eq!(call(&gateway, &key, "m/free"), 401);
    // A revocation wins over the configuration, too.
    assert_eq!(call(&gateway, KEY, "m/free"), 200);
    assert_eq!(post(&gateway, "/keys/tests/revoke", "").0, 200);
    assert_eq!(call(&gateway, KEY, "m/free"), 401);
    gateway.restart();
    assert_eq!((call(&gateway, &key, "m/free"), call(&gateway, KEY, "m/free")), (401, 401));
    gateway.finish();
}

/// Goal: what makes no sense is told, nothing changes without the token, and an unknown thing is unknown.
#[test]
fn changes_are_checked() {
    let upstream = Upstream::start();
    let gateway = config(&upstream).start();
    for (path, body, status) in [
        ("/accounts", "{", 400),
        ("/accounts", r#"{"id":"a b"}"#, 400),
        ("/accounts", r#"{"id":"a","surprise":1}"#, 400),
        ("/accounts", r#"{"id":"a","billing":"later"}"#, 400),
        ("/keys", r#"{"id":"k","account":"nobody"}"#, 404),
        ("/keys", r#"{"id":"k","account":"acme","quota":"1e3"}"#, 400),
        ("/keys", r#"{"id":"tests","account":"acme"}"#, 409),
        ("/keys/none/revoke", "", 404),
        ("/accounts/nobody/credit", r#"{"amount":"1","idempotency_key":"a"}"#, 404),
        ("/accounts/acme/credit", r#"{"amount":"1.0000000001","idempotency_key":"a"}"#, 400),
        ("/accounts/acme/credit", r#"{"amount":"1","idempotency_key":""}"#, 400),
        ("/nothing", "{}", 404),
    ] {
        assert_eq!(post(&gateway, path, body).0, status, "{path} {body}");
    }
    for token in ["", "token-of-the-operatox"] {
        assert_eq!(gateway.operate("POST", "/accounts", token, r#"{"id":"a"}"#).status, 401);
    }
    assert_eq!(call(&gateway, KEY, "m/each"), 200);
    gateway.finish();
}

/// Goal: the commands do what the routes do, also with what a path cannot hold as it is.
#[test]
fn commands() {
    let upstream = Upstream::start();
    let gateway = config(&upstream).start();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let admin = gateway.admin.to_string();
        command.args(arguments).args(["--admin", &admin]).env("TIDEGATE_ADMIN_TOKEN", TOKEN);
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, made, _) = run(&["keys", "create", "k1", "--account", "acme", "--quota", "0.01"]);
    let key = made.strip_prefix("key:    ").unwrap_or_else(|| panic!("{made}")).trim().to_owned();
    assert_eq!((code, call(&gateway, &key, "m/each"), call(&gateway, &key, "m/each")), (Some(0), 200, 402));
    let credit = ["credit", "acme", "2.50", "--once", "i-1", "--format", "json"];
    assert_eq!(run(&credit).1, "{\"booked\":true}\n");
    assert_eq!(run(&credit).1, "{\"booked\":false}\n");
    assert!(run(&["keys", "list", "--format", "json"]).1.contains(r#""id":"k1""#));
    let listed = run(&["keys", "list"]).1;
    let row: Vec<_> =
        listed.lines().find(|line| line.starts_with("k1")).unwrap().split_whitespace().collect();
    assert_eq!(row, ["k1", "acme", "valid", "never", "0.01", "0.01"]);
    assert_eq!(run(&["keys", "revoke", "k1"]).0, Some(0));
    assert_eq!(call(&gateway, &key, "m/free"), 401);
    let (code, _, told) = run(&["keys", "revoke", "k1"]);
    assert!(code == Some(1) && told.contains("there is no key k1"), "{told}");
    let (code, _, told) = run(&["keys", "revoke", "no/such key?"]);
    assert!(code == Some(1) && told.contains("there is no key no/such key?"), "{told}");
    gateway.finish();
}

/// Goal: a key with addresses is refused from elsewhere; behind trusted proxies the client's own address counts.
#[test]
fn addresses_of_keys() {
    let upstream = Upstream::start();
    let start = |server: &str| {
        config(&upstream)
            .server(server)
            .key("near", "key-from-near", ", ips: [127.0.0.0/8]")
            .key("far", "key-from-far", ", ips: [192.0.2.0/24]")
            .start()
    };
    let with = |gateway: &Gateway, key: &str, forwarded: &str| {
        let body = chat_body("m/free", false);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             x-forwarded-for: {forwarded}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        gateway.raw(request.as_bytes())
    };
    let gateway = start("");
    assert_eq!(with(&gateway, "key-from-near", "192.0.2.7").status, 200);
    let refused = with(&gateway, "key-from-far", "192.0.2.7");
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (403, Some("ip_not_allowed")));
    gateway.finish();
    let gateway = start("  trusted_proxies: [127.0.0.1]");
    assert_eq!(with(&gateway, "key-from-near", "192.0.2.7").status, 403);
    assert_eq!(with(&gateway, "key-from-far", "203.0.113.9, 192.0.2.7").status, 200);
    assert_eq!(with(&gateway, "key-from-far", "192.0.2.7, 203.0.113.9").status, 403);
    gateway.finish();
}

/// Goal: what surely does not fit a context is 413 before any upstream is asked, with figures where they were counted; what
/// fits passes (spec 2.11, 4.1).
#[test]
fn contexts_are_checked() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model_with("openai/gpt-small", "chat", "free: true, context_window: 1000")
        .channel("c", upstream.addr, &[("openai/gpt-small", "x")], "")
        .start();
    let ask = |text: &str| {
        let body =
            format!(r#"{{"model":"openai/gpt-small","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        gateway.post("/v1/chat/completions", &body)
    };
    assert_eq!(ask(&"word ".repeat(900)).status, 200);
    let near = ask(&"word ".repeat(1_100));
    assert_eq!(near.status, 413);
    let told = near.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        told.contains("maximum context length is 1000 tokens. However, your messages resulted in 11"),
        "{told}"
    );
    assert_eq!(ask(&"word ".repeat(400_000)).status, 413);
    // One image of a megabyte is an image, and not a text of a megabyte.
    let image = format!(
        r#"{{"model":"openai/gpt-small","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]}}]}}"#,
        "iVBORw0KGgo".repeat(100_000)
    );
    assert_eq!(gateway.post("/v1/chat/completions", &image).status, 200);
    assert_eq!(upstream.stats.requests(), 2);
    gateway.finish();
}
