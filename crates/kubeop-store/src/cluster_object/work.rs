//! What the workers of the lease holder write: begun, settled, failed, gone.

use super::mark::lock_order;
use super::{ClusterObject, Key, ObjectKind, sql};
use crate::column::{Many, Text, Ts, clean};
use crate::{Conn, Result, on};
use jiff::Timestamp;
use kubeop_core::id::{ClusterId, ProjectId};
use sqlx::types::Json;
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

/// A version that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which row.
    pub key: Key,
    /// The version that was rendered and applied.
    pub version: i64,
    /// The object's uid.
    pub uid: String,
}

#[derive(serde::Serialize)]
struct SettledRow {
    kind: &'static str,
    entity_id: Uuid,
    version: i64,
    uid: String,
}

/// Notes what was applied on a cluster, each row at most once. A row of which no newer version is wanted is done. Returns how many were noted:
/// not those of which a higher version was settled already, nor those that are gone.
pub async fn settle_many(c: &mut Conn<'_>, cluster_id: ClusterId, settled: &[Settled]) -> Result<u64> {
    let mut sorted: Vec<&Settled> = settled.iter().filter(|one| one.key.cluster_id == cluster_id).collect();
    sorted.sort_by_key(|one| lock_order(one.key));
    let rows: Vec<SettledRow> = sorted
        .into_iter()
        .map(|one| SettledRow {
            kind: one.key.kind.as_str(),
            entity_id: one.key.entity_id,
            version: one.version,
            uid: clean(&one.uid, 200),
        })
        .collect();
    let q = c.pick(
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT o.kind, o.entity_id, v.version, v.uid \
              FROM jsonb_to_recordset($2) AS v(kind text, entity_id uuid, version bigint, uid text) \
              JOIN cluster_object o ON o.cluster_id = $1 AND o.kind = v.kind AND o.entity_id = v.entity_id \
              ORDER BY o.kind, o.cluster_id, o.entity_id FOR UPDATE OF o) \
              UPDATE cluster_object o SET applied = locked.version, uid = locked.uid, \
              attempts = CASE WHEN o.wanted = locked.version THEN 0 ELSE o.attempts END, \
              last_error = CASE WHEN o.wanted = locked.version THEN NULL ELSE o.last_error END FROM locked \
              WHERE o.cluster_id = $1 AND o.kind = locked.kind AND o.entity_id = locked.entity_id \
              AND o.applied < locked.version AND o.wanted >= locked.version"),
        sql!(sqlite: "UPDATE cluster_object SET applied = v.value ->> 'version', uid = v.value ->> 'uid', \
              attempts = CASE WHEN wanted = v.value ->> 'version' THEN 0 ELSE attempts END, \
              last_error = CASE WHEN wanted = v.value ->> 'version' THEN NULL ELSE last_error END \
              FROM json_each($2) AS v \
              WHERE cluster_id = $1 AND kind = v.value ->> 'kind' AND entity_id = unhex(v.value ->> 'entity_id', '-') \
              AND applied < v.value ->> 'version' AND wanted >= v.value ->> 'version'"),
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(cluster_id.0)
        .bind(Json(&rows))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The version that was tried.
    pub version: i64,
    /// What went wrong, for the user; `None` leaves what is known.
    pub error: Option<&'a str>,
    /// When to try again.
    pub next_attempt_at: Timestamp,
}

/// Notes a failed attempt. A row that was marked meanwhile stays due now, and only remembers the error; `false` then, or if it is gone.
pub async fn fail(c: &mut Conn<'_>, key: Key, failure: &Failure<'_>) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster_object SET last_error = COALESCE($5, last_error), attempts = CASE WHEN wanted = $4 THEN attempts + 1 ELSE attempts END, \
         next_attempt_at = CASE WHEN wanted = $4 THEN $6 ELSE next_attempt_at END \
         WHERE cluster_id = $1 AND kind = $2 AND entity_id = $3 RETURNING wanted"
    );
    let wanted: Option<i64> = on!(c, x => sqlx::query_scalar(q)
        .bind(key.cluster_id.0)
        .bind(key.kind.as_str())
        .bind(key.entity_id)
        .bind(failure.version)
        .bind(failure.error.map(|error| clean(error, 2000)))
        .bind(Ts::from(failure.next_attempt_at))
        .fetch_optional(x)
        .await)?;
    Ok(wanted == Some(failure.version))
}

/// Puts a due row, as it was read, off without calling it a failure: a parent is not ready yet, or a deletion is under way on the cluster. `false` if
/// it was marked or woken meanwhile, or is gone.
pub async fn postpone(c: &mut Conn<'_>, read: &ClusterObject, until: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster_object SET next_attempt_at = $5, last_error = NULL \
         WHERE cluster_id = $1 AND kind = $2 AND entity_id = $3 AND wanted = $4 AND next_attempt_at = $6"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(read.cluster_id.0)
        .bind(read.kind.as_str())
        .bind(read.entity_id)
        .bind(read.wanted)
        .bind(Ts::from(until))
        .bind(Ts::from(read.next_attempt_at))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

#[derive(serde::Serialize)]
struct Entity {
    kind: &'static str,
    entity_id: Uuid,
}

/// Wants the same version of these objects once more, at `due`: the cluster lost or changed what was applied. Of those that are to be deleted
/// nothing new is wanted; they are looked at. What is to be done sooner stays so, or somebody who edits without end would put it off without end.
/// Returns how many rows there were.
pub async fn again(
    c: &mut Conn<'_>,
    cluster_id: ClusterId,
    entities: &[(ObjectKind, Uuid)],
    due: Timestamp,
) -> Result<u64> {
    let mut rows: Vec<Entity> =
        entities.iter().map(|(kind, entity_id)| Entity { kind: kind.as_str(), entity_id: *entity_id }).collect();
    rows.sort_by_key(|row| (row.kind, row.entity_id));
    rows.dedup_by_key(|row| (row.kind, row.entity_id));
    let q = c.pick(
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT o.kind, o.entity_id FROM jsonb_to_recordset($2) AS v(kind text, entity_id uuid) \
              JOIN cluster_object o ON o.cluster_id = $1 AND o.kind = v.kind AND o.entity_id = v.entity_id \
              ORDER BY o.kind, o.cluster_id, o.entity_id FOR UPDATE OF o) \
              UPDATE cluster_object o SET wanted = CASE WHEN o.deleted THEN o.wanted ELSE o.wanted + 1 END, \
              attempts = 0, next_attempt_at = CASE WHEN o.wanted > o.applied OR o.deleted THEN LEAST(o.next_attempt_at, $3) ELSE $3 END, \
              changed_at = CASE WHEN o.deleted THEN o.changed_at ELSE $3 END FROM locked \
              WHERE o.cluster_id = $1 AND o.kind = locked.kind AND o.entity_id = locked.entity_id"),
        sql!(sqlite: "UPDATE cluster_object SET wanted = CASE WHEN deleted THEN wanted ELSE wanted + 1 END, \
              attempts = 0, next_attempt_at = CASE WHEN wanted > applied OR deleted THEN MIN(next_attempt_at, $3) ELSE $3 END, \
              changed_at = CASE WHEN deleted THEN changed_at ELSE $3 END \
              FROM json_each($2) AS v \
              WHERE cluster_id = $1 AND kind = v.value ->> 'kind' AND entity_id = unhex(v.value ->> 'entity_id', '-')"),
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(cluster_id.0)
        .bind(Json(&rows))
        .bind(Ts::from(due))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// An object whose cluster holds a later version than is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The kind.
    pub kind: ObjectKind,
    /// The entity's id.
    pub entity_id: Uuid,
    /// The version the cluster holds.
    pub held: i64,
}

#[derive(serde::Serialize)]
struct AheadRow {
    kind: &'static str,
    entity_id: Uuid,
    held: i64,
}

/// The furthest that a version is raised to what a cluster claims to hold: a cluster cannot use versions up.
const FURTHEST: i64 = 1_000_000;

/// Wants these in a later version than their cluster holds, now: the database was restored from a backup that is older than what was written there.
/// Not those of which a later version is wanted meanwhile, nor those that are to be deleted. Returns how many.
pub async fn outrun(c: &mut Conn<'_>, cluster_id: ClusterId, ahead: &[Ahead], now: Timestamp) -> Result<u64> {
    let mut rows: Vec<AheadRow> = ahead
        .iter()
        .map(|one| AheadRow { kind: one.kind.as_str(), entity_id: one.entity_id, held: one.held })
        .collect();
    rows.sort_by_key(|row| (row.kind, row.entity_id));
    rows.dedup_by_key(|row| (row.kind, row.entity_id));
    let q = c.pick(
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT o.kind, o.entity_id, v.held \
              FROM jsonb_to_recordset($2) AS v(kind text, entity_id uuid, held bigint) \
              JOIN cluster_object o ON o.cluster_id = $1 AND o.kind = v.kind AND o.entity_id = v.entity_id \
              ORDER BY o.kind, o.cluster_id, o.entity_id FOR UPDATE OF o) \
              UPDATE cluster_object o SET wanted = locked.held + 1, attempts = 0, next_attempt_at = $3, changed_at = $3 FROM locked \
              WHERE o.cluster_id = $1 AND o.kind = locked.kind AND o.entity_id = locked.entity_id \
              AND o.wanted < locked.held AND o.wanted > locked.held - $4 AND NOT o.deleted"),
        sql!(sqlite: "UPDATE cluster_object SET wanted = (v.value ->> 'held') + 1, attempts = 0, next_attempt_at = $3, changed_at = $3 \
              FROM json_each($2) AS v \
              WHERE cluster_id = $1 AND kind = v.value ->> 'kind' AND entity_id = unhex(v.value ->> 'entity_id', '-') \
              AND wanted < v.value ->> 'held' AND wanted > (v.value ->> 'held') - $4 AND NOT deleted"),
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(cluster_id.0)
        .bind(Json(&rows))
        .bind(Ts::from(now))
        .bind(FURTHEST)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// Makes the apps of these projects due now that were never applied: their namespaces are there. Also those that are due already, so that whoever
/// took one before cannot put it off any more ([`postpone`]). Returns how many moved.
pub async fn wake_apps(c: &mut Conn<'_>, cluster_id: ClusterId, projects: &[ProjectId], now: Timestamp) -> Result<u64> {
    let q = c.pick(
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT o.kind, o.entity_id FROM app a JOIN cluster_object o \
              ON o.cluster_id = $1 AND o.kind = 'app' AND o.entity_id = a.id \
              WHERE a.project_id = ANY($2) AND o.applied = 0 AND o.next_attempt_at <> $3 \
              ORDER BY o.kind, o.cluster_id, o.entity_id FOR UPDATE OF o) \
              UPDATE cluster_object o SET next_attempt_at = $3 FROM locked \
              WHERE o.cluster_id = $1 AND o.kind = locked.kind AND o.entity_id = locked.entity_id"),
        sql!(sqlite: "UPDATE cluster_object SET next_attempt_at = $3 WHERE cluster_id = $1 AND kind = 'app' \
              AND entity_id IN (SELECT id FROM app WHERE project_id IN (SELECT unhex(value, '-') FROM json_each($2))) \
              AND applied = 0 AND next_attempt_at <> $3"),
    );
    let projects: Vec<Uuid> = projects.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query(q)
        .bind(cluster_id.0)
        .bind(Many(projects))
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// Makes everything that has something to do on a cluster due now: it was bootstrapped, or answers again. Returns how many moved.
pub async fn wake_all(c: &mut Conn<'_>, cluster_id: ClusterId, now: Timestamp) -> Result<u64> {
    let q = c.pick(
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT kind, entity_id FROM cluster_object WHERE cluster_id = $1 \
              AND (wanted > applied OR deleted) AND next_attempt_at <> $2 ORDER BY kind, cluster_id, entity_id FOR UPDATE) \
              UPDATE cluster_object o SET next_attempt_at = $2, attempts = 0 FROM locked \
              WHERE o.cluster_id = $1 AND o.kind = locked.kind AND o.entity_id = locked.entity_id"),
        sql!(sqlite: "UPDATE cluster_object SET next_attempt_at = $2, attempts = 0 \
              WHERE cluster_id = $1 AND (wanted > applied OR deleted) AND next_attempt_at <> $2"),
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
