//! Limits, as they stand on keys, accounts, models, channels and at the top level (spec 6.1, 12.1).

use super::reader::Item;
use crate::core::limits::Limited;

/// The largest limit that is one.
const COUNT_MAX: i128 = 1_000_000_000;

/// Reads `{rpm, tpm, concurrency, shadow}`, each of them optional.
pub(super) fn limits(item: Option<Item<'_>>) -> Limited {
    let Some(section) = item.and_then(|item| item.object()) else { return Limited::default() };
    let limits = Limited {
        rpm: section.get("rpm").and_then(|item| item.number(1..=COUNT_MAX)),
        tpm: section.get("tpm").and_then(|item| item.number(1..=COUNT_MAX)),
        concurrency: section.get("concurrency").and_then(|item| item.number(1..=COUNT_MAX)),
        shadow: section.get("shadow").and_then(|item| item.flag()).unwrap_or(false),
    };
    section.finish();
    limits
}
