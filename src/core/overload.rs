//! The load-shedding ladder (spec 15.1): which share of a resource has which consequence.
//!
//! The steps are Envoy's overload actions in order of harm: idle connections are closed, new connections refused, new
//! requests answered 502. A step is taken at once and left only when every resource is clearly below its threshold, so
//! that the gateway does not flap around it. Pure: the caller reads the resources and the clock.

use std::time::Duration;

/// Percentage points below its threshold that a resource has to fall before its step is left.
const HYSTERESIS: u8 = 5;

/// Consequences of load, each with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Level {
    /// No consequence.
    #[default]
    Normal,
    /// Idle client connections are closed.
    CloseIdle,
    /// New client connections are closed unanswered.
    RefuseConnections,
    /// New requests are the generic 502.
    RefuseRequests,
}

impl Level {
    /// All levels with a consequence, in ascending order.
    pub const STEPS: [Self; 3] = [Self::CloseIdle, Self::RefuseConnections, Self::RefuseRequests];

    /// The level as a word of the log and the status page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::CloseIdle => "close_idle",
            Self::RefuseConnections => "refuse_connections",
            Self::RefuseRequests => "refuse_requests",
        }
    }
}

/// Where one step begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// Memory in use, in percent of the limit of the process.
    pub memory: u8,
    /// File descriptors in use, in percent of the limit of the process.
    pub descriptors: u8,
    /// Delay of tasks that are ready to run.
    pub delay: Duration,
}

/// Thresholds of all steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Of [`Level::CloseIdle`].
    pub close_idle: Threshold,
    /// Of [`Level::RefuseConnections`].
    pub refuse_connections: Threshold,
    /// Of [`Level::RefuseRequests`].
    pub refuse_requests: Threshold,
}

impl Default for Thresholds {
    fn default() -> Self {
        let at = |percent, seconds| Threshold {
            memory: percent,
            descriptors: percent,
            delay: Duration::from_secs(seconds),
        };
        Self { close_idle: at(85, 1), refuse_connections: at(92, 2), refuse_requests: at(96, 5) }
    }
}

impl Thresholds {
    fn at(&self, level: Level) -> Option<&Threshold> {
        match level {
            Level::Normal => None,
            Level::CloseIdle => Some(&self.close_idle),
            Level::RefuseConnections => Some(&self.refuse_connections),
            Level::RefuseRequests => Some(&self.refuse_requests),
        }
    }
}

/// Load of the process at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Memory in use, in percent; 0 where no limit is known.
    pub memory: u8,
    /// File descriptors in use, in percent.
    pub descriptors: u8,
    /// Delay of tasks that are ready to run.
    pub delay: Duration,
}

impl Load {
    fn reaches(&self, threshold: &Threshold) -> bool {
        self.memory >= threshold.memory
            || self.descriptors >= threshold.descriptors
            || self.delay >= threshold.delay
    }

    /// The load that has to stay below a threshold for its step to be left.
    fn with_hysteresis(&self) -> Self {
        Self {
            memory: self.memory.saturating_add(HYSTERESIS),
            descriptors: self.descriptors.saturating_add(HYSTERESIS),
            delay: self.delay.saturating_mul(2),
        }
    }
}

/// Returns the level after `before` under this load.
#[must_use]
pub fn next_level(before: Level, load: &Load, thresholds: &Thresholds) -> Level {
    let reached = |load: &Load| {
        let steps = Level::STEPS.into_iter().rev();
        let mut reached = steps.filter(|level| thresholds.at(*level).is_some_and(|at| load.reaches(at)));
        reached.next().unwrap_or_default()
    };
    let now = reached(load);
    if now >= before { now } else { reached(&load.with_hysteresis()).min(before) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(percent: u8) -> Load {
        Load { memory: percent, ..Load::default() }
    }

    /// Goal: each resource alone takes every step at its threshold.
    #[test]
    fn steps_are_taken_at_their_thresholds() {
        let thresholds = Thresholds::default();
        let level = |load: &Load| next_level(Level::Normal, load, &thresholds);
        for (percent, expected) in [
            (84, Level::Normal),
            (85, Level::CloseIdle),
            (92, Level::RefuseConnections),
            (96, Level::RefuseRequests),
        ] {
            assert_eq!(level(&memory(percent)), expected);
            assert_eq!(level(&Load { descriptors: percent, ..Load::default() }), expected);
        }
        for (millis, expected) in [
            (999, Level::Normal),
            (1_000, Level::CloseIdle),
            (2_000, Level::RefuseConnections),
            (5_000, Level::RefuseRequests),
        ] {
            assert_eq!(level(&Load { delay: Duration::from_millis(millis), ..Load::default() }), expected);
        }
    }

    /// Goal: a step is left only clearly below its threshold, and then as far as the load has fallen.
    #[test]
    fn steps_are_left_with_hysteresis() {
        let thresholds = Thresholds::default();
        let next = |before, percent| next_level(before, &memory(percent), &thresholds);
        assert_eq!(next(Level::RefuseRequests, 93), Level::RefuseRequests);
        assert_eq!(next(Level::RefuseRequests, 90), Level::RefuseConnections);
        assert_eq!(next(Level::RefuseConnections, 81), Level::CloseIdle);
        assert_eq!(next(Level::RefuseRequests, 79), Level::Normal);
        assert_eq!(next(Level::CloseIdle, 97), Level::RefuseRequests);
    }
}
