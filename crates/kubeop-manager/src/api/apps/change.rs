//! `PUT` and `PATCH` of an app: its spec and labels.
//!
//! Invariant: a spec is accepted by the same rules as on creation.

use super::{KIND, answer, create, get, hosts, missing, spec};
use crate::api::change::{Change, unchanged, unchanged_id};
use crate::api::policy;
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::WriteApps;
use crate::events;
use crate::http::answer::Item;
use crate::http::body::APP_LIMIT;
use crate::http::error::ApiResult;
use crate::http::if_match::IfMatch;
use crate::http::params::{ItemId, ItemQueryExt, Query};
use crate::sync::{objects, settle};
use kubeop_api::app::{App as Answer, AppInput};
use kubeop_api::resource::{ItemQuery, check_labels};
use kubeop_core::{Error, Result};
use kubeop_store::app::{self, App};
use kubeop_store::project;
use serde_json::Value;

/// Replaces or patches the app of the path.
pub async fn handle(
    caller: Caller<WriteApps>,
    ItemId(id): ItemId,
    if_match: IfMatch,
    Query(query): Query<ItemQuery>,
    change: Change<AppInput, APP_LIMIT>,
) -> ApiResult<Item<Answer>> {
    Ok(apply(caller, &id, if_match, &query, change).await?)
}

/// Replaces or patches the app that the body names.
pub async fn handle_in_collection(
    caller: Caller<WriteApps>,
    if_match: IfMatch,
    Query(query): Query<ItemQuery>,
    change: Change<AppInput, APP_LIMIT>,
) -> ApiResult<Item<Answer>> {
    let id = change.id(|input| input.id.clone())?;
    Ok(apply(caller, &id, if_match, &query, change).await?)
}

async fn apply(
    caller: Caller<WriteApps>,
    id: &str,
    if_match: IfMatch,
    query: &ItemQuery,
    change: Change<AppInput, APP_LIMIT>,
) -> Result<Item<Answer>> {
    let manager = &caller.manager;
    let wait = query.wait()?;
    let now = manager.clock.now();
    let mut tx = caller.change().await?;
    let found = get::find(&mut tx.conn(), caller.scope, id).await?;
    let project =
        project::lock(&mut tx.conn(), caller.scope, found.project_id).await?.ok_or_else(|| missing(found.id))?;
    // Read again under the project's lock: what is compared and replaced is what is there.
    let mut row = app::get(&mut tx.conn(), caller.scope, found.id).await?.ok_or_else(|| missing(found.id))?;
    if_match.check(row.version)?;
    let before = digest::of(&row)?;
    if row.deleting_at.is_some() {
        return Err(Error::conflict(format!("app {:?} is being deleted", row.name.as_str())));
    }
    let current = current(&row, &change)?;
    let input = change.onto(&current)?;
    unchanged_id("id", input.id.as_deref(), row.id.0)?;
    unchanged("name", input.name.as_deref(), row.name.as_str())?;
    unchanged_id("project_id", input.project_id.as_deref(), row.project_id.0)?;
    unchanged_id("tenant_id", input.tenant_id.as_deref(), row.tenant_id.0)?;
    unchanged_id("cluster_id", input.cluster_id.as_deref(), row.cluster_id.0)?;
    create::check_namespace(&input, &project)?;
    let policy = policy::current(&mut tx.conn()).await?.policy;
    let accepted = spec::accept(&input, &project, &policy)?;
    row.spec = accepted.spec;
    row.labels = check_labels(input.labels.unwrap_or_default())?;
    hosts::claim(&mut tx.conn(), &row, &accepted.hosts).await?;
    if !app::update(&mut tx.conn(), &mut row, now).await? {
        return Err(Error::conflict("the app was changed at the same time: read it again"));
    }
    objects::mark_app(&mut tx.conn(), &project, &row, now).await?;
    let deed = Deed {
        verb: "update",
        kind: KIND,
        id: row.id.to_string(),
        tenant: Some(row.tenant_id),
        before: Some(before),
        after: Some(digest::of(&row)?),
        about: events::of_app(&row),
        ..Deed::default()
    };
    let version = row.version;
    let mut item = answer(&mut tx.conn(), row.clone()).await?;
    caller.commit(tx, deed).await?;
    manager.wake.cluster(row.cluster_id);
    if !wait.is_zero() {
        let looking = async {
            settle::wait(manager, objects::app_key(&row), wait).await?;
            answer(&mut caller.read().await?.conn(), row).await
        };
        item = settle::or_committed(looking.await, item);
    }
    Ok(Item(item, version))
}

/// The current input, in which a patch of the short form replaces what the short form stands for.
fn current(row: &App, change: &Change<AppInput, APP_LIMIT>) -> Result<AppInput> {
    let mut current = as_input(row);
    let (Some(short), Some(spec)) = (change.stated()?, current.spec.as_mut().and_then(Value::as_object_mut)) else {
        return Ok(current);
    };
    if let Some(new) = short.get("image").filter(|new| new.is_string())
        && let Some(image) = spec.get_mut("delivery").and_then(|delivery| delivery.get_mut("image"))
    {
        match image.as_object_mut() {
            Some(block) => {
                block.insert("ref".to_owned(), new.clone());
            }
            None => *image = new.clone(),
        }
    }
    if short.get("host").is_some() {
        spec.remove("hosts");
    }
    Ok(current)
}

fn as_input(row: &App) -> AppInput {
    AppInput {
        id: Some(row.id.to_string()),
        project_id: Some(row.project_id.to_string()),
        tenant_id: Some(row.tenant_id.to_string()),
        cluster_id: Some(row.cluster_id.to_string()),
        name: Some(row.name.to_string()),
        namespace: None,
        image: None,
        host: None,
        spec: Some(row.spec.clone()),
        labels: Some(row.labels.clone()),
    }
}
