//! The chart as stock helm renders it: every sample of values, judged by a real API server, and compared with the install table.

use anyhow::{Context, Result, ensure};
use e2e::control_plane::ControlPlane;
use e2e::environment::{kubeop, repository};
use e2e::folder::Folder;
use e2e::go;
use e2e::helm::{Helm, chart};
use kubeop_core::policy::RawPolicy;
use kubeop_plan::install::{self, Home, Options, Pods, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Objects by kind, namespace and name.
type Objects = BTreeMap<(String, String, String), Value>;

fn objects(yaml: &str) -> Result<Objects> {
    let mut all = Objects::new();
    for text in format!("\n{yaml}").split("\n---") {
        let object: Value = serde_saphyr::from_str(text).with_context(|| format!("not YAML: {text}"))?;
        if !object.is_null() {
            ensure!(all.insert(key(&object), object).is_none(), "an object is rendered twice: {text}");
        }
    }
    Ok(all)
}

fn key(object: &Value) -> (String, String, String) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}

/// Equal, where 1 is 1.0: Go writes whole numbers without a point.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let found = |key: &String| other.get(key);
            one.len() == other.len()
                && one.iter().all(|(key, value)| found(key).is_some_and(|found| same(value, found)))
        }
        _ => one == other,
    }
}

fn samples() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(chart().join("ci")).context("charts/kubeop/ci")?;
    let mut all: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    all.sort();
    ensure!(all.len() >= 6, "samples are missing: {all:?}");
    Ok(all)
}

async fn render(helm: &Helm, sample: &Path) -> Result<Objects> {
    let (chart, sample) = (chart().display().to_string(), sample.display());
    objects(&helm.stdout(&format!("template kubeop {chart} --namespace kubeop-system --values {sample}")).await?)
}

#[test]
fn has_the_version_of_the_workspace() -> Result<()> {
    let text = fs::read_to_string(chart().join("Chart.yaml")).context("Chart.yaml")?;
    let meta: Value = serde_saphyr::from_str(&text).context("Chart.yaml")?;
    for key in ["version", "appVersion"] {
        assert_eq!(meta[key], env!("CARGO_PKG_VERSION"), "Chart.yaml: {key}");
    }
    Ok(())
}

/// Each sample is linted, rendered, and taken by the API server without a warning; Pod Security `restricted` among what could warn. Definitions of
/// others are those of their releases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_is_taken_by_the_api_server() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let plane = ControlPlane::start().await?;
    let kubectl = plane.kubectl()?;
    for (module, path, file) in [
        ("cert-manager", "github.com/cert-manager/cert-manager", "deploy/crds/cert-manager.io_certificates.yaml"),
        ("cert-manager", "github.com/cert-manager/cert-manager", "deploy/crds/cert-manager.io_issuers.yaml"),
        (
            "prometheus-operator",
            "github.com/prometheus-operator/prometheus-operator",
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        ),
    ] {
        let file = go::dependency(module, path).await?.join(file).display().to_string();
        kubectl.stdout(&format!("apply --server-side -f {file}")).await?;
        kubectl.stdout(&format!("wait --for=condition=Established --timeout=30s -f {file}")).await?;
    }
    let namespace = repository().join("deploy/k8s/install/cluster/namespace.yaml").display().to_string();
    kubectl.stdout(&format!("apply -f {namespace}")).await?;
    kubectl.stdout("create namespace kubeop-access").await?;
    for sample in samples()? {
        let shown = sample.display().to_string();
        helm.stdout(&format!("lint --strict {} --namespace kubeop-system --values {shown}", chart().display())).await?;
        let rendered = render(&helm, &sample).await?;
        let items: Vec<&Value> = rendered.values().collect();
        ensure!(items.len() >= 5, "{shown}: {} objects", items.len());
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        let arguments =
            ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict", "-f", "-"];
        let ran = kubectl.run_with(&arguments, Some(&list)).await?;
        ensure!(ran.ok && !ran.stderr.contains("arning"), "{shown}: {}", ran.stderr);
        for object in rendered.values() {
            ensure!(object["metadata"]["labels"]["app.kubernetes.io/managed-by"].is_string(), "no labels: {object}");
        }
    }
    Ok(())
}

/// What the chart and the manager's bootstrap install must be one thing, so that either may come first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_the_objects_of_the_install_table() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let sample = chart().join("ci/in-cluster-values.yaml");
    let mut rendered = render(&helm, &sample).await?;
    let options = Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        home: Home::Pods(Pods { image: "kubeop".to_owned(), admission: true }),
        policy: RawPolicy::default(),
        metrics_server: None,
        mocks: true,
    };
    let mut compared = 0;
    for item in install::objects(&options)? {
        let mut wanted = serde_json::to_value(&item.object)?;
        let key = key(&wanted);
        // The release's namespace comes before the release; the policy's content is a matter of values.
        if matches!(key.2.as_str(), "kubeop-system" | "kubeop-policy") {
            continue;
        }
        let mut got = rendered.remove(&key).with_context(|| format!("the chart lacks {key:?}"))?;
        let keeps = got["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        // With a definition, or kubeop-access, a tenant's resources or access would go.
        let precious = matches!(key.0.as_str(), "Namespace" | "CustomResourceDefinition");
        ensure!(keeps == precious, "{key:?}: kept on uninstall: {keeps}");
        // What runs is the chart's to say (images, replicas, resources); that it is there under its name was checked.
        if matches!(key.0.as_str(), "Deployment" | "Service" | "NetworkPolicy") {
            continue;
        }
        for object in [&mut wanted, &mut got] {
            let meta = object["metadata"].as_object_mut().context("metadata")?;
            let labels = meta.remove("labels").unwrap_or_default();
            let fence = "pod-security.kubernetes.io/enforce";
            ensure!(key.0 != "Namespace" || labels[fence] == "restricted", "{key:?} is not fenced: {labels}");
            meta.remove("annotations");
            for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
                // The operator's alone.
                webhook.as_object_mut().context("a webhook")?.remove("failurePolicy");
            }
        }
        ensure!(same(&got, &wanted), "{key:?} differs:\n{got}\n{wanted}");
        compared += 1;
    }
    ensure!(compared > 30, "only {compared} objects were compared");
    // And no right, guard or definition beyond the table.
    let more: Vec<_> = rendered.keys().map(|(kind, _, name)| (kind.as_str(), name.as_str())).collect();
    let own = ["Deployment", "Service", "NetworkPolicy", "ConfigMap", "Pod"];
    ensure!(more.iter().all(|(kind, _)| own.contains(kind)), "beyond the table: {more:?}");
    Ok(())
}

/// An image that nobody chose is in no registry of the user's: the manager installs in clusters what it is itself, under a name that all parts share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_installs_the_image_that_it_is() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let own = format!("ghcr.io/kubeop/kubeop:{}", env!("CARGO_PKG_VERSION"));
    let everything = "registry.example.com/platform/kubeop@sha256:";
    for (sample, image) in [("default", own.as_str()), ("everything", everything)] {
        let rendered = render(&helm, &chart().join(format!("ci/{sample}-values.yaml"))).await?;
        let container = container(&rendered, "kubeop-manager")?;
        let given = environment(container, "KUBEOP_OPERATOR_IMAGE")?;
        ensure!(*given == container["image"], "{sample}: {given} is not {}", container["image"]);
        ensure!(given.as_str().is_some_and(|given| given.starts_with(image)), "{sample}: {given}");
    }
    let printed = Command::new(kubeop()?).args(["manager", "--help"]).output()?;
    ensure!(String::from_utf8_lossy(&printed.stdout).contains(&own), "the binary has another default");
    Ok(())
}

fn container<'a>(rendered: &'a Objects, deployment: &str) -> Result<&'a Value> {
    let found = rendered.iter().find(|((kind, _, name), _)| kind == "Deployment" && name == deployment);
    let (_, object) = found.with_context(|| format!("no Deployment {deployment}"))?;
    Ok(&object["spec"]["template"]["spec"]["containers"][0])
}

/// The only value of a variable.
fn environment<'a>(container: &'a Value, name: &str) -> Result<&'a Value> {
    let entries = container["env"].as_array().context("env")?;
    let mut found = entries.iter().filter(|entry| entry["name"] == name);
    let value = &found.next().with_context(|| format!("{name} is not set: {container}"))?["value"];
    ensure!(found.next().is_none(), "{name} is set twice: {container}");
    Ok(value)
}

/// Variables and labels that repeat those of the chart: one of each is rendered (a second would be an error of server-side apply, or of YAML), the
/// user's variable and the chart's label.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_users_say_again_is_rendered_once() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let folder = Folder::new("values")?;
    let labels = json!({"app.kubernetes.io/component": "theirs", "app.kubernetes.io/name": "theirs", "team": "theirs"});
    let role = |variable: &str| json!({"podLabels": labels, "extraEnv": [{"name": variable, "value": "theirs"}]});
    let mut manager = role("KUBEOP_OPERATOR_IMAGE");
    manager["podAnnotations"] = json!({"checksum/database": "theirs", "a": "theirs"});
    let values = json!({
        "commonLabels": labels, "manager": manager, "operator": role("KUBEOP_LOG"), "admission": role("KUBEOP_ADMISSION_ADDR"),
        "serviceMonitor": {"enabled": true, "labels": labels},
    });
    let file = folder.file("values.json");
    fs::write(&file, values.to_string())?;
    let rendered = render(&helm, &file).await?;
    for (name, variable) in
        [("manager", "KUBEOP_OPERATOR_IMAGE"), ("operator", "KUBEOP_LOG"), ("admission", "KUBEOP_ADMISSION_ADDR")]
    {
        let value = environment(container(&rendered, &format!("kubeop-{name}"))?, variable)?;
        ensure!(value == "theirs", "{name}: {variable} is {value}");
    }
    for object in rendered.values() {
        let pods = &object["spec"]["template"]["metadata"];
        for labels in [&object["metadata"]["labels"], &pods["labels"]].into_iter().filter(|labels| !labels.is_null()) {
            ensure!(labels["team"] == "theirs" && labels["app.kubernetes.io/name"] == "kubeop", "{object}");
            ensure!(
                object["kind"] != "Deployment" || labels["app.kubernetes.io/component"] != "theirs",
                "a Deployment does not find its pods: {object}"
            );
        }
        ensure!(pods["annotations"]["checksum/database"] != "theirs", "{object}");
    }
    Ok(())
}

/// A cluster whose policy is given at the install does not open when the manager, whose policy rules from then on, registers it; and how long a pod has
/// to end follows how long it serves on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_begins_with_the_policy_and_ends_in_time() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let folder = Folder::new("values")?;
    let values = json!({
        "policy": {"imageAllowlist": ["docker.io"], "egressBaseline": ["10.0.0.0/8"], "quotaMax": {"requestsCPU": "4"}},
        "manager": {
            "firstPolicy": {"egressBaseline": ["172.16.0.0/12"]}, "replicas": null, "lingerSeconds": 60,
            "database": {"type": "postgres", "postgres": {"existingSecret": "theirs"}},
        },
    });
    let file = folder.file("values.json");
    fs::write(&file, values.to_string())?;
    let rendered = render(&helm, &file).await?;
    let manager = container(&rendered, "kubeop-manager")?;
    for (variable, value) in [
        ("KUBEOP_IMAGE_ALLOWLIST", "docker.io"),
        ("KUBEOP_EGRESS_BASELINE", "172.16.0.0/12"),
        ("KUBEOP_QUOTA_MAX_REQUESTS_CPU", "4"),
        ("KUBEOP_LINGER_SECONDS", "60"),
    ] {
        ensure!(environment(manager, variable)? == value, "{variable}: {manager}");
    }
    let found = rendered.iter().find(|((kind, _, name), _)| kind == "Deployment" && name == "kubeop-manager");
    let (_, deployment) = found.context("no manager")?;
    ensure!(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 85, "{deployment}");
    ensure!(deployment["spec"].get("replicas").is_none(), "an autoscaler's number: {deployment}");
    Ok(())
}

/// The documented way to let a Prometheus in works for whoever installed kubeOP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_open_to_marked_namespaces() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let rendered = render(&helm, &chart().join("ci/default-values.yaml")).await?;
    let marked = json!({"namespaceSelector": {"matchLabels": {"app.kubeop.io/metrics": "true"}}});
    let policies: Vec<&Value> = rendered.values().filter(|object| object["kind"] == "NetworkPolicy").collect();
    ensure!(policies.len() == 3, "{policies:?}");
    for policy in policies {
        let rules = policy["spec"]["ingress"].as_array().context("ingress")?;
        let open = rules.iter().any(|rule| {
            rule["ports"][0]["port"] == "metrics" && rule["from"].as_array().is_some_and(|from| from.contains(&marked))
        });
        ensure!(open, "{policy}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_what_cannot_work() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let chart = chart().display().to_string();
    helm.expect_refusal(
        &format!("template kubeop {chart} --namespace elsewhere"),
        &["--namespace kubeop-system", "elsewhere"],
    )
    .await?;
    for (values, parts) in [
        ("manager.replicas=2", &["SQLite serves one"][..]),
        ("manager.database.type=postgres", &["url or existingSecret is needed"]),
        ("manager.database.type=mysql", &["manager/database/type"]),
        // Else production's data would be in a file.
        ("manager.database.postgres.existingSecret=theirs", &["manager.database.type is sqlite"]),
        (
            "manager.database.type=postgres,manager.database.postgres.existingSecret=a,manager.database.sqlite.existingClaim=b",
            &["manager.database.type is postgres"],
        ),
        ("manager.database.sqlite.size=", &["sqlite/size"]),
        ("manager.keys.jwtSigningKey=one,manager.keys.kmsMasterKey=one", &["both \"one\""]),
        ("manager.ingress.enabled=true,manager.ingress.host=https://kubeop.example.com", &["ingress/host"]),
        ("manager.extraEnv[0].name=A,manager.extraEnv[0].vaule=b", &["vaule", "not allowed"]),
        ("operator.replica=2", &["replica", "not allowed"]),
        ("operator.mocks=true,operator.enabled=false", &["operator.mocks needs"]),
        ("admission.certManager.enabled=true,operator.enabled=false", &["certManager.enabled needs operator.enabled"]),
        ("admission.certManager.enabled=true,admission.enabled=false", &["and admission.enabled"]),
        ("admission.certManager.issuerRef.kind=ClusterIssuer", &["issuerRef", "name"]),
        ("image.repository=registry.example.com/kubeop:1.2", &["image/repository"]),
        ("policy.egressBaseline={ten}", &["egressBaseline"]),
        ("policy.imageAllowlist={https://docker.io}", &["policy/imageAllowlist/0"]),
        ("manager.enabled=false,operator.enabled=false,admission.enabled=false", &["nothing is enabled"]),
    ] {
        helm.expect_refusal(&format!("template kubeop {chart} --namespace kubeop-system --set {values}"), parts)
            .await?;
    }
    helm.stdout(&format!(
        "template kubeop {chart} --namespace elsewhere --set operator.enabled=false --set admission.enabled=false"
    ))
    .await
    .map(drop)
}

/// Without issuer, cert-manager's part is whole: a CA, its issuer, the certificate, and where the CA is to be injected; and the operator is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_the_certificate_to_cert_manager() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let rendered = render(&helm, &chart().join("ci/cert-manager-values.yaml")).await?;
    let find = |kind: &str, name: &str| {
        let found = rendered.iter().find(|((k, _, n), _)| k == kind && n == name).map(|(_, object)| object);
        found.with_context(|| format!("no {kind} {name}"))
    };
    let certificate = find("Certificate", "kubeop-admission")?;
    ensure!(certificate["spec"]["secretName"] == names::TLS_SECRET, "{certificate}");
    let issuer = certificate["spec"]["issuerRef"]["name"].as_str().context("an issuer")?;
    let ca = find("Issuer", issuer)?["spec"]["ca"]["secretName"].clone();
    ensure!(find("Certificate", "kubeop-admission-ca")?["spec"]["secretName"] == ca, "the CA is in another Secret");
    let webhook = find("ValidatingWebhookConfiguration", names::WEBHOOK)?;
    let inject = &webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
    ensure!(inject == "kubeop-system/kubeop-admission", "{inject}");
    let operator = find("Deployment", "kubeop-operator")?.to_string();
    ensure!(operator.contains("KUBEOP_ADMISSION_CERTIFICATES"), "{operator}");
    Ok(())
}

/// `deploy/k8s/install` is what its script renders now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_manifests_are_current() -> Result<()> {
    let Some(helm) = Helm::find(None)? else { return Ok(()) };
    let (folder, committed) = (Folder::new("manifests")?, repository().join("deploy/k8s/install"));
    let output = Command::new(committed.join("render.sh")).arg(folder.path()).env("HELM", helm.program()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut compared = 0;
    for part in ["cluster", "manager"] {
        for entry in fs::read_dir(folder.file(part))? {
            let path = entry?.path();
            let name = Path::new(part).join(path.file_name().context("a name")?);
            let same = fs::read(&path)? == fs::read(committed.join(&name)).unwrap_or_default();
            ensure!(same, "deploy/k8s/install/{} is not current: run deploy/k8s/install/render.sh", name.display());
            compared += 1;
        }
    }
    ensure!(compared == 5, "{compared} manifests");
    Ok(())
}
