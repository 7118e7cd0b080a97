//! An object is gone from its cluster: what was deleted is forgotten, what was not is wanted again.
//!
//! Invariant: an entity is forgotten only by who has just looked and found its object gone; a watch that no longer shows it (a label was
//! taken off) is a reason to look, not a proof.

use super::forget;
use crate::state::Manager;
use jiff::Timestamp;
use kubeop_core::Result;
use kubeop_core::authz::system_scope;
use kubeop_core::id::{AppId, ClusterId, ProjectId, TenantId};
use kubeop_store::cluster_object::{self, Key, ObjectKind};
use kubeop_store::{app, project, tenant};
use uuid::Uuid;

/// The cluster does not show these any more, or not as they were applied: looked at, or brought back, at `due`.
pub(super) async fn again(
    manager: &Manager,
    id: ClusterId,
    entities: &[(ObjectKind, Uuid)],
    due: Timestamp,
) -> Result<()> {
    let _turn = manager.turns.take().await?;
    let mut tx = manager.store.begin().await?;
    cluster_object::again(&mut tx.conn(), id, entities, due).await?;
    tx.commit().await?;
    manager.wake.cluster(id);
    Ok(())
}

/// The object was looked for and is not there: forgets its entity, if that is still being deleted.
pub(super) async fn forget(manager: &Manager, key: Key) -> Result<()> {
    let _turn = manager.turns.take().await?;
    let mut tx = manager.store.begin().await?;
    let row = cluster_object::get(&mut tx.conn(), key).await?;
    if row.is_none_or(|row| !row.deleted) {
        return Ok(());
    }
    let scope = system_scope();
    let known = match key.kind {
        ObjectKind::Policy => false,
        ObjectKind::Tenant => match tenant::get(&mut tx.conn(), scope, TenantId(key.entity_id)).await? {
            Some(row) => forget::tenant(manager, &mut tx.conn(), &row).await.map(|()| true)?,
            None => false,
        },
        ObjectKind::Project => match project::get(&mut tx.conn(), scope, ProjectId(key.entity_id)).await? {
            Some(row) => forget::project(manager, &mut tx.conn(), &row).await.map(|()| true)?,
            None => false,
        },
        ObjectKind::App => match app::get(&mut tx.conn(), scope, AppId(key.entity_id)).await? {
            Some(row) => forget::app(manager, &mut tx.conn(), &row).await.map(|()| true)?,
            None => false,
        },
    };
    if !known {
        let _ = cluster_object::remove(&mut tx.conn(), key).await?;
    }
    tx.commit().await?;
    manager.events.ring();
    Ok(())
}
