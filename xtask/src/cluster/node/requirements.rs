//! Whether this machine can run a node: Linux, root, programs of Debian packages, features of the kernel.
//!
//! Invariant: looking changes nothing but loaded kernel modules; what is missing is told in one sentence.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::network;
use crate::{environment, progress};

/// Why there can be no node here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    NotLinux,
    NotRoot,
    /// Debian packages whose programs are missing.
    Packages(Vec<&'static str>),
    /// What the kernel, or the container we are in, refuses.
    Kernel(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinux => {
                write!(formatter, "a node with containers needs Linux, and this is {}", std::env::consts::OS)
            }
            Self::NotRoot => write!(formatter, "a node with containers needs root: run the command as root"),
            Self::Packages(packages) => write!(
                formatter,
                "a node with containers needs programs that are not installed: run `apt-get install -y --no-install-recommends {}`, or give --install",
                packages.join(" ")
            ),
            Self::Kernel(said) => write!(
                formatter,
                "the kernel lacks what a node with containers needs, or this container may not use it: {said}"
            ),
        }
    }
}

/// A file in a directory of `PATH` or, with a slash, a path; and the Debian package that brings it.
const NEEDED: [(&str, &str); 14] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("umount", "mount"),
    ("curl", "curl"),
    ("readelf", "binutils"),
    ("dpkg-query", "dpkg"),
];

/// Whether a node can run here; a tenth of a second.
pub(crate) fn available() -> Result<(), Reason> {
    if !cfg!(target_os = "linux") {
        return Err(Reason::NotLinux);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Reason::NotRoot);
    }
    let packages = missing_packages();
    if !packages.is_empty() {
        return Err(Reason::Packages(packages));
    }
    kernel().map_err(|error| Reason::Kernel(format!("{error:#}").replace('\n', " ")))
}

fn missing_packages() -> Vec<&'static str> {
    let there = |file: &str| {
        if file.starts_with('/') { Path::new(file).exists() } else { environment::program(file).is_some() }
    };
    let mut packages: Vec<&str> = NEEDED.iter().filter(|(file, _)| !there(file)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// Tries in a network namespace of its own what a node does in its.
const TRIAL: &str = "
ip link add trial0 type bridge
ip link add trial1 type veth peer name trial2
nft 'add table inet trial; add chain inet trial c { type filter hook forward priority 0; }; add rule inet trial c ct state established accept'
nft 'add table ip trial; add chain ip trial c { type nat hook postrouting priority 100; }; add rule ip trial c masquerade'
iptables -t nat -A POSTROUTING -m comment --comment trial -j MASQUERADE
sysctl -q -w net.bridge.bridge-nf-call-iptables=1 net.ipv4.ip_forward=1
";

fn kernel() -> Result<()> {
    for module in ["br_netfilter", "overlay"] {
        // Built in, loaded already, or not to be had: the trial tells.
        let _ = Command::new("modprobe")
            .arg(module)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
    let systems = fs::read_to_string("/proc/filesystems").context("cannot read /proc/filesystems")?;
    if !systems.lines().any(|line| line.trim_end().ends_with("\toverlay")) {
        bail!("there is no overlay file system");
    }
    network::run("unshare", &["--net", "sh", "-e"], Some(TRIAL)).map(drop)
}

/// Installs missing packages, if that is all that is missing and if it is wished: on CI it always is.
pub(crate) fn install_if(wished: bool) -> Result<Result<(), Reason>> {
    match available() {
        Err(Reason::Packages(packages))
            if (wished || environment::is_ci()) && environment::program("apt-get").is_some() =>
        {
            progress::note(&format!("installing {}", packages.join(" ")));
            apt(&["update", "-q"])?;
            let _quiet = NoServices::begin();
            let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
            arguments.extend(packages);
            apt(&arguments)?;
            Ok(available())
        }
        outcome => Ok(outcome),
    }
}

/// Debian's way to say that packages start no services: nginx is taken for its program alone, and containerd is started by us.
const SERVICES: &str = "/usr/sbin/policy-rc.d";

/// While it lives, no service is started; a policy that is there already stays as it is.
struct NoServices {
    made: bool,
}

impl NoServices {
    fn begin() -> Self {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(SERVICES);
        // Where it cannot be made, apt-get will say why nothing can be.
        Self { made: file.is_ok_and(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n").is_ok()) }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            // Gone already is as good.
            let _ = fs::remove_file(SERVICES);
        }
    }
}

fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot run apt-get")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("apt-get {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences_that_say_what_to_do() {
        let text = Reason::Packages(vec!["runc", "nftables"]).to_string();
        assert!(text.contains("apt-get install -y --no-install-recommends runc nftables"), "{text}");
        assert!(Reason::NotRoot.to_string().contains("as root"));
    }
}
