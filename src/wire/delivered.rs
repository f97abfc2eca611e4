//! What a whole answer gave the client to read, where its upstream reports no usage (spec 7.2).

use super::content;
use super::envelope::Members;
use super::prompt::{self, Member};
use crate::core::estimate::{Features, Piece};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// The text of a whole JSON answer; data, ids and numbers do not count.
#[must_use]
pub fn text_of(answer: &[u8]) -> Features {
    let mut text = Features::default();
    let members = serde_json::from_slice::<Members<'_>>(answer).ok();
    for (name, value) in members.iter().flat_map(|members| &members.0) {
        if matches!(&**name, "choices" | "content" | "output") {
            prompt::read(Member::Text, value, |piece| {
                if let Piece::Text(words) = piece {
                    text.add_text(words);
                }
            });
        }
    }
    text
}

/// The images of a whole JSON answer: the items of its data, or those of its messages.
#[must_use]
pub fn images_in(answer: &[u8]) -> u64 {
    let Ok(view) = serde_json::from_slice::<View<'_>>(answer) else { return 0 };
    let choices = view.choices.unwrap_or_default();
    let messages = choices.iter().filter_map(|choice| choice.message.as_ref());
    let lists = messages.filter_map(|message| message.images).chain(view.data);
    lists.map(images).sum()
}

/// How many elements of a list are images; what is empty is none (spec 7.1).
fn images(list: &RawValue) -> u64 {
    let items = serde_json::from_str::<Vec<&RawValue>>(list.get()).unwrap_or_default();
    items.into_iter().filter(|item| content::is_image(item)).count() as u64
}

/// How many elements a list has.
pub(crate) fn items(list: &RawValue) -> u64 {
    serde_json::from_str::<Vec<IgnoredAny>>(list.get()).map_or(0, |items| items.len() as u64)
}

#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    images: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::estimate::Family;

    /// Goal: images are counted where they are, at both kinds of endpoints.
    #[test]
    fn images_count() {
        for (answer, images) in [
            (r#"{"data":[{"b64_json":"x"},{"url":"y"},{"b64_json":""},{}]}"#, 2),
            (
                r#"{"choices":[{"message":{"content":null,"images":[{"url":"x"}]}},{"message":{"images":[{"url":"y"},{"image_url":{"url":"z"}},{}]}}]}"#,
                3,
            ),
            (r#"{"choices":[{"message":{"content":"none","images":null}},{}]}"#, 0),
            ("{", 0),
        ] {
            assert_eq!(images_in(answer.as_bytes()), images, "{answer}");
        }
    }

    /// Goal: the words of an answer count, in each language, and nothing around them.
    #[test]
    fn words_count() {
        let words = |answer: &str| Family::O200k.tokens(&text_of(answer.as_bytes()));
        let plain =
            words(r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"one two three"}}]}"#);
        assert!((2..=5).contains(&plain), "{plain}");
        assert_eq!(
            words(r#"{"id":"x y z","type":"message","content":[{"type":"text","text":"one two three"}]}"#),
            plain
        );
        let item =
            r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"one two three"}]}]}"#;
        assert_eq!(words(item), plain);
        assert_eq!((words("{}"), words("["), words(r#"{"data":[{"embedding":[1,2]}]}"#)), (0, 0, 0));
    }
}
