//! Reads the counters every few seconds into the history of the status page (spec 13.1).
//!
//! Requests know nothing of it: it reads what they count anyway.

use crate::proxy::Inspector;
use crate::telemetry::history::{History, STEP};
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::{MissedTickBehavior, interval};

/// The sampler, to be run as a background service.
pub(super) struct Sampler {
    pub(super) inspector: Inspector,
    pub(super) history: Arc<Mutex<History>>,
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
    fn sample(&self) {
        let (now, reading) = self.inspector.reading();
        self.history.lock().unwrap_or_else(PoisonError::into_inner).record(now, reading);
    }
}
