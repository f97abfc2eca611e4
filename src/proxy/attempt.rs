//! One attempt at one channel, up to the commit point (spec 10.1).
//!
//! Until it returns, the client has seen nothing, so every failure here can go to another channel. What comes back is
//! either an answer that may be sent, whole or as its beginning, or a verdict.

use super::admit::AdmittedCall;
use super::exchange::{self, Deadlines, ERROR_BODY_MAX, Exchange, Sending, Trouble};
use super::polling;
use super::pool::ConnectionPool;
use super::replay::Payload;
use super::upstream::Channel;
use crate::config::Secret;
use crate::core::failure::{Class, Effect, Verdict};
use crate::wire::additions::{Addition, Additions};
use crate::wire::answer::{self, Beginning, Identity};
use crate::wire::caller::Caller;
use crate::wire::classify::{self, Answer as Judged, Judge};
use crate::wire::collect;
use crate::wire::cors::Field;
use crate::wire::credential::Shown;
use crate::wire::custom::{Custom, CustomRow};
use crate::wire::endpoint::Call;
use crate::wire::fields;
use crate::wire::hint;
use crate::wire::reading::Reading;
use crate::wire::recorded;
use crate::wire::sanitize::operator_words;
use crate::wire::secrets::{tells, without_secrets};
use crate::wire::stream::{EventStream, Fault, Step};
use crate::wire::video::Film;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use pingora::http::RequestHeader;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How much is held back of an answer that shows neither content nor an error; beyond it, nobody understands it.
pub(crate) const HELD_UNDECIDED_MAX: usize = 16 * 1024 * 1024;

/// So much of an error is searched for names of what the gateway added.
const NAMED_MAX: usize = 8 * 1024;

/// Everything an attempt needs.
pub(super) struct Plan<'a> {
    pub(super) pool: &'a Arc<ConnectionPool>,
    pub(super) channel: &'a Arc<Channel>,
    pub(super) call: &'a AdmittedCall,
    pub(super) upstream_model: &'a str,
    /// What the gateway wrote into the request beside the client's members.
    pub(super) added: Additions,
    pub(super) head: RequestHeader,
    /// The credentials of the client, to be found in an upstream's words.
    pub(super) presented: Shown,
    pub(super) body: Payload<'a>,
    pub(super) deadlines: Deadlines,
    /// How much of a JSON answer is held back until it is complete, in bytes (spec 10.1).
    pub(super) hold_max: usize,
    /// The operator's rules.
    pub(super) classify: &'a [CustomRow],
    /// Unix seconds.
    pub(super) now: u64,
}

/// An answer that may be sent.
pub(super) enum Answer {
    /// Complete.
    Whole {
        /// As it came.
        body: Bytes,
    },
    /// The beginning of a large one; what follows is the file of a video where one is given.
    Begun { exchange: Box<Exchange>, beginning: Bytes, film: Option<Film> },
    /// A stream that has shown content, or is already over.
    Stream { exchange: Box<Exchange>, stream: Box<EventStream>, done: bool, held: Duration },
}

/// What an upstream says beside its answer.
#[derive(Default)]
pub(super) struct Beside {
    /// How long the credential is used up, if it is.
    pub(super) used_up: Option<Duration>,
    /// Header fields that pass to the client.
    pub(super) fields: Vec<Field>,
}

/// A failed attempt.
pub(super) struct Failed {
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    /// For the operator (spec 3.6).
    pub(super) words: String,
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self { verdict: trouble.verdict(), status: None, words: String::new() }
    }
}

impl Plan<'_> {
    /// Makes the attempt; `stream` is the empty stream that a streamed answer is to fill.
    ///
    /// # Errors
    ///
    /// [`Failed`] with the verdict.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the upstream is cancelled then (spec 10.5).
    pub(super) async fn run(&self, stream: Option<Box<EventStream>>) -> Result<(Answer, Beside), Failed> {
        if let Some(settings) = self.channel.settings.video.as_ref().filter(|_| self.call.call == Call::Video)
        {
            return Box::pin(polling::run(self, settings)).await;
        }
        let exchange = self.send(&self.head).await?;
        let status = exchange.header()?.status.as_u16();
        if !(200..300).contains(&status) {
            return Err(Box::pin(self.refused(exchange, status, BytesMut::new())).await);
        }
        let beside = self.beside(&exchange);
        let answered = async {
            match stream {
                Some(stream) => self.gate(exchange, stream).await,
                None => self.hold(exchange).await,
            }
        };
        match timeout_at(self.deadlines.total, answered).await {
            Ok(answered) => answered
                .map(|answer| (answer, beside))
                .map_err(|failed| Failed { status: Some(status), ..failed }),
            Err(_) => Err(Failed { verdict: self.late(), status: Some(status), words: String::new() }),
        }
    }

    /// The verdict on an answer that had begun when the time was over: a stream was alive, which is not held against its
    /// channel (spec 10.2).
    fn late(&self) -> Verdict {
        let verdict = Trouble::TotalTimeout.verdict();
        if self.call.stream { Verdict { effect: Effect::None, ..verdict } } else { verdict }
    }

    /// What the header of an answer says beside it.
    pub(super) fn beside(&self, exchange: &Exchange) -> Beside {
        let Ok(header) = exchange.header() else { return Beside::default() };
        let fields = self.channel.settings.trusted.then(|| fields::of_trusted(&header.headers));
        Beside { used_up: hint::used_up(&header.headers, self.now), fields: fields.unwrap_or_default() }
    }

    /// Sends the body under this head.
    pub(super) async fn send(&self, head: &RequestHeader) -> Result<Box<Exchange>, Trouble> {
        let repeatable = self.call.call.is_repeatable() && self.call.body.is_replayable();
        let sending = Sending { head, body: &self.body, repeatable };
        exchange::begin(self.pool, self.channel, sending, self.deadlines).await
    }

    /// Asks the classifier.
    fn ask(&self, answer: &[u8], judge: impl FnOnce(&Judge<'_>) -> Verdict) -> Verdict {
        let body = self.call.body.bytes();
        let caller = Caller::new(&body, &self.call.public_model, self.upstream_model);
        let caller = caller.with_added(self.own_members());
        let custom = Custom { rows: self.classify, statuses: &self.channel.settings.status_map };
        let mut verdict = self.acquit(judge(&Judge { caller: &caller, custom, now: self.now }), answer);
        verdict.message = verdict.message.filter(|message| !tells(message, &self.secrets()));
        if self.call.call.is_optional() { verdict.of_optional_call() } else { verdict }
    }

    /// The members that are the gateway's own if the caller did not write them: those of this attempt, and the usage option of
    /// streams, which an upstream may name even after it was left out.
    fn own_members(&self) -> Vec<&'static str> {
        let usage = self.call.stream.then_some(Addition::StreamOptions);
        self.added.iter().chain(usage).map(Addition::name).collect()
    }

    /// A refusal that names what the gateway wrote is not the client's: the request can be sent again without it (spec 1.6).
    fn acquit(&self, verdict: Verdict, answer: &[u8]) -> Verdict {
        let blames_request = verdict.refused_addition.is_some()
            || matches!(
                verdict.class,
                Class::CallerMistake | Class::ContextTooLong | Class::CapabilityMissing
            );
        let refused = || self.added.named_in(answer.get(..NAMED_MAX).unwrap_or(answer));
        match verdict
            .refused_addition
            .and_then(Addition::named)
            .or_else(|| refused().filter(|_| blames_request))
        {
            Some(addition) if blames_request => Verdict {
                accepted: verdict.accepted,
                refused_addition: Some(addition.name()),
                effect: Effect::None,
                ..Verdict::new(Class::Misconfigured, "field: written by the gateway")
            },
            _ => verdict,
        }
    }

    /// Judges an answer that is a failure by its status.
    pub(super) async fn refused(&self, mut exchange: Box<Exchange>, status: u16, begun: BytesMut) -> Failed {
        let body = exchange.read_error_body(begun).await;
        let headers = exchange.header().map(|header| header.headers.clone()).unwrap_or_default();
        exchange.close().await;
        self.judge(status, &headers, &body)
    }

    pub(super) fn judge(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Failed {
        let body = classify::decoded(body, ERROR_BODY_MAX);
        let answer = Judged { status, headers, body: &body };
        let verdict = self.ask(&body, |judge| judge.classify(answer));
        Failed { words: self.words(&verdict, &body), verdict, status: Some(status) }
    }

    /// Holds a JSON answer until it is complete, or large and plainly an answer.
    async fn hold(&self, mut exchange: Box<Exchange>) -> Result<Answer, Failed> {
        let mut held = BytesMut::new();
        let mut look_at = self.hold_max;
        while let Some(piece) = exchange.read().await? {
            if held.is_empty() && exchange.is_done() {
                return self.whole(exchange, piece).await;
            }
            held.extend_from_slice(&piece);
            if held.len() >= look_at && !exchange.is_done() {
                match answer::beginning(unmarked(&held)) {
                    // A stream is put together when it is complete.
                    _ if recorded::is_stream(&held) => look_at = held.len() * 2,
                    Beginning::Content => {
                        let beginning = held.freeze();
                        return Ok(begun(exchange, beginning.slice_ref(unmarked(&beginning))));
                    }
                    Beginning::Error => return Err(Box::pin(self.refused(exchange, 200, held)).await),
                    Beginning::Undecided => look_at = held.len() * 2,
                }
            }
            if held.len() > HELD_UNDECIDED_MAX.max(self.hold_max) {
                return Err(Verdict::new(Class::NotUnderstood, "2xx: no content in a large answer").into());
            }
        }
        self.whole(exchange, held.freeze()).await
    }

    async fn whole(&self, exchange: Box<Exchange>, body: Bytes) -> Result<Answer, Failed> {
        let mut body = body.slice_ref(unmarked(&body));
        if recorded::is_stream(&body)
            && let Some(collected) = collect::answer(&body, self.call.call)
        {
            body = match collected {
                Ok(answer) => answer.into(),
                Err(fault) => {
                    exchange.close().await;
                    return Err(self.broken(&fault));
                }
            };
        }
        let Some(row) = classify::looks_failed(&body, self.call.call) else {
            exchange.close().await;
            return Ok(Answer::Whole { body });
        };
        let headers = exchange.header().map(|header| header.headers.clone()).unwrap_or_default();
        exchange.close().await;
        let body = classify::decoded(&body, ERROR_BODY_MAX);
        let answer = Judged { status: 200, headers: &headers, body: &body };
        let verdict = self.ask(&body, |judge| judge.failed_success(&row, answer));
        Err(Failed { words: self.words(&verdict, &body), verdict, status: Some(200) })
    }

    /// Holds a stream back until there is content, or until no other attempt can begin: a stream that shows life commits as
    /// it is then (spec 10.1).
    async fn gate(
        &self,
        mut exchange: Box<Exchange>,
        mut stream: Box<EventStream>,
    ) -> Result<Answer, Failed> {
        let mut opened: Option<Instant> = None;
        let mut begun = false;
        loop {
            let read = match opened {
                Some(_) if self.deadlines.commit < self.deadlines.total => {
                    timeout_at(self.deadlines.commit, exchange.read()).await.ok()
                }
                _ => Some(exchange.read().await),
            };
            let step = match read.transpose()? {
                None => {
                    stream.open();
                    Step::Content
                }
                Some(Some(piece)) if !begun && is_no_stream(&piece) => {
                    return Err(Box::pin(self.not_a_stream(exchange, &piece)).await);
                }
                Some(Some(piece)) => {
                    begun |= !is_blank(&piece);
                    stream.push(&piece)
                }
                Some(None) => stream.finish(),
            };
            let opened = *opened.get_or_insert_with(Instant::now);
            match step {
                Step::Preamble => {}
                Step::Failed(fault) => return Err(self.broken(&fault)),
                step => {
                    let done = step == Step::Done;
                    let held = opened.elapsed();
                    return Ok(Answer::Stream { exchange, stream, done, held });
                }
            }
        }
    }

    /// Judges a 2xx to a stream request that is no stream, such as an error object or a page.
    async fn not_a_stream(&self, mut exchange: Box<Exchange>, begun: &[u8]) -> Failed {
        let body = exchange.read_error_body(BytesMut::from(begun)).await;
        exchange.close().await;
        let body = classify::decoded(&body, ERROR_BODY_MAX);
        let looks = classify::looks_failed(&body, self.call.call);
        let Some(row) = looks else {
            return Verdict::new(Class::NotUnderstood, "2xx: a whole answer instead of a stream").into();
        };
        let answer = Judged { status: 200, headers: &HeaderMap::new(), body: &body };
        let verdict = self.ask(&body, |judge| judge.failed_success(&row, answer));
        Failed { words: self.words(&verdict, &body), verdict, status: Some(200) }
    }

    fn broken(&self, fault: &Fault) -> Failed {
        let verdict = self.ask(said_in(fault), |judge| recorded::of_fault(fault, judge));
        let said = match fault {
            Fault::ErrorEvent(data) => self.words(&verdict, data),
            _ => String::new(),
        };
        Failed { words: said, verdict, status: Some(200) }
    }

    /// The upstream's words for the operator, without the credentials that it was shown and what the caller wrote; none where
    /// they speak of the request, or where the request cannot be compared with any more.
    fn words(&self, verdict: &Verdict, body: &[u8]) -> String {
        let about_request =
            matches!(verdict.class, Class::CallerMistake | Class::ContentRefused | Class::ContextTooLong);
        if about_request || self.call.body.is_gone() {
            return String::new();
        }
        let reading = Reading::of(body);
        let Some(layer) = reading.layers.first() else { return String::new() };
        operator_words(&without_secrets(&layer.message, &self.secrets(), &self.call.body.bytes()))
    }

    /// The credentials of the channel and those that the client presented.
    fn secrets(&self) -> Vec<&str> {
        let own = self.channel.settings.credentials.iter().map(Secret::expose);
        own.chain(self.presented.values()).collect()
    }
}

impl From<Verdict> for Failed {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, status: None, words: String::new() }
    }
}

fn begun(exchange: Box<Exchange>, beginning: Bytes) -> Answer {
    Answer::Begun { exchange, beginning, film: None }
}

/// The upstream's own words in a fault of its stream.
fn said_in(fault: &Fault) -> &[u8] {
    match fault {
        Fault::ErrorEvent(data) => data,
        _ => &[],
    }
}

/// Whether the first bytes are JSON, a page or compressed: nothing that an event stream begins with.
fn is_no_stream(piece: &[u8]) -> bool {
    let piece = piece.strip_prefix(b"\xef\xbb\xbf").unwrap_or(piece);
    matches!(piece.trim_ascii_start(), [b'{' | b'[' | b'<' | 0x1f | 0x28, ..])
}

/// A body without the byte order mark that some servers write before it.
fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Whether a piece is white space or a byte order mark, which says nothing about what follows.
fn is_blank(piece: &[u8]) -> bool {
    unmarked(piece).trim_ascii().is_empty()
}

/// The gateway's names for an answer (spec 1.5).
pub(super) fn identity(call: Call, unix_seconds: u64, public_model: &str) -> Identity {
    Identity::of(call, unix_seconds, &crate::telemetry::request_id::random(20), public_model)
}
