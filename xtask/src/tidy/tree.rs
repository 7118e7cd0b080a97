//! Rule: what a crate must not contain does not arrive through another crate either. Each crate's tree is resolved alone, because building the whole
//! workspace unites features and hides it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{
    Finding,
    dependencies::{RULES, Rule},
};

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for rule in RULES.iter().filter(|rule| !rule.absent.is_empty()) {
        let output = Command::new("cargo")
            .args(["tree", "--package", rule.name, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .current_dir(root)
            .output()
            .context("cannot run cargo tree")?;
        if !output.status.success() {
            bail!("cargo tree --package {} failed:\n{}", rule.name, String::from_utf8_lossy(&output.stderr));
        }
        findings.extend(judge(rule, &String::from_utf8_lossy(&output.stdout)));
    }
    Ok(findings)
}

fn judge(rule: &Rule, tree: &str) -> Vec<Finding> {
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    rule.absent
        .iter()
        .filter(|absent| names.contains(absent))
        .map(|absent| {
            format!(
                "crate {}: {absent} arrives through another crate; see cargo tree -p {} -e normal -i {absent}",
                rule.name, rule.name
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_through_another_is_found() {
        let core = RULES.first().unwrap();
        assert_eq!(judge(core, "kubeop-core v0.1.0 (/x)\nserde v1.0.0\n"), Vec::<String>::new());
        assert_eq!(judge(core, "kubeop-core v0.1.0\nserde v1.0.0\ntokio v1.54.1\ntokio v1.54.1 (*)\n").len(), 1);
    }
}
