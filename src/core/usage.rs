//! Token usage of one call, in the parts that are counted and priced apart.

/// Tokens of one finished call (spec 7.1). `cached` and `cache_write` are parts of `input`, `reasoning` is a part of
/// `output`; a provider that reports them apart is normalised before it gets here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Input tokens that were read from the provider's cache.
    pub cached: u64,
    /// Input tokens that were written to the provider's cache.
    pub cache_write: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// These figures with later ones of the same answer: what was reported last counts, and what was not stays.
    #[must_use]
    pub fn merged(self, later: Self) -> Self {
        let last = |before: u64, after: u64| if after == 0 { before } else { after };
        Self {
            input: last(self.input, later.input),
            output: last(self.output, later.output),
            cached: last(self.cached, later.cached),
            cache_write: last(self.cache_write, later.cache_write),
            reasoning: last(self.reasoning, later.reasoning),
        }
    }
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
