//! The caller's own limits, over the wire (spec 6.1 to 6.3, 2.7).

use crate::support::{Config, Gateway, Upstream, http::Reply};
use std::sync::Barrier;

fn gateway(upstream: &Upstream, limits: &str) -> Gateway {
    Config::default()
        .model("m/slow", "chat")
        .model("m/fast", "chat")
        .channel("c", upstream.addr, &[("m/slow", "x+delay=700"), ("m/fast", "x")], "")
        .limits(limits)
        .start()
}

/// So many requests of a model at the same instant.
fn storm(gateway: &Gateway, model: &str, count: usize) -> Vec<Reply> {
    let barrier = Barrier::new(count);
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..count)
            .map(|index| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    gateway.chat(model, index % 2 == 0)
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    })
}

fn served(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.status == 200).count()
}

/// Goal: with L permits, ten times as many simultaneous requests are served exactly L times, again and again.
#[test]
fn concurrency_is_exact() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "concurrency: 5");
    for _ in 0..5 {
        let replies = storm(&gateway, "m/slow", 50);
        assert_eq!(served(&replies), 5);
        let refused = replies.iter().find(|reply| reply.status == 429).unwrap();
        assert_eq!(refused.json()["error"]["code"], "concurrency");
        assert_eq!(
            (refused.header("retry-after"), refused.header("retry-after-ms")),
            (Some("1"), Some("1000"))
        );
    }
    assert_eq!(upstream.stats.requests(), 25);
    gateway.finish();
}

/// Goal: with L requests a minute, ten times as many are served exactly L times, and the headers tell the truth.
#[test]
fn requests_a_minute_are_exact() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "rpm: 10");
    let first = gateway.chat("m/fast", false);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("10"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("9"));
    assert_eq!(first.header("x-ratelimit-reset-requests"), Some("6s"));
    let replies = storm(&gateway, "m/fast", 99);
    assert_eq!(served(&replies), 9);
    let refused = replies.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(refused.json()["error"]["code"], "requests_per_minute");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    let millis: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait) && millis.div_ceil(1000) == wait, "{wait} {millis}");
    gateway.finish();
}

/// Goal: a refusal by any later check leaves both limits untouched, and a failed request gives its permit back.
#[test]
fn refusals_take_nothing() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "rpm: 3, concurrency: 1");
    for _ in 0..20 {
        assert_eq!(gateway.chat("m/none", false).status, 503);
        assert_eq!(gateway.post("/v1/chat/completions", "{").status, 400);
        assert_eq!(gateway.post("/v1/embeddings", r#"{"model":"m/fast"}"#).status, 400);
    }
    for _ in 0..3 {
        assert_eq!(gateway.chat("m/fast", true).status, 200);
    }
    assert_eq!(gateway.chat("m/fast", false).status, 429);
    gateway.finish();
}

/// Goal: beyond the bound on requests under way the gateway answers as if overloaded, and recovers (spec 2.10, 15.1).
#[test]
fn the_gateway_itself_is_bounded() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/slow", "chat")
        .channel("c", upstream.addr, &[("m/slow", "x+delay=700")], "")
        .server("  max_connections: 8")
        .start();
    let replies = storm(&gateway, "m/slow", 40);
    assert_eq!(served(&replies), 8);
    let refused = replies.iter().find(|reply| reply.status != 200).unwrap();
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (502, Some("service_unavailable"))
    );
    assert_eq!(gateway.chat("m/slow", false).status, 200);
    gateway.finish();
}
