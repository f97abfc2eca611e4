//! How many series there can be at most (spec 13.2), whatever clients send.
//!
//! The bound is linear in models and channels, with one term for each pair of them and one for credentials. It takes every word that the code can
//! say for one that is said, so a gateway has a small part of it; what matters is that nobody outside can add to it.

use super::metrics::{GATE_BUCKETS, OVERHEAD_BUCKETS};
use super::{connections, gen_ai, health, money, process};
use crate::wire::error::CATALOGUE;
use std::fmt;

/// Routes that are calls of a model.
const CALLS: usize = 10;
/// Routes besides: the models, one model, the balance, the health path, preflights, and `other`.
const OTHER_ROUTES: usize = 6;
/// Classes of upstream failures.
const CLASSES: usize = 15;
/// What may come of an attempt besides: success, and that it was abandoned.
const OUTCOMES: usize = CLASSES + 2;
/// Public statuses that one class can become.
const STATUSES_OF_CLASS: usize = 4;
/// Reasons for which the gateway itself refuses, each at its stage.
const REFUSALS: usize = 60;
/// Kinds of tokens.
const TOKENS: usize = 4;
/// Ends of streams, and outcomes of second attempts beside a slow one.
const ENDS: usize = 6 + 4;
/// Families without labels, and the version.
const SINGLE: usize = 13;
/// Labels of models that are none: `other` and `removed`.
const NO_MODELS: usize = 2;

/// Pairs of status and code: each error with its own status, inside a stream with 200, and with 0 where the client left
/// before it was sent; besides these two kinds of success, and nothing at all.
const fn answers() -> usize {
    3 * CATALOGUE.len() + 3
}

/// The buckets of a histogram, the infinite one, the sum and the count.
const fn histogram(buckets: usize) -> usize {
    buckets + 3
}

/// The bound, in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Series that are there without models and channels.
    pub fixed: usize,
    /// Series of each model.
    pub model: usize,
    /// Series of each channel.
    pub channel: usize,
    /// Series of each credential of a channel.
    pub credential: usize,
    /// Series of each pair of a model and a channel that serves it.
    pub pair: usize,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fixed, model, channel, credential, pair } = self;
        write!(
            f,
            "{fixed} + {model} × models + {channel} × channels + {credential} × credentials \
             + {pair} × models × channels"
        )
    }
}

/// The bound of this version.
#[must_use]
pub const fn bound() -> Bound {
    Bound {
        fixed: (CALLS * NO_MODELS + OTHER_ROUTES) * answers()
            + CLASSES * STATUSES_OF_CLASS
            + REFUSALS
            + ENDS
            + SINGLE
            + connections::SERIES
            + money::SERIES
            + process::SERIES
            + histogram(OVERHEAD_BUCKETS.len())
            + histogram(GATE_BUCKETS.len()),
        // The one is the gauge of what is under way.
        model: CALLS * (answers() + gen_ai::SERIES) + 1 + money::SERIES_OF_MODEL,
        channel: OUTCOMES + 2 + health::SERIES,
        credential: health::SERIES_OF_CREDENTIAL,
        pair: TOKENS,
    }
}

/// The most series that so many models and channels, and credentials of all channels together, can bring about: the bound
/// on cardinality.
#[must_use]
pub const fn series_max(models: usize, channels: usize, credentials: usize) -> usize {
    let Bound { fixed, model, channel, credential, pair } = bound();
    fixed + model * models + channel * channels + credential * credentials + pair * models * channels
}
