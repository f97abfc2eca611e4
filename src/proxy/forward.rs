//! After the commit point: the answer on its way to the client (spec 10.1, 2.6).
//!
//! From here on nothing is replayed. A whole answer is sent with its length; a large one and a stream are sent as they
//! come. What breaks now is said inside a stream, which then ends properly, or cuts an answer that cannot say it.

use super::exchange::{Exchange, Trouble};
use super::settle::{self, Halt};
use super::{Ctx, Cut, Downstream, reply};
use crate::core::failure::{Class, Verdict};
use crate::core::refusal::Failure;
use crate::telemetry::record::{End, Outcome};
use crate::wire::answer::{self, Identity, Rewritten};
use crate::wire::caller::Caller;
use crate::wire::classify::Judge;
use crate::wire::custom::Custom;
use crate::wire::error::PublicError;
use crate::wire::provenance::{MARK_LEN, Marker};
use crate::wire::recorded::{of_fault, silent_fault};
use crate::wire::sse::taken;
use crate::wire::stream::{EventStream, Fault, Step};
use crate::wire::video::Film;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::Version;
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::attempt::Answer;

/// How long the end of an upstream's answer is waited for, so that its connection can be used again.
const EPILOGUE_TIMEOUT: Duration = Duration::from_millis(50);

/// How much of a stream is sent at once, in bytes, however much more has arrived.
const TOGETHER_MAX: usize = 64 * 1024;

/// The rule by which a large answer is cut that turns out to be an error.
const LATE_ERROR: &str = "2xx: an error behind content";

/// The rule by which a stream is ended that delivers more than its model and its request allow.
const OVER_BOUND: &str = "stream: more than its output bound";

/// An answer to be sent.
pub(super) struct Forward {
    pub(super) answer: Answer,
    pub(super) identity: Identity,
    /// When it has to be over.
    pub(super) total: Instant,
}

/// Sends an answer to its end.
///
/// # Errors
///
/// [`Cut`] if the client left, or if the answer had to be cut.
///
/// # Cancel safety
///
/// Dropping it cancels the upstream; the client's connection cannot be used afterwards.
pub(super) async fn forward(session: &mut Downstream, ctx: &mut Ctx, what: Forward) -> Result<(), Cut> {
    let Forward { answer, identity, total } = what;
    match answer {
        Answer::Whole { body } => whole(session, ctx, &body, identity).await,
        Answer::Begun { exchange, beginning, film } => {
            let flow = Flow::new(exchange, total);
            Box::pin(large(session, ctx, flow, (beginning, film), identity)).await
        }
        Answer::Stream { exchange, stream, done, held } => {
            ctx.record.commit_gate = Some(held);
            let flow = Flow::new(exchange, total);
            Box::pin(events(session, ctx, flow, stream, done)).await
        }
    }
}

async fn whole(session: &mut Downstream, ctx: &mut Ctx, body: &[u8], identity: Identity) -> Result<(), Cut> {
    let Rewritten { body: rewritten, usage, dropped } = answer::rewrite(body, identity);
    ctx.record.members_dropped = dropped;
    settle::whole(ctx, usage.as_deref(), body);
    let header = reply::header(ctx, 200, "application/json").map_err(|_| Cut::Defect)?;
    reply::send(session, ctx, header, rewritten).await?;
    ctx.record.end = End::Complete;
    Ok(())
}

/// An upstream's answer under way, with the time by which it has to be over.
struct Flow {
    exchange: Box<Exchange>,
    deadline: Instant,
    total: std::pin::Pin<Box<Sleep>>,
    /// What was found behind the last piece and is no piece.
    behind: Option<Arrived>,
}

/// What came next.
enum Arrived {
    Piece(Bytes),
    End,
    Trouble(Trouble),
    ClientGone,
}

impl From<Result<Option<Bytes>, Trouble>> for Arrived {
    fn from(read: Result<Option<Bytes>, Trouble>) -> Self {
        match read {
            Ok(Some(piece)) => Self::Piece(piece),
            Ok(None) => Self::End,
            Err(trouble) => Self::Trouble(trouble),
        }
    }
}

impl Flow {
    fn new(exchange: Box<Exchange>, total: Instant) -> Self {
        Self { exchange, deadline: total, total: Box::pin(sleep_until(total)), behind: None }
    }

    /// Waits for the next piece, the client's hang-up, or the end of its time. An upstream that never pauses hides neither
    /// of these: pieces come last.
    async fn next(&mut self, session: &mut Downstream) -> Arrived {
        if Instant::now() >= self.deadline {
            return Arrived::Trouble(Trouble::TotalTimeout);
        }
        let behind = self.behind.take();
        let piece = async {
            match behind {
                Some(behind) => behind,
                None => self.exchange.read().await.into(),
            }
        };
        tokio::select! {
            biased;
            _gone = session.read_body_or_idle(true) => Arrived::ClientGone,
            () = &mut self.total => Arrived::Trouble(Trouble::TotalTimeout),
            piece = piece => piece,
        }
    }

    /// Takes a piece in, and those that have arrived with it: events that came together leave together (spec 10.7).
    fn absorb(&mut self, piece: &[u8], stream: &mut EventStream) -> Step {
        let (mut step, mut taken) = (stream.push(piece), piece.len());
        // Bounded by what came as well as by what goes: not everything that comes passes.
        while step == Step::Content && stream.waiting().max(taken) < TOGETHER_MAX {
            match self.exchange.read().now_or_never().map(Arrived::from) {
                Some(Arrived::Piece(piece)) => {
                    taken += piece.len();
                    step = stream.push(&piece);
                }
                other => {
                    self.behind = other;
                    break;
                }
            }
        }
        step
    }

    /// Lets the connection go back to the pool, if its answer ends as it should.
    async fn close(mut self) {
        if !self.exchange.is_done() {
            let _ = timeout(EPILOGUE_TIMEOUT, self.exchange.read()).await;
        }
        self.exchange.close().await;
    }
}

/// A JSON answer that is too large to be held; what follows its beginning may be the file of a video.
async fn large(
    session: &mut Downstream,
    ctx: &mut Ctx,
    mut flow: Flow,
    (beginning, mut film): (Bytes, Option<Film>),
    mut identity: Identity,
) -> Result<(), Cut> {
    begin(session, ctx, "application/json").await?;
    identity.look_at(&beginning);
    let mut marker = identity.mark().cloned().map(Marker::new);
    let mut marked = |piece: &Bytes| match &mut marker {
        Some(marker) => {
            let mut out = BytesMut::with_capacity(piece.len() + MARK_LEN);
            marker.push(piece, &mut out);
            out.freeze()
        }
        None => piece.clone(),
    };
    // What is still to come is not known, so all of it is looked into.
    let (mut rewriter, mut out) =
        (identity.watching_rewriter(), BytesMut::with_capacity(beginning.len() + 256));
    rewriter.push(&marked(&beginning), &mut out);
    drop(beginning);
    loop {
        if rewriter.has_failed() {
            return Err(cut(ctx, Cow::Borrowed(LATE_ERROR)));
        }
        if let Err(gone) = write(session, ctx, taken(&mut out), false).await {
            settle::large(ctx, rewriter.usage(), rewriter.items());
            return Err(gone);
        }
        match flow.next(session).await {
            Arrived::Piece(piece) => match &mut film {
                Some(film) => rewriter.push(film.push(&piece).as_bytes(), &mut out),
                None => rewriter.push(&marked(&piece), &mut out),
            },
            Arrived::End if film.is_some() => {
                let film = film.take().unwrap_or_default();
                rewriter.push(film.end().as_bytes(), &mut out);
                break;
            }
            Arrived::End if rewriter.is_complete() => break,
            Arrived::End => return Err(cut(ctx, Trouble::Closed.verdict().rule)),
            Arrived::Trouble(trouble) => return Err(cut(ctx, trouble.verdict().rule)),
            Arrived::ClientGone => {
                settle::large(ctx, rewriter.usage(), rewriter.items());
                return Err(Cut::ClientGone);
            }
        }
    }
    ctx.record.members_dropped = rewriter.dropped();
    settle::large(ctx, rewriter.usage(), rewriter.items());
    write(session, ctx, out.freeze(), true).await?;
    ctx.record.end = End::Complete;
    ctx.release();
    flow.close().await;
    Ok(())
}

/// An event stream.
async fn events(
    session: &mut Downstream,
    ctx: &mut Ctx,
    mut flow: Flow,
    mut stream: Box<EventStream>,
    mut done: bool,
) -> Result<(), Cut> {
    begin(session, ctx, "text/event-stream").await?;
    while !done {
        note_first_token(ctx, &stream);
        if let Err(gone) = write(session, ctx, stream.take(), false).await {
            settle_delivered(ctx, &stream);
            return Err(gone);
        }
        let step = match flow.next(session).await {
            Arrived::Piece(piece) => flow.absorb(&piece, &mut stream),
            Arrived::End => stream.finish(),
            Arrived::Trouble(trouble) if stream.finish() != Step::Done => {
                return break_off(session, ctx, &mut stream, trouble.into()).await;
            }
            Arrived::Trouble(_) => Step::Done,
            Arrived::ClientGone => {
                settle_delivered(ctx, &stream);
                return Err(Cut::ClientGone);
            }
        };
        if let Step::Failed(fault) = &step {
            return break_off(session, ctx, &mut stream, fault.into()).await;
        }
        done = step == Step::Done;
        if !done
            && stream.has_content()
            && let Err(halt) = settle::progress(ctx, &stream)
        {
            return break_off(session, ctx, &mut stream, Broken::Halted(halt)).await;
        }
    }
    note_first_token(ctx, &stream);
    settle::stream(ctx, &stream);
    if stream.had_late_error() {
        ctx.shared.metrics.late_errors().inc();
    }
    write(session, ctx, stream.take(), true).await?;
    ctx.record.end = End::Complete;
    ctx.release();
    flow.close().await;
    Ok(())
}

/// Notes when a stream first had content: one that was committed as it was may begin without (spec 10.1).
fn note_first_token(ctx: &mut Ctx, stream: &EventStream) {
    if ctx.record.time_to_first_token.is_none() && (stream.has_content() || stream.is_done()) {
        ctx.record.time_to_first_token = Some(ctx.started.elapsed());
    }
}

/// Settles an incomplete stream at what it delivered; one without content costs nothing (spec 8.3).
fn settle_delivered(ctx: &mut Ctx, stream: &EventStream) {
    if stream.has_content() {
        settle::stream(ctx, stream);
    }
}

/// Why a stream does not go on.
enum Broken {
    /// The upstream's fault, by this rule.
    Upstream(Cow<'static, str>),
    /// The request's own fault, which says nothing about the channel (spec 9.4).
    Request(Box<Verdict>),
    /// It was alive when its time was over.
    Late,
    /// It may not go on.
    Halted(Halt),
}

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::TotalTimeout => Self::Late,
            trouble => Self::Upstream(trouble.verdict().rule),
        }
    }
}

impl From<&Fault> for Broken {
    fn from(fault: &Fault) -> Self {
        // The request is not kept beyond the commit point, so no words of the upstream pass.
        let caller = Caller::new(b"", "", "").with_added(Vec::new());
        let verdict = of_fault(fault, &Judge { caller: &caller, custom: Custom::default(), now: 0 });
        match verdict.class {
            Class::CallerMistake | Class::ContentRefused | Class::ContextTooLong => {
                Self::Request(Box::new(verdict))
            }
            _ => Self::Upstream(silent_fault(fault).rule),
        }
    }
}

/// Says in the stream that it failed, and ends it properly without its success marker (spec 2.6).
async fn break_off(
    session: &mut Downstream,
    ctx: &mut Ctx,
    stream: &mut EventStream,
    broken: Broken,
) -> Result<(), Cut> {
    match broken {
        Broken::Halted(Halt::OverBound) => settle::over_bound(ctx, stream),
        _ => settle_delivered(ctx, stream),
    }
    let error = match broken {
        Broken::Upstream(rule) => {
            note_break(ctx, rule);
            PublicError::unavailable()
        }
        Broken::Request(verdict) => {
            let class = verdict.class;
            note_break_of(ctx, class, verdict.rule.clone());
            match class {
                Class::ContextTooLong => PublicError::of(&Failure::Upstream(*verdict), 0),
                _ => PublicError::unavailable(),
            }
        }
        Broken::Late => {
            note_break(ctx, Trouble::TotalTimeout.verdict().rule);
            ctx.record.end = End::TimedOut;
            PublicError::unavailable()
        }
        Broken::Halted(Halt::OverBound) => {
            note_break(ctx, Cow::Borrowed(OVER_BOUND));
            PublicError::unavailable()
        }
        Broken::Halted(Halt::Exhausted) => {
            ctx.record.end = End::OutOfBalance;
            PublicError::insufficient_quota()
        }
    };
    ctx.record.code = Some(error.code.entry().name);
    let mut last = BytesMut::from(&stream.take()[..]);
    last.extend_from_slice(stream.error(&error, &ctx.record.request_id).as_bytes());
    write(session, ctx, last.freeze(), true).await
}

/// An answer that cannot say that it failed is cut without its final chunk.
fn cut(ctx: &mut Ctx, rule: Cow<'static, str>) -> Cut {
    note_break(ctx, rule);
    Cut::Upstream
}

fn note_break(ctx: &mut Ctx, rule: Cow<'static, str>) {
    note_break_of(ctx, Class::BrokenMidStream, rule);
}

fn note_break_of(ctx: &mut Ctx, class: Class, rule: Cow<'static, str>) {
    ctx.record.end = End::BrokenMidStream;
    ctx.record.rewritten = Some(class);
    if let Some(attempt) = ctx.record.attempts.last_mut() {
        attempt.outcome = Outcome::Failed(class, rule);
    }
}

/// Sends the header of an answer whose length is not known.
async fn begin(session: &mut Downstream, ctx: &mut Ctx, content_type: &str) -> Result<(), Cut> {
    let mut header = reply::header(ctx, 200, content_type).map_err(|_| Cut::Defect)?;
    if content_type == "text/event-stream" {
        header.insert_header("x-accel-buffering", "no").map_err(|_| Cut::Defect)?;
    }
    // An HTTP/1.0 client reads until the connection ends.
    if session.req_header().version == Version::HTTP_11 {
        header.insert_header("transfer-encoding", "chunked").map_err(|_| Cut::Defect)?;
    }
    ctx.record.status = 200;
    session.write_response_header(header).await.map_err(|_| Cut::ClientGone)
}

async fn write(session: &mut Downstream, ctx: &mut Ctx, bytes: Bytes, end: bool) -> Result<(), Cut> {
    if bytes.is_empty() && !end {
        return Ok(());
    }
    ctx.record.bytes += u64::try_from(bytes.len()).unwrap_or(0);
    session.write_response_body(bytes, end).await.map_err(|_| Cut::ClientGone)
}
