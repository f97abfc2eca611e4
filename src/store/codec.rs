//! Rows as bytes: a version, then integers of fixed size, little-endian; text behind its length.
//!
//! Reading checks everything: what is no row is `None`, never a guess.

use crate::core::ledger::{AccountFunds, KeyFunds, Reservation};
use crate::core::money::Money;
use std::sync::Arc;

/// The version of each row.
const VERSION: u8 = 1;

/// Something that is kept as one row.
pub(super) trait Row: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Row for AccountFunds {
    fn encode(&self) -> Vec<u8> {
        Writer::new().money(self.credited).money(self.available).money(self.held).money(self.spent).0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = Reader::new(bytes)?;
        let funds =
            Self { credited: row.money()?, available: row.money()?, held: row.money()?, spent: row.money()? };
        row.end(funds)
    }
}

impl Row for KeyFunds {
    fn encode(&self) -> Vec<u8> {
        let quota = self.quota.unwrap_or_default();
        Writer::new().flag(self.quota.is_some()).money(quota).money(self.held).money(self.spent).0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = Reader::new(bytes)?;
        let (limited, quota) = (row.flag()?, row.money()?);
        let funds = Self { quota: limited.then_some(quota), held: row.money()?, spent: row.money()? };
        row.end(funds)
    }
}

impl Row for Reservation {
    fn encode(&self) -> Vec<u8> {
        let row = Writer::new().money(self.amount).money(self.checkpoint);
        row.number(self.price_version).number(self.process).text(&self.account).text(&self.key).0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = Reader::new(bytes)?;
        let (amount, checkpoint) = (row.money()?, row.money()?);
        let (price_version, process) = (row.number()?, row.number()?);
        let (account, key) = (row.text()?, row.text()?);
        row.end(Self { account, key, amount, checkpoint, price_version, process })
    }
}

impl Row for Money {
    fn encode(&self) -> Vec<u8> {
        Writer::new().money(*self).0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = Reader::new(bytes)?;
        let amount = row.money()?;
        row.end(amount)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(VERSION);
        Self(bytes)
    }

    fn flag(mut self, flag: bool) -> Self {
        self.0.push(u8::from(flag));
        self
    }

    fn money(mut self, amount: Money) -> Self {
        self.0.extend(amount.nanos().to_le_bytes());
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        // A length of 64 bits, so that no text is too long.
        let mut row = self.number(text.len() as u64);
        row.0.extend(text.as_bytes());
        row
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        (*version == VERSION).then_some(Self(rest))
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        (*first <= 1).then_some(*first == 1)
    }

    fn money(&mut self) -> Option<Money> {
        self.eight().map(i64::from_le_bytes).map(Money::from_nanos)
    }

    fn number(&mut self) -> Option<u64> {
        self.eight().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Arc::from)
    }

    /// The value, if nothing follows it.
    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Debug;

    /// The row is read as it was written, and neither shortened nor lengthened nor of another version.
    fn round_trip<T: Row + PartialEq + Debug>(row: &T) {
        let mut bytes = row.encode();
        assert_eq!(T::decode(&bytes).as_ref(), Some(row));
        assert!((0..bytes.len()).all(|length| T::decode(&bytes[..length]).is_none()));
        bytes.push(0);
        assert_eq!(T::decode(&bytes), None);
        bytes.pop();
        bytes[0] = VERSION + 1;
        assert_eq!(T::decode(&bytes), None);
    }

    proptest! {
        /// Goal: rows are read as they were written, and what is no whole row is none.
        #[test]
        fn rows_are_read_as_written(a: i64, b: i64, c: i64, d: i64, limited: bool, p: u64, q: u64, account in ".{0,40}", key in ".{0,40}") {
            let [a, b, c, d] = [a, b, c, d].map(Money::from_nanos);
            round_trip(&a);
            round_trip(&AccountFunds { credited: a, available: b, held: c, spent: d });
            round_trip(&KeyFunds { quota: limited.then_some(a), held: b, spent: c });
            round_trip(&Reservation {
                account: account.into(),
                key: key.into(),
                amount: a,
                checkpoint: b,
                price_version: p,
                process: q,
            });
        }

        /// Goal: no bytes make the reader fail otherwise than by `None`.
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = (AccountFunds::decode(&bytes), KeyFunds::decode(&bytes));
            let _ = (Reservation::decode(&bytes), Money::decode(&bytes));
        }
    }
}
