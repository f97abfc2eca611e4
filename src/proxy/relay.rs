//! Phase 2: the search for a channel that answers (spec 9, 10).
//!
//! One loop: draw a channel, try it, and either send its answer or remember why not. A channel that failed this request
//! is not drawn again, nothing is replayed once the client has seen content, and the first failure that is the caller's
//! own ends the search.

use super::admit::AdmittedCall;
use super::attempt::{self, Answer, Plan};
use super::exchange::Deadlines;
use super::forward::{Forward, forward};
use super::generation::Generation;
use super::health_log::{record_failure, record_pace, record_success};
use super::race::{Runner, race};
use super::replay::Payload;
use super::search::{Search, Turn, commit_by};
use super::upstream::Channel;
use super::{Ctx, Cut, Downstream, Shared, clock, head, reply};
use crate::core::catalog::Candidate;
use crate::core::channel::Visit;
use crate::core::failure::{Class, Effect, Verdict};
use crate::telemetry::record::{End, Outcome};
use crate::wire::additions::{Addition, Additions};
use crate::wire::answer::{Identity, Sealing};
use crate::wire::credential::Shown;
use crate::wire::edit_form::EditForm;
use crate::wire::endpoint::Call;
use crate::wire::provenance::Origin;
use crate::wire::seal::Stored;
use crate::wire::splice::{self, Edit};
use crate::wire::stream::{EventStream, Expected, StreamOptions};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What all attempts of one request have in common.
pub(super) struct Scene<'a> {
    generation: &'a Generation,
    shared: &'a Shared,
    call: &'a AdmittedCall,
    /// The names of the answer, whichever channel gives it.
    identity: Identity,
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
    let (generation, shared) = (Arc::clone(&ctx.generation), Arc::clone(&ctx.shared));
    let identity = attempt::identity(call.call, clock::unix().as_secs(), &call.public_model);
    let scene = Scene { generation: &generation, shared: &shared, call, identity };
    let mut search = Search::new(&generation, call).ok_or(Cut::Defect)?;
    shared.budget.deposit();
    loop {
        let (candidate, visit) = match search.next(ctx) {
            Turn::Try(candidate, visit) => (candidate, visit),
            Turn::Wait(time) => {
                wait(session, time).await?;
                continue;
            }
            Turn::End => break,
        };
        let first = scene.begin(session, ctx, (candidate, visit), search.left_out(candidate.channel))?;
        let hedge_after = generation
            .hedge_after(call.model)
            .filter(|_| call.call.is_repeatable() && call.body.is_replayable());
        let raced = race(session, ctx, &scene, &mut search, first, hedge_after).await?;
        let mut ends = false;
        for (runner, mut verdict) in raced.failed {
            if search.can_leave_out(runner.candidate.channel, &verdict).is_some() {
                verdict.effect = Effect::None;
            }
            let (candidate, credential) = (runner.candidate, runner.visit.credential);
            record_failure(ctx, candidate, runner.visit, &verdict);
            ends |= search.ends_with(candidate, credential, verdict, ctx.shared.clock.nanos());
        }
        if raced.client_gone {
            return Err(Cut::ClientGone);
        }
        if let Some((runner, answer, beside)) = raced.answered {
            ctx.record.excluded.clear();
            scene.note_answer(ctx, &runner, beside.used_up);
            ctx.passed = beside.fields;
            return scene.deliver(session, ctx, runner, answer).await;
        }
        if ends {
            break;
        }
    }
    reply::refuse(session, ctx, &search.failure()).await
}

impl<'a> Scene<'a> {
    /// Makes ready an attempt at a channel where a place was taken.
    pub(super) fn begin(
        &self,
        session: &Downstream,
        ctx: &Ctx,
        (candidate, visit): (&'a Candidate, Visit),
        left_out: Additions,
    ) -> Result<(Box<Runner<'a>>, Option<Box<EventStream>>), Cut> {
        let channel = self.generation.channel(candidate.channel).ok_or(Cut::Defect)?;
        let identity = self.identity_at(channel, &visit);
        let plan = self.plan(session, ctx, (channel, candidate), &visit, left_out)?;
        let stream = self
            .call
            .stream
            .then(|| Box::new(EventStream::new(stream_options(self.call, &identity, plan.now))));
        let at_channel = self.generation.labels.begin_attempt(candidate.channel);
        let began = Instant::now();
        let runner = Runner { candidate, channel, visit, identity, plan, left_out, began, at_channel };
        Ok((Box::new(runner), stream))
    }

    /// Tells health and load of an answer that has begun.
    fn note_answer(&self, ctx: &Ctx, runner: &Runner<'_>, used_up: Option<Duration>) {
        self.generation.board.answered(&runner.visit, runner.began.elapsed());
        runner.channel.takes_without(runner.left_out, ctx.shared.clock.nanos());
        let latencies = self.generation.latencies.get(self.call.model.index());
        // A count takes a moment, and says nothing about how long answers take.
        if let Some(latencies) = latencies.filter(|_| !self.call.call.is_free()) {
            latencies.record(runner.began.elapsed());
        }
        if let Some(left) = used_up {
            record_pace(ctx, runner.candidate, &runner.visit, left);
        }
    }

    /// Sends the winner's answer to its end.
    async fn deliver(
        &self,
        session: &mut Downstream,
        ctx: &mut Ctx,
        runner: Box<Runner<'a>>,
        answer: Answer,
    ) -> Result<(), Cut> {
        let Runner { candidate, channel, mut visit, identity, at_channel, plan, .. } = *runner;
        // Nothing is sent again from here on, and a stream may last for long.
        drop(plan);
        self.call.body.let_go();
        let timeouts = channel.settings.timeouts.of(self.call.call.api());
        let total = Instant::from_std(ctx.started) + timeouts.total;
        let forwarded = forward(session, ctx, Forward { answer, identity, total }).await;
        if let Some((usage, _)) = ctx.record.usage {
            visit.used(usage.input.saturating_add(usage.output), ctx.shared.clock.nanos());
        }
        settle_health(ctx, candidate, visit);
        drop(at_channel);
        forwarded
    }

    fn plan(
        &self,
        session: &Downstream,
        ctx: &Ctx,
        (channel, candidate): (&'a Arc<Channel>, &'a Candidate),
        visit: &Visit,
        left_out: Additions,
    ) -> Result<Plan<'a>, Cut> {
        let call = self.call;
        let left_out = left_out.union(channel.not_taken(ctx.shared.clock.nanos()));
        let added = self.additions(channel, left_out);
        let body =
            splice::splice(&call.body.bytes(), self.edits(channel, candidate, visit, (added, left_out)));
        let client = &session.req_header().headers;
        let (name, credential) = (&*candidate.upstream_model, visit.credential);
        let mut head = head::build(channel, call.call, name, call.stream, body.len(), client, credential)
            .map_err(|_| Cut::Defect)?;
        if let Some(boundary) = &call.form {
            let content_type = boundary.content_type();
            head.insert_header(http::header::CONTENT_TYPE, content_type).map_err(|_| Cut::Defect)?;
        }
        let timeouts = channel.settings.timeouts.of(call.call.api());
        // A JSON answer may take its time: reasoning and images send nothing for minutes (spec 10.2).
        let steady = call.stream && call.call.is_steady();
        let deadlines = Deadlines {
            first_byte: if steady { timeouts.first_byte } else { timeouts.total },
            idle: if steady { timeouts.idle } else { timeouts.total },
            commit: commit_by(ctx, &timeouts, steady),
            total: Instant::from_std(ctx.started) + timeouts.total,
        };
        let (pool, now) = (&self.shared.upstreams, clock::unix().as_secs());
        let hold_max = self.generation.server.hold_max;
        let (upstream_model, classify) = (&*candidate.upstream_model, &*self.generation.classify);
        let body = Payload::new(body, &call.body);
        Ok(Plan {
            pool,
            channel,
            call,
            upstream_model,
            added,
            head,
            presented: Shown::of(client),
            body,
            deadlines,
            hold_max,
            classify,
            now,
        })
    }

    /// What the gateway writes into the request for this channel, beside the client's members, unless it is left out.
    fn additions(&self, channel: &Channel, left_out: Additions) -> Additions {
        let call = self.call;
        let asks_usage = call.stream && takes_usage_option(call.call) && channel.settings.stream_usage;
        let bound = call.bound.and_then(|_| splice::bound_addition(&call.places, call.call, left_out));
        let all = [
            (asks_usage && !call.places.usage_asked()).then_some(Addition::StreamOptions),
            call.added.as_ref().map(|_| Addition::Modalities),
            bound,
            (!call.thoughts.is_empty()).then_some(Addition::SealedReasoning),
        ];
        all.into_iter().flatten().filter(|addition| !left_out.contains(*addition)).collect()
    }

    /// The edits that turn the client's body into what this channel is sent.
    fn edits(
        &self,
        channel: &Channel,
        candidate: &Candidate,
        visit: &Visit,
        (added, left_out): (Additions, Additions),
    ) -> Vec<Edit> {
        let call = self.call;
        let rename = (*candidate.upstream_model != *call.public_model).then_some(&*candidate.upstream_model);
        let ask_usage = added.contains(Addition::StreamOptions);
        let mut edits = match &call.form {
            Some(boundary) => rename
                .and_then(|model| EditForm::rename(&call.places.model, boundary, model))
                .into_iter()
                .collect(),
            None => splice::upstream_edits(&call.places, rename, ask_usage),
        };
        edits.extend(call.added.clone().filter(|_| added.contains(Addition::Modalities)));
        edits.extend(call.pin.as_ref().map(|pin| (pin.place.clone(), pin.upstream_id.clone())));
        let bound = |tokens| splice::bound_edits(&call.places, call.call, tokens, left_out);
        edits.extend(call.bound.into_iter().flat_map(bound));
        if !call.thoughts.is_empty() {
            let without = left_out.contains(Addition::SealedReasoning);
            edits.extend(call.thoughts.edits(channel, visit.credential, without));
        }
        // Last: what is inserted where something is cut out comes before the cut.
        let model = self.generation.catalog.model(call.model);
        edits.extend(model.into_iter().flat_map(|model| call.parameters.edits(model, channel)));
        edits
    }

    /// The names of an answer of this channel: a trusted one keeps its own, a stored response gets a sealed id.
    fn identity_at(&self, channel: &Channel, visit: &Visit) -> Identity {
        let extra = Some(&channel.settings.pass_members).filter(|names| !names.is_empty());
        let plain = self.identity.clone().passing(extra.cloned());
        if channel.settings.trusted {
            return plain.unchanged();
        }
        let plain = plain.with_mark(self.mark(channel, visit));
        let mut nonce = [0; 12];
        // Without randomness there is no sealed id; the plain one cannot be gone on from.
        if !self.call.call.is_response() || getrandom::fill(&mut nonce).is_err() {
            return plain;
        }
        plain.sealed(Sealing {
            sealer: Arc::clone(&self.shared.sealer),
            stored: Stored {
                channel: channel.sealed_name,
                credential: channel.sealed_credential(visit.credential),
                upstream_id: String::new(),
            },
            account: Arc::clone(&self.call.account),
            nonce,
            previous: self.call.previous.clone(),
        })
    }

    /// The mark of reasoning that this account alone can read; none without randomness, or where there can be no such thing.
    fn mark(&self, channel: &Channel, visit: &Visit) -> Option<Bytes> {
        let mut nonce = [0; 12];
        if !self.call.thinks || getrandom::fill(&mut nonce).is_err() {
            return None;
        }
        let credential = channel.sealed_credential(visit.credential);
        let origin = Origin { channel: channel.sealed_name, credential };
        self.shared.sealer.mark(origin, &self.call.account, nonce)
    }
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
            record_success(ctx, candidate, visit);
        }
        // What broke for the request's own fault is no sign of one either (spec 9.4).
        End::BrokenMidStream if is_of_request(ctx) => {}
        End::BrokenMidStream => {
            record_failure(ctx, candidate, visit, &Verdict::new(Class::BrokenMidStream, "mid-stream"));
        }
        // A stream that was alive until its time was over is no sign of a bad channel (spec 10.2).
        End::Error | End::TimedOut | End::OutOfBalance | End::ClientGone | End::Killed => {}
    }
}

/// Whether the last attempt failed for a fault of the request.
fn is_of_request(ctx: &Ctx) -> bool {
    let last = ctx.record.attempts.last().map(|attempt| &attempt.outcome);
    matches!(last, Some(Outcome::Failed(class, _)) if class.effect() == Effect::None)
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
        expected: Expected {
            input: call.need.input,
            tokenizer: call.need.tokenizer,
            images: call.need.images,
            image_tokens: call.need.image_tokens,
        },
    }
}
