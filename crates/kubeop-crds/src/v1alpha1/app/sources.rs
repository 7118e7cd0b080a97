//! Delivery from Git, from a Helm chart, and of raw manifests.
//!
//! Invariant: every reference (credentials, values) is to an object of the App's own namespace.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Manifests in a Git repository.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GitDelivery {
    /// `https://` or `ssh://` address of the repository.
    #[schemars(extend("minLength" = 1, "maxLength" = 2048))]
    pub url: String,
    /// The revision; the default branch if absent.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitRef>,
    /// Directory within the repository; the root by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 1024))]
    pub path: Option<String>,
    /// `Plain` manifests (default) or a `Kustomize` root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<GitKind>,
    /// How often the repository is looked at: `5m`, `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 32))]
    pub interval: Option<String>,
    /// A Secret of the namespace with the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretRef>,
}

/// At most one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("[has(self.branch), has(self.tag), has(self.commit)].filter(given, given).size() <= 1")
    .message("spec.delivery.git.ref has at most one of branch, tag and commit"))]
pub struct GitRef {
    /// A branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 255))]
    pub branch: Option<String>,
    /// A tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 255))]
    pub tag: Option<String>,
    /// A full commit id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 64))]
    pub commit: Option<String>,
}

/// What the directory holds.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GitKind {
    /// Manifests.
    #[default]
    Plain,
    /// A kustomization.
    Kustomize,
}

/// A Secret of the App's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub secret_name: String,
}

/// A Helm chart.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.repo) != has(self.oci)").message("spec.delivery.helm has exactly one of repo and oci"))]
pub struct HelmDelivery {
    /// `https://` address of a chart repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 2048))]
    pub repo: Option<String>,
    /// `oci://` address of the chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 2048))]
    pub oci: Option<String>,
    /// Name of the chart in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 253))]
    pub chart: Option<String>,
    /// Version of the chart; absent is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 128))]
    pub version: Option<String>,
    /// Values, as in a values file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub values: BTreeMap<String, Value>,
    /// Values from ConfigMaps and Secrets of the namespace, later ones over earlier ones, `values` over all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 32))]
    pub values_from: Vec<ValuesFrom>,
}

/// A key with a values file.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ValuesFrom {
    /// `ConfigMap` or `Secret`.
    pub kind: ValuesKind,
    /// Its name in the namespace.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub name: String,
    /// The key; `values.yaml` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 253))]
    pub key: Option<String>,
}

/// Where values are.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValuesKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// Manifests written in the App.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct RawDelivery {
    /// Objects, or texts of YAML documents.
    #[schemars(schema_with = "manifests")]
    pub manifests: Vec<Value>,
}

fn free_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn manifests(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "array", "maxItems": 500, "items": { "x-kubernetes-preserve-unknown-fields": true } })
}
