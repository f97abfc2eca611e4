//! What becomes of a request when channels fail: another channel's answer, or a documented error.

use crate::support::{Config, Gateway, Upstream, http::Reply};
use std::collections::HashSet;
use tidegate::sandbox::{Applies, Fault, Phase, faults};

const IMPATIENT: &str =
    ", timeouts: { connect: 500ms, first_byte: 400ms, idle: 400ms, total: 700ms, failover: 700ms }";

/// Two channels that fail in the named way, and a good one in the next tier. Models are named `m/<fault>`.
fn two_bad_one_good(upstream: &Upstream, faults: &[&Fault]) -> Gateway {
    let names: Vec<_> = faults
        .iter()
        .map(|fault| (format!("m/{}", fault.name), format!("fault/{}", fault.example)))
        .collect();
    let bad: Vec<_> = names.iter().map(|(public, name)| (public.as_str(), name.as_str())).collect();
    let good: Vec<_> = names.iter().map(|(public, _)| (public.as_str(), "gpt")).collect();
    let config = names.iter().fold(Config::default(), |config, (public, _)| config.model(public, "chat"));
    config
        .channel_each("bad-one", upstream.addr, &bad, IMPATIENT)
        .channel_each("bad-two", upstream.addr, &bad, IMPATIENT)
        .channel("good", upstream.addr, &good, ", priority: 1")
        .start()
}

/// The faults that show in a given phase of JSON answers or of streams.
fn in_phase(phase: Phase, streams: bool) -> Vec<&'static Fault> {
    let applies = |fault: &&Fault| fault.phase == phase && (streams || fault.applies == Applies::Both);
    // A flaky upstream answers every second time, which is another test's matter.
    faults().iter().filter(applies).filter(|fault| !fault.name.starts_with("flaky")).collect()
}

fn assert_one_json_answer(reply: &Reply, fault: &str) {
    assert_eq!(reply.status, 200, "{fault}: {}", reply.text());
    assert_eq!(reply.json()["choices"].as_array().map(Vec::len), Some(1), "{fault}");
    assert!(reply.complete && reply.rest.is_empty(), "{fault}");
}

fn assert_one_stream(reply: &Reply, fault: &str) {
    assert_eq!(reply.status, 200, "{fault}: {}", reply.text());
    assert!(reply.complete && reply.rest.is_empty(), "{fault}: {}", reply.text());
    let events = reply.events();
    assert_eq!(events.iter().filter(|event| *event == "[DONE]").count(), 1, "{fault}: {}", reply.text());
    let ids: HashSet<_> =
        events.iter().filter_map(|event| event.split("\"id\":").nth(1)?.split(',').next()).collect();
    assert_eq!(ids.len(), 1, "{fault}: two answers in one body: {}", reply.text());
    let roles = events.iter().filter(|event| event.contains("\"role\":\"assistant\"")).count();
    assert!(roles <= 1, "{fault}: two answers in one body: {}", reply.text());
}

/// Goal: as long as nothing was sent, the client sees only success, whatever two of three channels do; never two answers
/// in one body (spec 10.1). Method: every fault of the sandbox that shows before content, as JSON and as stream.
#[test]
fn two_of_three_channels_fail_in_every_way() {
    let upstream = Upstream::start();
    for streams in [false, true] {
        let faults = in_phase(Phase::BeforeContent, streams);
        assert!(faults.len() > 30);
        let gateway = two_bad_one_good(&upstream, &faults);
        for fault in &faults {
            let reply = gateway.chat(&format!("m/{}", fault.name), streams);
            let check = if streams { assert_one_stream } else { assert_one_json_answer };
            check(&reply, fault.name);
            let log = gateway.log_of(reply.request_id());
            // A channel that uses up all the time of the search leaves none for its like.
            let attempts = log["attempts"].as_array().unwrap().len();
            let took_all_time = log["attempts"][0]["rule"] == "transport: took too long";
            assert_eq!(attempts, if took_all_time { 2 } else { 3 }, "{}: {log}", fault.name);
            assert_eq!(log["channel"], "good", "{}", fault.name);
        }
        gateway.finish();
    }
}

/// Goal: what is merely odd passes, on the first channel.
#[test]
fn odd_but_right_answers_pass() {
    let upstream = Upstream::start();
    let faults = in_phase(Phase::Harmless, true);
    let gateway = two_bad_one_good(&upstream, &faults);
    for fault in faults {
        let reply = gateway.chat(&format!("m/{}", fault.name), true);
        assert_one_stream(&reply, fault.name);
        assert!(reply.text().contains("\"finish_reason\":\"stop\""), "{}: {}", fault.name, reply.text());
        let log = gateway.log_of(reply.request_id());
        assert_eq!(
            (log["attempts"].as_array().map(Vec::len), &log["end"]),
            (Some(1), &"complete".into()),
            "{}",
            fault.name
        );
    }
    gateway.finish();
}

/// Goal: after content nothing is replayed; the stream says that it failed and ends properly without its success marker
/// (spec 2.6), and the operator reads why.
#[test]
fn streams_that_break_say_so() {
    let upstream = Upstream::start();
    let faults = in_phase(Phase::MidStream, true);
    assert!(faults.len() >= 6);
    let gateway = two_bad_one_good(&upstream, &faults);
    for fault in faults {
        let reply = gateway.chat(&format!("m/{}", fault.name), true);
        let events = reply.events();
        assert_eq!(
            events.last().map(String::as_str),
            Some(
                r#"{"error":{"message":"Service temporarily unavailable","type":"api_error","param":null,"code":"service_unavailable","status":502}}"#
            ),
            "{}: {}",
            fault.name,
            reply.text()
        );
        assert!(reply.complete && !events.contains(&"[DONE]".to_owned()), "{}", fault.name);
        assert!(events.len() > 2, "{}: content was sent before", fault.name);
        let log = gateway.log_of(reply.request_id());
        assert_eq!(log["end"], "broken_mid_stream", "{}", fault.name);
        assert_eq!(log["attempts"].as_array().map(Vec::len), Some(1), "{}", fault.name);
        assert_eq!(log["attempts"][0]["outcome"], "broken_mid_stream", "{}", fault.name);
    }
    gateway.finish();
}

/// Goal: the caller's mistake ends the search at the first channel and is told in the catalogue's words (spec 3.2).
#[test]
fn mistakes_of_the_caller_are_told_at_once() {
    let upstream = Upstream::start();
    let faults = in_phase(Phase::CallerError, false);
    let gateway = two_bad_one_good(&upstream, &faults);
    for fault in faults {
        let (status, code) = match fault.name {
            name if name.contains("context") => (413, "context_length_exceeded"),
            name if name.contains("policy") => (400, "content_policy_violation"),
            _ => (400, "invalid_value"),
        };
        for streams in [false, true] {
            let reply = gateway.chat(&format!("m/{}", fault.name), streams);
            assert_eq!(
                (reply.status, reply.json()["error"]["code"].as_str()),
                (status, Some(code)),
                "{}",
                fault.name
            );
            let log = gateway.log_of(reply.request_id());
            assert_eq!(log["attempts"].as_array().map(Vec::len), Some(1), "{}", fault.name);
        }
    }
    gateway.finish();
}

/// Goal: all channels overloaded in ten and more ways are one answer, byte for byte, and as many causes in the log
/// (spec 2.9). Transport failures and refused credentials are the same bytes, too.
#[test]
fn overload_has_one_face() {
    let upstream = Upstream::start();
    let overloaded = |fault: &&&Fault| fault.name.starts_with("overload-");
    let faults = in_phase(Phase::BeforeContent, false);
    let names: Vec<&str> = faults.iter().filter(overloaded).map(|fault| fault.name).collect();
    assert!(names.len() >= 10);
    let others =
        ["reset", "close", "hang", "auth-401", "billing-402", "blocked-403", "rate-openai", "bad-http"];
    let all: Vec<_> = names.iter().chain(&others).collect();
    let models: Vec<_> = all.iter().map(|name| (format!("m/{name}"), format!("fault/{name}"))).collect();
    let models: Vec<_> = models.iter().map(|(public, name)| (public.as_str(), name.as_str())).collect();
    let config = models.iter().fold(Config::default(), |config, (public, _)| config.model(public, "chat"));
    let config = config.channel_each("one", upstream.addr, &models, IMPATIENT).channel_each(
        "two",
        upstream.addr,
        &models,
        IMPATIENT,
    );
    let mut causes = HashSet::new();
    for streams in [false, true] {
        // Channels of the round before rest or are out.
        let gateway = config.start();
        for (public, _) in &models {
            let reply = gateway.chat(public, streams);
            assert_eq!(reply.status, 502, "{public}");
            assert_eq!(
                reply.text(),
                r#"{"error":{"message":"Service temporarily unavailable","type":"api_error","param":null,"code":"service_unavailable","status":502}}"#
            );
            let fields: Vec<_> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(
                fields,
                [
                    "content-type",
                    "x-request-id",
                    "cache-control",
                    "retry-after",
                    "content-length",
                    "date",
                    "connection"
                ]
            );
            let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=5).contains(&wait));
            let log = gateway.log_of(reply.request_id());
            let attempt = &log["attempts"][0];
            if names.iter().any(|name| *public == format!("m/{name}")) {
                causes.insert(format!(
                    "{} {} {}",
                    attempt["upstream_status"], attempt["rule"], attempt["words"]
                ));
            }
            let took_all_time = attempt["rule"] == "transport: took too long";
            let attempts = log["attempts"].as_array().unwrap().len();
            assert_eq!(attempts, if took_all_time { 1 } else { 2 }, "{public}: {log}");
        }
        gateway.finish();
    }
    assert!(causes.len() >= 10, "{} different causes in the log: {causes:#?}", causes.len());
}

/// Goal: 503 only if every channel says that it does not have the model; beside another failure it is 502 (spec 3.2).
#[test]
fn a_model_that_nobody_has() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/gone", "chat")
        .model("m/mixed", "chat")
        .model("m/weird", "chat")
        .channel(
            "one",
            upstream.addr,
            &[
                ("m/gone", "fault/model-missing-404"),
                ("m/mixed", "fault/model-missing-404"),
                ("m/weird", "fault/html-200"),
            ],
            "",
        )
        .channel(
            "two",
            upstream.addr,
            &[
                ("m/gone", "fault/model-missing-404"),
                ("m/mixed", "fault/status-500"),
                ("m/weird", "fault/no-choices-200"),
            ],
            "",
        )
        .start();
    let gone = gateway.chat("m/gone", false);
    assert_eq!(
        (gone.status, gone.json()["error"]["message"].as_str()),
        (503, Some("No available channel for model m/gone"))
    );
    assert_eq!(gateway.chat("m/mixed", false).status, 502);
    let weird = gateway.chat("m/weird", true);
    assert_eq!(
        (weird.status, weird.json()["error"]["code"].as_str()),
        (500, Some("unexpected_provider_response"))
    );
    gateway.finish();
}

/// Goal: attempts are bounded, nobody is asked twice, a disabled or drained channel is not asked, and an unreachable host
/// costs no more than its connect timeout (spec 9.1, 9.2, 10.2).
#[test]
fn the_search_is_bounded() {
    let upstream = Upstream::start();
    let mut config = Config::default().model("m/x", "chat");
    for index in 0..6 {
        config = config.channel(&format!("c{index}"), upstream.addr, &[("m/x", "fault/status-503")], "");
    }
    let gateway = config
        .channel("disabled", upstream.addr, &[("m/x", "gpt")], ", enabled: false")
        .channel("drained", upstream.addr, &[("m/x", "gpt")], ", weight: 0")
        .start();
    let reply = gateway.chat("m/x", false);
    assert_eq!(reply.status, 502);
    let log = gateway.log_of(reply.request_id());
    let asked: Vec<_> =
        log["attempts"].as_array().unwrap().iter().map(|attempt| attempt["channel"].clone()).collect();
    assert_eq!((asked.len(), asked.iter().map(|c| c.to_string()).collect::<HashSet<_>>().len()), (3, 3));
    gateway.finish();
    let nobody = crate::support::free_address();
    let gateway = Config::default()
        .model("m/x", "chat")
        .channel("nobody", nobody, &[("m/x", "gpt")], "")
        .channel("good", upstream.addr, &[("m/x", "gpt")], ", priority: 1")
        .start();
    let reply = gateway.chat("m/x", false);
    assert_eq!(gateway.log_of(reply.request_id())["attempts"][0]["rule"], "transport: connect failed");
    assert_eq!(reply.status, 200);
    gateway.finish();
}

/// Goal: a pooled connection that the upstream closed meanwhile is replaced without an attempt being counted (10.3), and
/// a connection is used again after an error.
#[test]
fn connections_to_upstreams_are_used_again() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/x", "chat")
        .model("m/bad", "chat")
        .channel("c", upstream.addr, &[("m/x", "gpt"), ("m/bad", "fault/status-503")], "")
        .start();
    for _ in 0..20 {
        assert_eq!(gateway.chat("m/x", false).status, 200);
        assert_eq!(gateway.chat("m/x", true).status, 200);
        assert_eq!(gateway.chat("m/bad", false).status, 502);
    }
    assert!(upstream.stats.connections_opened() <= 4, "{} connections", upstream.stats.connections_opened());
    gateway.finish();
}

/// Goal: an answer beyond the held size passes whole, its names rewritten; one that is cut there is cut for the client,
/// too, who can tell by its framing (spec 10.1).
#[test]
fn large_answers_pass() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/large", "image")
        .model("m/text", "chat")
        .model("m/cut", "image")
        .channel(
            "c",
            upstream.addr,
            &[
                ("m/large", "x+size=20000000"),
                ("m/text", "x+size=3000000"),
                ("m/cut", "x+size=3000000+fault=truncated-json"),
            ],
            "",
        )
        .start();
    let reply = gateway.post("/v1/images/generations", r#"{"model":"m/large","prompt":"x"}"#);
    let json = reply.json();
    assert!(reply.complete && json["data"][0]["b64_json"].as_str().unwrap().len() >= 20_000_000);
    let text = gateway.chat("m/text", false).json();
    assert_eq!(text["model"], "m/text");
    let cut = gateway.post("/v1/images/generations", r#"{"model":"m/cut","prompt":"x"}"#);
    assert!(cut.status == 200 && !cut.complete, "{}", cut.status);
    gateway.finish();
}

/// Goal: how much of an answer is held is a choice: held as a whole, one that is cut goes to the next channel (spec 10.1).
#[test]
fn what_is_held_can_go_elsewhere() {
    let upstream = Upstream::start();
    let gateway = Config::default()
        .model("m/cut", "image")
        .channel("cuts", upstream.addr, &[("m/cut", "x+size=3000000+fault=truncated-json")], "")
        .channel("good", upstream.addr, &[("m/cut", "x+size=3000000")], ", priority: 1")
        .server("  hold_max: 8MiB")
        .start();
    let reply = gateway.post("/v1/images/generations", r#"{"model":"m/cut","prompt":"x"}"#);
    assert!(reply.status == 200 && reply.complete && reply.json()["data"][0]["b64_json"].is_string());
    assert_eq!(gateway.metrics()[r#"tidegate_attempts_total{channel="good",outcome="success"}"#], 1.0);
    gateway.finish();
}
