//! Where the control plane's programs are: in the directory a variable names, else in the cache, where they are built when missing.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::modules::CONTROL_PLANE;
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

/// Variables that name a directory with the programs, the first one that is set counts.
const OVERRIDES: [&str; 2] = ["KUBEOP_TEST_CLUSTER_BIN", "KUBEBUILDER_ASSETS"];

/// Finds the programs, building the missing ones into the cache.
pub(crate) fn resolve() -> Result<Binaries> {
    for name in OVERRIDES {
        if let Some(directory) = environment::path_variable(name) {
            return match CONTROL_PLANE.missing(&directory).first().map(|program| program.shown()) {
                None => Ok(all(directory)),
                Some(program) => bail!(
                    "{name} names {}, which has no {program}: put etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kubectl there, or unset {name} and they are built",
                    directory.display()
                ),
            };
        }
    }
    Ok(all(CONTROL_PLANE.resolve()?))
}

/// etcd may go by either name.
fn etcd(directory: &Path) -> PathBuf {
    let etcd = directory.join("etcd");
    if etcd.is_file() { etcd } else { directory.join("server") }
}

fn all(directory: PathBuf) -> Binaries {
    Binaries {
        etcd: etcd(&directory),
        apiserver: directory.join("kube-apiserver"),
        controller_manager: directory.join("kube-controller-manager"),
        scheduler: directory.join("kube-scheduler"),
        kubectl: directory.join("kubectl"),
        directory,
    }
}
