//! Summing usage: exact beyond 64 bits.
//!
//! A figure is at most 10^12, so the databases add its millions and the rest apart, neither of which can overflow, and Rust puts them
//! together. The ledger leads with time; a tenant's month is read by probing its hours in the primary key, so no second index is needed
//! (on PostgreSQL the `OFFSET 0` keeps the planner from reading the whole ledger instead).

use super::{hours, sql};
use crate::column::{Id, Many, Maybe, Ts};
use crate::{Conn, Result, on};
use jiff::Timestamp;
use kubeop_core::id::{ProjectId, TenantId};
use uuid::Uuid;

/// The four columns of two exact sums.
macro_rules! split_sums {
    () => {
        "CAST(COALESCE(SUM(u.cpu_milli / 1000000), 0) AS BIGINT) AS cpu_high, CAST(COALESCE(SUM(u.cpu_milli % 1000000), 0) AS BIGINT) \
         AS cpu_low, CAST(COALESCE(SUM(u.mem_mib / 1000000), 0) AS BIGINT) AS mem_high, \
         CAST(COALESCE(SUM(u.mem_mib % 1000000), 0) AS BIGINT) AS mem_low"
    };
}

fn whole(high: i64, low: i64) -> i128 {
    i128::from(high) * 1_000_000 + i128::from(low)
}

/// The usage of one project (or of none) of a tenant in one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalSum {
    /// Which interval: 0 before the first boundary, 1 from it on, and so on.
    pub interval: usize,
    /// The project the samples name.
    pub project_id: Option<ProjectId>,
    /// Millicore-hours.
    pub cpu_milli: i128,
    /// MiB-hours.
    pub mem_mib: i128,
}

#[derive(sqlx::FromRow)]
struct IntervalRow {
    interval: i64,
    project_id: Uuid,
    cpu_high: i64,
    cpu_low: i64,
    mem_high: i64,
    mem_low: i64,
}

/// The usage of a tenant in `[from, until)`, by project and by the intervals that the ascending `boundaries` cut (price changes; an hour
/// belongs to the interval in which it begins). Ordered by interval, then project. All times but the boundaries are whole hours.
pub async fn sums(
    c: &mut Conn<'_>,
    tenant_id: TenantId,
    (from, until): (Timestamp, Timestamp),
    boundaries: &[Timestamp],
) -> Result<Vec<IntervalSum>> {
    let q = c.pick(
        sql!(pg: concat!(
            "SELECT (SELECT COUNT(*) FROM UNNEST($2::timestamptz[]) AS b(at) WHERE b.at <= u.bucket) AS interval, u.project_id, ",
            split_sums!(),
            " FROM UNNEST($1::timestamptz[]) AS h(bucket) CROSS JOIN LATERAL (SELECT * FROM usage_hour \
             WHERE usage_hour.bucket = h.bucket AND tenant_id = $3 OFFSET 0) AS u GROUP BY 1, 2 ORDER BY 1, 2"
        )),
        sql!(sqlite: concat!(
            "SELECT (SELECT COUNT(*) FROM json_each($2) AS b WHERE b.value <= u.bucket) AS interval, u.project_id, ",
            split_sums!(),
            " FROM json_each($1) AS h JOIN usage_hour u ON u.bucket = h.value AND u.tenant_id = $3 \
             GROUP BY 1, 2 ORDER BY 1, 2"
        )),
    );
    let hours: Vec<Ts> = hours(from, until)?.into_iter().map(Ts::from).collect();
    let boundaries: Vec<Ts> = boundaries.iter().copied().map(Ts::from).collect();
    let rows: Vec<IntervalRow> = on!(c, x => sqlx::query_as(q)
        .bind(Many(hours))
        .bind(Many(boundaries))
        .bind(tenant_id.0)
        .fetch_all(x)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|row| IntervalSum {
            interval: usize::try_from(row.interval).unwrap_or(0),
            project_id: (!row.project_id.is_nil()).then_some(ProjectId(row.project_id)),
            cpu_milli: whole(row.cpu_high, row.cpu_low),
            mem_mib: whole(row.mem_high, row.mem_low),
        })
        .collect())
}

/// The usage of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantTotal {
    /// The tenant; none: all together.
    pub tenant_id: Option<TenantId>,
    /// Millicore-hours.
    pub cpu_milli: i128,
    /// MiB-hours.
    pub mem_mib: i128,
}

#[derive(sqlx::FromRow)]
struct TotalRow {
    #[sqlx(try_from = "Maybe<Id>")]
    tenant_id: Option<TenantId>,
    cpu_high: i64,
    cpu_low: i64,
    mem_high: i64,
    mem_low: i64,
}

impl From<TotalRow> for TenantTotal {
    fn from(row: TotalRow) -> Self {
        Self {
            tenant_id: row.tenant_id,
            cpu_milli: whole(row.cpu_high, row.cpu_low),
            mem_mib: whole(row.mem_high, row.mem_low),
        }
    }
}

/// The usage of each of these tenants (a page of them) in `[from, until)`; one without any is absent.
pub async fn totals(
    c: &mut Conn<'_>,
    tenants: &[TenantId],
    (from, until): (Timestamp, Timestamp),
) -> Result<Vec<TenantTotal>> {
    let q = c.pick(
        sql!(pg: concat!(
            "SELECT u.tenant_id, ", split_sums!(),
            " FROM UNNEST($1::timestamptz[]) AS h(bucket) CROSS JOIN LATERAL (SELECT * FROM usage_hour \
             WHERE usage_hour.bucket = h.bucket AND tenant_id = ANY($2) OFFSET 0) AS u GROUP BY u.tenant_id ORDER BY u.tenant_id"
        )),
        sql!(sqlite: concat!(
            "SELECT u.tenant_id, ", split_sums!(), " FROM usage_hour u WHERE u.bucket IN (SELECT value FROM json_each($1)) \
             AND u.tenant_id IN (SELECT unhex(value, '-') FROM json_each($2)) GROUP BY u.tenant_id ORDER BY u.tenant_id"
        )),
    );
    let hours: Vec<Ts> = hours(from, until)?.into_iter().map(Ts::from).collect();
    let tenants: Vec<Uuid> = tenants.iter().map(|id| id.0).collect();
    let rows: Vec<TotalRow> = on!(c, x => sqlx::query_as(q).bind(Many(hours)).bind(Many(tenants)).fetch_all(x).await)?;
    Ok(rows.into_iter().map(TenantTotal::from).collect())
}

/// The usage of all tenants together in `[from, until)`. It reads every row of that time.
pub async fn total(c: &mut Conn<'_>, (from, until): (Timestamp, Timestamp)) -> Result<TenantTotal> {
    let q = sql!(concat!(
        "SELECT NULL AS tenant_id, ",
        split_sums!(),
        " FROM usage_hour u WHERE u.bucket >= $1 AND u.bucket < $2"
    ));
    let row: TotalRow = on!(c, x => sqlx::query_as(q).bind(Ts::from(from)).bind(Ts::from(until)).fetch_one(x).await)?;
    Ok(row.into())
}
