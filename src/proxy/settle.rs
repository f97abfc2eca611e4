//! What a call is held to have used, once: tokens per minute are corrected, its money is settled, estimates learn from it
//! (spec 6.4, 7.1, 8.2, 8.3).
//!
//! It happens before the last byte goes out, so that the next read of the balance shows it. Reported usage is the truth, by
//! the rules of [`crate::wire::usage`]; without it, what was delivered is counted, and instead of it where it is more than
//! the call can have used ([`UsageBounds`](crate::core::usage::UsageBounds)). A call that delivered nothing never comes
//! here, and costs nothing.

use super::Ctx;
use super::charge::{Exhausted, Need};
use crate::core::usage::{Excess, Usage, UsageSource};
use crate::wire::delivered;
use crate::wire::stream::EventStream;
use crate::wire::usage::{self, Counted, Reading};
use crate::wire::video;

/// Bytes that are taken for a token where an answer is too large to be looked at.
const TOKEN_BYTES: u64 = 4;

/// A whole answer, and its `usage` member as it stands.
pub(super) fn whole(ctx: &mut Ctx, reported: Option<&[u8]>, body: &[u8]) {
    note_seconds(ctx, || video::seconds_made(reported, Some(body)));
    let pictured = ctx.need.is_some_and(|need| need.images > 0);
    let images = if pictured { delivered::images_in(body) } else { 0 };
    let reading = usage::read_answer(reported, body);
    as_reported(ctx, reading, images, |need| need.tokenizer.tokens(&delivered::text_of(body)));
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
    as_reported(ctx, reported.map(usage::read).unwrap_or_default(), items.unwrap_or(asked), text);
}

/// Settles at what is reported; what is not, at the expected input and the images and the text that were delivered.
fn as_reported(ctx: &mut Ctx, reading: Reading, images: u64, text: impl FnOnce(&Need) -> u64) {
    let Some(need) = ctx.need else { return };
    // Nobody pays for more than was asked for.
    let images = images.min(need.images);
    let image_output = images.saturating_mul(need.image_tokens);
    let no_output = need.output == 0;
    // Counting is left out where both sides are reported and possible, which they nearly always are.
    let told = reading.usage.filter(|usage| usage.input > 0 && usage.output > 0);
    let told = told
        .filter(|usage| reading.has_input && reading.has_output && !need.bounds.exceeded_by(usage).is_any());
    let counted = match told {
        Some(_) => Counted::default(),
        None if no_output => Counted { input: need.input, no_output, ..Counted::default() },
        None => {
            let output = text(&need).saturating_add(image_output);
            Counted { input: need.input, output, image_output, ..Counted::default() }
        }
    };
    ctx.record.flawed_usage = reading.flawed;
    let (usage, source) = reading.resolve(&counted);
    let by_count = Usage { input: need.input, output: counted.output, image_output, ..Usage::default() };
    settle(ctx, Usage { images, ..usage }, source, || by_count);
}

/// A stream, to its end or as far as it came.
pub(super) fn stream(ctx: &mut Ctx, stream: &EventStream) {
    let (usage, source) = stream.usage();
    ctx.record.flawed_usage = stream.is_flawed();
    ctx.record.members_dropped = stream.dropped();
    settle(ctx, usage, source, || stream.counted());
}

/// Why a stream may not go on.
pub(super) enum Halt {
    /// The balance does not cover it.
    Exhausted,
    /// It has delivered more than its model and its request allow.
    OverBound,
}

/// A stream that goes on: what it has delivered is written down from time to time, and more is set aside ahead of it.
///
/// # Errors
///
/// [`Halt`]
pub(super) fn progress(ctx: &mut Ctx, stream: &EventStream) -> Result<(), Halt> {
    let Some(need) = ctx.need else { return Ok(()) };
    let over = stream.delivered_bytes() > need.bounds.delivered && {
        let counted = stream.counted();
        counted.output - counted.image_output.min(counted.output) > need.bounds.delivered
    };
    if let Some(charge) = &mut ctx.charge {
        let usage = stream.usage().0;
        let excess = need.bounds.exceeded_by(&usage);
        let usage = match excess.is_any() {
            true => need.bounds.corrected(&usage, excess, &stream.counted()),
            false => usage,
        };
        charge.progress(&usage).map_err(|Exhausted| Halt::Exhausted)?;
    }
    if over { Err(Halt::OverBound) } else { Ok(()) }
}

/// A stream that was ended because it delivered more than it may: flagged, whatever its upstream reported.
pub(super) fn over_bound(ctx: &mut Ctx, stream: &EventStream) {
    self::stream(ctx, stream);
    let (usage, _) = stream.usage();
    let flagged = Excess { output: true, ..Excess::default() };
    ctx.record.excess = ctx.record.excess.or(Some((flagged, usage.input, usage.output)));
}

/// The seconds of a video are those that the answer says, else those that were asked for.
fn note_seconds(ctx: &mut Ctx, made: impl FnOnce() -> Option<u64>) {
    if let Some(need) = ctx.need.as_mut().filter(|need| need.seconds > 0) {
        need.seconds = made().unwrap_or(need.seconds);
    }
}

fn settle(ctx: &mut Ctx, mut usage: Usage, mut source: UsageSource, counted: impl FnOnce() -> Usage) {
    let Some(need) = ctx.need.take() else { return };
    (usage.images, usage.seconds) = (usage.images.min(need.images), need.seconds);
    let excess = need.bounds.exceeded_by(&usage);
    if excess.is_any() {
        ctx.record.excess = Some((excess, usage.input, usage.output));
        usage = need.bounds.corrected(&usage, excess, &counted());
        let input_reported = !source.input_is_estimated() && !excess.input;
        source = UsageSource::of(input_reported, !source.output_is_estimated() && !excess.output);
    }
    ctx.record.usage = Some((usage, source));
    if let Some(admission) = &mut ctx.admission {
        admission.correct(usage.input.saturating_add(usage.output), ctx.shared.clock.nanos());
    }
    if let Some(settled) = ctx.charge.as_mut().and_then(|charge| charge.settle(&usage)) {
        ctx.record.cost = Some(settled.charged);
        ctx.record.uncollected = settled.uncollected;
    }
    if let (Some(model), false, false) = (ctx.record.model, source.input_is_estimated(), need.pictured) {
        ctx.generation.learned(model).record(need.estimated, usage.input);
    }
}
