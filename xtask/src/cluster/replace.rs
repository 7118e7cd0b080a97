//! A Go dependency that is built with one of its files replaced by ours.
//!
//! Invariant: the module's own `go.mod` and everything that Go keeps stay as they are; the copy and its `go.mod` are in the program's cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::modules::Located;
use crate::{environment, step::output};

/// What is replaced: a generated list, say, that would bring much that no test cluster needs.
pub(crate) struct Replacement {
    /// The dependency.
    pub(crate) module: &'static str,
    /// Its file, relative to its root.
    pub(crate) file: &'static str,
    /// Ours, relative to the program's module.
    pub(crate) by: &'static str,
}

impl Replacement {
    /// Our file.
    pub(crate) fn ours(&self, source: &Path) -> PathBuf {
        source.join(self.by)
    }

    /// Copies the dependency, replaces the file, and gives the `go.mod` that builds with the copy.
    pub(crate) fn prepare(&self, located: &Located) -> Result<PathBuf> {
        let original = self.download(&located.source)?;
        let copy = located.cache.join("replaced");
        if copy.exists() {
            fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
        }
        // Go's own copy may not be written to, and ours could not be replaced or removed.
        output(Command::new("cp").args(["-R", "--no-preserve=mode"]).arg(&original).arg(&copy))?;
        let (ours, theirs) = (self.ours(&located.source), copy.join(self.file));
        if !theirs.is_file() {
            bail!("{} has no {} any more: {} has nothing to replace", self.module, self.file, ours.display());
        }
        fs::copy(&ours, &theirs).with_context(|| format!("cannot copy {}", ours.display()))?;

        let pins = located.source.join("go.mod");
        let text = fs::read_to_string(&pins).with_context(|| format!("cannot read {}", pins.display()))?;
        let with_copy = located.cache.join("replaced.mod");
        fs::write(&with_copy, format!("{text}\nreplace {} => {}\n", self.module, copy.display()))
            .with_context(|| format!("cannot write {}", with_copy.display()))?;
        let sums = located.source.join("go.sum");
        fs::copy(&sums, with_copy.with_extension("sum")).with_context(|| format!("cannot copy {}", sums.display()))?;
        Ok(with_copy)
    }

    fn download(&self, source: &Path) -> Result<PathBuf> {
        let mut command = Command::new("go");
        command.args(["mod", "download", "-json", self.module]).current_dir(source).env("GOWORK", "off");
        if environment::variable("GOTOOLCHAIN").is_none() {
            command.env("GOTOOLCHAIN", "auto");
        }
        let told = output(&mut command)?;
        let told: Value = serde_json::from_str(&told).context("go mod download printed no JSON")?;
        let directory = told.get("Dir").and_then(Value::as_str);
        directory.map(PathBuf::from).with_context(|| format!("go mod download told no directory of {}", self.module))
    }
}
