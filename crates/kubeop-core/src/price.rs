//! The price book: rates with the time from which they hold.
//!
//! Invariant: a rate is never changed, only followed by another, so that the past keeps its price.

use crate::id::shorten;
use crate::usage::Meter;
use crate::{Error, Result};
use jiff::Timestamp;
use rust_decimal::Decimal;
use std::fmt;
use std::str::FromStr;

/// An ISO 4217 currency code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Parses three upper-case letters.
    pub fn parse(text: &str) -> Result<Self> {
        match text.as_bytes() {
            [a, b, c] if [a, b, c].iter().all(|byte| byte.is_ascii_uppercase()) => Ok(Self([*a, *b, *c])),
            _ => Err(Error::invalid(format!("currency {:?} is not an ISO 4217 code such as USD", shorten(text)))),
        }
    }

    /// Decimal places of the minor unit (ISO 4217).
    pub fn minor_digits(self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF" | b"UGX"
            | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

/// Parses a rate: a plain decimal number, not negative, with at most 18 places.
pub fn parse_rate(text: &str) -> Result<Decimal> {
    let refuse = || Error::invalid(format!("rate {:?} is not a decimal number from 0, as in 0.0000002", shorten(text)));
    if text.is_empty() || text.len() > 28 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(refuse());
    }
    let rate = Decimal::from_str(text).map_err(|_| refuse())?;
    if rate.scale() > 18 || rate > Decimal::from(1_000_000) { Err(refuse()) } else { Ok(rate) }
}

/// One entry of the price book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// What it prices.
    pub meter: Meter,
    /// The first instant at which it holds; a whole hour.
    pub effective_from: Timestamp,
    /// Amount per unit of the meter.
    pub rate: Decimal,
    /// In which currency.
    pub currency: Currency,
}

/// The prices of all meters over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceBook(Vec<Price>);

impl PriceBook {
    /// A book of these entries, in any order.
    pub fn new(mut entries: Vec<Price>) -> Self {
        entries.sort_by_key(|price| (price.meter, price.effective_from));
        Self(entries)
    }

    /// The price of `meter` at `time`: the latest entry that is in effect.
    pub fn at(&self, meter: Meter, time: Timestamp) -> Option<&Price> {
        self.0.iter().rev().find(|price| price.meter == meter && price.effective_from <= time)
    }

    /// The entries, by meter and time.
    pub fn entries(&self) -> &[Price] {
        &self.0
    }

    /// The installation's currency; none while the book is empty.
    pub fn currency(&self) -> Option<Currency> {
        self.0.first().map(|price| price.currency)
    }

    /// The instants strictly inside `[start, end)` at which some price changes, ascending.
    pub fn changes(&self, start: Timestamp, end: Timestamp) -> Vec<Timestamp> {
        let mut changes: Vec<Timestamp> =
            self.0.iter().map(|price| price.effective_from).filter(|at| *at > start && *at < end).collect();
        changes.sort_unstable();
        changes.dedup();
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_exact() {
        assert_eq!(parse_rate("0.0000002").unwrap().to_string(), "0.0000002");
        for bad in ["", "-1", "1e-3", "0,1", "NaN", " 1", ".", "1.2.3", "0.0000000000000000001"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_latest_price_in_effect_counts() {
        let currency = Currency::parse("USD").unwrap();
        let price = |from: &str, rate: &str| Price {
            meter: Meter::CpuMilli,
            effective_from: from.parse().unwrap(),
            rate: parse_rate(rate).unwrap(),
            currency,
        };
        let book = PriceBook::new(vec![price("2026-02-01T00:00:00Z", "2"), price("1970-01-01T00:00:00Z", "1")]);
        let rate = |at: &str| book.at(Meter::CpuMilli, at.parse().unwrap()).unwrap().rate.to_string();
        assert_eq!(rate("2026-01-31T23:59:59Z"), "1");
        assert_eq!(rate("2026-02-01T00:00:00Z"), "2");
    }
}
