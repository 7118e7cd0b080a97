//! Guard `kubeop-egress`: a tenant's NetworkPolicies open only what the platform's egress baseline allows.
//!
//! Invariant: it never allows what `kubeop_core::policy::PlatformPolicy::check_network_policy` refuses for egress. It may refuse more: a range that only several
//! entries of the baseline cover together, and one whose part outside the baseline is excepted, are refused here.

use super::{
    MatchResources, ParamRef, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpec, names, not_trusted, policy, rule, validation, variable,
};
use crate::policy as published;
use k8s_openapi::api::admissionregistration::v1::ParamKind;
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};
use kubeop_crds::labels;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn build() -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let spec = ValidatingAdmissionPolicySpec {
        param_kind: Some(ParamKind { api_version: Some("v1".to_owned()), kind: Some("ConfigMap".to_owned()) }),
        match_constraints: Some(MatchResources {
            resource_rules: Some(vec![rule(
                &["networking.k8s.io"],
                &["v1"],
                &["networkpolicies"],
                &["CREATE", "UPDATE"],
            )]),
            match_policy: Some("Equivalent".to_owned()),
            ..MatchResources::default()
        }),
        match_conditions: Some(vec![not_trusted()]),
        variables: Some(vec![
            // A missing key is an error, and an error denies.
            variable("written", format!("params.data['{}']", published::EGRESS_BASELINE)),
            variable(
                "baseline",
                "variables.written.replace('\\n', ',').split(',').map(c, c.trim()).filter(c, c != '')",
            ),
            variable("rules", "has(object.spec.egress) ? object.spec.egress : []"),
            variable("peers", "variables.rules.map(r, has(r.to) ? r.to : [])"),
            variable("blocks", "variables.peers.map(to, to.filter(p, has(p.ipBlock)).map(p, p.ipBlock))"),
            variable("selecting", "variables.peers.map(to, to.filter(p, has(p.namespaceSelector)))"),
            variable("closed", format!("['{SYSTEM_NAMESPACE}', '{ACCESS_NAMESPACE}']")),
            variable(
                "projectLabels",
                format!(
                    "['{}', '{}', '{}', '{}']",
                    labels::PROJECT_ID,
                    labels::TENANT_ID,
                    labels::PROJECT,
                    labels::TENANT
                ),
            ),
        ]),
        validations: Some(vec![
            validation(
                "variables.rules.all(r, has(r.to) && r.to.size() > 0)",
                "an egress rule without \"to\" opens every address",
                Some(
                    "'an egress rule without \"to\" opens every address: name ranges within the egress baseline of this platform' + (variables.baseline.size() == 0 ? '' : ', which is ' + variables.baseline.join(', '))",
                ),
            ),
            validation(
                "variables.blocks.all(of, of.all(b, isCIDR(b.cidr)))",
                "an ipBlock of an egress rule is not a canonical CIDR",
                None,
            ),
            validation(
                "variables.baseline.size() == 0 || variables.blocks.all(of, of.all(b, isCIDR(b.cidr) && variables.baseline.exists(e, cidr(e).containsCIDR(cidr(b.cidr).masked()))))",
                "an egress rule reaches outside the egress baseline of this platform",
                Some(
                    "'an egress rule reaches outside the egress baseline of this platform, which is ' + variables.baseline.join(', ')",
                ),
            ),
            validation(
                "variables.blocks.all(of, of.all(b, isCIDR(b.cidr) && ['169.254.169.254', 'fd00:ec2::254'].all(m, !cidr(b.cidr).containsIP(m) || (has(b.except) && b.except.exists(e, isCIDR(e) && cidr(e).containsIP(m))))))",
                "an egress rule opens the metadata address, which always stays closed: list 169.254.169.254/32 (fd00:ec2::254/128) under except",
                None,
            ),
            validation(
                "variables.blocks.all(of, of.all(b, isCIDR(b.cidr) && !['169.254.0.0/16', 'fe80::/10'].exists(l, cidr(l).containsCIDR(cidr(b.cidr).masked()))))",
                "an egress rule opens link-local addresses, which always stay closed",
                None,
            ),
            validation(
                selects_only_open_namespaces(),
                "the namespaceSelector of an egress rule may select kubeop-system and kubeop-access, which are closed to projects: name the namespaces by kubernetes.io/metadata.name",
                None,
            ),
        ]),
        ..ValidatingAdmissionPolicySpec::default()
    };
    let param = ParamRef {
        name: Some(published::NAME.to_owned()),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        parameter_not_found_action: Some("Deny".to_owned()),
        selector: None,
    };
    (policy(names::GUARD_EGRESS, spec), super::binding(names::GUARD_EGRESS, Some(param)))
}

/// Every selector of namespaces excludes both closed ones by name, or asks for a label that only projects (or the platform's ingress) have, or
/// selects the cluster's DNS.
fn selects_only_open_namespaces() -> String {
    let excluded_by_labels = format!(
        "(has(p.namespaceSelector.matchLabels) && '{NAME_LABEL}' in p.namespaceSelector.matchLabels && p.namespaceSelector.matchLabels['{NAME_LABEL}'] != c)"
    );
    let excluded_by_expression = format!(
        "(has(p.namespaceSelector.matchExpressions) && p.namespaceSelector.matchExpressions.exists(e, e.key == '{NAME_LABEL}' && ((e.operator == 'In' && has(e.values) && !(c in e.values)) || (e.operator == 'NotIn' && has(e.values) && c in e.values))))"
    );
    let project_by_labels = format!(
        "(has(p.namespaceSelector.matchLabels) && p.namespaceSelector.matchLabels.exists(k, k in variables.projectLabels || (k == '{ingress}' && p.namespaceSelector.matchLabels[k] == 'true')))",
        ingress = labels::INGRESS
    );
    let project_by_expression = format!(
        "(has(p.namespaceSelector.matchExpressions) && p.namespaceSelector.matchExpressions.exists(e, (e.key in variables.projectLabels && (e.operator == 'Exists' || e.operator == 'In')) || (e.key == '{ingress}' && e.operator == 'In' && has(e.values) && e.values == ['true'])))",
        ingress = labels::INGRESS
    );
    let dns = "(has(p.podSelector) && has(p.podSelector.matchLabels) && 'k8s-app' in p.podSelector.matchLabels && p.podSelector.matchLabels['k8s-app'] == 'kube-dns')";
    format!(
        "variables.selecting.all(of, of.all(p, variables.closed.all(c, {excluded_by_labels} || {excluded_by_expression}) || {project_by_labels} || {project_by_expression} || {dns}))"
    )
}
