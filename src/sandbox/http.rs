//! HTTP/1.1 as the sandbox speaks it: requests read from a socket, answers written to it.
//!
//! The sandbox owns every byte and every pause, because its faults are about bytes and pauses; that is why no HTTP
//! server library stands here. Framing of requests is strict (one length, or chunked, never both), so that a gateway
//! that sends something ambiguous is found out. Always holds: a head is at most 64 KiB and a body at most 64 MiB.
//! Absent: HTTP/2, TLS, trailers (read and dropped), time limits on a client that sends slowly.

use std::io::{self, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stats::Recorded;
use crate::wire::multipart::Boundary;

/// The largest request head, bytes.
const HEAD_MAX: usize = 64 * 1024;
/// The largest request body, bytes.
const BODY_MAX: usize = 64 * 1024 * 1024;
/// How much a client may send ahead while an answer is under way; past it the sandbox stops watching for a hang-up.
const AHEAD_MAX: usize = 1024 * 1024;
/// Header lines read of one request.
const HEADER_LINES: usize = 128;

/// Why no request came out of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRequest {
    /// The client closed between requests.
    Closed,
    /// The client closed in the middle of a request.
    Cut,
    /// The bytes are refused with this status, and the connection is closed after it.
    Refused(u16),
}

/// A request read to its last byte.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) authorized: bool,
    /// The value of `x-sandbox-fault`.
    pub(super) fault: Option<String>,
    /// What separates the parts of the body, where it says that it is a form.
    pub(super) form: Option<Boundary>,
    pub(super) keep_alive: bool,
    /// HTTP/1.0 clients know no chunked answers.
    pub(super) chunked_ok: bool,
    pub(super) body: Bytes,
    head: Bytes,
}

impl Request {
    /// The request as a test wants to see it; parses the head again, which only a recording sandbox pays for.
    pub(super) fn recorded(&self) -> Recorded {
        let mut lines = [httparse::EMPTY_HEADER; HEADER_LINES];
        let mut parsed = httparse::Request::new(&mut lines);
        // The head parsed once already; a failure here would only leave the headers out.
        let _ = parsed.parse(&self.head);
        let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
        let headers = parsed.headers.iter().filter(|h| !h.name.is_empty());
        Recorded {
            method: self.method.clone(),
            path: self.target.clone(),
            headers: headers.map(|h| (h.name.to_owned(), text(h.value))).collect(),
            body: self.body.clone(),
        }
    }
}

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// What the head lines say beyond the request itself.
struct Lines {
    length: Option<usize>,
    chunked: bool,
    expects: bool,
    close: bool,
    keep: bool,
    authorized: bool,
    fault: Option<String>,
    form: Option<Boundary>,
}

impl Lines {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Lines, NoRequest> {
        let mut lines = Lines {
            length: None,
            chunked: false,
            expects: false,
            close: false,
            keep: false,
            authorized: false,
            fault: None,
            form: None,
        };
        for header in headers {
            lines.take(header)?;
        }
        Ok(lines)
    }

    fn take(&mut self, header: &httparse::Header<'_>) -> Result<(), NoRequest> {
        let named = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = header.value.trim_ascii();
        if named("content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            if length.is_none() || self.length.is_some_and(|l| Some(l) != length) {
                return Err(NoRequest::Refused(400));
            }
            self.length = length;
        } else if named("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(NoRequest::Refused(400));
            }
            self.chunked = true;
        } else if named("connection") {
            for token in value.split(|b| *b == b',') {
                self.close |= token.trim_ascii().eq_ignore_ascii_case(b"close");
                self.keep |= token.trim_ascii().eq_ignore_ascii_case(b"keep-alive");
            }
        } else if named("expect") {
            self.expects = value.eq_ignore_ascii_case(b"100-continue");
        } else if named("authorization") {
            self.authorized = !value.is_empty();
        } else if named("content-type") {
            let form = std::str::from_utf8(value).ok().and_then(Boundary::of).transpose();
            self.form = form.map_err(|_| NoRequest::Refused(400))?;
        } else if named("x-sandbox-fault") {
            self.fault = Some(String::from_utf8_lossy(value).into_owned());
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, NoRequest> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(NoRequest::Refused(400)),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) if length > BODY_MAX => Err(NoRequest::Refused(413)),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// One client connection: the socket and what was read ahead of it.
pub(super) struct Conn {
    stream: TcpStream,
    buf: BytesMut,
}

impl Conn {
    pub(super) fn new(stream: TcpStream) -> Conn {
        // Each write is meant to leave at once; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        Conn { stream, buf: BytesMut::with_capacity(16 * 1024) }
    }

    /// Reads the next request.
    pub(super) async fn request(&mut self) -> Result<Request, NoRequest> {
        let head = self.head().await?;
        let (mut request, framing, expects) = parse(head)?;
        if expects && self.buf.is_empty() && framing != Framing::Length(0) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| NoRequest::Cut)?;
        }
        request.body = match framing {
            Framing::Length(length) => self.take(length).await?,
            Framing::Chunked => self.chunked_body().await?,
        };
        Ok(request)
    }

    async fn head(&mut self) -> Result<Bytes, NoRequest> {
        let mut seen = 0usize;
        loop {
            // Some clients put an empty line between pipelined requests.
            while seen == 0 && self.buf.starts_with(b"\r\n") {
                let _ = self.buf.split_to(2);
            }
            let unseen = self.buf.get(seen..).unwrap_or_default();
            if let Some(at) = memchr::memmem::find(unseen, b"\r\n\r\n") {
                return Ok(self.buf.split_to(seen + at + 4).freeze());
            }
            if self.buf.len() > HEAD_MAX {
                return Err(NoRequest::Refused(431));
            }
            seen = self.buf.len().saturating_sub(3);
            let idle = self.buf.is_empty();
            self.more().await.map_err(|_| if idle { NoRequest::Closed } else { NoRequest::Cut })?;
        }
    }

    /// Reads some bytes; the end of input is an error.
    async fn more(&mut self) -> io::Result<()> {
        self.buf.reserve(4096);
        match self.stream.read_buf(&mut self.buf).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn take(&mut self, length: usize) -> Result<Bytes, NoRequest> {
        while self.buf.len() < length {
            self.more().await.map_err(|_| NoRequest::Cut)?;
        }
        Ok(self.buf.split_to(length).freeze())
    }

    async fn chunked_body(&mut self) -> Result<Bytes, NoRequest> {
        let mut body = BytesMut::new();
        loop {
            let size = self.chunk_size().await?;
            if size == 0 {
                self.skip_trailers().await?;
                return Ok(body.freeze());
            }
            if size > BODY_MAX - body.len() {
                return Err(NoRequest::Refused(413));
            }
            body.extend_from_slice(&self.take(size).await?);
            if self.take(2).await? != b"\r\n"[..] {
                return Err(NoRequest::Refused(400));
            }
        }
    }

    async fn chunk_size(&mut self) -> Result<usize, NoRequest> {
        loop {
            match httparse::parse_chunk_size(&self.buf) {
                Ok(httparse::Status::Complete((used, size))) => {
                    let _ = self.buf.split_to(used);
                    return usize::try_from(size).map_err(|_| NoRequest::Refused(413));
                }
                Ok(httparse::Status::Partial) if self.buf.len() < HEAD_MAX => {
                    self.more().await.map_err(|_| NoRequest::Cut)?;
                }
                _ => return Err(NoRequest::Refused(400)),
            }
        }
    }

    async fn skip_trailers(&mut self) -> Result<(), NoRequest> {
        let mut dropped = 0;
        loop {
            match memchr::memmem::find(&self.buf, b"\r\n") {
                Some(end) => {
                    let _ = self.buf.split_to(end + 2);
                    dropped += end + 2;
                    if end == 0 {
                        return Ok(());
                    }
                }
                None => self.more().await.map_err(|_| NoRequest::Cut)?,
            }
            if dropped + self.buf.len() > AHEAD_MAX {
                return Err(NoRequest::Refused(431));
            }
        }
    }

    /// Writes all bytes in as few writes as the socket allows.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits, and fails at once when the client goes away meanwhile.
    ///
    /// # Cancel safety
    /// Bytes that arrive during the wait are kept for the next request.
    pub(super) async fn pause(&mut self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        let sleep = tokio::time::sleep(time);
        tokio::pin!(sleep);
        loop {
            let watching = self.buf.len() < AHEAD_MAX;
            tokio::select! {
                () = &mut sleep => return Ok(()),
                read = self.more(), if watching => read?,
            }
        }
    }

    /// Ends the connection with a reset in place of an orderly close.
    pub(super) fn reset(self) {
        // Without the option the close is orderly; nothing else can be done about it here.
        let _ = self.stream.set_zero_linger();
    }

    /// Closes after an answer to a request that was not read to its end.
    ///
    /// Closing with unread input makes the kernel send a reset, which can overtake the answer; so input is dropped on
    /// the floor for a moment first.
    pub(super) async fn linger(mut self) {
        let drain = async {
            self.stream.shutdown().await?;
            loop {
                self.buf.clear();
                self.more().await?;
            }
        };
        let _: Result<io::Result<()>, _> = tokio::time::timeout(Duration::from_millis(500), drain).await;
    }
}

fn parse(head: Bytes) -> Result<(Request, Framing, bool), NoRequest> {
    let mut lines = [httparse::EMPTY_HEADER; HEADER_LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    match parsed.parse(&head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(NoRequest::Refused(431)),
        _ => return Err(NoRequest::Refused(400)),
    }
    let found = Lines::read(parsed.headers)?;
    let framing = found.framing()?;
    let modern = parsed.version == Some(1);
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        authorized: found.authorized,
        fault: found.fault,
        form: found.form,
        keep_alive: !found.close && (modern || found.keep),
        chunked_ok: modern,
        body: Bytes::new(),
        head: head.clone(),
    };
    Ok((request, framing, found.expects && modern))
}

/// An answer with a known length.
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    pub(super) content_type: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
    pub(super) keep_alive: bool,
}

impl Reply<'_> {
    /// Head and body as one run of bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes_claiming(self.body.len())
    }

    /// The same, with a `Content-Length` that need not be true.
    pub(super) fn bytes_claiming(&self, length: usize) -> Vec<u8> {
        let bodiless = self.status == 204 || self.status == 304;
        let mut out = head(self.status, self.content_type, self.headers, self.keep_alive, self.body.len());
        if !bodiless {
            let _ = write!(out, "content-length: {length}\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !bodiless {
            out.extend_from_slice(self.body);
        }
        out
    }
}

/// A head without its framing line and without the empty line that ends it; `room` bytes are reserved for a body.
pub(super) fn head(
    status: u16,
    content_type: &str,
    headers: &[(&str, &str)],
    keep_alive: bool,
    room: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + room);
    let known = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", known.unwrap_or("Unknown"));
    if !content_type.is_empty() {
        let _ = write!(out, "content-type: {content_type}\r\n");
    }
    for (name, value) in headers {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    if !keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out
}
