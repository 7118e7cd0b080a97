//! Where the control plane's programs are: in the directory a variable names, else in the cache, where they are built when missing.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{
    build,
    gomod::{self, Pins},
};
use crate::environment;

/// The programs, all present.
pub(crate) struct Binaries {
    /// Where they are (`KUBEOP_TEST_CLUSTER_BIN` of the tests).
    pub(crate) directory: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) apiserver: PathBuf,
    pub(crate) controller_manager: PathBuf,
    pub(crate) scheduler: PathBuf,
    pub(crate) kubectl: PathBuf,
}

/// A program's name and the Go package it is built from. etcd's package is called `server`, and so is its program.
pub(crate) const PROGRAMS: [(&str, &str); 5] = [
    ("server", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];

fn cached() -> Result<(PathBuf, Pins, PathBuf)> {
    let module = environment::workspace_root()?.join("testcluster");
    let pins = gomod::read(&module)?;
    let cache = environment::cache_directory()?.join("testcluster").join(&pins.key);
    Ok((module, pins, cache))
}

/// Variables that name a directory with the programs, the first one that is set counts.
const OVERRIDES: [&str; 2] = ["KUBEOP_TEST_CLUSTER_BIN", "KUBEBUILDER_ASSETS"];

/// Finds the programs, building the missing ones into the cache.
pub(crate) fn resolve() -> Result<Binaries> {
    for name in OVERRIDES {
        if let Some(directory) = environment::path_variable(name) {
            return match missing(&directory).first().map(|program| shown(program)) {
                None => Ok(all(directory)),
                Some(program) => bail!(
                    "{name} names {}, which has no {program}: put etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kubectl there, or unset {name} and they are built",
                    directory.display()
                ),
            };
        }
    }
    let (module, pins, cache) = cached()?;
    let directory = cache.join("bin");
    if !missing(&directory).is_empty() {
        build::build(&module, &pins, &cache)?;
    }
    Ok(all(directory))
}

/// Which programs a directory lacks.
pub(crate) fn missing(directory: &Path) -> Vec<&'static str> {
    PROGRAMS.iter().map(|(program, _)| *program).filter(|program| !path(directory, program).is_file()).collect()
}

/// The name people know a program by.
pub(crate) fn shown(program: &str) -> &str {
    if program == "server" { "etcd" } else { program }
}

/// etcd may go by either name.
fn path(directory: &Path, program: &str) -> PathBuf {
    let etcd = directory.join("etcd");
    if program == "server" && etcd.is_file() { etcd } else { directory.join(program) }
}

fn all(directory: PathBuf) -> Binaries {
    Binaries {
        etcd: path(&directory, "server"),
        apiserver: path(&directory, "kube-apiserver"),
        controller_manager: path(&directory, "kube-controller-manager"),
        scheduler: path(&directory, "kube-scheduler"),
        kubectl: path(&directory, "kubectl"),
        directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_counts_under_both_names() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(missing(directory.path()).len(), 5);
        std::fs::write(directory.path().join("etcd"), "").unwrap();
        assert_eq!(
            missing(directory.path()),
            ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]
        );
    }
}
