//! The language of Responses streams: `response.created`, items and their deltas, `response.completed`.
//!
//! The state of the whole answer stands in the member `response` of some events, which gets the gateway's names.
//! Content is a delta that is not empty, or an item that is a call (spec 10.1). Every event has a number; those that the
//! gateway adds go on counting (spec 2.6).

use super::pattern::{Hole, Pattern};
use super::{EventForm, Fault, Head, Language, Shell, StreamOptions, is_of_responses, unreadable};
use crate::core::usage::{Usage, UsageSource};
use crate::wire::allowed::{RESPONSE, RESPONSE_EVENT};
use crate::wire::answer::id_of;
use crate::wire::content;
use crate::wire::endpoint::Call;
use crate::wire::envelope::{Members, Text, is_present};
use crate::wire::error::{Code, Dialect, PublicError};
use crate::wire::usage::Reported;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A Responses stream.
pub(super) struct Responses {
    options: StreamOptions,
    completed: bool,
    /// The number of the next event.
    next_number: u64,
    /// The final state has something to read, or says why not.
    answers: bool,
    pattern: Pattern,
}

/// How events pass.
const FORM: EventForm = EventForm { event: &RESPONSE_EVENT, whole: ("response", &RESPONSE) };

#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<Members<'a>>,
    #[serde(borrow, default)]
    sequence_number: Option<&'a RawValue>,
    #[serde(borrow, default)]
    obfuscation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl Whole<'_> {
    /// Whether the response says that it has failed, or why.
    fn has_failed(&self) -> bool {
        let status = self.status.map(RawValue::get);
        matches!(status, Some("\"failed\"" | "\"cancelled\"")) || self.error.is_some_and(is_present)
    }
}

impl Responses {
    pub(super) fn new(options: StreamOptions) -> Self {
        Self { options, completed: false, next_number: 0, answers: false, pattern: Pattern::default() }
    }

    /// Takes in the final state of the answer: its usage, and its text where no event before had any.
    fn finish(&mut self, response: Option<&RawValue>, whole: Option<&Whole<'_>>, out: &mut Shell) {
        let (Some(response), Some(whole)) = (response, whole) else { return };
        self.answers = out.content || !content::is_missing(response.get().as_bytes(), Call::Responses);
        if let Some(output) = whole.output.filter(|_| !out.content) {
            out.tally.deliver(output);
        }
        let mut report = whole.usage.map(|usage| Reported::read(usage.get().as_bytes())).unwrap_or_default();
        if let Some(tools) = whole.tool_usage {
            report = report.with_tools(tools);
        }
        out.tally.take(report);
    }

    fn note_number(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.next_number = number.saturating_add(1);
        }
    }

    /// Writes an event; how many members were dropped because they are not known.
    fn write(&self, kind: &str, data: &[u8], response: Option<&RawValue>, out: &mut BytesMut) -> u64 {
        FORM.write(out, &self.options.identity, (kind, data), response)
    }

    /// Learns what events look like from one whose delta is a text.
    fn learn(&mut self, kind: &str, data: &[u8], view: &View<'_>) {
        let (Some(text), Some(number), None) = (view.delta, view.sequence_number, view.response) else {
            return;
        };
        if !text.get().starts_with('"') {
            return;
        }
        let mut holes = vec![(Hole::Text, text), (Hole::Number, number)];
        let padding = view.obfuscation.filter(|padding| padding.get().starts_with('"'));
        holes.extend(padding.map(|padding| (Hole::Filler, padding)));
        let mut pattern = std::mem::take(&mut self.pattern);
        pattern.learn(data, holes, |data, out| self.write(kind, data, None, out));
        self.pattern = pattern;
    }
}

/// Whether an item shows something by being there: a call of a tool, an image; texts and thoughts show by their deltas.
fn is_call(item: &Members<'_>) -> bool {
    item.text("type").is_some_and(|kind| !matches!(&*kind, "message" | "reasoning"))
}

impl Language for Responses {
    fn event(&mut self, data: &Bytes, out: &mut Shell) -> Result<(), Fault> {
        if let Some(held) = self.pattern.fit(data, &mut out.out) {
            self.note_number(held.number);
            out.dropped += held.dropped;
            out.deliver_text(held.text);
            return Ok(());
        }
        let Ok(view) = serde_json::from_slice::<View<'_>>(data) else {
            return unreadable(data, out, self.completed);
        };
        let kind = match Head::read(view.kind.as_ref(), view.error, data, is_of_responses)? {
            Head::Error => return out.error_event(data, self.completed),
            Head::Nothing => return Ok(()),
            Head::Of(kind) => kind,
        };
        self.note_number(view.sequence_number.and_then(|number| number.get().parse().ok()));
        if let Some(id) = view
            .response
            .filter(|_| self.options.identity.awaits_id())
            .and_then(|r| id_of(r.get().as_bytes()))
        {
            self.options.identity.found_id(&id);
        }
        let whole = view.response.and_then(|response| serde_json::from_str::<Whole<'_>>(response.get()).ok());
        // The response is judged, whatever its event is called.
        if whole.as_ref().is_some_and(Whole::has_failed) {
            return out.error_event(data, self.completed);
        }
        let finishes = matches!(kind, "response.completed" | "response.incomplete");
        let content = match kind {
            "response.failed" | "response.cancelled" | "response.error" => {
                return out.error_event(data, self.completed);
            }
            "response.output_item.added" => view.item.as_ref().is_some_and(is_call),
            _ => view.delta.is_some_and(is_present) || kind.ends_with(".partial_image"),
        };
        if finishes {
            self.finish(view.response, whole.as_ref(), out);
            (self.completed, out.done) = (true, true);
        }
        if let Some(delta) = view.delta.filter(|delta| is_present(delta)) {
            out.tally.deliver(delta);
        }
        out.note(content);
        out.dropped += self.write(kind, data, view.response, &mut out.out);
        if content && kind.ends_with(".delta") {
            self.learn(kind, data, &view);
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.completed
    }

    fn complete(&mut self, out: &mut Shell, _used: (&Usage, UsageSource)) -> Result<(), Fault> {
        // `[DONE]`, which some servers send, is no end of a response: its state would be missing.
        match self.completed {
            true if out.content || self.answers => Ok(()),
            true => Err(Fault::NoContent),
            false if out.content => Err(Fault::Cut),
            false => Err(Fault::Empty),
        }
    }

    fn error(&self, error: &PublicError, request_id: &str) -> String {
        let number = self.next_number;
        let flat = serde_json::json!(error.code.entry().name);
        let message = serde_json::json!(error.told(Dialect::OpenAi));
        // The one that clients act on by its code: they shorten the conversation.
        let reason =
            if error.code == Code::ContextLengthExceeded { error.code.entry().name } else { "server_error" };
        let param = serde_json::json!(error.param);
        let body = error.render(Dialect::OpenAi, request_id);
        // The rendered body is `{"error":{…}}`; its member goes in beside the flat ones.
        let nested = body.strip_prefix('{').and_then(|body| body.strip_suffix('}')).unwrap_or_default();
        let (id, model) = (self.options.identity.id(), self.options.identity.model());
        format!(
            "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":{number},\"code\":{flat},\"message\":{message},\"param\":{param},{nested}}}\n\n\
             event: response.failed\ndata: {{\"type\":\"response.failed\",\"sequence_number\":{},\"response\":{{\"id\":{},\"object\":\"response\",\"created_at\":{},\"status\":\"failed\",\"error\":{{\"code\":\"{reason}\",\"message\":{message}}},\"incomplete_details\":null,\"model\":{},\"output\":[],\"usage\":null}}}}\n\n",
            number + 1,
            String::from_utf8_lossy(id),
            self.options.created,
            String::from_utf8_lossy(model),
        )
    }
}
