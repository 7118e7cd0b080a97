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
use kubeop_api::cluster::{Cluster as Answer, ClusterListQuery};
use kubeop_core::Result;
use kubeop_core::id::ClusterId;
use kubeop_store::cluster::{self, Cluster};
use kubeop_store::{Conn, Page as Span};

/// Lists clusters.
pub async fn handle(
    caller: Caller<ManageClusters>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<ClusterListQuery>,
) -> ApiResult<Page<Answer>> {
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let id = query.cluster_id.as_deref().map(ClusterId::parse).transpose().map_err(|e| e.at("cluster_id"))?;
    let mut read = caller.read().await?;
    let mut rows = rows(&mut read.conn(), query.name.as_deref(), id, &page).await?;
    let next = list::cut(&mut rows, &page, |row| (row.created_at, row.id.0));
    let items = answers(&mut read.conn(), rows).await?;
    Ok(list::answer(items, &uri, next))
}

/// The page of those of a name and of an id. Either names one cluster at most.
async fn rows(conn: &mut Conn<'_>, name: Option<&str>, id: Option<ClusterId>, page: &Span) -> Result<Vec<Cluster>> {
    let one = match (name, id) {
        (None, None) => return Ok(cluster::list(conn, page).await?),
        (Some(name), _) => cluster::by_name(conn, name).await?,
        (None, Some(id)) => cluster::get(conn, id).await?,
    };
    let is_asked = |row: &Cluster| {
        id.is_none_or(|id| row.id == id) && page.after.is_none_or(|after| (row.created_at, row.id.0) > after)
    };
    Ok(one.into_iter().filter(is_asked).collect())
}
