//! Whether a ledger keeps its own rules.

use super::super::money::Money;
use super::{Ledger, ReservationId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A rule that a ledger breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// What was credited to an account is not what is available, held and spent.
    Balance(Arc<str>),
    /// A part of an account is below zero.
    Negative(Arc<str>),
    /// An account does not hold what its open reservations add up to.
    AccountHeld(Arc<str>),
    /// A key does not hold what its open reservations add up to.
    KeyHeld(Arc<str>),
    /// What a key spent is below zero.
    KeySpent(Arc<str>),
    /// A reservation belongs to an account or a key that is not there.
    Orphan(ReservationId),
    /// A checkpoint is below zero or above the amount of its reservation.
    Checkpoint(ReservationId),
    /// Reserved is not settled, released and outstanding.
    Totals,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balance(id) => {
                write!(f, "account {id}: what was credited is not what is available, held and spent")
            }
            Self::Negative(id) => write!(f, "account {id}: an amount is below zero"),
            Self::AccountHeld(id) => write!(f, "account {id}: held is not the sum of its open reservations"),
            Self::KeyHeld(id) => write!(f, "key {id}: held is not the sum of its open reservations"),
            Self::KeySpent(id) => write!(f, "key {id}: spent is below zero"),
            Self::Orphan(id) => write!(f, "reservation {id}: its account or key is not there"),
            Self::Checkpoint(id) => write!(f, "reservation {id}: the checkpoint is not within the amount"),
            Self::Totals => f.write_str("totals: reserved is not settled, released and outstanding"),
        }
    }
}

/// Sums of open reservations, by account or by key.
type Sums<'a> = HashMap<&'a str, i128>;

impl Ledger {
    /// Every rule that is broken, in a fixed order; none in a sound ledger.
    #[must_use]
    pub fn verify(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let (mut accounts, mut keys) = (Sums::new(), Sums::new());
        for (id, reservation) in &self.open {
            *accounts.entry(&reservation.account).or_default() += wide(reservation.amount);
            *keys.entry(&reservation.key).or_default() += wide(reservation.amount);
            if !(Money::ZERO..=reservation.amount).contains(&reservation.checkpoint) {
                found.push(Violation::Checkpoint(*id));
            }
            let known =
                self.accounts.contains_key(&reservation.account) && self.keys.contains_key(&reservation.key);
            if !known {
                found.push(Violation::Orphan(*id));
            }
        }
        self.verify_accounts(&accounts, &mut found);
        self.verify_keys(&keys, &mut found);
        let totals = self.totals;
        let open = accounts.values().sum::<i128>();
        let sum = totals.settled + totals.released + totals.outstanding;
        if totals.reserved != sum || i128::try_from(totals.outstanding) != Ok(open) {
            found.push(Violation::Totals);
        }
        found.sort();
        found
    }

    fn verify_accounts(&self, open: &Sums<'_>, found: &mut Vec<Violation>) {
        for (id, funds) in &self.accounts {
            let parts = [funds.available, funds.held, funds.spent];
            if parts.iter().copied().map(wide).sum::<i128>() != wide(funds.credited) {
                found.push(Violation::Balance(Arc::clone(id)));
            }
            if parts.iter().any(|part| *part < Money::ZERO) {
                found.push(Violation::Negative(Arc::clone(id)));
            }
            if open.get(&**id).copied().unwrap_or(0) != wide(funds.held) {
                found.push(Violation::AccountHeld(Arc::clone(id)));
            }
        }
    }

    fn verify_keys(&self, open: &Sums<'_>, found: &mut Vec<Violation>) {
        for (id, funds) in &self.keys {
            if open.get(&**id).copied().unwrap_or(0) != wide(funds.held) {
                found.push(Violation::KeyHeld(Arc::clone(id)));
            }
            if funds.spent < Money::ZERO {
                found.push(Violation::KeySpent(Arc::clone(id)));
            }
        }
    }
}

fn wide(amount: Money) -> i128 {
    i128::from(amount.nanos())
}
