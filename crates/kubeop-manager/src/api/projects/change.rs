//! `PUT` and `PATCH` of a project: quotas, Pod Security level and labels.
//!
//! Invariant: quotas are decided anew under the tenant's lock, as on creation.

use super::{KIND, answer, get, missing, pod_security, quota};
use crate::api::change::{Change, unchanged, unchanged_id};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::WriteProjects;
use crate::events;
use crate::http::answer::Item;
use crate::http::error::ApiResult;
use crate::http::if_match::IfMatch;
use crate::http::params::{ItemId, ItemQueryExt, Query};
use crate::sync::{objects, settle};
use kubeop_api::project::{Project as Answer, ProjectInput};
use kubeop_api::resource::{ItemQuery, QuotaMap, check_labels};
use kubeop_core::{Error, Result};
use kubeop_store::project::{self, Project};
use kubeop_store::tenant;

/// Replaces or patches the project of the path.
pub async fn handle(
    caller: Caller<WriteProjects>,
    ItemId(id): ItemId,
    if_match: IfMatch,
    Query(query): Query<ItemQuery>,
    change: Change<ProjectInput>,
) -> ApiResult<Item<Answer>> {
    Ok(apply(caller, &id, if_match, &query, change).await?)
}

/// Replaces or patches the project that the body names.
pub async fn handle_in_collection(
    caller: Caller<WriteProjects>,
    if_match: IfMatch,
    Query(query): Query<ItemQuery>,
    change: Change<ProjectInput>,
) -> ApiResult<Item<Answer>> {
    let id = change.id(|input| input.id.clone())?;
    Ok(apply(caller, &id, if_match, &query, change).await?)
}

async fn apply(
    caller: Caller<WriteProjects>,
    id: &str,
    if_match: IfMatch,
    query: &ItemQuery,
    change: Change<ProjectInput>,
) -> Result<Item<Answer>> {
    let manager = &caller.manager;
    let wait = query.wait()?;
    let now = manager.clock.now();
    let mut tx = caller.change().await?;
    let found = get::find(&mut tx.conn(), caller.scope, id).await?;
    // The tenant first, then the project: every change takes them in this order.
    let tenant = tenant::lock(&mut tx.conn(), kubeop_core::authz::system_scope(), found.tenant_id)
        .await?
        .ok_or_else(|| missing(found.id))?;
    let mut row = project::lock(&mut tx.conn(), caller.scope, found.id).await?.ok_or_else(|| missing(found.id))?;
    if_match.check(row.version)?;
    let before = digest::of(&row)?;
    if row.deleting_at.is_some() {
        return Err(Error::conflict(format!("project {:?} is being deleted", row.name.as_str())));
    }
    let input = change.onto(&as_input(&row))?;
    unchanged_id("id", input.id.as_deref(), row.id.0)?;
    unchanged("name", input.name.as_deref(), row.name.as_str())?;
    unchanged_id("tenant_id", input.tenant_id.as_deref(), row.tenant_id.0)?;
    unchanged_id("cluster_id", input.cluster_id.as_deref(), row.cluster_id.0)?;
    unchanged("namespace", input.namespace.as_deref(), row.namespace.as_str())?;
    row.pod_security = pod_security(input.pod_security.as_deref())?;
    row.labels = check_labels(input.labels.unwrap_or_default())?;
    let quotas = input.quotas.map(|map| map.0);
    if quotas != row.quotas {
        row.granted = quota::decide(&mut tx.conn(), &tenant, row.id, quotas.as_ref()).await?;
        row.quotas = quotas;
    }
    if !project::update(&mut tx.conn(), &mut row, now).await? {
        return Err(Error::conflict("the project was changed at the same time: read it again"));
    }
    objects::mark_project(&mut tx.conn(), &tenant, &row, now).await?;
    let deed = Deed {
        verb: "update",
        kind: KIND,
        id: row.id.to_string(),
        tenant: Some(row.tenant_id),
        before: Some(before),
        after: Some(digest::of(&row)?),
        about: events::of_project(&row),
        ..Deed::default()
    };
    let version = row.version;
    let mut item = answer(&mut tx.conn(), row.clone()).await?;
    caller.commit(tx, deed).await?;
    manager.wake.cluster(row.cluster_id);
    if !wait.is_zero() {
        let looking = async {
            settle::wait(manager, objects::project_key(&row), wait).await?;
            answer(&mut caller.read().await?.conn(), row).await
        };
        item = settle::or_committed(looking.await, item);
    }
    Ok(Item(item, version))
}

fn as_input(row: &Project) -> ProjectInput {
    ProjectInput {
        id: Some(row.id.to_string()),
        tenant_id: Some(row.tenant_id.to_string()),
        cluster_id: Some(row.cluster_id.to_string()),
        name: Some(row.name.to_string()),
        namespace: Some(row.namespace.to_string()),
        quotas: row.quotas.clone().map(QuotaMap),
        pod_security: Some(row.pod_security.clone()),
        labels: Some(row.labels.clone()),
    }
}
