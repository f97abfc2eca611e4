//! The faults the sandbox can act out, as one table.
//!
//! A fault is named by a request, in its model name or in `x-sandbox-fault`. The table says what it does, how far the
//! answer gets before it shows, and which requests it applies to; documents, the command line and tests walk over it, so
//! a row is all that a new fault of a known kind needs. Absent: chance. The same request gets the same answer, and
//! `flaky-<pct>` fails by a fixed rotation.

use super::canned::{self, Canned};

/// How far the answer gets before the fault shows, and so what a gateway can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of worth was sent: another channel can still answer.
    BeforeContent,
    /// Content was sent: the client has to be told.
    MidStream,
    /// The request is to blame: another channel would say the same.
    CallerError,
    /// A correct answer in an odd form.
    Harmless,
}

/// Which requests a fault applies to; others that name it get status 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// Requests for JSON and for streams.
    Both,
    /// Requests with `"stream":true` alone.
    Stream,
}

/// One row of the table.
#[derive(Debug)]
pub struct Fault {
    /// The name; the two families with a parameter show its place, as in `status-<code>`.
    pub name: &'static str,
    /// A name that a request can use: the name itself, or one member of a family.
    pub example: &'static str,
    /// What happens, in one sentence.
    pub description: &'static str,
    /// How far the answer gets; for a family, what its example does.
    pub phase: Phase,
    /// Which requests it applies to.
    pub applies: Applies,
    pub(super) kind: Kind,
}

/// What acting out a fault takes.
#[derive(Debug)]
pub(super) enum Kind {
    /// An error of the status in the name.
    Status,
    /// An error in as many of a hundred requests as the name says.
    Flaky,
    Canned(&'static Canned),
    Wire(Wire),
    /// A stream that goes wrong at a point.
    Break(At, Then),
    /// A whole stream in an odd form.
    Shape(Shape),
}

/// Misbehaviour below HTTP's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Close,
    Reset,
    Hang,
    SlowHeader,
    Garbage,
    EndlessHeader,
    LyingLength,
    Truncated,
    EarlyHints,
}

/// Where in a stream it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Start,
    AfterRole,
    /// After three content chunks, or all if there are fewer.
    Mid,
    AfterFinish,
}

/// How a stream goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// An error event, then the proper end of the body.
    Error,
    /// An event that is not JSON, then the proper end of the body.
    Garbage,
    /// `[DONE]`, then the proper end of the body.
    Done,
    /// These bytes, then the proper end of the body.
    Raw(&'static str),
    /// The proper end of the body.
    End,
    Close,
    Reset,
    Hang,
    PingHang,
    EndlessLine,
}

/// The odd form of a whole stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    NoDone,
    NoFinish,
    FinishError,
    CloseDelimited,
    Crlf,
    Split,
    Burst,
    NoUsage,
    UsageEveryChunk,
    BigLine,
}

/// A fault with its parameter, as a request named it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) fault: &'static Fault,
    /// The status or the percentage of a family; otherwise 0.
    pub(super) parameter: u16,
}

/// All faults, in the order documents show them.
pub fn faults() -> &'static [Fault] {
    FAULTS
}

/// Names and one-line descriptions of all faults.
pub fn catalogue() -> impl Iterator<Item = (&'static str, &'static str)> {
    FAULTS.iter().map(|f| (f.name, f.description))
}

/// The fault of this name, families included.
pub(super) fn find(name: &str) -> Option<Case> {
    if let Some(fault) = FAULTS.iter().find(|f| f.name == name && f.example == name) {
        return Some(Case { fault, parameter: 0 });
    }
    let (family, parameter) = name.rsplit_once('-')?;
    let number: u16 = parameter.parse().ok().filter(|_| parameter.bytes().all(|b| b.is_ascii_digit()))?;
    let fault = FAULTS
        .iter()
        .find(|f| f.name != f.example && f.example.rsplit_once('-').is_some_and(|e| e.0 == family))?;
    let allowed = match fault.kind {
        Kind::Status => (200..600).contains(&number),
        _ => number <= 100,
    };
    allowed.then_some(Case { fault, parameter: number })
}

const JSON_ERROR: &str =
    r#"{"error":{"message":"The server is overloaded","type":"server_error","param":null,"code":null}}"#;
const HTML: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>\n";

macro_rules! faults {
    ($($name:literal $([$example:literal])? $phase:ident $applies:ident $kind:expr => $description:literal;)*) => {
        const FAULTS: &[Fault] = &[$(Fault {
            name: $name,
            example: faults!(@example $name $($example)?),
            description: $description,
            phase: Phase::$phase,
            applies: Applies::$applies,
            kind: $kind,
        }),*];
    };
    (@example $name:literal) => { $name };
    (@example $name:literal $example:literal) => { $example };
}

use Kind::{Break, Canned as Says, Shape as Odd, Wire as Raw};

faults! {
    "status-<code>" ["status-500"] BeforeContent Both Kind::Status => "This status, 200 to 599, with a plain OpenAI error from 400 up";
    "flaky-<pct>" ["flaky-50"] BeforeContent Both Kind::Flaky => "503 in so many of a hundred requests, by fixed rotation";

    "overload-openai" BeforeContent Both Says(&canned::OPENAI_503) => "503: the engine is currently overloaded";
    "overload-openai-500" BeforeContent Both Says(&canned::OPENAI_500) => "500 server_error";
    "overload-anthropic" BeforeContent Both Says(&canned::ANTHROPIC_529) => "529 overloaded_error";
    "overload-gemini" BeforeContent Both Says(&canned::GEMINI_503) => "503 UNAVAILABLE inside a JSON list";
    "overload-vertex" BeforeContent Both Says(&canned::VERTEX_429) => "429 RESOURCE_EXHAUSTED without a quota to blame";
    "overload-azure" BeforeContent Both Says(&canned::AZURE_503) => "503 NoCapacity";
    "overload-bedrock" BeforeContent Both Says(&canned::BEDROCK_503) => "503 ServiceUnavailableException, named in a header";
    "overload-bedrock-not-ready" BeforeContent Both Says(&canned::BEDROCK_429) => "429 ModelNotReadyException, named in a header";
    "overload-groq" BeforeContent Both Says(&canned::GROQ_498) => "498 flex tier capacity exceeded";
    "overload-deepseek" BeforeContent Both Says(&canned::DEEPSEEK_503) => "503: service is too busy";
    "overload-vllm" BeforeContent Both Says(&canned::VLLM_503) => "503 in plain text";
    "overload-nginx" BeforeContent Both Says(&canned::NGINX_502) => "502 as an HTML page";
    "overload-cloudflare-520" BeforeContent Both Says(&canned::CLOUDFLARE_520) => "520 as an HTML page";
    "overload-cloudflare-524" BeforeContent Both Says(&canned::CLOUDFLARE_524) => "524 as an HTML page";
    "overload-envoy" BeforeContent Both Says(&canned::ENVOY_503) => "503: upstream connect error or disconnect/reset before headers";
    "overload-new-api" BeforeContent Both Says(&canned::NEW_API_500) => "500 with a message in Chinese";
    "overload-ollama" BeforeContent Both Says(&canned::OLLAMA_503) => "503: server busy";

    "rate-openai" BeforeContent Both Says(&canned::RATE_OPENAI) => "429 with Retry-After and x-ratelimit headers";
    "rate-gemini" BeforeContent Both Says(&canned::RATE_GEMINI) => "429 with retryDelay in the details";
    "quota-openai" BeforeContent Both Says(&canned::QUOTA_OPENAI) => "429 insufficient_quota";
    "billing-402" BeforeContent Both Says(&canned::BILLING_402) => "402: insufficient balance";
    "billing-anthropic-400" BeforeContent Both Says(&canned::BILLING_ANTHROPIC_400) => "400: credit balance is too low";
    "auth-401" BeforeContent Both Says(&canned::AUTH_401) => "401: the credential is wrong";
    "auth-403" BeforeContent Both Says(&canned::AUTH_403) => "403: the credential lacks a permission";
    "gemini-key-400" BeforeContent Both Says(&canned::GEMINI_KEY_400) => "400: API key not valid";
    "blocked-403" BeforeContent Both Says(&canned::BLOCKED_403) => "403 as the HTML page of a web firewall";
    "region-403" BeforeContent Both Says(&canned::REGION_403) => "403: country not supported";

    "context-400" CallerError Both Says(&canned::CONTEXT_400) => "400 context_length_exceeded";
    "bad-param-400" CallerError Both Says(&canned::BAD_PARAM_400) => "400 that blames the parameter temperature";
    "policy-400" CallerError Both Says(&canned::POLICY_400) => "400 content_policy_violation";
    "model-missing-404" BeforeContent Both Says(&canned::MODEL_MISSING_404) => "404 model_not_found";
    "too-large-413" BeforeContent Both Says(&canned::TOO_LARGE_413) => "413 as the HTML page of a proxy with a byte limit";

    "html-200" BeforeContent Both Says(&canned::HTML_200) => "200 with an HTML page";
    "empty-200" BeforeContent Both Says(&canned::EMPTY_200) => "200 without a body";
    "null-200" BeforeContent Both Says(&canned::NULL_200) => "200 with the body null";
    "no-choices-200" BeforeContent Both Says(&canned::NO_CHOICES_200) => "200 with an empty list of choices";
    "broken-json-200" BeforeContent Both Says(&canned::BROKEN_JSON_200) => "200 with JSON that stops in the middle, of the length announced";
    "truncated-json" BeforeContent Both Raw(Wire::Truncated) => "200 with half of the body announced, then a close";
    "error-200" BeforeContent Both Says(&canned::ERROR_200) => "200 with an error object";
    "huge-error" BeforeContent Both Says(&canned::HUGE_ERROR) => "500 with a body of 10 MiB";
    "gzip-error" BeforeContent Both Says(&canned::GZIP_ERROR) => "503 with a gzip body nobody asked for";
    "gzip-bomb-error" BeforeContent Both Says(&canned::GZIP_BOMB_ERROR) => "500 with a gzip body that inflates to 100 MiB";
    "redirect-302" BeforeContent Both Says(&canned::REDIRECT_302) => "302 to another host";
    "early-hints" Harmless Both Raw(Wire::EarlyHints) => "100 and 103 before the real answer";

    "close" BeforeContent Both Raw(Wire::Close) => "The connection closes without a byte";
    "reset" BeforeContent Both Raw(Wire::Reset) => "The connection is reset without a byte";
    "hang" BeforeContent Both Raw(Wire::Hang) => "No byte for ten minutes";
    "slow-header" BeforeContent Both Raw(Wire::SlowHeader) => "A head that trickles, one byte each 100 ms for 30 s";
    "bad-http" BeforeContent Both Raw(Wire::Garbage) => "Bytes that are not HTTP";
    "endless-header" BeforeContent Both Raw(Wire::EndlessHeader) => "Header lines up to 8 MiB, without an end";
    "lying-length" BeforeContent Both Raw(Wire::LyingLength) => "A Content-Length of half the body sent, then a close";

    "stream-error-first" BeforeContent Stream Break(At::Start, Then::Error) => "An error event as the first event";
    "stream-role-then-error" BeforeContent Stream Break(At::AfterRole, Then::Error) => "An error event after the role chunk";
    "stream-role-then-close" BeforeContent Stream Break(At::AfterRole, Then::Close) => "A close after the role chunk";
    "stream-role-then-hang" BeforeContent Stream Break(At::AfterRole, Then::Hang) => "Silence after the role chunk";
    "stream-ping-then-hang" BeforeContent Stream Break(At::Start, Then::PingHang) => "A comment each 100 ms, and nothing else";
    "stream-empty" BeforeContent Stream Break(At::Start, Then::End) => "An event stream without an event";
    "stream-done-only" BeforeContent Stream Break(At::Start, Then::Done) => "[DONE] and nothing else";
    "stream-json-error" BeforeContent Stream Break(At::Start, Then::Raw(JSON_ERROR)) => "An event stream by its type, a JSON error by its body";
    "stream-html" BeforeContent Stream Break(At::Start, Then::Raw(HTML)) => "An event stream by its type, an HTML page by its body";
    "stream-garbage-first" BeforeContent Stream Break(At::Start, Then::Garbage) => "A first event that is not JSON, then the end";
    "stream-error-mid" MidStream Stream Break(At::Mid, Then::Error) => "An error event after three content chunks";
    "stream-cut-mid" MidStream Stream Break(At::Mid, Then::Close) => "A close after three content chunks";
    "stream-reset-mid" MidStream Stream Break(At::Mid, Then::Reset) => "A reset after three content chunks";
    "stream-end-mid" MidStream Stream Break(At::Mid, Then::End) => "A proper end of the body after three content chunks";
    "stream-stall-mid" MidStream Stream Break(At::Mid, Then::Hang) => "Silence after three content chunks";
    "stream-garbage-mid" MidStream Stream Break(At::Mid, Then::Garbage) => "An event that is not JSON after three content chunks, then the end";
    "stream-no-done" Harmless Stream Odd(Shape::NoDone) => "A finish reason, then the end without [DONE]";
    "stream-no-finish" Harmless Stream Odd(Shape::NoFinish) => "[DONE] without a finish reason";
    "stream-late-error" Harmless Stream Break(At::AfterFinish, Then::Error) => "An error event after the finish reason";
    "stream-finish-error" MidStream Stream Odd(Shape::FinishError) => "The finish reason is error";
    "stream-close-delimited" Harmless Stream Odd(Shape::CloseDelimited) => "The close of the connection ends the body";
    "stream-crlf" Harmless Stream Odd(Shape::Crlf) => "Lines end in CR LF";
    "stream-split" Harmless Stream Odd(Shape::Split) => "Each of the first 400 bytes of the body is a write of its own";
    "stream-burst" Harmless Stream Odd(Shape::Burst) => "The whole answer in one write";
    "stream-no-usage" Harmless Stream Odd(Shape::NoUsage) => "No usage chunk, even if asked for";
    "stream-usage-every-chunk" Harmless Stream Odd(Shape::UsageEveryChunk) => "Usage so far in every chunk";
    "stream-big-line" Harmless Stream Odd(Shape::BigLine) => "One event of 1 MiB";
    "stream-endless-line" BeforeContent Stream Break(At::Start, Then::EndlessLine) => "A first event of 64 MiB that never ends, then a close";
}
