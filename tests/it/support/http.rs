//! A client that owns its bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One answer, its framing taken off.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing promised.
    pub(crate) complete: bool,
    /// Bytes after the answer.
    pub(crate) rest: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn request_id(&self) -> &str {
        self.header("x-request-id").expect("an answer has a request id")
    }

    /// The data of every event of a stream.
    pub(crate) fn events(&self) -> Vec<String> {
        self.text()
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(str::to_owned)
            .collect()
    }
}

/// A plain GET; `None` if nobody is there.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Option<Reply> {
    exchange(addr, format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n\r\n").as_bytes())
}

/// Sends bytes on a fresh connection and reads one answer.
pub(crate) fn exchange(addr: SocketAddr, request: &[u8]) -> Option<Reply> {
    let mut stream = connect(addr)?;
    // An early refusal may come before everything is written.
    let _ = stream.write_all(request);
    read_reply(&mut stream)
}

pub(crate) fn connect(addr: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Reads one final answer; `None` if the connection ends before there is one.
pub(crate) fn read_reply(stream: &mut impl Read) -> Option<Reply> {
    let mut bytes = Vec::new();
    loop {
        let head = read_head(stream, &mut bytes)?;
        if (200..600).contains(&head.0) {
            return Some(read_body(stream, bytes, head));
        }
    }
}

type Head = (u16, Vec<(String, String)>);

/// Reads a head and leaves what follows it in `bytes`.
fn read_head(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Option<Head> {
    loop {
        if let Some(end) = find(bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end + 4);
            let mut lines = head.lines();
            let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
            let field = |line: &str| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            };
            return Some((status, lines.filter_map(field).collect()));
        }
        if fill(stream, bytes) == 0 {
            return None;
        }
    }
}

fn read_body(stream: &mut impl Read, mut bytes: Vec<u8>, (status, headers): Head) -> Reply {
    let header = |name: &str| headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
    let (body, complete) = if status == 204 {
        (Vec::new(), true)
    } else if header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        read_chunked(stream, &mut bytes)
    } else if let Some(length) = header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        while bytes.len() < length && fill(stream, &mut bytes) > 0 {}
        let complete = bytes.len() >= length;
        (bytes.drain(..length.min(bytes.len())).collect(), complete)
    } else {
        while fill(stream, &mut bytes) > 0 {}
        (std::mem::take(&mut bytes), true)
    };
    Reply { status, headers, body, complete, rest: bytes }
}

fn read_chunked(stream: &mut impl Read, bytes: &mut Vec<u8>) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(bytes, b"\r\n") else {
            if fill(stream, bytes) == 0 {
                return (body, false);
            }
            continue;
        };
        let size = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16).expect("a chunk size");
        while bytes.len() < end + 2 + size + 2 {
            if fill(stream, bytes) == 0 {
                return (body, false);
            }
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes.drain(..end + 2 + size + 2);
        if size == 0 {
            return (body, true);
        }
    }
}

fn fill(stream: &mut impl Read, bytes: &mut Vec<u8>) -> usize {
    let mut piece = [0; 16 * 1024];
    let read = stream.read(&mut piece).unwrap_or(0);
    bytes.extend_from_slice(&piece[..read]);
    read
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
