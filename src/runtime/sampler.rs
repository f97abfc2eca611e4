//! Reads the counters every few seconds into the history of the status page (spec 13.1).
//!
//! Requests know nothing of it: it reads what they count anyway.

use crate::proxy::Inspector;
use crate::telemetry::history::{History, STEP};
use crate::telemetry::metrics::OVERHEAD_BUCKETS;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::{MissedTickBehavior, interval};

/// The sampler, to be run as a background service.
pub(super) struct Sampler {
    inspector: Inspector,
    history: Arc<Mutex<History>>,
}

#[async_trait]
impl BackgroundService for Sampler {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.sample(),
                _ = shutdown.changed() => return,
            }
        }
    }
}

impl Sampler {
    /// A sampler, and the history that it fills.
    pub(super) fn new(inspector: Inspector) -> (Self, Arc<Mutex<History>>) {
        let history = Arc::new(Mutex::new(History::new(&OVERHEAD_BUCKETS)));
        (Self { inspector, history: Arc::clone(&history) }, history)
    }

    fn sample(&self) {
        let (now, reading) = self.inspector.reading();
        self.history.lock().unwrap_or_else(PoisonError::into_inner).record(now, reading);
    }
}
