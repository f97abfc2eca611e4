//! What a JSON request says of the images it asks for, and what a caller is told who asks for others (spec 11.1, 11.2).

use super::envelope::{Members, Text};
use super::splice::Edit;
use crate::core::images::{ImageFault, ImageWishes};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::ops::Range;

/// Members of a body that say how an image should be. The order is the index into [`ImageMembers::values`].
const MEMBERS: [&str; 4] = ["size", "quality", "image_config", "modalities"];
/// Members of `image_config`.
const CONFIG: [&str; 2] = ["aspect_ratio", "image_size"];
/// What is asked of a model that makes images in a conversation.
const BOTH: &[u8] = br#"["image","text"]"#;

/// The members of one body, as they stand.
#[derive(Debug, Default)]
pub(super) struct ImageMembers<'a> {
    values: [Option<&'a RawValue>; MEMBERS.len()],
    doubtful: Option<&'static str>,
}

impl<'a> ImageMembers<'a> {
    /// Whether `name` is one of them, or would be to a parser that folds case.
    pub(super) fn concerns(&mut self, name: &str) -> bool {
        let folded = MEMBERS.iter().find(|member| member.eq_ignore_ascii_case(name));
        match folded {
            Some(member) if *member == name => true,
            Some(member) => {
                self.doubtful = self.doubtful.or(Some(member));
                false
            }
            None => false,
        }
    }

    /// Takes a member that concerns images.
    pub(super) fn record(&mut self, name: &str, value: &'a RawValue) {
        let Some(index) = MEMBERS.iter().position(|member| *member == name) else { return };
        let slot = self.values.get_mut(index);
        if slot.is_some_and(|slot| slot.replace(value).is_some()) {
            self.doubtful = self.doubtful.or(MEMBERS.get(index).copied());
        }
    }

    /// What the request wants.
    pub(super) fn wishes(&self) -> ImageWishes {
        let [size, quality, config, _] = self.values;
        let mut doubtful = self.doubtful;
        let config = config.and_then(|config| serde_json::from_str::<Members<'_>>(config.get()).ok());
        let mut of_config = [None, None];
        for (name, value) in config.iter().flat_map(|config| &config.0) {
            let Some(index) = CONFIG.iter().position(|member| member.eq_ignore_ascii_case(name)) else {
                continue;
            };
            let slot = of_config.get_mut(index);
            let twice = slot.is_some_and(|slot| slot.replace(*value).is_some());
            if twice || !CONFIG.contains(&&**name) {
                doubtful = doubtful.or(Some("image_config"));
            }
        }
        let [aspect_ratio, image_size] = of_config;
        ImageWishes {
            size: text(size),
            quality: text(quality),
            aspect_ratio: text(aspect_ratio),
            image_size: text(image_size),
            doubtful,
        }
    }

    /// What it wants to be answered in, and where; `place` tells the span of a value.
    pub(super) fn modalities(&self, place: impl Fn(&RawValue) -> Range<usize>) -> Modalities {
        let [.., modalities] = self.values;
        let Some(raw) = modalities else { return Modalities::Unsaid(None) };
        if raw.get() == "null" {
            return Modalities::Unsaid(Some(place(raw)));
        }
        match serde_json::from_str::<Vec<Text<'_>>>(raw.get()) {
            Ok(list) if list.is_empty() => Modalities::Unsaid(Some(place(raw))),
            Ok(list) if list.iter().any(|text| text.0 == "image") => Modalities::Settled,
            Ok(_) => Modalities::NoImage { at: place(raw).start + 1 },
            // What is no list of texts is for the upstream to judge.
            Err(_) => Modalities::Settled,
        }
    }
}

/// A value that is a text; an empty one for what is none, and nothing for null.
fn text(value: Option<&RawValue>) -> Option<String> {
    let value = value?.get();
    let text = serde_json::from_str::<Text<'_>>(value).map(|text| text.0.into_owned());
    (value != "null").then(|| text.unwrap_or_default())
}

/// What a request wants to be answered in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Modalities {
    /// There is an image among it, or what is there is no list.
    #[default]
    Settled,
    /// Nothing is said, or null, or an empty list, with the span of that.
    Unsaid(Option<Range<usize>>),
    /// A list without images, and where its first element can be put.
    NoImage {
        /// After the bracket.
        at: usize,
    },
}

impl Modalities {
    /// The edit that asks for an image too (spec 11.1); `end` is where a member can be put after another.
    ///
    /// The caller's own list is kept, and an image put before it.
    #[must_use]
    pub fn with_image(&self, end: usize) -> Option<Edit> {
        match self {
            Self::Settled => None,
            Self::Unsaid(Some(place)) => Some((place.clone(), Bytes::from_static(BOTH))),
            Self::Unsaid(None) => Some((end..end, [&br#","modalities":"#[..], BOTH].concat().into())),
            Self::NoImage { at } => Some((*at..*at, Bytes::from_static(br#""image","#))),
        }
    }
}

/// What a caller is told whose images the model does not make, in at most `max` bytes.
#[must_use]
pub(super) fn told(fault: &ImageFault, max: usize) -> String {
    match fault {
        ImageFault::NotListed(member, listed) => not_listed(member, listed, max),
        ImageFault::Doubtful(member) => {
            format!("The parameter {member} must be given once, and spelled in lower case.")
        }
    }
}

/// Names the values that there are, as far as there is room for them.
fn not_listed(member: &str, listed: &[Box<str>], max: usize) -> String {
    const MORE: &str = ", and more";
    let mut message = format!("The parameter {member} has a value that this model does not support.");
    let mut joint = " Supported values are: ";
    for value in listed {
        if message.len() + joint.len() + value.len() + MORE.len() + 3 > max {
            message.push_str(MORE);
            break;
        }
        message.extend([joint, "'", value, "'"]);
        joint = ", ";
    }
    message.push('.');
    message
}

#[cfg(test)]
mod tests {
    use crate::wire::envelope::Envelope;
    use crate::wire::splice::splice;
    use bytes::Bytes;

    /// A body as a model that makes images in a conversation gets it.
    fn with_image(body: &str) -> String {
        let envelope = Envelope::parse(body.as_bytes(), crate::wire::endpoint::Call::Chat).unwrap();
        let edit = envelope.modalities.with_image(envelope.places.model.end);
        let spliced = splice(&Bytes::copy_from_slice(body.as_bytes()), edit.into_iter().collect());
        String::from_utf8(spliced.parts().concat()).unwrap()
    }

    /// Goal: an image is asked for wherever it was not, with the caller's own list kept and nothing else touched (spec
    /// 11.1).
    #[test]
    fn images_are_asked_for() {
        for (before, after) in [
            (r#"{"model":"m","x":1.0e1}"#, r#"{"model":"m","modalities":["image","text"],"x":1.0e1}"#),
            (r#"{"modalities":null,"model":"m"}"#, r#"{"modalities":["image","text"],"model":"m"}"#),
            (r#"{"model":"m","modalities": [ ] }"#, r#"{"model":"m","modalities": ["image","text"] }"#),
            (r#"{"model":"m","modalities":["text"]}"#, r#"{"model":"m","modalities":["image","text"]}"#),
            (
                r#"{"model":"m","modalities":[ "audio" ]}"#,
                r#"{"model":"m","modalities":["image", "audio" ]}"#,
            ),
            (
                r#"{"model":"m","m\u006fdalities":["text"]}"#,
                r#"{"model":"m","m\u006fdalities":["image","text"]}"#,
            ),
        ] {
            assert_eq!(with_image(before), after);
        }
        for same in [
            r#"{"model":"m","modalities":["text","image"]}"#,
            r#"{"model":"m","modalities":["\u0069mage"]}"#,
            r#"{"model":"m","modalities":"image"}"#,
            r#"{"model":"m","modalities":[1]}"#,
        ] {
            assert_eq!(with_image(same), same);
        }
    }

    /// Goal: wishes are read as an upstream reads them; what may be read twice is noted.
    #[test]
    fn wishes_are_read() {
        let wishes =
            |body: &str| Envelope::parse(body.as_bytes(), crate::wire::endpoint::Call::Chat).unwrap().wishes;
        let read = wishes(
            r#"{"model":"m","size":"1\u0030x10","quality":3,"image_config":{"aspect_ratio":"1:1","image_size":null}}"#,
        );
        assert_eq!((read.size.as_deref(), read.quality.as_deref()), (Some("10x10"), Some("")));
        assert_eq!((read.aspect_ratio.as_deref(), read.image_size), (Some("1:1"), None));
        assert_eq!(read.doubtful, None);
        for (body, member) in [
            (r#"{"model":"m","size":"a","size":"b"}"#, "size"),
            (r#"{"model":"m","Size":"a"}"#, "size"),
            (r#"{"model":"m","modalities":[],"modalities":[]}"#, "modalities"),
            (r#"{"model":"m","image_config":{"image_size":"1K","image_size":"4K"}}"#, "image_config"),
            (r#"{"model":"m","image_config":{"Image_Size":"4K"}}"#, "image_config"),
        ] {
            assert_eq!(wishes(body).doubtful, Some(member), "{body}");
        }
        assert_eq!(wishes(r#"{"model":"m"}"#), wishes(r#"{"model":"m","size":null}"#));
    }
}
