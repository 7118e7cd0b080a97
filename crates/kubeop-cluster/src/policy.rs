//! The platform policy on its way to the cluster: ConfigMap `kubeop-policy`.
//!
//! Invariant: a lower version never replaces a higher one, also when two writers meet.

use crate::error::{Doing, is_conflict};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::policy::RawPolicy;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_plan::policy::{NAME, to_config_map};

/// Publishes a version of the policy; false if the cluster already has a later one.
pub async fn publish(client: &Client, policy: &RawPolicy, version: i64) -> Result<bool> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let params = PatchParams::apply(labels::MANAGER).force();
    for _ in 0..5 {
        let live = maps.get_opt(NAME).await.doing(format_args!("reading ConfigMap {NAME}"))?;
        if live.as_ref().and_then(published).is_some_and(|there| there > version) {
            return Ok(false);
        }
        let mut map = to_config_map(policy, &version.to_string());
        map.metadata.resource_version = live.as_ref().and_then(ResourceExt::resource_version);
        map.metadata.uid = live.as_ref().and_then(ResourceExt::uid);
        match maps.patch(NAME, &params, &Patch::Apply(&map)).await {
            Ok(_) => return Ok(true),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error).doing(format_args!("writing ConfigMap {NAME}")),
        }
    }
    Err(Error::unavailable(format!("ConfigMap {NAME} keeps changing")))
}

/// The version that a cluster has, if the manager wrote one.
pub async fn version(client: &Client) -> Result<Option<i64>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    Ok(maps.get_opt(NAME).await.doing(format_args!("reading ConfigMap {NAME}"))?.as_ref().and_then(published))
}

fn published(map: &ConfigMap) -> Option<i64> {
    map.annotations().get(labels::WANTED)?.parse().ok()
}
