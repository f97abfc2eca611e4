//! The end of a drain: as soon as the last request is finished, not when the grace period is over.

use super::connections::Connections;
use super::listener::LINGER;
use super::signals::Impatience;
use super::succession::Succession;
use crate::proxy::Readiness;
use crate::telemetry::metrics::Metrics;
use pingora::server::ExecutionPhase;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Polls without a request under way before the process is taken for idle: a request may sit in a socket's buffer.
const IDLE_POLLS: u32 = 5;
/// How long requests that are cut may take to be settled and written to the log.
const CUT_PATIENCE: Duration = Duration::from_secs(1);

/// What a drain waits for.
pub(super) struct Drain {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) connections: Arc<Connections>,
    pub(super) impatience: Arc<Impatience>,
    pub(super) succession: Arc<Succession>,
}

impl Drain {
    /// Watches, in a thread of its own, for the listeners to close; calls `then` once no request is under way.
    pub(super) fn watch(self, phases: Receiver<ExecutionPhase>, then: impl FnOnce() + Send + 'static) {
        let watching = std::thread::Builder::new().name("drain".into()).spawn(move || {
            if reached_grace_period(phases) {
                self.wait();
                then();
            }
        });
        if let Err(e) = watching {
            log::error!("the drain cannot be watched, it will take the whole grace period: {e}");
        }
    }

    /// Waits until nothing is under way: no request, nor a connection on which one may be about to arrive.
    fn wait(&self) {
        let closed = Instant::now();
        let mut idle = 0;
        while idle < IDLE_POLLS {
            if self.impatience.is_felt() {
                return self.cut();
            }
            // Another process does its work already, so one that hands over may wait for handshakes too, which nobody counts.
            let expected = self.connections.open() > 0 || self.readiness.is_handing_over();
            let expected = expected && closed.elapsed() < LINGER;
            // It settles through this process, and a service manager kills whatever is left when this one ends.
            let expected = expected || self.succession.is_predecessor_there();
            idle = if expected || self.metrics.requests_under_way() > 0 { 0 } else { idle + 1 };
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Cuts the requests under way, which are settled at what was delivered.
    fn cut(&self) {
        log::info!("cutting {} requests under way", self.metrics.requests_under_way());
        self.connections.cut();
        let cut = Instant::now();
        while self.metrics.requests_under_way() > 0 && cut.elapsed() < CUT_PATIENCE {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn reached_grace_period(mut phases: Receiver<ExecutionPhase>) -> bool {
    loop {
        match phases.blocking_recv() {
            Ok(ExecutionPhase::ShutdownGracePeriod) => return true,
            Ok(ExecutionPhase::ShutdownRuntimes | ExecutionPhase::Terminated) => return false,
            Ok(_) => {}
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return false,
        }
    }
}
