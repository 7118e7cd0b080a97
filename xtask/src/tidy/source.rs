//! The Rust files of the workspace's crates.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A Rust file.
pub(super) struct Source {
    /// Relative to the workspace's root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    /// Whether the whole file is a test: below a `tests` folder, or a `tests.rs`.
    pub(super) fn is_test(&self) -> bool {
        let components: Vec<&str> = self.path.split('/').collect();
        components.iter().rev().skip(1).any(|folder| *folder == "tests")
            || components.last().is_some_and(|name| *name == "tests.rs")
    }
}

/// Every `.rs` file of `crates/*`, `bench` and `xtask`.
pub(super) fn all(root: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for folder in ["crates", "bench", "xtask"] {
        collect(root, &root.join(folder), &mut files)?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path: PathBuf = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let relative = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .components()
                .map(|part| part.as_os_str().to_string_lossy())
                .collect::<Vec<_>>()
                .join("/");
            files.push(Source { path: relative, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_by_their_place() {
        let is_test = |path: &str| Source { path: path.into(), text: String::new() }.is_test();
        assert!(is_test("crates/a/tests/it.rs"));
        assert!(is_test("crates/a/tests/it/one.rs"));
        assert!(is_test("crates/a/src/quota/tests.rs"));
        assert!(!is_test("crates/a/src/test.rs"));
    }
}
