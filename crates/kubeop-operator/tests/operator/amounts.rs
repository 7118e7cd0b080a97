//! Amounts as tenants write them, on an API server that writes them in its own way.

use crate::harness::{World, ready};
use k8s_openapi::api::core::v1::ResourceQuota;
use kubeop_crds::Project;
use serde_json::json;

/// The API server gives `500m` back for `0.5`; a project of such an amount waited for its quota for ever.
#[tokio::test]
async fn a_project_is_ready_however_its_amounts_are_written() {
    let world = World::with(json!({"cpu": "4000", "memory": "64Gi", "pods": "4e3"})).await;
    for (name, quotas, hard) in [
        ("half", json!({"cpu": "0.5", "memory": "1024Mi", "pods": "1000"}), ["500m", "1Gi", "1k"]),
        ("exponent", json!({"cpu": "1e0", "memory": "1.5Gi", "pods": "0"}), ["1", "1536Mi", "0"]),
        ("slice", json!({}), ["999625m", "15744Mi", "750"]),
    ] {
        world.project(name, json!({"quotas": quotas})).await;
        world.project_until(name, |p: &Project| ready(p.status.as_ref().map(|s| &s.conditions[..])).0).await;
        let quota: ResourceQuota = world.get(Some(&world.namespace(name)), "kubeop-quota").await.unwrap();
        let live = quota.spec.unwrap().hard.unwrap();
        assert_eq!(["requests.cpu", "requests.memory", "pods"].map(|key| live[key].0.as_str()), hard, "{name}");
    }
    world.clean().await;
}
