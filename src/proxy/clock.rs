//! The clocks of the request path: the only place of ring 3 that reads them for decisions.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic origin, shared by everything that counts in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the origin; never goes back.
    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Time since the Unix epoch by the wall clock.
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
