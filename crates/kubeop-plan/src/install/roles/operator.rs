//! Rights of the operator.
//!
//! Invariant: cluster-wide it writes only its kinds, namespaces and bindings of named roles; the contents of a project it may write only where it
//! has bound itself.

use super::{PolicyRule, READ, WRITE, named, rule};
use crate::install::names;
use crate::{policy, providers};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_crds::GROUP;

const KINDS: [&str; 6] = ["tenants", "projects", "apps", "policies", "dnsrecords", "certificates"];

/// Its kinds, namespaces, bindings; reading for shared watches.
pub(super) fn cluster() -> Vec<PolicyRule> {
    let of = |subresource: &str| KINDS.map(|kind| format!("{kind}/{subresource}"));
    let (status, finalizers) = (of("status"), of("finalizers"));
    vec![
        rule(GROUP, &KINDS, &["get", "list", "watch", "update", "patch"]),
        rule(GROUP, &["dnsrecords", "certificates"], &["create", "delete"]),
        rule(GROUP, &status.each_ref().map(String::as_str), &["get", "update", "patch"]),
        rule(GROUP, &finalizers.each_ref().map(String::as_str), &["update"]),
        rule(GROUP, &["projects"], &[names::BYPASS]),
        rule("", &["namespaces"], &WRITE),
        rule("rbac.authorization.k8s.io", &["rolebindings"], &WRITE),
        named(
            "rbac.authorization.k8s.io",
            &["clusterroles"],
            &[names::OPERATOR_PROJECT, names::DEVELOPER, names::VIEWER, names::ADMIN],
            &["bind"],
        ),
        rule("", &["services", "resourcequotas", "limitranges"], &READ),
        rule("apps", &["deployments"], &READ),
        rule("networking.k8s.io", &["ingresses", "networkpolicies"], &READ),
        rule("", &["events"], &["create", "patch"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
        named(
            "admissionregistration.k8s.io",
            &["validatingwebhookconfigurations"],
            &[names::WEBHOOK],
            &["get", "list", "watch", "update", "patch"],
        ),
    ]
}

/// Its lease, admission's certificate (which it makes), the policy, and the canary (a dry-run, but authorized as a create).
pub(super) fn system() -> Vec<PolicyRule> {
    vec![
        rule("coordination.k8s.io", &["leases"], &["get", "list", "watch", "create", "update", "patch"]),
        rule("", &["secrets"], &["create"]),
        named("", &["secrets"], &[names::TLS_SECRET], &["get", "list", "watch", "update", "patch"]),
        rule("", &["configmaps"], &["create"]),
        named("", &["configmaps"], &[policy::NAME, providers::NAME], &READ),
    ]
}

/// Accounts behind kubeconfigs; Secrets that tokens are bound to, when a project goes.
pub(super) fn access() -> Vec<PolicyRule> {
    vec![rule("", &["serviceaccounts"], &WRITE), rule("", &["secrets"], &["list", "delete"])]
}

/// What it writes in a project namespace. It could not bind roles that hold more than it does without `bind`.
pub(super) fn project() -> Vec<PolicyRule> {
    vec![
        rule("", &["services", "resourcequotas", "limitranges"], &WRITE),
        rule("apps", &["deployments"], &WRITE),
        rule("networking.k8s.io", &["ingresses", "networkpolicies"], &WRITE),
        rule("", &["secrets"], &["get", "create", "update"]),
    ]
}

/// With stand-ins for providers: its own CA, and CoreDNS' configuration.
pub(super) fn mocks() -> [(&'static str, Vec<PolicyRule>); 2] {
    let own = |resource: &str, objects: &[&str]| vec![named("", &[resource], objects, &["get", "update"])];
    [
        (SYSTEM_NAMESPACE, own("secrets", &[names::ISSUER_SECRET])),
        (names::DNS_NAMESPACE, own("configmaps", &[names::DNS_CONFIG, names::DNS_CUSTOM])),
    ]
}
