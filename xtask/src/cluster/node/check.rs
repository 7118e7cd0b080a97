//! `cluster check`: looks at a running node cluster as its users do, from pods and from the host.
//!
//! Invariant: every expectation can fail; what only needs a moment (a rule on its way into the kernel) is asked again until it holds or time is up.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{addons, network, policies};
use crate::progress;

const WORKLOAD: &str = include_str!("../../../../testcluster/node/check/workload.yaml");

/// The cluster being checked.
pub(super) struct Cluster {
    directory: PathBuf,
    kubectl: PathBuf,
}

/// Checks everything; the first failure ends it. The names set by `cluster hosts` are gone afterwards.
pub(crate) fn run(directory: &Path, facts: &Value) -> Result<()> {
    let kubectl = facts.pointer("/programs/kubectl").and_then(Value::as_str).context("node.json names no kubectl")?;
    let cluster = Cluster { directory: directory.to_owned(), kubectl: PathBuf::from(kubectl) };
    let start = Instant::now();
    cluster.apply(WORKLOAD)?;
    let outcome = cluster.all();
    if outcome.is_ok() {
        let removal = Instant::now();
        cluster.kubectl(&["delete", "namespace", "check-a", "check-b", "--timeout=60s"])?;
        progress::note(&format!("namespaces removed: {}", progress::since(removal)));
        progress::note(&format!("the node works: {}", progress::since(start)));
    }
    outcome.context("the check's objects are left in the namespaces check-a and check-b")
}

impl Cluster {
    fn all(&self) -> Result<()> {
        let step = |what: &str, check: &dyn Fn(&Self) -> Result<()>| {
            let start = Instant::now();
            check(self).with_context(|| what.to_owned())?;
            progress::note(&format!("{what}: {}", progress::since(start)));
            Ok::<(), anyhow::Error>(())
        };
        step("images are pulled and pods run", &Self::pods)?;
        step("Services, DNS and addresses", &Self::services)?;
        step("names of tests", &Self::names)?;
        step("exec, logs and port-forward", &Self::streams)?;
        step("limits and errors", &Self::limits)?;
        step("Ingress", &Self::ingress)?;
        step("NetworkPolicies", &|cluster| policies::check(cluster))?;
        step("metrics", &Self::metrics)
    }

    fn pods(&self) -> Result<()> {
        self.kubectl(&["--namespace=check-a", "rollout", "status", "deployment/nginx", "--timeout=60s"])?;
        for (namespace, pods) in [("check-a", &["pod/client", "pod/hardened"][..]), ("check-b", &["pod/client"])] {
            let namespace = format!("--namespace={namespace}");
            self.kubectl(&[&["wait", &namespace, "--for=condition=Ready", "--timeout=60s"], pods].concat())?;
        }
        let events = self.kubectl(&[
            "--namespace=check-a",
            "get",
            "events",
            "--field-selector=reason=Pulled",
            "--output=jsonpath={.items[*].message}",
        ])?;
        expect(
            ["Successfully pulled image", "Container image"]
                .iter()
                .any(|how| events.contains(&format!("{how} \"docker.io/library/nginx:1.25\""))),
            || format!("no pull of nginx among the events: {events}"),
        )
    }

    fn services(&self) -> Result<()> {
        let (service, port) = (
            self.field("service/nginx", "{.spec.clusterIP}")?,
            self.field("service/nginx", "{.spec.ports[0].nodePort}")?,
        );
        let pod = self.field("pod/client", "{.status.podIP}")?;
        for (url, want) in [
            (format!("http://{service}/"), "Welcome to nginx!"),
            (format!("http://{}:{port}/", network::NODE), "Welcome to nginx!"),
            (format!("http://{pod}:8080/"), "hello from client"),
            (format!("http://{}:18080/", network::NODE), "hello from hardened"),
        ] {
            let said = curl(&[&url])?;
            expect(said.contains(want), || format!("{url} from the host gave {said:?}"))?;
        }
        for (namespace, url) in [
            ("check-b", "http://nginx.check-a/"),
            ("check-a", "http://nginx/"),
            ("check-a", "http://nginx.check-a.svc.cluster.local/"),
        ] {
            let said = self.webtool(namespace, &["get", url])?;
            expect(said.contains("Welcome to nginx!"), || format!("{url} from {namespace} gave {said:?}"))?;
        }
        self.webtool("check-a", &["tcp", "kubernetes.default:443"])?;
        // A test's own server, on the host.
        let listener = TcpListener::bind((network::HOST, 0)).context("cannot listen on the host")?;
        let address = listener.local_addr().context("cannot read the port back")?;
        let server = thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut request = [0; 1024];
            let _ = stream.read(&mut request)?;
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\nfor pods")
        });
        let said = self.webtool("check-b", &["get", &format!("http://{address}/")])?;
        server.join().map_err(|_| anyhow::anyhow!("the host's server failed"))?.context("the host's server")?;
        expect(said.contains("for pods"), || format!("the host gave {said:?}"))
    }

    fn names(&self) -> Result<()> {
        let address = network::NODE.to_string();
        addons::set_hosts(&self.kubectl, &self.directory, &[format!("web.local={address}")])?;
        let said = self.webtool("check-a", &["dns", "web.local"])?;
        addons::set_hosts(&self.kubectl, &self.directory, &[])?;
        expect(said.contains(&address), || format!("web.local is {said:?}"))
    }

    fn streams(&self) -> Result<()> {
        let said = self.kubectl(&[
            "--namespace=check-a",
            "exec",
            "deployment/nginx",
            "--",
            "/bin/sh",
            "-c",
            "echo one; id -u",
        ])?;
        expect(said == "one\n0\n", || format!("exec gave {said:?}"))?;
        let said = self.kubectl(&["--namespace=check-a", "logs", "pod/client"])?;
        expect(said.contains("listening on 8080"), || format!("logs gave {said:?}"))?;
        let mut forward = self
            .command(&["--namespace=check-a", "port-forward", "service/nginx", ":80"])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        let mut line = String::new();
        // Held to the end: kubectl has more to say, and would end if nobody listened.
        let mut output = forward.stdout.take().map(BufReader::new);
        let read = output.as_mut().map(|output| output.read_line(&mut line));
        let said = match (read, line.split_whitespace().nth(2)) {
            (Some(Ok(_)), Some(address)) => curl(&[&format!("http://{address}/")]),
            _ => Err(anyhow::anyhow!("port-forward said {line:?}")),
        };
        // It would go on for ever.
        let _ = forward.kill();
        let _ = forward.wait();
        let said = said?;
        expect(said.contains("Welcome to nginx!"), || format!("port-forward gave {said:?}"))
    }

    fn limits(&self) -> Result<()> {
        let path = "{.status.containerStatuses[0].state.terminated.reason}";
        eventually(Duration::from_secs(20), || Ok(self.field("pod/greedy", path)? == "OOMKilled"))
            .context("the pod that asks for too much memory is not OOMKilled")?;
        let path = "{.status.containerStatuses[0].state.waiting.reason}";
        eventually(Duration::from_secs(20), || {
            Ok(["ErrImagePull", "ImagePullBackOff"].contains(&self.field("pod/absent", path)?.as_str()))
        })
        .context("the pod of an image that does not exist reports no pull error")
    }

    fn ingress(&self) -> Result<()> {
        let ask = |host: &str| {
            let resolve = format!("{host}:80:{}", network::NODE);
            curl(&["--resolve", &resolve, "--write-out", " %{http_code}", &format!("http://{host}/")])
        };
        eventually(Duration::from_secs(30), || {
            Ok(ask("check.local").is_ok_and(|said| said.contains("Welcome to nginx!") && said.ends_with(" 200")))
        })
        .context("check.local does not give 200")?;
        let said = ask("other.local")?;
        expect(said.ends_with(" 404"), || format!("a host without Ingress gave {said:?}"))?;
        eventually(Duration::from_secs(10), || {
            Ok(self.field("ingress/nginx", "{.status.loadBalancer.ingress[0].ip}")? == network::NODE.to_string())
        })
        .context("the Ingress has no address")
    }

    fn metrics(&self) -> Result<()> {
        eventually(Duration::from_mins(1), || {
            let pods = self.kubectl(&["--namespace=check-a", "top", "pods", "--no-headers"]).unwrap_or_default();
            Ok(pods.lines().any(|line| line.starts_with("nginx-") && line.contains("Mi")))
        })
        .context("kubectl top shows no pods")?;
        let nodes = self.kubectl(&["top", "node", "--no-headers"])?;
        expect(nodes.starts_with(super::NAME), || format!("kubectl top node gave {nodes:?}"))
    }

    /// A field of an object of the first namespace.
    pub(super) fn field(&self, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["--namespace=check-a", "get", object, &format!("--output=jsonpath={path}")])
    }

    /// Runs the test tool in a namespace's client pod.
    pub(super) fn webtool(&self, namespace: &str, arguments: &[&str]) -> Result<String> {
        let namespace = format!("--namespace={namespace}");
        self.kubectl(&[&[&namespace, "exec", "client", "--", "/bin/webtool"], arguments].concat())
    }

    pub(super) fn apply(&self, text: &str) -> Result<()> {
        addons::run(&self.kubectl, &self.directory, &["apply", "-f", "-"], text).map(drop)
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        addons::run(&self.kubectl, &self.directory, arguments, "")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.directory.join("kubeconfig")).args(arguments).stdin(Stdio::null());
        command
    }
}

/// Asks until it holds; fails when time is up.
pub(super) fn eventually(limit: Duration, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > limit {
            bail!("not within {} s", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn curl(arguments: &[&str]) -> Result<String> {
    network::run("curl", &[&["--silent", "--show-error", "--max-time", "5"], arguments].concat(), None)
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { bail!("{}", otherwise()) }
}
