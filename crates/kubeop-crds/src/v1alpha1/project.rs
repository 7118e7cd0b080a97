//! `Project`: one namespace that is fenced before anyone can enter it.
//!
//! Invariant: the resource is named `<tenant>.<project>`; tenant and namespace never change.

use crate::Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a project is and may use.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "platform.kubeop.io",
    version = "v1alpha1",
    kind = "Project",
    status = "ProjectStatus",
    derive = "PartialEq",
    shortname = "prj",
    shortname = "proj",
    category = "kubeop",
    doc = "A tenant's namespace with quota, limits, network fence and access, made in that order. The resource is named <tenant>.<project>.",
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenant"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.namespace"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "CPU", type_ = "string", description = "CPU requests granted", json_path = r".status.granted.requests\.cpu"),
    printcolumn(name = "Memory", type_ = "string", description = "memory requests granted", json_path = r".status.granted.requests\.memory"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = r#".status.conditions[?(@.type=="Ready")].message"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.tenant",
    selectable = ".spec.namespace",
    validation = Rule::new("self.metadata.name.startsWith(self.spec.tenant + '.') && self.metadata.name.substring(self.spec.tenant.size() + 1).matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')")
        .message("the name of a Project is <tenant>.<project>: spec.tenant, a dot, and a project name of 1 to 63 of a-z, 0-9 and '-'")
)]
#[serde(rename_all = "camelCase")]
pub struct ProjectSpec {
    /// Name of the Tenant the project belongs to. Immutable.
    #[schemars(extend("minLength" = 1, "maxLength" = 63))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("a project stays with its tenant: spec.tenant cannot be changed"),
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("spec.tenant is the name of a Tenant: 1 to 63 of a-z, 0-9 and '-'")
    )]
    pub tenant: String,
    /// The namespace that is made for the project. Immutable; never `default`, `kube-*`, `kubeop-system` or `kubeop-access`.
    #[schemars(extend("minLength" = 1, "maxLength" = 63))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("a project stays in its namespace: spec.namespace cannot be changed"),
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("spec.namespace is 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"),
        validation = Rule::new("self != 'default' && !self.startsWith('kube-') && self != 'kubeop-system' && self != 'kubeop-access'")
            .message("spec.namespace is reserved: default, kube-*, kubeop-system and kubeop-access cannot be a project's")
    )]
    pub namespace: String,
    /// What the project may use: `cpu` and `memory` (requests) or any ResourceQuota key, each with a quantity. Object counts have defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub quotas: BTreeMap<String, Amount>,
    /// The Pod Security Standard that pods must meet: `baseline` (default) or `restricted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<PodSecurity>,
    /// Suspends the project: people's access is withdrawn and workloads are scaled to nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

/// A Pod Security Standard (Kubernetes "Pod Security Standards").
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum PodSecurity {
    /// Prevents known privilege escalations.
    #[default]
    Baseline,
    /// Hardened, as by current best practice.
    Restricted,
}

impl PodSecurity {
    /// The level as the namespace labels spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl Project {
    /// The project's own name, without the tenant's: what follows the first dot of the resource's name.
    pub fn project_name(&self) -> Option<&str> {
        self.metadata.name.as_deref()?.split_once('.').map(|(_, project)| project)
    }
}

/// What was observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// `Ready`, `NamespaceReady`, `QuotaReady`, `NetworkReady`, `AccessReady`, and while they hold `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The namespace, once it is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The namespace's uid, by which it is recognised and pruned.
    #[serde(default, rename = "namespaceUID", skip_serializing_if = "Option::is_none")]
    pub namespace_uid: Option<String>,
    /// What the quota in force grants (`status.hard`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub granted: BTreeMap<String, Amount>,
    /// What is used of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, Amount>,
    /// Version of the platform policy that the network fence was rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<String>,
}
