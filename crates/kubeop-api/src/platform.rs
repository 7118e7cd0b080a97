//! Operations on a cluster's installation, and platform-wide figures.
//!
//! Invariant: an absent switch means unchanged.

use crate::cluster::ClusterStatus;
use kubeop_core::id::ClusterId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which cluster an operation is for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ClusterQuery {
    /// The cluster's id.
    #[schemars(extend("format" = "uuid"))]
    pub cluster_id: Option<String>,
}

/// What a bootstrap installs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct BootstrapInput {
    /// Install a metrics server.
    pub install_metrics_server: Option<bool>,
    /// Use the stand-ins for outside providers; `false` never uninstalls them.
    pub mocks: Option<bool>,
    /// Install the admission webhook.
    pub install_admission: Option<bool>,
}

/// What a bootstrap did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BootstrapResult {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// How many objects are in place.
    pub objects: usize,
    /// Whether the admission webhook is among them.
    pub admission: bool,
    /// What else is to be known, in a sentence.
    pub message: String,
}

/// An autoscaler for the operator.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct AutoscaleInput {
    /// Whether there shall be one.
    #[schemars(required)]
    pub enabled: Option<bool>,
    /// Replicas at least: 1 or more, default 1.
    #[schemars(range(min = 1, max = 100))]
    pub min: Option<i64>,
    /// Replicas at most: `min` to 100, default 3.
    #[schemars(range(min = 1, max = 100))]
    pub max: Option<i64>,
    /// CPU use aimed at, in percent of requests: 1 to 100, default 70.
    #[serde(rename = "target_cpu")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu: Option<i64>,
}

/// The autoscaler as it is now.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AutoscaleResult {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Whether there is one.
    pub enabled: bool,
    /// Replicas at least.
    pub min: i64,
    /// Replicas at most.
    pub max: i64,
    /// CPU use aimed at, in percent of requests.
    pub target_cpu: i64,
}

/// A cluster's installation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PlatformStatus {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// What is observed.
    #[serde(flatten)]
    pub cluster: ClusterStatus,
    /// The version of kubeOP that installed itself there.
    pub installed_version: Option<String>,
    /// This manager's version.
    pub manager_version: String,
    /// Whether the cluster holds the policy in force.
    pub policy_synced: bool,
    /// Whether the built-in stand-ins for outside providers are configured there.
    pub mocks: bool,
}

/// Platform-wide figures.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AnalyticsSummary {
    /// Apps by kind of delivery.
    pub delivery_kinds: BTreeMap<String, u64>,
    /// Apps by registry host of their image.
    pub registry_hosts: BTreeMap<String, u64>,
    /// Clusters registered.
    pub clusters: i64,
    /// Tenants.
    pub tenants: i64,
    /// Projects.
    pub projects: i64,
    /// Apps.
    pub apps: i64,
}

/// Liveness.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
}

/// Build metadata.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Version {
    /// The release.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
    /// When it was built.
    pub built_at: String,
    /// The compiler.
    pub rust: String,
}
