//! What the chart does by itself, everything with SQLite on a volume: installed as the release before, used, upgraded while reviews are asked for,
//! rolled back, upgraded again, restarted, uninstalled.

use anyhow::{Context, Result, ensure};
use e2e::api::Api;
use e2e::environment::{self, repository};
use e2e::folder::Folder;
use e2e::helm::{Helm, chart};
use e2e::kubectl::Kubectl;
use e2e::leftovers;
use e2e::node::{self, Node, PATIENCE};
use e2e::reviews::Reviews;
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SYSTEM: &str = "kubeop-system";
/// The user and group of our images.
const USER: u32 = 65_532;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn the_default_is_upgraded_from_the_release_before() -> Result<()> {
    let node = Node::take().await?;
    let admin = node.kubectl()?;
    let helm = Helm::find(Some(&node.kubeconfig()?))?.context("helm is needed beside a node")?;
    let volume = Folder::new("volume")?;
    for object in storage(&node, volume.path())? {
        node::apply(&admin, &object.to_string()).await?;
    }
    node::apply(&admin, &std::fs::read_to_string(repository().join("deploy/k8s/install/cluster/namespace.yaml"))?)
        .await?;
    let (before, image) = match environment::previous()? {
        Some(previous) => (previous.chart, previous.image),
        None => (chart(), node.image().to_owned()),
    };
    helm.stdout(&format!("install kubeop {}", release(&before, &image)?)).await?;

    // At work: the cluster that it runs in is registered with it.
    let api = node::api_inside(&admin).await?;
    let cluster = scenario::register(&api, "own", &node.kubeconfig_inside()?).await?;
    node::ready(&api, &cluster).await?;
    let home = scenario::home(&api, &cluster, "kept").await?;
    api.put("/v1/platform/policy", &json!({"imageAllowlist": ["docker.io"]})).await?.expect(200)?;
    let data = std::fs::metadata(volume.path().join("kubeop/kubeop.db")).context("the database on the volume")?;
    ensure!(data.uid() == USER && data.gid() == USER, "the database is of {}:{}", data.uid(), data.gid());

    upgrade(&helm, &admin, node.image(), "").await?;
    works(&api, &cluster, &home).await?;
    // How the release before ends its pods is its own; from this one on no review fails.
    node::replaced(&admin, "admission").await?;
    let reviews = Reviews::start(&node.api_server()?, &home.namespace).await?;
    upgrade(&helm, &admin, &node.next_image(), "").await?;
    node::replaced(&admin, "admission").await?;
    reviews.all_answered("an upgrade by Helm").await?;
    works(&api, &cluster, &home).await?;

    // Back to the release before, which is content with this one's database and takes an object of Helm's for its own, and forward again.
    let forced = "--force-conflicts";
    helm.stdout(&format!("rollback kubeop 1 --namespace {SYSTEM} {forced} --wait --timeout 110s")).await?;
    runs(&admin, &image).await?;
    works(&api, &cluster, &home).await?;
    upgrade(&helm, &admin, node.image(), forced).await?;
    works(&api, &cluster, &home).await?;
    upgrade(&helm, &admin, &node.next_image(), "").await?;
    works(&api, &cluster, &home).await?;
    admin.stdout(&format!("-n {SYSTEM} delete pods -l app.kubernetes.io/component=manager --wait=true")).await?;
    node::rolled_out(&admin, SYSTEM, "kubeop-manager").await?;
    works(&api, &cluster, &home).await?;
    helm.stdout(&format!("test kubeop --namespace {SYSTEM} --timeout 90s")).await?;

    api.put("/v1/platform/policy", &json!({})).await?.expect(200)?;
    node::delete_tenant(&api, &home.tenant).await?;
    api.delete(&format!("/v1/clusters/{cluster}")).await?.expect(204)?;
    helm.stdout(&format!("uninstall kubeop --namespace {SYSTEM} --wait --timeout 90s")).await?;
    let claim = format!("persistentvolumeclaim kubeop-manager-data -n {SYSTEM}");
    ensure!(admin.exists(&claim).await?, "the data went with the release");
    admin.stdout(&format!("delete {claim}")).await?;
    admin.stdout("delete persistentvolume,storageclass -l example.com/test=volume").await?;
    leftovers::remove(&admin).await
}

/// A storage class that is the default, and a folder of this machine as the only volume of it.
fn storage(node: &Node, folder: &Path) -> Result<[Value; 2]> {
    let labels = json!({"example.com/test": "volume"});
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node.fact("/nodeName")?]});
    Ok([
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "kubernetes.io/no-provisioner",
            "metadata": {"name": "folder", "labels": labels, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "volumeBindingMode": "WaitForFirstConsumer",
        }),
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "folder", "labels": labels},
            "spec": {
                "storageClassName": "folder", "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "local": {"path": folder},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }),
    ])
}

/// Upgrades to this release's chart with an image.
async fn upgrade(helm: &Helm, admin: &Kubectl, image: &str, with: &str) -> Result<()> {
    helm.stdout(&format!("upgrade kubeop {} {with}", release(&chart(), image)?)).await?;
    runs(admin, image).await
}

/// All three roles are of this image.
async fn runs(admin: &Kubectl, image: &str) -> Result<()> {
    let images = "-o jsonpath={.items[*].spec.template.spec.containers[0].image}";
    let images = admin.stdout(&format!("-n {SYSTEM} get deployments {images}")).await?;
    ensure!(images.split_whitespace().eq([image; 3]), "not of {image}: {images}");
    Ok(())
}

/// helm's words for a chart with an image.
fn release(chart: &Path, image: &str) -> Result<String> {
    let (repository, tag) = image.rsplit_once(':').context("the image has no tag")?;
    Ok(format!(
        "{} --namespace {SYSTEM} --set image.repository={repository} --set image.tag={tag} --wait --timeout 110s",
        chart.display()
    ))
}

/// What was there is there, to the token, and goes on.
async fn works(api: &Api, cluster: &str, home: &scenario::Home) -> Result<()> {
    until("the tenant of before", PATIENCE, async || {
        let answer = api.get(&format!("/v1/tenants/{}", home.tenant)).await?;
        Ok(Seen::when(answer.status == 200 && answer.json["name"] == home.tenant_name.as_str(), (), answer.text))
    })
    .await?;
    node::ready(api, cluster).await?;
    let project = scenario::project(api, &home.tenant, &scenario::unique("p")).await?.id()?;
    scenario::phase(api, &format!("/v1/projects/{project}"), "Ready").await.map(drop)
}
