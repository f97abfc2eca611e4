//! Work on large bodies, kept off the threads that serve clients, a few at a time.
//!
//! Each runs on a thread of the runtime's pool for blocking work. That pool has no small bound of its own, and a thread that
//! cannot be started is a panic there; both are seen to here.

use super::admit::Stop;
use crate::core::refusal::{Failure, Refusal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;

/// Bodies that are worked on at the same time; each takes a processor.
pub(crate) const OFFLOADED_MAX: usize = 4;

static OFFLOADED: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(OFFLOADED_MAX)));

/// Runs `work` when its turn has come.
///
/// # Errors
///
/// [`Refusal::Busy`] if the process gets no thread for it, [`Failure::Internal`] if it ends in a panic.
///
/// # Cancel safety
///
/// May be dropped; work that has begun is done to its end, and keeps its place until then.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stop> {
    let place = Arc::clone(&OFFLOADED).acquire_owned().await;
    let work = move || {
        let _place = place;
        work()
    };
    let started = catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(work)));
    let Ok(started) = started else { return Err(Refusal::Busy.into()) };
    started.await.map_err(|_| Stop::Failure(Failure::Internal))
}
