//! `GET /v1/clusters`.
//!
//! Invariant: newest last, keyset-paged.

use super::answers;
use crate::api::list;
use crate::auth::caller::Caller;
use crate::auth::permission::ManageClusters;
use crate::http::answer::Page;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use axum::extract::OriginalUri;
use kubeop_api::cluster::Cluster as Answer;
use kubeop_api::resource::ListQuery;
use kubeop_store::cluster;

/// Lists clusters.
pub async fn handle(
    caller: Caller<ManageClusters>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Page<Answer>> {
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let mut read = caller.read().await?;
    let mut rows = match query.name.as_deref() {
        Some(name) => cluster::by_name(&mut read.conn(), name).await?.into_iter().collect(),
        None => cluster::list(&mut read.conn(), &page).await?,
    };
    let next = list::cut(&mut rows, &page, |row| (row.created_at, row.id.0));
    let items = answers(&mut read.conn(), rows).await?;
    Ok(list::answer(items, &uri, next))
}
