//! `GET /v1/invoices/{id}`: a tenant's invoice of a month, as JSON or CSV.
//!
//! Invariant: exact decimals as text; a month whose grace is over is closed before it is answered.

use super::csv;
use crate::auth::caller::Caller;
use crate::auth::permission::ReadBilling;
use crate::http::accept::{Accept, Form};
use crate::http::answer::as_sent;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, Query};
use crate::jobs;
use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, Response as DocResponse, StatusCode as DocStatus};
use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use kubeop_api::billing::{Invoice, InvoiceLine, InvoiceQuery, InvoiceStatus};
use kubeop_core::authz::Reach;
use kubeop_core::id::TenantId;
use kubeop_core::month::Month;
use kubeop_core::{Error, Result};
use kubeop_store::tenant::{self, Tenant};
use kubeop_store::{Conn, invoice};

/// A tenant's invoice.
pub async fn handle(
    caller: Caller<ReadBilling>,
    ItemId(id): ItemId,
    Accept(form): Accept,
    Query(query): Query<InvoiceQuery>,
) -> ApiResult<Shown> {
    let manager = &caller.manager;
    let id = TenantId::parse(&id)?;
    let now = manager.clock.now();
    // The invoices of a deleted tenant stay readable for the platform team.
    let row = {
        let mut read = caller.read().await?;
        match caller.scope.reach() {
            Reach::All => tenant::get_any(&mut read.conn(), caller.scope, id).await?,
            _ => tenant::get(&mut read.conn(), caller.scope, id).await?,
        }
    };
    let row = row.ok_or_else(|| Error::not_found(format!("there is no tenant {id}")))?;
    let month = query.month.as_deref().map_or_else(|| Ok(Month::of(now)), Month::parse)?;
    if month.start() > now {
        return Err(Error::invalid(format!("month {month} is in the future")).into());
    }
    jobs::invoices::close_until(manager, id, month).await?;
    let mut read = caller.read().await?;
    let answer = match invoice::get(&mut read.conn(), caller.scope, id, month).await? {
        Some(closed) => {
            jobs::invoices::verify(manager, &mut read.conn(), &closed).await?;
            answer(closed, InvoiceStatus::Closed)
        }
        None => open(&mut read.conn(), &row, month, now).await?,
    };
    Ok(Shown { invoice: answer, form })
}

async fn open(conn: &mut Conn<'_>, row: &Tenant, month: Month, now: Timestamp) -> Result<Invoice> {
    // Not by what it comes to: corrections are on the one invoice that will be closed with them, and would be in each month before that as well.
    if !month.meets(row.created_at, row.deleted_at) && !invoice::is_known(conn, row.id, month).await? {
        return Err(no_invoice(month, row));
    }
    let draft = invoice::draft(conn, row, month, now).await?;
    let status = if month.end() > now { InvoiceStatus::Open } else { InvoiceStatus::Grace };
    Ok(answer(draft, status))
}

/// An invoice exists for months in which the tenant did, for others that usage was sent for, and for those in which usage came late.
fn no_invoice(month: Month, row: &Tenant) -> Error {
    let first = Month::of(row.created_at);
    match row.deleted_at.map(Month::of) {
        Some(last) if month >= last => {
            Error::invalid(format!("month {month} is after the tenant existed: it was deleted in {last}"))
        }
        _ => Error::invalid(format!("month {month} is before the tenant existed: it was created in {first}")),
    }
}

fn answer(from: invoice::Invoice, status: InvoiceStatus) -> Invoice {
    let lines = from.lines.into_iter().map(|line| InvoiceLine {
        meter: line.meter,
        description: line.description,
        quantity: line.quantity.to_string(),
        unit: line.unit,
        rate: line.rate.to_string(),
        amount: line.amount.to_string(),
        project_id: line.project_id,
        corrects: line.corrects.map(|month| month.to_string()),
    });
    Invoice {
        tenant_id: from.tenant_id,
        tenant_name: from.tenant_name,
        month: from.month.to_string(),
        start: from.month.start(),
        end: from.month.end(),
        currency: from.currency,
        status,
        number: from.number,
        lines: lines.collect(),
        subtotal: from.subtotal.to_string(),
        adjustments: from.adjustments.to_string(),
        total: from.total.to_string(),
        generated_at: from.generated_at,
    }
}

/// An invoice in the form that was asked for.
pub struct Shown {
    invoice: Invoice,
    form: Form,
}

impl IntoResponse for Shown {
    fn into_response(self) -> Response {
        let mut response = match self.form {
            Form::Json => Json(self.invoice).into_response(),
            Form::Csv => {
                let mut response = csv::text(&self.invoice).into_response();
                let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                // A tenant's name is a DNS label, so that the file's name needs no escaping.
                let name = format!("attachment; filename=\"{}\"", csv::file_name(&self.invoice));
                if let Ok(value) = HeaderValue::from_str(&name) {
                    response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
                }
                response
            }
        };
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        response
    }
}

impl OperationOutput for Shown {
    type Inner = Invoice;

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<DocStatus>, DocResponse)> {
        let mut found = Vec::new();
        if let Some(mut response) = as_sent(ctx, |ctx| Json::<Invoice>::operation_response(ctx, operation)) {
            "The invoice. As `text/csv` (RFC 4180) one row a line, under a file name."
                .clone_into(&mut response.description);
            let text = MediaType { example: Some(csv::EXAMPLE.into()), ..MediaType::default() };
            response.content.insert("text/csv".to_owned(), text);
            found.push((Some(DocStatus::Code(200)), response));
        }
        found
    }
}
