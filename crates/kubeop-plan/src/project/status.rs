//! The conditions of a project, from how far its objects are.
//!
//! Invariant: `Ready` is true only when all four steps are done for the current spec; a step never reports done before those it rests on.

use super::Resources;
use super::validate::ValidProject;
use crate::refusal::Refusal;
use crate::resources::Applied;
use crate::tenant::status::written;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kubeop_core::quantity::Quantity;
use kubeop_core::quota::Quotas;
use kubeop_crds::conditions::{
    self, ACCESS_READY, Finding, NAMESPACE_READY, NETWORK_READY, QUOTA_READY, READY, RECONCILING, STALLED, Truth,
    reason,
};
use kubeop_crds::{Project, ProjectStatus};
use std::collections::BTreeMap;

/// Condition types that this module decides.
pub const OWNED: [&str; 7] = [READY, RECONCILING, STALLED, NAMESPACE_READY, QUOTA_READY, NETWORK_READY, ACCESS_READY];
/// The four steps, in order.
pub const STEPS: [&str; 4] = [NAMESPACE_READY, QUOTA_READY, NETWORK_READY, ACCESS_READY];

/// How far a reconcile got.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// Everything is applied.
    Applied(&'a Resources<Applied>),
    /// The step (one of [`STEPS`]) waits, with the reason.
    Waiting(&'static str, Refusal),
    /// Nothing was built.
    Refused(Refusal),
    /// Being deleted.
    Deleting(String),
}

/// The conditions that follow.
pub fn findings(project: Option<&ValidProject>, progress: &Progress<'_>) -> Vec<Finding> {
    let (at, refusal) = match progress {
        Progress::Applied(applied) if quota_in_force(applied.resource_quota.live()) => return done(project),
        Progress::Applied(_) => (QUOTA_READY, waiting_for_quota()),
        Progress::Waiting(step, refusal) => (*step, refusal.clone()),
        Progress::Refused(refusal) => (NAMESPACE_READY, refusal.clone()),
        Progress::Deleting(message) => (NAMESPACE_READY, Refusal::new(reason::DELETING, message.clone())),
    };
    let mut found = vec![Finding::new(READY, false, refusal.reason, refusal.message.clone())];
    let stuck = if refusal.may_pass() { RECONCILING } else { STALLED };
    found.push(Finding::new(stuck, true, refusal.reason, refusal.message.clone()));
    let mut reached = true;
    for step in STEPS {
        found.push(if step == at {
            reached = false;
            Finding::new(step, false, refusal.reason, refusal.message.clone())
        } else if reached {
            Finding::new(step, true, reason::APPLIED, "")
        } else {
            Finding::new(step, Truth::Unknown, reason::WAITING, format!("waits for {at}"))
        });
    }
    found
}

fn done(project: Option<&ValidProject>) -> Vec<Finding> {
    let mut found: Vec<Finding> = STEPS.map(|step| Finding::new(step, true, reason::APPLIED, "")).into();
    let suspended = project.is_some_and(|project| project.suspended);
    if let Some(message) = project.and_then(|project| project.above_quota_max.clone()) {
        found.retain(|finding| finding.type_ != QUOTA_READY);
        found.push(Finding::new(QUOTA_READY, true, reason::ABOVE_QUOTA_MAX, message));
    }
    if suspended {
        found.retain(|finding| finding.type_ != ACCESS_READY);
        found.push(Finding::new(
            ACCESS_READY,
            false,
            reason::SUSPENDED,
            "access is withdrawn while the project or its tenant is suspended",
        ));
        found.push(Finding::new(READY, false, reason::SUSPENDED, "the project or its tenant is suspended"));
    } else {
        found.push(Finding::new(READY, true, reason::READY, ""));
    }
    found
}

/// What is said while the quota controller has not answered.
pub fn waiting_for_quota() -> Refusal {
    Refusal::new(
        reason::WAITING_FOR_QUOTA,
        "the quota is not in force yet: the cluster's quota controller has not counted it",
    )
}

/// Whether a quota is in force: every key of `spec.hard` is in `status.hard` with the same amount, and in `status.used`.
pub fn quota_in_force(quota: &ResourceQuota) -> bool {
    let wanted = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let status = quota.status.as_ref();
    let (Some(wanted), Some(hard), Some(used)) =
        (wanted, status.and_then(|s| s.hard.as_ref()), status.and_then(|s| s.used.as_ref()))
    else {
        return false;
    };
    wanted.iter().all(|(key, amount)| hard.get(key).is_some_and(|live| equal(live, amount)) && used.contains_key(key))
}

/// Whether two quotas have the same keys and amounts, however they are written: the API server rewrites them.
pub fn same_amounts(a: Option<&ResourceQuotaSpec>, b: Option<&ResourceQuotaSpec>) -> bool {
    match (a.and_then(|spec| spec.hard.as_ref()), b.and_then(|spec| spec.hard.as_ref())) {
        (Some(a), Some(b)) => {
            a.len() == b.len() && a.iter().all(|(key, amount)| b.get(key).is_some_and(|other| equal(amount, other)))
        }
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn equal(a: &Text, b: &Text) -> bool {
    let exact = |text: &Text| Quantity::parse(&text.0).ok();
    exact(a).is_some_and(|amount| exact(b) == Some(amount))
}

/// `spec.hard` of a live quota, as quotas; keys that are none are left out.
pub fn live_quotas(quota: &ResourceQuota) -> Quotas {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    parse(hard)
}

fn parse(map: Option<&BTreeMap<String, Text>>) -> Quotas {
    let mut all = Quotas::default();
    for (key, amount) in map.into_iter().flatten() {
        if let Ok(one) = Quotas::parse([(key.as_str(), amount.0.as_str())]) {
            for (key, amount) in one.iter() {
                all.set(key, amount.clone());
            }
        }
    }
    all
}

/// The status to write.
pub fn status(
    project: &Project,
    valid: Option<&ValidProject>,
    progress: &Progress<'_>,
    policy_version: Option<&str>,
    now: jiff::Timestamp,
) -> ProjectStatus {
    let before = project.status.clone().unwrap_or_default();
    let generation = project.metadata.generation;
    let conditions = conditions::merge(&before.conditions, &findings(valid, progress), &OWNED, generation, now);
    let mut status = ProjectStatus { conditions, observed_generation: generation, ..before };
    if let Progress::Applied(applied) = progress {
        let namespace = &applied.namespace.live().metadata;
        status.namespace.clone_from(&namespace.name);
        status.namespace_uid.clone_from(&namespace.uid);
        let quota = applied.resource_quota.live().status.as_ref();
        status.granted = written(&parse(quota.and_then(|quota| quota.hard.as_ref())));
        status.used = written(&parse(quota.and_then(|quota| quota.used.as_ref())));
        status.policy_version = policy_version.map(ToOwned::to_owned);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "tests write json!({..}) in place")]
    fn quota(status: serde_json::Value) -> ResourceQuota {
        serde_json::from_value(json!({"spec": {"hard": {"pods": "200", "requests.cpu": "1"}}, "status": status}))
            .unwrap()
    }

    #[test]
    fn a_quota_is_in_force_when_every_key_is_in_hard_and_used() {
        let full =
            json!({"hard": {"pods": "200", "requests.cpu": "1000m"}, "used": {"pods": "0", "requests.cpu": "0"}});
        assert!(quota_in_force(&quota(full)), "1000m is 1");
        for part in [
            json!(null),
            json!({"hard": {"pods": "200", "requests.cpu": "1"}}),
            json!({"hard": {"pods": "200"}, "used": {"pods": "0", "requests.cpu": "0"}}),
            json!({"hard": {"pods": "200", "requests.cpu": "2"}, "used": {"pods": "0", "requests.cpu": "0"}}),
            json!({"hard": {"pods": "200", "requests.cpu": "1"}, "used": {"pods": "0"}}),
        ] {
            assert!(!quota_in_force(&quota(part.clone())), "{part}");
        }
    }

    #[test]
    fn steps_after_the_one_that_waits_are_unknown() {
        let found = findings(None, &Progress::Waiting(QUOTA_READY, waiting_for_quota()));
        let truth = |type_: &str| found.iter().find(|f| f.type_ == type_).map(|f| f.truth);
        assert_eq!(truth(NAMESPACE_READY), Some(Truth::True));
        assert_eq!(truth(QUOTA_READY), Some(Truth::False));
        assert_eq!((truth(NETWORK_READY), truth(ACCESS_READY)), (Some(Truth::Unknown), Some(Truth::Unknown)));
        assert_eq!((truth(READY), truth(RECONCILING), truth(STALLED)), (Some(Truth::False), Some(Truth::True), None));
        let refused = findings(None, &Progress::Refused(Refusal::invalid("no")));
        assert!(refused.iter().any(|f| f.type_ == STALLED && f.truth == Truth::True));
    }
}
