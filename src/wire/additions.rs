//! Members of a request that the gateway writes into it, beside those of the client (spec 1.6, 3.2).
//!
//! The list is closed: whatever is added to what a client wrote is one of these, so that a refusal of it is never told as
//! the client's mistake. The model's name and the id of a stored response are the client's own members in the upstream's
//! words, and are not among them.

/// A member that the gateway may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addition {
    /// Usage asked for in a stream.
    StreamOptions,
    /// An image asked for of a model that makes images in a conversation.
    Modalities,
    /// The bound of an answer that the balance covers, under the name of chat.
    MaxCompletionTokens,
    /// The same under the name of most others.
    MaxTokens,
    /// The same under the name of Responses.
    MaxOutputTokens,
    /// Reasoning that only the account can read that made it: its seal is the gateway's (spec 1.5).
    SealedReasoning,
}

impl Addition {
    /// Every one of them.
    pub const ALL: [Self; 6] = [
        Self::StreamOptions,
        Self::Modalities,
        Self::MaxCompletionTokens,
        Self::MaxTokens,
        Self::MaxOutputTokens,
        Self::SealedReasoning,
    ];

    /// The member's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StreamOptions => "stream_options",
            Self::Modalities => "modalities",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxTokens => "max_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::SealedReasoning => "encrypted_content",
        }
    }

    /// The addition of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|addition| addition.name() == name)
    }

    /// Its position in [`Addition::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Names under which an upstream speaks of it.
    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::StreamOptions => &["stream_options", "include_usage", "streamOptions", "includeUsage"],
            Self::Modalities => &["modalities"],
            Self::MaxCompletionTokens => &["max_completion_tokens", "maxCompletionTokens"],
            Self::MaxTokens => &["max_tokens", "maxTokens"],
            Self::MaxOutputTokens => &["max_output_tokens", "maxOutputTokens"],
            Self::SealedReasoning => &["encrypted_content", "ncrypted content", "signature"],
        }
    }
}

/// A set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Additions(u8);

impl Additions {
    /// Adds one; whether it is new.
    pub fn insert(&mut self, addition: Addition) -> bool {
        let before = self.0;
        self.0 |= 1 << addition.index();
        self.0 != before
    }

    /// Whether one is among them.
    #[must_use]
    pub fn contains(self, addition: Addition) -> bool {
        self.0 & 1 << addition.index() != 0
    }

    /// Those of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All of them, in the order of [`Addition::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Addition> {
        Addition::ALL.into_iter().filter(move |addition| self.contains(*addition))
    }

    /// The one of which an upstream's answer speaks, by any of its names as a word of its own.
    #[must_use]
    pub fn named_in(self, answer: &[u8]) -> Option<Addition> {
        let is_named = |addition: &Addition| addition.aliases().iter().any(|name| has_word(answer, name));
        self.iter().find(is_named)
    }
}

impl FromIterator<Addition> for Additions {
    fn from_iter<T: IntoIterator<Item = Addition>>(additions: T) -> Self {
        let mut all = Self::default();
        for addition in additions {
            all.insert(addition);
        }
        all
    }
}

/// Whether a name stands in a text, and is not a part of a longer one.
fn has_word(text: &[u8], name: &str) -> bool {
    let is_word = |at: Option<usize>| {
        at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    let phrase = name.contains(' ');
    memchr::memmem::find_iter(text, name)
        .any(|at| (phrase || !is_word(at.checked_sub(1))) && !is_word(Some(at + name.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a refusal is known for one of what was added, by every name of it, and not by parts of other names.
    #[test]
    fn refusals_of_additions_are_known() {
        let added: Additions = [Addition::StreamOptions, Addition::MaxTokens].into_iter().collect();
        for (said, expected) in [
            (
                r#"{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
                Some(Addition::StreamOptions),
            ),
            ("unknown field: include_usage", Some(Addition::StreamOptions)),
            ("`max_tokens` is too large: 9", Some(Addition::MaxTokens)),
            ("my_max_tokens", None),
            ("max_tokens_to_sample", None),
            ("modalities", None),
            ("temperature", None),
        ] {
            assert_eq!(added.named_in(said.as_bytes()), expected, "{said}");
        }
        for addition in Addition::ALL {
            assert_eq!(Addition::named(addition.name()), Some(addition));
            assert_eq!(Addition::ALL[addition.index()], addition);
        }
        assert_eq!(added.union(Additions::default()).iter().count(), 2);
    }
}
