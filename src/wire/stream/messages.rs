//! The language of Messages streams: `message_start`, blocks and their deltas, `message_delta`, `message_stop`.
//!
//! Nothing before the first block's content commits: neither `message_start` nor `ping` (spec 10.1). The stop reason
//! stands in `message_delta`; what ends before it was cut.

use super::pattern::{Hole, Pattern};
use super::{EventForm, Fault, Head, Language, Shell, StreamOptions, is_of_responses, repair, unreadable};
use crate::core::usage::{Usage, UsageSource};
use crate::wire::allowed::{MESSAGE, MESSAGE_EVENT};
use crate::wire::content;
use crate::wire::envelope::{Members, Text, is_present};
use crate::wire::error::{Dialect, PublicError};
use crate::wire::usage::Objects;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A Messages stream.
pub(super) struct Messages {
    options: StreamOptions,
    /// A documented stop reason has come.
    stopped: bool,
    /// A tool of the client's was called.
    called: bool,
    /// `message_stop` has come.
    closed: bool,
    /// The block under way has a signature, of which the first piece got the mark.
    signed: bool,
    /// The stop reason says why there may be nothing to read.
    explained: bool,
    pattern: Pattern,
}

/// How events pass.
const FORM: EventForm = EventForm { event: &MESSAGE_EVENT, whole: ("message", &MESSAGE) };

#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_block: Option<Members<'a>>,
    #[serde(borrow, default)]
    delta: Option<Members<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

/// The types of its events.
const KINDS: [&str; 7] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
];

/// Reasons by which a message ends; any other passes, and ends nothing (spec 2.6).
const STOPS: [&str; 8] = [
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
    "compaction",
];

#[derive(Deserialize)]
struct Start<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
}

impl Start<'_> {
    /// Whether what begins is an error.
    fn is_error(&self) -> bool {
        self.error.is_some_and(is_present) || self.kind.is_some_and(|kind| kind.get() == "\"error\"")
    }

    fn is_odd(&self) -> bool {
        self.stop_reason.as_ref().is_some_and(|reason| repair::is_no_reason(&reason.0))
    }
}

impl Messages {
    pub(super) fn new(options: StreamOptions) -> Self {
        Self {
            options,
            stopped: false,
            called: false,
            closed: false,
            signed: false,
            explained: false,
            pattern: Pattern::default(),
        }
    }

    /// Takes the usage of a `message_delta` in. The result is the event with the usage that its client is to keep, since
    /// SDKs replace what they read before by what they read there; `None` where it is right as it stands.
    fn note_usage(&self, data: &[u8], usage: Option<&RawValue>, out: &mut Shell) -> Option<Bytes> {
        let before = out.tally.object().cloned();
        if let Some(usage) = usage {
            out.tally.report(usage, true);
        }
        let (used, source) = out.tally.usage(&self.options.expected);
        let own = usage.filter(|usage| usage.get() != "null").map(|usage| usage.get().as_bytes());
        let (object, overruled) = match (before.as_ref(), own) {
            (Some(before), Some(own)) => Objects::merge(before, own),
            (before, own) => (Bytes::copy_from_slice(own.or(before.map(|b| &b[..])).unwrap_or(b"{}")), false),
        };
        if own.is_some() && !overruled && !source.output_is_estimated() {
            return None;
        }
        let object = match source.output_is_estimated() {
            true => Objects::set(&object, "output_tokens", &used.output.to_string())?,
            false => object,
        };
        Objects::set(data, "usage", std::str::from_utf8(&object).ok()?)
    }

    /// Writes an event; how many members were dropped because they are not known.
    fn write(&self, kind: &str, data: &[u8], message: Option<&RawValue>, out: &mut BytesMut) -> u64 {
        FORM.write(out, &self.options.identity, (kind, data), message)
    }

    /// Writes an event that may have a signature, or a piece of one: only the first piece gets the mark.
    fn write_signed(
        &mut self,
        kind: &str,
        data: &[u8],
        part: Option<&Members<'_>>,
        out: &mut BytesMut,
    ) -> u64 {
        let has_signature = part.is_some_and(|part| {
            part.0.iter().any(|(name, value)| matches!(&**name, "signature" | "data") && is_present(value))
        });
        let before = self.signed && kind == "content_block_delta";
        self.signed = before || has_signature;
        if before && has_signature {
            FORM.write(out, &self.options.identity.clone().with_mark(None), (kind, data), None)
        } else {
            self.write(kind, data, None, out)
        }
    }

    /// Writes an event to the client, and learns what events look like from one with content.
    fn pass(&mut self, (kind, data): (&str, &[u8]), view: &View<'_>, content: bool, out: &mut Shell) {
        out.dropped += match kind {
            "content_block_start" => self.write_signed(kind, data, view.content_block.as_ref(), &mut out.out),
            "content_block_delta" => self.write_signed(kind, data, view.delta.as_ref(), &mut out.out),
            _ => self.write(kind, data, view.message, &mut out.out),
        };
        if kind == "content_block_delta" && content {
            self.learn(data, view.delta.as_ref());
        }
    }

    /// Learns what events look like from a delta that has a type and a text.
    fn learn(&mut self, data: &[u8], delta: Option<&Members<'_>>) {
        let Some([one, other]) = delta.map(|delta| delta.0.as_slice()) else { return };
        let text = |(name, value): &(Cow<'_, str>, &RawValue)| {
            matches!(&**name, "text" | "thinking") && value.get().starts_with('"')
        };
        let Some((_, text)) = [one, other].into_iter().find(|member| text(member)) else { return };
        let mut pattern = std::mem::take(&mut self.pattern);
        let kind = "content_block_delta";
        pattern.learn(data, vec![(Hole::Text, text)], |data, out| self.write(kind, data, None, out));
        self.pattern = pattern;
    }
}

/// Counts what a block or a delta has to show besides its type; whether there is any.
fn deliver(members: Option<&Members<'_>>, out: &mut Shell) -> bool {
    let Some(members) = members else { return false };
    let text = matches!(members.text("type").as_deref(), Some("text" | "thinking"));
    let shown =
        |name: &str| !matches!(name, "type" | "index") && (!text || matches!(name, "text" | "thinking"));
    let mut content = false;
    for (name, value) in members.0.iter().filter(|(name, value)| shown(name) && is_present(value)) {
        content = true;
        // Ids and signatures are no text that a model wrote for the client.
        if matches!(&**name, "text" | "thinking" | "name" | "input" | "partial_json") {
            out.tally.deliver(value);
        }
    }
    content
}

impl Language for Messages {
    fn event(&mut self, data: &Bytes, out: &mut Shell) -> Result<(), Fault> {
        if let Some(held) = self.pattern.fit(data, &mut out.out) {
            out.dropped += held.dropped;
            out.deliver_text(held.text);
            return Ok(());
        }
        let Ok(view) = serde_json::from_slice::<View<'_>>(data) else {
            return unreadable(data, out, self.stopped);
        };
        let kind = match Head::read(view.kind.as_ref(), view.error, data, |kind| KINDS.contains(&kind))? {
            Head::Error => return out.error_event(data, self.is_finished()),
            Head::Nothing => return Ok(()),
            Head::Of(kind) if is_of_responses(kind) => return Err(Fault::NotAnEvent),
            Head::Of(kind) => kind,
        };
        let (mut content, mut corrected) = (false, None);
        match kind {
            "message_start" => {
                let start =
                    view.message.and_then(|message| serde_json::from_str::<Start<'_>>(message.get()).ok());
                if start.as_ref().is_some_and(Start::is_error) {
                    return out.error_event(data, self.is_finished());
                }
                if start.as_ref().is_some_and(Start::is_odd)
                    && let Some(repaired) = repair::message_event(data)
                {
                    return self.event(&repaired, out);
                }
                if let Some(usage) = start.and_then(|start| start.usage) {
                    out.tally.report(usage, true);
                }
            }
            "content_block_start" => {
                let block = view.content_block.as_ref();
                self.called |= block.is_some_and(|b| b.text("type").as_deref() == Some("tool_use"));
                content = deliver(block, out);
            }
            "content_block_delta" => content = deliver(view.delta.as_ref(), out),
            "message_delta" => {
                let reason = view.delta.as_ref().and_then(|delta| delta.text("stop_reason"));
                if reason.as_deref() == Some("error") {
                    return out.error_event(data, self.is_finished());
                }
                if reason.as_deref().is_some_and(repair::is_no_reason) {
                    let repaired = repair::message_event(data).ok_or(Fault::NotAnEvent)?;
                    return self.event(&repaired, out);
                }
                self.stopped |= reason.as_deref().is_some_and(|reason| STOPS.contains(&reason));
                self.explained |= reason.as_deref().is_some_and(content::explains_nothing);
                if reason.is_some() || view.usage.is_some() {
                    corrected = self.note_usage(data, view.usage, out);
                }
            }
            "message_stop" => {
                (self.closed, out.done) = (true, true);
                return Ok(());
            }
            _ => {}
        }
        if kind != "ping" || out.is_open() {
            out.note(content);
            self.pass((kind, corrected.as_ref().unwrap_or(data)), &view, content, out);
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }

    fn complete(&mut self, out: &mut Shell, (used, _): (&Usage, UsageSource)) -> Result<(), Fault> {
        // `[DONE]`, which some relays send, is no end of a message.
        if !self.stopped && !self.closed {
            return Err(if out.content { Fault::Cut } else { Fault::Empty });
        }
        if !self.stopped && !out.content {
            return Err(Fault::Empty);
        }
        if !out.content && !self.explained && !out.tally.says_reasoning() {
            return Err(Fault::NoContent);
        }
        if !self.stopped {
            let reason = if self.called { "tool_use" } else { "end_turn" };
            let output = used.output;
            out.out.extend_from_slice(
                format!("event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{reason}\",\"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{output}}}}}\n\n").as_bytes(),
            );
        }
        out.out.extend_from_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        Ok(())
    }

    fn error(&self, error: &PublicError, request_id: &str) -> String {
        format!("event: error\ndata: {}\n\n", error.render(Dialect::Anthropic, request_id))
    }
}
