//! What the ledger holds, takes and tells, as plain values.

use super::super::money::Money;
use std::fmt;
use std::sync::Arc;

/// How an account stands; `credited` is the sum of the other three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountFunds {
    /// All that was ever booked on it.
    pub credited: Money,
    /// What can be reserved.
    pub available: Money,
    /// What open reservations hold.
    pub held: Money,
    /// What was settled.
    pub spent: Money,
}

/// How a key stands within its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyFunds {
    /// What it may spend in all; `None` leaves it to the account.
    pub quota: Option<Money>,
    /// What open reservations hold.
    pub held: Money,
    /// What was settled.
    pub spent: Money,
}

/// The number of a reservation; no two open ones share it, over restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub u64);

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An amount set aside for a request under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Whose balance it is held from.
    pub account: Arc<str>,
    /// Whose quota it is held from.
    pub key: Arc<str>,
    /// What it holds.
    pub amount: Money,
    /// What has been delivered, and is charged if the process dies.
    pub checkpoint: Money,
    /// The version of the price by which it is settled.
    pub price_version: u64,
    /// The process that serves the request.
    pub process: u64,
}

/// What a request would like to have set aside.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Whose balance.
    pub account: &'a str,
    /// Whose quota.
    pub key: &'a str,
    /// Less than this is of no use.
    pub least: Money,
    /// More than this is not needed.
    pub most: Money,
    /// The version of the price by which it is going to be settled.
    pub price_version: u64,
    /// The process that serves the request.
    pub process: u64,
}

/// What does not reach for a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insufficient {
    /// The balance of the account.
    Account,
    /// The quota of the key.
    Key,
}

/// Why a reservation could not be extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is not open.
    Unknown,
    /// It does not fit.
    Insufficient(Insufficient),
}

/// What became of a credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credited {
    /// It is booked.
    Booked,
    /// The same had been booked before; nothing is changed.
    AlreadyBooked,
    /// This other amount had been booked under the same id; nothing is changed.
    Differs(Money),
    /// More would be taken than is available; nothing is changed.
    BelowZero,
    /// The account cannot hold so much; nothing is changed.
    TooMuch,
}

/// How a reservation was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What was charged.
    pub charged: Money,
    /// What the request cost beyond that, and nobody pays.
    pub uncollected: Money,
}

/// What a recovery did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Reservations settled at their checkpoint.
    pub settled: u64,
    /// Reservations released, for nothing had been delivered.
    pub released: u64,
    /// What was charged in all; [`Money::MAX`] if that cannot be told.
    pub charged: Money,
    /// What is available again in all; [`Money::MAX`] if that cannot be told.
    pub returned: Money,
}

/// Nano-dollars since the ledger was made: `reserved = settled + released + outstanding` (spec 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Set aside, extensions and what was open at the beginning included.
    pub reserved: u128,
    /// Charged.
    pub settled: u128,
    /// Given back: of released reservations, and what settled ones did not use.
    pub released: u128,
    /// Held now.
    pub outstanding: u128,
}

/// Everything that is written, to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Accounts by id.
    pub accounts: Vec<(Arc<str>, AccountFunds)>,
    /// Keys by id.
    pub keys: Vec<(Arc<str>, KeyFunds)>,
    /// Open reservations.
    pub reservations: Vec<(ReservationId, Reservation)>,
    /// Booked amounts by account and credit id.
    pub credits: Vec<(Arc<str>, Arc<str>, Money)>,
    /// The number that the next reservation gets.
    pub next: u64,
}

/// Rows to be written together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Accounts as they stand.
    pub accounts: Vec<(Arc<str>, AccountFunds)>,
    /// Keys as they stand.
    pub keys: Vec<(Arc<str>, KeyFunds)>,
    /// Reservations as they stand; `None` for one that ended.
    pub reservations: Vec<(ReservationId, Option<Reservation>)>,
    /// Amounts booked by account and credit id.
    pub credits: Vec<(Arc<str>, Arc<str>, Money)>,
    /// The number that the next reservation gets.
    pub next: u64,
}

impl Changes {
    /// How many rows these are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.accounts.len() + self.keys.len() + self.reservations.len() + self.credits.len()
    }
}
