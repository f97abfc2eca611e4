//! Conversations over several accounts of a provider (spec 1.5, 9.6), and members that the gateway adds (spec 1.6), over the
//! wire.

use crate::support::scripted::{self, Act, Asked};
use crate::support::{Config, Gateway};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const CHAT: &str = r#"{"choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}"#;
const SEAL_KEY: &str = "  seal_key: { value: a-key-of-the-tests-that-is-long-enough }";

fn body(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).unwrap()
}

/// The values of a member, wherever they stand.
fn values(of: &Value, name: &str, found: &mut Vec<String>) {
    match of {
        Value::Array(list) => list.iter().for_each(|value| values(value, name, found)),
        Value::Object(members) => {
            found.extend(members.get(name).and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| values(value, name, found));
        }
        _ => {}
    }
}

/// An account that writes reasoning of its own and refuses that of others, as providers do; while `down`, it answers nothing.
fn account(name: &'static str, down: &Arc<AtomicBool>) -> SocketAddr {
    let down = Arc::clone(down);
    scripted::start(move |asked| {
        if down.load(Ordering::SeqCst) {
            return scripted::whole(500, &[], br#"{"error":{"message":"oops"}}"#);
        }
        let (request, messages) = (body(asked), asked.head.contains("/messages"));
        let mut seen = Vec::new();
        for member in ["encrypted_content", "signature", "data"] {
            values(&request, member, &mut seen);
        }
        if seen.iter().any(|value| !value.starts_with(name)) {
            let message = "The encrypted content for item rs_1 could not be verified. Reason: Encrypted content organization_id did not match the target organization.";
            let error = json!({"error": {"message": message, "type": "invalid_request_error", "code": "invalid_encrypted_content"}});
            return scripted::whole(400, &[], error.to_string().as_bytes());
        }
        let sealed = format!("{name}-{}", seen.len());
        match (messages, request["stream"] == true) {
            (false, false) => scripted::whole(200, &[], response(&sealed).to_string().as_bytes()),
            (false, true) => streamed(&[
                json!({"type": "response.output_item.done", "sequence_number": 1, "item": {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": sealed}}),
                json!({"type": "response.output_text.delta", "sequence_number": 2, "delta": "hello"}),
                json!({"type": "response.completed", "sequence_number": 3, "response": response(&sealed)}),
            ]),
            (true, false) => scripted::whole(200, &[], message(&sealed).to_string().as_bytes()),
            (true, true) => streamed(&[
                json!({"type": "message_start", "message": {"id": "m", "content": [], "usage": {"input_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": sealed}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
                json!({"type": "message_stop"}),
            ]),
        }
    })
}

fn response(sealed: &str) -> Value {
    json!({"id": "resp_1", "object": "response", "status": "completed", "output": [
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": sealed},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
    ], "usage": {"input_tokens": 1, "output_tokens": 1}})
}

fn message(sealed: &str) -> Value {
    json!({"id": "m", "type": "message", "role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": sealed}, {"type": "text", "text": "hello"},
    ], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}})
}

fn streamed(events: &[Value]) -> Vec<Act> {
    let text: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
        .collect();
    scripted::whole(200, &[("content-type".to_owned(), "text/event-stream".to_owned())], text.as_bytes())
}

struct Accounts {
    gateway: Gateway,
    down: HashMap<&'static str, Arc<AtomicBool>>,
}

fn accounts() -> Accounts {
    let names = ["east", "west"];
    let down: HashMap<_, _> = names.map(|name| (name, Arc::<AtomicBool>::default())).into();
    let config =
        names.iter().fold(Config::default().model("m/x", "chat").server(SEAL_KEY), |config, name| {
            config.channel(name, account(name, &down[name]), &[("m/x", "x")], "")
        });
    Accounts { gateway: config.start(), down }
}

impl Accounts {
    /// One turn of a conversation: the items of the answer, and the channel that gave it.
    fn turn(&self, items: &[Value], stream: bool, messages: bool, session: usize) -> (Vec<Value>, String) {
        // A client that names no session, and whose first message changes, has nothing else to go by.
        let user = format!("client-{session}-{}", items.len());
        let (path, request) = if messages {
            let request = json!({"model": "m/x", "max_tokens": 100, "stream": stream, "metadata": {"user_id": user}, "user": user,
                "thinking": {"type": "enabled", "budget_tokens": 50}, "messages": items});
            ("/v1/messages", request)
        } else {
            let request = json!({"model": "m/x", "store": false, "stream": stream, "user": user,
                "include": ["reasoning.encrypted_content"], "input": items});
            ("/v1/responses", request)
        };
        let reply = self.gateway.post(path, &request.to_string());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let log = self.gateway.log_of(reply.request_id());
        (output(&reply.text(), stream, messages), log["channel"].as_str().unwrap().to_owned())
    }
}

/// What a client keeps of an answer.
fn output(text: &str, stream: bool, messages: bool) -> Vec<Value> {
    let answer = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    if !stream {
        let answer = answer(text);
        return if messages {
            vec![json!({"role": "assistant", "content": answer["content"]})]
        } else {
            answer["output"].as_array().unwrap().clone()
        };
    }
    let events: Vec<Value> =
        text.lines().filter_map(|line| line.strip_prefix("data: ")).map(answer).collect();
    if !messages {
        let completed = events.iter().find(|event| event["type"] == "response.completed").unwrap();
        let items = completed["response"]["output"].as_array().unwrap();
        let done = events.iter().find(|event| event["type"] == "response.output_item.done").unwrap();
        assert_eq!(done["item"], items[0], "an item is the same wherever it stands");
        return items.clone();
    }
    let signature = events.iter().find_map(|event| event["delta"]["signature"].as_str()).unwrap();
    let thinking = json!({"type": "thinking", "thinking": "hm", "signature": signature});
    vec![json!({"role": "assistant", "content": [thinking, {"type": "text", "text": "hello"}]})]
}

fn said(text: &str, messages: bool) -> Value {
    if messages {
        json!({"role": "user", "content": text})
    } else {
        json!({"type": "message", "role": "user", "content": text})
    }
}

/// Goal: a conversation whose reasoning one account alone can read goes back to that account at every turn, whatever else the
/// client says of it, streamed or whole, in both languages; the account reads its own bytes.
#[test]
fn reasoning_goes_back_to_the_account_that_made_it() {
    let accounts = accounts();
    for (messages, stream) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut used = HashMap::<String, usize>::new();
        for session in 0..8 {
            let mut items = vec![said("hello", messages)];
            let (answer, home) = accounts.turn(&items, stream, messages, session);
            items.extend(answer);
            for _ in 0..2 {
                items.push(said("go on", messages));
                let (answer, channel) = accounts.turn(&items, stream, messages, session);
                assert_eq!(channel, home, "messages {messages}, stream {stream}");
                items.extend(answer);
            }
            *used.entry(home).or_default() += 1;
        }
        assert_eq!(used.len(), 2, "first turns are spread: {used:?}");
    }
    accounts.gateway.finish();
}

/// Goal: while the account that made it is down, reasoning that another one cannot read is left out, and the conversation goes
/// on; where it must not be left out, the client reads 502, and in no case a 400.
#[test]
fn foreign_reasoning_is_left_out_or_unavailable() {
    let accounts = accounts();
    for messages in [false, true] {
        let mut items = vec![said("hello", messages)];
        let (answer, home) = accounts.turn(&items, false, messages, 0);
        items.extend(answer);
        items.push(said("go on", messages));
        accounts.down[&*home].store(true, Ordering::SeqCst);
        let (_, other) = accounts.turn(&items, false, messages, 0);
        assert_ne!(other, home);
        let bound = if messages {
            let Some(Value::Array(content)) = items[1].get_mut("content") else { panic!("{items:?}") };
            content[1] = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
            items[2] = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]});
            json!({"model": "m/x", "max_tokens": 100, "thinking": {"type": "enabled"}, "messages": items})
        } else {
            items[1]["type"] = "compaction".into();
            json!({"model": "m/x", "store": false, "input": items})
        };
        let path = if messages { "/v1/messages" } else { "/v1/responses" };
        let reply = accounts.gateway.post(path, &bound.to_string());
        assert_eq!(reply.status, 502, "{}", reply.text());
        accounts.down[&*home].store(false, Ordering::SeqCst);
        assert_eq!(accounts.gateway.post(path, &bound.to_string()).status, 200);
    }
    accounts.gateway.finish();
}

/// Goal: reasoning of which nobody knows who made it is tried, and left out when its channel refuses it; the client's own
/// account of it stays untouched.
#[test]
fn reasoning_of_unknown_origin_is_no_400() {
    let accounts = accounts();
    let strange = json!({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "of-nobody"});
    let (_, channel) = accounts.turn(&[said("hello", false), strange, said("go on", false)], false, false, 0);
    assert!(accounts.down.contains_key(&*channel));
    accounts.gateway.finish();
}

/// Goal: the marks hold over a restart with the same key of the seal.
#[test]
fn marks_survive_a_restart() {
    let mut accounts = accounts();
    let mut items = vec![said("hello", false)];
    let (answer, home) = accounts.turn(&items, false, false, 0);
    items.extend(answer);
    items.push(said("go on", false));
    accounts.gateway.restart();
    for session in 1..6 {
        assert_eq!(accounts.turn(&items, false, false, session).1, home);
    }
    accounts.gateway.finish();
}

/// An upstream that refuses requests with a member, and keeps what it was asked.
fn refusing(member: &'static str, status: u16, error: &'static str) -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let addr = scripted::start(move |asked| {
        let request = body(asked);
        let (refused, stream) = (request.get(member).is_some(), request["stream"] == true);
        list.lock().unwrap().push(request);
        if refused {
            return scripted::whole(status, &[], error.as_bytes());
        }
        if stream {
            let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
            return scripted::whole(
                200,
                &[("content-type".to_owned(), "text/event-stream".to_owned())],
                text.as_bytes(),
            );
        }
        scripted::whole(200, &[], CHAT.as_bytes())
    });
    (addr, seen)
}

/// Goal: a refusal of what only the gateway wrote is no 400 for the client: the request is sent there again without it, and
/// the next one does not have it; where the client wrote it too, the refusal is the client's.
#[test]
fn additions_that_are_refused_are_left_out() {
    for (status, error) in [
        (
            400,
            r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":null}}"#,
        ),
        (
            422,
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
        ),
        (
            400,
            r#"{"object":"error","message":"stream_options: include_usage is not supported","type":"BadRequestError","code":400}"#,
        ),
    ] {
        let (addr, seen) = refusing("stream_options", status, error);
        let gateway = Config::default().model("m/x", "chat").channel("c", addr, &[("m/x", "x")], "").start();
        for _ in 0..3 {
            assert_eq!(gateway.chat("m/x", true).status, 200, "{error}");
        }
        let had: Vec<bool> =
            seen.lock().unwrap().iter().map(|asked| asked.get("stream_options").is_some()).collect();
        assert_eq!(had, [true, false, false, false], "{error}");
        let own = r#"{"model":"m/x","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
        assert_eq!(gateway.post("/v1/chat/completions", own).status, 400, "{error}");
        gateway.finish();
    }
}

/// Goal: a capability that one channel lacks costs plain requests nothing and takes nothing out; requests of that kind go to
/// another channel from then on, and where there is none the client reads a 400.
#[test]
fn a_missing_capability_concerns_requests_of_its_kind() {
    let error = r#"{"error":{"message":"image input is not supported - hint: if this is unexpected, you may need to provide the mmproj","type":"server_error","code":500}}"#;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let blind = scripted::start(move |request| {
        if String::from_utf8_lossy(&request.body).contains("image_url") {
            count.fetch_add(1, Ordering::Relaxed);
            return scripted::whole(500, &[], error.as_bytes());
        }
        scripted::whole(200, &[], CHAT.as_bytes())
    });
    let seeing = scripted::start(|_| scripted::whole(200, &[], CHAT.as_bytes()));
    let gateway = Config::default()
        .model("m/both", "chat")
        .model("m/blind", "chat")
        .channel("blind", blind, &[("m/both", "x"), ("m/blind", "x")], "")
        .channel("seeing", seeing, &[("m/both", "x")], ", priority: 1")
        .start();
    let image = |model: &str| {
        let request = json!({"model": model, "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]});
        gateway.post("/v1/chat/completions", &request.to_string())
    };
    for _ in 0..8 {
        assert_eq!(image("m/both").status, 200);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it is remembered for images");
    for _ in 0..8 {
        let reply = image("m/blind");
        assert!(reply.status == 400 && reply.text().contains("image"), "{}", reply.text());
        assert_eq!(gateway.chat("m/blind", false).status, 200);
    }
    let reply = gateway.chat("m/both", false);
    assert_eq!(gateway.log_of(reply.request_id())["channel"], "blind", "plain requests go there as before");
    gateway.finish();
}

/// Goal: as long as a channel that might have the capability rests, the client is not told that nobody has it.
#[test]
fn a_channel_that_rests_may_have_the_capability() {
    let blind = scripted::start(|_| {
        scripted::whole(400, &[], br#"{"error":{"message":"This model does not support image input"}}"#)
    });
    let limited = scripted::start(|_| {
        let hint = [("retry-after".to_owned(), "60".to_owned())];
        scripted::whole(429, &hint, br#"{"error":{"code":"rate_limit_exceeded"}}"#)
    });
    let gateway = Config::default()
        .model("m/both", "chat")
        .model("m/limited", "chat")
        .channel("blind", blind, &[("m/both", "x")], "")
        .channel("limited", limited, &[("m/both", "x"), ("m/limited", "x")], ", priority: 1")
        .start();
    assert_eq!(gateway.chat("m/limited", false).status, 502);
    let request = json!({"model": "m/both", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]});
    for _ in 0..2 {
        let reply = gateway.post("/v1/chat/completions", &request.to_string());
        assert_eq!(reply.status, 502, "{}", reply.text());
    }
    gateway.finish();
}
