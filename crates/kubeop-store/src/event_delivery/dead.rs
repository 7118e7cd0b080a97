//! Dead letters: deliveries that were given up, kept to be looked at and sent again.
//!
//! Invariant: a dead letter is never sent by itself; it leaves by a replay or when its time is over.

use super::queue::{Line, next_of};
use super::{EventDelivery, columns, sql};
use crate::column::Ts;
use crate::page::{Filter, limit, page_sql};
use crate::{Conn, Page, Result, on};
use jiff::Timestamp;
use kubeop_core::authz::Scope;
use kubeop_core::id::TenantId;
use std::collections::BTreeSet;
use uuid::Uuid;

/// What a list of dead letters is narrowed to.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadFilter<'a> {
    /// Only of this hook.
    pub hook: Option<&'a str>,
    /// Only of this type of event.
    pub event_type: Option<&'a str>,
    /// Only about this tenant.
    pub tenant_id: Option<TenantId>,
}

/// Found by the anchor; the rest of the filter is in the inner query, which reads until it has enough.
macro_rules! page_where {
    ($anchor:literal) => {
        page_sql!(
            columns!(),
            "event_delivery",
            "dead_at, id",
            concat!(
                "dead_at IS NOT NULL AND ",
                $anchor,
                " AND (hook = $3 OR $3 IS NULL) AND (event_type = $4 OR $4 IS NULL) AND (tenant_id = $5 OR $5 IS NULL)"
            ),
            "$6",
            "TRUE"
        )
    };
}

/// A page of dead letters, in order of (when they were given up, id). A scope of less than all sees only what is about its tenant.
pub async fn list_dead(
    c: &mut Conn<'_>,
    scope: Scope,
    filter: &DeadFilter<'_>,
    page: &Page,
) -> Result<Vec<EventDelivery>> {
    let tenants = Filter { tenant_id: filter.tenant_id, ..Filter::default() };
    let Some(bound) = tenants.within(scope).filter(|bound| bound.project.is_none()) else { return Ok(Vec::new()) };
    let q = match (bound.tenant, filter.event_type, filter.hook) {
        (Some(_), ..) => page_where!("tenant_id = $5"),
        (None, Some(_), _) => page_where!("event_type = $4"),
        (None, None, Some(_)) => page_where!("hook = $3"),
        (None, None, None) => page_where!("TRUE"),
    };
    let start = page.start();
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(start.0)
        .bind(start.1)
        .bind(filter.hook)
        .bind(filter.event_type)
        .bind(bound.tenant)
        .bind(limit(page.limit))
        .fetch_all(x)
        .await)?)
}

/// A dead letter.
pub async fn get_dead(c: &mut Conn<'_>, id: Uuid) -> Result<Option<EventDelivery>> {
    let q = sql!(concat!("SELECT ", columns!(), " FROM event_delivery WHERE id = $1 AND dead_at IS NOT NULL"));
    Ok(on!(c, x => sqlx::query_as(q).bind(id).fetch_optional(x).await)?)
}

/// Lets a dead letter be delivered again, from now until `give_up_at`; `None` if it is none (any more).
pub async fn replay(
    c: &mut Conn<'_>,
    id: Uuid,
    now: Timestamp,
    give_up_at: Timestamp,
) -> Result<Option<EventDelivery>> {
    let q = sql!(concat!(
        "UPDATE event_delivery SET dead_at = NULL, waits = FALSE, attempts = 0, next_at = $2, give_up_at = $3 \
         WHERE id = $1 AND dead_at IS NOT NULL RETURNING ",
        columns!()
    ));
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(id)
        .bind(Ts::from(now))
        .bind(Ts::from(give_up_at))
        .fetch_optional(x)
        .await)?)
}

/// Gives up some of what was not delivered in time and is not being tried; returns how many.
pub async fn expire(c: &mut Conn<'_>, now: Timestamp, why: &str, rows: u32) -> Result<u64> {
    let q = sql!(
        "UPDATE event_delivery SET claimed_by = NULL, dead_at = $1, last_error = COALESCE(last_error, $2) WHERE seq IN \
         (SELECT seq FROM event_delivery WHERE dead_at IS NULL AND give_up_at <= $1 \
         AND (claimed_by IS NULL OR next_at <= $1) ORDER BY give_up_at, seq LIMIT $3) \
         AND dead_at IS NULL AND give_up_at <= $1 AND (claimed_by IS NULL OR next_at <= $1) RETURNING hook, subject"
    );
    let gone: Vec<Line> =
        on!(c, x => sqlx::query_as(q).bind(Ts::from(now)).bind(why).bind(limit(rows)).fetch_all(x).await)?;
    let count = u64::try_from(gone.len()).unwrap_or(u64::MAX);
    for line in BTreeSet::from_iter(gone) {
        next_of(c, &line).await?;
    }
    Ok(count)
}

/// Forgets some of the dead letters from before `before`; returns how many.
pub async fn remove_dead(c: &mut Conn<'_>, before: Timestamp, rows: u32) -> Result<u64> {
    let q = sql!(
        "DELETE FROM event_delivery WHERE seq IN \
         (SELECT seq FROM event_delivery WHERE dead_at < $1 ORDER BY dead_at, id LIMIT $2) AND dead_at < $1"
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(Ts::from(before))
        .bind(limit(rows))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// How many dead letters there are.
pub async fn count_dead(c: &mut Conn<'_>) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM event_delivery WHERE dead_at IS NOT NULL");
    Ok(on!(c, x => sqlx::query_scalar(q).fetch_one(x).await)?)
}
