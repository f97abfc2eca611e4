//! How the process ends (spec 12.3).

use crate::support::{Config, Gateway, KEY, Upstream, chat_body, http};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn gateway(upstream: &Upstream, server: &str) -> Gateway {
    Config::default()
        .model("m/x", "chat")
        .model("m/long", "chat")
        .channel("c", upstream.addr, &[("m/x", "x"), ("m/long", "x+chunks=30+chunk-delay=100")], "")
        .server(server)
        .start()
}

/// The exit code of a process that ends within `patience`.
fn exit_code(gateway: &mut Gateway, patience: Duration) -> Option<i32> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = gateway.child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Goal: after SIGTERM the gateway is not ready but accepts for `drain`, then accepts no more; a stream under way comes
/// to its end, and the process ends with it, long before `grace` is over.
#[test]
fn streams_finish_and_the_process_ends_with_the_last() {
    let upstream = Upstream::start();
    let mut gateway = gateway(&upstream, "  drain: 1s\n  grace: 60s");
    let (reply, ended) = std::thread::scope(|scope| {
        let stream = scope.spawn(|| (gateway.chat("m/long", true), Instant::now()));
        gateway.wait_for("the stream to begin", || gateway.sum("tidegate_channel_in_flight") == 1.0);
        gateway.signal("TERM");
        gateway.wait_for("unreadiness", || {
            http::get(gateway.admin, "/readyz").is_some_and(|reply| reply.status == 503)
        });
        assert_eq!(gateway.chat("m/x", false).status, 200, "still accepting");
        gateway.wait_for("the listener to close", || std::net::TcpStream::connect(gateway.public).is_err());
        stream.join().unwrap()
    });
    assert!(reply.complete && reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
    assert_eq!(exit_code(&mut gateway, Duration::from_secs(3)), Some(0));
    assert!(ended.elapsed() < Duration::from_secs(3));
    // What the process has written last may still be on its way through the pipe.
    gateway.wait_for("the log", || gateway.log().len() == 2);
    let log = gateway.log();
    assert!(log.len() == 2 && log.iter().all(|line| line["end"] == "complete"), "{log:?}");
}

/// Goal: without requests the process ends as soon as `drain` is over.
#[test]
fn an_idle_process_ends_at_once() {
    let upstream = Upstream::start();
    let mut gateway = gateway(&upstream, "  drain: 0s\n  grace: 60s");
    gateway.chat("m/x", false);
    gateway.signal("TERM");
    assert_eq!(exit_code(&mut gateway, Duration::from_secs(3)), Some(0));
}

/// Goal: what is not finished within `grace` is cut, and still stands in the log.
#[test]
fn grace_has_an_end() {
    let upstream = Upstream::start();
    let mut gateway = gateway(&upstream, "  drain: 0s\n  grace: 1s");
    let reply = std::thread::scope(|scope| {
        let stream = scope.spawn(|| gateway.chat("m/long", true));
        gateway.wait_for("the stream to begin", || gateway.sum("tidegate_channel_in_flight") == 1.0);
        gateway.signal("TERM");
        stream.join().unwrap()
    });
    assert!(!reply.complete);
    assert_eq!(exit_code(&mut gateway, Duration::from_secs(5)), Some(0));
    gateway.wait_for("the log", || !gateway.log().is_empty());
    assert_eq!(gateway.log()[0]["end"], "killed");
}

/// Goal: SIGHUP kills nothing, and a second SIGTERM does not wait.
#[test]
fn other_signals() {
    let upstream = Upstream::start();
    let mut gateway = gateway(&upstream, "  drain: 60s\n  grace: 60s");
    gateway.signal("HUP");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(gateway.chat("m/x", false).status, 200);
    gateway.signal("TERM");
    gateway.wait_for("unreadiness", || {
        http::get(gateway.admin, "/readyz").is_some_and(|reply| reply.status == 503)
    });
    gateway.signal("TERM");
    assert_eq!(exit_code(&mut gateway, Duration::from_secs(3)), Some(0));
}

/// Goal: while the last streams finish, the admin listener answers; a second SIGTERM then cuts them and ends the process, and
/// they stand in the log.
#[test]
fn a_second_signal_ends_the_grace_period() {
    let upstream = Upstream::start();
    let mut gateway = gateway(&upstream, "  drain: 0s\n  grace: 60s");
    let (mut connection, body) = (http::connect(gateway.public).unwrap(), chat_body("m/long", true));
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
    connection.read_exact(&mut [0; 400]).expect("the head and a first event");
    gateway.signal("TERM");
    gateway.wait_for("the listener to close", || std::net::TcpStream::connect(gateway.public).is_err());
    let ready = http::get(gateway.admin, "/readyz").expect("the admin listener stays");
    assert_eq!((ready.status, gateway.sum("tidegate_channel_in_flight")), (503, 1.0));
    gateway.signal("TERM");
    let (mut rest, began) = (Vec::new(), Instant::now());
    let _ = connection.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]") && began.elapsed() < Duration::from_secs(1));
    assert_eq!(exit_code(&mut gateway, Duration::from_secs(2)), Some(0));
    gateway.wait_for("the log", || !gateway.log().is_empty());
    assert_eq!(gateway.log()[0]["end"], "killed");
}

/// Goal: a client whose connection was accepted before the listener closes, and which speaks a moment later, is answered; and
/// every answer of a process that drains ends its connection.
#[test]
fn nobody_is_left_on_a_dead_connection() {
    let upstream = Upstream::start();
    let mut gateway = gateway(&upstream, "  drain: 300ms\n  grace: 60s");
    let request = b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n";
    let ask = |connection: &mut std::net::TcpStream| {
        connection.write_all(request).unwrap();
        let reply = http::read_reply(connection).expect("an answer");
        (reply.status, reply.header("connection").map(str::to_owned))
    };
    let (mut early, mut late) =
        (http::connect(gateway.public).unwrap(), http::connect(gateway.public).unwrap());
    assert_eq!(ask(&mut early), (200, Some("keep-alive".into())));
    gateway.signal("TERM");
    gateway.wait_for("unreadiness", || {
        http::get(gateway.admin, "/readyz").is_some_and(|reply| reply.status == 503)
    });
    assert_eq!(ask(&mut early), (200, Some("close".into())));
    gateway.wait_for("the listener to close", || std::net::TcpStream::connect(gateway.public).is_err());
    assert_eq!(ask(&mut late), (200, Some("close".into())));
    assert_eq!(exit_code(&mut gateway, Duration::from_secs(3)), Some(0));
}

/// Goal: 200 streams under way at SIGTERM all come to their end, are settled once each, and the process ends with code 0
/// within a second of the last.
#[test]
fn two_hundred_streams_finish() {
    const STREAMS: usize = 200;
    let upstream = Upstream::start();
    let mut gateway = Config::default()
        .model_with("m/paid", "chat", r#"price: { request: "0.01" }"#)
        .channel("c", upstream.addr, &[("m/paid", "x+chunks=60+chunk-delay=50")], "")
        .account("credit: \"100\"")
        .server("  drain: 200ms\n  grace: 60s")
        .start();
    let last = std::thread::scope(|scope| {
        let gateway = &gateway;
        let streams: Vec<_> =
            (0..STREAMS).map(|_| scope.spawn(|| (gateway.chat("m/paid", true), Instant::now()))).collect();
        gateway.wait_for("all streams", || gateway.sum("tidegate_channel_in_flight") == STREAMS as f64);
        gateway.signal("TERM");
        let ended = streams.into_iter().map(|stream| {
            let (reply, ended) = stream.join().unwrap();
            assert!(reply.complete && reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
            ended
        });
        ended.max().unwrap()
    });
    assert_eq!(exit_code(&mut gateway, Duration::from_secs(5)), Some(0));
    assert!(last.elapsed() < Duration::from_secs(1), "{:?}", last.elapsed());
    gateway.wait_for("the log", || gateway.log().len() == STREAMS);
    let log = gateway.log();
    assert!(log.len() == STREAMS && log.iter().all(|line| line["cost_usd"].as_f64() == Some(0.01)));
    let mut ledger = Vec::new();
    tidegate::store::export(&gateway.store(), &mut ledger).unwrap();
    let ledger = String::from_utf8(ledger).unwrap();
    assert!(ledger.contains("\"spent\":2000000000") && !ledger.contains("\"reservation\""), "{ledger}");
}
