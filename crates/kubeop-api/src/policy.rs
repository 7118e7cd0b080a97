//! The platform policy.
//!
//! Invariant: the spelling of the seeds holds in requests and answers.

use kubeop_core::id::ClusterId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Replaces the policy; an absent field is empty.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct PolicyInput {
    /// Registry hosts or host/path prefixes images may come from; empty = any.
    #[serde(rename = "imageAllowlist", default)]
    pub image_allowlist: Option<Vec<String>>,
    /// Outside addresses pods may reach, as CIDRs; empty = any.
    #[serde(rename = "egressBaseline", default)]
    pub egress_baseline: Option<Vec<String>>,
    /// The ceiling of one project.
    #[serde(rename = "quotaMax", default)]
    pub quota_max: Option<QuotaMax>,
}

/// The ceiling of one project.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct QuotaMax {
    /// CPU requests.
    #[serde(rename = "requestsCPU", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub requests_cpu: Option<String>,
    /// Memory requests.
    #[serde(rename = "requestsMemory", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub requests_memory: Option<String>,
}

/// The policy in force.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Policy {
    /// Registry hosts or host/path prefixes images may come from; empty = any.
    #[serde(rename = "imageAllowlist")]
    pub image_allowlist: Vec<String>,
    /// Outside addresses pods may reach, as CIDRs; empty = any.
    #[serde(rename = "egressBaseline")]
    pub egress_baseline: Vec<String>,
    /// The ceiling of one project.
    #[serde(rename = "quotaMax")]
    pub quota_max: QuotaMax,
    /// Counts changes.
    pub version: i64,
    /// Which clusters hold it.
    pub clusters: Vec<PolicySync>,
}

/// Whether one cluster holds the policy.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PolicySync {
    /// Which cluster.
    pub cluster_id: ClusterId,
    /// Its name.
    pub cluster: String,
    /// Whether it holds this version.
    pub synced: bool,
    /// Why not, if it failed.
    pub message: String,
}
