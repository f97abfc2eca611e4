//! Phase 2: the search for a channel that answers (spec 9, 10).
//!
//! One loop: draw a channel, try it, and either send its answer or remember why not. A channel that failed this request
//! is not drawn again, nothing is replayed once the client has seen content, and the first failure that is the caller's
//! own ends the search.

use super::admit::AdmittedCall;
use super::attempt::{self, Answer, Failed, Plan};
use super::exchange::Deadlines;
use super::forward::{Forward, forward};
use super::search::{Search, Turn, commit_by};
use super::upstream::Channel;
use super::{Ctx, Cut, Downstream, clock, head, reply};
use crate::core::catalog::Candidate;
use crate::core::failure::{Class, Verdict};
use crate::core::health::{Change, Visit};
use crate::telemetry::record::{Attempt, End, Outcome};
use crate::wire::answer::{Identity, Sealing};
use crate::wire::endpoint::Call;
use crate::wire::seal::Stored;
use crate::wire::splice;
use crate::wire::stream::{EventStream, StreamOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
    let mut search = Search::new(&generation, call).ok_or(Cut::Defect)?;
    ctx.shared.budget.deposit();
    loop {
        let (candidate, visit) = match search.next(ctx) {
            Turn::Try(candidate, visit) => (candidate, visit),
            Turn::Wait(time) => {
                wait(session, time).await?;
                continue;
            }
            Turn::End => break,
        };
        let _at_channel = generation.labels.begin_attempt(candidate.channel);
        let channel = generation.channel(candidate.channel).ok_or(Cut::Defect)?;
        let identity = identity_at(ctx, call, channel, &visit, &identity);
        match attempt(session, ctx, call, candidate, &visit, &identity).await? {
            Tried::Answered(answer) => {
                let timeouts = channel.settings.timeouts;
                let total = Instant::from_std(ctx.started) + timeouts.total;
                let what = Forward { answer, identity, total, idle: timeouts.idle };
                let forwarded = forward(session, ctx, what).await;
                settle_health(ctx, candidate, visit);
                return forwarded;
            }
            Tried::Failed(verdict) => {
                note_failure(ctx, candidate, visit, &verdict);
                if search.ends_with(candidate, verdict) {
                    break;
                }
            }
            Tried::ClientGone => return Err(Cut::ClientGone),
        }
    }
    reply::refuse(session, ctx, &search.failure()).await
}

/// The names of an answer of this channel: a trusted one keeps its own, a stored response gets a sealed id.
fn identity_at(
    ctx: &Ctx,
    call: &AdmittedCall,
    channel: &Channel,
    visit: &Visit,
    plain: &Identity,
) -> Identity {
    if channel.settings.trusted {
        return plain.clone().unchanged();
    }
    let mut nonce = [0; 12];
    // Without randomness there is no sealed id; the plain one cannot be gone on from.
    if call.call != Call::Responses || getrandom::fill(&mut nonce).is_err() {
        return plain.clone();
    }
    plain.clone().sealed(Sealing {
        sealer: Arc::clone(&ctx.shared.sealer),
        stored: Stored {
            channel: channel.sealed_name,
            credential: channel.sealed_credential(visit.credential),
            upstream_id: String::new(),
        },
        account: Arc::clone(&call.account),
        nonce,
        previous: call.pin.as_ref().map(|pin| pin.known_as.clone()),
    })
}

/// Waits while watching whether the client is still there.
async fn wait(session: &mut Downstream, time: Duration) -> Result<(), Cut> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        _gone = session.read_body_or_idle(true) => Err(Cut::ClientGone),
    }
}

/// Tells the board how an answer ended. A client that left says nothing about the channel.
fn settle_health(ctx: &Ctx, candidate: &Candidate, visit: Visit) {
    match ctx.record.end {
        End::Complete => {
            let change = ctx.generation.board.completed(visit, ctx.shared.clock.nanos());
            note_change(ctx, candidate, change);
        }
        End::BrokenMidStream => {
            note_failure(ctx, candidate, visit, &Verdict::new(Class::BrokenMidStream, "mid-stream"));
        }
        End::Error | End::ClientGone | End::Killed => {}
    }
}

fn note_failure(ctx: &Ctx, candidate: &Candidate, visit: Visit, verdict: &Verdict) {
    let (board, catalog) = (&ctx.generation.board, &ctx.generation.catalog);
    let change =
        board.failed(catalog, candidate, visit, verdict, ctx.shared.clock.nanos(), fastrand::u64(..));
    note_change(ctx, candidate, change);
}

fn note_change(ctx: &Ctx, candidate: &Candidate, change: Option<Change>) {
    if let Some(change) = change {
        let channel = ctx.generation.labels.channel(candidate.channel);
        ctx.shared.metrics.health().change(channel, change.as_str());
        if change != Change::Kept {
            log::warn!("channel {channel}: {}", change.as_str());
        }
    }
}

/// One attempt, while watching whether the client is still there (spec 10.5).
async fn attempt(
    session: &mut Downstream,
    ctx: &mut Ctx,
    call: &AdmittedCall,
    candidate: &Candidate,
    visit: &Visit,
    identity: &Identity,
) -> Result<Tried, Cut> {
    let began = Instant::now();
    let plan = plan(session, ctx, call, candidate, visit)?;
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
        Some(Ok((answer, used_up))) => {
            let (board, catalog) = (&ctx.generation.board, &ctx.generation.catalog);
            board.answered(visit, began.elapsed());
            if let Some(left) = used_up {
                board.paced(catalog, candidate, visit, left, ctx.shared.clock.nanos());
            }
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
    visit: &Visit,
) -> Result<Plan<'a>, Cut> {
    let channel = ctx.generation.channel(candidate.channel).ok_or(Cut::Defect)?;
    let rename = (*candidate.upstream_model != *call.public_model).then_some(&*candidate.upstream_model);
    let ask_usage = call.stream && takes_usage_option(call.call) && channel.settings.stream_usage;
    let mut edits = splice::upstream_edits(&call.places, rename, ask_usage);
    edits.extend(call.pin.as_ref().map(|pin| (pin.place.clone(), pin.upstream_id.clone())));
    let body = splice::splice(&call.body, edits);
    let client = &session.req_header().headers;
    let head = head::build(channel, call.call, call.stream, body.len(), client, visit.credential)
        .map_err(|_| Cut::Defect)?;
    let timeouts = channel.settings.timeouts;
    let deadlines = Deadlines {
        // A JSON answer may take its time: reasoning and images send no header for minutes (spec 10.2).
        first_byte: if call.stream { timeouts.first_byte } else { timeouts.total },
        idle: if call.stream { timeouts.idle } else { timeouts.total },
        commit: commit_by(ctx, &timeouts, call.stream),
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

fn stream_options(call: &AdmittedCall, identity: &Identity, created: u64) -> StreamOptions {
    StreamOptions {
        call: call.call,
        identity: identity.clone(),
        wants_usage: call.places.usage_asked(),
        created,
    }
}
