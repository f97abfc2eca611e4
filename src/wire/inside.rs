//! The inside of a value on its way through: members of an object, or of each object of a list, are left out, and a choice
//! that ended with an error is a failure.
//!
//! It belongs to the [`Rewriter`], works on pieces of any size in constant memory as that does, and passes whatever is
//! neither an object nor a list as it is.

use super::rewrite::{Action, Rewriter, Scan};
use bytes::{BufMut, BytesMut};

type Rule = Box<dyn FnMut(&str) -> Action + Send>;

/// A value under way.
pub(super) struct Inside {
    hidden: &'static [&'static str],
    /// A choice that ended with an error is a failure.
    watched: bool,
    in_list: bool,
    place: Place,
}

/// What is under way.
enum Place {
    /// Nothing: the value has not begun, or a list is between two elements.
    Between,
    /// An object.
    Object(Box<Rewriter<Rule>>),
    /// Something else, which passes.
    Other(Scan),
}

impl Inside {
    /// A value that has not begun, without these members.
    pub(super) fn new(hidden: &'static [&'static str], watched: bool) -> Self {
        Self { hidden, watched, in_list: false, place: Place::Between }
    }

    /// Whether there was a choice that ended with an error (spec 2.6); nothing passes after that.
    pub(super) fn has_failed(&self) -> bool {
        matches!(&self.place, Place::Object(object) if object.has_failed())
    }

    /// Takes a piece in and appends what becomes of it to `out`; how many bytes belong to the value, if it ends in it.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut BytesMut) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            let rest = piece.get(at..).unwrap_or_default();
            let (used, ended) = match &mut self.place {
                Place::Object(object) => (object.step(rest, out), object.is_complete()),
                Place::Other(scan) => {
                    let end = scan.end(rest);
                    let used = end.unwrap_or(rest.len());
                    out.extend_from_slice(rest.get(..used).unwrap_or_default());
                    (used, end.is_some())
                }
                Place::Between => {
                    let used = self.begin(byte, out);
                    (used, used == 1 && byte == b']')
                }
            };
            at += used;
            if ended {
                let between_elements = self.in_list && !matches!(self.place, Place::Between);
                if !between_elements {
                    return Some(at);
                }
                self.place = Place::Between;
            }
        }
        None
    }

    /// The byte at hand where nothing is under way: passes it, or finds what begins with it.
    fn begin(&mut self, byte: u8, out: &mut BytesMut) -> usize {
        match byte {
            b'{' => {
                let Self { hidden, watched, .. } = *self;
                let rule = move |name: &str| match name {
                    _ if hidden.contains(&name) => Action::Drop,
                    "finish_reason" if watched => Action::Unless(|reason| reason == b"\"error\""),
                    _ => Action::Pass,
                };
                self.place = Place::Object(Box::new(Rewriter::new(Box::new(rule))));
                return 0;
            }
            b'[' if !self.in_list => self.in_list = true,
            // A brace is an error here, and passes like what stands between elements.
            b']' | b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n' if self.in_list => {}
            _ => {
                self.place = Place::Other(Scan::default());
                return 0;
            }
        }
        out.put_u8(byte);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const HIDDEN: &[&str] = &["gone", "also"];

    fn rewrite(pieces: &[&[u8]]) -> (String, bool) {
        let mut rewriter = Rewriter::new(|name: &str| match name {
            "list" => Action::Without(HIDDEN),
            "watched" => Action::Watched(HIDDEN),
            _ => Action::Pass,
        });
        let mut out = BytesMut::new();
        for piece in pieces {
            rewriter.push(piece, &mut out);
        }
        (String::from_utf8(out.to_vec()).unwrap(), rewriter.is_complete())
    }

    /// Goal: members are left out of an object and of each object of a list, and of nothing deeper or beside it.
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
                r#"{"list":[ 1, "gone", [ {"gone":1} ], {} , null ],"a":1}"#,
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
            let text = format!("{{\"list\":{text}");
            rewrite(&text.as_bytes().chunks(size).collect::<Vec<_>>());
        }
    }
}
