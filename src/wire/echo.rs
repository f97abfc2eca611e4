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
