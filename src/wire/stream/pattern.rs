//! Events that differ from an earlier one in their text alone (spec 16.1).
//!
//! Nearly all events of a stream are one event with another word in it. [`Pattern`] remembers such an event as what stands
//! around its variable values, coming in and going out, and recognises the next one by comparing bytes, in a tenth of the
//! time of parsing and rewriting it. What does not fit, an escape in the text included, is read as if there were no pattern,
//! so the two ways cannot differ in what they say: the bytes between variable values are those of an event that was parsed,
//! and a variable value is a string without quotes and escapes, or a whole number, and so cannot change what stands around it.

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

/// Digits of a number that is recognised; more would not fit into 64 bits.
const DIGITS_MAX: usize = 18;

/// What may differ from one event to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hole {
    /// The text that the event delivers.
    Text,
    /// A string that means nothing, such as padding.
    Filler,
    /// The number of the event.
    Number,
}

/// What stands before a hole, as it comes and as it goes.
#[derive(Debug)]
struct Part {
    comes: Vec<u8>,
    goes: Vec<u8>,
    hole: Hole,
}

/// An event that was seen.
#[derive(Debug)]
struct Event {
    parts: Vec<Part>,
    /// What stands behind the last hole, as it comes and as it goes.
    end: (Vec<u8>, Vec<u8>),
    /// Members of it that do not go because they are not known.
    dropped: u64,
}

/// What the holes of an event hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held<'a> {
    /// The text, which is not empty.
    pub(super) text: &'a str,
    pub(super) number: Option<u64>,
    /// Members that were dropped because they are not known.
    pub(super) dropped: u64,
}

/// What the events of a stream look like.
#[derive(Debug, Default)]
pub(super) struct Pattern {
    event: Option<Event>,
    /// Events that could have fitted and did not.
    misses: u32,
}

impl Pattern {
    /// Recognises an event, which is UTF-8, and appends what the client gets of it to `out`.
    pub(super) fn fit<'a>(&self, data: &'a [u8], out: &mut BytesMut) -> Option<Held<'a>> {
        let begun = out.len();
        let held = self.event.as_ref()?.fit(data, out);
        if held.is_none() {
            out.truncate(begun);
        }
        held
    }

    /// Takes an event for the look of those to come. Its variable values are `holes`; `render` writes what the
    /// client gets of an event and counts the members that it dropped. Learning costs as much as writing, so a stream whose events never
    /// fit is learnt from ever more rarely.
    pub(super) fn learn(
        &mut self,
        data: &[u8],
        mut holes: Vec<(Hole, &RawValue)>,
        render: impl FnOnce(&[u8], &mut BytesMut) -> u64,
    ) {
        self.misses = self.misses.saturating_add(1);
        if self.misses.is_power_of_two() {
            holes.sort_by_key(|(_, value)| value.get().as_ptr() as usize);
            self.event = Event::of(data, &holes, render);
        }
    }
}

/// What stands for a hole while an event is rendered: a control character, which JSON has nowhere.
fn mark(index: usize) -> [u8; 2] {
    [1, u8::try_from(index).unwrap_or(u8::MAX).saturating_add(b'0')]
}

impl Event {
    fn of(
        data: &[u8],
        holes: &[(Hole, &RawValue)],
        render: impl FnOnce(&[u8], &mut BytesMut) -> u64,
    ) -> Option<Self> {
        let (mut comes, mut marked, mut at) = (Vec::new(), BytesMut::with_capacity(data.len()), 0);
        for (index, (hole, value)) in holes.iter().enumerate() {
            let start = (value.get().as_ptr() as usize).checked_sub(data.as_ptr() as usize)?;
            let quote = usize::from(*hole != Hole::Number);
            let (from, to) = (start + quote, (start + value.get().len()).checked_sub(quote)?);
            let before = data.get(at..from)?;
            comes.push(before.to_vec());
            marked.extend_from_slice(before);
            marked.extend_from_slice(&mark(index));
            at = to.max(from);
        }
        let last = data.get(at..)?;
        marked.extend_from_slice(last);
        let mut rendered = BytesMut::with_capacity(marked.len() + 64);
        let dropped = render(&marked, &mut rendered);
        let (mut parts, mut rest) = (Vec::new(), &rendered[..]);
        for (index, (comes, (hole, _))) in comes.into_iter().zip(holes).enumerate() {
            let found = memchr::memmem::find(rest, &mark(index))?;
            let (before, after) = rest.split_at_checked(found)?;
            parts.push(Part { comes, goes: before.to_vec(), hole: *hole });
            rest = after.get(mark(index).len()..)?;
        }
        Some(Self { parts, end: (last.to_vec(), rest.to_vec()), dropped })
    }

    fn fit<'a>(&self, data: &'a [u8], out: &mut BytesMut) -> Option<Held<'a>> {
        let (mut rest, mut held) = (data, Held { dropped: self.dropped, ..Held::default() });
        for part in &self.parts {
            rest = rest.strip_prefix(part.comes.as_slice())?;
            let (value, after) = rest.split_at_checked(part.hole.length(rest)?)?;
            out.put_slice(&part.goes);
            out.put_slice(value);
            match part.hole {
                Hole::Text => held.text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty())?,
                Hole::Number => held.number = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                Hole::Filler => {}
            }
            rest = after;
        }
        out.put_slice(&self.end.1);
        (rest == self.end.0.as_slice()).then_some(held)
    }
}

impl Hole {
    /// How many bytes at the beginning of `rest` are in the hole, if what is there can be.
    fn length(self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Text | Self::Filler => {
                let end = memchr::memchr2(b'"', b'\\', rest)?;
                let plain = rest.get(..end)?.iter().all(|byte| *byte >= b' ');
                (plain && rest.get(end) == Some(&b'"')).then_some(end)
            }
            Self::Number => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let padded = digits > 1 && rest.first() == Some(&b'0');
                ((1..=DIGITS_MAX).contains(&digits) && !padded).then_some(digits)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct View<'a> {
        #[serde(borrow)]
        n: &'a RawValue,
        #[serde(borrow)]
        text: &'a RawValue,
    }

    fn learnt(data: &str) -> Pattern {
        let (view, mut pattern): (View<'_>, _) = (serde_json::from_str(data).unwrap(), Pattern::default());
        let holes = vec![(Hole::Text, view.text), (Hole::Number, view.n)];
        pattern.learn(data.as_bytes(), holes, |data, out| {
            out.put_slice(b"<");
            out.put_slice(data);
            out.put_slice(b">");
            1
        });
        pattern
    }

    /// Goal: an event that differs in its text and number alone is recognised and written; any other is left alone, with
    /// nothing written.
    #[test]
    fn only_what_fits_is_recognised() {
        let pattern = learnt(r#"{"n":7,"text":"\u0061\"b","z":{}}"#);
        let mut out = BytesMut::new();
        let data = r#"{"n":120,"text":"né","z":{}}"#;
        assert_eq!(
            pattern.fit(data.as_bytes(), &mut out),
            Some(Held { text: "né", number: Some(120), dropped: 1 })
        );
        assert_eq!(out, format!("<{data}>"));
        for other in [
            r#"{"n":7,"text":"","z":{}}"#,
            r#"{"n":7,"text":"a","z":{}} "#,
            r#"{"n":7,"text":"a","z":{1}}"#,
            r#"{"n":7,"text":"a","y":"","z":{}}"#,
            r#"{"n":7,"text":"a\"","z":{}}"#,
            "{\"n\":7,\"text\":\"a\n\",\"z\":{}}",
            r#"{"n":07,"text":"a","z":{}}"#,
            r#"{"n":-7,"text":"a","z":{}}"#,
            r#"{"n":7.0,"text":"a","z":{}}"#,
            r#"{"n":1234567890123456789,"text":"a","z":{}}"#,
            r#"{"n":7,"text":"a"#,
            "",
        ] {
            assert_eq!(
                (pattern.fit(other.as_bytes(), &mut out), out.len()),
                (None, data.len() + 2),
                "{other}"
            );
        }
        assert_eq!(Pattern::default().fit(b"", &mut out), None);
    }

    /// Goal: what is written need not have every hole, and then nothing is learnt; what never fits is learnt ever more rarely.
    #[test]
    fn learning_is_bounded() {
        let data = r#"{"n":7,"text":"a"}"#;
        let view: View<'_> = serde_json::from_str(data).unwrap();
        let (mut pattern, mut renders) = (Pattern::default(), 0);
        for _ in 0..1_000 {
            pattern.learn(data.as_bytes(), vec![(Hole::Number, view.n)], |_, _| {
                renders += 1;
                0
            });
        }
        assert_eq!((renders, pattern.fit(data.as_bytes(), &mut BytesMut::new())), (10, None));
    }
}
