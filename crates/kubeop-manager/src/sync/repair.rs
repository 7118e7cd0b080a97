//! The full compare: what rows ask for and the cluster lacks is wanted again; what no row asks for is reported.
//!
//! Invariant: nothing is deleted here; an object without a row may be a restored backup's, another manager's or a person's.

use super::{gone, mirror, objects};
use crate::api::policy::current;
use crate::state::Manager;
use kube::Client;
use kubeop_cluster::apply::{self, Kind};
use kubeop_core::Result;
use kubeop_core::id::ClusterId;
use kubeop_store::cluster_object::{self, ClusterObject, ObjectKind};
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

const EVERY: Duration = Duration::from_mins(5);
const PAGE: u32 = 1000;

/// Compares at once, then every five minutes.
pub(super) async fn periodically(manager: &Manager, client: &Client, id: ClusterId) -> Result<()> {
    loop {
        compare(manager, client, id).await?;
        tokio::time::sleep(EVERY).await;
    }
}

async fn compare(manager: &Manager, client: &Client, id: ClusterId) -> Result<()> {
    let rows = rows(manager, id).await?;
    restore_policy(manager, client, id).await?;
    let mut foreign = 0_i64;
    let mut there: HashMap<(ObjectKind, Uuid), Option<i64>> = HashMap::new();
    for kind in Kind::ALL {
        for live in apply::list(client, kind).await? {
            let entity = live.entity.as_deref().and_then(|text| Uuid::try_parse(text).ok());
            let key = entity.map(|entity| (mirror::kind_of(kind), entity)).filter(|key| rows.contains_key(key));
            if let Some(key) = key {
                there.insert(key, live.wanted);
            } else {
                foreign += 1;
                tracing::warn!(cluster = %id, object = %live.target, instance = live.instance.as_deref().unwrap_or("none"), "no row asks for this object");
            }
        }
    }
    manager.metrics.foreign_objects.set(foreign);
    for (key, row) in &rows {
        let applied = row.applied > 0 && !row.deleted && row.kind != ObjectKind::Policy;
        let missing = there.get(key).is_none_or(|wanted| wanted.is_none_or(|wanted| wanted < row.applied));
        if applied && missing {
            tracing::info!(cluster = %id, kind = row.kind.as_str(), name = %row.name, "missing on the cluster, wanted again");
            gone::unseen(manager, row.key()).await?;
        }
    }
    Ok(())
}

/// Wants the policy's ConfigMap again if the cluster does not hold the version that was recorded as applied.
async fn restore_policy(manager: &Manager, client: &Client, id: ClusterId) -> Result<()> {
    let held = kubeop_cluster::policy::version(client).await?;
    let mut tx = manager.store.begin().await?;
    let wanted = current(&mut tx.conn()).await?.version;
    if held.is_none_or(|held| held < wanted) {
        objects::mark_policy(&mut tx.conn(), id, manager.clock.now()).await?;
        tx.commit().await?;
        manager.wake.cluster(id);
    }
    Ok(())
}

async fn rows(manager: &Manager, id: ClusterId) -> Result<HashMap<(ObjectKind, Uuid), ClusterObject>> {
    let mut rows = HashMap::new();
    let mut after = None;
    loop {
        let page = cluster_object::list_all(&mut manager.store.read().await?.conn(), id, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(rows) };
        after = Some((last.kind, last.entity_id));
        rows.extend(page.into_iter().map(|row| ((row.kind, row.entity_id), row)));
    }
}
