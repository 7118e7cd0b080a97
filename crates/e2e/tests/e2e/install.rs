//! Setting a cluster up: cut off at any moment and run again, and taken away without a trace.

use anyhow::{Context, Result, ensure};
use e2e::control_plane::ControlPlane;
use e2e::helm::{Helm, chart};
use e2e::kubectl::Kubectl;
use e2e::kubeop::Setup;
use e2e::scenario::{self, PATIENCE};
use e2e::wait::{Seen, until};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// Everything that carries the mark of an installation, by kind and name.
async fn installed(kubectl: &Kubectl) -> Result<BTreeSet<String>> {
    let kinds = "namespaces,customresourcedefinitions,configmaps,serviceaccounts,clusterroles,clusterrolebindings,roles,rolebindings,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings,validatingwebhookconfigurations,deployments,services,\
                 poddisruptionbudgets,networkpolicies,priorityclasses,apiservices";
    let words = format!("get {kinds} -A -l app.kubernetes.io/part-of=kubeop -o name --ignore-not-found");
    Ok(kubectl.stdout(&words).await?.lines().map(ToOwned::to_owned).collect())
}

async fn gone(kubectl: &Kubectl) -> Result<()> {
    until("nothing of the installation", PATIENCE, async || {
        let left = installed(kubectl).await?;
        Ok(Seen::when(left.is_empty(), (), format!("{left:?}")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_anywhere_it_is_completed_by_the_next_run() -> Result<()> {
    let setup = Setup::new("manager").with("KUBEOP_OPERATOR_IMAGE", "ghcr.io/kubeop/kubeop:test");
    let (plane, manager) = tokio::join!(ControlPlane::start(), setup.start());
    let (plane, mut manager) = (plane?, manager?);
    let (kubectl, kubeconfig) = (plane.kubectl()?, plane.kubeconfig_text()?);

    let api = manager.api(None)?;
    let cluster = scenario::register(&api, "whole", &kubeconfig).await?;
    let whole = installed(&kubectl).await?;
    for kind in ["deployment.apps/kubeop-operator", "deployment.apps/kubeop-admission", "service/kubeop-admission"] {
        ensure!(whole.contains(kind), "{kind} is not among {whole:?}");
    }
    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    gone(&kubectl).await?;

    let mut cut = 0;
    for after in [40_u64, 100, 200, 350] {
        let api = manager.api(None)?;
        let registering = {
            let (api, kubeconfig) = (api.clone(), kubeconfig.clone());
            tokio::spawn(async move { scenario::register(&api, "cut", &kubeconfig).await })
        };
        tokio::time::sleep(Duration::from_millis(after)).await;
        manager.kill();
        let answered = registering.await.context("the caller failed")?.is_ok();
        let there = installed(&kubectl).await?.len();
        cut += usize::from(!answered && there < whole.len());
        println!("killed after {after} ms: {there} of {} objects were there, answered: {answered}", whole.len());

        manager.restart().await?;
        let api = manager.api(None)?;
        let known = api.get("/v1/clusters").await?.expect(200)?;
        let cluster = match known.text_at("/0/id") {
            Ok(id) => {
                let body = json!({"InstallAdmission": true});
                api.post(&format!("/v1/platform/bootstrap?clusterID={id}"), &body).await?.expect(200)?;
                id
            }
            Err(_) => scenario::register(&api, "cut", &kubeconfig).await?,
        };
        let now = installed(&kubectl).await?;
        ensure!(now == whole, "missing: {:?}; too much: {:?}", whole.difference(&now), now.difference(&whole));
        api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
        gone(&kubectl).await?;
    }
    ensure!(cut > 0, "no run was cut off: the delays are too long for this machine");
    Ok(())
}

/// What others put into our namespaces, and resources that somebody applied, outlive an uninstallation together with what they need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_leaves_what_others_use() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let (kubectl, api) = (plane.kubectl()?, manager.api(None)?);
    let cluster = scenario::register(&api, "shared", &plane.kubeconfig_text()?).await?;
    let tenant = json!({
        "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant", "metadata": {"name": "by-hand"}, "spec": {},
    });
    ensure!(kubectl.create(&tenant).await?.ok, "a Tenant by kubectl");
    kubectl.stdout("-n kubeop-system create configmap theirs").await?;

    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    let left = installed(&kubectl).await?;
    let expected =
        ["customresourcedefinition.apiextensions.k8s.io/tenants.platform.kubeop.io", "namespace/kubeop-system"];
    until("the rest is gone", PATIENCE, async || {
        let left = installed(&kubectl).await?;
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
    let (kubectl, api) = (plane.kubectl()?, manager.api(None)?);
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
            let left = installed(&kubectl).await?;
            Ok(Seen::when(left.iter().eq(["namespace/kubeop-system"]), (), format!("{left:?}")))
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
    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    gone(&kubectl).await
}

/// What Helm runs needs policy, certificate and lease: without these its webhook, which stays, would deny every pod of every project.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_leaves_a_cluster_of_helm_working() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let Some(helm) = Helm::find(Some(&plane.kubeconfig()))? else { return Ok(()) };
    let (kubectl, api) = (plane.kubectl()?, manager.api(None)?);
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
    let before = installed(&kubectl).await?;
    ensure!(before.contains("configmap/kubeop-policy"), "{before:?}");

    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    let after = installed(&kubectl).await?;
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
