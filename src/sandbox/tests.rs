//! Honest answers, connections and counters, seen by a raw-socket client.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::test_client::*;
use super::*;

/// The JSON answer has every member OpenAI documents; asked once and read as JSON.
#[tokio::test]
async fn chat_json() {
    let got = chat("some/model+tokens=7+prompt=5", false).await;
    let body = got.json();
    assert_eq!(
        (got.status, &body["object"], &body["id"]),
        (200, &json!("chat.completion"), &json!("chatcmpl-sandbox-1"))
    );
    assert_eq!(body["model"], "some/model+tokens=7+prompt=5");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(body["choices"][0]["message"]["content"].as_str().unwrap().starts_with("The tide comes in"));
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}});
    assert_eq!(body["usage"], usage);
    assert_eq!(
        (&body["service_tier"], &body["system_fingerprint"]),
        (&json!("default"), &json!("fp_sandbox"))
    );
}

/// A stream is one chunk of framing for each event and adds up to the JSON answer's text.
#[tokio::test]
async fn chat_stream() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    let mut body = chat_body("m+chunks=5", true);
    body["stream_options"] = json!({"include_usage": true});
    let got = client.ask(CHAT, body).await;
    assert!(got.complete && got.head.contains("text/event-stream"));
    let events = got.events();
    assert_eq!((events.len(), got.chunks.len()), (9, 9));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[6]["choices"][0]["finish_reason"], "stop");
    assert!(events[..7].iter().all(|e| e["usage"].is_null() && e.get("usage").is_some()));
    assert_eq!((&events[7]["choices"], &events[7]["usage"]["completion_tokens"]), (&json!([]), &json!(5)));
    assert_eq!(events[8], "[DONE]");
    let whole = client.ask(CHAT, chat_body("m+chunks=5", false)).await.json();
    assert_eq!(got.content(), whole["choices"][0]["message"]["content"]);
    let plain = client.ask(CHAT, chat_body("m", true)).await;
    assert!(plain.events().iter().all(|e| e.get("usage").is_none()), "usage without being asked");
}

/// A connection serves many requests, also sent at once, chunked or after `Expect`; `Connection: close` ends it.
#[tokio::test]
async fn connections() {
    let (addr, stats) = start().await;
    let mut client = Client::new(addr).await;
    client.post(CHAT, "", &chat_body("a", false)).await;
    client.post("/chat/completions?x=1", "", &chat_body("b", true)).await;
    assert_eq!(client.read().await.json()["model"], "a");
    assert!(client.read().await.complete);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nAuthorization: x\r\n";
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"mod\r\n8;x=y\r\nel\":\"c\"}}\r\n0\r\nT: 1\r\n\r\n"
    );
    client.stream.write_all(chunked.as_bytes()).await.unwrap();
    assert_eq!(client.read().await.json()["model"], "c");
    let expect = format!("{head}Expect: 100-continue\r\nContent-Length: 13\r\n\r\n");
    client.stream.write_all(expect.as_bytes()).await.unwrap();
    assert_eq!(client.read().await.status, 100);
    client.stream.write_all(b"{\"model\":\"d\"}").await.unwrap();
    assert_eq!(client.read().await.json()["model"], "d");
    client.post(CHAT, "Connection: close\r\n", &chat_body("e", false)).await;
    let last = client.read().await;
    assert!(last.head.contains("connection: close") && !client.more().await);
    assert_eq!((stats.connections_opened(), stats.requests(), stats.aborted()), (1, 5, 0));
    until(|| stats.open_now(), 0).await;
}

/// Bytes that are no clean request are refused and the connection ends; a cut upload is counted.
#[tokio::test]
async fn bad_requests() {
    let (addr, stats) = start().await;
    let long = format!("GET /v1/models HTTP/1.1\r\nx: {}\r\n", "y".repeat(70_000));
    let huge = "POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n";
    let both = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for (text, status) in [("nonsense\r\n\r\n", 400), (huge, 413), (both, 400), (long.as_str(), 431)] {
        let mut client = Client::new(addr).await;
        client.stream.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(client.read().await.status, status);
        assert!(!client.more().await);
    }
    let mut cut = Client::new(addr).await;
    cut.stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    drop(cut);
    until(|| stats.cut_uploads(), 1).await;
    assert_eq!(stats.requests(), 0);
}

/// Refusals are OpenAI errors that name what is wrong: no credential, path, body, knob, fault, or a fault for streams.
#[tokio::test]
async fn refusals() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    client.stream.write_all(b"GET /v1/models HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(client.read().await.status, 401);
    client.stream.write_all(b"GET /v1/models HTTP/1.1\r\nAuthorization: x\r\n\r\n").await.unwrap();
    assert_eq!(client.read().await.json()["data"][0]["object"], "model");
    assert_eq!(client.ask("/v1/nothing", json!({})).await.status, 404);
    assert_eq!(client.ask(CHAT, json!({"messages": []})).await.status, 400);
    assert_eq!(client.ask(CHAT, json!({"model": "m", "n": 9})).await.status, 400);
    let cases = [("m+fault=clsoe", "clsoe"), ("fault/status-600", "status-600"), ("m+chnks=3", "chnks")];
    for (model, named) in
        cases.into_iter().chain([("fault-stream-cut-mid", "stream-cut-mid"), ("m+chunks=x", "chunks")])
    {
        let got = client.ask(CHAT, chat_body(model, false)).await;
        assert_eq!(got.status, 400, "{model}");
        assert!(got.json()["error"]["message"].as_str().unwrap().contains(named), "{model}");
    }
}

/// A tool call comes for the word in the last user message or by force, whole or in pieces.
#[tokio::test]
async fn tools() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    let mut body = chat_body("m", false);
    body["tools"] = json!([{"type": "function", "function": {"name": "get_weather"}}]);
    assert_eq!(client.ask(CHAT, body.clone()).await.json()["choices"][0]["finish_reason"], "stop");
    body["messages"][0]["content"] = "use the tool".into();
    let choice = client.ask(CHAT, body.clone()).await.json()["choices"][0].clone();
    let function = json!({"name": "get_weather", "arguments": "{\"city\":\"Paris\"}"});
    assert_eq!(
        (&choice["message"]["tool_calls"][0]["function"], &choice["finish_reason"]),
        (&function, &json!("tool_calls"))
    );
    body["messages"][0]["content"] = "hi".into();
    body["tool_choice"] = "required".into();
    body["stream"] = true.into();
    let events = client.ask(CHAT, body).await.events();
    assert_eq!(events[0]["choices"][0]["delta"]["tool_calls"][0]["function"]["name"], "get_weather");
    let pieces = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    let pieces: Vec<_> = pieces.collect();
    assert!(pieces.len() > 3 && pieces.concat() == "{\"city\":\"Paris\"}");
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
}

/// Choices, completions and images come in the numbers and sizes asked for.
#[tokio::test]
async fn choices_completions_images() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    let body = json!({"model": "m+size=1000", "n": 3, "messages": []});
    let chat = client.ask(CHAT, body).await.json();
    assert_eq!(chat["choices"][2]["message"]["content"].as_str().unwrap().len(), 1000);
    let text = client.ask("/v1/completions", json!({"model": "m+chunks=2", "prompt": "x"})).await.json();
    assert_eq!(
        (&text["object"], &text["choices"][0]["text"]),
        (&json!("text_completion"), &json!("The tide "))
    );
    let got =
        client.ask("/v1/completions", json!({"model": "m+chunks=2", "prompt": "x", "stream": true})).await;
    let events = got.events();
    assert_eq!((events.len(), &events[1]["choices"][0]["text"]), (4, &json!("tide ")));
    let images = json!({"model": "m", "prompt": "a gate", "n": 2});
    let images = client.ask("/v1/images/generations", images).await.json();
    assert!(images["data"][1]["b64_json"].as_str().unwrap().starts_with("iVBORw0KGgo"));
    assert!(images["data"][1]["b64_json"].as_str().unwrap().ends_with("rkJggg=="));
    let sized = client.ask("/v1/images/generations", json!({"model": "m+size=3000"})).await.json();
    assert_eq!(sized["data"][0]["b64_json"].as_str().unwrap().len(), 4000);
}

/// Vectors follow from the input and are the same numbers as floats and as base64.
#[tokio::test]
async fn embeddings() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    let mut body = json!({"model": "m", "input": ["a", "b", "a"], "dimensions": 4});
    let floats = client.ask("/v1/embeddings", body.clone()).await.json();
    let data = floats["data"].as_array().unwrap();
    assert_eq!((data.len(), data[0]["embedding"].as_array().unwrap().len()), (3, 4));
    assert_eq!(data[0]["embedding"], data[2]["embedding"]);
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    body["encoding_format"] = "base64".into();
    let packed = client.ask("/v1/embeddings", body).await.json();
    let packed = unbase64(packed["data"][0]["embedding"].as_str().unwrap());
    let unpacked: Vec<f64> =
        packed.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect();
    let expected: Vec<f64> =
        data[0]["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(unpacked.len(), 4);
    assert!(unpacked.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
    let tokens = client.ask("/v1/embeddings", json!({"model": "m", "input": [1, 2, 3]})).await.json();
    assert_eq!(tokens["data"].as_array().unwrap().len(), 1);
    assert_eq!(tokens["data"][0]["embedding"].as_array().unwrap().len(), 16);
    assert_eq!(client.ask("/v1/embeddings", json!({"model": "m"})).await.status, 400);
}

/// A decoder written apart from the encoder under test.
fn unbase64(text: &str) -> Vec<u8> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits: String = text.trim_end_matches('=').bytes().map(|b| format!("{:06b}", digit(b))).collect();
    bits.as_bytes()
        .chunks_exact(8)
        .map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 2).unwrap())
        .collect()
}

/// Recording keeps the last 32 requests whole, and only once switched on.
#[tokio::test]
async fn recording() {
    let (addr, stats) = start().await;
    let mut client = Client::new(addr).await;
    client.ask(CHAT, chat_body("unseen", false)).await;
    assert_eq!(stats.last_requests(), []);
    stats.record_bodies(true);
    for n in 0..40 {
        client.post(CHAT, &format!("X-Turn: {n}\r\n"), &chat_body("m", false)).await;
        client.read().await;
    }
    let seen = stats.last_requests();
    assert_eq!(
        (seen.len(), seen[0].header("x-turn"), seen[31].header("X-TURN")),
        (32, Some("8"), Some("39"))
    );
    let last = stats.last_request().unwrap();
    assert_eq!((last.method.as_str(), last.path.as_str()), ("POST", CHAT));
    assert_eq!(last.body, chat_body("m", false).to_string());
}

/// A dropped sandbox closes its listener and its connections.
#[tokio::test]
async fn dropping_it_ends_it() {
    let sandbox = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (addr, stats) = (sandbox.addr(), sandbox.stats());
    let running = tokio::spawn(sandbox.run());
    let mut client = Client::new(addr).await;
    client.ask(CHAT, chat_body("m", false)).await;
    running.abort();
    assert!(!client.more().await);
    until(|| stats.open_now(), 0).await;
    assert!(TcpStream::connect(addr).await.is_err());
}

proptest::proptest! {
    /// No model name and no body upsets the reading of a request, and what is read keeps within its bounds.
    #[test]
    fn reading_is_total(model in "(fault[-/]|m)?[a-z0-9-]{0,8}(\\+(size|chunks|delay|tokens|fault|x)=?[0-9a-z-]{0,24}){0,4}", body: Vec<u8>) {
        if let Ok(scene) = Scene::read(&model, None, Duration::ZERO) {
            assert!(scene.chunks <= 1_000_000 && scene.delay <= Duration::from_secs(3600));
            assert!(scene.fits(1) && (scene.size.unwrap_or(0) == 0 || !scene.fits(64 * 1024 * 1024 + 1)));
        }
        let named = json!({"model": model, "input": body, "dimensions": body.len()}).to_string();
        for body in [body.as_slice(), named.as_bytes()] {
            if let Ok(ask) = Ask::parse(body) {
                assert!((1..=8).contains(&ask.choices()) && ask.inputs().len() <= body.len());
            }
        }
    }
}

/// A job goes through its states by the clock, has its file at the end, and can be cancelled; others are not there.
#[tokio::test]
async fn video_jobs() {
    let (addr, _) = start().await;
    let mut client = Client::new(addr).await;
    let left =
        client.ask("/v1/videos", json!({"model": "m+job=90", "prompt": "a", "seconds": "8"})).await.json();
    assert_eq!((&left["status"], &left["seconds"]), (&json!("queued"), &json!("8")));
    let path = format!("/v1/videos/{}", left["id"].as_str().unwrap());
    let mut of = async |method: &str, path: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n\r\n");
        client.stream.write_all(head.as_bytes()).await.unwrap();
        client.read().await
    };
    assert_eq!(of("GET", &format!("{path}/content")).await.status, 404);
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(of("GET", &path).await.json()["status"], "completed");
    let file = of("GET", &format!("{path}/content")).await;
    assert!(file.head.contains("video/mp4") && file.complete);
    assert_eq!(of("DELETE", &path).await.json()["status"], "cancelled");
    assert_eq!(of("GET", "/v1/videos/video_zz").await.status, 404);
}
