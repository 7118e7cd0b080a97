//! From what the sync knows of an entity to the `status` of an answer.
//!
//! Invariant: `Ready` is said only of what the cluster reported ready for the version that was last asked for. Why a cluster is not set up or does not
//! answer (its addresses, what our processes met there) is the platform team's to know, who see it with the cluster; tenants read this.

use jiff::Timestamp;
use kubeop_api::resource::{Condition, Phase, Status};
use kubeop_crds::conditions::reason;
use kubeop_store::cluster_object::ClusterObject;
use serde_json::Value;

/// What is known of an entity's cluster.
#[derive(Clone, Debug, Default)]
pub struct Reachability {
    /// Whether it answers.
    pub reachable: bool,
    /// Whether the platform is installed there.
    pub bootstrapped: bool,
    /// Why not.
    pub message: String,
}

/// The status of an entity with this desired-state row.
pub fn of_entity(object: Option<&ClusterObject>, deleting: bool, cluster: &Reachability) -> Status {
    let observed = object.and_then(|object| object.observed.as_ref());
    let conditions = observed.map(conditions).unwrap_or_default();
    let synced = object.is_some_and(|object| !object.deleted && object.applied == object.wanted);
    let (phase, message) = phase(object, &conditions, observed, deleting, synced, cluster);
    Status { phase, message, conditions, synced }
}

fn phase(
    object: Option<&ClusterObject>,
    conditions: &[Condition],
    observed: Option<&Value>,
    deleting: bool,
    synced: bool,
    cluster: &Reachability,
) -> (Phase, String) {
    let error = object.and_then(|object| object.last_error.clone());
    if deleting {
        return (Phase::Deleting, error.unwrap_or_default());
    }
    if !cluster.bootstrapped {
        return (Phase::Pending, "the cluster is not set up yet".to_owned());
    }
    if !cluster.reachable {
        return (Phase::Unreachable, "the cluster does not answer".to_owned());
    }
    // An error beside a version that arrived is an older attempt's.
    if let Some(error) = error.filter(|_| !synced) {
        return (Phase::Degraded, error);
    }
    if !synced {
        return (Phase::Pending, "on its way to the cluster".to_owned());
    }
    let Some(ready) = conditions.iter().find(|condition| condition.kind == "Ready") else {
        return (Phase::Pending, "the operator has not reported yet".to_owned());
    };
    if !is_current(observed) {
        return (Phase::Pending, "the operator has not reported on the last change yet".to_owned());
    }
    let stalled = conditions.iter().any(|condition| condition.kind == "Stalled" && condition.status == "True");
    let phase = match ready.status.as_str() {
        "True" => Phase::Ready,
        _ if ready.reason == "Suspended" => Phase::Suspended,
        "False" if stalled || matches!(ready.reason.as_str(), reason::NOT_OURS | reason::HOST_TAKEN) => Phase::Degraded,
        _ => Phase::Pending,
    };
    (phase, if phase == Phase::Ready { String::new() } else { ready.message.clone() })
}

/// Whether the operator's report is of the generation that the manager last saw.
fn is_current(observed: Option<&Value>) -> bool {
    let Some(observed) = observed else { return false };
    match (
        observed.get("generation").and_then(Value::as_i64),
        observed.get("observedGeneration").and_then(Value::as_i64),
    ) {
        (Some(generation), Some(seen)) => seen >= generation,
        _ => true,
    }
}

fn conditions(observed: &Value) -> Vec<Condition> {
    let text = |condition: &Value, key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    observed
        .get("conditions")
        .and_then(Value::as_array)
        .map(|list| {
            list.iter()
                .map(|condition| Condition {
                    kind: text(condition, "type"),
                    status: text(condition, "status"),
                    reason: text(condition, "reason"),
                    message: text(condition, "message"),
                    last_transition_time: condition
                        .get("lastTransitionTime")
                        .and_then(Value::as_str)
                        .filter(|time| time.parse::<Timestamp>().is_ok())
                        .map(ToOwned::to_owned),
                })
                .collect()
        })
        .unwrap_or_default()
}
