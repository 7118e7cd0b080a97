//! A node with real containers and real packets for a test cluster: kubelet, containerd, CNI, kube-proxy, CoreDNS, NetworkPolicy, a registry, metrics, ingress.
//!
//! Invariant: all it makes is below the instance's directory, or noted for [`crate::supervise::leftovers`] before it is made. One node cluster per machine.

pub(crate) mod addons;
pub(crate) mod check;
pub(crate) mod dns;
pub(crate) mod facts;
pub(crate) mod images;
pub(crate) mod network;
mod policies;
pub(crate) mod programs;
pub(crate) mod requirements;

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::supervise::{
    leftovers::{self, Outside},
    workdir::{self, WorkDir},
};
use programs::Programs;

/// The node's name.
pub(crate) const NAME: &str = "kubeop-node";
/// The exit code of a command that needs a node where there can be none: what test runners take for "skipped".
pub(crate) const UNAVAILABLE: u8 = 77;

/// Kernel settings that the kubelet changes for the whole machine.
const SETTINGS: [&str; 6] = [
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
];
/// Places of others in which containerd and the kubelet leave something, the inner ones first.
const SHARED: [&str; 11] = [
    "/run/containerd/s",
    "/run/containerd/fifo",
    "/run/containerd",
    "/var/log/containers",
    "/var/log/pods",
    RESULTS,
    "/var/lib/cni",
    // The kubelet has no option for these.
    "/var/lib/kubelet/device-plugins/kubelet.sock",
    "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
];
/// Where containerd's CNI keeps what a pod's network was made of, which it has no option for either.
const RESULTS: &str = "/var/lib/cni/results";
/// Where CNI plugins are: Debian's place, then everybody else's.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The right to be the machine's node cluster; dropping it gives it back.
pub(crate) struct Claim {
    _lock: File,
}

impl Claim {
    /// Fails with the name of the cluster that has it. Call before the directory is claimed: what a dead one left is swept with that.
    pub(crate) fn take(name: &str) -> Result<Self> {
        let path = workdir::base()?.join("node");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if lock.try_lock().is_err() {
            let other = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "the test cluster {:?} has a node already, and a machine can have one: stop it with `cargo xtask cluster down --name {}`, or start this one without --node",
                other.trim(),
                other.trim()
            );
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{name}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { _lock: lock })
    }
}

/// Makes the network and writes the configuration files; nothing runs yet.
pub(crate) fn prepare(directory: &WorkDir, programs: &Programs) -> Result<()> {
    let cgroup = cgroup(directory.path());
    leftovers::note(
        directory.path(),
        &Outside {
            cgroup: &cgroup,
            interface: network::INTERFACE,
            settings: &SETTINGS,
            shared: &SHARED,
            records: RESULTS,
        },
    )?;
    make_cgroup(&cgroup)?;
    network::create(&directory.file("netns"))?;
    let plugins = PLUGINS
        .iter()
        .map(Path::new)
        .find(|path| path.join("bridge").exists())
        .context("no CNI plugins are installed")?;
    let links = directory.file("cni-bin");
    for path in [&links, &directory.file("pod-logs"), &directory.file("kubelet"), &directory.file("registry")] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let link = |from: &Path, name: &str| {
        std::os::unix::fs::symlink(from, links.join(name)).with_context(|| format!("cannot link {name}"))
    };
    for plugin in ["bridge", "host-local", "loopback", "portmap"] {
        link(&plugins.join(plugin), plugin)?;
    }
    link(&programs.netpol, "kubeop-netpol")?;
    for (name, text) in [
        ("kubelet.yaml", include_str!("../../../../testcluster/node/config/kubelet.yaml")),
        ("kube-proxy.yaml", include_str!("../../../../testcluster/node/config/kube-proxy.yaml")),
        ("containerd.toml", containerd_configuration()?),
        ("cni/10-kubeop.conflist", include_str!("../../../../testcluster/node/config/cni.conflist")),
        ("containerd/certs.d/_default/hosts.toml", include_str!("../../../../testcluster/node/config/registry.toml")),
        // CoreDNS asks nobody else: what is not a name of the cluster does not exist.
        ("resolv.conf", "nameserver @HOST_ADDRESS@\n"),
    ] {
        workdir::write_private(&directory.file(name), &render(text, directory.path(), programs))?;
    }
    Ok(())
}

/// Fills the `@NAMES@` of a configuration file or manifest.
pub(crate) fn render(text: &str, directory: &Path, programs: &Programs) -> String {
    let mut text = text.to_owned();
    for (name, value) in [
        ("@DIR@", directory.display().to_string()),
        ("@CGROUP@", cgroup(directory)),
        ("@NODE@", NAME.to_owned()),
        ("@NODE_ADDRESS@", network::NODE.to_string()),
        ("@HOST_ADDRESS@", network::HOST.to_string()),
        ("@PODS@", network::PODS.to_owned()),
        ("@DNS@", network::DNS.to_owned()),
        ("@REGISTRY@", programs::registry()),
        ("@PAUSE@", images::PAUSE.to_owned()),
        ("@COREDNS_VERSION@", programs.coredns.version.clone()),
        ("@METRICS_SERVER_VERSION@", programs.metrics_server.version.clone()),
        ("@TRAEFIK_VERSION@", programs.traefik.version.clone()),
    ] {
        text = text.replace(name, &value);
    }
    text
}

/// Pods' control groups are below one of our own, so that whatever is in it is ours.
fn cgroup(directory: &Path) -> String {
    format!("kubeop-{}", directory.file_name().unwrap_or_default().to_string_lossy())
}

fn make_cgroup(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let create = |path: &Path| match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot create the control group {}", path.display()))
        }
        _ => Ok(()),
    };
    if root.join("cgroup.controllers").exists() {
        // Version 2: a group has the controllers its parent hands down.
        for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
            // One that the kernel lacks is one that the kubelet does not ask for.
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        return create(&root.join(name));
    }
    let hierarchies = fs::read_dir(root).context("cannot list the control groups")?;
    for hierarchy in
        hierarchies.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists())
    {
        let group = hierarchy.join(name);
        create(&group)?;
        // A new cpuset of version 1 is empty, and an empty one holds no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read_to_string(hierarchy.join(file)) {
                fs::write(group.join(file), all.trim()).with_context(|| format!("cannot write {file}"))?;
            }
        }
    }
    Ok(())
}

fn containerd_configuration() -> Result<&'static str> {
    let said = network::run("containerd", &["--version"], None)?;
    let old = said.split_whitespace().any(|word| word.trim_start_matches('v').starts_with("1."));
    Ok(if old {
        include_str!("../../../../testcluster/node/config/containerd-1.toml")
    } else {
        include_str!("../../../../testcluster/node/config/containerd-2.toml")
    })
}
