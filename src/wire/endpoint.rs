//! The route table of the public listener (spec 1.1, 1.2).
//!
//! A path is matched byte for byte after its aliases are taken off: the `/v1` prefix and one trailing slash are
//! optional. Nothing is decoded or normalised, so two spellings of a path can never mean two different policies.

use crate::core::api::Api;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is escaped in a segment of a path: everything but the unreserved characters (RFC 3986, 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// `GET /v1/models`
    Models,
    /// `GET /v1/models/{id}`; ids contain slashes.
    Model(&'a str),
    /// `GET /v1/balance`
    Balance,
    /// A call that is relayed to an upstream.
    Call(Call),
}

/// An endpoint whose calls are relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/responses/compact`
    Compact,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/images/generations`
    ImageGenerations,
    /// `POST /v1/images/edits`
    ImageEdits,
    /// `POST /v1/video/generations`, alias `POST /v1/videos`
    Video,
}

/// The outcome of looking a path up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// Path and method are in the table.
    Found(Endpoint<'a>),
    /// The path is in the table with these methods only.
    WrongMethod(&'static str),
    /// The path is not in the table.
    Unknown,
}

impl Endpoint<'_> {
    /// The word for this endpoint in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Model(_) => "model",
            Self::Balance => "balance",
            Self::Call(call) => call.label(),
        }
    }
}

impl Call {
    /// The word for this endpoint in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Compact => "responses_compact",
            Self::Messages => "messages",
            Self::CountTokens => "messages_count_tokens",
            Self::Embeddings => "embeddings",
            Self::ImageGenerations => "images_generations",
            Self::ImageEdits => "images_edits",
            Self::Video => "video",
        }
    }

    /// The call that stands for an API where no other is named.
    #[must_use]
    pub fn of(api: Api) -> Self {
        match api {
            Api::Chat => Self::Chat,
            Api::Completions => Self::Completions,
            Api::Responses => Self::Responses,
            Api::Messages => Self::Messages,
            Api::Embeddings => Self::Embeddings,
            Api::Images => Self::ImageGenerations,
            Api::Video => Self::Video,
        }
    }

    /// The API that the call speaks.
    #[must_use]
    pub fn api(self) -> Api {
        match self {
            Self::Chat => Api::Chat,
            Self::Completions => Api::Completions,
            Self::Responses | Self::Compact => Api::Responses,
            Self::Messages | Self::CountTokens => Api::Messages,
            Self::Embeddings => Api::Embeddings,
            Self::ImageGenerations | Self::ImageEdits => Api::Images,
            Self::Video => Api::Video,
        }
    }

    /// Whether its answers can be streams.
    #[must_use]
    pub fn can_stream(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Responses | Self::Messages)
            || self.makes_images()
    }

    /// Whether a stream of it shows something all the time, so that silence means trouble; images are silent for minutes.
    #[must_use]
    pub fn is_steady(self) -> bool {
        !self.makes_images()
    }

    /// Whether its answers are images.
    #[must_use]
    pub fn makes_images(self) -> bool {
        matches!(self, Self::ImageGenerations | Self::ImageEdits)
    }

    /// Whether it may be sent a second time when nobody knows what became of the first (spec 10.8).
    #[must_use]
    pub fn is_repeatable(self) -> bool {
        self != Self::Video
    }

    /// Whether it goes on from a stored response, and its answer has the id of one (spec 1.5).
    #[must_use]
    pub fn is_response(self) -> bool {
        matches!(self, Self::Responses | Self::Compact)
    }

    /// Whether it makes nothing, so that no provider charges for it and it counts as no tokens.
    #[must_use]
    pub fn is_free(self) -> bool {
        self == Self::CountTokens
    }

    /// Whether its body can say how long an answer may be.
    #[must_use]
    pub fn can_be_bounded(self) -> bool {
        !matches!(self, Self::Compact | Self::Video)
    }

    /// The members of its body that bound an answer in tokens, the one first that the gateway bounds it by. Those of other APIs
    /// bound nothing here: upstreams pass them by.
    #[must_use]
    pub fn bounds(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["max_completion_tokens", "max_tokens"],
            Self::Completions | Self::Messages => &["max_tokens"],
            Self::Responses => &["max_output_tokens"],
            _ => &[],
        }
    }

    /// Whether many who speak the API do not know it: that an upstream does not says nothing about the rest of it.
    #[must_use]
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Compact | Self::CountTokens)
    }

    /// The path under an upstream's base URL.
    #[must_use]
    pub fn upstream_path(self) -> &'static str {
        match self {
            Self::Compact => "/responses/compact",
            Self::CountTokens => "/messages/count_tokens",
            Self::ImageEdits => "/images/edits",
            call => call.api().path(),
        }
    }
}

/// A line of the route table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The path without its aliases; a part in braces stands for any text.
    pub path: &'static str,
    /// The methods that it answers to, as `Allow` has them.
    pub methods: &'static str,
    /// What is there.
    pub endpoint: Endpoint<'static>,
}

const READ: &str = "GET, HEAD";
const CALL: &str = "POST";

const fn line(path: &'static str, methods: &'static str, endpoint: Endpoint<'static>) -> Line {
    Line { path, methods, endpoint }
}

/// Every route (spec 1.1).
pub const TABLE: [Line; 14] = [
    line("/models", READ, Endpoint::Models),
    line("/models/{id}", READ, Endpoint::Model("{id}")),
    line("/balance", READ, Endpoint::Balance),
    line("/chat/completions", CALL, Endpoint::Call(Call::Chat)),
    line("/completions", CALL, Endpoint::Call(Call::Completions)),
    line("/responses", CALL, Endpoint::Call(Call::Responses)),
    line("/responses/compact", CALL, Endpoint::Call(Call::Compact)),
    line("/messages", CALL, Endpoint::Call(Call::Messages)),
    line("/messages/count_tokens", CALL, Endpoint::Call(Call::CountTokens)),
    line("/embeddings", CALL, Endpoint::Call(Call::Embeddings)),
    line("/images/generations", CALL, Endpoint::Call(Call::ImageGenerations)),
    line("/images/edits", CALL, Endpoint::Call(Call::ImageEdits)),
    line("/video/generations", CALL, Endpoint::Call(Call::Video)),
    line("/videos", CALL, Endpoint::Call(Call::Video)),
];

/// Looks up method and path (without the query).
#[must_use]
pub fn route<'a>(method: &str, path: &'a str) -> Route<'a> {
    let Some((endpoint, allow)) = lookup(path) else { return Route::Unknown };
    // HEAD is GET without the body (RFC 9110, 9.3.2).
    if allow.split(", ").any(|allowed| allowed == method) {
        Route::Found(endpoint)
    } else {
        Route::WrongMethod(allow)
    }
}

/// Whether errors on this path are told in Anthropic's shape (spec 2.5).
#[must_use]
pub fn is_messages(path: &str) -> bool {
    let path = plain(path);
    path == "/messages" || path.starts_with("/messages/")
}

/// A path without its aliases.
fn plain(path: &str) -> &str {
    let path = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path)
}

fn lookup(path: &str) -> Option<(Endpoint<'_>, &'static str)> {
    let path = plain(path);
    if let Some(line) = TABLE.iter().find(|line| line.path == path) {
        return Some((line.endpoint, line.methods));
    }
    let id = path.strip_prefix("/models/").filter(|id| !id.is_empty())?;
    Some((Endpoint::Model(id), READ))
}

/// A text as one segment of an upstream's path, whatever is in it.
pub(super) fn path_segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every path answers with and without `/v1` and with a trailing slash (spec 1.1).
    #[test]
    fn aliases_reach_the_same_endpoint() {
        for path in ["/v1/chat/completions", "/chat/completions", "/v1/chat/completions/"] {
            assert_eq!(route("POST", path), Route::Found(Endpoint::Call(Call::Chat)));
        }
        assert_eq!(
            route("GET", "/v1/models/openai/gpt-5.5"),
            Route::Found(Endpoint::Model("openai/gpt-5.5"))
        );
        assert_eq!(route("HEAD", "/models/"), Route::Found(Endpoint::Models));
    }

    /// Goal: nothing else is a route, however it is spelled, and a known path says its methods (spec 1.2).
    #[test]
    fn other_spellings_are_unknown() {
        let unknown = [
            "",
            "/",
            "/v1",
            "/v1/",
            "//v1/models",
            "/v1//models",
            "/v1/v1/models",
            "/V1/models",
            "/v1/chat%2Fcompletions",
            "/v1/chat/completions;a=1",
            "/v1/../admin",
            "/v1models",
            "/metrics",
            "/v1/chat/completions//",
        ];
        for path in unknown {
            assert_eq!(route("GET", path), Route::Unknown, "{path}");
        }
        assert_eq!(route("GET", "/v1/chat/completions"), Route::WrongMethod("POST"));
        assert_eq!(route("POST", "/v1/models"), Route::WrongMethod("GET, HEAD"));
        assert_eq!(route("TRACE", "/v1/models"), Route::WrongMethod("GET, HEAD"));
    }
}
