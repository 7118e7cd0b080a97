//! Reading closed invoices.
//!
//! Invariant: from the frozen rows alone; amounts have the digits they were frozen with.

use super::{Invoice, Line, sql};
use crate::column::{Dec, Id, Ts};
use crate::page::{limit, page_sql, reach};
use crate::{Conn, Filter, Page, Result, on};
use jiff::Timestamp;
use kubeop_core::authz::Scope;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::month::Month;
use rust_decimal::Decimal;
use uuid::Uuid;

macro_rules! columns {
    () => {
        "tenant_id, month, id, number, tenant_name, currency, minor_digits, subtotal, adjustments, total, generated_at"
    };
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "Id")]
    tenant_id: TenantId,
    #[sqlx(try_from = "Ts")]
    month: Timestamp,
    id: Uuid,
    number: i64,
    tenant_name: String,
    currency: String,
    minor_digits: i64,
    #[sqlx(try_from = "Dec")]
    subtotal: Decimal,
    #[sqlx(try_from = "Dec")]
    adjustments: Decimal,
    #[sqlx(try_from = "Dec")]
    total: Decimal,
    #[sqlx(try_from = "Ts")]
    generated_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct LineRow {
    #[sqlx(try_from = "Ts")]
    usage_month: Timestamp,
    meter: String,
    description: String,
    unit: String,
    project_id: Uuid,
    #[sqlx(try_from = "Dec")]
    quantity: Decimal,
    #[sqlx(try_from = "Dec")]
    rate: Decimal,
    #[sqlx(try_from = "Dec")]
    amount: Decimal,
}

/// With trailing zeros up to the currency's digits.
fn amount(mut exact: Decimal, digits: i64) -> Decimal {
    exact.rescale(u32::try_from(digits).unwrap_or(0));
    exact
}

impl Row {
    fn with(self, lines: Vec<LineRow>) -> Invoice {
        let (own, digits) = (Month::of(self.month), self.minor_digits);
        Invoice {
            number: Some(self.number),
            tenant_id: self.tenant_id,
            tenant_name: self.tenant_name,
            month: own,
            currency: self.currency,
            lines: lines
                .into_iter()
                .map(|row| Line {
                    corrects: Some(Month::of(row.usage_month)).filter(|month| *month != own),
                    meter: row.meter,
                    description: row.description,
                    unit: row.unit,
                    project_id: (!row.project_id.is_nil()).then_some(ProjectId(row.project_id)),
                    quantity: row.quantity,
                    rate: row.rate,
                    amount: amount(row.amount, digits),
                })
                .collect(),
            subtotal: amount(self.subtotal, digits),
            adjustments: amount(self.adjustments, digits),
            total: amount(self.total, digits),
            generated_at: self.generated_at,
            id: self.id,
        }
    }
}

/// The closed invoice of a tenant's month. A scope of one project sees none.
pub async fn get(c: &mut Conn<'_>, scope: Scope, tenant_id: TenantId, month: Month) -> Result<Option<Invoice>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM invoice WHERE tenant_id = $1 AND month = $2 AND (tenant_id = $3 OR $3 IS NULL)"
    ));
    let (tenant, None) = reach(scope) else { return Ok(None) };
    let row: Option<Row> = on!(c, x => sqlx::query_as(q)
        .bind(tenant_id.0)
        .bind(Ts::from(month.start()))
        .bind(tenant)
        .fetch_optional(x)
        .await)?;
    let Some(row) = row else { return Ok(None) };
    let q = sql!(
        "SELECT usage_month, meter, description, unit, project_id, quantity, rate, amount FROM invoice_line \
         WHERE tenant_id = $1 AND month = $2 ORDER BY position"
    );
    let lines: Vec<LineRow> =
        on!(c, x => sqlx::query_as(q).bind(tenant_id.0).bind(Ts::from(month.start())).fetch_all(x).await)?;
    Ok(Some(row.with(lines)))
}

macro_rules! page_where {
    ($anchor:literal) => {
        page_sql!(columns!(), "invoice", "generated_at, id", $anchor, "$4", "(tenant_id = $3 OR $3 IS NULL)")
    };
}

/// A page of closed invoices, without their lines, in the order they were closed. Of the filter only the tenant counts.
pub async fn list(c: &mut Conn<'_>, scope: Scope, filter: &Filter<'_>, page: &Page) -> Result<Vec<Invoice>> {
    let Some(bound) = filter.within(scope).filter(|bound| bound.project.is_none()) else { return Ok(Vec::new()) };
    let q = if bound.tenant.is_some() { page_where!("tenant_id = $3") } else { page_where!("TRUE") };
    let (at, id) = page.start();
    let rows: Vec<Row> = on!(c, x => sqlx::query_as(q)
        .bind(at)
        .bind(id)
        .bind(bound.tenant)
        .bind(limit(page.limit))
        .fetch_all(x)
        .await)?;
    Ok(rows.into_iter().map(|row| row.with(Vec::new())).collect())
}
