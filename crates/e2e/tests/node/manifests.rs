//! The plain manifests as docs/operations/install.md says: overlays with an image, two Secrets, applied, applied again, used, handed to a manager, upgraded.

use anyhow::{Context, Result, ensure};
use e2e::environment::repository;
use e2e::folder::Folder;
use e2e::kubectl::Kubectl;
use e2e::leftovers;
use e2e::node::{self, Node, PATIENCE};
use e2e::postgres::Database;
use e2e::proxy::Proxy;
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::Path;

const SYSTEM: &str = "kubeop-system";
const WRONG: &str = "registry.example.com/bad:1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn the_manifests_run_and_are_upgraded() -> Result<()> {
    let node = Node::take().await?;
    let (admin, folder) = (node.kubectl()?, Folder::new("manifests")?);
    let database = Database::create().await?;
    let (port, host) = (database.port()?, node.fact("/hostAddress")?.parse::<Ipv4Addr>().context("an address")?);
    let proxy = Proxy::start_at(host, port).await?;

    autoscaled(&admin, &folder).await?;
    apply(&admin, &folder, "cluster", node.image()).await?;
    let policy = repository().join("deploy/k8s/install/cluster/policy.yaml");
    admin.stdout(&format!("create -f {}", policy.display())).await?;
    for role in ["operator", "admission"] {
        node::rolled_out(&admin, SYSTEM, &format!("kubeop-{role}")).await?;
    }
    // Again, as it is: nothing is in the way.
    apply(&admin, &folder, "cluster", node.image()).await?;
    secret(&admin, "kubeop-manager-database", &json!({"url": database.url_at(&host.to_string(), proxy.port())?}))
        .await?;
    let (signing, master) =
        ("c2lnbmluZyBrZXkgb2YgYSB0ZXN0LCAzMiBieXRlcyEu", "bWFzdGVyIGtleSBvZiBhIHRlc3QsIDMyIGJ5dGVzISE=");
    secret(&admin, "kubeop-manager-keys", &json!({"jwt-signing-key": signing, "kms-master-key": master})).await?;
    apply(&admin, &folder, "manager", node.image()).await?;
    node::rolled_out(&admin, SYSTEM, "kubeop-manager").await?;

    let api = node::api_inside(&admin).await?;
    api.get("/metrics").await?.expect_error(404, &["KUBEOP_METRICS_ADDR"])?;
    let metrics = node::forwarded(&admin, &format!("-n {SYSTEM} deployment/kubeop-manager"), 9090, "/metrics").await?;
    ensure!(metrics.contains("kubeop_manager_clusters_served"), "no metrics at their own address: {metrics}");
    let cluster = scenario::register(&api, "own", &node.kubeconfig_inside()?).await?;
    node::ready(&api, &cluster).await?;
    let home = scenario::home(&api, &cluster, "plain").await?;
    api.put("/v1/platform/policy", &json!({"imageAllowlist": ["docker.io"]})).await?.expect(200)?;
    until("a disallowed image is refused", PATIENCE, async || {
        let ran = admin.create(&scenario::pod("bad", &home.namespace, &[WRONG])).await?;
        ensure!(!ran.ok, "a pod of a disallowed image was made");
        Ok(Seen::when(ran.stderr.contains(WRONG), (), ran.stderr))
    })
    .await?;

    // The cluster's part is the manager's now, and nothing goes back and forth between the two.
    let refused =
        apply(&admin, &folder, "cluster", node.image()).await.err().context("the manager's work was undone")?;
    ensure!(refused.to_string().contains("conflict with \"kubeop\""), "{refused}");
    let next = node.next_image();
    apply(&admin, &folder, "manager", &next).await?;
    node::replaced(&admin, "manager").await?;
    api.post(&format!("/v1/platform/bootstrap?clusterID={cluster}"), &json!({})).await?.expect(200)?;
    for role in ["operator", "admission"] {
        node::rolled_out(&admin, SYSTEM, &format!("kubeop-{role}")).await?;
    }
    let images = "-o jsonpath={.items[*].spec.template.spec.containers[0].image}";
    let images = admin.stdout(&format!("-n {SYSTEM} get deployments {images}")).await?;
    ensure!(images.split_whitespace().eq([next.as_str(); 3]), "not upgraded to {next}: {images}");
    node::ready(&api, &cluster).await?;
    let project = scenario::project(&api, &home.tenant, &scenario::unique("p")).await?.id()?;
    scenario::phase(&api, &format!("/v1/projects/{project}"), "Ready").await?;
    api.put("/v1/platform/policy", &json!({})).await?.expect(200)?;
    node::delete_tenant(&api, &home.tenant).await?;
    leftovers::remove(&admin).await?;
    database.drop_it().await
}

/// The patch for clusters with an autoscaler, word for word.
async fn autoscaled(admin: &Kubectl, folder: &Folder) -> Result<()> {
    let told = std::fs::read_to_string(repository().join("docs/operations/install.md")).context("install.md")?;
    let patch =
        told.lines().find(|line| line.contains("path\": \"/spec/replicas")).context("no patch is documented")?;
    let overlay = folder.file("autoscaled");
    std::fs::create_dir_all(&overlay).context("the overlay's folder")?;
    let base = from(&overlay, &repository().join("deploy/k8s/install/cluster"))?;
    let text = format!("resources: [{base}]\npatches:\n{patch}\n");
    std::fs::write(overlay.join("kustomization.yaml"), text).context("the overlay")?;
    let built = admin.stdout(&format!("kustomize {}", overlay.display())).await?;
    ensure!(built.contains("kind: Deployment") && !built.contains("\n  replicas:"), "{built}");
    Ok(())
}

/// Applies one of the two folders through an overlay that sets the image.
async fn apply(admin: &Kubectl, folder: &Folder, part: &str, image: &str) -> Result<()> {
    let (name, tag) = image.rsplit_once(':').context("the image has no tag")?;
    let overlay = folder.file(part);
    std::fs::create_dir_all(&overlay).context("the overlay's folder")?;
    let mut kustomization = json!({
        "resources": [from(&overlay, &repository().join("deploy/k8s/install").join(part))?],
        "images": [{"name": "ghcr.io/kubeop/kubeop", "newName": name, "newTag": tag}],
    });
    if part == "manager" {
        let environment = json!([{"name": "KUBEOP_OPERATOR_IMAGE", "value": image}]);
        let patch = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kubeop-manager", "namespace": SYSTEM},
            "spec": {"template": {"spec": {"containers": [{"name": "manager", "env": environment}]}}},
        });
        kustomization["patches"] = json!([{"patch": patch.to_string()}]);
    }
    std::fs::write(overlay.join("kustomization.yaml"), kustomization.to_string()).context("the overlay")?;
    let ran = admin.run(&format!("apply --server-side -k {}", overlay.display())).await?;
    ensure!(ran.ok && !ran.stderr.contains("arning"), "{part}: {}", ran.stderr);
    Ok(())
}

/// A path relative to a folder: kustomize takes no other.
fn from(folder: &Path, path: &Path) -> Result<String> {
    let (folder, path) = (folder.canonicalize().context("a folder")?, path.canonicalize().context("a path")?);
    Ok(format!("{}{}", "../".repeat(folder.components().count() - 1), path.strip_prefix("/")?.display()))
}

async fn secret(admin: &Kubectl, name: &str, text: &Value) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": SYSTEM}, "stringData": text,
    });
    node::apply(admin, &secret.to_string()).await
}
