//! `GET /v1/apps/{id}`.
//!
//! Invariant: 404 for what is not there and for what is not the caller's.

use super::{answer, missing};
use crate::auth::caller::Caller;
use crate::auth::permission::ReadApps;
use crate::http::answer::Item;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, ItemQueryExt, Query};
use crate::sync::{objects, settle};
use kubeop_api::app::App as Answer;
use kubeop_api::resource::ItemQuery;
use kubeop_core::Result;
use kubeop_core::authz::Scope;
use kubeop_core::id::AppId;
use kubeop_store::Conn;
use kubeop_store::app::{self, App};

/// Describes an app.
pub async fn handle(
    caller: Caller<ReadApps>,
    ItemId(id): ItemId,
    Query(query): Query<ItemQuery>,
) -> ApiResult<Item<Answer>> {
    let mut read = caller.read().await?;
    let mut row = find(&mut read.conn(), caller.scope, &id).await?;
    let limit = query.wait()?;
    if !limit.is_zero() {
        // No connection is held while waiting.
        drop(read);
        settle::wait(&caller.manager, objects::app_key(&row), limit).await?;
        read = caller.read().await?;
        row = find(&mut read.conn(), caller.scope, &id).await?;
    }
    let version = row.version;
    Ok(Item(answer(&mut read.conn(), row).await?, version))
}

/// The row of an id as it was written.
pub async fn find(conn: &mut Conn<'_>, scope: Scope, id: &str) -> Result<App> {
    let id = AppId::parse(id)?;
    app::get(conn, scope, id).await?.ok_or_else(|| missing(id))
}
