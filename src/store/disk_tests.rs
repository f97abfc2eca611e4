//! A disk in memory that fails when told to, and that forgets in a crash what was not synced.
//!
//! It is as bad as real ones: a failed write may leave its first half, a failed sync keeps some of what was written and
//! takes the rest for clean, and a crash keeps any part of what was not synced, by sectors.

use super::embedded::{Opening, builder, trouble};
use super::{Embedded, StoreError};
use redb::StorageBackend;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Clone, Default)]
struct Inner {
    /// What survives a crash.
    synced: Vec<u8>,
    /// What is read.
    seen: Vec<u8>,
    pending: Vec<Pending>,
    operations: u64,
    /// Numbers of the operations that fail.
    faults: Range<u64>,
    /// Whether a write that fails leaves its first half.
    tears: bool,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Pending {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                image.resize(image.len().max(at + bytes.len()), 0);
                image[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => image.resize(*length, 0),
        }
    }
}

impl Inner {
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 33
    }

    /// Counts an operation, which may have to fail.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.faults.contains(&(self.operations - 1)) {
            return Err(io::Error::other("the disk was told to fail"));
        }
        Ok(())
    }

    fn put(&mut self, pending: Pending) {
        pending.apply(&mut self.seen);
        self.pending.push(pending);
    }

    /// Some part of what is pending reaches the platter: none, all, whole writes, or sectors.
    fn spill(&mut self) {
        let how = self.random() % 4;
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write(at, bytes) if how == 3 => {
                    for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                        if self.random().is_multiple_of(2) {
                            Pending::Write(at + sector * SECTOR, bytes.to_vec()).apply(&mut self.synced);
                        }
                    }
                }
                pending if how == 1 || how == 2 && self.random().is_multiple_of(2) => {
                    pending.apply(&mut self.synced)
                }
                Pending::Write(..) => {}
                // The length of a file is journalled by its own means.
                length @ Pending::Length(_) => length.apply(&mut self.synced),
            }
        }
    }
}

impl Disk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// From now on these operations fail, counted from now.
    pub(super) fn fail(&self, faults: Range<u64>, tears: bool, seed: u64) {
        let mut inner = self.inner();
        inner.faults = inner.operations + faults.start..inner.operations.saturating_add(faults.end);
        (inner.tears, inner.seed) = (tears, seed);
    }

    pub(super) fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// The disk as it is found after a crash now, without faults.
    pub(super) fn crash(&self) -> Self {
        let mut inner = self.inner().clone();
        inner.spill();
        let image = std::mem::take(&mut inner.synced);
        Self(Arc::new(Mutex::new(Inner { synced: image.clone(), seen: image, ..Inner::default() })))
    }

    /// What the embedded store does with a file after trouble: everything is written again, elsewhere.
    fn renew(&self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.operate()?;
        inner.operate()?;
        inner.pending.clear();
        inner.synced = inner.seen.clone();
        Ok(())
    }

    /// The embedded store on this disk.
    pub(super) fn store(&self) -> Result<Embedded, StoreError> {
        let disk = self.clone();
        let opener = move |opening| {
            let path = Path::new("disk");
            if opening == Opening::Again {
                disk.renew().map_err(|error| trouble(path, error.into()))?;
            }
            builder().create_with_backend(disk.clone()).map_err(|error| trouble(path, error.into()))
        };
        Embedded::with_opener(PathBuf::from("disk"), Box::new(opener))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let inner = self.inner();
        let bytes = inner.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.inner();
        inner.operate()?;
        inner.put(Pending::Length(usize::try_from(len).unwrap()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner();
        let outcome = inner.operate();
        if outcome.is_err() {
            inner.spill();
        }
        for pending in std::mem::take(&mut inner.pending) {
            pending.apply(&mut inner.synced);
        }
        outcome
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        let outcome = inner.operate();
        let length = match outcome {
            Ok(()) => data.len(),
            Err(_) if inner.tears => data.len() / 2,
            Err(_) => return outcome,
        };
        inner.put(Pending::Write(usize::try_from(offset).unwrap(), data[..length].to_vec()));
        outcome
    }
}
