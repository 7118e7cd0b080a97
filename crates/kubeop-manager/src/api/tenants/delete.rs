//! `DELETE /v1/tenants/{id}`.
//!
//! Invariant: 409 while projects exist that are not being deleted; the row stays until the cluster has let go.

use super::{KIND, answer, get, missing};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::WriteTenants;
use crate::events;
use crate::http::answer::Deleted;
use crate::http::error::ApiResult;
use crate::http::if_match::IfMatch;
use crate::http::params::{ItemId, Query, switch, wait};
use crate::sync::{forget, objects, settle};
use kubeop_api::resource::DeleteQuery;
use kubeop_api::tenant::Tenant as Answer;
use kubeop_core::Error;
use kubeop_store::{cluster_object, project, tenant};

/// Deletes a tenant.
pub async fn handle(
    caller: Caller<WriteTenants>,
    ItemId(id): ItemId,
    if_match: IfMatch,
    Query(query): Query<DeleteQuery>,
) -> ApiResult<Deleted<Answer>> {
    let manager = &caller.manager;
    let (wait, force) = (wait(query.wait.as_deref())?, switch("force", query.force.as_deref())?);
    let now = manager.clock.now();
    let mut tx = caller.change().await?;
    let found = get::find(&mut tx.conn(), caller.scope, &id).await?;
    let mut row = tenant::lock(&mut tx.conn(), caller.scope, found.id).await?.ok_or_else(|| missing(found.id))?;
    if_match.check(row.version)?;
    let projects = project::count_in_tenant(&mut tx.conn(), row.id).await?;
    if projects > 0 {
        return Err(Error::conflict(format!("the tenant still has {projects} projects: delete them first")).into());
    }
    let key = objects::tenant_key(&row);
    let deed = Deed {
        verb: "delete",
        kind: KIND,
        id: row.id.to_string(),
        tenant: Some(row.id),
        before: Some(digest::of(&row)?),
        after: None,
        detail: if force { "forced".to_owned() } else { String::new() },
        about: events::of_tenant(&row),
    };
    let attempted = cluster_object::mark_deleted(&mut tx.conn(), key, now).await?;
    caller.record(&mut tx, deed).await?;
    if force || attempted != Some(true) {
        forget::tenant(manager, &mut tx.conn(), &row).await?;
        caller.finish(tx).await?;
        manager.wake.cluster(row.cluster_id);
        return Ok(Deleted::Done);
    }
    if row.deleting_at.is_none() {
        let _ = tenant::mark_deleting(&mut tx.conn(), &mut row, now).await?;
    }
    let item = answer(&mut tx.conn(), row.clone()).await?;
    caller.finish(tx).await?;
    manager.wake.cluster(row.cluster_id);
    let look = async || answer(&mut caller.read().await?.conn(), row).await;
    Ok(settle::deleted(manager, key, wait, item, look).await)
}
