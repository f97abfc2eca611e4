//! What a call is held to have used, once: tokens per minute are corrected, its money is settled, estimates learn from it
//! (spec 6.4, 7.1, 8.2, 8.3).
//!
//! It happens before the last byte goes out, so that the next read of the balance shows it. Reported usage is the truth;
//! without it, what was delivered is counted. A call that delivered nothing never comes here, and costs nothing.

use super::Ctx;
use super::charge::{Exhausted, Need};
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
    let pictured = ctx.need.is_some_and(|need| need.images > 0);
    let images = if pictured { delivered::images_in(body) } else { 0 };
    as_reported(ctx, reported, images, |need| need.tokenizer.tokens(&delivered::text_of(body)));
}

/// An answer that was too large to be held, to its end or as far as it was sent: its `usage` member, and how many items
/// its list of data has, if it has one.
pub(super) fn large(ctx: &mut Ctx, reported: Option<&[u8]>, items: Option<u64>) {
    note_seconds(ctx, || video::seconds_made(reported, None));
    let sent = ctx.record.bytes / TOKEN_BYTES;
    // A conversation so large has its images, uncounted; and they are what makes it large.
    let asked = ctx.need.map_or(0, |need| need.images);
    let text = |need: &Need| match need.images {
        0 => sent.min(need.output.saturating_mul(need.choices)),
        _ => 0,
    };
    as_reported(ctx, reported, items.unwrap_or(asked), text);
}

/// Settles at what is reported; where nothing is, at the expected input and the images and the text that were delivered.
fn as_reported(ctx: &mut Ctx, reported: Option<&[u8]>, images: u64, text: impl FnOnce(&Need) -> u64) {
    let Some(need) = ctx.need else { return };
    // Nobody pays for more than was asked for.
    let images = images.min(need.images);
    let Reading { usage, flawed } = reported.map(usage::read).unwrap_or_default();
    ctx.record.flawed_usage = flawed;
    match usage {
        Some(usage) if !flawed || usage.input > 0 => {
            settle(ctx, Usage { images, ..usage }, UsageSource::Reported);
        }
        // What is no count must not make the input free.
        Some(usage) => settle(ctx, Usage { input: need.input, images, ..usage }, UsageSource::Estimated),
        None => {
            let image_output = images.saturating_mul(need.image_tokens);
            let output = text(&need).saturating_add(image_output);
            let usage = Usage { input: need.input, output, image_output, images, ..Usage::default() };
            settle(ctx, usage, UsageSource::Estimated);
        }
    }
}

/// A stream, to its end or as far as it came.
pub(super) fn stream(ctx: &mut Ctx, stream: &EventStream) {
    let (usage, source) = stream.usage();
    ctx.record.flawed_usage = stream.is_flawed();
    ctx.record.members_dropped = stream.dropped();
    settle(ctx, usage, source);
}

/// A stream that goes on: what it has delivered is written down from time to time, and more is set aside ahead of it.
///
/// # Errors
///
/// [`Exhausted`]
pub(super) fn progress(ctx: &mut Ctx, stream: &EventStream) -> Result<(), Exhausted> {
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
    (usage.images, usage.seconds) = (usage.images.min(need.images), need.seconds);
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
