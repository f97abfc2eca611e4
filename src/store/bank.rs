//! The ledger of a running gateway: in memory, with a thread that makes durable what changed.
//!
//! Whoever changes something goes on at once and, where it matters, waits for [`Bank::durable`]. The thread takes all
//! that has changed since its last commit, writes it as one batch, and answers everybody whose change is in it; what
//! comes meanwhile is the next batch. When the disk fails, those who wait are told, the rows are kept, and the thread
//! tries again by itself until it works: nothing that was acknowledged is lost, and no restart is needed. Every row is
//! in memory, so only the disk bounds how long this can go on.

use super::records::Records;
use super::{Batch, Store, StoreError};
use crate::core::ledger::{Ledger, Recovery, Violation};
use futures::FutureExt;
use futures::channel::oneshot;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The rest after a first failure, and the longest after doubling.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The disk does not work now, or the bank is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot be written now")]
pub struct Unavailable;

/// What a bank needs to know.
pub struct Options {
    /// The number of this process, which is in its reservations.
    pub process: u64,
    /// Other processes that still live; of all the rest, open reservations are recovered at the start.
    pub living: Vec<u64>,
    /// Nanoseconds of a clock that does not go back.
    pub clock: fn() -> u64,
    /// Is told how long each commit took, by the writing thread.
    pub observe: Box<dyn Fn(Duration) + Send + Sync>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("process", &self.process).finish_non_exhaustive()
    }
}

/// Whether what changes becomes durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Well,
    /// It does not at the moment.
    Failing {
        /// Attempts that failed in a row.
        failures: u32,
        /// Why the last one did.
        error: StoreError,
    },
}

/// What the writing thread has done, and what waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Commits that worked.
    pub commits: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Rows in those commits that worked.
    pub rows: u64,
    /// Those who wait for a commit now.
    pub waiting: usize,
}

/// A ledger that becomes durable.
#[derive(Debug)]
pub struct Bank {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    options: Arc<Options>,
    recovery: Recovery,
}

impl Bank {
    /// Loads what the store holds, recovers the reservations of dead processes, and begins to write.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot be read or written, or its rows contradict each other.
    pub fn start(mut store: Box<dyn Store>, options: Options) -> Result<Arc<Self>, StoreError> {
        let (state, recovery) = load(store.as_mut(), |process| !options.living.contains(&process))?;
        let (work, ended) = (Condvar::new(), Condvar::new());
        let shared =
            Arc::new(Shared { state: Mutex::new(state), work, ended, is_well: AtomicBool::new(true) });
        let options = Arc::new(options);
        let writer = Writer { shared: Arc::clone(&shared), store, options: Arc::clone(&options) };
        let writer = Mutex::new(Some(writer.start()?));
        Ok(Arc::new(Self { shared, writer, options, recovery }))
    }

    /// Goes on after [`Bank::close`], with what the store holds by now: another process had it meanwhile, and is dead. What
    /// that one left is recovered.
    ///
    /// # Errors
    ///
    /// [`StoreError`] as at the start; the bank stays closed then.
    pub fn reopen(&self, mut store: Box<dyn Store>) -> Result<Recovery, StoreError> {
        let (fresh, recovery) = load(store.as_mut(), |process| process != self.options.process)?;
        let mut state = self.shared.lock();
        let counters = state.counters;
        *state = State { counters, ..fresh };
        self.shared.is_well.store(true, Ordering::Release);
        drop(state);
        let writer = Writer { shared: Arc::clone(&self.shared), store, options: Arc::clone(&self.options) };
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer.start()?);
        Ok(recovery)
    }

    /// The number of this process, for its reservations.
    #[must_use]
    pub fn process(&self) -> u64 {
        self.options.process
    }

    /// What was recovered at the start.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Reads or changes the ledger; what changed is going to be written. It is locked meanwhile, and its changes are
    /// drained by the bank alone.
    pub fn with<R>(&self, work: impl FnOnce(&mut Ledger) -> R) -> R {
        self.change(|state| work(&mut state.ledger))
    }

    /// Completes when all that has changed by now is durable.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] as soon as an attempt to write fails. The change itself stays, and becomes durable with the disk's
    /// recovery, unless it is undone.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time; what it waits for is written nevertheless.
    pub fn durable(&self) -> impl Future<Output = Result<(), Unavailable>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.shared.lock();
        let sequence = state.sequence();
        if state.written >= sequence {
            // Nobody listens only if the future is gone, and then it does not matter.
            let _ = sender.send(Ok(()));
        } else if state.phase != Phase::Ended {
            state.waiters.push(Waiter { sequence, sender });
        }
        receiver.map(|answer| answer.unwrap_or(Err(Unavailable)))
    }

    /// Writes a record, or writes it anew.
    pub fn put_record(&self, kind: &str, id: &str, bytes: &[u8]) {
        self.change(|state| state.records.put(kind, id, bytes));
    }

    /// Removes a record; whether it was there.
    pub fn remove_record(&self, kind: &str, id: &str) -> bool {
        self.change(|state| state.records.remove(kind, id))
    }

    /// Ids and contents of all records of a kind, by id.
    #[must_use]
    pub fn records(&self, kind: &str) -> Vec<(Arc<str>, Arc<[u8]>)> {
        self.shared.lock().records.of(kind)
    }

    /// Whether what changes becomes durable; if not, nothing new may be begun that costs money. Takes no lock.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.shared.is_well.load(Ordering::Acquire)
    }

    /// Whether what changes becomes durable, and why not.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.lock().health.clone()
    }

    /// What has been done, and what waits.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let state = self.shared.lock();
        Counters { waiting: state.waiters.len(), ..state.counters }
    }

    /// Writes what is left, and ends the thread, within `limit`; a failing disk gets one more attempt.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when something could not be written, or not in time.
    pub fn close(&self, limit: Duration) -> Result<(), Unavailable> {
        self.shared.begin_to_close();
        let ended =
            self.shared.ended.wait_timeout_while(self.shared.lock(), limit, |s| s.phase != Phase::Ended);
        let (state, _) = ended.unwrap_or_else(PoisonError::into_inner);
        if state.phase != Phase::Ended {
            return Err(Unavailable);
        }
        let is_written = state.written >= state.sequence();
        drop(state);
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let joined = thread.is_none_or(|thread| thread.join().is_ok());
        if joined && is_written { Ok(()) } else { Err(Unavailable) }
    }

    fn change<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.shared.lock();
        let before = state.sequence();
        let answer = work(&mut state);
        let changed = state.sequence() != before;
        drop(state);
        if changed {
            self.shared.work.notify_one();
        }
        answer
    }
}

impl Drop for Bank {
    /// The thread ends when it has written what is left; nobody waits for it here.
    fn drop(&mut self) {
        self.shared.begin_to_close();
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do for the writing thread.
    work: Condvar,
    /// The writing thread has ended.
    ended: Condvar,
    is_well: AtomicBool,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    records: Records,
    /// All changes up to this one are durable.
    written: u64,
    waiters: Vec<Waiter>,
    health: Health,
    counters: Counters,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    /// Closing, and failing: this attempt is the last.
    LastTry,
    Ended,
}

#[derive(Debug)]
struct Waiter {
    sequence: u64,
    sender: oneshot::Sender<Result<(), Unavailable>>,
}

impl State {
    fn new(ledger: Ledger, records: Records) -> Self {
        let written = ledger.sequence() + records.sequence();
        let (health, counters) = (Health::Well, Counters::default());
        Self { ledger, records, written, waiters: Vec::new(), health, counters, phase: Phase::Open }
    }

    /// A number that grows with every change.
    fn sequence(&self) -> u64 {
        self.ledger.sequence() + self.records.sequence()
    }

    fn failures(&self) -> u32 {
        match self.health {
            Health::Well => 0,
            Health::Failing { failures, .. } => failures,
        }
    }
}

impl Shared {
    /// A panic while the lock was held was in the caller's code: no operation of the ledger has one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_to_close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.work.notify_all();
    }

    /// Waits for something to write; the sequence that it covers goes with it. `None` at the end.
    fn next(&self) -> Option<(Batch, u64)> {
        let idle = |state: &mut State| state.phase == Phase::Open && state.written >= state.sequence();
        let state = self.work.wait_while(self.lock(), idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let sequence = state.sequence();
        if state.written >= sequence {
            return None;
        }
        let batch = Batch { ledger: state.ledger.changes(), records: state.records.changes() };
        Some((batch, sequence))
    }

    fn committed(&self, rows: usize, sequence: u64) {
        let mut state = self.lock();
        state.written = sequence;
        let was_well = std::mem::replace(&mut state.health, Health::Well) == Health::Well;
        state.counters.commits += 1;
        state.counters.rows += rows as u64;
        self.is_well.store(true, Ordering::Release);
        let (done, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiters).into_iter().partition(|waiter| waiter.sequence <= sequence);
        state.waiters = waiting;
        drop(state);
        if !was_well {
            log::warn!("the store works again: paid requests are served");
        }
        answer(done, Ok(()));
    }

    fn failed(&self, batch: Option<Batch>, error: StoreError) {
        let mut state = self.lock();
        if let Some(batch) = batch {
            if let Some(changes) = batch.ledger {
                state.ledger.put_back(changes);
            }
            state.records.put_back(batch.records);
        }
        let told = (state.health == Health::Well).then(|| error.to_string());
        state.health = Health::Failing { failures: state.failures().saturating_add(1), error };
        state.counters.failures += 1;
        self.is_well.store(false, Ordering::Release);
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        if let Some(error) = told {
            log::error!("the store fails, and paid requests are refused until it works again: {error}");
        }
        answer(waiters, Err(Unavailable));
    }

    /// Rests after a failure, the longer the more there were; whether another attempt is due.
    fn rest(&self) -> bool {
        let state = self.lock();
        if state.phase == Phase::LastTry {
            return false;
        }
        let pause = PAUSE.saturating_mul(1 << state.failures().saturating_sub(1).min(10)).min(PAUSE_MAX);
        let rested = self.work.wait_timeout_while(state, pause, |state| state.phase == Phase::Open);
        let (mut state, _) = rested.unwrap_or_else(PoisonError::into_inner);
        if state.phase == Phase::Closing {
            state.phase = Phase::LastTry;
        }
        true
    }

    fn end(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        self.is_well.store(false, Ordering::Release);
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        answer(waiters, Err(Unavailable));
        self.ended.notify_all();
    }
}

/// Outside the lock, for waking somebody takes time.
fn answer(waiters: Vec<Waiter>, answer: Result<(), Unavailable>) {
    for waiter in waiters {
        // Who does not listen any more does not mind.
        let _ = waiter.sender.send(answer);
    }
}

/// What a store holds, with what dead processes left recovered.
fn load(store: &mut dyn Store, is_dead: impl Fn(u64) -> bool) -> Result<(State, Recovery), StoreError> {
    let loaded = store.load()?;
    let mut ledger = Ledger::from_snapshot(loaded.ledger);
    if let Some(first) = ledger.verify().first().map(Violation::to_string) {
        return Err(StoreError::Inconsistent(first.into()));
    }
    let recovery = ledger.recover(is_dead);
    let batch = Batch { ledger: ledger.changes(), records: Vec::new() };
    // Even if there is nothing to write: a disk that refuses is better known before the first request.
    store.apply(&batch)?;
    Ok((State::new(ledger, Records::new(loaded.records)), recovery))
}

struct Writer {
    shared: Arc<Shared>,
    store: Box<dyn Store>,
    options: Arc<Options>,
}

impl Writer {
    fn start(self) -> Result<JoinHandle<()>, StoreError> {
        let thread = std::thread::Builder::new().name("tidegate-ledger".into()).spawn(move || self.run());
        thread.map_err(|error| StoreError::Thread(error.to_string().into()))
    }

    fn run(self) {
        // However this thread ends, nobody waits for it in vain.
        let _ending = Ending(Arc::clone(&self.shared));
        let Self { shared, mut store, options } = self;
        while let Some((batch, sequence)) = shared.next() {
            let begun = (options.clock)();
            let outcome = store.apply(&batch);
            (options.observe)(Duration::from_nanos((options.clock)().saturating_sub(begun)));
            match outcome {
                Ok(()) => shared.committed(batch.rows(), sequence),
                Err(error) => {
                    shared.failed(Some(batch), error);
                    if !heal(&shared, store.as_mut()) {
                        break;
                    }
                }
            }
        }
    }
}

/// Reopens the store after a failure, however often it takes; `false` when it is time to give up.
fn heal(shared: &Shared, store: &mut dyn Store) -> bool {
    while shared.rest() {
        match store.reopen() {
            Ok(()) => return true,
            Err(error) => shared.failed(None, error),
        }
    }
    false
}

struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
#[path = "bank_tests.rs"]
mod tests;
