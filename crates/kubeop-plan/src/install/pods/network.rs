//! The fence around our own pods in `kubeop-system`.
//!
//! Invariant: what no policy here opens is closed to every other pod; the API server reaches admission whatever its address is.
//!
//! Outgoing traffic is not fenced: the only peer is the API server, whose address and port behind its Service differ from cluster to cluster.

use super::{METRICS_PORT, admission, meta, names, selector};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubeop_crds::labels;

pub(super) fn build(with_admission: bool) -> Vec<NetworkPolicy> {
    let mut all = vec![fence(names::OPERATOR_ACCOUNT, vec![metrics()])];
    if with_admission {
        all.push(fence(names::ADMISSION_ACCOUNT, vec![reviews(), metrics()]));
    }
    all
}

fn fence(name: &str, ingress: Vec<NetworkPolicyIngressRule>) -> NetworkPolicy {
    let pods = LabelSelector { match_labels: Some(selector(name)), ..LabelSelector::default() };
    NetworkPolicy {
        metadata: meta(name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// Reviews, from anywhere: API servers are no pods, and their addresses are not known here. TLS and the review's own checks guard the port.
fn reviews() -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { from: None, ports: Some(vec![tcp(admission::PORT)]) }
}

/// Metrics, from namespaces that are marked for it. (A kubelet's probes pass every policy.)
fn metrics() -> NetworkPolicyIngressRule {
    let marked = [(labels::METRICS.to_owned(), "true".to_owned())].into();
    let from = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector { match_labels: Some(marked), ..LabelSelector::default() }),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicyIngressRule { from: Some(vec![from]), ports: Some(vec![tcp(METRICS_PORT)]) }
}

fn tcp(port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort { protocol: Some("TCP".to_owned()), port: Some(IntOrString::Int(port)), end_port: None }
}
