//! Releases side by side: this manager with the clusters of the release before it, and the other way round.

use anyhow::{Context, Result, ensure};
use e2e::kubectl::Kubectl;
use e2e::node::{self, Node, PATIENCE, Platform};
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::json;

const SYSTEM: &str = "kubeop-system";
const ROLES: [&str; 2] = ["operator", "admission"];

/// A tenant's whole path: a project, an app in it, a kubeconfig for it, and an image that admission refuses.
async fn works(platform: &Platform, admin: &Kubectl, name: &str) -> Result<()> {
    let api = &platform.api;
    node::ready(api, &platform.cluster).await.with_context(|| name.to_owned())?;
    let home = scenario::home(api, &platform.cluster, name).await.with_context(|| name.to_owned())?;
    let app = scenario::app(api, &home.project, "web", &format!("{name}.example.com")).await?;
    until(&format!("{name}: the app"), PATIENCE, async || {
        let answer = api.get(&format!("/v1/apps/{app}")).await?;
        Ok(Seen::when(answer.phase() == "Ready", (), answer.text))
    })
    .await?;
    let refused = scenario::pod("probe", &home.namespace, &["registry.example.com/bad:1"]).to_string();
    until(&format!("{name}: the policy in force"), PATIENCE, async || {
        let ran = admin.run_with(&["create", "--dry-run=server", "-f", "-"], Some(&refused)).await?;
        Ok(Seen::when(!ran.ok && ran.stderr.contains("registry.example.com"), (), ran.stderr))
    })
    .await?;
    let folder = node::folder()?;
    let (_, user) = scenario::kubeconfig(api, &home.project, "", &node::file(&folder, name)).await?;
    ensure!(user.run("get pods").await?.ok, "{name}: the kubeconfig does not work");
    platform.delete_tenant(&home.tenant).await
}

/// Rolls operator and admission to an image, as someone does who upgrades a cluster before its manager.
async fn roll(admin: &Kubectl, image: &str) -> Result<()> {
    for role in ROLES {
        admin.stdout(&format!("-n {SYSTEM} set image deployment/kubeop-{role} *={image}")).await?;
        node::rolled_out(admin, SYSTEM, &format!("kubeop-{role}")).await?;
    }
    Ok(())
}

/// The images of operator and admission.
async fn images(admin: &Kubectl) -> Result<Vec<String>> {
    let path = "{.items[*].spec.template.spec.containers[0].image}";
    let words = format!("-n {SYSTEM} get deployments -l app.kubernetes.io/name=kubeop -o jsonpath={path}");
    Ok(admin.stdout(&words).await?.split_whitespace().map(ToOwned::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn a_release_works_beside_the_one_before_it() -> Result<()> {
    let Some(previous) = e2e::environment::previous()? else {
        println!("skipped: the history here does not hold the release before this one");
        return Ok(());
    };
    let node = Node::take().await?;
    let admin = node.kubectl()?;
    let before = || node.manager().of(Some(previous.kubeop.clone())).with("KUBEOP_OPERATOR_IMAGE", &previous.image);
    let policy = json!({"imageAllowlist": ["docker.io"]});

    // The manager first, then the cluster.
    let mut platform = node.platform_of(before()).await?;
    platform.api.put("/v1/platform/policy", &policy).await?.expect(200)?;
    works(&platform, &admin, "before").await?;
    platform.manager.replace(None);
    platform.manager.reconfigure("KUBEOP_OPERATOR_IMAGE", node.image());
    platform.manager.restart().await?;
    platform.api = platform.manager.api(None)?;
    ensure!(
        images(&admin).await? == [previous.image.as_str(); 2],
        "the cluster moved by itself: {:?}",
        images(&admin).await?
    );
    works(&platform, &admin, "manager-first").await?;
    let bootstrap = format!("/v1/platform/bootstrap?clusterID={}", platform.cluster);
    platform.api.post(&bootstrap, &json!({})).await?.expect(200)?;
    for role in ROLES {
        node::rolled_out(&admin, SYSTEM, &format!("kubeop-{role}")).await?;
    }
    ensure!(images(&admin).await? == [node.image(); 2], "not upgraded: {:?}", images(&admin).await?);
    works(&platform, &admin, "both").await?;
    platform.uninstall().await?;
    until("nothing is left", PATIENCE, async || {
        let there = admin.exists(&format!("namespace {SYSTEM}")).await?;
        Ok(Seen::when(!there, (), "the namespace is there"))
    })
    .await?;

    // The cluster first.
    let platform = node.platform_of(before()).await?;
    platform.api.put("/v1/platform/policy", &policy).await?.expect(200)?;
    roll(&admin, node.image()).await?;
    works(&platform, &admin, "cluster-first").await?;
    platform.uninstall().await
}
