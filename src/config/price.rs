//! Prices of models, and other amounts of money (spec 8.1, 12.1).
//!
//! Amounts are decimal numbers in quotes, so that no reader of the file makes a binary fraction of them.

use super::reader::{Form, Item, Object};
use super::types::Tariff;
use crate::core::api::ModelKind;
use crate::core::money::Money;
use crate::core::price::{Listed, LongContext, Multiplier, Rate, default_long_context};

/// What a model costs, from its members `price`, `free` and `long_context`.
pub(super) fn tariff(model: &Object<'_>, id: &str, kind: Option<ModelKind>) -> Tariff {
    let free = model.get("free").filter(|item| item.flag() == Some(true));
    let long_context = long_context(model.get("long_context"), id);
    match (model.get("price"), free) {
        (Some(_), Some(free)) => {
            free.refuse("is at odds with a price");
            Tariff::Unknown
        }
        (Some(item), None) => price(&item, kind, long_context),
        (None, Some(_)) => Tariff::Free,
        (None, None) => Tariff::Unknown,
    }
}

fn price(item: &Item<'_>, kind: Option<ModelKind>, long_context: Option<LongContext>) -> Tariff {
    let Some(section) = item.object() else { return Tariff::Unknown };
    let rate = |name| section.get(name).and_then(|item| decimal(&item, Rate::parse));
    let each = |name| section.get(name).and_then(|item| amount(&item));
    let has = |name| section.get(name).is_some();
    // What is left out must not be given away by mistake.
    let missing = match kind {
        Some(ModelKind::Chat | ModelKind::GeminiImage) => [("input", "output"), ("output", "input")]
            .into_iter()
            .find(|(given, needed)| has(given) && !has(needed)),
        _ => None,
    };
    if let Some((_, needed)) = missing {
        item.refuse_with(format!("has no {needed}"), "write \"0\" if it costs nothing");
    }
    let amounts = ["input", "output", "request", "image", "second"];
    if !amounts.into_iter().any(has) {
        item.refuse_with(
            "says no price",
            "input and output, in USD per million tokens, or request, image, second",
        );
    }
    let listed = Listed {
        input: rate("input").unwrap_or_default(),
        output: rate("output").unwrap_or_default(),
        cache_read: rate("cache_read"),
        cache_write_5m: rate("cache_write_5m"),
        cache_write_1h: rate("cache_write_1h"),
        image_input: rate("image_input"),
        image_output: rate("image_output"),
        request: each("request"),
        image: each("image"),
        second: each("second"),
        long_context,
    };
    section.finish();
    Tariff::Priced(listed.into())
}

/// The rule for long prompts: as given, none where it is false, else that of the vendor.
fn long_context(item: Option<Item<'_>>, id: &str) -> Option<LongContext> {
    let Some(item) = item else { return default_long_context(id) };
    item.as_form(Form::Off);
    if item.node.value == super::tree::Value::Bool(false) {
        return None;
    }
    let section = item.object()?;
    let from = section.required("from").and_then(|item| item.number(1..=1_000_000_000));
    let times =
        |name| section.get(name).map_or(Some(Multiplier::ONE), |item| decimal(&item, Multiplier::parse));
    let (input, output, cache) = (times("input"), times("output"), times("cache"));
    section.finish();
    Some(LongContext { from: from?, input: input?, output: output?, cache: cache? })
}

/// An amount of dollars.
pub(super) fn amount(item: &Item<'_>) -> Option<Money> {
    decimal(item, Money::parse)
}

fn decimal<T>(item: &Item<'_>, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let parsed = parse(item.decimal()?);
    if parsed.is_none() {
        item.refuse_with("is no decimal number of a sensible size", "such as \"1.25\"");
    }
    parsed
}
