//! Token usage of one call, in the parts that are counted and priced apart.

/// Tokens of one finished call (spec 7.1), and what else of it is priced.
///
/// A part never adds to its whole: a provider that reports them apart is normalised before it gets here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All input tokens: fresh, read from a cache and written to one.
    pub input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Input tokens that were read from the provider's cache.
    pub cached: u64,
    /// Input tokens that were written to the provider's cache, for whatever time.
    pub cache_write: u64,
    /// Of those, the ones that were written for an hour.
    pub cache_write_1h: u64,
    /// Input tokens that stand for images.
    pub image_input: u64,
    /// Output tokens that stand for images.
    pub image_output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
    /// Images made.
    pub images: u64,
    /// Seconds of video made.
    pub seconds: u64,
}

/// Where the figures of a [`Usage`] come from: reports of the upstream, or a count of what was delivered (spec 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageSource {
    /// The upstream reported all of them.
    Reported,
    /// The input was estimated, the output reported.
    InputEstimated,
    /// The input was reported, the output counted, in part at least.
    OutputEstimated,
    /// Both were estimated.
    Estimated,
}

impl UsageSource {
    /// The source of figures of which these sides were reported.
    #[must_use]
    pub fn of(input_reported: bool, output_reported: bool) -> Self {
        match (input_reported, output_reported) {
            (true, true) => Self::Reported,
            (false, true) => Self::InputEstimated,
            (true, false) => Self::OutputEstimated,
            (false, false) => Self::Estimated,
        }
    }

    /// Whether the input was estimated.
    #[must_use]
    pub fn input_is_estimated(self) -> bool {
        matches!(self, Self::InputEstimated | Self::Estimated)
    }

    /// Whether the output was counted, in part at least.
    #[must_use]
    pub fn output_is_estimated(self) -> bool {
        matches!(self, Self::OutputEstimated | Self::Estimated)
    }

    /// The word used in logs and metrics for the whole: estimated if any side is.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        word(self != Self::Reported)
    }

    /// The words for input and output.
    #[must_use]
    pub fn sides(self) -> (&'static str, &'static str) {
        (word(self.input_is_estimated()), word(self.output_is_estimated()))
    }
}

fn word(estimated: bool) -> &'static str {
    if estimated { "estimated" } else { "reported" }
}

/// The most that one call can use, by its model and its request: beyond it a report is an upstream's bug, which no account
/// and no limit pays for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageBounds {
    /// Input tokens, tolerance included.
    pub input: u64,
    /// Output tokens besides those of images, tolerance included.
    pub output: u64,
    /// Output tokens of images.
    pub image_output: u64,
    /// Output tokens, counted by what was delivered, beyond which an answer is broken off; wider, since counts err.
    pub delivered: u64,
}

/// A side of a [`Usage`] beyond its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Excess {
    /// The input is.
    pub input: bool,
    /// The output is.
    pub output: bool,
}

impl UsageBounds {
    /// The window of a model that lists none, in tokens; no model has a larger one.
    pub const WINDOW: u64 = 2_097_152;
    /// A report may exceed a bound by one part in so many, and by [`Self::MORE`].
    pub const PART: u64 = 10;
    /// Tokens by which a report may exceed a bound besides.
    pub const MORE: u64 = 1_024;
    /// What was delivered may be twice the bound by count, and so many tokens more.
    pub const DELIVERED_MORE: u64 = 1_024;
    /// Output tokens of an image; three times what any provider makes of one.
    pub const IMAGE: u64 = 65_536;

    /// The bounds of a call to a model with this window (or unknown) with answers of so many tokens in all (or unknown),
    /// and so many images.
    #[must_use]
    pub fn new(window: Option<u64>, output: Option<u64>, images: u64) -> Self {
        let window = window.unwrap_or(Self::WINDOW);
        let tolerant = |bound: u64| bound.saturating_add(bound / Self::PART).saturating_add(Self::MORE);
        let delivered = |output: u64| output.saturating_mul(2).saturating_add(Self::DELIVERED_MORE);
        Self {
            input: tolerant(window),
            output: tolerant(output.unwrap_or(window.max(Self::WINDOW))),
            image_output: images.max(1).saturating_mul(Self::IMAGE),
            delivered: output.map_or(u64::MAX, delivered),
        }
    }

    /// The sides of a usage that cannot be.
    #[must_use]
    pub fn exceeded_by(&self, usage: &Usage) -> Excess {
        let images = usage.image_output.min(usage.output);
        Excess {
            input: usage.input > self.input,
            output: usage.output - images > self.output || images > self.image_output,
        }
    }

    /// A usage with the sides that cannot be as they were counted, within the bounds.
    #[must_use]
    pub fn corrected(&self, usage: &Usage, excess: Excess, counted: &Usage) -> Usage {
        let mut usage = *usage;
        if excess.input {
            let input = counted.input.min(self.input);
            let kept = Usage { input, cached: 0, cache_write: 0, cache_write_1h: 0, image_input: 0, ..usage };
            usage = kept;
        }
        if excess.output {
            usage.image_output = counted.image_output.min(self.image_output);
            let text = counted.output.saturating_sub(counted.image_output).min(self.output);
            usage.output = text.saturating_add(usage.image_output);
            usage.reasoning = usage.reasoning.min(usage.output);
        }
        usage
    }
}

impl Excess {
    /// Whether any side is beyond its bound.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.input || self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a report beyond window, bound or images, with their tolerance, is an excess of that side alone, which becomes
    /// what was counted; what is within the tolerance stays as reported.
    #[test]
    fn what_cannot_be_is_replaced_by_the_count() {
        let bounds = UsageBounds::new(Some(200_000), Some(10), 0);
        let counted = Usage { input: 8, output: 3, ..Usage::default() };
        for (input, output, expected) in [
            (220_000, 11, (220_000, 11)),
            (300_000, 11, (8, 11)),
            (15, 100_000, (15, 3)),
            (1_000_000_000_000, 1_000_000_000_000, (8, 3)),
        ] {
            let usage = Usage { input, output, cached: input, reasoning: output, ..Usage::default() };
            let excess = bounds.exceeded_by(&usage);
            let corrected = bounds.corrected(&usage, excess, &counted);
            assert_eq!((corrected.input, corrected.output), expected);
            assert!(corrected.cached <= corrected.input && corrected.reasoning <= corrected.output);
            assert_eq!(excess.is_any(), (input, output) != expected);
        }
        let unknown = UsageBounds::new(None, None, 0);
        assert!(unknown.exceeded_by(&Usage { input: 1 << 40, ..counted }).input);
        assert!(!unknown.exceeded_by(&Usage { input: 1_500_000, output: 300_000, ..counted }).is_any());
        assert_eq!(unknown.delivered, u64::MAX);
        let image = Usage { output: 6_240, image_output: 6_240, ..counted };
        assert!(!bounds.exceeded_by(&image).is_any());
        assert!(bounds.exceeded_by(&Usage { output: 70_000, image_output: 70_000, ..counted }).output);
    }
}
