//! What a call is held to have used, once: tokens per minute are corrected, its money is settled, estimates learn from it
//! (spec 6.4, 7.1, 8.2, 8.3).
//!
//! It happens before the last byte goes out, so that the next read of the balance shows it. Reported usage is the truth;
//! without it, what was delivered is counted. A call that delivered nothing never comes here, and costs nothing.

use super::Ctx;
use super::charge::Need;
use crate::core::ledger::Insufficient;
use crate::core::usage::{Usage, UsageSource};
use crate::wire::delivered;
use crate::wire::stream::EventStream;
use crate::wire::usage::{self, Reading};
use crate::wire::video;

/// Bytes that are taken for a token where an answer is too large to be looked at.
const TOKEN_BYTES: u64 = 4;

/// A whole answer, and its `usage` member as it stands.
pub(super) fn whole(ctx: &mut Ctx, reported: Option<&[u8]>, body: &[u8]) {
    note_seconds(ctx, || video::seconds_made(reported, Some(body)));
    as_reported(ctx, reported, |need| need.tokenizer.tokens(&delivered::text_of(body)));
}

/// An answer that was too large to be held, to its end or as far as it was sent, and its `usage` member.
pub(super) fn large(ctx: &mut Ctx, reported: Option<&[u8]>) {
    note_seconds(ctx, || video::seconds_made(reported, None));
    let sent = ctx.record.bytes / TOKEN_BYTES;
    as_reported(ctx, reported, |need| sent.min(need.output.saturating_mul(need.choices)));
}

/// Settles at what is reported; where nothing is, at the expected input and the output that `count` gives.
fn as_reported(ctx: &mut Ctx, reported: Option<&[u8]>, count: impl FnOnce(&Need) -> u64) {
    let Some(need) = ctx.need else { return };
    let Reading { usage, flawed } = reported.map(usage::read).unwrap_or_default();
    ctx.record.flawed_usage = flawed;
    match usage {
        Some(usage) if !flawed || usage.input > 0 => settle(ctx, usage, UsageSource::Reported),
        // What is no count must not make the input free.
        Some(usage) => settle(ctx, Usage { input: need.input, ..usage }, UsageSource::Estimated),
        None => {
            let usage = Usage { input: need.input, output: count(&need), ..Usage::default() };
            settle(ctx, usage, UsageSource::Estimated);
        }
    }
}

/// A stream, to its end or as far as it came.
pub(super) fn stream(ctx: &mut Ctx, stream: &EventStream) {
    let (usage, source) = stream.usage();
    ctx.record.flawed_usage = stream.is_flawed();
    settle(ctx, usage, source);
}

/// A stream that goes on: what it has delivered is written down from time to time, and more is set aside ahead of it.
///
/// # Errors
///
/// [`Insufficient`] if the balance does not cover how it goes on.
pub(super) fn progress(ctx: &mut Ctx, stream: &EventStream) -> Result<(), Insufficient> {
    match &mut ctx.charge {
        Some(charge) => charge.progress(&stream.usage().0),
        None => Ok(()),
    }
}

/// The seconds of a video are those that the answer says, else those that were asked for.
fn note_seconds(ctx: &mut Ctx, made: impl FnOnce() -> Option<u64>) {
    if let Some(need) = ctx.need.as_mut().filter(|need| need.seconds > 0) {
        need.seconds = made().unwrap_or(need.seconds);
    }
}

fn settle(ctx: &mut Ctx, mut usage: Usage, source: UsageSource) {
    let Some(need) = ctx.need.take() else { return };
    (usage.images, usage.seconds) = (need.images, need.seconds);
    ctx.record.usage = Some((usage, source));
    if let Some(admission) = &mut ctx.admission {
        admission.correct(usage.input.saturating_add(usage.output), ctx.shared.clock.nanos());
    }
    if let Some(settled) = ctx.charge.as_mut().and_then(|charge| charge.settle(&usage)) {
        ctx.record.cost = Some(settled.charged);
        ctx.record.uncollected = settled.uncollected;
    }
    if let (Some(model), UsageSource::Reported, false) = (ctx.record.model, source, need.pictured) {
        ctx.generation.learned(model).record(need.estimated, usage.input);
    }
}
