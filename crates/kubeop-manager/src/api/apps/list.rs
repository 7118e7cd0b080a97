//! `GET /v1/apps`.
//!
//! Invariant: newest last, keyset-paged, within the caller's scope.

use super::answers;
use crate::api::list;
use crate::auth::caller::Caller;
use crate::auth::permission::ReadApps;
use crate::http::answer::Page;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use axum::extract::OriginalUri;
use kubeop_api::app::App as Answer;
use kubeop_api::resource::ListQuery;
use kubeop_store::app;

/// Lists apps.
pub async fn handle(
    caller: Caller<ReadApps>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Page<Answer>> {
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = list::filter(&query)?;
    let mut read = caller.read().await?;
    let mut rows = app::list(&mut read.conn(), caller.scope, &filter, &page).await?;
    let next = list::cut(&mut rows, &page, |row| (row.created_at, row.id.0));
    Ok(list::answer(answers(&mut read.conn(), rows).await?, &uri, next))
}
