//! What a call costs (spec 8.1): rates per token, prices per unit, and the rule for long contexts.
//!
//! Rates are pico-dollars per token and multipliers are millionths, so a product is a whole number of atto-dollars. It
//! is added up in 128 bits and rounded up once for a request, to a nano-dollar. Nothing wraps: twice 2^64 tokens at the
//! largest rate and multiplier stay below 2^125, and a cost beyond [`Money::MAX`] is that. More tokens never cost less.

use super::money::{Money, parse_decimal};
use super::usage::Usage;

/// Atto-dollars in a nano-dollar.
const NANO: u128 = 1_000_000_000;
/// Ten thousand dollars for a million tokens.
const RATE_MAX: u64 = 10_000_000_000;
/// Digits behind the point of a rate, and of a multiplier.
const DIGITS: usize = 6;
/// Millionths in one.
const ONE: u64 = 1_000_000;
const MULTIPLIER_MAX: u64 = 100 * ONE;
/// Amounts that a price has, besides its rule for long contexts.
const PRICES: usize = 10;

/// A price per token, in pico-dollars; the same number is millionths of a dollar per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(u64);

impl Rate {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A decimal number of dollars per million tokens, as `1.25`: at most 10,000, at most six digits behind the point.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rate = u64::try_from(parse_decimal(text, DIGITS)?).ok()?;
        (rate <= RATE_MAX).then_some(Self(rate))
    }

    /// In pico-dollars per token.
    #[must_use]
    pub const fn picos(self) -> u64 {
        self.0
    }

    /// In atto-dollars per token.
    fn times(self, multiplier: Multiplier) -> u128 {
        u128::from(self.0) * u128::from(multiplier.0)
    }
}

/// By how much a long context is dearer, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier(u64);

impl Multiplier {
    /// No dearer.
    pub const ONE: Self = Self(ONE);
    const ONE_AND_A_HALF: Self = Self(ONE + ONE / 2);
    const TWO: Self = Self(2 * ONE);

    /// A decimal number from 1 to 100, as `1.5`. Below one a longer request would cost less than a shorter one, and no
    /// reservation would be a bound.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let millionths = u64::try_from(parse_decimal(text, DIGITS)?).ok()?;
        (ONE..=MULTIPLIER_MAX).contains(&millionths).then_some(Self(millionths))
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u64 {
        self.0
    }
}

/// The multipliers for a whole request whose input is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongContext {
    /// The least total input, cached tokens included, to which they apply.
    pub from: u64,
    /// For input that has nothing to do with a cache, images included.
    pub input: Multiplier,
    /// For output, images included.
    pub output: Multiplier,
    /// For what a cache read, and for what was written to it: both are rates of the cache, not of plain input.
    pub cache: Multiplier,
}

impl LongContext {
    const NEVER: Self =
        Self { from: u64::MAX, input: Multiplier::ONE, output: Multiplier::ONE, cache: Multiplier::ONE };
}

/// A price as an operator lists it, where most members may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listed {
    /// Input tokens.
    pub input: Rate,
    /// Output tokens.
    pub output: Rate,
    /// Input tokens read from a cache; else as input.
    pub cache_read: Option<Rate>,
    /// Input tokens written to a cache for five minutes; else as input.
    pub cache_write_5m: Option<Rate>,
    /// Input tokens written to a cache for an hour; else as for five minutes.
    pub cache_write_1h: Option<Rate>,
    /// Input tokens of images; else as input.
    pub image_input: Option<Rate>,
    /// Output tokens of images; else as output.
    pub image_output: Option<Rate>,
    /// A request; else nothing.
    pub request: Option<Money>,
    /// An image made; else nothing.
    pub image: Option<Money>,
    /// A second of video made; else nothing.
    pub second: Option<Money>,
    /// What holds for long contexts.
    pub long_context: Option<LongContext>,
}

/// The whole price of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Input tokens that have nothing to do with a cache or an image.
    pub input: Rate,
    /// Output tokens of text, reasoning included.
    pub output: Rate,
    /// Input tokens read from a cache.
    pub cache_read: Rate,
    /// Input tokens written to a cache for five minutes.
    pub cache_write_5m: Rate,
    /// Input tokens written to a cache for an hour.
    pub cache_write_1h: Rate,
    /// Input tokens of images.
    pub image_input: Rate,
    /// Output tokens of images.
    pub image_output: Rate,
    /// A request.
    pub request: Money,
    /// An image made.
    pub image: Money,
    /// A second of video made.
    pub second: Money,
    /// What holds for long contexts.
    pub long_context: Option<LongContext>,
}

impl From<Listed> for Price {
    fn from(listed: Listed) -> Self {
        let cache_write_5m = listed.cache_write_5m.unwrap_or(listed.input);
        Self {
            input: listed.input,
            output: listed.output,
            cache_read: listed.cache_read.unwrap_or(listed.input),
            cache_write_5m,
            cache_write_1h: listed.cache_write_1h.unwrap_or(cache_write_5m),
            image_input: listed.image_input.unwrap_or(listed.input),
            image_output: listed.image_output.unwrap_or(listed.output),
            request: listed.request.unwrap_or_default(),
            image: listed.image.unwrap_or_default(),
            second: listed.second.unwrap_or_default(),
            long_context: listed.long_context,
        }
    }
}

impl Price {
    /// What this usage costs. A part that exceeds its whole counts no further than the whole.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Money {
        let long = self.multipliers(usage.input);
        let mut rest = usage.input;
        let mut take = |part: u64| {
            let taken = part.min(rest);
            rest -= taken;
            taken
        };
        let (cached, written, image) = (take(usage.cached), take(usage.cache_write), take(usage.image_input));
        let hour = usage.cache_write_1h.min(written);
        let image_output = usage.image_output.min(usage.output);
        let tokens = [
            (rest, self.input.times(long.input)),
            (image, self.image_input.times(long.input)),
            (cached, self.cache_read.times(long.cache)),
            (written - hour, self.cache_write_5m.times(long.cache)),
            (hour, self.cache_write_1h.times(long.cache)),
            (usage.output - image_output, self.output.times(long.output)),
            (image_output, self.image_output.times(long.output)),
        ];
        let attos =
            tokens.iter().fold(0u128, |sum, (count, rate)| sum.saturating_add(product(*count, *rate)));
        money(attos.div_ceil(NANO).saturating_add(self.units(usage.images, usage.seconds)))
    }

    /// The most that an input of up to so many tokens costs, whatever a cache does with it and whatever is an image.
    #[must_use]
    pub fn input_cost(&self, tokens: u64) -> Money {
        let long = self.multipliers(tokens);
        let plain = self.input.max(self.image_input).times(long.input);
        let cache = self.cache_read.max(self.cache_write_5m).max(self.cache_write_1h).times(long.cache);
        money(product(tokens, plain.max(cache)).div_ceil(NANO))
    }

    /// The most that so many output tokens cost after an input of up to `total_input`.
    #[must_use]
    pub fn output_cost(&self, total_input: u64, tokens: u64) -> Money {
        money(product(tokens, self.output_rate(total_input)).div_ceil(NANO))
    }

    /// What a request costs besides tokens: its own price, and that of what it makes.
    #[must_use]
    pub fn unit_cost(&self, images: u64, seconds: u64) -> Money {
        money(self.units(images, seconds))
    }

    /// The most output tokens that this money surely covers after an input of up to `total_input`; the input, and what
    /// is not a token, are to be paid from other money.
    #[must_use]
    pub fn affordable_output(&self, total_input: u64, money: Money) -> u64 {
        let Ok(nanos) = u128::try_from(money.nanos()) else { return 0 };
        let tokens = nanos.saturating_mul(NANO).checked_div(self.output_rate(total_input));
        tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(u64::MAX)
    }

    /// Whether nothing costs anything.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.numbers().iter().take(PRICES).all(|price| *price == 0)
    }

    /// A digest of the price: the same for prices that are the same, in every build and on every machine.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.numbers()
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
    }

    /// The numbers that make the price, always in this order; the first [`PRICES`] are amounts.
    fn numbers(&self) -> [u64; 14] {
        let long = self.long_context.unwrap_or(LongContext::NEVER);
        [
            self.input.0,
            self.output.0,
            self.cache_read.0,
            self.cache_write_5m.0,
            self.cache_write_1h.0,
            self.image_input.0,
            self.image_output.0,
            self.request.nanos().cast_unsigned(),
            self.image.nanos().cast_unsigned(),
            self.second.nanos().cast_unsigned(),
            long.from,
            long.input.0,
            long.output.0,
            long.cache.0,
        ]
    }

    /// What holds at this total input.
    fn multipliers(&self, total_input: u64) -> LongContext {
        self.long_context.filter(|long| total_input >= long.from).unwrap_or(LongContext::NEVER)
    }

    /// The dearest rate of output, in atto-dollars.
    fn output_rate(&self, total_input: u64) -> u128 {
        self.output.max(self.image_output).times(self.multipliers(total_input).output)
    }

    /// What costs money and is no token, in nano-dollars.
    fn units(&self, images: u64, seconds: u64) -> u128 {
        let nanos = |price: Money| u128::try_from(price.nanos()).unwrap_or(0);
        nanos(self.request)
            .saturating_add(product(images, nanos(self.image)))
            .saturating_add(product(seconds, nanos(self.second)))
    }
}

/// The constants of FNV-1a with 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn product(count: u64, each: u128) -> u128 {
    each.saturating_mul(u128::from(count))
}

fn money(nanos: u128) -> Money {
    i64::try_from(nanos).map_or(Money::MAX, Money::from_nanos)
}

/// The rule that the providers of these models apply to long contexts, for a price that lists none (spec 8.1).
#[must_use]
pub fn default_long_context(model_id: &str) -> Option<LongContext> {
    use Multiplier as M;
    let (provider, name) = model_id.split_once('/')?;
    let is_pro = || name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "pro");
    let (from, output) = match provider {
        "openai" if name.starts_with("gpt-") || name.starts_with('o') => (272_000, M::ONE_AND_A_HALF),
        "google" if name.starts_with("gemini-") && is_pro() => (200_000, M::ONE_AND_A_HALF),
        // "Above 200,000", where the others say "from".
        "xai" | "x-ai" if name.starts_with("grok") => (200_001, M::TWO),
        _ => return None,
    };
    Some(LongContext { from, input: M::TWO, output, cache: M::TWO })
}

#[cfg(test)]
#[path = "price_tests.rs"]
mod tests;
