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
use crate::wire::{usage, video};

/// Bytes that are taken for a token where an answer is too large to be looked at.
const TOKEN_BYTES: u64 = 4;

/// A whole answer, and its `usage` member as it stands.
pub(super) fn whole(ctx: &mut Ctx, reported: Option<&[u8]>, body: &[u8]) {
    let Some(need) = &mut ctx.need else { return };
    note_seconds(need, || video::seconds_made(reported, Some(body)));
    let need = *need;
    match reported.and_then(usage::parse) {
        Some(usage) => settle(ctx, usage, UsageSource::Reported),
        None => {
            let output = need.tokenizer.tokens(&delivered::text_of(body));
            settle(ctx, Usage { input: need.input, output, ..Usage::default() }, UsageSource::Estimated);
        }
    }
}

/// An answer that was too large to be held, to its end or as far as it was sent, and its `usage` member.
pub(super) fn large(ctx: &mut Ctx, reported: Option<&[u8]>) {
    let Some(need) = &mut ctx.need else { return };
    note_seconds(need, || video::seconds_made(reported, None));
    let need = *need;
    match reported.and_then(usage::parse) {
        Some(usage) => settle(ctx, usage, UsageSource::Reported),
        None => {
            let bound = need.output.saturating_mul(need.choices);
            let output = (ctx.record.bytes / TOKEN_BYTES).min(bound);
            settle(ctx, Usage { input: need.input, output, ..Usage::default() }, UsageSource::Estimated);
        }
    }
}

/// A stream, to its end or as far as it came.
pub(super) fn stream(ctx: &mut Ctx, stream: &EventStream) {
    let (usage, source) = stream.usage();
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
fn note_seconds(need: &mut Need, made: impl FnOnce() -> Option<u64>) {
    if need.seconds > 0 {
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
