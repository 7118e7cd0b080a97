//! Steps that many tests share: register, create, wait.

use crate::api::{Answer, Api};
use crate::control_plane::ControlPlane;
use crate::kubectl::Kubectl;
use crate::kubeop::{Kubeop, Setup};
use crate::wait::{Seen, until};
use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// How long a step may take on a busy machine before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A name that no other test has.
pub fn unique(prefix: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "tests share clusters and databases, names must differ between runs")]
    let id = Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", id.get(..8).unwrap_or_default())
}

/// Registers a cluster with everything installed; returns its id before it is ready.
pub async fn register(api: &Api, name: &str, kubeconfig: &str) -> Result<String> {
    let body = json!({
        "name": name, "kubeconfig": BASE64_STANDARD.encode(kubeconfig),
        "autoBootstrap": true, "installAdmission": true, "withMocks": true,
    });
    api.post("/v1/clusters", &body).await?.expect(201)?.id()
}

/// Waits until operator and admission answer.
pub async fn cluster_ready(api: &Api, id: &str) -> Result<()> {
    until(&format!("cluster {id} ready"), PATIENCE, async || {
        let answer = api.get(&format!("/v1/clusters/{id}/ready")).await?;
        Ok(Seen::when(answer.status == 200, (), answer.text))
    })
    .await
}

/// `kubeop operator` as the ServiceAccount that bootstrap made for it.
pub async fn operator(plane: &ControlPlane) -> Result<Kubeop> {
    let path = plane.account("kubeop-system", "kubeop-operator").await?;
    Setup::new("operator").with("KUBEOP_KUBECONFIG", &path.display().to_string()).launch()
}

/// Creates a tenant.
pub async fn tenant(api: &Api, cluster: &str, name: &str) -> Result<String> {
    api.post("/v1/tenants", &json!({"name": name, "clusterID": cluster})).await?.expect(201)?.id()
}

/// Creates a project.
pub async fn project(api: &Api, tenant: &str, name: &str) -> Result<Answer> {
    api.post("/v1/projects", &json!({"tenantID": tenant, "name": name})).await?.expect(201)
}

/// Creates an app of the seed's image.
pub async fn app(api: &Api, project: &str, name: &str, host: &str) -> Result<String> {
    let body = json!({"projectID": project, "name": name, "image": "docker.io/library/nginx:1.25", "host": host});
    api.post("/v1/apps", &body).await?.expect(201)?.id()
}

/// Waits for a phase of `/v1/...`.
pub async fn phase(api: &Api, path: &str, phase: &str) -> Result<Answer> {
    until(&format!("{path} {phase}"), PATIENCE, async || {
        let answer = api.get(path).await?;
        let told = format!("{} {}", answer.status, answer.text);
        Ok(Seen::when(answer.phase() == phase, answer, told))
    })
    .await
}

/// Waits until `/v1/...` is 404.
pub async fn gone(api: &Api, path: &str) -> Result<()> {
    until(&format!("{path} gone"), PATIENCE, async || {
        let answer = api.get(path).await?;
        Ok(Seen::when(answer.status == 404, (), format!("{} {}", answer.status, answer.text)))
    })
    .await
}

/// A tenant with one ready project.
#[derive(Clone, Debug)]
pub struct Home {
    /// The tenant.
    pub tenant: String,
    /// The tenant's name.
    pub tenant_name: String,
    /// The project.
    pub project: String,
    /// The project's namespace.
    pub namespace: String,
}

/// Makes a tenant with one ready project.
pub async fn home(api: &Api, cluster: &str, prefix: &str) -> Result<Home> {
    let tenant_name = unique(prefix);
    let tenant = tenant(api, cluster, &tenant_name).await?;
    let made = project(api, &tenant, "web").await?;
    let (project, namespace) = (made.id()?, made.text_at("/namespace")?);
    phase(api, &format!("/v1/projects/{project}"), "Ready").await?;
    Ok(Home { tenant, tenant_name, project, namespace })
}

/// A kubeconfig of a project: its id, and kubectl with it.
pub async fn kubeconfig(api: &Api, project: &str, query: &str, file: &Path) -> Result<(Answer, Kubectl)> {
    let answer = api.get(&format!("/v1/kubeconfigs/project/{project}{query}")).await?.expect(200)?;
    let text = answer.text_at("/kubeconfig")?;
    Ok((answer, Kubectl::of_text(file, &text)?))
}

/// The kubeconfig with another port of its server.
pub fn through(kubeconfig: &str, from: u16, to: u16) -> Result<String> {
    let (old, new) = (format!("https://127.0.0.1:{from}"), format!("https://127.0.0.1:{to}"));
    kubeconfig.contains(&old).then(|| kubeconfig.replace(&old, &new)).context("the kubeconfig names another server")
}

/// A pod with containers of these images, that passes Pod Security and quota.
pub fn pod(name: &str, namespace: &str, images: &[&str]) -> Value {
    let containers: Vec<Value> =
        images.iter().enumerate().map(|(at, image)| json!({"name": format!("c{at}"), "image": image})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": {"containers": containers}})
}
