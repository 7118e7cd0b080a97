//! Rule: the first line of each file is `//!` and says what the file holds.

use super::{Finding, source::Source};

pub(super) fn check(file: &Source) -> Option<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let said = first.strip_prefix("//!").map(str::trim).unwrap_or_default();
    said.is_empty().then(|| format!("{}:1: begin with `//! ...`: what the file holds, and one invariant", file.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_the_file_holds() {
        let check = |text: &str| check(&Source { path: "a.rs".into(), text: text.into() });
        assert_eq!(check("//! Names.\nfn a() {}\n"), None);
        for bad in ["", "fn a() {}\n", "\n//! Late.\n", "//!\n", "// Names.\n"] {
            assert!(check(bad).is_some(), "{bad:?}");
        }
    }
}
