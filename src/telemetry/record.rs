//! One finished request, as the operator sees it (spec 13.3).

use crate::core::failure::{Class, Verdict};
use crate::core::id::{ChannelId, ModelId};
use crate::core::money::Money;
use crate::core::usage::{Excess, Usage, UsageSource};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Channels that a record names as not tried: enough to see what is wrong, and a bound on a line of the log.
pub const EXCLUDED_MAX: usize = 20;

/// Everything that metrics and log say about one request.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it began, in milliseconds since the Unix epoch.
    pub started_at: u64,
    /// Its id.
    pub request_id: Arc<str>,
    /// The public name of the key, once it was known.
    pub key: Option<Arc<str>>,
    /// The endpoint's label, or `other`.
    pub route: &'static str,
    /// The model, if it is configured.
    pub model: Option<ModelId>,
    /// Every attempt at an upstream, in order.
    pub attempts: Vec<Attempt>,
    /// The channels that could not be tried when none was left, and why each (spec 9.1); at most [`EXCLUDED_MAX`].
    pub excluded: Vec<(ChannelId, &'static str)>,
    /// The class whose verdict the client was answered by.
    pub rewritten: Option<Class>,
    /// The step of admission and the reason that refused it.
    pub refusal: Option<(&'static str, &'static str)>,
    /// The status the client was sent; 0 if it went before one was.
    pub status: u16,
    /// The public error code.
    pub code: Option<&'static str>,
    /// What the client was told, where it is the gateway's own words.
    pub told: Option<Cow<'static, str>>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Token usage and where it comes from.
    pub usage: Option<(Usage, UsageSource)>,
    /// Whether the upstream reported something that is no count of tokens.
    pub flawed_usage: bool,
    /// Members of the answer that were dropped because they are not known.
    pub members_dropped: u64,
    /// The sides of the upstream's report that are more than the call can have used, and the input and the output that it
    /// reported; `usage` has what was counted instead.
    pub excess: Option<(Excess, u64, u64)>,
    /// What it was charged; `None` if it was not paid for.
    pub cost: Option<Money>,
    /// What it cost beyond what the account had.
    pub uncollected: Money,
    /// From the request's arrival to the first content sent to the client; streams only.
    pub time_to_first_token: Option<Duration>,
    /// From the request's arrival to its last byte.
    pub duration: Duration,
    /// What the gateway itself took before the first attempt, without waiting for the client's body.
    pub overhead: Duration,
    /// How long the commit gate held back the first event of the upstream (spec 10.1).
    pub commit_gate: Option<Duration>,
    /// How it ended.
    pub end: End,
    /// The retry that the client says this is (spec 10.4).
    pub client_retry: u32,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// The configuration generation it ran under.
    pub generation: u64,
}

/// One attempt at one channel.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The channel.
    pub channel: ChannelId,
    /// The upstream's status; `None` if no answer came.
    pub upstream_status: Option<u16>,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took, to the commit point or to the failure.
    pub elapsed: Duration,
    /// The upstream's words, short and without anything opaque; empty where they may echo the prompt.
    pub words: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its answer was the client's.
    Success,
    /// It failed: class and rule of the verdict.
    Failed(Class, Cow<'static, str>),
    /// The client went away before it was decided.
    Abandoned,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A complete answer of an upstream, or of the gateway's own.
    Complete,
    /// An error of the catalogue.
    Error,
    /// An answer that had begun ended with an error inside it, or was cut.
    BrokenMidStream,
    /// A stream that was alive when its time was over ended with an error inside it.
    TimedOut,
    /// A stream that the balance did not cover any longer ended with an error inside it.
    OutOfBalance,
    /// The client went away or stopped reading.
    ClientGone,
    /// The process stopped, or the request's task was dropped.
    Killed,
}

impl Attempt {
    /// A failed attempt.
    #[must_use]
    pub fn failed(
        channel: ChannelId,
        upstream_status: Option<u16>,
        verdict: &Verdict,
        elapsed: Duration,
        words: String,
    ) -> Self {
        Self {
            channel,
            upstream_status,
            outcome: Outcome::Failed(verdict.class, verdict.rule.clone()),
            elapsed,
            words,
        }
    }
}

impl Outcome {
    /// The label of `tidegate_attempts_total`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed(class, _) => class.as_str(),
            Self::Abandoned => "abandoned",
        }
    }
}

impl End {
    /// The word used in logs and as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Error => "error",
            Self::BrokenMidStream => "broken_mid_stream",
            Self::TimedOut => "timed_out",
            Self::OutOfBalance => "out_of_balance",
            Self::ClientGone => "client_gone",
            Self::Killed => "killed",
        }
    }
}

impl Record {
    /// The record of a request that has just begun and, unless more becomes known, was killed.
    #[must_use]
    pub fn begun(started_at: u64, request_id: Arc<str>, generation: u64) -> Self {
        Self {
            started_at,
            request_id,
            key: None,
            route: "other",
            model: None,
            attempts: Vec::new(),
            excluded: Vec::new(),
            rewritten: None,
            refusal: None,
            status: 0,
            code: None,
            told: None,
            stream: false,
            usage: None,
            flawed_usage: false,
            members_dropped: 0,
            excess: None,
            cost: None,
            uncollected: Money::ZERO,
            time_to_first_token: None,
            duration: Duration::ZERO,
            overhead: Duration::ZERO,
            commit_gate: None,
            end: End::Killed,
            client_retry: 0,
            bytes: 0,
            generation,
        }
    }
}
