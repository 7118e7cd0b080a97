//! `GET /v1/invoices`: closed invoices, in the order they were closed.
//!
//! Invariant: without lines; keyset-paged, newest last.

use crate::api::list;
use crate::auth::caller::Caller;
use crate::auth::permission::ReadBilling;
use crate::http::answer::Page;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use axum::extract::OriginalUri;
use kubeop_api::billing::{InvoiceListQuery, InvoiceStatus, InvoiceSummary};
use kubeop_core::id::TenantId;
use kubeop_store::{Filter, invoice};

/// Lists closed invoices.
pub async fn handle(
    caller: Caller<ReadBilling>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<InvoiceListQuery>,
) -> ApiResult<Page<InvoiceSummary>> {
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let tenant_id = query.tenant_id.as_deref().map(TenantId::parse).transpose().map_err(|e| e.at("tenant_id"))?;
    let filter = Filter { tenant_id, ..Filter::default() };
    let mut rows = invoice::list(&mut caller.read().await?.conn(), caller.scope, &filter, &page).await?;
    let next = list::cut(&mut rows, &page, |row| (row.generated_at, row.id));
    let items = rows
        .into_iter()
        .map(|row| InvoiceSummary {
            number: row.number,
            tenant_id: row.tenant_id,
            tenant_name: row.tenant_name,
            month: row.month.to_string(),
            currency: row.currency,
            status: InvoiceStatus::Closed,
            subtotal: row.subtotal.to_string(),
            adjustments: row.adjustments.to_string(),
            total: row.total.to_string(),
            generated_at: row.generated_at,
        })
        .collect();
    Ok(list::answer(items, &uri, next))
}
