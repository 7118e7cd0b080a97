//! Rule: each file below `src` and `tests` is reached by `mod` declarations from a root the compiler knows; an orphan is never compiled and rots.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, source::Source};

pub(super) fn check(files: &[Source]) -> Vec<Finding> {
    let texts: BTreeMap<&str, &str> = files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = texts.keys().filter(|path| is_root(path)).map(|path| (*path).to_owned()).collect();
    let mut findings = Vec::new();
    while let Some(path) = open.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        let Some(text) = texts.get(path.as_str()) else { continue };
        for module in modules(text) {
            let candidates = candidates(&path, &module);
            match candidates.iter().find(|candidate| texts.contains_key(candidate.as_str())) {
                Some(found) => open.push(found.clone()),
                None => findings.push(format!(
                    "{path}: no file for `mod {}` (looked for {})",
                    module.name,
                    candidates.join(", ")
                )),
            }
        }
    }
    findings.extend(
        texts
            .keys()
            .filter(|path| !reached.contains(**path))
            .map(|path| format!("{path}: no `mod` leads here: declare it or delete it")),
    );
    findings
}

/// A `mod name;`, perhaps with `#[path = "..."]`.
struct Module {
    name: String,
    path: Option<String>,
}

/// What the compiler starts from: `lib.rs`, `main.rs`, `build.rs`, and each file (or `<folder>/main.rs`) directly in `src/bin`, `tests`, `examples`, `benches`.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "src", "lib.rs" | "main.rs"]
        | [.., "build.rs"]
        | [.., "src", "bin", _]
        | [.., "src", "bin", _, "main.rs"] => true,
        [before @ .., "tests" | "examples" | "benches", _]
        | [before @ .., "tests" | "examples" | "benches", _, "main.rs"] => !before.contains(&"src"),
        _ => false,
    }
}

fn modules(text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next().map(str::to_owned);
            continue;
        }
        let declared = line
            .strip_prefix("pub ")
            .or_else(|| line.strip_prefix("pub(").and_then(|rest| rest.split_once(") ").map(|(_, rest)| rest)))
            .unwrap_or(line);
        if let Some(name) = declared.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            found.push(Module { name: name.trim_start_matches("r#").to_owned(), path: path.take() });
        } else if !line.starts_with("#[") {
            path = None;
        }
    }
    found
}

/// Where the file of a module may be.
fn candidates(declaring: &str, module: &Module) -> Vec<String> {
    let (folder, file) = declaring.rsplit_once('/').unwrap_or(("", declaring));
    if let Some(path) = &module.path {
        return vec![climbed(&format!("{folder}/{path}"))];
    }
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let own = if stem == "mod" || is_root(declaring) { folder.to_owned() } else { format!("{folder}/{stem}") };
    vec![format!("{own}/{}.rs", module.name), format!("{own}/{}/mod.rs", module.name)]
}

/// A path without `..` in it, as the files are listed.
fn climbed(path: &str) -> String {
    let mut folders: Vec<&str> = Vec::new();
    for part in path.split('/') {
        if part == ".." {
            folders.pop();
        } else {
            folders.push(part);
        }
    }
    folders.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<Finding> {
        check(
            &files.iter().map(|(path, text)| Source { path: (*path).into(), text: (*text).into() }).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_reached_tree_is_fine() {
        let none = findings(&[
            ("crates/a/src/lib.rs", "//! A.\nmod b;\npub mod c;\npub(crate) mod d;\n#[cfg(test)]\nmod tests;\n"),
            ("crates/a/src/b.rs", "mod e;\n"),
            ("crates/a/src/b/e.rs", ""),
            ("crates/a/src/c/mod.rs", "mod f;\n"),
            ("crates/a/src/c/f.rs", ""),
            ("crates/a/src/d.rs", "#[path = \"odd.rs\"]\nmod g;\nmod inline {\n}\n"),
            ("crates/b/tests/x/main.rs", "#[path = \"../../../a/src/odd.rs\"]\nmod g;\n"),
            ("crates/a/src/odd.rs", ""),
            ("crates/a/src/tests.rs", ""),
            ("crates/a/src/bin/tool.rs", ""),
            ("crates/a/tests/it/main.rs", "mod one;\n"),
            ("crates/a/tests/it/one.rs", ""),
        ]);
        assert_eq!(none, Vec::<String>::new());
    }

    #[test]
    fn an_orphan_and_a_missing_file_are_found() {
        let found = findings(&[
            ("crates/a/src/lib.rs", "mod gone;\n"),
            ("crates/a/src/left.rs", ""),
            ("crates/a/tests/it/left.rs", ""),
        ]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|finding| finding.contains("`mod gone`")));
        assert!(found.iter().any(|finding| finding.starts_with("crates/a/src/left.rs")));
        assert!(found.iter().any(|finding| finding.starts_with("crates/a/tests/it/left.rs")));
    }
}
