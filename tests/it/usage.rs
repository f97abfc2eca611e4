//! What is charged where upstreams report nonsense, too much, too little or nothing, over the wire (spec 7.1, 7.2, 8.2, 10.2).

use crate::support::scripted::{self, Act, Asked, chunk, chunked, whole};
use crate::support::{Config, Gateway, http};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A model that costs 2 USD for a million input tokens and 10 for a million output tokens, and reads 200,000.
const PRICE: &str = r#"price: { input: "2", output: "10" }, context_window: 200000, output_max: 50000"#;

fn headers(kind: &str) -> Vec<(String, String)> {
    vec![("content-type".to_owned(), kind.to_owned())]
}

fn json_answer(body: &str) -> Vec<Act> {
    whole(200, &headers("application/json"), body.as_bytes())
}

fn events(data: &[&str]) -> Vec<Act> {
    let events = data.iter().map(|data| chunk(format!("data: {data}\n\n").as_bytes()));
    let head = chunked(200, &headers("text/event-stream"));
    std::iter::once(head).chain(events).chain([chunk(b"")]).collect()
}

fn is_stream(asked: &Asked) -> bool {
    String::from_utf8_lossy(&asked.body).contains(r#""stream":true"#)
}

fn gateway(upstream: SocketAddr) -> Gateway {
    Config::default()
        .model_with("m/paid", "chat", PRICE)
        .channel("c", upstream, &[("m/paid", "x")], "")
        .account("credit: \"5.00\"")
        .start()
}

fn ask(gateway: &Gateway, path: &str, more: &str) -> (http::Reply, Value) {
    let body = format!(r#"{{"model":"m/paid","messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
    let reply = gateway.post(path, &body);
    let line = gateway.log_of(reply.request_id());
    (reply, line)
}

fn nanos(amount: &Value) -> i64 {
    let text = amount.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{part:0<9}").parse().unwrap()
}

/// Goal: a report beyond the window, the model's bound or the client's, whole or streamed, is charged as counted and flagged;
/// the operator sees both figures. What is within the bounds and their tolerance is charged as reported.
#[test]
fn nobody_pays_for_more_than_a_call_can_use() {
    let upstream = scripted::start(|asked: &Asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let usage = body["user"].as_str().unwrap();
        if !is_stream(asked) {
            return json_answer(&format!(
                r#"{{"id":"u","choices":[{{"index":0,"message":{{"content":"one two three"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
            ));
        }
        let usage = format!(r#"{{"id":"u","choices":[],"usage":{usage}}}"#);
        events(&[
            r#"{"id":"u","choices":[{"index":0,"delta":{"content":"one two three"}}]}"#,
            r#"{"id":"u","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            &usage,
            "[DONE]",
        ])
    });
    let gateway = gateway(upstream);
    let mut flagged = (0.0, 0.0);
    for (input, output, more, kept) in [
        (1_000_000_000_000u64, 1_000_000_000_000u64, "", (false, false)),
        (300_000, 3, "", (false, true)),
        (9, 100_000, r#","max_tokens":10"#, (true, false)),
        (9, 100_000, "", (true, false)),
        (9, 150_000, r#","n":2"#, (true, false)),
        (9, 99_000, r#","n":2"#, (true, true)),
        (199_000, 49_000, "", (true, true)),
        (9, 3, r#","max_tokens":10"#, (true, true)),
    ] {
        for stream in ["", r#","stream":true"#] {
            let usage = json!(format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output}}}"#));
            let more = format!(r#","user":{usage}{more}{stream}"#);
            let (reply, line) = ask(&gateway, "/v1/chat/completions", &more);
            assert_eq!(reply.status, 200, "{}", reply.text());
            let tokens = &line["tokens"];
            let charged = (tokens["input"].as_u64().unwrap(), tokens["output"].as_u64().unwrap());
            assert!(if kept.0 { charged.0 == input } else { charged.0 < 20 }, "{line}");
            assert!(if kept.1 { charged.1 == output } else { charged.1 < 5 }, "{line}");
            let word = |kept| if kept { "reported" } else { "estimated" };
            assert_eq!(
                (&tokens["input_source"], &tokens["output_source"]),
                (&json!(word(kept.0)), &json!(word(kept.1)))
            );
            let excess = &tokens["excess"];
            match kept {
                (true, true) => assert!(excess.is_null(), "{line}"),
                _ => assert_eq!((&excess["input"], &excess["output"]), (&json!(input), &json!(output))),
            }
            let cost = charged.0 * 2_000 + charged.1 * 10_000;
            assert_eq!(nanos(&line["cost_usd"]).cast_unsigned(), cost, "{line}");
            flagged = (flagged.0 + f64::from(u8::from(!kept.0)), flagged.1 + f64::from(u8::from(!kept.1)));
        }
    }
    let metrics = gateway.metrics();
    let excess = |side: &str| metrics[&format!(r#"tidegate_usage_excess_total{{side="{side}"}}"#)];
    assert_eq!((excess("input"), excess("output")), flagged);
    gateway.finish();
}

/// Goal: a side that was not reported is counted, in an answer as in a stream, and each side says where it comes from.
#[test]
fn a_side_without_a_report_is_not_free() {
    let upstream = scripted::start(|asked: &Asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let usage = body["user"].as_str().unwrap();
        json_answer(&format!(
            r#"{{"id":"u","choices":[{{"index":0,"message":{{"content":"one two three"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        ))
    });
    let gateway = gateway(upstream);
    for (usage, input, output, sources) in [
        (r#"{"prompt_tokens":12,"completion_tokens":null}"#, 12, 3, ("reported", "estimated")),
        (r#"{"prompt_tokens":12,"completion_tokens":-5}"#, 12, 3, ("reported", "estimated")),
        (r#"{"prompt_tokens":12,"completion_tokens":2.5}"#, 12, 3, ("reported", "estimated")),
        (r#"{"prompt_tokens":12}"#, 12, 3, ("reported", "estimated")),
        (r#"{"prompt_tokens":12,"total_tokens":40}"#, 12, 28, ("reported", "reported")),
        (r#"{"completion_tokens":4}"#, 7, 4, ("estimated", "reported")),
    ] {
        let (reply, line) = ask(&gateway, "/v1/chat/completions", &format!(r#","user":{}"#, json!(usage)));
        assert_eq!(reply.status, 200);
        let tokens = &line["tokens"];
        assert_eq!((&tokens["input"], &tokens["output"]), (&json!(input), &json!(output)), "{usage}: {line}");
        assert_eq!(
            (&tokens["input_source"], &tokens["output_source"]),
            (&json!(sources.0), &json!(sources.1))
        );
        let whole = if sources == ("reported", "reported") { "reported" } else { "estimated" };
        assert_eq!(tokens["source"], whole);
    }
    gateway.finish();
}

/// Goal: a complete answer without content goes to the next channel; where all are empty the client reads an error. Nothing
/// is charged for them, and no channel is ejected.
#[test]
fn nothing_is_charged_for_nothing() {
    let empty = |asked: &Asked| {
        if !is_stream(asked) {
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            return json_answer(match body.contains(r#""input""#) {
                true => {
                    r#"{"object":"response","status":"completed","output":[],"usage":{"input_tokens":900,"output_tokens":1}}"#
                }
                false => {
                    r#"{"id":"u","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":900,"completion_tokens":1}}"#
                }
            });
        }
        events(&[
            r#"{"id":"u","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"id":"u","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"id":"u","choices":[],"usage":{"prompt_tokens":900,"completion_tokens":1}}"#,
            "[DONE]",
        ])
    };
    let good = scripted::start(|asked: &Asked| {
        if !is_stream(asked) {
            return json_answer(
                r#"{"id":"u","choices":[{"index":0,"message":{"content":"one"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#,
            );
        }
        events(&[
            r#"{"id":"u","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}"#,
            r#"{"id":"u","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#,
            "[DONE]",
        ])
    });
    let addr = scripted::start(empty);
    let gateway = Config::default()
        .model_with("m/paid", "chat", PRICE)
        .model_with("m/empty", "chat", PRICE)
        .channel("empty", addr, &[("m/paid", "x"), ("m/empty", "x")], "")
        .channel("good", good, &[("m/paid", "x")], ", priority: 1")
        .account("credit: \"5.00\"")
        .start();
    for n in 0..6 {
        let (reply, line) =
            ask(&gateway, "/v1/chat/completions", if n % 2 == 0 { "" } else { r#","stream":true"# });
        assert_eq!((reply.status, line["attempts"].as_array().unwrap().len()), (200, 2), "{line}");
        assert_eq!(nanos(&line["cost_usd"]), 9 * 2_000 + 10_000, "{line}");
    }
    for (path, more) in [
        ("/v1/chat/completions", r#""messages":[{"role":"user","content":"hi"}]"#),
        ("/v1/chat/completions", r#""stream":true,"messages":[{"role":"user","content":"hi"}]"#),
        ("/v1/responses", r#""input":"hi""#),
    ] {
        let reply = gateway.post(path, &format!(r#"{{"model":"m/empty",{more}}}"#));
        let line = gateway.log_of(reply.request_id());
        assert_eq!((reply.status, &line["cost_usd"]), (500, &Value::Null), "{line}");
    }
    assert_eq!(gateway.sum("tidegate_quota_outstanding_nanodollars"), 0.0);
    gateway.finish();
}

/// Goal: a message of no tokens, which fills the provider's cache, is an answer and charged for its input alone.
#[test]
fn a_message_of_no_tokens_is_charged_for_its_input() {
    let upstream = scripted::start(|asked: &Asked| {
        let message = r#"{"id":"m","type":"message","role":"assistant","model":"x","content":[],"stop_reason":"max_tokens","usage":{"input_tokens":9,"cache_creation_input_tokens":1000,"output_tokens":0}}"#;
        if !is_stream(asked) {
            return json_answer(message);
        }
        events(&[
            r#"{"type":"message_start","message":{"id":"m","type":"message","model":"x","content":[],"usage":{"input_tokens":9,"cache_creation_input_tokens":1000,"output_tokens":0}}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":0}}"#,
            r#"{"type":"message_stop"}"#,
        ])
    });
    let gateway = gateway(upstream);
    for more in [r#","max_tokens":0"#, r#","max_tokens":0.0"#, r#","max_tokens":0,"stream":true"#] {
        let (reply, line) = ask(&gateway, "/v1/messages", more);
        assert_eq!((reply.status, &line["tokens"]["source"]), (200, &json!("reported")), "{line}");
        assert_eq!(nanos(&line["cost_usd"]), 1_009 * 2_000, "{line}");
    }
    let (reply, _) = ask(&gateway, "/v1/messages", r#","max_tokens":-1"#);
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("between 0 and 100000000"), "{}", reply.text());
    gateway.finish();
}

/// Goal: each input of a batch of embeddings has a context of its own, also at channels; the sum is charged. What a provider
/// reports as a total alone is the input.
#[test]
fn each_input_of_a_batch_has_a_context_of_its_own() {
    let upstream = scripted::start(|_: &Asked| {
        json_answer(
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"total_tokens":21000}}"#,
        )
    });
    let limits = r#"price: { input: "2", output: "0" }, context_window: 8192"#;
    let gateway = Config::default()
        .model_with("m/vectors", "embedding", limits)
        .channel("c", upstream, &[("m/vectors", "x")], ", context_window: 4096")
        .account("credit: \"5.00\"")
        .start();
    let ask = |input: Value| {
        let body = json!({"model": "m/vectors", "input": input}).to_string();
        gateway.post("/v1/embeddings", &body)
    };
    let text = "word ".repeat(500);
    for batch in [json!(vec![text.clone(); 20]), json!(vec![vec![7; 500]; 40])] {
        let reply = ask(batch);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let line = gateway.log_of(reply.request_id());
        assert_eq!(nanos(&line["cost_usd"]), 21_000 * 2_000, "{line}");
    }
    for long in [
        json!([text.clone(), "word ".repeat(20_000)]),
        json!("word ".repeat(20_000)),
        json!([vec![7; 10], vec![7; 9_000]]),
        json!(vec![7; 9_000]),
    ] {
        assert_eq!(ask(long).status, 413);
    }
    gateway.finish();
}

/// An upstream whose stream never ends and never pauses; how many bytes it has sent.
fn endless(event: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (addr, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&sent);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4_096]).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
            let first =
                "data: {\"id\":\"u\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one \"}}]}\n\n";
            let _ = stream.write_all(first.as_bytes());
            let many = event.repeat(64);
            while stream.write_all(many.as_bytes()).is_ok() {
                count.fetch_add(many.len() as u64, Ordering::Relaxed);
            }
        }
    });
    (addr, sent)
}

/// Goal: a stream that goes on beyond its bound, the client's or the model's, ends with an error in it, is flagged, and is
/// charged no further than the bound and its tolerance.
#[test]
fn a_stream_beyond_its_bound_is_ended() {
    let (addr, _) = endless(
        "data: {\"id\":\"u\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"two three four \"}}]}\n\n",
    );
    let gateway = gateway(addr);
    for (more, most) in [(r#","max_tokens":10"#, 1_035), (r#","max_tokens":100,"n":2"#, 1_244)] {
        let (reply, line) = ask(&gateway, "/v1/chat/completions", &format!(r#"{more},"stream":true"#));
        assert_eq!(reply.status, 200);
        assert!(reply.text().contains(r#""code":"service_unavailable""#) && !reply.text().contains("[DONE]"));
        assert_eq!(line["end"], "broken_mid_stream");
        assert_eq!(line["attempts"][0]["rule"], "stream: more than its output bound");
        let charged = line["tokens"]["output"].as_u64().unwrap();
        assert!(charged == most && line["tokens"]["excess"]["output"].as_u64().unwrap() > most, "{line}");
    }
    assert_eq!(gateway.sum("tidegate_usage_excess_total"), 2.0);
    gateway.finish();
}

/// Goal: an upstream that never pauses keeps no stream from ending in its time, nor from noticing that its client has left.
#[test]
fn an_upstream_that_never_pauses_starves_nothing() {
    for event in [
        "data: {\"id\":\"u\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"two \"}}]}\n\n",
        "data: {\"id\":\"u\",\"choices\":[{\"index\":0,\"delta\":{}}]}\n\n",
        ": ping\n\n",
        "\n\n",
    ] {
        let (addr, sent) = endless(event);
        let gateway = Config::default()
            .model("m/free", "chat")
            .channel("c", addr, &[("m/free", "x")], ", timeouts: { total: 1s }")
            .start();
        let begun = Instant::now();
        let reply = gateway.chat("m/free", true);
        assert!(begun.elapsed() < Duration::from_secs(4), "{event:?}: {:?}", begun.elapsed());
        assert!(reply.text().contains(r#""code":"service_unavailable""#), "{event:?}");
        assert_eq!(gateway.log_of(reply.request_id())["end"], "timed_out");
        gateway.finish();
        assert!(sent.load(Ordering::Relaxed) > 0);
    }
}
