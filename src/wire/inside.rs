//! The inside of a value on its way through: of an object, or of each object of a list, only known members pass, to any
//! depth that the tables describe; and a choice that ended with an error is a failure.
//!
//! It belongs to the [`Rewriter`](super::rewrite::Rewriter), works on pieces of any size in constant memory as that does,
//! allocates nothing for names that arrive in one piece, and passes whatever is neither an object nor a list as it is.

use super::allowed::{self, Extra, Names, Shape};
use super::rewrite::{JUDGED_MAX, NAME_MAX, Scan, plain_name, string_end};
use bytes::{BufMut, BytesMut};

/// How deep the tables of members go at most.
const DEPTH_MAX: usize = 8;

/// Which members of an object pass.
#[derive(Debug, Clone, Copy)]
pub enum Sieve {
    /// Those of a table.
    Only(Names),
    /// All but these; what is deeper passes as it is.
    Without(&'static [&'static str]),
}

impl Sieve {
    /// By the shape of a value.
    pub(super) fn of(shape: Shape) -> Self {
        match shape {
            Shape::Whole => Self::Without(&[]),
            Shape::Hidden => Self::Only(&[]),
            Shape::Of(names) => Self::Only(names),
        }
    }
}

/// A value under way.
pub(super) struct Inside {
    sieve: Sieve,
    extra: Extra,
    /// A choice that ended with an error is a failure.
    watched: bool,
    levels: [Level; DEPTH_MAX],
    /// How many levels are open.
    depth: usize,
    state: State,
    scan: Scan,
    /// A name that did not arrive in one piece, or whose value is judged; quotes included.
    name: BytesMut,
    /// A value that is held back until it is judged.
    judged: BytesMut,
    failed: bool,
    dropped: u64,
}

/// A value whose members are looked at: an object, or lists of objects.
#[derive(Debug, Clone, Copy)]
struct Level {
    names: Names,
    /// Lists that are open around the place at hand.
    lists: u32,
    written_any: bool,
}

const NO_LEVEL: Level = Level { names: &[], lists: 0, written_any: false };

/// What happens to the value of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    Judge,
    LookInside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The value of the level has not begun, or a list is between two elements.
    Between,
    /// In an object, between members.
    BeforeName,
    InName,
    /// In a name that is too long to be known.
    InLongName(Fate),
    BeforeValue(Fate),
    /// In the value of a member.
    InValue(Fate),
    /// In a value of the level that is no object.
    InOther,
    /// What came is not JSON.
    Broken,
}

impl Inside {
    /// A value that has not begun.
    pub(super) fn new(sieve: Sieve, extra: Extra, watched: bool) -> Self {
        let mut levels = [NO_LEVEL; DEPTH_MAX];
        if let (Some(first), Sieve::Only(names)) = (levels.first_mut(), sieve) {
            first.names = names;
        }
        Self {
            sieve,
            extra,
            watched,
            levels,
            depth: 1,
            state: State::Between,
            scan: Scan::default(),
            name: BytesMut::new(),
            judged: BytesMut::new(),
            failed: false,
            dropped: 0,
        }
    }

    /// Whether there was a choice that ended with an error (spec 2.6); nothing passes after that.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Members that were dropped because no table has them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes a piece in and appends what becomes of it to `out`; how many bytes belong to the value, if it ends in it.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut BytesMut) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            let rest = piece.get(at..).unwrap_or_default();
            at += match self.state {
                State::Between => self.between(byte, out),
                State::BeforeName => self.before_name(byte, rest, out),
                State::InName => self.in_name(rest, out),
                State::InLongName(fate) => self.in_long_name(fate, rest, out),
                State::BeforeValue(fate) => self.before_value(fate, byte),
                State::InValue(fate) => self.value(fate, rest, out),
                State::InOther => self.other(rest, out),
                State::Broken => rest.len(),
            };
            if self.depth == 0 || self.failed {
                return Some(at);
            }
        }
        None
    }

    fn level(&mut self) -> Option<&mut Level> {
        self.levels.get_mut(self.depth.checked_sub(1)?)
    }

    /// The value of the level at hand has ended.
    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.state = State::BeforeName;
    }

    /// An object, or another element, of the level at hand has ended.
    fn end_element(&mut self) {
        match self.level() {
            Some(Level { lists: 1.., .. }) => self.state = State::Between,
            _ => self.close(),
        }
    }

    fn between(&mut self, byte: u8, out: &mut BytesMut) -> usize {
        let Some(level) = self.level() else { return 1 };
        match byte {
            b'{' => {
                level.written_any = false;
                self.state = State::BeforeName;
            }
            b'[' => level.lists = level.lists.saturating_add(1),
            b']' if level.lists > 0 => {
                level.lists -= 1;
                if level.lists == 0 {
                    self.close();
                }
            }
            // A brace is an error here, and passes like what stands between elements.
            b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n' if level.lists > 0 => {}
            _ => {
                self.scan = Scan::default();
                self.state = State::InOther;
                return 0;
            }
        }
        out.put_u8(byte);
        1
    }

    fn before_name(&mut self, byte: u8, rest: &[u8], out: &mut BytesMut) -> usize {
        match byte {
            b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
            b'}' => {
                out.put_u8(b'}');
                self.end_element();
            }
            b'"' => {
                let mut escaped = false;
                let end = string_end(rest.get(1..).unwrap_or_default(), &mut escaped);
                if let Some(name) = end.and_then(|end| rest.get(..=end)) {
                    self.state = State::BeforeValue(self.begin_member(name, out));
                    return name.len();
                }
                self.scan = Scan::default();
                self.name.clear();
                self.name.put_u8(b'"');
                self.state = State::InName;
            }
            _ => self.state = State::Broken,
        }
        1
    }

    fn in_name(&mut self, rest: &[u8], out: &mut BytesMut) -> usize {
        let end = self.scan.string_end(rest);
        let used = end.unwrap_or(rest.len());
        if end.is_none() && self.name.len() + used > NAME_MAX {
            // It is none of those that are known.
            let fate = if matches!(self.sieve, Sieve::Only(_)) { Fate::Drop } else { Fate::Pass };
            let name = std::mem::take(&mut self.name);
            self.note(fate, &name, out);
            if fate == Fate::Pass {
                out.extend_from_slice(rest);
            }
            self.state = State::InLongName(fate);
            return used;
        }
        self.name.extend_from_slice(rest.get(..used).unwrap_or_default());
        if end.is_some() {
            let name = std::mem::take(&mut self.name);
            self.state = State::BeforeValue(self.begin_member(&name, out));
        }
        used
    }

    fn in_long_name(&mut self, fate: Fate, rest: &[u8], out: &mut BytesMut) -> usize {
        let end = self.scan.string_end(rest);
        let used = end.unwrap_or(rest.len());
        if fate == Fate::Pass {
            out.extend_from_slice(rest.get(..used).unwrap_or_default());
        }
        if end.is_some() {
            if fate == Fate::Pass {
                out.put_u8(b':');
            }
            self.state = State::BeforeValue(fate);
        }
        used
    }

    /// Decides what happens to a member, and writes its name if that passes.
    fn begin_member(&mut self, quoted: &[u8], out: &mut BytesMut) -> Fate {
        let fate = self.fate(quoted);
        match fate {
            Fate::Judge => self.name = BytesMut::from(quoted),
            Fate::Drop => {}
            Fate::Pass | Fate::LookInside => {
                self.note(fate, quoted, out);
                out.put_u8(b':');
            }
        }
        fate
    }

    /// Writes the name of a member that passes, or its beginning; counts one that does not.
    fn note(&mut self, fate: Fate, quoted: &[u8], out: &mut BytesMut) {
        if fate == Fate::Drop {
            self.dropped += 1;
            return;
        }
        if self.level().is_some_and(|level| std::mem::replace(&mut level.written_any, true)) {
            out.put_u8(b',');
        }
        out.extend_from_slice(quoted);
    }

    fn fate(&mut self, quoted: &[u8]) -> Fate {
        let name = plain_name(quoted).unwrap_or_default();
        let first = self.depth == 1;
        if first && self.watched && name == "finish_reason" {
            return Fate::Judge;
        }
        let shape = match (self.sieve, self.level()) {
            (Sieve::Without(hidden), _) if first && hidden.contains(&&*name) => Some(Shape::Hidden),
            (Sieve::Without(_), _) => Some(Shape::Whole),
            (Sieve::Only(_), Some(level)) => allowed::find(level.names, &name),
            (Sieve::Only(_), None) => None,
        };
        match shape {
            _ if allowed::is_extra(&self.extra, &name) => Fate::Pass,
            Some(Shape::Whole) => Fate::Pass,
            Some(Shape::Hidden) => Fate::Drop,
            Some(Shape::Of(names)) => match self.levels.get_mut(self.depth) {
                // It is opened once its value begins.
                Some(next) => {
                    *next = Level { names, ..NO_LEVEL };
                    Fate::LookInside
                }
                None => Fate::Drop,
            },
            None => {
                self.dropped += 1;
                Fate::Drop
            }
        }
    }

    fn before_value(&mut self, fate: Fate, byte: u8) -> usize {
        if matches!(byte, b':' | b' ' | b'\t' | b'\r' | b'\n') {
            return 1;
        }
        self.scan = Scan::default();
        self.state = State::InValue(fate);
        if fate == Fate::LookInside {
            self.depth += 1;
            self.state = State::Between;
        }
        0
    }

    /// Passes, drops or judges bytes of a member's value, up to its end if that is in the piece.
    fn value(&mut self, fate: Fate, rest: &[u8], out: &mut BytesMut) -> usize {
        let end = self.scan.end(rest);
        let used = end.unwrap_or(rest.len());
        let bytes = rest.get(..used).unwrap_or_default();
        match fate {
            Fate::Pass => out.extend_from_slice(bytes),
            Fate::Judge => self.judge(bytes, end.is_some(), out),
            Fate::Drop | Fate::LookInside => {}
        }
        if end.is_some() {
            self.state = State::BeforeName;
        }
        used
    }

    fn other(&mut self, rest: &[u8], out: &mut BytesMut) -> usize {
        let end = self.scan.end(rest);
        let used = end.unwrap_or(rest.len());
        out.extend_from_slice(rest.get(..used).unwrap_or_default());
        if end.is_some() {
            self.end_element();
        }
        used
    }

    /// Holds a finish reason back until it is known, or known to be too long for a word.
    fn judge(&mut self, bytes: &[u8], ended: bool, out: &mut BytesMut) {
        self.judged.extend_from_slice(bytes);
        if !ended && self.judged.len() <= JUDGED_MAX {
            return;
        }
        let value = std::mem::take(&mut self.judged);
        if value.trim_ascii_end() == b"\"error\"" {
            self.failed = true;
            return;
        }
        let name = std::mem::take(&mut self.name);
        self.note(Fate::Pass, &name, out);
        out.put_u8(b':');
        out.extend_from_slice(&value);
        self.state = State::InValue(Fate::Pass);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rewrite::{Action, Rewriter};
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const HIDDEN: &[&str] = &["gone", "also"];
    const NAMES: Names = &[
        ("a", Shape::Whole),
        ("b", Shape::Of(&[("c", Shape::Whole), ("d", Shape::Of(&[("e", Shape::Whole)]))])),
        ("hidden", Shape::Hidden),
    ];

    fn rewrite(pieces: &[&[u8]]) -> (String, bool) {
        let mut rewriter = Rewriter::new(|name: &str| match name {
            "list" => Action::Look(Sieve::Without(HIDDEN)),
            "watched" => Action::Watch(Sieve::Without(HIDDEN)),
            "known" => Action::Look(Sieve::Only(NAMES)),
            _ => Action::Pass,
        });
        let mut out = BytesMut::new();
        for piece in pieces {
            rewriter.push(piece, &mut out);
        }
        (String::from_utf8(out.to_vec()).unwrap(), rewriter.is_complete())
    }

    /// Goal: members are left out of an object and of each object of a list, also of a list in it, and of nothing deeper or
    /// beside it.
    #[test]
    fn leaves_members_out() {
        for (input, expected) in [
            (
                r#"{"list":[{"gone":{"a":[1]},"b":1.0e1},{"c":"}]","also":2}],"gone":1}"#,
                r#"{"list":[{"b":1.0e1},{"c":"}]"}],"gone":1}"#,
            ),
            (r#"{"list":{"gone":1,"b":{"gone":2}}}"#, r#"{"list":{"b":{"gone":2}}}"#),
            (
                r#"{"list": [ 1, "gone", [ {"gone":1} ], {} , null ] ,"a":1}"#,
                r#"{"list":[ 1, "gone", [ {} ], {} , null ],"a":1}"#,
            ),
            (r#"{"list":null,"a":1}"#, r#"{"list":null,"a":1}"#),
            (r#"{"list":"x","a":1}"#, r#"{"list":"x","a":1}"#),
            (r#"{"list":1.50}"#, r#"{"list":1.50}"#),
            (r#"{"list":[]}"#, r#"{"list":[]}"#),
        ] {
            assert_eq!(rewrite(&[input.as_bytes()]), (expected.into(), true), "{input}");
            let bytes: Vec<_> = input.as_bytes().chunks(1).collect();
            assert_eq!(rewrite(&bytes), (expected.into(), true), "{input}, byte by byte");
        }
        for ended in [
            r#"{"watched":[{"finish_reason":"stop"}]}"#,
            r#"{"watched":[{"finish_reason":null,"a":1}]}"#,
            r#"{"list":[{"finish_reason":"error","a":1}]}"#,
        ] {
            assert_eq!(rewrite(&[ended.as_bytes()]), (ended.into(), true));
        }
        let badly = br#"{"watched":[{"a":1},{"finish_reason" : "error" ,"b":2}],"c":3}"#;
        assert_eq!(rewrite(&[badly]), (r#"{"watched":[{"a":1},{"#.into(), false));
        for broken in [r#"{"list":[}"#, r#"{"list":[{]"#, r#"{"list":[1"#, r#"{"list":{"a":1"#] {
            assert!(!rewrite(&[broken.as_bytes()]).1, "{broken}");
        }
    }

    /// Goal: only known members pass, at every depth of the table and in lists of any depth; what is free passes byte for
    /// byte, and what is dropped because nobody knows it is counted.
    #[test]
    fn only_known_members_pass() {
        let long = "x".repeat(2 * NAME_MAX);
        for (input, expected, dropped) in [
            (r#"{"known":{"a":{"x": 1 },"x":{"a":1},"hidden":2}}"#, r#"{"known":{"a":{"x": 1 }}}"#, 1),
            (r#"{"known":[[{"x":1,"a":1}],{"y":[{}]}]}"#, r#"{"known":[[{"a":1}],{}]}"#, 2),
            (
                r#"{"known":{"b":{"c":"}","x":[],"d":[{"e":1.0e1,"x":2},{"x":3}],"y":4},"a":5}}"#,
                r#"{"known":{"b":{"c":"}","d":[{"e":1.0e1},{}]},"a":5}}"#,
                4,
            ),
            (r#"{"known":{"\u0061":1,"\"":2,"b":null}}"#, r#"{"known":{"\u0061":1,"b":null}}"#, 1),
            (&format!(r#"{{"known":{{"{long}":{{"a":1}},"a":2}}}}"#), r#"{"known":{"a":2}}"#, 1),
            (r#"{"known":"x"}"#, r#"{"known":"x"}"#, 0),
        ] {
            for size in [1, 3, 64, input.len()] {
                let (mut out, mut rewriter) = (
                    BytesMut::new(),
                    Rewriter::new(|name: &str| match name {
                        "known" => Action::Look(Sieve::Only(NAMES)),
                        _ => Action::Pass,
                    }),
                );
                input.as_bytes().chunks(size).for_each(|piece| rewriter.push(piece, &mut out));
                let told = (std::str::from_utf8(&out).unwrap(), rewriter.is_complete(), rewriter.dropped());
                assert_eq!(told, (expected, true, dropped), "{input} in pieces of {size}");
            }
        }
    }

    /// Goal: a member's name of any length costs no memory, and passes where everything unknown passes.
    #[test]
    fn long_names_are_not_kept() {
        let name = "y".repeat(100_000);
        let input = format!(r#"{{"{name}":1,"list":{{"{name}":2}},"known":{{"{name}":3}}}}"#);
        let expected = format!(r#"{{"{name}":1,"list":{{"{name}":2}},"known":{{}}}}"#);
        for size in [1, 1_000, 50_000] {
            assert_eq!(rewrite(&input.as_bytes().chunks(size).collect::<Vec<_>>()), (expected.clone(), true));
        }
    }

    proptest! {
        /// Goal: however the object is cut into pieces, the result equals the same edit of the parsed value.
        #[test]
        fn equals_an_edit_of_the_value(
            texts in prop::collection::vec("[a-z\"\\\\{}\\[\\],:é]{0,8}", 0..6), size in 1usize..20,
        ) {
            let element = |text: &String| json!({"also": text, text: [1, {"gone": text}], "gone": {"x": text}});
            let before = json!({"a": texts, "list": texts.iter().map(element).collect::<Vec<_>>(), "z": 1});
            let mut after = before.clone();
            for element in after["list"].as_array_mut().unwrap() {
                element.as_object_mut().unwrap().retain(|name, _| !HIDDEN.contains(&name.as_str()));
            }
            let json = before.to_string();
            let (out, complete) = rewrite(&json.as_bytes().chunks(size).collect::<Vec<_>>());
            prop_assert!(complete);
            prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), after);
        }

        /// Goal: arbitrary bytes end and never panic.
        #[test]
        fn never_panics(text in "[\\[\\]{},:\"a1 \\\\]{0,60}", size in 1usize..9) {
            for name in ["list", "known"] {
                let text = format!("{{\"{name}\":{text}");
                rewrite(&text.as_bytes().chunks(size).collect::<Vec<_>>());
            }
        }
    }
}
