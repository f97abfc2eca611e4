//! What of an upstream a client can see: nothing (spec 2.8), in the same bytes for every cause (spec 2.9), from closed
//! sets (spec 2.2).

use crate::support::http::Reply;
use crate::support::scripted::{self, Act, Asked};
use crate::support::{Config, Gateway};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tidegate::wire::error::CATALOGUE;

const ROUNDS: usize = 10_000;
/// Channels that never rest, so that every request is an attempt.
const TIRELESS: &str = "defaults: { retry: { budget_ratio: 10 }, health: { cooldown_max: 0s, ejection: 0s, refused: 0s, blocked: 0s, missing: 0s } }\n";

/// A hundred things that an upstream might say of itself.
fn secrets() -> Vec<String> {
    let mut secrets = Vec::new();
    for n in 0..10 {
        secrets.extend([
            format!("node{n}.inference.internal"),
            format!("https://console.provider{n}.com/billing?org={n}"),
            format!("10.{n}.7.23{n}:8443"),
            format!("org-Zx8{n}Qw7Lk2Mn4Bv6"),
            format!("sk-proj-{n}aB3dE5fG7hJ9kL1mN3pQ5"),
            format!("req_{n}11ca7b3d9e24f60a8c5"),
            format!("3f2504e{n}-4f89-41d3-9a0c-0305e82c33{n}1"),
            format!("gpt5-prod-eastus{n}"),
            format!("arn:aws:bedrock:us-west-{n}:12345678901{n}:model/x"),
            format!("ops{n}@relay-provider.io"),
        ]);
    }
    secrets
}

/// An error of some dialect with the secret in its words, its fields and members that nobody knows.
fn error_body(random: &mut fastrand::Rng, secret: &str) -> Value {
    let messages = [
        format!("Invalid value for temperature; see {secret} for more."),
        format!("messages[0].content is not allowed by {secret}"),
        format!("{secret}: quota used up, please wait"),
        format!("Model {secret} not found"),
        format!("This model's maximum context length is 10 tokens at {secret}"),
        format!("Request {secret} failed.\n  File \"/srv/{secret}.py\", line 3"),
        secret.to_owned(),
    ];
    let message = &messages[random.usize(..messages.len())];
    let codes =
        ["invalid_value", "rate_limit_exceeded", "context_length_exceeded", "content_filter", "x", secret];
    let code = codes[random.usize(..codes.len())];
    let param = ["temperature", secret][random.usize(..2)];
    match random.usize(..7) {
        0 => {
            json!({"error": {"message": message, "type": code, "param": param, "code": code, "internal": secret}, "request_id": secret})
        }
        1 => json!({"type": "error", "error": {"type": code, "message": message}, "request_id": secret}),
        2 => {
            json!([{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": [{"reason": secret}]}}])
        }
        3 => json!({"code": code, "message": message, "data": secret}),
        4 => json!({"detail": [{"loc": ["body", param], "msg": message, "type": code, "input": secret}]}),
        5 => {
            json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": message, "provider_name": secret}}})
        }
        _ => json!({"base_resp": {"status_code": 2013, "status_msg": message}, "trace": secret}),
    }
}

/// A good answer that names the upstream wherever one does.
fn good_body(secret: &str) -> Value {
    json!({"id": secret, "model": secret, "object": "chat.completion", "created": 1, "system_fingerprint": secret,
        "service_tier": secret, "provider": secret, "x_groq": {"id": secret}, "request_id": secret,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
}

fn chunk_event(secret: &str, delta: &Value, finish: Option<&str>) -> String {
    let data = json!({"id": secret, "model": secret, "object": "chat.completion.chunk", "system_fingerprint": secret,
        "provider": secret, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    format!(": {secret}\nid: {secret}\nevent: {secret}\ndata: {data}\n\n")
}

/// A stream with the secret in comments, names, ids and errors, ending in some way.
fn stream(random: &mut fastrand::Rng, secret: &str) -> Vec<Act> {
    let headers = [
        ("content-type".to_owned(), "text/event-stream".to_owned()),
        ("x-served-by".to_owned(), secret.to_owned()),
    ];
    let mut acts = vec![scripted::chunked(200, &headers)];
    let content = json!({"role": "assistant", "content": "hello"});
    for _ in 0..random.usize(0..3) {
        acts.push(scripted::chunk(chunk_event(secret, &content, None).as_bytes()));
    }
    let error = error_body(random, secret);
    match random.usize(..5) {
        0 => acts.push(scripted::chunk(format!("data: {error}\n\n").as_bytes())),
        1 => acts.push(scripted::chunk(format!("event: error\ndata: {error}\n\n").as_bytes())),
        2 => acts.push(Act::Close),
        3 => acts.push(scripted::chunk(format!("{secret}\n\n").as_bytes())),
        _ => {
            let last = chunk_event(secret, &json!({}), Some("stop")) + "data: [DONE]\n\n";
            acts.push(scripted::chunk(last.as_bytes()));
        }
    }
    // Trailers are nobody's business either.
    acts.push(Act::Write(format!("0\r\nx-trailer: {secret}\r\n\r\n").into_bytes()));
    acts
}

/// A random answer; what the user says is the seed.
fn answer(asked: &Asked) -> Vec<Act> {
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let seed: u64 = body["seed"].as_u64().unwrap();
    let secrets = secrets();
    let secret = &secrets[usize::try_from(seed).unwrap() % secrets.len()];
    let mut random = fastrand::Rng::with_seed(seed);
    if String::from_utf8_lossy(&asked.body).contains("\"stream\":true") && random.bool() {
        return stream(&mut random, secret);
    }
    let statuses = [
        200, 200, 201, 204, 302, 400, 401, 402, 403, 404, 409, 413, 415, 418, 422, 429, 500, 502, 503, 504,
        529, 599,
    ];
    let status = statuses[random.usize(..statuses.len())];
    let names = [
        "server",
        "x-request-id",
        "openai-organization",
        "set-cookie",
        "location",
        "via",
        "x-amzn-errortype",
        "retry-after",
    ];
    let headers: Vec<_> =
        names.iter().filter(|_| random.bool()).map(|name| ((*name).to_owned(), secret.clone())).collect();
    let body = match random.usize(..6) {
        0 if status < 300 => good_body(secret).to_string(),
        1 => format!("<html><title>{secret}</title><body>{secret}</body></html>"),
        2 => secret.clone(),
        3 => {
            let whole = error_body(&mut random, secret).to_string();
            whole[..whole.floor_char_boundary(random.usize(..whole.len()))].to_owned()
        }
        _ => error_body(&mut random, secret).to_string(),
    };
    scripted::whole(status, &headers, if status == 204 { b"" } else { body.as_bytes() })
}

/// What a client reads, as one lower-case text.
fn everything(reply: &Reply) -> String {
    let headers: String = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    (headers + &reply.text()).to_lowercase()
}

/// Every error object in an answer, whole or streamed.
fn errors(reply: &Reply) -> Vec<Value> {
    let whole = serde_json::from_slice::<Value>(&reply.body).into_iter();
    let events = reply.events().into_iter().filter_map(|event| serde_json::from_str::<Value>(&event).ok());
    whole.chain(events).map(|value| value["error"].clone()).filter(|error| !error.is_null()).collect()
}

fn check_round(gateway: &Gateway, n: usize, secret: &str) {
    let stream = n % 3 == 1;
    let body = format!(
        r#"{{"model":"any/model","messages":[{{"role":"user","content":"hi"}}],"temperature":1,"seed":{n},"stream":{stream}}}"#
    );
    let reply = gateway.post("/v1/chat/completions", &body);
    let told = everything(&reply);
    assert!(!told.contains(&secret.to_lowercase()), "round {n}: {secret} in {told}");
    assert!(reply.complete, "round {n}: {told}");
    let errors = errors(&reply);
    let from_catalogue = |error: &Value| {
        CATALOGUE.iter().any(|entry| {
            error["type"] == entry.kind && error["code"] == entry.name && error["status"] == entry.status
        })
    };
    assert!(errors.iter().all(from_catalogue), "round {n}: {told}");
    if reply.status == 200 {
        let json = reply.header("content-type") == Some("application/json");
        assert!(!json || errors.is_empty(), "round {n}: an error with status 200: {told}");
        let ended_well = told.contains("[done]");
        assert!(json || ended_well == errors.is_empty(), "round {n}: {told}");
    } else {
        assert_eq!(errors.len(), 1, "round {n}: {told}");
        assert_eq!(errors[0]["status"], reply.status, "round {n}");
    }
}

/// Goal: not one of a hundred secrets in any byte that a client receives, over ten thousand random answers and streams
/// (statuses, headers, trailers, comments, unknown members); and nothing but the catalogue's statuses, types and codes.
#[test]
fn nothing_leaks_and_the_sets_are_closed() {
    let upstream = scripted::start(answer);
    let config = Config { defaults: Some(TIRELESS.into()), ..Config::default() }.model("any/model", "chat");
    let gateway = Arc::new(config.channel("c", upstream, &[("any/model", "m")], "").start());
    let secrets = secrets();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (gateway, secrets) = (Arc::clone(&gateway), &secrets);
            scope.spawn(move || {
                for round in (half..ROUNDS).step_by(2) {
                    check_round(&gateway, round, &secrets[round % secrets.len()]);
                }
            });
        }
    });
    Arc::into_inner(gateway).unwrap().finish();
}

/// Answers of the classes that a client must not tell apart, in several dialects; an empty one is a closed connection.
const CAUSES: [(u16, &str); 22] = [
    (401, r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#),
    (401, r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#),
    (400, r#"{"error":{"code":400,"message":"no","details":[{"reason":"API_KEY_INVALID"}]}}"#),
    (403, "<html>Forbidden</html>"),
    (403, r#"{"error":{"code":"unsupported_country_region_territory"}}"#),
    (402, r#"{"error":{"message":"Insufficient Balance"}}"#),
    (400, r#"{"type":"error","error":{"message":"Your credit balance is too low to go on"}}"#),
    (429, r#"{"error":{"message":"x","code":"insufficient_quota"}}"#),
    (429, r#"{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}"#),
    (413, r#"{"error":{"message":"Request too large on tokens per minute (TPM): Limit 1"}}"#),
    (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
    (503, r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"The model is overloaded."}}"#),
    (200, r#"{"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#),
    (200, r#"{"error":{"message":"quota","code":429}}"#),
    (500, "oops"),
    (502, "<html><h1>502</h1></html>"),
    (504, ""),
    (404, "404 page not found"),
    (302, ""),
    (418, ""),
    (599, "x"),
    (0, ""),
];

/// Goal: every cause of the generic 502, in every dialect, is the same bytes at an endpoint (spec 2.9). Method: the cross
/// product of causes, endpoints and streams, compared without `x-request-id`, `Date` and the jittered `Retry-After`.
#[test]
fn causes_cannot_be_told_apart() {
    let upstream = scripted::start(|asked| match CAUSES[asked.model().parse::<usize>().unwrap()] {
        (0, _) => vec![Act::Close],
        (status, body) => scripted::whole(status, &[], body.as_bytes()),
    });
    // No listener at all: the connection is refused.
    let nobody = crate::support::free_address();
    let public: Vec<_> = (0..=CAUSES.len()).map(|n| format!("any/{n}")).collect();
    let names: Vec<_> = (0..CAUSES.len()).map(|n| n.to_string()).collect();
    let served: Vec<_> = public.iter().map(String::as_str).zip(names.iter().map(String::as_str)).collect();
    let tireless = Config { defaults: Some(TIRELESS.into()), ..Config::default() };
    let config = public.iter().fold(tireless, |config, id| config.model(id, "chat"));
    let last = public.last().unwrap().as_str();
    let gateway = config.channel("c", upstream, &served, "").channel("d", nobody, &[(last, "x")], "").start();
    for path in ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"] {
        let mut faces: HashMap<String, String> = HashMap::new();
        for (model, stream) in public.iter().flat_map(|model| [(model, true), (model, false)]) {
            let body = format!(r#"{{"model":"{model}","messages":[],"stream":{stream}}}"#);
            let reply = gateway.post_with(path, &body, "x-request-id: same\r\n");
            let hidden = ["date", "retry-after"];
            let kept = reply.headers.iter().filter(|(name, _)| !hidden.contains(&name.as_str()));
            let face = format!("{} {:?} {}", reply.status, kept.collect::<Vec<_>>(), reply.text());
            faces.entry(face).or_insert_with(|| model.clone());
        }
        assert_eq!(faces.len(), 1, "{path}: {faces:#?}");
        assert!(
            faces
                .keys()
                .all(|face| face.starts_with("502") && face.contains("Service temporarily unavailable"))
        );
    }
    gateway.finish();
}
