//! The full compare: what rows ask for and the cluster lacks, or holds otherwise than it was applied, is wanted again; what no row asks for is
//! reported; what is ahead of its row, since the database was restored from a backup, is caught up with.
//!
//! Invariant: nothing is deleted here; an object without a row may be a restored backup's, another manager's or a person's. Of a cluster only the
//! states of the rows and one page of objects are in memory.

use super::worker::jittered;
use super::{gone, mirror, objects, render};
use crate::api::policy::current;
use crate::metrics::ClusterLabels;
use crate::state::Manager;
use kube::Client;
use kubeop_cluster::apply::{self, Kind, Live};
use kubeop_core::Result;
use kubeop_core::id::ClusterId;
use kubeop_store::cluster_object::{self, Ahead, ObjectKind, State};
use kubeop_store::platform_policy;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

const EVERY: Duration = Duration::from_mins(5);
/// How soon a compare that failed is tried again.
const RETRY: Duration = Duration::from_secs(20);
/// Rows read, or wanted again, at once.
const PAGE: u32 = 1000;
/// Objects without a row that the log names; the rest it counts.
const NAMED: usize = 10;

type Entity = (ObjectKind, Uuid);

/// Compares at once, then every five minutes. A compare that fails says nothing of the cluster.
pub(super) async fn periodically(manager: &Manager, client: &Client, id: ClusterId) {
    loop {
        let pause = match compare(manager, client, id).await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::info!(cluster = %id, error = %error.chain(), "failed to compare a cluster with its rows");
                RETRY
            }
        };
        tokio::time::sleep(jittered(pause, id)).await;
    }
}

async fn compare(manager: &Manager, client: &Client, id: ClusterId) -> Result<()> {
    let mut ended = restore_policy(manager, client, id).await;
    // The rows first: what is applied later is not missed in a list that began earlier.
    let rows = states(manager, id).await?;
    let mut strange = Vec::new();
    for kind in Kind::ALL {
        // One that cannot be listed holds up no other.
        ended = ended.and(compare_kind(manager, client, id, kind, &rows, &mut strange).await);
    }
    report(manager, id, strange).await?;
    ended
}

/// What a comparison found strange: the object, and who it says it is of.
type Strange = (Option<Entity>, apply::Target, Option<String>);

async fn compare_kind(
    manager: &Manager,
    client: &Client,
    id: ClusterId,
    kind: Kind,
    rows: &HashMap<Entity, State>,
    strange: &mut Vec<Strange>,
) -> Result<()> {
    let mut missing: HashMap<Entity, State> = rows
        .iter()
        .filter(|(entity, _)| entity.0 == mirror::kind_of(kind))
        .map(|(entity, row)| (*entity, *row))
        .collect();
    let (mut changed, mut ahead) = (Vec::new(), Vec::new());
    let instance = manager.instance.to_string();
    let mut token = None;
    loop {
        let (page, next) = apply::list(client, kind, token.as_deref()).await?;
        let mut settled = Vec::new();
        for live in page {
            let entity = live.entity.as_deref().and_then(|text| Uuid::try_parse(text).ok());
            let entity = entity.map(|entity| (mirror::kind_of(kind), entity));
            let Some(row) = entity.and_then(|entity| rows.get(&entity)) else {
                strange.push((entity, live.target, live.instance));
                continue;
            };
            if live.wanted.is_some_and(|wanted| wanted >= row.applied) {
                missing.remove(&(row.kind, row.entity_id));
            }
            if let Some(held) = live.wanted.filter(|held| *held > row.wanted)
                && live.instance.as_deref() == Some(&instance)
                && !row.deleted
            {
                ahead.push(Ahead { kind: row.kind, entity_id: row.entity_id, held });
            }
            if live.wanted == Some(row.wanted) && row.applied == row.wanted && !row.deleted && !live.deleting {
                settled.push((*row, live));
            }
        }
        changed.extend(edited(manager, &settled).await?);
        token = next;
        if token.is_none() {
            break;
        }
    }
    let lost = missing.into_values().filter(|row| row.applied > 0 && !row.deleted);
    let again: Vec<Entity> = lost.map(|row| (row.kind, row.entity_id)).chain(changed).collect();
    if !again.is_empty() {
        tracing::info!(cluster = %id, objects = again.len(), "missing or changed on the cluster, wanted again");
    }
    for some in again.chunks(PAGE as usize) {
        gone::again(manager, id, some, manager.clock.now()).await?;
    }
    for some in ahead.chunks(PAGE as usize) {
        outrun(manager, id, some).await?;
    }
    Ok(())
}

/// The cluster holds later versions of these than this database knows, which was restored from a backup: what is wanted now is made later still, or
/// it could never be written.
async fn outrun(manager: &Manager, id: ClusterId, ahead: &[Ahead]) -> Result<()> {
    let turn = manager.turns.take().await?;
    let mut tx = manager.store.begin().await?;
    let moved = cluster_object::outrun(&mut tx.conn(), id, ahead, manager.clock.now()).await?;
    tx.commit().await?;
    drop(turn);
    if moved > 0 {
        tracing::warn!(cluster = %id, objects = moved, "the cluster holds later versions than this database, as after a restore: written anew");
        manager.wake.cluster(id);
    }
    Ok(())
}

/// Those of a page's objects, applied from what is still wanted, that are not what was applied.
async fn edited(manager: &Manager, settled: &[(State, Live)]) -> Result<Vec<Entity>> {
    let states: Vec<State> = settled.iter().map(|(row, _)| *row).collect();
    let rendered = render::many(manager, &states).await?;
    Ok(settled
        .iter()
        .map(|(row, live)| ((row.kind, row.entity_id), live))
        .filter(|(entity, live)| rendered.get(entity).is_some_and(|wanted| apply::differs(live, wanted)))
        .map(|(entity, _)| entity)
        .collect())
}

/// Tells of the objects that no row asks for, not even one that was made since the rows were read.
async fn report(manager: &Manager, id: ClusterId, mut strange: Vec<Strange>) -> Result<()> {
    for kind in ObjectKind::ALL {
        let ids: Vec<Uuid> =
            strange.iter().filter_map(|(entity, ..)| *entity).filter(|e| e.0 == kind).map(|e| e.1).collect();
        for some in ids.chunks(PAGE as usize) {
            let turn = manager.turns.take().await?;
            let new = objects::of_entities(&mut manager.store.read().await?.conn(), kind, some).await?;
            drop(turn);
            let ours = |entity: &Entity| entity.0 == kind && new.get(&entity.1).is_some_and(|row| row.cluster_id == id);
            strange.retain(|(entity, ..)| !entity.as_ref().is_some_and(ours));
        }
    }
    for (_, target, instance) in strange.iter().take(NAMED) {
        tracing::warn!(cluster = %id, object = %target, instance = instance.as_deref().unwrap_or("none"), "no row asks for this object");
    }
    if strange.len() > NAMED {
        tracing::warn!(cluster = %id, objects = strange.len(), "no row asks for these objects, of which some are named above");
    }
    let labels = ClusterLabels { cluster: id.to_string() };
    manager.metrics.foreign_objects.get_or_create(&labels).set(i64::try_from(strange.len()).unwrap_or(i64::MAX));
    Ok(())
}

/// Wants the policy's ConfigMap again if the cluster does not hold the version that is in force. A later one is of before a restore of this database,
/// whose policy gets a version that is later still: no cluster would take it otherwise.
async fn restore_policy(manager: &Manager, client: &Client, id: ClusterId) -> Result<()> {
    let held = kubeop_cluster::policy::version(client).await?;
    let mut tx = manager.store.begin().await?;
    let wanted = current(&mut tx.conn()).await?.version;
    if let Some(held) = held
        && platform_policy::outrun(&mut tx.conn(), held).await?
    {
        cluster_object::mark_kind(&mut tx.conn(), ObjectKind::Policy, None, manager.clock.now()).await?;
        tx.commit().await?;
        tracing::warn!(cluster = %id, held, wanted, "the cluster holds a later policy than this database, as after a restore: published anew");
        manager.wake.all();
        return Ok(());
    }
    if held.is_none_or(|held| held < wanted) {
        objects::mark_policy(&mut tx.conn(), id, manager.clock.now()).await?;
        tx.commit().await?;
        manager.wake.cluster(id);
    }
    Ok(())
}

async fn states(manager: &Manager, id: ClusterId) -> Result<HashMap<Entity, State>> {
    let mut rows = HashMap::new();
    let mut after = None;
    loop {
        let _turn = manager.turns.take().await?;
        let page = cluster_object::states(&mut manager.store.read().await?.conn(), id, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(rows) };
        after = Some((last.kind, last.entity_id));
        rows.extend(page.into_iter().map(|row| ((row.kind, row.entity_id), row)));
    }
}
