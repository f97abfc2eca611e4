//! The clocks of the request path: the only place of ring 3 that reads them for decisions.

use once_cell::sync::Lazy;
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

/// Nanoseconds of a clock of the process, which never goes back.
pub(crate) fn nanos_of_process() -> u64 {
    static ORIGIN: Lazy<Instant> = Lazy::new(Instant::now);
    u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A number that no process of this machine had before: its id, and when it asked.
pub(crate) fn process_number() -> u64 {
    u64::from(std::process::id()) << 32 | unix().as_secs() & u64::from(u32::MAX)
}

/// Time since the Unix epoch by the wall clock.
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
