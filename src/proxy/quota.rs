//! What a call may need, whether it fits, and what is set aside for it: the last steps of admission (spec 4.1, 7.2, 8.2).

use super::Ctx;
use super::admit::Stop;
use super::asked::Asked;
use super::charge::{Charge, Need, Reserved};
use super::offload;
use crate::core::api::{Api, ModelKind};
use crate::core::catalog::Model;
use crate::core::estimate::Learned;
use crate::core::key::Key;
use crate::core::money::Money;
use crate::core::price::Price;
use crate::core::refusal::Refusal;
use crate::core::usage::UsageBounds;
use crate::store::{Refused, Teller};
use crate::wire::endpoint::Call;
use crate::wire::exact::{self, Fit};
use bytes::Bytes;

/// The bound of an answer where neither the client nor the model's configuration has one.
const OUTPUT_UNBOUNDED: u64 = 16_384;

/// What a call may need at most.
pub(super) fn need(model: &Model, learned: &Learned, call: Call, asked: &Asked, stream: bool) -> Need {
    if call.is_free() {
        return Need::nothing(model.tokenizer);
    }
    let estimated = asked.prompt.tokens(model.tokenizer, model.image_tokens);
    let own = asked.places.output_bound(call);
    let unbounded = (!call.can_be_bounded()).then_some(OUTPUT_UNBOUNDED);
    let bounds = own.into_iter().chain(model.output_max).chain(unbounded);
    let bound = bounds.min().unwrap_or(OUTPUT_UNBOUNDED);
    // A completion is made of each prompt of a list.
    let choices = asked.choices.saturating_mul(if call == Call::Completions { asked.prompts } else { 1 });
    let images = if call.makes_images() || model.kind == ModelKind::GeminiImage { asked.choices } else { 0 };
    Need {
        estimated: asked.prompt.text_tokens(model.tokenizer),
        in_context: asked.prompt.text_tokens(model.tokenizer),
        input: learned.expected(estimated),
        reserved_input: learned.reserve(estimated),
        // Vectors and videos are not made of output tokens.
        output: if matches!(call, Call::Embeddings | Call::Video) { 0 } else { bound },
        choices,
        images,
        image_tokens: model.image_tokens.tokens(false),
        bounded: call.can_be_bounded() && !call.makes_images(),
        seconds: if call == Call::Video {
            model.seconds(asked.seconds).saturating_mul(asked.choices)
        } else {
            0
        },
        pictured: estimated > asked.prompt.text_tokens(model.tokenizer),
        stream,
        tokenizer: model.tokenizer,
        bounds: usage_bounds(model, call, own, (inputs(call, asked), choices, images)),
    }
}

/// How many inputs a call has, each of which has a context of its own: texts of a list, or lists of tokens.
fn inputs(call: Call, asked: &Asked) -> u64 {
    match call {
        Call::Embeddings => asked.inputs,
        Call::Completions => asked.prompts,
        _ => 1,
    }
}

/// The most that a call can use: of its model's contexts and bounds, and of its own bound.
fn usage_bounds(
    model: &Model,
    call: Call,
    own: Option<u64>,
    (inputs, choices, images): (u64, u64, u64),
) -> UsageBounds {
    // A channel may have a larger context than its model is said to have.
    let of_channels = model.candidates().filter_map(|candidate| candidate.context_window).max();
    let window = model.context_window.max(of_channels.filter(|_| model.context_window.is_some()));
    let each = match call {
        // Videos are counted in tokens by some, which nothing bounds; a compaction is as long as its upstream makes it.
        Call::Video => None,
        call if call.makes_images() => None,
        _ => own.into_iter().chain(model.output_max).min(),
    };
    let all = |each: u64| each.saturating_mul(choices.max(1));
    UsageBounds::new(window.map(|window| window.saturating_mul(inputs.max(1))), each.map(all), images)
}

/// The same for a call of which nobody knows more than its input, in tokens: one whole answer, and no bound of its own.
pub(super) fn need_of(model: &Model, learned: &Learned, api: Api, input: u64) -> Need {
    Need {
        estimated: input,
        in_context: input,
        input,
        reserved_input: learned.reserve(input),
        output: match api {
            Api::Embeddings | Api::Video => 0,
            _ => model.output_max.unwrap_or(OUTPUT_UNBOUNDED),
        },
        choices: 1,
        images: u64::from(api == Api::Images),
        image_tokens: model.image_tokens.tokens(false),
        bounded: api != Api::Images,
        seconds: if api == Api::Video { model.seconds(None) } else { 0 },
        pictured: false,
        stream: false,
        tokenizer: model.tokenizer,
        bounds: UsageBounds::new(model.context_window, model.output_max, u64::from(api == Api::Images)),
    }
}

/// Refuses what is surely longer than the model's context (spec 2.11); a count of tokens costs nobody anything, so its
/// upstream may say it. Gives the size of the largest input of a batch, where a context is too small for the whole: each
/// input has a context of its own.
///
/// # Errors
///
/// [`Refusal::ContextTooLong`]
///
/// # Cancel safety
///
/// May be dropped; a count under way is finished for nobody.
pub(super) async fn check_context(
    model: &Model,
    call: Call,
    asked: &Asked,
    body: &Bytes,
) -> Result<Option<u64>, Stop> {
    if call.is_free() {
        return Ok(None);
    }
    let (family, max) = (model.tokenizer, model.context_window);
    let of_channels = model.candidates().filter_map(|candidate| candidate.context_window);
    let is_batch = inputs(call, asked) > 1;
    let Some(least) = max.into_iter().chain(of_channels.filter(|_| is_batch)).min() else { return Ok(None) };
    let mut fit = exact::quick(&asked.prompt, family, least);
    let mut largest = None;
    if is_batch && fit != Fit::Fits {
        let member = if call == Call::Embeddings { "input" } else { "prompt" };
        let limit = max.unwrap_or(u64::MAX);
        let found = counted(body, move |body| exact::largest(body, member, family, limit)).await?;
        largest = found.map(|found| found.estimated);
        fit = found.map_or(fit, |found| found.fit);
    }
    if fit == Fit::Undecided && largest.is_none() {
        fit = counted(body, move |body| Some(exact::count(body, family, least))).await?.unwrap_or(fit);
    }
    match (fit, max) {
        (Fit::TooLong(count), Some(max)) => Err(Refusal::ContextTooLong { max, count }.into()),
        // Where no vocabulary can tell, the upstream does.
        _ => Ok(largest),
    }
}

/// Counts a body where it keeps nobody waiting, a few at a time.
async fn counted<T: Send + 'static>(
    body: &Bytes,
    count: impl FnOnce(&str) -> Option<T> + Send + 'static,
) -> Result<Option<T>, Stop> {
    let body = body.clone();
    offload::run(move || count(std::str::from_utf8(&body).ok()?)).await
}

/// Sets the money aside, durably; gives the bound of each answer where the money covers less than the call's own.
///
/// # Errors
///
/// [`Refusal::InsufficientQuota`], or [`Refusal::StoreUnavailable`] if it cannot be written down.
///
/// # Cancel safety
///
/// May be dropped; what was set aside goes back with `ctx`.
pub(super) async fn reserve(
    ctx: &mut Ctx,
    key: &Key,
    model: &Model,
    call: Call,
    need: Need,
) -> Result<Option<u64>, Stop> {
    let Some(price) = charged(key, model).filter(|_| !call.is_free()) else { return Ok(None) };
    let teller = &ctx.shared.teller;
    if !teller.is_well() {
        return Err(Refusal::StoreUnavailable.into());
    }
    let reserved = Charge::reserve(teller, price, (&key.account.id, &key.id), need);
    let Reserved { charge, bound } = reserved.map_err(|refused| match refused {
        Refused::Insufficient => Refusal::InsufficientQuota,
        Refused::Unavailable => Refusal::StoreUnavailable,
    })?;
    let durable = teller.bank().durable();
    ctx.charge = Some(charge);
    durable.await.map_err(|_| Refusal::StoreUnavailable)?;
    Ok(bound)
}

/// Whether the money for a call could be set aside now; changes nothing.
///
/// # Errors
///
/// As of [`reserve`].
pub(super) fn check(teller: &Teller, key: &Key, model: &Model, need: Need) -> Result<(), Refusal> {
    let Some(price) = charged(key, model) else { return Ok(()) };
    let funds = teller.funds(&key.account.id, &key.id).filter(|_| teller.is_well());
    let funds = funds.ok_or(Refusal::StoreUnavailable)?;
    if Charge::is_covered(price, need, funds) { Ok(()) } else { Err(Refusal::InsufficientQuota) }
}

/// Whether an account and a key have anything left to spend; a ledger that cannot be asked says no later.
pub(super) fn has_funds(teller: &Teller, key: &Key) -> bool {
    teller.funds(&key.account.id, &key.id).is_none_or(|(account, key)| {
        let left = key.quota.unwrap_or(Money::MAX).saturating_sub(key.held).saturating_sub(key.spent);
        account.available.min(left) > Money::ZERO
    })
}

/// What a call of a model is charged by; `None` if it costs this key nothing.
pub(super) fn charged(key: &Key, model: &Model) -> Option<Price> {
    model.price.filter(|price| key.account.prepaid && !price.is_free())
}
