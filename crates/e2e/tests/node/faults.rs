//! What nodes and clusters do to pods: killed, without memory, evicted, drained, gone; the API server and etcd started again.

use anyhow::{Context, Result, ensure};
use e2e::api_server::GROUP;
use e2e::kubectl::Kubectl;
use e2e::node::{self, Node, PATIENCE, Platform};
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::json;

const SYSTEM: &str = "kubeop-system";
/// Tenants of a quarter of a MiB each.
const LARGE: usize = 80;
const WRONG: &str = "registry.example.com/bad:1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn the_platform_survives_its_node() -> Result<()> {
    let node = Node::take().await?;
    let platform = node.platform().await?;
    let admin = node.kubectl()?;
    let home = scenario::home(&platform.api, &platform.cluster, "faults").await?;
    platform.api.put("/v1/platform/policy", &json!({"imageAllowlist": ["docker.io"]})).await?.expect(200)?;
    denied(&admin, &home.namespace, "registry.example.com").await?;

    operator_ends(&node, &platform, &admin).await?;
    operator_without_memory(&node, &platform, &admin, &home.namespace).await?;
    drained(&node, &platform, &admin, &home.namespace).await?;
    nobody_is_there(&platform, &admin, &home.namespace).await?;
    control_plane_restarts(&node, &platform, &admin, &home.namespace).await?;

    platform.api.put("/v1/platform/policy", &json!({})).await?.expect(200)?;
    platform.delete_tenant(&home.tenant).await?;
    platform.uninstall().await
}

/// Killed, then evicted: it comes back and goes on.
async fn operator_ends(node: &Node, platform: &Platform, admin: &Kubectl) -> Result<()> {
    let path = format!("-n {SYSTEM} get pods -l app.kubernetes.io/name=kubeop,app.kubernetes.io/component=operator");
    let pod = admin.stdout(&format!("{path} -o jsonpath={{.items[0].metadata.name}}")).await?;
    let id = admin.stdout(&format!("{path} -o jsonpath={{.items[0].status.containerStatuses[0].containerID}}")).await?;
    let id = id.strip_prefix("containerd://").context("a container id")?.to_owned();
    kill_container(&id).await?;
    until("the operator's container started again", PATIENCE, async || {
        let count = "{.items[0].status.containerStatuses[0].restartCount}";
        let count = admin.stdout(&format!("{path} -o jsonpath={count}")).await?;
        Ok(Seen::when(count == "1", (), format!("{count} restarts")))
    })
    .await?;
    project_comes_and_goes(platform).await?;

    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": SYSTEM}});
    let address = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}/eviction");
    let ran = admin.run_with(&["create", "--raw", &address, "-f", "-"], Some(&eviction.to_string())).await?;
    ensure!(ran.ok, "eviction: {}", ran.stderr);
    node::rolled_out(admin, SYSTEM, "kubeop-operator").await?;
    ensure!(node.image().contains("kubeop"), "the image is ours");
    project_comes_and_goes(platform).await
}

/// The kernel kills it for its memory whenever it has read what is there; with more of it, it goes on.
async fn operator_without_memory(node: &Node, platform: &Platform, admin: &Kubectl, namespace: &str) -> Result<()> {
    let (server, tenants) = (node.api_server()?, format!("{GROUP}/tenants"));
    let large = "x".repeat(250 << 10);
    server
        .each(0..LARGE, |at| {
            let tenant = json!({
                "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant", "spec": {},
                "metadata": {"name": format!("large-{at}"), "annotations": {"example.com/large": large}},
            });
            let (server, tenants) = (&server, &tenants);
            async move { server.post(tenants, &tenant).await.map(drop) }
        })
        .await?;
    let operator = "deployment kubeop-operator";
    admin.stdout(&format!("-n {SYSTEM} scale {operator} --replicas=0")).await?;
    admin.stdout(&format!("-n {SYSTEM} set resources {operator} --requests=memory=16Mi --limits=memory=16Mi")).await?;
    admin.stdout(&format!("-n {SYSTEM} scale {operator} --replicas=1")).await?;
    until("the operator is killed for its memory, again and again", PATIENCE, async || {
        let path = "{.items[*].status.containerStatuses[0].lastState.terminated.reason} {.items[*].status.containerStatuses[0].restartCount}";
        let words = ["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", &format!("jsonpath={path}")];
        let told = admin.run_with(&words, None).await?.stdout;
        let restarts = told.strip_prefix("OOMKilled ").and_then(|count| count.parse::<u32>().ok());
        Ok(Seen::when(restarts.is_some_and(|restarts| restarts >= 2), (), told))
    })
    .await?;
    denied(admin, namespace, "registry.example.com").await?;

    let path = format!("/v1/platform/bootstrap?clusterID={}", platform.cluster);
    platform.api.post(&path, &json!({})).await?.expect(200)?;
    node::rolled_out(admin, SYSTEM, "kubeop-operator").await?;
    server.each(0..LARGE, async |at| server.delete(&format!("{tenants}/large-{at}")).await).await?;
    until("the large tenants are gone", PATIENCE, async || {
        let left = server.list(&tenants).await?.len();
        Ok(Seen::when(left == 1, (), format!("{left} tenants")))
    })
    .await?;
    project_comes_and_goes(platform).await
}

/// Every process of a container, which the host sees too.
async fn kill_container(id: &str) -> Result<()> {
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let name = entry.context("/proc")?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if groups.contains(id) {
            node::host("kill", &["-9", pid]).await?;
            killed += 1;
        }
    }
    ensure!(killed > 0, "no process belongs to container {id}");
    Ok(())
}

async fn project_comes_and_goes(platform: &Platform) -> Result<()> {
    let home = scenario::home(&platform.api, &platform.cluster, "again").await?;
    platform.delete_tenant(&home.tenant).await
}

/// The only node is drained: the operator goes, and one of admission's pods stays until the other could run elsewhere.
async fn drained(node: &Node, platform: &Platform, admin: &Kubectl, namespace: &str) -> Result<()> {
    let name = node.fact("/nodeName")?;
    let operator = "--pod-selector=app.kubernetes.io/part-of=kubeop,app.kubernetes.io/component=operator";
    admin.stdout(&format!("drain {name} {operator} --timeout=60s")).await?;
    denied(admin, namespace, "registry.example.com").await?;
    let selector = "--pod-selector=app.kubernetes.io/part-of=kubeop";
    let ran = admin.run(&format!("drain {name} {selector} --timeout=15s")).await?;
    ensure!(!ran.ok && ran.stderr.contains("disruption budget"), "a drain of the last pod: {ran:?}");
    denied(admin, namespace, "registry.example.com").await?;
    admin.stdout(&format!("uncordon {name}")).await?;
    for deployment in ["kubeop-operator", "kubeop-admission"] {
        node::rolled_out(admin, SYSTEM, deployment).await?;
    }
    node::ready(&platform.api, &platform.cluster).await
}

/// All our pods are gone: tenants stay fenced, the cluster's own pods start again, and so do ours.
async fn nobody_is_there(platform: &Platform, admin: &Kubectl, namespace: &str) -> Result<()> {
    // All at once: nothing of ours waits for our own webhook.
    admin.stdout(&format!("-n {SYSTEM} delete pods --all --wait=true")).await?;
    for deployment in ["kubeop-operator", "kubeop-admission"] {
        node::rolled_out(admin, SYSTEM, deployment).await?;
    }
    node::ready(&platform.api, &platform.cluster).await?;
    denied(admin, namespace, "registry.example.com").await?;
    admin.stdout(&format!("-n {SYSTEM} scale deployment --all --replicas=0")).await?;
    until("no pod of ours", PATIENCE, async || {
        let pods = admin.stdout(&format!("-n {SYSTEM} get pods -o name")).await?;
        Ok(Seen::when(pods.is_empty(), (), pods))
    })
    .await?;
    // The webhook fails closed; the guards need nobody.
    denied(admin, namespace, "failed calling webhook").await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "away", "namespace": namespace},
        "spec": {"type": "ExternalName", "externalName": "example.com"},
    });
    let ran = admin.create(&service).await?;
    ensure!(!ran.ok && ran.stderr.contains("ExternalName"), "a guard without us: {ran:?}");
    admin.stdout("-n kube-system delete pods -l k8s-app=kube-dns --wait=true").await?;
    node::rolled_out(admin, "kube-system", "coredns").await?;
    // A bootstrap is the way back, whoever scaled what.
    let path = format!("/v1/platform/bootstrap?clusterID={}", platform.cluster);
    platform.api.post(&path, &json!({})).await?.expect(200)?;
    node::ready(&platform.api, &platform.cluster).await?;
    denied(admin, namespace, "registry.example.com").await
}

async fn control_plane_restarts(node: &Node, platform: &Platform, admin: &Kubectl, namespace: &str) -> Result<()> {
    for program in ["kube-apiserver", "etcd"] {
        node.program("stop", program).await?;
        until("the manager notices", PATIENCE, async || {
            let answer = platform.api.get(&format!("/v1/clusters/{}/ready", platform.cluster)).await?;
            Ok(Seen::when(answer.status == 503, (), answer.text))
        })
        .await?;
        node.program("start", program).await?;
        node::ready(&platform.api, &platform.cluster).await?;
    }
    denied(admin, namespace, "registry.example.com").await?;
    project_comes_and_goes(platform).await
}

/// A pod of a disallowed image is refused, with this in the answer.
async fn denied(admin: &Kubectl, namespace: &str, with: &str) -> Result<()> {
    until(&format!("a disallowed image is refused with {with:?}"), PATIENCE, async || {
        let ran = admin.create(&scenario::pod("bad", namespace, &[WRONG])).await?;
        ensure!(!ran.ok, "a pod of a disallowed image was made");
        Ok(Seen::when(ran.stderr.contains(with), (), ran.stderr))
    })
    .await
}
