//! Members of requests that a model or a channel does not take.

use super::reader::Item;
use crate::core::parameters::{Treatment, Unsupported};
use crate::wire::video;

const TREATMENTS: [(&str, Treatment); 2] = [("reject", Treatment::Reject), ("drop", Treatment::Drop)];
/// Members without which there is no request, or that the gateway sets itself.
const NEVER: [&str; 3] = ["model", "stream", "stream_options"];
/// Members that decide what a request costs or where it goes, so that they cannot be left out behind the client's back; the
/// length of a video is another.
const NOT_DROPPED: [&str; 9] = [
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "previous_response_id",
    "messages",
    "input",
    "prompt",
];
/// The most members of one list.
const MEMBERS_MAX: usize = 64;

pub(super) fn unsupported(item: Option<Item<'_>>) -> Unsupported {
    let Some(item) = item else { return Unsupported::default() };
    let entries = item.entries();
    if entries.len() > MEMBERS_MAX {
        item.refuse(format!("has more than {MEMBERS_MAX} members"));
    }
    entries.iter().filter_map(|(name, item)| Some(((*name).into(), treatment(name, item)?))).collect()
}

fn treatment(name: &str, item: &Item<'_>) -> Option<Treatment> {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() > 2 || name.len() > 64 || parts.iter().any(|part| part.is_empty()) {
        item.refuse_with("is no member of a request", "such as seed, or reasoning.effort");
        return None;
    }
    let outer = parts.first().copied().unwrap_or_default();
    if NEVER.contains(&outer) {
        let hint = "for usage in streams: stream_usage of the channel";
        item.refuse_with("is a member that the gateway needs or sets itself", hint);
        return None;
    }
    let treatment = item.one_of(&TREATMENTS)?;
    if treatment == Treatment::Drop && (NOT_DROPPED.contains(&name) || video::names_seconds(name)) {
        item.refuse_with("cannot be dropped, because it decides what a request costs or means", "reject");
        return None;
    }
    Some(treatment)
}
