//! Tenants.
//!
//! Invariant: `quotas` is the envelope; an absent key is unlimited within the policy.

use crate::resource::{Labels, QuotaMap, Status, Time};
use kubeop_core::id::{ClusterId, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Creates or changes a tenant.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TenantInput {
    /// Only on a change of the collection: which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub id: Option<String>,
    /// A DNS label, unique among tenants; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The cluster it lives on; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub cluster_id: Option<String>,
    /// The envelope: `cpu`, `memory`, `storage`, `pods`, `projects` or any ResourceQuota key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotas: Option<QuotaMap>,
    /// The caller's own labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// A tenant.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// The cluster it lives on.
    pub cluster_id: ClusterId,
    /// The envelope, as written.
    pub quotas: QuotaMap,
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
