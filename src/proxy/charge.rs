//! What a call is charged: set aside before the first upstream byte, extended while a stream runs, settled once (spec 8).
//!
//! The money set aside is a guard: whatever drops the request settles it at what had been delivered, which is nothing
//! before there was content.

use crate::core::estimate::Family;
use crate::core::ledger::{AccountFunds, Ask, KeyFunds, ReservationId, Settled};
use crate::core::money::Money;
use crate::core::price::Price;
use crate::core::usage::{Usage, UsageBounds};
use crate::store::{Refused, Teller};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Output tokens that are counted before a call (spec 6.4), that a stream sets aside at first, and by which it goes on
/// (decisions, Money).
const BLOCK: u64 = 4_096;
/// An answer that is cut to fewer tokens than this for want of money is refused instead.
const LEAST: u64 = 256;
/// How often what has been delivered is written down while a stream runs.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// What a call may need at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// Its text as estimated by the tokenizer alone.
    pub(super) estimated: u64,
    /// The part of that which has to fit a context: all of it, or the largest input of a batch.
    pub(super) in_context: u64,
    /// Its input as expected, in tokens.
    pub(super) input: u64,
    /// Its input with a margin for what an estimate errs.
    pub(super) reserved_input: u64,
    /// Whether there are images or files in it, so that its input says nothing about estimates.
    pub(super) pictured: bool,
    /// The bound of each answer, in tokens.
    pub(super) output: u64,
    /// How many answers.
    pub(super) choices: u64,
    /// Images that are to be made.
    pub(super) images: u64,
    /// Seconds of video that are to be made.
    pub(super) seconds: u64,
    /// Output tokens that an image is taken for, where nobody reports them.
    pub(super) image_tokens: u64,
    /// Whether an answer can be bounded in tokens, or broken off; an image is whole or none.
    pub(super) bounded: bool,
    /// Whether the answer is a stream.
    pub(super) stream: bool,
    /// The tokenizer by which its text is counted.
    pub(super) tokenizer: Family,
    /// The most that it can use; nobody pays for more.
    pub(super) bounds: UsageBounds,
}

impl Need {
    /// Of a call that makes nothing.
    pub(super) fn nothing(tokenizer: Family) -> Self {
        Self {
            estimated: 0,
            in_context: 0,
            input: 0,
            reserved_input: 0,
            pictured: false,
            output: 0,
            choices: 1,
            images: 0,
            seconds: 0,
            image_tokens: 0,
            bounded: true,
            stream: false,
            tokenizer,
            bounds: UsageBounds::new(None, None, 0),
        }
    }

    /// Output tokens that count against tokens per minute before the call (spec 6.4).
    pub(super) fn output_ahead(&self) -> u64 {
        self.output.min(BLOCK)
    }

    /// All tokens that count against tokens per minute before the call.
    pub(super) fn tokens_ahead(&self) -> u64 {
        self.input.saturating_add(self.output_ahead())
    }
}

/// The money of one call.
pub(super) struct Charge {
    teller: Arc<Teller>,
    price: Price,
    id: ReservationId,
    input: u64,
    /// Output tokens that what is set aside covers, over all answers, and that there may be at most.
    covered: u64,
    bound: u64,
    /// What has been delivered so far would cost this.
    delivered: Money,
    checkpoint: Instant,
    settled: bool,
}

/// The balance does not cover how a stream goes on.
pub(super) struct Exhausted;

/// What is set aside for a call.
pub(super) struct Reserved {
    /// The guard.
    pub(super) charge: Charge,
    /// The bound of each answer that the money covers, where it is less than the call's own; a call that cannot be bounded
    /// has none, for it is covered whole or refused.
    pub(super) bound: Option<u64>,
}

impl Charge {
    /// Sets aside what a call needs at most, or as much as there is if that is enough for a sensible answer. It counts
    /// from [`crate::store::Bank::durable`] on.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the balance or the key's quota does not cover it, or it cannot be written; nothing is taken then.
    pub(super) fn reserve(
        teller: &Arc<Teller>,
        price: Price,
        (account, key): (&str, &str),
        need: Need,
    ) -> Result<Reserved, Refused> {
        let input = need.reserved_input;
        let fixed = fixed_cost(&price, need);
        let cost = |output| cost(&price, need, output);
        let first = if need.stream && need.bounded { need.output.min(BLOCK) } else { need.output };
        let ask = Ask {
            account,
            key,
            least: least(&price, need),
            most: cost(first),
            price_version: price.version(),
            process: teller.bank().process(),
        };
        let (id, granted) = teller.reserve(&ask)?;
        let affordable = price.affordable_output(input, granted.saturating_sub(fixed)) / need.choices.max(1);
        let each = affordable.min(first);
        let charge = Self {
            teller: Arc::clone(teller),
            price,
            id,
            input,
            covered: each.saturating_mul(need.choices),
            bound: need.output.saturating_mul(need.choices),
            delivered: Money::ZERO,
            checkpoint: Instant::now(),
            settled: false,
        };
        Ok(Reserved { charge, bound: (!need.stream && each < need.output).then_some(each) })
    }

    /// Whether what an account and a key have is enough for a call to be made.
    pub(super) fn is_covered(price: Price, need: Need, (account, key): (AccountFunds, KeyFunds)) -> bool {
        let left = key.quota.unwrap_or(Money::MAX).saturating_sub(key.held).saturating_sub(key.spent);
        let room = account.available.min(left).max(Money::ZERO);
        room >= least(&price, need)
    }

    /// Notes what a stream has delivered; writes it down from time to time, and sets more aside before it is needed.
    ///
    /// # Errors
    ///
    /// [`Exhausted`], only once all that is set aside has been delivered.
    pub(super) fn progress(&mut self, delivered: &Usage) -> Result<(), Exhausted> {
        self.delivered = self.price.cost(delivered);
        if self.checkpoint.elapsed() >= CHECKPOINT_EVERY {
            self.checkpoint = Instant::now();
            self.teller.checkpoint(self.id, self.delivered);
        }
        // Half a block ahead, since what arrives is counted after it has arrived.
        let soon = delivered.output.saturating_add(BLOCK / 2).min(self.bound);
        while self.covered < soon {
            let block = BLOCK.min(self.bound - self.covered);
            let more = self.price.output_cost(self.input, block);
            let extended = self.teller.extend(self.id, more);
            if !extended && delivered.output >= self.covered {
                return Err(Exhausted);
            }
            if !extended {
                break;
            }
            self.covered += block;
        }
        Ok(())
    }

    /// Settles the call at what this usage costs; `None` if that has been done.
    pub(super) fn settle(&mut self, usage: &Usage) -> Option<Settled> {
        self.settle_at(self.price.cost(usage))
    }

    fn settle_at(&mut self, cost: Money) -> Option<Settled> {
        if std::mem::replace(&mut self.settled, true) {
            return None;
        }
        self.teller.settle(self.id, cost)
    }
}

/// What a call costs whatever is answered.
fn fixed_cost(price: &Price, need: Need) -> Money {
    price.input_cost(need.reserved_input).saturating_add(price.unit_cost(need.images, need.seconds))
}

/// What a call costs with answers of so many tokens each.
fn cost(price: &Price, need: Need, output: u64) -> Money {
    let output = output.saturating_mul(need.choices);
    fixed_cost(price, need).saturating_add(price.output_cost(need.reserved_input, output))
}

/// What has to be there for a call to be made.
fn least(price: &Price, need: Need) -> Money {
    // What cannot be bounded is whole or none.
    cost(price, need, if need.bounded { need.output.min(LEAST) } else { need.output })
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.settle_at(self.delivered);
    }
}
