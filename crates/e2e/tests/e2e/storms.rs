//! A cluster in a storm, with many objects on their way to it: all arrive, what goes on at once stays bounded, and the other cluster does not
//! notice. `cargo xtask bench sync` does the same at full size and with figures.

use anyhow::{Context, Result, ensure};
use e2e::api::Api;
use e2e::api_server::{ApiServer, GROUP};
use e2e::control_plane::ControlPlane;
use e2e::faults::{FaultProxy, Faults, Watches};
use e2e::forest::{Forest, Shape};
use e2e::kubeop::{Kubeop, Setup};
use e2e::scenario::{self, phase};
use e2e::wait::{Seen, until};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SHAPE: Shape = Shape { tenants: 12, projects: 3, apps: 2 };
const PATIENCE: Duration = Duration::from_mins(3);

/// Registers a cluster for its custom resources alone: no operator runs.
async fn register(api: &Api, name: &str, kubeconfig: &str) -> Result<String> {
    let body = json!({"name": name, "kubeconfig": kubeconfig, "autoBootstrap": true});
    let cluster = api.post("/v1/clusters", &body).await?.expect(201)?.id()?;
    phase(api, &format!("/v1/clusters/{cluster}"), "Ready").await?;
    Ok(cluster)
}

/// Makes the namespaces of all projects and reports on them, as the operator does; how many there were.
async fn house(server: &ApiServer) -> Result<usize> {
    let projects = server.list(&format!("{GROUP}/projects")).await?;
    server
        .each(&projects, async |project| {
            let namespace = project.pointer("/spec/namespace").cloned().context("a project without namespace")?;
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            // Another round may have made it.
            if server.post("/api/v1/namespaces", &object).await.is_err() {
                server.get(&format!("/api/v1/namespaces/{}", namespace.as_str().unwrap_or_default())).await?;
            }
            server.report(project).await
        })
        .await?;
    Ok(projects.len())
}

/// Waits until the cluster holds exactly this many, from their latest rows.
async fn holds(api: &Api, server: &ApiServer, cluster: &str, kinds: &str, count: usize) -> Result<()> {
    until(&format!("{count} {kinds} on the cluster"), PATIENCE, async || {
        let there = server.list(&format!("{GROUP}/{kinds}")).await?.len();
        Ok(Seen::when(there == count, (), format!("{there} of {count}")))
    })
    .await?;
    until(&format!("{count} {kinds} synced"), PATIENCE, async || {
        let page = api.get(&format!("/v1/{kinds}?limit=1000&cluster_id={cluster}")).await?.expect(200)?;
        let items = page.json.as_array().cloned().unwrap_or_default();
        let synced = items.iter().filter(|item| item["status"]["synced"] == true).count();
        Ok(Seen::when(synced == count && items.len() == count, (), format!("{synced} of {count} synced")))
    })
    .await
}

/// From a tenant's creation to its object on the cluster.
async fn round_trip(api: &Api, cluster: &str, prefix: &str) -> Result<Duration> {
    let start = Instant::now();
    let id = scenario::tenant(api, cluster, &scenario::unique(prefix)).await?;
    until("a tenant on the other cluster", Duration::from_secs(20), async || {
        let answer = api.get(&format!("/v1/tenants/{id}")).await?;
        Ok(Seen::when(answer.json["status"]["synced"] == true, (), answer.text))
    })
    .await?;
    Ok(start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_refusals_and_lost_answers_delay_one_cluster_and_lose_nothing() -> Result<()> {
    let (planes, kubeop) = tokio::join!(ControlPlane::start_many(2), Setup::new("manager").start());
    let (planes, kubeop) = (planes?, kubeop?);
    let [a, b] = &planes[..] else { anyhow::bail!("two control planes were asked for") };
    let api = kubeop.api(None)?;
    let proxy = FaultProxy::start(&a.kubeconfig_text()?).await?;
    let server = ApiServer::new(&a.kubeconfig_text()?)?;
    let far = register(&api, "far", proxy.kubeconfig()).await?;
    let near = register(&api, "near", &b.kubeconfig_text()?).await?;

    proxy.set(Faults { too_many: 100, broken: 80, lost: 40, conflict: 80, ..Faults::default() });
    let mut forest = Forest::plant(&api, &far, "storm", SHAPE).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        slowest = slowest.max(round_trip(&api, &near, "calm").await?);
    }
    println!("the other cluster's slowest tenant took {slowest:?}");
    // The storm goes on until all has arrived.
    let projects = SHAPE.tenants * SHAPE.projects;
    holds(&api, &server, &far, "projects", projects).await?;
    ensure!(house(&server).await? == projects, "projects were lost or made twice");
    forest.grow(&api, SHAPE).await?;
    holds(&api, &server, &far, "apps", projects * SHAPE.apps).await?;
    holds(&api, &server, &far, "tenants", SHAPE.tenants).await?;

    let tally = proxy.tally();
    let (requests, spoiled) = (tally.requests.load(Ordering::Relaxed), tally.spoiled.load(Ordering::Relaxed));
    let most = tally.most.load(Ordering::Relaxed);
    println!("{requests} requests, {spoiled} of them spoiled, at most {most} at once");
    ensure!(spoiled * 10 > requests, "the storm was none: {spoiled} of {requests}");
    // Writes, a list of the compare, the ping, lists of the watches, and a token.
    ensure!(most <= 24, "{most} requests at once");
    Ok(())
}

/// A manager with one cluster behind a proxy, and a tenant there.
struct Place {
    _plane: ControlPlane,
    proxy: FaultProxy,
    server: ApiServer,
    kubeop: Kubeop,
    cluster: String,
    tenant: String,
}

async fn place() -> Result<Place> {
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, kubeop) = (plane?, kubeop?);
    let proxy = FaultProxy::start(&plane.kubeconfig_text()?).await?;
    let server = ApiServer::new(&plane.kubeconfig_text()?)?;
    let api = kubeop.api(None)?;
    let cluster = register(&api, "one", proxy.kubeconfig()).await?;
    let tenant = scenario::tenant(&api, &cluster, "tenant").await?;
    synced(&api, &format!("/v1/tenants/{tenant}"), PATIENCE).await?;
    Ok(Place { _plane: plane, proxy, server, kubeop, cluster, tenant })
}

async fn synced(api: &Api, path: &str, limit: Duration) -> Result<()> {
    until(&format!("{path} synced"), limit, async || {
        let answer = api.get(path).await?;
        Ok(Seen::when(answer.json["status"]["synced"] == true, (), answer.text))
    })
    .await
}

/// It made the whole cluster Unreachable, for ever: every 500 counted as an outage.
async fn poison(place: &Place, api: &Api) -> Result<()> {
    place.proxy.set(Faults { poison: Some("tenant.poison".to_owned()), ..Faults::default() });
    let bad = scenario::project(api, &place.tenant, "poison").await?.id()?;
    phase(api, &format!("/v1/projects/{bad}"), "Degraded").await?;
    for round in 0..3 {
        let good = scenario::project(api, &place.tenant, &format!("good-{round}")).await?.id()?;
        synced(api, &format!("/v1/projects/{good}"), Duration::from_secs(10)).await?;
        let cluster = api.get(&format!("/v1/clusters/{}", place.cluster)).await?;
        ensure!(cluster.phase() == "Ready", "one object's failure is the cluster's: {}", cluster.text);
    }
    let told = api.get(&format!("/v1/projects/{bad}")).await?;
    ensure!(told.text.contains("500"), "what is wrong is not told: {}", told.text);
    place.proxy.mend();
    synced(api, &format!("/v1/projects/{bad}"), PATIENCE).await
}

/// What is deleted or edited on the cluster comes back as it was; nobody asked for the change.
async fn meddling(place: &mut Place) -> Result<()> {
    let path = format!("{GROUP}/projects/tenant.good-0");
    let (server, before) = (place.server.clone(), place.server.get(&path).await?["spec"].clone());
    let back = async |what: &str| {
        until(what, Duration::from_secs(30), async || {
            let now = server.get(&path).await?;
            let marks = json!([
                now["metadata"]["labels"]["app.kubernetes.io/managed-by"],
                now["metadata"]["labels"]["app.kubeop.io/stray"]
            ]);
            let restored = now["spec"] == before && marks == json!(["kubeop-manager", null]);
            Ok(Seen::when(restored, (), now.to_string()))
        })
        .await
    };
    server.merge(&path, &json!({"spec": {"suspended": true, "podSecurity": "restricted"}})).await?;
    back("an edit is taken back").await?;
    server.delete(&path).await?;
    server.delete(&format!("{GROUP}/projects/tenant.good-1")).await?;
    back("a deleted object comes back").await?;
    server.merge(&path, &json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}})).await?;
    let claimed = until("an object without our mark is told", Duration::from_secs(30), async || {
        let row = place.kubeop.api(None)?.get("/v1/projects?name=good-0").await?;
        Ok(Seen::when(row.text.contains("was not made by kubeOP"), (), row.text))
    });
    claimed.await?;
    server.merge(&path, &json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "kubeop-manager"}}})).await?;
    // While nobody watches.
    place.kubeop.kill();
    server
        .merge(&path, &json!({"metadata": {"labels": {"app.kubeop.io/stray": "x"}}, "spec": {"suspended": true}}))
        .await?;
    server.delete(&format!("{GROUP}/projects/tenant.good-2")).await?;
    place.kubeop.restart().await?;
    back("an edit made while the manager was away is taken back").await?;
    until("an object deleted while the manager was away comes back", Duration::from_secs(30), async || {
        let there = server.get(&format!("{GROUP}/projects/tenant.good-2")).await;
        Ok(Seen::when(there.is_ok(), (), format!("{there:?}")))
    })
    .await
}

/// Status goes on being mirrored after watches that were cut, expired or silent.
async fn watches(place: &Place, api: &Api) -> Result<()> {
    let path = format!("{GROUP}/projects/tenant.good-0");
    for (round, (watches, limit)) in
        [(Watches::Whole, 10), (Watches::Cut, 20), (Watches::Expired, 20), (Watches::Silent, 60)]
            .into_iter()
            .enumerate()
    {
        place.proxy.set(Faults { watches, ..Faults::default() });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let message = format!("round {round}");
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Progressing", "message": message, "lastTransitionTime": "2026-03-01T00:00:00Z"}]}});
        place.server.merge(&format!("{path}/status"), &status).await?;
        place.proxy.mend();
        let start = Instant::now();
        until(&format!("status after {watches:?} watches"), Duration::from_secs(limit), async || {
            let answer = api.get("/v1/projects?name=good-0").await?;
            Ok(Seen::when(answer.text.contains(&message), (), answer.text))
        })
        .await?;
        println!("status after {watches:?} watches: {:?}", start.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_object_of_hands_on_the_cluster_and_of_watches_are_ridden_out() -> Result<()> {
    let mut place = place().await?;
    let api = place.kubeop.api(None)?;
    poison(&place, &api).await.with_context(|| place.kubeop.tail())?;
    meddling(&mut place).await.with_context(|| place.kubeop.tail())?;
    let api = place.kubeop.api(None)?;
    watches(&place, &api).await.with_context(|| place.kubeop.tail())
}
