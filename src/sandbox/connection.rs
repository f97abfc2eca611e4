//! One connection: requests in, raw bytes out.

use bytes::{Bytes, BytesMut};
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEAD_MAX: usize = 64 * 1024;
const BODY_MAX: usize = 64 * 1024 * 1024;
const FIELDS_MAX: usize = 128;

/// A request as it arrived.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) keep_alive: bool,
}

impl Request {
    /// The first field of this name, which is given in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A connection of a client.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(8 * 1024) }
    }

    /// The next request; `None` when the client is done.
    pub(super) async fn read_request(&mut self) -> io::Result<Option<Request>> {
        let mut request = loop {
            if let Some(request) = parse_head(&mut self.buffer)? {
                break request;
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        };
        if request.header("expect").is_some() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        request.body = match request.header("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) if length <= BODY_MAX => self.read_exactly(length).await?,
            Some(_) => return Err(ErrorKind::InvalidData.into()),
            None if request.header("transfer-encoding").is_some() => self.read_chunked().await?,
            None => Bytes::new(),
        };
        Ok(Some(request))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(8 * 1024);
        self.stream.read_buf(&mut self.buffer).await
    }

    async fn read_exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn read_chunked(&mut self) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let line = self.read_line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.map_err(|_| ErrorKind::InvalidData)?;
            if body.len() + size > BODY_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            body.extend_from_slice(&self.read_exactly(size).await?);
            self.read_line().await?;
            if size == 0 {
                return Ok(body.freeze());
            }
        }
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Ok(String::from_utf8_lossy(line.trim_ascii()).into_owned());
            }
            if self.buffer.len() > HEAD_MAX || self.fill().await? == 0 {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }

    /// Writes bytes as they are.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Writes a whole JSON answer, header and body in one.
    pub(super) async fn json(&mut self, status: u16, body: &str) -> io::Result<()> {
        self.reply(status, &[("content-type", "application/json")], body.as_bytes()).await
    }

    /// Writes a whole answer with its length.
    pub(super) async fn reply(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut out = head(status, fields, Some(body.len())).into_bytes();
        out.extend_from_slice(body);
        self.write(&out).await
    }

    /// Waits, unless the client leaves, which is an error.
    pub(super) async fn pause(&mut self, pause: Duration) -> io::Result<()> {
        if pause.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            read = self.stream.read_buf(&mut self.buffer) => match read? {
                0 => Err(ErrorKind::ConnectionAborted.into()),
                // The next request is there already; it waits, and so do we.
                _ => { tokio::time::sleep(pause).await; Ok(()) }
            },
        }
    }

    /// Ends the connection with a reset.
    #[allow(deprecated, reason = "a linger of zero does not block; it is how a reset is sent")]
    pub(super) fn reset(&mut self) -> io::Result<()> {
        self.stream.set_linger(Some(Duration::ZERO))
    }
}

/// The head of an answer; without a length the caller frames the body.
pub(super) fn head(status: u16, fields: &[(&str, &str)], length: Option<usize>) -> String {
    let mut head =
        format!("HTTP/1.1 {status} x\r\nx-request-id: req_sandbox\r\nopenai-organization: org-sandbox\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// Takes a complete request head off the buffer.
fn parse_head(buffer: &mut BytesMut) -> io::Result<Option<Request>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() < HEAD_MAX => return Ok(None),
        _ => return Err(ErrorKind::InvalidData.into()),
    };
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned()))
        .collect();
    let closes =
        headers.iter().any(|(name, value)| name == "connection" && value.eq_ignore_ascii_case("close"));
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        keep_alive: !closes && parsed.version == Some(1),
        headers,
        body: Bytes::new(),
    };
    let _ = buffer.split_to(length);
    Ok(Some(request))
}
