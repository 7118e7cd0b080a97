//! `PUT` and `PATCH` of a tenant: envelope and labels.
//!
//! Invariant: an envelope is never below what projects hold; the tenant's row is held while that is checked.

use super::{KIND, answer, get, missing};
use crate::api::change::{Change, unchanged, unchanged_id};
use crate::api::projects::quota;
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::WriteTenants;
use crate::events;
use crate::http::answer::Item;
use crate::http::error::ApiResult;
use crate::http::if_match::IfMatch;
use crate::http::params::{ItemId, ItemQueryExt, Query};
use crate::sync::{objects, settle};
use kubeop_api::resource::{ItemQuery, QuotaMap, check_labels};
use kubeop_api::tenant::{Tenant as Answer, TenantInput};
use kubeop_core::{Error, Result};
use kubeop_store::tenant::{self, Tenant};

/// Replaces or patches the tenant of the path.
pub async fn handle(
    caller: Caller<WriteTenants>,
    ItemId(id): ItemId,
    if_match: IfMatch,
    Query(query): Query<ItemQuery>,
    change: Change<TenantInput>,
) -> ApiResult<Item<Answer>> {
    Ok(apply(caller, &id, if_match, &query, change).await?)
}

/// Replaces or patches the tenant that the body names.
pub async fn handle_in_collection(
    caller: Caller<WriteTenants>,
    if_match: IfMatch,
    Query(query): Query<ItemQuery>,
    change: Change<TenantInput>,
) -> ApiResult<Item<Answer>> {
    let id = change.id(|input| input.id.clone())?;
    Ok(apply(caller, &id, if_match, &query, change).await?)
}

async fn apply(
    caller: Caller<WriteTenants>,
    id: &str,
    if_match: IfMatch,
    query: &ItemQuery,
    change: Change<TenantInput>,
) -> Result<Item<Answer>> {
    let manager = &caller.manager;
    let wait = query.wait()?;
    let now = manager.clock.now();
    let mut tx = caller.change().await?;
    let found = get::find(&mut tx.conn(), caller.scope, id).await?;
    let mut row = tenant::lock(&mut tx.conn(), caller.scope, found.id).await?.ok_or_else(|| missing(found.id))?;
    if_match.check(row.version)?;
    let before = digest::of(&row)?;
    if row.deleting_at.is_some() {
        return Err(Error::conflict(format!("tenant {:?} is being deleted", row.name.as_str())));
    }
    let input = change.onto(&as_input(&row))?;
    unchanged_id("id", input.id.as_deref(), row.id.0)?;
    unchanged("name", input.name.as_deref(), row.name.as_str())?;
    unchanged_id("cluster_id", input.cluster_id.as_deref(), row.cluster_id.0)?;
    let quotas = input.quotas.unwrap_or_default().0;
    let other_envelope = quotas != row.quotas;
    row.quotas = quotas;
    row.labels = check_labels(input.labels.unwrap_or_default())?;
    if other_envelope {
        quota::refit(&mut tx.conn(), &row, now).await?;
    }
    if !tenant::update(&mut tx.conn(), &mut row, now).await? {
        return Err(Error::conflict("the tenant was changed at the same time: read it again"));
    }
    objects::mark_tenant(&mut tx.conn(), &row, now).await?;
    let deed = Deed {
        verb: "update",
        kind: KIND,
        id: row.id.to_string(),
        tenant: Some(row.id),
        before: Some(before),
        after: Some(digest::of(&row)?),
        about: events::of_tenant(&row),
        ..Deed::default()
    };
    let version = row.version;
    let mut item = answer(&mut tx.conn(), row.clone()).await?;
    caller.commit(tx, deed).await?;
    manager.wake.cluster(row.cluster_id);
    if !wait.is_zero() {
        let looking = async {
            settle::wait(manager, objects::tenant_key(&row), wait).await?;
            answer(&mut caller.read().await?.conn(), row).await
        };
        item = settle::or_committed(looking.await, item);
    }
    Ok(Item(item, version))
}

fn as_input(row: &Tenant) -> TenantInput {
    TenantInput {
        id: Some(row.id.to_string()),
        name: Some(row.name.to_string()),
        cluster_id: Some(row.cluster_id.to_string()),
        quotas: Some(QuotaMap(row.quotas.clone())),
        labels: Some(row.labels.clone()),
    }
}
