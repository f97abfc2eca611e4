//! The end of a drain: as soon as the last request is finished, not when the grace period is over.

use crate::telemetry::metrics::Metrics;
use pingora::server::ExecutionPhase;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Polls without a request under way before the process is taken for idle: a request may sit in a socket's buffer.
const IDLE_POLLS: u32 = 5;

/// Watches, in a thread of its own, for the listeners to close; calls `then` once no request is under way.
pub(super) fn watch(
    phases: Receiver<ExecutionPhase>,
    metrics: Arc<Metrics>,
    then: impl FnOnce() + Send + 'static,
) {
    let watching = std::thread::Builder::new().name("drain".into()).spawn(move || {
        if reached_grace_period(phases) {
            wait_until_idle(&metrics);
            then();
        }
    });
    if let Err(e) = watching {
        log::error!("the drain cannot be watched, it will take the whole grace period: {e}");
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

fn wait_until_idle(metrics: &Metrics) {
    let mut idle = 0;
    while idle < IDLE_POLLS {
        idle = if metrics.requests_under_way() == 0 { idle + 1 } else { 0 };
        std::thread::sleep(POLL_INTERVAL);
    }
}
