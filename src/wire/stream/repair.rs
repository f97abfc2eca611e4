//! Members that every official client reads leniently, in the form that all clients read (spec 2.6): a finish reason that says
//! nothing is null, the index of a choice is its place, a delta is an object.
//!
//! Repairs are rare, and cost a second look at the event.

use crate::wire::envelope::{Members, is_present};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Whether a reason is none: empty, or the word null (spec 2.6).
pub(super) fn is_no_reason(reason: &str) -> bool {
    matches!(reason, "" | "null")
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Vec<Members<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    delta: Option<Members<'a>>,
    #[serde(borrow, default)]
    message: Option<Members<'a>>,
}

/// A chunk of chat or completions with its choices in order; `None` if it is in order as it stands.
pub(super) fn chunk(data: &[u8]) -> Option<Bytes> {
    let chunk: Chunk<'_> = serde_json::from_slice(data).ok()?;
    let mut edits = Vec::new();
    for (place, choice) in chunk.choices.iter().enumerate() {
        for (name, value) in &choice.0 {
            match &**name {
                "index" if value.get().parse::<u64>().is_err() => edits.push((*value, place.to_string())),
                "delta" if !value.get().starts_with('{') && value.get() != "null" && !is_present(value) => {
                    edits.push((*value, "{}".to_owned()));
                }
                "finish_reason" if is_no_reason_value(value) => edits.push((*value, "null".to_owned())),
                _ => {}
            }
        }
    }
    edited(data, &edits)
}

/// An event of Messages whose stop reasons say something or are null; `None` if it is in order as it stands.
pub(super) fn message_event(data: &[u8]) -> Option<Bytes> {
    let event: Event<'_> = serde_json::from_slice(data).ok()?;
    let objects = event.delta.iter().chain(&event.message);
    let members = objects.flat_map(|object| &object.0);
    let empty = members.filter(|(name, value)| name == "stop_reason" && is_no_reason_value(value));
    let edits: Vec<_> = empty.map(|(_, value)| (*value, "null".to_owned())).collect();
    edited(data, &edits)
}

fn is_no_reason_value(value: &RawValue) -> bool {
    value.get().strip_prefix('"').and_then(|text| text.strip_suffix('"')).is_some_and(is_no_reason)
}

/// The data with these of its values replaced, which stand in it in order.
fn edited(data: &[u8], edits: &[(&RawValue, String)]) -> Option<Bytes> {
    if edits.is_empty() {
        return None;
    }
    let mut out = BytesMut::with_capacity(data.len() + 16);
    let mut at = 0;
    for (value, replacement) in edits {
        let start = (value.get().as_ptr() as usize).checked_sub(data.as_ptr() as usize)?;
        out.extend_from_slice(data.get(at..start)?);
        out.extend_from_slice(replacement.as_bytes());
        at = start + value.get().len();
    }
    out.extend_from_slice(data.get(at..)?);
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what says nothing is written as nothing, and what says something stays byte for byte.
    #[test]
    fn says_nothing_in_one_way() {
        let odd = br#"{"a":"\u0022","choices":[{"index": null,"delta":[],"finish_reason": ""},{"delta":{"index":null},"finish_reason":"null","index":1}],"z":1.0}"#;
        let even = br#"{"a":"\u0022","choices":[{"index": 0,"delta":{},"finish_reason": null},{"delta":{"index":null},"finish_reason":null,"index":1}],"z":1.0}"#;
        assert_eq!(chunk(odd).as_deref(), Some(&even[..]));
        assert_eq!(chunk(even), None);
        let odd = br#"{"type":"message_delta","delta":{"stop_reason":"","text":"null"}}"#;
        let even = br#"{"type":"message_delta","delta":{"stop_reason":null,"text":"null"}}"#;
        assert_eq!(message_event(odd).as_deref(), Some(&even[..]));
        assert_eq!((message_event(even), message_event(b"["), chunk(b"{}")), (None, None, None));
    }
}
