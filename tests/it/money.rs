//! What calls cost, over the wire (spec 1.8, 8).

use crate::support::scripted::{self, Act, Asked, chunk, chunked, whole};
use crate::support::{Config, Gateway, KEY, Upstream, http};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

/// A model that costs 2 USD for a million input tokens and 10 for a million output tokens.
const PRICE: &str = r#"price: { input: "2", output: "10", cache_read: "0.5" }, output_max: 50000"#;
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const EVENTS: &[(&str, &str)] = &[("content-type", "text/event-stream")];

fn headers(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn gateway(upstream: SocketAddr, credit: &str) -> Gateway {
    Config::default()
        .model_with("m/paid", "chat", PRICE)
        .model("m/free", "chat")
        .channel("c", upstream, &[("m/paid", "x"), ("m/free", "x")], "")
        .account(&format!("credit: \"{credit}\""))
        .start()
}

/// The balance as the tests' key sees it.
fn balance(gateway: &Gateway) -> Value {
    let request = format!("GET /v1/balance HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let reply = gateway.raw(request.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// A chat answer with this usage.
fn answer(usage: &str) -> Vec<Act> {
    let body = format!(
        r#"{{"id":"u","object":"chat.completion","created":1,"model":"x","choices":[{{"index":0,"message":{{"role":"assistant","content":"one two three"}},"finish_reason":"stop"}}]{usage}}}"#
    );
    whole(200, &headers(JSON), body.as_bytes())
}

/// An event of a chat stream.
fn event(data: &str) -> Act {
    chunk(format!("data: {data}\n\n").as_bytes())
}

fn text_event(text: &str) -> Act {
    let text = json!(text);
    event(&format!(r#"{{"id":"u","choices":[{{"index":0,"delta":{{"content":{text}}}}}]}}"#))
}

/// Goal: with a balance for 100 requests, of 500 at the same time exactly 100 are served, and nothing is left over.
#[test]
fn a_balance_is_never_overspent() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model_with("m/each", "chat", r#"price: { request: "0.01" }"#)
        .channel("c", upstream.addr, &[("m/each", "x+delay=50")], "")
        .account("credit: \"1.00\"")
        .start();
    let barrier = Barrier::new(500);
    let served = std::thread::scope(|scope| {
        let send = |stream| {
            barrier.wait();
            gateway.chat("m/each", stream).status
        };
        let senders: Vec<_> = (0..500).map(|n| scope.spawn(move || send(n % 2 == 0))).collect();
        let statuses: Vec<u16> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        assert!(statuses.iter().all(|status| matches!(status, 200 | 402)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 200).count()
    });
    assert_eq!((served, upstream.stats.requests()), (100, 100));
    let shown = balance(&gateway);
    assert_eq!((&shown["balance"], &shown["used"], &shown["total"]), (&json!(0), &json!(1), &json!(1)));
    assert_eq!(gateway.chat("m/each", false).status, 402);
    gateway.finish();
}

/// Goal: a call costs what its usage says, to the nano-dollar, whole or streamed; the next read of the balance shows it.
/// The documented body of 402 is sent before any upstream is asked.
#[test]
fn reported_usage_is_charged_exactly() {
    let usage = r#","usage":{"prompt_tokens":1003,"completion_tokens":7,"total_tokens":1010,"prompt_tokens_details":{"cached_tokens":501}}"#;
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let upstream = scripted::start(move |request: &Asked| {
        *count.lock().unwrap() += 1;
        if String::from_utf8_lossy(&request.body).contains(r#""stream":true"#) {
            let last = format!(r#"{{"id":"u","choices":[]{usage}}}"#);
            let finish = r#"{"id":"u","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
            let events = [text_event("one two"), event(finish), event(&last), event("[DONE]"), chunk(b"")];
            return [vec![chunked(200, &headers(EVENTS))], events.to_vec()].concat();
        }
        answer(usage)
    });
    let gateway = gateway(upstream, "5.00");
    // 502 × 2 + 501 × 0.5 + 7 × 10 micro-dollars.
    let cost = 1_324_500;
    for (calls, stream) in [(1, false), (2, true), (3, false)] {
        let reply = gateway.chat("m/paid", stream);
        assert_eq!(reply.status, 200);
        let shown = balance(&gateway);
        assert_eq!(nanos(&shown["used"]), calls * cost, "{shown}");
        assert_eq!(nanos(&shown["balance"]), 5_000_000_000 - calls * cost);
        assert_eq!(nanos(&gateway.log_of(reply.request_id())["cost_usd"]), cost);
    }
    let shown = balance(&gateway);
    assert_eq!((shown["object"].as_str(), shown["currency"].as_str()), (Some("balance"), Some("USD")));
    assert_eq!(shown["used_quota"], json!(3 * cost / 2_000));
    assert_eq!(shown["total_quota"], json!(2_500_000));
    let key = &shown["token"];
    assert_eq!((key["id"].as_str(), key["unlimited_quota"].as_bool()), (Some("tests"), Some(true)));
    assert_eq!((nanos(&key["used"]), &key["expires_at"]), (3 * cost, &json!(0)));
    assert_eq!(gateway.chat("m/free", false).status, 200);
    assert_eq!(nanos(&balance(&gateway)["used"]), 3 * cost, "a free model costs nothing");
    assert_eq!(*asked.lock().unwrap(), 4);
    assert_eq!(gateway.sum("tidegate_quota_settled_nanodollars_total"), 3.0 * cost as f64);
    assert_eq!(gateway.sum("tidegate_quota_outstanding_nanodollars"), 0.0);
    gateway.finish();
}

/// An amount of dollars in nano-dollars, from its decimal digits.
fn nanos(amount: &Value) -> i64 {
    let text = amount.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{part:0<9}").parse().unwrap()
}

/// Goal: failures cost nothing, whatever they are; nothing stays set aside.
#[test]
fn failures_cost_nothing() {
    let upstream = Upstream::start();
    let faults = ["fault/overload-openai", "fault/context-400", "fault/html-200", "fault/stream-error-first"];
    let mut config = Config::default().account("credit: \"5.00\"");
    for (index, fault) in faults.iter().enumerate() {
        let model = format!("m/{index}");
        config = config.model_with(&model, "chat", PRICE).channel(
            &format!("c{index}"),
            upstream.addr,
            &[(&model, fault)],
            "",
        );
    }
    let gateway = config.start();
    for index in 0..faults.len() {
        for stream in [false, true] {
            let reply = gateway.chat(&format!("m/{index}"), stream);
            assert!(reply.status >= 400 || index == 3 && !stream, "{index} {stream} {}", reply.status);
        }
    }
    let used = nanos(&balance(&gateway)["used"]);
    assert_eq!(used as f64, gateway.sum("tidegate_quota_settled_nanodollars_total"));
    let charged: Vec<Value> = gateway.log().into_iter().filter(|line| !line["cost_usd"].is_null()).collect();
    assert!(charged.iter().all(|line| line["status"] == 200), "{charged:?}");
    assert_eq!(gateway.sum("tidegate_quota_outstanding_nanodollars"), 0.0);
    gateway.finish();
}

/// Goal: without reported usage the words that were delivered are counted, marked as estimated; a client that asked for
/// usage gets the count (spec 1.6, 7.2).
#[test]
fn unreported_usage_is_counted() {
    let upstream = scripted::start(|request: &Asked| {
        if !String::from_utf8_lossy(&request.body).contains(r#""stream":true"#) {
            return answer("");
        }
        let finish = r#"{"id":"u","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        let events = vec![text_event("one two three four"), event(finish), event("[DONE]"), chunk(b"")];
        [vec![chunked(200, &headers(EVENTS))], events].concat()
    });
    let gateway = gateway(upstream, "5.00");
    let body = r#"{"model":"m/paid","messages":[{"role":"user","content":"hello"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let reply = gateway.post("/v1/chat/completions", body);
    let events = reply.events();
    let usage: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    let (input, output) = (&usage["usage"]["prompt_tokens"], &usage["usage"]["completion_tokens"]);
    assert!(
        (6..=9).contains(&input.as_i64().unwrap()) && (4..=5).contains(&output.as_i64().unwrap()),
        "{usage}"
    );
    let line = gateway.log_of(reply.request_id());
    assert_eq!((&line["tokens"]["input"], &line["tokens"]["output"]), (input, output));
    assert_eq!(line["tokens"]["source"], "estimated");
    assert_eq!(nanos(&line["cost_usd"]), 2_000 * input.as_i64().unwrap() + 10_000 * output.as_i64().unwrap());
    let line = gateway.log_of(gateway.chat("m/paid", false).request_id());
    assert_eq!((&line["tokens"]["source"], &line["tokens"]["output"]), (&json!("estimated"), &json!(3)));
    gateway.finish();
}

/// Goal: a balance that does not cover the model's longest answer bounds the answer, in the request that the upstream
/// sees, and below a sensible answer it is 402 (decisions, Money).
#[test]
fn a_small_balance_bounds_the_answer() {
    let bodies = Arc::new(Mutex::new(Vec::<Value>::new()));
    let seen = Arc::clone(&bodies);
    let upstream = scripted::start(move |request: &Asked| {
        seen.lock().unwrap().push(serde_json::from_slice(&request.body).unwrap());
        answer(r#","usage":{"prompt_tokens":10,"completion_tokens":10}"#)
    });
    // One cent: a thousand output tokens, less some for the input.
    let gateway = gateway(upstream, "0.01");
    let ask = |bound: &str| {
        let body = format!(r#"{{"model":"m/paid"{bound},"messages":[{{"role":"user","content":"hi"}}]}}"#);
        gateway.post("/v1/chat/completions", &body)
    };
    assert_eq!(ask("").status, 200);
    assert_eq!(ask(r#","max_tokens":50000"#).status, 200);
    assert_eq!(ask(r#","max_tokens":20"#).status, 200);
    {
        let bodies = bodies.lock().unwrap();
        let bound = bodies[0]["max_completion_tokens"].as_u64().unwrap();
        assert!((900..1_000).contains(&bound), "{bound}");
        assert!((900..1_000).contains(&bodies[1]["max_tokens"].as_u64().unwrap()), "{}", bodies[1]);
        assert_eq!(bodies[2]["max_tokens"], 20);
        assert!(bodies[1].get("max_completion_tokens").is_none());
    }
    let mut replies = (0..80).map(|_| ask(""));
    let refused = replies.find(|reply| reply.status != 200).expect("the balance comes to its end");
    assert_eq!((refused.status, refused.header("x-should-retry")), (402, Some("false")));
    assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
    let left = nanos(&balance(&gateway)["balance"]);
    assert!((0..2_600_000).contains(&left), "less than 256 tokens: {left}");
    assert_eq!(ask(r#","max_tokens":20"#).status, 200, "a short answer is still covered");
    gateway.finish();
}

/// Goal: a bound that upstreams pass by, because it is another API's, lowers nothing that is set aside: answers of any length
/// are covered, whatever a client writes beside its request (spec 8.2).
#[test]
fn bounds_of_other_apis_bound_nothing() {
    let bodies = Arc::new(Mutex::new(Vec::<Value>::new()));
    let seen = Arc::clone(&bodies);
    let upstream = scripted::start(move |request: &Asked| {
        seen.lock().unwrap().push(serde_json::from_slice(&request.body).unwrap());
        answer(r#","usage":{"prompt_tokens":10,"completion_tokens":10}"#)
    });
    let gateway = gateway(upstream, "0.01");
    let body = r#"{"model":"m/paid","max_output_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(gateway.post("/v1/chat/completions", body).status, 200);
    let sent = bodies.lock().unwrap().remove(0);
    assert_eq!(sent["max_output_tokens"], 1);
    assert!((900..1_000).contains(&sent["max_completion_tokens"].as_u64().unwrap()), "{sent}");
    gateway.finish();
}

/// Goal: completions of a list of prompts are as many answers as there are prompts, and all of them are set aside (spec 8.2).
#[test]
fn each_prompt_is_an_answer() {
    let bodies = Arc::new(Mutex::new(Vec::<Value>::new()));
    let seen = Arc::clone(&bodies);
    let upstream = scripted::start(move |request: &Asked| {
        seen.lock().unwrap().push(serde_json::from_slice(&request.body).unwrap());
        answer(r#","usage":{"prompt_tokens":0,"completion_tokens":0}"#)
    });
    let gateway = gateway(upstream, "0.01");
    let ask =
        |members: &str| gateway.post("/v1/completions", &format!(r#"{{"model":"m/paid",{members}}}"#)).status;
    for (members, least, most) in [
        (r#""prompt":"a""#, 900, 1_000),
        (r#""prompt":[1,2,3,4]"#, 900, 1_000),
        (r#""prompt":["a","b"]"#, 450, 500),
        (r#""prompt":[[1,2],[3]],"n":1"#, 450, 500),
    ] {
        assert_eq!(ask(members), 200, "{members}");
        let bound = bodies.lock().unwrap().pop().unwrap()["max_tokens"].as_u64().unwrap();
        assert!((least..most).contains(&bound), "{members}: {bound}");
    }
    assert_eq!(ask(r#""prompt":["a","b"],"n":2"#), 402, "four answers of a sensible length are not covered");
    gateway.finish();
}

/// Goal: a stream sets more aside as it goes on; when the balance does not cover the next block it ends as spec 2.6 says,
/// with the code `insufficient_quota`, and no more than the balance is charged.
#[test]
fn a_stream_ends_with_the_balance() {
    let upstream = scripted::start(|_: &Asked| {
        let words = "word ".repeat(500);
        let mut acts = vec![chunked(200, &headers(EVENTS))];
        for _ in 0..100 {
            acts.extend([text_event(&words), Act::Wait(Duration::from_millis(5))]);
        }
        acts
    });
    // Eight cents: 8,000 tokens.
    let gateway = gateway(upstream, "0.08");
    let reply = gateway.chat("m/paid", true);
    let events = reply.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(
        (last["error"]["code"].as_str(), last["error"]["status"].as_u64()),
        (Some("insufficient_quota"), Some(402))
    );
    assert!(reply.complete && events.len() > 8, "{}", events.len());
    let line = gateway.log_of(reply.request_id());
    assert_eq!(line["end"], "out_of_balance");
    let used = nanos(&balance(&gateway)["used"]);
    assert!((40_000_000..=80_000_000).contains(&used), "{used}");
    assert_eq!(used, nanos(&line["cost_usd"]));
    gateway.finish();
}

/// Goal: a stream that its client leaves costs its input and what was delivered, and is cancelled; one that is left before
/// there was content costs nothing (spec 8.3).
#[test]
fn a_left_stream_costs_what_was_delivered() {
    let upstream = scripted::start(|request: &Asked| {
        let mut acts = vec![chunked(200, &headers(EVENTS))];
        if String::from_utf8_lossy(&request.body).contains("silent") {
            acts.push(Act::Wait(Duration::from_secs(20)));
            return acts;
        }
        for _ in 0..400 {
            acts.extend([text_event("word "), Act::Wait(Duration::from_millis(20))]);
        }
        acts
    });
    let gateway = gateway(upstream, "5.00");
    let leave = |content: &str, wait: Duration| {
        let body = format!(
            r#"{{"model":"m/paid","stream":true,"messages":[{{"role":"user","content":"{content}"}}]}}"#
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\nx-request-id: {content}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = http::connect(gateway.public).unwrap();
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        gateway.count(1);
        // However busy the machine is, the time begins with the first word.
        let mut read = Vec::new();
        while content == "spoken" && http::find(&read, b"word").is_none() {
            let mut piece = [0; 4096];
            let length = std::io::Read::read(&mut stream, &mut piece).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&piece[..length]);
        }
        std::thread::sleep(wait);
        drop(stream);
        gateway.log_of(content)
    };
    let line = leave("silent", Duration::from_millis(300));
    assert_eq!((&line["end"], &line["cost_usd"]), (&json!("client_gone"), &Value::Null));
    let line = leave("spoken", Duration::from_millis(600));
    let output = line["tokens"]["output"].as_i64().unwrap();
    assert!((5..=60).contains(&output), "{line}");
    let expected = 2_000 * line["tokens"]["input"].as_i64().unwrap() + 10_000 * output;
    assert_eq!(nanos(&line["cost_usd"]), expected);
    assert_eq!(nanos(&balance(&gateway)["used"]), expected);
    gateway.finish();
}

/// Goal: a key with a quota spends no more than it, whatever its account has; accounts that are not billed have no balance.
#[test]
fn quotas_and_unbilled_accounts() {
    let upstream =
        scripted::start(|_: &Asked| answer(r#","usage":{"prompt_tokens":1,"completion_tokens":1}"#));
    let gateway = Config::default()
        .model_with("m/each", "chat", r#"price: { request: "0.01" }"#)
        .channel("c", upstream, &[("m/each", "x")], "")
        .account("credit: \"1.00\"")
        .key("small", "key-with-a-quota", r#", quota: "0.03""#)
        .start();
    let with = |key: &str, method: &str, path: &str, body: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        gateway.raw(request.as_bytes())
    };
    let body = crate::support::chat_body("m/each", false);
    let statuses: Vec<u16> =
        (0..5).map(|_| with("key-with-a-quota", "POST", "/v1/chat/completions", &body).status).collect();
    assert_eq!(statuses, [200, 200, 200, 402, 402]);
    let shown = with("key-with-a-quota", "GET", "/v1/balance", "").json();
    assert_eq!((nanos(&shown["balance"]), nanos(&shown["token"]["remaining"])), (970_000_000, 0));
    assert_eq!(shown["token"]["total_quota"], 15_000);
    assert_eq!(gateway.chat("m/each", false).status, 200);
    gateway.finish();

    let gateway = Config::default()
        .model_with("m/each", "chat", r#"price: { request: "0.01" }"#)
        .model_with("m/unpriced", "chat", "free: false")
        .channel("c", upstream, &[("m/each", "x"), ("m/unpriced", "x")], "")
        .account("billing: none")
        .start();
    assert_eq!(gateway.chat("m/each", false).status, 200);
    assert_eq!(balance(&gateway)["total"], 0);
    assert_eq!(gateway.chat("m/unpriced", false).status, 503, "a model without a price is not offered");
    gateway.finish();
}
