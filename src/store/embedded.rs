//! The store that is always there: one file on a local disk, kept by redb.
//!
//! Each batch is one transaction and one sync. After any trouble the file is not trusted as it lies in the memory of the
//! system: see [`renew`].

use super::codec::Row;
use super::records::RecordRow;
use super::{Batch, Loaded, Store, StoreError};
use crate::core::ledger::{AccountFunds, Changes, KeyFunds, Reservation, ReservationId, Snapshot};
use crate::core::money::Money;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The format of the tables below.
const FORMAT: u64 = 1;
/// The file in the store's folder.
pub(super) const FILE: &str = "ledger.redb";
/// The file beside it that says that there was a ledger, so that one that has gone is not begun anew unnoticed.
const MARKER: &str = "ledger.marker";
/// The file that takes its place after trouble.
const FRESH: &str = "ledger.redb.new";
/// Only what a batch touches is read again, so little of the file need be in memory.
const CACHE_BYTES: usize = 32 << 20;

type Bytes = &'static [u8];
type Pair = (&'static str, &'static str);

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const ACCOUNTS: TableDefinition<'_, &str, Bytes> = TableDefinition::new("accounts");
const KEYS: TableDefinition<'_, &str, Bytes> = TableDefinition::new("keys");
const RESERVATIONS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("reservations");
const CREDITS: TableDefinition<'_, Pair, Bytes> = TableDefinition::new("credits");
const RECORDS: TableDefinition<'_, Pair, Bytes> = TableDefinition::new("records");

/// Why the file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// For the first time.
    First,
    /// After trouble with it.
    Again,
}

/// The treatment of a file that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// It has to be there.
    Refuse,
    /// It is made, unless there was one.
    Make,
    /// It is made.
    MakeAnew,
}

type Opener = Box<dyn FnMut(Opening) -> Result<Database, StoreError> + Send>;

/// The embedded store.
pub struct Embedded {
    path: PathBuf,
    opener: Opener,
    /// `None` between trouble and the next opening that works.
    database: Option<Database>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in a folder that is there; in one that never had a ledger its file is made.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the folder or the file cannot be used; [`StoreError::Gone`] when there was a ledger.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::in_folder(folder, Absent::Make)
    }

    /// As [`Self::open`], and begins a new ledger where there was one that has gone or is empty.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the folder or the file cannot be used.
    pub fn open_or_begin_anew(folder: &Path) -> Result<Self, StoreError> {
        Self::in_folder(folder, Absent::MakeAnew)
    }

    /// Opens the store in a folder where its file must be.
    pub(super) fn open_existing(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        // Told before anything is tried in a folder that may be the wrong one, or none.
        if path.try_exists().is_ok_and(|there| !there) {
            return Err(StoreError::Missing(path));
        }
        Self::in_folder(folder, Absent::Refuse)
    }

    fn in_folder(folder: &Path, absent: Absent) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let folder = folder.to_owned();
        let opener = move |opening| open_file(&folder, opening, absent);
        Self::with_opener(path, Box::new(opener))
    }

    /// A store over whatever the opener opens; the path is for messages.
    pub(super) fn with_opener(path: PathBuf, opener: Opener) -> Result<Self, StoreError> {
        let mut store = Self { path, opener, database: None };
        store.start(Opening::First)?;
        Ok(store)
    }

    fn start(&mut self, opening: Opening) -> Result<(), StoreError> {
        let Self { path, opener, database } = self;
        shielded(path, || {
            drop(database.take());
            let opened = opener(opening)?;
            prepare(path, &opened)?;
            *database = Some(opened);
            Ok(())
        })
    }

    /// Everything that can be read, and a line for each row that cannot.
    pub(super) fn read(&self) -> Result<(Loaded, Vec<String>), StoreError> {
        self.read_telling(&mut |_| {})
    }

    /// The same; `told` hears from time to time how many rows have been read.
    pub(super) fn read_telling(
        &self,
        told: &mut dyn FnMut(u64),
    ) -> Result<(Loaded, Vec<String>), StoreError> {
        let database = self.database()?;
        shielded(&self.path, || {
            let mut read = || {
                let mut scan = Scan { transaction: database.begin_read()?, bad: Vec::new(), count: 0, told };
                let loaded = scan.everything()?;
                Ok((loaded, scan.bad))
            };
            read().map_err(|error| trouble(&self.path, error))
        })
    }

    fn database(&self) -> Result<&Database, StoreError> {
        let closed = || StoreError::Disk { path: self.path.clone(), cause: "it is not open".into() };
        self.database.as_ref().ok_or_else(closed)
    }
}

impl Store for Embedded {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let (loaded, bad) = self.read()?;
        match bad.into_iter().next() {
            Some(first) => Err(StoreError::Corrupt { path: self.path.clone(), cause: first.into() }),
            None => Ok(loaded),
        }
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let database = self.database()?;
        shielded(&self.path, || write(database, batch).map_err(|error| trouble(&self.path, error)))
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.start(Opening::Again)
    }
}

/// How redb opens: with every page checked, for it may panic later over a page that somebody else changed.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Opens the file in a folder, or makes it. An empty file is no ledger: redb would begin one in it, and with it the opening
/// credit of every account again.
fn open_file(folder: &Path, opening: Opening, absent: Absent) -> Result<Database, StoreError> {
    let claimed = claim(folder)?;
    let path = folder.join(FILE);
    let length = std::fs::metadata(&path).map(|file| file.len());
    match length {
        Ok(0) if absent != Absent::MakeAnew => {
            return Err(StoreError::Corrupt { path, cause: "it is empty".into() });
        }
        Ok(1..) if opening == Opening::Again => renew(folder, &claimed)?,
        Ok(1..) => {}
        _ if absent == Absent::Refuse => return Err(StoreError::Missing(path)),
        _ if absent == Absent::Make && folder.join(MARKER).exists() => return Err(StoreError::Gone(path)),
        _ => make(folder, &claimed)?,
    }
    mark(folder, &claimed)?;
    let file = OpenOptions::new().read(true).write(true).open(&path);
    database(&path, file.map_err(|error| unusable(folder, &error))?)
}

/// Holds a folder while a file in it is opened or replaced, so that no other process opens one that is about to go.
fn claim(folder: &Path) -> Result<File, StoreError> {
    let claimed = File::open(folder).map_err(|error| unusable(folder, &error))?;
    match claimed.try_lock() {
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(folder.join(FILE))),
        // Where folders cannot be locked, the lock on the file has to do.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(claimed),
    }
}

/// Leaves the marker of a ledger in its folder.
fn mark(folder: &Path, claimed: &File) -> Result<(), StoreError> {
    let path = folder.join(MARKER);
    if path.exists() {
        return Ok(());
    }
    let words = b"The ledger of a Tidegate gateway is in this folder. Without the file it does not start, see --new-ledger.\n";
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(words).and_then(|()| file.sync_all()));
    written.and_then(|()| claimed.sync_all()).map_err(|error| unusable(folder, &error))
}

/// Makes the file aside, so that a crash leaves either none or one that is complete.
fn make(folder: &Path, claimed: &File) -> Result<(), StoreError> {
    let (path, fresh) = (folder.join(FILE), folder.join(FRESH));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    let database = database(&path, file.map_err(|error| unusable(folder, &error))?)?;
    prepare(&path, &database)?;
    database.close().map_err(|error| trouble(&path, error.into()))?;
    replace(folder, claimed).map_err(|error| disk(&path, &error))
}

fn database(path: &Path, file: File) -> Result<Database, StoreError> {
    let opened = FileBackend::new(file).and_then(|backend| builder().create_with_backend(backend));
    opened.map_err(|error| trouble(path, error.into()))
}

/// Puts a copy in the place of the file, and makes it durable as a whole.
///
/// After a failed sync the system may take pages for written that are not: they read well, and no later sync writes
/// them. What is read is sound, so it is written once more, to a file whose every page is new.
fn renew(folder: &Path, claimed: &File) -> Result<(), StoreError> {
    let path = folder.join(FILE);
    let failed = |error: io::Error| disk(&path, &error);
    let mut old = File::open(&path).map_err(failed)?;
    // The same lock that redb takes: another process may have opened the file meanwhile.
    old.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::Locked(path.clone()),
        TryLockError::Error(error) => failed(error),
    })?;
    let new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(folder.join(FRESH));
    let mut new = new.map_err(failed)?;
    copy(&mut old, &mut new).map_err(failed)?;
    new.sync_all().map_err(failed)?;
    replace(folder, claimed).map_err(failed)
}

/// A name is durable once its folder is.
fn replace(folder: &Path, claimed: &File) -> io::Result<()> {
    std::fs::rename(folder.join(FRESH), folder.join(FILE))?;
    claimed.sync_all()
}

/// Copies byte by byte; `io::copy` might let both files share pages on the disk, of which some are not written.
fn copy(from: &mut File, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut buffer)?;
        match buffer.get(..length) {
            Some(bytes) if !bytes.is_empty() => to.write_all(bytes)?,
            _ => return Ok(()),
        }
    }
}

/// Makes the tables in a new file, and refuses a file of another format.
fn prepare(path: &Path, database: &Database) -> Result<(), StoreError> {
    match format(database).map_err(|error| trouble(path, error))? {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(StoreError::Version { path: path.to_owned(), found, known: FORMAT }),
        None => Err(StoreError::Corrupt { path: path.to_owned(), cause: "it has other tables".into() }),
    }
}

/// The format of a file; a new one gets ours. `None` if it was made for something else.
fn format(database: &Database) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_write()?;
    let is_new = transaction.list_tables()?.next().is_none();
    let found = {
        let mut meta = transaction.open_table(META)?;
        if is_new {
            meta.insert("format", FORMAT)?;
        }
        meta.get("format")?.map(|format| format.value())
    };
    if is_new {
        transaction.open_table(ACCOUNTS)?;
        transaction.open_table(KEYS)?;
        transaction.open_table(RESERVATIONS)?;
        transaction.open_table(CREDITS)?;
        transaction.open_table(RECORDS)?;
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(found)
}

fn write(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    if let Some(changes) = &batch.ledger {
        write_ledger(&transaction, changes)?;
    }
    if !batch.records.is_empty() {
        let mut records = transaction.open_table(RECORDS)?;
        for row in &batch.records {
            let name = (&*row.kind, &*row.id);
            match &row.bytes {
                Some(bytes) => records.insert(name, &**bytes)?,
                None => records.remove(name)?,
            };
        }
    }
    transaction.commit()?;
    Ok(())
}

fn write_ledger(transaction: &WriteTransaction, changes: &Changes) -> Result<(), redb::Error> {
    let mut accounts = transaction.open_table(ACCOUNTS)?;
    for (id, funds) in &changes.accounts {
        accounts.insert(&**id, funds.encode().as_slice())?;
    }
    let mut keys = transaction.open_table(KEYS)?;
    for (id, funds) in &changes.keys {
        keys.insert(&**id, funds.encode().as_slice())?;
    }
    let mut reservations = transaction.open_table(RESERVATIONS)?;
    for (id, reservation) in &changes.reservations {
        match reservation {
            Some(reservation) => reservations.insert(id.0, reservation.encode().as_slice())?,
            None => reservations.remove(id.0)?,
        };
    }
    let mut credits = transaction.open_table(CREDITS)?;
    for (account, credit, amount) in &changes.credits {
        credits.insert((&**account, &**credit), amount.encode().as_slice())?;
    }
    transaction.open_table(META)?.insert("next", changes.next)?;
    Ok(())
}

/// After so many rows whoever waits is told of it.
const TELL_EVERY: u64 = 4_096;

/// Reads tables, and notes what is no row.
struct Scan<'a> {
    transaction: ReadTransaction,
    bad: Vec<String>,
    count: u64,
    told: &'a mut dyn FnMut(u64),
}

impl Scan<'_> {
    fn everything(&mut self) -> Result<Loaded, redb::Error> {
        let next = self.transaction.open_table(META)?.get("next")?.map_or(0, |next| next.value());
        let accounts: Vec<(Arc<str>, AccountFunds)> = self.rows(ACCOUNTS, |id| id.into())?;
        let keys: Vec<(Arc<str>, KeyFunds)> = self.rows(KEYS, |id| id.into())?;
        let reservations: Vec<(_, Reservation)> = self.rows(RESERVATIONS, ReservationId)?;
        let pair = |(first, second): (&str, &str)| (Arc::<str>::from(first), Arc::<str>::from(second));
        let credits: Vec<(_, Money)> = self.rows(CREDITS, pair)?;
        let credits =
            credits.into_iter().map(|((account, credit), amount)| (account, credit, amount)).collect();
        Ok(Loaded {
            ledger: Snapshot { accounts, keys, reservations, credits, next },
            records: self.records()?,
        })
    }

    fn rows<K: redb::Key + 'static, N: Debug, R: Row>(
        &mut self,
        definition: TableDefinition<'static, K, Bytes>,
        own: impl Fn(K::SelfType<'_>) -> N,
    ) -> Result<Vec<(N, R)>, redb::Error> {
        let table = self.transaction.open_table(definition)?;
        let mut rows = Vec::new();
        for entry in table.iter()? {
            let (key, value) = entry?;
            self.count += 1;
            if self.count.is_multiple_of(TELL_EVERY) {
                (self.told)(self.count);
            }
            let name = own(key.value());
            match R::decode(value.value()) {
                Some(row) => rows.push((name, row)),
                None => {
                    let table = redb::TableHandle::name(&definition);
                    self.bad.push(format!("{table}, {name:?}: this is no row"));
                }
            }
        }
        Ok(rows)
    }

    fn records(&self) -> Result<Vec<RecordRow>, redb::Error> {
        let table = self.transaction.open_table(RECORDS)?;
        let row = |entry: Result<(redb::AccessGuard<'_, Pair>, redb::AccessGuard<'_, Bytes>), _>| {
            let (name, bytes) = entry?;
            let (kind, id) = name.value();
            Ok(RecordRow { kind: kind.into(), id: id.into(), bytes: Some(bytes.value().into()) })
        };
        table.iter()?.map(row).collect()
    }
}

/// redb may panic over a page that was changed behind its back; that is an error of the file, not of the gateway.
fn shielded<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(StoreError::Corrupt { path: path.to_owned(), cause: "its pages contradict each other".into() })
    })
}

/// What redb says, as what to do about it.
pub(super) fn trouble(path: &Path, error: redb::Error) -> StoreError {
    use redb::Error as E;
    let path = path.to_owned();
    let cause = error.to_string().into();
    match error {
        E::DatabaseAlreadyOpen | E::LockProtocolMismatch => StoreError::Locked(path),
        E::Io(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            StoreError::Corrupt { path, cause }
        }
        E::Corrupted(_)
        | E::UpgradeRequired(_)
        | E::RepairAborted
        | E::TableTypeMismatch { .. }
        | E::TypeDefinitionChanged { .. }
        | E::TableIsMultimap(_)
        | E::TableDoesNotExist(_) => StoreError::Corrupt { path, cause },
        _ => StoreError::Disk { path, cause },
    }
}

fn unusable(folder: &Path, error: &io::Error) -> StoreError {
    StoreError::Folder { path: folder.to_owned(), cause: error.to_string().into() }
}

fn disk(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Disk { path: path.to_owned(), cause: error.to_string().into() }
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
