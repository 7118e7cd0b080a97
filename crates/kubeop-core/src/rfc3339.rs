//! Times as callers write them: RFC 3339, section 5.6, and nothing else.
//!
//! Invariant: what is accepted is one instant in every reading of the RFC; no other form of ISO 8601, no calendar week, no name of a zone.

use crate::id::shorten;
use crate::{Error, Result};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// The last second of a day, where a leap second may follow.
const LAST_SECOND: i64 = 86_399;

/// Parses `YYYY-MM-DDThh:mm:ss`, perhaps a fraction of up to nine digits, then `Z` or an offset `+hh:mm` up to 23:59; `t` and `z` may be lower
/// case. A leap second, `23:59:60` in UTC, is read as the second before it: it lies in the same hour and day.
///
/// # Errors
/// `Invalid` that names the text.
pub fn parse(text: &str) -> Result<Timestamp> {
    read(text.as_bytes()).ok_or_else(|| {
        Error::invalid(format!("{:?} is not an RFC 3339 time such as 2026-01-31T10:00:00Z", shorten(text)))
    })
}

fn read(text: &[u8]) -> Option<Timestamp> {
    let (head, rest) = text.split_at_checked(19)?;
    let &[c, e, n, y, b'-', m1, m2, b'-', d1, d2, b'T' | b't', h1, h2, b':', n1, n2, b':', s1, s2] = head else {
        return None;
    };
    let year = i16::from(two(c, e)?) * 100 + i16::from(two(n, y)?);
    let second = two(s1, s2)?;
    let (nanos, zone) = fraction(rest)?;
    let civil =
        DateTime::new(year, two(m1, m2)?, two(d1, d2)?, two(h1, h2)?, two(n1, n2)?, second.min(59), nanos).ok()?;
    let time = offset(zone)?.to_timestamp(civil).ok()?;
    let leap = second == 60 && time.as_second().rem_euclid(LAST_SECOND + 1) == LAST_SECOND;
    (second < 60 || leap).then_some(time)
}

/// Two digits.
fn two(tens: u8, ones: u8) -> Option<i8> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| byte - b'0');
    i8::try_from(digit(tens)? * 10 + digit(ones)?).ok()
}

/// Nanoseconds, and what follows the fraction.
fn fraction(rest: &[u8]) -> Option<(i32, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = digits.split_at_checked(count)?;
    if !(1..=9).contains(&count) {
        return None;
    }
    let nanos = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
    Some((nanos.fold(0, |sum, byte| sum * 10 + i32::from(byte - b'0')), zone))
}

fn offset(zone: &[u8]) -> Option<Offset> {
    match *zone {
        [b'Z' | b'z'] => Some(Offset::UTC),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (i32::from(two(h1, h2)?), i32::from(two(m1, m2)?));
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = (hours * 60 + minutes) * 60;
            Offset::from_seconds(if sign == b'-' { -seconds } else { seconds }).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_the_rfc_is_read() {
        for (text, utc) in [
            ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z"),
            ("2026-01-31t10:00:00z", "2026-01-31T10:00:00Z"),
            ("2026-01-31T10:00:00.5Z", "2026-01-31T10:00:00.5Z"),
            ("2026-01-31T10:00:00.123456789Z", "2026-01-31T10:00:00.123456789Z"),
            ("2026-01-31T10:00:00+02:30", "2026-01-31T07:30:00Z"),
            ("2026-01-31T10:00:00-00:00", "2026-01-31T10:00:00Z"),
            ("2026-01-31T10:00:00-23:59", "2026-02-01T09:59:00Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("2016-12-31T15:59:60.7-08:00", "2016-12-31T23:59:59.7Z"),
        ] {
            assert_eq!(parse(text).unwrap(), utc.parse().unwrap(), "{text}");
        }
    }

    /// Each was read once, as some time or other.
    #[test]
    fn what_is_not_of_the_rfc_is_refused() {
        for text in [
            "",
            "2026-11-06",
            "20261106T100000Z",
            "2026-11-06T10Z",
            "2026-11-06T10:00Z",
            "2026-11-06T10:00:00",
            "2026-11-06 10:00:00Z",
            "2026-11-06_10:00:00Z",
            "+002026-11-06T10:00:00Z",
            "-002026-11-06T10:00:00Z",
            "2026-11-06T10:00:00+25:59",
            "2026-11-06T10:00:00+24:00",
            "2026-11-06T10:00:00+01:60",
            "2026-11-06T10:00:00+0100",
            "2026-11-06T10:00:00+01",
            "2026-11-06T10:00:00+01:00:00",
            "2026-11-06T10:00:00Z[UTC]",
            "2026-11-06T10:00:00Z[Foo/Bar]",
            "2026-11-06T10:00:00,5Z",
            "2026-11-06T10:00:00.Z",
            "2026-11-06T10:00:00.1234567890Z",
            "2026-11-06T24:00:00Z",
            "2026-11-06T10:60:00Z",
            "2026-11-06T10:00:60Z",
            "2026-11-06T23:59:61Z",
            "2026-11-06T23:59:60+01:00",
            "2026-02-29T00:00:00Z",
            "2026-00-01T00:00:00Z",
            " 2026-11-06T10:00:00Z",
            "2026-11-06T10:00:00Z ",
            "2026-11-06T10:00:00ZZ",
            "2026-1\u{661}-06T10:00:00Z",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let refused = parse("20261106T100000Z").unwrap_err();
        assert_eq!(refused.message(), "\"20261106T100000Z\" is not an RFC 3339 time such as 2026-01-31T10:00:00Z");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(second in 0_i64..253_402_300_799, nanos in 0_i32..1_000_000_000) {
            let time = Timestamp::new(second, nanos).unwrap();
            prop_assert_eq!(parse(&time.to_string()).unwrap(), time);
        }

        #[test]
        fn any_text_is_read_as_jiff_reads_it_or_refused(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})") {
            if let Ok(time) = parse(&text) {
                prop_assert_eq!(time, text.parse::<Timestamp>().unwrap());
            }
        }
    }
}
