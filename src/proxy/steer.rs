//! What an operator does to a channel by hand (spec 13.1): out of traffic, back into it, and back from its rests.
//!
//! A word on a channel is kept in memory: it outlives every reload that leaves a channel of that name, and ends with the
//! process. The configuration's own `enabled: false` is not overruled.

use super::status::standing;
use super::{Rejected, Shared};
use serde::Serialize;
use std::sync::Arc;

/// Steers the channels of a running gateway.
#[derive(Clone)]
pub struct Helm(pub(super) Arc<Shared>);

/// What is done to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// It gets no new traffic until it is enabled again; what is under way comes to its end.
    Disable,
    /// It is no longer disabled.
    Enable,
    /// Everything of it that rests or was taken out comes back: itself, its models, its credentials.
    Readmit,
}

/// A channel after that.
#[derive(Debug, Serialize)]
pub struct Steered {
    channel: Arc<str>,
    state: &'static str,
    enabled: bool,
    /// How many of channel, models and credentials came back.
    readmitted: usize,
}

impl Steer {
    /// The words by which they are asked for.
    pub const WORDS: [(&'static str, Self); 3] =
        [("enable", Self::Enable), ("disable", Self::Disable), ("readmit", Self::Readmit)];

    fn past(self) -> &'static str {
        match self {
            Self::Enable => "enabled",
            Self::Disable => "disabled",
            Self::Readmit => "readmitted",
        }
    }
}

impl Helm {
    /// Does it.
    ///
    /// # Errors
    ///
    /// [`Rejected`] if there is no such channel, or the configuration has disabled it.
    pub fn steer(&self, id: &str, steer: Steer) -> Result<Steered, Rejected> {
        let (generation, now) = (self.0.generation.load(), self.0.clock.nanos());
        let channel = generation.channels.iter().find(|channel| *channel.id == *id);
        let channel = channel.ok_or_else(|| Rejected::Unknown(format!("there is no channel {id}")))?;
        if steer == Steer::Enable && !channel.settings.enabled {
            let why = format!("the configuration disables the channel {id} (enabled: false)");
            return Err(Rejected::Conflict(why));
        }
        let mut readmitted = 0;
        match steer {
            Steer::Disable => channel.health.disable(),
            Steer::Enable => channel.health.enable(),
            Steer::Readmit => readmitted = channel.health.readmit(now),
        }
        if readmitted > 0 {
            self.0.metrics.health().change(id, "readmitted");
        }
        let state = standing(channel, now);
        log::warn!("channel {id}: {} by an operator, it is {} now", steer.past(), state.as_str());
        let enabled = channel.settings.enabled && !channel.health.is_disabled();
        Ok(Steered { channel: Arc::clone(&channel.id), state: state.as_str(), enabled, readmitted })
    }
}
