//! What an upstream says of itself, on every route: in good answers, in streams, in errors, and behind an answer that was good
//! so far (spec 1.5, 1.6, 2.6, 2.8).

use crate::support::http::Reply;
use crate::support::scripted::{self, Act, Asked};
use crate::support::{Config, Gateway, Upstream};
use serde_json::{Value, json};
use tidegate::wire::endpoint::{Endpoint, TABLE};
use tidegate::wire::error::CATALOGUE;

/// What must not pass, wherever it stands.
const SECRET: &str = "zebra-7f3a9c41d2";

/// Members that tell of an upstream, at the top of an answer, of a chunk or of an event.
fn names() -> Value {
    json!({"id": SECRET, "model": SECRET, "system_fingerprint": SECRET, "service_tier": SECRET, "provider": SECRET,
        "x_groq": {"id": SECRET}, "request_id": SECRET, "timings": SECRET, "extra_fields": {"provider": SECRET},
        "provider_metadata": SECRET, "amazon-bedrock-invocationMetrics": SECRET, "response_id": SECRET,
        "chutes_verification": SECRET, "providerMetadata": {"gateway": SECRET}, "provider_specific_fields": SECRET, "sid": SECRET,
        "vertex_ai_grounding_metadata": [SECRET], "x_nanogpt_pricing": {"cost": SECRET}, "sla_metrics": [{"ms": SECRET}]})
}

fn usage() -> Value {
    json!({"input_tokens": 1, "output_tokens": 1, "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2,
        "service_tier": SECRET, "extra_properties": {"google": SECRET}, "cost": SECRET, "total_time": SECRET,
        "sla_metrics": SECRET, "prompt_tokens_details": {"cached_tokens": 0, "provider": SECRET}})
}

fn with(members: Value) -> Value {
    let mut all = names();
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    all
}

/// A good answer of whatever sort is looked for, with names in every place.
fn whole(path: &str) -> Value {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": "words"}, "text": "words", "finish_reason": "stop",
        "native_finish_reason": SECRET, "content_filter_results": SECRET});
    let content = match path {
        "/chat/completions" | "/completions" => json!({"object": "chat.completion", "choices": [choice]}),
        "/responses" => {
            json!({"object": "response", "previous_response_id": SECRET, "status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "words"}]}]})
        }
        "/responses/compact" => json!({"object": "response.compaction", "output": [{"type": "compaction"}]}),
        "/messages" => {
            json!({"type": "message", "stop_reason": "end_turn", "content": [{"type": "text", "text": "words"}]})
        }
        "/messages/count_tokens" => json!({"input_tokens": 3}),
        "/embeddings" => json!({"data": [{"embedding": [1.0]}]}),
        "/images/generations" | "/images/edits" => {
            json!({"data": [{"b64_json": "QQ==", "content_filter_results": SECRET}]})
        }
        _ => json!({"videos": [{"url": "https://cdn.example/v.mp4"}]}),
    };
    let mut answer = with(content);
    answer["usage"] = usage();
    answer
}

/// A stream that says the same of itself in each event.
fn events(path: &str) -> Vec<Value> {
    let chunk = |delta: Value, reason: Value| {
        let mut of_choice = usage();
        of_choice["cost"] = SECRET.into();
        with(
            json!({"usage": usage(), "choices": [{"index": 0, "delta": delta, "text": "words", "finish_reason": reason,
            "native_finish_reason": SECRET, "usage": of_choice, "content_filter_results": SECRET}]}),
        )
    };
    let event = |kind: &str, members: Value| {
        let mut event = with(members);
        event["type"] = kind.into();
        event
    };
    let mut state = whole("/responses");
    state["status"] = "in_progress".into();
    let mut message = whole("/messages");
    message["content"] = json!([]);
    match path {
        "/chat/completions" | "/completions" => {
            vec![chunk(json!({"content": "words"}), Value::Null), chunk(json!({}), "stop".into())]
        }
        "/responses" => vec![
            event("response.created", json!({"response": state})),
            event("response.output_text.delta", json!({"delta": "words", "sequence_number": 1})),
            event("response.completed", json!({"response": whole("/responses")})),
        ],
        "/messages" => vec![
            event("message_start", json!({"message": message})),
            event("content_block_start", json!({"content_block": {"type": "text", "text": ""}})),
            event("content_block_delta", json!({"delta": {"type": "text_delta", "text": "words"}})),
            event("message_delta", json!({"delta": {"stop_reason": "end_turn"}, "usage": usage()})),
            event("message_stop", json!({})),
        ],
        _ => vec![
            event("image_generation.partial_image", json!({"b64_json": "QQ=="})),
            event("image_generation.completed", json!({"b64_json": "QQ==", "usage": usage()})),
        ],
    }
}

/// Errors in several dialects; the first is the caller's own, and its words may pass.
const ERRORS: [(u16, &str); 8] = [
    (
        400,
        r#"{"error":{"message":"Invalid value for temperature; see zebra-7f3a9c41d2","param":"zebra-7f3a9c41d2.x","code":"invalid_value"}}"#,
    ),
    (404, r#"{"error":{"message":"no model zebra-7f3a9c41d2","code":"model_not_found"}}"#),
    (401, r#"{"error":{"message":"zebra-7f3a9c41d2","code":"invalid_api_key"}}"#),
    (429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"zebra-7f3a9c41d2"}}"#),
    (200, r#"{"error":{"message":"zebra-7f3a9c41d2"}}"#),
    (200, "<html>zebra-7f3a9c41d2</html>"),
    (302, "zebra-7f3a9c41d2"),
    (418, "zebra-7f3a9c41d2"),
];

/// The number of an error is the name of the model; another name gets a good answer.
fn answer(asked: &Asked) -> Vec<Act> {
    let path = asked.head.split(' ').nth(1).unwrap().trim_start_matches("/v1").to_owned();
    let headers = ["server", "x-request-id", "openai-organization", "set-cookie", "via", "location"]
        .map(|name| (name.to_owned(), SECRET.to_owned()));
    if let Some((status, body)) = asked.model().parse().ok().and_then(|number: usize| ERRORS.get(number)) {
        return scripted::whole(*status, &headers, body.as_bytes());
    }
    let is_stream = String::from_utf8_lossy(&asked.body).contains(r#""stream":true"#);
    if !is_stream {
        return scripted::whole(200, &headers, whole(&path).to_string().as_bytes());
    }
    let text: String = events(&path).iter().map(|event| format!("id: {SECRET}\ndata: {event}\n\n")).collect();
    scripted::whole(200, &headers, format!(": {SECRET}\n\n{text}").as_bytes())
}

fn kind_of(path: &str) -> &'static str {
    match path {
        "/embeddings" => "embedding",
        "/images/generations" | "/images/edits" => "image",
        "/video/generations" | "/videos" => "video",
        _ => "chat",
    }
}

fn everywhere() -> Gateway {
    let upstream = scripted::start(answer);
    let tireless = "defaults: { retry: { budget_ratio: 10 }, health: { cooldown_max: 0s, ejection: 0s, refused: 0s, blocked: 0s, missing: 0s } }\n";
    let mut config = Config { defaults: Some(tireless.into()), ..Config::default() };
    for kind in ["chat", "embedding", "image", "video"] {
        let numbers: Vec<_> = (0..=ERRORS.len()).map(|n| (format!("{kind}/{n}"), n.to_string())).collect();
        config = numbers.iter().fold(config, |config, (id, _)| config.model(id, kind));
        let served: Vec<_> = numbers.iter().map(|(id, name)| (&**id, &**name)).collect();
        config = config.channel_each(kind, upstream, &served, "");
    }
    config.start()
}

fn tells_nothing(reply: &Reply, what: &str) {
    let told = format!("{:?} {}", reply.headers, reply.text());
    assert!(reply.complete && !told.contains(SECRET), "{what}: {told}");
}

/// Goal: on every route, in every spelling of it, whole and as a stream, nothing that an upstream says of itself passes; its
/// errors are those of the catalogue, in the shape of the route.
#[test]
fn no_route_tells_of_its_upstream() {
    let gateway = everywhere();
    for line in &TABLE {
        let Endpoint::Call(call) = line.endpoint else { continue };
        let kind = kind_of(line.path);
        for (spelling, path) in
            [format!("/v1{}", line.path), format!("{}/", line.path)].into_iter().enumerate()
        {
            for stream in [false, true].into_iter().filter(|stream| !stream || call.can_stream()) {
                let ask = |number: usize| {
                    let more = if stream { r#","stream":true"# } else { "" };
                    let body = format!(
                        r#"{{"model":"{kind}/{number}","temperature":1,"prompt":"x","input":"x"{more}}}"#
                    );
                    gateway.post(&path, &body)
                };
                let what = format!("{path} {stream}");
                let good = ask(ERRORS.len());
                assert_eq!(good.status, 200, "{what}: {}", good.text());
                tells_nothing(&good, &what);
                let model = format!(r#""model":"{kind}/{}""#, ERRORS.len());
                assert!(good.text().contains(&model), "{what}: {}", good.text());
                let usage = r#""total_tokens":2"#;
                let counts = line.path.ends_with("count_tokens");
                let shown = !(counts || stream && line.path.ends_with("completions"));
                assert_eq!(good.text().contains(usage), shown, "{what}: {}", good.text());
                // One spelling is enough for the errors.
                for number in (0..ERRORS.len()).filter(|_| spelling == 0) {
                    let reply = ask(number);
                    tells_nothing(&reply, &format!("{what} {number}"));
                    let error = &reply.json()["error"];
                    let known = CATALOGUE.iter().any(|entry| entry.status == reply.status);
                    assert!(known && error["message"].is_string(), "{what} {number}: {}", reply.text());
                    let is_messages = line.path.starts_with("/messages");
                    assert_eq!(error["status"] == reply.status, !is_messages, "{what}: {}", reply.text());
                }
            }
        }
    }
    gateway.finish();
}

/// Goal: an answer that is too large to be held, and has an error behind its content, is cut where the error begins: no
/// answer with status 200 has an error in it, and no word of it passes (spec 2.6).
#[test]
fn late_errors_are_cut() {
    let words = "words ".repeat(300_000);
    let error = format!(r#""error":{{"message":"{SECRET}"}}"#);
    let answers = [
        format!(
            r#"{{"choices":[{{"index":0,"message":{{"content":"{words}"}},"finish_reason":"stop"}}],{error}}}"#
        ),
        format!(
            r#"{{"choices":[{{"index":0,"message":{{"content":"{words}"}},"finish_reason":"error","x":"{SECRET}"}}],"error":null}}"#
        ),
        format!(r#"{{"output":[{{"type":"message","content":"{words}"}}],"status":"failed",{error}}}"#),
        format!(r#"{{"data":[{{"b64_json":"{words}"}}],{error}}}"#),
        format!(
            r#"{{"choices":[{{"index":0,"message":{{"content":"{words}"}},"finish_reason":"stop"}}],"error":null}}"#
        ),
    ];
    let whole = answers.clone();
    let upstream = scripted::start(move |asked| {
        scripted::whole(200, &[], whole[asked.model().parse::<usize>().unwrap()].as_bytes())
    });
    let calls = [
        ("/v1/chat/completions", "chat"),
        ("/v1/chat/completions", "chat"),
        ("/v1/responses", "chat"),
        ("/v1/images/generations", "image"),
        ("/v1/chat/completions", "chat"),
    ];
    let mut config = Config::default();
    for (number, (_, kind)) in calls.iter().enumerate() {
        let (id, name) = (format!("m/{number}"), number.to_string());
        config = config.model(&id, kind).channel(&format!("c{number}"), upstream, &[(&id, &name)], "");
    }
    let gateway = config.start();
    for (number, (path, _)) in calls.iter().enumerate() {
        let reply = gateway.post(path, &format!(r#"{{"model":"m/{number}","prompt":"x"}}"#));
        let log = gateway.log_of(reply.request_id());
        if number == calls.len() - 1 {
            let mut told = reply.json();
            let names = told.as_object_mut().unwrap();
            assert!(names.remove("id").is_some() && names.remove("model").is_some(), "{number}");
            // An error that is none is left out: some clients look only whether there is one.
            let sent = answers[number].replace(r#","error":null"#, "");
            assert!(reply.complete && told == serde_json::from_str::<Value>(&sent).unwrap(), "{number}");
            assert_eq!(log["end"], "complete");
            continue;
        }
        assert_eq!((reply.status, reply.complete), (200, false), "{number}");
        assert!(reply.text().contains("words words") && !reply.text().contains(SECRET), "{number}");
        assert_eq!(log["end"], "broken_mid_stream", "{log}");
        assert_eq!(log["attempts"][0]["rule"], "2xx: an error behind content", "{log}");
    }
    gateway.finish();
}

/// Goal: a channel that cannot be asked for usage in streams is not asked by a client's own wish either, and the client gets
/// its count all the same; the next channel is asked as the client wrote it (spec 1.6).
#[test]
fn usage_is_asked_for_only_where_it_can_be() {
    let (first, second) = (Upstream::start(), Upstream::start());
    first.stats.record_bodies(true);
    second.stats.record_bodies(true);
    let gateway = Config::default()
        .model("a/b", "chat")
        .model("a/fails", "chat")
        .channel(
            "one",
            first.addr,
            &[("a/b", "x"), ("a/fails", "fault/overload-openai")],
            ", stream_usage: false",
        )
        .channel("two", second.addr, &[("a/fails", "y")], ", priority: 1")
        .start();
    let sent = |upstream: &Upstream| {
        String::from_utf8(upstream.stats.last_request().unwrap().body.to_vec()).unwrap()
    };
    let ask = |model: &str, options: &str| {
        let body = format!(r#"{{"model":"{model}","stream":true,"messages":[]{options} }}"#);
        gateway.post("/v1/chat/completions", &body)
    };
    let options = r#","stream_options":{"include_usage":true,"x":1.0e1}"#;
    let reply = ask("a/b", options);
    assert_eq!(sent(&first), r#"{"model":"x","stream":true,"messages":[] }"#);
    assert_eq!(reply.text().matches("total_tokens").count(), 1, "{}", reply.text());
    assert_eq!(ask("a/b", "").text().matches("total_tokens").count(), 0);
    assert_eq!(ask("a/fails", options).status, 200);
    assert!(!sent(&first).contains("stream_options"));
    assert_eq!(sent(&second), format!(r#"{{"model":"y","stream":true,"messages":[]{options} }}"#));
    gateway.finish();
}

/// Goal: a response is gone on from with a model that its channel serves; with another the caller is told at once which member
/// is at fault, and nobody is asked. Of the response before it a client is told what it said itself (spec 1.5).
#[test]
fn responses_are_gone_on_from_where_they_are() {
    let upstream = Upstream::start();
    let elsewhere = Upstream::start();
    let gateway = Config::default()
        .model("a/one", "chat")
        .model("a/two", "chat")
        .model("b/one", "chat")
        .channel("a", upstream.addr, &[("a/one", "x"), ("a/two", "y")], "")
        .channel("b", elsewhere.addr, &[("b/one", "z")], "")
        .start();
    let ask = |model: &str, previous: &str| {
        gateway.post("/v1/responses", &format!(r#"{{"model":"{model}","input":"x"{previous}}}"#))
    };
    let id = ask("a/one", "").json()["id"].as_str().unwrap().to_owned();
    let previous = format!(r#","previous_response_id":"{id}""#);
    assert_eq!(ask("a/two", &previous).status, 200);
    let refused = ask("b/one", &previous);
    let error = &refused.json()["error"];
    assert_eq!(
        (refused.status, &error["code"], &error["param"]),
        (400, &"invalid_value".into(), &"previous_response_id".into()),
        "{error}"
    );
    assert_eq!(elsewhere.stats.requests(), 0);
    gateway.finish();
}

/// Goal: ids and header fields of a trusted upstream's answer pass, whole or as a stream; what the gateway says of a request
/// itself it still says, and errors are its own (spec 1.5, 2.7).
#[test]
fn trusted_upstreams_speak_for_themselves() {
    let upstream = scripted::start(answer);
    let good = ERRORS.len().to_string();
    let gateway = Config::default()
        .model("a/good", "chat")
        .model("a/bad", "chat")
        .channel("own", upstream, &[("a/good", &good), ("a/bad", "0")], ", trusted: true")
        .start();
    for stream in [false, true] {
        let body = format!(r#"{{"model":"a/good","temperature":1,"stream":{stream}}}"#);
        let reply = gateway.post("/v1/chat/completions", &body);
        assert_eq!((reply.status, reply.complete), (200, true));
        for name in ["server", "openai-organization", "via"] {
            assert_eq!(reply.header(name), Some(SECRET), "{name} {stream}");
        }
        assert_eq!((reply.header("set-cookie"), reply.header("cache-control")), (None, Some("no-store")));
        assert_ne!(reply.request_id(), SECRET);
        assert!(reply.text().contains(&format!(r#""id":"{SECRET}""#)), "{}", reply.text());
    }
    let refused = gateway.post("/v1/chat/completions", r#"{"model":"a/bad","temperature":1}"#);
    assert_eq!(refused.status, 400);
    tells_nothing(&refused, "an error");
    gateway.finish();
}
