//! What people may do in their project: viewer, developer, admin.
//!
//! Invariant: quotas, limits, endpoints, tokens and the platform's kinds but Apps are out of reach; each role holds the one before it.

use super::{PolicyRule, READ, WRITE, rule};
use kubeop_crds::GROUP;

/// Writing whole collections too.
const WRITE_ALL: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Reads everything but Secrets.
pub(super) fn viewer() -> Vec<PolicyRule> {
    vec![
        rule(
            "",
            &[
                "pods",
                "pods/log",
                "pods/status",
                "services",
                "endpoints",
                "configmaps",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "serviceaccounts",
                "events",
                "resourcequotas",
                "limitranges",
            ],
            &READ,
        ),
        rule(
            "apps",
            &[
                "deployments",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
                "daemonsets",
                "controllerrevisions",
            ],
            &READ,
        ),
        rule("batch", &["jobs", "cronjobs"], &READ),
        rule("autoscaling", &["horizontalpodautoscalers"], &READ),
        rule("policy", &["poddisruptionbudgets"], &READ),
        rule("networking.k8s.io", &["ingresses", "networkpolicies"], &READ),
        rule("discovery.k8s.io", &["endpointslices"], &READ),
        rule("events.k8s.io", &["events"], &READ),
        rule("metrics.k8s.io", &["pods"], &["get", "list"]),
        rule(GROUP, &["apps", "apps/status"], &READ),
    ]
}

/// Workloads and what belongs to them. NetworkPolicies may be written because the guard of egress stands (`install::guards::egress`).
pub(super) fn developer() -> Vec<PolicyRule> {
    let mut rules = viewer();
    rules.extend([
        rule("", &["pods", "services", "configmaps", "secrets", "persistentvolumeclaims"], &WRITE_ALL),
        rule("", &["pods/exec", "pods/attach", "pods/portforward"], &["get", "create"]),
        rule("", &["pods/eviction"], &["create"]),
        rule("", &["pods/ephemeralcontainers", "pods/resize"], &["get", "update", "patch"]),
        rule("apps", &["deployments", "statefulsets", "daemonsets", "replicasets"], &WRITE_ALL),
        rule("apps", &["deployments/scale", "statefulsets/scale", "replicasets/scale"], &["get", "update", "patch"]),
        rule("batch", &["jobs", "cronjobs"], &WRITE_ALL),
        rule("autoscaling", &["horizontalpodautoscalers"], &WRITE_ALL),
        rule("policy", &["poddisruptionbudgets"], &WRITE_ALL),
        rule("networking.k8s.io", &["ingresses", "networkpolicies"], &WRITE_ALL),
        rule(GROUP, &["apps"], &WRITE_ALL),
    ]);
    rules
}

/// A developer who also gives out roles of the namespace; the API server's escalation check bounds what they may hold.
pub(super) fn admin() -> Vec<PolicyRule> {
    let mut rules = developer();
    rules.extend([
        rule("rbac.authorization.k8s.io", &["roles", "rolebindings"], &WRITE),
        rule("", &["serviceaccounts"], &WRITE),
    ]);
    rules
}
