//! An attempt, and for models that ask for it a second one beside it (hedging).
//!
//! When the first attempt has shown nothing after the time in which 95 of 100 requests of the model have, a second one is
//! made at another channel, within the budget of failover. The first answer wins; the other attempt is dropped, which
//! cancels its upstream at once. The client gets one answer and is charged for one; the operator sees both attempts.

use super::attempt::{Answer, Beside, Failed, Plan};
use super::relay::Scene;
use super::search::{Search, Turn};
use super::upstream::Channel;
use super::{Ctx, Cut, Downstream};
use crate::core::catalog::Candidate;
use crate::core::channel::Visit;
use crate::core::failure::Verdict;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::record::{Attempt, End, Outcome};
use crate::wire::additions::Additions;
use crate::wire::answer::Identity;
use crate::wire::stream::EventStream;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// An attempt that is ready to be made.
pub(super) struct Runner<'a> {
    pub(super) candidate: &'a Candidate,
    pub(super) channel: &'a Channel,
    pub(super) visit: Visit,
    pub(super) identity: Identity,
    pub(super) plan: Plan<'a>,
    /// What the gateway left out of it, since the channel refused it of this request.
    pub(super) left_out: Additions,
    pub(super) began: Instant,
    /// The gauge of the channel.
    pub(super) at_channel: Option<InFlight>,
}

/// What came of one or two attempts.
#[derive(Default)]
pub(super) struct Raced<'a> {
    /// The winner, its answer, and what it said beside it.
    pub(super) answered: Option<(Box<Runner<'a>>, Answer, Beside)>,
    /// Those that failed, and their verdicts.
    pub(super) failed: Vec<(Box<Runner<'a>>, Verdict)>,
    /// The client went away.
    pub(super) client_gone: bool,
}

type Ran = Result<(Answer, Beside), Failed>;

impl Runner<'_> {
    async fn run(&self, stream: Option<Box<EventStream>>) -> Ran {
        self.plan.run(stream).await
    }

    fn record(&self, outcome: Outcome, upstream_status: Option<u16>) -> Attempt {
        let (channel, elapsed) = (self.candidate.channel, self.began.elapsed());
        Attempt { channel, upstream_status, outcome, elapsed, words: String::new() }
    }

    fn failed(&self, failed: Failed) -> (Attempt, Verdict) {
        let Failed { verdict, status, words } = failed;
        (Attempt::failed(self.candidate.channel, status, &verdict, self.began.elapsed(), words), verdict)
    }
}

/// Makes an attempt, and another one beside it if `hedge_after` passes without an answer.
///
/// # Errors
///
/// [`Cut`] for a defect of ours.
///
/// # Cancel safety
///
/// Dropping it cancels the upstreams.
pub(super) async fn race<'a>(
    session: &mut Downstream,
    ctx: &mut Ctx,
    scene: &Scene<'a>,
    search: &mut Search<'a>,
    first: (Box<Runner<'a>>, Option<Box<EventStream>>),
    hedge_after: Option<Duration>,
) -> Result<Raced<'a>, Cut> {
    let (first, stream) = first;
    if let Some(hedge_after) = hedge_after {
        return Box::pin(hedged(session, ctx, scene, search, (first, stream), hedge_after)).await;
    }
    // On the heap, so that an answer that lasts does not keep the room that the attempt needed.
    let mut attempt = Box::pin(first.run(stream));
    let ran = tokio::select! {
        biased;
        ran = &mut attempt => Some(ran),
        _gone = session.read_body_or_idle(true) => None,
    };
    drop(attempt);
    Ok(alone(ctx, first, ran))
}

async fn hedged<'a>(
    session: &mut Downstream,
    ctx: &mut Ctx,
    scene: &Scene<'a>,
    search: &mut Search<'a>,
    (first, stream): (Box<Runner<'a>>, Option<Box<EventStream>>),
    hedge_after: Duration,
) -> Result<Raced<'a>, Cut> {
    let mut one = Box::pin(first.run(stream));
    let early = tokio::select! {
        biased;
        ran = &mut one => Some(Some(ran)),
        _gone = session.read_body_or_idle(true) => Some(None),
        () = sleep(hedge_after) => None,
    };
    if let Some(ran) = early {
        drop(one);
        return Ok(alone(ctx, first, ran));
    }
    search.exclude(first.candidate);
    let Turn::Try(candidate, visit) = search.next(ctx) else {
        let ran = tokio::select! {
            biased;
            ran = &mut one => Some(ran),
            _gone = session.read_body_or_idle(true) => None,
        };
        drop(one);
        return Ok(alone(ctx, first, ran));
    };
    let (second, stream) =
        scene.begin(session, ctx, (candidate, visit), search.left_out(candidate.channel))?;
    let mut two = Box::pin(second.run(stream));
    let (mut ran_one, mut ran_two): (Option<Ran>, Option<Ran>) = (None, None);
    let gone = loop {
        tokio::select! {
            biased;
            ran = &mut one, if ran_one.is_none() => ran_one = Some(ran),
            ran = &mut two, if ran_two.is_none() => ran_two = Some(ran),
            _gone = session.read_body_or_idle(true) => break true,
        }
        let answered = |ran: &Option<Ran>| matches!(ran, Some(Ok(_)));
        if answered(&ran_one) || answered(&ran_two) || ran_one.is_some() && ran_two.is_some() {
            break false;
        }
    };
    drop(one);
    drop(two);
    let raced = settle(ctx, [(first, ran_one), (second, ran_two)], gone);
    ctx.shared.metrics.health().hedge(match &raced.answered {
        Some((winner, ..)) if winner.candidate.channel == candidate.channel => "won",
        Some(_) => "lost",
        None if gone => "abandoned",
        None => "failed",
    });
    Ok(raced)
}

/// The outcome of an attempt that had no second one beside it; `None` if the client left.
fn alone<'a>(ctx: &mut Ctx, runner: Box<Runner<'a>>, ran: Option<Ran>) -> Raced<'a> {
    let gone = ran.is_none();
    settle(ctx, [(runner, ran)], gone)
}

/// The outcome of all: what was given up is told to the operator before the winner, whose attempt is the last.
fn settle<'a, const N: usize>(
    ctx: &mut Ctx,
    ran: [(Box<Runner<'a>>, Option<Ran>); N],
    gone: bool,
) -> Raced<'a> {
    let mut raced = Raced { client_gone: gone, ..Raced::default() };
    for (runner, ran) in ran {
        match ran {
            Some(Ok((answer, beside))) => raced.answered = Some((runner, answer, beside)),
            Some(Err(failed)) => {
                let (attempt, verdict) = runner.failed(failed);
                ctx.record.attempts.push(attempt);
                raced.failed.push((runner, verdict));
            }
            None => ctx.record.attempts.push(runner.record(Outcome::Abandoned, None)),
        }
    }
    if let Some((runner, ..)) = &raced.answered {
        ctx.record.attempts.push(runner.record(Outcome::Success, Some(200)));
    }
    if gone {
        ctx.record.end = End::ClientGone;
    }
    raced
}
