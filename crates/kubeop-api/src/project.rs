//! Projects.
//!
//! Invariant: a project's namespace never changes.

use crate::resource::{Labels, QuotaMap, Status, Time};
use kubeop_core::id::{ClusterId, ProjectId, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Creates or changes a project.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProjectInput {
    /// Only on a change of the collection: which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub id: Option<String>,
    /// The tenant it belongs to; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub tenant_id: Option<String>,
    /// The tenant's cluster; given or not, it cannot differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub cluster_id: Option<String>,
    /// A DNS label, unique within the tenant; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Default `kubeop-<tenant>-<project>`; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its own quotas; without them it gets a slice of the envelope's free part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotas: Option<QuotaMap>,
    /// The Pod Security level enforced: `baseline` (default) or `restricted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<String>,
    /// The caller's own labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// A project.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// The tenant it belongs to.
    pub tenant_id: TenantId,
    /// The cluster it lives on.
    pub cluster_id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its own quotas, as written.
    pub quotas: Option<QuotaMap>,
    /// What it holds of the tenant's envelope, by canonical key.
    pub granted: QuotaMap,
    /// The Pod Security level enforced.
    pub pod_security: String,
    /// Identity labels and the caller's own.
    pub labels: Labels,
    /// Counts changes; the `ETag`.
    pub version: i64,
    /// When it was created.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// How far it is.
    pub status: Status,
}
