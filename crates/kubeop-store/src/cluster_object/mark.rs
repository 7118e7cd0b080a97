//! Marking resources as wanted anew or to be deleted, in the transaction of the change.

use super::{Key, ObjectKind, sql};
use crate::column::Ts;
use crate::{Conn, Result, on};
use jiff::Timestamp;
use kubeop_core::id::ClusterId;
use sqlx::types::Json;

/// A resource to mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which row.
    pub key: Key,
    /// The resource's name.
    pub name: String,
    /// Its namespace, if its kind has one.
    pub namespace: Option<String>,
}

/// Wants a new version of a resource, now; returns the version. A row that is to be deleted stays so.
pub async fn mark(c: &mut Conn<'_>, mark: &Mark, now: Timestamp) -> Result<i64> {
    let q = sql!(
        "INSERT INTO cluster_object (cluster_id, kind, entity_id, name, namespace, wanted, applied, deleted, attempted, attempts, \
         next_attempt_at, changed_at) VALUES ($1, $2, $3, $4, $5, 1, 0, FALSE, FALSE, 0, $6, $6) \
         ON CONFLICT (cluster_id, kind, entity_id) DO UPDATE SET wanted = cluster_object.wanted + 1, attempts = 0, \
         next_attempt_at = excluded.next_attempt_at, changed_at = excluded.changed_at RETURNING wanted"
    );
    Ok(on!(c, x => sqlx::query_scalar(q)
        .bind(mark.key.cluster_id.0)
        .bind(mark.key.kind.as_str())
        .bind(mark.key.entity_id)
        .bind(&mark.name)
        .bind(&mark.namespace)
        .bind(Ts::from(now))
        .fetch_one(x)
        .await)?)
}

#[derive(serde::Serialize)]
struct MarkRow<'a> {
    cluster_id: uuid::Uuid,
    kind: &'static str,
    entity_id: uuid::Uuid,
    name: &'a str,
    namespace: Option<&'a str>,
}

/// [`mark`] for many, in one statement; the same row twice is marked once. Prefer it to several marks in one transaction: rows are
/// locked in order, so that two such transactions cannot wait for each other.
pub async fn mark_many(c: &mut Conn<'_>, marks: &[Mark], now: Timestamp) -> Result<()> {
    let mut sorted: Vec<&Mark> = marks.iter().collect();
    sorted.sort_by_key(|mark| lock_order(mark.key));
    sorted.dedup_by_key(|mark| mark.key);
    let rows: Vec<MarkRow<'_>> = sorted
        .into_iter()
        .map(|mark| MarkRow {
            cluster_id: mark.key.cluster_id.0,
            kind: mark.key.kind.as_str(),
            entity_id: mark.key.entity_id,
            name: &mark.name,
            namespace: mark.namespace.as_deref(),
        })
        .collect();
    let q = c.pick(
        sql!(pg: "INSERT INTO cluster_object (cluster_id, kind, entity_id, name, namespace, wanted, applied, deleted, attempted, \
              attempts, next_attempt_at, changed_at) \
              SELECT v.cluster_id, v.kind, v.entity_id, v.name, v.namespace, 1, 0, FALSE, FALSE, 0, $2, $2 \
              FROM jsonb_to_recordset($1) AS v(cluster_id uuid, kind text, entity_id uuid, name text, namespace text) \
              ON CONFLICT (cluster_id, kind, entity_id) DO UPDATE SET wanted = cluster_object.wanted + 1, attempts = 0, \
              next_attempt_at = excluded.next_attempt_at, changed_at = excluded.changed_at"),
        sql!(sqlite: "INSERT INTO cluster_object (cluster_id, kind, entity_id, name, namespace, wanted, applied, deleted, attempted, \
              attempts, next_attempt_at, changed_at) \
              SELECT unhex(v.value ->> 'cluster_id', '-'), v.value ->> 'kind', unhex(v.value ->> 'entity_id', '-'), \
              v.value ->> 'name', v.value ->> 'namespace', 1, 0, FALSE, FALSE, 0, $2, $2 FROM json_each($1) AS v WHERE TRUE \
              ON CONFLICT (cluster_id, kind, entity_id) DO UPDATE SET wanted = cluster_object.wanted + 1, attempts = 0, \
              next_attempt_at = excluded.next_attempt_at, changed_at = excluded.changed_at"),
    );
    on!(c, x => sqlx::query(q).bind(Json(&rows)).bind(Ts::from(now)).execute(x).await.map(|_| ()))?;
    Ok(())
}

/// Wants a new version of every resource of a kind, on one cluster or on all, as when the policy changes; returns how many. What is to be
/// deleted is left alone.
pub async fn mark_kind(
    c: &mut Conn<'_>,
    kind: ObjectKind,
    cluster_id: Option<ClusterId>,
    now: Timestamp,
) -> Result<u64> {
    let q = c.pick(
        // Locked in order first: an UPDATE alone takes rows as it finds them.
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT cluster_id, kind, entity_id FROM cluster_object \
              WHERE kind = $1 AND (cluster_id = $2 OR $2 IS NULL) AND NOT deleted ORDER BY kind, cluster_id, entity_id FOR UPDATE) \
              UPDATE cluster_object o SET wanted = o.wanted + 1, attempts = 0, next_attempt_at = $3, changed_at = $3 FROM locked \
              WHERE o.cluster_id = locked.cluster_id AND o.kind = locked.kind AND o.entity_id = locked.entity_id AND NOT o.deleted"),
        sql!(sqlite: "UPDATE cluster_object SET wanted = wanted + 1, attempts = 0, next_attempt_at = $3, changed_at = $3 \
              WHERE kind = $1 AND (cluster_id = $2 OR $2 IS NULL) AND NOT deleted"),
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(kind.as_str())
        .bind(cluster_id.map(|id| id.0))
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// What [`mark_deleted`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
struct Marked {
    attempted: bool,
}

/// Wants a resource deleted, now. `Some(true)`: it may exist on the cluster, a worker sees to it. `Some(false)`: no write of it was ever
/// begun, so [`super::remove`] may follow in this same transaction. `None`: there is no such row.
pub async fn mark_deleted(c: &mut Conn<'_>, key: Key, now: Timestamp) -> Result<Option<bool>> {
    let q = sql!(
        "UPDATE cluster_object SET deleted = TRUE, wanted = wanted + 1, attempts = 0, next_attempt_at = $4, changed_at = $4 \
         WHERE cluster_id = $1 AND kind = $2 AND entity_id = $3 RETURNING attempted"
    );
    let marked: Option<Marked> = on!(c, x => sqlx::query_as(q)
        .bind(key.cluster_id.0)
        .bind(key.kind.as_str())
        .bind(key.entity_id)
        .bind(Ts::from(now))
        .fetch_optional(x)
        .await)?;
    Ok(marked.map(|marked| marked.attempted))
}

/// The order in which statements lock rows: as the databases compare kind (ASCII), cluster and entity.
pub fn lock_order(key: Key) -> (&'static str, uuid::Uuid, uuid::Uuid) {
    (key.kind.as_str(), key.cluster_id.0, key.entity_id)
}
