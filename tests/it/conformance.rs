//! What the gateway sends, held to its own OpenAPI document: answers, events of streams, errors and their headers.

use crate::openapi::document;
use crate::support::{Config, Gateway, KEY, Upstream, http, scripted};
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tidegate::wire::endpoint::{Endpoint, TABLE};

const PIXEL: &str = "data:image/png;base64,iVBORw0KGgo=";
const LIMITED: &str = "limited-key-of-the-tests-012345";

/// The document, with a validator for each part of it that was asked for.
struct Contract {
    document: Value,
    validators: BTreeMap<String, Validator>,
}

impl Contract {
    fn new() -> Self {
        Self { document: document(), validators: BTreeMap::new() }
    }

    /// In what a value departs from the schema at a pointer of the document.
    fn faults(&mut self, value: &Value, pointer: &str) -> Vec<String> {
        let document = &self.document;
        let validator = self.validators.entry(pointer.to_owned()).or_insert_with(|| {
            assert!(document.pointer(pointer).is_some(), "the document has no {pointer}");
            let mut schema = document.clone();
            schema["$ref"] = format!("#{}", pointer.replace('{', "%7B").replace('}', "%7D")).into();
            jsonschema::draft202012::new(&schema).unwrap()
        });
        validator.iter_errors(value).map(|e| format!("{e} at {}", e.instance_path())).collect()
    }

    fn hold(&mut self, value: &Value, pointer: &str, what: &str) {
        let faults = self.faults(value, pointer);
        assert!(faults.is_empty(), "{what}: {faults:?}: {value}");
    }

    /// Where the answer with this status of an operation is described.
    fn answer(&self, path: &str, method: &str, status: u16) -> String {
        let pointer = format!("/paths/{}/{method}/responses/{status}", path.replace('/', "~1"));
        match self.document.pointer(&pointer).map(|node| node["$ref"].as_str()) {
            Some(Some(target)) => target.trim_start_matches('#').to_owned(),
            Some(None) => pointer,
            None => panic!("{pointer} is not described"),
        }
    }

    /// Holds a whole answer to the document: its body, and the headers that are described.
    fn hold_reply(&mut self, path: &str, method: &str, reply: &http::Reply, what: &str) {
        let answer = self.answer(path, method, reply.status);
        let described = self.document.pointer(&format!("{answer}/headers")).cloned().unwrap_or(json!({}));
        for (name, value) in &reply.headers {
            if ["content-type", "content-length", "date", "connection", "transfer-encoding"]
                .contains(&&**name)
            {
                continue;
            }
            let target = described[name]["$ref"].as_str();
            let target = target.unwrap_or_else(|| panic!("{what}: the header {name} is not described"));
            let number = value.parse::<u64>().ok().filter(|_| name.starts_with("retry-after"));
            let value = number.map_or_else(|| json!(value), |number| json!(number));
            self.hold(&value, &format!("{}/schema", target.trim_start_matches('#')), what);
        }
        match reply.header("content-type") {
            Some("application/json") => {
                let pointer = format!("{answer}/content/application~1json/schema");
                self.hold(&reply.json(), &pointer, what);
            }
            Some("text/event-stream") => {
                let pointer = format!("{answer}/content/text~1event-stream/x-event-schema");
                let events = data(reply);
                assert!(!events.is_empty(), "{what}: {}", reply.text());
                events.iter().for_each(|event| self.hold(event, &pointer, what));
            }
            other => panic!("{what}: {other:?} is not described"),
        }
    }
}

/// The data of the events of a stream, in whatever language.
fn data(reply: &http::Reply) -> Vec<Value> {
    let text = reply.text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// An upstream for what takes long: images made of images, and videos.
fn studio() -> SocketAddr {
    scripted::start(|asked| {
        let body = match asked.head.contains("/images/") {
            true => {
                r#"{"created":1,"data":[{"b64_json":"iVBORw0KGgo="}],"usage":{"input_tokens":1,"output_tokens":2}}"#
            }
            false => r#"{"id":"v","videos":[{"url":"https://cdn.example/v.mp4"}]}"#,
        };
        scripted::whole(200, &[("content-type".into(), "application/json".into())], body.as_bytes())
    })
}

fn gateway(upstream: &Upstream) -> Gateway {
    let faults = [
        ("fails/parameter", "fault/bad-param-400"),
        ("fails/context", "fault/context-400"),
        ("fails/weird", "fault/html-200"),
        ("fails/overload", "fault/overload-openai"),
        ("fails/cut", "fault/stream-cut-mid"),
    ];
    let config = faults.iter().fold(Config::default(), |config, (id, _)| config.model(id, "chat"));
    config
        .model("a/chat", "chat")
        .model("a/embedding", "embedding")
        .model("a/image", "image")
        .model("a/edited", "image")
        .model("a/video", "video")
        .model_with("a/dear", "chat", r#"price: { input: "1", output: "1000" }"#)
        .channel_each("f", upstream.addr, &faults, "")
        .channel_each(
            "c",
            upstream.addr,
            &[("a/chat", "x"), ("a/embedding", "x"), ("a/image", "x"), ("a/dear", "x")],
            "",
        )
        .channel("studio", studio(), &[("a/edited", "x"), ("a/video", "x")], "")
        .key("limited", LIMITED, ", limits: { rpm: 1 }, models: [\"a/*\"]")
        .start()
}

/// A body that each call accepts, without the model and the braces.
fn body(path: &str) -> (&'static str, String) {
    let messages = r#""max_tokens":50,"messages":[{"role":"user","content":"hi"}]"#.to_owned();
    match path {
        "/chat/completions" | "/messages" => ("a/chat", messages),
        "/messages/count_tokens" => ("a/chat", r#""messages":[{"role":"user","content":"hi"}]"#.into()),
        "/completions" => ("a/chat", r#""prompt":"hi""#.into()),
        "/responses" | "/responses/compact" => ("a/chat", r#""input":"hi""#.into()),
        "/embeddings" => ("a/embedding", r#""input":["hi","you"]"#.into()),
        "/images/generations" => ("a/image", r#""prompt":"a boat","n":2"#.into()),
        "/images/edits" => ("a/edited", format!(r#""prompt":"a boat","images":[{{"image_url":"{PIXEL}"}}]"#)),
        "/video/generations" | "/videos" => ("a/video", format!(r#""prompt":"waves","image":"{PIXEL}""#)),
        _ => panic!("{path} has no body here"),
    }
}

fn call(gateway: &Gateway, path: &str, key: &str, model: &str, members: &str) -> http::Reply {
    let body = format!(r#"{{"model":"{model}",{members}}}"#);
    let head = format!("host: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n");
    let length = body.len();
    gateway.raw(format!("POST /v1{path} HTTP/1.1\r\n{head}content-length: {length}\r\n\r\n{body}").as_bytes())
}

fn calls() -> impl Iterator<Item = (&'static str, bool)> {
    TABLE.iter().filter_map(|line| match line.endpoint {
        Endpoint::Call(call) => Some((line.path, call.can_stream())),
        _ => None,
    })
}

/// Goal: the yardstick measures: what departs from the document in one thing is found out.
#[test]
fn departures_are_found() {
    let mut contract = Contract::new();
    let at = contract.answer("/chat/completions", "post", 503) + "/content/application~1json/schema";
    let error =
        json!({"message": "m", "type": "api_error", "param": null, "code": "model_not_found", "status": 503});
    assert_eq!(contract.faults(&json!({"error": error}), &at), [""; 0]);
    let replaced =
        [("status", json!(502)), ("code", json!("not_found")), ("type", json!("x")), ("more", json!(1))];
    for (name, value) in replaced {
        let mut other = error.clone();
        other[name] = value;
        assert!(!contract.faults(&json!({"error": other}), &at).is_empty(), "{name}");
    }
    let mut less = error.clone();
    less.as_object_mut().unwrap().remove("param");
    assert!(!contract.faults(&json!({"error": less}), &at).is_empty());
    let at = "/components/schemas/ChatCompletion";
    let whole =
        json!({"id": "x", "object": "chat.completion", "model": "m", "choices": [{"message": {}}], "new": 1});
    assert!(contract.faults(&whole, at).is_empty(), "unknown members pass");
    assert!(!contract.faults(&json!({"id": "x", "model": "m", "choices": []}), at).is_empty());
}

/// Goal: the answer of every route is what the document says of it, whole and as a stream, and so are its headers.
#[test]
fn answers_conform() {
    let upstream = Upstream::start();
    let (gateway, mut contract) = (gateway(&upstream), Contract::new());
    for (path, streams) in calls() {
        let (model, members) = body(path);
        let whole = call(&gateway, path, KEY, model, &members);
        assert_eq!(whole.status, 200, "{path}: {}", whole.text());
        contract.hold_reply(path, "post", &whole, path);
        // The sandbox has no streams of images.
        if streams && !path.starts_with("/images") {
            for more in [r#","stream":true"#, r#","stream":true,"stream_options":{"include_usage":true}"#] {
                let stream = call(&gateway, path, KEY, model, &format!("{members}{more}"));
                assert_eq!(stream.header("content-type"), Some("text/event-stream"), "{path}");
                contract.hold_reply(path, "post", &stream, path);
            }
            let cut = call(&gateway, path, KEY, "fails/cut", &format!(r#"{members},"stream":true"#));
            contract.hold_reply(path, "post", &cut, path);
        }
    }
    for (path, asked) in
        [("/models", "/v1/models"), ("/models/{id}", "/models/a%2Fchat/"), ("/balance", "/balance")]
    {
        let head = format!("host: x\r\nx-api-key: {KEY}\r\n");
        let reply = gateway.raw(format!("GET {asked} HTTP/1.1\r\n{head}\r\n").as_bytes());
        assert_eq!(reply.status, 200, "{path}");
        contract.hold_reply(path, "get", &reply, path);
    }
    gateway.finish();
}

/// Goal: every status of the catalogue that calls can be brought to has the described body and headers, on every route.
#[test]
fn errors_conform() {
    let upstream = Upstream::start();
    let (gateway, mut contract) = (gateway(&upstream), Contract::new());
    let mut seen = BTreeSet::new();
    let paths: Vec<_> = calls().collect();
    for (path, _) in &paths {
        let (model, members) = body(path);
        let long = format!(r#"{members},"padding":"{}""#, "x".repeat(33 << 20));
        let cases = [
            (KEY, model, r#""n":0"#),
            (KEY, "a/none", members.as_str()),
            (KEY, "fails/parameter", &members),
            (KEY, "fails/context", &members),
            (KEY, "fails/weird", &members),
            (KEY, "fails/overload", &members),
            (KEY, "a/dear", &members),
            (KEY, model, &long),
            ("wrong", model, &members),
            (LIMITED, "fails/weird", &members),
            (LIMITED, model, &members),
            (LIMITED, model, &members),
        ];
        for (key, model, members) in cases {
            let reply = call(&gateway, path, key, model, members);
            let what = format!("{path} {model}: {}", reply.status);
            if reply.status != 200 {
                contract.hold_reply(path, "post", &reply, &what);
                seen.insert(reply.status);
            }
        }
        let wrong = gateway.raw(format!("PUT /v1{path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        contract.hold_reply(path, "post", &wrong, path);
        seen.insert(wrong.status);
    }
    assert_eq!(seen, BTreeSet::from([400, 401, 402, 403, 404, 413, 429, 500, 502, 503]));
    for (path, asked, key, status) in [
        ("/models", "/v1/models", "wrong", 401),
        ("/models/{id}", "/v1/models/a/none", KEY, 404),
        ("/balance", "/v1/balance", "wrong", 401),
    ] {
        let head = format!("host: x\r\nauthorization: Bearer {key}\r\n");
        let reply = gateway.raw(format!("GET {asked} HTTP/1.1\r\n{head}\r\n").as_bytes());
        assert_eq!(reply.status, status, "{path}");
        contract.hold_reply(path, "get", &reply, path);
    }
    gateway.finish();
}
