//! `Tenant`: a customer or department, and the envelope its projects share.
//!
//! Invariant: the resource's name is the tenant's name, a DNS label.

use crate::Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a tenant is and may use.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "platform.kubeop.io",
    version = "v1alpha1",
    kind = "Tenant",
    status = "TenantStatus",
    derive = "PartialEq",
    shortname = "tn",
    category = "kubeop",
    doc = "A customer or department: the owner of projects, which share the quota envelope given here.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Projects", type_ = "integer", json_path = ".status.projects"),
    printcolumn(name = "CPU", type_ = "string", description = "CPU requests granted to projects", json_path = r".status.grantedTotal.requests\.cpu"),
    printcolumn(name = "Memory", type_ = "string", description = "memory requests granted to projects", json_path = r".status.grantedTotal.requests\.memory"),
    printcolumn(name = "Within-Quota", type_ = "string", priority = 1, json_path = r#".status.conditions[?(@.type=="WithinQuota")].status"#),
    printcolumn(name = "Display-Name", type_ = "string", priority = 1, json_path = ".spec.displayName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a Tenant is 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit")
)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 200))]
    pub display_name: Option<String>,
    /// The envelope: `cpu` and `memory` (requests), `storage`, `pods`, `projects` or any ResourceQuota key, each with a quantity. What is absent is not limited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub quotas: BTreeMap<String, Amount>,
    /// Suspends every project of the tenant: people's access is withdrawn and workloads are scaled to nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

/// The quota ledger and what was observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// `Ready`, `WithinQuota`, and while they hold `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many projects the tenant has on this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<i64>,
    /// The envelope with canonical keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub envelope: BTreeMap<String, Amount>,
    /// What each project (by the name of its resource) is granted, with canonical keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub granted: BTreeMap<String, BTreeMap<String, Amount>>,
    /// The sum of `granted`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub granted_total: BTreeMap<String, Amount>,
    /// The sum of what the projects use, as their quotas report it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, Amount>,
}
