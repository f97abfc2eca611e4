//! The section `classify` and a channel's `status_map`: what an operator adds to the classifier (spec 3.4).

use super::reader::{Form, Item, Object};
use crate::core::failure::Class;
use crate::wire::custom::CustomRow;
use crate::wire::report::plain_code;

/// The longest list of rules; each failure is held against all of them.
const RULES_MAX: usize = 200;
/// The shortest text that may be searched for, in bytes; a shorter one is in everything.
const WORDS_MIN: usize = 4;

pub(super) fn rules(item: Option<Item<'_>>) -> Vec<CustomRow> {
    let Some(item) = item else { return Vec::new() };
    let list = item.list();
    if list.len() > RULES_MAX {
        item.refuse(format!("has more than {RULES_MAX} rules"));
    }
    list.iter().filter_map(rule).collect()
}

fn rule(item: &Item<'_>) -> Option<CustomRow> {
    let object = item.object()?;
    let name = object.required("name").and_then(|item| item.text().map(str::to_owned));
    let statuses = list(&object, "status", |item| item.number(100..=599)).into_iter();
    let codes = list(&object, "code", |item| item.text().map(plain_code));
    let words = list(&object, "text", words);
    let class = object.required("class").and_then(|item| class(&item));
    let row = CustomRow {
        name: name?,
        statuses: statuses.map(|status| (status, status)).collect(),
        codes,
        words,
        class: class?,
    };
    object.finish();
    if row.codes.is_empty() && row.words.is_empty() {
        item.refuse_with(
            "would match every answer",
            "give it a code or a text; statuses alone are status_map of a channel",
        );
        return None;
    }
    Some(row)
}

fn words(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.to_lowercase();
    if text.len() < WORDS_MIN {
        item.refuse(format!("must have {WORDS_MIN} bytes or more"));
        return None;
    }
    Some(text)
}

fn list<T>(object: &Object<'_>, name: &'static str, read: impl Fn(&Item<'_>) -> Option<T>) -> Vec<T> {
    object.get(name).map(|item| item.list()).unwrap_or_default().iter().filter_map(read).collect()
}

/// A class by its name; those that only the gateway can know are refused by name.
fn class(item: &Item<'_>) -> Option<Class> {
    let names = Class::ALL.map(|class| (class.as_str(), class));
    item.as_form(Form::OneOf(CustomRow::CLASSES.map(Class::as_str).to_vec()));
    let class = item.word_of(&names)?;
    if !CustomRow::CLASSES.contains(&class) {
        item.refuse("cannot be given by a rule");
        return None;
    }
    Some(class)
}

/// Statuses and what they are taken for; none can become one that blames the caller.
pub(super) fn status_map(item: &Item<'_>) -> Vec<(u16, u16)> {
    let entry = |(from, to): &(&str, Item<'_>)| {
        let Some(sent) = from.parse().ok().filter(|status| (300..=599).contains(status)) else {
            to.refuse("must be under a status from 300 to 599");
            return None;
        };
        let taken: u16 = to.number(300..=599)?;
        if matches!(taken, 400 | 409 | 413 | 415 | 422) {
            to.refuse("must not be a status that blames the caller");
            return None;
        }
        Some((sent, taken))
    };
    item.entries().iter().filter_map(entry).collect()
}
