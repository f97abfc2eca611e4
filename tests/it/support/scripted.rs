//! An upstream that owns its bytes and its time: every answer is a script of the test's.

use super::http;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a gateway asked.
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// One thing that the upstream does.
#[derive(Clone)]
pub(crate) enum Act {
    Write(Vec<u8>),
    Wait(Duration),
    /// Waits until the test says so.
    Until(Arc<AtomicBool>),
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
}

impl Asked {
    /// The model that was asked for, under the upstream's name.
    pub(crate) fn model(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["model"].as_str().unwrap_or_default().to_owned()
    }
}

/// Starts an upstream that answers by `script`; it lives as long as the test's process.
pub(crate) fn start(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = Arc::clone(&script);
            std::thread::spawn(move || serve(stream, &*script));
        }
    });
    addr
}

fn serve(mut stream: TcpStream, script: &dyn Fn(&Asked) -> Vec<Act>) {
    stream.set_nodelay(true).unwrap();
    while let Some(asked) = read_request(&mut stream) {
        for act in script(&asked) {
            let done = match act {
                Act::Write(bytes) => stream.write_all(&bytes).is_err(),
                Act::Wait(time) => {
                    std::thread::sleep(time);
                    false
                }
                Act::Until(said) => {
                    while !said.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    false
                }
                Act::Close => true,
                Act::Reset => {
                    // A reset overtakes bytes that have not been taken in yet.
                    std::thread::sleep(Duration::from_millis(30));
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    true
                }
            };
            if done {
                return;
            }
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        match http::find(&bytes, b"\r\n\r\n") {
            Some(end) => break end,
            None if fill(stream, &mut bytes) == 0 => return None,
            None => {}
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + 4 + length {
        if fill(stream, &mut bytes) == 0 {
            return None;
        }
    }
    Some(Asked { head, body: bytes[end + 4..].to_vec() })
}

fn fill(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> usize {
    let mut piece = [0; 16 * 1024];
    let read = stream.read(&mut piece).unwrap_or(0);
    bytes.extend_from_slice(&piece[..read]);
    read
}

/// A whole answer with its length.
pub(crate) fn whole(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<Act> {
    let mut answer = head(status, headers);
    answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    answer.extend_from_slice(body);
    vec![Act::Write(answer)]
}

/// The head of an answer in chunks.
pub(crate) fn chunked(status: u16, headers: &[(String, String)]) -> Act {
    let mut answer = head(status, headers);
    answer.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    Act::Write(answer)
}

/// One chunk; an empty one is the last.
pub(crate) fn chunk(piece: &[u8]) -> Act {
    let mut framed = format!("{:x}\r\n", piece.len()).into_bytes();
    framed.extend_from_slice(piece);
    framed.extend_from_slice(b"\r\n");
    Act::Write(framed)
}

fn head(status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Whatever\r\n").into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    head
}
