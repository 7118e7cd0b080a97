//! Kubernetes quantities as exact numbers (`k8s.io/apimachinery/pkg/api/resource`: the grammar in the type's documentation).
//!
//! Invariant: a `Quantity` keeps the text it was written as, and compares, adds and subtracts as whole nano-units in an `i128`.

use crate::id::shorten;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

const NANO: i128 = 1_000_000_000;
/// The largest magnitude Kubernetes represents: 2^63 - 1 units.
const MAX_NANOS: i128 = (i64::MAX as i128) * NANO;
/// Longer texts are refused before they are looked at.
const MAX_LENGTH: usize = 64;
/// Digits after the point that are evaluated; what follows only decides the rounding up.
const MAX_FRACTION: usize = 18;

/// An amount of a resource: `500m`, `8Gi`, `1e3`, `0.5`.
#[derive(Clone)]
pub struct Quantity {
    text: String,
    nanos: i128,
}

impl Quantity {
    /// Parses the full grammar: sign, decimal number, then a binary (`Ki`..`Ei`) or decimal (`n`..`E`) suffix or a decimal exponent.
    /// Finer than nano is rounded away from zero, as Kubernetes does; more than 2^63 - 1 is refused.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("{:?} is not a resource quantity: {why}", shorten(text)));
        let form = "a number with an optional suffix is needed, as in 500m, 2 or 8Gi";
        if text.len() > MAX_LENGTH {
            return Err(refuse("at most 64 characters are allowed"));
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(refuse(form));
        }
        let (power_of_ten, shift) = scale(suffix).ok_or_else(|| refuse(form))?;
        let out_of_range = || refuse("the largest amount is 2^63-1");

        let cut = fraction.len().min(MAX_FRACTION);
        let (kept, rest) = fraction.split_at(cut);
        let mut digits: i128 = 0;
        for byte in whole.bytes().chain(kept.bytes()) {
            digits =
                digits.checked_mul(10).and_then(|d| d.checked_add(i128::from(byte - b'0'))).ok_or_else(out_of_range)?;
        }
        let sticky = rest.bytes().any(|b| b != b'0');
        // value = digits * 10^power_of_ten * 2^shift / 10^cut, in nano-units
        let exponent = power_of_ten + 9 - i64::try_from(cut).unwrap_or(0);
        let mut nanos = digits.checked_mul(1_i128 << shift).ok_or_else(out_of_range)?;
        let mut inexact = sticky;
        if digits == 0 && !sticky {
            nanos = 0;
        } else if exponent >= 0 {
            let factor = u32::try_from(exponent).ok().and_then(|e| 10_i128.checked_pow(e)).ok_or_else(out_of_range)?;
            nanos = nanos.checked_mul(factor).ok_or_else(out_of_range)?;
        } else {
            let divisor = u32::try_from(-exponent).ok().and_then(|e| 10_i128.checked_pow(e));
            // A divisor out of range leaves nothing but the rounding up.
            inexact |= divisor.is_none_or(|divisor| nanos % divisor != 0);
            nanos = divisor.map_or(0, |divisor| nanos / divisor);
        }
        if inexact {
            nanos = nanos.checked_add(1).ok_or_else(out_of_range)?;
        }
        if nanos > MAX_NANOS {
            return Err(out_of_range());
        }
        Ok(Self { text: text.to_owned(), nanos: if negative { -nanos } else { nanos } })
    }

    /// An amount in nano-units, written canonically: with the largest decimal suffix of `n`, `u`, `m` or none that keeps it exact.
    pub fn from_nanos(nanos: i128) -> Self {
        let text = [(NANO, ""), (1_000_000, "m"), (1_000, "u"), (1, "n")]
            .into_iter()
            .find(|(unit, _)| nanos % unit == 0)
            .map_or_else(|| nanos.to_string(), |(unit, suffix)| format!("{}{suffix}", nanos / unit));
        Self { text, nanos }
    }

    /// An amount in nano-units, written with the largest binary suffix that keeps it exact (for bytes), else as [`Quantity::from_nanos`].
    pub fn from_nanos_binary(nanos: i128) -> Self {
        [(1_i128 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")]
            .into_iter()
            .find(|(unit, _)| nanos != 0 && nanos % (unit * NANO) == 0)
            .map_or_else(
                || Self::from_nanos(nanos),
                |(unit, suffix)| Self { text: format!("{}{suffix}", nanos / (unit * NANO)), nanos },
            )
    }

    /// The amount in nano-units.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is written with a binary suffix.
    pub fn is_binary(&self) -> bool {
        self.text.ends_with('i')
    }
}

/// The power of ten and of two a suffix stands for; `None` for an unknown one.
fn scale(suffix: &str) -> Option<(i64, u32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            // Past i32 the value is out of range or vanishes; saturating keeps both true.
            let size = digits.parse::<i64>().unwrap_or(i64::from(i32::MAX)).min(i64::from(i32::MAX));
            (if exponent.starts_with('-') { -size } else { size }, 0)
        }
    })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "A Kubernetes resource quantity: 500m, 2, 8Gi." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> i128 {
        Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).nanos()
    }

    #[test]
    fn the_grammar() {
        for (text, expected) in [
            ("0", 0),
            ("1", NANO),
            ("+1", NANO),
            ("-1", -NANO),
            ("1.", NANO),
            (".5", NANO / 2),
            ("500m", NANO / 2),
            ("1e3", 1000 * NANO),
            ("1E3", 1000 * NANO),
            ("1E", 1_000_000_000_000_000_000 * NANO),
            ("1e-3", 1_000_000),
            ("1e+3", 1000 * NANO),
            ("1Ki", 1024 * NANO),
            ("1.5Gi", 1_610_612_736 * NANO),
            ("0.1n", 1),
            ("-0.1n", -1),
            ("1n", 1),
            ("0e2147483648", 0),
            ("1e-2147483648", 1),
            ("9223372036854775807", MAX_NANOS),
            ("0.0000000000000000000000001", 1),
        ] {
            assert_eq!(nanos(text), expected, "{text}");
        }
        for bad in [
            "",
            "+",
            "-",
            ".",
            "1.2.3",
            "1K",
            "1 Gi",
            " 1",
            "1e",
            "1Ee3",
            "1gi",
            "0x10",
            "1e2147483648",
            "1_000",
            "١",
            "9223372036854775808",
            "NaN",
            "8Ei ",
            "10Ei",
            "--1",
            "+-1",
            "1m1",
        ] {
            assert!(Quantity::parse(bad).is_err(), "{bad}");
        }
        assert!(Quantity::parse(&"9".repeat(100_000)).is_err());
    }

    #[test]
    fn equal_amounts_in_other_words_are_equal() {
        assert_eq!(Quantity::parse("1000m").unwrap(), Quantity::parse("1").unwrap());
        assert_eq!(Quantity::parse("1Gi").unwrap(), Quantity::parse("1024Mi").unwrap());
        assert!(Quantity::parse("1G").unwrap() < Quantity::parse("1Gi").unwrap());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn written_canonically_it_reads_back(nanos in -MAX_NANOS..MAX_NANOS) {
            prop_assert_eq!(Quantity::parse(Quantity::from_nanos(nanos).as_str()).unwrap().nanos(), nanos);
            prop_assert_eq!(Quantity::parse(Quantity::from_nanos_binary(nanos).as_str()).unwrap().nanos(), nanos);
        }
    }
}
