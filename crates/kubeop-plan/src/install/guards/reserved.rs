//! Guard `kubeop-reserved`: the platform's objects, labels and finalizer in project namespaces, and tokens.
//!
//! Invariant: what the platform made cannot be changed, removed, imitated or adopted by a tenant.

use super::{
    MatchCondition, MatchResources, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpec, names, not_trusted, policy, rule, validation, variable,
};
use kubeop_crds::labels;

pub(super) fn build() -> (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding) {
    let spec = ValidatingAdmissionPolicySpec {
        match_constraints: Some(MatchResources {
            resource_rules: Some(vec![rule(&["*"], &["*"], &["*"], &["CREATE", "UPDATE", "DELETE"])]),
            // Events are named after what they tell of; leases of a tenant's own leader election are its own.
            exclude_resource_rules: Some(vec![
                rule(&["", "events.k8s.io"], &["*"], &["events"], &["*"]),
                rule(&["authorization.k8s.io"], &["*"], &["localsubjectaccessreviews"], &["*"]),
            ]),
            match_policy: Some("Equivalent".to_owned()),
            ..MatchResources::default()
        }),
        match_conditions: Some(vec![not_built_in(), not_trusted()]),
        variables: Some(vec![
            variable("now", "request.operation == 'DELETE' ? oldObject : object"),
            variable("name", "has(variables.now.metadata.name) ? variables.now.metadata.name : ''"),
            variable(
                "generateName",
                "has(variables.now.metadata.generateName) ? variables.now.metadata.generateName : ''",
            ),
            variable("managers", format!("['{}', '{}', '{}']", labels::OPERATOR, labels::MANAGER, labels::INSTALLER)),
            variable("managed", managed()),
            variable("marks", marks("object")),
            variable("oldMarks", marks("oldObject")),
            variable("finalized", finalized("object")),
            variable("oldFinalized", finalized("oldObject")),
        ]),
        validations: Some(vec![
            validation(
                format!(
                    "!variables.name.startsWith('{0}') && !variables.generateName.startsWith('{0}')",
                    labels::RESERVED_NAME_PREFIX
                ),
                "objects whose names begin with kubeop- are the platform's: choose another name",
                Some(
                    "'object \"' + variables.name + '\" is the platform\\'s: names that begin with kubeop- are reserved'",
                ),
            ),
            validation(
                "!variables.managed",
                "this object is made by kubeOP: change the App or project it belongs to, through the manager if that wrote it",
                Some(
                    "'object \"' + variables.name + '\" is made by kubeOP: change the App or project it belongs to, through the manager if that wrote it'",
                ),
            ),
            validation(
                "request.operation == 'DELETE' || variables.marks == variables.oldMarks",
                "labels under app.kubeop.io/ and annotations under kubeop.io/ are the platform's: they cannot be set, changed or removed",
                None,
            ),
            validation(
                "request.operation != 'UPDATE' || variables.finalized == variables.oldFinalized",
                "the finalizer kubeop.io/cleanup is the platform's: it cannot be added or removed",
                None,
            ),
            validation(
                "request.operation == 'DELETE' || request.resource.resource != 'secrets' || request.resource.group != '' || !has(object.type) || object.type != 'kubernetes.io/service-account-token'",
                "Secrets of type kubernetes.io/service-account-token hold tokens that never end: they are not allowed in a project",
                None,
            ),
        ]),
        ..ValidatingAdmissionPolicySpec::default()
    };
    (policy(names::GUARD_RESERVED, spec), super::binding(names::GUARD_RESERVED, None))
}

/// Kubernetes' own controllers: they make pods and slices of what others asked for, with labels copied from there, and empty namespaces.
fn not_built_in() -> MatchCondition {
    MatchCondition {
        name: "not-built-in".to_owned(),
        expression: "!(request.userInfo.username.startsWith('system:serviceaccount:kube-system:') \
            || request.userInfo.username in ['system:kube-controller-manager', 'system:kube-scheduler', 'system:apiserver'] \
            || (has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups))"
            .to_owned(),
    }
}

/// Whether the object, before or after, says that kubeOP manages it.
fn managed() -> String {
    let says = |object: &str| {
        format!(
            "({object} != null && has({object}.metadata.labels) && '{key}' in {object}.metadata.labels && {object}.metadata.labels['{key}'] in variables.managers)",
            key = labels::MANAGED_BY
        )
    };
    format!("{} || {}", says("object"), says("oldObject"))
}

/// The reserved labels and annotations as one sorted list of `key=value`. The annotation of kubectl's client-side apply is not ours.
fn marks(object: &str) -> String {
    let of = |field: &str| {
        format!(
            "(has({object}.metadata.{field}) ? {object}.metadata.{field}.filter(k, k.startsWith('{app}') || k.startsWith('{own}')).map(k, k + '=' + {object}.metadata.{field}[k]) : [])",
            app = labels::APP_PREFIX,
            own = labels::PREFIX
        )
    };
    format!("{object} == null ? [] : ({} + {}).sort()", of("labels"), of("annotations"))
}

fn finalized(object: &str) -> String {
    format!(
        "{object} != null && has({object}.metadata.finalizers) && '{}' in {object}.metadata.finalizers",
        labels::FINALIZER
    )
}
