//! Where requests set money aside and settle: at the ledger of this process, or at that of the process that took it over
//! (spec 12.3).
//!
//! One process owns a ledger. While an upgrade hands it on, the old process still has requests under way; from then on each
//! of their operations is one line to the new owner, and one line back once it is durable there. When the new owner dies, the
//! ledger comes back: a process that was to take over and failed does not take paid requests with it.

use super::bank::Bank;
use super::handover::Line;
use super::{Embedded, StoreError};
use crate::core::ledger::{AccountFunds, Ask, KeyFunds, ReservationId, Settled};
use crate::core::money::Money;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::sleep;
use std::time::Duration;

/// How long the last changes may take to be written before the ledger is handed on.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);
/// How often, and how far apart, the file is tried of an owner that is gone: its lock goes a moment after its line.
const REOPENINGS: u32 = 50;
const REOPENING_INTERVAL: Duration = Duration::from_millis(20);

/// Who owns the ledger; nobody else does while this is kept.
type Owner<'a> = RwLockReadGuard<'a, Option<Mutex<Line>>>;

/// Why nothing was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The balance or the quota does not cover it.
    Insufficient,
    /// It cannot be written down now.
    Unavailable,
}

/// The ledger as requests meet it.
#[derive(Debug)]
pub struct Teller {
    bank: Arc<Bank>,
    /// Where its file is.
    folder: PathBuf,
    /// The line to the process that owns the ledger now.
    elsewhere: RwLock<Option<Mutex<Line>>>,
}

/// One operation; amounts are nano-dollars.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Operation {
    Reserve { account: String, key: String, least: i64, most: i64, price_version: u64, process: u64 },
    Extend { id: u64, more: i64 },
    Checkpoint { id: u64, delivered: i64 },
    Settle { id: u64, actual: i64 },
    Funds { account: String, key: String },
}

/// What came of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Reserved { id: u64, amount: i64 },
    Settled { charged: i64, uncollected: i64 },
    Funds { account: Option<[i64; 4]>, key: Option<(Option<i64>, i64, i64)> },
    Done,
    Insufficient,
    Unknown,
    Unavailable,
}

impl Operation {
    fn reserve(ask: &Ask<'_>) -> Self {
        Self::Reserve {
            account: ask.account.to_owned(),
            key: ask.key.to_owned(),
            least: ask.least.nanos(),
            most: ask.most.nanos(),
            price_version: ask.price_version,
            process: ask.process,
        }
    }
}

impl Teller {
    /// The teller of a ledger of this process, whose file is in this folder.
    #[must_use]
    pub fn new(bank: Arc<Bank>, folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { bank, folder, elsewhere: RwLock::default() })
    }

    /// The ledger of this process.
    #[must_use]
    pub fn bank(&self) -> &Arc<Bank> {
        &self.bank
    }

    /// Whether money can be set aside now; without it nothing may be begun that costs some.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let well_elsewhere = || {
            // Asked again under the lock, for the ledger may be on its way there or back.
            let owner = self.owner();
            owner.is_some() || self.bank.is_well()
        };
        self.bank.is_well() || well_elsewhere()
    }

    /// Sets money aside as [`crate::core::ledger::Ledger::reserve`] does. It counts from [`Bank::durable`] on.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing is taken then.
    pub fn reserve(&self, ask: &Ask<'_>) -> Result<(ReservationId, Money), Refused> {
        match self.ask_owner(|| Operation::reserve(ask)) {
            (_owner, None) => self.bank.with(|ledger| ledger.reserve(ask)).map_err(|_| Refused::Insufficient),
            (_, Some(Answer::Reserved { id, amount })) => Ok((ReservationId(id), Money::from_nanos(amount))),
            (_, Some(Answer::Insufficient)) => Err(Refused::Insufficient),
            _ => Err(Refused::Unavailable),
        }
    }

    /// Sets more aside; whether there was enough.
    #[must_use]
    pub fn extend(&self, id: ReservationId, more: Money) -> bool {
        match self.ask_owner(|| Operation::Extend { id: id.0, more: more.nanos() }) {
            (_owner, None) => self.bank.with(|ledger| ledger.extend(id, more)).is_ok(),
            (_, Some(answer)) => answer == Answer::Done,
        }
    }

    /// Notes what has been delivered by now.
    pub fn checkpoint(&self, id: ReservationId, delivered: Money) {
        let noted = self.ask_owner(|| Operation::Checkpoint { id: id.0, delivered: delivered.nanos() });
        if let (_owner, None) = noted {
            self.bank.with(|ledger| ledger.checkpoint(id, delivered));
        }
    }

    /// Ends a reservation at what the request cost; `None` if it was not open.
    pub fn settle(&self, id: ReservationId, actual: Money) -> Option<Settled> {
        match self.ask_owner(|| Operation::Settle { id: id.0, actual: actual.nanos() }) {
            (_owner, None) => self.bank.with(|ledger| ledger.settle(id, actual)),
            (_, Some(Answer::Settled { charged, uncollected })) => Some(Settled {
                charged: Money::from_nanos(charged),
                uncollected: Money::from_nanos(uncollected),
            }),
            _ => None,
        }
    }

    /// How an account and a key stand, as they are told to a client; `None` if the ledger cannot be asked.
    #[must_use]
    pub fn funds(&self, account: &str, key: &str) -> Option<(AccountFunds, KeyFunds)> {
        let here = |ledger: &mut crate::core::ledger::Ledger| (ledger.account(account), ledger.key(key));
        let operation = || Operation::Funds { account: account.to_owned(), key: key.to_owned() };
        let (account, key) = match self.ask_owner(operation) {
            (_owner, None) => self.bank.with(here),
            (_, Some(Answer::Funds { account, key })) => (account.map(account_funds), key.map(key_funds)),
            _ => return None,
        };
        Some((account.unwrap_or_default(), key.unwrap_or_default()))
    }

    /// Hands the ledger on: writes what is left, lets the store go, and asks over `line` from then on. Whoever has something
    /// to do with the ledger meanwhile waits for it.
    pub(super) fn hand_over(&self, line: Line) {
        let mut elsewhere = self.elsewhere.write().unwrap_or_else(PoisonError::into_inner);
        if elsewhere.is_some() {
            return;
        }
        if !self.bank.is_well() || self.bank.close(CLOSE_LIMIT).is_err() {
            log::error!("the ledger was not handed over: its last changes cannot be written");
            return;
        }
        log::info!("the ledger is handed over to process {}", line.peer());
        match line.confirm() {
            Ok(line) => *elsewhere = Some(Mutex::new(line)),
            Err(e) => {
                log::error!("the new owner of the ledger is gone: {e}");
                self.reopen();
            }
        }
    }

    /// Takes the ledger back if the process that it was handed to is gone. Whoever has something to do with it waits.
    pub fn reclaim(&self) {
        let mut elsewhere = self.elsewhere.write().unwrap_or_else(PoisonError::into_inner);
        let is_broken =
            |line: &mut Mutex<Line>| line.get_mut().unwrap_or_else(PoisonError::into_inner).is_broken();
        if elsewhere.as_mut().is_some_and(is_broken) && self.reopen() {
            *elsewhere = None;
        }
    }

    /// Opens the file again that another process had; whether it could be.
    fn reopen(&self) -> bool {
        let mut opened = Embedded::open(&self.folder);
        for _ in 0..REOPENINGS {
            if !matches!(opened, Err(StoreError::Locked(_))) {
                break;
            }
            sleep(REOPENING_INTERVAL);
            opened = Embedded::open(&self.folder);
        }
        match opened.and_then(|store| self.bank.reopen(Box::new(store))) {
            Ok(recovery) => log::warn!(
                "the ledger is back; of the process that had it {} requests were settled, {} released",
                recovery.settled,
                recovery.released
            ),
            Err(ref e) => log::error!("the ledger did not come back, paid requests are refused: {e}"),
        }
        self.bank.is_well()
    }

    /// Carries out what the process before this one asks, durably.
    pub(super) fn serve(&self, operation: Operation) -> Answer {
        let answer = self.bank.with(|ledger| match operation {
            Operation::Reserve { ref account, ref key, least, most, price_version, process } => {
                let (least, most) = (Money::from_nanos(least), Money::from_nanos(most));
                let reserved = ledger.reserve(&Ask { account, key, least, most, price_version, process });
                reserved.map_or(Answer::Insufficient, |(id, amount)| Answer::Reserved {
                    id: id.0,
                    amount: amount.nanos(),
                })
            }
            Operation::Extend { id, more } => {
                let extended = ledger.extend(ReservationId(id), Money::from_nanos(more));
                if extended.is_ok() { Answer::Done } else { Answer::Insufficient }
            }
            Operation::Checkpoint { id, delivered } => {
                ledger.checkpoint(ReservationId(id), Money::from_nanos(delivered));
                Answer::Done
            }
            Operation::Settle { id, actual } => {
                let settled = ledger.settle(ReservationId(id), Money::from_nanos(actual));
                settled.map_or(Answer::Unknown, |settled| Answer::Settled {
                    charged: settled.charged.nanos(),
                    uncollected: settled.uncollected.nanos(),
                })
            }
            Operation::Funds { ref account, ref key } => Answer::Funds {
                account: ledger.account(account).map(told_account),
                key: ledger.key(key).map(told_key),
            },
        });
        if block_on(self.bank.durable()).is_err() { Answer::Unavailable } else { answer }
    }

    fn owner(&self) -> Owner<'_> {
        self.elsewhere.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the process answers that owns the ledger, `None` if it is this one; that stays so as long as the first is kept.
    ///
    /// A line that breaks is an owner that died. What it was asked is carried out here then: settling twice is settling once,
    /// and a reservation whose answer was lost is given back when this process ends.
    fn ask_owner(&self, operation: impl FnOnce() -> Operation) -> (Owner<'_>, Option<Answer>) {
        let owner = self.owner();
        let Some(line) = &*owner else { return (owner, None) };
        let asked = line.lock().unwrap_or_else(PoisonError::into_inner).ask(&operation());
        match asked {
            Ok(answer) => (owner, Some(answer)),
            Err(e) => {
                log::error!("the owner of the ledger does not answer: {e}");
                drop(owner);
                self.reclaim();
                let owner = self.owner();
                let answer = owner.is_some().then_some(Answer::Unavailable);
                (owner, answer)
            }
        }
    }
}

fn told_account(funds: AccountFunds) -> [i64; 4] {
    [funds.credited, funds.available, funds.held, funds.spent].map(Money::nanos)
}

fn account_funds(told: [i64; 4]) -> AccountFunds {
    let [credited, available, held, spent] = told.map(Money::from_nanos);
    AccountFunds { credited, available, held, spent }
}

fn told_key(funds: KeyFunds) -> (Option<i64>, i64, i64) {
    (funds.quota.map(Money::nanos), funds.held.nanos(), funds.spent.nanos())
}

fn key_funds((quota, held, spent): (Option<i64>, i64, i64)) -> KeyFunds {
    KeyFunds {
        quota: quota.map(Money::from_nanos),
        held: Money::from_nanos(held),
        spent: Money::from_nanos(spent),
    }
}
