//! A raw-socket client for the tests: framing is checked byte by byte, and not by a forgiving library.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// An answer, with the framing taken off and checked.
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// The chunks, for chunked answers.
    pub(super) chunks: Vec<Vec<u8>>,
    /// The body ended as its framing said.
    pub(super) complete: bool,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The data of all events; `[DONE]` becomes a string.
    pub(super) fn events(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.body).unwrap().replace("\r\n", "\n");
        let data = text.split("\n\n").filter_map(|e| e.strip_prefix("data: "));
        data.map(|d| serde_json::from_str(d).unwrap_or_else(|_| d.into())).collect()
    }

    /// The content deltas of the first choice, joined.
    pub(super) fn content(&self) -> String {
        let events = self.events();
        events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect()
    }
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) buf: Vec<u8>,
}

impl Client {
    pub(super) async fn new(addr: SocketAddr) -> Client {
        Client { stream: TcpStream::connect(addr).await.unwrap(), buf: Vec::new() }
    }

    pub(super) async fn post(&mut self, path: &str, extra: &str, body: &Value) {
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer x\r\n{extra}Content-Length: {length}\r\n\r\n"
        );
        self.stream.write_all((head + &body).as_bytes()).await.unwrap();
    }

    pub(super) async fn ask(&mut self, path: &str, body: Value) -> Got {
        self.post(path, "", &body).await;
        self.read().await
    }

    pub(super) async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buf).await, Ok(n) if n > 0)
    }

    pub(super) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.buf, b"\r\n") {
                let line: Vec<u8> = self.buf.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub(super) async fn take(&mut self, count: usize) -> (Vec<u8>, bool) {
        while self.buf.len() < count && self.more().await {}
        let whole = self.buf.len() >= count;
        (self.buf.drain(..count.min(self.buf.len())).collect(), whole)
    }

    pub(super) async fn read(&mut self) -> Got {
        let mut head = String::new();
        loop {
            let line = self.line().await.expect("a head");
            if line.is_empty() {
                break;
            }
            head.push_str(&line.to_ascii_lowercase());
            head.push('\n');
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut got = Got { status, head, body: Vec::new(), chunks: Vec::new(), complete: true };
        let length =
            got.head.lines().find_map(|l| l.strip_prefix("content-length: ")).map(|l| l.parse().unwrap());
        if let Some(length) = length {
            (got.body, got.complete) = self.take(length).await;
        } else if got.head.contains("transfer-encoding: chunked") {
            self.chunked(&mut got).await;
        } else if status >= 200 {
            while self.more().await {}
            got.body = std::mem::take(&mut self.buf);
        }
        got
    }

    pub(super) async fn chunked(&mut self, got: &mut Got) {
        loop {
            let Some(size) = self.line().await else {
                got.complete = false;
                return;
            };
            let size = usize::from_str_radix(&size, 16).expect("a chunk size");
            let (mut chunk, whole) = self.take(size + 2).await;
            if whole {
                assert_eq!(chunk.split_off(size), b"\r\n");
            }
            got.body.extend_from_slice(&chunk);
            got.complete = whole;
            if size == 0 || !whole {
                return;
            }
            got.chunks.push(chunk);
        }
    }
}

pub(super) async fn start() -> (SocketAddr, Arc<Stats>) {
    let sandbox = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let found = (sandbox.addr(), sandbox.stats());
    tokio::spawn(sandbox.run());
    found
}

pub(super) const CHAT: &str = "/v1/chat/completions";

pub(super) async fn chat(model: &str, stream: bool) -> Got {
    let (addr, _) = start().await;
    Client::new(addr).await.ask(CHAT, chat_body(model, stream)).await
}

pub(super) fn chat_body(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// Waits until a counter reaches a value; a second is far more than it should take.
pub(super) async fn until(counter: impl Fn() -> u64, value: u64) {
    let start = Instant::now();
    while counter() != value {
        assert!(start.elapsed() < Duration::from_secs(1), "the counter is {} and not {value}", counter());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
