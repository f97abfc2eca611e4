use super::*;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A sandbox in a runtime of its own; dropped with the test.
async fn sandbox() -> (SocketAddr, Arc<Stats>) {
    let sandbox = Sandbox::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (addr, stats) = (sandbox.addr().unwrap(), sandbox.stats());
    tokio::spawn(sandbox.run());
    (addr, stats)
}

/// Everything that comes back for one request on a connection that ends after it.
async fn ask(addr: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn json(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Goal: the plain answers have OpenAI's shapes.
#[test]
fn honest_answers() {
    run(async {
        let (addr, stats) = sandbox().await;
        let chat = json(&ask(addr, "/v1/chat/completions", r#"{"model":"m+chunks=3","n":2}"#).await);
        assert_eq!(chat["choices"][1]["message"]["content"], "word0 word1 word2 ");
        assert_eq!(chat["usage"]["completion_tokens"], 3);
        let tools = r#"{"model":"m","tools":[{"type":"function","function":{"name":"f"}}]}"#;
        let called = json(&ask(addr, "/chat/completions", tools).await);
        assert_eq!(called["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "f");
        let text = json(&ask(addr, "/v1/completions", r#"{"model":"m","prompt":"x"}"#).await);
        assert_eq!(text["object"], "text_completion");
        let body = r#"{"model":"m","input":["a","b"],"encoding_format":"base64","dimensions":2}"#;
        let embedded = json(&ask(addr, "/v1/embeddings", body).await);
        assert_eq!(embedded["data"][0]["embedding"], "AAAAAClcjz0=");
        let image = json(&ask(addr, "/v1/images/generations", r#"{"model":"m+size=10","prompt":"x"}"#).await);
        assert_eq!(image["data"][0]["b64_json"].as_str().map(str::len), Some(10));
        assert_eq!(stats.requests(), 5);
    });
}

/// Goal: streams have the usage chunk only when asked for, and end as they should.
#[test]
fn honest_streams() {
    run(async {
        let (addr, _) = sandbox().await;
        let plain = ask(addr, "/v1/chat/completions", r#"{"model":"m","stream":true}"#).await;
        assert!(plain.contains("data: [DONE]") && plain.ends_with("0\r\n\r\n") && !plain.contains("usage"));
        let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
        assert!(ask(addr, "/v1/chat/completions", body).await.contains(r#""completion_tokens":8"#));
    });
}

/// Goal: each name of the table is a fault of its own, and a name that is not in it is said to be unknown.
#[test]
fn faults_are_named() {
    run(async {
        let (addr, _) = sandbox().await;
        for (name, expected) in [
            ("status-418", "HTTP/1.1 418"),
            ("overload-anthropic", "HTTP/1.1 529"),
            ("html-200", "<!doctype html>"),
            ("garbage", "what is this?"),
            ("gzip-error", "content-encoding: gzip"),
            ("nonsense", "no fault named nonsense"),
        ] {
            let answer = ask(addr, "/v1/chat/completions", &format!(r#"{{"model":"fault/{name}"}}"#)).await;
            assert!(answer.contains(expected), "{name}: {answer}");
        }
        assert_eq!(ask(addr, "/v1/chat/completions", r#"{"model":"x+fault=close"}"#).await, "");
        let mut names: Vec<_> = fault::FAULTS.iter().map(|fault| fault.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), fault::FAULTS.len());
    });
}

/// Goal: a flaky upstream fails in exactly its share of requests.
#[test]
fn flaky_is_exact() {
    let stats = Stats::default();
    assert_eq!((0..200).filter(|_| !stats.spares("flaky-30")).count(), 60);
}

/// Goal: a client that leaves while it waits is noticed at once.
#[test]
fn hang_ups_are_counted() {
    run(async {
        let (addr, stats) = sandbox().await;
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let body = r#"{"model":"fault/hang"}"#;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nauthorization: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((stats.aborted(), stats.open()), (0, 1));
        drop(stream);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((stats.aborted(), stats.open()), (1, 0));
    });
}
