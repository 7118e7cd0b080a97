//! The numbers of a JSON text as they are written, for the few that cannot be told by their double.
//!
//! Invariant: looked up lazily and from where the last look-up ended: a text without doubles is not read twice, and none more than twice.

use std::cell::Cell;

/// The numbers of a text, in order, of which its parser has met some.
pub(super) struct Literals<'a> {
    text: &'a str,
    /// How many the parser met.
    met: Cell<usize>,
    /// How many lie before `at`.
    passed: Cell<usize>,
    at: Cell<usize>,
}

impl<'a> Literals<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, met: Cell::new(0), passed: Cell::new(0), at: Cell::new(0) }
    }

    /// Counts a number.
    pub(super) fn met(&self) {
        self.met.set(self.met.get() + 1);
    }

    /// The number that was counted last, as it is written. The text up to its end must be JSON, as what a parser read of it is.
    pub(super) fn last_met(&self) -> Option<&'a str> {
        let mut literal = None;
        while self.passed.get() < self.met.get() {
            literal = Some(self.next()?);
            self.passed.set(self.passed.get() + 1);
        }
        literal
    }

    fn next(&self) -> Option<&'a str> {
        let mut rest = self.text.get(self.at.get()..)?;
        loop {
            rest = rest.get(rest.find(|c: char| matches!(c, '"' | '-' | '0'..='9'))?..)?;
            if !rest.starts_with('"') {
                break;
            }
            rest = after_string(rest.get(1..)?)?;
        }
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let (literal, rest) = rest.split_at_checked(end)?;
        self.at.set(self.text.len() - rest.len());
        Some(literal)
    }
}

/// What follows a string of which the opening quote was read.
fn after_string(mut rest: &str) -> Option<&str> {
    loop {
        let at = rest.find(['"', '\\'])?;
        let escaped = rest.get(at..)?.starts_with('\\');
        rest = rest.get(at + 1..)?;
        if !escaped {
            return Some(rest);
        }
        rest = rest.get(rest.chars().next()?.len_utf8()..)?;
    }
}

/// Whether a number of JSON has no fraction, told exactly.
pub(super) fn is_whole(literal: &str) -> bool {
    let (mantissa, exponent) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes()).filter(u8::is_ascii_digit);
    // Of zeros alone it is zero.
    let Some(last) = digits().rev().position(|digit| digit != b'0') else { return true };
    let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX) - i64::try_from(last).unwrap_or(i64::MAX);
    match exponent.parse::<i64>() {
        Ok(exponent) => exponent >= places,
        // Beyond every double.
        Err(_) => !exponent.starts_with('-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_told_by_their_text() {
        for text in [
            "0",
            "-0",
            "0.0",
            "0e-5",
            "2.0",
            "1e3",
            "1.5e1",
            "-4.50e1",
            "20e-1",
            "1e400",
            "1e99999999999999999999",
            "120.0e-1",
        ] {
            assert!(is_whole(text), "{text}");
        }
        for text in ["0.5", "1.99999999999999999999", "1e-400", "1.25e1", "20e-2", "1e-99999999999999999999", "-0.1"] {
            assert!(!is_whole(text), "{text}");
        }
    }

    #[test]
    fn each_number_is_found_where_it_was_met() {
        let text = r#"{"1":2,"a\"3":[-4.5e+1,"\\",true,6E0,"é7\u0038"],"x":{},"y":9}"#;
        let literals = Literals::of(text);
        literals.met();
        assert_eq!(literals.last_met(), Some("2"));
        literals.met();
        literals.met();
        assert_eq!(literals.last_met(), Some("6E0"));
        literals.met();
        assert_eq!((literals.last_met(), literals.last_met()), (Some("9"), None));
    }
}
