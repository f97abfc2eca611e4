//! Which channel one request tries next, and what its failures amount to (spec 9.1, 9.2, 9.5, 10.2, 10.4).
//!
//! A channel that failed this request is not drawn again, unless the failure was of its credential and it has another one,
//! or of what the gateway added, which can be left out: then it is tried next. A conversation goes first where its reasoning
//! was made. Attempts are bounded for the request, over all traffic and in time; when all that could be tried rest, the request waits for the first of them if that is soon.

use super::Ctx;
use super::admit::AdmittedCall;
use super::generation::Generation;
use super::needs;
use super::thoughts::Place;
use super::upstream::Channel;
use crate::config::Timeouts;
use crate::core::catalog::{Candidate, Model};
use crate::core::channel::{self, Visit};
use crate::core::failure::{Accepted, Class, Next, Verdict};
use crate::core::health::Now;
use crate::core::id::ChannelId;
use crate::core::refusal::{Failure, Refusal};
use crate::core::select::{Nothing, View, Wanted, select};
use crate::telemetry::record::EXCLUDED_MAX;
use crate::wire::additions::{Addition, Additions};
use std::time::Duration;
use tokio::time::Instant;

/// How often a draw is repeated because another request took the place that it saw.
const RACES_MAX: usize = 32;
/// A cooldown that ends is waited for this much longer, so that it has ended.
const MARGIN: Duration = Duration::from_millis(2);

/// The search of one request.
pub(super) struct Search<'a> {
    generation: &'a Generation,
    call: &'a AdmittedCall,
    model: &'a Model,
    /// Channels that are not asked (again), because they do not take the call, failed, or have no time left.
    excluded: Vec<ChannelId>,
    /// Candidates that are tried before any is drawn, the last one first.
    preferred: Vec<Preferred<'a>>,
    /// The only place that will do, because what the request goes on from is there.
    pinned: Option<Place>,
    /// Of the excluded ones those that may lack something that the request needs; they are asked when no other is left.
    lacking: Vec<ChannelId>,
    /// What the gateway does not add for a channel, since it refused it of this request.
    left_out: Vec<(ChannelId, Additions)>,
    /// Credentials that failed this request, by channel and position.
    tried: Vec<(ChannelId, usize)>,
    attempts: u32,
    worst: Option<Verdict>,
    /// The context window that was too small, once one was.
    larger_than: Option<u64>,
    /// How long it has waited for channels that rest.
    waited: Duration,
    /// Why nothing could be drawn, once nothing could.
    nothing: Option<Nothing>,
}

/// A candidate that is tried before any is drawn.
struct Preferred<'a> {
    candidate: &'a Candidate,
    /// The credential of its own that it is tried with; else any that this request has not tried.
    credential: Option<usize>,
    /// It has failed this request; if it cannot be entered, it is not asked again.
    has_failed: bool,
}

/// What a search does next.
pub(super) enum Turn<'a> {
    /// It tries this channel.
    Try(&'a Candidate, Visit),
    /// It waits for the first channel to recover.
    Wait(Duration),
    /// It has nothing left to try.
    End,
}

impl<'a> Search<'a> {
    /// A search that has tried nothing yet.
    pub(super) fn new(generation: &'a Generation, call: &'a AdmittedCall) -> Option<Self> {
        let model = generation.catalog.model(call.model)?;
        let of_response =
            call.pin.as_ref().map(|pin| Place { channel: pin.channel, credential: pin.credential });
        let home = call.thoughts.home(generation, model);
        let candidate_of = |place: Place| {
            let candidate = model.candidates().find(|candidate| candidate.channel == place.channel)?;
            Some(Preferred { candidate, credential: place.credential, has_failed: false })
        };
        Some(Self {
            generation,
            call,
            model,
            excluded: call.parameters.barred.clone(),
            preferred: home.and_then(candidate_of).into_iter().collect(),
            pinned: of_response.or_else(|| call.thoughts.only_place(generation, model)),
            lacking: Vec::new(),
            left_out: Vec::new(),
            tried: Vec::new(),
            attempts: 0,
            worst: None,
            larger_than: None,
            waited: Duration::ZERO,
            nothing: None,
        })
    }

    fn wanted(&self) -> Wanted<'a> {
        Wanted {
            api: self.call.call.api(),
            group: self.call.group.as_deref(),
            larger_than: self.larger_than,
            // Images count by a bound, which keeps no request from a channel.
            input: self.call.need.in_context,
            pinned: self.pinned.map(|place| place.channel),
            affinity: self.call.affinity,
        }
    }

    fn view(&self, now: u64) -> Now<'a> {
        Now { board: &self.generation.board, now, tokens: self.call.need.tokens_ahead() }
    }

    /// The next channel with the place that was taken there, a wait, or the end.
    pub(super) fn next(&mut self, ctx: &mut Ctx) -> Turn<'a> {
        if self.attempts > 0 && ctx.is_late_for_client() {
            return Turn::End;
        }
        let tokens = self.call.need.tokens_ahead();
        for _ in 0..RACES_MAX {
            let now = ctx.shared.clock.nanos();
            let preferred = self.take_preferred(now);
            let drawn = preferred.as_ref().map(|preferred| preferred.candidate).or_else(|| self.draw(now));
            let Some(candidate) = drawn else { return self.wait_or_end(ctx, now) };
            let Some(channel) = self.generation.channel(candidate.channel) else { return Turn::End };
            let settings = &channel.settings;
            if self.attempts >= settings.attempts {
                return Turn::End;
            }
            let timeouts = settings.timeouts.of(self.call.call.api());
            let in_time = ctx.started.elapsed() < search_time(&timeouts, self.call.stream);
            if self.attempts > 0 && !in_time {
                self.excluded.push(candidate.channel);
                continue;
            }
            let credential = preferred.as_ref().and_then(|preferred| preferred.credential);
            let Some(visit) = self.enter((candidate, credential), channel, tokens, now) else {
                if preferred.is_some_and(|preferred| preferred.has_failed) {
                    self.excluded.push(candidate.channel);
                }
                continue;
            };
            if self.attempts > 0 && !ctx.shared.budget.try_spend(now) {
                return Turn::End;
            }
            self.attempts += 1;
            return Turn::Try(candidate, visit);
        }
        Turn::End
    }

    /// The next preferred candidate that will do.
    fn take_preferred(&mut self, now: u64) -> Option<Preferred<'a>> {
        let preferred = self.preferred.pop()?;
        // A conversation goes on where new ones are not begun any more.
        let wanted = Wanted { pinned: Some(preferred.candidate.channel), ..self.wanted() };
        let fits = preferred.has_failed
            || wanted.mismatch(preferred.candidate).is_none()
                && !self.excluded.contains(&preferred.candidate.channel)
                && self.view(now).is_usable(preferred.candidate);
        fits.then_some(preferred)
    }

    fn draw(&mut self, now: u64) -> Option<&'a Candidate> {
        if self.attempts == 0 {
            self.pass_lacking(now);
        }
        let mut random = || fastrand::u64(..);
        let drawn = select(&self.model.tiers, self.wanted(), &self.excluded, &self.view(now), &mut random);
        if drawn.is_some() || self.lacking.is_empty() {
            return drawn;
        }
        // No other channel is left, and what is remembered may be wrong.
        let lacking = std::mem::take(&mut self.lacking);
        self.excluded.retain(|channel| !lacking.contains(channel));
        select(&self.model.tiers, self.wanted(), &self.excluded, &self.view(now), &mut random)
    }

    /// Passes by the channels that were found to lack what the request needs.
    fn pass_lacking(&mut self, now: u64) {
        let needs = |capability| needs::needs(capability, self.call);
        let lacking = self.generation.lacking(self.call.model).map(|known| known.of(needs, now));
        for channel in lacking.unwrap_or_default() {
            if !self.excluded.contains(&channel) {
                self.excluded.push(channel);
                self.lacking.push(channel);
            }
        }
    }

    /// What the gateway does not add for a channel, because it refused it of this request.
    pub(super) fn left_out(&self, channel: ChannelId) -> Additions {
        let found = self.left_out.iter().find(|(at, _)| *at == channel);
        found.map(|(_, left_out)| *left_out).unwrap_or_default()
    }

    /// Whether a channel that refused what the gateway added can be sent the request without it.
    pub(super) fn can_leave_out(&self, channel: ChannelId, verdict: &Verdict) -> Option<Addition> {
        let addition = verdict.refused_addition.and_then(Addition::named)?;
        let is_possible = addition != Addition::SealedReasoning || self.call.thoughts.is_droppable();
        (is_possible && !self.left_out(channel).contains(addition)).then_some(addition)
    }

    fn leave_out(&mut self, channel: ChannelId, addition: Addition) {
        match self.left_out.iter_mut().find(|(at, _)| *at == channel) {
            Some((_, left_out)) => {
                left_out.insert(addition);
            }
            None => self.left_out.push((channel, Additions::from_iter([addition]))),
        }
    }

    /// Takes a place at a channel, with the credential under which what the request goes on from is stored, or the next one
    /// that this request has not tried.
    fn enter(
        &self,
        (candidate, credential): (&Candidate, Option<usize>),
        at: &Channel,
        tokens: u64,
        now: u64,
    ) -> Option<Visit> {
        let tried: Vec<usize> = self.tried_at(candidate.channel).collect();
        let turn = match self.pinned.and_then(|place| place.credential).or(credential) {
            Some(index) => channel::Turn::Only(index),
            None => channel::Turn::Untried(at.next_turn(), &tried),
        };
        at.health.try_enter(candidate.slot, turn, tokens, now)
    }

    fn tried_at(&self, channel: ChannelId) -> impl Iterator<Item = usize> {
        self.tried.iter().filter(move |(at, _)| *at == channel).map(|(_, credential)| *credential)
    }

    /// Whether a failure leaves its channel another credential to try; else the channel is not asked again.
    fn has_other_credential(&mut self, candidate: &Candidate, failed: Option<usize>, now: u64) -> bool {
        let Some(failed) = failed else { return false };
        self.tried.push((candidate.channel, failed));
        let is_pinned = self.pinned.is_some_and(|place| place.credential.is_some());
        let Some(channel) = self.generation.channel(candidate.channel).filter(|_| !is_pinned) else {
            return false;
        };
        let is_tried = |index| self.tried_at(candidate.channel).any(|tried| tried == index);
        channel.health.has_credential_besides(is_tried, now)
    }

    /// Nothing can be drawn now: waits for the first that recovers if that is soon enough (spec 9.5).
    fn wait_or_end(&mut self, ctx: &mut Ctx, now: u64) -> Turn<'a> {
        let nothing = self.view(now).nothing(self.model.candidates(), self.wanted(), &self.excluded);
        self.nothing = Some(nothing);
        self.count_exclusions(ctx, now);
        let Nothing::Resting(Some(left)) = nothing else { return Turn::End };
        let wait = left + MARGIN;
        if self.waited + wait > self.generation.retry.failover_wait + MARGIN {
            return Turn::End;
        }
        self.waited += wait;
        Turn::Wait(wait)
    }

    /// Notes why none of the channels can be tried, for the metrics and for who asks about this request.
    fn count_exclusions(&self, ctx: &mut Ctx, now: u64) {
        ctx.record.excluded.clear();
        for candidate in self.model.candidates() {
            let standing = self.generation.board.stands(candidate, now);
            let reason = match self.wanted().mismatch(candidate) {
                Some(mismatch) => mismatch,
                None if self.call.parameters.barred.contains(&candidate.channel) => "parameter",
                None if self.excluded.contains(&candidate.channel) => "failed_before",
                None if standing.is_usable() => "full",
                None => standing.as_str(),
            };
            ctx.shared.metrics.health().exclusion(self.generation.labels.channel(candidate.channel), reason);
            // What was tried stands among the attempts.
            if reason != "failed_before" && ctx.record.excluded.len() < EXCLUDED_MAX {
                ctx.record.excluded.push((candidate.channel, reason));
            }
        }
    }

    /// A channel that is being tried is not drawn for a second attempt beside it.
    pub(super) fn exclude(&mut self, candidate: &Candidate) {
        self.excluded.push(candidate.channel);
    }

    /// Remembers a failure under this credential; whether it ends the search.
    pub(super) fn ends_with(
        &mut self,
        candidate: &'a Candidate,
        credential: Option<usize>,
        verdict: Verdict,
        now: u64,
    ) -> bool {
        let next = verdict.next;
        let may_repeat = self.call.call.is_repeatable() || verdict.accepted == Accepted::No;
        let may_repeat = may_repeat && !self.call.body.is_gone();
        let addition = self.can_leave_out(candidate.channel, &verdict);
        if let Some(addition) = addition {
            self.leave_out(candidate.channel, addition);
            self.preferred.push(Preferred { candidate, credential, has_failed: true });
        } else if verdict.class.is_the_credentials() && self.has_other_credential(candidate, credential, now)
        {
            self.preferred.push(Preferred { candidate, credential: None, has_failed: true });
        } else {
            self.excluded.push(candidate.channel);
        }
        if let (Some(lacks), Some(known)) = (verdict.capability, self.generation.lacking(self.call.model)) {
            known.note(candidate.channel, lacks, now);
        }
        if self.worst.as_ref().is_none_or(|worst| verdict.class.precedence() > worst.class.precedence()) {
            self.worst = Some(verdict);
        }
        if !may_repeat {
            return true;
        }
        if next == Next::LargerContext {
            self.larger_than = self.larger_than.max(candidate.context_window);
            return candidate.context_window.is_none();
        }
        next == Next::Stop
    }

    /// What the failures amount to (spec 3.2, last paragraph; 9.5).
    pub(super) fn failure(self) -> Failure {
        let nowhere = || Failure::NowhereServed(self.call.public_model.to_string());
        if let (None, Some(max)) = (&self.worst, self.model.too_small_for(self.wanted())) {
            return Refusal::ContextTooLong { max, count: None }.into();
        }
        match (self.worst, self.nothing) {
            (None, Some(Nothing::Missing)) => nowhere(),
            (None, Some(Nothing::Resting(left))) => Failure::NoChannel(left),
            (None, _) => Failure::NoChannel(None),
            // Others that rest for another reason might have it.
            (Some(verdict), Some(Nothing::Resting(left)))
                if matches!(verdict.class, Class::ModelMissing | Class::CapabilityMissing) =>
            {
                Failure::NoChannel(left)
            }
            (Some(verdict), _) if verdict.class == Class::ModelMissing => nowhere(),
            (Some(verdict), _) => Failure::Upstream(verdict),
        }
    }
}

/// How long after a request's arrival an attempt may begin at a channel with these timeouts (spec 10.2).
pub(super) fn search_time(timeouts: &Timeouts, stream: bool) -> Duration {
    if stream { timeouts.failover } else { timeouts.total }
}

/// When no other attempt can begin any more, so that holding a stream back has no use. The client's own time does not end an
/// attempt that runs, since that would be held against the channel: it only keeps the next from being begun (spec 10.4), and
/// a client that leaves cancels it (spec 10.5).
pub(super) fn commit_by(ctx: &Ctx, timeouts: &Timeouts, stream: bool) -> Instant {
    Instant::from_std(ctx.started) + search_time(timeouts, stream)
}
