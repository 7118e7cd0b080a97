//! Apps.
//!
//! Invariant: `spec` is exactly the App resource's spec; the short form (`image`, `host`) is another way to write it.

use crate::resource::{Labels, Status, Time};
use kubeop_core::id::{AppId, ClusterId, ProjectId, TenantId};
use kubeop_crds::AppSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Creates or changes an app.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AppInput {
    /// Only on a change of the collection: which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub id: Option<String>,
    /// The project it belongs to; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub project_id: Option<String>,
    /// The project's tenant; given or not, it cannot differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub tenant_id: Option<String>,
    /// The project's cluster; given or not, it cannot differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub cluster_id: Option<String>,
    /// A DNS label, unique within the project; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The project's namespace; given or not, it cannot differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Short form of `spec.delivery.image.ref`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Short form of `spec.hosts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The App resource's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AppSpec>")]
    pub spec: Option<Value>,
    /// The caller's own labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// An app.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// The tenant it belongs to.
    pub tenant_id: TenantId,
    /// The cluster it lives on.
    pub cluster_id: ClusterId,
    /// Its name.
    pub name: String,
    /// The project's namespace.
    pub namespace: String,
    /// The App resource's spec.
    #[schemars(with = "AppSpec")]
    pub spec: Value,
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
