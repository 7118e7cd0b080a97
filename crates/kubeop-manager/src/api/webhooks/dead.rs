//! `GET /v1/webhooks/dead`.
//!
//! Invariant: in the order they were given up, newest last, keyset-paged.

use super::answer;
use crate::api::list;
use crate::auth::caller::Caller;
use crate::auth::permission::ManageWebhooks;
use crate::http::answer::Page;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use axum::extract::OriginalUri;
use kubeop_api::event::{DeadDelivery, DeadQuery};
use kubeop_core::Result;
use kubeop_core::id::TenantId;
use kubeop_store::event_delivery::{self, DeadFilter};

/// Lists deliveries that were given up.
pub async fn handle(
    caller: Caller<ManageWebhooks>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<DeadQuery>,
) -> ApiResult<Page<DeadDelivery>> {
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = DeadFilter {
        hook: query.hook.as_deref(),
        event_type: query.kind.as_deref(),
        tenant_id: query.tenant_id.as_deref().map(TenantId::parse).transpose().map_err(|e| e.at("tenant_id"))?,
    };
    let mut rows = event_delivery::list_dead(&mut caller.read().await?.conn(), caller.scope, &filter, &page).await?;
    let next = list::cut(&mut rows, &page, |row| (row.dead_at.unwrap_or(row.occurred_at), row.id));
    let items = rows.into_iter().map(|row| answer(&caller.manager, row)).collect::<Result<_>>()?;
    Ok(list::answer(items, &uri, next))
}
