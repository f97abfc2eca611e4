//! The files of the core whose threads meet, with locks and atomics at which the scheduler may change threads.

/// Ring 1, as far as it is shared between threads.
#[path = "../../src/core"]
pub mod core {
    pub mod ledger;
    pub mod limit;
    pub mod limits;
    pub mod money;
    pub mod permit;

    /// What `sync.rs` names, by the scheduler.
    mod sync {
        pub(crate) use shuttle::sync::atomic::{AtomicU32, Ordering};
        pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    }
}
