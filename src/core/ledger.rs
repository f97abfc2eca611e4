//! The ledger: who has how much, and what is set aside for requests under way (spec 8.2 to 8.5; decisions, Money).
//!
//! A pure state machine. An amount is reserved before a request can cost anything, and its reservation ends exactly
//! once: settled at what the request cost, or released. Always: what was credited to an account is available, held or
//! spent, and none of these is below zero; what is held is the sum of the open reservations, for accounts and for keys;
//! no sum wraps, because what would make it is refused.
//!
//! What changed is drained as rows by whoever makes it durable. A row is a state and not a step, so writing it twice, or
//! again after a commit of unknown outcome, is harmless. Deliberately absent: prices, time, disks, and accounts without
//! billing, which never come here.

use super::money::Money;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

mod rows;
mod verify;

pub use rows::{
    AccountFunds, Ask, Changes, Credited, Insufficient, KeyFunds, Recovery, Refused, Reservation,
    ReservationId, Settled, Snapshot, Totals,
};
pub use verify::Violation;

/// Accounts, keys and open reservations of one gateway.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: HashMap<Arc<str>, AccountFunds>,
    keys: HashMap<Arc<str>, KeyFunds>,
    open: HashMap<ReservationId, Reservation>,
    /// Amounts by account and by the id under which each was booked.
    credits: HashMap<Arc<str>, HashMap<Arc<str>, Money>>,
    /// The number that the next reservation gets.
    next: u64,
    totals: Totals,
    dirty: Dirty,
    sequence: u64,
}

/// The rows that are not written yet.
#[derive(Debug, Default)]
struct Dirty {
    accounts: HashSet<Arc<str>>,
    keys: HashSet<Arc<str>>,
    reservations: HashSet<ReservationId>,
    credits: HashSet<(Arc<str>, Arc<str>)>,
}

impl Dirty {
    fn is_empty(&self) -> bool {
        self.accounts.is_empty()
            && self.keys.is_empty()
            && self.reservations.is_empty()
            && self.credits.is_empty()
    }
}

/// What could be reserved now.
#[derive(Debug, Clone, Copy)]
struct Room {
    account: Money,
    key: Money,
}

impl Ledger {
    /// A ledger without any account.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The ledger whose rows were written before. Its open reservations count as reserved and outstanding.
    #[must_use]
    pub fn from_snapshot(snapshot: Snapshot) -> Self {
        let mut ledger = Self {
            accounts: snapshot.accounts.into_iter().collect(),
            keys: snapshot.keys.into_iter().collect(),
            open: snapshot.reservations.into_iter().collect(),
            next: snapshot.next,
            ..Self::default()
        };
        for (account, credit, amount) in snapshot.credits {
            ledger.credits.entry(account).or_default().insert(credit, amount);
        }
        ledger.totals.outstanding =
            ledger.open.values().map(|reservation| positive(reservation.amount)).sum();
        ledger.totals.reserved = ledger.totals.outstanding;
        ledger
    }

    /// How an account stands.
    #[must_use]
    pub fn account(&self, id: &str) -> Option<AccountFunds> {
        self.accounts.get(id).copied()
    }

    /// How a key stands; `None` if nothing was ever reserved by it and it never had a quota.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<KeyFunds> {
        self.keys.get(id).copied()
    }

    /// An open reservation.
    #[must_use]
    pub fn reservation(&self, id: ReservationId) -> Option<&Reservation> {
        self.open.get(&id)
    }

    /// How many reservations are open.
    #[must_use]
    pub fn open_reservations(&self) -> usize {
        self.open.len()
    }

    /// Opens an account without funds, unless it is there.
    pub fn open_account(&mut self, id: &str) {
        if !self.accounts.contains_key(id) {
            let id = Arc::<str>::from(id);
            self.accounts.insert(Arc::clone(&id), AccountFunds::default());
            self.dirty.accounts.insert(id);
            self.changed();
        }
    }

    /// Books an amount once for each `credit` id, and opens the account if need be. A negative amount takes away, from
    /// what is available at most.
    pub fn credit(&mut self, account: &str, credit: &str, amount: Money) -> Credited {
        if let Some(booked) = self.credits.get(account).and_then(|credits| credits.get(credit)) {
            return if *booked == amount { Credited::AlreadyBooked } else { Credited::Differs(*booked) };
        }
        let mut funds = self.account(account).unwrap_or_default();
        let (Some(credited), Some(available)) =
            (funds.credited.checked_add(amount), funds.available.checked_add(amount))
        else {
            return Credited::TooMuch;
        };
        if available < Money::ZERO {
            return Credited::BelowZero;
        }
        (funds.credited, funds.available) = (credited, available);
        let (account, credit) = (Arc::<str>::from(account), Arc::<str>::from(credit));
        self.accounts.insert(Arc::clone(&account), funds);
        self.credits.entry(Arc::clone(&account)).or_default().insert(Arc::clone(&credit), amount);
        self.dirty.accounts.insert(Arc::clone(&account));
        self.dirty.credits.insert((account, credit));
        self.changed();
        Credited::Booked
    }

    /// Bounds what a key may spend in all; `None` leaves it to the account. What is held or spent already stays.
    pub fn set_quota(&mut self, key: &str, quota: Option<Money>) {
        if self.key(key).map(|funds| funds.quota) == Some(quota) {
            return;
        }
        let key = Arc::<str>::from(key);
        self.keys.entry(Arc::clone(&key)).or_default().quota = quota;
        self.dirty.keys.insert(key);
        self.changed();
    }

    /// Sets as much of `most` aside as the balance and the quota of the key allow; the amount is the second value.
    ///
    /// # Errors
    ///
    /// [`Insufficient`] when not even `least` fits; nothing is changed then. An unknown account has nothing.
    pub fn reserve(&mut self, ask: &Ask<'_>) -> Result<(ReservationId, Money), Insufficient> {
        let (account, _) = self.accounts.get_key_value(ask.account).ok_or(Insufficient::Account)?;
        let account = Arc::clone(account);
        let key =
            self.keys.get_key_value(ask.key).map_or_else(|| Arc::from(ask.key), |(key, _)| Arc::clone(key));
        let least = ask.least.max(Money::ZERO);
        let room = self.room(&account, &key);
        room.fits(least)?;
        let amount = ask.most.max(least).min(room.account).min(room.key);
        let id = self.fresh_id();
        let checkpoint = Money::ZERO;
        let (price_version, process) = (ask.price_version, ask.process);
        self.hold(&account, &key, amount);
        self.open.insert(id, Reservation { account, key, amount, checkpoint, price_version, process });
        self.dirty.reservations.insert(id);
        Ok((id, amount))
    }

    /// Sets more aside for an open reservation: all of it or nothing.
    ///
    /// # Errors
    ///
    /// [`Refused`] when it does not fit or the reservation is not open.
    pub fn extend(&mut self, id: ReservationId, more: Money) -> Result<(), Refused> {
        let reservation = self.open.get(&id).ok_or(Refused::Unknown)?;
        let more = more.max(Money::ZERO);
        self.room(&reservation.account, &reservation.key).fits(more).map_err(Refused::Insufficient)?;
        self.enlarge(id, more);
        Ok(())
    }

    /// Notes what has been delivered by now, which is what a crash would settle at; it never goes down.
    pub fn checkpoint(&mut self, id: ReservationId, delivered: Money) {
        let Some(reservation) = self.open.get_mut(&id) else { return };
        let delivered = delivered.min(reservation.amount);
        if delivered > reservation.checkpoint {
            reservation.checkpoint = delivered;
            self.dirty.reservations.insert(id);
            self.changed();
        }
    }

    /// Ends a reservation at what the request cost, once; `None` if it is not open. What it cost beyond the reservation
    /// is taken from the balance and the quota as far as they reach.
    pub fn settle(&mut self, id: ReservationId, actual: Money) -> Option<Settled> {
        let reservation = self.open.get(&id)?;
        let actual = actual.max(Money::ZERO);
        let missing = actual.saturating_sub(reservation.amount).max(Money::ZERO);
        let room = self.room(&reservation.account, &reservation.key);
        self.enlarge(id, missing.min(room.account).min(room.key));
        let charged = self.close(id, actual)?;
        Some(Settled { charged, uncollected: actual.saturating_sub(charged) })
    }

    /// Ends a reservation without a charge, once; whether it was open.
    pub fn release(&mut self, id: ReservationId) -> bool {
        self.close(id, Money::ZERO).is_some()
    }

    /// Ends the open reservations of dead processes: at their checkpoint, or without a charge if they have none.
    pub fn recover(&mut self, is_dead: impl Fn(u64) -> bool) -> Recovery {
        let dead = |(id, reservation): (&ReservationId, &Reservation)| {
            is_dead(reservation.process).then_some((*id, reservation.amount, reservation.checkpoint))
        };
        let dead: Vec<_> = self.open.iter().filter_map(dead).collect();
        let mut recovery = Recovery::default();
        for (id, amount, checkpoint) in dead {
            let charged = self.close(id, checkpoint).unwrap_or_default();
            if charged > Money::ZERO {
                recovery.settled += 1;
            } else {
                recovery.released += 1;
            }
            recovery.charged = recovery.charged.saturating_add(charged);
            recovery.returned = recovery.returned.saturating_add(amount.saturating_sub(charged));
        }
        recovery
    }

    /// Sums since this ledger was made.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The rows that changed since they were drained last, if any did.
    pub fn changes(&mut self) -> Option<Changes> {
        if self.dirty.is_empty() {
            return None;
        }
        let dirty = std::mem::take(&mut self.dirty);
        let account = |id: Arc<str>| self.accounts.get(&id).map(|funds| (Arc::clone(&id), *funds));
        let key = |id: Arc<str>| self.keys.get(&id).map(|funds| (Arc::clone(&id), *funds));
        let credit = |(account, credit): (Arc<str>, Arc<str>)| {
            let amount = *self.credits.get(&account)?.get(&credit)?;
            Some((account, credit, amount))
        };
        Some(Changes {
            accounts: dirty.accounts.into_iter().filter_map(account).collect(),
            keys: dirty.keys.into_iter().filter_map(key).collect(),
            reservations: dirty
                .reservations
                .into_iter()
                .map(|id| (id, self.open.get(&id).cloned()))
                .collect(),
            credits: dirty.credits.into_iter().filter_map(credit).collect(),
            next: self.next,
        })
    }

    /// Takes drained rows back that could not be written; the next drain has them as they are then.
    pub fn put_back(&mut self, changes: Changes) {
        self.dirty.accounts.extend(changes.accounts.into_iter().map(|(id, _)| id));
        self.dirty.keys.extend(changes.keys.into_iter().map(|(id, _)| id));
        self.dirty.reservations.extend(changes.reservations.into_iter().map(|(id, _)| id));
        self.dirty.credits.extend(changes.credits.into_iter().map(|(account, credit, _)| (account, credit)));
    }

    /// A number that grows with every change.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn changed(&mut self) {
        self.sequence += 1;
    }

    /// A number that no open reservation has.
    fn fresh_id(&mut self) -> ReservationId {
        loop {
            let id = ReservationId(self.next);
            self.next = self.next.wrapping_add(1);
            if !self.open.contains_key(&id) {
                return id;
            }
        }
    }

    /// Without a quota of its own, a key has room for whatever its sums can hold.
    fn room(&self, account: &str, key: &str) -> Room {
        let account = self.accounts.get(account).map_or(Money::ZERO, |funds| funds.available);
        let key = self.keys.get(key).copied().unwrap_or_default();
        let left = key.quota.unwrap_or(Money::MAX).saturating_sub(key.held).saturating_sub(key.spent);
        Room { account: account.max(Money::ZERO), key: left.max(Money::ZERO) }
    }

    /// Moves what there is room for from available to held.
    fn hold(&mut self, account: &Arc<str>, key: &Arc<str>, amount: Money) {
        self.change(account, key, |account, key| {
            account.available = account.available.saturating_sub(amount);
            account.held = account.held.saturating_add(amount);
            key.held = key.held.saturating_add(amount);
        });
        self.totals.reserved += positive(amount);
        self.totals.outstanding += positive(amount);
    }

    /// Adds what there is room for to an open reservation.
    fn enlarge(&mut self, id: ReservationId, more: Money) {
        let Some(reservation) = self.open.get_mut(&id).filter(|_| more > Money::ZERO) else { return };
        reservation.amount = reservation.amount.saturating_add(more);
        let (account, key) = (Arc::clone(&reservation.account), Arc::clone(&reservation.key));
        self.dirty.reservations.insert(id);
        self.hold(&account, &key, more);
    }

    /// Ends a reservation: as much of `cost` as it holds is spent, and returned here; the rest is available again.
    fn close(&mut self, id: ReservationId, cost: Money) -> Option<Money> {
        let Reservation { account, key, amount, .. } = self.open.remove(&id)?;
        let charged = cost.min(amount);
        let rest = amount.saturating_sub(charged);
        self.change(&account, &key, |account, key| {
            account.held = account.held.saturating_sub(amount);
            account.spent = account.spent.saturating_add(charged);
            account.available = account.available.saturating_add(rest);
            key.held = key.held.saturating_sub(amount);
            key.spent = key.spent.saturating_add(charged);
        });
        self.dirty.reservations.insert(id);
        self.totals.outstanding = self.totals.outstanding.saturating_sub(positive(amount));
        self.totals.settled += positive(charged);
        self.totals.released += positive(rest);
        Some(charged)
    }

    fn change(
        &mut self,
        account: &Arc<str>,
        key: &Arc<str>,
        change: impl FnOnce(&mut AccountFunds, &mut KeyFunds),
    ) {
        let funds = self.accounts.entry(Arc::clone(account)).or_default();
        change(funds, self.keys.entry(Arc::clone(key)).or_default());
        self.dirty.accounts.insert(Arc::clone(account));
        self.dirty.keys.insert(Arc::clone(key));
        self.changed();
    }
}

impl Room {
    fn fits(self, amount: Money) -> Result<(), Insufficient> {
        if self.account < amount {
            return Err(Insufficient::Account);
        }
        if self.key < amount { Err(Insufficient::Key) } else { Ok(()) }
    }
}

/// An amount in nano-dollars where sums of many are kept.
fn positive(amount: Money) -> u128 {
    u128::try_from(amount.nanos()).unwrap_or(0)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
