//! `DNSRecord`: the claim of a host name by an App, and the record at the provider.
//!
//! Invariant: the resource's name is the canonical host, so the API server lets exactly one App hold it; the owner never changes.

use super::owner::Owner;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A host name, its owner and where it points.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "platform.kubeop.io",
    version = "v1alpha1",
    kind = "DNSRecord",
    root = "DnsRecord",
    plural = "dnsrecords",
    singular = "dnsrecord",
    status = "DnsRecordStatus",
    derive = "PartialEq",
    shortname = "dnsr",
    category = "kubeop",
    doc = "The claim of a host name by an App: the resource is named as the host, so that one App holds it. The record is kept at the configured DNS provider.",
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.owner.project"),
    printcolumn(name = "App", type_ = "string", json_path = ".spec.owner.app"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Addresses", type_ = "string", priority = 1, json_path = ".status.addresses"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == self.spec.host").message("a DNSRecord is named as its host: metadata.name and spec.host must be equal")
)]
#[serde(rename_all = "camelCase")]
pub struct DnsRecordSpec {
    /// The host name in canonical form: lower case, no final dot, punycode, at least two labels, no wildcard. Immutable, since the resource is named so.
    #[schemars(extend("minLength" = 3, "maxLength" = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)+$')")
        .message("spec.host is a canonical host name: lower case, at least two labels of a-z, 0-9 and '-', no final dot, no wildcard"))]
    pub host: String,
    /// The App that holds the host. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a host stays with its App: spec.owner cannot be changed"))]
    pub owner: Owner,
    /// Where the host points.
    pub target: DnsTarget,
    /// Seconds for which resolvers may keep the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 2_147_483_647))]
    pub ttl: Option<i64>,
}

/// Exactly one of its fields is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("[has(self.service), has(self.addresses), has(self.cname)].filter(given, given).size() == 1")
    .message("spec.target has exactly one of service, addresses and cname"))]
pub struct DnsTarget {
    /// The addresses of a Service (its load balancer, or the nodes' ingress).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceTarget>,
    /// Addresses, IPv4 or IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1, "maxItems" = 32))]
    pub addresses: Option<Vec<String>>,
    /// Another host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    pub cname: Option<String>,
}

/// A Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Its namespace.
    #[schemars(extend("minLength" = 1, "maxLength" = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(extend("minLength" = 1, "maxLength" = 63))]
    pub name: String,
}

/// What was observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DnsRecordStatus {
    /// `Ready`, and while they hold `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec this status was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The addresses the provider holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}
