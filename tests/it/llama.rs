//! llama.cpp's own server as the upstream, with a tiny model of random weights that only knows text. `make clients`
//! installs it.

use crate::clients::client;
use crate::support::{Config, Gateway, http};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// A pixel.
const IMAGE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The server in a process of its own, which ends when its standard input is closed.
struct Llama {
    addr: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Llama {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = client("llama_server.py");
        command.arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("install the clients with: make clients");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let addr = lines.find_map(|line| line.strip_prefix("listening on http://")?.parse().ok());
        Self { addr: addr.expect("the server tells where it listens"), child, _folder: folder }
    }

    fn gateway(&self) -> Gateway {
        Config::default()
            .model("llama/tiny", "chat")
            .channel(
                "llama",
                self.addr,
                &[("llama/tiny", "upstream-tiny")],
                ", apis: [chat, completions, messages, responses]",
            )
            .start()
    }

    /// What the server itself says to a chat call.
    fn chat(&self, body: &str) -> http::Reply {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        http::exchange(self.addr, request.as_bytes()).unwrap()
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn body(more: Value) -> String {
    let mut body = json!({"model": "llama/tiny", "temperature": 0, "max_tokens": 6});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

fn says(content: impl Into<Value>) -> Value {
    json!([{"role": "user", "content": content.into()}])
}

/// Holds that nothing of the server is in an answer, and that the public model is.
fn assert_clean(reply: &http::Reply) {
    let text = reply.text();
    assert_eq!(reply.status, 200, "{text}");
    assert!(text.contains("llama/tiny"), "{text}");
    for trace in ["gguf", "timings", "system_fingerprint", "upstream-tiny", "chatcmpl-"] {
        assert!(!text.contains(trace), "{trace}: {text}");
    }
}

/// Goal: chat, completions, Messages and Responses, whole and streamed, come through under the gateway's names with the
/// server's own figures, and without what else it tells.
#[test]
fn a_llama_server_answers_in_every_api() {
    let llama = Llama::start();
    let gateway = llama.gateway();
    let whole = gateway.post("/v1/chat/completions", &body(json!({"messages": says("hello")})));
    assert_clean(&whole);
    let answer = whole.json();
    assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().is_empty());
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let log = gateway.log_of(whole.request_id());
    assert_eq!(log["tokens"]["source"], "reported", "{log}");
    assert_eq!(log["tokens"]["input"], answer["usage"]["prompt_tokens"]);
    let streamed =
        body(json!({"messages": says("hello"), "stream": true, "stream_options": {"include_usage": true}}));
    let reply = gateway.post("/v1/chat/completions", &streamed);
    assert_clean(&reply);
    let mut events = reply.events();
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, answer["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 6);
    let messages = gateway.post("/v1/messages", &body(json!({"messages": says("hello"), "stream": true})));
    assert_clean(&messages);
    assert!(messages.text().contains("event: message_stop"), "{}", messages.text());
    let responses = json!({"model": "llama/tiny", "input": "hello", "max_output_tokens": 6, "stream": true});
    let responses = gateway.post("/v1/responses", &responses.to_string());
    assert_clean(&responses);
    assert!(responses.text().contains("event: response.completed"), "{}", responses.text());
    assert_clean(&gateway.post("/v1/completions", &body(json!({"prompt": "hello"}))));
    gateway.finish();
}

/// Goal: a prompt above the server's context is 413 with the server's figures, streamed or not; clients that compact read
/// both.
#[test]
fn a_full_context_of_a_llama_server_is_told_with_its_figures() {
    let llama = Llama::start();
    let gateway = llama.gateway();
    let long = says("x".repeat(4_000));
    let refused = llama.chat(&body(json!({"messages": long}))).json();
    let prompt = refused["error"]["n_prompt_tokens"].as_u64().unwrap();
    for stream in [false, true] {
        let reply = gateway.post("/v1/chat/completions", &body(json!({"messages": long, "stream": stream})));
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["code"]), (413, &"context_length_exceeded".into()), "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("maximum context length is 2048 tokens"), "{message}");
        assert!(message.contains(&format!("resulted in {prompt} tokens")), "{message}");
    }
    let reply = gateway.post("/v1/messages", &body(json!({"messages": long})));
    assert_eq!(
        reply.json()["error"]["message"],
        format!("prompt is too long: {prompt} tokens > 2048 maximum")
    );
    gateway.finish();
}

/// Goal: images at a server that only knows text are a mistake of who sends them, named as such, and harm nobody else.
#[test]
fn images_at_a_llama_server_without_them_harm_nobody() {
    let llama = Llama::start();
    let gateway = llama.gateway();
    let image = json!([{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": IMAGE}}]);
    assert_eq!(llama.chat(&body(json!({"messages": says(image.clone())}))).status, 500);
    for _ in 0..8 {
        let reply = gateway.post("/v1/chat/completions", &body(json!({"messages": says(image.clone())})));
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["type"]), (400, &"invalid_request_error".into()), "{error}");
        assert!(error["message"].as_str().unwrap().to_lowercase().contains("image"), "{error}");
        let plain = gateway.post("/v1/chat/completions", &body(json!({"messages": says("hello")})));
        assert_clean(&plain);
    }
    gateway.finish();
}
