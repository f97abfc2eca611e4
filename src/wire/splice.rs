//! Edits of a body by byte span: prefix, replacement, suffix, and nothing in between is copied.
//!
//! The parts share the memory of the original, so a body of many megabytes is rewritten for the price of its edits.

use super::additions::{Addition, Additions};
use super::endpoint::Call;
use super::envelope::{Bound, Places, UsageOption};
use bytes::Bytes;
use std::ops::Range;

/// A body as the parts to be sent one after another.
#[derive(Debug, Clone, Default)]
pub struct Spliced {
    parts: Vec<Bytes>,
    len: usize,
}

impl Spliced {
    /// Nothing.
    pub const EMPTY: Self = Self { parts: Vec::new(), len: 0 };

    /// The whole body in its parts, none of them empty.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The length of the whole, in bytes; what `Content-Length` says.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push(part);
        }
    }
}

/// One edit: this span becomes these bytes.
pub type Edit = (Range<usize>, Bytes);

/// Applies edits to a body. Spans must not overlap; those that do, or that lie outside, are left out.
#[must_use]
pub fn splice(body: &Bytes, mut edits: Vec<Edit>) -> Spliced {
    edits.sort_by_key(|(span, _)| span.start);
    let mut spliced = Spliced::default();
    let mut done = 0;
    for (span, replacement) in edits {
        if span.start < done || span.start > span.end || span.end > body.len() {
            continue;
        }
        spliced.push(body.slice(done..span.start));
        spliced.push(replacement);
        done = span.end;
    }
    spliced.push(body.slice(done..));
    spliced
}

/// The edits that turn a client's body into what a channel is sent: the upstream's model name where it differs from the
/// client's (spec 1.4), and usage asked for on streams of channels that know the option (spec 1.6).
#[must_use]
pub fn upstream_edits(places: &Places, rename_to: Option<&str>, ask_usage: bool) -> Vec<Edit> {
    let rename = rename_to.map(|model| (places.model.clone(), Bytes::from(json_string(model))));
    rename.into_iter().chain(if ask_usage { usage_edit(places) } else { None }).collect()
}

fn usage_edit(places: &Places) -> Option<Edit> {
    match &places.usage {
        UsageOption::Asked => None,
        UsageOption::Declined(span) => Some((span.clone(), Bytes::from_static(b"true"))),
        UsageOption::NoOptions(Some(span)) => {
            Some((span.clone(), Bytes::from_static(br#"{"include_usage":true}"#)))
        }
        UsageOption::NoOptions(None) => {
            let at = places.model.end;
            Some((at..at, Bytes::from_static(br#","stream_options":{"include_usage":true}"#)))
        }
        UsageOption::Absent { at, more } => {
            let member: &'static [u8] =
                if *more { br#""include_usage":true,"# } else { br#""include_usage":true"# };
            Some((*at..*at, Bytes::from_static(member)))
        }
    }
}

/// The member by which the gateway bounds an answer to this call where the client does not: the usual one, or another one
/// where that is left out.
#[must_use]
pub fn bound_addition(places: &Places, call: Call, left_out: Additions) -> Option<Addition> {
    if places.bounds_of(call).next().is_some() {
        return None;
    }
    let known = call.bounds().iter().filter_map(|name| Addition::named(name));
    known.into_iter().find(|addition| !left_out.contains(*addition))
}

/// The edits that bound an answer to so many tokens, whatever the client's body says of it (decisions, Money).
#[must_use]
pub fn bound_edits(places: &Places, call: Call, tokens: u64, left_out: Additions) -> Vec<Edit> {
    let bounded = |own: &Bound| {
        let bound = own.tokens.map_or(tokens, |own| own.min(tokens));
        (own.span.clone(), Bytes::from(bound.to_string()))
    };
    let said: Vec<_> = places.bounds_of(call).filter(|own| own.tokens.is_some()).map(bounded).collect();
    if !said.is_empty() {
        return said;
    }
    // A null says nothing; of two of them one is enough.
    if let Some(null) = places.bounds_of(call).next() {
        return vec![bounded(null)];
    }
    let Some(member) = bound_addition(places, call, left_out) else { return Vec::new() };
    let at = places.model.end;
    vec![(at..at, Bytes::from(format!(r#","{}":{tokens}"#, member.name())))]
}

/// `text` as a JSON string, quotes included.
#[must_use]
pub fn json_string(text: &str) -> String {
    // A string always serialises; the fallback is only there to have no panic in the path.
    serde_json::to_string(text).unwrap_or_else(|_| String::from("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::Envelope;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn rewritten(body: &str, model: &str) -> String {
        let envelope = Envelope::parse(body.as_bytes(), Call::Chat).unwrap();
        let rename = (envelope.model != model).then_some(model);
        let edits = upstream_edits(&envelope.places, rename, envelope.stream);
        let spliced = splice(&Bytes::copy_from_slice(body.as_bytes()), edits);
        let whole: Vec<u8> = spliced.parts().concat();
        assert_eq!(whole.len(), spliced.len());
        String::from_utf8(whole).unwrap()
    }

    /// Goal: only the model and the usage option change; numbers keep their spelling (spec 1.4).
    #[test]
    fn changes_nothing_else() {
        assert_eq!(
            rewritten(r#"{"a":1.00e2,"model":"x","b":[ ]}"#, "y\""),
            r#"{"a":1.00e2,"model":"y\"","b":[ ]}"#
        );
        assert_eq!(rewritten(r#"{"model":"x"}"#, "x"), r#"{"model":"x"}"#);
        for (options, expected) in [
            (r#"{"include_usage":true}"#, r#"{"include_usage":true}"#),
            (r#"{"include_usage":false}"#, r#"{"include_usage":true}"#),
            (r#"{"x":1}"#, r#"{"include_usage":true,"x":1}"#),
            ("{}", r#"{"include_usage":true}"#),
            ("null", r#"{"include_usage":true}"#),
        ] {
            assert_eq!(
                rewritten(&format!(r#"{{"stream":true,"stream_options":{options},"model":"x"}}"#), "x"),
                format!(r#"{{"stream":true,"stream_options":{expected},"model":"x"}}"#)
            );
        }
        assert_eq!(
            rewritten(r#"{"stream":true,"model":"x"}"#, "y"),
            r#"{"stream":true,"model":"y","stream_options":{"include_usage":true}}"#
        );
    }

    /// Goal: an answer is bounded by the members of its own API: the client's, if there are any, else the usual one; what bounds
    /// nothing there is left alone, and so is a null beside a number.
    #[test]
    fn answers_are_bounded_where_their_api_says_it() {
        let bounded = |call: Call, members: &str| {
            let body = format!(r#"{{"model":"m"{members}}}"#);
            let places = Envelope::parse(body.as_bytes(), Call::Chat).unwrap().places;
            let parts = splice(&Bytes::from(body), bound_edits(&places, call, 50, Additions::default()));
            String::from_utf8(parts.parts().concat()).unwrap().replace(r#"{"model":"m""#, "").replace('}', "")
        };
        for (call, before, after) in [
            (Call::Chat, "", r#","max_completion_tokens":50"#),
            (Call::Chat, r#","max_tokens":90"#, r#","max_tokens":50"#),
            (
                Call::Chat,
                r#","max_tokens":9,"max_completion_tokens":90"#,
                r#","max_tokens":9,"max_completion_tokens":50"#,
            ),
            (
                Call::Chat,
                r#","max_tokens":90,"max_completion_tokens":null"#,
                r#","max_tokens":50,"max_completion_tokens":null"#,
            ),
            (
                Call::Chat,
                r#","max_tokens":null,"max_completion_tokens":null"#,
                r#","max_tokens":50,"max_completion_tokens":null"#,
            ),
            (Call::Chat, r#","max_output_tokens":1"#, r#","max_completion_tokens":50,"max_output_tokens":1"#),
            (
                Call::Completions,
                r#","max_completion_tokens":1"#,
                r#","max_tokens":50,"max_completion_tokens":1"#,
            ),
            (Call::Messages, r#","max_tokens":90"#, r#","max_tokens":50"#),
            (Call::Responses, r#","max_tokens":1"#, r#","max_output_tokens":50,"max_tokens":1"#),
            (Call::Compact, r#","max_output_tokens":1"#, r#","max_output_tokens":1"#),
        ] {
            assert_eq!(bounded(call, before), after, "{call:?} {before}");
        }
        let bound = |call: Call, body: &str| {
            Envelope::parse(body.as_bytes(), Call::Chat).unwrap().places.output_bound(call)
        };
        let all = r#"{"model":"m","max_tokens":3,"max_completion_tokens":7,"max_output_tokens":5}"#;
        let bounds =
            [Call::Chat, Call::Messages, Call::Responses, Call::ImageEdits].map(|call| bound(call, all));
        assert_eq!(bounds, [Some(7), Some(3), Some(5), None]);
    }

    proptest! {
        /// Goal: a splice equals the same edit of the parsed value, for any model name and neighbours.
        #[test]
        fn equals_an_edit_of_the_value(model in ".{1,20}", name in ".{1,20}", other in ".{0,40}", stream: bool) {
            let mut value = json!({"a": other, "model": model, "stream": stream, "z": {"model": other}});
            let body = value.to_string();
            let after: Value = serde_json::from_str(&rewritten(&body, &name)).unwrap();
            value["model"] = name.into();
            if stream {
                value["stream_options"] = json!({"include_usage": true});
            }
            prop_assert_eq!(after, value);
        }
    }
}
