//! What an open month comes to now.
//!
//! Invariant: computed from the samples and the price book alone, the same way for a month that runs and for one that is being closed.

use super::month::to_correct;
use super::{Invoice, Line, defect, sql};
use crate::column::{Dec, Ts};
use crate::tenant::Tenant;
use crate::usage::sums;
use crate::{Conn, Result, StoreError, on, price};
use jiff::Timestamp;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::invoice::{self, Correction, LineKey, Quantities, Usage, bill};
use kubeop_core::month::Month;
use kubeop_core::price::PriceBook;
use kubeop_core::usage::Meter;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use uuid::Uuid;

/// The invoice of a tenant's month as it would be if it were closed now. The caller made sure that there will be one: that the tenant was there
/// in the month, or that [`super::is_known`]; of other months there are no corrections.
///
/// # Errors
/// `Defect` where the price book is empty or a sum leaves the range of exact decimals.
pub async fn draft(c: &mut Conn<'_>, tenant: &Tenant, month: Month, now: Timestamp) -> Result<Invoice> {
    let corrected = to_correct(c, tenant.id, month).await?;
    make(c, tenant, month, &corrected, now).await
}

pub(super) async fn make(
    c: &mut Conn<'_>,
    tenant: &Tenant,
    month: Month,
    corrected: &[Month],
    now: Timestamp,
) -> Result<Invoice> {
    let prices = price::book(c).await?;
    let currency = prices.currency().ok_or_else(|| StoreError::Defect("the price book is empty".to_owned()))?;
    let mut corrections = Vec::with_capacity(corrected.len());
    for month in corrected.iter().copied() {
        let billed = billed(c, tenant.id, month).await?;
        corrections.push(Correction { month, usage: usage(c, tenant.id, month, &prices).await?, billed });
    }
    let usage = usage(c, tenant.id, month, &prices).await?;
    let bill = bill(&usage, &corrections, &prices, currency).map_err(|error| defect(&error))?;
    Ok(Invoice {
        number: None,
        tenant_id: tenant.id,
        tenant_name: tenant.name.to_string(),
        month,
        currency: currency.to_string(),
        lines: bill.lines.iter().map(line).collect::<Result<_>>()?,
        subtotal: bill.subtotal,
        adjustments: bill.adjustments,
        total: bill.total,
        generated_at: now,
        id: Uuid::nil(),
    })
}

/// A month's usage, cut where prices change.
async fn usage(c: &mut Conn<'_>, tenant_id: TenantId, month: Month, prices: &PriceBook) -> Result<Vec<Usage>> {
    let boundaries = prices.changes(month.start(), month.end());
    let sums = sums(c, tenant_id, (month.start(), month.end()), &boundaries).await?;
    Ok(sums
        .into_iter()
        .map(|sum| Usage {
            project: sum.project_id,
            from: sum.interval.checked_sub(1).and_then(|n| boundaries.get(n)).copied().unwrap_or(month.start()),
            cpu_milli: sum.cpu_milli,
            mem_mib: sum.mem_mib,
        })
        .collect())
}

#[derive(sqlx::FromRow)]
struct BilledRow {
    meter: String,
    project_id: Uuid,
    #[sqlx(try_from = "Dec")]
    rate: Decimal,
    #[sqlx(try_from = "Dec")]
    quantity: Decimal,
}

/// What all closed invoices billed of a month's usage.
async fn billed(c: &mut Conn<'_>, tenant_id: TenantId, usage_month: Month) -> Result<Quantities> {
    let q = sql!(
        "SELECT meter, project_id, rate, quantity FROM invoice_line WHERE tenant_id = $1 AND usage_month = $2 \
         ORDER BY month, position"
    );
    let rows: Vec<BilledRow> =
        on!(c, x => sqlx::query_as(q).bind(tenant_id.0).bind(Ts::from(usage_month.start())).fetch_all(x).await)?;
    let mut billed = Quantities::new();
    for row in rows {
        let strange = || StoreError::Defect(format!("a line of {} {:?}", row.quantity, row.meter));
        let meter = Meter::parse(&row.meter).ok_or_else(strange)?;
        let project = (!row.project_id.is_nil()).then_some(ProjectId(row.project_id));
        let sum = billed.entry(LineKey { meter, project, rate: row.rate }).or_default();
        let quantity = Some(row.quantity).filter(Decimal::is_integer).and_then(|exact| exact.to_i128());
        *sum = quantity.and_then(|quantity| sum.checked_add(quantity)).ok_or_else(strange)?;
    }
    Ok(billed)
}

fn line(from: &invoice::Line) -> Result<Line> {
    let invoice::Line { corrects, key: LineKey { meter, project, rate }, quantity, amount } = *from;
    let what = meter.description();
    Ok(Line {
        corrects,
        meter: meter.name().to_owned(),
        description: corrects.map_or_else(|| what.to_owned(), |month| format!("{what}, correction of {month}")),
        unit: meter.unit().to_owned(),
        project_id: project,
        quantity: Decimal::try_from_i128_with_scale(quantity, 0)
            .map_err(|_| StoreError::Defect(format!("a quantity of {quantity}")))?,
        rate: rate.normalize(),
        amount,
    })
}
