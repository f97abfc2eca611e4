//! Sheds load before a limit of the process is hit ([`crate::core::overload`]).
//!
//! A service of its own runtime reads memory, descriptors and the delay of the public runtime every [`INTERVAL`]. The delay
//! is measured by [`RuntimeClock`], a task among those that serve clients: how late it runs is how late they run.

use super::connections::Connections;
use crate::core::overload::{Level, Load};
use crate::proxy::{Gateway, MemoryLimits, descriptors_percent};
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time between two looks at the resources.
const INTERVAL: Duration = Duration::from_millis(250);
/// Time between two ticks of the clock in the public runtime.
const TICK: Duration = Duration::from_millis(50);
/// Idle connections closed at each look.
const CLOSED_AT_ONCE: usize = 512;

/// Measures the delay of the runtime that serves clients.
#[derive(Debug)]
pub(super) struct RuntimeClock {
    epoch: Instant,
    is_running: AtomicBool,
    /// When the clock ticked last, in milliseconds since `epoch`.
    ticked: AtomicU64,
    /// The longest delay since it was last taken, in milliseconds.
    delay: AtomicU64,
}

impl Default for RuntimeClock {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            is_running: AtomicBool::new(false),
            ticked: AtomicU64::new(0),
            delay: AtomicU64::new(0),
        }
    }
}

impl RuntimeClock {
    /// Starts ticking in the current runtime, once.
    pub(super) fn start(self: &Arc<Self>) {
        if self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        self.ticked.store(self.now(), Ordering::Relaxed);
        let clock = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let asleep = Instant::now();
                tokio::time::sleep(TICK).await;
                let late = asleep.elapsed().saturating_sub(TICK);
                clock.delay.fetch_max(millis(late), Ordering::Relaxed);
                clock.ticked.store(clock.now(), Ordering::Relaxed);
            }
        });
    }

    /// The longest delay since the last call, an ongoing one included.
    fn take_delay(&self) -> Duration {
        let seen = self.delay.swap(0, Ordering::Relaxed);
        if !self.is_running.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let silent = self.now().saturating_sub(self.ticked.load(Ordering::Relaxed));
        Duration::from_millis(seen.max(silent.saturating_sub(millis(TICK))))
    }

    fn now(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The service that watches the load.
pub(super) struct Overload {
    pub(super) gateway: Gateway,
    pub(super) connections: Arc<Connections>,
    pub(super) clock: Arc<RuntimeClock>,
}

#[async_trait]
impl BackgroundService for Overload {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let limits = MemoryLimits::read();
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                _ = shutdown.changed() => return,
            }
            let load = Load {
                memory: limits.used_percent(),
                descriptors: descriptors_percent(),
                delay: self.clock.take_delay(),
            };
            if self.gateway.note_load(&load) >= Level::CloseIdle {
                self.connections.evict_idle(CLOSED_AT_ONCE);
            }
        }
    }
}
