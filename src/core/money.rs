//! Amounts of money: whole nano-dollars (decisions, Money).
//!
//! A balance of a billion dollars fits nine times; nothing here is a floating point number, and nothing wraps.

use std::fmt;

/// Nano-dollars in one dollar.
const DOLLAR: i64 = 1_000_000_000;
/// Digits behind the point of a dollar that can be told.
const DIGITS: usize = 9;
/// Quota units in one dollar (spec 1.8).
const QUOTA_UNITS: i64 = 500_000;

/// An amount of US dollars, in nano-dollars; a balance may be an amount below zero, a charge never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// More than anyone has.
    pub const MAX: Self = Self(i64::MAX);

    /// So many nano-dollars.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// In nano-dollars.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// A decimal number of dollars, as `25`, `0.125` or `1000.000000001`; no sign, no exponent, at most nine digits
    /// behind the point.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let nanos = parse_decimal(text, DIGITS)?;
        i64::try_from(nanos).ok().map(Self)
    }

    /// In quota units, of which 500,000 are one dollar (spec 1.8), rounded toward zero.
    #[must_use]
    pub const fn quota_units(self) -> i64 {
        self.0 / (DOLLAR / QUOTA_UNITS)
    }

    /// The sum, or `None` if nobody has so much.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` if it cannot be told.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum, at most [`Money::MAX`].
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least the opposite of [`Money::MAX`].
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// A plain decimal number as a whole one of its smallest units, of which there are `digits` powers of ten in one.
pub(super) fn parse_decimal(text: &str, digits: usize) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(part) || whole.len() > 18 {
        return None;
    }
    let part = part.trim_end_matches('0');
    if part.len() > digits {
        return None;
    }
    format!("{whole}{part:0<digits$}").parse().ok()
}

impl fmt::Display for Money {
    /// As a JSON number of dollars: exact, without needless digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, nanos) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, part) = (nanos / DOLLAR.unsigned_abs(), nanos % DOLLAR.unsigned_abs());
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        write!(f, "{sign}{whole}.{}", format!("{part:09}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Goal: amounts are read and written exactly, and what is no plain decimal number is none.
    #[test]
    fn decimals_are_exact() {
        for (text, nanos) in
            [("25.00", 25 * DOLLAR), ("0.000000001", 1), ("0", 0), ("9223372036.854775807", i64::MAX)]
        {
            assert_eq!(Money::parse(text), Some(Money(nanos)), "{text}");
        }
        for text in
            ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "0.0000000001", "9223372036.854775808"]
        {
            assert_eq!(Money::parse(text), None, "{text}");
        }
        assert_eq!(Money(-1_500_000_000).to_string(), "-1.5");
        assert_eq!((Money(2_000).quota_units(), Money(1_999).quota_units()), (1, 0));
    }

    proptest! {
        /// Goal: what is written is read as the same amount.
        #[test]
        fn written_and_read_again(nanos in 0..i64::MAX) {
            prop_assert_eq!(Money::parse(&Money(nanos).to_string()), Some(Money(nanos)));
        }
    }
}
