//! The conditions of an App, from how far its Deployment is.
//!
//! Invariant: nothing is reported of a Deployment whose controller has not seen its current spec; `Ready` needs every wanted pod updated and available.

use super::Resources;
use super::validate::ValidApp;
use crate::refusal::Refusal;
use crate::resources::Applied;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use kubeop_crds::conditions::{
    self, AVAILABLE, Finding, HOOKS_SUCCEEDED, IMAGE_ALLOWED, PROGRESSING, READY, RECONCILING, STALLED, Truth, reason,
};
use kubeop_crds::{App, AppStatus};

/// Condition types that this module decides.
pub const OWNED: [&str; 7] = [READY, RECONCILING, STALLED, IMAGE_ALLOWED, HOOKS_SUCCEEDED, AVAILABLE, PROGRESSING];

/// How far a reconcile got.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// Everything is applied.
    Applied(&'a ValidApp, &'a Resources<Applied>),
    /// Nothing was built, or the apply stopped, with the reason.
    Refused(Refusal),
    /// Being deleted.
    Deleting(String),
}

/// Where a rollout stands (kstatus rules for Deployments).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// Every wanted pod runs the current template and is available, and no other is left.
    Done,
    /// On its way, with what is missing.
    Moving(String),
    /// No progress within the deadline.
    Stalled(String),
}

/// Where a Deployment's rollout stands.
pub fn rollout(deployment: &Deployment) -> Rollout {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Rollout::Moving("the deployment controller has not seen the current spec yet".to_owned());
    }
    if let Some(failed) =
        condition(deployment, "Progressing").filter(|c| c.reason.as_deref() == Some(reason::PROGRESS_DEADLINE_EXCEEDED))
    {
        return Rollout::Stalled(explain(
            deployment,
            failed.message.as_deref().unwrap_or("the rollout makes no progress"),
        ));
    }
    let updated = status.updated_replicas.unwrap_or(0);
    let total = status.replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let ready = status.ready_replicas.unwrap_or(0);
    let missing = if updated < wanted {
        format!("{updated} of {wanted} pods are updated")
    } else if total > updated {
        format!("{} old pods are still to be stopped", total - updated)
    } else if available < wanted {
        format!("{available} of {wanted} pods are available")
    } else if ready < wanted {
        format!("{ready} of {wanted} pods are ready")
    } else if wanted == 0 && total > 0 {
        format!("{total} pods are still to be stopped")
    } else {
        return Rollout::Done;
    };
    Rollout::Moving(explain(deployment, &missing))
}

/// Adds why pods cannot be made (quota, Pod Security, admission), which the controller keeps in its own condition.
fn explain(deployment: &Deployment, message: &str) -> String {
    match condition(deployment, "ReplicaFailure").and_then(|c| c.message.as_deref()) {
        Some(why) => format!("{message}: {why}"),
        None => message.to_owned(),
    }
}

fn condition<'a>(deployment: &'a Deployment, type_: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| {
        c.type_ == type_ && (c.status == "True" || c.reason.as_deref() == Some(reason::PROGRESS_DEADLINE_EXCEEDED))
    })
}

/// The conditions that follow.
pub fn findings(progress: &Progress<'_>) -> Vec<Finding> {
    match progress {
        Progress::Applied(app, resources) => delivered(app, resources.deployment.live()),
        Progress::Refused(refusal) => refused(refusal),
        Progress::Deleting(message) => vec![Finding::new(READY, false, reason::DELETING, message.clone())],
    }
}

fn refused(refusal: &Refusal) -> Vec<Finding> {
    let mut found = crate::refusal::findings(refusal);
    let (type_, all) = match refusal.reason {
        reason::IMAGE_NOT_ALLOWED => (IMAGE_ALLOWED, &[HOOKS_SUCCEEDED, AVAILABLE, PROGRESSING][..]),
        reason::UNSUPPORTED_HOOKS => (HOOKS_SUCCEEDED, &[IMAGE_ALLOWED, AVAILABLE, PROGRESSING][..]),
        _ => (PROGRESSING, &[IMAGE_ALLOWED, HOOKS_SUCCEEDED, AVAILABLE][..]),
    };
    found.push(Finding::new(type_, false, refusal.reason, refusal.message.clone()));
    found.extend(all.iter().map(|type_| Finding::new(type_, Truth::Unknown, refusal.reason, "")));
    found
}

fn delivered(app: &ValidApp, deployment: &Deployment) -> Vec<Finding> {
    let mut found = vec![
        Finding::new(IMAGE_ALLOWED, true, reason::IMAGE_ALLOWED, ""),
        Finding::new(HOOKS_SUCCEEDED, true, reason::NO_HOOKS, ""),
    ];
    let rollout = rollout(deployment);
    let seen = deployment.status.as_ref().and_then(|s| s.observed_generation) >= deployment.metadata.generation;
    found.push(match condition(deployment, "Available") {
        _ if !seen => Finding::new(AVAILABLE, Truth::Unknown, reason::RECONCILING, ""),
        Some(_) => Finding::new(AVAILABLE, true, reason::MINIMUM_REPLICAS_AVAILABLE, ""),
        None => Finding::new(
            AVAILABLE,
            false,
            reason::MINIMUM_REPLICAS_UNAVAILABLE,
            explain(deployment, "too few pods are available"),
        ),
    });
    match rollout {
        Rollout::Stalled(why) => {
            found.push(Finding::new(PROGRESSING, false, reason::PROGRESS_DEADLINE_EXCEEDED, why.clone()));
            found.push(Finding::new(STALLED, true, reason::PROGRESS_DEADLINE_EXCEEDED, why.clone()));
            found.push(Finding::new(READY, false, reason::PROGRESS_DEADLINE_EXCEEDED, why));
        }
        Rollout::Moving(why) => {
            found.push(Finding::new(PROGRESSING, true, reason::ROLLING_OUT, why.clone()));
            found.push(Finding::new(RECONCILING, true, reason::ROLLING_OUT, why.clone()));
            found.push(Finding::new(READY, false, reason::ROLLING_OUT, why));
        }
        Rollout::Done => {
            found.push(Finding::new(PROGRESSING, true, reason::ROLLED_OUT, ""));
            found.push(if app.suspended {
                Finding::new(READY, false, reason::SUSPENDED, "the app, its project or its tenant is suspended")
            } else {
                Finding::new(READY, true, reason::READY, "")
            });
        }
    }
    found
}

/// The status to write.
pub fn status(app: &App, progress: &Progress<'_>, now: jiff::Timestamp) -> AppStatus {
    let before = app.status.clone().unwrap_or_default();
    let generation = app.metadata.generation;
    let conditions = conditions::merge(&before.conditions, &findings(progress), &OWNED, generation, now);
    let mut status = AppStatus { conditions, observed_generation: generation, ..before };
    status.kind = app.spec.delivery.kind().ok().map(|kind| kind.to_string());
    if let Progress::Applied(valid, resources) = progress {
        let ready = resources.deployment.live().status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
        status.image = Some(valid.image.to_string());
        status.hosts = valid.hosts.iter().map(ToString::to_string).collect();
        status.replicas = Some(valid.replicas);
        status.ready_replicas = Some(ready);
        status.pods = Some(format!("{ready}/{}", valid.replicas));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::check_under;
    use super::*;
    use crate::app::build;
    use crate::fixture::app;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "tests write json!({..}) in place")]
    fn deployment(status: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"generation": 4},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": status,
        }))
        .unwrap()
    }

    fn all(count: i32) -> serde_json::Value {
        json!({"observedGeneration": 4, "replicas": count, "updatedReplicas": count, "readyReplicas": count, "availableReplicas": count,
            "conditions": [{"type": "Available", "status": "True"}, {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]})
    }

    #[test]
    fn a_rollout_is_done_when_every_pod_is_new_and_available() {
        assert_eq!(rollout(&deployment(all(2))), Rollout::Done);
        let with = |key: &str, value: serde_json::Value| {
            let mut status = all(2);
            status[key] = value;
            rollout(&deployment(status))
        };
        for (key, value, needle) in [
            ("observedGeneration", json!(3), "has not seen"),
            ("updatedReplicas", json!(1), "1 of 2 pods are updated"),
            ("replicas", json!(3), "1 old pods"),
            ("availableReplicas", json!(1), "1 of 2 pods are available"),
        ] {
            let Rollout::Moving(why) = with(key, value) else { panic!("{key} must hold it back") };
            assert!(why.contains(needle), "{why}");
        }
        assert!(matches!(rollout(&deployment(json!(null))), Rollout::Moving(_)));
    }

    #[test]
    fn a_missed_deadline_stalls_and_says_why_pods_cannot_be_made() {
        let stalled = rollout(&deployment(json!({"observedGeneration": 4, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
        ]})));
        assert_eq!(stalled, Rollout::Stalled("timed out: exceeded quota".to_owned()));
    }

    fn ready(spec: serde_json::Value, live: Deployment) -> (AppStatus, Vec<Finding>) {
        let app = app("shop", spec);
        let valid = check_under(&app, &[]).unwrap();
        let prepared = build(&valid);
        let applied = Resources {
            dns_records: Vec::new(),
            deployment: prepared.deployment.applied(live),
            certificate: None,
            service: None,
            ingress: None,
        };
        let progress = Progress::Applied(&valid, &applied);
        (status(&app, &progress, jiff::Timestamp::UNIX_EPOCH), findings(&progress))
    }

    #[test]
    fn a_delivered_app_is_ready_and_shows_its_pods() {
        let (status, _) =
            ready(json!({"delivery": {"image": {"ref": "nginx", "replicas": 2}}, "host": "a.b"}), deployment(all(2)));
        assert!(conditions::is_true(&status.conditions, READY, Some(2)));
        assert_eq!((status.pods.as_deref(), status.kind.as_deref()), (Some("2/2"), Some("Image")));
        assert_eq!(status.image.as_deref(), Some("docker.io/library/nginx:latest"));
        assert!(conditions::find(&status.conditions, RECONCILING).is_none());
    }

    #[test]
    fn a_suspended_app_is_not_ready_with_that_reason() {
        let mut live = deployment(all(0));
        live.spec.as_mut().unwrap().replicas = Some(0);
        let (status, _) = ready(json!({"delivery": {"image": "nginx"}, "suspended": true}), live);
        assert_eq!(conditions::find(&status.conditions, READY).unwrap().reason, reason::SUSPENDED);
    }

    #[test]
    fn refusals_stall_unless_time_may_cure_them() {
        let has = |refusal: Refusal, type_: &str| {
            refused(&refusal).iter().any(|f| f.type_ == type_ && f.truth == Truth::True)
        };
        assert!(has(Refusal::new(reason::UNSUPPORTED_DELIVERY, "x"), STALLED));
        assert!(has(Refusal::new(reason::WAITING_FOR_PROJECT, "x"), RECONCILING));
        let image = refused(&Refusal::new(reason::IMAGE_NOT_ALLOWED, "x"));
        assert!(image.iter().any(|f| f.type_ == IMAGE_ALLOWED && f.truth == Truth::False));
    }
}
