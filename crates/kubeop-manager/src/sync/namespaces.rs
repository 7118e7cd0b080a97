//! Apps wait for their project's namespace: nothing is written into one before the operator says that it is the project's.
//!
//! Invariant: waiting costs the cluster nothing, and the database a look by the page; what ends it is the mirrored status of the project
//! (`mirror.rs`), and a look after a while in case that was missed.

use crate::state::Manager;
use jiff::{SignedDuration, Timestamp};
use kubeop_core::Result;
use kubeop_core::id::{AppId, ClusterId};
use kubeop_store::cluster_object::{self, ClusterObject, ObjectKind, lock_order};
use kubeop_store::{Conn, app};
use serde_json::Value;
use std::collections::HashSet;
use uuid::Uuid;

/// How long a namespace that is not there yet is waited for, at first and at most.
const WAIT: (SignedDuration, SignedDuration) = (SignedDuration::from_millis(500), SignedDuration::from_secs(60));

/// Of rows that are due those that may be written; the others, apps that never were on the cluster, are put off.
pub(super) async fn ready(manager: &Manager, id: ClusterId, due: Vec<ClusterObject>) -> Result<Vec<ClusterObject>> {
    let new = |row: &ClusterObject| row.kind == ObjectKind::App && !row.attempted && !row.deleted;
    let apps: Vec<AppId> = due.iter().filter(|row| new(row)).map(|row| AppId(row.entity_id)).collect();
    if apps.is_empty() {
        return Ok(due);
    }
    let _turn = manager.turns.take().await?;
    let homeless = homeless(&mut manager.store.read().await?.conn(), id, &apps).await?;
    if homeless.is_empty() {
        return Ok(due);
    }
    let (mut wait, go): (Vec<_>, Vec<_>) =
        due.into_iter().partition(|row| new(row) && homeless.contains(&row.entity_id));
    wait.sort_by_key(|row| lock_order(row.key()));
    let now = manager.clock.now();
    let mut tx = manager.store.begin().await?;
    for row in &wait {
        let _ = cluster_object::postpone(&mut tx.conn(), row, now + pause(now, row)).await?;
    }
    tx.commit().await?;
    Ok(go)
}

/// Those of these apps whose namespace is not known to be there.
async fn homeless(conn: &mut Conn<'_>, id: ClusterId, apps: &[AppId]) -> Result<HashSet<Uuid>> {
    let project_of = app::projects_of(conn, apps).await?;
    let mut projects: Vec<Uuid> = project_of.values().map(|project| project.0).collect();
    projects.sort_unstable();
    projects.dedup();
    let there: HashSet<Uuid> = cluster_object::list_for_entities(conn, ObjectKind::Project, &projects)
        .await?
        .into_iter()
        .filter(|row| row.cluster_id == id && row.observed.as_ref().is_some_and(is_ready))
        .map(|row| row.entity_id)
        .collect();
    let waits = |app: &AppId| project_of.get(app).is_none_or(|project| !there.contains(&project.0));
    Ok(apps.iter().filter(|app| waits(app)).map(|app| app.0).collect())
}

/// Whether the operator has reported, in this status of a project, that its namespace is there.
pub(super) fn is_ready(status: &Value) -> bool {
    let conditions = status.get("conditions").and_then(Value::as_array);
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| {
            condition.get("type").and_then(Value::as_str) == Some("NamespaceReady")
                && condition.get("status").and_then(Value::as_str) == Some("True")
        })
    })
}

/// Whether the namespace of one app is there.
pub(super) async fn of_app(manager: &Manager, row: &ClusterObject) -> Result<bool> {
    let _turn = manager.turns.take().await?;
    Ok(homeless(&mut manager.store.read().await?.conn(), row.cluster_id, &[AppId(row.entity_id)]).await?.is_empty())
}

/// The longer it has been waited for, the longer the pause.
pub(super) fn pause(now: Timestamp, row: &ClusterObject) -> SignedDuration {
    now.duration_since(row.changed_at).clamp(WAIT.0, WAIT.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_condition_that_is_true_counts() {
        let status = |value: &str| json!({"conditions": [{"type": "Ready", "status": "True"}, {"type": "NamespaceReady", "status": value}]});
        assert!(is_ready(&status("True")));
        assert!(!is_ready(&status("False")) && !is_ready(&json!({})) && !is_ready(&Value::Null));
    }
}
