//! One exchange with one upstream: send the request, wait for the header of the answer, read its body.
//!
//! Everything that can go wrong on the way becomes a verdict here; what an answer *means* is judged elsewhere. The
//! exchange owns its connection: it goes back to the pool only after the answer was read to its end.

use super::pool::{Begun, ConnectionPool};
use super::replay::Payload;
use super::upstream::Channel;
use crate::core::failure::{Accepted, Class, Verdict};
use crate::wire::inflate::Inflater;
use bytes::{Bytes, BytesMut};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, RetryType};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Stale pooled connections that are replaced without counting as an attempt (spec 10.3).
const STALE_MAX: usize = 3;
/// How long an upstream that stopped reading may take to say why.
const EARLY_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of an error body is read, and for how long (spec 3.1).
pub(crate) const ERROR_BODY_MAX: usize = 64 * 1024;
pub(crate) const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Informational answers that are skipped before the real one.
const INFORMATIONAL_MAX: usize = 8;

/// When an exchange has to have got how far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// The answer's whole header has to be there within this, however slowly it comes.
    pub(super) first_byte: Duration,
    /// Between two reads of the body, before content and after; any byte counts (spec 10.2).
    pub(super) idle: Duration,
    /// When a stream that shows life commits as it is (spec 10.1); not before `total` for what is no stream.
    pub(super) commit: Instant,
    /// Everything, the answer included.
    pub(super) total: Instant,
}

/// What is sent.
#[derive(Clone, Copy)]
pub(super) struct Sending<'a> {
    pub(super) head: &'a RequestHeader,
    pub(super) body: &'a Payload<'a>,
    /// Whether it may be sent again on a fresh connection; what must not be done twice may not, since an upstream can read
    /// a request and close its connection without a word.
    pub(super) repeatable: bool,
}

/// An upstream that has begun to answer.
pub(super) struct Exchange {
    session: HttpSession,
    pool: Arc<ConnectionPool>,
    peer: Arc<HttpPeer>,
    coding: Coding,
}

/// How the body is encoded, by its first byte: the header is not believed, and nobody asked for an encoding.
enum Coding {
    /// Nothing has arrived, or its answer is a failure, whose body is decoded by whoever reads it.
    Unknown,
    Plain,
    Gzip(Box<Inflater>),
}

/// What can go wrong on the way; the names are rows of the operator's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    NoAddress,
    Connect,
    ConnectTimeout,
    Tls,
    Write,
    FirstByteTimeout,
    IdleTimeout,
    TotalTimeout,
    Closed,
    BadHttp,
    BadEncoding,
}

impl Trouble {
    /// The verdict on an exchange that broke before its answer could be judged.
    pub(super) fn verdict(self) -> Verdict {
        let rule = match self {
            Self::NoAddress => "transport: no address",
            Self::Connect => "transport: connect failed",
            Self::ConnectTimeout => "transport: connect timed out",
            Self::Tls => "transport: TLS failed",
            Self::Write => "transport: write failed",
            Self::FirstByteTimeout => "transport: no first byte in time",
            Self::IdleTimeout => "transport: stalled",
            Self::TotalTimeout => "transport: took too long",
            Self::Closed => "transport: connection closed",
            Self::BadHttp => "transport: not HTTP",
            Self::BadEncoding => "transport: broken gzip",
        };
        let class = match self {
            Self::NoAddress | Self::Tls => Class::Misconfigured,
            _ => Class::Broken,
        };
        let unsent = matches!(self, Self::NoAddress | Self::Connect | Self::ConnectTimeout | Self::Tls);
        let accepted = if unsent { Accepted::No } else { Accepted::Perhaps };
        Verdict { accepted, ..Verdict::new(class, rule) }
    }

    fn of_connect(error: &Error) -> Self {
        match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Self::ConnectTimeout,
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => Self::Tls,
            _ => Self::Connect,
        }
    }

    fn of_read(error: &Error, timed_out: Self) -> Self {
        match error.etype() {
            ErrorType::ReadTimedout => timed_out,
            ErrorType::InvalidHTTPHeader | ErrorType::H1Error => Self::BadHttp,
            _ => Self::Closed,
        }
    }
}

/// A failure to begin, and whether a pooled connection that had gone stale is to blame.
struct Stumble {
    trouble: Trouble,
    stale: bool,
}

/// Sends a request and waits for the header of its answer.
///
/// # Errors
///
/// The [`Trouble`] that kept an answer from coming.
///
/// # Cancel safety
///
/// May be dropped; the connection is closed then, which is how an upstream is cancelled (spec 10.5).
pub(super) async fn begin(
    pool: &Arc<ConnectionPool>,
    channel: &Channel,
    sending: Sending<'_>,
    deadlines: Deadlines,
) -> Result<Box<Exchange>, Trouble> {
    for _ in 0..STALE_MAX {
        match timeout_at(deadlines.total, once(pool, channel, sending, deadlines)).await {
            Err(_) => return Err(Trouble::TotalTimeout),
            Ok(Err(stumble)) if stumble.stale && sending.repeatable => {}
            Ok(begun) => return begun.map_err(|stumble| stumble.trouble),
        }
    }
    Err(Trouble::Closed)
}

async fn once(
    pool: &Arc<ConnectionPool>,
    channel: &Channel,
    sending: Sending<'_>,
    deadlines: Deadlines,
) -> Result<Box<Exchange>, Stumble> {
    let fresh = |trouble| Stumble { trouble, stale: false };
    let peer = channel.peer().await.ok_or(fresh(Trouble::NoAddress))?;
    let begun = pool.begin(&peer, sending.head, sending.body.spliced()).await;
    let Begun { mut session, reused, sent } = begun.map_err(|e| fresh(Trouble::of_connect(&e)))?;
    sending.body.was_sent();
    session.set_read_timeout(Some(deadlines.first_byte));
    if sent.is_err() {
        // The upstream may have answered before it stopped reading; that answer says more than the broken pipe.
        let early = timeout(EARLY_ANSWER_TIMEOUT, read_header(&mut session)).await;
        if !matches!(early, Ok(Ok(()))) {
            return Err(Stumble { trouble: Trouble::Write, stale: reused });
        }
    } else if let Err(e) = read_header(&mut session).await {
        let stale =
            reused && matches!(e.retry, RetryType::ReusedOnly) && *e.etype() != ErrorType::ReadTimedout;
        return Err(Stumble { trouble: Trouble::of_read(&e, Trouble::FirstByteTimeout), stale });
    }
    session.set_read_timeout(Some(deadlines.idle));
    Ok(Box::new(Exchange { session, pool: Arc::clone(pool), peer, coding: Coding::Unknown }))
}

/// Reads the header of the final answer.
async fn read_header(session: &mut HttpSession) -> pingora::Result<()> {
    for _ in 0..INFORMATIONAL_MAX {
        session.read_response_header().await?;
        if session.response_header().is_none_or(|header| !header.status.is_informational()) {
            return Ok(());
        }
    }
    Error::e_explain(ErrorType::InvalidHTTPHeader, "too many informational answers")
}

impl Exchange {
    /// The header of the answer.
    ///
    /// # Errors
    ///
    /// [`Trouble::BadHttp`], which cannot be once an exchange has begun.
    pub(super) fn header(&self) -> Result<&ResponseHeader, Trouble> {
        self.session.response_header().ok_or(Trouble::BadHttp)
    }

    /// The next piece of the body; `None` at its proper end.
    ///
    /// # Errors
    ///
    /// The [`Trouble`] that cut it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; no byte is lost.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            if let Coding::Gzip(inflater) = &mut self.coding {
                match inflater.next_part().map_err(|_| Trouble::BadEncoding)? {
                    Some(part) if part.is_empty() => continue,
                    Some(part) => return Ok(Some(part)),
                    None => {}
                }
            }
            let read = self.session.read_response_body().await;
            match read.map_err(|e| Trouble::of_read(&e, Trouble::IdleTimeout))? {
                Some(piece) if piece.is_empty() => {
                    if self.session.response_done() {
                        return self.end();
                    }
                }
                None => return self.end(),
                Some(piece) => {
                    if let Some(piece) = self.decoded(piece) {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    /// A piece as it is used, unless it is compressed and waits to be inflated.
    fn decoded(&mut self, piece: Bytes) -> Option<Bytes> {
        if matches!(self.coding, Coding::Unknown) {
            let good = self.session.response_header().is_some_and(|header| header.status.is_success());
            self.coding = match good && Inflater::is_due(&piece) {
                true => Coding::Gzip(Box::default()),
                false => Coding::Plain,
            };
        }
        match &mut self.coding {
            Coding::Gzip(inflater) => {
                inflater.push(piece);
                None
            }
            Coding::Unknown | Coding::Plain => Some(piece),
        }
    }

    /// The end of the body, which may have a rest before it.
    fn end(&mut self) -> Result<Option<Bytes>, Trouble> {
        match std::mem::replace(&mut self.coding, Coding::Plain) {
            Coding::Gzip(inflater) => {
                let rest = inflater.finish().map_err(|_| Trouble::Closed)?;
                Ok((!rest.is_empty()).then_some(rest))
            }
            Coding::Unknown | Coding::Plain => Ok(None),
        }
    }

    /// Whether nothing of the body is left to read.
    pub(super) fn is_done(&mut self) -> bool {
        let drained = match &self.coding {
            Coding::Gzip(inflater) => inflater.is_drained(),
            Coding::Unknown | Coding::Plain => true,
        };
        drained && self.session.response_done()
    }

    /// Reads the body of an error, as far as bounds allow (spec 3.1); what was read before a cut counts.
    ///
    /// # Cancel safety
    ///
    /// What was read is lost.
    pub(super) async fn read_error_body(&mut self, mut body: BytesMut) -> Bytes {
        let reading = async {
            while body.len() < ERROR_BODY_MAX {
                match self.read().await {
                    Ok(Some(piece)) => body.extend_from_slice(&piece),
                    Ok(None) | Err(_) => break,
                }
            }
        };
        let _ = timeout(ERROR_BODY_TIMEOUT, reading).await;
        body.truncate(ERROR_BODY_MAX);
        body.freeze()
    }

    /// Gives the connection back: to the pool if the answer was read to its end, else closed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the connection is closed then.
    pub(super) async fn close(mut self: Box<Self>) {
        if self.session.response_done() {
            let Self { session, pool, peer, .. } = *self;
            pool.keep(session, &peer).await;
        } else {
            self.session.shutdown().await;
        }
    }
}
