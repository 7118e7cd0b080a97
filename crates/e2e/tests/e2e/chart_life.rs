//! The chart over its life on a control plane: install, an operator at work, upgrade, roll-back, uninstall, install again; and the plain manifests.

use anyhow::{Context, Result, ensure};
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::environment::repository;
use e2e::folder::Folder;
use e2e::helm::{Helm, chart};
use e2e::kubectl::Kubectl;
use e2e::kubeop::Setup;
use e2e::scenario::{self, PATIENCE};
use e2e::wait::{Seen, until};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// The chart with another version.
fn next_version(folder: &Folder) -> Result<String> {
    let copy = folder.file("kubeop");
    let status = Command::new("cp").arg("-r").arg(chart()).arg(&copy).status().context("cannot start cp")?;
    ensure!(status.success(), "the chart cannot be copied");
    let file = copy.join("Chart.yaml");
    let text = fs::read_to_string(&file)?.replace(env!("CARGO_PKG_VERSION"), "99.0.0");
    fs::write(&file, text)?;
    Ok(copy.display().to_string())
}

async fn webhooks(kubectl: &Kubectl) -> Result<Vec<Value>> {
    let live = kubectl.json("get validatingwebhookconfiguration kubeop-admission").await?;
    live["webhooks"].as_array().cloned().context("webhooks")
}

async fn left(kubectl: &Kubectl) -> Result<Vec<String>> {
    let cluster = "crds,namespaces,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,\
                   validatingwebhookconfigurations,priorityclasses";
    let namespaced = "all,configmaps,secrets,pvc,serviceaccounts,roles,rolebindings,networkpolicies,pdb";
    let mut all = kubectl.stdout(&format!("get {cluster} -o name")).await?;
    all += &kubectl.stdout(&format!("get {namespaced} -A -o name")).await?;
    let mut names: Vec<String> = all.lines().filter(|line| line.contains("kubeop")).map(ToOwned::to_owned).collect();
    // Pods of a Deployment that is gone take a moment.
    names.retain(|name| !name.starts_with("pod/") && !name.starts_with("replicaset.apps/"));
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_resets_nothing_and_uninstalling_leaves_what_is_documented() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let Some(helm) = Helm::find(Some(&plane.kubeconfig()))? else { return Ok(()) };
    let (kubectl, folder) = (plane.kubectl()?, Folder::new("chart")?);
    let (this, next) = (chart().display().to_string(), next_version(&folder)?);
    let release = "kubeop --namespace kubeop-system";
    let shown = helm.stdout(&format!("install {release} {this} --create-namespace")).await?;
    ensure!(shown.contains("kubectl label namespace kubeop-system"), "the notes do not tell to fence: {shown}");
    let keys = kubectl.json("-n kubeop-system get secret kubeop-manager-keys").await?["data"].clone();
    ensure!(keys["kms-master-key"].as_str().is_some_and(|key| key.len() > 40), "no key was made");
    kubectl.stdout("-n kubeop-system patch configmap kubeop-policy --type=merge -p {\"data\":{\"imageAllowlist\":\"ghcr.io\"}}").await?;

    // cert-manager's part is played by hand: an operator that is told so touches neither certificate nor bundle.
    let bundle = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==";
    for at in 0..2 {
        let patch = format!(r#"[{{"op":"add","path":"/webhooks/{at}/clientConfig/caBundle","value":"{bundle}"}}]"#);
        let words = ["patch", "validatingwebhookconfiguration", "kubeop-admission", "--type=json", "-p", &patch];
        ensure!(kubectl.run_with(&words, None).await?.ok, "the bundle is not taken");
    }
    let kubeconfig = plane.kubeconfig().display().to_string();
    let operator = Setup::new("operator").with("KUBEOP_KUBECONFIG", &kubeconfig);
    let external = operator.clone().with("KUBEOP_ADMISSION_CERTIFICATES", "external").launch()?;
    leads(&kubectl, "").await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    ensure!(!kubectl.exists("secret kubeop-admission-tls -n kubeop-system").await?, "a certificate was made");
    ensure!(
        webhooks(&kubectl).await?.iter().all(|hook| hook["clientConfig"]["caBundle"] == bundle),
        "a bundle was set"
    );
    let holder =
        kubectl.stdout("-n kubeop-system get lease kubeop-operator -o jsonpath={.spec.holderIdentity}").await?;
    drop(external);

    // The usual operator makes both.
    let _operator = operator.launch()?;
    leads(&kubectl, &holder).await?;
    until("a CA bundle by the operator", PATIENCE, async || {
        let hooks = webhooks(&kubectl).await?;
        let done = hooks.iter().all(|hook| hook["clientConfig"]["caBundle"].as_str().is_some_and(|ca| ca != bundle));
        Ok(Seen::when(done, (), format!("{hooks:?}")))
    })
    .await?;
    let before = webhooks(&kubectl).await?;
    ensure!(before.iter().all(|hook| hook["failurePolicy"] == "Fail"), "{before:?}");

    let steps = [format!("upgrade {release} {next}"), "rollback kubeop 1 --namespace kubeop-system".to_owned()];
    for step in steps.into_iter().chain([format!("upgrade {release} {next}")]) {
        helm.stdout(&step).await?;
        ensure!(webhooks(&kubectl).await? == before, "{step}: the webhook was reset: {:?}", webhooks(&kubectl).await?);
        let same = kubectl.json("-n kubeop-system get secret kubeop-manager-keys").await?["data"] == keys;
        ensure!(same, "{step}: the keys changed");
        let allowed =
            kubectl.stdout("-n kubeop-system get configmap kubeop-policy -o jsonpath={.data.imageAllowlist}").await?;
        ensure!(allowed == "ghcr.io", "{step}: the policy was reset to {allowed:?}");
    }
    // While an autoscaler rules, its number of replicas stays.
    let autoscaler = serde_json::json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "kubeop-operator", "namespace": "kubeop-system"},
        "spec": {"minReplicas": 1, "maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "kubeop-operator"}},
    });
    ensure!(kubectl.create(&autoscaler).await?.ok, "the autoscaler is not taken");
    kubectl.stdout("-n kubeop-system scale deployment kubeop-operator --replicas=4").await?;
    helm.stdout(&format!("upgrade {release} {next}")).await?;
    let replicas =
        kubectl.stdout("-n kubeop-system get deployment kubeop-operator -o jsonpath={.spec.replicas}").await?;
    ensure!(replicas == "4", "the upgrade set {replicas} replicas");
    let version = kubectl
        .stdout(r"get crd apps.platform.kubeop.io -o jsonpath={.metadata.annotations.kubeop\.io/version}")
        .await?;
    ensure!(version == "99.0.0", "definitions are not upgraded: {version}");

    kubectl.stdout("-n kubeop-system delete hpa kubeop-operator").await?;
    helm.stdout("uninstall kubeop --namespace kubeop-system").await?;
    let crds = ["apps", "certificates", "dnsrecords", "policies", "projects", "tenants"];
    let crds = crds.map(|kind| format!("customresourcedefinition.apiextensions.k8s.io/{kind}.platform.kubeop.io"));
    let others = [
        "configmap/kubeop-policy",
        "namespace/kubeop-access",
        "namespace/kubeop-system",
        "persistentvolumeclaim/kubeop-manager-data",
        "secret/kubeop-admission-tls",
        "secret/kubeop-manager-keys",
    ];
    let mut documented: Vec<String> = crds.into_iter().chain(others.map(ToOwned::to_owned)).collect();
    documented.sort();
    let found = until("uninstalled", PATIENCE, async || {
        let found = left(&kubectl).await?;
        Ok(Seen::when(found.len() <= documented.len(), found.clone(), format!("{found:?}")))
    })
    .await?;
    ensure!(found == documented, "left: {found:?}");
    let page = fs::read_to_string(repository().join("docs/operations/install.md"))?;
    for name in others.map(|name| name.rsplit('/').next().unwrap_or_default()) {
        ensure!(page.contains(name), "docs/operations/install.md does not say that {name} is left");
    }

    // Again, with what was left.
    helm.stdout(&format!("install {release} {this}")).await?;
    ensure!(kubectl.json("-n kubeop-system get secret kubeop-manager-keys").await?["data"] == keys, "other keys");
    Ok(())
}

/// Waits until an operator other than `before` leads.
async fn leads(kubectl: &Kubectl, before: &str) -> Result<()> {
    until("an operator leads", PATIENCE, async || {
        let words = "-n kubeop-system get lease kubeop-operator -o jsonpath={.spec.holderIdentity}";
        let holder = kubectl.stdout(words).await?;
        Ok(Seen::when(!holder.is_empty() && holder != before, (), holder))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_manifests_apply_again_and_again() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let (kubectl, folder) = (plane.kubectl()?, repository().join("deploy/k8s/install").display().to_string());
    for _ in 0..2 {
        for part in ["cluster", "manager"] {
            let ran = kubectl.run(&format!("apply --server-side -k {folder}/{part}")).await?;
            ensure!(ran.ok && !ran.stderr.contains("arning"), "{part}: {}", ran.stderr);
        }
    }
    kubectl.stdout(&format!("create -f {folder}/cluster/policy.yaml")).await?;
    ensure!(kubectl.exists("deployment kubeop-admission -n kubeop-system").await?, "no admission");
    Ok(())
}

/// A cluster that a manager set up, handed over to Helm as docs/operations/install.md says; the manager then leaves it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_takes_over_what_a_manager_bootstrapped() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let Some(helm) = Helm::find(Some(&plane.kubeconfig()))? else { return Ok(()) };
    let (kubectl, api) = (plane.kubectl()?, manager.api(None)?);
    let cluster = scenario::register(&api, "handed-over", &plane.kubeconfig_text()?).await?;
    let chart = chart().display().to_string();
    let words = format!("install kubeop {chart} --namespace kubeop-system --set manager.enabled=false");
    helm.stdout(&format!("{words} --take-ownership --force-conflicts")).await?;
    let by = r"-o jsonpath={.metadata.labels.app\.kubernetes\.io/managed-by}";
    for what in [
        "deployment kubeop-operator",
        "deployment kubeop-admission",
        "pdb kubeop-admission",
        "priorityclass kubeop-platform",
    ] {
        let by = kubectl.stdout(&format!("-n kubeop-system get {what} {by}")).await?;
        ensure!(by == "Helm", "{what} is of {by:?}");
    }
    bootstrapped(&api, &cluster).await
}

/// The plain manifests first, then a manager that is told to set the cluster up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_takes_over_what_the_manifests_installed() -> Result<()> {
    let (plane, manager) = tokio::join!(ControlPlane::start(), Setup::new("manager").start());
    let (plane, manager) = (plane?, manager?);
    let (kubectl, api) = (plane.kubectl()?, manager.api(None)?);
    let folder = repository().join("deploy/k8s/install/cluster").display().to_string();
    kubectl.stdout(&format!("apply --server-side -k {folder}")).await?;
    kubectl.stdout(&format!("create -f {folder}/policy.yaml")).await?;
    let cluster = scenario::register(&api, "manifests", &plane.kubeconfig_text()?).await?;
    bootstrapped(&api, &cluster).await
}

/// The set-up of the cluster succeeded, and does when it is repeated.
async fn bootstrapped(api: &Api, cluster: &str) -> Result<()> {
    let shown = api.get(&format!("/v1/clusters/{cluster}")).await?.expect(200)?;
    ensure!(shown.phase() != "Degraded", "{}", shown.text);
    api.post(&format!("/v1/platform/bootstrap?clusterID={cluster}"), &json!({"InstallAdmission": true}))
        .await?
        .expect(200)?;
    let shown = api.get(&format!("/v1/clusters/{cluster}")).await?.expect(200)?;
    ensure!(shown.phase() != "Degraded", "{}", shown.text);
    Ok(())
}
