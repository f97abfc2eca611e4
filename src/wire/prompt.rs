//! What a request body gives a model to read, piece by piece (spec 7.2).
//!
//! [`read`] walks one member of a body and hands out its [`Piece`]s. It takes JSON that the validating pass has accepted,
//! so it looks for strings and brackets only, builds nothing, and copies nothing but strings with escapes. Given anything
//! else it ends and means nothing, but does no harm.
//!
//! Strings are text, except where their member's name says what else they are: small words such as `role`, references, and
//! data in base64, which count by their size or as an image. What is long under the name of a small word is text.

use crate::core::estimate::Piece;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A member of a request body that costs input tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// A list of messages or items, or the only message.
    Conversation,
    /// A message beside the conversation.
    Instructions,
    /// Text, or lists of text or of tokens.
    Text,
    /// JSON that describes tools or the form of the answer.
    Schema,
    /// Images: their addresses, which may be data, or objects that have them.
    Images,
}

impl Member {
    /// What a member is, by its name; `None` if it costs no input.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "messages" | "input" => Some(Self::Conversation),
            "system" | "instructions" => Some(Self::Instructions),
            "prompt" | "suffix" | "documents" => Some(Self::Text),
            "image" | "images" | "mask" => Some(Self::Images),
            "tools" | "functions" | "response_format" | "text" | "output_config" | "output_format" => {
                Some(Self::Schema)
            }
            _ => None,
        }
    }
}

/// Words under these names are not read by the model, as long as they are short.
const LABELS: [&str; 16] = [
    "role",
    "id",
    "tool_call_id",
    "call_id",
    "tool_use_id",
    "item_id",
    "server_label",
    "format",
    "status",
    "cache_control",
    "index",
    "phase",
    "object",
    "filename",
    "finish_reason",
    "stop_reason",
];
/// The longest of them; what is longer is text.
const LABEL_MAX: usize = 256;
/// What stands under these names is not read by the model: addresses, and what belongs to an earlier answer's text.
/// A signature vouches for the reasoning beside it, which is counted.
const UNREAD: [&str; 5] = ["url", "annotations", "citations", "logprobs", "signature"];
/// JSON of any shape under these names is read as it stands.
const STRUCTURES: [&str; 7] =
    ["input", "arguments", "parameters", "input_schema", "schema", "json_schema", "action"];

/// Bytes for one token. Sound at a low bit rate comes to more bytes, a paper without pictures to fewer.
const FILE_BYTES: usize = 64;
const SOUND_BYTES: usize = 256;
/// Encrypted reasoning is base64 (4 bytes for 3) of text (4 bytes a token), of which providers drop a part.
const SEALED_BYTES: usize = 8;

/// Deeper than this a value is taken as it stands; bodies nest no deeper.
const DEPTH_MAX: usize = 128;

/// Hands out the pieces of a member of a validated body.
pub fn read<S: FnMut(Piece<'_>)>(member: Member, value: &RawValue, sink: S) {
    let mut reader = Reader { rest: value.get(), sink, scratch: String::new() };
    let first = reader.peek();
    match member {
        Member::Schema => reader.schema(),
        Member::Images => reader.images(DEPTH_MAX),
        Member::Conversation if first == Some(b'[') => reader.list(DEPTH_MAX, true),
        Member::Conversation | Member::Instructions if matches!(first, Some(b'"' | b'[' | b'{')) => {
            (reader.sink)(Piece::Message);
            reader.value(DEPTH_MAX);
        }
        _ => reader.value(DEPTH_MAX),
    }
}

/// How many prompts a member of a validated body has: a list of texts, or of lists of tokens, has one in each element.
#[must_use]
pub fn prompts(value: &RawValue) -> u64 {
    struct Count;
    impl<'de> Visitor<'de> for Count {
        type Value = u64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
            let mut count = 0;
            while let Some(element) = seq.next_element::<&RawValue>()? {
                count += u64::from(element.get().starts_with(['"', '[']));
            }
            Ok(count)
        }
    }
    let counted = serde_json::Deserializer::from_str(value.get()).deserialize_seq(Count);
    counted.unwrap_or(1).max(1)
}

/// The inputs of a batch, each of which a model reads by itself: texts, lists of tokens or objects in a list; `None` where
/// the member is one input.
#[must_use]
pub fn inputs(value: &RawValue) -> Option<Vec<&RawValue>> {
    let list = value.get().strip_prefix('[')?.trim_ascii_start();
    if !list.starts_with(['"', '[', '{']) {
        return None;
    }
    serde_json::from_str(value.get()).ok()
}

struct Reader<'a, S> {
    rest: &'a str,
    sink: S,
    /// Where strings with escapes are decoded.
    scratch: String,
}

/// What an object turned out to be, once all its members are known; values as they stand.
#[derive(Default)]
struct Part<'a> {
    kind: &'a str,
    media: &'a str,
    data: Option<&'a str>,
    images: usize,
    low: bool,
}

impl<'a, S: FnMut(Piece<'_>)> Reader<'a, S> {
    /// The next byte that matters; in valid JSON, commas and colons do not.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.rest.as_bytes();
        let at = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':'))?;
        self.advance(at);
        bytes.get(at).copied()
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// The value at hand, as it stands.
    fn skip(&mut self) -> &'a str {
        self.peek();
        let (value, rest) = self.rest.split_at_checked(value_length(self.rest)).unwrap_or((self.rest, ""));
        self.rest = rest;
        value
    }

    fn value(&mut self, depth: usize) {
        match self.peek() {
            Some(b'"') => self.text(),
            Some(b'[' | b'{') if depth == 0 => self.structure(),
            Some(b'[') => self.list(depth, false),
            Some(b'{') => {
                let part = self.object(depth);
                self.finish(&part);
            }
            _ => drop(self.skip()),
        }
    }

    fn text(&mut self) {
        let text = unquoted(self.skip());
        (self.sink)(Piece::Text(decoded(text, &mut self.scratch)));
    }

    /// JSON that is read as text.
    fn structure(&mut self) {
        let json = self.skip();
        (self.sink)(Piece::Text(decoded(json, &mut self.scratch)));
    }

    fn schema(&mut self) {
        let json = self.skip();
        (self.sink)(Piece::Schema(decoded(json, &mut self.scratch)));
    }

    fn list(&mut self, depth: usize, of_messages: bool) {
        self.advance(1);
        while let Some(byte) = self.peek() {
            match byte {
                b']' => return self.advance(1),
                b'-' | b'0'..=b'9' => {
                    self.skip();
                    (self.sink)(Piece::Listed);
                }
                _ => {
                    if of_messages && byte == b'{' {
                        (self.sink)(Piece::Message);
                    }
                    self.value(depth - 1);
                }
            }
        }
    }

    fn object(&mut self, depth: usize) -> Part<'a> {
        let mut part = Part::default();
        self.advance(1);
        while let Some(byte) = self.peek() {
            match byte {
                b'}' => {
                    self.advance(1);
                    break;
                }
                b'"' => {
                    let name = unquoted(self.skip());
                    let mut scratch = String::new();
                    self.member(decoded(name, &mut scratch), &mut part, depth);
                }
                _ => drop(self.skip()),
            }
        }
        part
    }

    fn member(&mut self, name: &str, part: &mut Part<'a>, depth: usize) {
        let first = self.peek();
        match name {
            "type" => part.kind = self.label(),
            "media_type" | "mime_type" | "mimeType" => part.media = self.label(),
            "detail" => part.low = self.label() == r#""low""#,
            "image_url" | "image" | "input_image" | "input_image_url" | "input_image_b64" => {
                self.image(first, part, depth);
            }
            "file_id" | "file_url" | "b64_json" => {
                self.skip();
                part.images += 1;
            }
            "video_url" => {
                part.images += 1;
                self.bulk(FILE_BYTES);
            }
            "input_audio" => self.bulk(SOUND_BYTES),
            "file_data" => self.bulk(FILE_BYTES),
            "encrypted_content" => self.bulk(SEALED_BYTES),
            "data" | "result" if first == Some(b'"') => part.data = Some(self.skip()),
            "name" if first == Some(b'"') => {
                (self.sink)(Piece::Name);
                self.text();
            }
            name if LABELS.contains(&name) => drop(self.label()),
            name if UNREAD.contains(&name) => drop(self.skip()),
            name if STRUCTURES.contains(&name) && first != Some(b'"') => self.structure(),
            _ => self.value(depth - 1),
        }
    }

    /// An image, or a list of them.
    fn images(&mut self, depth: usize) {
        match self.peek() {
            Some(b'"') => {
                self.skip();
                (self.sink)(Piece::Image { low: false });
            }
            Some(b'[') if depth > 0 => {
                self.advance(1);
                while self.peek().is_some_and(|byte| byte != b']') {
                    self.images(depth - 1);
                }
                self.advance(1);
            }
            _ => self.value(depth),
        }
    }

    /// A small word.
    fn label(&mut self) -> &'a str {
        let word = self.skip();
        if word.len() > LABEL_MAX {
            (self.sink)(Piece::Text(decoded(word, &mut self.scratch)));
        }
        word
    }

    fn bulk(&mut self, bytes_each: usize) {
        let tokens = self.skip().len().div_ceil(bytes_each);
        (self.sink)(Piece::Bulk(tokens as u64));
    }

    /// An image by its address, which may be data: as a string, or in an object with its detail.
    fn image(&mut self, first: Option<u8>, part: &mut Part<'a>, depth: usize) {
        part.images += 1;
        if first == Some(b'{') && depth > 1 {
            let inner = self.object(depth - 1);
            part.low |= inner.low;
            part.images += inner.images;
        } else {
            self.skip();
        }
    }

    fn finish(&mut self, part: &Part<'a>) {
        let kind = unquoted(part.kind);
        let media = unquoted(part.media);
        let pictured = media.starts_with("image/") || kind == "image_generation_call";
        let images = part.images + usize::from(part.data.is_some() && pictured) + usize::from(kind == "url");
        for _ in 0..images {
            (self.sink)(Piece::Image { low: part.low });
        }
        let Some(data) = part.data.filter(|_| !pictured) else { return };
        let bytes_each = match kind {
            "redacted_thinking" => SEALED_BYTES,
            "audio" => SOUND_BYTES,
            "base64" | "file" | "input_file" => FILE_BYTES,
            _ => {
                let text = decoded(unquoted(data), &mut self.scratch);
                return (self.sink)(Piece::Text(text));
            }
        };
        (self.sink)(Piece::Bulk(data.len().div_ceil(bytes_each) as u64));
    }
}

/// The length of the value at the front of valid JSON; at least one byte, if there is any.
fn value_length(json: &str) -> usize {
    let bytes = json.as_bytes();
    match bytes.first() {
        Some(b'"') => string_length(bytes),
        Some(b'[' | b'{') => nested_length(bytes),
        Some(_) => {
            let rest = bytes.iter().skip(1);
            let more =
                rest.take_while(|byte| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
            more.count() + 1
        }
        None => 0,
    }
}

/// The length of the string at the front, quotes included.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if bytes.get(at - 1) == Some(&b'"') {
            return at;
        }
        at += 1; // what is escaped
    }
    bytes.len()
}

/// The length of the list or object at the front.
fn nested_length(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                at += string_length(bytes.get(at..).unwrap_or_default());
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

fn unquoted(string: &str) -> &str {
    string.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(string)
}

/// JSON without its escapes, decoded into `scratch` where it has any; half a pair of surrogates becomes U+FFFD.
fn decoded<'t>(json: &'t str, scratch: &'t mut String) -> &'t str {
    let Some(mut at) = memchr::memchr(b'\\', json.as_bytes()) else { return json };
    scratch.clear();
    scratch.reserve(json.len());
    let mut rest = json;
    loop {
        let (plain, escape) = rest.split_at_checked(at).unwrap_or((rest, ""));
        scratch.push_str(plain);
        let (character, length) = escaped(escape);
        if let Some(character) = character {
            scratch.push(character);
        }
        rest = escape.get(length..).unwrap_or_default();
        match memchr::memchr(b'\\', rest.as_bytes()) {
            Some(found) => at = found,
            None => break,
        }
    }
    scratch.push_str(rest);
    scratch
}

/// The character of the escape at the front, and the escape's length.
fn escaped(escape: &str) -> (Option<char>, usize) {
    let character = match escape.as_bytes().get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return escaped_unit(escape),
        Some(other) if other.is_ascii() => char::from(*other),
        _ => return (None, escape.len()),
    };
    (Some(character), 2)
}

fn escaped_unit(escape: &str) -> (Option<char>, usize) {
    let unit = |at: usize| {
        let digits = escape.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [unit(0), unit(6)];
    let first = char::decode_utf16(units.into_iter().flatten()).next();
    let character = first.and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER);
    (Some(character), 6 * character.len_utf16())
}

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
