//! Setting a cluster up, and taking kubeOP away again without a trace, or but for what others use.

use anyhow::{Context, Result, ensure};
use e2e::api_server::ApiServer;
use e2e::control_plane::ControlPlane;
use e2e::helm::{Helm, chart};
use e2e::inventory::{gone, installed};
use e2e::kubeop::Setup;
use e2e::scenario::{self, PATIENCE};
use e2e::wait::{Seen, until};
use serde_json::json;

/// What others put into our namespaces, and resources that somebody applied, outlive an uninstallation together with what they need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_leaves_what_others_use() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let (kubectl, api, server) = (plane.kubectl()?, manager.api(None)?, ApiServer::new(&plane.kubeconfig_text()?)?);
    let cluster = scenario::register(&api, "shared", &plane.kubeconfig_text()?).await?;
    let tenant = json!({
        "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant", "metadata": {"name": "by-hand"}, "spec": {},
    });
    ensure!(kubectl.create(&tenant).await?.ok, "a Tenant by kubectl");
    kubectl.stdout("-n kubeop-system create configmap theirs").await?;

    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    let left = installed(&server).await?;
    let expected = ["CustomResourceDefinition tenants.platform.kubeop.io", "Namespace kubeop-system"];
    until("the rest is gone", PATIENCE, async || {
        let left = installed(&server).await?;
        Ok(Seen::when(left.iter().map(String::as_str).eq(expected), (), format!("{left:?}")))
    })
    .await
    .with_context(|| format!("at first: {left:?}"))?;
    ensure!(kubectl.exists("tenants.platform.kubeop.io by-hand").await?, "the Tenant is gone");
    ensure!(kubectl.exists("-n kubeop-system configmap theirs").await?, "the ConfigMap is gone");
    // The cluster is nobody's: it can be registered again.
    let again = scenario::register(&api, "again", &plane.kubeconfig_text()?).await?;
    api.get(&format!("/v1/clusters/{again}")).await?.expect(200)?;
    Ok(())
}

/// A namespace goes only when nothing of others is in it, whatever kind that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_takes_no_namespace_with_objects_of_others() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let (kubectl, api, server) = (plane.kubectl()?, manager.api(None)?, ApiServer::new(&plane.kubeconfig_text()?)?);
    for (kind, foreign) in [
        ("role", "create role theirs --verb=get --resource=pods"),
        ("resourcequota", "create quota theirs --hard=pods=10"),
        ("networkpolicy", ""),
    ] {
        let cluster = scenario::register(&api, &format!("with-{kind}"), &plane.kubeconfig_text()?).await?;
        if foreign.is_empty() {
            let policy = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "theirs", "namespace": "kubeop-system"}, "spec": {"podSelector": {}},
            });
            ensure!(kubectl.create(&policy).await?.ok, "a NetworkPolicy by kubectl");
        } else {
            kubectl.stdout(&format!("-n kubeop-system {foreign}")).await?;
        }
        api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
        until("nothing but the namespace", PATIENCE, async || {
            let left = installed(&server).await?;
            Ok(Seen::when(left.iter().eq(["Namespace kubeop-system"]), (), format!("{left:?}")))
        })
        .await
        .with_context(|| format!("with a {kind} of others"))?;
        ensure!(kubectl.exists(&format!("-n kubeop-system {kind} theirs")).await?, "the {kind} is gone");
        kubectl.stdout(&format!("-n kubeop-system delete {kind} theirs")).await?;
    }
    // What Kubernetes makes of itself, and events, hold no namespace.
    let cluster = scenario::register(&api, "without", &plane.kubeconfig_text()?).await?;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "theirs", "namespace": "kubeop-system"},
        "involvedObject": {"kind": "Pod", "namespace": "kubeop-system", "name": "gone"}, "reason": "Gone", "type": "Normal",
    });
    ensure!(kubectl.create(&event).await?.ok, "an Event by kubectl");
    let other = Setup::new("manager").start().await?;
    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    // Nobody's from then on, though its namespaces are still going: another manager may have it.
    let (api, kubeconfig) = (other.api(None)?, plane.kubeconfig_text()?);
    let cluster = scenario::register(&api, "without", &kubeconfig).await?;
    scenario::phase(&api, &format!("/v1/clusters/{cluster}"), "Ready").await?;
    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    gone(&server).await
}

/// What Helm runs needs policy, certificate and lease: without these its webhook, which stays, would deny every pod of every project.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_leaves_a_cluster_of_helm_working() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let Some(helm) = Helm::find(Some(&plane.kubeconfig()))? else { return Ok(()) };
    let (kubectl, api, server) = (plane.kubectl()?, manager.api(None)?, ApiServer::new(&plane.kubeconfig_text()?)?);
    let (chart, release) = (chart().display().to_string(), "kubeop --namespace kubeop-system --create-namespace");
    helm.stdout(&format!("install {release} {chart} --set manager.enabled=false")).await?;
    let cluster = scenario::register(&api, "of-helm", &plane.kubeconfig_text()?).await?;
    let meta = |name: &str, by: &str| json!({"name": name, "namespace": "kubeop-system", "labels": {"app.kubernetes.io/managed-by": by}});
    let autoscaler = json!({
        "minReplicas": 2, "maxReplicas": 5,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "kubeop-admission"},
    });
    for made in [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("kubeop-admission-tls", "kubeop-operator")}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("kubeop-issuer-ca", "kubeop-operator")}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta("kubeop-operator", "kubeop-operator"), "spec": {}}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta("kubeop-admission", "theirs"), "spec": autoscaler}),
    ] {
        let ran = kubectl.create(&made).await?;
        ensure!(ran.ok, "{made}: {}", ran.stderr);
    }
    let before = installed(&server).await?;
    ensure!(before.contains("ConfigMap kubeop-system/kubeop-policy"), "{before:?}");

    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    let after = installed(&server).await?;
    ensure!(before == after, "gone: {:?}", before.difference(&after));
    let needed = ["secret kubeop-admission-tls", "secret kubeop-issuer-ca", "lease kubeop-operator"];
    for what in needed.into_iter().chain(["hpa kubeop-admission"]) {
        ensure!(kubectl.exists(&format!("-n kubeop-system {what}")).await?, "{what} is gone");
    }
    // The cluster is nobody's all the same.
    let mark = r"get namespace kubeop-system -o jsonpath={.metadata.annotations.app\.kubeop\.io/instance}";
    let mark = kubectl.stdout(mark).await?;
    ensure!(mark.is_empty(), "still of {mark}");
    helm.stdout("uninstall kubeop --namespace kubeop-system").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_somebody_took_away_is_told_and_comes_back_with_a_bootstrap() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let (kubectl, api) = (plane.kubectl()?, manager.api(None)?);
    let cluster = scenario::register(&api, "guarded", &plane.kubeconfig_text()?).await?;
    let told = async || {
        let status = api.get(&format!("/v1/clusters/{cluster}/status")).await?.expect(200)?;
        ensure!(status.json["admission"] == false, "nothing answers for admission here: {}", status.text);
        Ok(status.json["messages"].to_string())
    };
    ensure!(!told().await?.contains("ValidatingAdmission"), "{}", told().await?);
    for (kind, name) in
        [("ValidatingAdmissionPolicyBinding", "kubeop-egress"), ("ValidatingAdmissionPolicy", "kubeop-pods")]
    {
        kubectl.stdout(&format!("delete {kind} {name}")).await?;
        let missing = told().await?;
        ensure!(missing.contains(kind) && missing.contains(name), "{kind} {name} is missing, but told: {missing}");
        api.post(&format!("/v1/platform/bootstrap?clusterID={cluster}"), &json!({})).await?.expect(200)?;
        ensure!(!told().await?.contains("ValidatingAdmission"), "{}", told().await?);
    }
    Ok(())
}
