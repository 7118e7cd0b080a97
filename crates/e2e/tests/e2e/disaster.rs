//! `docs/operations/run.md`, "The manager's database is lost", done as it is written there: every command is one of the page.

use anyhow::{Context, Result, bail, ensure};
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::environment::{self, repository};
use e2e::folder::Folder;
use e2e::kubectl::Kubectl;
use e2e::kubeop::{Kubeop, Setup};
use e2e::scenario::{self, PATIENCE, phase};
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::fs;
use tokio::process::Command;

/// A shell as the page's reader has one.
struct Shell {
    folder: Folder,
    page: String,
    variables: Vec<(&'static str, String)>,
}

impl Shell {
    fn new(plane: &ControlPlane, manager: &Kubeop) -> Result<Self> {
        let page = fs::read_to_string(repository().join("docs/operations/run.md")).context("the page")?;
        let kubeconfig = plane.kubeconfig().display().to_string();
        let variables = vec![("KUBECONFIG", kubeconfig), ("MGR", manager.api(None)?.base().to_owned())];
        Ok(Self { folder: Folder::new("shell")?, page, variables })
    }

    /// Runs a line of the page; what it printed.
    async fn run(&self, line: &str) -> Result<String> {
        ensure!(self.page.lines().any(|told| told.trim() == line), "the page does not say: {line}");
        let mut command = Command::new("sh");
        command.args(["-euc", line]).current_dir(self.folder.path()).env("PATH", environment::path()?);
        let ran = command.envs(self.variables.iter().cloned()).output().await.context("a shell")?;
        if !ran.status.success() {
            bail!("{line}: {} {}", ran.status, String::from_utf8_lossy(&ran.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    }
}

/// Waits for a Deployment; its uid.
async fn runs(kubectl: &Kubectl, app: &str) -> Result<String> {
    until(&format!("the Deployment of {app}"), PATIENCE, async || {
        let ran =
            kubectl.run(&format!("-n kubeop-acme-web get deployment {app} -o jsonpath={{.metadata.uid}}")).await?;
        Ok(Seen::when(ran.ok, ran.stdout, ran.stderr))
    })
    .await
}

async fn policy_is(kubectl: &Kubectl, registry: &str) -> Result<()> {
    until("the policy on the cluster", PATIENCE, async || {
        let words = "-n kubeop-system get configmap kubeop-policy -o jsonpath={.data.imageAllowlist}";
        let list = kubectl.stdout(words).await?;
        Ok(Seen::when(list == registry, (), list))
    })
    .await
}

/// Waits until it is told that a name is another's.
async fn refused(api: &Api, path: &str) -> Result<()> {
    let answer = phase(api, path, "Degraded").await?;
    let message = answer.text_at("/status/message")?;
    ensure!(message.contains("belongs to another id"), "{message}");
    Ok(())
}

/// A tenant with a project `web`: their ids.
async fn house(api: &Api, cluster: &str, tenant: &str) -> Result<(String, String)> {
    let tenant = scenario::tenant(api, cluster, tenant).await?;
    let project = scenario::project(api, &tenant, "web").await?.id()?;
    Ok((tenant, project))
}

/// What the old manager had: tenants `acme`, with an app and changed more than once, and `old`; a policy, and a kubeconfig that it issued.
async fn before(api: &Api, plane: &ControlPlane, file: &std::path::Path) -> Result<(Kubeop, Kubectl)> {
    let body = json!({"name": "home", "kubeconfig": plane.kubeconfig_text()?, "autoBootstrap": true});
    let cluster = api.post("/v1/clusters", &body).await?.expect(201)?.id()?;
    let operator = scenario::operator(plane).await?;
    let kubectl = plane.kubectl()?;
    api.put("/v1/platform/policy", &json!({"imageAllowlist": ["docker.io"]})).await?.expect(200)?;
    policy_is(&kubectl, "docker.io").await?;
    let (acme, project) = house(api, &cluster, "acme").await?;
    let (_, old) = house(api, &cluster, "old").await?;
    for path in [format!("/v1/projects/{project}"), format!("/v1/projects/{old}")] {
        phase(api, &path, "Ready").await.with_context(|| operator.tail())?;
    }
    scenario::app(api, &project, "shop", "shop.local").await?;
    runs(&kubectl, "shop").await?;
    for cpu in ["8", "9"] {
        let path = format!("/v1/tenants/{acme}?wait=20");
        api.call("PATCH", &path, Some(&json!({"quotas": {"cpu": cpu}}))).await?.expect(200)?;
    }
    let (_, issued) = scenario::kubeconfig(api, &project, "", file).await?;
    issued.stdout("get pods").await?;
    Ok((operator, issued))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_database_is_begun_anew_while_the_clusters_go_on() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let (kubectl, folder) = (plane.kubectl()?, Folder::new("issued")?);
    let (operator, issued) = before(&manager.api(None)?, &plane, &folder.file("kubeconfig")).await?;
    let shop = runs(&kubectl, "shop").await?;
    // And its database: the next one has a data directory of its own.
    drop(manager);

    // Nobody needs it.
    let by_hand = json!({
        "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "App",
        "metadata": {"name": "by-hand", "namespace": "kubeop-acme-web"},
        "spec": {"delivery": {"image": "docker.io/library/nginx:1.25"}, "host": "by-hand.local"},
    });
    let ran = kubectl.create(&by_hand).await?;
    ensure!(ran.ok, "{}", ran.stderr);
    runs(&kubectl, "by-hand").await.with_context(|| operator.tail())?;

    let manager = Setup::new("manager").start().await?;
    let (api, mut shell) = (manager.api(None)?, Shell::new(&plane, &manager)?);
    shell.run("kubectl get tenants,projects,apps -A -o yaml > before.yaml").await?;
    let kept = fs::read_to_string(shell.folder.file("before.yaml")).context("what was kept")?;
    ensure!(kept.contains("shop.local") && kept.contains("by-hand.local"), "{kept}");
    let policy = shell.run("kubectl -n kubeop-system get configmap kubeop-policy -o yaml").await?;
    ensure!(policy.contains("imageAllowlist: docker.io"), "{policy}");
    shell.run(r#"curl -sSf -X PUT "$MGR/v1/platform/policy" -H 'Content-Type: application/json' -d '{"imageAllowlist": ["docker.io"]}'"#).await?;

    let body = json!({"name": "home", "kubeconfig": plane.kubeconfig_text()?, "autoBootstrap": true});
    let mark = "app.kubeop.io/instance is on namespace kubeop-system";
    api.post("/v1/clusters", &body).await?.expect_error(409, &["another kubeOP instance", mark])?;
    shell.run("kubectl annotate namespace kubeop-system app.kubeop.io/instance-").await?;
    let cluster = api.post("/v1/clusters", &body).await?.expect(201)?.id()?;
    phase(&api, &format!("/v1/clusters/{cluster}"), "Ready").await?;
    policy_is(&kubectl, "docker.io").await?;

    // Access that nobody knows of any more.
    issued.stdout("get pods").await.context("a kubeconfig of the old manager")?;
    shell.run("kubectl -n kubeop-access delete secrets -l app.kubernetes.io/managed-by=kubeop-manager").await?;
    until("what was issued ends", PATIENCE, async || {
        let ran = issued.run("get pods").await?;
        Ok(Seen::when(!ran.ok, (), "it works on"))
    })
    .await?;

    // Names are taken.
    let (acme, project) = house(&api, &cluster, "acme").await?;
    let (old, its_project) = house(&api, &cluster, "old").await?;
    let take_over = [format!("/v1/tenants/{acme}"), format!("/v1/projects/{project}")];
    let replace = [format!("/v1/tenants/{old}"), format!("/v1/projects/{its_project}")];
    for path in take_over.iter().chain(&replace) {
        refused(&api, path).await?;
    }

    // Taken over as it is.
    shell.variables.extend([("TENANT_ID", acme), ("PROJECT_ID", project.clone())]);
    shell.run("kubectl label tenants.platform.kubeop.io acme --overwrite app.kubeop.io/tenant-id=$TENANT_ID").await?;
    shell.run("kubectl annotate tenants.platform.kubeop.io acme --overwrite kubeop.io/wanted=0").await?;
    shell
        .run("kubectl label projects.platform.kubeop.io acme.web --overwrite app.kubeop.io/project-id=$PROJECT_ID")
        .await?;
    shell.run("kubectl annotate projects.platform.kubeop.io acme.web --overwrite kubeop.io/wanted=0").await?;
    for path in &take_over {
        phase(&api, path, "Ready").await.with_context(|| manager.tail())?;
    }
    let app = scenario::app(&api, &project, "shop", "shop.local").await?;
    let app_at = format!("/v1/apps/{app}");
    refused(&api, &app_at).await?;
    shell.variables.push(("APP_ID", app.clone()));
    shell
        .run("kubectl -n kubeop-acme-web label apps.platform.kubeop.io shop --overwrite app.kubeop.io/app-id=$APP_ID")
        .await?;
    shell
        .run("kubectl -n kubeop-acme-web annotate apps.platform.kubeop.io shop --overwrite kubeop.io/wanted=0")
        .await?;
    until("the app is taken over", PATIENCE, async || {
        let answer = api.get(&app_at).await?;
        Ok(Seen::when(answer.json["status"]["synced"] == true, (), answer.text))
    })
    .await?;
    ensure!(runs(&kubectl, "shop").await? == shop, "the app's Deployment is another");
    let quota: Value = kubectl.json("get tenants.platform.kubeop.io acme").await?;
    ensure!(quota["spec"]["quotas"].is_null(), "the row does not prevail: {quota}");

    // Or removed, and made again.
    shell.run("kubectl delete projects.platform.kubeop.io old.web").await?;
    shell.run("kubectl delete tenants.platform.kubeop.io old").await?;
    for path in &replace {
        phase(&api, path, "Ready").await.with_context(|| manager.tail())?;
    }
    Ok(())
}
