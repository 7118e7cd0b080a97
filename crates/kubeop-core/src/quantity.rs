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
/// The largest decimal exponent, either way. Kubernetes' own parser computes with whatever it is given, cut to 32 bits: what is far out of
/// range there costs minutes of the API server's time, or means another amount than it says.
const MAX_EXPONENT: i64 = 99;
/// Why what is written without a fault in form is refused all the same.
const OUT_OF_RANGE: &str = "the largest amount is 2^63-1";
const FORM: &str = "a number with an optional suffix is needed, as in 500m, 2 or 8Gi";

/// An amount of a resource: `500m`, `8Gi`, `1e3`, `0.5`.
#[derive(Clone)]
pub struct Quantity {
    text: String,
    nanos: i128,
}

impl Quantity {
    /// Parses the full grammar: sign, decimal number, then a binary (`Ki`..`Ei`) or decimal (`n`..`E`) suffix or a decimal exponent.
    /// Every digit counts; finer than nano is rounded away from zero, as Kubernetes does; more than 2^63 - 1 is refused, and so is an exponent
    /// beyond 99 either way.
    pub fn parse(text: &str) -> Result<Self> {
        let nanos = read(text)
            .map_err(|why| Error::invalid(format!("{:?} is not a resource quantity: {why}", shorten(text))))?;
        Ok(Self { text: text.to_owned(), nanos })
    }

    /// An amount in nano-units, written with the largest of the units `n`, `u`, `m` or none that keeps it exact.
    pub fn from_nanos(nanos: i128) -> Self {
        Self { text: written(nanos, &SMALL), nanos }
    }

    /// An amount in nano-units, written with the largest binary suffix that keeps it exact (for bytes), else as [`Quantity::from_nanos`].
    pub fn from_nanos_binary(nanos: i128) -> Self {
        let units = BINARY.map(|(shift, suffix)| (NANO << shift, suffix));
        let binary = nanos != 0 && units.iter().any(|(unit, _)| nanos % unit == 0);
        Self { text: if binary { written(nanos, &units) } else { written(nanos, &SMALL) }, nanos }
    }

    /// The amount as Kubernetes writes it back (`CanonicalizeBytes`): the largest suffix without a fraction, binary ones where it was written
    /// with one. What goes into a cluster's objects is this, so that nothing there depends on how two parsers read a text.
    pub fn canonical(&self) -> String {
        if self.is_binary() && self.nanos.abs() >= NANO << 10 && self.nanos % NANO == 0 {
            let units = BINARY.map(|(shift, suffix)| (NANO << shift, suffix));
            return written(self.nanos, &units);
        }
        written(self.nanos, &DECIMAL)
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

/// Nano-units of decimal units up to one.
const SMALL: [(i128, &str); 4] = [(NANO, ""), (1_000_000, "m"), (1_000, "u"), (1, "n")];
/// Nano-units of all decimal units.
const DECIMAL: [(i128, &str); 10] = [
    (NANO * 1_000_000_000_000_000_000, "E"),
    (NANO * 1_000_000_000_000_000, "P"),
    (NANO * 1_000_000_000_000, "T"),
    (NANO * 1_000_000_000, "G"),
    (NANO * 1_000_000, "M"),
    (NANO * 1_000, "k"),
    (NANO, ""),
    (1_000_000, "m"),
    (1_000, "u"),
    (1, "n"),
];
/// Binary units: powers of two.
const BINARY: [(u32, &str); 7] = [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki"), (0, "")];

/// An amount in the first of `units` that keeps it exact.
fn written(nanos: i128, units: &[(i128, &str)]) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let fits = units.iter().find(|(unit, _)| nanos % unit == 0);
    fits.map_or_else(|| format!("{nanos}n"), |(unit, suffix)| format!("{}{suffix}", nanos / unit))
}

/// The nano-units of a text, or why it has none.
fn read(text: &str) -> std::result::Result<i128, &'static str> {
    if text.len() > MAX_LENGTH {
        return Err("at most 64 characters are allowed");
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
        return Err(FORM);
    }
    let (power, shift) = scale(suffix)?;
    let digits: Vec<u8> =
        whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').skip_while(|d| *d == 0).collect();
    // The value is digits * 10^point * 2^shift nano-units.
    let point = power + 9 - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let below = usize::try_from(point.saturating_neg()).unwrap_or(0);
    let (above, rest) = digits.split_at(digits.len().saturating_sub(below));
    let mut nanos = decimal(above, u32::try_from(point).unwrap_or(0))
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or(OUT_OF_RANGE)?;
    let (carried, inexact) = shifted_fraction(rest, below, shift);
    nanos = nanos.checked_add(carried + i128::from(inexact)).filter(|nanos| *nanos <= MAX_NANOS).ok_or(OUT_OF_RANGE)?;
    Ok(if negative { -nanos } else { nanos })
}

/// Digits and so many zeros behind them, as a number.
fn decimal(digits: &[u8], zeros: u32) -> Option<i128> {
    let value =
        digits.iter().try_fold(0_i128, |value, digit| value.checked_mul(10)?.checked_add(i128::from(*digit)))?;
    if value == 0 { Some(0) } else { value.checked_mul(10_i128.checked_pow(zeros)?) }
}

/// `0.000digits`, with `places` places, times 2^shift: the whole part, and whether anything is left behind the point. By doubling in decimal,
/// so that nothing is rounded on the way; the whole part stays below 2^shift.
fn shifted_fraction(digits: &[u8], places: usize, shift: u32) -> (i128, bool) {
    let mut fraction = vec![0; places.saturating_sub(digits.len())];
    fraction.extend_from_slice(digits);
    let mut whole = 0;
    for _ in 0..shift {
        let mut carry = 0;
        for digit in fraction.iter_mut().rev() {
            let doubled = *digit * 2 + carry;
            (*digit, carry) = (doubled % 10, doubled / 10);
        }
        whole = whole * 2 + i128::from(carry);
    }
    (whole, fraction.iter().any(|digit| *digit != 0))
}

/// The power of ten and of two a suffix stands for.
fn scale(suffix: &str) -> std::result::Result<(i64, u32), &'static str> {
    Ok(match suffix {
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
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(FORM)?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(FORM);
            }
            let size = digits.parse::<i64>().ok().filter(|size| *size <= MAX_EXPONENT);
            let size = size.ok_or("an exponent of -99 to 99 is allowed")?;
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
mod tests;
