//! The request head for an upstream (spec 5.5, 10): built from an allow-list, the channel's credential last.

use super::upstream::Channel;
use crate::core::api::Api;
use crate::wire::endpoint::Call;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;

/// Fields of a client that every upstream may see: they select features of the API and name nobody.
const PASSED: [HeaderName; 3] =
    [HeaderName::from_static("openai-beta"), HeaderName::from_static("anthropic-beta"), ANTHROPIC_VERSION];
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// The version that a client means who names none; the only one there is.
const ANTHROPIC_VERSION_DEFAULT: HeaderValue = HeaderValue::from_static("2023-06-01");
/// Fields that only trusted channels see (spec 13.1).
const PASSED_TO_TRUSTED: [HeaderName; 2] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The head of a call to `channel`, which knows the model by this name, with a body of `length` bytes.
///
/// # Errors
///
/// Never for configured channels.
pub(super) fn build(
    channel: &Channel,
    call: Call,
    upstream_model: &str,
    stream: bool,
    length: usize,
    client: &HeaderMap,
    credential: Option<usize>,
) -> pingora::Result<RequestHeader> {
    let mut head =
        RequestHeader::build_no_case("POST", channel.target(call, upstream_model).as_bytes(), Some(12))?;
    head.insert_header(http::header::HOST, channel.host.clone())?;
    head.insert_header(http::header::USER_AGENT, USER_AGENT)?;
    head.insert_header(http::header::CONTENT_TYPE, JSON)?;
    head.insert_header(http::header::CONTENT_LENGTH, length)?;
    head.insert_header(http::header::ACCEPT, if stream { EVENT_STREAM } else { JSON })?;
    head.insert_header(http::header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    if call.api() == Api::Messages {
        head.insert_header(ANTHROPIC_VERSION, ANTHROPIC_VERSION_DEFAULT)?;
    }
    pass(&mut head, &PASSED, client)?;
    pass(&mut head, &channel.settings.pass_headers, client)?;
    if channel.settings.trusted {
        pass(&mut head, &PASSED_TO_TRUSTED, client)?;
    }
    // Last, so that nothing a client sends can replace it.
    if let Some((name, value)) = channel.credential(credential) {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(head)
}

fn pass(head: &mut RequestHeader, names: &[HeaderName], client: &HeaderMap) -> pingora::Result<()> {
    for name in names {
        // What is said in several fields is said once in all of them (RFC 9110, 5.3).
        for (turn, value) in client.get_all(name).iter().enumerate() {
            match turn {
                0 => head.insert_header(name.clone(), value.clone())?,
                _ => _ = head.append_header(name.clone(), value.clone())?,
            }
        }
    }
    Ok(())
}
