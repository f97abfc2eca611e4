//! The section `cors`.

use super::reader::Item;
use crate::wire::cors::Policy;
use http::{HeaderName, Uri};
use std::time::Duration;

/// How long browsers remember what they were told, where nothing is said.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Which pages may call; none without the section.
pub(super) fn cors(item: &Item<'_>) -> Option<Policy> {
    let section = item.object()?;
    let origins = section.required("origins").map(|item| origins(&item));
    let headers = section.get("headers").map(|item| item.list()).unwrap_or_default();
    let max_age = section.get("max_age").and_then(|item| item.duration());
    section.finish();
    let headers = headers.iter().filter_map(header).collect();
    Some(Policy { origins: origins?, headers, max_age: max_age.unwrap_or(MAX_AGE) })
}

/// Origins as browsers name them; `*` alone stands for all.
fn origins(item: &Item<'_>) -> Vec<Box<str>> {
    let list = item.filled_list();
    if let [only] = list.as_slice()
        && only.node.value == super::tree::Value::Text("*".into())
    {
        return Vec::new();
    }
    list.iter().filter_map(origin).collect()
}

fn origin(item: &Item<'_>) -> Option<Box<str>> {
    let text = item.text()?;
    let uri = text.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    let whole = uri.as_ref().and_then(|uri| {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        Some(format!("{scheme}://{}", authority.as_str().to_ascii_lowercase()))
    });
    // What a browser sends has no path, no user and no slash at its end.
    if whole.as_deref() != Some(text) || text.contains('@') {
        item.refuse_with("is no origin", "such as https://app.example, in lower case; or [\"*\"] for all");
        return None;
    }
    Some(text.into())
}

fn header(item: &Item<'_>) -> Option<HeaderName> {
    let parsed = item.text()?.parse().ok();
    if parsed.is_none() {
        item.refuse("is no header name");
    }
    parsed
}
