//! What the sandbox has seen, for tests and for the curious.

use super::connection::Request;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Requests that are remembered.
const REMEMBERED: usize = 64;

/// Counters of one sandbox.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) connections: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) aborted: AtomicU64,
    flaky: AtomicU64,
    recording: AtomicBool,
    recorded: Mutex<VecDeque<Recorded>>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The path with its query.
    pub path: String,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Bytes,
}

impl Stats {
    /// Connections that were ever opened.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Requests received.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests whose client left before the answer was complete.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::Relaxed)
    }

    /// Whether requests are remembered from now on; off at first, for speed.
    pub fn record(&self, on: bool) {
        self.recording.store(on, Ordering::Relaxed);
    }

    /// The last requests, oldest first.
    #[must_use]
    pub fn recorded(&self) -> Vec<Recorded> {
        self.recorded.lock().map(|recorded| recorded.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn note(&self, request: &Request) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !self.recording.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut recorded) = self.recorded.lock() {
            recorded.truncate(REMEMBERED - 1);
            recorded.push_back(Recorded {
                path: request.path.clone(),
                headers: request.headers.clone(),
                body: request.body.clone(),
            });
        }
    }

    /// Whether a fault of the form `flaky-<percent>` spares this request; evenly spread, not random.
    pub(super) fn spares(&self, fault: &str) -> bool {
        let Some(percent) = fault.strip_prefix("flaky-").and_then(|percent| percent.parse::<u64>().ok())
        else {
            return false;
        };
        let turn = self.flaky.fetch_add(1, Ordering::Relaxed);
        (turn + 1) * percent / 100 == turn * percent / 100
    }
}
