//! `Certificate`: key and certificate for hosts that an App holds.
//!
//! Invariant: every host has a DNSRecord of the same owner; the Secret is in the owner's namespace.

use super::owner::Owner;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The hosts of a certificate and where it is kept.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "platform.kubeop.io",
    version = "v1alpha1",
    kind = "Certificate",
    status = "CertificateStatus",
    derive = "PartialEq",
    shortname = "kcert",
    category = "kubeop",
    doc = "Key and certificate for host names of one App, kept in a Secret of its namespace and renewed after two thirds of its life.",
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.host"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.owner.project"),
    printcolumn(name = "App", type_ = "string", json_path = ".spec.owner.app"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.notAfter"),
    printcolumn(name = "Secret", type_ = "string", priority = 1, json_path = ".spec.secret.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// The first host name, canonical.
    #[schemars(extend("minLength" = 3, "maxLength" = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)+$')")
        .message("spec.host is a canonical host name: lower case, at least two labels of a-z, 0-9 and '-', no final dot, no wildcard"))]
    pub host: String,
    /// Further host names of the same owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 63, "x-kubernetes-list-type" = "set"))]
    pub additional_hosts: Vec<String>,
    /// The App that holds the certificate. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a certificate stays with its App: spec.owner cannot be changed"))]
    pub owner: Owner,
    /// The Secret (type `kubernetes.io/tls`) in the owner's namespace.
    pub secret: SecretName,
    /// Name of the configured issuer; absent is the platform's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 63))]
    pub issuer: Option<String>,
}

/// A Secret of the owner's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    /// Its name.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub name: String,
}

/// What was observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// `Ready`, and while they hold `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the certificate begins to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// When it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_time: Option<Time>,
}
