//! A cluster that cannot be reached: said so in words, waited out alone, and caught up with afterwards or given up on.

use anyhow::{Context, Result, ensure};
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::kubectl::Kubectl;
use e2e::kubeop::Setup;
use e2e::proxy::Proxy;
use e2e::scenario::{self, Home, phase};
use e2e::wait::{Seen, until};
use serde_json::json;
use std::time::{Duration, Instant};

struct Place {
    cluster: String,
    home: Home,
    kubectl: Kubectl,
}

async fn place(api: &Api, name: &str, kubeconfig: &str, kubectl: Kubectl) -> Result<Place> {
    let cluster = scenario::register(api, name, kubeconfig).await?;
    scenario::cluster_ready(api, &cluster).await?;
    let home = scenario::home(api, &cluster, name).await?;
    Ok(Place { cluster, home, kubectl })
}

async fn holds_policy(place: &Place, registry: &str) -> Result<()> {
    until("the policy is on the cluster", Duration::from_secs(30), async || {
        let map = place
            .kubectl
            .stdout("-n kubeop-system get configmap kubeop-policy -o jsonpath={.data.imageAllowlist}")
            .await?;
        Ok(Seen::when(map.contains(registry), (), map))
    })
    .await
}

/// One outage, seen from everywhere. `round` names what is made meanwhile.
async fn ride_out(api: &Api, proxy: &Proxy, far: &Place, near: &Place, round: &str) -> Result<()> {
    let path = format!("/v1/clusters/{}", far.cluster);
    let told = phase(api, &path, "Unreachable").await?;
    ensure!(!told.text_at("/status/message")?.is_empty(), "no reason is told: {}", told.text);
    api.get(&format!("{path}/ready")).await?.expect_error(503, &["not ready"])?;
    let status = api.get(&format!("{path}/status")).await?.expect(200)?;
    ensure!(status.json["reachable"] == false && status.json["operator"] == false, "{}", status.text);
    phase(api, &format!("/v1/projects/{}", far.home.project), "Unreachable").await?;
    let answer = api.get(&format!("/v1/kubeconfigs/project/{}", far.home.project)).await?.expect_error(503, &[])?;
    ensure!(answer.header("retry-after").is_some(), "503 without Retry-After");

    // Wishes are taken in meanwhile.
    let wish = scenario::project(api, &far.home.tenant, round).await?.id()?;
    // The other cluster does not notice.
    let start = Instant::now();
    let made =
        api.post("/v1/projects?wait=20", &json!({"tenantID": near.home.tenant, "name": round})).await?.expect(201)?;
    ensure!(made.phase() == "Ready", "on the other cluster: {}", made.text);
    println!("{round}: the other cluster's project took {:?}", start.elapsed());
    let registry = format!("{round}.example.com");
    api.put("/v1/platform/policy", &json!({"imageAllowlist": ["docker.io", registry]})).await?.expect(200)?;
    holds_policy(near, &registry).await?;
    scenario::cluster_ready(api, &near.cluster).await?;

    proxy.mend();
    phase(api, &path, "Ready").await?;
    phase(api, &format!("/v1/projects/{wish}"), "Ready").await?;
    phase(api, &format!("/v1/projects/{}", far.home.project), "Ready").await?;
    holds_policy(far, &registry).await?;
    scenario::cluster_ready(api, &far.cluster).await
}

/// A cluster that is gone for good is given up on (docs/operations/run.md, "A cluster is lost"); `near` is its successor.
async fn give_up(api: &Api, proxy: &Proxy, far: &Place, near: &Place) -> Result<()> {
    let app = scenario::app(api, &far.home.project, "web", "lost.local").await?;
    until("the app is on the cluster", Duration::from_secs(20), async || {
        let answer = api.get(&format!("/v1/apps/{app}")).await?;
        Ok(Seen::when(answer.json["status"]["synced"] == true, (), answer.text))
    })
    .await?;
    let hour = json!({"ts": "2026-03-03T10:00:00Z", "tenant_id": far.home.tenant, "cpu_milli": 500, "mem_mib": 64});
    api.post("/v1/usage/ingest", &json!([hour])).await?.expect(200)?;
    let invoice = format!("/v1/invoices/{}?month=2026-03", far.home.tenant);
    let billed = api.get(&invoice).await?.expect(200)?;
    proxy.cut();
    phase(api, &format!("/v1/clusters/{}", far.cluster), "Unreachable").await?;

    // Its name is bound to it, and so are its tenants; nothing else of them ends while it does not answer.
    let again = json!({"name": far.home.tenant_name, "clusterID": near.cluster});
    api.post("/v1/tenants", &again).await?.expect_error(409, &[&far.home.tenant_name])?;
    api.delete(&format!("/v1/apps/{app}")).await?.expect(202)?;
    let projects = api.get(&format!("/v1/projects?tenantID={}", far.home.tenant)).await?.expect(200)?;
    let projects = projects.json.as_array().context("projects")?.iter().filter_map(|project| project["id"].as_str());
    let mut lost = vec![format!("/v1/apps/{app}")];
    lost.extend(projects.map(|id| format!("/v1/projects/{id}")));
    lost.push(format!("/v1/tenants/{}", far.home.tenant));
    for path in lost {
        api.delete(&format!("{path}?force=true")).await?.expect(204)?;
        api.get(&path).await?.expect_error(404, &[])?;
    }
    api.delete(&format!("/v1/clusters/{}", far.cluster)).await?.expect(204)?;
    let audit = api.get("/v1/audit?limit=1000").await?.expect(200)?;
    ensure!(audit.text.contains("forced"), "forced deletes are not in the audit log: {}", audit.text);

    // On the successor everything is made anew, under the same names.
    let tenant = scenario::tenant(api, &near.cluster, &far.home.tenant_name).await?;
    let project = scenario::project(api, &tenant, "web").await?.id()?;
    phase(api, &format!("/v1/projects/{project}"), "Ready").await?;
    scenario::app(api, &project, "web", "lost.local").await?;
    let after = api.get(&invoice).await?.expect(200)?;
    ensure!(after.json == billed.json, "billed: {}; now: {}", billed.text, after.text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_cluster_is_told_and_waited_out_alone_or_ended_by_force() -> Result<()> {
    let (planes, kubeop) = tokio::join!(ControlPlane::start_many(2), Setup::dev().start());
    let (planes, kubeop) = (planes?, kubeop?);
    let [a, b] = &planes[..] else { anyhow::bail!("two control planes were asked for") };
    let api = kubeop.api(None)?;
    let proxy = Proxy::start(a.port()?).await?;
    let kubeconfig = scenario::through(&a.kubeconfig_text()?, a.port()?, proxy.port())?;
    let near_kubeconfig = b.kubeconfig_text()?;
    let (far, near) = tokio::try_join!(
        place(&api, "far", &kubeconfig, a.kubectl()?),
        place(&api, "near", &near_kubeconfig, b.kubectl()?)
    )?;
    proxy.cut();
    ride_out(&api, &proxy, &far, &near, "cut").await?;
    proxy.silence();
    ride_out(&api, &proxy, &far, &near, "silent").await?;
    give_up(&api, &proxy, &far, &near).await
}
