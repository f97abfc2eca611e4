//! Answers of the gateway's own, and the headers that every answer carries (spec 2.7).

use super::body::expects_continue;
use super::{Ctx, Cut, Downstream, attempt, clock};
use crate::config::mint;
use crate::core::failure::Class;
use crate::core::limits::Dimension;
use crate::core::refusal::{Failure, Refusal};
use crate::telemetry::record::End;
use crate::wire::cors::Field;
use crate::wire::credential;
use crate::wire::endpoint::Call;
use crate::wire::error::{Code, Dialect, PublicError};
use crate::wire::ratelimit;
use crate::wire::sanitize::is_model_name;
use crate::wire::secrets::without_secrets;
use crate::wire::stream::{EventStream, Expected, StreamOptions};
use bytes::Bytes;
use http::HeaderValue;
use pingora::http::ResponseHeader;
use std::borrow::Cow;
use std::time::Duration;

/// How long the rest of an unwanted body is read before the connection is closed, so that the client sees the answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The name for models that are not configured, as in metrics.
const OTHER: &str = "other";

/// The header of an answer with what every answer carries.
///
/// # Errors
///
/// Never for the statuses and values that the gateway uses.
pub(super) fn header(ctx: &Ctx, status: u16, content_type: &str) -> pingora::Result<Box<ResponseHeader>> {
    let mut header = ResponseHeader::build_no_case(status, Some(12))?;
    for (name, value) in &ctx.passed {
        header.append_header(name.clone(), value.clone())?;
    }
    header.insert_header("content-type", content_type)?;
    header.insert_header("x-request-id", &*ctx.record.request_id)?;
    if ctx.dialect == Dialect::Anthropic {
        header.insert_header("request-id", &*ctx.record.request_id)?;
    }
    header.insert_header("cache-control", "no-store")?;
    for (name, value) in &ctx.cors {
        header.insert_header(name.clone(), value.clone())?;
    }
    let admission = ctx.admission.as_ref();
    let requests = admission.and_then(|admission| admission.tightest_requests());
    let tokens = admission.and_then(|admission| admission.tightest_tokens());
    let fields = requests.map(|standing| ratelimit::request_headers(&standing)).into_iter();
    for (name, value) in fields.chain(tokens.map(|standing| ratelimit::token_headers(&standing))).flatten() {
        header.insert_header(name, value)?;
    }
    Ok(Box::new(header))
}

/// Answers with a failure's public face (spec 2) and notes the precise one for the operator.
///
/// # Errors
///
/// [`Cut`] if the client cannot be reached any more.
///
/// # Cancel safety
///
/// Must be run to its end; a half-written answer leaves the connection unusable.
pub(super) async fn refuse(session: &mut Downstream, ctx: &mut Ctx, failure: &Failure) -> Result<(), Cut> {
    ctx.give_back();
    let error = PublicError::of(failure, ctx.generation.unknown_model);
    note(session, ctx, failure, &error);
    if tells_overflow_in_stream(session, ctx, &error) {
        return overflow(session, ctx, &error).await;
    }
    let body = Bytes::from(error.render(ctx.dialect, &ctx.record.request_id));
    let mut header = header(ctx, error.status(), "application/json").map_err(|_| Cut::Defect)?;
    for (name, value) in error_headers(failure, &error) {
        header.insert_header(name, value).map_err(|_| Cut::Defect)?;
    }
    if !session.is_body_done() {
        leave_body_unread(session);
    }
    send(session, ctx, header, body).await
}

/// Whether a client knows an input that is too long only as an event of a stream.
fn tells_overflow_in_stream(session: &Downstream, ctx: &Ctx, error: &PublicError) -> bool {
    let asked = error.code == Code::ContextLengthExceeded
        && ctx.record.stream
        && ctx.record.route == Call::Responses.label();
    let agent = session.req_header().headers.get("user-agent").map(HeaderValue::as_bytes).unwrap_or_default();
    let begins = |client: &String| {
        agent.get(..client.len()).is_some_and(|start| start.eq_ignore_ascii_case(client.as_bytes()))
    };
    asked && ctx.generation.stream_overflow_clients.iter().any(begins)
}

/// Tells in a stream that an input is too long; it is counted as the 413 that it is.
async fn overflow(session: &mut Downstream, ctx: &mut Ctx, error: &PublicError) -> Result<(), Cut> {
    let model = ctx.record.model.map_or("", |model| ctx.generation.labels.model(model));
    let created = clock::unix().as_secs();
    let identity = attempt::identity(Call::Responses, created, model);
    let options = StreamOptions {
        call: Call::Responses,
        identity,
        wants_usage: false,
        created,
        expected: Expected::default(),
    };
    let body = Bytes::from(EventStream::new(options).error(error, &ctx.record.request_id));
    let mut header = header(ctx, 200, "text/event-stream").map_err(|_| Cut::Defect)?;
    header.insert_header("x-accel-buffering", "no").map_err(|_| Cut::Defect)?;
    if !session.is_body_done() {
        leave_body_unread(session);
    }
    let sent = send(session, ctx, header, body).await;
    ctx.record.status = error.status();
    sent
}

/// Answers a browser that asks whether a page may call.
///
/// # Errors
///
/// [`Cut`] if the client cannot be reached any more.
///
/// # Cancel safety
///
/// Must be run to its end.
pub(super) async fn preflight(
    session: &mut Downstream,
    ctx: &mut Ctx,
    fields: Vec<Field>,
) -> Result<(), Cut> {
    ctx.cors = fields;
    let mut header = header(ctx, 204, "text/plain").map_err(|_| Cut::Defect)?;
    header.remove_header("content-type");
    (ctx.record.status, ctx.record.end) = (204, End::Complete);
    session.write_response_header(header).await.map_err(|_| Cut::ClientGone)?;
    session.write_response_body(Bytes::new(), true).await.map_err(|_| Cut::ClientGone)
}

/// Sends a whole answer with its length.
///
/// # Errors
///
/// [`Cut`] if the client cannot be reached any more.
///
/// # Cancel safety
///
/// Must be run to its end.
pub(super) async fn send(
    session: &mut Downstream,
    ctx: &mut Ctx,
    mut header: Box<ResponseHeader>,
    body: Bytes,
) -> Result<(), Cut> {
    header.insert_header("content-length", body.len()).map_err(|_| Cut::Defect)?;
    let is_head = session.req_header().method == http::Method::HEAD;
    let written = if is_head { Bytes::new() } else { body };
    ctx.record.status = header.status.as_u16();
    ctx.record.bytes = u64::try_from(written.len()).unwrap_or(u64::MAX);
    session.write_response_header(header).await.map_err(|_| Cut::ClientGone)?;
    session.write_response_body(written, true).await.map_err(|_| Cut::ClientGone)?;
    Ok(())
}

fn note(session: &Downstream, ctx: &mut Ctx, failure: &Failure, error: &PublicError) {
    ctx.record.end = End::Error;
    ctx.record.code = Some(error.code.entry().name);
    ctx.record.told = told(session, ctx, failure, error);
    match failure {
        Failure::Refused(refusal) => ctx.record.refusal = Some((refusal.stage(), refusal.reason())),
        Failure::Upstream(verdict) => ctx.record.rewritten = Some(verdict.class),
        Failure::NowhereServed(_) => ctx.record.rewritten = Some(Class::ModelMissing),
        Failure::NoChannel(_) | Failure::Internal => {}
    }
}

/// The message for the log: none with words of an upstream or of the caller, which may repeat a prompt or a key.
fn told(
    session: &Downstream,
    ctx: &Ctx,
    failure: &Failure,
    error: &PublicError,
) -> Option<Cow<'static, str>> {
    let other = || OTHER.to_owned();
    let hidden = match failure {
        Failure::Upstream(verdict) => {
            let about_request = matches!(verdict.class, Class::CallerMistake | Class::ContentRefused);
            return Some(error.message.clone()).filter(|_| !about_request && verdict.message.is_none());
        }
        Failure::Refused(Refusal::Parameter { .. }) => return None,
        Failure::Refused(Refusal::UnknownModel(name)) if is_secret(session, ctx, name) => {
            Refusal::UnknownModel(other())
        }
        Failure::Refused(Refusal::NoSuchModel(name)) if is_secret(session, ctx, name) => {
            Refusal::NoSuchModel(other())
        }
        _ => return Some(error.message.clone()),
    };
    Some(PublicError::of(&hidden.into(), ctx.generation.unknown_model).message)
}

/// Reports a name of no model that may be a key: one of the gateway, the caller's own, or anything of that shape.
fn is_secret(session: &Downstream, ctx: &Ctx, name: &str) -> bool {
    let presented: Vec<&str> = credential::values(&session.req_header().headers).collect();
    let known = ctx.shared.directory.current();
    !is_model_name(name)
        || without_secrets(name, &presented, b"") != name
        || known.authenticate(&mint::digest(name), clock::unix().as_secs()).is_some()
}

fn error_headers(failure: &Failure, error: &PublicError) -> Vec<(&'static str, String)> {
    let mut fields = error.retry_headers(fastrand::u64(..));
    match failure {
        // What the path speaks instead (RFC 9110, 15.5.22).
        Failure::Refused(Refusal::WebSocket) => fields.push(("upgrade", "HTTP/1.1".to_owned())),
        Failure::Refused(Refusal::WrongMethod(allow)) => fields.push(("allow", (*allow).to_owned())),
        Failure::Refused(Refusal::Limited(exceeded)) => match (exceeded.dimension, exceeded.denied) {
            (Dimension::Requests, Some(denied)) => {
                fields.extend(ratelimit::request_headers(&denied.standing))
            }
            (Dimension::Tokens, Some(denied)) => fields.extend(ratelimit::token_headers(&denied.standing)),
            _ => {}
        },
        _ => {}
    }
    fields
}

/// Prepares an answer while the client is still sending: what it sends is read and thrown away for a moment, so that the
/// answer is not lost in a reset; a client that waits for `100 Continue` may send or not, so its connection ends.
fn leave_body_unread(session: &mut Downstream) {
    if expects_continue(session) {
        session.set_keepalive(None);
        return;
    }
    session.set_close_on_response_before_downstream_finish(false);
    session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
}
