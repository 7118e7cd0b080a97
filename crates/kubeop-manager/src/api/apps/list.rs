//! `GET /v1/apps`.
//!
//! Invariant: newest last, keyset-paged, within the caller's scope; a page of large apps ends early, with a link to the next.

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
use kubeop_store::app::{self, App};

/// Lists apps.
pub async fn handle(
    caller: Caller<ReadApps>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Page<Answer>> {
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = list::filter(&query)?;
    let mut read = caller.read().await?;
    let app::Listed { mut rows, is_cut } = app::list_page(&mut read.conn(), caller.scope, &filter, &page).await?;
    let key = |row: &App| (row.created_at, row.id.0);
    let next = list::cut(&mut rows, &page, key).or_else(|| if is_cut { list::behind(&rows, key) } else { None });
    Ok(list::answer(answers(&mut read.conn(), rows).await?, &uri, next))
}
