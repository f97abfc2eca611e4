//! The caller's own limits, over the wire (spec 6.1 to 6.3, 2.7).

use crate::support::{Config, Gateway, Upstream, chat_body, http::Reply};
use std::sync::Barrier;

/// Rounds of a storm; many more where there is time for them.
fn rounds() -> usize {
    if std::env::var_os("TIDEGATE_LONG").is_some() { 100 } else { 10 }
}

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

/// Goal: with limit L and 10 × L requests at the same time exactly L are served, for each kind of limit on a key, an
/// account, a model and over all, again and again. Method: a fresh key, account or model for each round; what is over all
/// cannot be fresh, so it has a gateway of its own.
#[test]
fn limits_are_exact_on_every_level() {
    const LIMIT: usize = 4;
    let upstream = Upstream::start();
    // Each request takes 4,106 tokens before it is answered, and keeps them: the sandbox reports as many.
    let kinds = [("rpm: 4", ""), ("tpm: 16424", "+prompt=10+tokens=4096"), ("concurrency: 4", "+delay=150")];
    for (limit, knobs) in kinds {
        let mut config = Config::default().model("m/x", "chat");
        let upstream_model = format!("x{knobs}");
        let mut served = vec![("m/x".to_owned(), upstream_model.clone())];
        for round in 0..rounds() {
            config = config
                .key(
                    &format!("key-{round}"),
                    &format!("key-of-round-{round}"),
                    &format!(", limits: {{ {limit} }}"),
                )
                .further_account(&format!("a-{round}"), &format!("limits: {{ {limit} }}"))
                .key(
                    &format!("k-{round}"),
                    &format!("account-of-round-{round}"),
                    &format!(", account: a-{round}"),
                )
                .model_with(&format!("m/{round}"), "chat", &format!("free: true, limits: {{ {limit} }}"));
            served.push((format!("m/{round}"), upstream_model.clone()));
        }
        let served: Vec<(&str, &str)> =
            served.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        let gateway = config.channel("c", upstream.addr, &served, "").start();
        for round in 0..rounds() {
            for (key, model) in [
                (format!("key-of-round-{round}"), "m/x".to_owned()),
                (format!("account-of-round-{round}"), "m/x".to_owned()),
                (crate::support::KEY.to_owned(), format!("m/{round}")),
            ] {
                let replies = storm_with(&gateway, &key, &model, 10 * LIMIT);
                let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
                assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
                assert_eq!(
                    statuses.iter().filter(|status| **status == 200).count(),
                    LIMIT,
                    "{limit} {key} {model}"
                );
            }
        }
        gateway.finish();

        let global = Config { rest: format!("limits: {{ {limit} }}\n"), ..Config::default() };
        let gateway =
            global.model("m/x", "chat").channel("c", upstream.addr, &[("m/x", &upstream_model)], "").start();
        assert_eq!(
            served_of(&storm_with(&gateway, crate::support::KEY, "m/x", 10 * LIMIT)),
            LIMIT,
            "{limit} over all"
        );
        gateway.finish();
    }
}

fn served_of(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.status == 200).count()
}

/// So many requests with a key at the same instant.
fn storm_with(gateway: &Gateway, key: &str, model: &str, count: usize) -> Vec<Reply> {
    let barrier = Barrier::new(count);
    let body = chat_body(model, false);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::scope(|scope| {
        let send = || {
            barrier.wait();
            gateway.raw(request.as_bytes())
        };
        let senders: Vec<_> = (0..count).map(|_| scope.spawn(send)).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    })
}

/// Goal: tokens a minute are taken by estimate and corrected by what is reported; what failed gives all of them back; a
/// request that alone is larger than the limit is told never to come again (spec 6.4, 6.5, 2.7).
#[test]
fn tokens_a_minute() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .model("m/broken", "chat")
        .channel("c", upstream.addr, &[("m/x", "x+prompt=100+tokens=900")], "")
        .channel("d", upstream.addr, &[("m/broken", "fault/overload-openai")], "")
        .limits("tpm: 6000")
        .start();
    let ask = |model: &str, bound: u32, words: usize| {
        let text = "word ".repeat(words);
        let body = format!(
            r#"{{"model":"{model}","max_tokens":{bound},"messages":[{{"role":"user","content":"{text}"}}]}}"#
        );
        gateway.post("/v1/chat/completions", &body)
    };
    let remaining =
        |reply: &Reply| reply.header("x-ratelimit-remaining-tokens").unwrap().parse::<u32>().unwrap();
    for _ in 0..20 {
        assert_eq!(ask("m/broken", 3_000, 1).status, 502, "what failed gives everything back");
    }
    let first = ask("m/x", 2_000, 1);
    assert_eq!((first.status, first.header("x-ratelimit-limit-tokens")), (200, Some("6000")));
    // Some 2,007 of the 6,000 were taken ahead, and 1,000 were used, as the next request finds.
    assert!((3_985..=4_000).contains(&remaining(&first)), "{}", remaining(&first));
    let second = ask("m/x", 2_000, 1);
    assert!((2_985..=3_400).contains(&remaining(&second)), "{}", remaining(&second));
    let refused = ask("m/x", 5_000, 1);
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (429, Some("tokens_per_minute")));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait) && refused.header("retry-after-ms").is_some());
    let never = ask("m/x", 1, 7_000);
    assert_eq!(
        (never.status, never.header("x-should-retry"), never.header("retry-after")),
        (429, Some("false"), None)
    );
    gateway.finish();
}

/// Goal: a limit in shadow mode counts what it would refuse, refuses nothing and tells clients nothing (spec 6.1).
#[test]
fn shadows_refuse_nothing() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "rpm: 3, tpm: 10000, shadow: true");
    for _ in 0..10 {
        let reply = gateway.chat("m/fast", false);
        assert_eq!((reply.status, reply.header("x-ratelimit-limit-requests")), (200, None));
    }
    let metrics = gateway.metrics();
    let would = |dimension: &str| {
        let name = format!("tidegate_limit_would_refuse_total{{dimension=\"{dimension}\",scope=\"key\"}}");
        metrics.get(&name).copied().unwrap_or(0.0)
    };
    assert_eq!(would("requests_per_minute") + would("tokens_per_minute"), 7.0, "{metrics:?}");
    gateway.finish();
}

/// Goal: a channel without room for a request's tokens is passed by, without an attempt; the other takes it (spec 6.6).
#[test]
fn channels_have_tokens_of_their_own() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("first", upstream.addr, &[("m/x", "x+prompt=10+tokens=4096")], ", limits: { tpm: 9000 }")
        .channel("second", upstream.addr, &[("m/x", "x+prompt=10+tokens=4096")], ", priority: 1")
        .start();
    let channels: Vec<String> = (0..4)
        .map(|_| {
            let line = gateway.log_of(gateway.chat("m/x", false).request_id());
            assert_eq!(line["attempts"].as_array().unwrap().len(), 1);
            line["channel"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(channels, ["first", "first", "second", "second"]);
    gateway.finish();
}
