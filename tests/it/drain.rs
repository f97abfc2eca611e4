//! How the process ends (spec 12.3).

use crate::support::{Config, Gateway, Upstream, http};
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
    let log = gateway.log();
    assert!(log.len() == STREAMS && log.iter().all(|line| line["cost_usd"].as_f64() == Some(0.01)));
    let mut ledger = Vec::new();
    tidegate::store::export(&gateway.store(), &mut ledger).unwrap();
    let ledger = String::from_utf8(ledger).unwrap();
    assert!(ledger.contains("\"spent\":2000000000") && !ledger.contains("\"reservation\""), "{ledger}");
}
