//! The test cluster with a real node, as `cargo xtask test` starts it: where it is, and its users on the host.
//!
//! Invariant: one test at a time uses it, and begins on a cluster that no kubeOP claims.
#![expect(clippy::indexing_slicing, reason = "indexing a JSON value gives null where there is nothing")]

use crate::api::Api;
use crate::api_server::ApiServer;
use crate::environment;
use crate::folder::Folder;
use crate::kubectl::Kubectl;
use crate::kubeop::{Kubeop, Setup};
use crate::leftovers;
use crate::scenario;
use crate::wait::{Seen, until};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard};

/// How long pods may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(3);

static ALONE: Mutex<()> = Mutex::const_new(());

/// The cluster.
pub struct Node {
    facts: Value,
    image: String,
    _alone: MutexGuard<'static, ()>,
}

impl Node {
    /// The cluster of this run, cleaned of what a failed test left.
    pub async fn take() -> Result<Self> {
        let alone = ALONE.lock().await;
        let path = environment::node()?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let facts = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        let node = Self { facts, image: environment::node_image()?, _alone: alone };
        leftovers::remove(&node.kubectl()?).await?;
        Ok(node)
    }

    /// A fact of `node.json`, by JSON pointer.
    pub fn fact(&self, pointer: &str) -> Result<&str> {
        let found = self.facts.pointer(pointer).and_then(Value::as_str);
        found.with_context(|| format!("node.json has no text at {pointer}"))
    }

    /// kubeOP's image, as the kubelet pulls it.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The same under another name, for what is to be rolled out anew.
    pub fn next_image(&self) -> String {
        format!("{}-next", self.image)
    }

    /// The cluster administrator's kubeconfig.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        self.fact("/kubeconfig").map(PathBuf::from)
    }

    /// The same, as text.
    pub fn kubeconfig_text(&self) -> Result<String> {
        let path = self.kubeconfig()?;
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The same for a pod.
    pub fn kubeconfig_inside(&self) -> Result<String> {
        Ok(self.kubeconfig_text()?.replace(self.fact("/server")?, "https://kubernetes.default.svc"))
    }

    /// kubectl as cluster administrator.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::new(&self.kubeconfig()?)
    }

    /// Its API server as cluster administrator.
    pub fn api_server(&self) -> Result<ApiServer> {
        ApiServer::new(&self.kubeconfig_text()?)
    }

    /// A manager whose operator and admission run in the cluster.
    pub fn manager(&self) -> Setup {
        Setup::new("manager").with("KUBEOP_OPERATOR_IMAGE", &self.image)
    }

    /// A manager with this cluster registered and ready.
    pub async fn platform(&self) -> Result<Platform> {
        self.platform_of(self.manager()).await
    }

    /// The same, of a manager with a setup of its own.
    pub async fn platform_of(&self, setup: Setup) -> Result<Platform> {
        let manager = setup.start().await?;
        let api = manager.api(None)?;
        let start = Instant::now();
        let cluster = scenario::register(&api, "node", &self.kubeconfig_text()?).await?;
        let answered = start.elapsed();
        match ready(&api, &cluster).await {
            Ok(()) => {}
            Err(error) => {
                let pods = self.kubectl()?.run("-n kubeop-system describe pods").await?;
                return Err(error.context(format!("{}\n{}", pods.stdout, manager.tail())));
            }
        }
        println!("bootstrap answered after {answered:?}, the cluster was ready after {:?}", start.elapsed());
        Ok(Platform { manager, api, cluster })
    }

    /// A program of the cluster: `stop` or `start`.
    pub async fn program(&self, what: &str, program: &str) -> Result<()> {
        let name = environment::node_name()?;
        let output = Command::new(environment::xtask()?)
            .args(["cluster", what, "--name", &name, program])
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run xtask")?;
        ensure!(output.status.success(), "{what} {program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What a GET from the host to the ingress controller with this `Host` gives: the status and the body.
    pub async fn ingress(&self, host: &str) -> Result<(u16, String)> {
        let url = format!("http://{}/", self.fact("/ingress/address")?);
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let answer = client.get(url).header("host", host).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

/// A manager and its cluster, with operator and admission as pods.
pub struct Platform {
    /// The process.
    pub manager: Kubeop,
    /// Its API.
    pub api: Api,
    /// The cluster's id.
    pub cluster: String,
}

impl Platform {
    /// Forgets the cluster and removes what was installed.
    pub async fn uninstall(self) -> Result<()> {
        self.api.delete(&format!("/v1/clusters/{}?uninstall=true", self.cluster)).await?.expect(204)?;
        Ok(())
    }

    /// Deletes a tenant with all it has, and waits until it is gone.
    pub async fn delete_tenant(&self, tenant: &str) -> Result<()> {
        delete_tenant(&self.api, tenant).await
    }
}

/// Deletes a tenant with all it has, and waits until it is gone.
pub async fn delete_tenant(api: &Api, tenant: &str) -> Result<()> {
    for (kind, filter) in [("apps", "tenant_id"), ("projects", "tenant_id")] {
        let found = api.get(&format!("/v1/{kind}?{filter}={tenant}")).await?.expect(200)?;
        for id in found.json.as_array().into_iter().flatten().filter_map(|item| item.pointer("/id")?.as_str()) {
            let path = format!("/v1/{kind}/{id}");
            let answer = api.delete(&path).await?;
            ensure!(matches!(answer.status, 202 | 204), "{path}: {} {}", answer.status, answer.text);
            gone(api, &path).await?;
        }
    }
    let path = format!("/v1/tenants/{tenant}");
    let answer = api.delete(&path).await?;
    ensure!(matches!(answer.status, 202 | 204), "{path}: {} {}", answer.status, answer.text);
    gone(api, &path).await
}

async fn gone(api: &Api, path: &str) -> Result<()> {
    until(&format!("{path} gone"), PATIENCE, async || {
        let answer = api.get(path).await?;
        Ok(Seen::when(answer.status == 404, (), answer.text))
    })
    .await
}

/// The API of a manager in the cluster as administrator, at the address of its Service, with a token of its own.
pub async fn api_inside(admin: &Kubectl) -> Result<Api> {
    let system = "-n kubeop-system";
    let token = admin.stdout(&format!("{system} exec deployment/kubeop-manager -- kubeop token --role admin")).await?;
    let address = format!("{system} get service kubeop-manager -o jsonpath={{.spec.clusterIP}}");
    let api = Api::new(&format!("http://{}:8080", admin.stdout(&address).await?), Some(token.trim()))?;
    // The node's proxy learns of a pod that is ready a moment later.
    until("the manager behind its Service", PATIENCE, async || {
        let answer = api.get("/readyz").await?;
        Ok(Seen::when(answer.status == 200, (), answer.text))
    })
    .await?;
    Ok(api)
}

/// Waits until operator and admission answer from their pods.
pub async fn ready(api: &Api, cluster: &str) -> Result<()> {
    until("the cluster ready", PATIENCE, async || {
        let answer = api.get(&format!("/v1/clusters/{cluster}/ready")).await?;
        Ok(Seen::when(answer.status == 200, (), answer.text))
    })
    .await
}

/// Waits until a Deployment has rolled out.
pub async fn rolled_out(kubectl: &Kubectl, namespace: &str, name: &str) -> Result<()> {
    until(&format!("deployment {namespace}/{name} rolled out"), PATIENCE, async || {
        let found = kubectl.json(&format!("-n {namespace} get deployment {name}")).await?;
        let of = |pointer: &str| found.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let wanted = of("/spec/replicas");
        let current = of("/status/observedGeneration") >= of("/metadata/generation");
        let done = current
            && [of("/status/updatedReplicas"), of("/status/readyReplicas"), of("/status/replicas")] == [wanted; 3];
        Ok(Seen::when(done, (), found.pointer("/status").map(ToString::to_string).unwrap_or_default()))
    })
    .await
}

/// Waits until a role of ours has rolled out and the last of its old pods, which serves on for a while after it was told to stop, is gone.
pub async fn replaced(kubectl: &Kubectl, role: &str) -> Result<()> {
    rolled_out(kubectl, "kubeop-system", &format!("kubeop-{role}")).await?;
    until(&format!("the old pods of {role} gone"), PATIENCE, async || {
        let pods = kubectl.json(&format!("-n kubeop-system get pods -l app.kubernetes.io/component={role}")).await?;
        let pods = pods["items"].as_array().context("a list of pods")?;
        let ending = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_string()).count();
        Ok(Seen::when(ending == 0, (), format!("{ending} of {} pods are ending", pods.len())))
    })
    .await
}

/// Applies YAML or JSON; fails with kubectl's words.
pub async fn apply(kubectl: &Kubectl, text: &str) -> Result<()> {
    let ran = kubectl.run_with(&["apply", "-f", "-"], Some(text)).await?;
    if ran.ok { Ok(()) } else { bail!("kubectl apply: {}", ran.stderr) }
}

/// Runs a program on the host, for a test that needs an address or a process of its own there.
pub async fn host(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A folder for kubeconfigs of a test.
pub fn folder() -> Result<Folder> {
    Folder::new("node")
}

/// A file in it.
pub fn file(folder: &Folder, name: &str) -> PathBuf {
    Path::new(folder.path()).join(name)
}

/// Waits until a pod runs and is ready.
pub async fn running(kubectl: &Kubectl, namespace: &str, name: &str) -> Result<()> {
    until(&format!("pod {namespace}/{name} ready"), PATIENCE, async || {
        let pod = kubectl.json(&format!("-n {namespace} get pod {name}")).await?;
        let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        Ok(Seen::when(is_ready, (), pod["status"].to_string()))
    })
    .await
}

/// What a GET of a path through `kubectl port-forward` gives.
pub async fn forwarded(kubectl: &Kubectl, target: &str, port: u16, path: &str) -> Result<String> {
    let (mut child, local) = kubectl.port_forward(target, port).await?;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let body = client.get(format!("http://127.0.0.1:{local}{path}")).send().await?.text().await?;
    child.kill().await.context("cannot end kubectl")?;
    Ok(body)
}

/// A server on an address of the host that takes connections as long as the test runs: `address:port`.
pub async fn serve(address: &str) -> Result<String> {
    let listener = TcpListener::bind((address, 0)).await.with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener.local_addr()?.to_string();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    Ok(bound)
}
