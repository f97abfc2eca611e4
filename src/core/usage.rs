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

/// Where the figures of a [`Usage`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageSource {
    /// The upstream reported them.
    Reported,
    /// Counted from what was delivered, because the upstream reported nothing.
    Estimated,
}

impl UsageSource {
    /// The word used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
        }
    }
}
