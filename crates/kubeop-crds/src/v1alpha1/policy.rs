//! `Policy`: rules for selected projects, on top of the platform policy.
//!
//! Invariant: policies narrow; where several apply, allow-lists intersect with each other and with the platform policy.

use crate::Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rules for the selected projects.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "platform.kubeop.io",
    version = "v1alpha1",
    kind = "Policy",
    plural = "policies",
    status = "PolicyStatus",
    derive = "PartialEq",
    shortname = "kpol",
    category = "kubeop",
    doc = "Egress, ingress, image, host and quota rules for the selected projects. Policies never widen the platform policy.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(
        name = "Projects",
        type_ = "integer",
        description = "projects selected",
        json_path = ".status.projects"
    ),
    printcolumn(name = "Images", type_ = "string", priority = 1, json_path = ".spec.images.allow"),
    printcolumn(name = "Egress", type_ = "string", priority = 1, json_path = ".spec.egress.allowCIDRs"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// The projects the policy holds for; absent or empty selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<PolicySelector>,
    /// Which outside addresses pods may open connections to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressRules>,
    /// Who may open connections to the projects' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressRules>,
    /// Which images may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<AllowList>,
    /// Which host names Apps may have, as suffixes: `example.com` allows itself and every name below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<AllowList>,
    /// The most that one project may be granted, by ResourceQuota key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub quota_max: BTreeMap<String, Amount>,
}

/// Selects projects; what is given must all hold, a project matches a list by any of its entries.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicySelector {
    /// Names of Tenants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 1000))]
    pub tenants: Vec<String>,
    /// Names of Projects (`<tenant>.<project>`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 1000))]
    pub projects: Vec<String>,
    /// Labels that the Project resource must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub match_labels: BTreeMap<String, String>,
}

/// Outgoing connections.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// Addresses that may be reached, as CIDRs; empty leaves it to the platform policy.
    #[serde(default, rename = "allowCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub allow_cidrs: Vec<String>,
    /// Addresses that may not be reached, even inside an allowed CIDR.
    #[serde(default, rename = "denyCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub deny_cidrs: Vec<String>,
}

/// Incoming connections, beside those from the project itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IngressRules {
    /// Projects (`<tenant>.<project>`) whose pods may connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub from_projects: Vec<String>,
    /// Namespaces whose pods may connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub from_namespaces: Vec<String>,
    /// Addresses that may connect, as CIDRs.
    #[serde(default, rename = "fromCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub from_cidrs: Vec<String>,
}

/// A list of what is allowed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    /// What is allowed; empty leaves it to the platform policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 256))]
    pub allow: Vec<String>,
}

/// What was observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// `Ready`, and while they hold `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many projects are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<i64>,
}
