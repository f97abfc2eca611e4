//! Members of a request body by name, for models and channels that do not take some of them.
//!
//! [`Found::find`] is a second walk over the members of a body that [`super::envelope`] has validated; only requests to
//! models with such rules pay for it. What is left out is cut out by byte span, with one comma, so that everything else
//! stays as the client wrote it.

use super::envelope::Text;
use super::splice::Edit;
use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// The members with watched names that a body has, and that are not null.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    objects: Vec<Object>,
    repeated: Option<usize>,
}

/// Watched members of one object.
#[derive(Debug, Default, PartialEq, Eq)]
struct Object {
    members: Vec<Member>,
    /// How many members it has in all.
    count: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Member {
    /// Which of the watched names it has.
    name: usize,
    /// Which member of its object it is.
    ordinal: usize,
    /// From its name to the end of its value.
    span: Range<usize>,
    /// Where the member before it ends.
    before: Option<usize>,
    /// Where the member after it begins.
    after: Option<usize>,
}

impl Found {
    /// Finds members in a body. A name with a dot is that of a member inside another. What is no JSON object has none.
    #[must_use]
    pub fn find(body: &[u8], names: &[Box<str>]) -> Self {
        let mut found = Self::default();
        if let Ok(text) = std::str::from_utf8(body) {
            found.walk(Walk { names, within: None, whole: text }, text);
        }
        found
    }

    /// The positions of the names that were found.
    pub fn names(&self) -> impl Iterator<Item = usize> {
        self.objects.iter().flat_map(|object| &object.members).map(|member| member.name)
    }

    /// The position of a name that stands there more than once.
    #[must_use]
    pub fn repeated(&self) -> Option<usize> {
        self.repeated
    }

    /// The edits that leave members out.
    #[must_use]
    pub fn without(&self, is_left_out: impl Fn(usize) -> bool) -> Vec<Edit> {
        let cut = |span| (span, Bytes::new());
        self.objects.iter().flat_map(|object| object.cuts(&is_left_out)).map(cut).collect()
    }

    fn walk(&mut self, walk: Walk<'_, '_>, object: &str) {
        let mut own = Object::default();
        let visitor = Walker { walk, found: self, object: &mut own };
        // The envelope has accepted the body; whatever else it is has no members.
        let _ = serde_json::Deserializer::from_str(object).deserialize_map(visitor);
        if !own.members.is_empty() {
            self.objects.push(own);
        }
    }
}

impl Object {
    /// What is cut out so that the rest is an object: a member goes with the comma that follows it, and those behind which
    /// nothing remains with the comma before.
    fn cuts(&self, is_left_out: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
        let left_out: Vec<_> = self.members.iter().filter(|member| is_left_out(member.name)).collect();
        let behind = |index: usize| left_out.len() - index - 1;
        let cut = |(index, member): (usize, &&Member)| {
            let remains = self.count - member.ordinal - 1 > behind(index);
            match member.after.filter(|_| remains) {
                Some(after) => member.span.start..after,
                None => member.before.unwrap_or(member.span.start)..member.span.end,
            }
        };
        left_out.iter().enumerate().map(cut).collect()
    }
}

/// Where a walk is.
#[derive(Clone, Copy)]
struct Walk<'n, 'a> {
    names: &'n [Box<str>],
    /// The member of the body whose members are walked; `None` for the body itself.
    within: Option<&'n str>,
    whole: &'a str,
}

impl<'n> Walk<'n, '_> {
    /// The position of the watched name that a member here has.
    fn watched(self, name: &str) -> Option<usize> {
        self.names.iter().position(|watched| match (self.within, watched.split_once('.')) {
            (None, None) => **watched == *name,
            (Some(within), Some((outer, inner))) => within == outer && inner == name,
            _ => false,
        })
    }

    /// The first half of watched names of members inside this one.
    fn outer(self, name: &str) -> Option<&'n str> {
        let halves = self.names.iter().filter_map(|watched| watched.split_once('.'));
        halves.map(|(outer, _)| outer).find(|outer| self.within.is_none() && *outer == name)
    }

    fn offset(self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.whole.as_ptr() as usize)
    }
}

struct Walker<'n, 'a, 's> {
    walk: Walk<'n, 'a>,
    found: &'s mut Found,
    object: &'s mut Object,
}

impl<'a> Walker<'_, 'a, '_> {
    fn member(&mut self, key: &'a str, value: &'a str, before: Option<usize>) {
        let Ok(Text(name)) = serde_json::from_str::<Text<'_>>(key) else { return };
        let span = self.walk.offset(key)..self.walk.offset(value) + value.len();
        let ordinal = self.object.count;
        match self.walk.watched(&name).filter(|_| value != "null") {
            Some(name)
                if self.found.names().any(|n| n == name)
                    || self.object.members.iter().any(|m| m.name == name) =>
            {
                self.found.repeated = Some(name);
            }
            Some(name) => self.object.members.push(Member { name, ordinal, span, before, after: None }),
            None => {}
        }
        if let Some(outer) = self.walk.outer(&name) {
            self.found.walk(Walk { within: Some(outer), ..self.walk }, value);
        }
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Walker<'_, 'a, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut before = None;
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if let Some(last) = self.object.members.last_mut() {
                last.after = last.after.or(Some(self.walk.offset(key.get())));
            }
            self.member(key.get(), value.get(), before);
            before = Some(self.walk.offset(value.get()) + value.get().len());
            self.object.count += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::splice::splice;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn without(body: &str, names: &[&str]) -> String {
        let names: Vec<Box<str>> = names.iter().map(|name| (*name).into()).collect();
        let edits = Found::find(body.as_bytes(), &names).without(|_| true);
        let parts = splice(&Bytes::copy_from_slice(body.as_bytes()), edits);
        String::from_utf8(parts.parts().concat()).unwrap()
    }

    /// Goal: a member goes with one comma, whatever stands around it, and the rest stays as it was written.
    #[test]
    fn cuts_out_members() {
        for (body, rest) in [
            (r#"{"seed":1,"model":"x"}"#, r#"{"model":"x"}"#),
            (r#"{"model":"x","seed":1}"#, r#"{"model":"x"}"#),
            (
                r#"{ "a" : 1.0e1 , "seed" : [1,{"seed":2}] , "b":{"seed":3} }"#,
                r#"{ "a" : 1.0e1 , "b":{"seed":3} }"#,
            ),
            (r#"{"model":"x" , "seed":1 , "top":2 }"#, r#"{"model":"x" }"#),
            (r#"{"seed":1,"top":2,"model":"x"}"#, r#"{"model":"x"}"#),
            (r#"{"seed":1,"model":"x","top":2}"#, r#"{"model":"x"}"#),
            (r#"{"s\u0065ed":1,"Seed":2,"model":"seed"}"#, r#"{"Seed":2,"model":"seed"}"#),
            (r#"{"seed":null,"top":null}"#, r#"{"seed":null,"top":null}"#),
            (r#"{"deep":{"in":1},"model":"x"}"#, r#"{"deep":{},"model":"x"}"#),
            (r#"{"deep":{"a":1,"in":1,"b":2},"in":3}"#, r#"{"deep":{"a":1,"b":2},"in":3}"#),
            (r#"{"deep":"in","a":1}"#, r#"{"deep":"in","a":1}"#),
            ("not JSON", "not JSON"),
            ("[1]", "[1]"),
        ] {
            assert_eq!(without(body, &["seed", "top", "deep.in"]), rest, "{body}");
        }
    }

    /// Goal: what is named is told by its position, and a name that is there twice is noticed, however deep.
    #[test]
    fn finds_names() {
        let names: Vec<Box<str>> = ["a", "b.c"].map(Into::into).to_vec();
        let found = |body: &str| {
            let found = Found::find(body.as_bytes(), &names);
            (found.names().collect::<Vec<_>>(), found.repeated())
        };
        assert_eq!(found(r#"{"b":{"c":0},"a":false,"c":1}"#), (vec![1, 0], None));
        assert_eq!(found(r#"{"a":1,"\u0061":2}"#), (vec![0], Some(0)));
        assert_eq!(found(r#"{"b":{"c":1},"b":{"c":2}}"#), (vec![1], Some(1)));
        assert_eq!(found(r#"{"b":{"c":1,"c":2}}"#), (vec![1], Some(1)));
    }

    proptest! {
        /// Goal: for any members and any choice of them, the result equals the same edit of the parsed value.
        #[test]
        fn equals_an_edit_of_the_value(
            members in prop::collection::vec(("[a-f]", "[a-z\"\\\\{}\\[\\],:é]{0,6}"), 1..7),
            left_out in prop::collection::vec("[a-f]", 0..6),
            pretty: bool,
        ) {
            let value: Map<String, Value> =
                members.into_iter().map(|(name, text)| (name, json!([text]))).collect();
            let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let names: Vec<&str> = left_out.iter().map(String::as_str).collect();
            let mut expected = value;
            expected.retain(|name, _| !left_out.contains(name));
            let rest = without(&body.unwrap(), &names);
            prop_assert_eq!(serde_json::from_str::<Value>(&rest).unwrap(), Value::Object(expected));
        }
    }
}
