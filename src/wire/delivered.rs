//! What a whole answer gave the client to read, where its upstream reports no usage (spec 7.2).

use super::envelope::Members;
use super::prompt::{self, Member};
use crate::core::estimate::{Features, Piece};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::estimate::Family;

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
