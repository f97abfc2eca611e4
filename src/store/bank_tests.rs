use super::super::disk_tests::Disk;
use super::super::{Embedded, Loaded};
use super::*;
use crate::core::ledger::{AccountFunds, Ask, Credited, ReservationId};
use crate::core::money::Money;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

const LONG: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return answer;
        }
        std::thread::park();
    }
}

fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

fn options(process: u64) -> Options {
    Options { process, living: vec![], clock: || 0, observe: Box::new(|_| {}) }
}

fn start(store: Result<Embedded, StoreError>, process: u64) -> Arc<Bank> {
    Bank::start(Box::new(store.unwrap()), options(process)).unwrap()
}

fn ask(process: u64, amount: i64) -> Ask<'static> {
    let amount = Money::from_nanos(amount);
    Ask { account: "a", key: "k", least: amount, most: amount, price_version: 0, process }
}

fn reserve(bank: &Bank, amount: i64) -> Option<ReservationId> {
    let reserved = bank.with(|ledger| ledger.reserve(&ask(bank.process(), amount)));
    reserved.ok().map(|(id, _)| id)
}

fn credit(bank: &Bank, amount: i64) {
    let booked = bank.with(|ledger| ledger.credit("a", "opening", Money::from_nanos(amount)));
    assert_eq!((booked, block_on(bank.durable())), (Credited::Booked, Ok(())));
}

fn funds(bank: &Bank) -> [i64; 4] {
    let AccountFunds { credited, available, held, spent } = bank.with(|ledger| ledger.account("a").unwrap());
    [credited, available, held, spent].map(Money::nanos)
}

fn until(what: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it never came");
}

/// Goal: with any number of threads at a balance for a hundred, exactly a hundred reservations are made, each of them
/// durable, in fewer commits than that; and a crash finds all of them.
#[test]
fn exactly_what_the_balance_covers_is_reserved() {
    let disk = Disk::default();
    let bank = start(disk.store(), 1);
    credit(&bank, 100);
    let granted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..10 {
                    if reserve(&bank, 1).is_some() {
                        assert_eq!(block_on(bank.durable()), Ok(()));
                        granted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!((granted.load(Ordering::Relaxed), funds(&bank)), (100, [100, 0, 100, 0]));
    let counters = bank.counters();
    assert!(counters.commits <= 101 && counters.rows >= 102 && counters.waiting == 0, "{counters:?}");
    let after = start(disk.crash().store(), 2);
    assert_eq!((after.recovery().released, funds(&after)), (100, [100, 100, 0, 0]));
}

/// Goal: at the start the dead's reservations end at their checkpoint, durably, and those of the living stay.
#[test]
fn the_dead_are_recovered_at_the_start() {
    let disk = Disk::default();
    let bank = start(disk.store(), 1);
    credit(&bank, 100);
    let ids: Vec<_> =
        [1, 1, 5].map(|process| bank.with(|ledger| ledger.reserve(&ask(process, 20)).unwrap().0)).into();
    bank.with(|ledger| ids.iter().for_each(|id| ledger.checkpoint(*id, Money::from_nanos(7))));
    bank.with(|ledger| ledger.release(ids[1]));
    assert_eq!(block_on(bank.durable()), Ok(()));
    bank.with(|ledger| ledger.settle(ids[0], Money::from_nanos(15)));
    let crashed = disk.crash();
    for _ in 0..2 {
        let store = Box::new(crashed.store().unwrap());
        let after = Bank::start(store, Options { living: vec![5], ..options(2) }).unwrap();
        // The settlement may have been written or not; the amount of the checkpoint at least was.
        let [_, available, held, spent] = funds(&after);
        assert!(held == 20 && (spent == 7 || spent == 15) && available == 80 - spent);
        let again = start(crashed.crash().store(), 3);
        assert_eq!(funds(&again), [100, 93 - spent, 0, spent + 7]);
    }
    bank.close(LONG).unwrap();
    assert_eq!(funds(&start(disk.crash().store(), 2)), [100, 78, 0, 22]);
}

/// Goal: while the disk fails those who wait are told and health says so; what is settled meanwhile is kept; the bank is
/// well again by itself, and then all is durable.
#[test]
fn it_heals_by_itself() {
    let disk = Disk::default();
    let bank = start(disk.store(), 1);
    credit(&bank, 100);
    let (kept, given_back) = (reserve(&bank, 10).unwrap(), reserve(&bank, 20).unwrap());
    assert_eq!((block_on(bank.durable()), bank.is_well(), bank.health()), (Ok(()), true, Health::Well));
    for tears in [false, true] {
        let before = bank.counters().failures;
        disk.fail(0..5, tears, 3);
        let refused = reserve(&bank, 5).unwrap();
        assert_eq!((block_on(bank.durable()), bank.is_well()), (Err(Unavailable), false));
        let Health::Failing { failures: 1.., error: StoreError::Disk { .. } } = bank.health() else {
            panic!("{:?}", bank.health());
        };
        bank.with(|ledger| ledger.release(refused));
        bank.put_record("revoked", "k", b"since now");
        if tears {
            bank.with(|ledger| ledger.settle(kept, Money::from_nanos(9)).unwrap());
            bank.with(|ledger| ledger.release(given_back));
        }
        until(|| bank.is_well());
        assert_eq!((block_on(bank.durable()), bank.health()), (Ok(()), Health::Well));
        assert!(bank.counters().failures > before + 1);
    }
    let after = start(disk.crash().store(), 2);
    assert_eq!((funds(&after), after.recovery()), ([100, 91, 0, 9], Recovery::default()));
    assert_eq!(after.records("revoked").len(), 1);
    assert_eq!(bank.with(|ledger| (ledger.verify(), ledger.totals().outstanding)), (vec![], 0));
}

/// Goal: records are there after a restart as they were last, by kind; what changes nothing is durable at once.
#[test]
fn records_are_kept() {
    let disk = Disk::default();
    let bank = start(disk.store(), 1);
    for (kind, id) in [("key", "b"), ("key", "a"), ("keys", "x"), ("account", "c")] {
        bank.put_record(kind, id, id.as_bytes());
    }
    bank.put_record("key", "a", b"newer");
    assert!(bank.remove_record("key", "b") && !bank.remove_record("key", "b"));
    assert_eq!(block_on(bank.durable()), Ok(()));
    let commits = bank.counters().commits;
    assert!(bank.with(|ledger| ledger.account("a").is_none()) && !is_pending(&mut bank.durable()));
    drop(bank.durable());
    let after = start(disk.crash().store(), 2);
    assert_eq!(after.records("key"), [("a".into(), b"newer".as_slice().into())]);
    assert_eq!((after.records("keys").len(), after.records("none").len()), (1, 0));
    assert_eq!(bank.counters().commits, commits);
}

/// Goal: closing writes what is left and lets go of the file; afterwards nothing is acknowledged any more.
#[test]
fn closing_writes_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let bank = start(Embedded::open(folder.path()), 1);
    credit(&bank, 50);
    bank.put_record("key", "a", b"1");
    assert_eq!((bank.close(LONG), bank.close(LONG), bank.is_well()), (Ok(()), Ok(()), false));
    assert!(!is_pending(&mut bank.durable()));
    let after = start(Embedded::open(folder.path()), 2);
    assert_eq!((funds(&after), after.records("key").len()), ([50, 50, 0, 0], 1));
    reserve(&bank, 1).unwrap();
    assert_eq!((block_on(bank.durable()), bank.close(LONG)), (Err(Unavailable), Err(Unavailable)));
}

/// Goal: closing over a disk that fails for good ends all the same, and says so.
#[test]
fn closing_over_a_dead_disk_ends() {
    let disk = Disk::default();
    let bank = start(disk.store(), 1);
    credit(&bank, 50);
    disk.fail(0..u64::MAX, false, 0);
    reserve(&bank, 5).unwrap();
    assert_eq!((block_on(bank.durable()), bank.close(LONG)), (Err(Unavailable), Err(Unavailable)));
    assert!(bank.counters().failures >= 2);
    assert!(matches!(
        Bank::start(Box::new(disk.crash().store().unwrap()), options(2)).map(|b| funds(&b)),
        Ok([50, 50, 0, 0])
    ));
}

/// A store whose commits wait for a word, and do what it says.
struct Slow {
    began: mpsc::Sender<usize>,
    words: mpsc::Receiver<Word>,
    first: bool,
}

#[derive(Debug, Clone, Copy)]
enum Word {
    Work,
    Fail,
    Panic,
}

impl Store for Slow {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if std::mem::take(&mut self.first) {
            return Ok(());
        }
        self.began.send(batch.rows()).unwrap();
        match self.words.recv().unwrap() {
            Word::Work => Ok(()),
            Word::Fail => Err(StoreError::Inconsistent("told to fail".into())),
            Word::Panic => panic!("told to panic"),
        }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn slow(options: Options) -> (Arc<Bank>, mpsc::Receiver<usize>, mpsc::Sender<Word>) {
    let ((began, begun), (say, words)) = (mpsc::channel(), mpsc::channel());
    let bank = Bank::start(Box::new(Slow { began, words, first: true }), options).unwrap();
    (bank, begun, say)
}

/// Goal: a commit answers only those whose change is in it; all that comes meanwhile goes together; each is timed.
#[test]
fn a_commit_answers_for_what_is_in_it() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let (told, durations) = mpsc::channel();
    let clock = || NOW.fetch_add(1_000, Ordering::Relaxed);
    let observe = Box::new(move |duration| told.send(duration).unwrap());
    let (bank, begun, say) = slow(Options { clock, observe, ..options(1) });
    bank.with(|ledger| ledger.open_account("a"));
    assert_eq!(begun.recv().unwrap(), 1);
    let first = bank.durable();
    ["b", "c", "d"].iter().for_each(|id| bank.with(|ledger| ledger.open_account(id)));
    let (mut second, dropped) = (bank.durable(), bank.durable());
    drop(dropped);
    assert_eq!(bank.counters().waiting, 3);
    say.send(Word::Work).unwrap();
    assert_eq!((block_on(first), begun.recv().unwrap(), is_pending(&mut second)), (Ok(()), 3, true));
    say.send(Word::Work).unwrap();
    assert_eq!((block_on(second), bank.close(LONG)), (Ok(()), Ok(())));
    assert_eq!(durations.iter().take(2).collect::<Vec<_>>(), [Duration::from_micros(1); 2]);
    assert_eq!(bank.counters(), Counters { commits: 2, failures: 0, rows: 4, waiting: 0 });
}

/// Goal: whoever begins to wait while the disk fails is answered by the next attempt, with the newest state in it; and
/// closing does not wait for a disk that hangs.
#[test]
fn the_next_attempt_answers() {
    let (bank, begun, say) = slow(options(1));
    bank.with(|ledger| ledger.open_account("a"));
    say.send(Word::Fail).unwrap();
    until(|| !bank.is_well());
    bank.with(|ledger| ledger.open_account("b"));
    let waiting = bank.durable();
    assert_eq!((begun.recv().unwrap(), begun.recv().unwrap()), (1, 2));
    assert_eq!(bank.close(Duration::from_millis(20)), Err(Unavailable));
    say.send(Word::Work).unwrap();
    assert_eq!((block_on(waiting), bank.close(LONG)), (Ok(()), Ok(())));
}

/// Goal: even a panic in the writing thread leaves nobody waiting, and the bank is not well.
#[test]
fn a_panic_leaves_nobody_waiting() {
    let (bank, _begun, say) = slow(options(1));
    bank.with(|ledger| ledger.open_account("a"));
    let waiting = bank.durable();
    say.send(Word::Panic).unwrap();
    assert_eq!((block_on(waiting), bank.is_well()), (Err(Unavailable), false));
    assert_eq!((block_on(bank.durable()), bank.close(LONG)), (Err(Unavailable), Err(Unavailable)));
}

/// Goal: a bank that was closed, and whose file another process had and left when it died, goes on with what that one wrote;
/// its own reservations stay open, those of the other are recovered, and what it writes is durable again.
#[test]
fn a_bank_goes_on_after_another_process_had_its_file() {
    let disk = Disk::default();
    let bank = start(disk.store(), 1);
    credit(&bank, 100);
    let (own, settled) = (reserve(&bank, 10).unwrap(), reserve(&bank, 20).unwrap());
    assert_eq!(bank.close(LONG), Ok(()));
    assert!(!bank.is_well() && reserve(&bank, 1).is_some(), "it is not durable");
    assert!(block_on(bank.durable()).is_err());

    let other =
        Bank::start(Box::new(disk.store().unwrap()), Options { living: vec![1], ..options(2) }).unwrap();
    assert!(other.with(|ledger| ledger.settle(settled, Money::from_nanos(5))).is_some());
    reserve(&other, 30).unwrap();
    assert_eq!(other.close(LONG), Ok(()));

    let recovery = bank.reopen(Box::new(disk.store().unwrap())).unwrap();
    assert_eq!((recovery.settled, recovery.released), (0, 1));
    assert!(bank.is_well());
    assert_eq!(funds(&bank), [100, 85, 10, 5]);
    assert!(bank.with(|ledger| ledger.settle(own, Money::from_nanos(10))).is_some());
    assert_eq!((block_on(bank.durable()), bank.close(LONG)), (Ok(()), Ok(())));
    assert_eq!(funds(&start(disk.store(), 3)), [100, 85, 0, 15]);
}
