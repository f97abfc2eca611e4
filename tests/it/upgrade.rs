//! A new process takes the place of a running one (spec 12.3).

use crate::support::scripted::{self, Act, Asked, chunk, chunked, whole};
use crate::support::{Config, KEY, http};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Goal: upgrades under paid load fail no connection, neither fresh nor kept alive, and cut no stream; every request is settled once, by whichever process
/// owns the ledger; the ledger is consistent at the end, and has charged exactly what was served.
#[test]
fn upgrades_under_paid_load() {
    let rounds = if std::env::var_os("TIDEGATE_LONG").is_some() { 10 } else { 2 };
    let upstream = scripted::start(|asked: &Asked| {
        if !String::from_utf8_lossy(&asked.body).contains(r#""stream":true"#) {
            let body = r#"{"id":"u","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
            return whole(200, &[], body.as_bytes());
        }
        let mut acts = vec![chunked(200, &[])];
        for _ in 0..30 {
            acts.push(chunk(
                b"data: {\"id\":\"u\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n",
            ));
            acts.push(Act::Wait(Duration::from_millis(100)));
        }
        let end = "data: {\"id\":\"u\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        acts.extend([chunk(end.as_bytes()), chunk(b"")]);
        acts
    });
    let mut gateway = Config::default()
        .model_with("m/each", "chat", r#"price: { request: "0.01" }"#)
        .channel("c", upstream, &[("m/each", "x")], "")
        .account("credit: \"10000\"")
        .start();
    let (public, done, served) = (gateway.public, AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _ending = Ending(&done);
        for stream in [false, false, true, true] {
            let (done, served) = (&done, &served);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let reply = ask(public, stream);
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    assert!(
                        reply.complete && (!stream || reply.text().ends_with("data: [DONE]\n\n")),
                        "{}",
                        reply.text()
                    );
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for pause in [0, 50, 300] {
            let (done, served) = (&done, &served);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    served.fetch_add(hold_on(public, Duration::from_millis(pause), done), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..rounds {
            gateway.upgrade();
        }
    });
    let served = served.load(Ordering::Relaxed);
    let request = format!("GET /v1/balance HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let balance = http::exchange(public, request.as_bytes()).unwrap().json();
    assert_eq!(balance["used_quota"], served * 5_000, "{served} requests at a cent: {balance}");
    assert_eq!(gateway.sum("tidegate_quota_outstanding_nanodollars"), 0.0);
    assert!(served > 40, "{served}");
    gateway.signal("INT");
    let _ = gateway.child.wait();
    assert_eq!(tidegate::store::verify(&gateway.store()), Ok(Vec::new()));
}

/// Ends the load, also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One request on a connection of its own.
fn ask(public: SocketAddr, stream: bool) -> http::Reply {
    http::exchange(public, request(stream).as_bytes()).expect("an answer")
}

/// As many requests on one connection as the gateway wants there; before each the client takes its time, on the first
/// with a connection that is open and on which nothing was said.
fn hold_on(public: SocketAddr, pause: Duration, done: &AtomicBool) -> u64 {
    let mut connection = http::connect(public).unwrap();
    for served in 1.. {
        std::thread::sleep(pause);
        connection.write_all(request(false).as_bytes()).unwrap();
        let reply = http::read_reply(&mut connection).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        if reply.header("connection") == Some("close") || done.load(Ordering::Relaxed) {
            return served;
        }
    }
    unreachable!("the gateway ends each connection")
}

fn request(stream: bool) -> String {
    let body = crate::support::chat_body("m/each", stream);
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
