//! Guard `kubeop-egress`: a tenant's `NetworkPolicies` open only what the platform's egress baseline allows.
//!
//! Invariant: it never allows what `kubeop_core::policy::PlatformPolicy::check_network_policy` refuses for egress. It may refuse more: a range
//! that only several entries of the baseline cover together, and one whose part outside the baseline is excepted, are refused here.
//!
//! The baseline is read from the project's namespace, where the operator writes it, not from a parameter: once the last policy with a ConfigMap
//! as parameter is deleted, an API server never finds such parameters again until it is restarted (seen with 1.36: its shared informer was
//! stopped), so that an installation after an uninstallation would refuse every NetworkPolicy.

use super::{
    MatchResources, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec, cel,
    names, not_trusted, policy, rule, validation, variable,
};
use k8s_openapi::api::admissionregistration::v1::{Validation, Variable};
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};
use kubeop_crds::labels;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn build() -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let writes = rule(&["networking.k8s.io"], &["v1"], &["networkpolicies"], &["CREATE", "UPDATE"]);
    let spec = ValidatingAdmissionPolicySpec {
        match_constraints: Some(MatchResources {
            resource_rules: Some(vec![writes]),
            match_policy: Some("Equivalent".to_owned()),
            ..MatchResources::default()
        }),
        match_conditions: Some(vec![not_trusted()]),
        variables: Some(variables()),
        validations: Some(validations()),
        ..ValidatingAdmissionPolicySpec::default()
    };
    (policy(names::GUARD_EGRESS, spec), super::binding(names::GUARD_EGRESS))
}

fn variables() -> Vec<Variable> {
    let (told, key) = ("namespaceObject.metadata.annotations", labels::EGRESS_BASELINE);
    let (ids, names) = ([labels::PROJECT_ID, labels::TENANT_ID], [labels::PROJECT, labels::TENANT]);
    let project_labels: Vec<String> = ids.iter().chain(&names).map(|label| format!("'{label}'")).collect();
    vec![
        // An annotation that is not there reads as a text that is no CIDR, so the first validation denies.
        variable("written", format!("has({told}) && '{key}' in {told} ? {told}['{key}'] : 'missing'")),
        variable("baseline", r"variables.written.replace('\n', ',').split(',').map(c, c.trim()).filter(c, c != '')"),
        variable("rules", "has(object.spec.egress) ? object.spec.egress : []"),
        variable("peers", "variables.rules.map(r, has(r.to) ? r.to : [])"),
        variable("blocks", "variables.peers.map(to, to.filter(p, has(p.ipBlock)).map(p, p.ipBlock))"),
        variable("selecting", "variables.peers.map(to, to.filter(p, has(p.namespaceSelector)))"),
        variable("closed", format!("['{SYSTEM_NAMESPACE}', '{ACCESS_NAMESPACE}']")),
        variable("projectLabels", format!("[{}]", project_labels.join(", "))),
    ]
}

fn validations() -> Vec<Validation> {
    vec![
        validation(
            "variables.baseline.all(e, isCIDR(e))",
            "the egress baseline (annotation kubeop.io/egress-baseline of the namespace) cannot be read, so nothing can be opened",
            None,
        ),
        validation(
            "variables.rules.all(r, has(r.to) && r.to.size() > 0)",
            "an egress rule without \"to\" opens every address",
            Some(cel(
                r#"'an egress rule without "to" opens every address: name ranges within the egress baseline of this platform'
                + (variables.baseline.size() == 0 ? '' : ', which is ' + variables.baseline.join(', '))"#,
            )),
        ),
        validation(
            "variables.blocks.all(of, of.all(b, isCIDR(b.cidr)))",
            "an ipBlock of an egress rule is not a canonical CIDR",
            None,
        ),
        validation(
            cel("variables.baseline.size() == 0 || variables.blocks.all(of, of.all(b, isCIDR(b.cidr)
                && variables.baseline.exists(e, cidr(e).containsCIDR(cidr(b.cidr).masked()))))"),
            "an egress rule reaches outside the egress baseline of this platform",
            Some(cel(
                "'an egress rule reaches outside the egress baseline of this platform, which is ' + variables.baseline.join(', ')",
            )),
        ),
        validation(
            cel("variables.blocks.all(of, of.all(b, isCIDR(b.cidr)
                && ['169.254.169.254', 'fd00:ec2::254'].all(m, !cidr(b.cidr).containsIP(m)
                    || (has(b.except) && b.except.exists(e, isCIDR(e) && cidr(e).containsIP(m))))))"),
            "an egress rule opens the metadata address, which always stays closed: list 169.254.169.254/32 \
             (fd00:ec2::254/128) under except",
            None,
        ),
        validation(
            cel("variables.blocks.all(of, of.all(b, isCIDR(b.cidr)
                && !['169.254.0.0/16', 'fe80::/10'].exists(l, cidr(l).containsCIDR(cidr(b.cidr).masked()))))"),
            "an egress rule opens link-local addresses, which always stay closed",
            None,
        ),
        validation(
            selects_only_open_namespaces(),
            "the namespaceSelector of an egress rule may select kubeop-system and kubeop-access, which are closed to \
             projects: name the namespaces by kubernetes.io/metadata.name",
            None,
        ),
    ]
}

/// Every selector of namespaces excludes both closed ones by name, or asks for a label that only projects (or the platform's ingress) have, or
/// selects the cluster's DNS.
fn selects_only_open_namespaces() -> String {
    let ingress = labels::INGRESS;
    let selector = "p.namespaceSelector";
    let by_labels = |condition: String| format!("(has({selector}.matchLabels) && {condition})");
    let by_expression = |condition: String| {
        format!("(has({selector}.matchExpressions) && {selector}.matchExpressions.exists(e, {condition}))")
    };
    let excluded = [
        by_labels(format!("'{NAME_LABEL}' in {selector}.matchLabels && {selector}.matchLabels['{NAME_LABEL}'] != c")),
        by_expression(format!(
            "e.key == '{NAME_LABEL}' && has(e.values)
                && ((e.operator == 'In' && !(c in e.values)) || (e.operator == 'NotIn' && c in e.values))"
        )),
    ];
    let project = [
        by_labels(format!(
            "{selector}.matchLabels.exists(k, k in variables.projectLabels
                || (k == '{ingress}' && {selector}.matchLabels[k] == 'true'))"
        )),
        by_expression(format!(
            "(e.key in variables.projectLabels && e.operator in ['Exists', 'In'])
                || (e.key == '{ingress}' && e.operator == 'In' && has(e.values) && e.values == ['true'])"
        )),
    ];
    let dns = "(has(p.podSelector) && has(p.podSelector.matchLabels) && 'k8s-app' in p.podSelector.matchLabels
        && p.podSelector.matchLabels['k8s-app'] == 'kube-dns')";
    cel(&format!(
        "variables.selecting.all(of, of.all(p, variables.closed.all(c, {}) || {} || {dns}))",
        excluded.join(" || "),
        project.join(" || ")
    ))
}
