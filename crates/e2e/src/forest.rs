//! Many tenants with their projects and apps, made through the API.

use crate::api::Api;
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Tenants.
    pub tenants: usize,
    /// Projects of a tenant.
    pub projects: usize,
    /// Apps of a project.
    pub apps: usize,
}

/// Their ids.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Tenants.
    pub tenants: Vec<String>,
    /// Projects.
    pub projects: Vec<String>,
    /// Apps.
    pub apps: Vec<String>,
}

/// Requests at once.
const AT_ONCE: usize = 8;

impl Forest {
    /// Makes tenants and projects.
    pub async fn plant(api: &Api, cluster: &str, prefix: &str, shape: Shape) -> Result<Self> {
        let bodies = (0..shape.tenants).map(|n| json!({"name": format!("{prefix}-{n}"), "clusterID": cluster}));
        let tenants = create(api, "/v1/tenants", bodies).await?;
        let bodies = tenants
            .iter()
            .flat_map(|tenant| (0..shape.projects).map(move |n| json!({"tenantID": tenant, "name": format!("p{n}")})));
        let projects = create(api, "/v1/projects", bodies).await?;
        Ok(Self { tenants, projects, apps: Vec::new() })
    }

    /// Makes the apps of all projects.
    pub async fn grow(&mut self, api: &Api, shape: Shape) -> Result<()> {
        let bodies = self.projects.iter().flat_map(|project| {
            (0..shape.apps)
                .map(move |n| json!({"projectID": project, "name": format!("a{n}"), "image": "docker.io/library/nginx:1.25"}))
        });
        self.apps = create(api, "/v1/apps", bodies).await?;
        Ok(())
    }
}

/// Creates all; returns the ids in their order.
async fn create(api: &Api, path: &str, bodies: impl Iterator<Item = serde_json::Value>) -> Result<Vec<String>> {
    let requests = bodies.map(|body| async move {
        let answer = api.post(path, &body).await?.expect(201)?;
        answer.id().with_context(|| format!("POST {path}"))
    });
    futures::stream::iter(requests).buffered(AT_ONCE).try_collect().await
}
