//! A client's HTTP/1.1 connection as the framework reads it, with what the framework does not see to.
//!
//! Reading, it notes when a header begins ([`Connection::header_began`]) and refuses bodies whose framing another reader
//! could take differently ([`RequestFraming`]). Writing, it replaces what the framework answers to malformed HTTP before the
//! first filter runs: that answer names the framework (spec 2.8). Everything else passes.

use super::connections::Connection;
use crate::wire::framing::{Refused, RequestFraming, Violation};
use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The answer to what is no HTTP (spec 2.1).
const MALFORMED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A connection under guard.
#[derive(Debug)]
pub(super) struct GuardedStream {
    inner: Stream,
    connection: Arc<Connection>,
    framing: RequestFraming,
    violation: Option<Violation>,
    answer: Answer,
}

/// What is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The gateway's own bytes.
    Ours,
    /// The framework's answer, replaced by [`MALFORMED`]; so many bytes of it are out.
    Replaced(usize),
}

impl GuardedStream {
    pub(super) fn new(inner: Stream, connection: Arc<Connection>) -> Self {
        Self { inner, connection, framing: RequestFraming::default(), violation: None, answer: Answer::Ours }
    }

    /// Writes the replacement; everything the framework says after it is dropped.
    fn poll_replacement(&mut self, cx: &mut Context<'_>, mut out: usize) -> Poll<io::Result<()>> {
        while let Some(rest) = MALFORMED.get(out..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out += written;
            self.answer = Answer::Replaced(out);
        }
        Poll::Ready(Ok(()))
    }

    /// How far the replacement is, if what is written now is the framework's: no request has reached the gateway.
    fn replacement(&self) -> Option<usize> {
        match self.answer {
            Answer::Replaced(out) => Some(out),
            Answer::Ours => self.connection.is_unclaimed().then_some(0),
        }
    }
}

/// The error of a reader that goes no further; [`crate::proxy`] tells the client that its body is unreadable.
fn refused(violation: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(violation) = self.violation {
            return Poll::Ready(Err(refused(violation)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Err(Refused { at, violation }) = self.framing.push(read) {
            // What precedes it may be a whole header, which its request answers for.
            buf.set_filled(before + at);
            self.violation = Some(violation);
            if at == 0 && self.connection.is_unclaimed() {
                // There is no request to answer for it. A fresh socket takes so few bytes at once; if not, it just closes.
                let _ = self.poll_replacement(cx, 0);
                let _ = Pin::new(&mut self.inner).poll_flush(cx);
            }
            return Poll::Ready(if at == 0 { Err(refused(violation)) } else { Ok(()) });
        }
        if self.framing.is_in_header() {
            self.connection.header_began();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.replacement() {
            Some(out) => self.poll_replacement(cx, out).map_ok(|()| buf.len()),
            None => Pin::new(&mut self.inner).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.replacement() {
            Some(out) => {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.poll_replacement(cx, out).map_ok(|()| len)
            }
            None => Pin::new(&mut self.inner).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for GuardedStream {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for GuardedStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for GuardedStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for GuardedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for GuardedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for GuardedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl Peek for GuardedStream {}
