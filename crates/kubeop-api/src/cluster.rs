//! Clusters: registration and what is shown of them.
//!
//! Invariant: no answer holds a kubeconfig.

use crate::resource::{Labels, Status, Time};
use kubeop_core::id::ClusterId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Registers or changes a cluster. On a change an absent field stays as it is.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct ClusterInput {
    /// Only on a change of the collection: which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub id: Option<String>,
    /// A DNS label, unique among clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kubeconfig as YAML, or base64 of it; its current context is used.
    #[serde(skip_serializing)]
    pub kubeconfig: Option<String>,
    /// Install CRDs, RBAC, policy and operator before the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_bootstrap: Option<bool>,
    /// Install the admission webhook too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_admission: Option<bool>,
    /// Use the built-in stand-ins for outside providers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_mocks: Option<bool>,
    /// The API server's address as tenants reach it; default: the registered one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_server: Option<String>,
    /// The caller's own labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// Parameters of the list of clusters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ClusterListQuery {
    /// How many at most: 1 to 1000, default 100.
    #[schemars(with = "Option<i32>", range(min = 1, max = 1000))]
    pub limit: Option<String>,
    /// Where to go on: from the `Link` of the page before.
    pub cursor: Option<String>,
    /// Only this cluster.
    #[schemars(extend("format" = "uuid"))]
    pub cluster_id: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
}

/// Parameters of the delete of a cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ClusterDeleteQuery {
    /// Seconds to wait at most (0 to 60) until it is gone; it is gone at once.
    #[schemars(with = "Option<i32>", range(min = 0, max = 60))]
    pub wait: Option<String>,
    /// As of every delete. A cluster that does not answer is forgotten without it too.
    #[schemars(with = "Option<bool>")]
    pub force: Option<String>,
    /// Also remove what kubeOP installed there.
    #[schemars(with = "Option<bool>")]
    pub uninstall: Option<String>,
}

/// A registered cluster.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Identity labels and the caller's own.
    pub labels: Labels,
    /// Held until its objects are removed.
    pub finalizers: Vec<String>,
    /// The API server's address.
    pub server: String,
    /// The API server's address as tenants reach it.
    pub public_server: Option<String>,
    /// Whether the platform is installed by registration.
    pub auto_bootstrap: bool,
    /// Whether the admission webhook is installed.
    pub install_admission: bool,
    /// Whether the stand-ins for outside providers are used.
    pub with_mocks: bool,
    /// Counts changes; the `ETag`.
    pub version: i64,
    /// When it was registered.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// How far it is.
    pub status: Status,
}

/// What is observed on a cluster at this moment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations, named by the contract")]
pub struct ClusterStatus {
    /// The operator's lease is fresh.
    pub operator: bool,
    /// The webhook is configured and answers through the API server.
    pub admission: bool,
    /// The webhook configuration carries a CA bundle.
    #[serde(rename = "webhookCABundle")]
    pub webhook_ca_bundle: bool,
    /// The API server answers.
    pub reachable: bool,
    /// Its version.
    pub version: Option<String>,
    /// How many nodes it has.
    pub nodes: Option<i64>,
    /// When it last answered.
    pub last_seen: Option<Time>,
    /// What is missing, in sentences; empty if nothing is.
    pub messages: Vec<String>,
}

impl ClusterStatus {
    /// Whether operator and admission serve.
    pub fn is_ready(&self) -> bool {
        self.operator && self.admission && self.webhook_ca_bundle
    }
}
