//! Work on large bodies, kept off the threads that serve clients, a few at a time.
//!
//! The threads are started with the gateway and stay: the runtime's own pool for blocking work has no small bound, and
//! starts threads when memory may be short already.

use super::admit::Stop;
use crate::core::refusal::{Failure, Refusal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Bodies that are worked on at the same time; each takes a processor.
pub(crate) const OFFLOADED_MAX: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// The pool of the process.
static POOL: LazyLock<Pool> = LazyLock::new(Pool::start);

struct Pool {
    queue: Mutex<Sender<Work>>,
    threads: usize,
}

impl Pool {
    fn start() -> Self {
        let (queue, works) = channel();
        let works = Arc::new(Mutex::new(works));
        let started = (0..OFFLOADED_MAX).filter(|number| {
            let works = Arc::clone(&works);
            let thread = std::thread::Builder::new().name(format!("offload-{number}"));
            thread.spawn(move || serve(&works)).is_ok()
        });
        Self { threads: started.count(), queue: Mutex::new(queue) }
    }
}

/// Does one work after another. The queue is never closed, since the pool is never dropped.
fn serve(works: &Mutex<Receiver<Work>>) {
    loop {
        let work = works.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = work else { return };
        // Its waiter hears of a panic by the result that does not come.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

/// Starts the threads, before anything is scarce.
pub(super) fn start() {
    if POOL.threads < OFFLOADED_MAX {
        log::warn!("{} of {OFFLOADED_MAX} threads for large bodies could be started", POOL.threads);
    }
}

/// Runs `work` when its turn has come. The queue is bounded by the requests in flight, each of which waits for its own.
///
/// # Errors
///
/// [`Refusal::Busy`] if there is no thread for it, [`Failure::Internal`] if it ends in a panic.
///
/// # Cancel safety
///
/// May be dropped; work that has begun is done to its end, work that has not is skipped.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stop> {
    if POOL.threads == 0 {
        return Err(Refusal::Busy.into());
    }
    let (done, result) = oneshot::channel();
    let work = move || {
        if !done.is_closed() {
            let _ = done.send(work());
        }
    };
    let queued = POOL.queue.lock().unwrap_or_else(PoisonError::into_inner).send(Box::new(work));
    queued.map_err(|_| Stop::from(Refusal::Busy))?;
    result.await.map_err(|_| Stop::Failure(Failure::Internal))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: results come back, a panic is its own request's failure, and the pool goes on.
    #[tokio::test]
    async fn panics_concern_their_own_work() {
        for _ in 0..2 * OFFLOADED_MAX {
            let failed = run(|| -> u8 { panic!("on purpose") }).await;
            assert!(matches!(failed, Err(Stop::Failure(Failure::Internal))));
        }
        assert!(matches!(run(|| 7).await, Ok(7)));
    }
}
