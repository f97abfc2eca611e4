//! A look into the store of a gateway that does not run: is it sound, and what is in it?
//!
//! The file is locked, checked page by page and, after a crash, repaired as at any start; no row is changed.

use super::embedded::FILE;
use super::{Embedded, StoreError};
use crate::core::ledger::Ledger;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Every row that is none and every rule that is broken, in words; none in a sound store.
///
/// # Errors
///
/// [`StoreError`] when the store in this folder cannot be read at all.
pub fn verify(folder: &Path) -> Result<Vec<String>, StoreError> {
    verify_telling(folder, &mut |_| {})
}

/// What [`verify_telling`] is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The pages of a file of so many bytes are checked.
    Pages(u64),
    /// So many rows have been read.
    Rows(u64),
    /// The rules of the ledger are checked.
    Rules,
}

/// As [`verify()`], for a file that takes long; `told` hears what is done, the first time at once.
///
/// # Errors
///
/// As those of [`verify()`].
pub fn verify_telling(folder: &Path, told: &mut dyn FnMut(Step)) -> Result<Vec<String>, StoreError> {
    told(Step::Pages(std::fs::metadata(folder.join(FILE)).map_or(0, |file| file.len())));
    let store = Embedded::open_existing(folder)?;
    let (loaded, mut found) = store.read_telling(&mut |rows| told(Step::Rows(rows)))?;
    told(Step::Rules);
    let violations = Ledger::from_snapshot(loaded.ledger).verify();
    found.extend(violations.iter().map(ToString::to_string));
    Ok(found)
}

/// Writes every row as a line of JSON, amounts in nano-dollars; of records the kind and the id only.
///
/// # Errors
///
/// [`StoreError`] when the store in this folder cannot be read, has a row that is none, or `out` fails.
pub fn export(folder: &Path, out: &mut dyn Write) -> Result<(), StoreError> {
    use super::Store;
    let loaded = Embedded::open_existing(folder)?.load()?;
    let ledger = loaded.ledger;
    let accounts = ledger.accounts.iter().map(|(id, funds)| {
        json!({"row": "account", "id": &**id, "credited": funds.credited.nanos(), "available": funds.available.nanos(),
            "held": funds.held.nanos(), "spent": funds.spent.nanos()})
    });
    let keys = ledger.keys.iter().map(|(id, funds)| {
        json!({"row": "key", "id": &**id, "quota": funds.quota.map(|quota| quota.nanos()),
            "held": funds.held.nanos(), "spent": funds.spent.nanos()})
    });
    let reservations = ledger.reservations.iter().map(|(id, reservation)| {
        json!({"row": "reservation", "id": id.0, "account": &*reservation.account, "key": &*reservation.key,
            "amount": reservation.amount.nanos(), "checkpoint": reservation.checkpoint.nanos(),
            "price_version": reservation.price_version, "process": reservation.process})
    });
    let credits = ledger.credits.iter().map(|(account, id, amount)| {
        json!({"row": "credit", "account": &**account, "id": &**id, "amount": amount.nanos()})
    });
    let records =
        loaded.records.iter().map(|row| json!({"row": "record", "kind": &*row.kind, "id": &*row.id}));
    let mut rows = accounts.chain(keys).chain(reservations).chain(credits).chain(records);
    let mut line = |row: Value| writeln!(out, "{row}");
    let written = rows.try_for_each(&mut line).and_then(|()| out.flush());
    written.map_err(|error| StoreError::Output(error.to_string().into()))
}
