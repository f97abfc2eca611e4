//! What the form of an image edit asks for (spec 11.4): the fields that the gateway governs, with the place of the model.
//!
//! The rules are those of a JSON body (spec 4.2): a governed field once, under its own name, as plain text.

use super::envelope::{CHOICES_MAX, folds_to};
use super::multipart::{self, Boundary, Part};
use super::splice::{Edit, json_string};
use crate::core::estimate::{Piece, Prompt};
use crate::core::images::ImageWishes;
use crate::core::refusal::Refusal;
use bytes::Bytes;
use std::ops::Range;

/// Fields that the gateway governs. The order is the index into the fields found.
const FIELDS: [&str; 7] = ["model", "stream", "n", "size", "quality", "prompt", "user"];
/// Fields that are images.
const IMAGES: [&str; 3] = ["image", "image[]", "mask"];
/// A field by which a form changes the character set of the others (RFC 7578, 4.6).
const CHARSET: &str = "_charset_";

/// What a form asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditForm {
    /// The model asked for.
    pub model: String,
    /// Where it stands.
    pub place: Range<usize>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// How many images are asked for.
    pub choices: u64,
    /// How they should be.
    pub wishes: ImageWishes,
    /// The end user, as JSON.
    pub user: Option<String>,
    /// What the model is given to read and to see.
    pub prompt: Prompt,
}

impl EditForm {
    /// Reads a form.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] of the envelope stage, for the first fault found.
    pub fn parse(body: &[u8], boundary: &Boundary) -> Result<Self, Refusal> {
        let parts = multipart::parts(body, boundary).map_err(Refusal::BadForm)?;
        let mut fields = [const { None }; FIELDS.len()];
        let mut prompt = Prompt::default();
        for part in &parts {
            if IMAGES.contains(&part.name) || is_listed_image(part.name) {
                prompt.add(Piece::Image { low: false });
            } else {
                note(&mut fields, part, body)?;
            }
        }
        let texts = fields.each_ref().map(|field| field.as_ref().map(|(text, _)| *text));
        let [_, stream, n, size, quality, words, user] = texts;
        let [Some((model, place)), ..] = fields else { return Err(Refusal::MissingParameter("model")) };
        if model.is_empty() {
            return Err(Refusal::InvalidValue { param: "model", why: "must be a non-empty string" });
        }
        prompt.add(Piece::Text(words.unwrap_or_default()));
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self {
            model: model.to_owned(),
            place,
            stream: flag(stream)?,
            choices: count(n)?,
            wishes: ImageWishes { size: owned(size), quality: owned(quality), ..ImageWishes::default() },
            user: user.map(json_string),
            prompt,
        })
    }

    /// The edit that names another model; `None` if a form of this boundary cannot name it.
    #[must_use]
    pub fn rename(place: &Range<usize>, boundary: &Boundary, model: &str) -> Option<Edit> {
        let plain = !model.contains(char::is_control) && !boundary.begins(model);
        plain.then(|| (place.clone(), Bytes::copy_from_slice(model.as_bytes())))
    }
}

/// Images may be numbered: `image[0]`.
fn is_listed_image(name: &str) -> bool {
    let number = name.strip_prefix("image[").and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

type Field<'a> = Option<(&'a str, Range<usize>)>;

/// Notes a part that may be a governed field.
fn note<'a>(fields: &mut [Field<'a>; FIELDS.len()], part: &Part<'_>, body: &'a [u8]) -> Result<(), Refusal> {
    let content = body.get(part.content.clone()).unwrap_or_default();
    if part.name.eq_ignore_ascii_case(CHARSET) && !content.eq_ignore_ascii_case(b"utf-8") {
        return Err(Refusal::BadForm("is not in UTF-8"));
    }
    let Some(index) = FIELDS.iter().position(|field| *field == part.name) else {
        return misspelled(part.name);
    };
    let param = FIELDS.get(index).copied().unwrap_or_default();
    let text = std::str::from_utf8(content).ok().filter(|_| part.is_plain && !part.is_file);
    let text = text.ok_or(Refusal::InvalidValue { param, why: "must be plain text in UTF-8" })?;
    match fields.get_mut(index).and_then(|slot| slot.replace((text, part.content.clone()))) {
        None => Ok(()),
        Some(_) => Err(Refusal::InvalidValue { param, why: "must be given once" }),
    }
}

/// Refuses a name that some parsers take for a governed one: in other letters, or as a list.
fn misspelled(name: &str) -> Result<(), Refusal> {
    let plain = name.split(['[', '.']).next().unwrap_or_default().trim();
    match FIELDS.into_iter().find(|field| folds_to(plain, field)) {
        Some(param) => {
            Err(Refusal::InvalidValue { param, why: "must be spelled in lower case, and no list" })
        }
        None => Ok(()),
    }
}

fn flag(text: Option<&str>) -> Result<bool, Refusal> {
    match text {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::InvalidValue { param: "stream", why: "must be true or false" }),
    }
}

fn count(text: Option<&str>) -> Result<u64, Refusal> {
    let Some(text) = text else { return Ok(1) };
    let digits = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse().ok().filter(|count| digits && (1..=CHOICES_MAX).contains(count));
    count.ok_or(Refusal::InvalidValue { param: "n", why: "must be a positive integer of a sensible size" })
}

#[cfg(test)]
#[path = "edit_form_tests.rs"]
mod tests;
