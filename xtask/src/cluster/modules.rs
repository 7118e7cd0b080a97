//! The Go modules that the test clusters' programs are built from. Each has its own `go.mod` and `go.sum` below `testcluster`, and its own directory in the cache.
//!
//! Invariant: a program's directory in the cache is named by a hash of all that the program is built from, so a program found there is the right one.

use std::path::PathBuf;

use anyhow::Result;

use super::{
    build,
    gomod::{self, Pins},
    replace::Replacement,
};
use crate::environment;

/// A program: its file name and the Go package it is built from.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// Relative (`.`, `./pause`) where the source is ours.
    pub(crate) package: &'static str,
}

/// Programs that are built together.
pub(crate) struct Module {
    /// Below the workspace's root.
    pub(crate) folder: &'static str,
    /// The Go module whose version people know the programs by; `None` for our own sources.
    pub(crate) versioned: Option<&'static str>,
    pub(crate) programs: &'static [Program],
    /// The build's version stamps, so that the programs report the version they are.
    pub(crate) stamps: fn(&str) -> String,
    /// A file of a dependency that ours stands for.
    pub(crate) instead: Option<Replacement>,
    /// Megabytes of build cache that a first build needs.
    pub(crate) needs: u32,
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

fn unstamped(_: &str) -> String {
    String::new()
}

fn kubernetes_stamps(version: &str) -> String {
    let (major, minor, _) = gomod::version_numbers(version.trim_start_matches('v'));
    let component = "k8s.io/component-base/version";
    format!(
        "-X {component}.gitVersion={version} -X {component}.gitMajor={major} -X {component}.gitMinor={minor} -X k8s.io/client-go/pkg/version.gitVersion={version}"
    )
}

fn traefik_stamps(version: &str) -> String {
    format!("-X github.com/traefik/traefik/v3/pkg/version.Version={}", version.trim_start_matches('v'))
}

fn helm_stamps(version: &str) -> String {
    format!("-X helm.sh/helm/v4/internal/version.version={version}")
}

/// What every test cluster runs. etcd's package is called `server`, and so is its program.
pub(crate) const CONTROL_PLANE: Module = Module {
    folder: "testcluster",
    versioned: Some("k8s.io/kubernetes"),
    programs: &[
        program("server", "go.etcd.io/etcd/server/v3"),
        program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        program("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ],
    stamps: kubernetes_stamps,
    instead: None,
    // Measured: 3.0 GB of build cache, 0.6 GB of modules, 0.4 GB of programs.
    needs: 5000,
};

/// What a node runs in addition, from the same module.
pub(crate) const NODE: Module = Module {
    folder: "testcluster",
    versioned: Some("k8s.io/kubernetes"),
    programs: &[
        program("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ],
    stamps: kubernetes_stamps,
    instead: None,
    needs: 1000,
};

/// The image registry.
pub(crate) const CRANE: Module = Module {
    folder: "testcluster/node/crane",
    versioned: Some("github.com/google/go-containerregistry"),
    programs: &[program("crane", "github.com/google/go-containerregistry/cmd/crane")],
    stamps: unstamped,
    instead: None,
    needs: 500,
};

/// What our own images hold.
pub(crate) const TOOLS: Module = Module {
    folder: "testcluster/node/images",
    versioned: None,
    programs: &[program("pause", "./pause"), program("webtool", "./webtool")],
    stamps: unstamped,
    instead: None,
    needs: 100,
};

/// The NetworkPolicy agent.
pub(crate) const NETPOL: Module = Module {
    folder: "testcluster/node/netpol",
    versioned: None,
    programs: &[program("netpol", ".")],
    stamps: unstamped,
    instead: None,
    needs: 500,
};

/// DNS, with the plugins a test cluster needs.
pub(crate) const COREDNS: Module = Module {
    folder: "testcluster/node/coredns",
    versioned: Some("github.com/coredns/coredns"),
    programs: &[program("coredns", ".")],
    stamps: unstamped,
    instead: None,
    needs: 1000,
};

/// `kubectl top`.
pub(crate) const METRICS_SERVER: Module = Module {
    folder: "testcluster/node/metrics-server",
    versioned: Some("sigs.k8s.io/metrics-server"),
    programs: &[program("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server")],
    stamps: unstamped,
    instead: None,
    needs: 1000,
};

/// The ingress controller.
pub(crate) const TRAEFIK: Module = Module {
    folder: "testcluster/node/traefik",
    versioned: Some("github.com/traefik/traefik/v3"),
    programs: &[program("traefik", "github.com/traefik/traefik/v3/cmd/traefik")],
    stamps: traefik_stamps,
    instead: Some(Replacement {
        module: "github.com/go-acme/lego/v4",
        file: "providers/dns/zz_gen_dns_providers.go",
        by: "dns/none.go",
    }),
    needs: 2000,
};

/// For the tests of the chart; no cluster needs it.
pub(crate) const HELM: Module = Module {
    folder: "testcluster/helm",
    versioned: Some("helm.sh/helm/v4"),
    programs: &[program("helm", "helm.sh/helm/v4/cmd/helm")],
    stamps: helm_stamps,
    instead: None,
    needs: 1000,
};

/// Controllers of cert-manager, for the test of the chart's certificates; no cluster needs them.
pub(crate) const CERT_MANAGER: Module = Module {
    folder: "testcluster/cert-manager",
    versioned: Some("github.com/cert-manager/cert-manager"),
    programs: &[program("cert-manager", ".")],
    stamps: unstamped,
    instead: None,
    needs: 1300,
};

/// A module as it is on disk.
pub(crate) struct Located {
    pub(crate) source: PathBuf,
    pub(crate) pins: Pins,
    /// Its directory in the cache.
    pub(crate) cache: PathBuf,
}

impl Located {
    /// Where the finished programs are.
    pub(crate) fn programs(&self) -> PathBuf {
        self.cache.join("bin")
    }
}

impl Module {
    /// Reads the module's files; milliseconds.
    pub(crate) fn locate(&self) -> Result<Located> {
        let source = environment::workspace_root()?.join(self.folder);
        let pins = gomod::read(&source, self)?;
        let cache = environment::cache_directory()?.join("testcluster").join(&pins.key);
        Ok(Located { source, pins, cache })
    }

    /// The directory of the programs; the missing ones are built.
    pub(crate) fn resolve(&self) -> Result<PathBuf> {
        let located = self.locate()?;
        if !self.missing(&located.programs()).is_empty() {
            build::build(self, &located)?;
        }
        Ok(located.programs())
    }

    /// The programs that a directory lacks. etcd may go by either name.
    pub(crate) fn missing(&self, directory: &std::path::Path) -> Vec<&'static Program> {
        let there =
            |name: &str| directory.join(name).is_file() || (name == "server" && directory.join("etcd").is_file());
        self.programs.iter().filter(|program| !there(program.name)).collect()
    }
}

impl Program {
    /// The name people know it by.
    pub(crate) fn shown(&self) -> &'static str {
        if self.name == "server" { "etcd" } else { self.name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_counts_under_both_names() {
        let directory = tempfile::tempdir().unwrap();
        let missing =
            || CONTROL_PLANE.missing(directory.path()).iter().map(|program| program.shown()).collect::<Vec<_>>();
        assert_eq!(missing().len(), 5);
        std::fs::write(directory.path().join("etcd"), "").unwrap();
        assert_eq!(missing(), ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]);
    }

    #[test]
    fn every_module_is_there_and_pins_what_it_is_known_by() {
        let mut keys = Vec::new();
        let all =
            [&CONTROL_PLANE, &NODE, &CRANE, &TOOLS, &NETPOL, &COREDNS, &METRICS_SERVER, &TRAEFIK, &HELM, &CERT_MANAGER];
        for module in all {
            let located = module.locate().unwrap();
            assert_eq!(located.pins.version.is_some(), module.versioned.is_some(), "{}", module.folder);
            keys.push(located.pins.key);
        }
        // The first two share a module, and so a directory.
        assert_eq!(keys.remove(0), keys[0]);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 9);
    }

    #[test]
    fn the_version_is_stamped_from_the_pin() {
        let flags = kubernetes_stamps("v1.36.3");
        assert!(
            flags.contains("gitVersion=v1.36.3") && flags.contains("gitMajor=1 ") && flags.contains("gitMinor=36 "),
            "{flags}"
        );
    }
}
