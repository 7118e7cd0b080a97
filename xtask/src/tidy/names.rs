//! Rule: no file or folder is named after nothing in particular.

use super::{Finding, source::Source};

/// Names that say nothing about what is inside, so that everything ends up there.
const FORBIDDEN: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "misc", "types", "manager_manager"];

pub(super) fn check(file: &Source) -> Option<Finding> {
    let named = file
        .path
        .split('/')
        .map(|part| part.strip_suffix(".rs").unwrap_or(part))
        .find(|part| FORBIDDEN.contains(part))?;
    Some(format!("{}: {named:?} says nothing: name it after what it holds", file.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_refused() {
        let check = |path: &str| check(&Source { path: path.into(), text: String::new() });
        for bad in ["crates/a/src/utils.rs", "crates/a/src/common/mod.rs", "crates/a/tests/helpers/x.rs"] {
            assert!(check(bad).is_some(), "{bad}");
        }
        assert_eq!(check("crates/a/src/uncommon/typesetting.rs"), None);
    }
}
