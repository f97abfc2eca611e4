//! What can go wrong behind the gateway, as classes, and what each means for the search for another channel.
//!
//! A [`Class`] says *why* an upstream failed (spec 3.2). A [`Verdict`] is one judged failure: its class, the row of
//! rules that matched, words the caller may read, and how long the upstream asked to be left alone. What the client
//! finally reads is decided in `wire::error` from these; nothing here knows HTTP.

use std::borrow::Cow;
use std::time::Duration;

/// The closed list of causes for which an upstream answer is a failure (spec 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The caller's request is at fault.
    CallerMistake,
    /// Safety or policy refused the content.
    ContentRefused,
    /// The input does not fit the model's context.
    ContextTooLong,
    /// The body is too large in bytes.
    BodyTooLarge,
    /// Our credential was refused.
    CredentialRefused,
    /// Our account with the provider is empty.
    AccountEmpty,
    /// Our address or region is refused.
    AddressRefused,
    /// The provider limits our rate.
    RateLimited,
    /// The request is larger than our tier's tokens per minute.
    TooLargeForTier,
    /// The provider has more load than it can serve.
    Overloaded,
    /// The provider or the way to it is broken.
    Broken,
    /// The channel is configured wrongly.
    Misconfigured,
    /// The upstream does not have the model.
    ModelMissing,
    /// The channel lacks a [`Capability`] that the request needs.
    CapabilityMissing,
    /// The answer makes no sense.
    NotUnderstood,
    /// The stream broke after the client had seen content.
    BrokenMidStream,
}

/// Something that a request may need and a channel may lack. Requests without it are served there as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// Tools: declarations, calls and their results.
    Tools,
    /// Images in the input.
    Images,
    /// Audio in the input or the output.
    Audio,
    /// Video in the input.
    Video,
    /// Documents in the input.
    Documents,
    /// Answers as a stream of events.
    Streaming,
    /// Answers in JSON, or by a schema.
    StructuredOutput,
    /// Reasoning, and its configuration.
    Reasoning,
    /// Prompt caching by marks in the request.
    PromptCaching,
    /// Log probabilities of tokens.
    Logprobs,
    /// System messages.
    SystemMessages,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 11] = [
        Self::Tools,
        Self::Images,
        Self::Audio,
        Self::Video,
        Self::Documents,
        Self::Streaming,
        Self::StructuredOutput,
        Self::Reasoning,
        Self::PromptCaching,
        Self::Logprobs,
        Self::SystemMessages,
    ];

    /// The word used in logs and by `tidegate classify`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Images => "images",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Documents => "documents",
            Self::Streaming => "streaming",
            Self::StructuredOutput => "structured_output",
            Self::Reasoning => "reasoning",
            Self::PromptCaching => "prompt_caching",
            Self::Logprobs => "logprobs",
            Self::SystemMessages => "system_messages",
        }
    }

    /// The capability as a sentence names it.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Tools => "tools (function calling)",
            Self::Images => "image input",
            Self::Audio => "audio",
            Self::Video => "video input",
            Self::Documents => "document input",
            Self::Streaming => "streaming",
            Self::StructuredOutput => "structured output (response_format)",
            Self::Reasoning => "reasoning",
            Self::PromptCaching => "prompt caching (cache_control)",
            Self::Logprobs => "logprobs",
            Self::SystemMessages => "system messages",
        }
    }

    /// The request member that asks for it, where it is the same one in every API.
    #[must_use]
    pub const fn param(self) -> Option<&'static str> {
        match self {
            Self::Tools => Some("tools"),
            Self::Streaming => Some("stream"),
            _ => None,
        }
    }
}

/// What an upstream says is wrong about a request, as far as its own code or words tell (spec 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestFault {
    /// It does not say, or none of the others.
    #[default]
    Unsaid,
    /// A member has a value that is not allowed.
    InvalidValue,
    /// A member is not supported.
    UnsupportedParameter,
    /// A required member is missing.
    MissingParameter,
}

/// What a failure says about the channel, the model on it, or the credential (spec 3.2, last column), mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing: the channel is as healthy as before.
    None,
    /// It counts toward ejection of the channel.
    CountsTowardEjection,
    /// This model on this channel rests.
    ModelRests,
    /// The credential rests for the hinted time.
    CredentialRests,
    /// The whole channel rests.
    ChannelRests,
    /// The credential is out until an operator or a probe brings it back.
    CredentialOut,
    /// The whole channel is out until an operator or a probe brings it back.
    ChannelOut,
}

impl Effect {
    /// The word used in logs and by `tidegate classify`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::CountsTowardEjection => "counts_toward_ejection",
            Self::CredentialRests => "credential_rests",
            Self::CredentialOut => "credential_out",
            Self::ModelRests => "model_rests",
            Self::ChannelRests => "channel_rests",
            Self::ChannelOut => "channel_out",
        }
    }
}

/// How far the search for another channel may go after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// No other channel is tried: the answer would be the same.
    Stop,
    /// Only a channel whose declared context window is larger.
    LargerContext,
    /// Any other candidate.
    Any,
}

impl Next {
    /// The word used by `tidegate classify`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "none",
            Self::LargerContext => "larger_context",
            Self::Any => "any",
        }
    }
}

/// Whether an upstream that failed may be carrying the request out all the same (spec 10.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It surely is not: it never had the request, or it said no.
    No,
    /// It may be, or it is.
    Perhaps,
}

/// The figures of an input that is too long, as far as the upstream stated them (spec 2.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContextFigures {
    /// The model's maximum, in tokens.
    pub max: Option<u64>,
    /// Tokens of the input; without `output` only beside a maximum that is smaller.
    pub count: Option<u64>,
    /// Tokens of output that the request allows, where the input alone fits and only both together do not.
    pub output: Option<u64>,
}

impl Class {
    /// Every class, in the order of the table of spec 3.2.
    pub const ALL: [Self; 16] = [
        Self::CallerMistake,
        Self::ContentRefused,
        Self::ContextTooLong,
        Self::BodyTooLarge,
        Self::CredentialRefused,
        Self::AccountEmpty,
        Self::AddressRefused,
        Self::RateLimited,
        Self::TooLargeForTier,
        Self::Overloaded,
        Self::Broken,
        Self::Misconfigured,
        Self::ModelMissing,
        Self::CapabilityMissing,
        Self::NotUnderstood,
        Self::BrokenMidStream,
    ];

    /// The word used in logs and as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallerMistake => "caller_mistake",
            Self::ContentRefused => "content_refused",
            Self::ContextTooLong => "context_too_long",
            Self::BodyTooLarge => "body_too_large",
            Self::CredentialRefused => "credential_refused",
            Self::AccountEmpty => "account_empty",
            Self::AddressRefused => "address_refused",
            Self::RateLimited => "rate_limited",
            Self::TooLargeForTier => "too_large_for_tier",
            Self::Overloaded => "overloaded",
            Self::Broken => "broken",
            Self::Misconfigured => "misconfigured",
            Self::ModelMissing => "model_missing",
            Self::CapabilityMissing => "capability_missing",
            Self::NotUnderstood => "not_understood",
            Self::BrokenMidStream => "broken_mid_stream",
        }
    }

    /// Whether another channel may be tried (spec 3.2, "next channel?").
    #[must_use]
    pub fn next(self) -> Next {
        match self {
            Self::CallerMistake | Self::ContentRefused | Self::BrokenMidStream => Next::Stop,
            Self::ContextTooLong => Next::LargerContext,
            _ => Next::Any,
        }
    }

    /// Whether the class is about the request itself and so says nothing about the channel.
    #[must_use]
    pub fn is_the_requests(self) -> bool {
        matches!(
            self,
            Self::CallerMistake
                | Self::ContentRefused
                | Self::ContextTooLong
                | Self::BodyTooLarge
                | Self::CapabilityMissing
        )
    }

    /// Whether the class is about the credential and its account, so that another credential of the channel may serve.
    #[must_use]
    pub fn is_the_credentials(self) -> bool {
        matches!(
            self,
            Self::CredentialRefused | Self::AccountEmpty | Self::RateLimited | Self::TooLargeForTier
        )
    }

    /// What the class does to the channel, the model on it, or the credential.
    #[must_use]
    pub fn effect(self) -> Effect {
        match self {
            Self::CallerMistake
            | Self::ContentRefused
            | Self::ContextTooLong
            | Self::BodyTooLarge
            | Self::TooLargeForTier
            | Self::CapabilityMissing => Effect::None,
            Self::CredentialRefused | Self::AccountEmpty => Effect::CredentialOut,
            Self::RateLimited => Effect::CredentialRests,
            Self::Overloaded | Self::ModelMissing => Effect::ModelRests,
            Self::AddressRefused | Self::Misconfigured => Effect::ChannelRests,
            Self::Broken | Self::NotUnderstood | Self::BrokenMidStream => Effect::CountsTowardEjection,
        }
    }

    /// Which of two failures decides the answer when candidates run out: the larger wins (spec 3.2, last paragraph).
    ///
    /// A caller's mistake, a refusal or a length ends the search at once and so outranks all; any class that is a 502
    /// wins over the 500 of [`Class::NotUnderstood`]; [`Class::CapabilityMissing`] and [`Class::ModelMissing`] answer only
    /// if nothing else was seen, the first before the second: it tells the caller what to change.
    #[must_use]
    pub fn precedence(self) -> u8 {
        match self {
            Self::CallerMistake | Self::ContentRefused => 6,
            Self::ContextTooLong => 5,
            Self::BodyTooLarge => 4,
            Self::NotUnderstood => 2,
            Self::CapabilityMissing => 1,
            Self::ModelMissing => 0,
            _ => 3,
        }
    }
}

/// One judged failure of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Why it failed.
    pub class: Class,
    /// The rule that matched, for the operator: a row of the classifier's table, or the transport event.
    pub rule: Cow<'static, str>,
    /// What it says about the channel; weaker than the class where only text spoke (spec 3.5).
    pub effect: Effect,
    /// How far the search goes on; an answer that says nothing may be less final than its class.
    pub next: Next,
    /// Whether the upstream may be carrying the request out; what must not be done twice ends there.
    pub accepted: Accepted,
    /// Words that the caller may read, already sanitised (spec 3.6); `None` means the gateway's own words.
    pub message: Option<String>,
    /// The request field at fault, when the upstream named one that the caller may read.
    pub param: Option<String>,
    /// What is wrong about the request; decides the code that the caller reads.
    pub fault: RequestFault,
    /// The figures of an input that is too long.
    pub context: ContextFigures,
    /// What the channel lacks, with [`Class::CapabilityMissing`].
    pub capability: Option<Capability>,
    /// The request member that was refused although the gateway wrote it and not the caller (spec 1.6). The request can
    /// be sent there again without it; the effect counts only if it cannot.
    pub refused_addition: Option<&'static str>,
    /// How long the upstream asked to be left alone, unclamped (spec 9.3).
    pub retry_after: Option<Duration>,
}

impl Verdict {
    /// A verdict without words, field or hint, which leaves open what became of the request.
    #[must_use]
    pub fn new(class: Class, rule: &'static str) -> Self {
        Self {
            class,
            rule: Cow::Borrowed(rule),
            effect: class.effect(),
            next: class.next(),
            accepted: Accepted::Perhaps,
            message: None,
            param: None,
            fault: RequestFault::Unsaid,
            context: ContextFigures::default(),
            capability: None,
            refused_addition: None,
            retry_after: None,
        }
    }

    /// The same about a call that many upstreams do not know: that this one does not is held against nothing of it.
    #[must_use]
    pub fn of_optional_call(mut self) -> Self {
        if matches!(self.class, Class::Misconfigured | Class::ModelMissing | Class::NotUnderstood) {
            self.effect = Effect::None;
        }
        self
    }
}
