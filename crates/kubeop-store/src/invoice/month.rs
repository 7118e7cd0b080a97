//! The months of tenants: open, then closed, then perhaps with usage that came late.
//!
//! Invariant: whoever changes usage of a month that is over, or closes it, holds its row until the commit.

use super::sql;
use crate::column::{Id, Many, Ts};
use crate::{Conn, Result, on};
use jiff::{SignedDuration, Timestamp};
use kubeop_core::id::TenantId;
use kubeop_core::month::Month;
use kubeop_core::usage::Sample;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Months that end within this time are held too: far longer than a transaction may take or the clocks of replicas may differ.
const MARGIN: SignedDuration = SignedDuration::from_hours(1);

fn soon(now: Timestamp) -> Timestamp {
    now.checked_add(MARGIN).unwrap_or(Timestamp::MAX)
}

/// A month that is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Of which tenant.
    pub tenant_id: TenantId,
    /// Which month.
    pub month: Month,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    #[sqlx(try_from = "Id")]
    tenant_id: TenantId,
    #[sqlx(try_from = "Ts")]
    month: Timestamp,
}

impl From<DueRow> for Due {
    fn from(row: DueRow) -> Self {
        Self { tenant_id: row.tenant_id, month: Month::of(row.month) }
    }
}

/// Notes that there will be an invoice of this month, unless that is known.
pub async fn open(c: &mut Conn<'_>, tenant_id: TenantId, month: Month) -> Result<()> {
    open_all(c, &[tenant_id.0], month).await
}

async fn open_all(c: &mut Conn<'_>, tenants: &[Uuid], month: Month) -> Result<()> {
    let q = c.pick(
        sql!(pg: "INSERT INTO billing_month (tenant_id, month, closed, late, settled) \
              SELECT x.id, $2, FALSE, 0, 0 FROM UNNEST($1::uuid[]) AS x(id) ON CONFLICT (tenant_id, month) DO NOTHING"),
        sql!(sqlite: "INSERT INTO billing_month (tenant_id, month, closed, late, settled) \
              SELECT unhex(x.value, '-'), $2, FALSE, 0, 0 FROM json_each($1) AS x WHERE TRUE ON CONFLICT (tenant_id, month) DO NOTHING"),
    );
    on!(c, x => sqlx::query(q).bind(Many(tenants.to_vec())).bind(Ts::from(month.start())).execute(x).await.map(|_| ()))?;
    Ok(())
}

/// Open months before `first_not_due`, the oldest first and each month's by tenant, from behind `after` on; at most `limit`.
pub async fn due(c: &mut Conn<'_>, first_not_due: Month, after: Option<Due>, limit: u32) -> Result<Vec<Due>> {
    let q = sql!(
        "SELECT tenant_id, month FROM billing_month WHERE NOT closed AND month < $1 AND (month, tenant_id) > ($3, $4) \
         ORDER BY month, tenant_id LIMIT $2"
    );
    let (month, tenant) =
        after.map_or((Timestamp::UNIX_EPOCH, Uuid::nil()), |due| (due.month.start(), due.tenant_id.0));
    let rows: Vec<DueRow> = on!(c, x => sqlx::query_as(q)
        .bind(Ts::from(first_not_due.start()))
        .bind(i64::from(limit))
        .bind(Ts::from(month))
        .bind(tenant)
        .fetch_all(x)
        .await)?;
    Ok(rows.into_iter().map(Due::from).collect())
}

/// A tenant's oldest open month before `first_not_due`.
pub async fn due_of(c: &mut Conn<'_>, tenant_id: TenantId, first_not_due: Month) -> Result<Option<Due>> {
    let q = sql!(
        "SELECT tenant_id, month FROM billing_month WHERE tenant_id = $1 AND NOT closed AND month < $2 ORDER BY month LIMIT 1"
    );
    let row: Option<DueRow> = on!(c, x => sqlx::query_as(q)
        .bind(tenant_id.0)
        .bind(Ts::from(first_not_due.start()))
        .fetch_optional(x)
        .await)?;
    Ok(row.map(Due::from))
}

/// Tenants by month, of months that are over.
pub(crate) type Months = BTreeMap<Month, Vec<Uuid>>;

/// Holds the months of these samples that are over, or nearly; those among them that are closed.
pub(crate) async fn hold(c: &mut Conn<'_>, batch: &[Sample], now: Timestamp) -> Result<Months> {
    let q = c.pick(
        sql!(pg: "INSERT INTO billing_month AS m (tenant_id, month, closed, late, settled) \
              SELECT x.id, $2, FALSE, 0, 0 FROM UNNEST($1::uuid[]) AS x(id) \
              ON CONFLICT (tenant_id, month) DO UPDATE SET late = m.late RETURNING m.tenant_id, m.closed"),
        sql!(sqlite: "INSERT INTO billing_month AS m (tenant_id, month, closed, late, settled) \
              SELECT unhex(x.value, '-'), $2, FALSE, 0, 0 FROM json_each($1) AS x WHERE TRUE \
              ON CONFLICT (tenant_id, month) DO UPDATE SET late = m.late RETURNING tenant_id, closed"),
    );
    let until = soon(now);
    let mut over: BTreeMap<Month, BTreeSet<Uuid>> = BTreeMap::new();
    // A batch has few months, so that computing each sample's would be a waste.
    let mut known: Option<(Month, Timestamp, Timestamp)> = None;
    for sample in batch {
        let (month, _, end) = match known {
            Some(found) if (found.1..found.2).contains(&sample.bucket) => found,
            _ => {
                let month = Month::of(sample.bucket);
                *known.insert((month, month.start(), month.end()))
            }
        };
        if end <= until {
            over.entry(month).or_default().insert(sample.tenant_id.0);
        }
    }
    let mut closed = Months::new();
    for (month, tenants) in over {
        let tenants: Vec<Uuid> = tenants.into_iter().collect();
        let rows: Vec<(Uuid, bool)> = on!(c, x => sqlx::query_as(q)
            .bind(Many(tenants))
            .bind(Ts::from(month.start()))
            .fetch_all(x)
            .await)?;
        let found: Vec<Uuid> = rows.into_iter().filter_map(|(id, closed)| closed.then_some(id)).collect();
        if !found.is_empty() {
            closed.insert(month, found);
        }
    }
    Ok(closed)
}

/// Hours (or other instants of their months) of tenants of which a row of usage was created or changed.
pub(crate) type Written = BTreeSet<(Uuid, Ts)>;

/// Those tenants of `closed` of whose month something was written.
fn changed(mut closed: Months, written: &Written) -> Months {
    closed.retain(|month, tenants| {
        let (start, end) = (Ts::from(month.start()), Ts::from(month.end()));
        tenants.retain(|tenant| written.range((*tenant, start)..(*tenant, end)).next().is_some());
        !tenants.is_empty()
    });
    closed
}

/// Notes that usage of closed months changed, where it did, and that there is an open month whose invoice will correct it, also if the
/// tenant is gone. What was only sent again changes nothing.
pub(crate) async fn note_late(c: &mut Conn<'_>, closed: Months, written: &Written, now: Timestamp) -> Result<()> {
    let closed = changed(closed, written);
    let q = c.pick(
        sql!(pg: "UPDATE billing_month SET late = late + 1 WHERE tenant_id = ANY($1) AND month = $2"),
        sql!(sqlite: "UPDATE billing_month SET late = late + 1 \
              WHERE tenant_id IN (SELECT unhex(value, '-') FROM json_each($1)) AND month = $2"),
    );
    let mut all = BTreeSet::new();
    for (month, tenants) in closed {
        all.extend(tenants.iter().copied());
        on!(c, x => sqlx::query(q).bind(Many(tenants)).bind(Ts::from(month.start())).execute(x).await.map(|_| ()))?;
    }
    if all.is_empty() {
        return Ok(());
    }
    let all: Vec<Uuid> = all.into_iter().collect();
    open_all(c, &all, Month::of(soon(now))).await
}

/// The closed months that the invoice of `month` corrects: those before it that usage came late for, and that no open month between is
/// to correct.
pub(super) async fn to_correct(c: &mut Conn<'_>, tenant_id: TenantId, month: Month) -> Result<Vec<Month>> {
    let q = sql!(
        "SELECT month, closed FROM billing_month \
         WHERE tenant_id = $1 AND month < $2 AND (NOT closed OR late > settled) ORDER BY month"
    );
    let rows: Vec<(Ts, bool)> =
        on!(c, x => sqlx::query_as(q).bind(tenant_id.0).bind(Ts::from(month.start())).fetch_all(x).await)?;
    let mut found = Vec::new();
    for (start, closed) in rows {
        if closed {
            found.push(Month::of(start.into()));
        } else {
            found.clear();
        }
    }
    Ok(found)
}

/// Holds a closed month, and notes that what came late for it until now is in an invoice.
pub(super) async fn settle(c: &mut Conn<'_>, tenant_id: TenantId, month: Month) -> Result<()> {
    let q = sql!("UPDATE billing_month SET settled = late WHERE tenant_id = $1 AND month = $2");
    on!(c, x => sqlx::query(q).bind(tenant_id.0).bind(Ts::from(month.start())).execute(x).await.map(|_| ()))?;
    Ok(())
}

/// Whether it is known that there is an invoice of a tenant's month, or will be.
pub async fn is_known(c: &mut Conn<'_>, tenant_id: TenantId, month: Month) -> Result<bool> {
    let q = sql!("SELECT COUNT(*) AS n FROM billing_month WHERE tenant_id = $1 AND month = $2");
    let rows: i64 =
        on!(c, x => sqlx::query_scalar(q).bind(tenant_id.0).bind(Ts::from(month.start())).fetch_one(x).await)?;
    Ok(rows == 1)
}

/// Whether a tenant's month is known and open.
pub(super) async fn is_open(c: &mut Conn<'_>, due: Due) -> Result<bool> {
    let q = sql!("SELECT COUNT(*) AS n FROM billing_month WHERE tenant_id = $1 AND month = $2 AND NOT closed");
    let rows: i64 = on!(c, x => sqlx::query_scalar(q)
        .bind(due.tenant_id.0)
        .bind(Ts::from(due.month.start()))
        .fetch_one(x)
        .await)?;
    Ok(rows == 1)
}

/// Holds a month and closes it.
pub(super) async fn set_closed(c: &mut Conn<'_>, due: Due) -> Result<()> {
    let q = sql!("UPDATE billing_month SET closed = TRUE WHERE tenant_id = $1 AND month = $2");
    on!(c, x => sqlx::query(q)
        .bind(due.tenant_id.0)
        .bind(Ts::from(due.month.start()))
        .execute(x)
        .await
        .map(|_| ()))?;
    Ok(())
}
