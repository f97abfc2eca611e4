//! Phase 2: the search for a channel that answers (spec 9, 10).
//!
//! One loop: draw a channel, try it, and either send its answer or remember why not. A channel that failed this request
//! is not drawn again, nothing is replayed once the client has seen content, and the first failure that is the caller's
//! own ends the search.

use super::admit::AdmittedCall;
use super::attempt::{self, Answer, Failed, Plan};
use super::exchange::Deadlines;
use super::forward::{Forward, forward};
use super::generation::Generation;
use super::{Ctx, Cut, Downstream, clock, head, reply};
use crate::config::Timeouts;
use crate::core::catalog::Candidate;
use crate::core::failure::{Class, Next, Verdict};
use crate::core::id::ChannelId;
use crate::core::refusal::Failure;
use crate::core::select::{Wanted, select};
use crate::telemetry::record::{Attempt, End, Outcome};
use crate::wire::answer::Identity;
use crate::wire::endpoint::Call;
use crate::wire::splice;
use crate::wire::stream::{EventStream, StreamOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is remembered of the channels that failed this request.
#[derive(Default)]
struct Search {
    /// Channels that are not asked (again), because they failed or because their time is over.
    excluded: Vec<ChannelId>,
    attempts: u32,
    worst: Option<Verdict>,
    /// The context window that was too small, once one was.
    larger_than: Option<u64>,
}

/// What came of one attempt.
enum Tried {
    Answered(Answer),
    Failed(Verdict),
    ClientGone,
}

/// Relays an admitted call: sends the answer of a channel, or the error that the failures amount to.
///
/// # Errors
///
/// [`Cut`] if the client's connection cannot be used any more.
///
/// # Cancel safety
///
/// Dropping it cancels the upstream; the client's connection cannot be used afterwards.
pub(super) async fn relay(session: &mut Downstream, ctx: &mut Ctx, call: &AdmittedCall) -> Result<(), Cut> {
    ctx.record.overhead = ctx.started.elapsed().saturating_sub(ctx.waited_for_client);
    let generation = Arc::clone(&ctx.generation);
    let identity = attempt::identity(call.call, clock::unix().as_secs(), &call.public_model);
    let mut search = Search::default();
    while let Some(candidate) = search.next(&generation, call, ctx.started.into()) {
        let _at_channel = generation.labels.begin_attempt(candidate.channel);
        let Some(channel) = generation.channel(candidate.channel) else { break };
        let identity = if channel.settings.trusted { identity.clone().unchanged() } else { identity.clone() };
        match attempt(session, ctx, call, candidate, &identity).await? {
            Tried::Answered(answer) => {
                let timeouts = channel.settings.timeouts;
                let total = Instant::from_std(ctx.started) + timeouts.total;
                return forward(session, ctx, Forward { answer, identity, total, idle: timeouts.idle }).await;
            }
            Tried::Failed(verdict) => {
                if search.ends_with(candidate, verdict) {
                    break;
                }
            }
            Tried::ClientGone => return Err(Cut::ClientGone),
        }
    }
    reply::refuse(session, ctx, &search.failure(call)).await
}

/// One attempt, while watching whether the client is still there (spec 10.5).
async fn attempt(
    session: &mut Downstream,
    ctx: &mut Ctx,
    call: &AdmittedCall,
    candidate: &Candidate,
    identity: &Identity,
) -> Result<Tried, Cut> {
    let began = Instant::now();
    let plan = plan(session, ctx, call, candidate)?;
    let stream = call.stream.then(|| EventStream::new(stream_options(call, identity, plan.now)));
    let tried = tokio::select! {
        biased;
        tried = plan.run(stream) => Some(tried),
        _gone = session.read_body_or_idle(true) => None,
    };
    let record = |outcome| Attempt {
        channel: candidate.channel,
        upstream_status: Some(200),
        outcome,
        elapsed: began.elapsed(),
        words: String::new(),
    };
    Ok(match tried {
        Some(Ok(answer)) => {
            ctx.record.attempts.push(record(Outcome::Success));
            Tried::Answered(answer)
        }
        Some(Err(Failed { verdict, status, words })) => {
            let failed = Attempt::failed(candidate.channel, status, &verdict, began.elapsed(), words);
            ctx.record.attempts.push(failed);
            Tried::Failed(verdict)
        }
        None => {
            ctx.record.attempts.push(Attempt { upstream_status: None, ..record(Outcome::Abandoned) });
            ctx.record.end = End::ClientGone;
            Tried::ClientGone
        }
    })
}

fn plan<'a>(
    session: &Downstream,
    ctx: &'a Ctx,
    call: &'a AdmittedCall,
    candidate: &'a Candidate,
) -> Result<Plan<'a>, Cut> {
    let channel = ctx.generation.channel(candidate.channel).ok_or(Cut::Defect)?;
    let rename = (*candidate.upstream_model != *call.public_model).then_some(&*candidate.upstream_model);
    let ask_usage = call.stream && takes_usage_option(call.call) && channel.settings.stream_usage;
    let body = splice::splice(&call.body, splice::upstream_edits(&call.places, rename, ask_usage));
    let client = &session.req_header().headers;
    let head = head::build(channel, call.call, call.stream, body.len(), client).map_err(|_| Cut::Defect)?;
    let timeouts = channel.settings.timeouts;
    let started = Instant::from_std(ctx.started);
    let deadlines = Deadlines {
        // A JSON answer may take its time: reasoning and images send no header for minutes (spec 10.2).
        first_byte: if call.stream { timeouts.first_byte } else { timeouts.total },
        idle: if call.stream { timeouts.idle } else { timeouts.total },
        commit: started + search_time(&timeouts, call.stream),
    };
    let upstream_model = &candidate.upstream_model;
    let (connector, now) = (&ctx.shared.connector, clock::unix().as_secs());
    Ok(Plan {
        connector,
        channel,
        call,
        upstream_model,
        head,
        body,
        deadlines,
        classify: &ctx.generation.classify,
        now,
    })
}

/// Whether streams of this call report usage only when asked to (spec 1.6).
fn takes_usage_option(call: Call) -> bool {
    matches!(call, Call::Chat | Call::Completions)
}

/// How long after a request's arrival it may be undecided at a channel with these timeouts (spec 10.2).
fn search_time(timeouts: &Timeouts, stream: bool) -> Duration {
    if stream { timeouts.failover } else { timeouts.total }
}

fn stream_options(call: &AdmittedCall, identity: &Identity, created: u64) -> StreamOptions {
    StreamOptions {
        call: call.call,
        identity: identity.clone(),
        wants_usage: call.places.usage_asked(),
        created,
    }
}

impl Search {
    /// The next channel, unless attempts are used up (spec 10.2); one whose time for this search is over is passed by.
    fn next<'a>(
        &mut self,
        generation: &'a Generation,
        call: &AdmittedCall,
        started: Instant,
    ) -> Option<&'a Candidate> {
        let model = generation.catalog.model(call.model)?;
        let wanted =
            Wanted { api: call.call.api(), group: call.group.as_deref(), larger_than: self.larger_than };
        loop {
            let next = select(&model.candidates, wanted, &self.excluded, fastrand::u64(..))?;
            let settings = &generation.channel(next.channel)?.settings;
            if self.attempts >= settings.attempts {
                return None;
            }
            if self.attempts == 0 || started.elapsed() < search_time(&settings.timeouts, call.stream) {
                self.attempts += 1;
                return Some(next);
            }
            self.excluded.push(next.channel);
        }
    }

    /// Remembers a failure; whether it ends the search.
    fn ends_with(&mut self, candidate: &Candidate, verdict: Verdict) -> bool {
        let next = verdict.next;
        self.excluded.push(candidate.channel);
        if self.worst.as_ref().is_none_or(|worst| verdict.class.precedence() > worst.class.precedence()) {
            self.worst = Some(verdict);
        }
        if next == Next::LargerContext {
            self.larger_than = self.larger_than.max(candidate.context_window);
            return candidate.context_window.is_none();
        }
        next == Next::Stop
    }

    /// What the failures amount to (spec 3.2, last paragraph).
    fn failure(self, call: &AdmittedCall) -> Failure {
        match self.worst {
            None => Failure::NoChannel,
            Some(verdict) if verdict.class == Class::ModelMissing => {
                Failure::NowhereServed(call.public_model.to_string())
            }
            Some(verdict) => Failure::Upstream(verdict),
        }
    }
}
