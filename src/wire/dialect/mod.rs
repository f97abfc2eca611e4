//! What differs between providers before a request leaves: where a call goes below a channel's base URL, in which field
//! the credential travels, and which APIs there are.
//!
//! A dialect is a row of the table in [`Provider::row`]; only Azure, which names the model in the path, needs more
//! ([`azure`]). What differs in *answers* is not asked here: usage, errors and the traces of a provider are known by what
//! they are, because a relay in front of a provider answers as that provider does.

pub mod azure;

use super::endpoint::Call;
use crate::core::api::Api;
use http::{HeaderName, HeaderValue};

/// The dialect that a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// OpenAI itself.
    OpenAi,
    /// Whoever speaks like it.
    OpenAiCompatible,
    /// Anthropic: Messages alone; its imitation of OpenAI is for trials, as it says itself.
    Anthropic,
    /// Google's imitation of OpenAI.
    Gemini,
    /// OpenAI's models at Azure.
    Azure,
}

/// What a dialect is.
struct Row {
    /// The APIs that it can speak.
    apis: &'static [Api],
    /// The field of the credential.
    field: HeaderName,
    /// What stands before the credential there.
    scheme: &'static str,
}

impl Provider {
    /// Every dialect, by its word in configurations.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("openai", Self::OpenAi),
        ("openai_compatible", Self::OpenAiCompatible),
        ("anthropic", Self::Anthropic),
        ("gemini", Self::Gemini),
        ("azure", Self::Azure),
    ];

    fn row(self) -> Row {
        use Api::{Chat, Completions, Embeddings, Images, Messages, Responses, Video};
        let row = |apis, field, scheme| Row { apis, field, scheme };
        let (authorization, named) = (http::header::AUTHORIZATION, HeaderName::from_static);
        match self {
            Self::OpenAi => {
                row(&[Chat, Completions, Responses, Embeddings, Images, Video], authorization, "Bearer ")
            }
            Self::OpenAiCompatible => row(
                &[Chat, Completions, Responses, Messages, Embeddings, Images, Video],
                authorization,
                "Bearer ",
            ),
            Self::Anthropic => row(&[Messages], named("x-api-key"), ""),
            Self::Gemini => row(&[Chat, Embeddings, Images], authorization, "Bearer "),
            Self::Azure => row(&[Chat, Completions, Responses, Embeddings, Images], named("api-key"), ""),
        }
    }

    /// The word for it in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, provider)| *provider == self).map_or("", |(word, _)| word)
    }

    /// The APIs that it can speak at all.
    #[must_use]
    pub fn apis(self) -> &'static [Api] {
        self.row().apis
    }

    /// The field by which a channel shows its credential, never to be written to a log; `None` if it fits into no field.
    #[must_use]
    pub fn credential(self, secret: &str) -> Option<(HeaderName, HeaderValue)> {
        let Row { field, scheme, .. } = self.row();
        let mut value = HeaderValue::from_str(&format!("{scheme}{secret}")).ok()?;
        value.set_sensitive(true);
        Some((field, value))
    }

    /// Path and query of a call, below the path of a channel's base URL, which has no slash at its end.
    #[must_use]
    pub fn target(self, base: &str, api_version: Option<&str>, call: Call, upstream_model: &str) -> String {
        match self {
            Self::Azure => azure::target(base, api_version, call, upstream_model),
            _ => format!("{base}{}", call.upstream_path()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each dialect has its own path, query and credential (spec 1.1, 12.1).
    #[test]
    fn requests_go_where_they_should() {
        use Provider::{Anthropic, Azure, Gemini, OpenAi, OpenAiCompatible};
        let classic = Some("2024-10-21");
        for (provider, base, version, call, expected) in [
            (OpenAi, "/v1", None, Call::Chat, "/v1/chat/completions"),
            (OpenAi, "/v1", None, Call::Compact, "/v1/responses/compact"),
            (OpenAiCompatible, "", None, Call::Completions, "/completions"),
            (OpenAiCompatible, "/api/v1", None, Call::Video, "/api/v1/video/generations"),
            (Anthropic, "/v1", None, Call::Messages, "/v1/messages"),
            (Anthropic, "/v1", None, Call::CountTokens, "/v1/messages/count_tokens"),
            (Gemini, "/v1beta/openai", None, Call::Chat, "/v1beta/openai/chat/completions"),
            (Gemini, "/v1beta/openai", None, Call::Embeddings, "/v1beta/openai/embeddings"),
            (
                Azure,
                "",
                classic,
                Call::Chat,
                "/openai/deployments/a%20b%2Fc.d-e_f/chat/completions?api-version=2024-10-21",
            ),
            (
                Azure,
                "/openai",
                classic,
                Call::ImageEdits,
                "/openai/deployments/a%20b%2Fc.d-e_f/images/edits?api-version=2024-10-21",
            ),
            (
                Azure,
                "/proxy",
                Some("2025-04-01-preview"),
                Call::Responses,
                "/proxy/openai/responses?api-version=2025-04-01-preview",
            ),
            (Azure, "/openai/v1", None, Call::Chat, "/openai/v1/chat/completions"),
            (Azure, "/openai/v1", Some("v1"), Call::Embeddings, "/openai/v1/embeddings?api-version=v1"),
            (
                Azure,
                "",
                Some("preview"),
                Call::ImageGenerations,
                "/openai/v1/images/generations?api-version=preview",
            ),
        ] {
            assert_eq!(provider.target(base, version, call, "a b/c.d-e_f"), expected, "{provider:?}");
        }
        for (provider, field, value) in [
            (OpenAi, "authorization", "Bearer k"),
            (OpenAiCompatible, "authorization", "Bearer k"),
            (Gemini, "authorization", "Bearer k"),
            (Anthropic, "x-api-key", "k"),
            (Azure, "api-key", "k"),
        ] {
            let (name, shown) = provider.credential("k").unwrap();
            assert_eq!((name.as_str(), shown.to_str().unwrap()), (field, value));
            assert!(shown.is_sensitive() && !format!("{shown:?}").contains('k'));
            assert!(provider.credential("a\nb").is_none());
        }
    }
}
