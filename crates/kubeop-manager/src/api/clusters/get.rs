//! `GET /v1/clusters/{id}`.
//!
//! Invariant: 404 once it is deleted.

use super::answer_one;
use crate::auth::caller::Caller;
use crate::auth::permission::ManageClusters;
use crate::http::answer::Item;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, ItemQueryExt, Query};
use crate::sync::settle;
use kubeop_api::cluster::Cluster as Answer;
use kubeop_api::resource::ItemQuery;
use kubeop_core::id::ClusterId;
use kubeop_core::{Error, Result};
use kubeop_store::Conn;
use kubeop_store::cluster::{self, Cluster};

/// Describes a cluster.
pub async fn handle(
    caller: Caller<ManageClusters>,
    ItemId(id): ItemId,
    Query(query): Query<ItemQuery>,
) -> ApiResult<Item<Answer>> {
    let mut read = caller.read().await?;
    let mut row = find(&mut read.conn(), &id).await?;
    let limit = query.wait()?;
    if !limit.is_zero() {
        // No connection is held while waiting.
        drop(read);
        settle::wait_cluster(&caller.manager, row.id, limit).await?;
        read = caller.read().await?;
        row = find(&mut read.conn(), &id).await?;
    }
    let version = row.version;
    Ok(Item(answer_one(&mut read.conn(), row).await?, version))
}

/// The row of an id as it was written.
pub async fn find(conn: &mut Conn<'_>, id: &str) -> Result<Cluster> {
    let id = ClusterId::parse(id)?;
    cluster::get(conn, id).await?.ok_or_else(|| Error::not_found(format!("there is no cluster {id}")))
}
