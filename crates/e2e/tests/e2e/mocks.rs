//! `withMocks` and `Mocks`: the built-in stand-ins for outside providers, from the switch to the last trace.

use anyhow::{Result, ensure};
use e2e::api::Api;
use e2e::control_plane::ControlPlane;
use e2e::environment::repository;
use e2e::kubectl::Kubectl;
use e2e::kubeop::Setup;
use e2e::scenario::PATIENCE;
use e2e::wait::{Seen, until};
use serde_json::json;

const COREFILE: &str = ".:53 {\n    errors\n    kubernetes cluster.local\n    reload\n}\n";
const HOST: &str = "web.local";

async fn switch(api: &Api, cluster: &str, mocks: bool) -> Result<()> {
    let path = format!("/v1/platform/bootstrap?clusterID={cluster}");
    api.post(&path, &json!({"Mocks": mocks})).await?.expect(200)?;
    Ok(())
}

async fn reason(kubectl: &Kubectl, resource: &str, wanted: &str) -> Result<()> {
    until(&format!("{resource}: {wanted}"), PATIENCE, async || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
        let ran = kubectl.run_with(&["get", resource, "-o", path], None).await?;
        Ok(Seen::when(ran.stdout.trim() == wanted, (), format!("{} {}", ran.stdout, ran.stderr)))
    })
    .await
}

async fn corefile(kubectl: &Kubectl) -> Result<String> {
    let map = kubectl.json("-n kube-system get configmap coredns").await?;
    Ok(map.pointer("/data/Corefile").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn come_with_the_switch_and_go_with_the_installation() -> Result<()> {
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), Setup::dev().start());
    let (plane, kubeop) = (plane?, kubeop?);
    let (api, kubectl) = (kubeop.api(None)?, plane.kubectl()?);
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns", "namespace": "kube-system"},
        "data": {"Corefile": COREFILE},
    });
    ensure!(kubectl.create(&config).await?.ok, "ConfigMap coredns");
    let body = json!({"name": "plain", "kubeconfig": plane.kubeconfig_text()?, "autoBootstrap": true});
    let cluster = api.post("/v1/clusters", &body).await?.expect(201)?.id()?;
    until("an operator", PATIENCE, async || {
        let status = api.get(&format!("/v1/clusters/{cluster}/status")).await?;
        Ok(Seen::when(status.json.pointer("/operator") == Some(&json!(true)), (), status.text))
    })
    .await?;

    // Without the switch a host is a claim alone, and nothing of the mocks is there.
    let samples = repository().join("deploy/k8s/samples").display().to_string();
    kubectl.stdout(&format!("apply -f {samples}/01-tenant.yaml -f {samples}/02-project.yaml")).await?;
    kubectl.stdout("wait --for=condition=Ready project/acme.web --timeout=60s").await?;
    kubectl.stdout(&format!("apply -f {samples}/kubeop-web/01-app.yaml")).await?;
    reason(&kubectl, &format!("dnsrecord/{HOST}"), "NoProvider").await?;
    let mocks = ["-n kubeop-system configmap kubeop-providers", "-n kube-system role kubeop:operator-mocks"];
    for object in mocks {
        ensure!(!kubectl.exists(object).await?, "{object} is there without mocks");
    }
    ensure!(kubectl.stdout("get certificates.platform.kubeop.io -o name").await?.is_empty(), "a Certificate");

    switch(&api, &cluster, true).await?;
    reason(&kubectl, &format!("dnsrecord/{HOST}"), "Ready").await?;
    reason(&kubectl, "certificate.platform.kubeop.io/kubeop-web.web", "Ready").await?;
    ensure!(kubectl.exists("-n kubeop-web secret kubeop-tls.web").await?, "no Secret");
    let shown = kubectl.stdout("get dnsrecords,certificates.platform.kubeop.io -o wide").await?;
    println!("{shown}");
    ensure!(corefile(&kubectl).await?.contains("template IN A web.local"), "{}", corefile(&kubectl).await?);
    let status = format!("/v1/platform/status?clusterID={cluster}");
    ensure!(api.get(&status).await?.expect(200)?.json.pointer("/mocks") == Some(&json!(true)), "status");

    // Again, and switched off: what is installed stays.
    let before = kubectl.stdout("-n kubeop-web get secret kubeop-tls.web -o jsonpath={.data}").await?;
    switch(&api, &cluster, true).await?;
    switch(&api, &cluster, false).await?;
    let put = api.get(&format!("/v1/clusters/{cluster}")).await?.expect(200)?;
    ensure!(put.json.pointer("/with_mocks") == Some(&json!(true)), "{}", put.text);
    for object in mocks {
        ensure!(kubectl.exists(object).await?, "{object} is gone");
    }
    let after = kubectl.stdout("-n kubeop-web get secret kubeop-tls.web -o jsonpath={.data}").await?;
    ensure!(before == after, "the certificate was issued again");
    reason(&kubectl, &format!("dnsrecord/{HOST}"), "Ready").await?;

    // The app is still there: the section goes with the installation, not with it.
    ensure!(corefile(&kubectl).await? != COREFILE, "nothing is left to take away");
    api.delete(&format!("/v1/clusters/{cluster}?uninstall=true")).await?.expect(204)?;
    let left = corefile(&kubectl).await?;
    ensure!(left == COREFILE, "{left}");
    for object in mocks {
        ensure!(!kubectl.exists(object).await?, "{object} stayed");
    }
    Ok(())
}
