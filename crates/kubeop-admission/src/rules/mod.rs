//! The rules, one file each, and which of them judges a review.
//!
//! Invariant: a kind, subresource or operation that is not listed here is denied, and so is a panic.

mod app;
mod canary;
mod network_policy;
mod pod;

use crate::metrics::{Metrics, Rule};
use crate::policy_cache::PolicyState;
use crate::review::Request;
use kubeop_core::id::shorten;
use serde_json::value::RawValue;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The outcome: the rule that decided, and its sentence if it denies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub rule: Rule,
    pub denial: Option<String>,
}

impl Judgement {
    pub(crate) fn admit(rule: Rule) -> Self {
        Self { rule, denial: None }
    }

    pub(crate) fn deny(rule: Rule, sentence: impl AsRef<str>) -> Self {
        Self { rule, denial: Some(format!("[{}] {}", rule.id(), sentence.as_ref())) }
    }

    fn from_result(rule: Rule, result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::admit(rule),
            Err(sentence) => Self::deny(rule, sentence),
        }
    }
}

/// What is asked to happen to an object.
#[derive(Clone, Copy)]
enum Operation<'a> {
    Create,
    /// The object as it was: what it already holds is not judged again, so that a stricter policy never blocks controllers from
    /// finishing what runs.
    Update(&'a RawValue),
}

/// Judges a review. Never panics.
pub(crate) fn judge(request: &Request<'_>, policy: &PolicyState, metrics: &Metrics) -> Judgement {
    guarded(|| dispatch(request, policy, metrics))
}

fn guarded(judge: impl FnOnce() -> Judgement) -> Judgement {
    // The inputs are only read, so nothing is left half-changed by a panic; the panic hook has logged where it was.
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
        Judgement::deny(Rule::Review, "kubeop failed to judge this request: please report it to the platform team")
    })
}

/// Group, version, resource, subresource; group and kind of the object.
type Subject<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str);

const NETWORK_POLICIES: Subject<'_> =
    ("networking.k8s.io", "v1", "networkpolicies", "", "networking.k8s.io", "NetworkPolicy");

fn dispatch(request: &Request<'_>, policy: &PolicyState, metrics: &Metrics) -> Judgement {
    let resource = &request.resource;
    let subresource = request.sub_resource.as_deref().unwrap_or_default();
    let unknown = || {
        Judgement::deny(
            Rule::Review,
            format!(
                "{} of {:?}{} in group {:?} is not a request this version of kubeop can judge",
                shorten(&request.operation),
                shorten(&resource.resource),
                if subresource.is_empty() {
                    String::new()
                } else {
                    format!(" (subresource {:?})", shorten(subresource))
                },
                shorten(&resource.group),
            ),
        )
    };
    let subject: Subject<'_> =
        (&resource.group, &resource.version, &resource.resource, subresource, &request.kind.group, &request.kind.kind);
    let (operation, object) = match (&*request.operation, request.object, request.old_object) {
        ("CREATE", Some(object), _) => (Operation::Create, object),
        ("UPDATE", Some(object), Some(old)) => (Operation::Update(old), object),
        // Deleting a policy opens nothing while the platform's own select every pod, and those are guarded by `kubeop-reserved`.
        ("DELETE", None, _) if matches!(subject, NETWORK_POLICIES) => return Judgement::admit(Rule::Network),
        _ => return unknown(),
    };
    match subject {
        ("", "v1", "pods", "" | "ephemeralcontainers" | "resize", "", "Pod") => with_policy(policy, |policy| {
            Judgement::from_result(Rule::Images, pod::judge(policy, operation, object, metrics))
        }),
        NETWORK_POLICIES => {
            let Some(namespace) = request.namespace.as_deref().filter(|namespace| !namespace.is_empty()) else {
                return unknown();
            };
            with_policy(policy, |policy| {
                Judgement::from_result(Rule::Network, network_policy::judge(policy, namespace, operation, object))
            })
        }
        (kubeop_crds::GROUP, kubeop_crds::VERSION, "apps", "", kubeop_crds::GROUP, "App") => {
            with_policy(policy, |policy| match app::judge(policy, operation, object) {
                Ok(()) => Judgement::admit(Rule::Images),
                Err((rule, sentence)) => Judgement::deny(rule, sentence),
            })
        }
        ("", "v1", "configmaps", "", "", "ConfigMap") => Judgement::from_result(Rule::Canary, canary::judge(object)),
        _ => unknown(),
    }
}

fn with_policy(
    state: &PolicyState,
    judge: impl FnOnce(&kubeop_core::policy::PlatformPolicy) -> Judgement,
) -> Judgement {
    match state.policy() {
        Ok(policy) => judge(policy),
        Err(why) => Judgement::deny(Rule::Policy, why),
    }
}

/// Reads a raw object into what a rule looks at.
fn read<'a, T: serde::Deserialize<'a>>(raw: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(raw.get()).map_err(|error| format!("the object is not understood: {error}"))
}

#[cfg(test)]
mod tests;
