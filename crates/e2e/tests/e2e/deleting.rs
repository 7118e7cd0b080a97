//! Deleting in reverse: parents wait for their dependants, names are free again, and nothing stays on the cluster.

use anyhow::{Result, ensure};
use e2e::control_plane::ControlPlane;
use e2e::kubeop::Setup;
use e2e::scenario::{self, gone, unique};
use e2e::wait::{Seen, until};
use e2e::world::World;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_in_reverse_and_leaves_nothing() -> Result<()> {
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), Setup::dev().start());
    let (plane, kubeop) = (plane?, kubeop?);
    let (api, kubectl) = (kubeop.api(None)?, plane.kubectl()?);
    let cluster = scenario::register(&api, "one", &plane.kubeconfig_text()?).await?;
    scenario::cluster_ready(&api, &cluster).await?;
    let home = scenario::home(&api, &cluster, "leaving").await?;
    let app = scenario::app(&api, &home.project, "web", "web.local").await?;
    let namespace = &home.namespace;
    until("the app's Deployment", Duration::from_secs(20), async || {
        let there = kubectl.exists(&format!("deployment web -n {namespace}")).await?;
        Ok(Seen::when(there, (), api.get(&format!("/v1/apps/{app}")).await?.text))
    })
    .await?;
    // A tenant's own object with a kubeconfig that must die with the project.
    let (_, tenant) = scenario::kubeconfig(&api, &home.project, "", &kubeop.file("kubeconfig")).await?;
    tenant.stdout("create configmap mine --from-literal=a=b").await?;

    // Parents: 409 with the count, and nothing is marked.
    for (path, count) in [
        (format!("/v1/clusters/{cluster}"), "1 tenant"),
        (format!("/v1/tenants/{}", home.tenant), "1 project"),
        (format!("/v1/projects/{}", home.project), "1 app"),
    ] {
        api.delete(&path).await?.expect_error(409, &[count])?;
        let phase = api.get(&path).await?.expect(200)?;
        ensure!(phase.phase() == "Ready", "a refused delete changed {path}: {}", phase.text);
    }

    // The app, waited for; its workloads go with it.
    api.delete(&format!("/v1/apps/{app}?wait=30")).await?.expect(204)?;
    api.get(&format!("/v1/apps/{app}")).await?.expect_error(404, &[])?;
    until("the app's workloads are gone", Duration::from_secs(20), async || {
        let left = kubectl.stdout(&format!("-n {namespace} get deployments,services,ingresses,apps -o name")).await?;
        Ok(Seen::when(left.trim().is_empty(), (), left))
    })
    .await?;

    // The project, not waited for: 202, Deleting, then gone with its namespace.
    let answer = api.delete(&format!("/v1/projects/{}", home.project)).await?.expect(202)?;
    ensure!(answer.phase() == "Deleting", "{}", answer.text);
    gone(&api, &format!("/v1/projects/{}", home.project)).await?;
    ensure!(
        !kubectl.exists(&format!("namespace {namespace}")).await?,
        "the namespace is there although the project is 404"
    );
    let left = kubectl.stdout("-n kubeop-access get serviceaccounts,secrets -o name").await?;
    ensure!(!left.contains(&home.tenant_name), "access is left behind: {left}");
    let ran = tenant.run("get configmaps").await?;
    ensure!(!ran.ok, "the kubeconfig of a deleted project works");

    // The same names work again, and are something new.
    let again =
        api.post("/v1/projects?wait=30", &json!({"tenantID": home.tenant, "name": "web"})).await?.expect(201)?;
    ensure!(again.phase() == "Ready" && again.id()? != home.project, "{}", again.text);
    ensure!(again.text_at("/namespace")? == *namespace, "{}", again.text);
    ensure!(!kubectl.exists(&format!("configmap mine -n {namespace}")).await?, "the old namespace's content is back");
    let reused = scenario::app(&api, &again.id()?, "web", "web.local").await?;
    scenario::phase(&api, &format!("/v1/apps/{reused}"), "Pending").await?;
    api.delete(&format!("/v1/apps/{reused}?wait=30")).await?.expect(204)?;
    api.delete(&format!("/v1/projects/{}?wait=60", again.id()?)).await?.expect(204)?;

    // The tenant; its invoice stays.
    api.delete(&format!("/v1/tenants/{}?wait=30", home.tenant)).await?.expect(204)?;
    api.get(&format!("/v1/tenants/{}", home.tenant)).await?.expect_error(404, &[])?;
    let invoice = api.get(&format!("/v1/invoices/{}", home.tenant)).await?.expect(200)?;
    ensure!(invoice.text_at("/tenant_name")? == home.tenant_name, "{}", invoice.text);
    ensure!(!kubectl.exists(&format!("tenants.platform.kubeop.io {}", home.tenant_name)).await?, "the Tenant is left");

    // The cluster, with what was installed there.
    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    api.get(&format!("/v1/clusters/{cluster}")).await?.expect_error(404, &[])?;
    ensure!(
        !kubectl.exists("validatingwebhookconfiguration kubeop-admission").await?,
        "the webhook configuration is left"
    );
    let roles = kubectl.stdout("get clusterroles,clusterrolebindings,validatingadmissionpolicies -o name").await?;
    ensure!(!roles.contains("kubeop"), "rights or guards are left: {roles}");
    // And it can be registered again under its name at once, while the namespaces are still going.
    let back = scenario::register(&api, "one", &plane.kubeconfig_text()?).await?;
    ensure!(back != cluster, "an id came back");
    scenario::cluster_ready(&api, &back).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_taken_once_and_free_when_the_old_is_gone() -> Result<()> {
    let world = World::shared().await?;
    let api = world.admin()?;
    let home = scenario::home(&api, &world.cluster, "names").await?;
    let taken = json!({"name": home.tenant_name, "clusterID": world.cluster});
    api.post("/v1/tenants", &taken).await?.expect_error(409, &[&home.tenant_name])?;
    let web = json!({"tenantID": home.tenant, "name": "web"});
    api.post("/v1/projects", &web).await?.expect_error(409, &["web"])?;
    let host = format!("{}.local", unique("host"));
    scenario::app(&api, &home.project, "a", &host).await?;
    let body = json!({"projectID": home.project, "name": "b", "image": "docker.io/library/nginx:1.25", "host": host});
    api.post("/v1/apps", &body).await?.expect_error(409, &[&host])?;
    let registered = json!({"name": "another", "kubeconfig": world.kubeconfig_text()?});
    api.post("/v1/clusters", &registered).await?.expect_error(409, &["shared"])?;
    Ok(())
}
