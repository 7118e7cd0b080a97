//! `GET /v1/platform/status?clusterID=`.
//!
//! Invariant: observed live, as the cluster's status.

use super::of_query;
use crate::api::clusters::status::observe;
use crate::auth::caller::Caller;
use crate::auth::permission::ManageClusters;
use crate::http::answer::Found;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use crate::state::Manager;
use crate::sync::objects;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, Client, ResourceExt};
use kubeop_api::platform::{ClusterQuery, PlatformStatus};
use kubeop_cluster::error::Doing;
use kubeop_core::Result;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_crds::labels;
use kubeop_plan::install::names;
use kubeop_plan::providers::{self, Providers};
use kubeop_store::cluster::{BootstrapState, Cluster};
use kubeop_store::cluster_object::{self, ClusterObject};

/// A cluster's installation.
pub async fn handle(
    caller: Caller<ManageClusters>,
    Query(query): Query<ClusterQuery>,
) -> ApiResult<Found<PlatformStatus>> {
    let manager = &caller.manager;
    let mut read = caller.read().await?;
    let row = of_query(&mut read.conn(), query.cluster_id.as_deref()).await?;
    let policy = cluster_object::get(&mut read.conn(), objects::policy_key(row.id)).await?;
    drop(read);
    let cluster = observe(manager, &row).await?;
    let (installed_version, mocks) = if cluster.reachable { installed(manager, &row).await? } else { (None, false) };
    Ok(Found(PlatformStatus {
        cluster_id: row.id,
        cluster,
        installed_version,
        manager_version: manager.config.build.version.clone(),
        policy_synced: policy.as_ref().is_some_and(ClusterObject::is_synced),
        mocks,
    }))
}

/// Which version is installed, and whether its providers are the stand-ins; asked as the manager's own account, which comes with it.
async fn installed(manager: &Manager, row: &Cluster) -> Result<(Option<String>, bool)> {
    let connection = manager.clusters.get(&manager.store, row).await?;
    let asked = async {
        let client = connection.manager().await?;
        Ok((installed_version(&client).await?, mocks(&client).await?))
    };
    match asked.await {
        // Before it is set up there may be no such account.
        Err(_) if row.bootstrap_state != BootstrapState::Done => Ok((None, false)),
        answer => answer,
    }
}

/// The version of the operator that runs there, whoever installed it; of one in this process, that which installed the rest.
async fn installed_version(client: &Client) -> Result<Option<String>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let operator =
        deployments.get_metadata_opt(names::OPERATOR_ACCOUNT).await.doing("reading the operator's Deployment")?;
    if let Some(operator) = operator {
        let told = operator.annotations().get(labels::INSTALLED_VERSION);
        return Ok(told.or_else(|| operator.labels().get(labels::VERSION)).cloned());
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get_opt(SYSTEM_NAMESPACE).await.doing("reading namespace kubeop-system")?;
    Ok(system.and_then(|system| system.annotations().get(labels::INSTALLED_VERSION).cloned()))
}

/// Whether its providers are the built-in stand-ins.
async fn mocks(client: &Client) -> Result<bool> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let map = maps.get_opt(providers::NAME).await.doing("reading the providers' ConfigMap")?;
    Ok(map.is_some_and(|map| providers::from_config_map(&map).is_ok_and(|found| found == Providers::MOCKS)))
}
