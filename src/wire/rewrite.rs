//! Rewriting of the top-level members of a JSON object while it passes by (spec 1.5, 1.6, 2.8).
//!
//! [`Rewriter`] copies an object through, replaces the values of some members, leaves others out, and keeps what it was
//! told to keep; everything inside a passed value stays byte for byte as it was. It works on pieces of any size in
//! constant memory, so one mechanism serves an event of a stream, a small answer and an image of many megabytes. It
//! follows the structure of JSON and nothing more: it does not validate what it passes.

use super::allowed::Extra;
use super::envelope::Text;
use super::inside::{Inside, Sieve};
use bytes::{BufMut, Bytes, BytesMut};
use std::borrow::Cow;

/// What happens to a member.
#[derive(Debug, Clone)]
pub enum Action {
    /// It passes as it is.
    Pass,
    /// Its value becomes this.
    Replace(Bytes),
    /// It passes under this name, as far as its members pass.
    Rename(&'static str, Sieve),
    /// It is left out.
    Drop,
    /// It is left out because it is not known, and counted.
    DropUnknown,
    /// It is an object, or lists of objects, of which some members pass.
    Look(Sieve),
    /// The same, but a choice in it that ended with an error is a failure, and nothing passes any more.
    Watch(Sieve),
    /// It is a failure if this function says so of its value, and nothing passes any more; else it passes.
    Unless(fn(&[u8]) -> bool),
    /// The same, but it is left out if it is no failure.
    DropUnless(fn(&[u8]) -> bool),
}

/// The longest value that is kept for reading, in bytes; a longer one passes unread.
pub const KEPT_MAX: usize = 64 * 1024;
/// The longest member name that is compared; a longer one is none of ours.
pub const NAME_MAX: usize = 256;
/// So much of a value is held back at most until it is judged, in bytes; the words that matter are shorter.
pub(super) const JUDGED_MAX: usize = 32;

/// Rewrites one JSON object by the rule `F`: member name → action.
///
/// The value of the member `usage` is kept as well, whatever its action.
pub struct Rewriter<F> {
    rule: F,
    state: State,
    scan: Scan,
    /// The value under way, where members of it are left out.
    inside: Option<Inside>,
    /// The name of the member under way, quotes included.
    name: BytesMut,
    action: Action,
    written_any: bool,
    keeping: bool,
    kept: BytesMut,
    /// The member under way is `data`, whose items are counted.
    counting: Option<Scan>,
    items: Option<u64>,
    /// The value under way, held back until it is judged.
    judging: Option<BytesMut>,
    failed: bool,
    /// Names that pass inside of values though no table has them.
    extra: Extra,
    /// Members that are written at the end if they did not come.
    missing: [Option<(&'static str, Bytes)>; 2],
    /// Members that were dropped because they are not known.
    dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the opening brace.
    Start,
    /// Between members, or before the first.
    BeforeName,
    InName,
    /// In a name that is too long to be compared.
    InLongName,
    /// Between a name and its value.
    BeforeValue,
    InValue,
    /// After the closing brace.
    End,
    /// What came is not an object.
    Broken,
}

impl<F: FnMut(&str) -> Action> Rewriter<F> {
    /// A rewriter at the start of an object.
    #[must_use]
    pub fn new(rule: F) -> Self {
        Self {
            rule,
            state: State::Start,
            scan: Scan::default(),
            inside: None,
            name: BytesMut::new(),
            action: Action::Pass,
            written_any: false,
            keeping: false,
            kept: BytesMut::new(),
            counting: None,
            items: None,
            judging: None,
            failed: false,
            extra: None,
            missing: [None, None],
            dropped: 0,
        }
    }

    /// The same, but these names pass inside of values too.
    #[must_use]
    pub fn passing(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }

    /// The same, but these members are added at the end if they do not come.
    #[must_use]
    pub fn requiring(mut self, members: [Option<(&'static str, Bytes)>; 2]) -> Self {
        self.missing = members;
        self
    }

    /// Takes a piece in and appends what becomes of it to `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut BytesMut) {
        while !piece.is_empty() {
            piece = piece.get(self.step(piece, out)..).unwrap_or_default();
        }
    }

    /// Takes in as much of a piece as belongs together; how many bytes that was.
    pub(super) fn step(&mut self, piece: &[u8], out: &mut BytesMut) -> usize {
        match (self.state, piece.first()) {
            (State::InValue, _) => self.value(piece, out),
            (State::InName, _) => self.name(piece, out),
            (State::InLongName, _) => self.long_name(piece, out),
            (_, Some(&byte)) => {
                self.between(byte, out);
                // The first byte of a value belongs to the value.
                usize::from(self.state != State::InValue)
            }
            (_, None) => 0,
        }
    }

    /// Whether the object has been closed, and nothing but white space followed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// Whether a member was a failure ([`Action::Unless`], [`Action::Watch`]); nothing passes after that.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// How many members were dropped because they are not known, inside of values too.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped + self.inside.as_ref().map_or(0, Inside::dropped)
    }

    /// The value of `usage`, once it has passed.
    #[must_use]
    pub fn usage(&self) -> Option<&[u8]> {
        (!self.kept.is_empty() && !self.keeping).then_some(&self.kept)
    }

    /// How many objects the list `data` has so far; `None` before it.
    #[must_use]
    pub fn items(&self) -> Option<u64> {
        self.items
    }

    fn between(&mut self, byte: u8, out: &mut BytesMut) {
        self.state = match (self.state, byte) {
            (state, b' ' | b'\t' | b'\r' | b'\n') => state,
            (State::Start, b'{') => {
                out.put_u8(b'{');
                State::BeforeName
            }
            (State::BeforeName, b',') => State::BeforeName,
            (State::BeforeName, b'"') => {
                self.name.clear();
                self.name.put_u8(b'"');
                self.scan = Scan::default();
                State::InName
            }
            (State::BeforeName, b'}') => {
                self.write_missing(out);
                out.put_u8(b'}');
                State::End
            }
            (State::BeforeValue, b':') => State::BeforeValue,
            (State::BeforeValue, _) => {
                self.scan = Scan::default();
                State::InValue
            }
            _ => State::Broken,
        };
    }

    /// Collects a name up to its closing quote, then decides what happens to the member.
    fn name(&mut self, piece: &[u8], out: &mut BytesMut) -> usize {
        let end = string_end(piece, &mut self.scan.escaped);
        let used = end.unwrap_or(piece.len());
        self.name.extend_from_slice(piece.get(..used).unwrap_or_default());
        if end.is_some() {
            self.begin_member(out);
            self.state = State::BeforeValue;
        } else if self.name.len() > NAME_MAX {
            // It is none that is known, so it need not be kept to its end.
            self.begin_long_member(out);
            self.state = State::InLongName;
        }
        used
    }

    /// Writes the rest of a name that is too long to be kept, if it passes.
    fn long_name(&mut self, piece: &[u8], out: &mut BytesMut) -> usize {
        let end = string_end(piece, &mut self.scan.escaped);
        let used = end.unwrap_or(piece.len());
        let passes = matches!(self.action, Action::Pass);
        if passes {
            out.extend_from_slice(piece.get(..used).unwrap_or_default());
        }
        if end.is_some() {
            if passes {
                out.put_u8(b':');
            }
            self.state = State::BeforeValue;
        }
        used
    }

    fn begin_long_member(&mut self, out: &mut BytesMut) {
        (self.counting, self.keeping) = (None, false);
        self.action = match (self.rule)("") {
            Action::Pass => Action::Pass,
            Action::DropUnknown => {
                self.dropped += 1;
                Action::Drop
            }
            _ => Action::Drop,
        };
        if matches!(self.action, Action::Pass) {
            self.write_comma(out);
            out.extend_from_slice(&self.name);
        }
    }

    fn write_missing(&mut self, out: &mut BytesMut) {
        for (name, value) in std::mem::take(&mut self.missing).into_iter().flatten() {
            self.write_comma(out);
            out.put_u8(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(&value);
        }
    }

    fn write_comma(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.written_any, true) {
            out.put_u8(b',');
        }
    }

    fn begin_member(&mut self, out: &mut BytesMut) {
        let name = if self.name.len() > NAME_MAX { None } else { plain_name(&self.name) };
        let name = name.unwrap_or_default();
        self.action = (self.rule)(&name);
        self.counting = (name == "data").then(Scan::default);
        if self.counting.is_some() {
            self.items = Some(0);
        }
        self.keeping = name == "usage";
        if self.keeping {
            self.kept.clear();
        }
        for missing in &mut self.missing {
            if missing.as_ref().is_some_and(|(required, _)| *required == name) {
                *missing = None;
            }
        }
        match &self.action {
            Action::Drop => return,
            Action::DropUnknown => {
                self.dropped += 1;
                return;
            }
            Action::Unless(_) | Action::DropUnless(_) => {
                self.judging = Some(BytesMut::new());
                return;
            }
            _ => {}
        }
        self.write_name(out);
        self.inside = match &self.action {
            Action::Replace(value) => {
                out.extend_from_slice(value);
                None
            }
            Action::Look(sieve) | Action::Rename(_, sieve) => {
                Some(Inside::new(*sieve, self.extra.clone(), false))
            }
            Action::Watch(sieve) => Some(Inside::new(*sieve, self.extra.clone(), true)),
            _ => None,
        };
    }

    fn write_name(&mut self, out: &mut BytesMut) {
        self.write_comma(out);
        match self.action {
            Action::Rename(name, _) => {
                out.put_u8(b'"');
                out.extend_from_slice(name.as_bytes());
                out.put_u8(b'"');
            }
            _ => out.extend_from_slice(&self.name),
        }
        out.put_u8(b':');
    }

    /// Holds a value back until it is known, or known to be too long for a word; then it passes, or is a failure.
    fn judge(&mut self, bytes: &[u8], ended: bool, out: &mut BytesMut) {
        let (Some(held), Action::Unless(fails) | Action::DropUnless(fails)) =
            (&mut self.judging, &self.action)
        else {
            return;
        };
        held.extend_from_slice(bytes);
        if !ended && held.len() <= JUDGED_MAX {
            return;
        }
        let fails = fails(held.trim_ascii_end());
        let value = self.judging.take().unwrap_or_default();
        if fails {
            self.failed = true;
            return;
        }
        if matches!(self.action, Action::DropUnless(_)) {
            self.action = Action::Drop;
            return;
        }
        self.action = Action::Pass;
        self.write_name(out);
        out.extend_from_slice(&value);
    }

    /// Passes, drops or keeps bytes of a value, up to its end if that is in the piece.
    fn value(&mut self, piece: &[u8], out: &mut BytesMut) -> usize {
        let end = match &mut self.inside {
            Some(inside) => inside.push(piece, out),
            None => self.scan.end(piece),
        };
        let used = end.unwrap_or(piece.len());
        let bytes = piece.get(..used).unwrap_or_default();
        match self.action {
            Action::Pass => out.extend_from_slice(bytes),
            Action::Unless(_) | Action::DropUnless(_) => self.judge(bytes, end.is_some(), out),
            _ => {}
        }
        self.failed |= self.inside.as_ref().is_some_and(Inside::has_failed);
        if self.failed {
            self.state = State::Broken;
            return piece.len();
        }
        if let Some(data) = &mut self.counting {
            // Its end is known already; what counts is what it finds on the way.
            let _ = data.end(bytes);
            self.items = Some(data.elements);
        }
        if self.keeping && self.kept.len() + bytes.len() <= KEPT_MAX {
            self.kept.extend_from_slice(bytes);
        }
        if end.is_some() {
            self.keeping = false;
            self.counting = None;
            self.dropped += self.inside.take().map_or(0, |inside| inside.dropped());
            self.state = State::BeforeName;
        }
        used
    }
}

/// A value under way, of which only the end is looked for.
#[derive(Debug, Default)]
pub(super) struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Objects and lists directly in it.
    elements: u64,
}

impl Scan {
    /// The position after the quote that closes the string under way, if it is in `piece`.
    pub(super) fn string_end(&mut self, piece: &[u8]) -> Option<usize> {
        string_end(piece, &mut self.escaped)
    }

    /// How many bytes of the piece belong to the value, if it ends in it.
    pub(super) fn end(&mut self, piece: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            if self.in_string {
                at += string_end(piece.get(at..).unwrap_or_default(), &mut self.escaped)?;
                self.in_string = false;
                if self.depth == 0 {
                    return Some(at);
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'[' | b'{' => {
                    self.elements += u64::from(self.depth == 1);
                    self.depth += 1;
                }
                // At depth 0 these end a number or a literal and belong to the object around it.
                b']' | b'}' | b',' if self.depth == 0 => return Some(at),
                b']' | b'}' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        None
    }
}

/// The position after the quote that closes a string, if it is in `piece`; `escaped` carries over to the next piece.
pub(super) fn string_end(piece: &[u8], escaped: &mut bool) -> Option<usize> {
    let mut at = 0;
    if std::mem::take(escaped) {
        at = 1;
    }
    while let Some(found) = piece.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if piece.get(at - 1) == Some(&b'"') {
            return Some(at);
        }
        *escaped = at == piece.len();
        at += 1;
    }
    None
}

/// What a quoted name spells.
pub(super) fn plain_name(quoted: &[u8]) -> Option<Cow<'_, str>> {
    if let [b'"', name @ .., b'"'] = quoted
        && !name.contains(&b'\\')
    {
        return std::str::from_utf8(name).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<Text<'_>>(quoted).ok().map(|text| text.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn rule(name: &str) -> Action {
        match name {
            "id" => Action::Replace(Bytes::from_static(b"\"gate\"")),
            "gone" => Action::Drop,
            _ => Action::Pass,
        }
    }

    fn rewrite(pieces: &[&[u8]]) -> (String, bool, Option<String>) {
        let mut rewriter = Rewriter::new(rule);
        let mut out = BytesMut::new();
        for piece in pieces {
            rewriter.push(piece, &mut out);
        }
        let usage = rewriter.usage().map(|usage| String::from_utf8(usage.to_vec()).unwrap());
        (String::from_utf8(out.to_vec()).unwrap(), rewriter.is_complete(), usage)
    }

    /// Goal: members are replaced and left out wherever they stand, separators stay right, values stay as they were.
    #[test]
    fn replaces_and_drops_members() {
        for (input, expected) in [
            (
                r#"{"id":"x","a":[1,{"id":2}],"gone":{"b":"}"},"z":1.0e1}"#,
                r#"{"id":"gate","a":[1,{"id":2}],"z":1.0e1}"#,
            ),
            (r#"{"gone":"x\"}","a": "\\" }"#, r#"{"a":"\\"}"#),
            (r#" { "gone" : null } "#, "{}"),
            (r#"{"gone":1,"id":2,"gone":3}"#, r#"{"id":"gate"}"#),
            (r#"{"\u0069d":7}"#, r#"{"\u0069d":"gate"}"#),
        ] {
            assert_eq!(rewrite(&[input.as_bytes()]), (expected.into(), true, None), "{input}");
        }
        let (out, complete, usage) = rewrite(&[br#"{"usage": {"a":1} ,"b":2}"#]);
        assert_eq!(
            (&*out, complete, usage.as_deref()),
            (r#"{"usage":{"a":1},"b":2}"#, true, Some(r#"{"a":1}"#))
        );
    }

    /// Goal: a member that is a failure ends it all, and nothing of its value passes; one that is none passes as it stands,
    /// wherever the pieces are cut.
    #[test]
    fn failures_do_not_pass() {
        let rule = |name: &str| match name {
            "error" => Action::Unless(|value| value != b"null"),
            _ => Action::Pass,
        };
        for (input, expected) in [
            (r#"{"a":1,"error": null ,"b":2}"#, Some(r#"{"a":1,"error":null ,"b":2}"#)),
            (r#"{"error":null}"#, Some(r#"{"error":null}"#)),
            (r#"{"a":[{"error":{"m":"secret"}}]}"#, Some(r#"{"a":[{"error":{"m":"secret"}}]}"#)),
            (r#"{"a":1,"error":{"message":"secret, and very much longer than a word"},"b":2}"#, None),
            (r#"{"a":1,"error":"secret"}"#, None),
            (r#"{"a":1,"error":3}"#, None),
        ] {
            for size in [1, 7, input.len()] {
                let (mut rewriter, mut out) = (Rewriter::new(rule), BytesMut::new());
                input.as_bytes().chunks(size).for_each(|piece| rewriter.push(piece, &mut out));
                let told =
                    (rewriter.has_failed(), rewriter.is_complete(), std::str::from_utf8(&out).unwrap());
                let passed = (false, true, expected.unwrap_or_default());
                assert_eq!(told, if expected.is_some() { passed } else { (true, false, r#"{"a":1"#) });
            }
        }
    }

    /// Goal: a cut or broken object is never called complete.
    #[test]
    fn knows_what_is_incomplete() {
        for input in ["", "{", r#"{"a":"b"#, r#"{"a":[1}"#, "[]", r#"{"a":1} x"#, r#"{"a":1}}"#] {
            assert!(!rewrite(&[input.as_bytes()]).1, "{input}");
        }
    }

    proptest! {
        /// Goal: however the object is cut into pieces, the result equals the same edit of the parsed value.
        #[test]
        fn equals_an_edit_of_the_value(
            members in prop::collection::vec(("(id|gone|a|b\"|\\\\)", "[a-z\"\\\\{}\\[\\],:é]{0,8}", any::<i32>()), 0..8),
            size in 1usize..20,
        ) {
            let mut before = Map::new();
            for (name, text, number) in members {
                before.insert(name, serde_json::json!({"t": text, "n": [number, {"id": text}]}));
            }
            let mut after = before.clone();
            after.remove("gone");
            if let Some(id) = after.get_mut("id") {
                *id = "gate".into();
            }
            let json = Value::Object(before).to_string();
            let (out, complete, _) = rewrite(&json.as_bytes().chunks(size).collect::<Vec<_>>());
            prop_assert!(complete);
            prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), Value::Object(after));
        }

        /// Goal: arbitrary bytes never panic.
        #[test]
        fn never_panics(pieces: Vec<Vec<u8>>) {
            rewrite_any(&pieces);
        }
    }

    fn rewrite_any(pieces: &[Vec<u8>]) {
        let mut rewriter = Rewriter::new(rule);
        let mut out = BytesMut::new();
        for piece in pieces {
            rewriter.push(piece, &mut out);
        }
    }
}
