//! The node's programs: where they are and their command lines. Each choice that is not a program's default carries its reason.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::network;
use crate::{
    cluster::modules::{COREDNS, CRANE, METRICS_SERVER, Module, NETPOL, NODE, TOOLS, TRAEFIK},
    environment,
};

/// The node's programs by the names of their logs; a harness may stop and start them.
pub(crate) const REGISTRY: &str = "registry";
pub(crate) const CONTAINERD: &str = "containerd";
pub(crate) const NETPOL_AGENT: &str = "netpol";
pub(crate) const KUBELET: &str = "kubelet";
pub(crate) const KUBE_PROXY: &str = "kube-proxy";

/// What we build.
pub(crate) struct Programs {
    pub(crate) kubelet: PathBuf,
    pub(crate) kube_proxy: PathBuf,
    pub(crate) crane: PathBuf,
    pub(crate) netpol: PathBuf,
    pub(crate) pause: PathBuf,
    pub(crate) webtool: PathBuf,
    pub(crate) coredns: Versioned,
    pub(crate) metrics_server: Versioned,
    pub(crate) traefik: Versioned,
}

/// A program that runs in a pod, and the version its image is tagged with.
pub(crate) struct Versioned {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
}

impl Programs {
    /// Finds the programs, building the missing ones into the cache.
    pub(crate) fn resolve() -> Result<Self> {
        let kubernetes = NODE.resolve()?;
        let tools = TOOLS.resolve()?;
        Ok(Self {
            kubelet: kubernetes.join("kubelet"),
            kube_proxy: kubernetes.join("kube-proxy"),
            crane: CRANE.resolve()?.join("crane"),
            netpol: NETPOL.resolve()?.join("netpol"),
            pause: tools.join("pause"),
            webtool: tools.join("webtool"),
            coredns: versioned(&COREDNS, "coredns")?,
            metrics_server: versioned(&METRICS_SERVER, "metrics-server")?,
            traefik: versioned(&TRAEFIK, "traefik")?,
        })
    }

    /// Path and arguments of a program of the node's network namespace; `None` if it has none of this name.
    pub(crate) fn command(&self, name: &str, directory: &Path) -> Option<(&'static str, PathBuf, Vec<String>)> {
        let file = |name: &str| directory.join(name).display().to_string();
        let (name, path, arguments) = match name {
            REGISTRY => (
                REGISTRY,
                PathBuf::from("env"),
                vec![
                    // Uploads pass through its memory, and Go would keep it.
                    "GOMEMLIMIT=64MiB".into(),
                    self.crane.display().to_string(),
                    "registry".into(),
                    "serve".into(),
                    "--address".into(),
                    registry(),
                    "--disk".into(),
                    file("registry"),
                ],
            ),
            CONTAINERD => (
                CONTAINERD,
                environment::program("containerd").unwrap_or_else(|| PathBuf::from("containerd")),
                vec!["--config".into(), file("containerd.toml")],
            ),
            NETPOL_AGENT => (
                NETPOL_AGENT,
                self.netpol.clone(),
                vec!["-kubeconfig".into(), file("kubeconfig"), "-socket".into(), file("netpol.sock")],
            ),
            KUBELET => (
                KUBELET,
                self.kubelet.clone(),
                vec![
                    format!("--config={}", file("kubelet.yaml")),
                    format!("--kubeconfig={}", file("kubelet.kubeconfig")),
                    format!("--root-dir={}", file("kubelet")),
                    // Deprecated, and the only way to tell cAdvisor: without it no numbers carry a pod's name.
                    format!("--containerd={}", file("containerd/containerd.sock")),
                    format!("--hostname-override={}", super::NAME),
                    format!("--node-ip={}", network::NODE),
                ],
            ),
            KUBE_PROXY => (KUBE_PROXY, self.kube_proxy.clone(), vec![format!("--config={}", file("kube-proxy.yaml"))]),
            _ => return None,
        };
        let (path, arguments) = inside(directory, &path, arguments);
        Some((name, path, arguments))
    }
}

/// A command in the node's network namespace. Not `ip netns exec`, which mounts another /sys and hides the control groups.
pub(crate) fn inside(directory: &Path, program: &Path, arguments: Vec<String>) -> (PathBuf, Vec<String>) {
    let mut all = vec![format!("--net={}", directory.join("netns").display()), program.display().to_string()];
    all.extend(arguments);
    (PathBuf::from("nsenter"), all)
}

/// Where images are pushed to and pulled from.
pub(crate) fn registry() -> String {
    format!("{}:5000", network::NODE)
}

fn versioned(module: &Module, name: &str) -> Result<Versioned> {
    let version = module.locate()?.pins.version.with_context(|| format!("{name} has no version"))?;
    Ok(Versioned { path: module.resolve()?.join(name), version })
}
