//! `cargo xtask tidy`: the shape of the code, as far as a machine can check it. Each rule is one module; all findings are printed at once.

mod attributes;
mod budget;
mod dependencies;
mod header;
mod names;
mod orphans;
mod source;
mod tree;

use anyhow::{Result, bail};

use crate::environment;

/// One thing that is wrong: where, and what to do.
type Finding = String;

/// Checks the workspace.
pub(crate) fn run() -> Result<()> {
    let root = environment::workspace_root()?;
    let files = source::all(&root)?;
    let mut findings: Vec<Finding> = Vec::new();
    for file in &files {
        findings.extend(header::check(file));
        findings.extend(budget::check(file));
        findings.extend(names::check(file));
        findings.extend(attributes::check(file));
    }
    findings.extend(orphans::check(&files));
    findings.extend(dependencies::check(&root)?);
    findings.extend(tree::check(&root)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        eprintln!("   {} source files are tidy", files.len());
        Ok(())
    } else {
        bail!("tidy: {} findings", findings.len())
    }
}
