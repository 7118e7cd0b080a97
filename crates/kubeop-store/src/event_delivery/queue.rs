//! The outbox: putting, claiming and settling deliveries.
//!
//! Invariant: only who claimed a delivery, and for the attempt it was claimed for, settles it.

use super::{EventDelivery, columns, sql};
use crate::column::{Ts, clean};
use crate::page::limit;
use crate::{Conn, Result, on};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

macro_rules! alive {
    () => {
        "SELECT seq FROM event_delivery WHERE hook = $1 AND subject = $2 AND dead_at IS NULL"
    };
}

/// Writes a delivery that is due; its place is the next one, whatever `row.seq` says.
pub async fn put(c: &mut Conn<'_>, row: &EventDelivery) -> Result<()> {
    let subject = clean(&row.subject, 1000);
    // What is before it stays there until this transaction ends, so that whoever removes it sees this row and lets it go first. One that is
    // being settled at this moment is not waited for: who is not marked as waiting looks himself, whenever it is his turn.
    let q = c.pick(
        sql!(pg: concat!(alive!(), " ORDER BY seq DESC LIMIT 1 FOR SHARE SKIP LOCKED")),
        sql!(sqlite: concat!(alive!(), " ORDER BY seq DESC LIMIT 1")),
    );
    let before: Option<i64> =
        on!(c, x => sqlx::query_scalar(q).bind(&row.hook).bind(&subject).fetch_optional(x).await)?;
    let q = sql!(
        "INSERT INTO event_delivery (id, hook, event_id, event_type, subject, tenant_id, data, occurred_at, give_up_at, next_at, \
         attempts, waits) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11)"
    );
    on!(c, x => sqlx::query(q)
        .bind(row.id)
        .bind(&row.hook)
        .bind(row.event_id)
        .bind(&row.event_type)
        .bind(subject)
        .bind(row.tenant_id.map(|id| id.0))
        .bind(Json(&row.data))
        .bind(Ts::from(row.occurred_at))
        .bind(Ts::from(row.give_up_at))
        .bind(Ts::from(row.next_at))
        .bind(before.is_some())
        .execute(x)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Whether anything is due for a hook; it may be held back by what is before it.
pub async fn is_due(c: &mut Conn<'_>, hook: &str, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "SELECT seq FROM event_delivery WHERE hook = $1 AND dead_at IS NULL AND NOT waits AND next_at <= $2 \
         ORDER BY next_at, seq LIMIT 1"
    );
    let found: Option<i64> = on!(c, x => sqlx::query_scalar(q).bind(hook).bind(Ts::from(now)).fetch_optional(x).await)?;
    Ok(found.is_some())
}

macro_rules! due {
    () => {
        "SELECT seq FROM event_delivery AS d WHERE hook = $1 AND dead_at IS NULL AND NOT waits AND next_at <= $4 \
         AND NOT EXISTS (SELECT 1 FROM event_delivery AS e WHERE e.hook = $1 AND e.subject = d.subject AND e.dead_at IS NULL \
         AND e.seq < d.seq) ORDER BY next_at, seq LIMIT $5"
    };
}

/// Takes what is due for a hook, oldest first, until `until`: of each subject at most the first, with its attempt counted already.
pub async fn claim(
    c: &mut Conn<'_>,
    hook: &str,
    owner: Uuid,
    now: Timestamp,
    until: Timestamp,
    rows: u32,
) -> Result<Vec<EventDelivery>> {
    let q = c.pick(
        sql!(pg: concat!(
            "WITH due AS MATERIALIZED (",
            due!(),
            " FOR UPDATE SKIP LOCKED) UPDATE event_delivery SET claimed_by = $2, next_at = $3, attempts = attempts + 1 \
             WHERE seq = ANY(ARRAY(SELECT seq FROM due)) RETURNING ",
            columns!()
        )),
        sql!(sqlite: concat!(
            "UPDATE event_delivery SET claimed_by = $2, next_at = $3, attempts = attempts + 1 WHERE seq IN (",
            due!(),
            ") RETURNING ",
            columns!()
        )),
    );
    let mut claimed: Vec<EventDelivery> = on!(c, x => sqlx::query_as(q)
        .bind(hook)
        .bind(owner)
        .bind(Ts::from(until))
        .bind(Ts::from(now))
        .bind(limit(rows))
        .fetch_all(x)
        .await)?;
    claimed.sort_unstable_by_key(|row| row.seq);
    Ok(claimed)
}

/// The attempt that is settled: place, owner, number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The delivery's place.
    pub seq: i64,
    /// Who claimed it.
    pub owner: Uuid,
    /// The number of the attempt.
    pub attempts: i64,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// A sentence.
    pub error: &'a str,
}

/// Removes what was delivered; `false`: somebody else had taken over.
pub async fn delivered(c: &mut Conn<'_>, attempt: Settled) -> Result<bool> {
    let q =
        sql!("DELETE FROM event_delivery WHERE seq = $1 AND claimed_by = $2 AND attempts = $3 RETURNING hook, subject");
    let gone: Option<Line> = on!(c, x => sqlx::query_as(q)
        .bind(attempt.seq)
        .bind(attempt.owner)
        .bind(attempt.attempts)
        .fetch_optional(x)
        .await)?;
    let Some(line) = gone else { return Ok(false) };
    next_of(c, &line).await?;
    Ok(true)
}

/// The deliveries of one subject to one hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct Line {
    /// Where they go.
    pub hook: String,
    /// What they are about.
    pub subject: String,
}

/// Lets the first of a line be claimed, once what was before it is settled.
pub async fn next_of(c: &mut Conn<'_>, line: &Line) -> Result<()> {
    let q = sql!(concat!(
        "UPDATE event_delivery SET waits = FALSE WHERE waits AND seq = (",
        alive!(),
        " ORDER BY seq LIMIT 1)"
    ));
    on!(c, x => sqlx::query(q).bind(&line.hook).bind(&line.subject).execute(x).await.map(|_| ()))?;
    Ok(())
}

/// Lines whose first waits for nothing, though it is marked so: a process of an earlier version settled what was before it.
pub async fn stranded(c: &mut Conn<'_>, rows: u32) -> Result<Vec<Line>> {
    let q = sql!(
        "SELECT hook, subject FROM event_delivery AS d WHERE dead_at IS NULL AND waits AND NOT EXISTS \
         (SELECT 1 FROM event_delivery AS e WHERE e.hook = d.hook AND e.subject = d.subject AND e.dead_at IS NULL \
         AND e.seq < d.seq) LIMIT $1"
    );
    Ok(on!(c, x => sqlx::query_as(q).bind(limit(rows)).fetch_all(x).await)?)
}

/// Lets what failed be due again at `next_at`; `false`: somebody else had taken over.
pub async fn postpone(c: &mut Conn<'_>, attempt: Settled, next_at: Timestamp, failure: Failure<'_>) -> Result<bool> {
    let q = sql!(
        "UPDATE event_delivery SET claimed_by = NULL, next_at = $4, last_status = $5, last_error = $6 \
         WHERE seq = $1 AND claimed_by = $2 AND attempts = $3 RETURNING hook, subject"
    );
    Ok(settle_failed(c, q, attempt, next_at, failure).await?.is_some())
}

/// Makes what failed a dead letter; `false`: somebody else had taken over.
pub async fn give_up(c: &mut Conn<'_>, attempt: Settled, now: Timestamp, failure: Failure<'_>) -> Result<bool> {
    let q = sql!(
        "UPDATE event_delivery SET claimed_by = NULL, dead_at = $4, last_status = $5, last_error = $6 \
         WHERE seq = $1 AND claimed_by = $2 AND attempts = $3 RETURNING hook, subject"
    );
    let Some(line) = settle_failed(c, q, attempt, now, failure).await? else { return Ok(false) };
    next_of(c, &line).await?;
    Ok(true)
}

async fn settle_failed(
    c: &mut Conn<'_>,
    q: &'static str,
    attempt: Settled,
    at: Timestamp,
    failure: Failure<'_>,
) -> Result<Option<Line>> {
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(attempt.seq)
        .bind(attempt.owner)
        .bind(attempt.attempts)
        .bind(Ts::from(at))
        .bind(failure.status.map(i64::from))
        .bind(clean(failure.error, 1000))
        .fetch_optional(x)
        .await)?)
}

/// Makes due again what `owner` claimed and did not settle; returns how many.
pub async fn release(c: &mut Conn<'_>, owner: Uuid, now: Timestamp) -> Result<u64> {
    let q = sql!("UPDATE event_delivery SET claimed_by = NULL, next_at = $2 WHERE claimed_by = $1");
    Ok(on!(c, x => sqlx::query(q)
        .bind(owner)
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// Makes due again whatever was claimed: for the one process of a database that no other shares, when it starts.
pub async fn release_all(c: &mut Conn<'_>, now: Timestamp) -> Result<u64> {
    let q = sql!("UPDATE event_delivery SET claimed_by = NULL, next_at = $1 WHERE claimed_by IS NOT NULL");
    Ok(on!(c, x => sqlx::query(q).bind(Ts::from(now)).execute(x).await.map(|done| done.rows_affected()))?)
}

/// How much waits to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Deliveries that wait.
    pub pending: i64,
    /// When the one that is given up first is given up.
    pub first_given_up_at: Option<Timestamp>,
}

/// How much waits to be delivered.
pub async fn figures(c: &mut Conn<'_>) -> Result<Figures> {
    let q = sql!("SELECT COUNT(*) AS n FROM event_delivery WHERE dead_at IS NULL");
    let pending = on!(c, x => sqlx::query_scalar(q).fetch_one(x).await)?;
    let q = sql!("SELECT give_up_at FROM event_delivery WHERE dead_at IS NULL ORDER BY give_up_at, seq LIMIT 1");
    let first: Option<Ts> = on!(c, x => sqlx::query_scalar(q).fetch_optional(x).await)?;
    Ok(Figures { pending, first_given_up_at: first.map(Timestamp::from) })
}
