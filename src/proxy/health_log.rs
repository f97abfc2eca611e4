//! Verdicts applied to health, with one log line for each change of a state (spec 2.12, 13.1).
//!
//! A line says what changed (a channel, a model on it, or a credential by its position), from which state to which, why, and
//! for how long. The cause is kept with the unit for the status page and `explain`. Only failures that say something about
//! a channel take the lock here; successes do not.

use super::{Ctx, Shared};
use crate::core::catalog::Candidate;
use crate::core::cause::Cause;
use crate::core::channel::{ChannelHealth, Visit};
use crate::core::failure::{Class, Effect, Verdict};
use crate::core::health::Change;
use crate::core::unit::{Standing, Unit};
use crate::telemetry::time_span::for_people;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The rule of a pause that an upstream's rate limit headers asked for while it still answered.
const PACED: &str = "rate limit headers of an answer";

/// The health that one attempt at a channel can change.
struct Units<'a> {
    health: &'a Arc<ChannelHealth>,
    slot: usize,
    credential: Option<usize>,
}

/// A unit of a channel.
#[derive(Clone, Copy)]
enum Part {
    Channel,
    Model,
    Credential(usize),
}

impl<'a> Units<'a> {
    fn of(ctx: &'a Ctx, candidate: &Candidate, visit: &Visit) -> Option<Self> {
        let health = ctx.generation.board.channel(candidate.channel)?;
        Some(Self { health, slot: candidate.slot, credential: visit.credential })
    }

    fn parts(&self) -> impl Iterator<Item = (Part, &'a Unit)> {
        let model = self.health.models.get(self.slot).map(|unit| (Part::Model, &**unit));
        let at = self.credential;
        let credential = at.and_then(|at| Some((Part::Credential(at), &**self.health.credentials.get(at)?)));
        [Some((Part::Channel, &*self.health.unit)), model, credential].into_iter().flatten()
    }

    fn standings(&self, now: u64) -> [Standing; 3] {
        let mut standings = [Standing::Up; 3];
        for (known, (_, unit)) in standings.iter_mut().zip(self.parts()) {
            *known = unit.standing(now);
        }
        standings
    }

    /// The parts whose state has another word than before.
    fn changed(&self, before: [Standing; 3], now: u64) -> Vec<(Part, &'a Unit, Standing, Standing)> {
        let parts = self.parts().zip(before);
        let compared = parts.map(|((part, unit), before)| (part, unit, before, unit.standing(now)));
        compared.filter(|(_, _, before, after)| before.as_str() != after.as_str()).collect()
    }
}

/// Applies the verdict of a failed attempt.
pub(super) fn record_failure(ctx: &Ctx, candidate: &Candidate, visit: Visit, verdict: &Verdict) {
    let (board, catalog, now) = (&ctx.generation.board, &ctx.generation.catalog, ctx.shared.clock.nanos());
    let units = Units::of(ctx, candidate, &visit);
    if verdict.effect == Effect::None {
        let change = board.failed(catalog, candidate, visit, verdict, now, fastrand::u64(..));
        return count(ctx, candidate, change);
    }
    let cause = || cause(ctx, verdict.class, verdict.rule.clone(), now);
    let change = noting(ctx, candidate, units, now, cause, || {
        board.failed(catalog, candidate, visit, verdict, now, fastrand::u64(..))
    });
    count(ctx, candidate, change);
}

/// Notes that an attempt's answer was complete.
pub(super) fn record_success(ctx: &Ctx, candidate: &Candidate, visit: Visit) {
    let (board, now) = (&ctx.generation.board, ctx.shared.clock.nanos());
    let units = Units::of(ctx, candidate, &visit).filter(|units| !units.health.is_calm());
    let Some(units) = units else {
        let change = board.completed(visit, now);
        return count(ctx, candidate, change);
    };
    let before = units.standings(now);
    let change = board.completed(visit, now);
    for (part, unit, before, _) in units.changed(before, now) {
        let lasted = unit.cause.last().map(|cause| Duration::from_nanos(now.saturating_sub(cause.since)));
        let lasted = lasted.map(|lasted| format!(" after {}", for_people(lasted))).unwrap_or_default();
        let what = name(ctx, candidate, &units, part);
        log::info!("{what}: {} -> up{lasted}, request {} succeeded", before.as_str(), ctx.record.request_id);
    }
    count(ctx, candidate, change);
}

/// Lets a credential pause whose rate limit headers say that it is used up for this long.
pub(super) fn record_pace(ctx: &Ctx, candidate: &Candidate, visit: &Visit, left: Duration) {
    let (board, catalog, now) = (&ctx.generation.board, &ctx.generation.catalog, ctx.shared.clock.nanos());
    let cause = || cause(ctx, Class::RateLimited, Cow::Borrowed(PACED), now);
    noting(ctx, candidate, Units::of(ctx, candidate, visit), now, cause, || {
        board.paced(catalog, candidate, visit, left, now);
    });
}

fn cause(ctx: &Ctx, class: Class, rule: Cow<'static, str>, now: u64) -> Cause {
    Cause { class, rule, request_id: Arc::clone(&ctx.record.request_id), since: now }
}

/// Makes a change of health, keeps its cause, and writes a line for each state that is another one than before.
fn noting<T>(
    ctx: &Ctx,
    candidate: &Candidate,
    units: Option<Units<'_>>,
    now: u64,
    cause: impl FnOnce() -> Cause,
    change: impl FnOnce() -> T,
) -> T {
    let Some(units) = units else { return change() };
    // Requests that fail at the same moment must not both see the state before.
    let one_at_a_time = ctx.shared.health_changes.lock().unwrap_or_else(PoisonError::into_inner);
    let before = units.standings(now);
    let changed = change();
    let parts = units.changed(before, now);
    let cause = if parts.is_empty() { None } else { Some(cause()) };
    for (_, unit, before, _) in &parts {
        // What a failed probe extends began earlier.
        let began = unit.cause.last().filter(|_| *before != Standing::Up).map(|cause| cause.since);
        if let Some(cause) = &cause {
            unit.cause.set(Arc::new(Cause { since: began.unwrap_or(now), ..Cause::clone(cause) }));
        }
    }
    drop(one_at_a_time);
    for ((part, _, before, after), cause) in parts.iter().zip(cause.iter().cycle()) {
        let Cause { class, rule, request_id, .. } = cause;
        let what = name(ctx, candidate, &units, *part);
        let change = format!("{} -> {}{}", before.as_str(), after.as_str(), left(*after));
        log::warn!("{what}: {change}: {} (rule: {rule}), request {request_id}", class.as_str());
    }
    changed
}

fn left(standing: Standing) -> String {
    standing.left().map(|left| format!(" for {}", for_people(left))).unwrap_or_default()
}

/// The words for a part of a channel.
fn name(ctx: &Ctx, candidate: &Candidate, units: &Units<'_>, part: Part) -> String {
    let labels = &ctx.generation.labels;
    let mut name = format!("channel {}", labels.channel(candidate.channel));
    match part {
        Part::Channel => {}
        Part::Model => {
            if let Some(model) = ctx.record.model {
                let _ = write!(name, ", model {}", labels.model(model));
            }
        }
        Part::Credential(at) => {
            let _ = write!(name, ", credential {} of {}", at + 1, units.health.credentials.len());
        }
    }
    name
}

fn count(ctx: &Ctx, candidate: &Candidate, change: Option<Change>) {
    if let Some(change) = change {
        let channel = ctx.generation.labels.channel(candidate.channel);
        ctx.shared.metrics.health().change(channel, change.as_str());
    }
}

impl Shared {
    /// The wall clock at a moment of the clock of health, in milliseconds since the Unix epoch.
    pub(super) fn unix_millis_at(&self, nanos: u64) -> u64 {
        let ago = Duration::from_nanos(self.clock.nanos().saturating_sub(nanos));
        let at = super::clock::unix().saturating_sub(ago);
        u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
    }
}
