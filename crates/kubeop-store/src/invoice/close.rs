//! Closing a month: its invoice is frozen, with the next number, in one transaction.
//!
//! Invariant: closings take turns by the counter's row, so that no two take one number, close one month, or correct one change; who is cut
//! off anywhere has done nothing. An invoice is made later than the one with the number before, whatever the clocks of replicas say, so that
//! the order of lists is that of numbers.

use super::draft::make;
use super::month::{self, Due};
use super::{Invoice, Line, sql};
use crate::column::{Dec, Ts, clean};
use crate::tenant::{self, Tenant};
use crate::{Conn, Result, StoreError, Tx, on};
use jiff::{SignedDuration, Timestamp};
use kubeop_core::authz::system_scope;
use kubeop_core::month::Month;
use sqlx::types::Json;
use uuid::Uuid;

/// Closes an open month; `None` if it is not open (any more). The caller checked that its grace is over. The transaction must be
/// committed, or nothing happened.
///
/// # Errors
/// As [`super::draft`]; `Unavailable` if others close for longer than the lock time-out.
pub async fn close(tx: &mut Tx, due: Due, id: Uuid, now: Timestamp) -> Result<Option<Invoice>> {
    let c = &mut tx.conn();
    let last = take_turn(c).await?;
    let number = last.checked_add(1).ok_or_else(|| StoreError::Defect("no number is left".to_owned()))?;
    if !month::is_open(c, due).await? {
        return Ok(None);
    }
    let row = tenant::get_any(c, system_scope(), due.tenant_id)
        .await?
        .ok_or_else(|| StoreError::Defect(format!("a month of tenant {}, which never was", due.tenant_id)))?;
    // In order of months, as a batch of usage holds them; whoever sends usage of them waits from here on, or was waited for.
    let corrected = month::to_correct(c, due.tenant_id, due.month).await?;
    for month in corrected.iter().copied() {
        month::settle(c, due.tenant_id, month).await?;
    }
    month::set_closed(c, due).await?;
    let next = due.month.next();
    if next.meets(row.created_at, row.deleted_at) {
        month::open(c, due.tenant_id, next).await?;
    }
    // The clock was read before the turn came, perhaps by another replica's clock than the last one's.
    let at = after(c, last).await?.map_or(now, |soonest| soonest.max(now));
    let invoice = Invoice { number: Some(number), id, ..make(c, &row, due.month, &corrected, at).await? };
    write(c, &row, &invoice, number).await?;
    Ok(Some(invoice))
}

/// Holds the counter until the end; the last number given. The next is taken only with its invoice: a caller that commits without one leaves no gap.
async fn take_turn(c: &mut Conn<'_>) -> Result<i64> {
    let q = sql!("UPDATE invoice_counter SET last = last WHERE id = 1 RETURNING last");
    Ok(on!(c, x => sqlx::query_scalar(q).fetch_one(x).await)?)
}

/// The first instant after the one at which the invoice of this number was made; none if there is none yet.
async fn after(c: &mut Conn<'_>, number: i64) -> Result<Option<Timestamp>> {
    let q = sql!("SELECT generated_at FROM invoice WHERE number = $1");
    let made: Option<Ts> = on!(c, x => sqlx::query_scalar(q).bind(number).fetch_optional(x).await)?;
    Ok(made.and_then(|made| Timestamp::from(made).checked_add(SignedDuration::from_micros(1)).ok()))
}

async fn write(c: &mut Conn<'_>, row: &Tenant, invoice: &Invoice, number: i64) -> Result<()> {
    let count = sql!("UPDATE invoice_counter SET last = $1 WHERE id = 1");
    on!(c, x => sqlx::query(count).bind(number).execute(x).await.map(|_| ()))?;
    let q = sql!(
        "INSERT INTO invoice (tenant_id, month, id, number, tenant_name, currency, minor_digits, subtotal, adjustments, total, generated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    );
    on!(c, x => sqlx::query(q)
        .bind(row.id.0)
        .bind(Ts::from(invoice.month.start()))
        .bind(invoice.id)
        .bind(number)
        .bind(row.name.as_str())
        .bind(&invoice.currency)
        .bind(i64::from(invoice.total.scale()))
        .bind(Dec::from(invoice.subtotal))
        .bind(Dec::from(invoice.adjustments))
        .bind(Dec::from(invoice.total))
        .bind(Ts::from(invoice.generated_at))
        .execute(x)
        .await
        .map(|_| ()))?;
    write_lines(c, invoice).await
}

/// A line, as its JSON is taken apart by the databases: times in microseconds, decimals as text.
#[derive(serde::Serialize)]
struct LineRow<'a> {
    position: i64,
    usage_month: i64,
    meter: &'a str,
    description: String,
    unit: &'a str,
    project_id: Uuid,
    quantity: String,
    rate: String,
    amount: String,
}

impl<'a> LineRow<'a> {
    fn of(invoice: &Invoice, position: i64, line: &'a Line) -> Self {
        Self {
            position,
            usage_month: line.corrects.map_or(invoice.month.start(), Month::start).as_microsecond(),
            meter: &line.meter,
            description: clean(&line.description, 200),
            unit: &line.unit,
            project_id: line.project_id.map_or(Uuid::nil(), |id| id.0),
            quantity: line.quantity.normalize().to_string(),
            rate: line.rate.normalize().to_string(),
            amount: line.amount.normalize().to_string(),
        }
    }
}

/// All lines in one statement: a tenant of many projects has hundreds.
async fn write_lines(c: &mut Conn<'_>, invoice: &Invoice) -> Result<()> {
    let lines: Vec<_> =
        (1_i64..).zip(&invoice.lines).map(|(position, line)| LineRow::of(invoice, position, line)).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let q = c.pick(
        sql!(pg: "INSERT INTO invoice_line (tenant_id, month, position, usage_month, meter, description, unit, project_id, quantity, rate, amount) \
              SELECT $1, $2, v.position, 'epoch'::timestamptz + v.usage_month * interval '1 microsecond', v.meter, v.description, v.unit, \
              v.project_id, v.quantity, v.rate, v.amount FROM jsonb_to_recordset($3) AS v(position bigint, usage_month bigint, meter text, \
              description text, unit text, project_id uuid, quantity numeric, rate numeric, amount numeric)"),
        sql!(sqlite: "INSERT INTO invoice_line (tenant_id, month, position, usage_month, meter, description, unit, project_id, quantity, rate, amount) \
              SELECT $1, $2, v.value ->> 'position', v.value ->> 'usage_month', v.value ->> 'meter', v.value ->> 'description', \
              v.value ->> 'unit', unhex(v.value ->> 'project_id', '-'), v.value ->> 'quantity', v.value ->> 'rate', v.value ->> 'amount' \
              FROM json_each($3) AS v"),
    );
    let month = Ts::from(invoice.month.start());
    on!(c, x => sqlx::query(q)
        .bind(invoice.tenant_id.0)
        .bind(month)
        .bind(Json(&lines))
        .execute(x)
        .await
        .map(|_| ()))?;
    Ok(())
}
