//! The request body: read once, counted, under one total deadline (spec 4.1, 15.1).

use super::Downstream;
use crate::core::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use pingora::ErrorType;
use std::time::Duration;

/// Why there is no body.
pub(super) enum Unread {
    /// The client made a mistake that it can be told of.
    Refused(Refusal),
    /// The client is gone.
    Gone,
}

/// Refuses a body that says it is too large, before anything of it is read.
///
/// # Errors
///
/// [`Refusal::BodyTooLarge`]
pub(super) fn check_declared_size(session: &Downstream, max: usize) -> Result<(), Refusal> {
    let declared =
        session.get_header("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
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
pub(super) async fn read(session: &mut Downstream, max: usize, patience: Duration) -> Result<Bytes, Unread> {
    if expects_continue(session) && session.write_continue_response().await.is_err() {
        return Err(Unread::Gone);
    }
    match tokio::time::timeout(patience, read_bounded(session, max)).await {
        Ok(read) => read,
        Err(_) => Err(Unread::Refused(Refusal::BodyTimeout)),
    }
}

/// Whether the client waits for a word before it sends the body (RFC 9110, 10.1.1).
pub(super) fn expects_continue(session: &Downstream) -> bool {
    session.get_header("expect").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

async fn read_bounded(session: &mut Downstream, max: usize) -> Result<Bytes, Unread> {
    let Some(first) = read_piece(session).await? else { return Ok(Bytes::new()) };
    if session.is_body_done() {
        return within(first.len(), max).map(|()| first);
    }
    let mut body = BytesMut::from(first);
    while let Some(piece) = read_piece(session).await? {
        within(body.len() + piece.len(), max)?;
        body.extend_from_slice(&piece);
    }
    within(body.len(), max).map(|()| body.freeze())
}

fn within(len: usize, max: usize) -> Result<(), Unread> {
    if len > max { Err(Unread::Refused(Refusal::BodyTooLarge)) } else { Ok(()) }
}

async fn read_piece(session: &mut Downstream) -> Result<Option<Bytes>, Unread> {
    session.read_request_body().await.map_err(|e| match e.etype() {
        ErrorType::ConnectionClosed | ErrorType::ReadError => Unread::Gone,
        ErrorType::ReadTimedout => Unread::Refused(Refusal::BodyTimeout),
        _ => Unread::Refused(Refusal::BodyUnreadable),
    })
}
