use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const OLD: u64 = 1;

fn nanos(amount: i64) -> Money {
    Money::from_nanos(amount)
}

fn ask(account: &'static str, key: &'static str, least: i64, most: i64) -> Ask<'static> {
    Ask { account, key, least: nanos(least), most: nanos(most), price_version: 7, process: OLD }
}

fn funded(amount: i64) -> Ledger {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.credit("a", "opening", nanos(amount)), Credited::Booked);
    ledger
}

fn parts(ledger: &Ledger) -> [i64; 4] {
    let funds = ledger.account("a").unwrap();
    [funds.credited, funds.available, funds.held, funds.spent].map(Money::nanos)
}

/// What a disk holds after the rows that were drained.
#[derive(Debug, Default, Clone)]
struct Written {
    accounts: BTreeMap<Arc<str>, AccountFunds>,
    keys: BTreeMap<Arc<str>, KeyFunds>,
    reservations: BTreeMap<ReservationId, Reservation>,
    credits: BTreeMap<(Arc<str>, Arc<str>), Money>,
    next: u64,
}

impl Written {
    fn write(&mut self, changes: &Changes) {
        self.accounts.extend(changes.accounts.iter().cloned());
        self.keys.extend(changes.keys.iter().cloned());
        for (id, reservation) in &changes.reservations {
            match reservation {
                Some(reservation) => self.reservations.insert(*id, reservation.clone()),
                None => self.reservations.remove(id),
            };
        }
        self.credits.extend(changes.credits.iter().map(|(a, c, m)| ((a.clone(), c.clone()), *m)));
        self.next = changes.next;
    }

    fn load(&self) -> Ledger {
        Ledger::from_snapshot(Snapshot {
            accounts: self.accounts.clone().into_iter().collect(),
            keys: self.keys.clone().into_iter().collect(),
            reservations: self.reservations.clone().into_iter().collect(),
            credits: self.credits.iter().map(|((a, c), m)| (a.clone(), c.clone(), *m)).collect(),
            next: self.next,
        })
    }
}

/// Goal: an amount is set aside, extended, settled once, and the rest is available again.
#[test]
fn a_reservation_ends_once() {
    let mut ledger = funded(100);
    let (id, amount) = ledger.reserve(&ask("a", "k", 10, 60)).unwrap();
    assert_eq!((amount, parts(&ledger)), (nanos(60), [100, 40, 60, 0]));
    assert_eq!(ledger.extend(id, nanos(41)), Err(Refused::Insufficient(Insufficient::Account)));
    assert_eq!((ledger.extend(id, nanos(10)), ledger.extend(id, nanos(-5))), (Ok(()), Ok(())));
    let settled = Settled { charged: nanos(25), uncollected: Money::ZERO };
    assert_eq!(ledger.settle(id, nanos(25)), Some(settled));
    assert_eq!(parts(&ledger), [100, 75, 0, 25]);
    assert_eq!((ledger.settle(id, nanos(25)), ledger.release(id)), (None, false));
    assert_eq!(ledger.extend(id, nanos(1)), Err(Refused::Unknown));
    assert_eq!(ledger.totals(), Totals { reserved: 70, settled: 25, released: 45, outstanding: 0 });
    assert_eq!(ledger.verify(), []);
}

/// Goal: what a request cost beyond its reservation is collected as far as balance and quota reach.
#[test]
fn a_settlement_above_the_reservation_takes_what_there_is() {
    for (quota, charged) in [(None, 100), (Some(80), 80)] {
        let mut ledger = funded(100);
        ledger.set_quota("k", quota.map(nanos));
        let (id, _) = ledger.reserve(&ask("a", "k", 0, 10)).unwrap();
        let settled = Settled { charged: nanos(charged), uncollected: nanos(130 - charged) };
        assert_eq!(ledger.settle(id, nanos(130)), Some(settled));
        assert_eq!(parts(&ledger), [100, 100 - charged, 0, charged]);
        assert_eq!(ledger.verify(), []);
    }
}

/// Goal: the balance and the quota of the key both bound a reservation, each refuses by its name, and a refusal changes
/// nothing.
#[test]
fn balance_and_quota_bound_a_reservation() {
    let mut ledger = funded(100);
    ledger.set_quota("k", Some(nanos(30)));
    assert_eq!(ledger.reserve(&ask("a", "k", 31, 50)), Err(Insufficient::Key));
    assert_eq!(ledger.reserve(&ask("a", "k", 101, 101)), Err(Insufficient::Account));
    assert_eq!(ledger.reserve(&ask("nobody", "k", 0, 0)), Err(Insufficient::Account));
    assert_eq!((parts(&ledger), ledger.open_reservations()), ([100, 100, 0, 0], 0));
    assert_eq!(ledger.reserve(&ask("a", "k", 10, 50)).unwrap().1, nanos(30));
    assert_eq!(ledger.reserve(&ask("a", "k", 1, 1)), Err(Insufficient::Key));
    assert_eq!(ledger.reserve(&ask("a", "other", 1, 90)).unwrap().1, nanos(70));
    ledger.set_quota("k", Some(nanos(5)));
    assert_eq!(ledger.reserve(&ask("a", "k", 0, 9)).unwrap().1, Money::ZERO, "what is free fits always");
    assert_eq!(ledger.verify(), []);
}

/// Goal: a credit is booked once, a debit stops at zero, and nothing wraps.
#[test]
fn credits_are_booked_once() {
    let mut ledger = funded(100);
    assert_eq!(ledger.credit("a", "opening", nanos(100)), Credited::AlreadyBooked);
    assert_eq!(ledger.credit("a", "opening", nanos(7)), Credited::Differs(nanos(100)));
    assert_eq!(ledger.credit("a", "debit", nanos(-101)), Credited::BelowZero);
    assert_eq!(ledger.credit("a", "debit", nanos(-40)), Credited::Booked);
    assert_eq!(ledger.credit("a", "huge", Money::MAX), Credited::TooMuch);
    assert_eq!(ledger.credit("b", "least", nanos(i64::MIN)), Credited::BelowZero);
    assert_eq!((parts(&ledger), ledger.account("b")), ([60, 60, 0, 0], None));
    ledger.open_account("b");
    ledger.open_account("a");
    assert_eq!((parts(&ledger)[0], ledger.account("b")), (60, Some(AccountFunds::default())));
}

/// Goal: a checkpoint rises within the amount only, and recovery settles at it, of dead processes alone.
#[test]
fn recovery_settles_at_the_checkpoint() {
    let mut ledger = funded(100);
    let ids: Vec<_> =
        [1, 1, 2].map(|process| ledger.reserve(&Ask { process, ..ask("a", "k", 0, 20) }).unwrap().0).into();
    for delivered in [12, 5, -3] {
        ledger.checkpoint(ids[0], nanos(delivered));
    }
    assert_eq!(ledger.reservation(ids[0]).unwrap().checkpoint, nanos(12));
    ledger.checkpoint(ids[2], nanos(99));
    assert_eq!(ledger.reservation(ids[2]).unwrap().checkpoint, nanos(20));
    let recovery = Recovery { settled: 1, released: 1, charged: nanos(12), returned: nanos(28) };
    assert_eq!(ledger.recover(|process| process == 1), recovery);
    assert_eq!(ledger.recover(|process| process == 1), Recovery::default());
    assert_eq!((parts(&ledger), ledger.verify()), ([100, 68, 20, 12], vec![]));
}

/// Goal: only what changed is drained, once; what is put back comes again in its newest state; an id is not used twice.
#[test]
fn changed_rows_are_drained_once() {
    let mut ledger = funded(100);
    let mut written = Written::default();
    let (id, _) = ledger.reserve(&ask("a", "k", 0, 20)).unwrap();
    let before = ledger.sequence();
    let changes = ledger.changes().unwrap();
    assert_eq!((changes.rows(), ledger.changes()), (4, None));
    ledger.set_quota("k", None);
    ledger.checkpoint(id, Money::ZERO);
    assert_eq!((ledger.sequence(), ledger.changes()), (before, None), "no change, no row");
    written.write(&changes);
    ledger.settle(id, nanos(3)).unwrap();
    assert!(ledger.sequence() > before);
    let failed = ledger.changes().unwrap();
    ledger.put_back(failed);
    let changes = ledger.changes().unwrap();
    assert_eq!(changes.reservations, [(id, None)]);
    written.write(&changes);
    written.write(&changes);
    let mut again = written.load();
    assert_eq!((parts(&again), again.open_reservations()), ([100, 97, 0, 3], 0));
    assert_ne!(again.reserve(&ask("a", "k", 0, 1)).unwrap().0, id);
}

/// Goal: the numbers of reservations go round without ever naming an open one, and a loaded one counts as reserved.
#[test]
fn an_open_number_is_never_reused() {
    let reservation = |amount| Reservation {
        account: "a".into(),
        key: "k".into(),
        amount: nanos(amount),
        checkpoint: Money::ZERO,
        price_version: 0,
        process: OLD,
    };
    let funds = AccountFunds { credited: nanos(9), available: nanos(4), held: nanos(5), spent: Money::ZERO };
    let mut ledger = Ledger::from_snapshot(Snapshot {
        accounts: vec![("a".into(), funds)],
        keys: vec![("k".into(), KeyFunds { held: nanos(5), ..KeyFunds::default() })],
        reservations: vec![(ReservationId(u64::MAX), reservation(3)), (ReservationId(0), reservation(2))],
        credits: vec![],
        next: u64::MAX,
    });
    assert_eq!((ledger.totals().reserved, ledger.totals().outstanding), (5, 5));
    assert_eq!(ledger.reserve(&ask("a", "k", 1, 1)).unwrap().0, ReservationId(1));
    assert_eq!(ledger.verify(), []);
}

/// Goal: rows that contradict each other are found.
#[test]
fn broken_rules_are_found() {
    let funds = AccountFunds { credited: nanos(9), available: nanos(-1), held: nanos(5), spent: Money::ZERO };
    let reservation = Reservation {
        account: "b".into(),
        key: "k".into(),
        amount: nanos(1),
        checkpoint: nanos(2),
        price_version: 0,
        process: OLD,
    };
    let ledger = Ledger::from_snapshot(Snapshot {
        accounts: vec![("a".into(), funds)],
        keys: vec![("k".into(), KeyFunds { quota: None, held: nanos(5), spent: nanos(-1) })],
        reservations: vec![(ReservationId(3), reservation)],
        ..Snapshot::default()
    });
    let expected = [
        Violation::Balance("a".into()),
        Violation::Negative("a".into()),
        Violation::AccountHeld("a".into()),
        Violation::KeyHeld("k".into()),
        Violation::KeySpent("k".into()),
        Violation::Orphan(ReservationId(3)),
        Violation::Checkpoint(ReservationId(3)),
    ];
    assert_eq!(ledger.verify(), expected);
    assert!(expected.iter().all(|violation| violation.to_string().len() > 20));
}

/// One thing that happens; reservations are named by the order in which they were made.
#[derive(Debug, Clone, Copy)]
enum Step {
    Credit(usize, u8, i64),
    Quota(usize, Option<i64>),
    Reserve(usize, usize, i64, i64),
    Extend(usize, i64),
    Checkpoint(usize, i64),
    Settle(usize, i64),
    Release(usize),
    Drain,
    DrainInVain,
    Crash,
}

const ACCOUNTS: [&str; 2] = ["a", "b"];
const KEYS: [&str; 3] = ["k", "l", "m"];

fn amount() -> impl Strategy<Value = i64> {
    let edge =
        prop::sample::select(vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX / 2, i64::MAX - 1, i64::MAX]);
    prop_oneof![8 => -20i64..200, 1 => edge]
}

fn step() -> impl Strategy<Value = Step> {
    let (account, key, which) = (|| 0..ACCOUNTS.len(), || 0..KEYS.len(), || 0usize..12);
    prop_oneof![
        3 => (account(), 0u8..6, amount()).prop_map(|(a, c, m)| Step::Credit(a, c, m)),
        1 => (key(), prop::option::of(amount())).prop_map(|(k, q)| Step::Quota(k, q)),
        8 => (account(), key(), amount(), amount()).prop_map(|(a, k, l, m)| Step::Reserve(a, k, l, m)),
        3 => (which(), amount()).prop_map(|(w, m)| Step::Extend(w, m)),
        3 => (which(), amount()).prop_map(|(w, m)| Step::Checkpoint(w, m)),
        5 => (which(), amount()).prop_map(|(w, m)| Step::Settle(w, m)),
        2 => which().prop_map(Step::Release),
        4 => Just(Step::Drain),
        1 => Just(Step::DrainInVain),
        1 => Just(Step::Crash),
    ]
}

/// A reservation as the model sees it: all of them for ever, each with its fate.
#[derive(Debug, Clone)]
struct Entry {
    id: ReservationId,
    account: usize,
    key: usize,
    amount: i128,
    checkpoint: i128,
    charged: Option<i128>,
}

/// The naive model: a list of everything, summed up anew for each question.
#[derive(Debug, Clone, Default)]
struct Model {
    credits: BTreeMap<(usize, u8), i128>,
    quotas: BTreeMap<usize, i128>,
    entries: Vec<Entry>,
}

impl Model {
    fn credited(&self, account: usize) -> i128 {
        self.credits.iter().filter(|((a, _), _)| *a == account).map(|(_, amount)| amount).sum()
    }

    /// Held and spent of what `belongs`.
    fn used(&self, belongs: impl Fn(&Entry) -> bool) -> (i128, i128) {
        let mine = || self.entries.iter().filter(|entry| belongs(entry));
        let held = mine().filter(|entry| entry.charged.is_none()).map(|entry| entry.amount).sum();
        (held, mine().filter_map(|entry| entry.charged).sum())
    }

    fn room(&self, account: usize, key: usize) -> (i128, i128) {
        let (held, spent) = self.used(|entry| entry.account == account);
        let available = self.credited(account) - held - spent;
        let (held, spent) = self.used(|entry| entry.key == key);
        let quota = self.quotas.get(&key).copied().unwrap_or(i128::from(i64::MAX));
        (available, (quota - held - spent).max(0))
    }

    fn open(&mut self, which: usize) -> Option<&mut Entry> {
        self.entries.iter_mut().rev().filter(|entry| entry.charged.is_none()).nth(which)
    }

    fn recover(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.charged.is_none()) {
            entry.charged = Some(entry.checkpoint);
        }
    }
}

/// The ledger, the model, and what of either is written.
#[derive(Debug, Default)]
struct Pair {
    ledger: Ledger,
    model: Model,
    written: Written,
    model_written: Model,
}

impl Pair {
    fn take(&mut self, step: Step) {
        match step {
            Step::Credit(account, credit, amount) => self.credit(account, credit, amount),
            Step::Quota(key, quota) => {
                self.ledger.set_quota(KEYS[key], quota.map(nanos));
                match quota {
                    Some(quota) => self.model.quotas.insert(key, i128::from(quota)),
                    None => self.model.quotas.remove(&key),
                };
            }
            Step::Reserve(account, key, least, most) => self.reserve(account, key, least, most),
            Step::Extend(which, more) => self.extend(which, more),
            Step::Checkpoint(which, delivered) => {
                if let Some(entry) = self.model.open(which) {
                    entry.checkpoint = entry.checkpoint.max(i128::from(delivered).min(entry.amount));
                    self.ledger.checkpoint(entry.id, nanos(delivered));
                }
            }
            Step::Settle(which, actual) => self.settle(which, actual),
            Step::Release(which) => {
                if let Some(entry) = self.model.open(which) {
                    entry.charged = Some(0);
                    assert!(self.ledger.release(entry.id) && !self.ledger.release(entry.id));
                }
            }
            Step::Drain => {
                if let Some(changes) = self.ledger.changes() {
                    self.written.write(&changes);
                }
                self.model_written = self.model.clone();
            }
            Step::DrainInVain => {
                if let Some(changes) = self.ledger.changes() {
                    self.ledger.put_back(changes);
                }
            }
            Step::Crash => self.crash(),
        }
    }

    fn credit(&mut self, account: usize, credit: u8, amount: i64) {
        let booked = self.model.credits.get(&(account, credit)).copied();
        let (available, _) = self.model.room(account, 0);
        let expected = match booked {
            Some(booked) if booked == i128::from(amount) => Credited::AlreadyBooked,
            Some(booked) => Credited::Differs(nanos(i64::try_from(booked).unwrap())),
            None if self.model.credited(account) + i128::from(amount) > i128::from(i64::MAX) => {
                Credited::TooMuch
            }
            None if available + i128::from(amount) < 0 => Credited::BelowZero,
            None => Credited::Booked,
        };
        assert_eq!(self.ledger.credit(ACCOUNTS[account], &credit.to_string(), nanos(amount)), expected);
        if expected == Credited::Booked {
            self.model.credits.insert((account, credit), i128::from(amount));
        }
    }

    fn reserve(&mut self, account: usize, key: usize, least: i64, most: i64) {
        let (available, left) = self.model.room(account, key);
        let known = self.model.credits.keys().any(|(a, _)| *a == account);
        let least_wanted = i128::from(least.max(0));
        let expected = match () {
            () if !known || available < least_wanted => Err(Insufficient::Account),
            () if left < least_wanted => Err(Insufficient::Key),
            () => Ok(i128::from(most).max(least_wanted).min(available).min(left)),
        };
        let asked = self.ledger.reserve(&ask(ACCOUNTS[account], KEYS[key], least, most));
        assert_eq!(asked.map(|(_, amount)| i128::from(amount.nanos())), expected);
        if let Ok((id, amount)) = asked {
            assert!(self.model.entries.iter().all(|entry| entry.id != id || entry.charged.is_some()));
            let amount = i128::from(amount.nanos());
            self.model.entries.push(Entry { id, account, key, amount, checkpoint: 0, charged: None });
        }
    }

    fn extend(&mut self, which: usize, more: i64) {
        let Some(entry) = self.model.open(which).cloned() else { return };
        let (available, left) = self.model.room(entry.account, entry.key);
        let fits = i128::from(more.max(0)) <= available.min(left);
        assert_eq!(self.ledger.extend(entry.id, nanos(more)).is_ok(), fits);
        if fits {
            self.model.open(which).unwrap().amount += i128::from(more.max(0));
        }
    }

    fn settle(&mut self, which: usize, actual: i64) {
        let Some(entry) = self.model.open(which).cloned() else { return };
        let (available, left) = self.model.room(entry.account, entry.key);
        let actual_cost = i128::from(actual.max(0));
        let charged =
            actual_cost.min(entry.amount + (actual_cost - entry.amount).max(0).min(available).min(left));
        let settled = self.ledger.settle(entry.id, nanos(actual)).unwrap();
        assert_eq!(i128::from(settled.charged.nanos()), charged);
        assert_eq!(i128::from(settled.uncollected.nanos()), actual_cost - charged);
        assert_eq!(self.ledger.settle(entry.id, nanos(actual)), None);
        self.model.open(which).unwrap().charged = Some(charged);
    }

    /// Memory is lost; what was written comes back, and is recovered twice.
    fn crash(&mut self) {
        self.ledger = self.written.load();
        self.model = self.model_written.clone();
        self.check();
        self.ledger.recover(|process| process == OLD);
        assert_eq!(self.ledger.recover(|process| process == OLD), Recovery::default());
        assert_eq!(self.ledger.open_reservations(), 0);
        self.model.recover();
    }

    fn check(&self) {
        assert_eq!(self.ledger.verify(), []);
        for (account, id) in ACCOUNTS.into_iter().enumerate() {
            let funds = self.ledger.account(id).unwrap_or_default();
            let (held, spent) = self.model.used(|entry| entry.account == account);
            let expected = [self.model.credited(account), self.model.room(account, 0).0, held, spent];
            let parts = [funds.credited, funds.available, funds.held, funds.spent];
            assert_eq!(parts.map(|part| i128::from(part.nanos())), expected, "{id}");
            assert!(parts.iter().all(|part| *part >= Money::ZERO));
        }
        for (key, id) in KEYS.into_iter().enumerate() {
            let funds = self.ledger.key(id).unwrap_or_default();
            let used = self.model.used(|entry| entry.key == key);
            assert_eq!((i128::from(funds.held.nanos()), i128::from(funds.spent.nanos())), used, "{id}");
        }
    }
}

proptest! {
    /// Goal: whatever happens in whatever order, crashes and failed writes included, the ledger answers and holds what a
    /// naive list of everything says; so a charge stands only if it, or at least its reservation, had been written.
    #[test]
    fn is_what_the_naive_model_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::default();
        for step in steps {
            pair.take(step);
            pair.check();
        }
    }
}
