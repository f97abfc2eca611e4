//! What a model is and which API a call speaks.

/// What a model produces; decides which endpoints may name it (spec 11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// Text, by chat, completions, Responses or Messages.
    Chat,
    /// Vectors.
    Embedding,
    /// Images, by the images endpoints.
    Image,
    /// Images, by chat.
    GeminiImage,
    /// Video.
    Video,
}

/// An API that a client calls and a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Api {
    /// Chat completions.
    Chat,
    /// Legacy completions.
    Completions,
    /// Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Embeddings.
    Embeddings,
    /// Image generation and edits.
    Images,
    /// Video generation.
    Video,
}

impl Api {
    /// Every API, by its word in configurations.
    pub const WORDS: [(&'static str, Self); 7] = [
        ("chat", Self::Chat),
        ("completions", Self::Completions),
        ("responses", Self::Responses),
        ("messages", Self::Messages),
        ("embeddings", Self::Embeddings),
        ("images", Self::Images),
        ("video", Self::Video),
    ];

    /// The word for it in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, api)| *api == self).map_or("", |(word, _)| word)
    }

    /// The path, below the version, under which clients and upstreams know this API.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Responses => "/responses",
            Self::Messages => "/messages",
            Self::Embeddings => "/embeddings",
            Self::Images => "/images/generations",
            Self::Video => "/video/generations",
        }
    }
}

impl ModelKind {
    /// The endpoint to name to a caller who used a wrong one (spec 11.1).
    #[must_use]
    pub fn home(self) -> Api {
        match self {
            Self::Chat | Self::GeminiImage => Api::Chat,
            Self::Embedding => Api::Embeddings,
            Self::Image => Api::Images,
            Self::Video => Api::Video,
        }
    }

    /// Whether a model of this kind can be called through `api`.
    #[must_use]
    pub fn speaks(self, api: Api) -> bool {
        match self {
            Self::Chat => matches!(api, Api::Chat | Api::Completions | Api::Responses | Api::Messages),
            Self::GeminiImage => api == Api::Chat,
            Self::Embedding => api == Api::Embeddings,
            Self::Image => api == Api::Images,
            Self::Video => api == Api::Video,
        }
    }
}

/// A small set of [`Api`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApiSet(u8);

impl ApiSet {
    /// Whether `api` is a member.
    #[must_use]
    pub fn contains(self, api: Api) -> bool {
        self.0 & (1 << api as u8) != 0
    }
}

impl FromIterator<Api> for ApiSet {
    fn from_iter<T: IntoIterator<Item = Api>>(apis: T) -> Self {
        Self(apis.into_iter().fold(0, |set, api| set | (1 << api as u8)))
    }
}
