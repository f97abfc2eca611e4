//! Why a request is not answered by an upstream: the closed list of our own refusals, and upstream verdicts beside it.
//!
//! A [`Failure`] is the precise cause, for the operator. What the client reads of it is decided in `wire::error`.

use super::api::Api;
use super::failure::Verdict;
use super::images::ImageFault;
use super::limits::{Dimension, Exceeded};
use std::time::Duration;

/// The precise cause for which a request did not get an upstream's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The gateway refused it before any upstream was asked.
    Refused(Refusal),
    /// Upstreams were tried; this is the verdict that decides (spec 3.2, last paragraph).
    Upstream(Verdict),
    /// Every channel that was tried says that it does not have this model (spec 3.2, 9.5).
    NowhereServed(String),
    /// The model has channels, and none of them can be tried now; the first recovers after this, if that is known.
    NoChannel(Option<Duration>),
    /// A defect of ours, a caught panic included.
    Internal,
}

/// A check of our own that a request did not pass, in the order of admission (spec 4.1).
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// More header bytes or fields than allowed.
    HeadersTooLarge,
    /// Not a request that this server can be asked: no host, another server's URL.
    BadRequest(&'static str),
    /// A path that is not in the route table.
    UnknownPath,
    /// A known path with another method; the methods that it has.
    WrongMethod(&'static str),
    /// An upgrade to WebSocket on a known path.
    WebSocket,
    /// A model id in the path that does not exist or is not for this caller.
    NoSuchModel(String),
    /// The body is, or says it is, larger than the bound.
    BodyTooLarge,
    /// No credential.
    MissingKey,
    /// A credential that is unknown, disabled or expired.
    InvalidKey,
    /// Two credentials that differ, and not just one of them is a key.
    CredentialsDiffer,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body's framing or compression is broken.
    BodyUnreadable,
    /// The body is declared to be something else than JSON.
    MediaType,
    /// The body is compressed in a way that is not supported.
    ContentEncoding,
    /// Not JSON; line and column of the first fault.
    InvalidJson {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
    /// JSON, but not what a request is: not an object, nested too deeply.
    NotARequest(&'static str),
    /// A member that has to be there is not.
    MissingParameter(&'static str),
    /// A member has a value that cannot be.
    InvalidValue {
        /// The member.
        param: &'static str,
        /// What it should be, as the end of a sentence: "must be a string".
        why: &'static str,
    },
    /// No enabled channel serves the model.
    UnknownModel(String),
    /// The key may not use the model.
    ModelDenied(String),
    /// The model is for verified accounts.
    VerificationRequired(String),
    /// The model is served, but not at this endpoint.
    WrongEndpoint {
        /// The model that was asked for.
        model: String,
        /// Where it is served.
        home: Api,
    },
    /// The images asked for are not what the model makes.
    ImageRule(ImageFault),
    /// The multipart body cannot be read in one way alone; why, as the end of a sentence.
    BadForm(&'static str),
    /// A member that the model does not take, or not like this.
    Parameter {
        /// The member.
        param: String,
        /// What is wrong with it.
        fault: ParameterFault,
    },
    /// The key may not be used from where it was used.
    AddressDenied,
    /// The input is larger than the model's context.
    ContextTooLong {
        /// What fits, in tokens.
        max: u64,
        /// What came, in tokens, if it was counted.
        count: Option<u64>,
    },
    /// A limit of the caller's own.
    Limited(Exceeded),
    /// The balance of the account, or the quota of the key, does not cover the request.
    InsufficientQuota,
    /// What is paid for cannot be written down now.
    StoreUnavailable,
    /// The gateway has more to do than it can, or is about to stop.
    Busy,
    /// A limit of the process is near (spec 15.1).
    Overloaded,
    /// The bodies of all requests take as much memory as they may.
    BodiesTooMany,
}

/// What is wrong with a member of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterFault {
    /// The model, or every channel that could be asked, does not take it.
    Unsupported,
    /// It is larger than this.
    Over(u64),
    /// It is there more than once, and its treatment depends on it.
    Repeated,
}

impl Refusal {
    /// The step of admission that refused (spec 4.1), as a metric label.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        match self {
            Self::HeadersTooLarge | Self::BadRequest(_) => "headers",
            Self::UnknownPath | Self::WrongMethod(_) | Self::WebSocket | Self::NoSuchModel(_) => "route",
            Self::BodyTooLarge => "size",
            Self::MissingKey | Self::InvalidKey | Self::CredentialsDiffer => "key",
            Self::BodyTimeout | Self::BodyUnreadable | Self::MediaType | Self::ContentEncoding => "body",
            Self::InvalidJson { .. }
            | Self::NotARequest(_)
            | Self::MissingParameter(_)
            | Self::BadForm(_)
            | Self::InvalidValue { .. } => "envelope",
            Self::UnknownModel(_) => "model",
            Self::ModelDenied(_) | Self::VerificationRequired(_) | Self::AddressDenied => "access",
            Self::WrongEndpoint { .. } | Self::ContextTooLong { .. } => "rules",
            Self::Parameter { .. } | Self::ImageRule(_) => "rules",
            Self::Limited(_) => "limits",
            Self::InsufficientQuota | Self::StoreUnavailable => "quota",
            Self::Busy | Self::Overloaded | Self::BodiesTooMany => "gateway",
        }
    }

    /// What was wrong, as a metric label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::HeadersTooLarge => "headers_too_large",
            Self::BadRequest(_) => "bad_request",
            Self::UnknownPath => "unknown_path",
            Self::WrongMethod(_) => "wrong_method",
            Self::WebSocket => "websocket",
            Self::NoSuchModel(_) | Self::UnknownModel(_) => "unknown_model",
            Self::BodyTooLarge => "body_too_large",
            Self::MissingKey => "missing_key",
            Self::InvalidKey => "invalid_key",
            Self::CredentialsDiffer => "credentials_differ",
            Self::BodyTimeout => "body_timeout",
            Self::BodyUnreadable => "body_unreadable",
            Self::MediaType => "media_type",
            Self::ContentEncoding => "content_encoding",
            Self::InvalidJson { .. } => "invalid_json",
            Self::NotARequest(_) => "not_a_request",
            Self::MissingParameter(_) => "missing_parameter",
            Self::InvalidValue { .. } => "invalid_value",
            Self::ModelDenied(_) => "model_denied",
            Self::VerificationRequired(_) => "verification_required",
            Self::WrongEndpoint { .. } => "wrong_endpoint",
            Self::ImageRule(_) => "image_rule",
            Self::BadForm(_) => "bad_form",
            Self::Parameter { fault, .. } => match fault {
                ParameterFault::Unsupported => "unsupported_parameter",
                ParameterFault::Over(_) => "over_bound",
                ParameterFault::Repeated => "repeated_parameter",
            },
            Self::AddressDenied => "address_denied",
            Self::ContextTooLong { .. } => "context_too_long",
            Self::Limited(exceeded) => match exceeded.dimension {
                Dimension::Concurrency => "concurrency",
                Dimension::Requests => "requests_per_minute",
                Dimension::Tokens => "tokens_per_minute",
            },
            Self::InsufficientQuota => "insufficient_quota",
            Self::StoreUnavailable => "store_unavailable",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
            Self::BodiesTooMany => "body_memory",
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
