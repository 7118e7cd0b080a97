//! Rule: a lint is silenced by `#[expect(..., reason = "...")]`, which complains when it is no longer needed; never by `#[allow]`.

use super::{Finding, source::Source};

pub(super) fn check(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim_start();
        let place = format!("{}:{}", file.path, index + 1);
        if line.starts_with("#[allow(") || line.starts_with("#![allow(") {
            findings.push(format!("{place}: use #[expect(..., reason = \"...\")] instead of #[allow]"));
        } else if (line.starts_with("#[expect(") || line.starts_with("#![expect("))
            && line.ends_with(")]")
            && !line.contains("reason")
        {
            findings.push(format!("{place}: #[expect] needs a reason"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_is_refused_and_expect_needs_a_reason() {
        let count = |text: &str| check(&Source { path: "a.rs".into(), text: text.into() }).len();
        assert_eq!(count("    #[allow(dead_code)]\n#![allow(x)]\n"), 2);
        assert_eq!(count("#[expect(dead_code)]\n"), 1);
        assert_eq!(
            count(
                "#[expect(dead_code, reason = \"used on Linux only\")]\n#[expect(\n    dead_code,\n    reason = \"x\"\n)]\n"
            ),
            0
        );
        assert_eq!(count("let text = \"#[allow(x)]\";\n// #[allow(x)]\n"), 0);
    }
}
