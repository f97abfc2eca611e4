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

/// Goal: a revocation can be taken back, of keys that were made and of keys of the file, and also after a restart.
#[test]
fn revocations_are_taken_back() {
    let upstream = Upstream::start();
    let mut gateway = config(&upstream).start();
    let (_, made) = post(&gateway, "/keys", r#"{"id":"k1","account":"acme"}"#);
    let key = made["key"].as_str().unwrap().to_owned();
    for id in ["k1", "tests"] {
        assert_eq!(post(&gateway, &format!("/keys/{id}/restore"), "").0, 404, "it is not revoked");
        assert_eq!(post(&gateway, &format!("/keys/{id}/revoke"), "").0, 200);
    }
    assert_eq!((call(&gateway, &key, "m/free"), call(&gateway, KEY, "m/free")), (401, 401));
    let revoked: Value = gateway.operate("GET", "/keys?revoked=true", TOKEN, "").json();
    let expected = serde_json::json!([
        { "id": "k1", "in_configuration": false },
        { "id": "tests", "in_configuration": true },
    ]);
    assert_eq!(revoked, expected);
    gateway.restart();
    for id in ["k1", "tests"] {
        let restored = serde_json::json!({ "restored": id });
        assert_eq!(post(&gateway, &format!("/keys/{id}/restore"), ""), (200, restored));
    }
    assert_eq!((call(&gateway, &key, "m/free"), call(&gateway, KEY, "m/free")), (200, 200));
    gateway.restart();
    assert_eq!((call(&gateway, &key, "m/free"), call(&gateway, KEY, "m/free")), (200, 200));
    gateway.finish();
}

/// Goal: a rotated key has two secrets for as long as was asked for, which share quota and limits; the next rotation ends the
/// oldest, a revocation all; a key of the file is rotated as well.
#[test]
fn keys_are_rotated() {
    let upstream = Upstream::start();
    let mut gateway = config(&upstream).start();
    let rotate = |gateway: &Gateway, id: &str, body: &str| {
        let (status, rotated) = post(gateway, &format!("/keys/{id}/rotate"), body);
        assert_eq!(status, 200, "{rotated}");
        (rotated["key"].as_str().unwrap().to_owned(), rotated["previous_expires"].as_u64().unwrap())
    };
    let (_, made) = post(&gateway, "/keys", r#"{"id":"k1","account":"acme","quota":"0.02"}"#);
    let first = made["key"].as_str().unwrap().to_owned();
    let (second, until) = rotate(&gateway, "k1", "");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now + 86_390..=now + 86_401).contains(&until), "a day by default: {until}");
    assert_eq!((call(&gateway, &first, "m/each"), call(&gateway, &second, "m/each")), (200, 200));
    assert_eq!(
        (call(&gateway, &first, "m/each"), call(&gateway, &second, "m/each")),
        (402, 402),
        "one quota"
    );
    let keys: Value = gateway.operate("GET", "/keys?account=acme", TOKEN, "").json();
    assert_eq!((keys.as_array().unwrap().len(), keys[0]["previous_expires"].as_u64()), (2, Some(until)));
    gateway.restart();
    let (third, _) = rotate(&gateway, "k1", r#"{"overlap":"5s"}"#);
    let statuses = [&first, &second, &third].map(|key| call(&gateway, key, "m/free"));
    assert_eq!(statuses, [401, 200, 200]);
    gateway.wait_for("the end of the overlap", || call(&gateway, &second, "m/free") == 401);
    assert_eq!(call(&gateway, &third, "m/free"), 200);
    assert_eq!(post(&gateway, "/keys/k1/revoke", "").0, 200);
    assert_eq!([&first, &second, &third].map(|key| call(&gateway, key, "m/free")), [401; 3]);
    assert_eq!(post(&gateway, "/keys/k1/restore", "").0, 200);
    assert_eq!([&first, &second, &third].map(|key| call(&gateway, key, "m/free")), [401, 401, 200]);

    let (new, _) = rotate(&gateway, "tests", r#"{"overlap":"7d"}"#);
    assert_eq!((call(&gateway, KEY, "m/free"), call(&gateway, &new, "m/free")), (200, 200));
    assert_eq!(post(&gateway, "/keys/tests/revoke", "").0, 200);
    assert_eq!((call(&gateway, KEY, "m/free"), call(&gateway, &new, "m/free")), (401, 401));
    for (path, body, status) in [
        ("/keys/none/rotate", "", 404),
        ("/keys/k1/rotate", r#"{"overlap":"91d"}"#, 400),
        ("/keys/k1/rotate", r#"{"overlap":"soon"}"#, 400),
        ("/keys/k1/rotate", r#"{"for":"1s"}"#, 400),
    ] {
        assert_eq!(post(&gateway, path, body).0, status, "{path} {body}");
    }
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
        ("/keys", r#"{"id":"k","account":"acme","expires":"2001-01-31"}"#, 400),
        ("/keys", r#"{"id":"k","account":"acme","expires":"soon"}"#, 400),
        ("/keys", r#"{"id":"k","account":"acme","models":["a*b"]}"#, 400),
        ("/keys", r#"{"id":"k","account":"acme","limits":{"rpm":0}}"#, 400),
        ("/keys", r#"{"id":"k","account":"acme","metadata":{"a":1}}"#, 400),
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
    assert!(code == Some(1) && told.contains("there is no key k1: it is revoked already"), "{told}");
    let (code, _, told) = run(&["keys", "revoke", "no/such key?"]);
    assert!(code == Some(1) && told.contains("there is no key no/such key?"), "{told}");
    gateway.finish();
}

/// Goal: the address of the status page, as the greeting has it, is good for `--admin` too; what is no address is refused
/// before anything is asked, and a token that is missing is told with where it is read from.
#[test]
fn commands_take_the_address_of_the_greeting() {
    let upstream = Upstream::start();
    let gateway = config(&upstream).start();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = command.args(arguments).env_remove("TIDEGATE_ADMIN_TOKEN").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for admin in [format!("http://{}/", gateway.admin), gateway.admin.to_string()] {
        let (code, told) = run(&["channel", "readmit", "none", "--admin", &admin]);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("answered 401: the admin token is needed"), "{told}");
        assert!(told.contains("TIDEGATE_ADMIN_TOKEN or --token-file"), "{told}");
    }
    let (code, told) = run(&["status", "--admin", "https://gateway.internal:9090"]);
    assert!(code == Some(2) && told.contains("such as 127.0.0.1:9090"), "{told}");
    gateway.finish();
}

/// A command as an operator gives it: exit code, standard output, standard error.
fn operate(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let admin = gateway.admin.to_string();
    command.args(arguments).args(["--admin", &admin]).env("TIDEGATE_ADMIN_TOKEN", TOKEN);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Goal: a key is made from the command line with everything that a key can have, and is held to it.
#[test]
fn a_command_makes_keys_with_everything() {
    let upstream = Upstream::start();
    let gateway = config(&upstream).start();
    let create = "keys create full --account acme --name Full --model m/free --expires 2100-01-31 --ip 127.0.0.1 --ip 10.0.0.0/8 \
                  --group silver --metadata team=build --metadata ticket=a=b --rpm 2 --tpm 100000 --concurrency 3";
    let (code, made, told) = operate(&gateway, &create.split_whitespace().collect::<Vec<_>>());
    let key = made.strip_prefix("key:    ").unwrap_or_else(|| panic!("{made}{told}")).trim().to_owned();
    assert_eq!((code, call(&gateway, &key, "m/each"), call(&gateway, &key, "m/free")), (Some(0), 403, 200));
    assert_eq!((call(&gateway, &key, "m/free"), call(&gateway, &key, "m/free")), (200, 429));
    let shown = operate(&gateway, &["accounts", "show", "acme", "--format", "json"]).1;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let key = &shown["keys"][0];
    let expected = serde_json::json!({
        "id": "full", "name": "Full", "account": "acme", "source": "run time", "enabled": true,
        "expires": 4_105_036_800_u64, "previous_expires": null, "models": ["m/free"], "group": "silver",
        "quota": null, "spent": key["spent"],
        "limits": { "rpm": 2, "tpm": 100_000, "concurrency": 3, "shadow": false },
        "metadata": { "team": "build", "ticket": "a=b" },
    });
    assert_eq!(*key, expected);
    assert_eq!(
        operate(&gateway, &["keys", "create", "x", "--account", "acme", "--ip", "nowhere"]).0,
        Some(2)
    );
    gateway.finish();
}

/// Goal: accounts are made, listed and shown from the command line, and keys rotated, revoked and restored.
#[test]
fn commands_manage_accounts_and_keys() {
    let upstream = Upstream::start();
    let gateway = config(&upstream).start();
    let run = |line: &str| operate(&gateway, &line.split_whitespace().collect::<Vec<_>>());
    let (code, made, told) = run("accounts create lab --billing none --group gold --rpm 600");
    assert_eq!((code, made.as_str()), (Some(0), "the account lab is made\n"), "{told}");
    assert_eq!(run("accounts create lab").0, Some(1));
    assert_eq!(run("keys create k --account lab --expires 2100-01-31").0, Some(0));
    let shown: Value = serde_json::from_str(&run("accounts show lab --format json").1).unwrap();
    assert_eq!(
        (&shown["id"], &shown["billing"], &shown["group"], &shown["limits"]["rpm"], &shown["source"]),
        (&"lab".into(), &"none".into(), &"gold".into(), &600.into(), &"run time".into())
    );
    let (code, shown, _) = run("accounts show lab");
    assert!(
        code == Some(0) && shown.contains("billing    none\n") && shown.contains("2100-01-31T00:00:00Z"),
        "{shown}"
    );
    let listed = run("accounts list").1;
    assert!(
        listed.lines().count() == 3 && listed.contains("acme     prepaid  -      no        1"),
        "{listed}"
    );
    let (code, _, told) = run("accounts show none");
    assert!(code == Some(1) && told.contains("there is no account none"), "{told}");
    let (code, rotated, _) = run("keys rotate k --overlap 0s");
    assert!(
        code == Some(0)
            && rotated.starts_with("key:    tg_")
            && rotated.contains("the secret before works until")
    );
    assert!(run("keys revoke k").1.contains("tidegate keys restore k"));
    assert!(run("keys list --revoked").1.contains('k'));
    assert_eq!(run("keys restore k").1, "the key k works again\n");
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
