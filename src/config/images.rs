//! What a model accepts of the images that it is asked for: members of `models`.

use super::reader::{Item, Object};
use crate::core::images::{ImageRules, Listed};

/// The longest value of a list, in bytes.
const VALUE_MAX: usize = 32;

pub(super) fn rules(object: &Object<'_>) -> ImageRules {
    ImageRules {
        sizes: listed(object.get("sizes")),
        qualities: listed(object.get("qualities")),
        aspect_ratios: listed(object.get("aspect_ratios")),
        image_sizes: listed(object.get("image_sizes")),
    }
}

fn listed(item: Option<Item<'_>>) -> Listed {
    let value = |item: &Item<'_>| {
        let text = item.text()?;
        let plain = text.chars().all(|c| c.is_ascii_graphic() && c != '\'');
        if text.is_empty() || text.len() > VALUE_MAX || !plain {
            item.refuse("must be 1 to 32 printable characters without spaces");
        }
        Some(text.into())
    };
    Some(item?.filled_list().iter().filter_map(value).collect())
}
