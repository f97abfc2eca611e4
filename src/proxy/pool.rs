//! The connections to upstreams: where they come from, how a request gets onto one, and where they go afterwards.
//!
//! Over HTTP/1.1 a request goes out with one write of head and body: each write wakes the other side, and that is the dearest
//! thing a relay does (spec 16.1). The framework's client writes the head alone, so only the reading is left to it.

use crate::wire::splice::Spliced;
use bytes::BytesMut;
use pingora::ErrorType::{InvalidHTTPHeader, WriteError, WriteTimedout};
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::{HttpSession as Http1, http_req_header_to_wire};
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::{Error, OrErr};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// Connections that are kept open, over all channels.
pub(crate) const KEPT_MAX: usize = 1_024;
/// Bodies up to this size are sent in one piece with their head, in bytes: one write is worth a copy of a small body.
const JOINED_MAX: usize = 16 * 1024;

/// How much of a larger body one write takes, in bytes.
const PIECE: usize = 256 * 1024;
/// How long one write may take.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The connections to upstreams.
pub(super) struct ConnectionPool {
    /// To peers that are spoken to in HTTP/1.1.
    plain: TransportConnector,
    /// To those where HTTP/2 may come out.
    negotiated: Connector,
}

/// A connection on which a request is, as far as it could be written.
pub(super) struct Begun {
    pub(super) session: HttpSession,
    /// Whether the connection has served before, and may have been closed meanwhile.
    pub(super) reused: bool,
    pub(super) sent: pingora::Result<()>,
}

impl ConnectionPool {
    pub(super) fn new() -> Self {
        let options = ConnectorOptions::new(KEPT_MAX);
        Self {
            plain: TransportConnector::new(Some(options.clone())),
            negotiated: Connector::new(Some(options)),
        }
    }

    /// Takes a connection and sends a request on it; the body is dropped as soon as it is out.
    ///
    /// # Errors
    ///
    /// There is no connection. One that breaks while the request is written is in the [`Begun`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the connection is closed then.
    pub(super) async fn begin(
        &self,
        peer: &HttpPeer,
        head: &RequestHeader,
        body: Spliced,
    ) -> pingora::Result<Begun> {
        if is_plain(peer) {
            let kept = self.plain.reused_stream(peer).await;
            let reused = kept.is_some();
            let mut stream = match kept {
                Some(stream) => stream,
                // What connects is large and rarely needed: on the heap, it does not make every request large.
                None => Box::pin(self.plain.new_stream(peer)).await?,
            };
            let sent = write(&mut stream, head, &body).await;
            let session = HttpSession::H1(Http1::new_with_options(stream, peer));
            return Ok(Begun { session, reused, sent });
        }
        Box::pin(self.negotiate(peer, head, body)).await
    }

    async fn negotiate(
        &self,
        peer: &HttpPeer,
        head: &RequestHeader,
        body: Spliced,
    ) -> pingora::Result<Begun> {
        let (mut session, reused) = self.negotiated.get_http_session(peer).await?;
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        let sent = send(&mut session, head, &body).await;
        Ok(Begun { session, reused, sent })
    }

    /// Keeps a connection whose answer was read to its end for another request, if both sides like that.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the connection is closed then.
    pub(super) async fn keep(&self, session: HttpSession, peer: &HttpPeer) {
        let idle = peer.options.idle_timeout;
        match session {
            HttpSession::H1(mut session) if is_plain(peer) => {
                session.respect_keepalive();
                if let Some(stream) = session.reuse().await {
                    self.plain.release_stream(stream, peer.reuse_hash(), idle);
                }
            }
            session => self.negotiated.release_http_session(session, peer, idle).await,
        }
    }
}

/// Whether nothing but HTTP/1.1 is spoken to a peer.
fn is_plain(peer: &HttpPeer) -> bool {
    peer.options.alpn.get_max_http_version() == 1
}

/// Writes a request in HTTP/1.1.
async fn write(stream: &mut Stream, head: &RequestHeader, body: &Spliced) -> pingora::Result<()> {
    let mut wire = http_req_header_to_wire(head).ok_or_else(|| Error::new(InvalidHTTPHeader))?;
    if body.len() <= JOINED_MAX {
        wire.reserve(body.len());
        body.parts().iter().for_each(|part| wire.extend_from_slice(part));
        in_time(stream.write_all(&wire)).await?;
    } else {
        in_time(stream.write_all(&wire)).await?;
        for piece in body.parts().iter().flat_map(|part| part.chunks(PIECE)) {
            in_time(stream.write_all(piece)).await?;
        }
    }
    in_time(stream.flush()).await
}

/// Waits for one write, which an upstream that does not read can hold up.
async fn in_time(write: impl Future<Output = std::io::Result<()>>) -> pingora::Result<()> {
    match timeout(WRITE_TIMEOUT, write).await {
        Ok(written) => written.or_err(WriteError, "writing a request"),
        Err(_) => Error::e_explain(WriteTimedout, "writing a request"),
    }
}

/// Sends a request in whatever was negotiated.
async fn send(session: &mut HttpSession, head: &RequestHeader, body: &Spliced) -> pingora::Result<()> {
    session.write_request_header(Box::new(head.clone())).await?;
    if (1..=JOINED_MAX).contains(&body.len()) {
        let mut joined = BytesMut::with_capacity(body.len());
        body.parts().iter().for_each(|part| joined.extend_from_slice(part));
        session.write_request_body(joined.freeze(), false).await?;
    } else {
        for part in body.parts() {
            session.write_request_body(part.clone(), false).await?;
        }
    }
    session.finish_request_body().await
}
