//! Streams that are alive and show no content for long, as thinking models' are (spec 10.1, 10.2).

use crate::support::scripted::{self, Act, Asked, chunk, chunked};
use crate::support::{Config, Gateway};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// After 600 ms nothing else is tried; silence of a second ends a stream.
const TIMES: &str = ", timeouts: { connect: 2s, first_byte: 1s, idle: 1s, total: 20s, failover: 600ms }, retry: { attempts: 1 }";

const ROLE: &str = r#"data: {"id":"u","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
const WORD: &str = r#"data: {"id":"u","choices":[{"index":0,"delta":{"content":"word"}}]}"#;
const STOP: &str = "data: {\"id\":\"u\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]";
const CREATED: &str = r#"data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_up","status":"in_progress"}}"#;
const REASONING: &str = r#"data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"type":"reasoning","id":"rs","summary":[]}}"#;
const SAID: &str = r#"data: {"type":"response.output_text.delta","sequence_number":2,"delta":"word"}"#;
const COMPLETED: &str = r#"data: {"type":"response.completed","sequence_number":3,"response":{"id":"resp_up","status":"completed","output":[{"type":"message"}]}}"#;
const START: &str = r#"data: {"type":"message_start","message":{"id":"msg_up","type":"message","content":[],"usage":{"input_tokens":3}}}"#;
const PING: &str = r#"data: {"type":"ping"}"#;
const DELTA: &str =
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word"}}"#;
const ENDED: &str = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\ndata: {\"type\":\"message_stop\"}";
const COMMENT: &str = ": thinking";
const ERROR: &str = r#"data: {"error":{"message":"secret-host broke","code":500}}"#;

fn begin() -> Act {
    chunked(200, &[("content-type".into(), "text/event-stream".into())])
}

fn event(text: &str) -> Act {
    chunk(format!("{text}\n\n").as_bytes())
}

fn pause() -> Act {
    Act::Wait(Duration::from_millis(350))
}

/// A stream that opens with `first`, shows life five times, which takes longer than the time of failover and than the
/// silence that is allowed, and ends with `last`.
fn thinking(first: &str, life: &str, last: &[&str]) -> Vec<Act> {
    let mut acts = vec![begin(), event(first)];
    for _ in 0..5 {
        acts.extend([pause(), event(life)]);
    }
    acts.extend(last.iter().map(|text| event(text)));
    acts.push(chunk(b""));
    acts
}

/// By the name of the model.
fn script(asked: &Asked) -> Vec<Act> {
    match asked.model().as_str() {
        "roles" => thinking(ROLE, ROLE, &[WORD, STOP]),
        "comments" => thinking(COMMENT, COMMENT, &[ROLE, WORD, STOP]),
        "completions" => thinking(
            COMMENT,
            COMMENT,
            &[r#"data: {"choices":[{"index":0,"text":"word","finish_reason":"stop"}]}"#, "data: [DONE]"],
        ),
        "pings" => thinking(START, PING, &[DELTA, ENDED]),
        "reasoning" => thinking(CREATED, REASONING, &[SAID, COMPLETED]),
        "breaks" => thinking(ROLE, COMMENT, &[ERROR]),
        "breaks-messages" => thinking(START, PING, &[ERROR]),
        "breaks-responses" => thinking(CREATED, COMMENT, &[ERROR]),
        "cut" => thinking(ROLE, COMMENT, &[]),
        // The header comes at once, and nothing else for longer than failover.
        "late" => vec![begin(), pause(), pause(), event(ROLE), event(WORD), event(STOP), chunk(b"")],
        "silent" => vec![begin(), event(ROLE), Act::Wait(Duration::from_secs(5)), Act::Close],
        "endless" => {
            let beat = [event(COMMENT), pause()];
            [vec![begin(), event(ROLE)], beat.iter().cycle().take(200).cloned().collect()].concat()
        }
        _ => vec![begin(), event(ROLE), event(WORD), event(STOP), chunk(b"")],
    }
}

fn gateway(models: &[&str], times: &str) -> (Gateway, SocketAddr) {
    let addr = scripted::start(script);
    let names: Vec<_> = models.iter().map(|name| (format!("m/{name}"), *name)).collect();
    let served: Vec<_> = names.iter().map(|(public, name)| (public.as_str(), *name)).collect();
    let config = names.iter().fold(Config::default(), |config, (public, _)| config.model(public, "chat"));
    (config.channel("only", addr, &served, times).start(), addr)
}

fn body(route: &str, model: &str) -> String {
    match route {
        "completions" => format!(r#"{{"model":"m/{model}","stream":true,"prompt":"hi"}}"#),
        "responses" => format!(r#"{{"model":"m/{model}","stream":true,"input":"hi"}}"#),
        _ => format!(
            r#"{{"model":"m/{model}","stream":true,"max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]}}"#
        ),
    }
}

/// Goal: a stream that shows any sign of life goes on past the time of failover, in every language, with its pings, in one
/// attempt, and ends as the upstream ends it. One that shows its header alone is waited for as well.
#[test]
fn thinking_streams_live() {
    let cases = [
        ("chat/completions", "roles"),
        ("chat/completions", "comments"),
        ("chat/completions", "late"),
        ("completions", "completions"),
        ("messages", "pings"),
        ("responses", "reasoning"),
    ];
    let (gateway, _) = gateway(&cases.map(|(_, model)| model), TIMES);
    for (route, model) in cases {
        let reply = gateway.post(&format!("/v1/{route}"), &body(route, model));
        let text = reply.text();
        assert!(reply.status == 200 && reply.complete && text.contains("word"), "{model}: {text}");
        assert!(!text.contains("unavailable"), "{model}: {text}");
        let marked = ["[DONE]", "message_stop", "response.completed"].iter().any(|end| text.contains(end));
        assert!(marked, "{model}: {text}");
        match model {
            "comments" => assert!(text.starts_with(": keep-alive\n\n"), "{text}"),
            "pings" => assert!(text.contains("event: ping\n"), "{text}"),
            _ => {}
        }
        let log = gateway.log_of(reply.request_id());
        assert_eq!((&log["end"], log["attempts"].as_array().map(Vec::len)), (&"complete".into(), Some(1)));
        let first_token = log["time_to_first_token_ms"].as_f64().unwrap_or_default();
        assert!(first_token > 600.0, "{model}: {log}");
    }
    gateway.finish();
}

/// Goal: an error that comes after the stream was committed as it was, is told inside it, in its language, without a success
/// marker; a stream without content costs nothing.
#[test]
fn errors_after_the_time_of_failover_are_told_in_the_stream() {
    let cases = [
        ("chat/completions", "breaks", r#""status":502}}"#),
        ("chat/completions", "cut", r#""status":502}}"#),
        ("chat/completions", "silent", r#""status":502}}"#),
        ("messages", "breaks-messages", "event: error\n"),
        ("responses", "breaks-responses", "event: response.failed\n"),
    ];
    let (gateway, _) = gateway(&cases.map(|(_, model, _)| model), TIMES);
    for (route, model, told) in cases {
        let reply = gateway.post(&format!("/v1/{route}"), &body(route, model));
        let text = reply.text();
        assert!(reply.status == 200 && reply.complete && text.contains(told), "{model}: {text}");
        let marked = ["[DONE]", "message_stop", "response.completed"].iter().any(|end| text.contains(end));
        assert!(!marked && !text.contains("secret"), "{model}: {text}");
        let log = gateway.log_of(reply.request_id());
        assert_eq!(log["end"], "broken_mid_stream", "{model}: {log}");
        assert!(log["tokens"].is_null() || log["tokens"]["input"].is_null(), "{model}: {log}");
    }
    gateway.finish();
}

/// Goal: a stream that is alive until its total time is over ends with an error inside it, and nobody is ejected for it: the
/// channel of the first tier is asked again and again (spec 10.2).
#[test]
fn alive_until_the_end_of_time_ejects_nobody() {
    let times = ", timeouts: { connect: 2s, first_byte: 1s, idle: 1s, total: 700ms, failover: 300ms }";
    let addr = scripted::start(script);
    let gateway = Config::default()
        .model("m/endless", "chat")
        .channel("first", addr, &[("m/endless", "endless")], times)
        .channel("second", addr, &[("m/endless", "good")], ", priority: 1")
        .start();
    for _ in 0..8 {
        let began = Instant::now();
        let reply = gateway.chat("m/endless", true);
        let took = began.elapsed();
        assert!(took > Duration::from_millis(650) && took < Duration::from_secs(4), "{took:?}");
        assert!(reply.complete && reply.text().trim_end().ends_with(r#""status":502}}"#), "{}", reply.text());
        let log = gateway.log_of(reply.request_id());
        assert_eq!((&log["channel"], &log["end"]), (&"first".into(), &"timed_out".into()), "{log}");
    }
    gateway.finish();
}

/// Answers to requests that are no streams, as odd servers send them, by the name of the model.
fn odd_answer(asked: &Asked) -> Vec<Act> {
    let plain = r#"{"id":"u","choices":[{"index":0,"message":{"role":"assistant","content":"word"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let large = plain.replace("word", &"word".repeat(700_000));
    let streamed = format!("{WORD}\n\n{WORD}\n\n{STOP}\n\n");
    let body = match asked.model().as_str() {
        "marked" => format!("\u{feff}{plain}").into_bytes(),
        "marked-large" => format!("\u{feff}{large}").into_bytes(),
        "gzip" => gzip(plain.as_bytes()),
        "gzip-large" => gzip(large.as_bytes()),
        "gzip-stream" => gzip(streamed.as_bytes()),
        "gzip-cut" => {
            let whole = gzip(large.as_bytes());
            whole[..whole.len() - 20].to_vec()
        }
        "streamed" => streamed.into_bytes(),
        "streamed-cut" => format!("{WORD}\n\n").into_bytes(),
        _ => plain.as_bytes().to_vec(),
    };
    scripted::whole(200, &[], &body)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Goal: a byte order mark, a compression that nobody asked for, and a stream where an answer was asked for are read for what
/// they are; what was cut in them is no answer.
#[test]
fn odd_answers_are_read_for_what_they_are() {
    let addr = scripted::start(odd_answer);
    let models = [
        "marked",
        "marked-large",
        "gzip",
        "gzip-large",
        "streamed",
        "gzip-stream",
        "gzip-cut",
        "streamed-cut",
    ];
    let names: Vec<_> = models.iter().map(|name| (format!("m/{name}"), *name)).collect();
    let served: Vec<_> = names.iter().map(|(public, name)| (public.as_str(), *name)).collect();
    let config = names.iter().fold(Config::default(), |config, (public, _)| config.model(public, "chat"));
    let gateway = config.channel_each("only", addr, &served, "").start();
    for model in models {
        let reply = gateway.chat(&format!("m/{model}"), false);
        if model.ends_with("-cut") {
            assert!(
                reply.status >= 500 || !reply.complete,
                "{model}: {} {}",
                reply.status,
                reply.text().len()
            );
            continue;
        }
        assert_eq!(reply.status, 200, "{model}: {}", reply.text());
        let answer = reply.json();
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        assert!(content.starts_with("word"), "{model}: {answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{model}");
        assert!(!reply.text().starts_with('\u{feff}'));
    }
    let reply = gateway.chat("m/gzip-stream", true);
    assert!(reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
    gateway.finish();
}
