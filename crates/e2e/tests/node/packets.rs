//! The fences in packets: egress, other projects, our own pods, quota.

use anyhow::{Result, ensure};
use e2e::kubectl::Kubectl;
use e2e::node::{self, Node, PATIENCE};
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::{Value, json};

/// An address of documentation (RFC 5737), put on the host's side of the node's cable: outside every baseline below.
const OUTSIDE: &str = "192.0.2.10";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn packets_stop_at_the_fences() -> Result<()> {
    let node = Node::take().await?;
    let platform = node.platform().await?;
    let (api, admin) = (&platform.api, node.kubectl()?);
    api.put("/v1/platform/policy", &json!({"egressBaseline": ["172.16.0.0/12"]})).await?.expect(200)?;

    let one = scenario::home(api, &platform.cluster, "one").await?;
    let two = scenario::home(api, &platform.cluster, "two").await?;
    let tool = node.fact("/images/webtool")?.to_owned();
    for namespace in [one.namespace.as_str(), two.namespace.as_str(), "default"] {
        node::apply(&admin, &pod("client", namespace, &tool).to_string()).await?;
    }
    for namespace in [one.namespace.as_str(), two.namespace.as_str(), "default"] {
        node::running(&admin, namespace, "client").await?;
    }
    let address = async |namespace: &str| {
        admin.stdout(&format!("-n {namespace} get pod client -o jsonpath={{.status.podIP}}")).await
    };
    let (of_one, of_two) = (address(&one.namespace).await?, address(&two.namespace).await?);

    let interface = node.fact("/interface")?.to_owned();
    node::host("ip", &["address", "replace", &format!("{OUTSIDE}/32"), "dev", &interface]).await?;
    let outside = node::serve(OUTSIDE).await?;
    let inside = node::serve(node.fact("/hostAddress")?).await?;

    // The servers are there: a pod that is in no project reaches both.
    reaches(&admin, "default", &outside).await?;
    reaches(&admin, "default", &inside).await?;
    reaches(&admin, &one.namespace, &inside).await?;
    reaches(&admin, &one.namespace, &format!("{of_one}:8080")).await?;
    blocked(&admin, &one.namespace, &outside).await?;
    blocked(&admin, &one.namespace, &format!("{of_two}:8080")).await?;
    blocked(&admin, &two.namespace, &format!("{of_one}:8080")).await?;
    let named =
        admin.stdout(&format!("-n {} exec client -- /bin/webtool dns kubernetes.default", one.namespace)).await?;
    ensure!(named.contains("OK"), "DNS: {named}");
    // What carries the platform's traffic is no project: ingress controllers and monitoring come in.
    reaches(&admin, "default", &format!("{of_one}:8080")).await?;

    our_own_pods_are_closed(&admin, &one.namespace).await?;
    quota_stops_a_pod(&platform, &admin, &tool).await?;

    node::host("ip", &["address", "del", &format!("{OUTSIDE}/32"), "dev", &interface]).await?;
    admin.stdout("-n default delete pod client --now").await?;
    for tenant in [&one.tenant, &two.tenant] {
        platform.delete_tenant(tenant).await?;
    }
    platform.uninstall().await
}

/// Reviews may come from anywhere outside projects (an API server's address is nobody's to know), metrics are for namespaces that are marked.
async fn our_own_pods_are_closed(admin: &Kubectl, project: &str) -> Result<()> {
    let address = async |role: &str| {
        let pods = format!("-n kubeop-system get pods -l app.kubernetes.io/component={role}");
        admin.stdout(&format!("{pods} -o jsonpath={{.items[0].status.podIP}}")).await
    };
    let (operator, admission) = (address("operator").await?, address("admission").await?);
    let metrics = [format!("{operator}:9090"), format!("{admission}:9090")];
    reaches(admin, "default", &format!("{admission}:9443")).await?;
    blocked(admin, project, &format!("{admission}:9443")).await?;
    for port in &metrics {
        blocked(admin, project, port).await?;
        blocked(admin, "default", port).await?;
    }
    admin.stdout("label namespace default app.kubeop.io/metrics=true").await?;
    for port in &metrics {
        reaches(admin, "default", port).await?;
    }
    admin.stdout("label namespace default app.kubeop.io/metrics-").await.map(drop)
}

async fn quota_stops_a_pod(platform: &node::Platform, admin: &Kubectl, tool: &str) -> Result<()> {
    let api = &platform.api;
    let tenant = scenario::tenant(api, &platform.cluster, &scenario::unique("small")).await?;
    let body = json!({"tenantID": tenant, "name": "web", "quotas": {"cpu": "300m", "memory": "256Mi", "pods": "2"}});
    let made = api.post("/v1/projects", &body).await?.expect(201)?;
    let namespace = made.text_at("/namespace")?;
    scenario::phase(api, &format!("/v1/projects/{}", made.id()?), "Ready").await?;
    let asking = |name: &str, cpu: &str| {
        let mut pod = pod(name, &namespace, tool);
        let amounts = json!({"cpu": cpu, "memory": "32Mi"});
        pod["spec"]["containers"][0]["resources"] = json!({"requests": amounts, "limits": amounts});
        pod
    };
    let created = admin.create(&asking("first", "200m")).await?;
    ensure!(created.ok, "a pod within the quota: {created:?}");
    let refused = admin.create(&asking("large", "200m")).await?;
    ensure!(!refused.ok && refused.stderr.contains("exceeded quota"), "a pod past the CPU quota: {refused:?}");
    let created = admin.create(&asking("second", "50m")).await?;
    ensure!(created.ok, "a second pod within the quota: {created:?}");
    let refused = admin.create(&asking("third", "10m")).await?;
    ensure!(!refused.ok && refused.stderr.contains("exceeded quota"), "a third pod: {refused:?}");
    node::running(admin, &namespace, "first").await?;
    platform.delete_tenant(&tenant).await
}

fn pod(name: &str, namespace: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "tool", "image": image, "args": ["serve"]}]},
    })
}

async fn tcp(admin: &Kubectl, namespace: &str, to: &str) -> Result<bool> {
    let ran = admin.run(&format!("-n {namespace} exec client -- /bin/webtool tcp {to} 1s")).await?;
    ensure!(ran.ok || ran.stderr.contains("FAIL"), "the tool did not run: {}", ran.stderr);
    Ok(ran.ok)
}

async fn reaches(admin: &Kubectl, namespace: &str, to: &str) -> Result<()> {
    until(&format!("{namespace} reaches {to}"), PATIENCE, async || {
        Ok(Seen::when(tcp(admin, namespace, to).await?, (), "no connection"))
    })
    .await
}

/// Twice: what has just begun to be closed may let one through.
async fn blocked(admin: &Kubectl, namespace: &str, to: &str) -> Result<()> {
    until(&format!("{namespace} is kept from {to}"), PATIENCE, async || {
        let open = tcp(admin, namespace, to).await? || tcp(admin, namespace, to).await?;
        Ok(Seen::when(!open, (), "it connects"))
    })
    .await
}
