//! Guards in the API server itself: `ValidatingAdmissionPolicies`, which hold while every process of ours is down.
//!
//! Invariant: an expression that fails denies (`failurePolicy: Fail`). Whoever may `bypass` on `projects.platform.kubeop.io` passes the guards of
//! the platform's own objects; those of workloads hold for everyone.

mod egress;
mod reserved;
mod workloads;

use super::names;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
    Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::ObjectMeta;
use kubeop_crds::labels;

/// Every guard with its binding.
pub fn all() -> Vec<(ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)> {
    vec![reserved::build(), egress::build(), workloads::pods(), workloads::services()]
}

/// An expression written over several lines, on one. No text within it holds two spaces in a row.
fn cel(lines: &str) -> String {
    lines.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The requester may not bypass.
fn not_trusted() -> MatchCondition {
    MatchCondition {
        name: "not-trusted".to_owned(),
        expression: format!(
            "!authorizer.group('{}').resource('projects').check('{}').allowed()",
            kubeop_crds::GROUP,
            names::BYPASS
        ),
    }
}

fn policy(name: &str, spec: ValidatingAdmissionPolicySpec) -> ValidatingAdmissionPolicy {
    ValidatingAdmissionPolicy {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(ValidatingAdmissionPolicySpec { failure_policy: Some("Fail".to_owned()), ..spec }),
        status: None,
    }
}

/// Binds a policy in every project namespace.
fn binding(name: &str) -> ValidatingAdmissionPolicyBinding {
    let in_projects =
        LabelSelectorRequirement { key: labels::PROJECT_ID.to_owned(), operator: "Exists".to_owned(), values: None };
    ValidatingAdmissionPolicyBinding {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(name.to_owned()),
            param_ref: None,
            validation_actions: Some(vec!["Deny".to_owned()]),
            match_resources: Some(MatchResources {
                namespace_selector: Some(LabelSelector {
                    match_expressions: Some(vec![in_projects]),
                    ..LabelSelector::default()
                }),
                match_policy: Some("Equivalent".to_owned()),
                object_selector: Some(LabelSelector::default()),
                ..MatchResources::default()
            }),
        }),
    }
}

fn rule(groups: &[&str], versions: &[&str], resources: &[&str], operations: &[&str]) -> NamedRuleWithOperations {
    let texts = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect());
    NamedRuleWithOperations {
        api_groups: texts(groups),
        api_versions: texts(versions),
        resources: texts(resources),
        operations: texts(operations),
        scope: Some("Namespaced".to_owned()),
        resource_names: None,
    }
}

fn variable(name: &str, expression: impl Into<String>) -> Variable {
    Variable { name: name.to_owned(), expression: expression.into() }
}

fn validation(expression: impl Into<String>, message: &str, message_expression: Option<String>) -> Validation {
    Validation {
        expression: expression.into(),
        message: Some(message.to_owned()),
        message_expression,
        reason: Some("Forbidden".to_owned()),
    }
}
