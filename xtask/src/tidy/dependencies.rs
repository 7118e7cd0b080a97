//! Rule: which crate may use which (`docs/architecture.md`). A crate that is not in the table is refused, so that adding one is a decision.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Finding;

/// What one crate may use.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Ours; `None` means all.
    ours: Option<&'static [&'static str]>,
    /// Others that it must not depend on itself.
    forbidden: &'static [&'static str],
    /// `kube` only for its derive macro: without the client there is no I/O.
    derive_only: bool,
    /// Others that must not even arrive through another crate; see [`super::tree`].
    pub(super) absent: &'static [&'static str],
}

const CORE: &str = "kubeop-core";
const CRDS: &str = "kubeop-crds";
const PLAN: &str = "kubeop-plan";
const API: &str = "kubeop-api";
const STORE: &str = "kubeop-store";
const CLUSTER: &str = "kubeop-cluster";
/// What does I/O or runs tasks.
const IO: &[&str] = &["tokio", "async-std", "hyper", "reqwest", "axum", "sqlx", "rustls"];

/// One row per crate, ranks from the inside out.
pub(super) const RULES: [Rule; 13] = [
    Rule {
        name: CORE,
        ours: Some(&[]),
        forbidden: &["tokio", "sqlx", "axum", "kube", "k8s-openapi", "futures"],
        derive_only: false,
        absent: &["tokio", "sqlx", "axum", "hyper", "kube", "kube-core", "rustls"],
    },
    Rule {
        name: CRDS,
        ours: Some(&[CORE]),
        forbidden: &["tokio", "sqlx", "axum", "futures"],
        derive_only: true,
        absent: IO,
    },
    Rule {
        name: PLAN,
        ours: Some(&[CORE, CRDS]),
        forbidden: &["tokio", "sqlx", "axum", "hyper", "reqwest", "futures", "async-trait"],
        derive_only: true,
        absent: IO,
    },
    Rule { name: API, ours: Some(&[CORE, CRDS]), forbidden: &["axum", "sqlx", "tokio"], derive_only: true, absent: IO },
    Rule {
        name: STORE,
        ours: Some(&[CORE]),
        forbidden: &["axum", "kube"],
        derive_only: false,
        absent: &["axum", "kube", "kube-core", "k8s-openapi"],
    },
    Rule {
        name: CLUSTER,
        ours: Some(&[CORE, CRDS, PLAN]),
        forbidden: &["sqlx", "axum"],
        derive_only: false,
        absent: &["sqlx", "sqlx-core", "axum"],
    },
    Rule {
        name: "kubeop-manager",
        ours: Some(&[CORE, API, CRDS, PLAN, STORE, CLUSTER]),
        forbidden: &["sqlx"],
        derive_only: false,
        absent: &[],
    },
    Rule {
        name: "kubeop-operator",
        ours: Some(&[CORE, CRDS, PLAN, CLUSTER]),
        forbidden: &["sqlx", "axum"],
        derive_only: false,
        absent: &["sqlx", "sqlx-core", "axum"],
    },
    Rule {
        name: "kubeop-admission",
        ours: Some(&[CORE, CRDS, PLAN, CLUSTER]),
        forbidden: &["sqlx"],
        derive_only: false,
        absent: &["sqlx", "sqlx-core"],
    },
    Rule { name: "kubeop", ours: None, forbidden: &[], derive_only: false, absent: &[] },
    Rule { name: "e2e", ours: None, forbidden: &[], derive_only: false, absent: &[] },
    Rule { name: "bench", ours: Some(&["e2e", CORE, STORE]), forbidden: &[], derive_only: false, absent: &[] },
    Rule { name: "xtask", ours: Some(&[]), forbidden: &[], derive_only: false, absent: &[] },
];

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata did not print JSON")?;
    Ok(judge(&metadata))
}

fn judge(metadata: &Value) -> Vec<Finding> {
    let packages = list(metadata, "packages");
    let members: Vec<&str> = packages.iter().map(|package| text(package, "name")).collect();
    packages.iter().flat_map(|package| judge_package(package, &members)).collect()
}

fn judge_package(package: &Value, members: &[&str]) -> Vec<Finding> {
    let name = text(package, "name");
    let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
        return vec![format!(
            "crate {name}: not in the dependency table of xtask/src/tidy/dependencies.rs: decide there what it may use"
        )];
    };
    let mut findings = Vec::new();
    for dependency in list(package, "dependencies") {
        let used = text(dependency, "name");
        if members.contains(&used) {
            if rule.ours.is_some_and(|ours| !ours.contains(&used)) {
                findings.push(format!("crate {name}: must not use {used} (docs/architecture.md, dependency rule)"));
            }
            continue;
        }
        // Tests may use what they like of others'.
        if text(dependency, "kind") == "dev" {
            continue;
        }
        if rule.forbidden.contains(&used) {
            findings.push(format!("crate {name}: must not contain {used} (docs/architecture.md, dependency rule)"));
        }
        if rule.derive_only && used == "kube" {
            let defaults = dependency.get("uses_default_features").and_then(Value::as_bool).unwrap_or(true);
            let others: Vec<&str> = list(dependency, "features")
                .iter()
                .filter_map(Value::as_str)
                .filter(|feature| *feature != "derive")
                .collect();
            if defaults || !others.is_empty() {
                findings.push(format!(
                    "crate {name}: kube only with feature derive and without defaults (found {others:?})"
                ));
            }
        }
    }
    findings
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(name: &str, dependency: &Value) -> Vec<Finding> {
        judge(
            &json!({"packages": [{"name": "kubeop-core", "dependencies": []}, {"name": "kubeop-store", "dependencies": []}, {"name": name, "dependencies": [dependency]}]}),
        )
    }

    #[test]
    fn ours_follow_the_ranks() {
        assert!(workspace("kubeop-plan", &json!({"name": "kubeop-core", "kind": null})).is_empty());
        for kind in [json!(null), json!("dev")] {
            assert_eq!(workspace("kubeop-plan", &json!({"name": "kubeop-store", "kind": kind})).len(), 1);
        }
        assert!(workspace("e2e", &json!({"name": "kubeop-store", "kind": null})).is_empty());
        assert_eq!(workspace("xtask", &json!({"name": "kubeop-core", "kind": null})).len(), 1);
    }

    #[test]
    fn forbidden_ones_are_found_outside_of_tests() {
        assert_eq!(workspace("kubeop-plan", &json!({"name": "tokio", "kind": null})).len(), 1);
        assert!(workspace("kubeop-plan", &json!({"name": "tokio", "kind": "dev"})).is_empty());
        assert_eq!(workspace("kubeop-manager", &json!({"name": "sqlx", "kind": "build"})).len(), 1);
    }

    #[test]
    fn pure_crates_take_only_the_derive_of_kube() {
        let kube = |features: &[&str], defaults: bool| {
            workspace(
                "kubeop-crds",
                &json!({"name": "kube", "kind": null, "features": features, "uses_default_features": defaults}),
            )
        };
        assert!(kube(&["derive"], false).is_empty());
        assert_eq!(kube(&["derive", "client"], false).len(), 1);
        assert_eq!(kube(&["derive"], true).len(), 1);
    }

    #[test]
    fn an_unknown_crate_is_refused() {
        assert_eq!(workspace("kubeop-new", &json!({"name": "serde", "kind": null})).len(), 1);
    }
}
