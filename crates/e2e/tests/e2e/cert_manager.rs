//! The chart with `admission.certManager.enabled` and cert-manager's own controllers, with the rights that cert-manager's own chart gives them: the
//! certificate is issued, injected, served, renewed, and its CA replaced, while the API server asks admission.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::control_plane::ControlPlane;
use e2e::environment::{self, repository};
use e2e::folder::Folder;
use e2e::go;
use e2e::helm::{Helm, chart};
use e2e::kubectl::Kubectl;
use e2e::kubeop::{Kubeop, Setup};
use e2e::process::{self, Process};
use e2e::scenario::{PATIENCE, pod};
use e2e::wait::{Seen, until};
use reqwest::tls::TlsInfo;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

const SECRET: &str = "kubeop-admission-tls";
const CA_SECRET: &str = "kubeop-admission-ca";
/// What the API server expects in the certificate.
const NAME: &str = "kubeop-admission.kubeop-system.svc";

/// What cert-manager's chart installs, without its pods and without its webhook, which would be asked and is not there.
async fn install_cert_manager(helm: &Helm, kubectl: &Kubectl) -> Result<()> {
    let release = go::dependency("cert-manager", "github.com/cert-manager/cert-manager").await?;
    let chart = release.join("deploy/charts/cert-manager").display().to_string();
    let words = format!("template cert-manager {chart} --namespace cert-manager --no-hooks --set crds.enabled=true");
    let mut wanted = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cert-manager"}})];
    for text in helm.stdout(&words).await?.split("\n---") {
        let object: Value = serde_saphyr::from_str(text).context("cert-manager's chart")?;
        let kind = object["kind"].as_str().unwrap_or_default();
        if matches!(kind, "CustomResourceDefinition" | "ServiceAccount") || kind.contains("Role") {
            wanted.push(object);
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": wanted}).to_string();
    let ran = kubectl.run_with(&["apply", "--server-side", "-f", "-"], Some(&list)).await?;
    ensure!(ran.ok, "{}", ran.stderr);
    let kinds = "crd/issuers.cert-manager.io crd/certificates.cert-manager.io crd/certificaterequests.cert-manager.io";
    kubectl.stdout(&format!("wait --for=condition=Established --timeout=30s {kinds}")).await.map(drop)
}

async fn start_cert_manager(program: &Path, plane: &ControlPlane, log: &Path) -> Result<Process> {
    let mut command = process::tied(program)?;
    for account in ["cert-manager", "cert-manager-cainjector"] {
        command.arg(plane.account("cert-manager", account).await?);
    }
    Process::start(command, log)
}

async fn kubeop(plane: &ControlPlane, role: &'static str, variable: &str, value: &str) -> Result<Kubeop> {
    let kubeconfig = plane.account("kubeop-system", &format!("kubeop-{role}")).await?.display().to_string();
    Setup::new(role).with("KUBEOP_KUBECONFIG", &kubeconfig).with(variable, value).launch()
}

/// A Secret as cert-manager fills it.
async fn secret(kubectl: &Kubectl, name: &str) -> Result<Value> {
    Ok(kubectl.json(&format!("-n kubeop-system get secret {name}")).await?["data"].take())
}

/// Waits until a Secret holds another certificate than `before`; returns its content.
async fn issued(kubectl: &Kubectl, name: &str, before: &Value) -> Result<Value> {
    until(&format!("a new certificate in {name}"), PATIENCE, async || {
        let data = secret(kubectl, name).await?;
        let there =
            data["tls.crt"].as_str().is_some_and(|text| !text.is_empty()) && data["tls.crt"] != before["tls.crt"];
        Ok(Seen::when(there, data.clone(), format!("{name}: {}", data["tls.crt"])))
    })
    .await
}

/// Waits until every webhook trusts the CA of the Secret; cainjector keeps the one before beside it.
async fn injected(kubectl: &Kubectl, data: &Value) -> Result<()> {
    let wanted = decoded(&data["ca.crt"])?;
    ensure!(!wanted.is_empty(), "the Secret has no ca.crt");
    until("cainjector's bundle", PATIENCE, async || {
        let live = kubectl.json("get validatingwebhookconfiguration kubeop-admission").await?;
        let hooks = live["webhooks"].as_array().context("webhooks")?;
        let bundles: Vec<String> =
            hooks.iter().map(|hook| decoded(&hook["clientConfig"]["caBundle"])).collect::<Result<_>>()?;
        let done = bundles.len() == 2 && bundles.iter().all(|bundle| bundle.contains(wanted.trim()));
        Ok(Seen::when(done, (), format!("{bundles:?}")))
    })
    .await
}

/// The text in base64; none where there is nothing.
fn decoded(value: &Value) -> Result<String> {
    Ok(String::from_utf8(BASE64_STANDARD.decode(value.as_str().unwrap_or_default())?)?)
}

/// What is not in a pod here is reached at this host, under the name and with the certificate of the Service.
async fn point_service_at(kubectl: &Kubectl, address: SocketAddr) -> Result<()> {
    let service =
        json!({"spec": {"type": "ExternalName", "externalName": "localhost", "clusterIP": null, "clusterIPs": null}});
    let port = |at: u8| json!({"op": "replace", "path": format!("/webhooks/{at}/clientConfig/service/port"), "value": address.port()});
    let (service, ports) = (service.to_string(), json!([port(0), port(1)]).to_string());
    for words in [
        ["-n", "kubeop-system", "patch", "service", "kubeop-admission", "--type=merge", "-p", &service],
        ["-n", "default", "patch", "validatingwebhookconfiguration", "kubeop-admission", "--type=json", "-p", &ports],
    ] {
        let ran = kubectl.run_with(&words, None).await?;
        ensure!(ran.ok, "{words:?}: {}", ran.stderr);
    }
    Ok(())
}

/// Waits until admission serves the certificate that is in the Secret, for which its CA vouches.
async fn served(kubectl: &Kubectl, address: SocketAddr) -> Result<()> {
    until("admission serves the certificate of the Secret", PATIENCE, async || {
        let data = secret(kubectl, SECRET).await?;
        let (chain, authority) = (decoded(&data["tls.crt"])?, decoded(&data["ca.crt"])?);
        let body: String = chain.lines().skip(1).take_while(|line| !line.starts_with("-----")).collect();
        let leaf = BASE64_STANDARD.decode(&body)?;
        let builder = Client::builder().no_proxy().tls_info(true).resolve(NAME, address);
        let client = builder.tls_certs_only([Certificate::from_pem(authority.as_bytes())?]).build()?;
        let answer = client.get(format!("https://{NAME}:{}/", address.port())).send().await?;
        let shown = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
        let otherwise = format!("{} instead of {body}", BASE64_STANDARD.encode(shown.unwrap_or_default()));
        Ok(Seen::when(shown == Some(leaf.as_slice()), (), otherwise))
    })
    .await
}

/// The API server asks admission and gets an answer: of pods that differ in their image alone one is admitted and one is not.
async fn reviewed(kubectl: &Kubectl) -> Result<()> {
    let arguments = ["create", "--dry-run=server", "-f", "-"];
    let namespace = "kubeop-web";
    until("a review", PATIENCE, async || {
        let allowed = pod("allowed", namespace, &["docker.io/library/nginx:1.25"]).to_string();
        let allowed = kubectl.run_with(&arguments, Some(&allowed)).await?;
        let foreign = pod("foreign", namespace, &["quay.io/acme/nginx:1.25"]).to_string();
        let foreign = kubectl.run_with(&arguments, Some(&foreign)).await?;
        let denied = ["projects.admission.platform.kubeop.io", "is not allowed"];
        let denied = !foreign.ok && denied.iter().all(|part| foreign.stderr.contains(part));
        Ok(Seen::when(allowed.ok && denied, (), format!("{} {}", allowed.stderr, foreign.stderr)))
    })
    .await
}

/// The address in admission's log.
async fn address(admission: &Kubeop) -> Result<SocketAddr> {
    until("admission serves", PATIENCE, async || {
        let log = admission.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.into_iter().find(|line| line["message"] == "admission serves");
        let address = line.and_then(|line| line["address"].as_str()?.parse().ok());
        Ok(address.map_or_else(|| Seen::Yet(admission.tail()), Seen::Done))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issues_injects_renews_and_replaces_what_admission_serves() -> Result<()> {
    let Some(program) = environment::cert_manager()? else {
        eprintln!("skipped: cert-manager's controllers were not built (KUBEOP_TEST_CERT_MANAGER is not set)");
        return Ok(());
    };
    let plane = ControlPlane::start().await?;
    let Some(helm) = Helm::find(Some(&plane.kubeconfig()))? else { return Ok(()) };
    let (kubectl, folder) = (plane.kubectl()?, Folder::new("cert-manager")?);
    install_cert_manager(&helm, &kubectl).await?;
    let cert_manager = start_cert_manager(&program, &plane, &folder.file("log")).await?;
    let told = |error: anyhow::Error| error.context(cert_manager.tail());

    let chart = format!("{0} --values {0}/ci/cert-manager-values.yaml", chart().display());
    let release = format!("kubeop {chart} --namespace kubeop-system");
    helm.stdout(&format!("install {release} --create-namespace")).await?;
    let first = issued(&kubectl, SECRET, &Value::Null).await.map_err(told)?;
    injected(&kubectl, &first).await.map_err(told)?;
    helm.stdout(&format!("upgrade {release}")).await?;
    injected(&kubectl, &first).await?;

    let operator = kubeop(&plane, "operator", "KUBEOP_ADMISSION_CERTIFICATES", "external").await?;
    let admission = kubeop(&plane, "admission", "KUBEOP_ADMISSION_ADDR", "127.0.0.1:0").await?;
    let address = address(&admission).await?;
    served(&kubectl, address).await.with_context(|| admission.tail())?;
    point_service_at(&kubectl, address).await?;
    let policy =
        r#"-n kubeop-system patch configmap kubeop-policy --type=merge -p {"data":{"imageAllowlist":"docker.io"}}"#;
    kubectl.stdout(policy).await?;
    let samples = repository().join("deploy/k8s/samples").display().to_string();
    kubectl.stdout(&format!("apply -f {samples}/01-tenant.yaml -f {samples}/02-project.yaml")).await?;
    let ready = kubectl.stdout("wait --for=condition=Ready project/acme.web --timeout=50s").await;
    ready.with_context(|| operator.tail())?;
    reviewed(&kubectl).await.with_context(|| admission.tail())?;

    // As `cmctl renew` asks for it: another certificate of the same CA.
    let issuing = json!({"status": {"conditions": [{
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let (certificate, issuing) = ("certificates.cert-manager.io/kubeop-admission", issuing.to_string());
    let renew =
        ["-n", "kubeop-system", "patch", certificate, "--subresource=status", "--type=merge", "-p", issuing.as_str()];
    let ran = kubectl.run_with(&renew, None).await?;
    ensure!(ran.ok, "{}", ran.stderr);
    let second = issued(&kubectl, SECRET, &first).await.map_err(told)?;
    ensure!(second["ca.crt"] == first["ca.crt"] && second["tls.key"] != first["tls.key"], "a renewal by another CA");
    served(&kubectl, address).await.with_context(|| admission.tail())?;
    reviewed(&kubectl).await.with_context(|| admission.tail())?;

    // Both Secrets are lost: another CA, and a certificate of it.
    let authority = secret(&kubectl, CA_SECRET).await?;
    kubectl.stdout(&format!("-n kubeop-system delete secret {CA_SECRET}")).await?;
    issued(&kubectl, CA_SECRET, &authority).await.map_err(told)?;
    kubectl.stdout(&format!("-n kubeop-system delete secret {SECRET}")).await?;
    let third = issued(&kubectl, SECRET, &second).await.map_err(told)?;
    ensure!(third["ca.crt"] != first["ca.crt"], "the same CA");
    injected(&kubectl, &third).await.map_err(told)?;
    served(&kubectl, address).await.with_context(|| admission.tail())?;
    reviewed(&kubectl).await.with_context(|| admission.tail())?;

    // And all that while an operator led that was told to leave both alone.
    let writers = "-o jsonpath={.metadata.managedFields[*].manager} --show-managed-fields";
    let of_secret = kubectl.stdout(&format!("-n kubeop-system get secret {SECRET} {writers}")).await?;
    ensure!(!of_secret.contains("kubeop"), "the Secret was written by {of_secret}");
    let of_webhook = kubectl.stdout(&format!("get validatingwebhookconfiguration kubeop-admission {writers}")).await?;
    ensure!(!of_webhook.contains("kubeop-operator"), "the webhook was written by {of_webhook}");
    let holder = "-n kubeop-system get lease kubeop-operator -o jsonpath={.spec.holderIdentity}";
    ensure!(!kubectl.stdout(holder).await?.is_empty(), "no operator led");
    Ok(())
}
