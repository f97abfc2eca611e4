//! The catalogue of errors that clients see (spec 2), as one table with one renderer.
//!
//! [`CATALOGUE`] is the closed set of statuses, types and codes. [`PublicError::of`] turns the precise cause of a
//! failure into one entry of it with its message; nothing else in the gateway writes an error. Two failures of one
//! class give the same bytes (spec 2.9): the only words of an upstream that pass are the sanitised ones in a verdict.

use super::echo::{echo, shortened};
use super::images;
use crate::core::api::Api;
use crate::core::failure::{Capability, Class, ContextFigures, RequestFault, Verdict};
use crate::core::limits::{Dimension, Exceeded, Scope};
use crate::core::refusal::{Failure, ParameterFault, Refusal};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

/// The longest message, in bytes (spec 2.4).
const MESSAGE_MAX: usize = 500;
/// The longest wait that is put into `Retry-After`; beyond it the client is told not to retry (spec 2.7).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The words by which agents recognise an input that is too long (spec 2.11).
const TOO_LONG: &str = "Your input exceeds the context window of this model.";
const SHORTEN: &str = "Please reduce the length of the messages.";
/// How long a client waits whose concurrency is used up: nobody knows when a request of its own ends.
const CONCURRENCY_WAIT: Duration = Duration::from_secs(1);

macro_rules! catalogue {
    ($($code:ident: $status:literal $kind:literal $name:literal,)+) => {
        /// Every error that can leave the gateway.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(
                #[doc = concat!("`", $name, "`, status ", stringify!($status), ".")]
                $code
            ),+
        }

        /// Every error that can leave the gateway: code, status, type, code as written (spec 2.2).
        pub const CATALOGUE: &[Entry] = &[
            $(Entry { code: Code::$code, status: $status, kind: $kind, name: $name }),+
        ];

        impl Code {
            /// The entry of this code.
            #[must_use]
            pub fn entry(self) -> Entry {
                match self {
                    $(Self::$code => Entry { code: self, status: $status, kind: $kind, name: $name }),+
                }
            }
        }
    };
}

/// One line of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which error.
    pub code: Code,
    /// The HTTP status, repeated in the body.
    pub status: u16,
    /// The `type` member.
    pub kind: &'static str,
    /// The `code` member.
    pub name: &'static str,
}

catalogue! {
    InvalidJson: 400 "invalid_request_error" "invalid_json",
    MissingRequiredParameter: 400 "invalid_request_error" "missing_required_parameter",
    InvalidValue: 400 "invalid_request_error" "invalid_value",
    UnsupportedParameter: 400 "invalid_request_error" "unsupported_parameter",
    InvalidImageSize: 400 "invalid_request_error" "invalid_image_size",
    WrongEndpoint: 400 "invalid_request_error" "wrong_endpoint",
    ContentPolicyViolation: 400 "invalid_request_error" "content_policy_violation",
    RequestTimeout: 400 "invalid_request_error" "request_timeout",
    HeadersTooLarge: 400 "invalid_request_error" "headers_too_large",
    InvalidRequest: 400 "invalid_request_error" "invalid_request_error",
    MissingApiKey: 401 "authentication_error" "missing_api_key",
    InvalidApiKey: 401 "authentication_error" "invalid_api_key",
    InsufficientQuota: 402 "insufficient_quota" "insufficient_quota",
    ModelAccessDenied: 403 "permission_error" "model_access_denied",
    VerificationRequired: 403 "permission_error" "verification_required",
    IpNotAllowed: 403 "permission_error" "ip_not_allowed",
    NotFound: 404 "not_found" "not_found",
    ModelNotFound: 404 "not_found" "model_not_found",
    ContextLengthExceeded: 413 "context_length_exceeded" "context_length_exceeded",
    RequestTooLarge: 413 "context_length_exceeded" "request_too_large",
    UpgradeRequired: 426 "invalid_request_error" "wrong_endpoint",
    RequestsPerMinute: 429 "rate_limit_error" "requests_per_minute",
    TokensPerMinute: 429 "rate_limit_error" "tokens_per_minute",
    Concurrency: 429 "rate_limit_error" "concurrency",
    InternalError: 500 "api_error" "internal_error",
    UnexpectedProviderResponse: 500 "api_error" "unexpected_provider_response",
    ServiceUnavailable: 502 "api_error" "service_unavailable",
    NoChannel: 503 "api_error" "model_not_found",
}

/// When the client may come back (spec 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not with this request: `x-should-retry: false`.
    Never,
    /// After this long; longer than a minute is told as never.
    After(Duration),
    /// When the first channel recovers, up to a minute, jittered.
    Recovery(Duration),
    /// Soon; the wait is jittered so that clients do not come back together.
    Soon,
    /// The client decides.
    Unsaid,
}

/// One error as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicError {
    /// Which error.
    pub code: Code,
    /// The sentence, of at most 500 bytes.
    pub message: Cow<'static, str>,
    /// The request member at fault.
    pub param: Option<Cow<'static, str>>,
    /// When to come back.
    pub retry: Retry,
    /// The figures of an input that is too long; what is said of them differs by dialect (spec 2.11).
    pub context: ContextFigures,
}

/// The shape of an error body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Five members under `error` (spec 2.1).
    OpenAi,
    /// Anthropic's (spec 2.5).
    Anthropic,
}

impl Dialect {
    /// The shape of errors on a path.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        if super::endpoint::is_messages(path) { Self::Anthropic } else { Self::OpenAi }
    }
}

impl PublicError {
    /// What the client is told of a failure; `unknown_model` is the status for a model nobody serves (spec 2.3).
    #[must_use]
    pub fn of(failure: &Failure, unknown_model: u16) -> Self {
        match failure {
            Failure::Refused(Refusal::UnknownModel(model)) if unknown_model == 404 => {
                Self::new(Code::ModelNotFound, format!("The model {} does not exist.", echo(model)))
            }
            Failure::Refused(refusal) => refused(refusal),
            Failure::Upstream(verdict) => judged(verdict),
            Failure::NowhereServed(model) => Self::no_channel(model),
            Failure::NoChannel(recovery) => {
                let retry = recovery.map_or(Retry::Soon, Retry::Recovery);
                Self { retry, ..Self::unavailable() }
            }
            Failure::Internal => Self::new(Code::InternalError, "The gateway failed to answer the request."),
        }
    }

    /// The generic 502, the same to the byte for every cause (spec 2.9).
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(Code::ServiceUnavailable, "Service temporarily unavailable")
    }

    /// The balance does not cover the request, or how a stream goes on.
    #[must_use]
    pub fn insufficient_quota() -> Self {
        Self::new(
            Code::InsufficientQuota,
            "The balance of this account, or the quota of this API key, is used up.",
        )
    }

    /// No channel serves this model (spec 2.3).
    #[must_use]
    pub fn no_channel(model: &str) -> Self {
        Self::new(Code::NoChannel, format!("No available channel for model {}", echo(model)))
    }

    fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let retry = match code.entry().status {
            502 => Retry::Soon,
            500 => Retry::Unsaid,
            _ => Retry::Never,
        };
        let message = shortened(message.into(), MESSAGE_MAX);
        Self { code, message, param: None, retry, context: ContextFigures::default() }
    }

    fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.code.entry().status
    }

    /// The body in the given shape.
    #[must_use]
    pub fn render(&self, dialect: Dialect, request_id: &str) -> String {
        let Entry { status, kind, name, .. } = self.code.entry();
        let message = &*self.told(dialect);
        let rendered = match dialect {
            Dialect::OpenAi => serde_json::to_string(&OpenAiBody {
                error: OpenAiError { message, kind, param: self.param.as_deref(), code: name, status },
            }),
            Dialect::Anthropic => serde_json::to_string(&AnthropicBody {
                kind: "error",
                error: AnthropicError { kind: anthropic_kind(status), message },
                request_id,
            }),
        };
        // Strings and numbers always serialise; the fallback is only there to have no panic in the path.
        rendered.unwrap_or_default()
    }

    /// The message in a dialect; they differ only where an input is too long (spec 2.11).
    #[must_use]
    pub fn told(&self, dialect: Dialect) -> Cow<'_, str> {
        if self.code != Code::ContextLengthExceeded {
            return Cow::Borrowed(&self.message);
        }
        match (dialect, self.context.max, self.context.count) {
            (Dialect::Anthropic, Some(max), Some(count)) => {
                format!("prompt is too long: {count} tokens > {max} maximum").into()
            }
            (Dialect::Anthropic, Some(max), None) => {
                format!("prompt is too long: more than the maximum of {max} tokens").into()
            }
            (Dialect::Anthropic, None, _) => "prompt is too long".into(),
            (Dialect::OpenAi, Some(max), count) => {
                let came_to =
                    count.map(|count| format!("However, your messages resulted in {count} tokens. "));
                let came_to = came_to.unwrap_or_default();
                format!("{TOO_LONG} This model's maximum context length is {max} tokens. {came_to}{SHORTEN}")
                    .into()
            }
            (Dialect::OpenAi, None, _) => format!("{TOO_LONG} {SHORTEN}").into(),
        }
    }

    /// The headers that tell the client when to come back (spec 2.7). `jitter` is one uniform number.
    #[must_use]
    pub fn retry_headers(&self, jitter: u64) -> Vec<(&'static str, String)> {
        match self.retry {
            Retry::Never => vec![("x-should-retry", "false".into())],
            Retry::After(wait) if wait > RETRY_AFTER_MAX => vec![("x-should-retry", "false".into())],
            Retry::After(wait) => {
                let millis = wait.as_nanos().div_ceil(1_000_000).max(1);
                vec![
                    ("retry-after", millis.div_ceil(1_000).to_string()),
                    ("retry-after-ms", millis.to_string()),
                ]
            }
            Retry::Recovery(wait) => {
                let seconds = wait.as_millis().div_ceil(1_000).max(1) + u128::from(jitter % 5);
                vec![("retry-after", seconds.min(RETRY_AFTER_MAX.as_secs().into()).to_string())]
            }
            Retry::Soon => vec![("retry-after", (1 + jitter % 5).to_string())],
            Retry::Unsaid => Vec::new(),
        }
    }
}

#[derive(Serialize)]
struct OpenAiBody<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: &'static str,
    status: u16,
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
}

fn anthropic_kind(status: u16) -> &'static str {
    match status {
        400 | 426 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        _ => "api_error",
    }
}

/// Our own refusals, in the order of admission (spec 4.1).
fn refused(refusal: &Refusal) -> PublicError {
    use PublicError as E;
    match refusal {
        Refusal::HeadersTooLarge => {
            E::new(Code::HeadersTooLarge, "The request has more header fields than the gateway accepts.")
        }
        Refusal::BadRequest(why) => E::new(Code::InvalidRequest, *why),
        Refusal::UnknownPath => E::new(Code::NotFound, "There is nothing at this path."),
        Refusal::WrongMethod(allow) => E::new(Code::NotFound, format!("This path answers to {allow} only.")),
        Refusal::WebSocket => E::new(
            Code::UpgradeRequired,
            "This path does not accept WebSocket connections. Use HTTP requests.",
        ),
        Refusal::NoSuchModel(model) => {
            E::new(Code::ModelNotFound, format!("The model {} does not exist.", echo(model)))
        }
        Refusal::BodyTooLarge => {
            E::new(Code::RequestTooLarge, "The request body is larger than the gateway accepts.")
        }
        Refusal::MissingKey => E::new(
            Code::MissingApiKey,
            "No API key was given. Send it as the header Authorization: Bearer <key>.",
        ),
        Refusal::InvalidKey => E::new(Code::InvalidApiKey, "The API key is not valid."),
        Refusal::CredentialsDiffer => E::new(
            Code::InvalidApiKey,
            "The headers Authorization and x-api-key were sent with different API keys. Send one key.",
        ),
        Refusal::BodyTimeout => E::new(Code::RequestTimeout, "The request body did not arrive in time."),
        Refusal::BodyUnreadable => E::new(
            Code::InvalidRequest,
            "The request body could not be read: its framing or compression is broken.",
        ),
        Refusal::MediaType => {
            E::new(Code::InvalidRequest, "The request body must be sent with Content-Type: application/json.")
        }
        Refusal::ContentEncoding => E::new(
            Code::InvalidRequest,
            "The request body may be encoded with gzip, deflate, br or zstd only.",
        ),
        _ => refused_envelope(refusal),
    }
}

/// Refusals by what the body says.
fn refused_envelope(refusal: &Refusal) -> PublicError {
    use PublicError as E;
    match refusal {
        Refusal::InvalidJson { line, column } => E::new(
            Code::InvalidJson,
            format!("The request body is not valid JSON (line {line}, column {column})."),
        ),
        Refusal::NotARequest(why) => E::new(Code::InvalidJson, format!("The request body {why}.")),
        Refusal::MissingParameter(param) => {
            E::new(Code::MissingRequiredParameter, format!("The parameter {param} is missing."))
                .with_param(*param)
        }
        Refusal::InvalidValue { param, why } => {
            E::new(Code::InvalidValue, format!("The parameter {param} {why}.")).with_param(*param)
        }
        Refusal::UnknownModel(model) => E::no_channel(model),
        Refusal::ModelDenied(model) => {
            E::new(Code::ModelAccessDenied, format!("This API key may not use the model {}.", echo(model)))
        }
        Refusal::VerificationRequired(model) => E::new(
            Code::VerificationRequired,
            format!("Telegram verification required for model {}", echo(model)),
        ),
        Refusal::WrongEndpoint { model, home } => wrong_endpoint(model, *home),
        Refusal::Parameter { param, fault } => parameter(param, *fault),
        Refusal::ImageRule(fault) => {
            let code = if fault.is_of_size() { Code::InvalidImageSize } else { Code::InvalidValue };
            E::new(code, images::told(fault, MESSAGE_MAX)).with_param(fault.member())
        }
        Refusal::BadForm(why) => E::new(Code::InvalidRequest, format!("The multipart body {why}.")),
        Refusal::AddressDenied => {
            E::new(Code::IpNotAllowed, "This API key may not be used from this address.")
        }
        Refusal::ContextTooLong { max, count } => PublicError {
            context: ContextFigures { max: Some(*max), count: *count, output: None },
            ..E::new(Code::ContextLengthExceeded, TOO_LONG)
        },
        Refusal::InsufficientQuota => E::insufficient_quota(),
        Refusal::Limited(exceeded) => limited(*exceeded),
        _ => E::unavailable(),
    }
}

fn wrong_endpoint(model: &str, home: Api) -> PublicError {
    let message =
        format!("The model {} is not served here. Use POST /v1{} for it.", echo(model), home.path());
    PublicError::new(Code::WrongEndpoint, message)
}

fn parameter(param: &str, fault: ParameterFault) -> PublicError {
    let (code, why) = match fault {
        ParameterFault::Unsupported => (Code::UnsupportedParameter, "is not supported by this model".into()),
        ParameterFault::Over(max) => (Code::InvalidValue, format!("must be at most {max} for this model")),
        ParameterFault::Repeated => (Code::InvalidValue, "must be given once".into()),
    };
    PublicError::new(code, format!("The parameter {param} {why}.")).with_param(param.to_owned())
}

fn limited(exceeded: Exceeded) -> PublicError {
    let who = match exceeded.scope {
        Scope::Key => "This API key",
        Scope::Account => "This account",
        Scope::Model => "All callers of this model together",
        Scope::Global | Scope::Channel => "All callers together",
    };
    let limit = exceeded.limit;
    let wait = exceeded.denied.map_or(Some(CONCURRENCY_WAIT), |denied| denied.wait);
    let (code, message) = match exceeded.dimension {
        Dimension::Concurrency => (
            Code::Concurrency,
            format!("{who} may run {limit} requests at a time, and all of them are in use."),
        ),
        Dimension::Requests => (
            Code::RequestsPerMinute,
            format!("{who} may make {limit} requests per minute, and they are used up."),
        ),
        Dimension::Tokens if wait.is_none() => (
            Code::TokensPerMinute,
            format!("{who} may use {limit} tokens per minute, and this request alone has more."),
        ),
        Dimension::Tokens => (
            Code::TokensPerMinute,
            format!("{who} may use {limit} tokens per minute, and too few of them are left."),
        ),
    };
    PublicError { retry: wait.map_or(Retry::Never, Retry::After), ..PublicError::new(code, message) }
}

/// What the client is told of an upstream's failure (spec 3.2, 3.3).
fn judged(verdict: &Verdict) -> PublicError {
    match verdict.class {
        Class::CallerMistake => caller_mistake(verdict),
        Class::CapabilityMissing => capability_missing(verdict.capability),
        Class::ContentRefused => PublicError::new(
            Code::ContentPolicyViolation,
            "The request was refused because of the content policy of the model.",
        ),
        Class::ContextTooLong => PublicError {
            context: verdict.context,
            ..PublicError::new(Code::ContextLengthExceeded, TOO_LONG)
        },
        Class::BodyTooLarge => {
            PublicError::new(Code::RequestTooLarge, "The request body is larger than the model accepts.")
        }
        Class::NotUnderstood => PublicError::new(
            Code::UnexpectedProviderResponse,
            "The model gave an answer that could not be understood.",
        ),
        _ => PublicError::unavailable(),
    }
}

/// A fault of the request, in the upstream's words where they may pass.
fn caller_mistake(verdict: &Verdict) -> PublicError {
    if let ContextFigures { max: Some(max), count: Some(count), output: Some(output) } = verdict.context {
        return output_too_large(max, count, output);
    }
    let code = match verdict.fault {
        RequestFault::Unsaid => Code::InvalidRequest,
        RequestFault::InvalidValue => Code::InvalidValue,
        RequestFault::UnsupportedParameter => Code::UnsupportedParameter,
        RequestFault::MissingParameter => Code::MissingRequiredParameter,
    };
    let fallback = Cow::Borrowed("The request was rejected by the model provider.");
    let error = PublicError::new(code, verdict.message.clone().map_or(fallback, Cow::Owned));
    match &verdict.param {
        Some(param) => error.with_param(param.clone()),
        None => error,
    }
}

/// An input that fits, with more room for output than is left: the words by which agents know that a smaller bound helps.
fn output_too_large(max: u64, count: u64, output: u64) -> PublicError {
    let message = format!(
        "input length and `max_tokens` exceed context limit: {count} + {output} > {max}, decrease input length or `max_tokens` and try again"
    );
    PublicError::new(Code::InvalidValue, message).with_param("max_tokens")
}

/// A capability that no channel of the model has.
fn capability_missing(capability: Option<Capability>) -> PublicError {
    let Some(capability) = capability else {
        let message = "This model does not support a capability that the request needs.";
        return PublicError::new(Code::UnsupportedParameter, message);
    };
    let message = format!("This model does not support {}.", capability.noun());
    let error = PublicError::new(Code::UnsupportedParameter, message);
    match capability.param() {
        Some(param) => error.with_param(param),
        None => error,
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
