//! `DELETE /v1/projects/{id}`.
//!
//! Invariant: 409 while apps exist that are not being deleted; the namespace is gone before the row is.

use super::{KIND, answer, get, missing};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::WriteProjects;
use crate::events;
use crate::http::answer::Deleted;
use crate::http::error::ApiResult;
use crate::http::if_match::IfMatch;
use crate::http::params::{ItemId, Query, switch, wait};
use crate::sync::{forget, objects, settle};
use kubeop_api::project::Project as Answer;
use kubeop_api::resource::DeleteQuery;
use kubeop_core::Error;
use kubeop_core::authz::Action;
use kubeop_store::{app, cluster_object, project};

/// Deletes a project.
pub async fn handle(
    caller: Caller<WriteProjects>,
    ItemId(id): ItemId,
    if_match: IfMatch,
    Query(query): Query<DeleteQuery>,
) -> ApiResult<Deleted<Answer>> {
    let manager = &caller.manager;
    let (wait, force) = (wait(query.wait.as_deref())?, switch("force", query.force.as_deref())?);
    if force {
        caller.require(Action::ForceDelete).await?;
    }
    let now = manager.clock.now();
    let mut tx = caller.change().await?;
    let found = get::find(&mut tx.conn(), caller.scope, &id).await?;
    let mut row = project::lock(&mut tx.conn(), caller.scope, found.id).await?.ok_or_else(|| missing(found.id))?;
    if_match.check(row.version)?;
    let apps = app::count_in_project(&mut tx.conn(), row.tenant_id, row.id).await?;
    if apps > 0 {
        return Err(Error::conflict(format!("the project still has {apps} apps: delete them first")).into());
    }
    let key = objects::project_key(&row);
    let deed = Deed {
        verb: "delete",
        kind: KIND,
        id: row.id.to_string(),
        tenant: Some(row.tenant_id),
        before: Some(digest::of(&row)?),
        after: None,
        detail: if force { "forced".to_owned() } else { String::new() },
        about: events::of_project(&row),
    };
    let attempted = cluster_object::mark_deleted(&mut tx.conn(), key, now).await?;
    caller.record(&mut tx, deed).await?;
    if force || attempted != Some(true) {
        forget::project(manager, &mut tx.conn(), &row).await?;
        caller.finish(tx).await?;
        manager.wake.cluster(row.cluster_id);
        return Ok(Deleted::Done);
    }
    if row.deleting_at.is_none() {
        let _ = project::mark_deleting(&mut tx.conn(), &mut row, now).await?;
    }
    let item = answer(&mut tx.conn(), row.clone()).await?;
    caller.finish(tx).await?;
    manager.wake.cluster(row.cluster_id);
    let look = async || answer(&mut caller.read().await?.conn(), row).await;
    Ok(settle::deleted(manager, key, wait, item, look).await)
}
