//! What runs in pods of every node cluster: CoreDNS, metrics-server, Traefik.
//!
//! Invariant: an API group that does not answer yet is not registered, for it would hold up the removal of every namespace.

use std::{
    net::IpAddr,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::{network, programs::Programs, render};
use crate::supervise::tied::{self, Farewell};

const COREDNS: &str = include_str!("../../../../testcluster/node/config/coredns.yaml");
const METRICS_SERVER: &str = include_str!("../../../../testcluster/node/config/metrics-server.yaml");
const METRICS_API: &str = include_str!("../../../../testcluster/node/config/metrics-apiservice.yaml");
const TRAEFIK: &str = include_str!("../../../../testcluster/node/config/traefik.yaml");

/// What must work before a start is complete, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Until {
    /// Pods run and resolve names.
    #[default]
    Dns,
    /// And the ingress controller answers.
    Ingress,
    /// And there are figures for `kubectl top`.
    Metrics,
}

/// Runs kubectl and gives what it prints; empty on failure.
pub(crate) type Kubectl<'a> = &'a dyn Fn(&[&str]) -> String;

/// A step of the start.
pub(crate) struct Stage {
    pub(crate) what: &'static str,
    pub(crate) until: Until,
    pub(crate) ready: fn(Kubectl<'_>) -> bool,
}

/// In the order they are waited for.
pub(crate) const STAGES: [Stage; 3] = [
    Stage { what: "pods and DNS", until: Until::Dns, ready: |kubectl| deployed(kubectl, "kube-system", "coredns") },
    Stage { what: "ingress", until: Until::Ingress, ready: |kubectl| deployed(kubectl, "ingress", "traefik") },
    Stage {
        what: "metrics",
        until: Until::Metrics,
        ready: |kubectl| kubectl(&["get", "--raw=/apis/metrics.k8s.io/v1beta1/nodes"]).contains("\"usage\""),
    },
];

fn deployed(kubectl: Kubectl<'_>, namespace: &str, name: &str) -> bool {
    kubectl(&["get", "deployment", name, "--namespace", namespace, "--output=jsonpath={.status.readyReplicas}"]) == "1"
}

/// Creates the objects of all three; the API server serves.
pub(crate) fn create(kubectl: &Path, directory: &Path, programs: &Programs) -> Result<()> {
    let text = render(&[COREDNS, METRICS_SERVER, TRAEFIK].join("\n---\n"), directory, programs);
    // Right after the API server's start its own roles may not be there yet, which is no reason to fail.
    let start = Instant::now();
    loop {
        match run(kubectl, directory, &["apply", "--server-side", "--force-conflicts", "-f", "-"], &text) {
            Err(_) if start.elapsed() < Duration::from_secs(20) => std::thread::sleep(Duration::from_millis(300)),
            outcome => return outcome.map(drop).context("cannot create CoreDNS, metrics-server and Traefik"),
        }
    }
}

/// Registers the API group of metrics as soon as its server answers; does not wait for it. Call from the main thread only, see [`tied::command`].
pub(crate) fn register_metrics(executable: &Path, kubectl: &Path, directory: &Path) -> Result<()> {
    let manifest = directory.join("metrics-apiservice.yaml");
    std::fs::write(&manifest, METRICS_API).with_context(|| format!("cannot write {}", manifest.display()))?;
    let log = std::fs::File::create(directory.join("metrics-registration.log")).context("cannot write a log")?;
    let errors = log.try_clone().context("cannot write a log")?;
    // Each part is tied to the one that waits for it, so that none is left behind.
    let script = "\"$3\" tied --parent $$ --farewell kill -- \"$0\" --kubeconfig \"$1\" --namespace kube-system rollout status deployment/metrics-server --timeout=10m && exec \"$0\" --kubeconfig \"$1\" apply -f \"$2\"";
    // It ends by itself, or with us; nobody waits for it.
    tied::command(executable, Farewell::Kill, Path::new("sh"))
        .args(["-c", script])
        .arg(kubectl)
        .arg(directory.join("kubeconfig"))
        .arg(&manifest)
        .arg(executable)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .context("cannot start kubectl")?;
    Ok(())
}

/// Sets the names that CoreDNS answers for; in force when this returns.
pub(crate) fn set_hosts(kubectl: &Path, directory: &Path, entries: &[String]) -> Result<()> {
    let mut lines = String::new();
    let mut last = None;
    for entry in entries {
        let Some((name, address)) = entry.split_once('=') else {
            bail!("{entry:?} is not NAME=ADDRESS, as web.local={}", network::NODE);
        };
        let address: IpAddr = address.parse().with_context(|| format!("{address:?} is no IP address"))?;
        lines.extend([address.to_string().as_str(), " ", name, "\n"]);
        last = Some((name, address));
    }
    let patch = serde_json::json!({ "data": { "hosts": lines } }).to_string();
    let system = ["--namespace", "kube-system"];
    run(
        kubectl,
        directory,
        &[&system[..], &["patch", "configmap", "coredns-hosts", "--type=merge", "--patch", &patch]].concat(),
        "",
    )?;
    // The kubelet looks at a pod's ConfigMaps when the pod changes, else every now and then.
    let mark = format!("hosts-changed={}", std::process::id());
    run(
        kubectl,
        directory,
        &[&system[..], &["annotate", "pod", "--selector=k8s-app=kube-dns", "--overwrite", &mark]].concat(),
        "",
    )?;
    let Some((name, address)) = last else { return Ok(()) };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if super::dns::lookup(network::DNS, name).is_ok_and(|found| found.contains(&address)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("CoreDNS does not answer for {name} after 30 s")
}

/// Runs kubectl with this input; fails with what it says.
pub(crate) fn run(kubectl: &Path, directory: &Path, arguments: &[&str], input: &str) -> Result<String> {
    let config = directory.join("kubeconfig").display().to_string();
    let cache = directory.join("kubectl-cache").display().to_string();
    let all = [&["--kubeconfig", &config, "--cache-dir", &cache], arguments].concat();
    network::run(&kubectl.display().to_string(), &all, Some(input))
}
