//! Condition types and reasons, and how a condition is merged into a list.
//!
//! Invariant: a list holds each type once, and `lastTransitionTime` moves only when `status` does (Kubernetes API conventions, "Typical status properties").

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The resource is in the state its spec asks for, and usable. On every kind.
pub const READY: &str = "Ready";
/// The controller is working towards the spec (kstatus). On every kind, only while true.
pub const RECONCILING: &str = "Reconciling";
/// The controller cannot get on without a change by somebody (kstatus). On every kind, only while true.
pub const STALLED: &str = "Stalled";
/// Project: the namespace exists, is ours and carries labels and Pod Security levels.
pub const NAMESPACE_READY: &str = "NamespaceReady";
/// Project: the quota is in force (every key is in `status.hard` and `status.used`) and the limit range exists.
pub const QUOTA_READY: &str = "QuotaReady";
/// Project: the baseline network policies exist as the platform policy wants them.
pub const NETWORK_READY: &str = "NetworkReady";
/// Project: roles are bound, people may enter.
pub const ACCESS_READY: &str = "AccessReady";
/// App: every image is one the platform policy allows.
pub const IMAGE_ALLOWED: &str = "ImageAllowed";
/// App: the hooks of this revision have run.
pub const HOOKS_SUCCEEDED: &str = "HooksSucceeded";
/// App: enough pods answer.
pub const AVAILABLE: &str = "Available";
/// App: the rollout advances or is complete.
pub const PROGRESSING: &str = "Progressing";
/// Tenant: what its projects are granted fits the envelope.
pub const WITHIN_QUOTA: &str = "WithinQuota";

/// Reasons, CamelCase.
pub mod reason {
    /// Everything is as the spec asks.
    pub const READY: &str = "Ready";
    /// The controller is making the objects.
    pub const RECONCILING: &str = "Reconciling";
    /// This step is done.
    pub const APPLIED: &str = "Applied";
    /// The spec breaks a rule; the message says which.
    pub const INVALID: &str = "Invalid";
    /// What has the wanted name belongs to somebody else; nothing is written.
    pub const NOT_OURS: &str = "NotOurs";
    /// The tenant that the project names does not exist.
    pub const TENANT_NOT_FOUND: &str = "TenantNotFound";
    /// The namespace is no project's, so an App in it is not delivered.
    pub const PROJECT_NOT_FOUND: &str = "ProjectNotFound";
    /// The project of the app is not ready.
    pub const WAITING_FOR_PROJECT: &str = "WaitingForProject";
    /// The namespace is not there yet.
    pub const WAITING_FOR_NAMESPACE: &str = "WaitingForNamespace";
    /// The quota controller has not taken the quota into force yet.
    pub const WAITING_FOR_QUOTA: &str = "WaitingForQuota";
    /// An earlier step of the project's order is not done.
    pub const WAITING: &str = "Waiting";
    /// The platform policy cannot be read; nothing is opened until it can.
    pub const POLICY_UNREADABLE: &str = "PolicyUnreadable";
    /// The project's quota is above the platform's ceiling, which was lowered after it was granted.
    pub const ABOVE_QUOTA_MAX: &str = "AboveQuotaMax";
    /// The projects of a tenant are granted more than its envelope.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// What is granted fits the envelope.
    pub const WITHIN_ENVELOPE: &str = "WithinEnvelope";
    /// The tenant sets no envelope.
    pub const NO_ENVELOPE: &str = "NoEnvelope";
    /// Projects of this tenant still exist, so it is not deleted.
    pub const PROJECTS_EXIST: &str = "ProjectsExist";
    /// Objects are being removed.
    pub const DELETING: &str = "Deleting";
    /// Suspended by its spec, its project's or its tenant's.
    pub const SUSPENDED: &str = "Suspended";
    /// An image is not on the allow-list.
    pub const IMAGE_NOT_ALLOWED: &str = "ImageNotAllowed";
    /// Every image is on the allow-list, or there is none.
    pub const IMAGE_ALLOWED: &str = "ImageAllowed";
    /// This version cannot deliver the kind.
    pub const UNSUPPORTED_DELIVERY: &str = "UnsupportedDelivery";
    /// This version cannot run hooks.
    pub const UNSUPPORTED_HOOKS: &str = "UnsupportedHooks";
    /// The App has no hooks.
    pub const NO_HOOKS: &str = "NoHooks";
    /// Another App holds the host.
    pub const HOST_TAKEN: &str = "HostTaken";
    /// No provider of DNS is configured; the resource is the claim of its host all the same.
    pub const NO_PROVIDER: &str = "NoProvider";
    /// What is configured as providers is not understood; nothing is published or issued until it is.
    pub const PROVIDERS_UNREADABLE: &str = "ProvidersUnreadable";
    /// No issuer is configured, or not the one that the certificate names.
    pub const NO_ISSUER: &str = "NoIssuer";
    /// The App that the resource names as its owner does not exist with that uid.
    pub const OWNER_NOT_FOUND: &str = "OwnerNotFound";
    /// What the host points at does not exist, or has no address yet.
    pub const TARGET_NOT_FOUND: &str = "TargetNotFound";
    /// The cluster's DNS is none that the stand-in zone can be put into.
    pub const UNSUPPORTED_CLUSTER_DNS: &str = "UnsupportedClusterDNS";
    /// A host of the certificate is not held by the certificate's owner.
    pub const HOST_NOT_HELD: &str = "HostNotHeld";
    /// A policy does not allow the host, or it is the cluster's own.
    pub const HOST_NOT_ALLOWED: &str = "HostNotAllowed";
    /// Pods are being replaced or started.
    pub const ROLLING_OUT: &str = "RollingOut";
    /// The rollout is complete.
    pub const ROLLED_OUT: &str = "RolledOut";
    /// The rollout made no progress within its deadline.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// The minimum of pods answers.
    pub const MINIMUM_REPLICAS_AVAILABLE: &str = "MinimumReplicasAvailable";
    /// Fewer pods answer than are needed.
    pub const MINIMUM_REPLICAS_UNAVAILABLE: &str = "MinimumReplicasUnavailable";
    /// The API server refused a write; the message is its answer.
    pub const REFUSED: &str = "Refused";
    /// Something failed; the controller tries again.
    pub const FAILED: &str = "Failed";
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known (yet).
    Unknown,
}

impl Truth {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What a controller found, before it is merged with what was reported earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// One of the types above.
    pub type_: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// One of [`reason`].
    pub reason: &'static str,
    /// A sentence for people; may be empty.
    pub message: String,
}

impl Finding {
    /// A finding.
    pub fn new(type_: &'static str, truth: impl Into<Truth>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, truth: truth.into(), reason, message: message.into() }
    }
}

/// Longest message the API server takes (`meta/v1` Condition).
const MAX_MESSAGE: usize = 32_768;

/// The conditions after `findings`: each replaces the one of its type, keeping the time of transition if the status is the same; types in `owned`
/// that nobody found any more are dropped; all others stay.
pub fn merge(
    current: &[Condition],
    findings: &[Finding],
    owned: &[&str],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut merged: Vec<Condition> = current
        .iter()
        .filter(|old| !owned.contains(&old.type_.as_str()) && !findings.iter().any(|f| f.type_ == old.type_))
        .cloned()
        .collect();
    for finding in findings {
        let status = finding.truth.as_str();
        let since = current.iter().find(|old| old.type_ == finding.type_ && old.status == status);
        let mut message = finding.message.clone();
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(end);
        }
        merged.push(Condition {
            type_: finding.type_.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: since.map_or(Time(now), |old| old.last_transition_time.clone()),
        });
    }
    merged.sort_by(|a, b| (a.type_ != READY, &a.type_).cmp(&(b.type_ != READY, &b.type_)));
    merged
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition holds for the given generation (a stale one does not).
pub fn is_true(conditions: &[Condition], type_: &str, generation: Option<i64>) -> bool {
    find(conditions, type_).is_some_and(|c| {
        c.status == Truth::True.as_str() && (generation.is_none() || c.observed_generation == generation)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_transition_moves_only_with_the_status() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let first = merge(&[], &[Finding::new(READY, false, reason::RECONCILING, "a")], &[], Some(1), at(1));
        let second = merge(&first, &[Finding::new(READY, false, reason::INVALID, "b")], &[], Some(2), at(2));
        assert_eq!(second[0].last_transition_time, Time(at(1)));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("Invalid", Some(2)));
        let third = merge(&second, &[Finding::new(READY, true, reason::READY, "")], &[], Some(2), at(3));
        assert_eq!(third[0].last_transition_time, Time(at(3)));
        assert!(is_true(&third, READY, Some(2)));
        assert!(!is_true(&third, READY, Some(3)), "a condition of an older generation says nothing about this one");
    }

    #[test]
    fn what_is_owned_and_not_found_goes_what_is_foreign_stays() {
        let now = Timestamp::UNIX_EPOCH;
        let all = [Finding::new(STALLED, true, reason::INVALID, ""), Finding::new(READY, false, reason::INVALID, "")];
        let mut before = merge(&[], &all, &[], None, now);
        before.push(Condition { type_: "Foreign".into(), ..before[0].clone() });
        let after =
            merge(&before, &[Finding::new(READY, true, reason::READY, "")], &[READY, STALLED, RECONCILING], None, now);
        let types: Vec<_> = after.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "Foreign"]);
    }
}
