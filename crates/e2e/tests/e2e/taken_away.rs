//! What a change takes away is gone from the cluster too.

use anyhow::Result;
use e2e::scenario::{PATIENCE, unique};
use e2e::wait::{Seen, until};
use e2e::world::World;
use serde_json::json;

/// What was there when an object was created stayed on the cluster whatever the row said later, and an apply of an empty spec was refused
/// (`spec: Invalid value: "null"`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_and_labels_that_an_object_was_created_with_can_be_taken_away() -> Result<()> {
    let world = World::shared().await?;
    let (api, kubectl, name) = (world.admin()?, world.kubectl()?, unique("envelope"));
    let body = json!({"name": name, "clusterID": world.cluster, "quotas": {"cpu": "4", "memory": "4Gi"}, "labels": {"team": "a"}});
    let tenant = api.post("/v1/tenants?wait=30", &body).await?.expect(201)?.id()?;
    let body =
        json!({"name": "web", "tenantID": tenant, "quotas": {"cpu": "4", "memory": "4Gi"}, "labels": {"team": "a"}});
    let project = api.post("/v1/projects?wait=30", &body).await?.expect(201)?.id()?;
    // The project first: it has to fit into its tenant.
    let places = [
        (format!("/v1/projects/{project}"), format!("projects.platform.kubeop.io {name}.web")),
        (format!("/v1/tenants/{tenant}"), format!("tenants.platform.kubeop.io {name}")),
    ];
    for change in [json!({"labels": {"team": null}}), json!({"quotas": {"memory": null}}), json!({"quotas": null})] {
        for (path, object) in &places {
            let changed = api.call("PATCH", path, Some(&change)).await?.expect(200)?;
            // What a project is granted has the names of Kubernetes, and a least of what its tenant limits.
            let wanted = changed.json.get("granted").unwrap_or(&changed.json["quotas"]);
            until(&format!("{object} after {change}"), PATIENCE, async || {
                let held = kubectl.json(&format!("get {object}")).await?;
                let quotas = held.pointer("/spec/quotas").cloned().unwrap_or_else(|| json!({}));
                let so = quotas == *wanted && held["metadata"]["labels"]["team"].is_null();
                Ok(Seen::when(so, (), format!("{wanted} is wanted, and there is {held}")))
            })
            .await?;
        }
    }
    Ok(())
}
