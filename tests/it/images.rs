//! Images: their rules, edits in both forms, streams, money, and answers of many megabytes (spec 8.1, 10.1, 11.1 to 11.4).

use crate::support::scripted::{self, Act, Asked, chunk, chunked, whole};
use crate::support::{Config, Gateway, KEY, Upstream, http};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Mutex};

const GENERATIONS: &str = "/v1/images/generations";
const EDITS: &str = "/v1/images/edits";
const CHAT: &str = "/v1/chat/completions";

const RULES: &str = r#"free: true, sizes: ["1024x1024", "auto"], qualities: [low, high], n_max: 3"#;
const SHAPES: &str = r#"free: true, aspect_ratios: ["1:1", "16:9"], image_sizes: [1K, 4K]"#;

fn gateway(upstream: SocketAddr) -> Gateway {
    let served = [
        ("openai/chat", "c"),
        ("openai/embed", "e"),
        ("openai/image", "gpt-image-up"),
        ("google/image", "gemini-image-up"),
        ("any/video", "v"),
        ("any/free", "f"),
        ("any/big", "f+size=7500000"),
        ("fails/cut", "f+fault=stream-cut-mid"),
        ("fails/error", "f+fault=stream-error-mid"),
        ("fails/first", "f+fault=stream-error-first"),
    ];
    Config::default()
        .model("openai/chat", "chat")
        .model("openai/embed", "embedding")
        .model_with("openai/image", "image", RULES)
        .model_with("google/image", "gemini_image", SHAPES)
        .model("any/video", "video")
        .model("any/free", "image")
        .model("any/big", "gemini_image")
        .model("fails/cut", "image")
        .model("fails/error", "image")
        .model("fails/first", "image")
        .channel_each("c", upstream, &served, "")
        .channel("spare", upstream, &[("fails/first", "f")], ", priority: 1")
        .start()
}

/// A form of these fields and one file of these bytes.
fn form(fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, value) in fields {
        let part = format!("--BB\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        form.extend_from_slice(part.as_bytes());
    }
    form.extend_from_slice(b"--BB\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"\xc3\xa9.png\"\r\nContent-Type: image/png\r\n\r\n");
    form.extend_from_slice(file);
    form.extend_from_slice(b"\r\n--BB--\r\n");
    form
}

fn post_form(gateway: &Gateway, path: &str, content_type: &str, form: &[u8]) -> http::Reply {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        form.len()
    )
    .into_bytes();
    request.extend_from_slice(form);
    gateway.raw(&request)
}

fn edit(gateway: &Gateway, fields: &[(&str, &str)], file: &[u8]) -> http::Reply {
    post_form(gateway, EDITS, "multipart/form-data; boundary=BB", &form(fields, file))
}

/// What a refusal says: status, code and member at fault.
fn refusal(reply: &http::Reply) -> (u16, String, Value) {
    let error = reply.json()["error"].take();
    (reply.status, error["code"].as_str().unwrap().to_owned(), error["param"].clone())
}

/// Bytes that are no text, and have every value.
fn binary(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// The name of every event of a stream, and its data.
fn named_events(reply: &http::Reply) -> Vec<(String, Value)> {
    let text = reply.text();
    let event = |event: &str| {
        let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
        Some((name.to_owned(), serde_json::from_str(data).unwrap()))
    };
    text.split("\n\n").filter_map(event).collect()
}

/// Goal: a model at an endpoint that is not its own is a 400 which names the right one, and no upstream hears of it; at
/// its own it is served (spec 11.1). Method: each kind at each endpoint.
#[test]
fn a_wrong_endpoint_names_the_right_one() {
    let upstream = Upstream::start();
    let gateway = gateway(upstream.addr);
    let bodies = [
        (CHAT, r#""messages":[{"role":"user","content":"x"}]"#),
        ("/v1/completions", r#""prompt":"x""#),
        ("/v1/responses", r#""input":"x""#),
        ("/v1/embeddings", r#""input":"x""#),
        (GENERATIONS, r#""prompt":"x""#),
        (EDITS, r#""prompt":"x","images":[{"image_url":"https://x.example/a"}]"#),
    ];
    let own: [(&str, &[&str], &str); 5] = [
        ("openai/chat", &[CHAT, "/v1/completions", "/v1/responses"], CHAT),
        ("openai/embed", &["/v1/embeddings"], "/v1/embeddings"),
        ("openai/image", &[GENERATIONS, EDITS], GENERATIONS),
        ("google/image", &[CHAT], CHAT),
        ("any/video", &[], "/v1/video/generations"),
    ];
    let mut served = 0;
    for (model, paths, home) in own {
        for (path, members) in bodies {
            let reply = gateway.post(path, &format!(r#"{{"model":"{model}",{members}}}"#));
            if paths.contains(&path) {
                served += 1;
                assert_eq!(reply.status, 200, "{model} at {path}: {}", reply.text());
            } else {
                assert_eq!(refusal(&reply), (400, "wrong_endpoint".into(), Value::Null), "{model} at {path}");
                let message = format!("The model {model} is not served here. Use POST {home} for it.");
                assert_eq!(reply.json()["error"]["message"], message);
            }
        }
    }
    assert_eq!(edit(&gateway, &[("model", "openai/image"), ("prompt", "x")], b"x").status, 200);
    let wrong = edit(&gateway, &[("model", "google/image"), ("prompt", "x")], b"x");
    assert_eq!(refusal(&wrong), (400, "wrong_endpoint".into(), Value::Null));
    assert_eq!(upstream.stats.requests(), served + 1);
    gateway.finish();
}

/// Goal: sizes, qualities, shapes and numbers that a model does not list are refused before any upstream is asked, with
/// the member at fault and the values that there are; what is listed, or not said, passes (spec 11.2).
#[test]
fn sizes_are_checked() {
    let upstream = Upstream::start();
    let gateway = gateway(upstream.addr);
    let image =
        |more: &str| gateway.post(GENERATIONS, &format!(r#"{{"model":"openai/image","prompt":"x"{more}}}"#));
    let chat = |more: &str| gateway.post(CHAT, &format!(r#"{{"model":"google/image","messages":[]{more}}}"#));
    let passed = [
        image(""),
        image(r#","size":null"#),
        image(r#","size":"auto","quality":"low","n":3"#),
        chat(r#","image_config":{"aspect_ratio":"16:9","image_size":"4K","other":1}"#),
        chat(r#","image_config":null"#),
        gateway.post(GENERATIONS, r#"{"model":"any/free","prompt":"x","size":"7x7","Size":1,"quality":"?"}"#),
        edit(&gateway, &[("model", "openai/image"), ("size", "1024x1024"), ("n", "2")], b"x"),
    ];
    for reply in &passed {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let size = (400, "invalid_image_size".to_owned(), json!("size"));
    for (reply, expected) in [
        (image(r#","size":"512x512""#), size.clone()),
        (image(r#","size":"1024X1024""#), size.clone()),
        (image(r#","size":1024"#), size.clone()),
        (gateway.post(EDITS, r#"{"model":"openai/image","size":"1x1","images":[]}"#), size.clone()),
        (edit(&gateway, &[("model", "openai/image"), ("size", "1x1")], b"x"), size),
        (image(r#","size":"auto","size":"9x9""#), (400, "invalid_value".into(), json!("size"))),
        (image(r#","quality":"best""#), (400, "invalid_value".into(), json!("quality"))),
        (image(r#","n":4"#), (400, "invalid_value".into(), json!("n"))),
        (
            chat(r#","image_config":{"aspect_ratio":"2:1"}"#),
            (400, "invalid_image_size".into(), json!("image_config.aspect_ratio")),
        ),
        (
            chat(r#","image_config":{"image_size":"8K"}"#),
            (400, "invalid_image_size".into(), json!("image_config.image_size")),
        ),
    ] {
        assert_eq!(refusal(&reply), expected, "{}", reply.text());
    }
    let told = image(r#","size":"512x512""#).json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(told.ends_with("Supported values are: '1024x1024', 'auto'.") && told.len() <= 500, "{told}");
    assert_eq!(upstream.stats.requests(), passed.len() as u64);
    gateway.finish();
}

/// Goal: on chat a model that makes images is asked for one where the caller did not, nothing else changes, and what it
/// answers passes: null as content, the images beside it, whole and streamed (spec 11.1, 11.3).
#[test]
fn images_in_a_conversation() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let gateway = gateway(upstream.addr);
    for (more, sent) in [
        ("", r#","modalities":["image","text"]"#),
        (r#","x":1.0e2"#, r#","modalities":["image","text"],"x":1.0e2"#),
        (r#","modalities":["text"]"#, r#","modalities":["image","text"]"#),
        (r#","modalities":["text","image"]"#, r#","modalities":["text","image"]"#),
    ] {
        let body = format!(r#"{{"messages":[],"model":"google/image"{more}}}"#);
        let reply = gateway.post(CHAT, &body);
        let message = reply.json()["choices"][0]["message"].take();
        assert!(message["content"].is_null() && message.as_object().unwrap().contains_key("content"));
        let url = message["images"][0]["image_url"]["url"].as_str().unwrap().to_owned();
        assert!(url.starts_with("data:image/png;base64,iVBOR"), "{url}");
        let seen = upstream.stats.last_request().unwrap().body;
        let expected = format!(r#"{{"messages":[],"model":"gemini-image-up"{sent}}}"#);
        assert_eq!(String::from_utf8_lossy(&seen), expected);
    }
    let doubtful = gateway.post(CHAT, r#"{"model":"google/image","modalities":[],"modalities":["text"]}"#);
    assert_eq!(refusal(&doubtful), (400, "invalid_value".into(), json!("modalities")));
    let other = gateway.post(CHAT, r#"{"model":"openai/chat","messages":[],"modalities":["text"]}"#);
    assert_eq!(other.status, 200);
    assert!(String::from_utf8_lossy(&upstream.stats.last_request().unwrap().body).contains(r#":["text"]"#));
    let streamed = gateway.post(CHAT, r#"{"model":"google/image","messages":[],"stream":true}"#);
    let events = streamed.events();
    let parsed = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let images = parsed.filter(|event| event["choices"][0]["delta"]["images"][0].is_object());
    assert_eq!(images.count(), 1);
    gateway.finish();
}

/// Goal: a data URI of ten megabytes in one event of a stream, or in a whole answer, reaches the client as it was (spec
/// 10.7, 11.3).
#[test]
fn large_images_in_a_conversation() {
    let upstream = Upstream::start();
    let gateway = gateway(upstream.addr);
    let expected = "A".repeat(9_999_900);
    let idle = peak_memory(gateway.child.id());
    for stream in [true, false] {
        let body = format!(r#"{{"model":"any/big","messages":[],"stream":{stream}}}"#);
        let reply = gateway.post(CHAT, &body);
        assert!(reply.status == 200 && reply.complete);
        let text = reply.text();
        let (_, data) = text.split_once("data:image/png;base64,").unwrap();
        let (data, _) = data.split_once('"').unwrap();
        assert_eq!(data.len(), 10_000_000);
        assert!(data.starts_with("iVBOR") && data.ends_with(&expected[..9_999_800]), "stream: {stream}");
    }
    // One event has to be whole before it can be judged: twice its line at most, and what is made of it.
    let used = peak_memory(gateway.child.id()) - idle;
    eprintln!("an event of ten megabytes: {used} kB beyond {idle} kB at rest");
    assert!(used < 64 * 1024, "{used} kB for an event of ten megabytes");
    gateway.finish();
}

/// Goal: a form reaches the upstream byte for byte but for the model, under its boundary and its exact length, whatever
/// bytes the image has; so does JSON (spec 11.4).
#[test]
fn edits_reach_the_upstream_as_they_are() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let gateway = gateway(upstream.addr);
    // Larger than what is read in place, and than what is sent in one piece.
    let file = binary(3_000_000);
    let fields =
        [("prompt", "a b\r\nc"), ("model", "openai/image"), ("size", "auto"), ("background", "openai/image")];
    let sent = form(&fields, &file);
    let reply = post_form(&gateway, EDITS, "Multipart/Form-Data; boundary=\"BB\"", &sent);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.json()["data"][0]["b64_json"].is_string());
    let seen = upstream.stats.last_request().unwrap();
    let mut expected = fields;
    expected[1].1 = "gpt-image-up";
    assert_eq!(seen.path, "/v1/images/edits");
    assert!(*seen.body == form(&expected, &file), "the form differs in more than the model");
    assert_eq!(seen.header("content-type"), Some("multipart/form-data; boundary=BB"));
    assert_eq!(seen.header("content-length"), Some(&*seen.body.len().to_string()));
    let log = gateway.log_of(reply.request_id());
    assert_eq!((&log["tokens"]["input"], &log["model"]), (&json!(274), &json!("openai/image")));
    let body = r#"{"prompt":"x","images":[{"image_url":"data:image/png;base64,AAAA"}],"n":1.0e0,"model":"openai/image"}"#;
    assert_eq!(gateway.post(EDITS, body).status, 400, "n is no integer");
    let body = body.replace("1.0e0", "1");
    assert_eq!(gateway.post(EDITS, &body).status, 200);
    let seen = upstream.stats.last_request().unwrap();
    assert_eq!(seen.body, body.replace("openai/image", "gpt-image-up").as_bytes());
    gateway.finish();
}

/// Goal: what an edit has to look at counts against tokens per minute, and its user binds it to a channel, in both forms
/// alike (spec 6.4, 7.2, 9.6).
#[test]
fn edits_are_estimated_and_bound() {
    let upstreams = [Upstream::start(), Upstream::start()];
    let gateway = upstreams
        .iter()
        .enumerate()
        .fold(Config::default().model("m/image", "image"), |config, (index, upstream)| {
            config.channel(&format!("c{index}"), upstream.addr, &[("m/image", "i")], "")
        })
        .key("small", "small-key-of-the-tests-0123456789", ", limits: { tpm: 4000 }")
        .start();
    let fields = [("model", "m/image"), ("prompt", "a boat"), ("user", "ann")];
    let json = r#"{"model":"m/image","prompt":"a boat","user":"ann","images":[{"image_url":"data:image/png;base64,AAAA"}]}"#;
    for _ in 0..4 {
        assert_eq!(edit(&gateway, &fields, b"x").status, 200);
        assert_eq!(gateway.post(EDITS, json).status, 200);
    }
    let mut counts = upstreams.each_ref().map(|upstream| upstream.stats.requests());
    counts.sort_unstable();
    assert_eq!(counts, [0, 8], "one user, one channel");
    let as_small = |content_type: &str, body: &[u8]| {
        let mut request = format!(
            "POST {EDITS} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer small-key-of-the-tests-0123456789\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        gateway.raw(&request)
    };
    // An image is 4,096 tokens where nothing is configured.
    let kind = "multipart/form-data; boundary=BB";
    for reply in [as_small(kind, &form(&fields, b"x")), as_small("application/json", json.as_bytes())] {
        assert_eq!(refusal(&reply).1, "tokens_per_minute", "{}", reply.text());
    }
    gateway.finish();
}

/// Goal: a form is taken on image edits alone, and one that may be read in two ways nowhere; each refusal names what is
/// wrong and touches no upstream (spec 4.2, 4.3).
#[test]
fn forms_are_refused_where_they_must_be() {
    let upstream = Upstream::start();
    let gateway = gateway(upstream.addr);
    let good = form(&[("model", "openai/image")], b"x");
    let of = |path: &str, content_type: &str, form: &[u8]| {
        let (status, code, param) = refusal(&post_form(&gateway, path, content_type, form));
        (status, code, param.as_str().unwrap_or_default().to_owned())
    };
    let kind = "multipart/form-data; boundary=BB";
    let model = ("model", "openai/image");
    let invalid = |param: &str| (400, "invalid_value".to_owned(), param.to_owned());
    let broken = (400, "invalid_request_error".to_owned(), String::new());
    for path in [CHAT, GENERATIONS, "/v1/embeddings", "/v1/messages/"] {
        if path.starts_with("/v1/messages") {
            assert_eq!(post_form(&gateway, path, kind, &good).status, 400);
        } else {
            assert_eq!(of(path, kind, &good), broken, "{path}");
        }
    }
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; boundary=BC",
        "multipart/mixed; boundary=BB",
        "text/plain",
    ] {
        assert_eq!(of(EDITS, content_type, &good), broken, "{content_type}");
    }
    assert_eq!(of(EDITS, kind, &form(&[], b"x")), (400, "missing_required_parameter".into(), "model".into()));
    assert_eq!(of(EDITS, kind, &form(&[model, model], b"x")), invalid("model"));
    assert_eq!(of(EDITS, kind, &form(&[model, ("Model", "any/free")], b"x")), invalid("model"));
    assert_eq!(
        of(EDITS, kind, &form(&[model, ("stream", "true"), ("stream", "false")], b"x")),
        invalid("stream")
    );
    assert_eq!(of(EDITS, kind, &form(&[model, ("n", "x")], b"x")), invalid("n"));
    assert_eq!(of(EDITS, kind, &form(&[model], b"x\n--BB\r\n")), broken);
    assert_eq!(of(EDITS, kind, &form(&[model], b"x\r\n--BBB")), broken);
    assert_eq!(of(EDITS, kind, &good[..good.len() - 6]), broken);
    assert_eq!(of(EDITS, kind, b""), broken);
    let lines = String::from_utf8(good.clone()).unwrap().replace("\r\n", "\n");
    assert_eq!(of(EDITS, kind, lines.as_bytes()), broken);
    assert_eq!(
        of(EDITS, kind, &form(&[("model", "no/model")], b"x")),
        (503, "model_not_found".into(), String::new())
    );
    assert_eq!(upstream.stats.requests(), 0);
    gateway.finish();
}

/// Goal: what a model does not take is refused, or left out, in a form as in JSON (spec 12.1, `unsupported`).
#[test]
fn forms_obey_what_models_do_not_take() {
    let upstream = Upstream::start();
    upstream.stats.record_bodies(true);
    let rules = "free: true, unsupported: { background: reject, input_fidelity: drop }";
    let gateway = Config::default()
        .model_with("m/image", "image", rules)
        .channel("c", upstream.addr, &[("m/image", "i")], "")
        .start();
    let refused = edit(&gateway, &[("model", "m/image"), ("background", "opaque")], b"x");
    assert_eq!(refusal(&refused), (400, "unsupported_parameter".into(), json!("background")));
    assert_eq!(upstream.stats.requests(), 0);
    let file = binary(500_000);
    let fields = [("input_fidelity", "high"), ("model", "m/image"), ("prompt", "x")];
    assert_eq!(edit(&gateway, &fields, &file).status, 200);
    let seen = upstream.stats.last_request().unwrap();
    assert!(*seen.body == form(&[("model", "i"), ("prompt", "x")], &file), "all but that field is as it was");
    assert_eq!(seen.header("content-length"), Some(&*seen.body.len().to_string()));
    gateway.finish();
}

/// Goal: streams of images pass with their names, partial images and usage; what fails before an image goes to another
/// channel, what fails after one is said in the stream (spec 2.6, 10.1).
#[test]
fn images_are_streamed() {
    let upstream = Upstream::start();
    let gateway = gateway(upstream.addr);
    let ask = |model: &str| {
        let body = format!(r#"{{"model":"{model}","prompt":"x","stream":true,"partial_images":2}}"#);
        gateway.post(GENERATIONS, &body)
    };
    let names = |events: &[(String, Value)]| events.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let reply = ask("openai/image");
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let events = named_events(&reply);
    let partial = "image_generation.partial_image";
    assert_eq!(names(&events), [partial, partial, "image_generation.completed"]);
    assert!(events.iter().all(|(name, data)| data["type"] == **name && data["b64_json"].is_string()));
    assert_eq!(events[2].1["usage"]["output_tokens"], 472);
    let log = gateway.log_of(reply.request_id());
    assert_eq!((&log["tokens"]["output"], &log["tokens"]["source"]), (&json!(472), &json!("reported")));
    let edited =
        edit(&gateway, &[("model", "openai/image"), ("stream", "true"), ("partial_images", "1")], b"x");
    assert_eq!(names(&named_events(&edited)), ["image_edit.partial_image", "image_edit.completed"]);
    assert_eq!(names(&named_events(&ask("fails/first"))), [partial, partial, "image_generation.completed"]);
    for model in ["fails/cut", "fails/error"] {
        let reply = ask(model);
        let events = named_events(&reply);
        assert_eq!(names(&events), [partial, partial, "error"], "{model}");
        assert!(reply.complete, "{model}");
        assert_eq!(
            (&events[2].1["error"]["code"], &events[2].1["type"]),
            (&json!("service_unavailable"), &json!("error"))
        );
    }
    gateway.finish();
}

/// The answer of an images endpoint with so many images.
fn made(images: usize, usage: &str) -> Vec<Act> {
    let items = vec![r#"{"b64_json":"AAAA"}"#; images].join(",");
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    whole(200, &headers, format!(r#"{{"created":1,"data":[{items}]{usage}}}"#).as_bytes())
}

/// Goal: what is paid for is what was made, never more than was asked for; image tokens have their own price; a balance
/// that does not cover an image is a 402 before any upstream is asked (spec 8.1, 8.2).
#[test]
fn images_are_paid_for_as_made() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let usage = r#","usage":{"input_tokens":50,"output_tokens":1000,"total_tokens":1050,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}"#;
    let upstream = scripted::start(move |request: &Asked| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let streamed = body.contains(r#""stream":true"#);
        seen.lock().unwrap().push(body);
        let event = |kind: &str| {
            chunk(
                format!("data: {{\"type\":\"image_generation.{kind}\",\"b64_json\":\"AAAA\"}}\n\n")
                    .as_bytes(),
            )
        };
        let headers = [("content-type".to_owned(), "text/event-stream".to_owned())];
        match &*request.model() {
            "tokens" => made(1, usage),
            // A form.
            "" => made(2, ""),
            _ if streamed => {
                vec![chunked(200, &headers), event("partial_image"), event("completed"), chunk(b"")]
            }
            number => made(number.parse().unwrap(), ""),
        }
    });
    let price = r#"price: { image: "0.01" }"#;
    let tokens =
        r#"price: { input: "5", image_input: "10", output: "1", image_output: "40" }, output_max: 2000"#;
    let gateway = Config::default()
        .model_with("m/two", "image", price)
        .model_with("m/five", "image", price)
        .model_with("m/tokens", "image", tokens)
        .model_with("m/dear", "image", r#"price: { input: "0", output: "40" }"#)
        .channel(
            "c",
            upstream,
            &[("m/two", "2"), ("m/five", "5"), ("m/tokens", "tokens"), ("m/dear", "1")],
            "",
        )
        .account("credit: \"0.50\"")
        .start();
    let cost = |reply: &http::Reply| {
        assert_eq!(reply.status, 200, "{}", reply.text());
        gateway.log_of(reply.request_id())["cost_usd"].clone()
    };
    let ask = |model: &str, more: &str| {
        gateway.post(GENERATIONS, &format!(r#"{{"model":"{model}","prompt":"x"{more}}}"#))
    };
    assert_eq!(cost(&ask("m/two", r#","n":3"#)), json!(0.02), "two were made of three");
    assert_eq!(cost(&ask("m/five", r#","n":3"#)), json!(0.03), "five were made, three asked for");
    assert_eq!(cost(&ask("m/two", r#","n":3,"stream":true"#)), json!(0.01), "one was made");
    assert_eq!(cost(&edit(&gateway, &[("model", "m/two"), ("n", "2")], b"x")), json!(0.02));
    // 10 × 5 + 40 × 10 + 1,000 × 40 micro-dollars.
    assert_eq!(cost(&ask("m/tokens", "")), json!(0.04045));
    let before = asked.lock().unwrap().len();
    // 16,384 output tokens, the bound where nothing is configured, are 0.66 USD.
    assert_eq!(refusal(&ask("m/dear", "")).0, 402);
    assert_eq!(refusal(&edit(&gateway, &[("model", "m/dear")], b"x")).0, 402);
    assert_eq!(asked.lock().unwrap().len(), before);
    assert!(
        asked.lock().unwrap().iter().all(|body| !body.contains("max_")),
        "no bound that images do not have"
    );
    gateway.finish();
}

const LARGE: usize = 20_000_000;
const AT_ONCE: usize = 50;

/// An upstream that gives everyone the same bytes as an answer.
fn generous(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = Vec::new();
                while http::find(&request, b"\"prompt\"").is_none() {
                    let mut piece = [0; 4096];
                    match stream.read(&mut piece) {
                        Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                        _ => return,
                    }
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    answer.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer));
            });
        }
    });
    addr
}

/// Reads an answer in chunks and compares it as it comes; when a twentieth is there, waits for all the others.
fn compare(stream: TcpStream, expected: &[u8], others: &Barrier) {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let line = |reader: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    assert_eq!(line(&mut reader), "HTTP/1.1 200 OK");
    while !line(&mut reader).is_empty() {}
    let (mut rest, mut waited, mut piece) = (expected, false, Vec::new());
    loop {
        let size = usize::from_str_radix(&line(&mut reader), 16).unwrap();
        piece.resize(size + 2, 0);
        reader.read_exact(&mut piece).unwrap();
        if size == 0 {
            break;
        }
        assert!(rest.starts_with(&piece[..size]), "differs at {}", expected.len() - rest.len());
        rest = &rest[size..];
        if !waited && expected.len() - rest.len() > LARGE / 20 {
            waited = true;
            others.wait();
        }
    }
    assert!(rest.is_empty() && waited);
}

/// The most memory that a process has had, in kilobytes.
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Goal: an image of twenty megabytes reaches its client unchanged, and fifty of them at once do so in bounded memory
/// (spec 10.1, 11.3). Method: all clients are in the middle of their answer at the same time, comparing byte by byte; a
/// gateway that held them would have a gigabyte.
#[test]
fn fifty_large_images_at_once() {
    let text = format!(r#"{{"created":1,"data":[{{"b64_json":"{}"}}]}}"#, "iVBORw0K".repeat(LARGE / 8));
    let answer: &'static [u8] = Box::leak(text.into_bytes().into_boxed_slice());
    let gateway = gateway(generous(answer));
    let others = Barrier::new(AT_ONCE);
    let body = r#"{"model":"any/free","prompt":"x"}"#;
    let request = format!(
        "POST {GENERATIONS} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let idle = peak_memory(gateway.child.id());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                gateway.count(1);
                let mut stream = http::connect(gateway.public).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                compare(stream, answer, &others);
            });
        }
    });
    let used = peak_memory(gateway.child.id()) - idle;
    eprintln!("{AT_ONCE} images of {LARGE} bytes: {used} kB beyond {idle} kB at rest");
    // Under one each, most of it for the beginning that is held.
    assert!(used < 2 * 1024 * AT_ONCE as u64, "{used} kB for {AT_ONCE} images");
    gateway.finish();
}
