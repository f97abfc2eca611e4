//! Words of others inside messages of the gateway's own (spec 2.4): bounded, and without control characters.

use std::borrow::Cow;

/// The longest part of a model id that is echoed, in bytes (spec 2.4).
const MODEL_ECHO_MAX: usize = 200;

/// A model id as it may be echoed.
pub(super) fn echo(model: &str) -> Cow<'_, str> {
    let escaped: Cow<'_, str> = if model.contains(char::is_control) {
        model.chars().flat_map(escaped_control).collect::<String>().into()
    } else {
        model.into()
    };
    match escaped {
        Cow::Borrowed(text) => prefix(text, MODEL_ECHO_MAX).into(),
        Cow::Owned(text) => prefix(&text, MODEL_ECHO_MAX).to_owned().into(),
    }
}

fn escaped_control(c: char) -> impl Iterator<Item = char> {
    let escape = c.is_control().then(|| c.escape_default());
    escape.into_iter().flatten().chain((!c.is_control()).then_some(c))
}

/// A text of others as it may be printed: characters that would steer a terminal, or hide or reorder its words, are escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_unprintable) { escaped(text).into() } else { text.into() }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_ascii_control() {
            out.extend(c.escape_default());
        } else if is_unprintable(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, marks of direction, and characters without a width.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A message of at most `max` bytes.
pub(super) fn shortened(message: Cow<'static, str>, max: usize) -> Cow<'static, str> {
    match message {
        Cow::Owned(text) if text.len() > max => Cow::Owned(prefix(&text, max).to_owned()),
        other => other,
    }
}

/// The longest prefix of at most `max` bytes that ends between characters.
fn prefix(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing that steers a terminal is printed, and ordinary text is left alone.
    #[test]
    fn foreign_words_steer_no_terminal() {
        assert_eq!(printable("busy, até 100 % – 忙 👍"), "busy, até 100 % – 忙 👍");
        assert_eq!(printable("a\u{1b}[2Jb\r\n\u{9b}c"), "a\\u{1b}[2Jb\\r\\n\\u{9b}c");
        assert_eq!(printable("x\u{202e}y\u{200b}\0"), "x\\u{202e}y\\u{200b}\\u{0}");
    }
}
