//! Signals (spec 12.3).
//!
//! SIGTERM drains: not ready but still accepting for `drain`, so that load balancers turn away first; then the
//! listeners close and what is under way may finish within `grace`. SIGQUIT hands the listeners over to a process that was
//! started with `--upgrade`, and drains. A second SIGTERM, or SIGINT at any time, ends at once, also while the last streams
//! finish. SIGHUP loads the configuration again. `POST /drain` is as SIGTERM, but asking twice is as asking once.

use super::reload::Reload;
use crate::proxy::Readiness;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Waits for the signals of the process, with a lame duck's time before it lets the listeners close.
pub struct LameDuck {
    /// Is set to not ready when draining begins.
    pub readiness: Arc<Readiness>,
    /// How long the gateway still accepts.
    pub drain: Duration,
    /// What SIGHUP asks.
    pub reload: Arc<Reload>,
    /// What begins a drain besides signals.
    pub wish: Arc<DrainWish>,
    /// What hears of the second signal.
    pub impatience: Arc<Impatience>,
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
        let wish = tokio::select! {
            wish = signals.next(&self.reload) => wish,
            () = self.wish.0.notified() => Wish::Drain,
        };
        match wish {
            Wish::End => return ShutdownSignal::FastShutdown,
            Wish::HandOver => {
                self.readiness.hand_over();
                self.listen_on(signals);
                log::info!("handing the listeners over to the process that takes this one's place");
                return ShutdownSignal::GracefulUpgrade;
            }
            Wish::Drain => {}
        }
        self.readiness.drain();
        log::info!("draining: not ready, accepting for {} more", humantime::format_duration(self.drain));
        tokio::select! {
            () = tokio::time::sleep(self.drain) => {}
            _again = signals.next(&self.reload) => return ShutdownSignal::FastShutdown,
        }
        self.listen_on(signals);
        ShutdownSignal::GracefulTerminate
    }
}

impl LameDuck {
    /// Waits beside the requests under way for somebody who does not.
    fn listen_on(&self, mut signals: Signals) {
        let (reload, impatience) = (Arc::clone(&self.reload), Arc::clone(&self.impatience));
        tokio::spawn(async move {
            signals.next(&reload).await;
            impatience.0.store(true, Ordering::Release);
        });
    }
}

#[derive(PartialEq, Eq)]
enum Wish {
    Drain,
    HandOver,
    End,
}

struct Signals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self, reload: &Arc<Reload>) -> Wish {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Wish::Drain,
                _ = self.quit.recv() => return Wish::HandOver,
                _ = self.interrupt.recv() => return Wish::End,
                _ = self.hangup.recv() => {
                    let reload = Arc::clone(reload);
                    // What goes wrong is in the log.
                    let _ = tokio::task::spawn_blocking(move || reload.reload().is_ok()).await;
                }
            }
        }
    }
}
