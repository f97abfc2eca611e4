//! Which account wrote encrypted reasoning (spec 1.5, 9.6): Responses' `encrypted_content`, the signatures of thinking and
//! redacted thinking of Messages.
//!
//! Only the account that made it can read it. On its way to the client a sealed mark of constant length is put in front of
//! the value ([`Marker`], for whole answers, pieces and events alike, in constant memory); clients carry such values
//! untouched. On its way back ([`find`]) the mark says where the conversation has to go, and is cut off again. It survives
//! restarts and other gateways as long as the key of the seal is the same; a mark that cannot be opened says nothing.

use super::envelope::Members;
use super::splice::Edit;
use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

/// What a mark begins with; like the rest of it, and what follows, it is base64.
pub const PREFIX: &str = "TideGate";
/// The length of a mark, in bytes.
pub const MARK_LEN: usize = PREFIX.len() + 60;
/// Without one of these, there is nothing of this kind in a piece of JSON.
const NEEDLES: [&str; 3] = ["\"encrypted_content\"", "\"signature\"", "\"redacted_thinking\""];

/// The account that wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The channel, by [`short_digest`](super::seal::short_digest) of its name.
    pub channel: u64,
    /// The credential, by the same; 0 for none.
    pub credential: u64,
}

fn may_have(json: &[u8]) -> bool {
    NEEDLES.iter().any(|needle| memchr::memmem::find(json, needle.as_bytes()).is_some())
}

/// A complete piece of JSON with marks; borrowed where nothing in it is to be marked.
#[must_use]
pub fn marked<'a>(json: &'a [u8], mark: Option<&Bytes>) -> Cow<'a, [u8]> {
    let Some(mark) = mark.filter(|_| may_have(json)) else { return Cow::Borrowed(json) };
    let mut out = BytesMut::with_capacity(json.len() + 2 * MARK_LEN);
    Marker::new(mark.clone()).push(json, &mut out);
    Cow::Owned(out.into())
}

/// A member's name, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Name {
    #[default]
    Other,
    Content,
    Output,
    Response,
    Item,
    Block,
    Delta,
    Signature,
    Data,
    Encrypted,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b"content" => Self::Content,
            b"output" => Self::Output,
            b"response" => Self::Response,
            b"item" => Self::Item,
            b"content_block" => Self::Block,
            b"delta" => Self::Delta,
            b"signature" => Self::Signature,
            b"data" => Self::Data,
            b"encrypted_content" => Self::Encrypted,
            _ => Self::Other,
        }
    }
}

/// The longest name that matters, in bytes.
const NAME_MAX: usize = 17;
/// Values that are marked lie no deeper.
const DEPTH_MAX: usize = 4;

/// An object or list under way: whether it is a list, and the name of its member.
type Level = (bool, Name);

/// Puts the mark in front of what is signed or encrypted in a JSON answer, or an event, that passes in pieces.
#[derive(Debug)]
pub struct Marker {
    mark: Bytes,
    levels: [Level; DEPTH_MAX],
    depth: usize,
    name: Name,
    /// The name under way.
    key: Vec<u8>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In an object, before a name.
    BeforeName,
    InName,
    /// In a name, behind a backslash.
    EscapedInName,
    /// Anywhere else outside strings.
    Outside,
    /// At the first character of a value that is marked unless it is empty.
    AtValue,
    InString,
    /// In a string, behind a backslash.
    Escaped,
}

impl Marker {
    /// A marker at the start of an answer.
    #[must_use]
    pub fn new(mark: Bytes) -> Self {
        let levels = [(false, Name::Other); DEPTH_MAX];
        Self { mark, levels, depth: 0, name: Name::Other, key: Vec::new(), place: Place::Outside }
    }

    /// Takes a piece in and appends it to `out`, with marks.
    pub fn push(&mut self, piece: &[u8], out: &mut BytesMut) {
        let (mut at, mut written) = (0, 0);
        while let Some(&byte) = piece.get(at) {
            match self.place {
                Place::InString => {
                    let rest = piece.get(at..).unwrap_or_default();
                    let Some(found) = memchr::memchr2(b'"', b'\\', rest) else { break };
                    at += found;
                    let escape = rest.get(found) == Some(&b'\\');
                    self.place = if escape { Place::Escaped } else { Place::Outside };
                }
                Place::Escaped => self.place = Place::InString,
                Place::AtValue => {
                    if byte != b'"' {
                        out.extend_from_slice(piece.get(written..at).unwrap_or_default());
                        out.extend_from_slice(&self.mark);
                        written = at;
                    }
                    self.place = Place::InString;
                    continue;
                }
                Place::InName => self.in_name(byte),
                Place::EscapedInName => self.place = Place::InName,
                Place::BeforeName | Place::Outside => self.outside(byte),
            }
            at += 1;
        }
        out.extend_from_slice(piece.get(written..).unwrap_or_default());
    }

    fn in_name(&mut self, byte: u8) {
        if byte == b'"' {
            self.name = Name::of(&self.key);
            self.place = Place::Outside;
            return;
        }
        if byte == b'\\' {
            self.place = Place::EscapedInName;
        }
        if self.key.len() <= NAME_MAX {
            self.key.push(byte);
        }
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                let in_list = self.level(self.depth).is_some_and(|(is_list, _)| is_list);
                let name = if in_list { Name::Other } else { self.name };
                self.depth += 1;
                if let Some(level) = self.levels.get_mut(self.depth - 1) {
                    *level = (byte == b'[', name);
                }
                self.place = if byte == b'{' { Place::BeforeName } else { Place::Outside };
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.place = Place::Outside;
            }
            b',' if self.level(self.depth).is_some_and(|(is_list, _)| !is_list) => {
                self.place = Place::BeforeName;
            }
            b'"' if self.place == Place::BeforeName && self.depth <= DEPTH_MAX => {
                self.key.clear();
                self.place = Place::InName;
            }
            b'"' => self.place = if self.is_marked() { Place::AtValue } else { Place::InString },
            _ => {}
        }
    }

    /// The object or list at a depth from 1.
    fn level(&self, depth: usize) -> Option<Level> {
        self.levels.get(depth.checked_sub(1)?).copied()
    }

    /// Whether the string that begins here is a value to be marked, by its name and where it stands.
    fn is_marked(&self) -> bool {
        let at = |depth| self.level(depth).unwrap_or_default();
        let in_list = |depth: usize, name| at(depth) == (true, name) && !at(depth + 1).0;
        match (self.name, self.depth) {
            (Name::Encrypted, 2) => at(2) == (false, Name::Item),
            (Name::Encrypted, 3) => in_list(2, Name::Output),
            (Name::Encrypted, 4) => at(2) == (false, Name::Response) && in_list(3, Name::Output),
            (Name::Signature | Name::Data, 2) if at(2) == (false, Name::Block) => true,
            (Name::Signature, 2) => at(2) == (false, Name::Delta),
            (Name::Signature | Name::Data, 3) => in_list(2, Name::Content),
            _ => false,
        }
    }
}

/// Encrypted or signed reasoning in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The mark in front of its value, if it has one.
    pub mark: Option<Range<usize>>,
    /// Whether the conversation can go on without it.
    pub is_droppable: bool,
    /// The element of a list that it is, or that has it.
    element: Range<usize>,
    /// The end of the element before it, and the start of the one after it.
    before: Option<usize>,
    after: Option<usize>,
    /// The start of its list, its position in it, and the length of the list.
    list: usize,
    ordinal: usize,
    count: usize,
}

/// Finds it in a conversation, the list `messages` or `input` as it stands in `body`.
#[must_use]
pub fn find(conversation: &str, body: &[u8]) -> Vec<Sealed> {
    if !may_have(conversation.as_bytes()) {
        return Vec::new();
    }
    let mut walk = Walk { body, found: Vec::new() };
    let messages = elements(conversation);
    let uses_tools = messages.last().is_some_and(|last| last.get().contains("\"tool_result\""));
    let is_answer = |message: &&RawValue| message.get().contains("\"assistant\"");
    let last_answer = messages.iter().rposition(is_answer).filter(|_| uses_tools);
    for (index, message) in messages.iter().enumerate().filter(|(_, m)| may_have(m.get().as_bytes())) {
        let Ok(members) = serde_json::from_str::<Members<'_>>(message.get()) else { continue };
        if let Some(value) = member(&members, "encrypted_content") {
            let is_droppable = members.text("type").as_deref() == Some("reasoning");
            walk.add(&messages, index, value, is_droppable);
        } else if let Some(content) = member(&members, "content") {
            // The answer that called a tool has to begin with its thoughts when the result comes.
            walk.blocks(content.get(), Some(index) != last_answer);
        }
    }
    walk.found
}

struct Walk<'a> {
    body: &'a [u8],
    found: Vec<Sealed>,
}

impl Walk<'_> {
    /// Thinking in the content of a message.
    fn blocks(&mut self, content: &str, is_droppable: bool) {
        let blocks = elements(content);
        let first = self.found.len();
        for (index, block) in blocks.iter().enumerate() {
            let Ok(members) = serde_json::from_str::<Members<'_>>(block.get()) else { continue };
            let value = match members.text("type").as_deref() {
                Some("thinking") => member(&members, "signature"),
                Some("redacted_thinking") => member(&members, "data"),
                _ => None,
            };
            if let Some(value) = value {
                self.add(&blocks, index, value, is_droppable);
            }
        }
        // A message needs content.
        if self.found.len() - first == blocks.len() {
            self.found.iter_mut().skip(first).for_each(|sealed| sealed.is_droppable = false);
        }
    }

    fn add(&mut self, list: &[&RawValue], ordinal: usize, value: &RawValue, is_droppable: bool) {
        let span = |raw: &RawValue| {
            let start = (raw.get().as_ptr() as usize).saturating_sub(self.body.as_ptr() as usize);
            start..start + raw.get().len()
        };
        let at = |index: usize| list.get(index).map(|element| span(element));
        let (Some(element), Some(first)) = (at(ordinal), at(0)) else { return };
        let start = span(value).start + 1;
        let has_mark = value.get().get(1..).is_some_and(|value| {
            value.len() > MARK_LEN && value.starts_with(PREFIX) && value.is_char_boundary(MARK_LEN)
        });
        self.found.push(Sealed {
            mark: has_mark.then(|| start..start + MARK_LEN),
            is_droppable,
            element,
            before: ordinal.checked_sub(1).and_then(at).map(|before| before.end),
            after: at(ordinal + 1).map(|after| after.start),
            list: first.start,
            ordinal,
            count: list.len(),
        });
    }
}

/// The elements of a list that is known to be valid.
fn elements(list: &str) -> Vec<&RawValue> {
    serde_json::from_str(list).unwrap_or_default()
}

/// A member that is a string.
fn member<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
    let (_, value) = members.0.iter().find(|(own, _)| own == name)?;
    matches!(value.get().as_bytes(), [b'"' | b'[', ..]).then_some(*value)
}

/// The edits that leave some of them out and cut the marks off the others.
#[must_use]
pub fn edits(all: &[Sealed], is_left_out: impl Fn(usize) -> bool) -> Vec<Edit> {
    let left_out: Vec<bool> = (0..all.len()).map(is_left_out).collect();
    let is_out = |index: usize| left_out.get(index).copied().unwrap_or_default();
    let behind = |of: &Sealed| {
        let later =
            all.iter().enumerate().filter(|(_, other)| other.list == of.list && other.ordinal > of.ordinal);
        later.filter(|(index, _)| is_out(*index)).count()
    };
    let edit = |(index, sealed): (usize, &Sealed)| {
        if !is_out(index) {
            return sealed.mark.clone();
        }
        // With the comma behind it, or the one before where nothing remains behind it.
        let remains = sealed.count - sealed.ordinal - 1 > behind(sealed);
        Some(match sealed.after.filter(|_| remains) {
            Some(after) => sealed.element.start..after,
            None => sealed.before.unwrap_or(sealed.element.start)..sealed.element.end,
        })
    };
    all.iter().enumerate().filter_map(edit).map(|span| (span, Bytes::new())).collect()
}

#[cfg(test)]
#[path = "provenance_tests.rs"]
mod tests;
