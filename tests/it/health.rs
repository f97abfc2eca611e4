//! Channels that rest, are taken out and come back, over the wire (spec 9.3 to 9.7, 10.2), and what `explain` says of them.

use crate::support::scripted::{self, Act};
use crate::support::{Config, Gateway, Upstream, http};
use assert_cmd::Command;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const GOOD: &str = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}"#;

/// An upstream that answers as told; the first number is the status, 200 is a good answer.
struct Told {
    addr: SocketAddr,
    status: Arc<AtomicU32>,
    asked: Arc<AtomicUsize>,
}

fn told(headers: &'static [(&'static str, &'static str)], body: &'static str) -> Told {
    let (status, asked) = (Arc::new(AtomicU32::new(200)), Arc::new(AtomicUsize::new(0)));
    let (now, count) = (Arc::clone(&status), Arc::clone(&asked));
    let addr = scripted::start(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        match now.load(Ordering::Relaxed) as u16 {
            0 => vec![Act::Close],
            200 => scripted::whole(200, &[], GOOD.as_bytes()),
            status => {
                let headers: Vec<_> =
                    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                scripted::whole(status, &headers, body.as_bytes())
            }
        }
    });
    Told { addr, status, asked }
}

fn explain(gateway: &Gateway, model: &str) -> Value {
    http::get(gateway.admin, &format!("/explain?model={model}")).unwrap().json()
}

fn state(gateway: &Gateway, channel: &str) -> String {
    let shown = |(name, value): (String, f64)| (value == 1.0).then_some(name);
    let prefix = format!("tidegate_channel_state{{channel=\"{channel}\",state=\"");
    let name =
        gateway.metrics().into_iter().filter_map(shown).find(|name| name.starts_with(&prefix)).unwrap();
    name[prefix.len()..].trim_end_matches("\"}").to_owned()
}

/// Goal: a 429 with `Retry-After` is obeyed: the channel gets nothing for that long, and traffic again right after; the
/// client sees nothing of it, and the operator does.
#[test]
fn a_429_is_obeyed() {
    let limited = told(&[("retry-after", "2")], r#"{"error":{"code":"rate_limit_exceeded"}}"#);
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("limited", limited.addr, &[("m/x", "x")], "")
        .channel("spare", told(&[], "").addr, &[("m/x", "x")], ", priority: 1")
        .start();
    limited.status.store(429, Ordering::Relaxed);
    assert_eq!(gateway.chat("m/x", false).status, 200);
    limited.status.store(200, Ordering::Relaxed);
    let began = Instant::now();
    assert_eq!(state(&gateway, "limited"), "cooling");
    let shown = explain(&gateway, "m/x");
    assert_eq!(
        (&shown["excluded"][0]["channel"], &shown["excluded"][0]["reason"]),
        (&"limited".into(), &"cooling".into())
    );
    assert!((1_000..=2_300).contains(&shown["excluded"][0]["left_ms"].as_u64().unwrap()), "{shown}");
    assert_eq!(
        (&shown["candidates"][0]["channel"], &shown["candidates"][0]["share"]),
        (&"spare".into(), &1.0.into())
    );
    while limited.asked.load(Ordering::Relaxed) == 1 {
        assert_eq!(gateway.chat("m/x", false).status, 200);
        assert!(began.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    assert_eq!(state(&gateway, "limited"), "up");
    gateway.finish();
}

/// Goal: five failures in a row take a channel out; one probe after its time brings it back, while clients are served.
#[test]
fn ejected_channels_come_back() {
    let failing = told(&[], "oops");
    let mut config = Config::default().model("m/x", "chat");
    config.defaults = Some("defaults: { retry: { budget_ratio: 10 }, health: { ejection: 1s } }\n".into());
    let gateway = config
        .channel("failing", failing.addr, &[("m/x", "x")], "")
        .channel("spare", told(&[], "").addr, &[("m/x", "x")], ", priority: 1")
        .start();
    failing.status.store(500, Ordering::Relaxed);
    for _ in 0..20 {
        assert_eq!(gateway.chat("m/x", false).status, 200);
    }
    assert_eq!(failing.asked.load(Ordering::Relaxed), 5);
    assert_eq!((state(&gateway, "failing"), state(&gateway, "spare")), ("ejected".into(), "up".into()));
    failing.status.store(200, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(gateway.chat("m/x", false).status, 200);
    assert_eq!(failing.asked.load(Ordering::Relaxed), 6, "the probe is a client's request");
    gateway.wait_for("readmission", || state(&gateway, "failing") == "up");
    assert_eq!(gateway.sum("tidegate_channel_health_changes_total"), 2.0);
    gateway.finish();
}

/// Goal: the last usable channel of a model is asked on and on, and is told apart from one that is well; a refused credential takes its channel out at once, and
/// then clients read the 502 with its hint, without an attempt (spec 9.4, 9.5).
#[test]
fn the_last_channel_stays_and_a_refused_one_goes() {
    let (failing, refused) = (told(&[], "oops"), told(&[], r#"{"error":{"code":"invalid_api_key"}}"#));
    failing.status.store(500, Ordering::Relaxed);
    refused.status.store(401, Ordering::Relaxed);
    let gateway = Config::default()
        .model("m/last", "chat")
        .model("m/refused", "chat")
        .channel("last", failing.addr, &[("m/last", "x")], "")
        .channel("refused", refused.addr, &[("m/refused", "x")], "")
        .start();
    for _ in 0..12 {
        assert_eq!(gateway.chat("m/last", false).status, 502);
    }
    assert_eq!((failing.asked.load(Ordering::Relaxed), state(&gateway, "last")), (12, "failing".into()));
    for _ in 0..3 {
        assert_eq!(gateway.chat("m/refused", false).status, 502);
    }
    assert_eq!((refused.asked.load(Ordering::Relaxed), state(&gateway, "refused")), (1, "out".into()));
    let reply = gateway.chat("m/refused", false);
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!(reply.status == 502 && (1..=5).contains(&wait), "{wait}");
    assert_eq!(gateway.log_of(reply.request_id())["attempts"], serde_json::json!([]));
    let shown = explain(&gateway, "m/refused");
    assert_eq!((&shown["excluded"][0]["reason"], &shown["error"]["status"]), (&"out".into(), &502.into()));
    gateway.finish();
}

/// Goal: a model that no channel has is 503 at the second request as at the first (spec 9.5).
#[test]
fn a_missing_model_stays_503() {
    let missing = told(&[], r#"{"error":{"code":"model_not_found"}}"#);
    missing.status.store(404, Ordering::Relaxed);
    let gateway =
        Config::default().model("m/x", "chat").channel("c", missing.addr, &[("m/x", "x")], "").start();
    let replies = [gateway.chat("m/x", false), gateway.chat("m/x", false)];
    assert!(
        replies.iter().all(|reply| reply.status == 503 && reply.header("x-should-retry") == Some("false"))
    );
    assert_eq!(replies[0].text(), replies[1].text());
    assert_eq!(missing.asked.load(Ordering::Relaxed), 1);
    gateway.finish();
}

/// Goal: when all channels rest for less than `failover_wait`, the request waits and is served (spec 9.5).
#[test]
fn a_short_rest_is_waited_for() {
    let busy = told(&[("retry-after-ms", "300")], r#"{"type":"error","error":{"type":"overloaded_error"}}"#);
    let gateway = Config::default().model("m/x", "chat").channel("c", busy.addr, &[("m/x", "x")], "").start();
    busy.status.store(529, Ordering::Relaxed);
    assert_eq!(gateway.chat("m/x", false).status, 502);
    busy.status.store(200, Ordering::Relaxed);
    let began = Instant::now();
    assert_eq!(gateway.chat("m/x", false).status, 200);
    assert!((200..900).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    gateway.finish();
}

/// Goal: a caller who makes an upstream echo what refused credentials and empty accounts are told takes nothing out, in
/// whatever escapes they write it (spec 3.5).
#[test]
fn echoes_take_nothing_out() {
    let echo = scripted::start(|asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let said = body["messages"][0]["content"].as_str().unwrap();
        let error = serde_json::json!({"error": {"message": said, "type": "invalid_request_error"}});
        scripted::whole(400, &[], error.to_string().as_bytes())
    });
    let gateway = Config::default().model("m/x", "chat").channel("c", echo, &[("m/x", "x")], "").start();
    for said in [
        "Incorrect API key provided: sk-1",
        "Your credit balance is too low to access the API",
        "Permission denied: your organization has been disabled",
        "User location is not supported for the API use",
        "\\u0049ncorrect API key provided",
        "{\\\"error\\\":{\\\"code\\\":\\\"invalid_api_key\\\"}}",
    ] {
        let body = format!(r#"{{"model":"m/x","messages":[{{"role":"user","content":"{said}"}}]}}"#);
        let status = gateway.post("/v1/chat/completions", &body).status;
        assert!(matches!(status, 400 | 502), "{said}: {status}");
        assert_eq!(state(&gateway, "c"), "up", "{said}");
    }
    gateway.finish();
}

/// Goal: over all traffic extra attempts stay within the bucket: 20, one for each ten requests, one a second.
#[test]
fn an_outage_is_not_multiplied() {
    let down = [told(&[], "oops"), told(&[], "oops"), told(&[], "oops")];
    let mut config = Config::default().model("m/x", "chat");
    config.defaults = Some("defaults: { health: { ejection: 0s } }\n".into());
    for (index, upstream) in down.iter().enumerate() {
        upstream.status.store(500, Ordering::Relaxed);
        config = config.channel(&format!("c{index}"), upstream.addr, &[("m/x", "x")], "");
    }
    let gateway = config.start();
    let began = Instant::now();
    for _ in 0..300 {
        assert_eq!(gateway.chat("m/x", false).status, 502);
    }
    let asked: usize = down.iter().map(|upstream| upstream.asked.load(Ordering::Relaxed)).sum();
    let allowed = 300 + 30 + 20 + began.elapsed().as_secs() as usize + 1;
    assert!((320..=allowed).contains(&asked), "{asked} of {allowed}");
    assert_eq!(gateway.sum("tidegate_retry_budget_spent_total"), (asked - 300) as f64);
    gateway.finish();
}

/// Goal: a channel's own limits are kept by passing it by, and requests with one session go to one channel (spec 6.6, 9.6).
#[test]
fn full_channels_are_passed_by_and_sessions_stay() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("small", upstream.addr, &[("m/x", "x")], ", limits: { rpm: 3 }")
        .channel("large", upstream.addr, &[("m/x", "x")], ", priority: 1")
        .model("m/two", "chat")
        .channel("one", upstream.addr, &[("m/two", "x")], "")
        .channel("two", upstream.addr, &[("m/two", "x")], "")
        .start();
    let channel_of = |model: &str, more: &str| {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        let reply = gateway.post("/v1/chat/completions", &body);
        assert_eq!(reply.status, 200);
        let log = gateway.log_of(reply.request_id());
        assert_eq!(log["attempts"].as_array().unwrap().len(), 1);
        log["channel"].as_str().unwrap().to_owned()
    };
    let drawn: Vec<_> = (0..6).map(|_| channel_of("m/x", "")).collect();
    assert_eq!(drawn, ["small", "small", "small", "large", "large", "large"]);
    assert_eq!(explain(&gateway, "m/x")["excluded"][0]["reason"], "full");
    for session in 0..8 {
        let more = format!(r#","prompt_cache_key":"session-{session}""#);
        let first = channel_of("m/two", &more);
        assert!((0..8).all(|_| channel_of("m/two", &more) == first));
    }
    let spread: std::collections::HashSet<_> =
        (0..16).map(|n| channel_of("m/two", &format!(r#","user":"u{n}""#))).collect();
    assert_eq!(spread.len(), 2);
    gateway.finish();
}

/// Goal: no attempt is begun that the client would not wait for (spec 10.4).
#[test]
fn the_clients_patience_is_heeded() {
    let slow = scripted::start(|_| vec![Act::Wait(Duration::from_millis(400)), Act::Close]);
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("a", slow, &[("m/x", "x")], "")
        .channel("b", slow, &[("m/x", "x")], "")
        .start();
    let body = crate::support::chat_body("m/x", false);
    let attempts =
        |reply: http::Reply| gateway.log_of(reply.request_id())["attempts"].as_array().unwrap().len();
    assert_eq!(attempts(gateway.post("/v1/chat/completions", &body)), 2);
    let hurried = gateway.post_with("/v1/chat/completions", &body, "x-stainless-timeout: 0.2\r\n");
    assert_eq!((hurried.status, attempts(hurried)), (502, 1));
    gateway.finish();
}

/// Goal: a client in a hurry cannot take a channel out: an answer that comes after its time is no failure (spec 10.4).
#[test]
fn a_hurried_client_takes_nothing_out() {
    let late = scripted::start(|_| {
        let body = r#"{"choices":[{"index":0,"message":{"content":"late"},"finish_reason":"stop"}]}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        vec![Act::Wait(Duration::from_millis(200)), Act::Write(format!("{head}{body}").into_bytes())]
    });
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("a", late, &[("m/x", "x")], "")
        .channel("b", late, &[("m/x", "x")], "")
        .start();
    let body = crate::support::chat_body("m/x", false);
    for _ in 0..8 {
        let hurried = gateway.post_with("/v1/chat/completions", &body, "x-stainless-timeout: 0.05\r\n");
        assert_eq!(hurried.status, 200, "{}", hurried.text());
    }
    gateway.finish();
}

/// Goal: what `explain` says is what a request then sees, in words for people, too; and it claims nothing.
#[test]
fn explain_tells_what_comes() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("only", upstream.addr, &[("m/x", "x")], "")
        .channel("drained", upstream.addr, &[("m/x", "x")], ", weight: 0")
        .channel("grouped", upstream.addr, &[("m/x", "x")], ", groups: [gold]")
        .start();
    let shown = explain(&gateway, "m/x");
    let reasons: Vec<_> = shown["excluded"].as_array().unwrap().iter().map(|e| e["reason"].clone()).collect();
    assert_eq!(
        (&shown["candidates"][0]["channel"], reasons),
        (&"only".into(), vec!["draining".into(), "group".into()])
    );
    let reply = gateway.chat("m/x", false);
    assert_eq!(gateway.log_of(reply.request_id())["channel"], "only");
    for (query, status, code) in [
        ("model=m/none", 503, "model_not_found"),
        ("model=m/x&api=images", 400, "wrong_endpoint"),
        ("model=m/x&key=nobody", 401, "invalid_api_key"),
    ] {
        let shown = http::get(gateway.admin, &format!("/explain?{query}")).unwrap().json();
        assert_eq!(
            (&shown["error"]["status"], &shown["error"]["code"]),
            (&status.into(), &code.into()),
            "{query}"
        );
    }
    assert_eq!(http::get(gateway.admin, "/explain").unwrap().status, 400);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.args(["explain", "m/x", "--admin", &gateway.admin.to_string()]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("only: up, priority 0, share 100.0 %") && told.contains("drained: not asked, draining"),
        "{told}"
    );
    gateway.finish();
}

/// Goal: a response's id says nothing and still finds its way back: what goes on from it is sent to the same channel under
/// the same credential, with the id that the upstream knows; for another account it is nothing (spec 1.5).
#[test]
fn stored_responses_are_found_again() {
    let upstream = |name: &'static str| {
        scripted::start(move |asked| {
            let body: Value = serde_json::from_slice(&asked.body).unwrap();
            let credential = asked.head.lines().find_map(|line| line.strip_prefix("authorization: bearer "));
            let before = body["previous_response_id"].as_str();
            let text = format!("{name} {} {}", credential.unwrap(), before.unwrap_or("-"));
            let answer = serde_json::json!({"id": format!("resp_{name}_1"), "object": "response", "status": "completed", "model": "x",
                "previous_response_id": before, "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]});
            if body["stream"] == true {
                let event = serde_json::json!({"type": "response.completed", "sequence_number": 0, "response": answer});
                let events = [scripted::chunk(format!("data: {event}\n\n").as_bytes()), scripted::chunk(b"")];
                return [scripted::chunked(200, &[])].into_iter().chain(events).collect();
            }
            scripted::whole(200, &[], answer.to_string().as_bytes())
        })
    };
    let mut config = Config::default().model("m/x", "chat");
    for name in ["eastern", "western"] {
        config = config.channel(name, upstream(name), &[("m/x", "x")], "");
        let channel = config.channels.last_mut().unwrap();
        *channel = channel.replace("}],", "}, { value: second }, { value: third }],");
    }
    let gateway = config.start();
    let ask = |before: &str, stream: bool| {
        let before =
            if before.is_empty() { String::new() } else { format!(r#","previous_response_id":"{before}""#) };
        gateway.post("/v1/responses", &format!(r#"{{"model":"m/x","input":"hi","stream":{stream}{before}}}"#))
    };
    let text = |answer: &Value| answer["output"][0]["content"][0]["text"].as_str().unwrap().to_owned();
    for round in 0..12 {
        let first = ask("", false).json();
        let id = first["id"].as_str().unwrap();
        assert!(id.starts_with("resp-gate-") && !id.contains("eastern") && !id.contains("western"), "{id}");
        let place = text(&first).rsplit_once(' ').unwrap().0.to_owned();
        let name = place.split(' ').next().unwrap();
        let reply = ask(id, round % 2 == 1);
        let second = match round % 2 {
            0 => reply.json(),
            _ => serde_json::from_str::<Value>(reply.text().split("data: ").nth(1).unwrap()).unwrap()["response"].clone(),
        };
        assert_eq!(text(&second), format!("{place} resp_{name}_1"), "the same channel, credential and id");
        assert_eq!(second["previous_response_id"], id);
        assert_ne!(second["id"], id);
    }
    for id in ["resp-gate-AAAA", "resp-gate-1700000000-abcdef"] {
        let reply = ask(id, false);
        assert_eq!(
            (reply.status, reply.json()["error"]["param"].as_str()),
            (400, Some("previous_response_id"))
        );
    }
    gateway.finish();
}

/// Goal: a request that is slower than 95 of 100 is tried at a second channel beside the first; the first answer wins, the
/// other attempt is cancelled upstream at once, and nothing of it reaches the client. Without `hedge` nothing of the kind.
#[test]
fn slow_requests_are_hedged() {
    let upstream = Upstream::start();
    let (slow, stalled) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now_slow, count) = (Arc::clone(&slow), Arc::clone(&stalled));
    let sometimes = scripted::start(move |_| {
        let mut acts = scripted::whole(200, &[], GOOD.as_bytes());
        if now_slow.load(Ordering::Relaxed) == 1 {
            count.fetch_add(1, Ordering::Relaxed);
            acts.insert(0, Act::Wait(Duration::from_secs(3)));
        }
        acts
    });
    let gateway = Config::default()
        .model("m/hedged", "chat, hedge: true")
        .model("m/plain", "chat")
        .channel("first", sometimes, &[("m/hedged", "x"), ("m/plain", "x")], "")
        .channel("second", upstream.addr, &[("m/hedged", "gpt"), ("m/plain", "gpt")], ", priority: 1")
        .start();
    for model in ["m/hedged", "m/plain"] {
        (0..30).for_each(|_| assert_eq!(gateway.chat(model, false).status, 200));
    }
    // On a busy machine one of those may have been slow, too.
    let won = || gateway.metrics().get("tidegate_hedges_total{outcome=\"won\"}").copied().unwrap_or(0.0);
    let before = won();
    slow.store(1, Ordering::Relaxed);
    let began = Instant::now();
    let reply = gateway.chat("m/hedged", false);
    assert!(reply.status == 200 && began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let log = gateway.log_of(reply.request_id());
    let attempts: Vec<_> = log["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a["channel"].clone(), a["outcome"].clone()))
        .collect();
    assert_eq!(attempts, [("first".into(), "abandoned".into()), ("second".into(), "success".into())]);
    assert_eq!(won() - before, 1.0);
    let began = Instant::now();
    assert_eq!(gateway.chat("m/plain", false).status, 200);
    assert!(began.elapsed() >= Duration::from_secs(2), "a model that does not ask for it waits");
    assert_eq!(stalled.load(Ordering::Relaxed), 2);
    gateway.finish();
}

/// Goal: a credential whose rate limit headers say that it is used up rests before it is refused, for a bounded time, and
/// never where nothing else could serve; nonsense in those headers moves nothing.
#[test]
fn headroom_is_heeded() {
    let used_up = |reset: &'static str| {
        scripted::start(move |_| {
            let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let headers =
                [field("x-ratelimit-remaining-requests", "0"), field("x-ratelimit-reset-requests", reset)];
            scripted::whole(200, &headers, GOOD.as_bytes())
        })
    };
    let gateway = Config::default()
        .model("m/two", "chat")
        .model("m/alone", "chat")
        .model("m/odd", "chat")
        .channel("paced", used_up("1h"), &[("m/two", "x")], "")
        .channel("spare", told(&[], "").addr, &[("m/two", "x")], ", priority: 1")
        .channel("alone", used_up("1h"), &[("m/alone", "x")], "")
        .channel("odd", used_up("-7e99y"), &[("m/odd", "x")], "")
        .channel("even", told(&[], "").addr, &[("m/odd", "x")], ", priority: 1")
        .start();
    for model in ["m/two", "m/alone", "m/odd"] {
        (0..3).for_each(|_| assert_eq!(gateway.chat(model, false).status, 200, "{model}"));
    }
    let states = ["paced", "alone", "odd"].map(|channel| state(&gateway, channel));
    assert_eq!(states, ["cooling", "up", "up"]);
    let left = explain(&gateway, "m/two")["excluded"][0]["left_ms"].as_u64().unwrap();
    assert!((5_000..=10_000).contains(&left), "{left}");
    gateway.finish();
}

/// Goal: a conversation with thoughts stays at one channel without anything that names it; one without is spread (spec 9.6).
#[test]
fn thoughts_stay_with_their_account() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("one", upstream.addr, &[("m/x", "x")], "")
        .channel("two", upstream.addr, &[("m/x", "x")], "")
        .start();
    let channels = |body: &dyn Fn(usize) -> String| {
        let channel = |turn| {
            let reply = gateway.post("/v1/messages", &body(turn));
            gateway.log_of(reply.request_id())["channel"].as_str().unwrap().to_owned()
        };
        (0..12).map(channel).collect::<std::collections::HashSet<_>>().len()
    };
    let first = r#"{"role":"user","content":"the beginning"}"#;
    let turn = |turn: usize| format!("{first}{}", r#",{"role":"user","content":"more"}"#.repeat(turn));
    let thinking = |n| {
        format!(
            r#"{{"model":"m/x","max_tokens":9,"thinking":{{"type":"adaptive"}},"messages":[{}]}}"#,
            turn(n)
        )
    };
    let plain = |n| format!(r#"{{"model":"m/x","max_tokens":9,"messages":[{}]}}"#, turn(n));
    assert_eq!((channels(&thinking), channels(&plain)), (1, 2));
    gateway.finish();
}

/// Goal: a length that shows only when the answer has begun is the request's own fault: the client reads in the stream what
/// it can act upon, and the channel stays up, however often it happens.
#[test]
fn a_length_that_shows_in_mid_stream_ejects_nobody() {
    let addr = scripted::start(|_| {
        let text = r#"{"choices":[{"index":0,"delta":{"content":"one"}}]}"#;
        let error = r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","code":400}"#;
        let events = format!("data: {text}\n\ndata: {error}\n\n");
        vec![scripted::chunked(200, &[]), scripted::chunk(events.as_bytes()), scripted::chunk(b"")]
    });
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("long", addr, &[("m/x", "x")], "")
        .channel("spare", told(&[], "").addr, &[("m/x", "x")], ", priority: 1")
        .start();
    for _ in 0..8 {
        let reply = gateway.chat("m/x", true);
        assert!(reply.text().contains(r#""code":"context_length_exceeded""#), "{}", reply.text());
        assert!(!reply.text().contains("[DONE]"), "{}", reply.text());
        let log = gateway.log_of(reply.request_id());
        assert_eq!(log["attempts"][0]["outcome"], "context_too_long", "{log}");
    }
    assert_eq!(state(&gateway, "long"), "up");
    gateway.finish();
}
