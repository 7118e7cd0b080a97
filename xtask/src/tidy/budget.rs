//! Rule: at most 600 lines in a file, unit tests apart.

use super::{Finding, source::Source};

/// Past 400 a file should be split; past this it must.
const LIMIT: usize = 600;

pub(super) fn check(file: &Source) -> Option<Finding> {
    if file.is_test() {
        return None;
    }
    let lines = code_lines(&file.text);
    (lines > LIMIT)
        .then(|| format!("{}: {lines} lines without its tests: split it (at most {LIMIT}, better 200)", file.path))
}

/// Lines up to the unit tests at the end of the file. A `#[cfg(test)]` on anything but a module in braces does not end the count.
fn code_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| matches!(pair, [attribute, module] if *attribute == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{')));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_end_do_not_count() {
        let code = "fn a() {}\n".repeat(600);
        let source = |path: &str, text: String| Source { path: path.into(), text };
        assert_eq!(check(&source("a.rs", format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n"))), None);
        assert!(check(&source("a.rs", format!("{code}#[cfg(test)]\nuse x;\n"))).is_some());
        assert!(check(&source("a.rs", format!("{code}fn b() {{}}\n"))).is_some());
        assert_eq!(check(&source("crates/a/tests/it.rs", code.repeat(2))), None);
    }
}
