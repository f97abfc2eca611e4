//! The section `models`.

use super::reader::Item;
use super::types::Model;
use super::{images, keys, limits, price, unsupported};
use crate::core::api::ModelKind;
use crate::core::estimate::{Family, ImageRule};
use std::collections::HashSet;

const KINDS: [(&str, ModelKind); 5] = [
    ("chat", ModelKind::Chat),
    ("embedding", ModelKind::Embedding),
    ("image", ModelKind::Image),
    ("gemini_image", ModelKind::GeminiImage),
    ("video", ModelKind::Video),
];

/// Seconds of a video for which nobody names any: the longest that the usual models make unasked.
const SECONDS_DEFAULT: u64 = 8;

pub(super) fn models(item: Option<Item<'_>>) -> Vec<Model> {
    let mut seen = HashSet::new();
    item.map(|item| item.list())
        .unwrap_or_default()
        .iter()
        .filter_map(|item| model(item, &mut seen))
        .collect()
}

fn model(item: &Item<'_>, seen: &mut HashSet<String>) -> Option<Model> {
    let object = item.object()?;
    let id = object.required("id").and_then(|item| id(&item, seen));
    let count = |name| object.get(name).and_then(|item| item.number(1..=1_000_000_000));
    let kind = object.get("kind").map_or(Some(ModelKind::Chat), |item| item.one_of(&KINDS));
    let choices_max = object.get("n_max").and_then(|item| item.number(1..=128));
    let unsupported = unsupported::unsupported(object.get("unsupported"));
    let created = object.get("created").and_then(|item| keys::date(&item));
    let verification = object.get("verification").map(|item| item.one_of(&[("telegram", ())]));
    let (context_window, output_max) = (count("context_window"), count("output_max"));
    let tariff = price::tariff(&object, id.as_deref().unwrap_or_default(), kind);
    let family = object.get("tokenizer").map(|item| item.one_of(&Family::WORDS));
    let fixed = object.get("image_tokens").and_then(|item| item.number(0..=1_000_000));
    let limits = limits::limits(object.get("limits"));
    let (seconds_default, seconds_max) = (count("seconds_default"), count("seconds_max"));
    let hedge = object.get("hedge").map_or(Some(false), |item| item.flag());
    let images = images::rules(&object);
    object.finish();
    let id = id?;
    Some(Model {
        hedge: hedge?,
        tariff,
        tokenizer: family.unwrap_or_else(|| Some(Family::of_model(&id)))?,
        image_tokens: fixed.map_or_else(ImageRule::default, ImageRule::Fixed),
        limits,
        images,
        id,
        kind: kind?,
        created,
        context_window,
        output_max,
        choices_max,
        unsupported,
        seconds_default: seconds_default.unwrap_or(SECONDS_DEFAULT),
        seconds_max,
        verification: verification.is_some(),
    })
}

fn id(item: &Item<'_>, seen: &mut HashSet<String>) -> Option<String> {
    let id = item.text()?;
    let printable = id.chars().all(|c| ('\u{21}'..='\u{7e}').contains(&c) && c != '*');
    if id.is_empty() || id.len() > 200 || !printable {
        item.refuse("must be 1 to 200 printable characters without spaces or '*'");
        return None;
    }
    if ["other", "removed"].contains(&id) {
        item.refuse("is a word that metrics use for models that are not configured");
        return None;
    }
    if !seen.insert(id.to_owned()) {
        item.refuse(format!("is there twice: {id}"));
        return None;
    }
    Some(id.to_owned())
}
