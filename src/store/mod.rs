//! Ring 2: what survives a restart (spec 5.4, 8.2 to 8.5; decisions, Store).
//!
//! A [`Store`] writes batches of rows durably and reads them all at the start; everything in between is in memory.
//! [`Embedded`] is one file on a local disk. A [`Bank`] is a ledger together with the thread that writes what changed in
//! it. [`verify()`] and [`export`] look into the file of a gateway that does not run. Deliberately absent: what a record of
//! the admin API means, which is bytes here.

mod audit;
mod bank;
mod codec;
mod embedded;
pub mod handover;
mod records;
mod teller;

pub use audit::{Step, export, verify, verify_telling};
pub use bank::{Bank, Counters, Health, Options, Unavailable};
pub use embedded::Embedded;
pub use records::RecordRow;
pub use teller::{Refused, Teller};

use crate::core::ledger::{Changes, Snapshot};
use std::path::PathBuf;
use std::sync::Arc;

/// A place that keeps rows.
pub trait Store: Send {
    /// Reads everything.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it cannot be read, or a row is none.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Writes a batch; when this returns, all of it is durable. After an error nothing, a part or all of it may be,
    /// and [`Store::reopen`] comes before the next batch.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it cannot be written.
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Starts afresh after an error, so that what is read from now on is what is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the trouble goes on.
    fn reopen(&mut self) -> Result<(), StoreError>;
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The rows of the ledger.
    pub ledger: Snapshot,
    /// Records, each present.
    pub records: Vec<RecordRow>,
}

/// Rows to be written together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Rows of the ledger.
    pub ledger: Option<Changes>,
    /// Records as they stand.
    pub records: Vec<RecordRow>,
}

impl Batch {
    /// How many rows these are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.ledger.as_ref().map_or(0, Changes::rows) + self.records.len()
    }
}

/// Why the store does not work, in a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Its folder is not there or cannot be written.
    #[error("the folder {path} cannot be used ({cause}): create it, and let the gateway's user write in it")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        cause: Arc<str>,
    },
    /// Its file is not there.
    #[error("there is no ledger at {0}: check store.path, or start the gateway once to make one")]
    Missing(PathBuf),
    /// Its file was there and is no more.
    #[error(
        "the ledger at {0} has gone, and with it all balances and revocations: restore it from a backup, or begin a new \
         one with --new-ledger"
    )]
    Gone(PathBuf),
    /// Its file is in use.
    #[error("{0} is in use by another process: stop that one, or give this one another store.path")]
    Locked(PathBuf),
    /// Its file was written by another version.
    #[error("{path} has format {found}, and this version knows {known}: run the version that wrote it")]
    Version {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: u64,
        /// The format that this version reads and writes.
        known: u64,
    },
    /// Its file is damaged, or is something else.
    #[error(
        "{path} is damaged or no ledger ({cause}): restore it from a backup, or move it away to begin anew"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: Arc<str>,
    },
    /// Its rows contradict each other.
    #[error("the rows in the store contradict each other ({0}): restore them from a backup")]
    Inconsistent(Arc<str>),
    /// The disk refuses.
    #[error("the disk under {path} refuses ({cause}): free space on it, or repair it")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: Arc<str>,
    },
    /// What was exported could not be written.
    #[error("the export cannot be written ({0}): check where it goes")]
    Output(Arc<str>),
    /// There is no thread to write with.
    #[error("no thread can be started to write with ({0}): raise the limit of threads")]
    Thread(Arc<str>),
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod disk_tests;
