//! `GET /v1/kubeconfigs?projectID=`.
//!
//! Invariant: shows who asked for what and until when, never a secret.

use crate::api::list;
use crate::auth::caller::Caller;
use crate::auth::permission::ManageKubeconfigs;
use crate::http::answer::Page;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use axum::extract::OriginalUri;
use kubeop_api::credential::IssuedKubeconfig as Answer;
use kubeop_api::resource::ListQuery;
use kubeop_store::issued_kubeconfig;

/// Lists issued kubeconfigs.
pub async fn handle(
    caller: Caller<ManageKubeconfigs>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Page<Answer>> {
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = list::filter(&query)?;
    let mut rows = issued_kubeconfig::list(&mut caller.read().await?.conn(), caller.scope, &filter, &page).await?;
    let next = list::cut(&mut rows, &page, |row| (row.created_at, row.id.0));
    let items = rows
        .into_iter()
        .map(|row| Answer {
            id: row.id,
            project_id: row.project_id,
            role: row.role.as_str().to_owned(),
            issued_to: row.subject,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
        .collect();
    Ok(list::answer(items, &uri, next))
}
