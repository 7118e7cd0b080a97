//! Seed 001 literally, with a manager outside and everything else in the cluster; then what its users would do next.

use anyhow::{Context, Result, ensure};
use e2e::kubectl::Kubectl;
use e2e::node::{self, Node, PATIENCE};
use e2e::script;
use e2e::wait::{Seen, until};

const NAMESPACE: &str = "kubeop-acme-web";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn the_walkthrough_runs_real_pods() -> Result<()> {
    let node = Node::take().await?;
    let manager = node.manager().start().await?;
    let api = manager.api(None)?;
    let shown = script::run("walkthrough.sh", api.base(), &node.kubeconfig_text()?, None, "").await;
    println!("{}", shown.with_context(|| manager.tail())?);

    let admin = node.kubectl()?;
    node::rolled_out(&admin, NAMESPACE, "web").await?;
    until("nginx answers at web.local", PATIENCE, async || {
        let (status, body) = node.ingress("web.local").await?;
        Ok(Seen::when(status == 200 && body.contains("Welcome to nginx!"), (), format!("{status} {body}")))
    })
    .await?;
    let (status, _) = node.ingress("other.local").await?;
    ensure!(status == 404, "another host answers {status}");

    let project = api.get("/v1/projects").await?.expect(200)?.text_at("/0/id")?;
    let folder = node::folder()?;
    let answer = api.get(&format!("/v1/kubeconfigs/project/{project}")).await?.expect(200)?;
    let tenant = Kubectl::of_text(&node::file(&folder, "tenant"), &answer.text_at("/kubeconfig")?)?;
    a_tenant_works(&tenant).await?;

    // The whole of it goes again.
    let cluster = api.get("/v1/clusters").await?.expect(200)?.text_at("/0/id")?;
    let tenant_id = api.get("/v1/tenants").await?.expect(200)?.text_at("/0/id")?;
    let platform = node::Platform { manager, api, cluster };
    platform.delete_tenant(&tenant_id).await?;
    ensure!(!admin.exists(&format!("namespace {NAMESPACE}")).await?, "the namespace stayed");
    platform.uninstall().await
}

/// The samples of seed 000, whose app then runs once the cluster is set up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn the_reference_samples_work() -> Result<()> {
    let node = Node::take().await?;
    let manager = node.manager().with_auth().start().await?;
    let admin = manager.token("admin", None)?;
    let api = manager.api(Some(&admin))?;
    let shown = script::run("reference.sh", api.base(), &node.kubeconfig_text()?, None, &admin).await;
    println!("{}", shown.with_context(|| manager.tail())?);
    Ok(())
}

/// exec, logs, port-forward, deploy, with the project's kubeconfig.
async fn a_tenant_works(kubectl: &Kubectl) -> Result<()> {
    let said = kubectl.stdout("exec deployment/web -- /bin/sh -c id").await?;
    ensure!(said.contains("uid="), "exec gave {said:?}");
    until("the access log through kubectl logs", PATIENCE, async || {
        let logs = kubectl.stdout("logs deployment/web").await?;
        Ok(Seen::when(logs.contains("GET / "), (), logs))
    })
    .await?;
    let body = node::forwarded(kubectl, "service/web", 80, "/").await?;
    ensure!(body.contains("Welcome to nginx!"), "port-forward gave {body:?}");
    // The walkthrough itself deployed `probe` with this kind of kubeconfig.
    until("a tenant's own deployment", PATIENCE, async || {
        let ready = kubectl.stdout("get deployment probe -o jsonpath={.status.readyReplicas}").await?;
        Ok(Seen::when(ready == "1", (), format!("{ready:?} replicas are ready")))
    })
    .await?;
    let refused = kubectl.run("create deployment bad --image=registry.example.com/bad:1").await?;
    ensure!(refused.ok, "a Deployment is judged by its pods: {}", refused.stderr);
    until("the disallowed image is refused", PATIENCE, async || {
        let events = kubectl.stdout("get events -o jsonpath={.items[*].message}").await?;
        Ok(Seen::when(events.contains("registry.example.com/bad:1"), (), events))
    })
    .await?;
    let pods = kubectl.stdout("get pods -l app=bad -o name").await?;
    ensure!(pods.is_empty(), "a pod of the disallowed image was made: {pods}");
    let direct = kubectl.run("run bad --image=registry.example.com/bad:1").await?;
    ensure!(!direct.ok && direct.stderr.contains("registry.example.com"), "a disallowed image: {direct:?}");
    Ok(())
}
