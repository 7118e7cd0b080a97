//! `DELETE /v1/clusters/{id}`.
//!
//! Invariant: 409 while tenants exist, also such as are still being deleted: their objects need the connection.

use super::{KIND, get};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManageClusters;
use crate::bootstrap;
use crate::http::answer::Deleted;
use crate::http::error::ApiResult;
use crate::http::params::{IfMatch, ItemId, Query, switch};
use crate::sync::objects;
use kubeop_api::cluster::Cluster as Answer;
use kubeop_api::resource::DeleteQuery;
use kubeop_core::Error;
use kubeop_store::{cluster, cluster_object, tenant};

/// Forgets a cluster; with `?uninstall=true` also removes what kubeOP installed there.
pub async fn handle(
    caller: Caller<ManageClusters>,
    ItemId(id): ItemId,
    if_match: IfMatch,
    Query(query): Query<DeleteQuery>,
) -> ApiResult<Deleted<Answer>> {
    let manager = &caller.manager;
    let uninstall = switch("uninstall", query.uninstall.as_deref())?;
    let row = get::find(&mut caller.read().await?.conn(), &id).await?;
    if_match.check(row.version)?;
    refuse_with_tenants(&caller, row.id).await?;
    if uninstall {
        bootstrap::uninstall(manager, &row).await?;
    }
    let mut tx = caller.change().await?;
    let mut row = cluster::lock(&mut tx.conn(), row.id)
        .await?
        .ok_or_else(|| Error::not_found(format!("there is no cluster {}", row.id)))?;
    let tenants = tenant::count_in_cluster(&mut tx.conn(), row.id).await?;
    if tenants > 0 {
        return Err(dependants(tenants).into());
    }
    let before = digest::of(&row)?;
    cluster_object::remove(&mut tx.conn(), objects::policy_key(row.id)).await?;
    if !cluster::mark_deleted(&mut tx.conn(), &mut row, manager.clock.now()).await? {
        return Err(Error::conflict("the cluster was changed at the same time: read it again").into());
    }
    let detail = if uninstall { "uninstalled" } else { "" };
    let deed = Deed {
        verb: "delete",
        kind: KIND,
        id: row.id.to_string(),
        before: Some(before),
        detail: detail.to_owned(),
        ..Deed::default()
    };
    caller.commit(tx, deed).await?;
    manager.clusters.forget(row.id);
    if let Some(host) = &manager.host {
        host.stop(row.id).await;
    }
    manager.wake.all();
    Ok(Deleted::Done)
}

async fn refuse_with_tenants(
    caller: &Caller<ManageClusters>,
    id: kubeop_core::id::ClusterId,
) -> kubeop_core::Result<()> {
    match tenant::count_in_cluster(&mut caller.read().await?.conn(), id).await? {
        0 => Ok(()),
        tenants => Err(dependants(tenants)),
    }
}

fn dependants(tenants: i64) -> Error {
    Error::conflict(format!("the cluster still has {tenants} tenants (those being deleted count): delete them first"))
}
