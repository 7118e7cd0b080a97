//! `kill -9` of the manager at the worst moments: what was accepted is brought to the cluster once, what was deleted is gone.

use anyhow::{Result, ensure};
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::kubectl::Kubectl;
use e2e::kubeop::Setup;
use e2e::proxy::Proxy;
use e2e::scenario::{self, PATIENCE, phase};
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The Project resources whose label says that they are of this project.
async fn resources(kubectl: &Kubectl, project: &str) -> Result<usize> {
    let list = kubectl.json(&format!("get projects.platform.kubeop.io -l app.kubeop.io/project-id={project}")).await?;
    Ok(list["items"].as_array().map_or(0, Vec::len))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_accept_and_apply_nothing_is_lost_or_doubled() -> Result<()> {
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), Setup::dev().start());
    let (plane, mut kubeop) = (plane?, kubeop?);
    let kubectl = plane.kubectl()?;
    let proxy = Proxy::start(plane.port()?).await?;
    let kubeconfig = scenario::through(&plane.kubeconfig_text()?, plane.port()?, proxy.port())?;
    let api = kubeop.api(None)?;
    let cluster = scenario::register(&api, "crash", &kubeconfig).await?;
    scenario::cluster_ready(&api, &cluster).await?;
    let home = scenario::home(&api, &cluster, "crash").await?;
    let leaving = scenario::project(&api, &home.tenant, "leaving").await?.id()?;
    phase(&api, &format!("/v1/projects/{leaving}"), "Ready").await?;

    // Accepted while the cluster cannot be reached, then killed.
    proxy.cut();
    let coming = scenario::project(&api, &home.tenant, "coming").await?;
    let (coming, namespace) = (coming.id()?, coming.text_at("/namespace")?);
    // Deleted at once again: it never reached the cluster, so it vanishes.
    let never = scenario::project(&api, &home.tenant, "never").await?.id()?;
    ensure!(matches!(api.delete(&format!("/v1/projects/{never}")).await?.status, 202 | 204), "a delete while cut");
    api.delete(&format!("/v1/projects/{leaving}")).await?.expect(202)?;
    kubeop.kill();
    ensure!(resources(&kubectl, &coming).await? == 0, "the project reached a cluster that was cut off");

    kubeop.restart().await?;
    let api = kubeop.api(None)?;
    let pending = api.get(&format!("/v1/projects/{coming}")).await?.expect(200)?;
    ensure!(matches!(pending.phase(), "Pending" | "Unreachable"), "{}", pending.text);
    let going = api.get(&format!("/v1/projects/{leaving}")).await?.expect(200)?;
    ensure!(going.phase() == "Deleting", "{}", going.text);
    proxy.mend();

    phase(&api, &format!("/v1/projects/{coming}"), "Ready").await?;
    scenario::gone(&api, &format!("/v1/projects/{leaving}")).await?;
    scenario::gone(&api, &format!("/v1/projects/{never}")).await?;
    ensure!(resources(&kubectl, &coming).await? == 1, "not exactly one Project resource");
    ensure!(
        resources(&kubectl, &leaving).await? == 0 && resources(&kubectl, &never).await? == 0,
        "a deleted project is left"
    );
    ensure!(kubectl.exists(&format!("namespace {namespace}")).await?, "no namespace {namespace}");
    phase(&api, &format!("/v1/projects/{}", home.project), "Ready").await?;
    scenario::cluster_ready(&api, &cluster).await
}

/// What a caller was told before the process died.
#[derive(Default)]
struct Told {
    created: Vec<String>,
    deleted: Vec<String>,
    doubtful: BTreeSet<String>,
}

impl Told {
    /// Creates and deletes until the process is gone.
    async fn work(&mut self, api: &Api, tenant: &str, round: usize) {
        for number in 0..200 {
            let body = json!({"tenantID": tenant, "name": format!("p{round}-{number}")});
            let Ok(answer) = api.post("/v1/projects", &body).await else { return };
            let Ok(id) = answer.expect(201).and_then(|answer| answer.id()) else { return };
            self.created.push(id.clone());
            if number % 2 == 0 {
                // In doubt from before it is sent: we may be stopped before the answer.
                self.doubtful.insert(id.clone());
                match api.delete(&format!("/v1/projects/{id}")).await {
                    Ok(answer) if matches!(answer.status, 202 | 204) => {
                        self.doubtful.remove(&id);
                        self.deleted.push(id);
                    }
                    _ => return,
                }
            }
        }
    }
}

fn ids(list: &Value, at: &str) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.pointer(at)?.as_str().map(ToOwned::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_random_points_every_accepted_change_holds() -> Result<()> {
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), Setup::dev().start());
    let (plane, mut kubeop) = (plane?, kubeop?);
    let kubectl = plane.kubectl()?;
    let mut api = kubeop.api(None)?;
    let cluster = scenario::register(&api, "random", &plane.kubeconfig_text()?).await?;
    scenario::cluster_ready(&api, &cluster).await?;
    let tenant = scenario::tenant(&api, &cluster, "random").await?;
    let mut told = Told::default();
    // Points in time spread over the life of a few projects: while rows are written, applied, set up and taken down.
    for (round, millis) in [20, 90, 170, 310, 560, 900].into_iter().enumerate() {
        tokio::select! {
            () = told.work(&api, &tenant, round) => {}
            () = tokio::time::sleep(Duration::from_millis(millis)) => {}
        }
        kubeop.kill();
        kubeop.restart().await?;
        api = kubeop.api(None)?;
    }
    println!("{} created, {} deleted, {} in doubt", told.created.len(), told.deleted.len(), told.doubtful.len());
    ensure!(told.created.len() > 6, "too little happened: {} creates", told.created.len());

    for id in &told.deleted {
        scenario::gone(&api, &format!("/v1/projects/{id}")).await?;
    }
    for id in told.created.iter().filter(|id| !told.deleted.contains(id) && !told.doubtful.contains(*id)) {
        phase(&api, &format!("/v1/projects/{id}"), "Ready").await?;
    }
    // What the database says is what the cluster holds, each once; that goes for what was answered by the crash alone, too.
    until("database and cluster agree", PATIENCE, async || {
        let rows = api.get("/v1/projects?limit=1000").await?.expect(200)?;
        let deleting = rows.json.as_array().is_some_and(|all| all.iter().any(|row| row["status"]["phase"] != "Ready"));
        let objects = kubectl.json("get projects.platform.kubeop.io").await?;
        let spaces = kubectl.json("get namespaces -l app.kubeop.io/project-id").await?;
        let label = "/metadata/labels/app.kubeop.io~1project-id";
        let (wanted, there, homes) =
            (ids(&rows.json, "/id"), ids(&objects["items"], label), ids(&spaces["items"], label));
        let counted = objects["items"].as_array().map_or(0, Vec::len) == wanted.len();
        let same = wanted == there && wanted == homes && counted && !deleting;
        Ok(Seen::when(same, (), format!("rows {wanted:?}, resources {there:?}, namespaces {homes:?}")))
    })
    .await
}
