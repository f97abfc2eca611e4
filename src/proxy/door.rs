//! What the gateway says of connections before there is a request: how many there may be, and how long a header may take
//! (spec 15.1, 15.2). The listeners ask.

use super::Gateway;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Connections beyond those that are idle or have a request under way, which are answered that there are too many.
pub(crate) const CONNECTIONS_SPARE: usize = 256;

/// Whether the header of a request has arrived; who serves the connection waits for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeaderArrived(Arc<AtomicBool>);

impl HeaderArrived {
    /// It is there.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Gateway {
    /// How long a client may take to send a header.
    pub(crate) fn header_timeout(&self) -> Duration {
        self.shared.generation.load().server.header_timeout
    }

    /// Counts a connection that is closed because its header did not come to an end.
    pub(crate) fn note_slow_header(&self) {
        self.shared.metrics.connections_refused("slow_header");
    }

    /// Whether so many connections of clients may be open, of which as many may be idle as requests may be under way
    /// (spec 15.1), and some more that have a 502 coming (2.10); one too many is counted.
    pub(crate) fn has_room_for(&self, connections: usize) -> bool {
        let requests_max = self.shared.generation.load().server.max_connections;
        let fits = connections <= requests_max.saturating_mul(2).saturating_add(CONNECTIONS_SPARE);
        if !fits {
            self.shared.metrics.connections_refused("too_many");
        }
        fits
    }
}
