//! What is renewed in a running gateway besides its channels and models: certificates, secrets, keys; and what cannot be
//! (spec 12.3, 13.1).

use crate::protocols::{Authority, runtime};
use crate::support::money::verify_ledger;
use crate::support::scripted::{self, Asked, whole};
use crate::support::{Config, Gateway, Upstream, chat_body, http};
use serde_json::Value;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const TOKEN: &str = "token-of-the-operator";

fn config(upstream: &Upstream) -> Config {
    Config { admin: format!(", token: {{ value: {TOKEN} }}"), ..Config::default() }
        .model("m/x", "chat")
        .channel("c", upstream.addr, &[("m/x", "x")], "")
}

/// A reload by this token: status and answer.
fn reload(gateway: &Gateway, token: &str) -> (u16, Value) {
    let reply = gateway.operate("POST", "/reload", token, "");
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

/// Whether a client that trusts this authority alone gets through the handshake.
fn shakes_hands(gateway: &Gateway, authority: &Authority) -> bool {
    runtime().block_on(async {
        let stream = TcpStream::connect(gateway.public).await.unwrap();
        authority.connector(&[b"http/1.1"]).connect("localhost".try_into().unwrap(), stream).await.is_ok()
    })
}

/// Goal: a certificate that was renewed in its place is shown after a reload, which says so; one that cannot be used changes
/// nothing.
#[test]
fn certificates_are_renewed() {
    let (old, new) = (Authority::new(), Authority::new());
    let upstream = Upstream::start();
    let (cert, key) = (old.file("cert.pem"), old.file("key.pem"));
    let tls = format!("  tls: {{ cert: \"{cert}\", key: \"{key}\" }}");
    let gateway = config(&upstream).server(&tls).start();
    assert_eq!((shakes_hands(&gateway, &old), shakes_hands(&gateway, &new)), (true, false));
    assert_eq!(reload(&gateway, TOKEN).1["changes"], serde_json::json!([]));
    std::fs::copy(new.file("cert.pem"), &cert).unwrap();
    let (status, told) = reload(&gateway, TOKEN);
    assert!(status == 400 && told["error"].as_str().unwrap().contains("cannot be used"), "{told}");
    assert_eq!((shakes_hands(&gateway, &old), shakes_hands(&gateway, &new)), (true, false));
    std::fs::copy(new.file("key.pem"), &key).unwrap();
    let (status, told) = reload(&gateway, TOKEN);
    let change = "server: tls (certificate and key are read anew)";
    assert_eq!((status, &told["changes"]), (200, &serde_json::json!([change])));
    assert_eq!((shakes_hands(&gateway, &old), shakes_hands(&gateway, &new)), (false, true));
    gateway.finish();
}

/// Goal: a reload reads the files of secrets anew, those of channels and the admin token, and its answer has none of them.
#[test]
fn secrets_are_read_again() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    let upstream = scripted::start(move |asked: &Asked| {
        let line = asked.head.lines().find(|line| line.to_lowercase().starts_with("authorization:"));
        heard.lock().unwrap().push(line.unwrap_or_default().to_owned());
        whole(200, &[], br#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#)
    });
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("token", "first-token\n");
    write("credential", "first-credential\n");
    let file = |name: &str| format!("{{ file: \"{}\" }}", folder.path().join(name).display());
    let config = Config { admin: format!(", token: {}", file("token")), ..Config::default() }
        .model("m/x", "chat")
        .channel("c", upstream, &[("m/x", "x")], "");
    let gateway = config.start();
    let text = config.text(gateway.public, gateway.admin);
    let text = text.replace("{ value: credential-of-c }", &file("credential"));
    gateway.rewrite_text(&text);
    assert!(text.contains("/credential\""), "{text}");
    assert_eq!(reload(&gateway, "first-token").1["changes"], serde_json::json!(["channel c: credentials"]));
    assert_eq!(gateway.chat("m/x", false).status, 200);
    write("token", "second-token\n");
    write("credential", "second-credential\n");
    let (status, told) = reload(&gateway, "first-token");
    assert_eq!(
        (status, &told["changes"]),
        (200, &serde_json::json!(["channel c: credentials", "admin: token"]))
    );
    assert_eq!(told["after_restart"], serde_json::json!([]));
    assert!(!told.to_string().contains("second-"), "{told}");
    assert_eq!((reload(&gateway, "first-token").0, reload(&gateway, "second-token").0), (401, 200));
    assert_eq!(gateway.chat("m/x", false).status, 200);
    let seen = seen.lock().unwrap().join("\n");
    let (first, last) = seen.split_once('\n').unwrap();
    assert!(first.ends_with("first-credential") && last.ends_with("second-credential"), "{seen}");
    gateway.finish();
}

/// Goal: what takes a restart is told at every reload until there is one, and no more when the file is as it was.
#[test]
fn what_takes_a_restart_is_told_until_then() {
    let upstream = Upstream::start();
    let gateway = config(&upstream).start();
    let restarts = || reload(&gateway, TOKEN).1["after_restart"].clone();
    gateway.rewrite(&config(&upstream).server("  threads: 63\n  body_max: 1MiB"));
    let (_, told) = reload(&gateway, TOKEN);
    assert_eq!(told["changes"], serde_json::json!(["server: body_max (bytes) 33554432 → 1048576"]));
    assert_eq!(told["after_restart"], serde_json::json!(["server.threads"]));
    assert_eq!(restarts(), serde_json::json!(["server.threads"]));
    gateway.rewrite(&config(&upstream));
    assert_eq!(restarts(), serde_json::json!([]));
    gateway.finish();
}

/// Goal: a storm of SIGHUP ends with the last file in force and costs no request; a reload that cannot come to its end, since
/// a secret's file never does, keeps neither requests nor SIGTERM waiting.
#[test]
fn signals_are_heard_while_a_reload_hangs() {
    let upstream = Upstream::start();
    let mut gateway = config(&upstream).server("  drain: 0s\n  grace: 60s").start();
    for weight in 1..=100 {
        let text = config(&upstream).text(gateway.public, gateway.admin);
        gateway.rewrite_text(&text.replace("], models", &format!("], weight: {weight}, models")));
        gateway.signal("HUP");
        assert_eq!(gateway.chat("m/x", false).status, 200);
    }
    let weight = |gateway: &Gateway| {
        http::get(gateway.admin, "/status.json").unwrap().json()["channels"][0]["weight"].as_u64()
    };
    gateway.wait_for("the last file", || weight(&gateway) == Some(100));

    let folder = tempfile::tempdir().unwrap();
    let endless = folder.path().join("endless");
    assert!(Command::new("mkfifo").arg(&endless).status().unwrap().success());
    let text = config(&upstream).text(gateway.public, gateway.admin);
    let text = text.replace("{ value: credential-of-c }", &format!("{{ file: \"{}\" }}", endless.display()));
    assert!(text.contains("endless"), "{text}");
    gateway.rewrite_text(&text);
    gateway.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(gateway.chat("m/x", false).status, 200);
    gateway.signal("TERM");
    let deadline = Instant::now() + Duration::from_secs(4);
    while gateway.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "SIGTERM is not heard");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}

/// Goal: a key and its account that leave the configuration while a stream of theirs runs: the stream comes to its end and is
/// paid for, the next request is refused, and the ledger is right.
#[test]
fn keys_and_accounts_leave_while_requests_run() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let with = |config: Config| {
        config.model_with("m/paid", "chat", r#"price: { request: "0.01" }"#).channel(
            "long",
            upstream.addr,
            &[("m/paid", "x+chunks=15+chunk-delay=100")],
            "",
        )
    };
    let leaving = with(config(&upstream)).further_account("leaving", "credit: \"1.00\"").key(
        "gone",
        "key-that-leaves",
        ", account: leaving, limits: { concurrency: 1, rpm: 60 }",
    );
    let gateway = leaving.start_in(folder.path());
    let ask = || {
        let body = chat_body("m/paid", true);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer key-that-leaves\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        gateway.raw(request.as_bytes())
    };
    let reply = std::thread::scope(|scope| {
        let stream = scope.spawn(ask);
        gateway.wait_for("the stream", || gateway.sum("tidegate_channel_in_flight") == 1.0);
        gateway.rewrite(&with(config(&upstream)));
        let (status, told) = reload(&gateway, TOKEN);
        assert_eq!(
            (status, &told["changes"]),
            (200, &serde_json::json!(["account leaving: removed", "key gone: removed"]))
        );
        assert_eq!(ask().status, 401);
        stream.join().unwrap()
    });
    assert!(reply.complete && reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
    assert_eq!(gateway.log_of(reply.request_id())["cost_usd"].as_f64(), Some(0.01));
    assert_eq!(gateway.sum("tidegate_quota_outstanding_nanodollars"), 0.0);
    gateway.finish();
    verify_ledger(folder.path());
}

/// Goal: whoever knocks at the port of HTTPS with something else writes nothing into the gateway's log.
#[test]
fn strangers_do_not_fill_the_log() {
    use std::io::{Read, Write};
    let (own, folder, upstream) = (Authority::new(), tempfile::tempdir().unwrap(), Upstream::start());
    let tls = format!("  tls: {{ cert: \"{}\", key: \"{}\" }}", own.file("cert.pem"), own.file("key.pem"));
    let gateway = config(&upstream).server(&tls).start_in(folder.path());
    for _ in 0..20 {
        let mut connection = http::connect(gateway.public).unwrap();
        connection.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let _ = connection.read_to_end(&mut Vec::new());
    }
    assert!(shakes_hands(&gateway, &own));
    let (status, _) = reload(&gateway, TOKEN);
    gateway.rewrite_text("version: 2\n");
    assert_eq!((status, reload(&gateway, TOKEN).0), (200, 400));
    gateway.wait_for("the refused reload in the log", || gateway.said("was not reloaded"));
    assert!(!gateway.said("handshake"));
    gateway.finish();
}
