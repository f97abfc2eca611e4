//! Whether the gateway wants traffic (spec 12.3).

use std::sync::atomic::{AtomicU8, Ordering};

/// A phase in the life of the process. They follow each other, and none comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Phase {
    Starting,
    Ready,
    Draining,
    HandingOver,
}

/// Whether the gateway wants new traffic, or sends its clients away.
#[derive(Debug)]
pub struct Readiness(AtomicU8);

impl Default for Readiness {
    fn default() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }
}

impl Readiness {
    /// The listeners are about to open.
    pub fn start(&self) {
        self.reach(Phase::Ready);
    }

    /// The process is going to end: from now on every answer over HTTP/1.1 closes its connection, so that the client's next
    /// request goes elsewhere instead of to a socket that closes under it.
    pub fn drain(&self) {
        self.reach(Phase::Draining);
    }

    /// The same, for another process that takes this one's place.
    pub fn hand_over(&self) {
        self.reach(Phase::HandingOver);
    }

    /// Whether new traffic is wanted.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Ready as u8
    }

    /// Whether clients are to be sent away.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.phase() >= Phase::Draining as u8
    }

    /// Whether another process takes this one's place.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.phase() == Phase::HandingOver as u8
    }

    fn phase(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    fn reach(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }
}
