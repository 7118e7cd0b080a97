//! Rights of the manager: it writes custom resources and the policy, issues credentials, and looks.
//!
//! Invariant: it never writes namespaces, quotas or workloads of a project.

use super::{PolicyRule, READ, WRITE, named, rule};
use crate::install::names;
use crate::{policy, providers};
use kubeop_crds::GROUP;

/// The kinds it writes in full; the rest for looking.
pub(super) fn cluster() -> Vec<PolicyRule> {
    vec![
        rule(GROUP, &["tenants", "projects", "apps"], &WRITE),
        rule(GROUP, &["projects"], &[names::BYPASS]),
        rule("", &["namespaces"], &["get", "list"]),
        rule("", &["nodes"], &["get", "list"]),
        named("admissionregistration.k8s.io", &["validatingwebhookconfigurations"], &[names::WEBHOOK], &["get"]),
        named(
            "admissionregistration.k8s.io",
            &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
            &names::GUARDS,
            &["get"],
        ),
    ]
}

/// The policy, the canary (a dry-run, but authorized as a create), autoscaling of our own Deployments, and what status shows.
pub(super) fn system() -> Vec<PolicyRule> {
    vec![
        rule("", &["configmaps"], &["create"]),
        named("", &["configmaps"], &[policy::NAME], &["get", "list", "watch", "update", "patch"]),
        // The platform's status tells whether the stand-ins are in use.
        named("", &["configmaps"], &[providers::NAME], &["get"]),
        rule("coordination.k8s.io", &["leases"], &READ),
        rule("apps", &["deployments"], &["get", "list"]),
        rule("autoscaling", &["horizontalpodautoscalers"], &["create"]),
        named(
            "autoscaling",
            &["horizontalpodautoscalers"],
            &[names::OPERATOR_ACCOUNT, names::ADMISSION_ACCOUNT],
            &["get", "update", "patch", "delete"],
        ),
    ]
}

/// Accounts of roles when first used, their tokens, and the Secrets that tokens are bound to.
pub(super) fn access() -> Vec<PolicyRule> {
    vec![
        rule("", &["serviceaccounts"], &["get", "list", "create"]),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule("", &["secrets"], &["get", "list", "create", "delete"]),
    ]
}
