//! The request body: read once, counted, under one total deadline, within the memory that all bodies may take together
//! (spec 4.1, 15.1).

use super::Downstream;
use super::admit::Stop;
use super::byte_budget::{ByteBudget, Share};
use super::memory::MemoryLimits;
use super::offload;
use crate::core::refusal::Refusal;
use crate::wire::encoding;
use crate::wire::framing::Violation;
use bytes::Bytes;
use pingora::ErrorType;
use std::sync::Arc;
use std::time::Duration;

/// Why there is no body.
pub(super) enum Unread {
    /// The client made a mistake that it can be told of.
    Refused(Refusal),
    /// The client is gone.
    Gone,
}

/// Bounds of one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The largest body, in bytes, also after decompression.
    pub(super) size: usize,
    /// The whole time that the client may take.
    pub(super) time: Duration,
    /// Memory of the bodies of all requests, in bytes.
    pub(super) total: usize,
    /// The largest ratio of a decompressed body to what arrived.
    pub(super) ratio: usize,
}

/// A body with its part of the memory of all bodies.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    pub(super) memory: Option<Share>,
}

impl From<Bytes> for Received {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, memory: None }
    }
}

/// A body up to this size is always read: connections are bounded, and the framework has a buffer as large for each.
pub(super) const SMALL_MAX: u64 = 64 << 10;
/// The part of the memory of the process that bodies may take where the configuration has no bound.
const MEMORY_SHARE: u64 = 4;
/// What they may always take, in bytes.
const MEMORY_MIN: u64 = 32 << 20;
/// What they may take where the memory of the process is not known, in bytes.
const MEMORY_UNKNOWN: u64 = 1 << 30;

/// The bound on the memory of all bodies where the configuration has none, in bytes.
pub(super) fn memory_max(limits: &MemoryLimits) -> usize {
    let limit = limits.smallest().map_or(MEMORY_UNKNOWN, |limit| (limit / MEMORY_SHARE).max(MEMORY_MIN));
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The size that a body is declared to have, in bytes.
pub(super) fn declared_size(session: &Downstream) -> Option<u64> {
    session.get_header("content-length")?.to_str().ok()?.parse().ok()
}

/// Refuses a body that says it is too large, before anything of it is read.
///
/// # Errors
///
/// [`Refusal::BodyTooLarge`]
pub(super) fn check_declared_size(session: &Downstream, max: usize) -> Result<(), Refusal> {
    let declared = declared_size(session);
    if declared.is_some_and(|declared| usize::try_from(declared).map_or(true, |declared| declared > max)) {
        return Err(Refusal::BodyTooLarge);
    }
    Ok(())
}

/// Reads the whole body; answers `Expect: 100-continue` first.
///
/// # Errors
///
/// [`Unread`]
///
/// # Cancel safety
///
/// What was read is lost; the request cannot go on.
pub(super) async fn read(
    session: &mut Downstream,
    bounds: Bounds,
    budget: &Arc<ByteBudget>,
) -> Result<Received, Unread> {
    if expects_continue(session) && session.write_continue_response().await.is_err() {
        return Err(Unread::Gone);
    }
    match tokio::time::timeout(bounds.time, read_bounded(session, bounds, budget)).await {
        Ok(read) => read,
        Err(_) => Err(Unread::Refused(Refusal::BodyTimeout)),
    }
}

/// Decompresses a body on the pool for blocking work, a few at a time, so that no other request waits for it.
///
/// # Errors
///
/// The refusals of [`encoding::decode`]; [`Failure::Internal`] if it ends in a panic.
///
/// # Cancel safety
///
/// May be dropped; a step that is running is finished.
pub(super) async fn inflate(
    received: Received,
    encoding: Option<&str>,
    bounds: Bounds,
    budget: &Arc<ByteBudget>,
) -> Result<Received, Stop> {
    if encoding::is_identity(encoding) {
        return Ok(received);
    }
    let budget = Arc::clone(budget);
    let encoding = encoding.map(str::to_owned);
    let work = move || {
        let mut memory = budget.try_take(0, bounds.total);
        let has_room = |step| memory.as_mut().is_some_and(|memory| memory.try_grow(step, bounds.total));
        let within = encoding::Bounds { size: bounds.size, ratio: bounds.ratio };
        let bytes = encoding::decode(encoding.as_deref(), received.bytes, within, has_room)?;
        Ok::<_, Refusal>(Received { bytes, memory })
    };
    Ok(offload::run(work).await??)
}

/// Whether the client waits for a word before it sends the body (RFC 9110, 10.1.1).
pub(super) fn expects_continue(session: &Downstream) -> bool {
    session.get_header("expect").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

async fn read_bounded(
    session: &mut Downstream,
    bounds: Bounds,
    budget: &Arc<ByteBudget>,
) -> Result<Received, Unread> {
    let Some(first) = read_piece(session).await? else { return Ok(Bytes::new().into()) };
    within(first.len(), bounds.size)?;
    if session.is_body_done() {
        // One read of the framework, which is a small body.
        return Ok(first.into());
    }
    let declared = declared_size(session).and_then(|size| usize::try_from(size).ok());
    let mut body = Arriving { bytes: Vec::new(), memory: None, declared, bounds, budget };
    body.extend(&first)?;
    while let Some(piece) = read_piece(session).await? {
        body.extend(&piece)?;
    }
    Ok(Received { bytes: body.bytes.into(), memory: body.memory })
}

/// A body of which more is to come.
struct Arriving<'a> {
    bytes: Vec<u8>,
    memory: Option<Share>,
    declared: Option<usize>,
    bounds: Bounds,
    budget: &'a Arc<ByteBudget>,
}

impl Arriving<'_> {
    fn extend(&mut self, piece: &[u8]) -> Result<(), Unread> {
        let needed = self.bytes.len().saturating_add(piece.len());
        within(needed, self.bounds.size)?;
        if needed > self.bytes.capacity() {
            self.grow(needed)?;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Doubles the room, but not beyond what is declared; a client that declares much and sends little takes little.
    fn grow(&mut self, needed: usize) -> Result<(), Unread> {
        let room = needed.max(self.bytes.capacity().saturating_mul(2));
        let room = self.declared.map_or(room, |declared| room.min(declared.max(needed)));
        if u64::try_from(room).is_ok_and(|room| room > SMALL_MAX) {
            let held = self.memory.as_ref().map_or(0, Share::bytes);
            let more = room.saturating_sub(held);
            let fits = match &mut self.memory {
                Some(memory) => memory.try_grow(more, self.bounds.total),
                None => {
                    self.memory = self.budget.try_take(more, self.bounds.total);
                    self.memory.is_some()
                }
            };
            if !fits {
                return Err(Unread::Refused(Refusal::BodiesTooMany));
            }
        }
        // A failed allocation is this request's failure, not the end of the process.
        let allocated = self.bytes.try_reserve_exact(room.saturating_sub(self.bytes.len()));
        allocated.map_err(|_| Unread::Refused(Refusal::BodiesTooMany))
    }
}

fn within(len: usize, max: usize) -> Result<(), Unread> {
    if len > max { Err(Unread::Refused(Refusal::BodyTooLarge)) } else { Ok(()) }
}

/// Whether reading ended because the framing of the body is ambiguous.
fn is_violation(e: &pingora::Error) -> bool {
    let io = e.root_cause().downcast_ref::<std::io::Error>();
    io.and_then(std::io::Error::get_ref).is_some_and(|cause| cause.is::<Violation>())
}

async fn read_piece(session: &mut Downstream) -> Result<Option<Bytes>, Unread> {
    session.read_request_body().await.map_err(|e| match e.etype() {
        ErrorType::ReadError if is_violation(&e) => Unread::Refused(Refusal::BodyUnreadable),
        ErrorType::ConnectionClosed | ErrorType::ReadError => Unread::Gone,
        ErrorType::ReadTimedout => Unread::Refused(Refusal::BodyTimeout),
        _ => Unread::Refused(Refusal::BodyUnreadable),
    })
}
