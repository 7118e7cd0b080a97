//! Guard `kubeop-reserved`: the platform's objects, labels and finalizer in project namespaces, and tokens.
//!
//! Invariant: what the platform made cannot be changed, removed, imitated or adopted by a tenant.

use super::{
    MatchCondition, MatchResources, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpec, cel, names, not_trusted, policy, rule, validation, variable,
};
use k8s_openapi::api::admissionregistration::v1::{Validation, Variable};
use kubeop_crds::labels;

pub(super) fn build() -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let spec = ValidatingAdmissionPolicySpec {
        match_constraints: Some(MatchResources {
            resource_rules: Some(vec![rule(&["*"], &["*"], &["*"], &["CREATE", "UPDATE", "DELETE"])]),
            // Events are named after what they tell of; a review of rights is no object.
            exclude_resource_rules: Some(vec![
                rule(&["", "events.k8s.io"], &["*"], &["events"], &["*"]),
                rule(&["authorization.k8s.io"], &["*"], &["localsubjectaccessreviews"], &["*"]),
            ]),
            match_policy: Some("Equivalent".to_owned()),
            ..MatchResources::default()
        }),
        match_conditions: Some(vec![not_built_in(), not_trusted()]),
        variables: Some(variables()),
        validations: Some(validations()),
        ..ValidatingAdmissionPolicySpec::default()
    };
    (policy(names::GUARD_RESERVED, spec), super::binding(names::GUARD_RESERVED))
}

/// Kubernetes' own controllers: they make pods and slices of what others asked for, with labels copied from there, and empty namespaces. They run as
/// accounts of `kube-system`, or all as one user.
fn not_built_in() -> MatchCondition {
    let users = "['system:kube-controller-manager', 'system:kube-scheduler', 'system:apiserver']";
    MatchCondition {
        name: "not-built-in".to_owned(),
        expression: cel(&format!(
            "!(request.userInfo.username.startsWith('system:serviceaccount:kube-system:')
                || request.userInfo.username in {users}
                || (has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups))"
        )),
    }
}

fn variables() -> Vec<Variable> {
    let managers = [labels::OPERATOR, labels::MANAGER, labels::INSTALLER].map(|name| format!("'{name}'")).join(", ");
    vec![
        variable("now", "request.operation == 'DELETE' ? oldObject : object"),
        variable("name", "has(variables.now.metadata.name) ? variables.now.metadata.name : ''"),
        variable("generateName", "has(variables.now.metadata.generateName) ? variables.now.metadata.generateName : ''"),
        variable("managers", format!("[{managers}]")),
        variable("managed", format!("{} || {}", managed("object"), managed("oldObject"))),
        variable("marks", marks("object")),
        variable("oldMarks", marks("oldObject")),
        variable("finalized", finalized("object")),
        variable("oldFinalized", finalized("oldObject")),
    ]
}

fn validations() -> Vec<Validation> {
    let prefix = labels::RESERVED_NAME_PREFIX;
    vec![
        validation(
            format!("!variables.name.startsWith('{prefix}') && !variables.generateName.startsWith('{prefix}')"),
            "names that begin with kubeop- are the platform's: choose another name",
            Some(
                r#"'object "' + variables.name + '" is the platform\'s: names that begin with kubeop- are reserved'"#
                    .to_owned(),
            ),
        ),
        validation(
            "!variables.managed",
            "this object is made by kubeOP: change the App or project it belongs to",
            Some(cel(
                r#"'object "' + variables.name + '" is made by kubeOP: change the App or project it belongs to, '
                + 'through the manager if that wrote it'"#,
            )),
        ),
        validation(
            "request.operation == 'DELETE' || variables.marks == variables.oldMarks",
            "labels under app.kubeop.io/ and annotations under kubeop.io/ are the platform's: they cannot be set, \
             changed or removed",
            None,
        ),
        validation(
            "request.operation != 'UPDATE' || variables.finalized == variables.oldFinalized",
            "the finalizer kubeop.io/cleanup is the platform's: it cannot be added or removed",
            None,
        ),
        validation(
            cel("request.operation == 'DELETE' || request.resource.resource != 'secrets' || request.resource.group != ''
                || !has(object.type) || object.type != 'kubernetes.io/service-account-token'"),
            "Secrets of type kubernetes.io/service-account-token hold tokens that never end: they are not allowed in a \
             project",
            None,
        ),
    ]
}

/// Whether the object says that kubeOP manages it.
fn managed(object: &str) -> String {
    let key = labels::MANAGED_BY;
    cel(&format!(
        "({object} != null && has({object}.metadata.labels) && '{key}' in {object}.metadata.labels
            && {object}.metadata.labels['{key}'] in variables.managers)"
    ))
}

/// The object's reserved labels and annotations as one sorted list of `key=value`.
fn marks(object: &str) -> String {
    let (app, own) = (labels::APP_PREFIX, labels::PREFIX);
    let of = |field: &str| {
        let map = format!("{object}.metadata.{field}");
        format!(
            "(has({map}) ? {map}.filter(k, k.startsWith('{app}') || k.startsWith('{own}')).map(k, k + '=' + {map}[k]) : [])"
        )
    };
    format!("{object} == null ? [] : ({} + {}).sort()", of("labels"), of("annotations"))
}

fn finalized(object: &str) -> String {
    let finalizers = format!("{object}.metadata.finalizers");
    format!("{object} != null && has({finalizers}) && '{}' in {finalizers}", labels::FINALIZER)
}
