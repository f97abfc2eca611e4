//! The one validating pass over a request body (spec 4.2).
//!
//! [`Envelope::parse`] accepts exactly the JSON that RFC 8259 allows, at most 128 levels deep, and takes from it the few
//! members that the gateway governs, with the byte span of each, so that they can be replaced without touching the rest.
//! What the gateway believes must be what the upstream will read: a governed member twice, or under a name that a
//! case-folding parser would take for it, is refused. Nothing of the body is copied, and no tree of values is built.

use super::endpoint::Call;
use super::images::{ImageMembers, Modalities};
use super::prompt::{self, Member};
use super::video;
use crate::core::api::Api;
use crate::core::estimate::Prompt;
use crate::core::images::ImageWishes;
use crate::core::refusal::Refusal;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// The deepest nesting of arrays and objects that is accepted (spec 4.2).
pub const DEPTH_MAX: usize = 128;

/// The largest token bound that is not absurd.
const TOKENS_MAX: u64 = 100_000_000;
/// The most answers of one call.
pub const CHOICES_MAX: u64 = 128;

/// What the gateway needs to know of a request body.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The model asked for.
    pub model: Cow<'a, str>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Whether the answer is to be made in the background, and fetched later (Responses).
    pub background: bool,
    /// What says that requests belong together, as it stands (spec 9.6).
    pub affinity: Option<&'a str>,
    /// The conversation so far, as it stands.
    pub conversation: Option<&'a str>,
    /// The response that this one goes on from, as it stands, and where (Responses).
    pub previous: Option<(&'a str, Range<usize>)>,
    /// What the model is given to read, as far as it can be told without counting tokens.
    pub prompt: Prompt,
    /// How many answers are asked for, to each prompt.
    pub choices: u64,
    /// How many prompts there are (completions).
    pub prompts: u64,
    /// How many inputs there are (embeddings).
    pub inputs: u64,
    /// The member that asks for so many.
    pub choices_param: &'static str,
    /// The seconds of a video, the most that any of their names says.
    pub seconds: Option<u64>,
    /// How images should be.
    pub wishes: ImageWishes,
    /// What an answer should consist of.
    pub modalities: Modalities,
    /// Where to edit.
    pub places: Places,
}

/// Where the governed members stand in a body, for edits that leave the rest alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The model's JSON string, quotes included.
    pub model: Range<usize>,
    /// What the body says about usage in streams.
    pub usage: UsageOption,
    /// Bounds of the answer.
    pub bounds: Vec<Bound>,
}

/// A bound of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The member's name.
    pub param: &'static str,
    /// Where its value stands.
    pub span: Range<usize>,
    /// What it is, in tokens, unless it is null.
    pub tokens: Option<u64>,
}

impl Places {
    /// Whether the client itself asked for usage.
    #[must_use]
    pub fn usage_asked(&self) -> bool {
        self.usage == UsageOption::Asked
    }

    /// The members that bound an answer to this call.
    pub fn bounds_of(&self, call: Call) -> impl Iterator<Item = &Bound> {
        self.bounds.iter().filter(move |bound| call.bounds().contains(&bound.param))
    }

    /// The client's own bound of an answer, in tokens: the larger of two, since upstreams differ in which they heed.
    #[must_use]
    pub fn output_bound(&self, call: Call) -> Option<u64> {
        self.bounds_of(call).filter_map(|bound| bound.tokens).max()
    }
}

/// The state of `stream_options.include_usage`, and where to edit so that it becomes true (spec 1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageOption {
    /// The client asked for usage.
    Asked,
    /// `stream_options` is absent, or null with the span of its value.
    NoOptions(Option<Range<usize>>),
    /// `stream_options` is an object without the member; the position after its brace, and whether it is empty.
    Absent {
        /// Where a member can be inserted.
        at: usize,
        /// Whether other members follow.
        more: bool,
    },
    /// The member is false or null; the span of its value.
    Declined(Range<usize>),
}

impl<'a> Envelope<'a> {
    /// Reads the request body of a call.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] of the envelope stage, for the first fault found.
    pub fn parse(body: &'a [u8], call: Call) -> Result<Self, Refusal> {
        let text = simdutf8::compat::from_utf8(body).map_err(|e| {
            let (line, column) = position(body, e.valid_up_to());
            Refusal::InvalidJson { line, column }
        })?;
        if depth_exceeds(body, DEPTH_MAX) {
            return Err(Refusal::NotARequest("nests arrays and objects too deeply (at most 128 levels)"));
        }
        let governed: Governed<'a> = parse_object(text, call)?;
        governed.check(text)
    }
}

/// Values of the governed members, as they stand.
struct Governed<'a> {
    call: Call,
    values: [Option<&'a RawValue>; MEMBERS.len()],
    repeated: Option<&'static str>,
    misspelled: Option<&'static str>,
    cache_key: Option<&'a RawValue>,
    stored_conversation: Option<&'a RawValue>,
    user: Option<&'a RawValue>,
    previous: Option<&'a RawValue>,
    background: bool,
    conversation: Option<&'a RawValue>,
    images: ImageMembers<'a>,
    prompt: Prompt,
    prompts: u64,
    inputs: u64,
    seconds: Option<u64>,
}

/// Names that the gateway governs. The order is the index into [`Governed::values`].
const MEMBERS: [&str; 8] = [
    "model",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];
/// Members that cost input, and that must not be hidden from the count by another spelling.
const PROMPT: [&str; 5] = ["messages", "input", "prompt", "system", "instructions"];
const MODEL: usize = 0;
const STREAM: usize = 1;
const STREAM_OPTIONS: usize = 2;
/// Numbers of answers.
const CHOICES: [usize; 2] = [3, 4];
/// Bounds of an answer in tokens.
const BOUNDS: [usize; 3] = [5, 6, 7];

impl<'a> Governed<'a> {
    fn of(call: Call) -> Self {
        Self {
            call,
            values: [None; MEMBERS.len()],
            repeated: None,
            misspelled: None,
            cache_key: None,
            user: None,
            previous: None,
            background: false,
            conversation: None,
            stored_conversation: None,
            images: ImageMembers::default(),
            prompt: Prompt::default(),
            prompts: 0,
            inputs: 0,
            seconds: None,
        }
    }

    fn check(self, text: &'a str) -> Result<Envelope<'a>, Refusal> {
        if let Some(param) = self.repeated {
            return Err(Refusal::InvalidValue { param, why: "must be given once" });
        }
        if let Some(param) = self.misspelled {
            return Err(Refusal::InvalidValue { param, why: "must be spelled in lower case" });
        }
        let (model, place) = self.model(text)?;
        let stream = self.stream()?;
        let (mut choices, mut choices_param) = (1, "n");
        for index in CHOICES {
            if let Some(count) = self.count(index, (1, CHOICES_MAX))?.filter(|count| *count > choices) {
                (choices, choices_param) = (count, MEMBERS.get(index).copied().unwrap_or_default());
            }
        }
        let bounds = self.bounds(text)?;
        let usage = usage_option(self.value(STREAM_OPTIONS), text)?;
        let affinity = self.cache_key.or(self.stored_conversation).or(self.user).map(RawValue::get);
        let previous = self.previous.map(|raw| (raw.get(), span(raw, text)));
        let places = Places { model: place, usage, bounds };
        let (wishes, modalities) = (self.images.wishes(), self.images.modalities(|raw| span(raw, text)));
        let (prompt, seconds, background) = (self.prompt, self.seconds, self.background);
        Ok(Envelope {
            model,
            stream,
            background,
            affinity,
            conversation: self.conversation.map(RawValue::get),
            previous,
            prompt,
            choices,
            prompts: self.prompts.max(1),
            inputs: self.inputs.max(1),
            choices_param,
            seconds,
            wishes,
            modalities,
            places,
        })
    }

    fn value(&self, index: usize) -> Option<&'a RawValue> {
        self.values.get(index).copied().flatten()
    }

    fn model(&self, text: &'a str) -> Result<(Cow<'a, str>, Range<usize>), Refusal> {
        let raw = self.value(MODEL).ok_or(Refusal::MissingParameter("model"))?;
        let invalid = Refusal::InvalidValue { param: "model", why: "must be a non-empty string" };
        let model = serde_json::from_str::<Text<'a>>(raw.get()).map_err(|_| invalid.clone())?.0;
        if model.is_empty() { Err(invalid) } else { Ok((model, span(raw, text))) }
    }

    fn stream(&self) -> Result<bool, Refusal> {
        match self.value(STREAM).map(RawValue::get) {
            None | Some("false" | "null") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::InvalidValue { param: "stream", why: "must be true or false" }),
        }
    }

    /// An integer within these bounds; `None` where there is none, or null.
    fn count(&self, index: usize, (least, most): (u64, u64)) -> Result<Option<u64>, Refusal> {
        let (Some(raw), Some(param)) = (self.value(index), MEMBERS.get(index)) else { return Ok(None) };
        if raw.get() == "null" {
            return Ok(None);
        }
        let count = integer(raw.get()).filter(|count| (least..=most).contains(count));
        let why = match (least, most) {
            (_, CHOICES_MAX) => "must be an integer between 1 and 128",
            (0, _) => "must be an integer between 0 and 100000000",
            _ => "must be an integer between 1 and 100000000",
        };
        count.map(Some).ok_or(Refusal::InvalidValue { param, why })
    }

    fn bounds(&self, text: &str) -> Result<Vec<Bound>, Refusal> {
        let mut bounds = Vec::new();
        for index in BOUNDS {
            let param = MEMBERS.get(index).copied().unwrap_or_default();
            // A message of no tokens is asked for to fill the provider's cache with its prompt.
            let least = if self.call.api() == Api::Messages && param == "max_tokens" { 0 } else { 1 };
            let tokens = self.count(index, (least, TOKENS_MAX))?;
            bounds.extend(self.value(index).map(|raw| Bound { param, span: span(raw, text), tokens }));
        }
        Ok(bounds)
    }

    fn record(&mut self, index: usize, value: &'a RawValue) {
        let Some(slot) = self.values.get_mut(index) else { return };
        if slot.replace(value).is_some() {
            self.repeated = self.repeated.or(MEMBERS.get(index).copied());
        }
    }
}

impl<'de> Visitor<'de> for Governed<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            if let Some(index) = MEMBERS.iter().position(|member| *member == name) {
                self.record(index, map.next_value()?);
            } else if name == "prompt_cache_key" {
                self.cache_key = map.next_value()?;
            } else if name == "conversation" {
                self.stored_conversation = map.next_value()?;
            } else if name == "previous_response_id" {
                self.previous = map.next_value()?;
            } else if name == "background" {
                self.background |= map.next_value::<&RawValue>()?.get() == "true";
            } else if let Some(member) = Member::named(&name) {
                let value: &RawValue = map.next_value()?;
                prompt::read(member, value, |piece| self.prompt.add(piece));
                if name == "prompt" {
                    self.prompts = self.prompts.max(prompt::prompts(value));
                }
                if name == "input" && self.call == Call::Embeddings {
                    self.inputs =
                        self.inputs.max(prompt::inputs(value).map_or(1, |inputs| inputs.len() as u64));
                }
                if name == "messages" || name == "input" {
                    self.conversation = Some(value);
                }
            } else if video::names_seconds(&name) {
                let value: &RawValue = map.next_value()?;
                self.seconds = self.seconds.max(video::seconds(value.get()));
            } else if name == "user" {
                self.user = map.next_value()?;
            } else if self.images.concerns(&name) {
                self.images.record(&name, map.next_value()?);
            } else {
                self.misspelled = self.misspelled.or_else(|| folded(&name));
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self)
    }
}

impl<'de> DeserializeSeed<'de> for Governed<'de> {
    type Value = Self;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// A JSON string, borrowed where it has no escapes.
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A number that is an integer, however it is spelled: `100`, `100.0`, `1e2`.
fn integer(number: &str) -> Option<u64> {
    /// Up to here all integers have a number of their own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Ok(integer) = number.parse() {
        return Some(integer);
    }
    let number: f64 =
        Some(number).filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))?.parse().ok()?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a whole number that fits"
    )]
    (number.fract() == 0.0 && number <= EXACT).then_some(number as u64)
}

/// The governed member that a case-folding parser would take `name` for, if any.
fn folded(name: &str) -> Option<&'static str> {
    MEMBERS.into_iter().chain(PROMPT).find(|member| folds_to(name, member))
}

/// Whether a case-folding parser would take `name` for this member.
pub(super) fn folds_to(name: &str, member: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',  // long s, which folds to s
        '\u{212a}' => 'k', // Kelvin sign, which folds to k
        other => other.to_ascii_lowercase(),
    };
    member.chars().eq(name.chars().map(fold))
}

fn parse_object<'a>(text: &'a str, call: Call) -> Result<Governed<'a>, Refusal> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Governed::of(call).deserialize(&mut deserializer).and_then(|governed| {
        deserializer.end()?;
        Ok(governed)
    });
    parsed.map_err(|e| match e.classify() {
        serde_json::error::Category::Data => Refusal::NotARequest("must be a JSON object"),
        _ => Refusal::InvalidJson { line: e.line(), column: e.column() },
    })
}

/// The message with which a conversation begins, of a list that is known to be valid: the first of a user, else the first.
#[must_use]
pub fn opening(list: &str) -> Option<&RawValue> {
    struct Opening<'s, 'a>(&'s mut Option<&'a RawValue>);
    impl<'de: 'a, 'a> Visitor<'de> for Opening<'_, 'a> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            while let Some(element) = seq.next_element::<&RawValue>()? {
                let head = serde_json::from_str::<Head<'_>>(element.get());
                let of_user = head.is_ok_and(|head| head.role.is_some_and(|role| role.get() == "\"user\""));
                if of_user || self.0.is_none() {
                    *self.0 = Some(element);
                }
                if of_user {
                    break;
                }
            }
            Ok(())
        }
    }
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow, default)]
        role: Option<&'a RawValue>,
    }
    let mut first = None;
    // What follows is of no interest, and the reader says so by an error.
    let _ = serde_json::Deserializer::from_str(list).deserialize_seq(Opening(&mut first));
    first
}

fn usage_option(options: Option<&RawValue>, text: &str) -> Result<UsageOption, Refusal> {
    let Some(raw) = options else { return Ok(UsageOption::NoOptions(None)) };
    let at = span(raw, text);
    if raw.get() == "null" {
        return Ok(UsageOption::NoOptions(Some(at)));
    }
    let invalid = |why| Refusal::InvalidValue { param: "stream_options", why };
    let members: Members<'_> = serde_json::from_str(raw.get()).map_err(|_| invalid("must be an object"))?;
    let mut wanted = members.0.iter().filter(|(name, _)| name == "include_usage");
    match (wanted.next(), wanted.next()) {
        (None, _) => Ok(UsageOption::Absent { at: at.start + 1, more: !members.0.is_empty() }),
        (Some(_), Some(_)) => Err(invalid("must have include_usage once")),
        (Some((_, value)), None) => match value.get() {
            "true" => Ok(UsageOption::Asked),
            "false" | "null" => Ok(UsageOption::Declined(span(value, text))),
            _ => Err(invalid("must have true or false as include_usage")),
        },
    }
}

/// The members of a JSON object, in order, with their values as they stand.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

impl Members<'_> {
    /// The text of a member, if it is a string.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, value) = self.0.iter().find(|(member, _)| member == name)?;
        serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
    }
}

/// Whether a value is more than nothing.
pub(crate) fn is_present(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"" | "[]" | "{}" | "false")
}

/// Where a borrowed value stands in the text it was borrowed from.
fn span(raw: &RawValue, text: &str) -> Range<usize> {
    let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + raw.get().len()
}

/// Whether brackets outside strings nest deeper than `max`; broken JSON may give either answer.
pub(crate) fn depth_exceeds(json: &[u8], max: usize) -> bool {
    let (mut depth, mut rest) = (0usize, json);
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => rest = after_string(rest),
            _ => {}
        }
    }
    false
}

/// What follows the string whose opening quote has just been read.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(found) = memchr::memchr2(b'"', b'\\', rest) {
        let escape = rest.get(found) == Some(&b'\\');
        rest = rest.get(found + 1 + usize::from(escape)..).unwrap_or_default();
        if !escape {
            return rest;
        }
    }
    &[]
}

/// Line and column, from 1, of a byte offset.
fn position(body: &[u8], offset: usize) -> (usize, usize) {
    let before = body.get(..offset).unwrap_or_default();
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |found| found + 1);
    (memchr::memchr_iter(b'\n', before).count() + 1, offset - line_start + 1)
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
