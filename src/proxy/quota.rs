//! What a call may need, whether it fits, and what is set aside for it: the last steps of admission (spec 4.1, 7.2, 8.2).

use super::Ctx;
use super::admit::Stop;
use super::asked::Asked;
use super::charge::{Charge, Need, Reserved};
use crate::core::api::{Api, ModelKind};
use crate::core::catalog::Model;
use crate::core::estimate::Learned;
use crate::core::key::Key;
use crate::core::price::Price;
use crate::core::refusal::{Failure, Refusal};
use crate::store::{Refused, Teller};
use crate::wire::endpoint::Call;
use crate::wire::exact::{self, Fit};
use bytes::Bytes;
use once_cell::sync::Lazy;
use tokio::sync::Semaphore;

/// The bound of an answer where neither the client nor the model's configuration has one.
const OUTPUT_UNBOUNDED: u64 = 16_384;
/// Bodies that may be counted at the same time: counting takes a processor for milliseconds each.
static COUNTING: Lazy<Semaphore> = Lazy::new(|| Semaphore::new(2));

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
    Need {
        estimated: asked.prompt.text_tokens(model.tokenizer),
        input: learned.expected(estimated),
        reserved_input: learned.reserve(estimated),
        // Vectors and videos are not made of output tokens.
        output: if matches!(call, Call::Embeddings | Call::Video) { 0 } else { bound },
        // A completion is made of each prompt of a list.
        choices: asked.choices.saturating_mul(if call == Call::Completions { asked.prompts } else { 1 }),
        images: if call.makes_images() || model.kind == ModelKind::GeminiImage { asked.choices } else { 0 },
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
    }
}

/// The same for a call of which nobody knows more than its input, in tokens: one whole answer, and no bound of its own.
pub(super) fn need_of(model: &Model, learned: &Learned, api: Api, input: u64) -> Need {
    Need {
        estimated: input,
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
    }
}

/// Refuses what is surely longer than the model's context (spec 2.11); a count of tokens costs nobody anything, so its
/// upstream may say it.
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
) -> Result<(), Stop> {
    let Some(max) = model.context_window.filter(|_| !call.is_free()) else { return Ok(()) };
    let family = model.tokenizer;
    let fit = match exact::quick(&asked.prompt, family, max) {
        Fit::Undecided => {
            let _turn = COUNTING.acquire().await;
            let body = body.clone();
            let count = move || {
                std::str::from_utf8(&body).map_or(Fit::Undecided, |body| exact::count(body, family, max))
            };
            let counted = tokio::task::spawn_blocking(count).await;
            counted.map_err(|_| Stop::Failure(Failure::Internal))?
        }
        decided => decided,
    };
    match fit {
        Fit::TooLong(count) => Err(Refusal::ContextTooLong { max, count }.into()),
        // Where no vocabulary can tell, the upstream does.
        Fit::Fits | Fit::Undecided => Ok(()),
    }
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

/// What a call of a model is charged by; `None` if it costs this key nothing.
fn charged(key: &Key, model: &Model) -> Option<Price> {
    model.price.filter(|price| key.account.prepaid && !price.is_free())
}
