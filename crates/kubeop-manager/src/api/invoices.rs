//! `GET /v1/invoices/{id}`: a tenant's invoice of a month, computed from the usage and the price book.
//!
//! Invariant: exact decimals; the same usage and prices always give the same lines. Months are not closed yet: late usage changes them.

use crate::auth::caller::Caller;
use crate::auth::permission::ReadBilling;
use crate::http::answer::Found;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, Query};
use crate::jobs::first_start::price_book;
use jiff::Timestamp;
use kubeop_api::billing::{Invoice, InvoiceLine, InvoiceQuery, InvoiceStatus};
use kubeop_core::authz::Reach;
use kubeop_core::id::TenantId;
use kubeop_core::invoice::{Bill, Usage, bill};
use kubeop_core::month::Month;
use kubeop_core::{Error, Result};
use kubeop_store::tenant::{self, Tenant};
use kubeop_store::usage;
use rust_decimal::Decimal;

/// A tenant's invoice.
pub async fn handle(
    caller: Caller<ReadBilling>,
    ItemId(id): ItemId,
    Query(query): Query<InvoiceQuery>,
) -> ApiResult<Found<Invoice>> {
    let manager = &caller.manager;
    let id = TenantId::parse(&id)?;
    let now = manager.clock.now();
    let mut read = caller.read().await?;
    // The invoices of a deleted tenant stay readable for the platform team.
    let row = match caller.scope.reach() {
        Reach::All => tenant::get_any(&mut read.conn(), caller.scope, id).await?,
        _ => tenant::get(&mut read.conn(), caller.scope, id).await?,
    };
    let row = row.ok_or_else(|| Error::not_found(format!("there is no tenant {id}")))?;
    let month = query.month.as_deref().map_or_else(|| Ok(Month::of(now)), Month::parse)?;
    let prices = price_book(&mut read.conn()).await?;
    let boundaries = prices.changes(month.start(), month.end());
    let sums = usage::sums(&mut read.conn(), id, (month.start(), month.end()), &boundaries).await?;
    check_month(month, &row, now, sums.is_empty())?;
    let spans: Vec<Usage> = sums
        .into_iter()
        .map(|sum| Usage {
            project: sum.project_id,
            from: sum.interval.checked_sub(1).and_then(|n| boundaries.get(n)).copied().unwrap_or(month.start()),
            cpu_milli: sum.cpu_milli,
            mem_mib: sum.mem_mib,
        })
        .collect();
    let bill = bill(&spans, &prices, manager.config.currency)?;
    Ok(Found(answer(&row, month, bill, now)))
}

/// An invoice exists for months in which the tenant did, and for earlier ones that usage was sent for.
fn check_month(month: Month, row: &Tenant, now: Timestamp, unused: bool) -> Result<()> {
    if month.start() > now {
        return Err(Error::invalid(format!("month {month} is in the future")));
    }
    if unused && month < Month::of(row.created_at) {
        return Err(Error::invalid(format!(
            "month {month} is before the tenant existed: it was created in {}",
            Month::of(row.created_at)
        )));
    }
    Ok(())
}

fn answer(row: &Tenant, month: Month, bill: Bill, now: Timestamp) -> Invoice {
    let mut adjustments = Decimal::ZERO;
    adjustments.rescale(bill.currency.minor_digits());
    let lines = bill
        .lines
        .into_iter()
        .map(|line| InvoiceLine {
            meter: line.meter.name().to_owned(),
            description: line.meter.description().to_owned(),
            quantity: line.quantity.to_string(),
            unit: line.meter.unit().to_owned(),
            rate: line.rate.to_string(),
            amount: line.amount.to_string(),
            project_id: line.project,
        })
        .collect();
    Invoice {
        tenant_id: row.id,
        tenant_name: row.name.to_string(),
        month: month.to_string(),
        start: month.start(),
        end: month.end(),
        currency: bill.currency.to_string(),
        status: if month.end() > now { InvoiceStatus::Open } else { InvoiceStatus::Grace },
        number: None,
        lines,
        subtotal: bill.subtotal.to_string(),
        adjustments: adjustments.to_string(),
        total: bill.subtotal.to_string(),
        generated_at: now,
    }
}
