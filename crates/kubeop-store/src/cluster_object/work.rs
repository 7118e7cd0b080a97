//! What the workers of the lease holder write: begun, settled, failed, gone.

use super::{Key, ObjectKind, sql};
use crate::column::{Many, Text, Ts, clean};
use crate::{Conn, Result, on};
use jiff::Timestamp;
use kubeop_core::id::ClusterId;
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct Begun {
    #[sqlx(try_from = "Text")]
    kind: ObjectKind,
    entity_id: Uuid,
}

/// Notes, before the first write to the cluster, that these may exist there from now on; returns those whose row is still there. Only
/// they may be written. Call it, and commit, for what [`super::due`] showed as not `attempted`.
pub async fn begin(c: &mut Conn<'_>, cluster_id: ClusterId, entities: &[Uuid]) -> Result<Vec<Key>> {
    let q = c.pick(
        // Locked in order first: an UPDATE alone takes rows as it finds them.
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT kind, entity_id FROM cluster_object WHERE cluster_id = $1 \
              AND entity_id = ANY($2) ORDER BY kind, cluster_id, entity_id FOR UPDATE) \
              UPDATE cluster_object o SET attempted = TRUE FROM locked \
              WHERE o.cluster_id = $1 AND o.kind = locked.kind AND o.entity_id = locked.entity_id RETURNING o.kind, o.entity_id"),
        sql!(sqlite: "UPDATE cluster_object SET attempted = TRUE WHERE cluster_id = $1 \
              AND entity_id IN (SELECT unhex(value, '-') FROM json_each($2)) RETURNING kind, entity_id"),
    );
    let entities = Many(entities.to_vec());
    let begun: Vec<Begun> = on!(c, x => sqlx::query_as(q).bind(cluster_id.0).bind(entities).fetch_all(x).await)?;
    Ok(begun.into_iter().map(|row| Key { cluster_id, kind: row.kind, entity_id: row.entity_id }).collect())
}

/// Notes that `version` was applied and has `uid`. If no newer one is wanted, the row is done. `false`: a higher one was settled already, or
/// the row is gone.
pub async fn settle(c: &mut Conn<'_>, key: Key, version: i64, uid: &str) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster_object SET applied = $4, uid = $5, attempts = CASE WHEN wanted = $4 THEN 0 ELSE attempts END, \
         last_error = CASE WHEN wanted = $4 THEN NULL ELSE last_error END \
         WHERE cluster_id = $1 AND kind = $2 AND entity_id = $3 AND applied < $4 AND wanted >= $4"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(key.cluster_id.0)
        .bind(key.kind.as_str())
        .bind(key.entity_id)
        .bind(version)
        .bind(clean(uid, 200))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The version that was tried.
    pub version: i64,
    /// What went wrong, for the user.
    pub error: &'a str,
    /// When to try again.
    pub next_attempt_at: Timestamp,
}

/// Notes a failed attempt. A row that was marked meanwhile stays due now, and only remembers the error; `false` then, or if it is gone.
pub async fn fail(c: &mut Conn<'_>, key: Key, failure: &Failure<'_>) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster_object SET last_error = $5, attempts = CASE WHEN wanted = $4 THEN attempts + 1 ELSE attempts END, \
         next_attempt_at = CASE WHEN wanted = $4 THEN $6 ELSE next_attempt_at END \
         WHERE cluster_id = $1 AND kind = $2 AND entity_id = $3 RETURNING wanted"
    );
    let wanted: Option<i64> = on!(c, x => sqlx::query_scalar(q)
        .bind(key.cluster_id.0)
        .bind(key.kind.as_str())
        .bind(key.entity_id)
        .bind(failure.version)
        .bind(clean(failure.error, 2000))
        .bind(Ts::from(failure.next_attempt_at))
        .fetch_optional(x)
        .await)?;
    Ok(wanted == Some(failure.version))
}

/// Puts a due row off without calling it a failure: a parent is not ready yet, or a deletion is under way on the cluster. `false` if it was
/// marked meanwhile or is gone.
pub async fn postpone(c: &mut Conn<'_>, key: Key, version: i64, until: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster_object SET next_attempt_at = $5, last_error = NULL \
         WHERE cluster_id = $1 AND kind = $2 AND entity_id = $3 AND wanted = $4"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(key.cluster_id.0)
        .bind(key.kind.as_str())
        .bind(key.entity_id)
        .bind(version)
        .bind(Ts::from(until))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Makes a row due now, if it has anything to do: the watch saw it move.
pub async fn wake(c: &mut Conn<'_>, key: Key, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster_object SET next_attempt_at = $4 WHERE cluster_id = $1 AND kind = $2 AND entity_id = $3 \
         AND (wanted > applied OR deleted) AND next_attempt_at > $4"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(key.cluster_id.0)
        .bind(key.kind.as_str())
        .bind(key.entity_id)
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Makes everything that has something to do on a cluster due now: it was bootstrapped, or answers again. Returns how many moved.
pub async fn wake_all(c: &mut Conn<'_>, cluster_id: ClusterId, now: Timestamp) -> Result<u64> {
    let q = c.pick(
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT kind, entity_id FROM cluster_object WHERE cluster_id = $1 \
              AND (wanted > applied OR deleted) AND next_attempt_at > $2 ORDER BY kind, cluster_id, entity_id FOR UPDATE) \
              UPDATE cluster_object o SET next_attempt_at = $2, attempts = 0 FROM locked \
              WHERE o.cluster_id = $1 AND o.kind = locked.kind AND o.entity_id = locked.entity_id"),
        sql!(sqlite: "UPDATE cluster_object SET next_attempt_at = $2, attempts = 0 \
              WHERE cluster_id = $1 AND (wanted > applied OR deleted) AND next_attempt_at > $2"),
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(cluster_id.0)
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// Removes the row, and what was observed: the resource is gone from the cluster, or never came to be. `false` if there was none.
pub async fn remove(c: &mut Conn<'_>, key: Key) -> Result<bool> {
    let q = sql!("DELETE FROM cluster_object WHERE cluster_id = $1 AND kind = $2 AND entity_id = $3");
    let rows = on!(c, x => sqlx::query(q)
        .bind(key.cluster_id.0)
        .bind(key.kind.as_str())
        .bind(key.entity_id)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
