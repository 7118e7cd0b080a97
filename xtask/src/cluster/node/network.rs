//! The node's network namespace and its link to the host.
//!
//! Invariant: all addresses are private and the same for every node cluster, of which there is one at a time on a machine.

use std::{
    fs::File,
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The host's end of the link: where pods reach what runs on the host.
pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 31, 77, 1));
/// The node's end: API server, node ports and host ports, registry, ingress.
pub(crate) const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 31, 77, 2));
pub(crate) const PODS: &str = "10.244.0.0/24";
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The Service of CoreDNS.
pub(crate) const DNS: &str = "10.96.0.10";
/// The host's interface.
pub(crate) const INTERFACE: &str = "kubeop-node";

/// Makes the namespace, held by the file `netns` of the instance's directory, and connects it.
pub(crate) fn create(namespace: &Path) -> Result<()> {
    File::create(namespace).with_context(|| format!("cannot create {}", namespace.display()))?;
    let held = format!("--net={}", namespace.display());
    run("unshare", &[&held, "true"], None)?;
    let place = namespace.display();
    run(
        "ip",
        &["-batch", "-"],
        Some(&format!(
            "link add {INTERFACE} type veth peer name eth0 netns {place}\naddress add {HOST}/24 dev {INTERFACE}\nlink set {INTERFACE} up\n"
        )),
    )?;
    run(
        "nsenter",
        &[&held, "ip", "-batch", "-"],
        Some(&format!(
            "link set lo up\naddress add {NODE}/24 dev eth0\nlink set eth0 up\nroute add default via {HOST}\n"
        )),
    )?;
    run(
        "nsenter",
        &[
            &held,
            "sysctl",
            "-q",
            "-w",
            "net.ipv4.ip_forward=1",
            "net.bridge.bridge-nf-call-iptables=1",
            "net.ipv4.conf.all.rp_filter=0",
            // A container without capabilities may listen on 80, as with other runtimes.
            "net.ipv4.ip_unprivileged_port_start=0",
        ],
        None,
    )?;
    run("ip", &["-batch", "-"], Some(&format!("route add {PODS} via {NODE}\nroute add {SERVICES} via {NODE}\n")))
        .with_context(|| {
            format!("this machine uses {PODS} or {SERVICES} already, which are the test node's pods and Services")
        })
        .map(drop)
}

/// Runs a program to its end; fails with what it says.
pub(crate) fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        pipe.write_all(text.as_bytes()).with_context(|| format!("cannot write to {program}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{program} {} failed: {}", arguments.join(" "), said.trim())
}
