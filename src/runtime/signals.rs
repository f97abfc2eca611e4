//! Signals (spec 12.3).
//!
//! SIGTERM drains: not ready but still accepting for `drain`, so that load balancers turn away first; then the
//! listeners close and what is under way may finish within `grace`. SIGQUIT hands the listeners over to a process that was
//! started with `--upgrade`, SIGUSR2 starts that process itself; then this one drains. A second SIGTERM, or SIGINT at any
//! time, ends at once, also while the last streams finish. SIGHUP loads the configuration again. `POST /drain` is as SIGTERM,
//! but asking twice is as asking once.

use super::reload::Reload;
use super::succession::{Succession, Waiting, tell};
use crate::proxy::Readiness;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// How long this process accepts beside the one that takes its place, so that clients leave their connections in peace.
const OVERLAP: Duration = Duration::from_secs(5);

/// Waits for the signals of the process, with a lame duck's time before it lets the listeners close.
pub struct LameDuck {
    /// Is set to ready when all listeners are open, and to not ready when draining begins.
    pub readiness: Arc<Readiness>,
    /// How long the gateway still accepts.
    pub drain: Duration,
    /// What SIGHUP asks.
    pub reload: Arc<Reload>,
    /// What begins a drain besides signals.
    pub wish: Arc<DrainWish>,
    /// What hears of the second signal.
    pub impatience: Arc<Impatience>,
    /// How another process takes this one's place.
    pub succession: Arc<Succession>,
}

/// That nobody waits any more for the requests under way.
#[derive(Debug, Default)]
pub struct Impatience(AtomicBool);

impl Impatience {
    /// Whether it is so.
    #[must_use]
    pub fn is_felt(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// An operator's wish that the process drains, as SIGTERM would say it.
#[derive(Debug, Default)]
pub struct DrainWish(Notify);

impl DrainWish {
    /// Asks for it.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl ShutdownSignalWatch for LameDuck {
    /// # Cancel safety
    ///
    /// Is run once and to its end.
    async fn recv(&self) -> ShutdownSignal {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(e) => {
                log::error!("signals cannot be received: {e}");
                return std::future::pending().await;
            }
        };
        // Only now: a signal that comes before they are heard ends the process.
        let mut waiting = match self.succession.begin().await {
            Ok(waiting) => waiting,
            Err(e) => {
                log::error!("this process does not begin to serve: {e}");
                self.succession.fail();
                return ShutdownSignal::FastShutdown;
            }
        };
        self.readiness.start();
        match self.leave(&mut signals, &mut waiting).await {
            Leave::End => return ShutdownSignal::FastShutdown,
            Leave::Drain => {}
            Leave::HandedOver => {
                self.readiness.hand_over();
                self.listen_on(signals);
                tokio::time::sleep(OVERLAP).await;
                return ShutdownSignal::GracefulTerminate;
            }
        }
        tell(&[NotifyState::Stopping]);
        self.readiness.drain();
        log::info!("draining: not ready, accepting for {} more", humantime::format_duration(self.drain));
        tokio::select! {
            () = tokio::time::sleep(self.drain) => {}
            _again = signals.end(&self.reload) => return ShutdownSignal::FastShutdown,
        }
        self.listen_on(signals);
        ShutdownSignal::GracefulTerminate
    }
}

impl LameDuck {
    /// Waits for the reason to leave. An upgrade that fails is none.
    async fn leave(&self, signals: &mut Signals, waiting: &mut Waiting) -> Leave {
        loop {
            let heard = tokio::select! {
                heard = signals.next(&self.reload) => heard,
                () = self.wish.0.notified() => Heard::Leave(Leave::Drain),
                () = waiting.report() => continue,
            };
            let starts = match heard {
                Heard::Leave(leave) => return leave,
                Heard::HandOver => false,
                Heard::Upgrade => true,
            };
            let failed = tokio::select! {
                handed = self.succession.hand_over(waiting, starts) => match handed {
                    Ok(()) => return Leave::HandedOver,
                    Err(failed) => failed,
                },
                leave = signals.end(&self.reload) => return leave,
                () = self.wish.0.notified() => return Leave::Drain,
            };
            self.succession.keep(&failed).await;
        }
    }

    /// Waits beside the requests under way for somebody who does not.
    fn listen_on(&self, mut signals: Signals) {
        let (reload, impatience) = (Arc::clone(&self.reload), Arc::clone(&self.impatience));
        tokio::spawn(async move {
            signals.end(&reload).await;
            impatience.0.store(true, Ordering::Release);
        });
    }
}

/// Why a process stops serving.
#[derive(PartialEq, Eq)]
enum Leave {
    Drain,
    HandedOver,
    End,
}

/// What a signal asks.
enum Heard {
    Leave(Leave),
    /// To hand over to the process that waits.
    HandOver,
    /// To start one, and hand over to it.
    Upgrade,
}

struct Signals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal that asks for an end; others than SIGHUP do nothing meanwhile.
    async fn end(&mut self, reload: &Arc<Reload>) -> Leave {
        loop {
            match self.next(reload).await {
                Heard::Leave(leave) => return leave,
                Heard::HandOver | Heard::Upgrade => {
                    log::warn!("a signal asks for an upgrade, but this process is at one or at its end");
                }
            }
        }
    }

    async fn next(&mut self, reload: &Arc<Reload>) -> Heard {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Heard::Leave(Leave::Drain),
                _ = self.interrupt.recv() => return Heard::Leave(Leave::End),
                _ = self.quit.recv() => return Heard::HandOver,
                _ = self.user.recv() => return Heard::Upgrade,
                _ = self.hangup.recv() => Arc::clone(reload).ask(),
            }
        }
    }
}
