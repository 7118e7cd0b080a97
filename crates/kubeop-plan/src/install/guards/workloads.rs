//! The guards `kubeop-pods` and `kubeop-services`: what reaches past a project by the shape of an object alone.
//!
//! Invariant: they hold for everyone in a project namespace, since no one needs there what they refuse; built-in controllers may name a node.

use super::{binding, cel, names, policy, rule, validation};
use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec,
    Validation,
};

fn guard(
    name: &str,
    resource: &str,
    operations: &[&str],
    validations: Vec<Validation>,
) -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let spec = ValidatingAdmissionPolicySpec {
        match_constraints: Some(MatchResources {
            resource_rules: Some(vec![rule(&[""], &["v1"], &[resource], operations)]),
            match_policy: Some("Equivalent".to_owned()),
            ..MatchResources::default()
        }),
        validations: Some(validations),
        ..ValidatingAdmissionPolicySpec::default()
    };
    (policy(name, spec), binding(name, None))
}

/// Priorities above every tenant's, and places on nodes, are not a tenant's to take.
pub(super) fn pods() -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let priority = cel(&format!(
        "!has(object.spec.priorityClassName) || !(object.spec.priorityClassName.startsWith('system-')
            || object.spec.priorityClassName == '{}')",
        names::PRIORITY
    ));
    let node = cel("!has(object.spec.nodeName) || object.spec.nodeName == ''
        || request.userInfo.username.startsWith('system:serviceaccount:kube-system:')
        || request.userInfo.groups.exists(g, g == 'system:nodes')");
    guard(
        names::GUARD_PODS,
        "pods",
        &["CREATE"],
        vec![
            validation(
                priority,
                "spec.priorityClassName: priorities that begin with system-, and kubeop-platform, are the cluster's own",
                None,
            ),
            validation(node, "spec.nodeName: the scheduler places pods; leave it out", None),
        ],
    )
}

/// Addresses that are not the cluster's (CVE-2020-8554), and names that lead past the fence.
pub(super) fn services() -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let addresses = "!has(object.spec.externalIPs) || object.spec.externalIPs.size() == 0";
    let names_elsewhere = "!has(object.spec.type) || object.spec.type != 'ExternalName'";
    guard(
        names::GUARD_SERVICES,
        "services",
        &["CREATE", "UPDATE"],
        vec![
            validation(
                addresses,
                "spec.externalIPs: a project's Service has no addresses of its own choice; leave them out",
                None,
            ),
            validation(names_elsewhere, "spec.type: ExternalName leads past the project's fence; use ClusterIP", None),
        ],
    )
}
