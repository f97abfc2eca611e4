//! How an upstream's answer becomes the gateway's: its id, the public model name, and nothing that names the upstream
//! (spec 1.5, 2.8).

use super::allowed::{self, Extra, Form, Shape, USAGE};
use super::endpoint::Call;
use super::envelope::Text;
use super::inside::{Inside, Sieve};
use super::provenance;
use super::rewrite::{Action, Rewriter};
use super::seal::{Sealer, Stored};
use super::splice::json_string;
use crate::core::api::Api;
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// What a complete answer consists of, as far as success can be told from failure by it.
#[derive(Deserialize)]
pub(crate) struct Outline<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    videos: Option<&'a RawValue>,
    #[serde(borrow, default)]
    success: Option<&'a RawValue>,
    #[serde(borrow, default)]
    base_resp: Option<&'a RawValue>,
    #[serde(borrow, default, rename = ":exception-type")]
    exception: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_tokens: Option<&'a RawValue>,
}

/// How one choice of an answer ended.
#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

/// What a choice has to show.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

/// Finish reasons that are failures where nothing was said.
const FAILED_FINISHES: [&str; 2] = ["insufficient_system_resource", "model_context_window_exceeded"];
/// Without one of these in it, no answer ended badly.
static BAD_ENDS: LazyLock<[Finder<'static>; 3]> = LazyLock::new(|| {
    let [one, other] = FAILED_FINISHES;
    ["\"error\"", one, other].map(Finder::new)
});

impl Outline<'_> {
    /// Whether it reports an error instead of content (spec 3.1).
    pub(crate) fn is_error(&self) -> bool {
        let is = |value: Option<&RawValue>, text| value.is_some_and(|value| value.get() == text);
        self.error.is_some_and(|error| reports_error(error.get().as_bytes()))
            || is(self.kind, "\"error\"")
            || is(self.success, "false")
            || self.exception.is_some()
            || is(self.status, "\"failed\"")
            || is(self.status, "\"cancelled\"")
            || self.choices.is_none() && self.base_resp.is_some()
    }

    /// Whether a choice ended with a failure: with `error` (spec 2.6), or for want of something before it said a word.
    pub(crate) fn ended_badly(&self, body: &[u8]) -> bool {
        if !BAD_ENDS.iter().any(|reason| reason.find(body).is_some()) {
            return false;
        }
        let choices =
            self.choices.and_then(|choices| serde_json::from_str::<Vec<Choice<'_>>>(choices.get()).ok());
        choices.unwrap_or_default().iter().any(|choice| match choice.reason().as_deref() {
            Some("error") => true,
            Some(reason) => FAILED_FINISHES.contains(&reason) && !choice.has_said(),
            None => false,
        })
    }

    /// Whether it is a list from which everything was taken out.
    pub(crate) fn is_withheld(&self) -> bool {
        self.data.is_some_and(|data| data.get() == "[]")
    }

    /// Whether it is what an answer to this call consists of.
    pub(crate) fn answers(&self, call: Call) -> bool {
        match call {
            Call::CountTokens => self.input_tokens.is_some_and(|count| count.get().parse::<u64>().is_ok()),
            call => self.has_content(call.api()),
        }
    }

    /// Whether it is a response that says that it was made, though it may be empty: all of it was thought, or held back.
    fn is_ended(&self) -> bool {
        self.status.is_some_and(|status| matches!(status.get(), "\"completed\"" | "\"incomplete\""))
    }

    /// Whether it has what an answer of this API consists of.
    fn has_content(&self, api: Api) -> bool {
        let items = match api {
            Api::Chat | Api::Completions => self.choices,
            Api::Embeddings | Api::Images => self.data,
            // An answer may be empty where the model chose to say nothing, which it then says.
            Api::Messages if self.stop_reason.is_some_and(|reason| reason.get() != "null") => {
                return self.content.is_some();
            }
            Api::Messages => self.content,
            Api::Responses if self.is_ended() => {
                return self.output.is_some_and(|output| output.get().starts_with('['));
            }
            Api::Responses => self.output,
            Api::Video => self.videos.or(self.data),
        };
        items.is_some_and(|items| items.get().starts_with('[') && items.get() != "[]")
    }
}

/// Whether the value of `error` says that there is one.
fn reports_error(value: &[u8]) -> bool {
    !matches!(value, b"null" | b"{}" | b"\"\"" | b"false")
}

impl Choice<'_> {
    fn reason(&self) -> Option<Cow<'_, str>> {
        serde_json::from_str::<Text<'_>>(self.finish_reason?.get()).ok().map(|reason| reason.0)
    }

    fn has_said(&self) -> bool {
        let something =
            |value: Option<&RawValue>| value.is_some_and(|v| !matches!(v.get(), "null" | "\"\"" | "[]"));
        let said = self.message.map(|message| serde_json::from_str::<Said<'_>>(message.get()));
        match said {
            Some(Ok(said)) => something(said.content) || something(said.tool_calls),
            // Nobody knows what it is, but it is something.
            Some(Err(_)) => true,
            None => something(self.text),
        }
    }
}

/// What the beginning of a large answer shows (spec 10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Content, and no error before it.
    Content,
    /// An error, or nothing that an answer begins with.
    Error,
    /// Neither yet.
    Undecided,
}

/// Looks at the first members of an answer that is still arriving.
#[must_use]
pub fn beginning(prefix: &[u8]) -> Beginning {
    if !prefix.trim_ascii_start().starts_with(b"{") {
        return Beginning::Error;
    }
    let mut seen = Beginning::Undecided;
    let read = Prefix(&mut seen).deserialize(&mut serde_json::Deserializer::from_slice(prefix));
    match read {
        // Broken JSON is told from unfinished JSON by where the parser stopped.
        Err(e) if seen == Beginning::Undecided && e.is_syntax() => Beginning::Error,
        _ => seen,
    }
}

/// Reads members until one of them decides.
struct Prefix<'a>(&'a mut Beginning);

impl<'de> Visitor<'de> for Prefix<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            *self.0 = match &*name {
                "choices" | "data" | "content" | "output" | "videos" => Beginning::Content,
                "error" if map.next_value::<Option<IgnoredAny>>()?.is_some() => Beginning::Error,
                "error" => continue,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            // Enough is known; what follows need not be there yet.
            return Err(serde::de::Error::custom("decided"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Prefix<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// The names under which the gateway gives an answer to its client, as JSON strings.
#[derive(Debug, Clone)]
pub struct Identity {
    id: Bytes,
    model: Bytes,
    unchanged: bool,
    /// It is a video, whose list an upstream may call `data`.
    film: bool,
    sealing: Option<Sealing>,
    /// Which members a whole answer has.
    form: &'static Form,
    /// Names that pass besides.
    extra: Extra,
    /// The mark of reasoning that one account alone can read.
    mark: Option<Bytes>,
}

/// By what the id of a stored response is made of the upstream's (spec 1.5).
#[derive(Clone)]
pub struct Sealing {
    /// The key.
    pub sealer: Arc<Sealer>,
    /// Where the response is stored; its id there is not known yet.
    pub stored: Stored,
    /// Whose it is.
    pub account: Arc<str>,
    /// Random, for this one id.
    pub nonce: [u8; 12],
    /// The id of the response before it, as the client named it, as JSON; null if it named none.
    pub previous: Bytes,
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").finish_non_exhaustive()
    }
}

impl Identity {
    /// The answer to a call at `unix_seconds` (spec 1.5); `random` is what makes its id its own.
    #[must_use]
    pub fn of(call: Call, unix_seconds: u64, random: &str, model: &str) -> Self {
        let id = match call {
            Call::Responses | Call::Compact => format!("resp-gate-{unix_seconds}-{random}"),
            Call::Messages | Call::CountTokens => format!("msg_gate_{unix_seconds}{random}"),
            _ => format!("gate-{unix_seconds}-{random}"),
        };
        Self { film: call == Call::Video, form: allowed::of(call), ..Self::new(&id, model) }
    }

    /// The answer `id` of the public model `model`, to a call of Chat Completions.
    #[must_use]
    pub fn new(id: &str, model: &str) -> Self {
        let (id, model) = (json_string(id).into(), json_string(model).into());
        let form = allowed::of(Call::Chat);
        Self { id, model, unchanged: false, film: false, sealing: None, form, extra: None, mark: None }
    }

    /// The same, but these names pass too (`pass_members`).
    #[must_use]
    pub fn passing(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }

    /// The same, but an upstream's answer keeps its own names: for trusted channels (spec 1.5).
    #[must_use]
    pub fn unchanged(mut self) -> Self {
        self.unchanged = true;
        self
    }

    /// Whether an upstream's answer keeps its own names.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.unchanged
    }

    /// The same, but its id is made of the upstream's once that is known.
    #[must_use]
    pub fn sealed(mut self, sealing: Sealing) -> Self {
        self.sealing = Some(sealing);
        self
    }

    /// The same, but encrypted and signed reasoning gets this mark.
    #[must_use]
    pub fn with_mark(mut self, mark: Option<Bytes>) -> Self {
        self.mark = mark;
        self
    }

    /// The mark of encrypted and signed reasoning, if it gets one.
    #[must_use]
    pub fn mark(&self) -> Option<&Bytes> {
        self.mark.as_ref()
    }

    /// Whether the upstream's id has still to be found.
    #[must_use]
    pub fn awaits_id(&self) -> bool {
        !self.unchanged && self.sealing.as_ref().is_some_and(|sealing| sealing.stored.upstream_id.is_empty())
    }

    /// Looks at an answer, or its beginning, for what has to be known before any of it can be rewritten: its id, and whether a
    /// list of videos is called so (spec 11.5).
    pub fn look_at(&mut self, answer: &[u8]) {
        let awaits_id = self.awaits_id();
        if !awaits_id && !self.film {
            return;
        }
        let mut seen = Seen::default();
        // The error is the end of what has arrived, or the wish to read no further.
        let _ = seen.members_of(answer, !self.film);
        self.film &= !seen.videos;
        if let Some(id) = seen.id.filter(|_| awaits_id) {
            self.found_id(&id);
        }
    }

    /// Makes the id of the upstream's.
    pub fn found_id(&mut self, upstream_id: &str) {
        if let Some(sealing) = &mut self.sealing {
            upstream_id.clone_into(&mut sealing.stored.upstream_id);
            if let Some(id) = sealing.sealer.seal(&sealing.stored, &sealing.account, sealing.nonce) {
                self.id = json_string(&id).into();
            }
        }
    }

    /// What happens to a top-level member of an answer of this form.
    #[must_use]
    pub(super) fn action(&self, form: &Form, name: &str) -> Action {
        let shape = allowed::find(form.members, name);
        match name {
            "data" if self.film && self.unchanged => Action::Rename("videos", Sieve::Without(&[])),
            "data" if self.film => Action::Rename("videos", shape.map_or(Sieve::Only(&[]), Sieve::of)),
            _ if self.unchanged => Action::Pass,
            "id" => Action::Replace(self.id.clone()),
            "model" => Action::Replace(self.model.clone()),
            "response_id" => Action::Replace(self.id.clone()),
            "previous_response_id" if self.sealing.is_some() => {
                let previous = self.sealing.as_ref().map(|sealing| sealing.previous.clone());
                Action::Replace(previous.unwrap_or_default())
            }
            _ => match shape {
                Some(Shape::Whole) => Action::Pass,
                Some(Shape::Of(names)) => Action::Look(Sieve::Only(names)),
                _ if allowed::is_extra(&self.extra, name) => Action::Pass,
                Some(Shape::Hidden) => Action::Drop,
                None => Action::DropUnknown,
            },
        }
    }

    /// A `usage` object as the client reads it where the gateway writes it anew.
    #[must_use]
    pub fn usage(&self, usage: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(usage.len() + 16);
        let sieve = if self.unchanged { Sieve::Without(&[]) } else { Sieve::Only(USAGE) };
        Inside::new(sieve, self.extra.clone(), false).push(usage, &mut out);
        out.freeze()
    }

    /// A rewriter for one whole answer.
    pub fn rewriter(self) -> Rewriter<impl FnMut(&str) -> Action + Send> {
        let form = self.form;
        self.rewriter_of(form)
    }

    /// A rewriter for one object of this form.
    pub(super) fn rewriter_of(self, form: &'static Form) -> Rewriter<impl FnMut(&str) -> Action + Send> {
        let (required, extra) = (self.required(form), self.extra.clone());
        Rewriter::new(move |name: &str| self.action(form, name)).requiring(required).passing(extra)
    }

    /// A rewriter for an answer that is sent before its end is known: an error in it is a failure wherever it comes, and does
    /// not pass (spec 2.6, 10.1).
    pub fn watching_rewriter(self) -> Rewriter<impl FnMut(&str) -> Action + Send> {
        let (form, required, extra) = (self.form, self.required(self.form), self.extra.clone());
        let rule = move |name: &str| {
            let fails: fn(&[u8]) -> bool = match name {
                "error" => reports_error,
                "type" => |kind| kind == b"\"error\"",
                "status" => |status| matches!(status, b"\"failed\"" | b"\"cancelled\""),
                "success" => |success| success == b"false",
                // A choice that ended badly is looked for inside.
                "choices" if self.unchanged => return Action::Watch(Sieve::Without(&[])),
                _ => {
                    return match self.action(form, name) {
                        Action::Look(sieve) if name == "choices" => Action::Watch(sieve),
                        action => action,
                    };
                }
            };
            match self.action(form, name) {
                Action::Pass => Action::Unless(fails),
                _ => Action::DropUnless(fails),
            }
        };
        Rewriter::new(rule).requiring(required).passing(extra)
    }

    /// The members that an answer of this form always has (spec 1.5).
    pub(super) fn required(&self, form: &Form) -> [Option<(&'static str, Bytes)>; 2] {
        let has = |has: bool| has && !self.unchanged;
        [
            has(form.has_id).then(|| ("id", self.id.clone())),
            has(form.has_model).then(|| ("model", self.model.clone())),
        ]
    }

    /// Names that pass besides those of the tables.
    pub(super) fn extra(&self) -> &Extra {
        &self.extra
    }

    /// The id as a JSON string.
    #[must_use]
    pub fn id(&self) -> &Bytes {
        &self.id
    }

    /// The public model as a JSON string.
    #[must_use]
    pub fn model(&self) -> &Bytes {
        &self.model
    }
}

/// The id that an answer, or its beginning, has.
#[must_use]
pub fn id_of(answer: &[u8]) -> Option<String> {
    let mut seen = Seen::default();
    // The error is the end of what has arrived, or the wish to read no further.
    let _ = seen.members_of(answer, true);
    seen.id
}

/// Members of an answer that have to be known before it is rewritten.
#[derive(Default)]
struct Seen {
    id: Option<String>,
    videos: bool,
}

impl Seen {
    fn members_of(&mut self, answer: &[u8], up_to_id: bool) -> serde_json::Result<()> {
        Named { seen: self, up_to_id }.deserialize(&mut serde_json::Deserializer::from_slice(answer))
    }
}

/// Reads members, up to the id or to the end.
struct Named<'a> {
    seen: &'a mut Seen,
    up_to_id: bool,
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            self.seen.videos |= name == "videos";
            if name != "id" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let id: &RawValue = map.next_value()?;
            self.seen.id = serde_json::from_str::<Text<'_>>(id.get()).ok().map(|id| id.0.into_owned());
            if self.up_to_id {
                return Err(serde::de::Error::custom("found"));
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// A complete answer under the gateway's names.
#[derive(Debug)]
pub struct Rewritten {
    /// As the client reads it.
    pub body: Bytes,
    /// Its `usage` member as it stood.
    pub usage: Option<Bytes>,
    /// Members that were dropped because they are not known.
    pub dropped: u64,
}

/// Rewrites a complete JSON answer.
#[must_use]
pub fn rewrite(body: &[u8], mut identity: Identity) -> Rewritten {
    identity.look_at(body);
    let body = &*provenance::marked(body, identity.mark());
    let mut rewriter = identity.rewriter();
    let mut out = BytesMut::with_capacity(body.len() + 64);
    rewriter.push(body, &mut out);
    let usage = rewriter.usage().map(Bytes::copy_from_slice);
    Rewritten { body: out.freeze(), usage, dropped: rewriter.dropped() }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
