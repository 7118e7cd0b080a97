//! `DELETE /v1/clusters/{id}`.
//!
//! Invariant: once kubeOP is being removed from the cluster this is on record, and goes on when the caller hangs up; 409 while tenants exist, also such as are still being deleted: their objects need the connection.

use super::{KIND, get};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManageClusters;
use crate::bootstrap;
use crate::events;
use crate::http::answer::Gone;
use crate::http::error::ApiResult;
use crate::http::if_match::IfMatch;
use crate::http::params::{ItemId, Query, switch, wait};
use crate::sync::objects;
use kubeop_api::cluster::ClusterDeleteQuery;
use kubeop_core::{Error, Result};
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use kubeop_store::{cluster_object, tenant};

/// Forgets a cluster; with `?uninstall=true` also removes what kubeOP installed there.
pub async fn handle(
    caller: Caller<ManageClusters>,
    ItemId(id): ItemId,
    if_match: IfMatch,
    Query(query): Query<ClusterDeleteQuery>,
) -> ApiResult<Gone> {
    // Nothing is waited for and nothing is held on to; but they are read.
    let _ = (wait(query.wait.as_deref())?, switch("force", query.force.as_deref())?);
    let uninstall = switch("uninstall", query.uninstall.as_deref())?;
    let row = get::find(&mut caller.read().await?.conn(), &id).await?;
    if !uninstall {
        forget(&caller, &row, Some(&if_match), String::new()).await?;
        return Ok(Gone);
    }
    close(&caller, &row, &if_match).await?;
    let ended = tokio::spawn(async move {
        let left = bootstrap::remove(&caller.manager, &row).await?;
        let but = if left.is_empty() { String::new() } else { format!(" but for {}", left.join(", ")) };
        let detail = format!("uninstalled{but}");
        forget(&caller, &row, None, detail).await
    });
    ended.await.map_err(Error::internal)??;
    Ok(Gone)
}

/// Forgets a cluster without tenants.
async fn forget(
    caller: &Caller<ManageClusters>,
    row: &Cluster,
    if_match: Option<&IfMatch>,
    detail: String,
) -> Result<()> {
    let manager = &caller.manager;
    let mut tx = caller.change().await?;
    let mut row = cluster::lock(&mut tx.conn(), row.id)
        .await?
        .ok_or_else(|| Error::not_found(format!("there is no cluster {}", row.id)))?;
    if_match.map_or(Ok(()), |if_match| if_match.check(row.version))?;
    let tenants = tenant::count_in_cluster(&mut tx.conn(), row.id).await?;
    if tenants > 0 {
        return Err(dependants(tenants));
    }
    let before = digest::of(&row)?;
    cluster_object::remove(&mut tx.conn(), objects::policy_key(row.id)).await?;
    if !cluster::mark_deleted(&mut tx.conn(), &mut row, manager.clock.now()).await? {
        return Err(Error::conflict("the cluster was changed at the same time: read it again"));
    }
    let id = row.id.to_string();
    let about = events::of_cluster(&row);
    let deed = Deed { verb: "delete", kind: KIND, id, about, before: Some(before), detail, ..Deed::default() };
    caller.commit(tx, deed).await?;
    manager.clusters.forget(row.id);
    if let Some(host) = &manager.host {
        host.stop(row.id).await;
    }
    manager.wake.anew(row.id);
    Ok(())
}

/// Closes the cluster to new tenants and to installations, and puts on record who had kubeOP removed from it. What fails after that is tried again
/// by the next delete, or taken back by a bootstrap.
async fn close(caller: &Caller<ManageClusters>, row: &Cluster, if_match: &IfMatch) -> Result<()> {
    let mut tx = caller.change().await?;
    if let Some(now) = cluster::lock(&mut tx.conn(), row.id).await? {
        if_match.check(now.version)?;
    }
    let tenants = tenant::count_in_cluster(&mut tx.conn(), row.id).await?;
    if tenants > 0 {
        return Err(dependants(tenants));
    }
    let told = Some("kubeOP is being removed from it");
    let _ = cluster::set_bootstrap(&mut tx.conn(), row.id, BootstrapState::Removing, told).await?;
    let (id, about) = (row.id.to_string(), events::of_cluster(row));
    let deed = Deed { verb: "uninstall", kind: KIND, id, about, before: Some(digest::of(row)?), ..Deed::default() };
    caller.commit(tx, deed).await
}

fn dependants(tenants: i64) -> Error {
    Error::conflict(format!("the cluster still has {tenants} tenants (those being deleted count): delete them first"))
}
