//! Calendar months in UTC, the period of an invoice.
//!
//! Invariant: months tile time: half-open, and each begins where the one before ends.

use crate::id::shorten;
use crate::{Error, Result};
use jiff::civil::date;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Serialize, Serializer};
use std::fmt;

/// A month of the years 2000 to 9998.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// Parses `YYYY-MM`.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = || Error::invalid(format!("month {:?} is not of the form YYYY-MM", shorten(text)));
        let (year, month) = text.split_once('-').ok_or_else(refuse)?;
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
            return Err(refuse());
        }
        let (year, month) = (year.parse().map_err(|_| refuse())?, month.parse().map_err(|_| refuse())?);
        if !(2000..=9998).contains(&year) || !(1..=12).contains(&month) {
            return Err(refuse());
        }
        Ok(Self { year, month })
    }

    /// The month in which `time` lies.
    pub fn of(time: Timestamp) -> Self {
        let date = time.to_zoned(TimeZone::UTC);
        Self { year: date.year(), month: date.month() }
    }

    /// The first instant.
    pub fn start(self) -> Timestamp {
        date(self.year, self.month, 1).to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |start| start.timestamp())
    }

    /// The first instant after it.
    pub fn end(self) -> Timestamp {
        self.next().start()
    }

    /// The first month that is not over for good at `now`, if `grace` after its end usage is still taken in: all before it are due.
    pub fn first_not_due(now: Timestamp, grace: SignedDuration) -> Self {
        Self::of(now.checked_sub(grace).unwrap_or(Timestamp::MIN))
    }

    /// Whether what was there from `start` to `end` (none: still is) was there at some time of the month.
    pub fn meets(self, start: Timestamp, end: Option<Timestamp>) -> bool {
        start < self.end() && end.is_none_or(|end| end > self.start())
    }

    /// The month after it.
    #[must_use]
    pub fn next(self) -> Self {
        if self.month == 12 {
            Self { year: self.year + 1, month: 1 }
        } else {
            Self { year: self.year, month: self.month + 1 }
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_tile_time() {
        let mut month = Month::parse("2023-11").unwrap();
        for _ in 0..30 {
            assert_eq!(month.end(), month.next().start());
            assert_eq!(Month::of(month.start()), month);
            month = month.next();
        }
        assert_eq!(Month::parse("2024-02").unwrap().end().to_string(), "2024-03-01T00:00:00Z");
    }

    #[test]
    fn a_month_is_due_at_the_instant_its_grace_ends() {
        let (grace, march) = (SignedDuration::from_hours(72), Month::parse("2026-03").unwrap());
        let first = |now: &str| Month::first_not_due(now.parse().unwrap(), grace);
        assert_eq!(first("2026-04-03T23:59:59.999999Z"), march);
        assert_eq!(first("2026-04-04T00:00:00Z"), march.next());
        assert_eq!(Month::first_not_due(march.end(), SignedDuration::ZERO), march.next());
    }

    #[test]
    fn a_life_meets_the_months_it_has_an_instant_of() {
        let march = Month::parse("2026-03").unwrap();
        let meets =
            |from: &str, until: Option<&str>| march.meets(from.parse().unwrap(), until.map(|at| at.parse().unwrap()));
        assert!(meets("2020-01-01T00:00:00Z", None) && meets("2026-03-31T23:59:59Z", None));
        assert!(!meets("2026-04-01T00:00:00Z", None));
        assert!(meets("2020-01-01T00:00:00Z", Some("2026-03-01T00:00:00.000001Z")));
        assert!(!meets("2020-01-01T00:00:00Z", Some("2026-03-01T00:00:00Z")));
    }

    #[test]
    fn malformed_months_are_refused() {
        for bad in ["", "2024", "2024-13", "2024-00", "2024-1", "24-01", "2024-01-01", "+024-01", "2024- 1", "９999-01"]
        {
            assert!(Month::parse(bad).is_err(), "{bad}");
        }
    }
}
