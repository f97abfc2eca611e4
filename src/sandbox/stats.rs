//! What the sandbox counted and, on request, the last requests it read.
//!
//! Counters are always kept; whole requests only after [`Stats::record_bodies`], because copying headers and bodies
//! would slow a benchmark. A reader may see counters of one moment and requests of the next: nothing is locked together.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// How many requests the ring of recorded requests holds.
const RING: usize = 32;

/// One request as the sandbox read it, kept for a test to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The method as sent.
    pub method: String,
    /// The request target as sent, query included.
    pub path: String,
    /// Header names and values in the order and spelling they were sent; bytes outside UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The body, with chunked framing taken off.
    pub body: Bytes,
}

impl Recorded {
    /// The value of the first header of this name, compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// Counters of one sandbox, shared between it and whoever watches it.
#[derive(Debug, Default)]
pub struct Stats {
    connections_opened: AtomicU64,
    open_now: AtomicU64,
    requests: AtomicU64,
    answering_now: AtomicU64,
    aborted: AtomicU64,
    cut_uploads: AtomicU64,
    recording: AtomicBool,
    last: Mutex<VecDeque<Recorded>>,
}

impl Stats {
    /// Connections accepted since the start.
    pub fn connections_opened(&self) -> u64 {
        self.connections_opened.load(Relaxed)
    }

    /// Connections open at this moment.
    pub fn open_now(&self) -> u64 {
        self.open_now.load(Relaxed)
    }

    /// Requests read to their last byte since the start, whatever the answer was.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Requests being answered at this moment.
    pub fn answering_now(&self) -> u64 {
        self.answering_now.load(Relaxed)
    }

    /// Answers that the client left before they were complete.
    ///
    /// A client that closes its sending side alone counts as gone. An answer that fits the socket buffer is complete
    /// once written, whether or not it is read.
    pub fn aborted(&self) -> u64 {
        self.aborted.load(Relaxed)
    }

    /// Connections that ended in the middle of a request.
    pub fn cut_uploads(&self) -> u64 {
        self.cut_uploads.load(Relaxed)
    }

    /// Starts or stops keeping whole requests, headers and bodies, in the ring; off at first.
    pub fn record_bodies(&self, on: bool) {
        self.recording.store(on, Relaxed);
    }

    /// The recorded requests, oldest first; at most the last 32.
    pub fn last_requests(&self) -> Vec<Recorded> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The newest recorded request.
    pub fn last_request(&self) -> Option<Recorded> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    pub(super) fn is_recording(&self) -> bool {
        self.recording.load(Relaxed)
    }

    pub(super) fn record(&self, request: Recorded) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == RING {
            last.pop_front();
        }
        last.push_back(request);
    }

    /// Counts a request and gives its number, from 1.
    pub(super) fn count_request(&self) -> u64 {
        self.requests.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn count_aborted(&self) {
        self.aborted.fetch_add(1, Relaxed);
    }

    pub(super) fn count_cut_upload(&self) {
        self.cut_uploads.fetch_add(1, Relaxed);
    }

    pub(super) fn count_connection(&self) -> Gauge<'_> {
        self.connections_opened.fetch_add(1, Relaxed);
        Gauge::raise(&self.open_now)
    }

    pub(super) fn count_answering(&self) -> Gauge<'_> {
        Gauge::raise(&self.answering_now)
    }
}

/// Holds a gauge one higher for as long as it lives, also when the task holding it is dropped.
pub(super) struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    fn raise(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Gauge(gauge)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
