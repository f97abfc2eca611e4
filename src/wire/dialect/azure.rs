//! Azure's two surfaces.
//!
//! The older one has a path for each deployment, which is what Azure calls a model that was set up, and a dated version
//! in the query; the model in the body is not read there, but says the same. Responses came late and stand beside the
//! deployments. The newer one is OpenAI's own path below `/openai/v1`, with the deployment as the model in the body; its
//! version is a word, and may be left out.

use crate::core::api::Api;
use crate::wire::endpoint::{Call, path_segment};

/// The first version that streams report usage in, is generally available, and is not about to be retired.
const OLDEST: &str = "2024-10-21";
/// The first version with Responses.
const RESPONSES_SINCE: &str = "2025-03-01";
/// Versions of the newer surface.
const WORDS: [&str; 3] = ["v1", "preview", "latest"];

/// Where calls go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    Deployments,
    V1,
}

fn surface(base: &str, version: Option<&str>) -> Surface {
    let is_v1 = base.ends_with("/openai/v1") || version.is_some_and(|version| WORDS.contains(&version));
    if is_v1 { Surface::V1 } else { Surface::Deployments }
}

/// Path and query of a call.
pub(super) fn target(base: &str, version: Option<&str>, call: Call, deployment: &str) -> String {
    let root = base.strip_suffix("/v1").filter(|root| root.ends_with("/openai")).unwrap_or(base);
    let root = root.strip_suffix("/openai").unwrap_or(root);
    let path = call.upstream_path();
    let place = match surface(base, version) {
        Surface::V1 => "/v1".to_owned(),
        Surface::Deployments if call.api() == Api::Responses => String::new(),
        Surface::Deployments => format!("/deployments/{}", path_segment(deployment)),
    };
    let query = version.map(|version| format!("?api-version={version}")).unwrap_or_default();
    format!("{root}/openai{place}{path}{query}")
}

/// Whether Responses can be had below this base in this version.
#[must_use]
pub fn has_responses(base: &str, version: Option<&str>) -> bool {
    surface(base, version) == Surface::V1 || version.is_some_and(|version| version >= RESPONSES_SINCE)
}

/// What is wrong with the version for a base, and what to do about it.
#[must_use]
pub fn version_fault(base: &str, version: Option<&str>) -> Option<(&'static str, &'static str)> {
    let is_word = version.is_some_and(|version| WORDS.contains(&version));
    match (base.ends_with("/openai/v1"), version) {
        (_, Some(_)) if is_word => None,
        (true, None) => None,
        (true, Some(_)) => Some((
            "is for deployments, not for a base_url that ends in /openai/v1",
            "leave it out, or preview",
        )),
        (false, None) => Some((
            "needs an api_version",
            "such as api_version: \"2024-10-21\", or a base_url that ends in /openai/v1",
        )),
        (false, Some(version)) if !is_dated(version) => Some((
            "is no version of Azure's",
            "such as \"2024-10-21\", \"2025-04-01-preview\", v1 or preview",
        )),
        (false, Some(version)) if version < OLDEST => Some(("is too old", "\"2024-10-21\" or newer")),
        (false, Some(_)) => None,
    }
}

/// Whether it is a date, of a preview or not.
fn is_dated(version: &str) -> bool {
    let date = version.strip_suffix("-preview").unwrap_or(version);
    let fits = |(index, byte): (usize, u8)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    date.len() == OLDEST.len() && date.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a version that cannot work with its base is told beforehand (spec 12.1).
    #[test]
    fn versions_are_checked() {
        for (base, version, fault) in [
            ("", None, "needs an api_version"),
            ("/openai", None, "needs an api_version"),
            ("/openai/v1", None, ""),
            ("/openai/v1", Some("preview"), ""),
            ("/openai/v1", Some("2024-10-21"), "is for deployments"),
            ("", Some("v1"), ""),
            ("", Some("2024-10-21"), ""),
            ("", Some("2025-04-01-preview"), ""),
            ("", Some("2023-05-15"), "is too old"),
            ("", Some("2024-10-21&x=y"), "is no version"),
            ("", Some("20241021"), "is no version"),
            ("", Some("V1"), "is no version"),
        ] {
            let told = version_fault(base, version).map_or("", |(message, _)| message);
            assert_eq!(
                (told.is_empty(), told.starts_with(fault)),
                (fault.is_empty(), true),
                "{base} {version:?}"
            );
        }
        assert!(!has_responses("", Some("2024-10-21")) && has_responses("", Some("2025-03-01-preview")));
        assert!(has_responses("/openai/v1", None) && has_responses("", Some("v1")));
    }
}
